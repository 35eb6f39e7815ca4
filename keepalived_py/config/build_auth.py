"""Authentication of an instance out of its blocks (vrrp-behaviour.md 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .model import Authentication, AuthHmac, HmacKey
from .problems import Severity
from .schema import Draft

if TYPE_CHECKING:
    from .build_vrrp import InstanceBuilder

LEAST_WINDOW, GREATEST_WINDOW = 5, 300


def build_authentication(builder: InstanceBuilder) -> Authentication | None:
    """PASS or AH; None with a report when it does not go with the rest."""
    block: Draft | None = builder.draft.get("authentication")
    if block is None:
        return None
    if builder.version == 3:
        builder.report("auth-in-v3", "VRRPv3 has no authentication; it is dropped", "authentication")
        return None
    if builder.strict:
        builder.report("strict-setting", "strict mode: authentication is no part of the RFC", "authentication")
        return None
    if not block.has("auth_type") or not block.has("auth_pass"):
        weight = Severity.ERROR if block.has("auth_type") else Severity.LINT
        builder.report(
            "incomplete-auth", "authentication needs auth_type and auth_pass", "authentication", severity=weight
        )
        return None
    kind = block.get("auth_type").lower()
    if kind == "ah" and builder.family == 6:
        builder.report("ah-with-ipv6", "AH is for IPv4; it is dropped", "authentication")
        return None
    return Authentication(auth_type=kind, password=block.get("auth_pass"))


def build_hmac(builder: InstanceBuilder) -> AuthHmac | None:
    """The trailer's settings; None with a report when they are not complete."""
    block: Draft | None = builder.draft.get("auth_hmac")
    if block is None:
        return None
    report = builder.report
    if builder.draft.has("authentication") and builder.version == 2:
        report("two-authentications", "auth_hmac does not go with authentication and is dropped", "auth_hmac")
        return None
    keys: dict[int, HmacKey] = {}
    for key in block.many("keys"):
        if keys.setdefault(key.id, key) is not key:
            report("duplicate-key", f"key {key.id} stands twice; the first counts", "auth_hmac")
    active = block.get("active_key")
    if active not in keys:
        what = "has no active_key" if active is None else f"has no key {active}"
        report("no-active-key", f"auth_hmac {what} and is dropped", "auth_hmac")
        return None
    mode = block.get("mode", "enforce")
    if builder.strict and mode != "enforce":
        report("strict-setting", "strict mode: auth_hmac enforces", "auth_hmac")
        mode = "enforce"
    interval = float(builder.draft.get("advert_int", 1.0))
    window = min(GREATEST_WINDOW, max(LEAST_WINDOW, round(3 * interval)))
    return AuthHmac(
        keys=tuple(keys.values()),
        active_key=active,
        time_window=block.get("time_window", window),
        mode=mode,
        **block.pick("anti_replay"),
    )

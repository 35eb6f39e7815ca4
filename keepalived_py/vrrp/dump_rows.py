"""Addresses, routes, rules and commands as keepalived's dumps spell them."""

from __future__ import annotations

from keepalived_py.config.model import FOREVER, Address, Route, Rule, Script, Track

MASK = "********"
"""Secrets are never shown, nor how long they are."""
MAIN_TABLE, PROTOCOL_KEEPALIVED = 254, 18
SCOPES = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}
ACTIONS = {2: "goto", 3: "nop", 6: "blackhole", 7: "unreachable", 8: "prohibit"}


def quoted(script: Script) -> str:
    """Each word in single quotes."""
    return " ".join(f"'{word}'" for word in (script.executed, *script.argv[1:]))


def address_text(row: Address, interface: str, present: bool) -> str:
    """One virtual address; `present`: it is on the interface."""
    words = [_prefix(row.address, row.prefixlen)]
    if row.peer is not None:
        words += ["peer", str(row.peer)]
    if row.broadcast is not None:
        words += ["brd", str(row.broadcast)]
    words += ["dev", row.dev or interface, "scope", SCOPES.get(row.scope, str(row.scope))]
    if row.label:
        words += ["label", row.label]
    words += [name for name, on in (("no_track", row.no_track), ("home", row.home)) if on]
    if row.family == 6:
        words += _lifetime(row)
    return " ".join([*words, *(["set"] if present else [])])


def _lifetime(row: Address) -> list[str]:
    """A /128 is deprecated unless told otherwise, so that it is not chosen as a source address."""
    default = 0 if row.prefixlen == 128 else FOREVER
    lifetime = default if row.preferred_lft is None else row.preferred_lft
    if lifetime == 0:
        return ["deprecated"]
    return ["preferred_lft", "forever" if lifetime == FOREVER else f"{lifetime}sec"]


def _prefix(address: object, length: int) -> str:
    full = getattr(address, "max_prefixlen", None)
    return str(address) if length == full else f"{address}/{length}"


def route_text(row: Route, present: bool) -> str:
    """One virtual route in the words of iproute2."""
    words = [row.create, "default" if row.destination is None else _prefix(row.destination, row.prefixlen)]
    if row.source is not None:
        words += ["from", _prefix(row.source, row.source_prefixlen)]
    if row.via is not None:
        words += ["via", str(row.via)]
    if row.dev:
        words += ["dev", row.dev]
    if row.table != MAIN_TABLE:
        words += ["table", str(row.table)]
    if row.tos:
        words += ["tos", str(row.tos)]
    words += ["proto", str(row.protocol)]
    if row.scope is not None:
        words += ["scope", SCOPES.get(row.scope, str(row.scope))]
    if row.metric is not None:
        words += ["metric", str(row.metric)]
    if row.prefsrc is not None:
        words += ["src", str(row.prefsrc)]
    for hop in row.nexthops:
        words += ["nexthop", *(["via", str(hop.via)] if hop.via else []), *(["dev", hop.dev] if hop.dev else [])]
        words += ["weight", str(hop.weight)]
    if row.no_track:
        words.append("no_track")
    return " ".join([*words, *(["[installed ifindex 0]"] if present else [])])


def rule_text(row: Rule) -> str:
    """One virtual rule in the words of iproute2."""
    words = ["not"] if row.invert else []
    words += ["from", "all" if row.source is None else _prefix(row.source, row.source_prefixlen)]
    if row.destination is not None:
        words += ["to", _prefix(row.destination, row.destination_prefixlen)]
    words += ["priority", str(row.preference)]
    if row.fwmark is not None:
        words += ["fwmark", hex(row.fwmark) + ("" if row.fwmask is None else f"/{row.fwmask:#x}")]
    words += [part for name, value in (("iif", row.iif), ("oif", row.oif)) if value for part in (name, value)]
    action = ACTIONS.get(row.action)
    if action == "goto":
        words += ["goto", str(row.goto)]
    else:
        words += [action] if action else ["lookup", str(row.table)]
    if row.protocol != PROTOCOL_KEEPALIVED:
        words += ["protocol", str(row.protocol)]
    return " ".join([*words, *(["no_track"] if row.no_track else [])])


def weight_text(track: Track) -> str:
    return f"weight {track.weight}" + (" reverse" if track.reverse else "")

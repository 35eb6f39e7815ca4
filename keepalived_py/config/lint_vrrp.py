"""Warnings beyond keepalived's about VRRP: settings that are allowed and hardly ever meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from keepalived_py.values import OWNER, IPAddress

from .build_vrrp import pairs_of, tracks_of
from .model import Address, SyncGroup, VrrpInstance, VrrpScript
from .problems import Severity
from .schema import Context, Draft
from .system import Network

DEFAULT_PRIORITY = 100
LOWEST, HIGHEST = 1, 254


def lint_instance(
    instance: VrrpInstance, draft: Draft, networks: Mapping[str, tuple[Network, ...]], context: Context
) -> None:
    """All warnings about one instance."""
    linter = _Linter(instance, draft, context)
    linter.state()
    linter.strict()
    linter.weights()
    linter.addresses(networks)


class _Linter:
    def __init__(self, instance: VrrpInstance, draft: Draft, context: Context) -> None:
        self.instance, self.draft, self.context = instance, draft, context

    def warn(self, id: str, message: str, at: str = "", index: int = 0, hint: str = "") -> None:
        where = self.draft.at(at) if at else self.draft.head
        self.context.report(id, f"({self.instance.name}) {message}", where, index, Severity.LINT, hint)

    def state(self) -> None:
        """state MASTER means little but for priority 255, and misleads where it contradicts the priority."""
        instance = self.instance
        if "MASTER" in self.draft.many("state") and instance.priority < DEFAULT_PRIORITY:
            self.warn(
                "master-with-low-priority",
                f"state MASTER with priority {instance.priority}: the priority decides, not the state",
                "state",
                1,
            )
        if not instance.wants_master and instance.priority == OWNER:
            self.warn(
                "owner-as-backup",
                "priority 255 is for the owner of the addresses, which starts as MASTER",
                "state",
                1,
            )

    def strict(self) -> None:
        instance = self.instance
        if instance.strict and not instance.accept and not instance.is_owner:
            self.warn(
                "strict-without-accept",
                "strict mode without accept: the addresses do not answer, not even to ping",
                "strict",
                hint="add accept, or leave strict mode",
            )

    def weights(self) -> None:
        """A weight that the limits 1 and 254 swallow changes nothing, or less than it says."""
        lines = {(track.kind, track.name): line for track, line in tracks_of(self.draft)}
        for track in self.instance.tracks:
            if not track.weight or track.kind == "file":
                continue
            change = -track.weight if track.reverse else track.weight
            reached = self.instance.priority + change
            if LOWEST <= reached <= HIGHEST:
                continue
            kept = max(LOWEST, min(HIGHEST, reached)) - self.instance.priority
            self.context.report(
                "weight-beyond-limits",
                f"({self.instance.name}) weight {track.weight} of '{track.name}' would make the priority {reached}; "
                f"it is kept from {LOWEST} to {HIGHEST}, so the weight counts as {kept}",
                lines.get((track.kind, track.name), self.draft.head),
                0,
                Severity.LINT,
            )

    def addresses(self, networks: Mapping[str, tuple[Network, ...]]) -> None:
        instance = self.instance
        lines = {
            found.address: line
            for name in ("virtual_ipaddress", "virtual_ipaddress_excluded")
            for found, line in pairs_of(self.draft, name)
        }
        others: dict[IPAddress, str] = {peer.address: "a unicast peer" for peer in instance.unicast_peers}
        if instance.source is not None:
            others[instance.source] = "the source of the adverts"
        for found in (*instance.addresses, *instance.excluded):
            line = lines[found.address]
            if found.address in others and not instance.is_owner:
                self.context.report(
                    "address-in-use",
                    f"({instance.name}) {found.address} is {others[found.address]} too and would move with the role",
                    line,
                    0,
                    Severity.LINT,
                )
            if _is_outside(found, networks.get(found.dev or instance.interface, ())):
                self.context.report(
                    "address-outside-subnet",
                    f"({instance.name}) {found} is in no network of {found.dev or instance.interface}, "
                    "so nobody there will ask for it",
                    line,
                    0,
                    Severity.LINT,
                    "give it the prefix length of its network, or check the address",
                )


def _is_outside(found: Address, networks: Iterable[Network]) -> bool:
    """A single address that no network on the interface holds; one with a prefix brings its network along."""
    known = [network for network in networks if network.version == found.family]
    if not known or found.prefixlen != found.address.max_prefixlen or found.address.is_link_local:
        return False
    return not any(found.address in network for network in known)


def lint_group(
    group: SyncGroup, draft: Draft, instances: Mapping[str, tuple[VrrpInstance, Draft]], context: Context
) -> None:
    """Members that want different things can only act together by accident."""
    members = [instances[name][0] for name in group.members]
    for id, what, values in (
        ("states-differ-in-group", "state", {member.wants_master for member in members}),
        ("preemption-differs-in-group", "preemption", {(m.preempt, m.preempt_delay) for m in members}),
        ("priorities-differ-in-group", "priority", {member.priority for member in members}),
    ):
        if len(values) > 1:
            message = f"({group.name}) members differ in {what}, but change their state together"
            context.report(id, message, draft.head, 1, Severity.LINT)


def lint_script(script: VrrpScript, draft: Draft, context: Context) -> None:
    if script.timeout > script.interval:
        context.report(
            "check-longer-than-interval",
            f"vrrp_script '{script.name}' may run for {script.timeout:g} s, but starts every {script.interval:g} s",
            draft.at("timeout"),
            1,
            Severity.LINT,
            "runs that would overlap are skipped",
        )

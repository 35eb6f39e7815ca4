"""One instance as it runs: its machine, its sockets, its rows in the kernel, its counters."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from keepalived_py.config.model import Address, VrrpInstance
from keepalived_py.plan.links import AddressKey
from keepalived_py.values import IPAddress, VirtualRouterKey
from keepalived_py.vrrp.machine import VirtualRouter
from keepalived_py.vrrp.packet import IPPROTO_AH, IPPROTO_VRRP, Reason

from .rtnetlink import Batch
from .sockets import ReceiverKey, Sender


@dataclass(slots=True)
class Counters:
    """What SIGUSR2 writes (cli-and-signals.md 5.1)."""

    received: int = 0
    sent: int = 0
    became_master: int = 0
    released_master: int = 0
    zero_received: int = 0
    zero_sent: int = 0
    list_differs: int = 0
    discarded: Counter[Reason] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A transition made ahead: becoming master only sends these bytes. `basis` is what they were made from."""

    basis: object
    desired: dict[AddressKey, Address]
    additions: list[Batch]
    deletions: list[Batch]
    frames: list[list[tuple[str, bytes]]]


@dataclass(slots=True)
class Instance:
    """Everything the worker keeps about one virtual router."""

    key: VirtualRouterKey
    router: VirtualRouter
    group: str = ""
    ifindex: int = 0
    sender: Sender | None = None
    receiver: ReceiverKey | None = None
    prepared: Prepared | None = None
    rows: dict[AddressKey, Address] = field(default_factory=dict)
    """Addresses of ours that are, or are being put, on the interfaces."""
    counters: Counters = field(default_factory=Counters)
    reported: set[object] = field(default_factory=set)
    """What was logged once since the last transition or new master."""
    losses: int = 0
    """Addresses that others removed and we put back, in a row."""

    @property
    def config(self) -> VrrpInstance:
        return self.router.config

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def protocol(self) -> int:
        own = self.config.authentication
        return IPPROTO_AH if own is not None and own.auth_type == "ah" else IPPROTO_VRRP

    @property
    def source(self) -> IPAddress | None:
        return self.router.source

    def once(self, what: object) -> bool:
        """True the first time that `what` is to be logged."""
        if what in self.reported:
            return False
        self.reported.add(what)
        return True


def statistics(instances: list[Instance]) -> str:
    """The text of the statistics file."""
    lines = []
    for instance in instances:
        count, bad = instance.counters, instance.counters.discarded
        lines += [
            f"VRRP Instance: {instance.name}",
            "  Advertisements:",
            f"    Received: {count.received}",
            f"    Sent: {count.sent}",
            f"  Became master: {count.became_master}",
            f"  Released master: {count.released_master}",
            "  Packet Errors:",
            f"    Length: {bad[Reason.LENGTH]}",
            f"    TTL: {bad[Reason.TTL] + bad[Reason.PEER_TTL]}",
            f"    Invalid Type: {bad[Reason.INVALID_TYPE]}",
            f"    Advertisement Interval: {bad[Reason.INTERVAL]}",
            f"    Address List: {count.list_differs + bad[Reason.ADDRESS_LIST] + bad[Reason.DESTINATION]}",
            "  Authentication Errors:",
            f"    Invalid Type: {bad[Reason.INVALID_AUTH_TYPE]}",
            f"    Type Mismatch: {bad[Reason.AUTH_TYPE_MISMATCH] + bad[Reason.AUTH_HEADER]}",
            f"    Failure: {bad[Reason.AUTH_FAILURE]}",
            "  Priority Zero:",
            f"    Received: {count.zero_received}",
            f"    Sent: {count.zero_sent}",
        ]
    return "\n".join(lines) + "\n"

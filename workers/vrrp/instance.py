"""One instance as it runs: its machine, its sockets, its rows in the kernel, its counters."""

from __future__ import annotations

from dataclasses import dataclass, field

from keepalived_py.config.model import Address, VrrpInstance
from keepalived_py.plan.links import AddressKey
from keepalived_py.values import IPAddress, VirtualRouterKey
from keepalived_py.vrrp.examiner import Counters, Examiner
from keepalived_py.vrrp.machine import VirtualRouter
from keepalived_py.vrrp.packet import IPPROTO_AH, IPPROTO_VRRP

from .rtnetlink import Batch
from .sockets import ReceiverKey, Sender

HELD_FOR = 10.0
"""Seconds after which an address that was put back counts as safe."""


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
    examiner: Examiner
    group: str = ""
    ifindex: int = 0
    sender: Sender | None = None
    receiver: ReceiverKey | None = None
    prepared: Prepared | None = None
    rows: dict[AddressKey, Address] = field(default_factory=dict)
    """Addresses of ours that are, or are being put, on the interfaces."""
    last_transition: float = 0.0
    """Wall clock, for dumps."""
    reported: set[object] = field(default_factory=set)
    """What was logged once since the last transition or new master."""
    losses: dict[AddressKey, tuple[int, float]] = field(default_factory=dict)
    """How many times in a row others removed an address, and when last (CLOCK_MONOTONIC, seconds)."""

    @property
    def config(self) -> VrrpInstance:
        return self.router.config

    @property
    def counters(self) -> Counters:
        return self.examiner.counters

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

    def count_loss(self, key: AddressKey, at: float) -> int:
        """How many times in a row `key` was removed now; an address that held for a while starts afresh."""
        count, last = self.losses.get(key, (0, at))
        count = count + 1 if at - last < HELD_FOR else 1
        self.losses[key] = count, at
        return count

    def once(self, what: object) -> bool:
        """True the first time that `what` is to be logged."""
        if what in self.reported:
            return False
        self.reported.add(what)
        return True

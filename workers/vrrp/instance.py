"""One instance as it runs: its machine, its sockets, its rows in the kernel, its counters."""

from __future__ import annotations

from dataclasses import field

from keepalived_py.config.model import Address, VrrpInstance
from keepalived_py.plan.links import AddressKey, Place, extra_vmacs
from keepalived_py.plan.routes import Entry, held_interfaces, named_interfaces
from keepalived_py.records import dataclass
from keepalived_py.values import IPAddress, VirtualRouterKey
from keepalived_py.vrrp.examiner import Counters, Examiner
from keepalived_py.vrrp.machine import VirtualRouter
from keepalived_py.vrrp.packet import IPPROTO_AH, IPPROTO_VRRP
from workers.losses import Losses

from .rtnetlink import Batch
from .sockets import ReceiverKey, Sender

REMEMBERED = 256
"""Lines that are known to have been logged, for each instance."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A transition made ahead: becoming master only sends these bytes. `basis` is what they were made from."""

    basis: object
    desired: dict[AddressKey, Address]
    entries: tuple[Entry, ...]
    renewals: list[Batch]
    """Routes and rules that are put again when the kernel may have dropped them."""
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
    """Where its addresses go: its VMAC, else its interface."""
    base_index: int = 0
    """Its configured interface."""
    wire: int = 0
    """The interface whose link that uses: the one below where it is a macvlan."""
    advert_index: int = 0
    """Where adverts come and go."""
    extra: dict[Place, int] = field(default_factory=dict)
    """VMACs of its addresses."""
    links: tuple[object, ...] = ()
    """What it had to do with when it was connected last."""
    sender: Sender | None = None
    receiver: ReceiverKey | None = None
    deaf: str = ""
    """Why it has no sockets although it should."""
    retrying: bool = False
    prepared: Prepared | None = None
    rows: dict[AddressKey, Address] = field(default_factory=dict)
    """Addresses of ours that are, or are being put, on the interfaces."""
    entries: tuple[Entry, ...] = ()
    """Routes and rules of ours, likewise."""
    _interfaces: tuple[VrrpInstance, frozenset[str], frozenset[str], tuple[Place, ...]] | None = None
    last_transition: float = 0.0
    """Wall clock, for dumps."""
    reported: set[object] = field(default_factory=set)
    """What was logged once since the last transition or new master."""
    leaving: bool = False
    """A reload removes it."""
    losses: Losses = field(default_factory=dict)

    @property
    def config(self) -> VrrpInstance:
        return self.router.config

    @property
    def held_interfaces(self) -> frozenset[str]:
        """Interfaces of what it holds, but for its own; FAULT without them."""
        return self._named()[1]

    @property
    def named_interfaces(self) -> frozenset[str]:
        """Interfaces and VRFs that its addresses and routes name."""
        return self._named()[2]

    @property
    def extra_places(self) -> tuple[Place, ...]:
        """Where its addresses ask for VMACs of their own."""
        return self._named()[3]

    def _named(self) -> tuple[VrrpInstance, frozenset[str], frozenset[str], tuple[Place, ...]]:
        """Worked out once for each configuration: there may be thousands of rows."""
        if self._interfaces is None or self._interfaces[0] is not self.config:
            config = self.config
            self._interfaces = config, held_interfaces(config), named_interfaces(config), extra_vmacs(config)
        return self._interfaces

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

    def once(self, what: object) -> bool:
        """True the first time that `what` is to be logged."""
        if what in self.reported:
            return False
        if len(self.reported) >= REMEMBERED:  # forged senders are any number
            self.reported.clear()
        self.reported.add(what)
        return True

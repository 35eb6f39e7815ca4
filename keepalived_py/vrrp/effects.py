"""What a virtual router wants done, in the order it wants it done. Imperatives; only a worker performs them."""

from __future__ import annotations

from keepalived_py.records import dataclass

from .states import State


@dataclass(frozen=True, slots=True)
class SendAdvert:
    """Multicast, or to every peer. Priority 0 says farewell (RFC 9568 section 5.2.4)."""

    priority: int


@dataclass(frozen=True, slots=True)
class SetVips:
    """Addresses, routes and rules of the instance: all there, or all gone."""

    present: bool


@dataclass(frozen=True, slots=True)
class AnnounceVips:
    """Gratuitous ARP and unsolicited NA for every address, `rounds` times (vrrp-behaviour.md 10)."""

    rounds: int


@dataclass(frozen=True, slots=True)
class AnnounceExtra:
    """One announcement on each interface that holds addresses and sends no adverts (vrrp-behaviour.md 10)."""


@dataclass(frozen=True, slots=True)
class StopAnnouncing:
    """Forget announcements that still wait."""


@dataclass(frozen=True, slots=True)
class AnnounceSource:
    """One gratuitous ARP or NA for the address that unicast adverts come from (vrrp-behaviour.md 1.2)."""


@dataclass(frozen=True, slots=True)
class Transition:
    """The state changed: log it, tell people and the parent."""

    old: State
    new: State
    reason: str


@dataclass(frozen=True, slots=True)
class WantMaster:
    """A member of a sync group would be MASTER; the group decides."""

    reason: str


@dataclass(frozen=True, slots=True)
class LowerPriorityHeard:
    """A MASTER heard a router of lower priority: scripts and FIFOs are told, other members announce."""

    priority: int
    source: str


@dataclass(frozen=True, slots=True)
class PriorityShifted:
    """The effective priority changed: FIFOs are told where notify_priority_changes asks for it."""

    priority: int


@dataclass(frozen=True, slots=True)
class Note:
    """A line for the log. `kind`: what it is counted as, since adverts of others cause any number of them; "": not."""

    text: str
    warning: bool = False
    kind: str = ""


Effect = (
    SendAdvert
    | SetVips
    | AnnounceVips
    | AnnounceExtra
    | AnnounceSource
    | StopAnnouncing
    | Transition
    | WantMaster
    | LowerPriorityHeard
    | PriorityShifted
    | Note
)

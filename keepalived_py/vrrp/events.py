"""What can happen to a virtual router. Past tense or a noun that happened; nothing else reaches the machine."""

from __future__ import annotations

from keepalived_py.config.model import VrrpInstance
from keepalived_py.records import dataclass
from keepalived_py.values import Centiseconds, IPAddress

from .states import State, Timer


@dataclass(frozen=True, slots=True)
class Startup:
    """The worker is ready. `adopted` is MASTER when a predecessor that died was master and its addresses stand.

    Until `not_before` nothing is heard and nothing sent; timers count from then (vrrp_startup_delay).
    """

    adopted: State | None = None
    not_before: float = 0.0


@dataclass(frozen=True, slots=True)
class StartDelayed:
    """A reload moved the end of the start-up delay (vrrp-behaviour.md 15). One that has passed stays over."""

    not_before: float


@dataclass(frozen=True, slots=True)
class Shutdown:
    """The daemon stops. `keep` leaves addresses and sends no farewell (--dont-release-vrrp).

    `hand_over`: what a master holds stays until another router speaks for it, or until a second Shutdown.
    """

    keep: bool = False
    hand_over: bool = False


@dataclass(frozen=True, slots=True)
class TimerExpired:
    timer: Timer


@dataclass(frozen=True, slots=True)
class AdvertReceived:
    """An advertisement that passed every check."""

    priority: int
    adver_int: Centiseconds
    source: IPAddress


@dataclass(frozen=True, slots=True)
class FaultRaised:
    """Something without which the router must not run is gone; `subject` names it (vrrp-behaviour.md 7).

    `waiting`: it is not known yet whether it is gone (a script before its first result); that holds a router back that
    has not started, and nobody is told.
    """

    subject: str
    reason: str
    waiting: bool = False


@dataclass(frozen=True, slots=True)
class FaultCleared:
    subject: str


@dataclass(frozen=True, slots=True)
class PriorityChanged:
    """The effective priority (vrrp-behaviour.md 6)."""

    priority: int
    reason: str


@dataclass(frozen=True, slots=True)
class SourceChanged:
    """The address that our adverts come from."""

    source: IPAddress


@dataclass(frozen=True, slots=True)
class AddressesLost:
    """Somebody removed what we hold as MASTER and it is not put back (vrrp-behaviour.md 1.2)."""

    reason: str


@dataclass(frozen=True, slots=True)
class ConfigChanged:
    """A reload kept this router and gave it another configuration."""

    config: VrrpInstance


@dataclass(frozen=True, slots=True)
class GroupPromoted:
    """Every member of the sync group wants MASTER."""

    reason: str


@dataclass(frozen=True, slots=True)
class GroupDemoted:
    """Another member of the sync group went to BACKUP."""

    reason: str


@dataclass(frozen=True, slots=True)
class GroupFaulted:
    """Another member of the sync group is in FAULT."""

    reason: str


@dataclass(frozen=True, slots=True)
class GroupHeld:
    """Another member of the sync group waits for its first results."""

    reason: str


@dataclass(frozen=True, slots=True)
class GroupRecovered:
    """No member of the sync group is in FAULT or waits any more."""


@dataclass(frozen=True, slots=True)
class GroupAnnounced:
    """Another member answered a lower-priority advert: announce as well."""


Event = (
    Startup
    | StartDelayed
    | Shutdown
    | TimerExpired
    | AdvertReceived
    | FaultRaised
    | FaultCleared
    | PriorityChanged
    | SourceChanged
    | AddressesLost
    | ConfigChanged
    | GroupPromoted
    | GroupDemoted
    | GroupFaulted
    | GroupHeld
    | GroupRecovered
    | GroupAnnounced
)

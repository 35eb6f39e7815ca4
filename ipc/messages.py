"""The table of messages: tag, type, who may send it. Anything else closes the channel.

Messages that report are past tense, messages that ask are imperative. Both ends are one program, forked, so there is
one version of everything here. Instances and services are named as logs name them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from enum import Enum
from typing import Any, TypeVar

from keepalived_py.config.delta import Delta, Digests
from keepalived_py.config.model import Script
from keepalived_py.records import dataclass

M = TypeVar("M", bound=type)


class Peer(Enum):
    """The ends of channels."""

    PARENT = "parent"
    VRRP = "vrrp"
    CHECKER = "checker"
    LOADER = "loader"
    """The short-lived process that reads the configuration for a reload."""


WORKERS = (Peer.VRRP, Peer.CHECKER)

BY_TAG: dict[str, type] = {}
TAGS: dict[type, str] = {}
SENDERS: dict[type, frozenset[Peer]] = {}
MERGE_BY: dict[type, tuple[str, ...]] = {}


def message(tag: str, *senders: Peer, merge_by: tuple[str, ...] | None = None) -> Callable[[M], M]:
    """Give a message its wire tag and the only peers that may send it. TypeError when a tag is used twice.

    Where the reader is slow, a newer message takes the place of an unsent older one that agrees in the fields
    `merge_by`; without it every one is kept.
    """

    def register(cls: M) -> M:
        if tag in BY_TAG:
            raise TypeError(f"wire tag used twice: {tag}")
        BY_TAG[tag], TAGS[cls], SENDERS[cls] = cls, tag, frozenset(senders)
        if merge_by is not None:
            MERGE_BY[cls] = merge_by
        return cls

    return register


def merge_key(msg: Any) -> tuple[Any, ...] | None:
    """What an unsent message must agree in to be replaced by `msg`; None: it is never replaced."""
    names = MERGE_BY.get(type(msg))
    return None if names is None else (type(msg), *(getattr(msg, name) for name in names))


class DumpKind(Enum):
    """What a signal or the control socket may ask a process to write (cli-and-signals.md 4 and 5)."""

    DATA = "data"
    STATS = "stats"
    STATS_CLEAR = "stats_clear"
    JSON = "json"
    TDUMP = "tdump"


# Orders of the parent ---------------------------------------------------------------------------------------------


@message("config.apply", Peer.PARENT)
@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyConfig:
    """Move to configuration `generation`, told against configuration `base`, or by itself where that is 0.

    Where it is not `at_once` only after AdoptConfig: first all workers look whether they could.
    """

    generation: int
    base: int
    config: Delta
    at_once: bool = True


@message("config.adopt", Peer.PARENT)
@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptConfig:
    """All workers could move to configuration `generation`: move."""

    generation: int


@message("worker.drain", Peer.PARENT)
@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """Start nothing new (no check, no change of health), finish what is queued and say Drained; keep running."""


@message("worker.stop", Peer.PARENT)
@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """The same as SIGTERM to the worker."""


@message("worker.dump", Peer.PARENT)
@dataclass(frozen=True, slots=True, kw_only=True)
class DumpRequest:
    """Write the file of `kind`, as on the signal of that name."""

    kind: DumpKind


# Reports of the workers -------------------------------------------------------------------------------------------


@message("worker.hello", *WORKERS)
@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """First message of every worker: it runs, and holds configuration `generation`."""

    pid: int
    generation: int


@message("worker.heartbeat", *WORKERS, merge_by=())
@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """The loop turns. `lateness` is the worst delay of a timer since the last one, in seconds; `rss` in bytes.

    `lost_records`: how many, and by whom.
    """

    lateness: float
    rss: int
    tasks: int
    lost_records: str


@message("worker.drained", *WORKERS)
@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """Answer to Drain."""


@message("worker.stopped", *WORKERS)
@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """Last message: everything that had to be taken away is gone."""


@message("config.accepted", *WORKERS)
@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigAccepted:
    """A worker could move to configuration `generation`, and waits for AdoptConfig."""

    generation: int


@message("config.applied", *WORKERS)
@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigApplied:
    """A worker has finished moving to configuration `generation`; also said once its start is complete."""

    generation: int


@message("config.refused", *WORKERS)
@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigRefused:
    """A worker could not move to `generation` and stays with what it had."""

    generation: int
    reason: str


@message("vrrp.state", Peer.VRRP, Peer.PARENT, merge_by=("kind", "name"))
@dataclass(frozen=True, slots=True, kw_only=True)
class VrrpStateChanged:
    """An instance or a group changed state; the parent passes it on to the checker and keeps the last one.

    `kind` is INSTANCE or GROUP. States are INIT BACKUP MASTER FAULT STOP. `time` is CLOCK_MONOTONIC in seconds.
    `sequence` is that of the authentication header at that time.
    """

    kind: str
    name: str
    old: str
    new: str
    priority: int
    reason: str
    time: float
    sequence: int = 0


@message("vrrp.script", Peer.VRRP, merge_by=("name",))
@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptStateChanged:
    """A vrrp_script has its first result, or went up or down: a restarted worker goes on with it.

    `command` tells whether it is still the same script.
    """

    name: str
    command: Script
    up: bool


@message("bfd.session", Peer.PARENT, merge_by=("name",))
@dataclass(frozen=True, slots=True, kw_only=True)
class BfdSessionChanged:
    """A BFD session went up or down (RFC 5880).

    Whoever knows it has the parent tell the workers, at their start too.
    """

    name: str
    up: bool


@message("checker.service", Peer.CHECKER, Peer.PARENT, merge_by=("service",))
@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualServerStateChanged:
    """Quorum of a virtual server gained or lost; the parent passes it on to VRRP (track virtual_server)."""

    service: str
    up: bool
    reason: str
    time: float


@message("checker.real", Peer.CHECKER, Peer.PARENT, merge_by=("service", "real"))
@dataclass(frozen=True, slots=True, kw_only=True)
class RealServerStateChanged:
    """A real server came up or went down: event history, and adoption by a restarted checker."""

    service: str
    real: str
    up: bool
    reason: str
    time: float


@message("checker.weight", Peer.CHECKER, merge_by=("service", "real"))
@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptWeightSet:
    """The weight that scripts want a real server to have (misc_dynamic), -1 for none; a successor keeps it."""

    service: str
    real: str
    weight: int


@message("checker.mark", Peer.CHECKER, merge_by=("group", "protocol"))
@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMarked:
    """The firewall mark of a virtual_server_group for a protocol (nftables_ipvs), 0 for none; a successor keeps it."""

    group: str
    protocol: str
    mark: int


@message("checker.timeouts", Peer.CHECKER, merge_by=())
@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutsReplaced:
    """What lvs_timeouts took the place of, in seconds, to be put back; 0 when it was. A successor finds ours only."""

    tcp: int = 0
    tcpfin: int = 0
    udp: int = 0


@message("config.loaded", Peer.LOADER)
@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigLoaded:
    """What the loader found, told against what the parent holds; None when the file cannot be used.

    `problems` are lines for the log.
    """

    config: Delta | None
    problems: tuple[str, ...]
    errors: tuple[str, ...]
    """What a reload must not take over, without places: a known error that moved to another line is no new one."""
    digests: Digests | None = None
    files: tuple[str, ...] = ()
    """What was read."""


Message = (
    ApplyConfig
    | AdoptConfig
    | Drain
    | Stop
    | DumpRequest
    | Hello
    | Heartbeat
    | Drained
    | Stopped
    | ConfigAccepted
    | ConfigApplied
    | ConfigRefused
    | VrrpStateChanged
    | ScriptStateChanged
    | BfdSessionChanged
    | VirtualServerStateChanged
    | RealServerStateChanged
    | ScriptWeightSet
    | GroupMarked
    | TimeoutsReplaced
    | ConfigLoaded
)

StateMessage = (
    VrrpStateChanged
    | ScriptStateChanged
    | VirtualServerStateChanged
    | RealServerStateChanged
    | ScriptWeightSet
    | GroupMarked
    | TimeoutsReplaced
)
"""Reports of which the parent keeps the newest per subject, for the worker that has to be restarted."""


def field_names(cls: type) -> tuple[str, ...]:
    """Names of a message's or a model object's fields, in order."""
    return tuple(item.name for item in fields(cls))

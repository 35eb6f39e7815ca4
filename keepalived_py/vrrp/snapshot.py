"""What the dumps show of instances, groups and trackers: values only, so that writing them needs no worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from keepalived_py.config.model import Script, SyncGroup, TrackFile, TrackProcess, VrrpInstance, VrrpScript
from keepalived_py.values import Centiseconds, IPAddress

from .examiner import Counters
from .machine import VirtualRouter
from .states import State


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceSnapshot:
    """One instance at one moment. Times are of the wall clock, in seconds."""

    config: VrrpInstance
    state: State
    wants: State
    priority: int
    total_priority: int
    master_priority: int
    master_adver_int: Centiseconds
    master_down_interval: float
    source: IPAddress | None
    faults: int
    waiting: int
    counters: Counters
    last_transition: float
    deadline: float | None
    group: str = ""
    ifindex: int = 0
    vmac_name: str = ""
    sockets: tuple[int, int] = (-1, -1)
    """Receiving and sending descriptor."""
    scripts: Mapping[str, Script] = field(default_factory=dict)
    """Commands of the scripts that it tracks, by their name."""


def snapshot(
    router: VirtualRouter,
    counters: Counters,
    *,
    last_transition: float,
    clock_offset: float,
    total_priority: int | None = None,
    group: str = "",
    ifindex: int = 0,
    vmac_name: str = "",
    sockets: tuple[int, int] = (-1, -1),
    scripts: Mapping[str, Script] | None = None,
) -> InstanceSnapshot:
    """The snapshot of a machine. `clock_offset` is wall clock minus monotonic clock, in seconds."""
    deadline = router.deadline
    return InstanceSnapshot(
        config=router.config,
        state=router.state,
        wants=State.MASTER if router.wants_master else router.state,
        priority=router.priority,
        total_priority=router.priority if total_priority is None else total_priority,
        master_priority=router.master_priority,
        master_adver_int=router.master_adver_int,
        master_down_interval=router.master_down_interval,
        source=router.source,
        faults=len(router.faults),
        waiting=len(router.waiting),
        counters=counters,
        last_transition=last_transition,
        deadline=None if deadline is None else deadline + clock_offset,
        group=group,
        ifindex=ifindex,
        vmac_name=vmac_name,
        sockets=sockets,
        scripts=scripts or {},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSnapshot:
    config: SyncGroup
    state: State
    faulty: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketSnapshot:
    """One pair of sockets and the instances that share it: name and VRID."""

    sockets: tuple[int, int]
    interface: str
    family: int
    authentication_header: bool = False
    unicast_source: IPAddress | None = None
    rx_buf_size: int = 0
    instances: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptSnapshot:
    """`count` is the counter between 0 and rise + fall - 1; `up` is None before the first result."""

    config: VrrpScript
    up: bool | None
    count: int = 0
    running: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSnapshot:
    config: TrackFile
    value: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSnapshot:
    config: TrackProcess
    current: int = 0
    have_quorum: bool = False
    fork_delay_running: bool = False
    terminate_delay_running: bool = False

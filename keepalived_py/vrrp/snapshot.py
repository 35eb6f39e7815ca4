"""What the dumps show of instances, groups and trackers: values only, so that writing them needs no worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from keepalived_py.config.model import (
    Address,
    Script,
    SyncGroup,
    Track,
    TrackFile,
    TrackProcess,
    VrrpInstance,
    VrrpScript,
)
from keepalived_py.records import dataclass
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
    link_up: bool = True
    """Of its VMAC, if it has one."""
    address_vmacs: Mapping[tuple[str, int], str] = field(default_factory=dict)
    """VMACs of its addresses, by interface and family."""
    nftables: bool = True
    """What its addresses must not answer is filtered by nftables."""
    old_checksum: bool = False
    """A peer was heard that sums as old releases did."""
    sockets: tuple[int, int] = (-1, -1)
    """Receiving and sending descriptor."""
    scripts: Mapping[str, Script] = field(default_factory=dict)
    """Commands of the scripts that it tracks, by their name."""
    tracks: tuple[Track, ...] = ()
    """All that counts for it, what its group tracks too."""

    @property
    def own_link(self) -> str:
        """Name of the interface that it lives on: its VMAC or the configured one."""
        spec = self.config.vmac
        return self.config.interface if spec is None else self.vmac_name or spec.name

    @property
    def filtered(self) -> bool:
        """Its addresses are in a set of nftables while they are held."""
        return self.nftables and not self.config.accept and not self.config.is_owner

    def device(self, row: Address) -> str:
        """Where an address goes, as dumps show it: VMACs with the interface below."""
        config, below = self.config, row.dev or self.config.interface
        at_home = row.family == config.family and below == config.interface
        made = self.address_vmacs.get((below, row.family), "")
        if made and (row.use_vmac or (config.vmac_addr and not at_home)):
            return f"{made}@{below}"
        if row.dev or config.vmac is None or row.family != config.family:
            return below
        return f"{self.own_link}@{below}"


def snapshot(
    router: VirtualRouter,
    counters: Counters,
    *,
    last_transition: float,
    clock_offset: float,
    total_priority: int | None = None,
    group: str = "",
    ifindex: int = 0,
    **known: Any,
) -> InstanceSnapshot:
    """The snapshot of a machine; `known` as it is. `clock_offset` is wall clock minus monotonic clock, in seconds."""
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
        **{"tracks": router.config.tracks, **known},
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

"""keepalived.data: keepalived's sections of VRRP, and behind them what only we know (cli-and-signals.md 5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from keepalived_py.config.model import SyncGroup as GroupConfig
from keepalived_py.config.model import TrackProcess, VrrpSlice
from keepalived_py.dump_globals import Section
from keepalived_py.vrrp.dump_interfaces import InterfaceSnapshot
from keepalived_py.vrrp.dump_text import data_text
from keepalived_py.vrrp.packet import IPPROTO_AH
from keepalived_py.vrrp.snapshot import (
    FileSnapshot,
    GroupSnapshot,
    InstanceSnapshot,
    ProcessSnapshot,
    ScriptSnapshot,
    SocketSnapshot,
)
from keepalived_py.vrrp.sync_group import SyncGroup

from .hearing import Hearing
from .instance import Instance
from .sockets import ReceiverKey
from .trackers import Trackers


def data(
    config: VrrpSlice,
    instances: Sequence[Instance],
    snapshots: Sequence[InstanceSnapshot],
    groups: Mapping[str, SyncGroup],
    trackers: Trackers,
    hearing: Hearing,
    before: Iterable[Section] = (),
    interfaces: Iterable[InterfaceSnapshot] = (),
) -> str:
    """Sections in keepalived's layout; `before` are those before VRRP Topology."""
    tracked = {(track.kind, track.name) for each in config.vrrp.instances for track in trackers.of(each)}
    scripts = [
        ScriptSnapshot(
            config=state.config,
            up=state.up,
            count=state.count,
            running=state.config.name in trackers.scripts.running,
        )
        for state in trackers.scripts.states()
    ]
    files = [
        FileSnapshot(config=each, value=trackers.files.value(each.name))
        for each in config.track_files
        if ("file", each.name) in tracked
    ]
    return data_text(
        snapshots,
        list(_sockets(instances, hearing)),
        [_group(groups[each.name], each) for each in config.vrrp.sync_groups if each.name in groups],
        scripts,
        files,
        processes_of(config, trackers),
        before,
        interfaces,
    )


def processes_of(config: VrrpSlice, trackers: Trackers) -> list[ProcessSnapshot]:
    """Of the tracked ones, groups included; no others are watched."""
    watched = (each for each in config.vrrp.processes if trackers.processes.good(each.name) is not None)
    return [_process(each, trackers) for each in watched]


def sockets_of(instance: Instance, hearing: Hearing) -> tuple[int, int]:
    """Receiving and sending descriptor, -1 for none."""
    return hearing.descriptor(instance), -1 if instance.sender is None else instance.sender.descriptor


def _sockets(instances: Iterable[Instance], hearing: Hearing) -> Iterable[SocketSnapshot]:
    """One for each receiver; senders are not shared, so that of its first instance stands for all."""
    sharing: dict[ReceiverKey, list[Instance]] = {}
    for instance in instances:
        if instance.receiver is not None:
            sharing.setdefault(instance.receiver, []).append(instance)
    for key, users in sharing.items():
        yield SocketSnapshot(
            sockets=sockets_of(users[0], hearing),
            interface=hearing.interface(key),
            family=key.family,
            authentication_header=key.protocol == IPPROTO_AH,
            unicast_source=key.source,
            instances=tuple((each.name, each.config.vrid) for each in users),
        )


def _group(group: SyncGroup, config: GroupConfig) -> GroupSnapshot:
    members = group.members.values()
    return GroupSnapshot(
        config=config,
        state=group.state,
        faulty=sum(bool(each.faults) for each in members),
        waiting=sum(bool(each.waiting) for each in members),
    )


def _process(config: TrackProcess, trackers: Trackers) -> ProcessSnapshot:
    have, waits = bool(trackers.processes.good(config.name)), trackers.processes.delaying(config.name)
    return ProcessSnapshot(
        config=config,
        current=trackers.processes.count(config.name),
        have_quorum=have,
        fork_delay_running=waits and not have,
        terminate_delay_running=waits and have,
    )


def ours(
    instances: Iterable[Instance],
    trackers: Trackers,
    hearing: Hearing,
    vitals: Iterable[str],
    queued: int,
    restored: Mapping[str, int],
) -> str:
    """States with their reasons, who else was heard, the process itself (`vitals`)."""
    lines = [
        *vitals,
        *hearing.lines(),
        *(f"{what} put back: {count}" for what, count in restored.items()),
        f"Announcements that wait for their gap: {queued}",
    ]
    for instance in instances:
        router = instance.router
        lines += [
            f"{instance.name}: {router.state.value}, VRID {instance.config.vrid} on {instance.config.interface}",
            f"  Priority: {trackers.priority(instance.config)}",
            f"  Master: {router.master_source}",
            *(f"  Fault: {reason}" for reason in router.faults.values()),
            *(f"  Waits: {reason}" for reason in router.waiting.values()),
            *(
                f"  Discarded from {source}: {count} ({reason.value})"
                for (reason, source), count in instance.counters.discarded_by_source.items()
            ),
        ]
    return "------< keepalived-py >------\n" + "".join(f" {line}\n" for line in lines)

"""What the parent says about itself and its workers: its dump file, and one line for the service manager."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial

from ipc.messages import Peer
from keepalived_py import dumpfile, log, vitals
from keepalived_py.clock import now
from keepalived_py.config.dump import dump
from keepalived_py.dump_globals import global_section, sections_text
from keepalived_py.dump_process import DumpProcesses

from .reload import Applied, ReloadCoordinator
from .roles import NAMES, Role


def status(roles: Mapping[Peer, Role], reload: ReloadCoordinator) -> str:
    """Configuration, why it is not a newer one, workers, and which of them is missing or does not answer."""
    words = [f"configuration {reload.current.generation}"]
    if reload.refusal:
        words.append(f"last reload refused ({reload.refusal})")
    if reload.waits_for:
        words.append(f"a reload {_waits(reload)}")
    for peer, role in roles.items():
        if role.child is not None:
            words.append(f"{NAMES[peer]} {role.child.pid}{' does not answer' if role.stalled else ''}")
        elif role.deaths:
            words.append(f"{NAMES[peer]} is dead")
    return ", ".join(words)


def _waits(reload: ReloadCoordinator) -> str:
    """Whom a reload waits for, "" for nobody."""
    names = " and ".join(name for peer, name in NAMES.items() if peer in reload.waits_for)
    return f"waits for {names}" if names else ""


def dump_parent(
    roles: Mapping[Peer, Role], reload: ReloadCoordinator, lateness: vitals.Lateness, by: DumpProcesses
) -> None:
    """Write the parent's dump file. `lateness`: that of its loop."""
    dumpfile.tell("parent data")
    path = dumpfile.state_path(reload.current.config.global_defs, "parent")
    by.run(path, partial(dumpfile.put, path, describe(roles, reload, lateness)))


def keep_copy(applied: Applied, by: DumpProcesses) -> None:
    """config_save_dir: the configuration as it is understood."""
    directory = applied.config.global_defs.reload.config_save_dir
    if directory:
        path = os.path.join(directory, f"keepalived.conf.{os.getpid()}.{applied.generation}")
        by.run(path, lambda: dumpfile.save(path, dump(applied.config)))


def describe(roles: Mapping[Peer, Role], reload: ReloadCoordinator, lateness: vitals.Lateness) -> str:
    """The dump: keepalived's section, and behind it lines for people."""
    current = reload.current
    lines = [
        f"Process: {os.getpid()}",
        f"Configuration: {current.generation}, {len(current.errors)} errors accepted",
        f"Reload: {', '.join(filter(None, ('under way', _waits(reload)))) if reload.busy else 'none'}",
        *([f"Last reload refused: {reload.refusal}"] if reload.refusal else []),
        f"Log records lost: {log.lost_records()}",
        *vitals.lines(),
        *lateness.lines("the loop"),
    ]
    for peer, role in roles.items():
        child = role.child
        lines.append(f"{NAMES[peer]}: {'does not run' if child is None else f'process {child.pid}'}")
        lines.append(f"  Deaths: {role.deaths}")
        if child is None:
            continue
        lines += [
            f"  Configuration: {child.generation}",
            f"  Running for: {now() - child.started:.0f} s",
            f"  Last heartbeat: {now() - child.last_beat:.1f} s ago{', stalled' if role.stalled else ''}",
        ]
        beat = child.heartbeat
        if beat is not None:
            lines += [
                f"  Worst lateness of the loop in the last second: {beat.lateness * 1000:.3f} ms",
                f"  Memory: {beat.rss // 1024} KiB",
                f"  Tasks: {beat.tasks}",
                f"  Log records lost: {beat.lost_records}",
            ]
    settings = global_section(current.config.global_defs, os.uname().nodename, hooks=True)
    return sections_text([settings, ("keepalived-py", lines)])

"""What the parent is given and what it keeps per worker."""

from __future__ import annotations

import logging
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

from ipc.messages import (
    ConfigLoaded,
    GroupMarked,
    Peer,
    RealServerStateChanged,
    ScriptStateChanged,
    ScriptWeightSet,
    TimeoutsReplaced,
    VirtualServerStateChanged,
    VrrpStateChanged,
)
from keepalived_py.config.model import Config, Script
from keepalived_py.records import dataclass

from .child import Child
from .last_good import LastGood
from .pidfile import PidFile
from .reload import Applied
from .restart import RestartPolicy
from .systemd import Systemd

logger = logging.getLogger(__name__)

NAMES = {Peer.VRRP: "VRRP", Peer.CHECKER: "Healthcheck"}


def has_work(peer: Peer, config: Config) -> bool:
    """Whether `config` has something to do for that worker."""
    return config.vrrp.has_work if peer is Peer.VRRP else config.checker.has_work


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How this daemon is put together: made by the command line."""

    mains: Mapping[Peer, Callable[[socket.socket, Applied, tuple[Any, ...], int], int]]
    """Main functions of the workers that may run: socket, configuration, last reports, parent's pid."""
    warm: Mapping[Peer, Callable[[], None]]
    """What the parent does before it forks a worker of that kind: imports, so that all its successors share them."""
    load: Callable[[Applied], ConfigLoaded]
    """Reads the configuration, told the current one; called in a process of its own."""
    start_script: Callable[[Script], subprocess.Popen[bytes]]
    """Starts startup_script and shutdown_script."""
    pid_files: Mapping[Peer, PidFile]
    withdraw: Callable[[Config, frozenset[str]], int]
    """Takes away the addresses of the named instances; how many there were. Raises OSError."""
    load_modules: Callable[[Config], None] = lambda config: None
    """Loads what the workers need for a configuration; they are forked from this process. Raises ImportError."""
    adopt: Callable[[Config], None] = lambda config: None
    """What a configuration means for the parent itself."""
    last_good: LastGood = LastGood("")
    systemd: Systemd = field(default_factory=Systemd)
    title: str = "keepalived"
    command_line: Callable[[str], str] = str
    """What ps shows for a process of this name."""
    respawn: bool = True
    ignore_sigint: bool = False
    run_all: bool = False
    trace_memory: bool = False

    def write_pid(self, peer: Peer, pid: int) -> None:
        """A failure is logged: the worker runs."""
        pid_file = self.pid_files.get(peer)
        if pid_file is None:
            return
        try:
            pid_file.write(pid)
        except OSError as exc:
            logger.error("pid file %s: %s", pid_file.path, exc.strerror)

    def remove_pid(self, peer: Peer) -> None:
        """No such worker for a while, in which its number may become that of another process."""
        if peer in self.pid_files:
            self.pid_files[peer].remove()


@dataclass(slots=True)
class Role:
    """One worker's place, whoever fills it."""

    policy: RestartPolicy
    child: Child | None = None
    reports: dict[Any, Any] = field(default_factory=dict)
    """The newest report per subject: what a successor is told."""
    stalled: bool = False
    unclean: bool = False
    """The last worker died without taking away what was its, and there is no other yet."""
    left: Applied | None = None
    """What a worker had lived with that died so, until another one lives: its successor begins with that."""
    deaths: int = 0

    def forget(self, config: Config) -> None:
        """Drop reports about what `config` does not have, once they are more than those that it can have.

        What reloads take away is told of for the last time and would be remembered for ever.
        """
        vrrp, servers = config.vrrp, config.checker.virtual_servers
        possible = len(vrrp.instances) + len(vrrp.sync_groups) + len(vrrp.scripts) + len(servers)
        if len(self.reports) > possible + 2 * sum(len(server.real_servers) for server in servers):
            known = subjects(config)
            self.reports = {key: report for key, report in self.reports.items() if key in known}


def subjects(config: Config) -> set[tuple[Any, ...]]:
    """The `merge_key` of every report that can come of `config`."""
    found: set[tuple[Any, ...]] = {(TimeoutsReplaced,)}
    found.update((VrrpStateChanged, "INSTANCE", each.name) for each in config.vrrp.instances)
    found.update((VrrpStateChanged, "GROUP", each.name) for each in config.vrrp.sync_groups)
    found.update((ScriptStateChanged, each.name) for each in config.vrrp.scripts)
    for server in config.checker.virtual_servers:
        service = server.key.unique
        found.add((GroupMarked, server.key.group, server.protocol.value))
        found.add((VirtualServerStateChanged, service))
        reals = [real.key.text(server.protocol) for real in server.real_servers]
        found.update((kind, service, real) for kind in (RealServerStateChanged, ScriptWeightSet) for real in reals)
    return found


def last_words(roles: Mapping[Peer, Role], peer: Peer) -> tuple[Any, ...]:
    """What a worker is told at its start: what its predecessor said last, and to VRRP what the checker said."""
    reports = [*roles[peer].reports.values()]
    if peer is Peer.VRRP and Peer.CHECKER in roles:
        reports += [
            report for report in roles[Peer.CHECKER].reports.values() if isinstance(report, VirtualServerStateChanged)
        ]
    return tuple(reports)

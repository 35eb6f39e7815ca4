"""Signals of every kind, to the parent and straight to a worker (cli-and-signals.md 4)."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from keepalived_py.parent.signals import FAULTS, MEANINGLESS
from tests.netns.conftest import Pair
from tests.netns.rig import OURS, THEIRS, Daemon
from tests.netns.test_daemon import fast
from tests.netns.test_vrrp_takeover import VIP4

pytestmark = pytest.mark.netns

STATS_CLEAR, JSON = signal.SIGRTMAX - 1, signal.SIGRTMIN + 2
MEANT = {signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, STATS_CLEAR, JSON}


def master(pair: Pair, program: str, *options: str, more: str = "") -> Daemon:
    daemon = pair.one.start(program, fast(150, more), *options)
    pair.rig.wait(lambda: pair.one.has(VIP4), 10)
    daemon.said("Entering MASTER STATE")
    return daemon


def test_what_scripts_leave_behind_is_collected(pair: Pair) -> None:
    """The parent is a subreaper."""
    orphan = pair.rig.directory / "orphan"
    orphan.write_text(f"#!/bin/sh\nsleep 1 &\necho $! > {orphan}.pid\n")
    orphan.chmod(0o755)
    daemon = master(pair, OURS, more=f'notify_master "{orphan}" root')
    written = Path(f"{orphan}.pid")
    pair.rig.wait(lambda: written.exists() and written.read_text().endswith("\n"), 5)
    left = int(written.read_text())
    pair.rig.wait(lambda: left in direct_children(daemon.process.pid), 1)
    pair.rig.wait(lambda: not Path(f"/proc/{left}").exists(), 3)


def direct_children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("program", [OURS, THEIRS])
def test_signals_without_a_meaning_do_nothing(pair: Pair, program: str) -> None:
    assert {signal.SIGQUIT, signal.SIGALRM, signal.SIGPIPE, signal.SIGRTMAX} <= MEANINGLESS
    daemon = master(pair, program)
    vrrp, files = daemon.pid_of("vrrp"), ("keepalived_parent.data", "keepalived.data")
    for number in MEANINGLESS - MEANT - FAULTS:
        for pid in (daemon.process.pid, vrrp):
            os.kill(pid, number)
    daemon.signal(signal.SIGUSR1)
    pair.rig.wait(lambda: all((daemon.directory / name).exists() for name in files), 5)
    assert daemon.pid_of("vrrp") == vrrp
    assert daemon.log.count("Entering MASTER STATE") == 1
    assert "of computing" not in daemon.log
    assert daemon.stop() == 0


def test_a_worker_obeys_signals_of_its_own(pair: Pair) -> None:
    daemon = master(pair, OURS)
    vrrp = daemon.pid_of("vrrp")
    statistics, data = daemon.directory / "keepalived.stats", daemon.directory / "keepalived.data"
    os.kill(vrrp, signal.SIGHUP)
    pair.rig.wait(lambda: f"send SIGHUP to process {daemon.process.pid}" in daemon.log, 5)
    os.kill(vrrp, STATS_CLEAR)
    pair.rig.wait(statistics.exists, 5)
    assert "Became master: 1" in statistics.read_text()
    statistics.unlink()
    os.kill(vrrp, signal.SIGUSR2)
    pair.rig.wait(statistics.exists, 5)
    assert "Became master: 0" in statistics.read_text()
    os.kill(vrrp, JSON)
    os.kill(vrrp, signal.SIGUSR1)
    pair.rig.wait(lambda: data.exists() and (daemon.directory / "keepalived.json").exists(), 5)
    assert not (daemon.directory / "keepalived_parent.data").exists()
    for number in (signal.SIGTERM, signal.SIGINT):
        wire = pair.lan.capture()
        os.kill(daemon.pid_of("vrrp"), number)
        pair.rig.wait(lambda wire=wire: any(each.vrrp[2] == 0 for each in wire.adverts() if each.vrrp), 5)  # type: ignore[misc]
        pair.rig.wait(lambda: not pair.one.has(VIP4), 5)
        pair.rig.wait(lambda: pair.one.has(VIP4), 5)
    daemon.said("Starting VRRP child process", 3)
    daemon.signal(signal.SIGINT)
    assert daemon.process.wait(5) == 0
    assert not pair.one.has(VIP4)


def test_without_respawning_a_dead_worker_ends_the_daemon(pair: Pair) -> None:
    daemon = master(pair, OURS, "-R")
    os.kill(daemon.pid_of("vrrp"), signal.SIGKILL)
    assert daemon.process.wait(5) == 0
    assert not pair.one.has(VIP4)


def test_late_signals_are_not_how_a_stop_ends(pair: Pair) -> None:
    """The interpreter gives up its handlers some milliseconds before the end."""
    daemon = master(pair, OURS)
    daemon.signal(signal.SIGTERM)
    pair.rig.wait(lambda: "Stopped" in daemon.log, 5, 0.0)
    while daemon.process.poll() is None:
        for number in (signal.SIGUSR1, signal.SIGTERM, JSON):
            daemon.signal(number)
    assert daemon.process.returncode == 0


@pytest.mark.parametrize("process", ["parent", "vrrp"])
def test_none_is_lost_among_many(pair: Pair, process: str) -> None:
    """A process that was not scheduled for long gets all at once what pollers have sent meanwhile."""
    daemon = master(pair, OURS, "-R")
    pid = daemon.pid_of(process)
    os.kill(pid, signal.SIGSTOP)
    for _ in range(1000):
        os.kill(pid, JSON)
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGCONT)
    daemon.said(": Stopped")
    assert "wakeup" not in daemon.log
    assert daemon.log.count("Printing VRRP as json") <= 1

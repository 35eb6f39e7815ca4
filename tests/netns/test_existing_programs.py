"""What programs that start and watch keepalived rely on beside its files: how they find it, know it, and wait for it.

OpenStack's network agent looks for the name of the router in the command lines of both pid files. VyOS waits for the
end of the writing of a dump file by its name. Many count, find and signal processes by name.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from keepalived_py.inotify import IN_CLOSE_WRITE, Inotify
from tests.netns.conftest import Pair
from tests.netns.rig import OURS, THEIRS, children_of
from tests.netns.test_daemon import fast
from tests.netns.test_exporters import Agent
from tests.netns.test_vrrp_takeover import VIP4

pytestmark = pytest.mark.netns

PROGRAMS = pytest.mark.parametrize("program", [OURS, THEIRS])


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()


@PROGRAMS
def test_every_process_is_known_by_the_options_of_the_daemon(pair: Pair, program: str) -> None:
    agent = Agent(pair, program)
    daemon, said = agent.daemon, f"-f {agent.daemon.directory / 'conf'}"
    assert said in command_line(daemon.pid_of("parent"))
    assert said in command_line(daemon.pid_of("vrrp"))
    both = sorted([daemon.pid_of("parent"), daemon.pid_of("vrrp")])
    pattern = f"^{agent.name}.* {said}"
    assert found("pgrep", "-o", "-f", pattern) == [daemon.pid_of("parent")]
    for command in ("pgrep -x keepalived", "pidof keepalived", "ps -o pid= -C keepalived"):
        assert set(both) <= set(found(*command.split())), command
    assert set(both) <= set(found("pgrep", "-f", pattern))  # keepalived runs check scripts from copies of itself
    for number in (signal.SIGHUP, signal.SIGTERM):  # as killall and pkill do
        for pid in both:
            os.kill(pid, number)
        if number == signal.SIGHUP:
            pair.rig.holds(lambda: pair.one.has(VIP4) and daemon.process.poll() is None, 0.5)
    assert daemon.process.wait(10) == 0
    assert not pair.one.has(VIP4)
    assert not list(daemon.directory.glob("*.pid"))
    assert "reset by peer" not in daemon.log


def found(*command: str) -> list[int]:
    """Processes that a command names."""
    return sorted(map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()))


@PROGRAMS
def test_the_end_of_the_writing_of_a_dump_is_told_by_its_name(pair: Pair, program: str) -> None:
    agent = Agent(pair, program)
    watch = Inotify()
    watch.watch(str(agent.daemon.directory), IN_CLOSE_WRITE)
    for asked, file in (("DATA", "keepalived.data"), ("STATS", "keepalived.stats"), ("JSON", "keepalived.json")):
        agent.dump(asked, file)
        pair.rig.wait(lambda file=file: file in [name for _, _, name in watch.events()], 2)
    watch.close()


def start_of(pair: Pair) -> tuple[subprocess.Popen[bytes], Path]:
    """A start into the background, and its pid file as soon as that is there."""
    directory = pair.rig.directory
    (directory / "conf").write_text(fast(150))
    file = directory / "parent.pid"
    words = [str(Path(sys.executable).with_name(OURS)), "-G", "-P", "-f", str(directory / "conf"), "-p", str(file)]
    words += ["-r", str(directory / "vrrp.pid")]
    start = subprocess.Popen(["ip", "netns", "exec", pair.one.namespace, *words])
    pair.rig.wait(lambda: file.exists() and file.stat().st_size, 10, 0)
    return start, file


def test_the_pid_file_always_names_a_process_of_the_daemon(pair: Pair) -> None:
    """From the moment it is there, while the daemon is still starting."""
    start, file = start_of(pair)
    seen = set()
    while start.poll() is None:
        seen.add(int(file.read_text()))
    pid = int(file.read_text())
    try:
        assert {start.pid} <= seen <= {start.pid, pid}
        assert str(file) in command_line(pid)
        pair.rig.wait(lambda: pair.one.has(VIP4), 10)
        assert file.read_text() == f"{pid}\n"
    finally:
        family = [pid, *children_of(pid)]
        os.kill(pid, signal.SIGTERM)
        pair.rig.wait(lambda: not any(Path(f"/proc/{each}").exists() for each in family), 10)


def test_a_stop_before_the_daemon_is_in_the_background_stops_it(pair: Pair) -> None:
    """Whoever reads the pid file in the start finds the process that was started."""
    start, file = start_of(pair)
    assert int(file.read_text()) == start.pid
    start.terminate()
    assert start.wait(10) == 0
    try:
        pair.rig.wait(lambda: not file.exists(), 5)
    finally:
        if file.exists():
            os.kill(int(file.read_text()), signal.SIGTERM)
            pair.rig.wait(lambda: not file.exists(), 10)

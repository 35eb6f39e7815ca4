"""No further process, thread or descriptor, no byte on the disk, a disk that hangs, no reader of the log."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest

from tests.netns.conftest import Pair
from tests.netns.rig import OURS, Daemon, children_of, patience, sh
from tests.netns.test_daemon import fast
from tests.netns.test_vrrp_takeover import VIP4
from tests.torture.processes import Processes, lowest_free

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(not Processes.ROOT.exists(), reason="there is no control group of processes"),
]
EXECUTABLE = str(Path(sys.executable).with_name(OURS))


def held_at_the_start(pair: Pair, text: str, *options: str) -> tuple[Daemon, Processes]:
    """A daemon that may have no second process; it has not begun yet."""
    command = ("sh", "-c", 'kill -STOP $$; exec "$@"', "sh", EXECUTABLE)
    daemon = pair.one.start(OURS, text, *options, command=command)
    pair.rig.wait(lambda: " T " in Path(f"/proc/{daemon.process.pid}/stat").read_text(), 5)
    group = Processes([daemon.process.pid])
    group.limit("1")
    return daemon, group


@pytest.mark.parametrize("options", [(), ("-gown",)], ids=["console", "file"])
def test_a_start_without_a_further_process_or_thread_is_tried_again(pair: Pair, options: tuple[str, ...]) -> None:
    daemon, group = held_at_the_start(pair, fast(150), *options)
    try:
        daemon.signal(signal.SIGCONT)
        log = daemon.directory / (options[0][2:] if options else "log")
        pair.rig.wait(group.refused, 10)
        time.sleep(1.5)
        group.limit("max")
        pair.rig.wait(lambda: pair.one.has(VIP4), 10)
        pair.rig.wait(lambda: "cannot be started: Resource temporarily unavailable" in log.read_text(), 5)
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log
    finally:
        daemon.process.kill()
        daemon.process.wait()
        group.close()


@pytest.fixture
def full(pair: Pair) -> Iterator[Path]:
    """A file system without a free byte."""
    directory = pair.rig.directory / "full"
    directory.mkdir()
    sh("mount", "-t", "tmpfs", "-o", "size=64k", "none", str(directory))
    yield directory
    sh("umount", "-l", str(directory))


def test_a_router_short_of_everything_takes_over_reloads_gives_in_and_stops(pair: Pair, full: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    head = "global_defs {\n script_user root\n enable_script_security\n shutdown_script /bin/true\n}\n"
    text = head + "vrrp_script s {\n script /bin/true\n interval 1\n}\n"
    text += fast(150, 'no_accept\n notify "/bin/true" root\n track_script {\n  s\n }')
    prepare = f'exec 2>/proc/{os.getpid()}/fd/{writer} >&2; exec env TMPDIR={full} "$@"'
    other = pair.two.start(OURS, fast(200))
    pair.rig.wait(lambda: pair.two.has(VIP4), 10)
    daemon = pair.one.start(OURS, text, f"-g{full}/log", command=("sh", "-c", prepare, "sh", EXECUTABLE))
    pair.rig.wait((full / "log_vrrp").exists, 10)
    pair.rig.wait(lambda: "Entering BACKUP" in (full / "log_vrrp").read_text(), 10)
    with suppress(OSError), open(full / "fill", "wb", 0) as file:
        while True:
            file.write(bytes(4096))
    family = [daemon.process.pid, daemon.pid_of("vrrp")]
    group = Processes(family)
    try:
        group.limit("1")
        for pid in family:
            limit = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_free(pid), limit))
        other.stop()
        pair.rig.wait(lambda: pair.one.has(VIP4), 3)
        wire = pair.lan.capture()
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            daemon.signal(number)
        pair.rig.holds(lambda: pair.one.has(VIP4), 1)
        times = [frame.time for frame in wire.adverts("10.0.0.1")]
        assert max(b - a for a, b in pairwise(times)) < patience(0.4)
        assert "10.0.0.100" in pair.one.run("nft", "list", "ruleset")
        pair.two.start(OURS, fast(200))
        pair.rig.wait(lambda: pair.masters(VIP4) == ["two"], 5)
        assert children_of(daemon.process.pid) == family[1:]
        assert daemon.stop() == 0
        assert not list(daemon.directory.glob("*.pid"))
    finally:
        group.close()
        os.close(reader)
        os.close(writer)


@pytest.fixture
def disk(pair: Pair) -> Iterator[Path]:
    """A file system of its own."""
    image, directory = pair.rig.directory / "image", pair.rig.directory / "disk"
    directory.mkdir()
    sh("truncate", "-s", "8M", str(image))
    sh("mkfs.ext4", "-q", str(image))
    sh("mount", "-o", "loop", str(image), str(directory))
    yield directory
    sh("umount", "-l", str(directory))


@contextmanager
def hanging(disk: Path) -> Iterator[None]:
    """Whoever writes to it waits."""
    sh("fsfreeze", "-f", str(disk))
    try:
        yield
    finally:
        sh("fsfreeze", "-u", str(disk))


def test_a_log_file_whose_disk_hangs_keeps_nobody_from_the_start(pair: Pair, disk: Path) -> None:
    with hanging(disk):
        daemon = pair.one.start(OURS, fast(150), f"-g{disk}/log", command=("env", EXECUTABLE))
        pair.rig.wait(lambda: pair.one.has(VIP4), 10)
        daemon.said(f"log file {disk}/log: it takes too long")
    pair.rig.wait(lambda: (disk / "log_vrrp").exists() and "Entering MASTER" in (disk / "log_vrrp").read_text(), 5)
    assert daemon.stop() == 0
    assert "Starting keepalived-py" in (disk / "log").read_text()


def test_a_worker_that_ends_while_the_disk_of_its_log_hangs_is_replaced_and_a_stop_is_whole(
    pair: Pair, disk: Path
) -> None:
    """Its thread cannot end before the disk goes on, so the process cannot be collected."""
    daemon = pair.one.start(OURS, fast(150), f"-g{disk}/log", command=("env", EXECUTABLE))
    pair.rig.wait(lambda: pair.one.has(VIP4), 10)
    pair.rig.wait(lambda: "Entering MASTER" in (disk / "log_vrrp").read_text(), 10)
    first = daemon.pid_of("vrrp")
    wire = pair.lan.capture()
    with hanging(disk):
        pair.one.run("ip", "addr", "del", f"{VIP4}/24", "dev", "eth0")  # which is a line for its log
        daemon.said("is put back")
        os.kill(first, signal.SIGKILL)
        daemon.said(f"VRRP child process({first}) died: Respawning (signal 9)")
        daemon.said("Starting VRRP child process, pid=", 2)
        pair.rig.wait(lambda: pair.one.has(VIP4), 10)
        before = len(wire.adverts("10.0.0.1"))
        pair.rig.wait(lambda: len(wire.adverts("10.0.0.1")) > before, 5)
        daemon.signal(signal.SIGTERM)
        pair.rig.wait(lambda: not list(daemon.directory.glob("*.pid")), 4)
        assert not pair.one.has(VIP4)
    assert daemon.process.wait(10) == 0


def test_no_dump_or_log_makes_an_advert_late_on_a_disk_that_hangs(pair: Pair, disk: Path) -> None:
    daemon = pair.one.start(OURS, fast(150), f"-g{disk}/log", command=("env", f"TMPDIR={disk}", EXECUTABLE))
    pair.rig.wait(lambda: pair.one.has(VIP4), 10)
    pair.rig.wait(lambda: "Entering MASTER" in (disk / "log_vrrp").read_text(), 10)
    wire = pair.lan.capture()
    with hanging(disk):
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGRTMIN + 2, signal.SIGUSR1, signal.SIGHUP):
            daemon.signal(number)
            time.sleep(0.4)
        pair.rig.holds(lambda: pair.one.has(VIP4), 1)
        times = [frame.time for frame in wire.adverts("10.0.0.1")]
        assert len(times) > 10
        assert max(b - a for a, b in pairwise(times)) < patience(0.35)
    for name in ("keepalived.data", "keepalived_parent.data", "keepalived.stats", "keepalived.json"):
        pair.rig.wait((disk / name).exists, 5)
    assert daemon.stop() == 0

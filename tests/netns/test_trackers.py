"""Tracked files, processes and what groups track: the real daemon, Debian's keepalived as the other router."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.netns.conftest import Pair
from tests.netns.rig import OURS, THEIRS, Capture, Daemon, patience
from tests.netns.test_daemon import fast
from tests.netns.test_vrrp_takeover import VIP4

pytestmark = pytest.mark.netns

MASTER_DOWN = 3 * 0.2 + 0.2 * 156 / 256
"""Of the other router: priority 100, interval 0.2."""


def file_block(path: Path, *lines: str, name: str = "f") -> str:
    return f"track_file {name} {{\n file {path}\n {' '.join(lines)}\n}}\n"


def tracking(what: str, *names: str) -> str:
    entries = "\n".join(names)
    return f"track_{what} {{\n{entries}\n}}"


def priorities(wire: Capture) -> list[int]:
    """Of our adverts, in order."""
    return [frame.vrrp[2] for frame in wire.adverts("10.0.0.1") if frame.vrrp]


def both(pair: Pair, ours: str) -> Daemon:
    """Ours is MASTER, Debian's keepalived BACKUP."""
    daemon = pair.one.start(OURS, ours)
    pair.rig.wait(lambda: pair.one.has(VIP4), 4)
    pair.two.start(THEIRS, fast(100))
    pair.rig.holds(lambda: pair.masters(VIP4) == ["one"], 1.2)
    return daemon


def test_a_file_moves_the_priority_and_the_role(pair: Pair) -> None:
    path = pair.rig.directory / "value"
    path.write_text("5")
    wire = pair.lan.capture()
    daemon = both(pair, file_block(path) + fast(150, tracking("file", "f")))
    assert priorities(wire)[-1] == 155

    path.write_text("-100")
    assert pair.rig.wait(lambda: priorities(wire)[-1] == 50, 1) < patience(0.3)  # the next advert has it
    daemon.said("Changing effective priority from 155 to 50 (150, file f -100 = 50)")
    assert pair.rig.wait(lambda: pair.masters(VIP4) == ["two"], 2) < patience(MASTER_DOWN + 0.3)

    (pair.rig.directory / "new").write_text("0x14")
    (pair.rig.directory / "new").rename(path)
    pair.rig.wait(lambda: pair.masters(VIP4) == ["one"], 2)
    assert priorities(wire)[-1] == 170
    path.unlink()
    assert pair.rig.wait(lambda: priorities(wire)[-1] == 150, 1) < patience(0.3)


@pytest.mark.parametrize(("good", "bad", "extra"), [("0", "1", ""), ("3", "0", " reverse")])
def test_an_unweighted_file_is_a_fault(pair: Pair, good: str, bad: str, extra: str) -> None:
    path = pair.rig.directory / "value"
    path.write_text(good)
    daemon = both(pair, file_block(path, "weight 0") + fast(150, tracking("file", f"f weight 0{extra}")))
    started = time.monotonic()
    path.write_text(bad)
    assert pair.rig.wait(lambda: not pair.one.has(VIP4), 1) < patience(0.2)
    pair.rig.wait(lambda: pair.masters(VIP4) == ["two"], 1)
    assert time.monotonic() - started < patience(0.5)  # the farewell is heard: no waiting for the master down timer
    daemon.said(f"Entering FAULT STATE (tracked file f is at {bad})")
    path.write_text(good)
    pair.rig.wait(lambda: pair.masters(VIP4) == ["one"], 3)


Start = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def program(pair: Pair) -> Iterator[tuple[str, Start]]:
    """The name of a program that nothing else is called, and how to start it."""
    name = f"kpt{os.getpid()}"
    path = pair.rig.directory / name
    shutil.copy(shutil.which("sleep") or "/bin/sleep", path)
    running: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        running.append(subprocess.Popen([path, "1000"]))
        return running[-1]

    yield name, start
    for process in running:
        process.kill()
        process.wait()


def test_a_process_that_dies_is_a_fault_until_it_is_back(pair: Pair, program: tuple[str, Start]) -> None:
    name, start = program
    process = start()
    block = f"vrrp_track_process p {{\n process {name}\n}}\n"
    daemon = both(pair, block + fast(150, tracking("process", "p")))
    began = time.monotonic()
    process.kill()
    process.wait()
    assert pair.rig.wait(lambda: not pair.one.has(VIP4), 1) < patience(0.2)
    pair.rig.wait(lambda: pair.masters(VIP4) == ["two"], 1)
    assert time.monotonic() - began < patience(0.5)
    daemon.said("Entering FAULT STATE (tracked process p is down)")
    start()
    assert pair.rig.wait(lambda: daemon.log.count("Entering BACKUP STATE") == 2, 1) < patience(0.6)
    pair.rig.wait(lambda: pair.masters(VIP4) == ["one"], 3)


def test_a_process_changes_the_priority(pair: Pair, program: tuple[str, Start]) -> None:
    name, start = program
    block = f"vrrp_track_process p {{\n process {pair.rig.directory}/{name} 1000\n weight 20\n quorum 2\n}}\n"
    wire = pair.lan.capture()
    both(pair, block + fast(150, tracking("process", "p")))
    start()
    pair.rig.holds(lambda: priorities(wire)[-1] == 150, 0.6)
    process = start()
    assert pair.rig.wait(lambda: priorities(wire)[-1] == 170, 2) < patience(0.9)
    process.kill()  # a zombie does not count
    assert pair.rig.wait(lambda: priorities(wire)[-1] == 150, 1) < patience(0.4)


def test_a_reload_keeps_what_is_known(pair: Pair, program: tuple[str, Start]) -> None:
    name, start = program
    start()
    path = pair.rig.directory / "value"
    blocks = file_block(path, "init_file 7 overwrite") + f"vrrp_track_process p {{\n process {name}\n weight 9\n}}\n"
    text = blocks + fast(150, tracking("file", "f"), tracking("process", "p"))
    path.write_text("1")
    wire = pair.lan.capture()
    daemon = both(pair, text)
    assert path.read_text() == "7\n"
    assert priorities(wire)[-1] == 166
    path.write_text("8")
    pair.rig.wait(lambda: priorities(wire)[-1] == 167, 1)
    daemon.said("Changing effective priority from 166 to 167")
    changes = daemon.log.count("Changing effective priority")

    daemon.rewrite(text.replace("track_process {", "garp_master_repeat 2\ntrack_process {"))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: "Reload complete, configuration 2" in daemon.log, 3)
    pair.rig.holds(lambda: priorities(wire)[-1] == 167, 0.5)
    assert path.read_text() == "8"
    assert daemon.log.count("Changing effective priority") == changes

    os.kill(daemon.pid_of("vrrp"), signal.SIGKILL)  # nor does the successor of a worker write the file
    pair.rig.holds(lambda: pair.masters(VIP4) == ["one"], 1.5)
    assert path.read_text() == "8"
    assert priorities(wire)[-1] == 167

    daemon.rewrite(text.replace("weight 9", "weight -9").replace("init_file 7 overwrite", "weight 2"))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: priorities(wire)[-1] == 166, 3)


def test_a_new_file_is_not_made_by_a_reload_nor_by_a_test(pair: Pair) -> None:
    path = pair.rig.directory / "value"
    daemon = pair.one.start(OURS, fast(150))
    pair.rig.wait(lambda: pair.one.has(VIP4), 4)
    daemon.rewrite(file_block(path, "init_file 7") + fast(150, tracking("file", "f")))
    pair.one.run(".venv/bin/keepalived-py", "-t", "-f", str(daemon.directory / "conf"))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: "Reload complete" in daemon.log, 3)
    assert not path.exists()
    wire = pair.lan.capture()
    path.write_text("4")
    assert pair.rig.wait(lambda: priorities(wire)[-1:] == [154], 1) < patience(0.4)


def test_what_a_group_tracks_acts_on_every_member(pair: Pair) -> None:
    bad, points = pair.rig.directory / "bad", pair.rig.directory / "points"
    second = fast(150).replace("VI_1", "VI_2").replace("_id 51", "_id 52").replace(VIP4, "10.0.0.101")
    group = "vrrp_sync_group G {\n group {\n VI_1\n VI_2\n }\n sync_group_tracking_weight\n" + (
        tracking("file", "bad weight 0", "points") + tracking("interface", "eth1") + "\n}\n"
    )
    pair.one.plug(pair.lan, "eth1", "10.0.1.1/24")
    wire = pair.lan.capture()
    blocks = file_block(bad, name="bad") + file_block(points, name="points")
    daemon = pair.one.start(OURS, blocks + fast(150) + second + group)
    both_there = {VIP4, "10.0.0.101"}
    pair.rig.wait(lambda: pair.one.addresses() >= both_there, 4)

    points.write_text("-3")
    pair.rig.wait(lambda: {vrid_of(frame.vrrp) for frame in wire.adverts()[-2:]} == {(51, 147), (52, 147)}, 1)

    bad.write_text("1")
    assert pair.rig.wait(lambda: not both_there & pair.one.addresses(), 1) < patience(0.3)
    for name in ("VI_1", "VI_2"):
        daemon.said(f"({name}) Entering FAULT STATE")
    bad.unlink()
    pair.rig.wait(lambda: pair.one.addresses() >= both_there, 3)

    pair.one.run("ip", "link", "set", "eth1", "down")
    assert pair.rig.wait(lambda: not both_there & pair.one.addresses(), 1) < patience(0.3)


def vrid_of(vrrp: bytes | None) -> tuple[int, int]:
    """VRID and priority of an advert."""
    assert vrrp is not None
    return vrrp[1], vrrp[2]

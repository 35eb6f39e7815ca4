"""Files that processes of their own write."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from keepalived_py.dump_process import MOST, DumpProcesses
from keepalived_py.dumpfile import put


class Clock:
    """What is to happen later."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def later(self, delay: float, action: Callable[[], None]) -> None:
        assert delay > 0
        self.due.append(action)

    def turn(self) -> None:
        due, self.due = self.due, []
        for action in due:
            action()

    def rest(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        while self.due:
            meanwhile()
            self.turn()


class Disk:
    """Hangs whoever writes, until they are let go."""

    def __init__(self, path: Path) -> None:
        self._path = path
        os.mkfifo(path)

    def put(self, path: Path, text: Callable[[], str]) -> None:
        self._path.read_bytes()
        put(str(path), text())

    def let_go(self) -> None:
        with suppress(OSError):  # nobody waits yet
            os.close(os.open(self._path, os.O_WRONLY | os.O_NONBLOCK))


@pytest.fixture
def clock() -> Iterator[Clock]:
    made = Clock()
    yield made
    made.rest()


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "disk")


def no_process() -> int:
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def test_a_dump_is_of_the_moment_of_the_question_however_long_the_disk_hangs(
    tmp_path: Path, clock: Clock, disk: Disk
) -> None:
    state = ["before"]
    path = tmp_path / "dump"
    DumpProcesses(clock.later).run(str(path), lambda: disk.put(path, lambda: state[0]))
    state[0] = "after"
    clock.turn()
    assert clock.due
    assert not path.exists()
    clock.rest(disk.let_go)
    assert path.read_text() == "before"


def test_no_more_than_some_wait_for_a_disk(
    tmp_path: Path, clock: Clock, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    dumps = DumpProcesses(clock.later)
    for number in range(MOST + 1):
        path = tmp_path / str(number)
        dumps.run(str(path), partial(disk.put, path, str))
    assert caplog.messages == [f"{tmp_path / str(MOST)}: {MOST} dumps wait for a disk"]
    clock.rest(disk.let_go)
    dumps.run(str(tmp_path / "again"), partial(put, str(tmp_path / "again"), ""))
    clock.rest()
    assert {each.name for each in tmp_path.iterdir()} == {"disk", "again", *map(str, range(MOST))}


def test_its_process_keeps_nothing_of_ours_open(tmp_path: Path, clock: Clock, disk: Disk) -> None:
    """Or nobody would notice the end of this one."""
    ours, theirs = socket.socketpair()
    DumpProcesses(clock.later).run("dump", partial(disk.put, tmp_path / "dump", str))
    ours.close()
    theirs.settimeout(5)
    assert theirs.recv(1) == b""
    theirs.close()
    clock.rest(disk.let_go)


def fails() -> None:
    raise RuntimeError


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (partial(put, "/proc/dump", ""), "No such file or directory"),
        (fails, "internal error"),
        (partial(os.abort), f"the process that wrote it died of signal {int(signal.SIGABRT)}"),
    ],
)
def test_what_goes_wrong_is_logged(
    clock: Clock,
    write: Callable[[], None],
    told: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO)
    DumpProcesses(clock.later).run("/proc/dump", write)
    clock.rest()
    assert caplog.messages == [f"/proc/dump: {told}"]


def test_without_a_further_process_it_is_done_here(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "fork", no_process)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    dumps, path = DumpProcesses(clock.later), str(tmp_path / "dump")
    dumps.run(path, partial(put, path, "text"))
    assert Path(path).read_text() == "text"
    dumps.run("/proc/dump", partial(put, "/proc/dump", ""))
    assert caplog.messages == ["/proc/dump: No such file or directory"]
    assert not clock.due
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_who_collects_all_processes_tells_of_them(caplog: pytest.LogCaptureFixture) -> None:
    dumps = DumpProcesses()
    dumps.run("/proc/dump", partial(put, "/proc/dump", ""))
    pid, status = os.waitpid(-1, 0)
    assert not dumps.ended(1, 0)
    assert dumps.ended(pid, os.waitstatus_to_exitcode(status))
    assert not dumps.ended(pid, 0)
    assert caplog.messages == ["/proc/dump: No such file or directory"]


def test_a_brief_text_is_made_before_the_fork_and_a_mistake_in_it_costs_the_dump_alone(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    where: list[int] = []

    def text() -> str:
        where.append(os.getpid())
        return "text"

    def wrong() -> str:
        raise ValueError

    dumps = DumpProcesses(clock.later)
    dumps.put(str(tmp_path / "brief"), text, brief=True)
    dumps.put(str(tmp_path / "long"), text, brief=False)
    for brief in (True, False):
        dumps.put(str(tmp_path / "wrong"), wrong, brief=brief)
    clock.rest()
    assert where == [os.getpid()]
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"brief": "text", "long": "text"}
    assert caplog.messages == [f"{tmp_path / 'wrong'}: internal error"] * 2

"""Forked processes seen from the parent, the loader among them; and the core pattern."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ipc.messages import ConfigLoaded, Peer, Stop
from keepalived_py.parent.child import BLOCKED, collected, ended_though_held, fork_process
from keepalived_py.parent.core_dump import CorePattern
from keepalived_py.parent.loader import Loader


def test_a_refused_fork_leaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(BlockingIOError):
        fork_process(Peer.LOADER, lambda sock: 0)
    assert os.listdir("/proc/self/fd") == before
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(BLOCKED)


NONE_TO_SPARE = """
import os, resource
from ipc.messages import Peer
from keepalived_py.parent.child import fork_process
os.open(os.devnull, os.O_RDONLY)
pair = os.pipe()
for each in pair: os.close(each)
resource.setrlimit(resource.RLIMIT_NOFILE, (max(pair) + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
pid, sock = fork_process(Peer.LOADER, lambda sock: len(os.listdir("/proc/self/fd")) - 1)  # without that of the list
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_a_process_begins_without_a_descriptor_to_spare() -> None:
    """It looks at what it has inherited, which takes one: those of the parent are the first to go."""
    done = subprocess.run([sys.executable, "-c", NONE_TO_SPARE], capture_output=True, text=True, check=False)
    assert done.stdout == "4\n", done.stderr


def test_children_are_collected_with_how_they_ended() -> None:
    def body(sock: socket.socket) -> int:
        sock.recv(1)
        return 7

    first, sock = fork_process(Peer.LOADER, body)
    second, other = fork_process(Peer.LOADER, body)
    assert list(collected()) == []
    os.kill(second, signal.SIGKILL)
    os.waitid(os.P_PID, second, os.WEXITED | os.WNOWAIT)
    assert list(collected()) == [(second, -signal.SIGKILL)]
    sock.close()
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    assert list(collected()) == [(first, 7)]
    assert list(collected()) == []
    other.close()


def loading(load: Callable[[], Any], limit: float = 3.0) -> list[str]:
    """Run a loader to its end; what was told."""
    told: list[str] = []

    async def wait(loader: Loader) -> None:
        async with asyncio.timeout(5):
            while not told:
                for pid, code in collected():
                    assert loader.ended(pid, code)
                await asyncio.sleep(0.01)

    loop = asyncio.new_event_loop()
    try:
        loader = Loader(loop, lambda found: told.append(f"found {len(found.problems)}"), told.append)
        loader.start(load, limit)
        assert not loader.ended(1, 0)
        loop.run_until_complete(wait(loader))
    finally:
        loop.close()
        if loader._pid:  # its message came first; nobody else must find its end
            os.waitid(os.P_PID, loader._pid, os.WEXITED | os.WNOWAIT)
        list(collected())
    return told


def test_what_the_loader_finds_arrives() -> None:
    assert loading(lambda: ConfigLoaded(config=None, problems=("one", "two"), errors=())) == ["found 2"]


def test_a_loader_that_takes_too_long_is_killed(caplog: pytest.LogCaptureFixture) -> None:
    def load() -> ConfigLoaded:
        time.sleep(30)
        raise AssertionError

    assert loading(load, 0.1) == ["loader ended with -9"]
    assert "Reading the configuration takes longer than 0.1s" in caplog.text


def test_a_loader_that_breaks() -> None:
    def load() -> ConfigLoaded:
        raise ValueError("broken")

    assert loading(load) == ["loader ended with 70"]


def test_a_loader_that_talks_nonsense() -> None:
    assert loading(Stop) == ["protocol error: loader may not send worker.stop"]


def test_a_loader_whose_parent_died_before_it_could_tell_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No signal will tell it: where the file hangs it would stay for ever."""
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert loading(lambda: ConfigLoaded(config=None, problems=("one",), errors=())) == ["loader ended with 1"]


def test_a_loader_that_is_stopped_calls_nobody() -> None:
    told: list[object] = []
    loop = asyncio.new_event_loop()
    before = os.listdir("/proc/self/fd")
    loader = Loader(loop, told.append, told.append)
    loader.stop()
    wait: Callable[[], Any] = partial(time.sleep, 30)
    loader.start(wait, 3.0)
    pid = loader._pid
    loader.stop()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert [loader.ended(*each) for each in collected()] == [True]
    loop.run_until_complete(asyncio.sleep(0))
    assert os.listdir("/proc/self/fd") == before
    loop.close()
    assert told == []


def test_a_loader_that_cannot_be_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(os, "fork", refuse)
    assert loading(lambda: ConfigLoaded(config=None, problems=(), errors=())) == [
        "no process for it: no more processes"
    ]


@pytest.mark.parametrize("failing", [False, True])
def test_the_core_pattern_is_put_back(tmp_path: Path, failing: bool, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "core_pattern"
    pattern = CorePattern(str(path))
    if not failing:
        path.write_text("|/usr/lib/old %P\n")
    pattern.set("core.%p")
    assert failing or path.read_text().startswith("core.%p\n")
    pattern.restore()
    pattern.restore()
    if failing:
        assert not path.exists()
        assert "core pattern core.%p: No such file or directory" in caplog.text
    else:
        assert path.read_text() == "|/usr/lib/old %P\n"


@pytest.mark.parametrize("code", [7, -signal.SIGKILL])
def test_how_a_process_ended_is_known_before_it_is_collected(code: int) -> None:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(reading, 1)
        if code < 0:
            os.kill(os.getpid(), -code)
        os._exit(code)
    assert ended_though_held(pid) is None
    os.write(writing, b"x")
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert ended_though_held(pid) == code
    os.waitpid(pid, 0)
    assert ended_though_held(pid) is None
    os.close(reading)
    os.close(writing)

"""startup_script and shutdown_script: run, limited, ended with everything they started."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keepalived_py.config.model import Script
from keepalived_py.parent import hook as module
from keepalived_py.parent.hook import Hook
from workers.scripts import start


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NEXT_SIGNAL", 0.2)
    monkeypatch.setattr(module, "GIVE_UP", 0.2)


def shell(text: str) -> Script:
    return Script(argv=("/bin/sh", "-c", text))


def run(
    script: Script,
    limit: float = 5.0,
    during: Callable[[Hook], None] = lambda hook: None,
    begin: Callable[[Script], subprocess.Popen[bytes]] = start,
) -> tuple[int, float]:
    """Run a hook as the supervisor does; how often it was done, and the seconds until it was."""
    loop = asyncio.new_event_loop()
    calls: list[float] = []

    def done() -> None:
        calls.append(time.monotonic())
        loop.call_later(0.05, loop.stop)

    def reap() -> None:
        if hook.pid:
            pid, status = os.waitpid(hook.pid, os.WNOHANG)
            if pid:
                hook.ended(os.waitstatus_to_exitcode(status))

    hook = Hook("startup_script", script, limit, loop, done)
    loop.add_signal_handler(signal.SIGCHLD, reap)
    begun = time.monotonic()
    hook.start(begin)
    loop.call_soon(during, hook)
    loop.run_forever()
    loop.remove_signal_handler(signal.SIGCHLD)
    loop.close()
    assert hook.pid == 0
    return len(calls), calls[0] - begun


class Recorder(asyncio.SelectorEventLoop):
    """Its timers run one after the other as soon as they are asked for; when each would have run."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        self.waiting.append((delay, callback))
        return asyncio.TimerHandle(delay, callback, args, self)


def test_the_times_are_keepalived_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM at the limit, SIGKILL 2 s later and again after 2 s, given up after 10 s."""
    monkeypatch.undo()
    loop, sent, done = Recorder(), list[int](), list[float]()
    monkeypatch.setattr(os, "killpg", lambda pid, number: sent.append(number))
    hook = Hook("startup_script", shell("exec sleep 60"), 7.0, loop, lambda: done.append(1))
    process = start(shell("exec sleep 60"))
    hook.start(lambda script: process)
    told = []
    while loop.waiting:
        delay, callback = loop.waiting.pop()
        callback()
        told.append((delay, *sent))
        sent.clear()
    os.kill(process.pid, signal.SIGKILL)
    os.waitpid(process.pid, 0)
    loop.close()
    term, kill = signal.SIGTERM, signal.SIGKILL
    assert told == [(7.0, term), (2.0, kill), (2.0, kill), (10.0,)]
    assert done == [1]


def test_it_is_waited_for(tmp_path: Path) -> None:
    count, lasted = run(shell(f"sleep 0.2; echo done > {tmp_path}/out"))
    assert count == 1
    assert 0.2 <= lasted < 2
    assert (tmp_path / "out").read_text() == "done\n"


def test_one_that_may_not_be_signalled_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without CAP_KILL, and the script is another user's."""

    def refuse(pid: int, number: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "killpg", refuse)
    count, lasted = run(shell("exec sleep 1.2"), 0.1)
    os.wait()
    assert count == 1
    assert lasted < 1.1
    assert "cannot be ended" in caplog.text


def test_a_failure_is_told_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert run(shell("exit 3"))[0] == 1
    assert "exited 3" in caplog.text


def test_a_program_that_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    assert run(Script(argv=("/nonexistent",)))[0] == 1
    assert "cannot be run" in caplog.text


def test_a_late_one_is_ended_with_its_children(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    count, lasted = run(shell(f"sleep 60 & echo $! > {tmp_path}/pid; wait"), limit=0.2)
    assert count == 1
    assert 0.2 <= lasted < 2
    assert "runs longer than 0.2s" in caplog.text
    assert "died of signal 15" in caplog.text
    child = int((tmp_path / "pid").read_text())
    for _ in range(100):
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            return
        time.sleep(0.01)
    raise AssertionError("the child lives")


def test_one_that_ignores_sigterm_is_killed(caplog: pytest.LogCaptureFixture) -> None:
    assert run(shell("trap '' TERM; while :; do sleep 0.05; done"), limit=0.1)[0] == 1
    assert "died of signal 9" in caplog.text


def test_a_stop_ends_it_before_its_limit() -> None:
    count, lasted = run(shell("sleep 60"), 60.0, Hook.stop)
    assert count == 1
    assert lasted < 2


def test_one_that_nothing_ends_is_given_up(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "SIGNALS", (signal.SIGCONT, signal.SIGCONT))
    started: list[subprocess.Popen[bytes]] = []

    def begin(script: Script) -> subprocess.Popen[bytes]:
        started.append(start(script))
        return started[0]

    count, lasted = run(shell("exec sleep 60"), limit=0.1, begin=begin)
    os.kill(started[0].pid, signal.SIGKILL)
    os.waitpid(started[0].pid, 0)
    assert count == 1
    assert lasted < 3
    assert "cannot be ended" in caplog.text

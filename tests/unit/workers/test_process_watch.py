"""Counted processes: what matches, what the kernel tells, and what is found where it tells nothing."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from keepalived_py.config.model import TrackProcess
from workers import process_watch
from workers.process_watch import Happened, ProcessEvent, ProcessWatcher, matches, parse_event

SOON = 0.5
"""Seconds for what the kernel tells; nothing is looked for in that time."""
FOUND = process_watch.POLL_INTERVAL + 0.3
"""Seconds for what has to be found."""
FOUND_LATE = process_watch.ROUND * process_watch.POLL_INTERVAL + 0.3
"""The same, where an old process becomes another program."""


def proc(*command: str, name: str = "p", **more: Any) -> TrackProcess:
    return TrackProcess(name=name, command=command, **more)


def line(*command: str, match: str = "") -> TrackProcess:
    return proc(*command, full_command=True, param_match=match)


@pytest.mark.parametrize(
    ("config", "comm", "args", "expected"),
    [
        (proc("haproxy"), b"haproxy", [b"anything"], True),
        (proc("haproxy"), b"haproxy2", [], False),
        (proc("ssh"), b"sshd", [], False),
        (proc("a-name-of-20-letters"), b"a-name-of-20-le", [], True),
        (proc("a-name-of-20-letters"), b"a-name-of-20-l", [], False),
        (line("/usr/bin/x"), b"x", [b"/usr/bin/x", b"-v"], True),
        (line("/usr/bin/x"), b"x", [b"x", b"-v"], False),
        (line("x"), b"x", [], False),
        (line("x", match="exact"), b"x", [b"x"], True),
        (line("x", match="exact"), b"x", [b"x", b"-v"], False),
        (line("x", "1", "2", match="exact"), b"x", [b"x", b"1", b"2"], True),
        (line("x", "1", "2", match="exact"), b"x", [b"x", b"1", b"2", b"3"], False),
        (line("x", "1 2", match="exact"), b"x", [b"x", b"1", b"2"], False),
        (line("x", "1", "2", match="partial"), b"x", [b"x", b"1", b"2", b"3"], True),
        (line("x", "1", "2", match="partial"), b"x", [b"x", b"1", b"23"], False),
        (line("x", "1", "2", match="partial"), b"x", [b"x", b"1"], False),
        (line("x", "1", "2", match="initial"), b"x", [b"x", b"1", b"23", b"4"], True),
        (line("x", "1", "2", match="initial"), b"x", [b"x", b"12", b"2"], False),
        (line("x", "1", "2", match="initial"), b"x", [b"x", b"1"], False),
        (line("x", match="initial"), b"x", [b"x", b"1"], True),
    ],
)
def test_what_matches(config: TrackProcess, comm: bytes, args: list[bytes], expected: bool) -> None:
    assert matches(config, comm, args) is expected


def event(what: int, *words: int, index: int = 1, answered: int = 0) -> bytes:
    body = struct.pack("=IIQ6I", what, 0, 0, *words, *[0] * (6 - len(words)))
    return (
        struct.pack("=IHHII", 36 + len(body), 3, 0, 0, 0) + struct.pack("=IIIIHH", index, 1, 9, answered, 40, 0) + body
    )


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (event(0, 0, answered=8), ProcessEvent(Happened.ANSWER, 7)),
        (event(0, 1, answered=8), ProcessEvent(Happened.ANSWER, 7, 1)),
        (event(1, 10, 10, 11, 11), ProcessEvent(Happened.FORK, 11)),
        (event(1, 10, 10, 12, 10), None),
        (event(2, 11, 11), ProcessEvent(Happened.EXEC, 11)),
        (event(0x200, 11, 11), ProcessEvent(Happened.COMM, 11)),
        (event(0x200, 12, 11), None),
        (event(0x80000000, 11, 11), ProcessEvent(Happened.EXIT, 11)),
        (event(0x80000000, 12, 11), None),
        (event(4, 11, 11), None),
        (event(1, 10, 10, 11, 11, index=2), None),
        (event(1, 10, 10, 11, 11)[:50], None),
        (b"", None),
    ],
)
def test_events(data: bytes, expected: ProcessEvent | None) -> None:
    assert parse_event(data) == expected


class Programs:
    """Processes with names that nobody else has."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.running: list[subprocess.Popen[bytes]] = []
        self.number = 0

    def name(self) -> str:
        """A new program that sleeps."""
        self.number += 1
        name = f"kp{os.getpid()}-{self.number}"
        shutil.copy(shutil.which("sleep") or "/bin/sleep", self.directory / name)
        return name

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def run(self, *command: str) -> subprocess.Popen[bytes]:
        self.running.append(subprocess.Popen(command, stdin=subprocess.PIPE, process_group=0))
        return self.running[-1]

    def sleep(self, name: str) -> subprocess.Popen[bytes]:
        """It has its name a moment after Popen believes that it runs."""
        process = self.run(self.path(name), "1000")
        while Path(f"/proc/{process.pid}/comm").read_text() != f"{name}\n":
            time.sleep(0.0005)
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    made = Programs(tmp_path)
    yield made
    for process in made.running:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdin is not None
        process.stdin.close()


class Watching:
    def __init__(self, within: float) -> None:
        self.within = within
        self.told: list[str] = []
        self.watcher = ProcessWatcher(self.told.append)

    async def until(self, condition: Callable[[], object], within: float | None = None) -> float:
        """Seconds that it took."""
        started = time.monotonic()
        while not condition():
            assert time.monotonic() - started < (within or self.within), "never"
            await asyncio.sleep(0.001)
        return time.monotonic() - started

    async def becomes(self, good: bool, within: float | None = None) -> float:
        return await self.until(lambda: self.watcher.good("p") is good, within)

    async def stays(self, good: bool, during: float = 0.1) -> None:
        until = time.monotonic() + during
        while time.monotonic() < until:
            assert self.watcher.good("p") is good
            await asyncio.sleep(0.005)


@asynccontextmanager
async def watching(*configs: TrackProcess, within: float = SOON) -> AsyncIterator[Watching]:
    made = Watching(within)
    made.watcher.apply(configs)
    try:
        await asyncio.sleep(0.05)  # for the answer of the kernel
        yield made
    finally:
        made.watcher.stop()


@pytest.fixture(params=["told", "found"])
def within(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """Both ways to know; how long each may take."""
    if request.param == "found":
        monkeypatch.setattr(process_watch, "ProcessConnector", _refuse)
        return FOUND
    _need_connector()
    monkeypatch.setattr(process_watch, "POLL_INTERVAL", 60.0)
    return SOON


def _refuse(*ignored: object) -> None:
    raise ConnectionRefusedError(111, "Connection refused")


def _need_connector() -> None:
    async def ask() -> bool:
        heard: list[ProcessEvent] = []
        try:
            connector = process_watch.ProcessConnector(heard.append, lambda: None)
        except OSError:
            return False
        await asyncio.sleep(0.1)
        connector.close()
        return any(event.kind is Happened.ANSWER and not event.error for event in heard)

    if not asyncio.run(ask()):
        pytest.skip("the kernel tells of no process events here")


def test_come_and_go(programs: Programs, within: float) -> None:
    name = programs.name()

    async def main() -> None:
        async with watching(proc(name), within=within) as made:
            assert made.watcher.good("p") is False
            assert made.watcher.good("unheard of") is None
            process = programs.sleep(name)
            await made.becomes(True)
            assert made.told == ["p"]
            programs.end(process)
            await made.becomes(False)
            assert made.told == ["p", "p"]

    asyncio.run(main())


def test_what_runs_at_start_counts_and_zombies_do_not(programs: Programs, within: float) -> None:
    name = programs.name()
    process, zombie = programs.sleep(name), programs.sleep(name)
    zombie.kill()
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)

    async def main() -> None:
        async with watching(proc(name), within=within) as made:
            assert made.watcher.count("p") == 1
            process.kill()  # and nobody waits for it
            await made.becomes(False)
            await made.stays(False, within)

    asyncio.run(main())


def test_quorum_and_its_upper_limit(programs: Programs, within: float) -> None:
    name = programs.name()
    running = [programs.sleep(name)]

    async def main() -> None:
        async with watching(proc(name, quorum=2, quorum_max=2), within=within) as made:
            await made.stays(False)
            running.append(programs.sleep(name))
            await made.becomes(True)
            running.append(programs.sleep(name))
            await made.becomes(False)
            programs.end(running.pop())
            await made.becomes(True)
            assert made.watcher.count("p") == 2

    asyncio.run(main())


def test_exec_and_rename(programs: Programs, within: float) -> None:
    first, second, third = programs.name(), programs.name(), programs.name()
    script = f"import os,sys,time; open('/proc/self/comm','w').write('{first}'); sys.stdin.readline(); "
    script += f"os.execv('{programs.path(second)}', ['{third}', '1000'])"

    async def main() -> None:
        configs = (proc(first), proc(second, name="q"), proc(third, name="r", full_command=True))
        async with watching(*configs, within=max(within, FOUND_LATE)) as made:
            process = programs.run("python3", "-S", "-c", script)
            assert process.stdin is not None
            await made.becomes(True, 2)
            process.stdin.write(b"\n")
            process.stdin.close()
            await made.becomes(False)
            await made.until(lambda: made.watcher.good("q") and made.watcher.good("r"))

    asyncio.run(main())


def test_delays(programs: Programs, within: float) -> None:
    name = programs.name()
    fork = f"import os,time; open('/proc/self/comm','w').write('{name}'); os.fork(); time.sleep(1000)"

    async def main() -> None:
        delays = {"fork_delay": 0.5, "terminate_delay": 0.4}
        async with watching(proc(name, quorum=2, **delays), within=within) as made:
            process = programs.run("python3", "-S", "-c", fork)
            await made.until(lambda: made.watcher.count("p") == 2, 2)
            await made.stays(False, 0.3)
            await made.becomes(True, 0.3)
            os.kill(process.pid, signal.SIGKILL)
            await made.until(lambda: made.watcher.count("p") == 1, 0.3)
            await made.stays(True, 0.3)
            await made.becomes(False, 0.3)

    asyncio.run(main())


def test_a_process_that_is_started_again_in_time_was_never_gone(programs: Programs, within: float) -> None:
    name = programs.name()
    process = programs.sleep(name)

    async def main() -> None:
        async with watching(proc(name, terminate_delay=0.6), within=within) as made:
            programs.end(process)
            await made.until(lambda: made.watcher.count("p") == 0)
            programs.sleep(name)
            await made.until(lambda: made.watcher.count("p") == 1)
            await made.stays(True, 0.7)
            assert not made.told

    asyncio.run(main())


def test_another_configuration(programs: Programs, within: float) -> None:
    name, other = programs.name(), programs.name()
    process = programs.sleep(name)

    async def main() -> None:
        async with watching(proc(name), proc("none", name="q"), within=within) as made:
            made.watcher.apply([proc(name, quorum=2)])
            assert (made.watcher.good("p"), made.watcher.good("q")) == (False, None)
            programs.sleep(name)
            await made.becomes(True)
            made.watcher.apply([proc(other)])
            assert made.watcher.good("p") is False
            programs.end(process)
            programs.sleep(other)
            await made.becomes(True)
            made.watcher.apply([])
            assert made.watcher.good("p") is None
            made.watcher.apply([proc(other)])
            assert made.watcher.good("p") is True

    asyncio.run(main())


def test_a_pending_delay_survives_a_reload(programs: Programs, within: float) -> None:
    name = programs.name()
    process = programs.sleep(name)

    async def main() -> None:
        async with watching(proc(name, terminate_delay=0.5), within=within) as made:
            programs.end(process)
            await made.until(lambda: made.watcher.count("p") == 0)
            made.watcher.apply([proc(name, terminate_delay=0.5, weight=3)])
            await made.stays(True, 0.3)
            await made.becomes(False, 0.5)

    asyncio.run(main())


def test_nothing_is_left_open(programs: Programs, within: float) -> None:
    name = programs.name()
    programs.sleep(name)

    async def main() -> None:
        before = len(os.listdir("/proc/self/fd"))
        async with watching(proc(name), within=within) as made:
            await made.becomes(True)
            await made.until(lambda: len(os.listdir("/proc/self/fd")) == before + 1)
        assert len(os.listdir("/proc/self/fd")) == before

    asyncio.run(main())


def test_the_end_is_told_even_where_the_start_has_to_be_found(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_watch, "ProcessConnector", _refuse)
    monkeypatch.setattr(process_watch, "POLL_INTERVAL", 60.0)
    name = programs.name()
    process = programs.sleep(name)

    async def main() -> None:
        async with watching(proc(name)) as made:
            assert made.watcher.good("p") is True
            process.kill()
            await made.becomes(False)

    asyncio.run(main())


def test_lost_events_mean_counting_again(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    name = programs.name()
    made_with: list[tuple[Any, Any]] = []

    class Silent:
        def __init__(self, heard: Any, lost: Any, room: Any) -> None:
            made_with.append((heard, lost))
            asyncio.get_running_loop().call_soon(heard, ProcessEvent(Happened.ANSWER, os.getpid()))

        def close(self) -> None:
            pass

    monkeypatch.setattr(process_watch, "ProcessConnector", Silent)

    async def main() -> None:
        async with watching(proc(name)) as made:
            programs.sleep(name)
            await asyncio.sleep(0.1)
            await made.stays(False, FOUND)
            made_with[0][1]()
            assert made.watcher.good("p") is True

    asyncio.run(main())


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_what_cannot_be_looked_at_is_neither_there_nor_gone(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, within: float, number: int
) -> None:
    name, other = programs.name(), programs.name()
    broken: list[object] = []

    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: broken.append(context))
        first = programs.sleep(name)
        async with watching(proc(name), proc(other, name="q"), within=within) as made:
            await made.becomes(True)
            with monkeypatch.context() as short:
                short.setattr(os, "open", refuse)
                short.setattr(os, "listdir", refuse)
                programs.sleep(other)
                await made.stays(True, 2.5 * process_watch.AGAIN)
            await made.until(lambda: made.watcher.good("q"), FOUND)
            assert made.told == ["q"]
            programs.end(first)
            await made.becomes(False)
            with monkeypatch.context() as short:
                short.setattr(os, "open", refuse)
                programs.sleep(name)
                await made.stays(False)
        assert made.watcher._retry is None

    asyncio.run(main())
    assert broken == []


def test_a_kernel_that_says_no_is_not_waited_for(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    name = programs.name()
    closed: list[bool] = []

    class Refusing:
        def __init__(self, heard: Any, lost: Any, room: Any) -> None:
            asyncio.get_running_loop().call_soon(heard, ProcessEvent(Happened.ANSWER, os.getpid(), 1))

        def close(self) -> None:
            closed.append(True)

    monkeypatch.setattr(process_watch, "ProcessConnector", Refusing)

    async def main() -> None:
        async with watching(proc(name), within=FOUND) as made:
            programs.sleep(name)
            await made.becomes(True)
            assert closed == [True]

    asyncio.run(main())

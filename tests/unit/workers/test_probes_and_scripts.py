"""Checkers against real and hostile servers on loopback; scripts and who is told."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from keepalived_py.checks.state import CheckerState
from keepalived_py.config.model import CheckTiming, Endpoint, HttpCheck, HttpUrl, MiscCheck, Script, TcpCheck
from keepalived_py.parent.child import collected
from keepalived_py.values import RealKey, ServiceKey, ip_address
from tests.unit.workers.helpers_check import descriptors, probe
from workers import notify, scripts
from workers.checker.http import HttpChecker, HttpClient
from workers.checker.misc import MiscChecker
from workers.checker.probe import Result
from workers.checker.task import CheckerTask, Scheduler
from workers.checker.tcp import TcpChecker
from workers.notify import Notifier
from workers.tuning import keep_descriptors

TIMING = CheckTiming(connect_timeout=0.4)
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def shell(text: str, *args: str) -> Script:
    return Script(argv=("/bin/sh", "-c", text, "sh", *args))


def against(serve: Serve, make: Callable[[Endpoint, HttpClient], Any]) -> tuple[Result, float]:
    """The result of one probe of a server that behaves like `serve`, and the seconds it took."""

    async def main() -> tuple[Result, float]:
        async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await serve(reader, writer)
                await writer.drain()
            except (ConnectionError, asyncio.CancelledError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(guarded, "127.0.0.1", 0)
        client = HttpClient()
        started = time.monotonic()
        try:
            endpoint = Endpoint(address=ip_address("127.0.0.1"), port=server.sockets[0].getsockname()[1])
            return await probe(make(endpoint, client)), time.monotonic() - started
        finally:
            await client.close()
            server.close()

    return asyncio.run(main())


def http(*urls: HttpUrl, protocol: str = "1.0") -> Callable[[Endpoint, HttpClient], Any]:
    return lambda endpoint, client: HttpChecker(
        HttpCheck(timing=TIMING, endpoint=endpoint, urls=urls or (HttpUrl(path="/"),), http_protocol=protocol), client
    )


def answer(text: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(text)

    return serve


def test_tcp() -> None:
    result, _ = against(answer(b""), lambda endpoint, _: TcpChecker(TcpCheck(timing=TIMING, endpoint=endpoint)))
    assert result.success


def test_tcp_refused() -> None:
    endpoint = Endpoint(address=ip_address("127.0.0.1"), port=1)
    result = asyncio.run(probe(TcpChecker(TcpCheck(timing=TIMING, endpoint=endpoint))))
    assert result.failure == "connect: Connection refused"


def test_a_source_address_that_is_not_ours_says_nothing_about_the_server() -> None:
    endpoint = Endpoint(address=ip_address("127.0.0.1"), port=1, bindto=ip_address("192.0.2.1"))
    result = asyncio.run(probe(TcpChecker(TcpCheck(timing=TIMING, endpoint=endpoint))))
    assert not result.made
    assert "binding the socket" in result.failure


def test_http_from_a_source_address_that_is_not_ours_says_nothing_about_the_server() -> None:
    async def main() -> Result:
        client = HttpClient()
        endpoint = Endpoint(address=ip_address("127.0.0.1"), port=1, bindto=ip_address("192.0.2.1"))
        try:
            return await probe(
                HttpChecker(HttpCheck(timing=TIMING, endpoint=endpoint, urls=(HttpUrl(path="/"),)), client)
            )
        finally:
            await client.close()

    result = asyncio.run(main())
    assert not result.made
    assert "binding the socket" in result.failure


BODY = b"hello\n"
DIGEST = hashlib.md5(BODY).hexdigest()
OK = b"HTTP/1.0 200 OK\r\n\r\n" + BODY


@pytest.mark.parametrize(
    ("text", "url", "failure"),
    [
        (OK, HttpUrl(path="/"), ""),
        (OK, HttpUrl(path="/", digest=DIGEST), ""),
        (OK, HttpUrl(path="/", digest="0" * 32), f"/: digest {DIGEST}"),
        (b"HTTP/1.0 204 No\r\n\r\n", HttpUrl(path="/x"), ""),
        (b"HTTP/1.0 302 Go\r\nLocation: /\r\n\r\n", HttpUrl(path="/x"), "/x: status 302"),
        (b"HTTP/1.0 302 Go\r\nLocation: /\r\n\r\n", HttpUrl(path="/x", statuses=((200, 204), (302, 302))), ""),
        (b"HTTP/1.1 503 Sorry\r\nContent-Length: 0\r\n\r\n", HttpUrl(path="/"), "/: status 503"),
    ],
)
def test_http(text: bytes, url: HttpUrl, failure: str) -> None:
    assert against(answer(text), http(url))[0].failure == failure


@pytest.mark.parametrize(
    "text", [b"", b"\x00\xff" * 500, b"HTTP/1.0 abc\r\n\r\n", b"HTTP/1.0 200 OK\r\n" + b"a: b\r\n" * 1000000]
)
def test_nonsense_is_a_failure(text: bytes) -> None:
    result, took = against(answer(text), http())
    assert result.failure
    assert took < 1.5


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One byte every now and then, for ever."""
    writer.write(b"HTTP/1.0 200 OK\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As much as the reader takes, for ever."""
    writer.write(b"HTTP/1.0 200 OK\r\n\r\n")
    while True:
        writer.write(bytes(65536))
        await writer.drain()


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(5)


@pytest.mark.parametrize("serve", [drip, flood, silence])
def test_hostile_servers_get_their_verdict_on_time(serve: Serve) -> None:
    result, took = against(serve, http())
    assert result.failure == "no answer within 0.4s"
    assert took < 0.8


@pytest.mark.parametrize(
    ("protocol", "virtualhost", "first", "lines"),
    [
        ("1.0", "", b"GET /a?b=%20c HTTP/1.0", {b"User-Agent: KeepAliveClient"}),
        ("1.0C", "www.example.com", b"GET /a?b=%20c HTTP/1.0", {b"Connection: close", b"Host: www.example.com"}),
        ("1.1", "", b"GET /a?b=%20c HTTP/1.1", {b"Connection: close"}),
    ],
)
def test_the_request(protocol: str, virtualhost: str, first: bytes, lines: set[bytes]) -> None:
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    assert against(serve, http(HttpUrl(path="/a?b=%20c", virtualhost=virtualhost), protocol=protocol))[0].success
    assert seen[0] == first
    assert lines <= set(seen)
    allowed = {b"User-Agent", b"Host", b"Connection"}
    assert {line.partition(b":")[0] for line in seen[1:] if line} <= allowed
    assert protocol != "1.0" or not any(line.startswith(b"Connection: keep") for line in seen)


@pytest.mark.parametrize(
    ("text", "dynamic", "failure", "points"),
    [
        ("exit 0", False, "", None),
        ("exit 3", False, "exited with status 3", None),
        ("kill -9 $$", False, "died of signal 9", None),
        ("exit 0", True, "", None),
        ("exit 1", True, "exited with status 1", None),
        ("exit 12", True, "", 5),
        ("exit 2", True, "", -5),
        ("exit 255", True, "", 248),
        ("kill -9 $$", True, "died of signal 9", None),
        ("sleep 9", False, "timed out", None),
    ],
)
def test_misc(text: str, dynamic: bool, failure: str, points: int | None) -> None:
    config = MiscCheck(timing=TIMING, script=shell(text), timeout=0.3, dynamic=dynamic)
    result = asyncio.run(probe(MiscChecker(config, weight=5)))
    assert (result.failure, result.points) == (failure, points)


def test_a_script_that_is_not_there_says_nothing_about_the_server() -> None:
    config = MiscCheck(timing=TIMING, script=Script(argv=("/none/such",)), timeout=1)
    assert not asyncio.run(probe(MiscChecker(config, weight=5))).made


def outcome(script: Script, *args: str, limit: float = 2.0, **environment: str) -> scripts.Outcome:
    return asyncio.run(scripts.run(script, args, limit=limit, environment=environment, listen=True))


def test_a_script_gets_arguments_environment_and_a_group_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LD_PRELOAD", "LD_LIBRARY_PATH", "IFS"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("ELSE", "else")
    scripts._own_environment.cache_clear()
    shown = 'echo "$1 $2 $WHY $ELSE ${LD_PRELOAD-unset} ${LD_LIBRARY_PATH-unset}"; ps -o pgid= $$; env | grep -c ^IFS='
    first, second, third = outcome(shell(shown), "a b", "c", WHY="because").output.split("\n")
    assert first == "a b c because else unset unset"
    assert third == "0"
    assert int(second) != os.getpgid(0)


def test_another_file_is_run_by_the_name_that_was_given(tmp_path: Path) -> None:
    (tmp_path / "shell").symlink_to("/bin/sh")
    script = Script(argv=("/bin/nothing", "-c", "tr '\\0' ' ' </proc/$$/cmdline"), path=str(tmp_path / "shell"))
    outcome = asyncio.run(scripts.run(script, limit=5, listen=True))
    assert outcome.output.startswith("/bin/nothing -c ")


def test_a_file_without_an_interpreter_line_is_run_by_the_shell(tmp_path: Path) -> None:
    path = tmp_path / "it's"
    path.write_text('echo "$0,$1,$2,$3"; exit 3\n')
    path.chmod(0o755)
    script = Script(argv=(str(path), "a", "b 'c' $HOME"))
    outcome = asyncio.run(scripts.run(script, ("MASTER",), limit=5, listen=True))
    assert (outcome.status, outcome.output) == (3, f"{path},a,b 'c' $HOME,MASTER")


GLIBC_IGNORES = 1 << 31 | 1 << 32
"""Signals 32 and 33, its own, in whatever posix_spawn makes."""


@pytest.mark.parametrize("how", ["spawned", "forked"])
def test_a_script_gets_no_descriptor_and_no_ignored_signal(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "forked":
        monkeypatch.setattr(scripts, "spawn", scripts.start)
    with socket.socket() as inherited, open("/dev/null"):
        inherited.set_inheritable(True)
        keep_descriptors()
        found = outcome(shell("cd /proc/self/fd; readlink 0; echo *; grep SigIgn /proc/$$/status; echo bad >&2"))
    *words, ignored, last = found.output.split()
    assert [*words, last] == ["/dev/null", "0", "1", "2", "3", "SigIgn:", "bad"]  # the list itself is 3
    ours = (signal.SIGPIPE, signal.SIGXFSZ)  # Python ignores these; others whoever started this test, as nohup does
    given = sum(1 << number - 1 for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN)
    given &= ~sum(1 << number - 1 for number in ours)
    assert int(ignored, 16) & ~GLIBC_IGNORES & ~given == 0


def test_a_script_is_waited_for_also_without_a_descriptor() -> None:
    async def main() -> list[scripts.Outcome]:
        await asyncio.sleep(0)  # the loop has all that it needs
        with descriptors(0):
            return [
                await scripts.run(shell("exit 3"), limit=9),
                await scripts.run(shell("sleep 9"), limit=0.2),
                await scripts.run(shell("exit 0"), limit=9, listen=True),
            ]

    status, late, deaf = asyncio.run(main())
    assert (status.status, status.timed_out) == (3, False)
    assert late.timed_out
    assert (deaf.status, "Too many open files" in deaf.error) == (None, True)


def test_a_script_that_ignores_sigterm_is_killed() -> None:
    started = time.monotonic()
    found = outcome(shell("trap '' TERM; while :; do sleep 0.1; done"), limit=0.2)
    assert found.timed_out
    assert not found.success
    assert 2.0 < time.monotonic() - started < 4.0


def test_a_script_that_cannot_be_killed_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hangs in the kernel, on a file server that is gone, has no exit status; here no signal reaches it."""
    monkeypatch.setattr(scripts, "_signal", lambda process, number: None)
    monkeypatch.setattr(scripts, "KILL_AFTER", 0.1)
    config = MiscCheck(timing=TIMING, script=shell("exec sleep 1"), timeout=0.1)
    result = asyncio.run(probe(MiscChecker(config, 1)))
    assert (result.made, result.failure) == (True, "timed out")


def test_output_is_limited_and_never_blocks() -> None:
    found = outcome(shell("yes | head -c 1000000"))
    assert found.success
    assert len(found.output) <= scripts.OUTPUT_LIMIT


def test_readable_files(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    assert outcome(Script(argv=(str(tmp_path / "f"),), readable_only=True)).success
    assert not outcome(Script(argv=(str(tmp_path / "g"),), readable_only=True)).success


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_script_runs_as_its_user() -> None:
    found = outcome(Script(argv=("/usr/bin/id", "-u"), uid=65534, gid=65534))
    assert found.output == "65534"


def test_scripts_of_one_subject_run_in_order_one_at_a_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = tmp_path / "log"

    async def main() -> float:
        notifier = Notifier(time_limit=5.0)
        for number in range(5):
            notifier.run("VI_1", shell(f"echo start $1 >> {log}; sleep 0.05; echo end $1 >> {log}"), (str(number),))
        notifier.run("VI_2", shell("echo heard; echo; echo twice; exit 3"))
        notifier.run("VI_2", None)
        started = time.monotonic()
        await notifier.finish(5.0)
        return time.monotonic() - started

    assert asyncio.run(main()) < 3
    assert log.read_text().split() == [word for n in "01234" for word in ("start", n, "end", n)]
    told = "(VI_2) script /bin/sh -c echo heard; echo; echo twice; exit 3 sh"
    assert [text for text in caplog.messages if text.startswith(f"{told}: ")] == [f"{told}: heard", f"{told}: twice"]
    assert "exited with status 3" in caplog.text


def test_a_script_that_may_not_be_signalled_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without CAP_KILL, and the script is another user's."""

    def refuse(pid: int, number: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(scripts, "KILL_AFTER", 0.02)
    monkeypatch.setattr(os, "killpg", refuse)
    outcome = asyncio.run(scripts.run(shell("exec sleep 0.5"), limit=0.02))
    assert outcome == scripts.Outcome(None, timed_out=True)
    while children_left():
        list(collected())
        time.sleep(0.01)


def test_of_scripts_that_cannot_keep_up_the_newest_are_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "MOST_WAITING", 3)
    log = tmp_path / "log"

    async def main() -> None:
        notifier = Notifier(time_limit=5.0)
        for number in range(100):
            notifier.run("VI_1", shell(f"echo $1 >> {log}"), (str(number),))
        await notifier.finish(5.0)

    asyncio.run(main())
    assert log.read_text().split() == ["97", "98", "99"]
    assert "(VI_1) more than 3 scripts wait: the oldest are not run" in caplog.text


def children_left() -> bool:
    """Whether any process has not been collected."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return True
    return False


def test_nobody_waits_for_what_even_sigkill_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process does not that hangs on a file server; here nobody sends it a signal."""
    monkeypatch.setattr(scripts, "KILL_AFTER", 0.02)
    monkeypatch.setattr(scripts, "_signal", lambda process, number: None)
    before = os.listdir("/proc/self/fd")

    async def main() -> tuple[list[scripts.Outcome], float]:
        started, told = time.monotonic(), asyncio.Event()
        told.set()
        run = await scripts.run(shell("exec sleep 0.4"), limit=0.02)
        served, _ = await scripts.serve(shell("exec sleep 0.4"), (), told)
        took = time.monotonic() - started
        for _ in range(200):
            if not children_left():
                break
            await asyncio.sleep(0.01)
        return [run, served], took

    outcomes, took = asyncio.run(main())
    assert outcomes == [scripts.Outcome(None, timed_out=True), scripts.Outcome(None)]
    assert took < 0.35
    assert not children_left()
    assert os.listdir("/proc/self/fd") == before


def test_what_does_not_finish_at_a_stop_is_ended() -> None:
    async def main() -> float:
        notifier = Notifier(time_limit=60.0)
        notifier.run("VI_1", shell("sleep 30"))
        await asyncio.sleep(0.05)
        started = time.monotonic()
        await notifier.finish(0.2)
        return time.monotonic() - started

    assert asyncio.run(main()) < 1


def test_checks_are_made_on_schedule_until_stopped() -> None:
    made: list[str] = []

    class Good:
        name = "GOOD"
        limit = 1.0

        async def check(self) -> None:
            made.append("x")

    async def main() -> None:
        scheduler = Scheduler(lambda task, result: None)
        timing = CheckTiming(delay_loop=0.05, warmup=0.0)
        config = TcpCheck(timing=timing, endpoint=Endpoint(address=ip_address("127.0.0.1"), port=1))
        tasks = [
            CheckerTask(
                ServiceKey(fwmark=1), RealKey(ip_address("127.0.0.1"), 1), config, (Good(),), CheckerState(timing)
            )
            for _ in range(3)
        ]
        for task in tasks:
            scheduler.add(task)
        await asyncio.sleep(1.22)
        scheduler.remove(tasks[0])
        assert all(3 <= task.runs <= 6 for task in tasks)
        await scheduler.stop()
        count = len(made)
        await asyncio.sleep(0.1)
        assert len(made) == count

    asyncio.run(main())

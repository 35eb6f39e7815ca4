"""Checks that are connections: every way in which one can end, and many at a time."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from keepalived_py.config.model import CheckTiming, Endpoint, HttpCheck, HttpUrl, TcpCheck
from tests.unit.workers.helpers_check import ON_TIME, PATIENT, TIMING, Make, Serve, against, descriptors, endpoint
from workers.checker import connections as module
from workers.checker.connections import ConnectionChecker, Connections, Dialogue, Target
from workers.checker.http import HttpChecker, HttpClient
from workers.checker.http_plain import PlainHttpChecker
from workers.checker.probe import WELL, Result
from workers.checker.tcp import TcpChecker

OK = b"HTTP/1.1 200 OK\r\n"


def tcp(target: Endpoint, timing: CheckTiming = PATIENT) -> TcpChecker:
    return TcpChecker(TcpCheck(timing=timing, endpoint=target))


def http(target: Endpoint, *urls: HttpUrl, timing: CheckTiming = PATIENT) -> PlainHttpChecker:
    return PlainHttpChecker(HttpCheck(timing=timing, endpoint=target, urls=urls or (HttpUrl(path="/"),)))


def result_of(serve: Serve, timing: CheckTiming = PATIENT, *urls: HttpUrl) -> Result:
    return against(serve, lambda target, _: http(target, *urls, timing=timing))[0]


def reset(writer: asyncio.StreamWriter) -> None:
    sock: Any = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@pytest.fixture
def silent() -> Iterator[Endpoint]:
    """Accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield endpoint(sock.getsockname()[1])


@pytest.fixture
def full() -> Iterator[Endpoint]:
    """Lets nobody connect: its queue is full."""
    with ExitStack() as stack:
        sock = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(sock.getsockname())
        yield endpoint(sock.getsockname()[1])


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# each phase --------------------------------------------------------------------------------------------------------


async def reset_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    reset(writer)


async def reset_instead_of_an_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    reset(writer)


async def reset_in_the_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(OK + b"Content-Length: 10\r\n\r\nab")
    await writer.drain()
    await asyncio.sleep(0.05)
    reset(writer)


async def reset_in_an_endless_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(OK + b"\r\nab")
    await writer.drain()
    await asyncio.sleep(0.05)
    reset(writer)


RESETS = [reset_at_once, reset_instead_of_an_answer, reset_in_the_body, reset_in_an_endless_body]


@pytest.mark.parametrize("serve", RESETS)
def test_a_reset_is_a_failure_in_every_phase(serve: Serve) -> None:
    assert result_of(serve).failure.partition(": ")[2] == "Connection reset by peer"


@pytest.mark.parametrize("serve", RESETS)
def test_so_it_is_where_a_pattern_is_looked_for(serve: Serve) -> None:
    urls = (HttpUrl(path="/", regex="ab"),)
    config = HttpCheck(timing=PATIENT, endpoint=endpoint(1), urls=urls)
    found, _ = against(serve, lambda target, client: HttpChecker(replace(config, endpoint=target), client))
    assert "reset" in found.failure.lower()


async def half_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write_eof()
    await reader.read()


async def half_closed_behind_the_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK + b"\r\nall")
    writer.write_eof()
    await reader.read()


def test_the_end_of_what_a_server_says_is_enough() -> None:
    assert result_of(half_closed).failure == "/: the server closed the connection"
    assert result_of(half_closed_behind_the_answer) == WELL


async def slow_reader(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.05)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split()[0])
    body = await reader.readexactly(length)
    writer.write(b"HTTP/1.1 %d OK\r\nContent-Length: 0\r\n\r\n" % (200 if set(body) == {ord("x")} else 500))


def test_a_request_that_the_server_takes_in_pieces() -> None:
    assert result_of(slow_reader, PATIENT, HttpUrl(path="/", method="POST", body="x" * 8_000_000)) == WELL


async def answers_in_pieces(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    for part in (b"HTT", b"P/1.1 200 OK\r\nContent-", b"Length: 100000\r\n\r\n", b"y" * 50_000, b"y" * 50_000):
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0.005)
    await reader.read()


def test_an_answer_in_pieces_and_larger_than_what_is_read_at_a_time() -> None:
    digest = hashlib.md5(b"y" * 100_000).hexdigest()
    assert result_of(answers_in_pieces, PATIENT, HttpUrl(path="/", digest=digest)) == WELL


@pytest.mark.parametrize("kind", [PlainHttpChecker, HttpChecker])
def test_each_checker_asks_for_one_url(kind: Any) -> None:
    """Within a time of its own."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
        await asyncio.sleep(5 if path == b"/late" else 0)
        writer.write(b"HTTP/1.0 %d X\r\n\r\n" % (200 if path == b"/a" else 404))

    urls = tuple(HttpUrl(path=path) for path in ("/a", "/b", "/late"))

    def visiting(number: int) -> Make:
        def make(target: Endpoint, client: HttpClient) -> Any:
            config = HttpCheck(timing=TIMING if number == 2 else PATIENT, endpoint=target, urls=urls)
            return kind(config, number) if kind is PlainHttpChecker else kind(config, client, number)

        return make

    assert against(serve, visiting(0))[0] == WELL
    assert against(serve, visiting(1))[0] == Result("/b: status 404")
    result, took = against(serve, visiting(2))
    assert result == Result("no answer within 0.4s")
    assert took < ON_TIME


# what this host lacks ------------------------------------------------------------------------------------------------


def run(work: Callable[[Connections], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        unhandled: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
        connections = Connections()
        try:
            return await work(connections)
        finally:
            connections.close()
            assert unhandled == []

    return asyncio.run(main())


async def ended(connections: Connections, checker: ConnectionChecker) -> Result:
    future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    connections.start(checker, lambda _, result: future.set_result(result), None)
    return await future


@pytest.mark.parametrize("free", [0, 1])
def test_without_descriptors_nothing_is_said_of_the_server(free: int, silent: Endpoint) -> None:
    """The last one goes to the socket, and there is none for the epoll."""

    async def main(connections: Connections) -> tuple[Result, Result]:
        with descriptors(free):
            poor = await ended(connections, tcp(silent))
        rich = await ended(connections, tcp(silent))
        assert len(connections) == 0
        return poor, rich

    poor, rich = run(main)
    assert not poor.made
    assert poor.failure == f"{'socket' if free == 0 else 'epoll'}: Too many open files"
    assert rich == WELL


@pytest.mark.parametrize("code", [errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.EAGAIN])
def test_without_ports_or_memory_nothing_is_said_of_the_server(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Poor(socket.SocketType):
        def connect_ex(self, address: Any) -> int:
            return code

    monkeypatch.setattr(module.socket, "SocketType", Poor)
    result = run(lambda connections: ended(connections, tcp(endpoint(9))))
    assert not result.made
    assert result.failure.startswith("connect: ")


def test_a_refused_connection_is_the_servers_failure() -> None:
    result = run(lambda connections: ended(connections, tcp(endpoint(1))))
    assert result == Result("connect: Connection refused")


@pytest.mark.parametrize("code", [errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT, errno.ECONNRESET])
def test_so_is_a_server_that_cannot_be_reached(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Far(socket.SocketType):
        def connect_ex(self, address: Any) -> int:
            return code

    monkeypatch.setattr(module.socket, "SocketType", Far)
    result = run(lambda connections: ended(connections, tcp(endpoint(9))))
    assert result == Result(f"connect: {os.strerror(code)}")


# many ----------------------------------------------------------------------------------------------------------------


def test_many_at_a_time_end_each_with_its_own_verdict_while_events_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond BUSY events are handled in turns that somebody else makes, and the loop watches again afterwards."""
    monkeypatch.setattr(module, "BUSY", 5)
    busy, moderate = set[bool](), Connections._moderate

    def noted(self: Connections, now_busy: bool) -> None:
        """How long it is so depends on the machine."""
        busy.add(now_busy)
        moderate(self, now_busy)

    monkeypatch.setattr(Connections, "_moderate", noted)

    async def main(connections: Connections) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            number = int((await reader.readuntil(b"\r\n\r\n")).split()[1][1:])
            writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % (200 if number % 3 else 404))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=512)
        target = endpoint(server.sockets[0].getsockname()[1])
        checks = [http(target, HttpUrl(path=f"/{number}")) for number in range(300)]
        found = await asyncio.gather(*(ended(connections, check) for check in checks))
        assert [result.success for result in found] == [bool(number % 3) for number in range(300)]
        assert True in busy
        await until(lambda: not connections.busy)
        assert await ended(connections, checks[1]) == WELL
        server.close()

    run(main)


class Costly(Dialogue):
    """Takes 5 ms of the processor to hear anything."""

    __slots__ = ("verdict",)
    opening = b"go on"

    def __init__(self, verdict: Result | None) -> None:
        self.verdict = verdict

    def hear(self, data: bytes) -> Result | None:
        until = time.monotonic() + 0.005
        while time.monotonic() < until:
            pass
        return self.verdict


class CostlyChecker(ConnectionChecker):
    __slots__ = ("target", "verdict")
    name, limit = "COSTLY", 2.0

    def __init__(self, target: Endpoint, verdict: Result | None) -> None:
        self.target, self.verdict = Target(target), verdict

    def dialogue(self) -> Dialogue:
        return Costly(self.verdict)


@pytest.mark.parametrize("verdict", [None, WELL])
def test_what_is_costly_to_hear_does_not_stop_the_loop(verdict: Result | None) -> None:
    """A hundred servers that speak at a time, which takes half a second to hear; what waits is not forgotten."""

    async def main(connections: Connections) -> None:
        with ExitStack() as held:
            door = held.enter_context(socket.create_server(("127.0.0.1", 0), backlog=200))
            checker = CostlyChecker(endpoint(door.getsockname()[1]), verdict)
            told: list[Result] = []
            for _ in range(100):
                connections.start(checker, lambda _, result: told.append(result), None)
                held.enter_context(door.accept()[0]).sendall(bytes(8 * module.CHUNK if verdict is None else 10))
            worst, last = 0.0, time.monotonic()
            while len(told) < 100:
                await asyncio.sleep(0)
                worst, last = max(worst, time.monotonic() - last), time.monotonic()
            assert set(told) == {verdict or Result("no answer within 2s")}
            assert worst < 0.25

    run(main)


def test_what_is_cancelled_has_no_result_also_from_within_a_result(silent: Endpoint) -> None:
    async def main(connections: Connections) -> None:
        told: list[str] = []
        started: dict[str, Any] = {}

        def done(name: str, result: Result) -> None:
            told.append(name)
            for other in set(started) - {name}:
                started[other].cancel()
                started[other].cancel()

        for name in ("a", "b", "c"):
            started[name] = connections.start(tcp(silent), done, name)
        await until(lambda: told)
        await asyncio.sleep(0.05)
        assert (len(told), len(connections)) == (1, 0)

    run(main)


def test_an_event_of_a_cancelled_check_is_not_the_next_ones_who_gets_its_descriptor(
    silent: Endpoint, full: Endpoint
) -> None:
    async def main(connections: Connections) -> None:
        told: list[tuple[str, Result]] = []
        started: dict[str, Any] = {}
        taken: list[int] = []

        def tell(name: str, result: Result) -> None:
            told.append((name, result))

        def first(name: str, result: Result) -> None:
            tell(name, result)
            taken.append(os.dup(0))  # the number of the one that has ended
            other = started[{"a": "b", "b": "a"}[name]]
            number = other.descriptor
            other.cancel()
            following = connections.start(tcp(full, TIMING), tell, "following")
            assert following is not None
            assert following.descriptor == number

        for name in ("a", "b"):
            started[name] = connections.start(tcp(silent), first, name)
        await until(lambda: len(told) == 2)
        os.close(taken[0])
        assert told[1] == ("following", Result("no answer within 0.4s"))

    run(main)


def test_deadlines_of_different_limits_end_in_their_order(silent: Endpoint) -> None:
    async def main(connections: Connections) -> None:
        told: list[float] = []
        for limit in (0.3, 0.1, 0.2, 0.1):
            check = http(silent, timing=CheckTiming(connect_timeout=limit))
            connections.start(check, lambda limit, _: told.append(limit), limit)
        await until(lambda: len(told) == 4)
        assert told == [0.1, 0.1, 0.2, 0.3]

    run(main)


def test_close_ends_all_without_results(silent: Endpoint) -> None:
    async def main(connections: Connections) -> None:
        told: list[Result] = []
        for _ in range(3):
            check = http(silent, timing=CheckTiming(connect_timeout=0.4))
            connections.start(check, lambda _, result: told.append(result), None)
        await asyncio.sleep(0.01)
        connections.close()
        await asyncio.sleep(0.5)
        assert (told, len(connections)) == ([], 0)

    run(main)

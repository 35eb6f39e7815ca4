"""One probe against a server that behaves as a test wants, on loopback and in the loop of the test."""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from keepalived_py.config.model import CheckTiming, Endpoint
from keepalived_py.values import ip_address
from workers.checker import probe as probes
from workers.checker.connections import AnyChecker, ConnectionChecker, Connections
from workers.checker.http import HttpClient
from workers.checker.probe import Result

TIMING = CheckTiming(connect_timeout=0.4)
"""For what has to be given up."""
PATIENT = CheckTiming(connect_timeout=8)
"""For what has to be awaited, however busy the machine is."""
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Make = Callable[[Endpoint, HttpClient], Any]
ON_TIME = 0.9
"""Seconds within which every verdict must be there, with TIMING and a busy machine."""


def endpoint(port: int, address: str = "127.0.0.1", **values: Any) -> Endpoint:
    return Endpoint(address=ip_address(address), port=port, **values)


async def probe(checker: AnyChecker) -> Result:
    """One check, of either kind."""
    if not isinstance(checker, ConnectionChecker):
        return await probes.probe(checker)
    connections = Connections()
    ended: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    connections.start(checker, lambda _, result: ended.set_result(result), None)
    try:
        return await ended
    finally:
        assert len(connections) == 0
        connections.close()


def alone(make: Callable[[HttpClient], Any]) -> tuple[Result, float]:
    """The result of a probe without server, and the seconds it took."""

    async def main() -> tuple[Result, float]:
        client = HttpClient()
        started = time.monotonic()
        try:
            return await probe(make(client)), time.monotonic() - started
        finally:
            await client.close()

    return asyncio.run(main())


def against(
    serve: Serve, make: Make, *, tls: ssl.SSLContext | None = None, address: str = "127.0.0.1"
) -> tuple[Result, float]:
    """The same with a TCP server."""

    async def main() -> tuple[Result, float]:
        async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await serve(reader, writer)
                await writer.drain()
            except (OSError, asyncio.CancelledError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        unhandled: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(str(context)))
        server = await asyncio.start_server(guarded, address, 0, ssl=tls)
        client = HttpClient()
        started = time.monotonic()
        try:
            port = server.sockets[0].getsockname()[1]
            return await probe(make(endpoint(port, address), client)), time.monotonic() - started
        finally:
            await client.close()
            server.close()
            await asyncio.sleep(0)
            assert unhandled == []  # in the worker it would be the end

    return asyncio.run(main())


class Datagrams(asyncio.DatagramProtocol):
    """Answers each datagram with what `answer` makes of it."""

    def __init__(self, answer: Callable[[bytes], Iterable[bytes]]) -> None:
        self.answer = answer

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        for each in self.answer(data):
            self.transport.sendto(each, addr)


def against_udp(
    answer: Callable[[bytes], Iterable[bytes]], make: Callable[[Endpoint], Any], address: str = "127.0.0.1"
) -> tuple[Result, float]:
    """The same with a UDP server."""

    async def main() -> tuple[Result, float]:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: Datagrams(answer), (address, 0))
        started = time.monotonic()
        try:
            port = transport.get_extra_info("sockname")[1]
            return await probe(make(endpoint(port, address))), time.monotonic() - started
        finally:
            transport.close()
            await asyncio.sleep(0)

    return asyncio.run(main())


@contextmanager
def descriptors(free: int) -> Iterator[None]:
    """Only so many more may be opened by this process."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as lowest:
        limit = lowest.fileno() + free
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def peak_memory() -> int:
    """Bytes of memory that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

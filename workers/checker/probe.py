"""What every checker is: one small class whose fields are its configuration, and one coroutine.

No time-out, no retry, no logging, no state: those belong to whoever runs it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from typing import Protocol

from keepalived_py.config.model import Endpoint
from keepalived_py.records import dataclass

from .tls import tls_reason


class CheckFailed(Exception):
    """The real server is unwell; the text is what the operator will read."""


class CheckNotMade(Exception):
    """This host could not make the check (no descriptor, no such source address): says nothing about the server."""


@dataclass(frozen=True, slots=True)
class Result:
    """How one check went. `failure` "" is well; `points` are added to the server's weight, None for none."""

    failure: str = ""
    points: int | None = None
    made: bool = True

    @property
    def success(self) -> bool:
        return not self.failure


WELL = Result()


class Checker(Protocol):
    """`name` as the configuration has it."""

    @property
    def name(self) -> str: ...

    @property
    def limit(self) -> float:
        """Seconds that the whole check may take."""
        ...

    async def check(self) -> int | None:
        """Points for the weight, None for none. Raises CheckFailed or CheckNotMade."""
        ...


async def probe(checker: Checker) -> Result:
    """Make one check under one absolute deadline over everything it does."""
    try:
        async with asyncio.timeout(checker.limit):
            points = await checker.check()
            return WELL if points is None else Result(points=points)
    except TimeoutError:
        return Result(f"no answer within {checker.limit:g}s")
    except CheckFailed as failure:
        return Result(str(failure))
    except CheckNotMade as excuse:
        return Result(str(excuse), made=False)


SO_MARK = 36
OURS = (errno.EADDRNOTAVAIL, errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM)
"""Errors of connecting and sending that are this host's: no port, no memory."""


def open_socket(
    endpoint: Endpoint, kind: int = socket.SOCK_STREAM, protocol: int = 0, family: int = 0
) -> socket.socket:
    """A non-blocking socket bound and marked as the endpoint asks, of its family unless given. Raises CheckNotMade."""
    family = family or (socket.AF_INET if endpoint.address.version == 4 else socket.AF_INET6)
    try:
        sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    except OSError as exc:
        raise CheckNotMade(f"socket: {exc.strerror}") from exc
    try:
        prepare_socket(sock, endpoint)
    except OSError as exc:
        sock.close()
        raise CheckNotMade(f"binding the socket: {exc.strerror}") from exc
    return sock


def prepare_socket(sock: socket.socket, endpoint: Endpoint) -> None:
    """Source address, port, interface and mark. Raises OSError."""
    if endpoint.fwmark:
        sock.setsockopt(socket.SOL_SOCKET, SO_MARK, endpoint.fwmark)
    if endpoint.bind_if:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, endpoint.bind_if.encode() + b"\0")
    if endpoint.bindto is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((str(endpoint.bindto), endpoint.bind_port))


async def connect(sock: socket.socket, endpoint: Endpoint) -> None:
    """Raises CheckFailed and CheckNotMade. The loop's own sock_connect takes twice as long: it looks numbers up."""
    code = begin_connecting(sock, (str(endpoint.address), endpoint.port))
    if code == errno.EINPROGRESS:
        await _writable(sock.fileno())
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise (CheckNotMade if code in OURS else CheckFailed)(f"connect: {os.strerror(code)}")


def begin_connecting(sock: socket.socket, address: tuple[str, int]) -> int:
    """An errno, 0 or EINPROGRESS. Raises CheckNotMade for a scope that is no interface now."""
    try:
        return sock.connect_ex(address)
    except OSError as exc:
        raise CheckNotMade(f"connect: {exc.strerror}") from exc


def failure(what: str, exc: OSError) -> CheckFailed | CheckNotMade:
    """What to raise for an error of a connection. A number that names no address has a scope that is gone."""
    if isinstance(exc, ssl.SSLError):
        return CheckFailed(f"TLS: {tls_reason(exc)}")
    ours = exc.errno in OURS or isinstance(exc, socket.gaierror)
    return (CheckNotMade if ours else CheckFailed)(f"{what}: {reason(exc)}")


async def _writable(descriptor: int) -> None:
    # a number, since selectors describe an unknown socket at length to themselves
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(descriptor, _done, ready)
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def send(sock: socket.socket, data: bytes) -> None:
    """Raises CheckFailed and CheckNotMade."""
    try:
        await asyncio.get_running_loop().sock_sendall(sock, data)
    except OSError as exc:
        raise failure("send", exc) from exc


async def receive(sock: socket.socket, most: int) -> bytes:
    """At most `most` bytes. Raises CheckFailed; ICMP errors come that way too."""
    # what is there already is taken without a pause, so an endless sender would keep the deadline from being noticed
    await asyncio.sleep(0)
    try:
        return await asyncio.get_running_loop().sock_recv(sock, most)
    except OSError as exc:
        raise CheckFailed(f"receive: {reason(exc)}") from exc


def reason(exc: OSError) -> str:
    """The system's words for an error, if it is one of the system's."""
    if isinstance(exc, socket.gaierror):
        return exc.strerror or str(exc)
    if exc.errno and exc.errno > 0:
        return os.strerror(exc.errno)
    return str(exc) or "the server closed the connection"  # asyncio has no words for that in a handshake

"""Servers that note what checkers do to them: when, what came, how it ended. What they answer goes by a script."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

SO_MARK, SO_RCVMARK = 36, 75
ICMP_ECHO = 8


@dataclass
class Visit:
    """One connection or datagram. `signs` are what was seen beside the data."""

    at: float
    data: bytes
    end: str = ""
    peer: tuple[str, int] = ("", 0)
    mark: int = 0
    signs: tuple[str, ...] = ()


class Recorder:
    """Notes visits in order. `script` has a sign for each, + or -, the last one for all that follow."""

    kind = socket.SOCK_STREAM
    protocol = 0

    def __init__(self, port: int, address: str = "127.0.0.1", script: str = "+") -> None:
        self.port, self.address, self.script = port, address, script
        self.visits: list[Visit] = []
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.sock = socket.socket(family, self.kind, self.protocol)
        self.sock.bind((address, port))
        self.sock.settimeout(0.1)
        if self.kind is socket.SOCK_STREAM:
            self.sock.listen(50)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def well(self) -> bool:
        """What is to be said to the visit that has begun."""
        return self.script[min(len(self.visits), len(self.script) - 1)] == "+"

    @property
    def enough(self) -> bool:
        return len(self.visits) >= len(self.script)

    def stop(self) -> None:
        """Visit no more; `close` waits for that."""
        self._over.set()

    def close(self) -> None:
        self._thread.join()
        self.sock.close()

    def _run(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                self.serve_one()

    def serve_one(self) -> None:
        connection, peer = self.sock.accept()
        visit = Visit(time.monotonic(), b"", peer=peer[:2], mark=connection.getsockopt(socket.SOL_SOCKET, SO_MARK))
        with connection:
            connection.settimeout(3)
            try:
                self.talk(connection, visit)
                visit.end = ended(connection, visit)
            except TimeoutError:
                visit.end = "left open"
            except OSError as exc:
                visit.end = type(exc).__name__ if connection.fileno() >= 0 else "over"
        self.visits.append(visit)

    def talk(self, connection: socket.socket, visit: Visit) -> None:
        """Answer; nothing, where a connection is all that is asked for."""


def ended(connection: socket.socket, visit: Visit) -> str:
    """How the other side leaves, and what it says before that."""
    while data := connection.recv(4096):
        visit.data += data
    return "closed"


class Web(Recorder):
    """HTTP: 200 or 500."""

    body = b"HTTP/1.0 %d X\r\nContent-Length: 4\r\n\r\nwell"

    def talk(self, connection: socket.socket, visit: Visit) -> None:
        while b"\r\n\r\n" not in visit.data:
            data = connection.recv(4096)
            if not data:
                return
            visit.data += data
        connection.sendall(self.body % (200 if self.well else 500))
        connection.shutdown(socket.SHUT_WR)


class SecureWeb(Web):
    """The same over TLS: notes the name that was asked for, and the client's certificate."""

    def __init__(self, port: int, context: ssl.SSLContext, script: str = "+") -> None:
        self._context = context
        super().__init__(port, script=script)

    def talk(self, connection: socket.socket, visit: Visit) -> None:
        names: list[str] = []
        self._context.sni_callback = lambda _, name, __: names.append(name or "")
        wrapped = self._context.wrap_socket(connection, server_side=True)
        shown = wrapped.getpeercert() or {}
        subject = [value for part in shown.get("subject", ()) for _, value in part]
        visit.signs = ("SNI", *names, "certificate", *map(str, subject))
        while b"\r\n\r\n" not in visit.data:
            visit.data += wrapped.recv(4096)
        wrapped.sendall(self.body % (200 if self.well else 500))
        with contextlib.suppress(OSError):
            wrapped.unwrap()
        wrapped.close()  # and with it the connection


class Mail(Recorder):
    """SMTP."""

    def talk(self, connection: socket.socket, visit: Visit) -> None:
        connection.sendall(b"220 mx\r\n" if self.well else b"421 later\r\n")
        for answer in (b"250 hello\r\n", b"221 bye\r\n"):
            data = connection.recv(1000)
            visit.data += data
            if data:
                connection.sendall(answer)


class Datagrams(Recorder):
    """UDP: answers what `answer` makes of a datagram, or nothing."""

    kind = socket.SOCK_DGRAM

    def __init__(self, port: int, answer: Callable[[bytes, bool], bytes], script: str = "+") -> None:
        self._answer = answer
        super().__init__(port, script=script)
        self.sock.setsockopt(socket.SOL_SOCKET, SO_RCVMARK, 1)

    def serve_one(self) -> None:
        data, ancillary, _, peer = self.sock.recvmsg(4096, 100)
        marks = [struct.unpack("i", value)[0] for _, kind, value in ancillary if kind == SO_MARK]
        answer = self._answer(data, self.well)
        if answer:
            self.sock.sendto(answer, peer)
        self.visits.append(Visit(time.monotonic(), data, peer=peer[:2], mark=marks[0] if marks else 0))


class Echoes(Recorder):
    """ICMP echo requests to an address, which the kernel answers; without id, sequence number and checksum."""

    kind, protocol = socket.SOCK_RAW, socket.IPPROTO_ICMP

    def serve_one(self) -> None:
        packet = self.sock.recv(4096)
        kind, code, data = packet[20], packet[21], packet[28:]
        if kind == ICMP_ECHO:
            source = socket.inet_ntoa(packet[12:16])
            self.visits.append(Visit(time.monotonic(), data, f"code {code}", (source, 0)))


def gaps(visits: list[Visit], limits: tuple[float, ...]) -> str:
    """How long it was from each visit to the next: for each the number of `limits` that are below it."""
    return "".join(str(sum(after.at - before.at > limit for limit in limits)) for before, after in pairwise(visits))

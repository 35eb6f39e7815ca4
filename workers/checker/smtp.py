"""SMTP_CHECK: a mail server greets, is greeted and says goodbye (checker-behaviour.md 4)."""

from __future__ import annotations

import re
import socket

from keepalived_py.config.model import SmtpCheck
from keepalived_py.records import dataclass

from .probe import CheckFailed, connect, open_socket, receive, send

LINE_LIMIT = 512
STATUS = re.compile(rb"(\d{3})[ \n]")
SHOWN = 60
"""Bytes of an unexpected answer that the log shows."""


@dataclass(frozen=True, slots=True)
class SmtpChecker:
    config: SmtpCheck
    name: str = "SMTP_CHECK"

    @property
    def limit(self) -> float:
        return self.config.timing.connect_timeout

    async def check(self) -> None:
        with open_socket(self.config.endpoint) as sock:
            await connect(sock, self.config.endpoint)
            await _expect(sock, "the greeting", b"220")
            await send(sock, b"HELO " + self.config.helo_name.encode("utf-8", "surrogateescape") + b"\r\n")
            await _expect(sock, "HELO", b"250")
            await send(sock, b"QUIT\r\n")
            await _expect(sock, "QUIT")


async def _expect(sock: socket.socket, what: str, status: bytes | None = None) -> None:
    """Read the first line of an answer; what comes with it is dropped. None: any line. Raises CheckFailed."""
    line = await _line(sock, what)
    if status is None:
        return
    found = STATUS.match(line)
    if found is None or found[1] != status:
        shown = line.rstrip(b"\r\n")[:SHOWN].decode("ascii", "backslashreplace")
        raise CheckFailed(f"answer to {what}: {shown!r}" if what != "the greeting" else f"{what}: {shown!r}")


async def _line(sock: socket.socket, what: str) -> bytes:
    data = b""
    while b"\n" not in data:
        if len(data) >= LINE_LIMIT:
            raise CheckFailed(f"{what}: a line of more than {LINE_LIMIT} bytes")
        more = await receive(sock, LINE_LIMIT)
        if not more:
            raise CheckFailed(f"{what}: the server closed the connection")
        data += more
    return data[: data.index(b"\n") + 1]

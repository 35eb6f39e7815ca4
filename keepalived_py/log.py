"""Logging of one process: syslog, a file, the console. It never blocks: what a slow sink refuses is lost and counted.

Each process has its own identifier (Keepalived, Keepalived_vrrp, Keepalived_healthcheckers) and its own file, and keeps
its newest records in a ring.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

RING_SIZE = 500
DETAIL = logging.DEBUG
"""Lines shown with -D only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What the command line says about logs. `facility` is a syslog facility number; `file` "" for none."""

    syslog: bool = True
    facility: int = 3
    console: bool = False
    detail: bool = False
    file: str = ""
    suffix: str = ""
    """Instance name, added to identifiers and file names."""


class SyslogHandler(logging.Handler):
    """RFC 3164 datagrams to /dev/log, non-blocking."""

    PATH = "/dev/log"
    SEVERITY = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 6))

    def __init__(self, ident: str, facility: int) -> None:
        super().__init__()
        self.ident, self.facility = ident, facility
        self.lost = 0
        self._sock: socket.socket | None = None

    def emit(self, record: logging.LogRecord) -> None:
        severity = next((code for level, code in self.SEVERITY if record.levelno >= level), 6)
        line = f"<{self.facility * 8 + severity}>{self.ident}[{os.getpid()}]: {record.getMessage()}"
        try:
            if self._sock is None:
                self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
                self._sock.connect(self.PATH)
            self._sock.send(line.encode("utf-8", "replace")[:8192])
        except OSError:
            self.lost += 1
            if self._sock is not None:
                self._sock.close()
                self._sock = None


class StreamHandler(logging.Handler):
    """Lines to a descriptor: `date: text`, as keepalived's console has them. A pipe that is full loses lines."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.descriptor = descriptor
        self.lost = 0
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def emit(self, record: logging.LogRecord) -> None:
        stamp = time.strftime("%c", time.localtime(record.created))
        line = f"{stamp}: {record.getMessage()}".encode("utf-8", "replace")[: select.PIPE_BUF - 1] + b"\n"
        try:
            # a pipe that polls writable takes PIPE_BUF bytes without blocking (pipe(7)); the descriptor itself stays
            # blocking, since others share it
            if any(events & select.POLLOUT for _, events in self._poll.poll(0)):
                os.write(self.descriptor, line)
                return
        except OSError:
            pass
        self.lost += 1


class RingHandler(logging.Handler):
    """The newest records, for whoever asks later."""

    def __init__(self) -> None:
        super().__init__()
        self.records: deque[tuple[float, int, str]] = deque(maxlen=RING_SIZE)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append((record.created, record.levelno, record.getMessage()))


ring = RingHandler()


def file_of(settings: LogSettings, role: str) -> Path:
    """The log file of a process: `_vrrp` or `_check` and the suffix go before the last dot."""
    path = Path(settings.file)
    stem = path.stem + (f"_{role}" if role else "") + settings.suffix
    return path.with_name(stem + path.suffix)


def set_up(settings: LogSettings, ident: str, role: str) -> None:
    """Point the root logger of this process at what the settings name. `role` is "", vrrp or check."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.setLevel(DETAIL if settings.detail else logging.INFO)
    logging.raiseExceptions = False
    root.addHandler(ring)
    if settings.syslog:
        root.addHandler(SyslogHandler(ident + settings.suffix, settings.facility))
    if settings.console:
        root.addHandler(StreamHandler(sys.stderr.fileno()))
    if settings.file:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        root.addHandler(StreamHandler(os.open(file_of(settings, role), flags, 0o600)))
    for noisy in ("asyncio", "pyroute2"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def lost_records() -> int:
    """Records of this process that no sink took."""
    return sum(getattr(handler, "lost", 0) for handler in logging.getLogger().handlers)

"""sd_notify(3): what the service manager is told, as datagrams to the socket it named. Nothing happens without one."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import time
from collections import deque
from collections.abc import MutableMapping

logger = logging.getLogger(__name__)

PASSING = frozenset((errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
"""Errors of a manager, or a machine, that is too busy at the moment."""
RETRY = 0.2
MOST_WAITING = 20
VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Systemd:
    """Takes its variables out of `environ`, so that neither workers nor scripts have them. Never blocks, never raises.

    `watchdog`: seconds between two signs of life that the service manager wants, half of its limit; 0 for none.
    """

    def __init__(self, environ: MutableMapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        address, limit, meant = (environ.pop(name, "") for name in VARIABLES)
        self._address = "\0" + address[1:] if address.startswith("@") else address
        ours = not meant or meant == str(os.getpid())
        self.watchdog = int(limit) / 2e6 if limit.isdecimal() and ours else 0.0
        self._status = ""
        self._busy = True
        self._waiting: deque[str] = deque(maxlen=MOST_WAITING)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def now(self, status: str, busy: bool) -> None:
        """How things are in one line for people, told only when it is another.

        The first time that nothing is under way any more means that the start, or a reload, is over.
        """
        if status != self._status:
            self._status = status
            self._send("STATUS=" + status.replace("\n", " "))
        if self._busy and not busy:
            self._busy = False
            self._send(f"READY=1\nMAINPID={os.getpid()}")

    def reloading(self) -> None:
        """A reload begins; `now` ends it."""
        self._busy = True
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def failed(self, number: int) -> None:
        """A worker cannot run at all; an errno value."""
        self._send(f"ERRNO={number}")

    def extend(self, seconds: float) -> None:
        """The start or the stop that is under way may take so long, whatever the limit of the unit is."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def attend(self, loop: asyncio.AbstractEventLoop) -> None:
        """Signs of life from now on, as long as `loop` turns; and what the manager was too busy for is told again."""
        self._loop = loop
        if self.watchdog:
            self._send("WATCHDOG=1")
            loop.call_later(self.watchdog, self.attend, loop)

    def _send(self, text: str) -> None:
        if self._address:
            self._waiting.append(text)
            self._flush()

    def _flush(self) -> None:
        """Say what waits, in order. A start whose READY is lost is ended by the service manager as one that hangs."""
        self._timer = None
        while self._waiting:
            try:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                    sock.sendto(self._waiting[0].encode(), self._address)
            except OSError as exc:
                if exc.errno in PASSING:
                    self._try_again()
                    return
                logger.debug("the service manager cannot be told: %s", exc.strerror)
            self._waiting.popleft()

    def _try_again(self) -> None:
        if self._loop is not None:
            self._timer = self._timer or self._loop.call_later(RETRY, self._flush)

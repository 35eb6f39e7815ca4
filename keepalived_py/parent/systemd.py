"""sd_notify(3): what the service manager is told, as datagrams to the socket it named. Nothing happens without one."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import MutableMapping

logger = logging.getLogger(__name__)

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

    def attend(self, loop: asyncio.AbstractEventLoop) -> None:
        """Signs of life from now on, as long as `loop` turns."""
        if self.watchdog:
            self._send("WATCHDOG=1")
            loop.call_later(self.watchdog, self.attend, loop)

    def _send(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as sock:
                sock.sendto(text.encode(), self._address)
        except OSError as exc:
            logger.debug("the service manager cannot be told: %s", exc.strerror)

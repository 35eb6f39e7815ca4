"""The process that reads the configuration for a reload, so that nothing the text holds can touch the parent."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import socket
from collections.abc import Callable

from ipc.channel import Channel
from ipc.codec import encode
from ipc.messages import ConfigLoaded, Peer
from keepalived_py.values import ExitCode

from .child import fork_process

logger = logging.getLogger(__name__)

NICE = 10
"""Reading a large file must not take the processor from whoever has an advert to send."""

PR_SET_PDEATHSIG = 1


class Loader:
    """One at a time. `done` hears what was found, `failed` why nothing was; one of both is called for each start."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, done: Callable[[ConfigLoaded], None], failed: Callable[[str], None]
    ) -> None:
        self._loop, self._done, self._failed = loop, done, failed
        self._pid = 0
        self._channel: Channel | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self, load: Callable[[], ConfigLoaded], limit: float) -> None:
        """Fork, outside of the loop. After `limit` seconds the process is killed."""

        parent = os.getpid()

        def body(sock: socket.socket) -> int:
            os.nice(NICE)
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # nobody else would end it where the file hangs
            if os.getppid() != parent:
                return ExitCode.FATAL  # the parent died before that could tell
            frame = encode(load())
            sock.sendall(len(frame).to_bytes(4) + frame)
            return 0

        try:
            self._pid, sock = fork_process(Peer.LOADER, body)
        except OSError as exc:
            self._failed(f"no process for it: {exc.strerror}")
            return
        self._channel = Channel(sock, Peer.LOADER, self._found, self._broken)
        self._channel.attach(self._loop)
        self._timer = self._loop.call_later(limit, self._late, limit)

    def stop(self) -> None:
        """Read no more and call nobody."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
        self._close()

    def ended(self, pid: int, code: int) -> bool:
        """Whether the process that was collected is the loader. Its message may still wait in the socket."""
        if not self._pid or pid != self._pid:
            return False
        self._pid = 0
        if code and self._channel is not None:
            self._close()
            self._failed(f"loader ended with {code}")
        return True

    def _found(self, found: ConfigLoaded) -> None:
        self._close()
        self._done(found)

    def _broken(self, reason: str) -> None:
        """An end without a reason is that of a process: how it ended comes with its status."""
        if reason:
            self._close()
            self._failed(reason)

    def _late(self, limit: float) -> None:
        logger.error("Reading the configuration takes longer than %gs", limit)
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._channel is not None:
            self._channel.close()
        self._timer = self._channel = None

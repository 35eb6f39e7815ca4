"""Signals in an event loop."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any, Self


class SignalWatch:
    """Has functions called by an event loop when signals came.

    However many of one come before the loop gets to them, they are one, and none is lost. With `add_signal_handler` of
    asyncio they are: it takes their numbers from a socket, which some hundreds fill.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._actions: dict[int, Callable[[], object]] = {}
        self._heard: dict[int, None] = {}
        """In the order in which they came."""
        self._ear, self._wire = socket.socketpair()
        for sock in (self._ear, self._wire):
            sock.setblocking(False)
        # for one that another thread gets while the loop waits; a full socket wakes it too
        signal.set_wakeup_fd(self._wire.fileno(), warn_on_full_buffer=False)
        loop.add_reader(self._ear, self._drain)

    def on(self, number: int, action: Callable[..., object], *args: Any) -> None:
        """Call `action` with `args` whenever the signal came."""
        self._actions[number] = partial(action, *args)
        signal.signal(number, self._note)
        signal.siginterrupt(number, False)

    def close(self) -> None:
        """Hear no more; the handlers stay, which do nothing then."""
        self._actions.clear()
        signal.set_wakeup_fd(-1)
        self._loop.remove_reader(self._ear)
        self._ear.close()
        self._wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _note(self, number: int, frame: FrameType | None) -> None:
        """The handler: runs between any two instructions of the main thread."""
        if not self._heard:
            self._loop.call_soon_threadsafe(self._act)
        self._heard[number] = None

    def _act(self) -> None:
        heard, self._heard = self._heard, {}
        for number in heard:
            if number in self._actions:
                self._loop.call_soon(self._actions[number])

    def _drain(self) -> None:
        with suppress(BlockingIOError):
            while self._ear.recv(1 << 12):
                pass

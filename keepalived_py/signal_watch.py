"""Signals in an event loop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any


class SignalWatch:
    """Has functions called by an event loop when signals came, for as long as that is open.

    However many of one come before the loop gets to them, they are one, and none is lost. With `add_signal_handler` of
    asyncio alone they are: it takes their numbers from a socket, which some hundreds fill.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._actions: dict[int, Callable[[], object]] = {}
        self._heard: dict[int, None] = {}
        """In the order in which they came."""

    def on(self, number: int, action: Callable[..., object], *args: Any) -> None:
        """Call `action` with `args` whenever the signal came."""
        self._actions[number] = partial(action, *args)
        # wakes the loop for a signal that another thread gets, and a full socket does so as well
        self._loop.add_signal_handler(number, _do_nothing)
        signal.set_wakeup_fd(signal.set_wakeup_fd(-1), warn_on_full_buffer=False)
        signal.signal(number, self._note)
        signal.siginterrupt(number, False)

    def _note(self, number: int, frame: FrameType | None) -> None:
        """The handler: runs between any two instructions of the main thread."""
        if not self._heard:
            self._loop.call_soon_threadsafe(self._act)
        self._heard[number] = None

    def _act(self) -> None:
        heard, self._heard = self._heard, {}
        for number in heard:
            self._loop.call_soon(self._actions[number])


def _do_nothing() -> None:
    pass

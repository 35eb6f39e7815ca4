"""The only code that knows both the clock and the machines.

A timerfd carries the earliest deadline, absolute on CLOCK_MONOTONIC, so neither the loop's rounding nor its lateness
adds up. When it fires the sockets are read first: a late process must not mistake queued adverts for silence. Then all
adverts that are due go out, of every instance, before any other timer is looked at.
"""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import os
from collections.abc import Callable
from typing import Protocol

from keepalived_py.clock import now
from keepalived_py.values import VirtualRouterKey
from keepalived_py.vitals import Lateness
from keepalived_py.vrrp.states import Timer

CLOCK_MONOTONIC = 1
TFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
TFD_TIMER_ABSTIME = 1
LEAD = 0.0015
"""Seconds that a take-over is prepared ahead: waking up takes a third of a millisecond, and that time is then over."""

EARLY = 0.0005
"""Seconds that an advert may leave before its time together with one that is due: a thousand instances wake less often.
Its next one is due when it would have been, so nothing drifts."""


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


class AbsoluteTimer:
    """One timerfd: readable from `set`'s instant on."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor: int = self._libc.timerfd_create(CLOCK_MONOTONIC, TFD_FLAGS)
        if self.descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._spec = _TimerSpec()

    def set(self, at: float) -> None:
        """Fire at `at`, or at once when that has passed; 0 disarms."""
        whole = int(at)
        self._spec.value.seconds = whole
        self._spec.value.nanoseconds = max(0, int((at - whole) * 1e9)) or (1 if at and not whole else 0)
        self._libc.timerfd_settime(self.descriptor, TFD_TIMER_ABSTIME, ctypes.byref(self._spec), None)

    def clear(self) -> None:
        """Take note that it has fired."""
        try:
            os.read(self.descriptor, 8)
        except BlockingIOError:
            return

    def close(self) -> None:
        os.close(self.descriptor)


class Timed(Protocol):
    """What the driver drives."""

    @property
    def deadline(self) -> float | None: ...

    @property
    def deadlines(self) -> dict[Timer, float]: ...

    def due(self, now: float) -> Timer | None: ...


class TimerDriver:
    """Watches the deadlines of many machines. `expired` is told which timer of which machine ran out."""

    def __init__(
        self,
        machine_of: Callable[[VirtualRouterKey], Timed | None],
        drain: Callable[[], None],
        expired: Callable[[VirtualRouterKey, Timer], None],
        rehearse: Callable[[VirtualRouterKey], None],
    ) -> None:
        self._machine_of, self._drain, self._expired, self._rehearse = machine_of, drain, expired, rehearse
        self._heap: list[tuple[float, int, VirtualRouterKey]] = []
        self._armed: dict[VirtualRouterKey, float] = {}
        self._count = 0
        self._timer = AbsoluteTimer()
        self._set_for = 0.0
        self._firing = False
        self.lateness = Lateness()
        """Of adverts."""
        self.late: Callable[[float], None] = lambda seconds: None
        """Hears by how much the earliest of the timers that fired was late."""

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_reader(self._timer.descriptor, self.fire)

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self._timer.descriptor)
        self._timer.close()

    @property
    def armed(self) -> int:
        """How many machines have a deadline."""
        return len(self._armed)

    def rearm(self, key: VirtualRouterKey) -> None:
        """Call after every step; the machine's deadline is the truth."""
        machine = self._machine_of(key)
        deadline = machine.deadline if machine is not None else None
        if deadline is None:
            self._armed.pop(key, None)
        elif self._armed.get(key) != deadline:
            self._armed[key] = deadline
            self._count += 1
            heapq.heappush(self._heap, (deadline, self._count, key))
        if not self._firing:
            self._set()

    def _set(self) -> None:
        heap = self._heap
        while heap and self._armed.get(heap[0][2]) != heap[0][0]:
            heapq.heappop(heap)
        earliest = heap[0][0] - self._lead(heap[0]) if heap else 0.0
        if earliest != self._set_for:
            self._set_for = earliest
            self._timer.set(earliest)

    def _lead(self, entry: tuple[float, int, VirtualRouterKey]) -> float:
        """How long before its deadline an entry wants to be woken."""
        due, _, key = entry
        machine = self._machine_of(key)
        return LEAD if machine is not None and machine.deadlines.get(Timer.MASTER_DOWN) == due else 0.0

    def fire(self) -> None:
        """Everything that is due, adverts first."""
        self._timer.clear()
        self._set_for = 0.0
        self._firing = True
        try:
            self._drain()
            self._await_takeover()
            self._fire_due()
        finally:
            self._firing = False
            self._set()

    def _fire_due(self) -> None:
        later: list[tuple[float, VirtualRouterKey, Timer]] = []
        found = self._take_due()
        if found:
            self.late(now() - found[0][0])
        for due, key, timer in found:
            if timer is Timer.ADVERT:
                self.lateness.add(now() - due)
                self._expired(key, timer)
            else:
                later.append((due, key, timer))
        for _, key, timer in later:
            machine = self._machine_of(key)
            if machine is not None and machine.due(now()) is timer:
                self._expired(key, timer)
            else:
                self.rearm(key)

    def _await_takeover(self) -> None:
        """Woken ahead of a take-over: spend the rest of the moment reading the sockets, so that nothing is missed."""
        rehearsed = False
        while self._heap and self._armed.get(self._heap[0][2]) == self._heap[0][0]:
            due, _, key = self._heap[0]
            if not 0.0 < due - now() <= LEAD or not self._lead(self._heap[0]):
                return
            if not rehearsed:
                self._rehearse(key)
                rehearsed = True
            self._drain()

    def _take_due(self) -> list[tuple[float, VirtualRouterKey, Timer]]:
        """Every machine whose deadline has passed, earliest first; each is re-armed by whoever handles it."""
        found = []
        heap, moment = self._heap, now()
        while heap and heap[0][0] <= moment + EARLY:
            due, _, key = heap[0]
            machine = self._machine_of(key) if self._armed.get(key) == due else None
            if due > moment and machine is not None and machine.deadlines.get(Timer.ADVERT) != due:
                break
            heapq.heappop(heap)
            if self._armed.get(key) != due:
                continue
            del self._armed[key]
            timer = machine.due(max(moment, due)) if machine is not None else None
            if timer is not None:
                found.append((due, key, timer))
            elif machine is not None:
                self.rearm(key)
        return found

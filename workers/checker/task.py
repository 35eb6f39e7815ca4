"""Checkers on one schedule: each sleeps as an entry in a heap and costs a task only while it checks."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from keepalived_py.checks.state import CheckerState
from keepalived_py.clock import now
from keepalived_py.config.model import Check
from keepalived_py.values import RealKey, ServiceKey

from .probe import Checker, Result, probe
from .sharing import Sharing

FIRST_DELAY = 1.0
"""Seconds from start or reload to the first check, before the part that differs (checker-behaviour.md 3)."""
GOLDEN = 0.6180339887498949
"""Steps of this size, modulo 1, fill an interval evenly, however many they are."""


@dataclass(slots=True, eq=False)
class CheckerTask:
    """One checker of one real server: what it is, what it believes, when it is due."""

    service: ServiceKey
    real: RealKey
    config: Check
    checker: Checker
    state: CheckerState
    due: float = 0.0
    running: asyncio.Task[None] | None = None
    active: bool = True
    last: Result | None = None
    runs: int = 0
    points: int = 0
    """What it adds to the weight of its real server (misc_dynamic)."""
    number: int = field(default_factory=itertools.count().__next__)
    """Tells it from every other, those that are gone included."""
    measured_from_start: bool = field(default=False)
    """MISC_CHECK counts its interval from the start of a run."""
    suspended: bool = False
    """Results do not count for it, and it asks for none (ha_suspend)."""
    leader: CheckerTask | None = None
    """The task that makes its checks."""
    followers: dict[int, CheckerTask] | None = None
    """Those that it makes checks for, by number."""

    def members(self) -> list[CheckerTask]:
        """Itself and its followers, as far as they want results."""
        if not self.followers:
            return [] if self.suspended else [self]
        return [each for each in (self, *self.followers.values()) if not each.suspended]


class Scheduler:
    """Starts checks when they are due and hands each result to `finished`."""

    def __init__(self, finished: Callable[[CheckerTask, Result], None]) -> None:
        self._finished = finished
        self._heap: list[tuple[float, int, CheckerTask]] = []
        self._count = 0
        self._handle: asyncio.TimerHandle | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._stopped = False
        self._spread = random.random()
        self.sharing = Sharing()
        self.worst_lateness = 0.0

    def add(self, task: CheckerTask) -> None:
        """Check for the first time after a second and a part of the warm-up, for each another part."""
        warmup = task.state.timing.warmup
        leader = self.sharing.join(task)
        if leader is task:
            self._spread = (self._spread + GOLDEN) % 1
            self._schedule(task, now() + FIRST_DELAY + self._spread * warmup)
        else:
            self._not_after(leader, now() + FIRST_DELAY + warmup)

    def hasten(self, task: CheckerTask) -> None:
        """`task` counts again: check as soon as at a start."""
        self._spread = (self._spread + GOLDEN) % 1
        self._not_after(task.leader or task, now() + FIRST_DELAY + self._spread * task.state.timing.warmup)

    def _not_after(self, task: CheckerTask, due: float) -> None:
        if task.running is None and task.due > due:
            self._schedule(task, due)

    def remove(self, task: CheckerTask) -> None:
        task.active = False
        heir = self.sharing.leave(task)
        if task.running is not None:
            task.running.cancel()
            task.running.add_done_callback(self._running.discard)  # it may not have begun
            task.running = None
        if heir is not None:
            self._schedule(heir, max(task.due, now()))

    def share(self, enabled: bool, tasks: Iterable[CheckerTask]) -> None:
        """Switch sharing on or off, for `tasks`, which are all there are."""
        if enabled is self.sharing.enabled:
            return
        waiting = list(tasks)
        for task in waiting:
            self.remove(task)
        self.sharing = Sharing(enabled)
        for task in waiting:
            task.active, task.due = True, 0.0  # what is in the heap from before is void
            self.add(task)

    async def stop(self) -> None:
        """Start nothing more and end what runs."""
        self._stopped = True
        if self._handle is not None:
            self._handle.cancel()
        running = list(self._running)
        for each in running:
            each.cancel()
        if running:
            await asyncio.wait(running)

    def _schedule(self, task: CheckerTask, due: float) -> None:
        if self._stopped or not task.active:
            return
        task.due = due
        self._count += 1
        heapq.heappush(self._heap, (due, self._count, task))
        self._arm()

    def _arm(self) -> None:
        earliest = self._heap[0][0] if self._heap else None
        if self._handle is not None:
            if earliest is not None and self._handle.when() <= earliest and not self._handle.cancelled():
                return
            self._handle.cancel()
        self._handle = asyncio.get_running_loop().call_at(earliest, self._start_due) if earliest is not None else None

    def _start_due(self) -> None:
        self._handle = None
        moment = now()
        loop = asyncio.get_running_loop()
        while self._heap and self._heap[0][0] <= moment:
            due, _, task = heapq.heappop(self._heap)
            if not task.active or task.due != due:
                continue
            if not task.members():
                self._schedule(task, moment + task.state.timing.delay_loop)
                continue
            self.worst_lateness = max(self.worst_lateness, moment - due)
            task.running = loop.create_task(self._run(task))
            self._running.add(task.running)
        self._arm()

    async def _run(self, task: CheckerTask) -> None:
        started, running = now(), task.running
        try:
            result = await probe(task.checker)
        finally:
            if running is not None:
                self._running.discard(running)
                if task.running is running:
                    task.running = None
        if task.active:
            self._hand_out(task, result)
        if task.active:
            base = started if task.measured_from_start else now()
            delay = min((each.state.next_delay for each in task.members()), default=task.state.timing.delay_loop)
            self._schedule(task, max(base + delay, now()))

    def _hand_out(self, task: CheckerTask, result: Result) -> None:
        for each in task.members():
            if each.active:
                each.last, each.runs = result, each.runs + 1
                self._finished(each, result)

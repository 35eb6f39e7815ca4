"""Checkers on one schedule: each sleeps as an entry in a heap and costs a task only while it checks."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from keepalived_py.checks.state import CheckerState
from keepalived_py.clock import now
from keepalived_py.config.model import Check
from keepalived_py.values import RealKey, ServiceKey

from .probe import Checker, Result, probe

FIRST_DELAY = 1.0
"""Seconds from start or reload to the first check, before the random part (checker-behaviour.md 3)."""


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


class Scheduler:
    """Starts checks when they are due and hands each result to `finished`."""

    def __init__(self, finished: Callable[[CheckerTask, Result], None]) -> None:
        self._finished = finished
        self._heap: list[tuple[float, int, CheckerTask]] = []
        self._count = 0
        self._handle: asyncio.TimerHandle | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._stopped = False
        self.worst_lateness = 0.0

    def add(self, task: CheckerTask) -> None:
        """Check for the first time after a second and a random part of the warm-up, so that starts are spread."""
        self._schedule(task, now() + FIRST_DELAY + random.random() * task.state.timing.warmup)

    def remove(self, task: CheckerTask) -> None:
        task.active = False
        if task.running is not None:
            task.running.cancel()

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
            self.worst_lateness = max(self.worst_lateness, moment - due)
            task.running = loop.create_task(self._run(task))
            self._running.add(task.running)
            task.running.add_done_callback(self._running.discard)
        self._arm()

    async def _run(self, task: CheckerTask) -> None:
        started = now()
        result = await probe(task.checker)
        task.running = None
        if not task.active:
            return
        task.last, task.runs = result, task.runs + 1
        self._finished(task, result)
        base = started if task.measured_from_start else now()
        self._schedule(task, max(base + task.state.next_delay, now()))

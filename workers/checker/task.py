"""Checkers on one schedule: each sleeps as an entry of a slot, and costs a connection or a task while it checks."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import field

from keepalived_py.checks.state import CheckerState
from keepalived_py.clock import now
from keepalived_py.config.model import Check
from keepalived_py.records import dataclass
from keepalived_py.values import RealKey, ServiceKey
from keepalived_py.vitals import Lateness

from .connections import AnyChecker, Connection, ConnectionChecker, Connections
from .probe import Checker, Result, probe
from .sharing import Sharing
from .urls import naming_url

FIRST_DELAY = 1.0
"""Seconds from start or reload to the first check, before the part that differs (checker-behaviour.md 3)."""
GOLDEN = 0.6180339887498949
"""Steps of this size, modulo 1, fill an interval evenly, however many they are."""
SLOTS = 1000
"""Slots of a second: what is due in the same begins at the same time, which is the end of it."""
AT_ONCE = 200
"""Checks that begin in one turn of the loop: even when all are due, answers are read in between."""


@dataclass(slots=True, eq=False)
class CheckerTask:
    """One checker of one real server: what it is, what it believes, when it is due."""

    service: ServiceKey
    real: RealKey
    config: Check
    checkers: tuple[AnyChecker, ...]
    """One for each step of `state`."""
    state: CheckerState
    due: float = 0.0
    """When it wants its next check; it may be made before, for another that shares it."""
    slot: int = 0
    """The one it waits in; 0: none."""
    step: int = 0
    """The one that is made, or was made last."""
    running: asyncio.Task[None] | Connection | None = None
    active: bool = True
    last: Result | None = None
    obstacle: str = ""
    """What kept the last check from being made."""
    runs: int = 0
    points: int | None = None
    """What it adds to the weight of its real server (misc_dynamic). None: it has no say, which is more than 0 says."""
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

    @property
    def checker(self) -> AnyChecker:
        """What it wants made next."""
        return self.checkers[self.state.step]

    def members(self) -> list[CheckerTask]:
        """Itself and its followers, as far as they want results."""
        if not self.followers:
            return [] if self.suspended else [self]
        return [each for each in (self, *self.followers.values()) if not each.suspended]


class Scheduler:
    """Starts checks when they are due and hands each result to `finished`."""

    def __init__(self, finished: Callable[[CheckerTask, Result], None]) -> None:
        self._finished = finished
        self._slots: dict[int, list[CheckerTask]] = {}
        """Tasks by the slot they were put in; those that meanwhile wait in another are passed over."""
        self._order: list[int] = []
        """The slots there are, as a heap."""
        self._timer: asyncio.TimerHandle | None = None
        self._armed = math.inf
        """Slot that the timer waits for."""
        self._connections = Connections()
        self._running: set[asyncio.Task[None]] = set()
        self._stopped = False
        self._spread = random.random()
        self.sharing = Sharing()
        self.lateness = Lateness()
        """Of the beginnings of checks."""

    @property
    def waiting(self) -> int:
        """How many checks wait for their time."""
        return sum(task.slot == slot for slot, tasks in self._slots.items() for task in tasks)

    def add(self, task: CheckerTask) -> None:
        """Check for the first time after a second and a part of the warm-up, for each another part."""
        warmup = task.state.timing.warmup
        leader = self.sharing.join(task)
        if leader is task:
            self._spread = (self._spread + GOLDEN) % 1
            self._schedule(task, now() + FIRST_DELAY + self._spread * warmup)
        else:
            task.due = now() + FIRST_DELAY + warmup
            self._not_after(leader, _slot(task.due))

    def hasten(self, task: CheckerTask) -> None:
        """`task` counts again: check as soon as at a start."""
        self._spread = (self._spread + GOLDEN) % 1
        task.due = now() + FIRST_DELAY + self._spread * task.state.timing.warmup
        self._not_after(task.leader or task, _slot(task.due))

    def _not_after(self, task: CheckerTask, slot: int) -> None:
        if task.running is None and task.slot > slot:
            self._place(task, slot)

    def remove(self, task: CheckerTask) -> None:
        slot, task.active, task.slot = task.slot, False, 0
        heir = self.sharing.leave(task)
        if task.running is not None:
            task.running.cancel()
            if isinstance(task.running, asyncio.Task):
                task.running.add_done_callback(self._running.discard)  # it may not have begun
            task.running = None
        if heir is not None:
            self._place(heir, max(slot, _slot(now())))

    def share(self, enabled: bool, tasks: Iterable[CheckerTask]) -> None:
        """Switch sharing on or off, for `tasks`, which are all there are."""
        if enabled is self.sharing.enabled:
            return
        waiting = list(tasks)
        for task in waiting:
            self.remove(task)
        self.sharing = Sharing(enabled)
        for task in waiting:
            task.active = True
            self.add(task)

    async def stop(self) -> None:
        """Start nothing more and end what runs."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        self._connections.close()
        running = list(self._running)
        for each in running:
            each.cancel()
        if running:
            await asyncio.wait(running)

    def _schedule(self, task: CheckerTask, due: float) -> None:
        task.due = due
        self._place(task, _slot(due))

    def _place(self, task: CheckerTask, slot: int) -> None:
        """Have what `task` and its followers want next begin in `slot`."""
        if self._stopped or not task.active:
            return
        task.slot = slot
        waiting = self._slots.get(slot)
        if waiting is not None:
            waiting.append(task)
            return
        self._slots[slot] = [task]
        heapq.heappush(self._order, slot)
        if slot < self._armed:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._armed = None, math.inf
        if self._order and not self._stopped:
            self._armed = self._order[0]
            self._timer = asyncio.get_running_loop().call_at(self._armed / SLOTS, self._start_due)

    def _start_due(self) -> None:
        moment, left = now(), AT_ONCE
        self._armed = -math.inf  # what is scheduled meanwhile needs no timer of its own
        while self._order and self._order[0] <= moment * SLOTS and left > 0:
            slot = self._order[0]
            waiting = self._slots[slot]
            tasks, self._slots[slot] = waiting[:left], waiting[left:]
            left -= len(tasks)
            if not self._slots[slot]:
                heapq.heappop(self._order)
                del self._slots[slot]
            for task in tasks:
                if task.slot == slot:
                    task.slot = 0
                    self._begin(task, moment)
        if self._connections.busy:
            self._connections.look()
        self._arm()

    def _begin(self, task: CheckerTask, moment: float) -> None:
        first: CheckerTask | None = task
        if task.followers or task.suspended:
            first = min(task.members(), key=_due, default=None)
        if first is None:
            self._schedule(task, moment + task.state.timing.delay_loop)
            return
        self.lateness.add(moment - first.due)
        task.step = first.state.step
        checker = task.checkers[task.step]
        if isinstance(checker, ConnectionChecker):
            task.running = self._connections.start(checker, self._ended, task)
        else:
            task.running = asyncio.get_running_loop().create_task(self._run(task, checker))
            self._running.add(task.running)

    async def _run(self, task: CheckerTask, checker: Checker) -> None:
        started, running = now(), asyncio.current_task()
        try:
            result = await probe(checker)
        finally:
            if running is not None:
                self._running.discard(running)
        if task.running is running:
            self._ended(task, result, started if task.measured_from_start else None)

    def _ended(self, task: CheckerTask, result: Result, base: float | None = None) -> None:
        """The check of `task` is done; the next interval counts from `base`, which is now in most cases."""
        task.running = None
        if len(task.checkers) > 1:
            result = naming_url(task.config, task.step, result)
        if task.followers or task.suspended:
            # those that want another step made wait for their own time
            wanting = [each for each in task.members() if each.state.step == task.step]
            for each in wanting:
                self._take(each, result)
            moment = now()
            for each in wanting:
                each.due = _after(each, result, moment, base)
            due = min((each.due for each in task.members()), default=moment + task.state.timing.delay_loop)
            self._place(task, _slot(due))
        else:
            self._take(task, result)
            self._schedule(task, _after(task, result, now(), base))

    def _take(self, task: CheckerTask, result: Result) -> None:
        if task.active:
            task.last, task.runs = result, task.runs + 1
            self._finished(task, result)


def _slot(due: float) -> int:
    """The first one that begins after `due`."""
    return int(due * SLOTS) + 1


def _due(task: CheckerTask) -> float:
    return task.due


def _after(task: CheckerTask, result: Result, moment: float, base: float | None) -> float:
    """When a check that has ended at `moment` is due again, counted from `base` where that is given."""
    # what was not made is no failure, and not retried like one (checker-behaviour.md 3)
    delay = task.state.next_delay if result.made else task.state.timing.delay_loop
    return moment + delay if base is None else max(base + delay, moment)

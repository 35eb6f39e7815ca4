"""Checks on a schedule, in a time that is the loop's own and passes at once."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from keepalived_py.checks.state import CheckerState
from keepalived_py.config.model import CheckTiming, Endpoint, TcpCheck
from keepalived_py.values import RealKey, ServiceKey, ip_address
from workers.checker import task as module
from workers.checker.probe import CheckFailed, CheckNotMade, Result
from workers.checker.task import SLOTS, CheckerTask, Scheduler

ADDRESS = ip_address("192.0.2.1")
CONFIG = TcpCheck(timing=CheckTiming(), endpoint=Endpoint(address=ADDRESS, port=80))
SLOT = 1 / SLOTS


class Leap(selectors.SelectSelector):
    """Waits for nothing: what would be waited for has passed."""

    moment = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "nothing will ever happen"
        self.moment += timeout + 1e-6 if timeout > 0 else 0.0
        return super().select(0)


class Checker:
    """Notes when it is asked, takes `takes` seconds, and says what `answers` has next."""

    name, limit = "TEST", 3.0

    def __init__(self, takes: float = 0.0, answers: str = "") -> None:
        self.takes, self.answers = takes, iter(answers)
        self.begun: list[float] = []

    async def check(self) -> None:
        self.begun.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.takes)
        match next(self.answers, "+"):
            case "-":
                raise CheckFailed("bad")
            case "?":
                raise CheckNotMade("no descriptor")


class World:
    """A scheduler, and what it said."""

    def __init__(self) -> None:
        self.told: list[tuple[float, CheckerTask, Result]] = []
        self.scheduler = Scheduler(self._finished)
        self.began = self.now

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def _finished(self, task: CheckerTask, result: Result) -> None:
        self.told.append((self.now, task, result))
        if result.made:
            task.state.record(result.success)

    def add(self, checker: Any = None, *, from_start: bool = False, **timing: Any) -> CheckerTask:
        state = CheckerState(CheckTiming(**{"delay_loop": 10.0, "warmup": 0.0, **timing}))
        checker = checker or Checker()
        task = CheckerTask(
            ServiceKey(fwmark=1), RealKey(ADDRESS, 80), CONFIG, (checker,), state, measured_from_start=from_start
        )
        self.scheduler.add(task)
        return task


Story = Callable[[World], Awaitable[None]]
Live = Callable[[Story], None]


def live(story: Story) -> None:
    """Runs a story in time that leaps."""
    selector = Leap()
    loop = asyncio.SelectorEventLoop(selector)
    unhandled: list[Any] = []
    loop.set_exception_handler(lambda _, context: unhandled.append(context))

    async def main() -> None:
        world = World()
        try:
            await story(world)
        finally:
            await world.scheduler.stop()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "time", lambda: selector.moment)
        patch.setattr(module, "now", lambda: selector.moment)
        try:
            loop.run_until_complete(main())
        finally:
            loop.close()
    assert unhandled == []

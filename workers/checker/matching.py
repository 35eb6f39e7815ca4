"""From the checkers of a configuration to tasks: new ones, or those that carry on (checker-behaviour.md 6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from keepalived_py.checks.rounds import RoundsState
from keepalived_py.checks.state import CheckerState
from keepalived_py.config.model import Check, CheckTiming, HttpCheck, MiscCheck, RealServer, SmtpCheck, UdpCheck
from keepalived_py.records import dataclass
from keepalived_py.values import ServiceKey

from .connections import AnyChecker
from .followed import FollowedCheck, judge
from .task import CheckerTask, Scheduler

SAME_TIMING = CheckTiming()


def identity(check: Check) -> Check:
    """What makes two checkers the same across a reload: what is asked of whom, not when, nor what is made of it."""
    check = replace(check, timing=SAME_TIMING)
    match check:
        case HttpCheck():
            return replace(check, fast_recovery=False, http_protocol="")
        case MiscCheck():
            return replace(check, timeout=0.0)
        case UdpCheck():
            return UdpCheck(timing=SAME_TIMING, endpoint=check.endpoint)
    return check


def beginning(check: Check) -> CheckerState:
    """What is believed of a real server before it was checked."""
    if isinstance(check, HttpCheck):
        return RoundsState(check.timing, len(check.urls), fast=check.fast_recovery)
    # what is followed needs no second look, and SMTP_CHECK makes its retries even the first time
    timing = replace(check.timing, retry=0) if isinstance(check, FollowedCheck) else check.timing
    return CheckerState(timing, patient=isinstance(check, SmtpCheck))


@dataclass(slots=True)
class TaskMaker:
    """`checkers` makes what checks, one for each step."""

    scheduler: Scheduler
    checkers: Callable[[Check, RealServer], tuple[AnyChecker, ...]]

    def new(self, service: ServiceKey, real: RealServer) -> list[CheckerTask]:
        """Tasks for all checkers of a real server that was not there before; they have begun."""
        tasks = [self._task(service, real, check) for check in real.checks]
        for task in tasks:
            self._begin(task)
        return tasks

    def _task(self, service: ServiceKey, real: RealServer, check: Check) -> CheckerTask:
        return CheckerTask(
            service=service,
            real=real.key,
            config=check,
            checkers=self.checkers(check, real),
            state=beginning(check),
            measured_from_start=isinstance(check, MiscCheck),
        )

    def _begin(self, task: CheckerTask) -> None:
        """What is followed is known at once; every other checker waits for its turn."""
        result = judge(task)
        if result is None:
            self.scheduler.add(task)
        else:
            task.state.up, task.state.has_run = result.success, True
            task.points, task.last = result.points, result

    def matched(
        self, service: ServiceKey, real: RealServer, before: Sequence[CheckerTask], old_weight: int
    ) -> list[CheckerTask]:
        """Tasks for the checkers of `real`, whose weight was `old_weight`; equal ones carry on where they stood."""
        spare = list(before)
        had_failed = any(not task.state.up for task in before)
        tasks = []
        for check in real.checks:
            same = next((task for task in spare if identity(task.config) == identity(check)), None)
            if same is not None:
                spare.remove(same)
                if same.config == check and same.checkers == self.checkers(check, real):
                    tasks.append(same)
                    continue
            task = self._task(service, real, check)
            if same is not None:
                self.scheduler.remove(same)
                task.state.adopt(same.state)
                if same.points is not None:
                    # the status said what the weight is to be; the points count from the configured one
                    task.points = same.points + old_weight - real.weight
            elif had_failed:
                task.state.up = False
            self._begin(task)
            tasks.append(task)
        for task in spare:
            self.scheduler.remove(task)
        return tasks

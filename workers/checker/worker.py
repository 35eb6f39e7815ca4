"""The checker worker: checks real servers and keeps the IPVS table true. Kernel first, people after."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import replace
from typing import Any

from ipc.messages import DumpKind, Peer, RealServerStateChanged, VrrpStateChanged
from keepalived_py.checks.state import CheckerState
from keepalived_py.checks.virtual_server import Effect, VirtualServerState
from keepalived_py.config.diff import diff_by_key
from keepalived_py.config.model import (
    Check,
    CheckerSlice,
    CheckTiming,
    MiscCheck,
    RealServer,
    SmtpCheck,
    VirtualServer,
)
from keepalived_py.plan import ipvs
from keepalived_py.values import ExitCode, RealKey, ServiceKey
from workers import dump
from workers.notify import Notifier
from workers.worker import Worker, WorkerContext, WorkerError

from .followed import Followed, FollowedCheck, follows, judge
from .http import HttpClient
from .ipvs_kernel import IpvsError, IpvsKernel, resolve_family
from .probe import Checker, Result
from .registry import make_checker
from .task import CheckerTask, Scheduler
from .teller import REMOVING, SHUTTING_DOWN, Teller
from .tls import TlsContexts, TlsError

logger = logging.getLogger(__name__)

SAME_TIMING = CheckTiming()


def run_checker(context: WorkerContext[CheckerSlice]) -> int:
    """Main function of the process."""
    return CheckerWorker(context).run()


def warm() -> None:
    """What every checker process needs and its parent can find out once."""
    with contextlib.suppress(IpvsError):
        resolve_family()


def identity(check: Check) -> Check:
    """What makes two checkers the same across a reload: everything but their timing."""
    return replace(check, timing=SAME_TIMING)


class CheckerWorker(Worker[CheckerSlice]):
    """All virtual servers of this machine."""

    role = Peer.CHECKER
    ident = "Keepalived_healthcheckers"
    log_role = "check"
    title = "keepalived_checker"

    def __init__(self, context: WorkerContext[CheckerSlice]) -> None:
        super().__init__(context)
        self.states: dict[ServiceKey, VirtualServerState] = {}
        self.tasks: dict[ServiceKey, dict[RealKey, list[CheckerTask]]] = {}
        self.table: ipvs.Table = {}
        """Our services as the kernel has them."""
        self.scheduler = Scheduler(self._checked)
        self.notifier = Notifier(self.config.global_defs.script_time_limit)
        self.teller = Teller(self.notifier, self.channel)
        self._dirty: set[ServiceKey] = set()
        self._told: list[tuple[VirtualServerState, Effect]] = []
        self._sync_due = False
        self._old_timeouts: dict[str, int] = {}
        self._family = 0
        self._errors: Counter[str] = Counter()

    def prepare(self) -> None:
        try:
            self._family = resolve_family()
        except IpvsError as exc:
            raise WorkerError(str(exc)) from exc

    async def start(self) -> None:
        self.client, self.followed = HttpClient(), Followed(self._subject_changed)
        self._prepare_checkers(self.config, create=not self.context.reported)
        try:
            self.kernel = IpvsKernel(self._family)
            if self.config.global_defs.ipvs.flush and not self.context.reported:
                self.kernel.flush()
            actual = self.kernel.table()
        except (IpvsError, OSError) as exc:
            raise WorkerError(f"{exc}; CAP_NET_ADMIN is needed", ExitCode.FATAL) from exc
        self._set_timeouts(self.config)
        self.teller.configure(self.config)
        for config in self.config.checker.virtual_servers:
            self._add(config)
        self._adopt_reports()
        ours = {id for state in self.states.values() for id in ipvs.service_ids(state.config)}
        self.table = {id: entry for id, entry in actual.items() if id in ours}
        for state in self.states.values():
            self._evaluate(state)
        self._mark(*self.states)
        self._sync()

    # virtual servers and their checkers ---------------------------------------------------------------------------

    def _prepare_checkers(self, config: CheckerSlice, create: bool = False) -> None:
        """Load what the checkers need. Raises WorkerError, with nothing changed."""
        contexts = TlsContexts(config.checker.ssl)
        try:
            contexts.load(config)
            self.followed.apply(config, create)
        except (TlsError, OSError) as exc:
            raise WorkerError(str(exc)) from exc
        self.client.tls = contexts

    def _add(self, config: VirtualServer) -> None:
        state = self.states[config.key] = VirtualServerState(config)
        self.tasks[config.key] = {}
        for real in config.real_servers:
            tasks = self.tasks[config.key][real.key] = [self._task(config, real, check) for check in real.checks]
            for task in tasks:
                self._begin(task)
            state.reals[real.key].failed = {_id(task) for task in tasks if not task.state.up}
            state.reals[real.key].points = {_id(task): task.points for task in tasks if task.points}

    def _begin(self, task: CheckerTask) -> None:
        """What is followed is known at once; every other checker waits for its turn."""
        result = judge(task)
        if result is None:
            self.scheduler.add(task)
        else:
            task.state.up, task.points, task.last = result.success, result.points or 0, result

    def _subject_changed(self, kind: type[FollowedCheck], name: str) -> None:
        """A file or a session that checkers follow is another now."""
        for task in self._all_tasks():
            if follows(task, kind, name):
                self._judge_again(task)

    def _judge_again(self, task: CheckerTask) -> None:
        result = judge(task)
        if result is not None:
            task.last = result
            self._checked(task, result)

    def _all_tasks(self) -> Iterator[CheckerTask]:
        return (task for reals in self.tasks.values() for tasks in reals.values() for task in tasks)

    def _checker(self, check: Check, real: RealServer) -> Checker:
        return make_checker(check, real, self.client, self.followed)

    def _task(self, config: VirtualServer, real: RealServer, check: Check) -> CheckerTask:
        # what is followed needs no second look, and SMTP_CHECK makes its retries even the first time
        state = CheckerState(replace(check.timing, retry=0) if isinstance(check, FollowedCheck) else check.timing)
        state.has_run = isinstance(check, SmtpCheck)
        return CheckerTask(
            service=config.key,
            real=real.key,
            config=check,
            checker=self._checker(check, real),
            state=state,
            measured_from_start=isinstance(check, MiscCheck),
        )

    def _adopt_reports(self) -> None:
        """What the predecessor said last: a server that was down stays down until a check says otherwise."""
        down = {
            (report.service, report.real)
            for report in self.context.reported
            if isinstance(report, RealServerStateChanged) and not report.up
        }
        for key, state in self.states.items():
            for real_key, real in state.reals.items():
                if (str(key), real_key.text(key.protocol)) in down:
                    for task in self.tasks[key][real_key]:
                        if not isinstance(task.config, FollowedCheck):
                            task.state.up, task.state.has_run = False, True
                            real.failed.add(_id(task))

    def _remove(self, key: ServiceKey) -> None:
        state = self.states.pop(key)
        for real_key, tasks in self.tasks.pop(key).items():
            for task in tasks:
                self.scheduler.remove(task)
            if state.reals[real_key].alive:
                self.teller.gone(state.config, state.reals[real_key].config, REMOVING)

    async def apply(self, new: CheckerSlice) -> None:
        """Move to `new`; what did not change is not touched (checker-behaviour.md 6)."""
        changes = diff_by_key(
            self.config.checker.virtual_servers, new.checker.virtual_servers, lambda server: server.key
        )
        self._prepare_checkers(new)
        self.teller.configure(new)
        gone = [id for config in changes.removed for id in ipvs.service_ids(config)]
        for config in changes.removed:
            self._remove(config.key)
        for config in changes.added:
            self._add(config)
            self._evaluate(self.states[config.key])
        for _, config in changes.changed:
            self._reconfigure(config)
        self._set_timeouts(new)
        self.config = new
        self._mark(*(config.key for config in changes.added), *(config.key for _, config in changes.changed))
        for task in self._all_tasks():
            self._judge_again(task)  # a track_file may be another one now
        self._sync(gone)

    def _reconfigure(self, config: VirtualServer) -> None:
        state = self.states[config.key]
        known = self.tasks[config.key]
        old_reals = state.reals
        for key in set(known) - {real.key for real in config.real_servers}:
            for task in known[key]:
                self.scheduler.remove(task)
            if old_reals[key].alive:
                self.teller.gone(state.config, old_reals[key].config, REMOVING)
        self.tasks[config.key] = {}
        failed: dict[RealKey, set[Hashable]] = {}
        points: dict[RealKey, dict[Hashable, int]] = {}
        for real in config.real_servers:
            tasks = self.tasks[config.key][real.key] = self._matched(config, real, known.get(real.key, []))
            failed[real.key] = {_id(task) for task in tasks if not task.state.up}
            points[real.key] = {_id(task): task.points for task in tasks if task.points}
        self._tell_later(state, state.reconfigure(config, failed, points))

    def _matched(self, config: VirtualServer, real: RealServer, before: list[CheckerTask]) -> list[CheckerTask]:
        """Tasks for the checkers of `real`; equal ones carry on where they stood."""
        spare = list(before)
        known = self.states[config.key].reals.get(real.key)
        old_weight = known.config.weight if known is not None else real.weight
        had_failed = any(not task.state.up for task in before)
        tasks = []
        for check in real.checks:
            same = next((task for task in spare if identity(task.config) == identity(check)), None)
            if same is not None and same.config == check and same.checker == self._checker(check, real):
                spare.remove(same)
                tasks.append(same)
                continue
            task = self._task(config, real, check)
            if same is not None:
                spare.remove(same)
                self.scheduler.remove(same)
                task.state.adopt(same.state)
                if same.points:
                    # the status said what the weight is to be; the points count from the configured one
                    task.points = same.points + old_weight - real.weight
            elif had_failed:
                task.state.up = False
            self._begin(task)
            tasks.append(task)
        for task in spare:
            self.scheduler.remove(task)
        return tasks

    # results ------------------------------------------------------------------------------------------------------

    def _checked(self, task: CheckerTask, result: Result) -> None:
        """One check is done: its checker's opinion, the server's state, the table."""
        if not result.made:
            self._errors[result.failure] += 1
            logger.warning(
                "%s on service %s could not be made: %s", task.checker.name, self._name(task), result.failure
            )
            return
        state = self.states[task.service]
        first = not task.state.has_run
        changed = task.state.record(result.success)
        if changed:
            logger.info(
                "%s on service %s %s",
                task.checker.name,
                self._name(task),
                "succeeded" if result.success else f"failed: {result.failure}",
            )
            reason = f"{task.checker.name} {'succeeded' if result.success else result.failure}"
            effects = state.checker_changed(task.real, _id(task), task.state.up, reason)
            self._absorb(state, effects)
            self._mail(task, state, result, moved=bool(effects))
        elif not result.success and task.state.timing.log_all_failures:
            logger.info("%s on service %s failed: %s", task.checker.name, self._name(task), result.failure)
        if result.points is not None and task.points != result.points:
            task.points = result.points
            self._absorb(state, state.weight_changed(task.real, _id(task), result.points))

        if first and not changed and isinstance(task.config, MiscCheck):
            self._mail(task, state, result, moved=False)  # keepalived mails the first result of a script in any case

    def _mail(self, task: CheckerTask, state: VirtualServerState, result: Result, *, moved: bool) -> None:
        real = state.reals.get(task.real)
        if real is not None:
            self.teller.checked(state, real.config, task.config, result.success, result.failure, moved=moved)

    def _name(self, task: CheckerTask) -> str:
        return task.real.text(task.service.protocol)

    def _absorb(self, state: VirtualServerState, effects: list[Effect]) -> None:
        """Everything that happens in one turn of the loop becomes one batch."""
        self._mark(state.config.key)
        self._tell_later(state, effects)
        if not self._sync_due:
            self._sync_due = True
            asyncio.get_running_loop().call_soon(self._sync)

    def _mark(self, *keys: ServiceKey) -> None:
        self._dirty.update(keys)

    def _evaluate(self, state: VirtualServerState) -> None:
        """The quorum for the first time. VRRP hears of a missing one even where nobody else is told."""
        effects = state.start()
        self._tell_later(state, effects)
        if not effects:
            self.teller.report(state.config, False, state.live_weight)

    def _tell_later(self, state: VirtualServerState, effects: list[Effect]) -> None:
        self._told += [(state, effect) for effect in effects]

    # the table ----------------------------------------------------------------------------------------------------

    def _sync(self, gone: list[ipvs.ServiceId] | None = None) -> None:
        """Bring the services that changed to what they should be, then tell."""
        self._sync_due = False
        states = [self.states[key] for key in self._dirty if key in self.states]
        self._dirty.clear()
        desired = ipvs.desired_table(states)
        self._perform(list(ipvs.reconcile(desired, self.table, gone or ())))
        told, self._told = self._told, []
        for state, effect in told:
            self.teller.tell(state, effect)

    def _perform(self, ops: list[ipvs.Op]) -> None:
        if not ops:
            return
        failed = self.kernel.apply(ops)
        refused = {id(op) for op, _ in failed}
        for _, error in failed:
            logger.error("%s", error)
        for op in ops:
            if id(op) not in refused:
                ipvs.apply(op, self.table)

    def _set_timeouts(self, config: CheckerSlice) -> None:
        """lvs_timeouts; without them what the kernel had is put back."""
        settings = config.global_defs.ipvs
        wanted = {"tcp": settings.timeout_tcp, "tcpfin": settings.timeout_tcpfin, "udp": settings.timeout_udp}
        try:
            if any(wanted.values()):
                self._old_timeouts = self._old_timeouts or self.kernel.timeouts()
                self.kernel.set_timeouts({name: value or self._old_timeouts[name] for name, value in wanted.items()})
            elif self._old_timeouts:
                self.kernel.set_timeouts(self._old_timeouts)
                self._old_timeouts = {}
        except IpvsError as exc:
            logger.error("%s", exc)

    # orders -------------------------------------------------------------------------------------------------------

    def on_message(self, msg: Any) -> None:
        if not isinstance(msg, VrrpStateChanged):
            super().on_message(msg)

    async def drain(self) -> None:
        self.followed.stop()
        await self.scheduler.stop()

    async def stop(self) -> None:
        """Services out, scripts of omega servers, then people get a second."""
        await self.scheduler.stop()
        if not self.options.keep_ipvs:
            self._take_services_away()
        self.followed.stop()
        await self.client.close()
        await self.notifier.finish()

    def _take_services_away(self) -> None:
        if self.config.global_defs.ipvs.flush_on_stop == "all":
            self.kernel.flush()
            self.table.clear()
        else:
            self._perform([ipvs.DeleteService(id) for id in self.table])
        if self._old_timeouts:
            self.kernel.set_timeouts(self._old_timeouts)
        for state in self.states.values():
            if state.config.omega:
                self._tell_farewell(state)

    def _tell_farewell(self, state: VirtualServerState) -> None:
        """Services that are deleted as a whole take their real servers with them untold (checker-behaviour.md 7)."""
        for real in state.reals.values():
            if real.alive and self.config.global_defs.ipvs.flush_on_stop == "no":
                self.teller.gone(state.config, real.config, SHUTTING_DOWN)
        self.teller.stopped(state.config)

    def dump(self, kind: DumpKind) -> None:
        if kind is DumpKind.DATA:
            dump.write("keepalived_check.data", self._describe())

    def _describe(self) -> str:
        """States with the last result of every checker, for people."""
        lines = [f"Worst lateness of a check: {self.scheduler.worst_lateness * 1000:.3f} ms"]
        for key, state in self.states.items():
            lines.append(
                f"Virtual server {key}: quorum {'up' if state.had_quorum else 'down'}, weight {state.live_weight}"
            )
            for real_key, real in state.reals.items():
                lines.append(f"  Real server {real_key}: {'up' if real.alive else 'down'}, weight {real.weight}")
                for task in self.tasks[key][real_key]:
                    last = "not checked yet" if task.last is None else task.last.failure or "well"
                    lines.append(f"    {task.checker.name}: {'up' if task.state.up else 'down'}, last: {last}")
        return "\n".join(lines) + "\n"


def _id(task: CheckerTask) -> Hashable:
    """What tells the checkers of one real server apart."""
    return task.number

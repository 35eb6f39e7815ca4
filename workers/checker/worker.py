"""The checker worker: checks real servers and keeps the IPVS table true. Kernel first, people after."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from ipc.messages import BfdSessionChanged, DumpKind, GroupMarked, Peer, TimeoutsReplaced, VrrpStateChanged
from keepalived_py import dumpfile
from keepalived_py.checks import dump_text
from keepalived_py.checks.virtual_server import (
    Effect,
    QuorumChanged,
    RealServerState,
    VirtualServerState,
    replaced,
)
from keepalived_py.config.diff import diff_by_key, moved
from keepalived_py.config.model import (
    Check,
    CheckerSlice,
    MiscCheck,
    RealServer,
    VirtualServer,
)
from keepalived_py.dump_globals import global_section
from keepalived_py.plan import ipvs
from keepalived_py.values import ExitCode, RealKey, ServiceKey
from workers.notify import Notifier
from workers.shortages import OF_SOCKETS
from workers.sync_daemon import BOTH, SyncDaemon
from workers.worker import Worker, WorkerContext, WorkerError

from . import describe
from .address_log import AddressLog
from .adoption import adopt_reports, adopted_marks, adopted_timeouts, sets_weight
from .connections import AnyChecker
from .followed import Followed, FollowedCheck, follows, judge
from .http import HttpClient
from .ipvs_kernel import IpvsError, resolve_family
from .ipvs_statistics import Usage
from .marks import GroupMarks
from .matching import TaskMaker
from .probe import Result
from .registry import make_checkers, modules
from .suspend import HostAddresses, suspend
from .table import ServiceTable
from .task import CheckerTask, Scheduler
from .teller import REMOVING, SHUTTING_DOWN, Teller
from .tls import TlsContexts, TlsError

logger = logging.getLogger(__name__)

FEW = 20
"""Virtual and real servers whose text is made in less time than a fork takes."""
FAREWELLS = 200
"""Real servers that the log names at the stop."""


def run_checker(context: WorkerContext[CheckerSlice]) -> int:
    """Main function of the process."""
    return CheckerWorker(context).run()


def warm() -> None:
    """What every checker process needs and its parent can find out once."""
    with contextlib.suppress(IpvsError):
        resolve_family()


class CheckerWorker(Worker[CheckerSlice]):
    """All virtual servers of this machine."""

    role = Peer.CHECKER
    ident = "Keepalived_healthcheckers"
    log_role = "check"
    title = "keepalived_checker"
    process_name = "keepalived_lvs"
    needs: ClassVar[Mapping[str, str]] = {"CAP_NET_ADMIN": "IPVS"}

    def __init__(self, context: WorkerContext[CheckerSlice]) -> None:
        super().__init__(context)
        self.states: dict[ServiceKey, VirtualServerState] = {}
        self.tasks: dict[ServiceKey, dict[RealKey, list[CheckerTask]]] = {}
        self.scheduler = Scheduler(self._checked)
        self.maker = TaskMaker(self.scheduler, self._checkers)
        self.notifier = Notifier(self.config.global_defs.script_time_limit)
        self.teller = Teller(self.notifier, self.channel)
        self._dirty: set[ServiceKey] = set()
        self._dirty_rows: dict[ServiceKey, set[RealKey]] = {}
        self._told: list[tuple[VirtualServerState, Effect]] = []
        self._sync_due = False
        self._family = 0
        self.address_log: AddressLog | None = None
        self.addresses = HostAddresses(self._addresses_changed)
        self.marks = GroupMarks(self.config.global_defs.root.net_namespace_ipvs)
        self.sync_daemon = SyncDaemon(self.config.global_defs.root.net_namespace_ipvs)
        self._errors: Counter[str] = Counter()

    def needed(self) -> Mapping[str, str]:
        if self.config.global_defs.root.net_namespace_ipvs is None:
            return self.needs
        return {**self.needs, "CAP_SYS_ADMIN": "net_namespace_ipvs"}

    def modules(self, config: CheckerSlice) -> Iterable[str]:
        return (*super().modules(config), *modules(config.checker))

    def prepare(self) -> None:
        try:
            self._family = resolve_family()
        except IpvsError as exc:
            if self.config.checker.virtual_servers:
                raise WorkerError(str(exc)) from exc
            logger.info("%s, which nothing needs yet", exc)  # option --all

    async def start(self) -> None:
        self.client, self.followed = HttpClient(), Followed(self._subject_changed)
        if self.options.watch_addresses:
            self.address_log = AddressLog()
        self._prepare_checkers(self.config)
        self.scheduler.sharing.enabled = self.config.global_defs.checker_share_probes
        self.teller.configure(self.config)
        for config in self.config.checker.virtual_servers:
            self._add(config)
        adopt_reports(self.states.values(), self.tasks, self.context.reported)
        gone = await self._take_table()
        self._arrange(self.config)
        for state in self.states.values():
            self._evaluate(state, self.config.global_defs.rs_init_notifies and not self.context.reported)
        self._mark(*self.states)
        self._sync(gone)

    async def _take_table(self) -> list[ipvs.ServiceId]:
        """What stands from before stays, as far as it is ours; services of ours that have to go. Raises WorkerError."""
        settings, marks = self.config.global_defs.ipvs, adopted_marks(self.context.reported)
        abandoned = self.context.abandoned.checker.virtual_servers if self.context.abandoned is not None else ()
        left = {id for server in abandoned for id in ipvs.service_ids(server, marks)}
        try:
            self.table = ServiceTable(self._family, self.config.global_defs.root.net_namespace_ipvs)
            if settings.flush and not self.context.reported:
                self.table.kernel.flush()
            if settings.nftables_table:
                self.marks.marks = marks
            await self._give_marks(self.config)
            gone = self.table.adopt(self.states.values(), left)
            self.table.old_timeouts = adopted_timeouts(self.context.reported)
        except (IpvsError, OSError) as exc:
            number = exc.code if isinstance(exc, IpvsError) else exc.errno
            raise WorkerError(str(exc), ExitCode.PROGRAM_ERROR if number in OF_SOCKETS else ExitCode.FATAL) from exc
        self.spawn(self.table.watch(lambda: list(self.states.values())))
        return gone

    async def _find_ipvs(self) -> None:
        """The first services come with a reload. Raises WorkerError."""
        try:
            self.table.kernel.family = await asyncio.to_thread(resolve_family)
        except (IpvsError, RuntimeError) as exc:  # no IPVS, or no thread
            raise WorkerError(str(exc)) from exc

    async def _give_marks(self, config: CheckerSlice) -> None:
        """To groups, with nftables_ipvs; a successor hears of them."""
        before = self.marks.marks
        self.marks.restorer.limit = config.global_defs.restore_lost
        marks = await self.marks.apply(config.global_defs.ipvs, config.checker.virtual_servers)
        for group, protocol in dict.fromkeys((*before, *marks)):
            mark = marks.get((group, protocol), 0)
            if before.get((group, protocol)) != mark:
                self.channel.send(GroupMarked(group=group, protocol=protocol.value, mark=mark))
        self.table.marks = marks

    def _arrange(self, config: CheckerSlice) -> None:
        """What concerns all virtual servers: timeouts, the sync daemon, addresses that ha_suspend looks at."""
        buffers = config.global_defs.buffers
        monitor = buffers.lvs_netlink_monitor, buffers.lvs_netlink_monitor_force
        self.table.kernel.resize(buffers.lvs_netlink_cmd, buffers.lvs_netlink_cmd_force)
        if self.address_log is not None:
            self.address_log.resize(*monitor)
        self._set_timeouts(config)
        settings = config.global_defs.lvs_sync_daemon
        alone = settings if settings is not None and not settings.instance else None
        self.sync_daemon.set(alone, BOTH, (alone.syncid or 0) if alone else 0)
        self.addresses.watch(any(server.ha_suspend for server in config.checker.virtual_servers), monitor)
        self._addresses_changed()

    def _set_timeouts(self, config: CheckerSlice) -> None:
        """lvs_timeouts; a successor hears what there was before."""
        before = self.table.old_timeouts
        self.table.set_timeouts(config.global_defs.ipvs)
        if self.table.old_timeouts != before:
            self.channel.send(TimeoutsReplaced(**self.table.old_timeouts))

    def _addresses_changed(self) -> None:
        """ha_suspend."""
        for key, state in self.states.items():
            tasks = (task for tasks in self.tasks[key].values() for task in tasks)
            suspend(state.config, tasks, self.addresses.present, self.scheduler)

    # virtual servers and their checkers ---------------------------------------------------------------------------

    def _prepare_checkers(self, config: CheckerSlice) -> None:
        """Load what the checkers need. Raises WorkerError, with nothing changed."""
        contexts = self._contexts(config)
        try:
            self.followed.apply(config)
        except OSError as exc:
            raise WorkerError(str(exc)) from exc
        self.client.tls = contexts

    def _contexts(self, config: CheckerSlice) -> TlsContexts:
        """Raises WorkerError."""
        contexts = TlsContexts(config.checker.ssl)
        try:
            contexts.load(config)
        except (TlsError, OSError) as exc:
            raise WorkerError(str(exc)) from exc
        return contexts

    def _add(self, config: VirtualServer) -> None:
        state = self.states[config.key] = VirtualServerState(config)
        self.tasks[config.key] = {}
        for real in config.real_servers:
            tasks = self.tasks[config.key][real.key] = self.maker.new(config.key, real)
            state.reals[real.key].failed = {_id(task) for task in tasks if not task.state.up}
            state.reals[real.key].points = {_id(task): task.points for task in tasks if task.points}

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

    def _checkers(self, check: Check, real: RealServer) -> tuple[AnyChecker, ...]:
        return make_checkers(check, real, self.client, self.followed)

    def _remove(self, key: ServiceKey) -> None:
        state = self.states.pop(key)
        for real_key, tasks in self.tasks.pop(key).items():
            for task in tasks:
                self.scheduler.remove(task)
            self._tell_removal(state.config, state.reals[real_key])
        if state.had_quorum:
            self.teller.removed(state.config)

    def _tell_removal(self, service: VirtualServer, real: RealServerState) -> None:
        self.teller.leaves(service, real, REMOVING)
        if real.alive:
            self.teller.gone(service, real.config, REMOVING)

    async def check(self, new: CheckerSlice) -> None:
        if new.checker.virtual_servers and not self.table.kernel.family:
            await self._find_ipvs()
        self._contexts(new)

    async def apply(self, new: CheckerSlice) -> None:
        """Move to `new`; what did not change is not touched (checker-behaviour.md 6)."""
        if new.checker.virtual_servers and not self.table.kernel.family:
            await self._find_ipvs()
        self._prepare_checkers(new)
        self.teller.configure(new)
        waiting = [task for task in self._all_tasks() if not isinstance(task.config, FollowedCheck)]
        self.scheduler.share(new.global_defs.checker_share_probes, waiting)
        before, init_notifies = self.table.marks, new.global_defs.rs_init_notifies
        await self._give_marks(new)
        running = self._renamed(self.config.checker.virtual_servers, new.checker.virtual_servers)
        changes = diff_by_key(running, new.checker.virtual_servers, lambda server: server.key)
        for config in changes.removed:
            self._remove(config.key)
        for config in changes.added:
            self._add(config)
            self._evaluate(self.states[config.key], init_notifies)
            self._introduce(self.states[config.key], config.real_servers)
        # in the order of the file: where several are one service of IPVS the first says how it works
        self.states = {config.key: self.states[config.key] for config in new.checker.virtual_servers}
        for old, config in changes.changed:
            self._reconfigure(config, init_notifies)
            self._mark_rows(config.key, ipvs.rows_that_changed(old, config))
        self.config = new
        self._arrange(new)
        self._mark(*(config.key for config in changes.added))
        for task in self._all_tasks():
            self._judge_again(task)  # a track_file may be another one now
        sharing = bool(self.table.shared)
        ours = self.table.know(self.states.values())
        if self.table.marks != before or sharing or self.table.shared:
            self._mark(*self.states)
        self._sync([id for id in self.table.rows if id not in ours])
        self.table.look_again()

    def _renamed(self, old: Sequence[VirtualServer], new: Sequence[VirtualServer]) -> Sequence[VirtualServer]:
        """`old` by the keys of `new`: a virtual server of a group goes on where others come or go before it."""
        names = moved(old, new)
        if not names:
            return old
        taken = set(names.values())
        for key in [server.key for server in old if server.key in taken and server.key not in names]:
            self._remove(key)  # its name is that of another now
        states, tasks = dict(self.states), dict(self.tasks)
        for key in names:
            del self.states[key], self.tasks[key]
        for key, name in names.items():
            state, reals = states[key], tasks[key]
            self.states[name], self.tasks[name] = state, reals
            state.config = replace(state.config, key=name)
            for task in (task for each in reals.values() for task in each):
                task.service = name
            self.teller.report(state.config, state.had_quorum, state.live_weight)
            for real in state.reals.values():
                self.teller.report_real(state.config, real.config, real.alive, f"{key} until a reload")
                self._report_weight(state, real.config.key)
        self._mark(*taken)
        return [state.config for state in self.states.values()]

    def _reconfigure(self, config: VirtualServer, init_notifies: bool) -> None:
        state = self.states[config.key]
        known = self.tasks[config.key]
        old_reals = state.reals
        rows = replaced(state.config, config)
        reals = {real.key: real for real in (config.real_servers if rows is None else rows)}
        for key in [key for key in known if key not in reals] if rows is None else ():
            for task in known[key]:
                self.scheduler.remove(task)
            self._tell_removal(state.config, old_reals[key])
        ours = self.tasks[config.key] = {} if rows is None else dict(known)
        failed: dict[RealKey, set[Hashable]] = {}
        points: dict[RealKey, dict[Hashable, int]] = {}
        for key, real in reals.items():
            if not (real.checks or known.get(key)):
                ours[key] = []
                continue
            old_weight = old_reals[key].config.weight if key in old_reals else real.weight
            tasks = ours[key] = self.maker.matched(config.key, real, known.get(key, []), old_weight)
            if not all(task.state.up for task in tasks):
                failed[key] = {_id(task) for task in tasks if not task.state.up}
            if any(task.points for task in tasks):
                points[key] = {_id(task): task.points for task in tasks if task.points}
        self._tell_later(state, state.reconfigure(config, failed, points, init_notifies))
        self._introduce(state, [real for real in reals.values() if real.key not in old_reals])
        self._introduce(state, [real for real in reals.values() if real.key in old_reals], "kept")

    def _introduce(self, state: VirtualServerState, reals: Iterable[RealServer], how: str = "added") -> None:
        """The parent hears of new real servers: it may remember others of that name, which were taken away.

        And of those that are not what they would begin as in a successor.
        """
        for config in reals:
            real = state.reals[config.key]
            if how == "added" or (real.alive is _is_alpha(config) and not real.told):
                self.teller.report_real(state.config, config, real.alive, f"{how} by a reload")
            self._report_weight(state, config.key)

    def _report_weight(self, state: VirtualServerState, key: RealKey) -> None:
        """A successor goes on with what scripts have said."""
        real, tasks = state.reals.get(key), self.tasks[state.config.key].get(key, ())
        setting = [task for task in tasks if sets_weight(task)]
        if real is None or not setting:
            return
        said = [task.points for task in setting if task.points is not None]
        self.teller.report_weight(state.config, real.config, real.config.weight + sum(said) if said else -1)

    # results ------------------------------------------------------------------------------------------------------

    def _checked(self, task: CheckerTask, result: Result) -> None:
        """One check is done: its checker's opinion, the server's state, the table."""
        if not result.made:
            self._errors[result.failure] += 1
            if result.failure != task.obstacle:
                logger.warning(
                    "%s on service %s could not be made: %s", task.checker.name, self._name(task), result.failure
                )
            task.obstacle = result.failure
            return
        if task.obstacle:
            logger.info("%s on service %s can be made again", task.checker.name, self._name(task))
            task.obstacle = ""
        first = not task.state.has_run
        changed = task.state.record(result.success)
        if result.success and result.points == task.points and not changed and not first:
            return  # as nearly all are
        state = self.states[task.service]
        # before the server comes up: it does so with this weight
        if result.success and task.points != result.points:
            task.points = result.points
            self._report_weight(state, task.real)
            self._absorb(state, task.real, state.weight_changed(task.real, _id(task), result.points or 0))
        if changed:
            logger.info(
                "%s on service %s %s",
                task.checker.name,
                self._name(task),
                "succeeded" if result.success else f"failed: {result.failure}",
            )
            reason = f"{task.checker.name} {'succeeded' if result.success else result.failure}"
            effects = state.checker_changed(task.real, _id(task), task.state.up, reason)
            self._absorb(state, task.real, effects)
            self._mail(task, state, result, moved=bool(effects))
        elif not result.success:
            if first and task.state.has_run and not task.state.up:
                self._absorb(state, task.real, state.first_failure(task.real, f"{task.checker.name} {result.failure}"))
            if task.state.timing.log_all_failures:
                logger.info("%s on service %s failed: %s", task.checker.name, self._name(task), result.failure)
        if first and not changed and isinstance(task.config, MiscCheck):
            self._mail(task, state, result, moved=False)  # keepalived mails the first result of a script in any case

    def _mail(self, task: CheckerTask, state: VirtualServerState, result: Result, *, moved: bool) -> None:
        real = state.reals.get(task.real)
        if real is not None:
            self.teller.checked(state, real.config, task.config, result.success, result.failure, moved=moved)

    def _name(self, task: CheckerTask) -> str:
        return task.real.text(task.service.protocol)

    def _absorb(self, state: VirtualServerState, real: RealKey, effects: list[Effect]) -> None:
        """Everything that happens in one turn of the loop becomes one batch."""
        self._mark_rows(state.config.key, {real})
        self._tell_later(state, effects)
        if not self._sync_due:
            self._sync_due = True
            asyncio.get_running_loop().call_soon(self._sync)

    def _mark(self, *keys: ServiceKey) -> None:
        self._dirty.update(keys)

    def _mark_rows(self, key: ServiceKey, reals: set[RealKey] | None) -> None:
        """Some real servers of a virtual server, or None for all there is to it."""
        if reals is None:
            self._mark(key)
        else:
            self._dirty_rows.setdefault(key, set()).update(reals)

    def _evaluate(self, state: VirtualServerState, init_notifies: bool) -> None:
        """The quorum for the first time. VRRP hears of it even where nobody else is told."""
        effects = state.start(init_notifies)
        self._tell_later(state, effects)
        if not any(isinstance(effect, QuorumChanged) for effect in effects):
            self.teller.report(state.config, state.had_quorum, state.live_weight)

    def _tell_later(self, state: VirtualServerState, effects: list[Effect]) -> None:
        self._told += [(state, effect) for effect in effects]

    # the table ----------------------------------------------------------------------------------------------------

    def _sync(self, gone: Iterable[ipvs.ServiceId] = ()) -> None:
        """Bring the services that changed to what they should be, then tell."""
        self._sync_due = False
        states = [self.states[key] for key in self._dirty if key in self.states]
        rows = [
            (self.states[key], reals)
            for key, reals in self._dirty_rows.items()
            if key in self.states and key not in self._dirty
        ]
        self._dirty, self._dirty_rows = set(), {}
        self.table.sync(states, gone, rows)
        told, self._told = self._told, []
        for state, effect in told:
            self.teller.tell(state, effect)

    # orders -------------------------------------------------------------------------------------------------------

    def on_message(self, msg: Any) -> None:
        if isinstance(msg, VrrpStateChanged):
            self.addresses.read_all()  # addresses move with instances, and a notice may have been lost
        elif isinstance(msg, BfdSessionChanged):
            self.followed.sessions.tell(msg.name, msg.up)
        else:
            super().on_message(msg)

    async def drain(self) -> None:
        self.table.rest()
        self.followed.stop()
        await self.scheduler.stop()

    async def stop(self) -> None:
        """Services out, scripts of omega servers, then people get a second."""
        await self.scheduler.stop()
        self.table.rest()
        self.addresses.watch(False)
        # after an error of its own another worker goes on with what stands, as after any other death
        if not self.options.keep_ipvs and self._exit_code == ExitCode.OK:
            self._take_services_away()
            self.sync_daemon.set(None, BOTH)
            await self.marks.close()
        self.followed.stop()
        await self.client.close()
        await self.notifier.finish()

    def _take_services_away(self) -> None:
        flush = self.config.global_defs.ipvs.flush_on_stop
        self.table.clear(flush=flush == "all")
        if flush == "no":
            self._tell_end()
        for state in self.states.values():
            if state.config.omega:
                self._tell_farewell(state)

    def _tell_end(self) -> None:
        """A line for each real server, but the stop does not take longer for ten thousand."""
        rows = [(state.config, real) for state in self.states.values() for real in state.reals.values() if real.has_row]
        for service, real in rows[:FAREWELLS]:
            self.teller.leaves(service, real, SHUTTING_DOWN)
        if len(rows) > FAREWELLS:
            logger.info("%s %d more services", SHUTTING_DOWN, len(rows) - FAREWELLS)

    def _tell_farewell(self, state: VirtualServerState) -> None:
        """Services that are deleted as a whole take their real servers with them untold (checker-behaviour.md 7)."""
        for real in state.reals.values():
            if real.alive and self.config.global_defs.ipvs.flush_on_stop == "no":
                self.teller.gone(state.config, real.config, SHUTTING_DOWN)
        self.teller.stopped(state.config)

    def descriptors(self, config: CheckerSlice) -> int:
        """Two for each check: its connection, and what it resolves or executes."""
        servers = config.checker.virtual_servers
        return 2 * sum(len(real.checks) for server in servers for real in server.real_servers)

    def dump(self, kind: DumpKind) -> None:
        if kind is DumpKind.DATA:
            dumpfile.tell("checker data")
            path = dumpfile.state_path(self.config.global_defs, self.log_role)
            self.dumps.put(path, self.describe(), brief=sum(1 + len(each) for each in self.tasks.values()) <= FEW)

    def armed(self) -> int:
        return self.scheduler.waiting

    def describe(self) -> Callable[[], str]:
        vitals, usage = tuple(self.vitals()), self._usage()

        def text() -> str:
            lines = (
                *vitals,
                *self.scheduler.lateness.lines("checks"),
                f"Operations that put back what others had changed in IPVS: {self.table.repaired}",
                *describe.servers(self.states, self.tasks, usage),
            )
            known = dump_text.data_text(
                self.states.values(),
                map(describe.snapshot, self._all_tasks()),
                before=[global_section(self.config.global_defs, os.uname().nodename)],
                config=self.config.checker,
                files=self.followed.values(self.config),
            )
            return f"{known}------< keepalived-py >------\n" + "".join(f" {line}\n" for line in lines)

        return text

    def _usage(self) -> Mapping[ServiceKey, Usage]:
        try:
            return self.table.usage(self.states.values())
        except IpvsError as exc:
            logger.error("%s", exc)
            return {}


def _is_alpha(real: RealServer) -> bool:
    return any(check.timing.alpha for check in real.checks)


def _id(task: CheckerTask) -> Hashable:
    """What tells the checkers of one real server apart."""
    return task.number

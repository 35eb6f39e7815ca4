"""The parent: forks the workers, feeds them, relays between them, starts them again, and stops them in order.

It forks between two runs of its event loop, never inside one: the loop hands back when a process is wanted, the plain
code around it forks, and the child starts a loop of its own. Stop order: VRRP at once (farewell, addresses out); the
checker starts nothing new meanwhile and takes the IPVS rows away when VRRP is gone, so that traffic has moved before.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
from collections import Counter
from collections.abc import Callable
from errno import EINVAL, EPERM
from functools import partial
from typing import Any

import setproctitle

from ipc.channel import Channel
from ipc.messages import (
    AdoptConfig,
    ApplyConfig,
    ConfigAccepted,
    ConfigApplied,
    ConfigLoaded,
    ConfigRefused,
    Drain,
    Drained,
    DumpKind,
    DumpRequest,
    Heartbeat,
    Hello,
    Peer,
    Stop,
    Stopped,
    VirtualServerStateChanged,
    VrrpStateChanged,
    merge_key,
)
from keepalived_py.clock import now
from keepalived_py.config.delta import Delta, difference
from keepalived_py.config.model import Config
from keepalived_py.config.slices import checker_slice, vrrp_slice
from keepalived_py.dump_process import DumpProcesses
from keepalived_py.memory_trace import MemoryTrace
from keepalived_py.signal_watch import SignalWatch
from keepalived_py.values import ExitCode

from .absence import give_up_mastership, masters, patience
from .child import Child, collected, fork_process
from .fifos import Fifos
from .hook import GRACE as HOOK_GRACE
from .hook import Hooks
from .last_good import Reading
from .loader import Loader
from .reload import Applied, ReloadCoordinator
from .reload_files import ReloadClock, create, reload_file, remove
from .report import dump_parent, keep_copy, status
from .restart import PERMANENT, GiveUp, RestartPolicy
from .roles import NAMES, Plan, Role, has_work, last_words
from .signals import hear_no_more
from .watch import StallWatch

logger = logging.getLogger(__name__)

PR_SET_CHILD_SUBREAPER = 36
RELAYS = {VrrpStateChanged: Peer.CHECKER, VirtualServerStateChanged: Peer.VRRP}
RETRY_FORK = 1.0
START_LIMIT = 60.0
"""Seconds that workers may take to start after startup_script, as in the unit."""
SERVICES_LIMIT = 5.0
"""Seconds that VRRP waits at the start for the services of the checker."""
READ_LIMIT = 300.0
"""Seconds that the reading may take before it counts as hanging, with reload_check_config too."""


CLEANERS = 3
"""Workers that are made one after the other to take away what one left that was killed in the stop."""


class Supervisor:
    """One daemon, from its first configuration to its exit code."""

    def __init__(self, plan: Plan, applied: Applied) -> None:
        self.plan = plan
        self.reload = ReloadCoordinator(applied)
        self.roles = {peer: Role(RestartPolicy(plan.respawn)) for peer in plan.mains}
        self.exit_code = 0
        self._stopping = False
        self._cleaned: Counter[Peer] = Counter()
        self._finished = False
        self._jobs: list[Callable[[], None]] = []
        self._loop = asyncio.new_event_loop()
        self._hooks = Hooks(self._loop, self._later, plan.start_script)
        self._loader = Loader(self._loop, self._loaded, self._load_failed)
        self._dumps = DumpProcesses()
        self._watch = StallWatch(self._loop, self.roles, self._tell, self._ended)
        self._clock = ReloadClock(self._loop, self.request_reload)
        self._fifos = Fifos()
        self._memory = MemoryTrace(plan.trace_memory)
        self._adopted: Config | None = None
        self._expected: set[Peer] = set()
        """Workers of the start that have not confirmed."""
        self._wake = asyncio.Event()

    def run(self) -> int:
        """Serve until stopped."""
        setproctitle.setproctitle(self.plan.command_line(self.plan.title))
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
        asyncio.set_event_loop(None)
        self._install_signals()
        self._adopt()
        self._fifos.expect(self.reload.current.config)
        self.plan.systemd.attend(self._loop)
        remove(reload_file(self.reload.current.config.global_defs))
        keep_copy(self.reload.current, self._dumps)
        self._run_startup_script()
        self._watch.start()
        while not self._finished:
            jobs, self._jobs = self._jobs, []
            for job in jobs:
                job()
            self._loop.run_until_complete(self._until_woken())
        hear_no_more()
        self._watch.stop()
        self._clock.close()
        self._fifos.remove()
        for pid_file in self.plan.pid_files.values():
            pid_file.remove()
        self._memory.report("the stop")
        logger.info("Stopped")
        self._loop.close()  # the interpreter may take its sockets away first, and complain
        return self.exit_code

    def _run_startup_script(self) -> None:
        defs = self.reload.current.config.global_defs
        if defs.startup_script is not None:
            self.plan.systemd.extend(defs.startup_script_timeout + HOOK_GRACE + START_LIMIT)
        self._hooks.run("startup_script", defs.startup_script, defs.startup_script_timeout, self._start_workers)

    def _start_workers(self) -> None:
        """The start-up script is over."""
        if self._stopping:
            self._stop_next()
            return
        wanted = {peer for peer in self.roles if self._needed(peer, self.reload.current.config)}
        self._expected = set(wanted)
        for peer in self.plan.pid_files.keys() - wanted - {Peer.PARENT}:
            self.plan.pid_files[peer].discard()
        if Peer.CHECKER in wanted:
            self._later(partial(self._spawn, Peer.CHECKER))
            self._loop.call_later(SERVICES_LIMIT, self._start_vrrp)
        else:
            self._start_vrrp()
        if not wanted:
            logger.warning("Warning - keepalived has no configuration to run: no instance and no virtual server")
        self._proceed()

    @property
    def _starting(self) -> bool:
        """The start-up script runs, or a worker of the start has yet to confirm; for one that died nobody waits."""
        waiting = bool(self._expected) and not any(self.roles[peer].deaths for peer in self._expected)
        return waiting or self._hooks.running

    def _start_vrrp(self) -> None:
        """The services stand: an address that came before them would be taken from a router that serves it."""
        if Peer.VRRP in self._expected:
            self._later(partial(self._spawn, Peer.VRRP))

    def _adopt(self) -> None:
        """A configuration is in force: what it means for this process."""
        config = self.reload.current.config
        if config is not self._adopted:
            if self._adopted is not None:
                self._expected.clear()
                for role in self.roles.values():
                    role.forget(config)
                self.plan.last_good.confirm(Reading.RELOAD)
                self._memory.report(f"reload {self.reload.current.generation}")
            self._adopted = config
            self.plan.adopt(config)
            setproctitle.setthreadtitle(config.global_defs.parent_process_name or self.plan.title)
            self._clock.apply(config.global_defs.reload)
            self._watch.restart_after = config.global_defs.restart_stalled

    def _tell(self) -> None:
        """Tell the service manager how things are."""
        busy = bool(self._expected or self.reload.busy or self._stopping or self._hooks.running)
        self.plan.systemd.now(status(self.roles, self.reload), busy)

    async def _until_woken(self) -> None:
        await self._wake.wait()
        self._wake.clear()

    def _later(self, job: Callable[[], None]) -> None:
        """Run `job` outside of the loop: the only place that may fork."""
        self._jobs.append(job)
        self._wake.set()

    def _needed(self, peer: Peer, config: Config) -> bool:
        return self.plan.run_all or has_work(peer, config)

    def _runs(self, peer: Peer, config: Config) -> bool:
        """Whether there is a worker of that kind, or there will be one with `config`."""
        role = self.roles.get(peer)
        return role is not None and (role.child is not None or role.left is not None or self._needed(peer, config))

    # signals ------------------------------------------------------------------------------------------------------

    def _install_signals(self) -> None:
        add = SignalWatch(self._loop).on
        add(signal.SIGHUP, self.request_reload)
        add(signal.SIGTERM, self.request_stop)
        add(signal.SIGINT, (lambda: None) if self.plan.ignore_sigint else self.request_stop)
        add(signal.SIGCHLD, self._loop.call_soon, self._reap)  # after a stop that came with it
        add(signal.SIGUSR1, self._relay_dump, DumpKind.DATA)
        add(signal.SIGUSR2, self._relay_dump, DumpKind.STATS)
        add(signal.SIGRTMAX - 1, self._relay_dump, DumpKind.STATS_CLEAR)
        add(signal.SIGRTMIN + 2, self._relay_dump, DumpKind.JSON)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # whatever whoever started this had blocked

    def _relay_dump(self, kind: DumpKind) -> None:
        """The workers first: programs wait for their files, some of them for ten milliseconds."""
        for peer, role in self.roles.items():
            if role.child is not None and (peer is Peer.VRRP or kind is DumpKind.DATA):
                role.child.send(DumpRequest(kind=kind))
        if kind is DumpKind.DATA:
            dump_parent(self.roles, self.reload, self._watch.lateness, self._dumps)

    # starting -----------------------------------------------------------------------------------------------------

    def _spawn(self, peer: Peer) -> None:
        """Fork a worker, unless there is one or none is wanted any more; runs outside of the loop."""
        role, target = self.roles[peer], self.reload.target
        if self._stopping or role.child is not None or not self._runs(peer, target.config):
            return
        applied = self._begin_of(role)
        self._fork(peer, applied)
        if role.child is not None and applied is not target:
            self._hand_out(peer, target)  # what it takes away then is what its predecessor left

    def _begin_of(self, role: Role) -> Applied:
        """What a worker begins with: what is to be, unless one that died has left something else."""
        target = self.reload.target
        return target if role.left is None or role.left.config is target.config else role.left

    def _fork(self, peer: Peer, applied: Applied) -> None:
        role = self.roles[peer]
        reports, parent = last_words(self.roles, peer), os.getpid()
        main = self.plan.mains[peer]
        try:
            if peer in self.plan.warm:
                self.plan.warm[peer]()
            pid, sock = fork_process(peer, lambda theirs: main(theirs, applied, reports, parent))
        except OSError as exc:
            self._not_forked(peer, exc)
            return
        channel = Channel(sock, peer, partial(self._heard, peer), partial(self._lost, peer, pid))
        role.child = Child(peer, pid, channel, generation=applied.generation, held=applied, last_beat=now())
        role.stalled = role.unclean = False
        channel.attach(self._loop)
        self.plan.write_pid(peer, pid)
        logger.info("Starting %s child process, pid=%d", NAMES[peer], pid)

    def _not_forked(self, peer: Peer, exc: OSError) -> None:
        """Out of processes, descriptors or memory: that may pass. A reload does not wait for it."""
        logger.error("%s child process cannot be started: %s - trying again", NAMES[peer], exc.strerror)
        if self._stopping:
            self._stop_next()
            return
        if self.reload.target is not self.reload.current:
            self._take_back(peer, "no process for it")
        self._loop.call_later(RETRY_FORK, self._later, partial(self._spawn, peer))

    # what workers say ---------------------------------------------------------------------------------------------

    def _heard(self, peer: Peer, msg: Any) -> None:
        role = self.roles[peer]
        child = role.child
        if child is None:
            return
        child.last_beat = now()
        match msg:
            case Heartbeat():
                self._watch.beat(peer, msg)
            case ConfigApplied():
                child.ready, child.generation, role.left = True, msg.generation, None
                if msg.generation == self.reload.target.generation:
                    child.held = self.reload.target
                starting = bool(self._expected)
                self._expected.discard(peer)
                if starting and not self._expected:
                    logger.info("Startup complete")
                    self.plan.last_good.confirm(Reading.START)
                    self._memory.start()
                self._start_vrrp()
                self._accepted(peer, msg.generation)
                self.reload.confirmed(peer, msg.generation)
                self._proceed()
            case ConfigAccepted():
                self._accepted(peer, msg.generation)
                self._tell()
            case ConfigRefused():
                if msg.generation == self.reload.target.generation:  # of an earlier one all know already
                    self._take_back(peer, msg.reason)
            case Hello() | Drained() | Stopped():
                pass
            case _:
                self._relay(role, msg)

    def _relay(self, role: Role, msg: Any) -> None:
        key = merge_key(msg)
        if key is not None:
            role.reports[key] = msg
        other = self.roles.get(RELAYS.get(type(msg), Peer.PARENT))
        if other is not None and other.child is not None:
            other.child.send(msg)

    def _lost(self, peer: Peer, pid: int, reason: str) -> None:
        """The channel broke: the worker is dead, or has to be."""
        if reason:
            logger.error("%s child process(%d): %s", NAMES[peer], pid, reason)
        self._loop.call_later(1.0, self._kill, peer, pid)

    def _kill(self, peer: Peer, pid: int) -> None:
        child = self.roles[peer].child
        if child is not None and child.pid == pid:
            logger.error("%s child process(%d) has to be killed", NAMES[peer], pid)
            os.kill(pid, signal.SIGKILL)

    # death --------------------------------------------------------------------------------------------------------

    def _reap(self) -> None:
        """Collect every process that ended; as PID 1 also those that others left behind."""
        for pid, code in collected():
            self._ended(pid, code)

    def _ended(self, pid: int, code: int) -> None:
        if any(each.ended(pid, code) for each in (self._loader, self._hooks, self._dumps)):
            return
        for peer, role in self.roles.items():
            if role.child is not None and role.child.pid == pid:
                self._worker_ended(peer, role, code)

    def _worker_ended(self, peer: Peer, role: Role, code: int) -> None:
        child = role.child
        assert child is not None
        child.channel.drain()  # a change of state just before it died may have moved addresses
        role.child = None
        role.deaths += 1
        role.unclean = code != ExitCode.OK and code not in PERMANENT and self._cleaned[peer] < CLEANERS
        if child.ready:
            role.left = child.held if role.unclean else None
        if self._stopping:
            self._stop_next()
            return
        if not child.ready and role.left is child.held and self._begin_of(role) is not self.reload.target:
            self._give_up_left(peer, role)
            return
        how = f"signal {-code}" if code < 0 else f"exit status {code}"
        if self._take_back(peer, f"the process died ({how})", died=True) and not child.ready:
            self.plan.remove_pid(peer)
            self._later(partial(self._spawn, peer))
            return  # what was to be new could not be; the daemon goes on as it was
        verdict = role.policy.child_exited(code, now() - child.started)
        if isinstance(verdict, GiveUp):
            logger.error("%s child process(%d) %s", NAMES[peer], child.pid, verdict.reason)
            self.exit_code = verdict.code
            if verdict.code and peer is Peer.VRRP:
                self._withdraw()  # no other worker could do better
            if verdict.code:
                self.plan.systemd.failed(EPERM if verdict.code == ExitCode.NO_PERMISSION else EINVAL)
            self.request_stop()
            return
        logger.warning(
            "%s child process(%d) died: Respawning%s (%s)",
            NAMES[peer],
            child.pid,
            f" in {verdict.delay:g}s" if verdict.delay else "",
            how,
        )
        if peer is Peer.VRRP:
            self._loop.call_later(patience(self._left(role), masters(role.reports)), self._withdraw)
        if verdict.delay:
            self.plan.remove_pid(peer)
            self._loop.call_later(verdict.delay, self._later, partial(self._spawn, peer))
        else:
            self._later(partial(self._spawn, peer))
        self._proceed()

    def _give_up_left(self, peer: Peer, role: Role) -> None:
        """A successor died of what there was before: the next one begins with what is to be."""
        logger.warning("%s child process cannot go on from where its predecessor died", NAMES[peer])
        if peer is Peer.VRRP:
            self._withdraw()
        role.left = None
        target = self.reload.target
        if self._needed(peer, target.config):
            self._later(partial(self._spawn, peer))
        else:
            self.plan.remove_pid(peer)
            self._accepted(peer, target.generation)
            self.reload.confirmed(peer, target.generation)
        self._proceed()

    def _left(self, role: Role) -> Config:
        """The configuration of what the dead worker of `role` has left."""
        return self.reload.current.config if role.left is None else role.left.config

    def _withdraw(self) -> None:
        """VRRP is dead for longer than other routers wait: there would be two masters."""
        role = self.roles[Peer.VRRP]
        names = masters(role.reports)
        if self._stopping or role.child is not None or not names:
            return
        try:
            count = self.plan.withdraw(self._left(role), names)
        except OSError as exc:
            logger.error("addresses cannot be taken away: %s - trying again", exc.strerror)
            self._loop.call_later(RETRY_FORK, self._withdraw)
            return
        give_up_mastership(role.reports)
        logger.warning("No VRRP child in time: %d addresses are taken away", count)

    # reload -------------------------------------------------------------------------------------------------------

    def request_reload(self) -> None:
        """SIGHUP."""
        if self._starting:
            self.reload.postpone()
        elif not self._stopping and self.reload.request():
            self.plan.systemd.reloading()
            self._later(self._start_loader)

    def _start_loader(self) -> None:
        if self._stopping:
            return
        current = self.reload.current
        defs = current.config.global_defs
        create(reload_file(defs))
        self._loader.start(partial(self.plan.load, current), READ_LIMIT)

    def _load_failed(self, reason: str) -> None:
        remove(reload_file(self.reload.current.config.global_defs))
        self.reload.failed(reason)
        self._proceed()

    def _loaded(self, found: ConfigLoaded) -> None:
        remove(reload_file(self.reload.current.config.global_defs))
        applied = self.reload.loaded(found)
        if applied is not None and self._equipped(applied.config):
            keep_copy(applied, self._dumps)
            self._fifos.expect(applied.config)
            peers = [peer for peer in self.roles if self._runs(peer, applied.config)]
            self.reload.handed_out(applied, peers)
            for peer in peers:
                self._hand_out(peer, applied)
        self._proceed()

    def _equipped(self, config: Config) -> bool:
        """Whether workers of this process can do what `config` has."""
        try:
            self.plan.load_modules(config)
        except ImportError as exc:
            self.reload.unfit(str(exc))
            return False
        return True

    def _hand_out(self, peer: Peer, applied: Applied) -> None:
        child = self.roles[peer].child
        if child is None:
            self._later(partial(self._spawn, peer))
            return
        current = self.reload.current
        base = current if child.generation == current.generation else None  # what it confirmed, and we have
        delta = self._part(peer, base.config if base else None, applied.config)
        child.send(
            ApplyConfig(
                generation=applied.generation,
                base=base.generation if base else 0,
                config=delta,
                at_once=not self.reload.is_undecided(applied),
            )
        )

    def _accepted(self, peer: Peer, generation: int) -> None:
        """A worker could move: when all could, all do."""
        if self.reload.accepted(peer, generation):
            for role in self.roles.values():
                if role.child is not None:
                    role.child.send(AdoptConfig(generation=generation))

    def _part(self, peer: Peer, old: Config | None, new: Config) -> Delta:
        """What a worker gets of a configuration."""
        if peer is Peer.CHECKER:
            return difference(checker_slice(old) if old else None, checker_slice(new))
        both = self._runs(Peer.CHECKER, new)
        return difference(vrrp_slice(old) if old else None, vrrp_slice(new, checker_runs=both))

    def _take_back(self, peer: Peer, reason: str, *, died: bool = False) -> bool:
        """All others return to the configuration before; whether there was anything to take back."""
        back = self.reload.refused(peer, reason, died=died)
        if back is None:
            return False
        for other, role in self.roles.items():
            if other is not peer and role.child is not None and role.child.generation != back.generation:
                self._hand_out(other, back)
        self._proceed()
        return True

    def _proceed(self) -> None:
        """Something is over: what is in force, what has waited for this, and how things are."""
        self._adopt()
        if not self._starting and self.reload.take_queued():
            self.request_reload()
        self._tell()

    # stop ---------------------------------------------------------------------------------------------------------

    def request_stop(self) -> None:
        """SIGTERM."""
        if self._stopping:
            return
        self._stopping = True
        self._watch.kills = False  # that is for child_wait_time now
        self._loader.stop()
        remove(reload_file(self.reload.current.config.global_defs))
        checker = self.roles.get(Peer.CHECKER)
        if checker is not None and checker.child is not None:
            checker.child.send(Drain())
        if not self._hooks.stop():
            self._stop_next()  # farewell first
        logger.info("Stopping")
        defs = self.reload.current.config.global_defs
        wait = defs.root.child_wait_time
        self.plan.systemd.stopping()
        self.plan.systemd.extend(wait + CLEANERS + defs.shutdown_script_timeout + HOOK_GRACE)
        self._loop.call_later(wait, self._kill_all)

    def _stop_next(self) -> None:
        for peer in (Peer.VRRP, Peer.CHECKER):
            role = self.roles.get(peer)
            if role is None:
                continue
            if role.unclean:
                self._later(partial(self._clean_up, peer))
                return
            if role.child is not None:
                role.child.send(Stop())
                return
        defs = self.reload.current.config.global_defs
        self._hooks.run("shutdown_script", defs.shutdown_script, defs.shutdown_script_timeout, self._finish)

    def _clean_up(self, peer: Peer) -> None:
        """A worker died before it had taken away what was its: another one does, if that can be."""
        self.roles[peer].unclean = False
        self._cleaned[peer] += 1
        self._fork(peer, self.roles[peer].left or self.reload.current)
        if self.roles[peer].child is not None:
            self._stop_next()

    def _finish(self) -> None:
        self._finished = True
        self._wake.set()

    def _kill_all(self) -> None:
        for peer, role in self.roles.items():
            if role.child is not None:
                logger.error("%s child process(%d) failed to stop - forcing termination", NAMES[peer], role.child.pid)
                os.kill(role.child.pid, signal.SIGKILL)
        self._loop.call_later(1.0, self._kill_all)

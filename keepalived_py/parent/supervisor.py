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
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import setproctitle

from ipc.channel import Channel
from ipc.codec import encode
from ipc.messages import (
    ApplyConfig,
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
from keepalived_py.config.model import Config, Script
from keepalived_py.config.slices import checker_slice, vrrp_slice

from .child import Child, fork_process
from .hook import Hook
from .reload import Applied, ReloadCoordinator
from .restart import GiveUp, RestartPolicy
from .roles import Plan, Role

logger = logging.getLogger(__name__)

PR_SET_CHILD_SUBREAPER = 36
STALL_LIMIT = 5.0
"""Seconds without a heartbeat before a worker is reported."""
RELAYS = {VrrpStateChanged: Peer.CHECKER, VirtualServerStateChanged: Peer.VRRP}
NAMES = {Peer.VRRP: "VRRP", Peer.CHECKER: "Healthcheck"}


class Supervisor:
    """One daemon, from its first configuration to its exit code."""

    def __init__(self, plan: Plan, applied: Applied) -> None:
        self.plan = plan
        self.reload = ReloadCoordinator(applied)
        self.roles = {peer: Role(RestartPolicy(plan.respawn)) for peer in plan.mains}
        self.exit_code = 0
        self._stopping = False
        self._finished = False
        self._jobs: list[Callable[[], None]] = []
        self._loader: tuple[int, Channel] | None = None
        self._hook: Hook | None = None
        self._reload_asked = False
        """A reload was asked for while the start-up script ran."""
        self._loop = asyncio.new_event_loop()
        self._wake = asyncio.Event()

    def run(self) -> int:
        """Serve until stopped."""
        setproctitle.setproctitle(self.plan.title)
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
        asyncio.set_event_loop(None)
        self._install_signals()
        defs = self.reload.current.config.global_defs
        self._run_hook("startup_script", defs.startup_script, defs.startup_script_timeout, self._start_workers)
        watch = self._loop.call_later(STALL_LIMIT, self._watch)
        while not self._finished:
            jobs, self._jobs = self._jobs, []
            for job in jobs:
                job()
            self._loop.run_until_complete(self._until_woken())
        watch.cancel()
        for pid_file in self.plan.pid_files.values():
            pid_file.remove()
        logger.info("Stopped")
        return self.exit_code

    def _start_workers(self) -> None:
        """The start-up script is over."""
        if self._stopping:
            self._stop_next()
            return
        wanted = [peer for peer in self.roles if self._needed(peer, self.reload.current.config)]
        for peer in wanted:
            self._later(partial(self._spawn, peer))
        if not wanted:
            logger.warning("Nothing to run: the configuration names no instance and no virtual server")
        if self._reload_asked:
            self.request_reload()

    def _run_hook(self, name: str, script: Script | None, limit: float, then: Callable[[], None]) -> None:
        """Run a script of the parent's, if there is one, and `then` go on."""

        def done() -> None:
            self._hook = None
            then()

        if script is None:
            then()
            return
        self._hook = Hook(name, script, limit, self._loop, done)
        self._later(partial(self._hook.start, self.plan.start_script))

    async def _until_woken(self) -> None:
        await self._wake.wait()
        self._wake.clear()

    def _later(self, job: Callable[[], None]) -> None:
        """Run `job` outside of the loop: the only place that may fork."""
        self._jobs.append(job)
        self._wake.set()

    def _needed(self, peer: Peer, config: Config) -> bool:
        work = config.vrrp.has_work if peer is Peer.VRRP else config.checker.has_work
        return work or self.plan.run_all

    # signals ------------------------------------------------------------------------------------------------------

    def _install_signals(self) -> None:
        add = self._loop.add_signal_handler
        add(signal.SIGHUP, self.request_reload)
        add(signal.SIGTERM, self.request_stop)
        add(signal.SIGINT, (lambda: None) if self.plan.ignore_sigint else self.request_stop)
        add(signal.SIGCHLD, self._reap)
        add(signal.SIGUSR1, self._relay_dump, DumpKind.DATA)
        add(signal.SIGUSR2, self._relay_dump, DumpKind.STATS)
        add(signal.SIGRTMAX - 1, self._relay_dump, DumpKind.STATS_CLEAR)
        add(signal.SIGRTMIN + 2, self._relay_dump, DumpKind.JSON)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    def _relay_dump(self, kind: DumpKind) -> None:
        for peer, role in self.roles.items():
            if role.child is not None and (peer is Peer.VRRP or kind is DumpKind.DATA):
                role.child.send(DumpRequest(kind=kind))

    # starting -----------------------------------------------------------------------------------------------------

    def _spawn(self, peer: Peer, applied: Applied | None = None) -> None:
        """Fork a worker; runs outside of the loop."""
        if self._stopping:
            return
        if peer in self.plan.warm:
            self.plan.warm[peer]()
        role = self.roles[peer]
        applied = applied or self.reload.current
        reports, parent = self._last_words(peer), os.getpid()
        main = self.plan.mains[peer]
        pid, sock = fork_process(
            peer, set(self.plan.open_descriptors), lambda theirs: main(theirs, applied, reports, parent)
        )
        channel = Channel(sock, peer, partial(self._heard, peer), partial(self._lost, peer, pid))
        role.child = Child(peer, pid, channel, generation=applied.generation, last_beat=now())
        role.stalled = False
        channel.attach(self._loop)
        self._write_pid(peer, pid)
        logger.info("Starting %s child process, pid=%d", NAMES[peer], pid)

    def _last_words(self, peer: Peer) -> tuple[Any, ...]:
        """What a worker is told at its start: what its predecessor said last, and to VRRP what the checker said."""
        reports = [*self.roles[peer].reports.values()]
        if peer is Peer.VRRP and Peer.CHECKER in self.roles:
            reports += [
                report
                for report in self.roles[Peer.CHECKER].reports.values()
                if isinstance(report, VirtualServerStateChanged)
            ]
        return tuple(reports)

    def _write_pid(self, peer: Peer, pid: int) -> None:
        pid_file = self.plan.pid_files.get(peer)
        if pid_file is None:
            return
        try:
            pid_file.write(pid)
        except OSError as exc:
            logger.error("pid file %s: %s", pid_file.path, exc.strerror)

    # what workers say ---------------------------------------------------------------------------------------------

    def _heard(self, peer: Peer, msg: Any) -> None:
        role = self.roles[peer]
        child = role.child
        if child is None:
            return
        child.last_beat = now()
        match msg:
            case Heartbeat():
                if role.stalled:
                    logger.warning("%s child answers again", NAMES[peer])
                    role.stalled = False
            case Hello():
                pass
            case ConfigApplied():
                child.ready, child.generation = True, msg.generation
                self.reload.confirmed(peer, msg.generation)
                self._after_reload()
            case ConfigRefused():
                self._take_back(peer, msg.reason)
            case Stopped():
                child.stopped = True
            case Drained():
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

    def _watch(self) -> None:
        """Report a worker whose loop does not turn."""
        self._loop.call_later(STALL_LIMIT / 2, self._watch)
        for peer, role in self.roles.items():
            if role.child is not None and not role.stalled and now() - role.child.last_beat > STALL_LIMIT:
                logger.warning("%s child process(%d) does not answer", NAMES[peer], role.child.pid)
                role.stalled = True

    # death --------------------------------------------------------------------------------------------------------

    def _reap(self) -> None:
        """Collect every process that ended; as PID 1 also those that others left behind."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            self._ended(pid, os.waitstatus_to_exitcode(status))

    def _ended(self, pid: int, code: int) -> None:
        if self._loader is not None and pid == self._loader[0]:
            self._loader_ended(code)
            return
        if self._hook is not None and pid == self._hook.pid:
            self._hook.ended(code)
            return
        for peer, role in self.roles.items():
            if role.child is not None and role.child.pid == pid:
                self._worker_ended(peer, role, code)

    def _worker_ended(self, peer: Peer, role: Role, code: int) -> None:
        child, role.child = role.child, None
        assert child is not None
        child.channel.close()
        if self._stopping:
            self._stop_next()
            return
        how = f"signal {-code}" if code < 0 else f"exit status {code}"
        self._take_back(peer, f"the process died ({how})")
        verdict = role.policy.child_exited(code, now() - child.started)
        if isinstance(verdict, GiveUp):
            logger.error("%s child process(%d) ended: %s - stopping", NAMES[peer], child.pid, verdict.reason)
            self.exit_code = verdict.code
            self.request_stop()
            return
        logger.warning(
            "%s child process(%d) died (%s): Respawning%s",
            NAMES[peer],
            child.pid,
            how,
            f" in {verdict.delay:g}s" if verdict.delay else "",
        )
        if verdict.delay:
            self._loop.call_later(verdict.delay, self._later, partial(self._spawn, peer))
        else:
            self._later(partial(self._spawn, peer))

    # reload -------------------------------------------------------------------------------------------------------

    def request_reload(self) -> None:
        """SIGHUP."""
        if self._hook is not None:
            self._reload_asked = True
        elif not self._stopping and self.reload.request():
            self._later(self._start_loader)

    def _start_loader(self) -> None:
        def body(sock: socket.socket) -> int:
            frame = encode(self.plan.load())
            sock.sendall(len(frame).to_bytes(4) + frame)
            return 0

        pid, sock = fork_process(Peer.LOADER, set(self.plan.open_descriptors), body)
        channel = Channel(sock, Peer.LOADER, self._loaded, lambda reason: None)
        channel.attach(self._loop)
        self._loader = (pid, channel)

    def _loader_ended(self, code: int) -> None:
        """Its message may still wait in the socket; without one the reload has failed."""
        assert self._loader is not None
        _, channel = self._loader
        if code:
            channel.close()
            self._loader = None
            self.reload.failed(f"loader ended with {code}")
            self._after_reload()

    def _loaded(self, found: ConfigLoaded) -> None:
        if self._loader is not None:
            self._loader[1].close()
            self._loader = None
        applied = self.reload.loaded(found)
        if applied is not None:
            peers = [peer for peer, role in self.roles.items() if role.child or self._needed(peer, applied.config)]
            self.reload.handed_out(applied, peers)
            for peer in peers:
                self._hand_out(peer, applied)
        self._after_reload()

    def _hand_out(self, peer: Peer, applied: Applied) -> None:
        child = self.roles[peer].child
        if child is None:
            self._later(partial(self._spawn, peer, applied))
            return
        config = vrrp_slice(applied.config) if peer is Peer.VRRP else checker_slice(applied.config)
        child.send(ApplyConfig(generation=applied.generation, config=config))

    def _take_back(self, peer: Peer, reason: str) -> None:
        """All others return to the configuration before."""
        back = self.reload.refused(peer, reason)
        if back is None:
            return
        for other, role in self.roles.items():
            if other is not peer and role.child is not None:
                self._hand_out(other, back)
        self._after_reload()

    def _after_reload(self) -> None:
        if self.reload.take_queued():
            self.request_reload()

    # stop ---------------------------------------------------------------------------------------------------------

    def request_stop(self) -> None:
        """SIGTERM."""
        if self._stopping:
            return
        self._stopping = True
        logger.info("Stopping")
        checker = self.roles.get(Peer.CHECKER)
        if checker is not None and checker.child is not None:
            checker.child.send(Drain())
        wait = self.reload.current.config.global_defs.root.child_wait_time
        self._loop.call_later(wait, self._kill_all)
        if self._hook is not None:
            self._hook.stop()
            return
        self._stop_next()

    def _stop_next(self) -> None:
        for peer in (Peer.VRRP, Peer.CHECKER):
            role = self.roles.get(peer)
            if role is not None and role.child is not None:
                role.child.send(Stop())
                return
        defs = self.reload.current.config.global_defs
        self._run_hook("shutdown_script", defs.shutdown_script, defs.shutdown_script_timeout, self._finish)

    def _finish(self) -> None:
        self._finished = True
        self._wake.set()

    def _kill_all(self) -> None:
        for peer, role in self.roles.items():
            if role.child is not None:
                logger.error("%s child process(%d) failed to stop - forcing termination", NAMES[peer], role.child.pid)
                os.kill(role.child.pid, signal.SIGKILL)
        self._loop.call_later(1.0, self._kill_all)

"""What the workers share: the life of a forked process that gets a slice of the configuration and obeys its parent.

A worker says Hello, starts, says ConfigApplied, and from then on does as it is told: ApplyConfig, AdoptConfig, Drain,
Stop, DumpRequest. It ends when told to, on SIGTERM, or when its parent is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import socket
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Generic, TypeVar

import setproctitle

from ipc.channel import Channel
from ipc.messages import (
    AdoptConfig,
    ApplyConfig,
    ConfigAccepted,
    ConfigApplied,
    ConfigRefused,
    Drain,
    Drained,
    DumpKind,
    DumpRequest,
    Heartbeat,
    Hello,
    Peer,
    StateMessage,
    Stop,
    Stopped,
)
from keepalived_py import dumpfile, log, netns, vitals
from keepalived_py.clock import now
from keepalived_py.config.delta import rebuilt
from keepalived_py.config.model import CheckerSlice, VrrpSlice
from keepalived_py.dump_process import DumpProcesses
from keepalived_py.memory_trace import MemoryTrace
from keepalived_py.records import dataclass
from keepalived_py.signal_watch import SignalWatch
from keepalived_py.values import ExitCode

from . import late, privileges
from .shortages import OF_SOCKETS
from .tuning import Tuner, no_new_privileges, raise_descriptors

logger = logging.getLogger(__name__)

HEARTBEAT_INTERVAL = 1.0
PATIENCE = 1.0
"""Seconds that a stop waits for the end of a change that is under way."""
PR_SET_PDEATHSIG = 1
PLAIN_NAME = "keepalived"
"""What every process is called without process_names."""
Slice = TypeVar("Slice", VrrpSlice, CheckerSlice)


class WorkerError(Exception):
    """The worker cannot run; `code` is its exit code."""

    def __init__(self, text: str, code: ExitCode = ExitCode.FATAL) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """What the command line means for workers."""

    keep_vrrp: bool = False
    keep_ipvs: bool = False
    dump_conf: bool = False
    umask: int | None = None
    """Option -u, which beats the keyword."""
    trace_memory: bool = False
    watch_addresses: bool = False
    ignore_sigint: bool = False
    command_line: Callable[[str], str] = str
    """What ps shows for a process of this name."""
    setting_record: str = ""
    """Where VRRP keeps what kernel settings were before it changed them; "": nowhere."""
    log: log.LogSettings = log.LogSettings()


@dataclass(kw_only=True)
class WorkerContext(Generic[Slice]):
    """What a worker inherits from the fork. `reported`: the last words of a predecessor that died.

    `abandoned`: a configuration that it had begun to move to.
    """

    sock: socket.socket
    generation: int
    config: Slice
    options: WorkerOptions
    parent_pid: int
    reported: tuple[StateMessage, ...] = ()
    abandoned: Slice | None = None


class Worker(ABC, Generic[Slice]):
    """Subclasses name themselves and fill in start, apply, drain, stop and on_message."""

    role: Peer
    ident = ""
    """Identifier in the log."""
    log_role = ""
    title = ""
    """Name in what ps shows as the command line."""
    process_name = ""
    """Name of the process with process_names."""
    needs: ClassVar[Mapping[str, str]] = {}
    """Capabilities without which there is nothing to do here, and what for."""

    def __init__(self, context: WorkerContext[Slice]) -> None:
        self.context: WorkerContext[Slice] = context
        self.config: Slice = context.config
        self.options = context.options
        self.generation = context.generation
        self._stopping = asyncio.Event()
        self._drained = False
        self._accepted: tuple[ApplyConfig, Slice] | None = None
        """What to move to when all can."""
        self._turn = asyncio.Lock()
        """Start, changes of the configuration, drain and stop come one after the other."""
        self._lateness = 0.0
        """The worst since the last heartbeat."""
        self._of_loop = vitals.Lateness()
        self.tuner = Tuner()
        self._memory = MemoryTrace(context.options.trace_memory)
        self._no_new_privileges = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._wanted: set[DumpKind] = set()
        self.dumps = DumpProcesses(lambda delay, look: asyncio.get_running_loop().call_later(delay, look))
        self.channel = Channel(context.sock, Peer.PARENT, self._received, self._parent_gone)

    # for subclasses -----------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Before the event loop exists: for libraries that bring a loop of their own. Raises WorkerError."""

    @abstractmethod
    async def start(self) -> None:
        """Bring `self.config` to life. Raises WorkerError when that cannot be."""

    @abstractmethod
    async def check(self, new: Slice) -> None:
        """Raises WorkerError where there should be no move to `new`; nothing changes."""

    @abstractmethod
    async def apply(self, new: Slice) -> None:
        """Move from `self.config` to `new`; on an exception nothing may have changed."""

    @abstractmethod
    async def drain(self) -> None:
        """Start nothing new and finish what is queued."""

    @abstractmethod
    async def stop(self) -> None:
        """Take away what has to be taken away."""

    def on_message(self, msg: Any) -> None:
        """Whatever the base class does not know."""
        logger.warning("unexpected message %s", type(msg).__name__)

    @abstractmethod
    def dump(self, kind: DumpKind) -> None:
        """Write the file that `kind` asks for."""

    @abstractmethod
    def describe(self) -> Callable[[], str]:
        """What makes the text about the state of everything, in another process too: that has no descriptor of ours."""

    def vitals(self) -> Iterator[str]:
        """What this process is made of, and how late it is: lines for the dump."""
        yield from vitals.lines()
        yield f"Tasks: {len(asyncio.all_tasks())}"
        yield f"Timers: {self.armed()}"
        yield f"Log records lost: {log.lost_records()}"
        yield from self._of_loop.lines("the loop")

    @abstractmethod
    def armed(self) -> int:
        """How many timers of what this worker is for are running."""

    def descriptors(self, config: Slice) -> int:
        """How many files `config` may have open at the same time, beside a few."""
        return 0

    def needed(self) -> Mapping[str, str]:
        """`needs` of this configuration."""
        return self.needs

    def modules(self, config: Slice) -> Iterable[str]:
        """Those that `config` comes to need."""
        return late.of_all(config.global_defs)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside; an exception of it ends the worker, and the supervisor decides."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    # life ---------------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """The whole life of the process; its exit code."""
        log_json = self.config.global_defs.log_json
        log.set_up(replace(self.options.log, json=log_json), self.ident, self.log_role)
        setproctitle.setproctitle(self.options.command_line(self.title))
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != self.context.parent_pid:
            return ExitCode.OK  # the parent died before it could tell
        try:
            self._settle_privileges()
            log.start_threads()
            self._tune(self.config)
            self.prepare()
            return self._run_loop()
        except Exception as exc:
            return self._failed(exc)

    def _failed(self, exc: Exception) -> ExitCode:
        """Tell why the process ends; its exit code."""
        match exc:
            case WorkerError():
                logger.error("%s", exc)
                return exc.code
            case MemoryError():
                logger.error("Out of memory")
                return ExitCode.NO_MEMORY
            case OSError(errno=number) if number in OF_SOCKETS:
                logger.error("Out of what every process needs: %s", os.strerror(number))
            case _:
                logger.error("%s: internal error", self.ident, exc_info=exc)
        return ExitCode.PROGRAM_ERROR

    def _run_loop(self) -> int:
        """Unlike asyncio.run this does not wait for threads: a name that nobody resolves would hold up the stop."""
        if sys.version_info < (3, 12):  # later it is the default: no thread for each process that is waited for
            asyncio.get_event_loop_policy().set_child_watcher(asyncio.PidfdChildWatcher())
        loop = asyncio.new_event_loop()
        try:
            asyncio.set_event_loop(loop)
            return loop.run_until_complete(self._main())
        finally:
            rest = asyncio.all_tasks(loop)
            for task in rest:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))

    def _settle_privileges(self) -> None:
        """Keep what is needed and no more, where nothing is executed. Raises WorkerError, naming what is missing."""
        have = privileges.effective()
        missing = privileges.missing(self.needed(), have)
        if missing:
            raise WorkerError(f"Missing: {', '.join(missing)}", ExitCode.NO_PERMISSION)
        scripts = list(privileges.scripts_of(self.config))
        if not scripts:
            # with scripts neither: they may need more, and one that gains something by being executed no longer gets
            # the signal of its parent's death
            elsewhere = self.config.global_defs.root.net_namespace_ipvs is not None
            if elsewhere:
                netns.keep_first()  # which cannot be opened afterwards
            privileges.keep_only(privileges.WORK | ({privileges.NAMESPACES} if elsewhere else set()))
            no_new_privileges()
            self._no_new_privileges = True
        for each in privileges.missing(privileges.for_others(scripts, os.geteuid(), os.getegid()), have):
            logger.warning("Missing: %s", each)

    def _tune(self, config: Slice) -> None:
        """Name, umask, scheduling and limits as `config` has them."""
        defs = config.global_defs
        tuning = defs.vrrp_process if self.role is Peer.VRRP else defs.checker_process
        setproctitle.setthreadtitle(tuning.name or (self.process_name if defs.process_names else PLAIN_NAME))
        os.umask(defs.umask if self.options.umask is None else self.options.umask)
        self.tuner.configure(defs, tuning)
        raise_descriptors(self.descriptors(config))
        if self._no_new_privileges and any(True for _ in privileges.scripts_of(config)):
            logger.warning(
                "Scripts are new: until the next start they have the capabilities of this worker and gain no others"
            )
            self._no_new_privileges = False

    async def _main(self) -> int:
        loop = asyncio.get_running_loop()
        signals = SignalWatch(loop)
        signals.on(signal.SIGTERM, self._stopping.set)
        signals.on(signal.SIGINT, (lambda: None) if self.options.ignore_sigint else self._stopping.set)
        for signum, kind in (
            (int(signal.SIGUSR1), DumpKind.DATA),
            (int(signal.SIGUSR2), DumpKind.STATS),
            (signal.SIGRTMAX - 1, DumpKind.STATS_CLEAR),
            (signal.SIGRTMIN + 2, DumpKind.JSON),
        ):
            signals.on(signum, self._want_dump, kind)
        signals.on(signal.SIGHUP, self._ignore_reload)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        loop.set_exception_handler(self._unhandled)
        self.channel.attach(loop)
        self.channel.send(Hello(pid=os.getpid(), generation=self.generation))
        async with self._turn:
            await self.start()
        vitals.freeze()
        self._memory.start()
        self.tuner.start(loop)
        self.channel.send(ConfigApplied(generation=self.generation))
        heart = loop.create_task(self._beat())
        await self._stopping.wait()
        heart.cancel()
        await self._shut_down()
        return self._exit_code

    _exit_code: int = ExitCode.OK

    async def _shut_down(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._turn.acquire(), PATIENCE)  # and nobody else has a turn
        await self.stop()
        self._memory.report("the stop")
        for task in self._tasks:
            task.cancel()
        self.channel.send(Stopped())

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        logger.error("internal error: %s", context.get("message"), exc_info=context.get("exception"))
        self._exit_code = ExitCode.PROGRAM_ERROR
        self._stopping.set()

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._unhandled(task.get_loop(), {"message": str(task), "exception": task.exception()})

    async def _beat(self) -> None:
        """Tell the parent that the loop turns, and how late it was at worst."""
        while True:
            due = now() + HEARTBEAT_INTERVAL
            await asyncio.sleep(HEARTBEAT_INTERVAL)
            self._lateness = max(self._lateness, now() - due)
            self._of_loop.add(now() - due)
            self._noticed_late(now() - due)
            log.tick()
            self.channel.send(
                Heartbeat(
                    lateness=round(self._lateness, 6),
                    rss=vitals.resident_bytes(),
                    tasks=len(asyncio.all_tasks()),
                    lost_records=log.lost_records(),
                )
            )
            self._lateness = 0.0

    def _noticed_late(self, seconds: float) -> None:
        """The beat was late; VRRP looks at its own timers instead."""
        if self.role is not Peer.VRRP:
            self.tuner.late(seconds)

    def _want_dump(self, kind: DumpKind) -> None:
        """Many requests that come at once are one: the loop turns before the next, so that adverts go out."""
        if kind not in self._wanted:
            self._wanted.add(kind)
            asyncio.get_running_loop().call_soon(self._dump, kind)

    def _dump(self, kind: DumpKind) -> None:
        self._wanted.discard(kind)
        with self.tuner.at_ease():
            self.dump(kind)

    # what the parent says -----------------------------------------------------------------------------------------

    def _received(self, msg: Any) -> None:
        match msg:
            case ApplyConfig():
                self.spawn(self._obey_apply(msg))
            case AdoptConfig():
                self.spawn(self._obey_adopt(msg.generation))
            case Drain():
                self.spawn(self._obey_drain())
            case Stop():
                self._stopping.set()
            case DumpRequest():
                self._want_dump(msg.kind)
            case _:
                self.on_message(msg)

    async def _obey_apply(self, msg: ApplyConfig) -> None:
        async with self._turn:
            if not (self._drained or self._stopping.is_set()):
                await self._apply(msg)

    async def _apply(self, msg: ApplyConfig) -> None:
        if type(msg.config.rest) is not type(self.config) or msg.base not in (0, self.generation):
            self.channel.close(
                f"a {type(msg.config.rest).__name__} against {msg.base} is not for {self.role.value} {self.generation}"
            )
            return
        new, self._accepted = rebuilt(self.config if msg.base else None, msg.config), None
        if msg.at_once:
            await self._move(msg, new)
            return
        try:
            with self.tuner.at_ease():
                await self._load(new)
                await self.check(new)
        except WorkerError as exc:
            self._refuse(msg.generation, exc)
            return
        self._accepted = msg, new
        self.channel.send(ConfigAccepted(generation=msg.generation))

    async def _obey_adopt(self, generation: int) -> None:
        async with self._turn:
            accepted = self._accepted
            if accepted is None or accepted[0].generation != generation or self._drained or self._stopping.is_set():
                return
            self._accepted = None
            await self._move(*accepted)

    def _refuse(self, generation: int, exc: WorkerError) -> None:
        logger.error("configuration %d refused: %s", generation, exc)
        self.channel.send(ConfigRefused(generation=generation, reason=str(exc)))

    async def _move(self, msg: ApplyConfig, new: Slice) -> None:
        self._save(msg, "pre")
        try:
            with self.tuner.at_ease():
                await self._load(new)
                await self.apply(new)
                self._tune(new)
        except WorkerError as exc:
            self._refuse(msg.generation, exc)
            return
        self.config, self.generation = new, msg.generation
        log.use_json(self.config.global_defs.log_json)
        self._save(msg, "post")
        self._memory.report(f"reload {msg.generation}")
        self.channel.send(ConfigApplied(generation=msg.generation))

    async def _load(self, config: Slice) -> None:
        """What `config` needs and no earlier one did. Raises WorkerError."""
        names = late.missing(self.modules(config))
        if not names:
            return
        try:
            with contextlib.suppress(RuntimeError):  # where there is no thread it is done here
                await asyncio.to_thread(late.load, names)
            late.load(names)
        except ImportError as exc:
            raise WorkerError(str(exc)) from exc

    def _save(self, msg: ApplyConfig, when: str) -> None:
        """config_save_dir: the state before and after a reload."""
        directory = msg.config.rest.global_defs.reload.config_save_dir
        if directory:
            path, text = os.path.join(directory, f"{self.title}.{os.getpid()}.{msg.generation}.{when}"), self.describe()
            self.dumps.run(path, lambda: dumpfile.save(path, text()))

    async def _obey_drain(self) -> None:
        self._drained = True
        async with self._turn:
            await self.drain()
        self.channel.send(Drained())

    def _parent_gone(self, reason: str) -> None:
        logger.error("the parent is gone%s - stopping", f" ({reason})" if reason else "")
        self._stopping.set()

    def _ignore_reload(self) -> None:
        logger.info("only the parent reads the configuration: send SIGHUP to process %d", self.context.parent_pid)

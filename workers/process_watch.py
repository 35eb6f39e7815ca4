"""vrrp_track_process: how many processes of a name run (vrrp-behaviour.md 6).

The kernel's process connector tells of every fork, exec, rename and exit. It does not exist in network namespaces other
than the first, nor in containers: there /proc is looked through several times a second, and the end of a process that
was found is still told by the kernel, through its pidfd.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import IntEnum

from keepalived_py.clock import now
from keepalived_py.config.model import TrackProcess
from keepalived_py.records import dataclass
from keepalived_py.vrrp.tracking import ProcessState
from workers import netlink

from .shortages import SHORTAGES

logger = logging.getLogger(__name__)

COMM_SIZE = 15
"""Bytes of a command name that the kernel keeps."""
POLL_INTERVAL = 0.2
AGAIN = 0.2
"""Seconds after which everything is counted anew when something could not be looked at."""
YOUNG = 3
"""A process is looked at this many times in a row when it is new: most of them exec at once."""
ROUND = 8
"""Then every so many intervals, for one that execs or renames itself later."""

LINE_LIMIT = 1 << 16
"""Bytes of a command line that are looked at."""

NETLINK_CONNECTOR = 11
CN_IDX_PROC, CN_VAL_PROC = 1, 1
PROC_CN_MCAST_LISTEN, PROC_CN_MCAST_IGNORE = 1, 2
NLMSG_DONE = 3
NETLINK_HEAD = struct.Struct("=IHHII")
CONNECTOR_HEAD = struct.Struct("=IIIIHH")
EVENT_HEAD = struct.Struct("=IIQ")
RECEIVE_BUFFER = 4 << 20
EVENTS_AT_ONCE = 64
"""So that a storm of forks does not keep the adverts waiting."""
NOTHING: frozenset[str] = frozenset()


class Happened(IntEnum):
    """Kinds of process events (linux/cn_proc.h) that matter here."""

    ANSWER = 0
    FORK = 1
    EXEC = 2
    COMM = 0x200
    EXIT = 0x80000000


@dataclass(frozen=True, slots=True)
class ProcessEvent:
    """What happened to process `pid`. ANSWER: to the subscription of `pid`, `error` is an errno."""

    kind: Happened
    pid: int
    error: int = 0


def parse_event(data: bytes) -> ProcessEvent | None:
    """One connector message; None for threads and for what is of no interest."""
    start = NETLINK_HEAD.size + CONNECTOR_HEAD.size
    if len(data) < start + EVENT_HEAD.size + 16:
        return None
    index, value, _, answered, *_ = CONNECTOR_HEAD.unpack_from(data, NETLINK_HEAD.size)
    what, _, _ = EVENT_HEAD.unpack_from(data, start)
    words = struct.unpack_from("=4I", data, start + EVENT_HEAD.size)
    if (index, value) != (CN_IDX_PROC, CN_VAL_PROC) or what not in Happened.__members__.values():
        return None
    kind = Happened(what)
    if kind is Happened.ANSWER:
        return ProcessEvent(kind, answered - 1, words[0])
    pid, process = words[2:] if kind is Happened.FORK else words[:2]
    return ProcessEvent(kind, process) if pid == process else None


class ProcessConnector:
    """A subscription to process events. Raises OSError where the kernel refuses it; `lost`: events were dropped."""

    def __init__(
        self, heard: Callable[[ProcessEvent], None], lost: Callable[[], None], room: tuple[int, bool] = (0, False)
    ) -> None:
        self._heard, self._lost = heard, lost
        self._sock = socket.socket(
            socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, NETLINK_CONNECTOR
        )
        try:
            netlink.make_room(self._sock, RECEIVE_BUFFER)
            netlink.resize(self._sock, *room)
            self._sock.bind((0, CN_IDX_PROC))
            self._ask(PROC_CN_MCAST_LISTEN)
        except OSError:
            self._sock.close()
            raise
        asyncio.get_running_loop().add_reader(self._sock, self._readable)

    def _ask(self, operation: int) -> None:
        body = struct.pack("=I", operation)
        body = CONNECTOR_HEAD.pack(CN_IDX_PROC, CN_VAL_PROC, 0, os.getpid(), len(body), 0) + body
        self._sock.send(NETLINK_HEAD.pack(NETLINK_HEAD.size + len(body), NLMSG_DONE, 0, 0, 0) + body)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._sock)
        with contextlib.suppress(OSError):
            self._ask(PROC_CN_MCAST_IGNORE)
        self._sock.close()

    def _readable(self) -> None:
        for _ in range(EVENTS_AT_ONCE):
            try:
                data, sender = self._sock.recvfrom(4096)
            except BlockingIOError:
                return
            except OSError as exc:
                if exc.errno != errno.ENOBUFS:
                    raise
                self._lost()
                return
            event = parse_event(data) if sender[0] == 0 else None  # only the kernel is believed
            if event is not None:
                self._heard(event)
            if self._sock.fileno() < 0:
                return


class ProcessWatcher:
    """Quorums of all processes given to `apply`; `changed` hears the name of one that was gained or lost."""

    def __init__(self, changed: Callable[[str], None]) -> None:
        self._changed = changed
        self._states: dict[str, ProcessState] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._known: dict[int, frozenset[str]] = {}
        """Which of the tracked ones each process is; only those that are any."""
        self._connector: ProcessConnector | None = None
        self._told_by_kernel = False
        self._poll: asyncio.TimerHandle | None = None
        self._seen: dict[int, int] = {}
        """How often polling has met each process."""
        self._pidfds: dict[int, int] = {}
        self._round = 0
        self._retry: asyncio.TimerHandle | None = None
        self.room = (0, False)
        """Receive buffer in bytes for what the kernel tells (process_monitor_rcv_bufs), and whether to force it."""

    def good(self, name: str) -> bool | None:
        """Whether the quorum is there; None for a name that is not watched."""
        state = self._states.get(name)
        return state.have_quorum if state is not None else None

    def count(self, name: str) -> int:
        """How many of them run."""
        state = self._states.get(name)
        return state.count if state is not None else 0

    def delaying(self, name: str) -> bool:
        """Whether a change of the quorum waits for its delay."""
        state = self._states.get(name)
        return state is not None and state.deadline is not None

    def apply(self, processes: Iterable[TrackProcess]) -> None:
        """Watch exactly `processes` from now on; those that look for the same keep their state."""
        wanted = {config.name: config for config in processes}
        subjects = {name: _subject(state.config) for name, state in self._states.items()}
        for name in list(self._states):
            if name not in wanted or subjects[name] != _subject(wanted[name]):
                self._disarm(name)
                del self._states[name]
        if not wanted:
            self.stop()
            return
        for name, state in self._states.items():
            self._reconfigure(state, wanted[name])
        if self._connector is None and self._poll is None:
            self._listen()
        if subjects != {name: _subject(config) for name, config in wanted.items()}:
            self._scan(wanted)

    def stop(self) -> None:
        """Watch nothing any more; may be called twice."""
        for name in list(self._timers):
            self._disarm(name)
        self._stop_polling()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._connector is not None:
            self._connector.close()
        self._connector, self._told_by_kernel = None, False
        self._states.clear()
        self._known.clear()

    def _reconfigure(self, state: ProcessState, config: TrackProcess) -> None:
        limits = (state.config.quorum, state.config.quorum_max)
        if limits != (config.quorum, config.quorum_max):
            state.reconfigure(config, now())
            self._arm(state)
        state.config = config

    # counting ---------------------------------------------------------------------------------------------------------

    def _scan(self, wanted: dict[str, TrackProcess]) -> None:
        """Count everything anew: at start, for another configuration, or after events were lost."""
        configs = list(wanted.values())
        self._known = {pid: names for pid in process_ids() if (names := _names(pid, configs))}
        counts = Counter(name for names in self._known.values() for name in names)
        for name, config in wanted.items():
            state = self._states.get(name)
            if state is None:
                self._states[name] = ProcessState(config, counts[name])
                logger.info("Tracked process %s: %d running", name, counts[name])
            elif state.count != counts[name]:
                self._counted(state, counts[name], delayed=False)

    def _rescan(self) -> None:
        self._retry = None
        with self._unless_short():
            self._scan({name: state.config for name, state in self._states.items()})

    @contextlib.contextmanager
    def _unless_short(self) -> Iterator[None]:
        """What cannot be looked at for want of a descriptor or memory is neither there nor gone: it is tried again."""
        try:
            yield
        except OSError as exc:
            if exc.errno not in SHORTAGES:
                raise
            if self._retry is None:
                self._retry = asyncio.get_running_loop().call_later(AGAIN, self._rescan)

    def _counted(self, state: ProcessState, count: int, *, delayed: bool) -> None:
        if state.counted(count, now(), delayed=delayed):
            self._tell(state)
        self._arm(state)

    def _tell(self, state: ProcessState) -> None:
        change = "gained" if state.have_quorum else "lost"
        logger.info("Quorum %s for tracked process %s (%d running)", change, state.config.name, state.count)
        self._changed(state.config.name)

    def _look(self, pid: int, *, delayed: bool) -> None:
        self._set(pid, _names(pid, [state.config for state in self._states.values()]), delayed=delayed)

    def _set(self, pid: int, names: frozenset[str], *, delayed: bool) -> None:
        before = self._known.pop(pid, NOTHING)
        if names:
            self._known[pid] = names
        for name in sorted(before ^ names):
            state = self._states.get(name)  # what is told of one may have removed another
            if state is not None:
                self._counted(state, state.count + (1 if name in names else -1), delayed=delayed)

    # delays -----------------------------------------------------------------------------------------------------------

    def _arm(self, state: ProcessState) -> None:
        """Have the loop come back when a delayed change is due, and only then."""
        self._disarm(state.config.name)
        if state.deadline is not None:
            loop = asyncio.get_running_loop()
            self._timers[state.config.name] = loop.call_later(state.deadline - now(), self._expired, state)

    def _disarm(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _expired(self, state: ProcessState) -> None:
        if state.expired(now()):
            self._tell(state)
        self._arm(state)

    # told by the kernel -----------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Ask for events; until the kernel has said yes, and where it never does, look for ourselves."""
        try:
            self._connector = ProcessConnector(self._heard, self._rescan, self.room)
        except OSError as exc:
            self._refused(exc.strerror or str(exc))
        self._poll = asyncio.get_running_loop().call_later(POLL_INTERVAL if self._connector else 0, self._tick)

    def _answered(self, error: int) -> None:
        if not error:
            self._told_by_kernel = True
            self._stop_polling()
            self._rescan()
        elif self._connector is not None:
            self._connector.close()
            self._connector = None
            self._refused(os.strerror(error))

    def _refused(self, reason: str) -> None:
        logger.info("No process events here (%s): /proc is read every %gs", reason, POLL_INTERVAL)

    def _heard(self, event: ProcessEvent) -> None:
        match event.kind:
            case Happened.ANSWER:
                if event.pid == os.getpid() and not self._told_by_kernel:
                    self._answered(event.error)
            case _ if not self._told_by_kernel:
                return
            case Happened.EXIT:
                self._set(event.pid, NOTHING, delayed=True)
            case Happened.FORK:
                with self._unless_short():
                    self._look(event.pid, delayed=True)
            case _:
                with self._unless_short():
                    self._look(event.pid, delayed=False)

    # looking for ourselves --------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._poll = asyncio.get_running_loop().call_later(POLL_INTERVAL, self._tick)
        self._round += 1
        with self._unless_short():
            self._look_through()

    def _look_through(self) -> None:
        present = set(process_ids())
        for pid in (self._known.keys() | self._seen.keys()) - present:
            self._seen.pop(pid, None)
            self._ended(pid)
        for pid in sorted(present):  # parents before their children
            times = self._seen.get(pid, 0)
            self._seen[pid] = times + 1
            if times < YOUNG or pid in self._known or (pid + self._round) % ROUND == 0:
                self._look(pid, delayed=times == 0 and self._is_fork(pid))
                self._follow(pid)

    def _is_fork(self, pid: int) -> bool:
        """Whether a new process is likely to be a copy of one that counts already, and no program of its own."""
        return _status(pid)[1] in self._known

    def _follow(self, pid: int) -> None:
        """Hear of the end of a process at once."""
        if pid not in self._known:
            self._unfollow(pid)
        elif pid not in self._pidfds:
            with contextlib.suppress(OSError):  # gone again, or no descriptor left: the next look finds out
                self._pidfds[pid] = os.pidfd_open(pid)
                asyncio.get_running_loop().add_reader(self._pidfds[pid], self._ended, pid)

    def _unfollow(self, pid: int) -> None:
        descriptor = self._pidfds.pop(pid, None)
        if descriptor is not None:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)

    def _ended(self, pid: int) -> None:
        self._unfollow(pid)
        self._set(pid, NOTHING, delayed=True)

    def _stop_polling(self) -> None:
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None
        for pid in list(self._pidfds):
            self._unfollow(pid)
        self._seen.clear()


def matches(config: TrackProcess, comm: bytes, args: Sequence[bytes]) -> bool:
    """Whether a process is what `config` counts: by command name, or by command line (keepalived.conf(5))."""
    program, *wanted = (os.fsencode(each) for each in config.command)
    if not config.full_command:
        return comm[:COMM_SIZE] == program[:COMM_SIZE]
    if not args or args[0] != program:
        return False
    given = list(args[1:])
    match config.param_match:
        case "exact":
            return given == wanted
        case "partial":
            return given[: len(wanted)] == wanted
        case "initial" if wanted:
            head, last = wanted[:-1], wanted[-1]
            return given[: len(head)] == head and len(given) > len(head) and given[len(head)].startswith(last)
    return True


def process_ids() -> Iterator[int]:
    """All processes there are."""
    return (int(entry) for entry in os.listdir("/proc") if entry.isdecimal())


def _names(pid: int, configs: Sequence[TrackProcess]) -> frozenset[str]:
    """Which of `configs` a process is; none when it has ended, waited for or not."""
    comm = _read(pid, "comm").removesuffix(b"\n")
    line = _read(pid, "cmdline") if any(config.full_command for config in configs) else b""
    args = line.removesuffix(b"\0").split(b"\0") if line else []
    names = frozenset(config.name for config in configs if matches(config, comm, args))
    return names if names and _status(pid)[0] not in ("", "Z", "X") else NOTHING


def _status(pid: int) -> tuple[str, int]:
    """State letter and parent, "" and 0 without such a process."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return (fields[0].decode(), int(fields[1])) if len(fields) > 1 else ("", 0)


def _read(pid: int, name: str) -> bytes:
    """Nothing of a process that is gone. Raises OSError where that is not what it means."""
    try:
        descriptor = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, LINE_LIMIT)
        finally:
            os.close(descriptor)
    except OSError as exc:
        if exc.errno in SHORTAGES:
            raise
        return b""


def _subject(config: TrackProcess) -> tuple[object, ...]:
    """What is counted, whatever the quorum and the delays."""
    return config.command, config.full_command, config.param_match

"""Scheduling and memory of a worker as its keywords say, and what scripts get back (vrrp-behaviour.md 18).

The kernel itself takes real-time scheduling and a negative nice value from whatever is forked (SCHED_RESET_ON_FORK),
and locked memory ends with a fork. Only what it leaves costs a script a full fork: see `restoring`.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from keepalived_py.config.model import GlobalDefs, ProcessTuning
from keepalived_py.records import dataclass

from . import privileges

logger = logging.getLogger(__name__)

MCL_CURRENT, MCL_FUTURE = 1, 2
PR_SET_NO_NEW_PRIVS = 38
LIMITS = (resource.RLIMIT_RTTIME, resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)
NO_LIMIT = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
BACK_AFTER = 0.1
"""Seconds of normal scheduling after a stretch that was too long for real time."""
NEVER_KILLED_BEFORE = 1_000_000
"""Least hard limit in microseconds. The soft one ends real time as it should; but an interpreter may need longer than
keepalived's 10 ms for what no signal interrupts, and then it is better late than dead."""
SPARE_DESCRIPTORS = 200
PARENT_DESCRIPTORS = 9
"""What the parent opens: a pid file, a log, its event loop, the channel of a worker that it makes."""
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Inherited:
    """What the daemon was started with."""

    nice: int
    affinity: frozenset[int]
    umask: int
    limits: tuple[tuple[int, int], ...]
    """Of LIMITS, in that order."""


_inherited: Inherited | None = None


def remember() -> Inherited:
    """Take note of what this process has, unless that was done before; forked processes know it too."""
    global _inherited
    if _inherited is None:
        mask = os.umask(0o177)
        os.umask(mask)
        _inherited = Inherited(
            nice=os.getpriority(os.PRIO_PROCESS, 0),
            affinity=frozenset(os.sched_getaffinity(0)),
            umask=mask,
            limits=tuple(resource.getrlimit(which) for which in LIMITS),
        )
    return _inherited


def keep_descriptors() -> None:
    """What this process was started with is not for those that it starts: scripts would get it, as they are spawned."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with suppress(OSError):  # that of the list itself
                os.set_inheritable(int(name), False)


@contextmanager
def as_started() -> Iterator[None]:
    """For the making of one child: what costs nothing to have as the daemon was started with, umask and open files.

    Other threads see it too, but the calls that make a child let none of them run.
    """
    before = _inherited
    if before is None:
        yield
        return
    now, then = _limit(resource.RLIMIT_NOFILE), before.limits[LIMITS.index(resource.RLIMIT_NOFILE)]
    lower = now != then and now[1] == then[1]
    if lower:
        resource.setrlimit(resource.RLIMIT_NOFILE, then)
    mask = os.umask(before.umask)
    try:
        yield
    finally:
        os.umask(mask)
        if lower:
            resource.setrlimit(resource.RLIMIT_NOFILE, now)


def restoring() -> Callable[[], None] | None:
    """What a forked child has to run, while it is still root, to have what the daemon was started with.

    None when the kernel and `as_started`, within which it is called, leave nothing to do.
    """
    before = _inherited
    if before is None:
        return None
    limits = [(which, limit) for which, limit in zip(LIMITS, before.limits, strict=True) if _limit(which) != limit]
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    if os.sched_getscheduler(0) & os.SCHED_RESET_ON_FORK:
        nice = max(nice, 0)
    affinity = None if before.affinity == os.sched_getaffinity(0) else before.affinity
    if not limits and nice == before.nice and affinity is None:
        return None

    def restore() -> None:
        for which, limit in limits:
            with suppress(OSError, ValueError):
                resource.setrlimit(which, limit)
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, before.nice)
        if affinity is not None:
            with suppress(OSError):
                os.sched_setaffinity(0, affinity)

    return restore


def raise_descriptors(wanted: int) -> None:
    """See to it that `wanted` files can be open beside those of the daemon itself, as far as that may be."""
    wanted += SPARE_DESCRIPTORS
    soft, hard = _limit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    higher = hard if hard == resource.RLIM_INFINITY else max(wanted, hard)
    for limits in ((wanted, higher), (hard, hard)):
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            break
    if (limit := _limit(resource.RLIMIT_NOFILE)[0]) < wanted:
        missing = "" if privileges.has("CAP_SYS_RESOURCE") else "; CAP_SYS_RESOURCE is missing"
        logger.warning("%d open files may be needed, the limit is %d%s", wanted, limit, missing)


def provide_descriptors() -> None:
    """See to it that this process can open what the parent needs. Raises OSError."""
    soft, hard = _limit(resource.RLIMIT_NOFILE)
    if 0 <= soft < SPARE_DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(SPARE_DESCRIPTORS, hard) if hard >= 0 else hard, hard))
    with ExitStack() as held:
        for _ in range(PARENT_DESCRIPTORS):
            held.callback(os.close, os.dup(2))


def no_new_privileges() -> None:
    """Whatever this process executes gains nothing from set-user-id bits and file capabilities."""
    with _told("no_new_privs"):
        if _LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Tuner:
    """Keeps one process at what its keywords say. Real time is for the loop; start, reload and dumps go without.

    A stretch of computing that uses up half of RLIMIT_RTTIME goes on with normal scheduling; at the hard limit the
    kernel would kill the process.
    """

    def __init__(self) -> None:
        self._before = remember()
        self._tuning = ProcessTuning()
        self._max_auto, self._auto_delay = 0, 1.0
        self._priority = 0
        """SCHED_RR priority wanted; 0 for normal scheduling."""
        self._paused = 1
        self._loop: asyncio.AbstractEventLoop | None = None
        self._locked = False

    def configure(self, defs: GlobalDefs, tuning: ProcessTuning) -> None:
        """Everything but real time, which `start` begins."""
        before, self._tuning = self._tuning, tuning
        self._max_auto, self._auto_delay = defs.max_auto_priority, defs.min_auto_priority_delay / 1e6
        if tuning.rt_priority != before.rt_priority:
            self._priority = tuning.rt_priority
        if self._max_auto <= 0:
            self._priority = tuning.rt_priority
        if tuning.nice != before.nice:
            self._set_nice(tuning.nice or self._before.nice)
        if tuning.cpu_affinity != before.cpu_affinity:
            with _told(f"CPU affinity {' '.join(map(str, tuning.cpu_affinity)) or 'all'}"):
                os.sched_setaffinity(0, tuning.cpu_affinity or self._before.affinity)
        if tuning.no_swap != self._locked:
            self._lock(tuning.no_swap)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop runs and everything is set up: real time from now on, where it is wanted."""
        self._loop = loop
        signal.signal(signal.SIGXCPU, self._overrun)
        self._paused = 0
        self._enter()

    @contextmanager
    def at_ease(self) -> Iterator[None]:
        """Normal scheduling for a piece of work that may take long."""
        self._paused += 1
        if self._priority:
            _normal()
        try:
            yield
        finally:
            self._paused -= 1
            self._enter()

    def late(self, seconds: float) -> None:
        """A timer was late by that much: perhaps a reason for a higher priority."""
        if seconds < self._auto_delay or self._priority >= self._max_auto:
            return
        self._priority += 1
        logger.warning("A timer was %d us late: priority SCHED_RR %d from now on", seconds * 1e6, self._priority)
        self._enter()

    def _set_nice(self, value: int) -> None:
        with _told(f"nice value {value}", needs=("CAP_SYS_NICE", "RLIMIT_NICE")):
            if value < 0:
                os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
            os.setpriority(os.PRIO_PROCESS, 0, value)

    def _lock(self, wanted: bool) -> None:
        # what RLIMIT_MEMLOCK allows now may be too little later, and then there would be no memory at all
        unlimited = privileges.has("CAP_IPC_LOCK") or _limit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY
        which = MCL_CURRENT | MCL_FUTURE if unlimited else MCL_CURRENT
        with _told("locking the memory", needs=("CAP_IPC_LOCK", "RLIMIT_MEMLOCK")):
            if _LIBC.mlockall(which) if wanted else _LIBC.munlockall():
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            self._locked = wanted

    def _enter(self) -> None:
        """Real time, if it is wanted and nothing speaks against it.

        The kernel counts a stretch until the process sleeps in real time: it sleeps before the limit holds again.
        """
        if self._paused or not self._priority:
            if not self._paused and os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR:
                _normal()
            return
        soft = self._tuning.rlimit_rttime // 2
        hard = max(self._tuning.rlimit_rttime, NEVER_KILLED_BEFORE)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_RTTIME, NO_LIMIT)
        needs = "CAP_SYS_NICE", "RLIMIT_RTPRIO"
        with _told(f"priority SCHED_RR {self._priority}", needs=needs, refused=self._give_up):
            os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(self._priority))
            time.sleep(1e-5)
            with _told(f"RLIMIT_RTTIME {soft}, {hard}"):
                resource.setrlimit(resource.RLIMIT_RTTIME, (soft, hard))

    def _give_up(self) -> None:
        """Refused once, refused for ever."""
        self._priority = self._max_auto = 0

    def _overrun(self, number: int, frame: Any) -> None:
        """SIGXCPU, between two instructions of whatever takes so long; sent by somebody else it means nothing."""
        if not self._priority:
            return
        _normal()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._overran)

    def _overran(self) -> None:
        assert self._loop is not None
        logger.warning("More than %d us of computing at a stretch in real time", self._tuning.rlimit_rttime // 2)
        self._loop.call_later(BACK_AFTER, self._enter)


def _normal() -> None:
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))


def _nothing() -> None:
    """What follows from most refusals."""


def _limit(which: int) -> tuple[int, int]:
    return resource.getrlimit(which)


@contextmanager
def _told(what: str, *, needs: tuple[str, str] | None = None, refused: Callable[[], None] = _nothing) -> Iterator[None]:
    """A refusal is logged, and the worker goes on without. `needs`: a capability, or in its place a limit."""
    try:
        yield
    except (OSError, ValueError) as exc:
        missing = ""
        if needs is not None and not privileges.has(needs[0]):
            missing = f"; {needs[0]} is missing, and {needs[1]} is {_limit(getattr(resource, needs[1]))[0]}"
        logger.warning("%s is refused: %s%s", what, getattr(exc, "strerror", None) or exc, missing)
        refused()

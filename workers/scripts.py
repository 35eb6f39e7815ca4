"""Running a script: its identity, its own process group, a limit, its output (vrrp-behaviour.md 9.2)."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import logging
import mmap
import os
import shlex
import signal
import struct
import subprocess
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import TypeVar

from keepalived_py.clock import now
from keepalived_py.config.model import Script
from keepalived_py.records import dataclass

from .shortages import OF_PROCESSES
from .tuning import as_started, restoring

logger = logging.getLogger(__name__)

KILL_AFTER = 2.0
"""Seconds between SIGTERM and SIGKILL of a script that runs too long."""
OUTPUT_LIMIT = 4096
ASK_EVERY = 0.1
"""Seconds between two looks at a script where no descriptor is left to watch it."""
PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
IGNORED_HERE = (signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that Python ignores, which would go to its children."""
ERRNO = struct.Struct("=i")
WITHHELD = ("IFS", "LD_PRELOAD", "LD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: exit status, or minus the signal; None when it could not be started."""

    status: int | None
    timed_out: bool = False
    output: str = ""
    error: str = ""
    shortage: bool = False
    """There was no process, descriptor or memory for it, which is no result."""

    @property
    def success(self) -> bool:
        return self.status == 0 and not self.timed_out

    def __str__(self) -> str:
        if self.timed_out:
            return "timed out"
        if self.status is None:
            return f"cannot be run: {self.error}"
        return f"exited with status {self.status}" if self.status >= 0 else f"died of signal {-self.status}"


async def run(
    script: Script,
    args: tuple[str, ...] = (),
    *,
    limit: float,
    environment: Mapping[str, str] | None = None,
    listen: bool = False,
) -> Outcome:
    """Run `script` with `args` behind its own, at most `limit` seconds; `listen`: to what it says.

    Raises nothing but cancellation.
    """
    if script.readable_only:
        return Outcome(0 if os.access(script.executed, os.R_OK) else 1)
    with contextlib.ExitStack() as held:
        try:
            said = held.enter_context(_Listener()) if listen else None
            process = spawn(script, args, environment, subprocess.DEVNULL if said is None else said.writer)
        except (OSError, ValueError, subprocess.SubprocessError) as exc:
            return Outcome(None, error=str(exc), shortage=isinstance(exc, OSError) and exc.errno in OF_PROCESSES)
        try:
            timed_out = await _wait(process, limit)
        finally:
            await _kill(process)
        return Outcome(process.returncode, timed_out, "" if said is None else said.text())


class _Listener:
    """What a script writes, up to a limit. Raises OSError."""

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe()
        self._output = bytearray()
        os.set_blocking(self._reader, False)

    def __enter__(self) -> _Listener:
        asyncio.get_running_loop().add_reader(self._reader, self._collect)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._reader)
        os.close(self._reader)
        os.close(self.writer)

    def text(self) -> str:
        self._collect()
        return self._output.decode("utf-8", "replace").strip()

    def _collect(self) -> None:
        """Read what is there; beyond the limit it is thrown away, so that the script never waits for us."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._reader, 65536):
                self._output += data[: max(0, OUTPUT_LIMIT - len(self._output))]


async def serve(script: Script, args: tuple[str, ...], stop: asyncio.Event) -> tuple[Outcome, float]:
    """Run `script` until it ends or `stop` is set, which ends it; how it ended, and the seconds it ran."""
    started = now()
    try:
        process = start(script, args, leaves_with_us=True)
    except (OSError, ValueError, subprocess.SubprocessError) as exc:
        return Outcome(None, error=str(exc)), 0.0
    loop = asyncio.get_running_loop()
    ended, told = loop.create_task(_ended(process, None)), loop.create_task(stop.wait())
    try:
        await asyncio.wait((ended, told), return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            _signal(process, signal.SIGTERM)
            await asyncio.wait((ended,), timeout=KILL_AFTER)
    finally:
        await _kill(process)
        ended.cancel()
        told.cancel()
        await asyncio.wait((ended, told))
    return Outcome(process.returncode), now() - started


def start(
    script: Script,
    args: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
    output: int = subprocess.DEVNULL,
    *,
    leaves_with_us: bool = False,
) -> subprocess.Popen[bytes]:
    """Start `script` as its user, in a process group of its own. OSError and the like when that cannot be.

    It gets the scheduling, limits and umask that the daemon was started with. `leaves_with_us`: it gets SIGTERM when
    this process dies; that costs a full fork.
    """
    own = _is_ours(script)
    with as_started():
        restore = restoring()
        if restore is not None:
            refusal = mmap.mmap(-1, ERRNO.size)
            identity = None if own else script
            prepare: Callable[[], None] | None = partial(_prepare, restore, identity, leaves_with_us, refusal)
            own = True  # what is restored needs root, and Popen changes the user before it calls `prepare`
        else:
            prepare = _leave_with_parent if leaves_with_us else None

        def fork(path: str, words: tuple[str, ...]) -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                words,
                executable=path,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(environment),
                process_group=0,
                preexec_fn=prepare,
                user=None if own else script.uid,
                group=None if own else script.gid,
                extra_groups=None if own else list(script.groups or ()),
            )

        try:
            return _execute(fork, script, args)
        except subprocess.SubprocessError as exc:
            (number,) = ERRNO.unpack(refusal[:])
            raise OSError(number, os.strerror(number)) from exc


def _execute(make: Callable[[str, tuple[str, ...]], P], script: Script, args: tuple[str, ...]) -> P:
    """Have `make` run the file of `script`, by the shell where it has no interpreter line."""
    try:
        return make(script.executed, (*script.argv, *args))
    except OSError as exc:
        if exc.errno != errno.ENOEXEC:
            raise
        return make("/bin/sh", ("sh", "-c", shlex.join((script.executed, *script.argv[1:], *args))))


class Child:
    """A process that `os.posix_spawn` has made; as far as needed, what subprocess.Popen is."""

    __slots__ = ("pid", "returncode")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


Process = subprocess.Popen[bytes] | Child
P = TypeVar("P", subprocess.Popen[bytes], Child)


def spawn(
    script: Script, args: tuple[str, ...], environment: Mapping[str, str] | None, output: int = subprocess.DEVNULL
) -> Process:
    """As `start`, for half the processor time where the script needs nothing that others have not."""
    if not _is_ours(script):
        return start(script, args, environment, output)
    with as_started():
        if restoring() is None:
            spoken = (
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
                if output == subprocess.DEVNULL
                else (os.POSIX_SPAWN_DUP2, output, 1)
            )
            actions = ((os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), spoken, (os.POSIX_SPAWN_DUP2, 1, 2))

            def make(path: str, words: tuple[str, ...]) -> Child:
                environ = _environment(environment)
                return Child(
                    os.posix_spawnp(path, words, environ, file_actions=actions, setpgroup=0, setsigdef=IGNORED_HERE)
                )

            return _execute(make, script, args)
    return start(script, args, environment, output)


def _is_ours(script: Script) -> bool:
    """Whether it runs as what this process is."""
    return script.uid in (None, os.geteuid()) and script.gid in (None, os.getegid()) and script.groups is None


def _environment(more: Mapping[str, str] | None) -> dict[bytes, bytes]:
    found = _own_environment()
    return {**found, **{os.fsencode(name): os.fsencode(value) for name, value in more.items()}} if more else found


@cache
def _own_environment() -> dict[bytes, bytes]:
    """Nothing changes it while the daemon runs, and encoding it takes longer than starting a script."""
    return {name: value for name, value in os.environb.items() if os.fsdecode(name) not in WITHHELD}


def _prepare(restore: Callable[[], None], identity: Script | None, leaves_with_us: bool, refusal: mmap.mmap) -> None:
    """In the forked child: give back what the daemon was started with, then become the script's user.

    `refusal` is memory that both have: Popen tells that something was refused, not what.
    """
    restore()
    try:
        if identity is not None:
            os.setgroups(identity.groups or ())
            if identity.gid is not None:
                os.setregid(identity.gid, identity.gid)
            if identity.uid is not None:
                os.setreuid(identity.uid, identity.uid)
    except OSError as exc:
        refusal[:] = ERRNO.pack(exc.errno or errno.EPERM)
        raise
    if leaves_with_us:
        _leave_with_parent()


def _leave_with_parent() -> None:
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


async def _wait(process: Process, limit: float) -> bool:
    """Wait for the end; True when it had to be forced."""
    for within, number in ((limit, signal.SIGTERM), (KILL_AFTER, signal.SIGKILL)):
        if await _ended(process, within):
            return number is signal.SIGKILL
        _signal(process, number)
    await _ended(process, KILL_AFTER)
    return True


async def _ended(process: Process, within: float | None) -> bool:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:  # no descriptor left
        return await _ended_by_asking(process, within)
    loop.add_reader(pidfd, _resolve, ended)
    try:
        async with asyncio.timeout(within):
            await ended
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
    process.poll()
    return True


async def _ended_by_asking(process: Process, within: float | None) -> bool:
    try:
        async with asyncio.timeout(within):
            while process.poll() is None:  # noqa: ASYNC110
                await asyncio.sleep(ASK_EVERY)
    except TimeoutError:
        return False
    return True


async def _kill(process: Process) -> None:
    """End it. One that hangs in the kernel, on a file server that is gone, ends when that comes back.

    Nobody waits for that; until then it has a descriptor, so that it is collected.
    """
    if process.poll() is not None:
        return
    _signal(process, signal.SIGKILL)
    if await _ended(process, KILL_AFTER):
        return
    with contextlib.suppress(OSError):  # without a descriptor it is collected when this process has ended
        pidfd = os.pidfd_open(process.pid)
        asyncio.get_running_loop().add_reader(pidfd, _collect, process, pidfd)


def _collect(process: Process, pidfd: int) -> None:
    asyncio.get_running_loop().remove_reader(pidfd)
    os.close(pidfd)
    process.poll()


def _signal(process: Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _resolve(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)

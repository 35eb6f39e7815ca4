"""Running a script: its identity, its own process group, a limit, its output (vrrp-behaviour.md 9.2)."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import logging
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from keepalived_py.clock import now
from keepalived_py.config.model import Script

from .tuning import restoring, script_umask

logger = logging.getLogger(__name__)

KILL_AFTER = 2.0
"""Seconds between SIGTERM and SIGKILL of a script that runs too long."""
OUTPUT_LIMIT = 4096
PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
WITHHELD = ("IFS", "LD_PRELOAD", "LD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: exit status, or minus the signal; None when it could not be started."""

    status: int | None
    timed_out: bool = False
    output: str = ""
    error: str = ""

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
    script: Script, args: tuple[str, ...] = (), *, limit: float, environment: Mapping[str, str] | None = None
) -> Outcome:
    """Run `script` with `args` behind its own, at most `limit` seconds. Raises nothing but cancellation."""
    if script.readable_only:
        return Outcome(0 if os.access(script.executed, os.R_OK) else 1)
    try:
        process = start(script, args, environment, subprocess.PIPE)
    except (OSError, ValueError, subprocess.SubprocessError) as exc:
        return Outcome(None, error=str(exc))
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    output = bytearray()
    loop = asyncio.get_running_loop()
    loop.add_reader(process.stdout, _collect, process.stdout.fileno(), output)
    pidfd = os.pidfd_open(process.pid)
    try:
        timed_out = await _wait(process, pidfd, limit)
    finally:
        if process.poll() is None:
            _signal(process, signal.SIGKILL)
            process.wait()
        _collect(process.stdout.fileno(), output)
        loop.remove_reader(process.stdout)
        process.stdout.close()
        os.close(pidfd)
    return Outcome(process.returncode, timed_out, output.decode("utf-8", "replace").strip())


async def serve(script: Script, args: tuple[str, ...], stop: asyncio.Event) -> tuple[Outcome, float]:
    """Run `script` until it ends or `stop` is set, which ends it; how it ended, and the seconds it ran."""
    started = now()
    try:
        process = start(script, args, leaves_with_us=True)
    except (OSError, ValueError, subprocess.SubprocessError) as exc:
        return Outcome(None, error=str(exc)), 0.0
    pidfd = os.pidfd_open(process.pid)
    loop = asyncio.get_running_loop()
    ended, told = loop.create_task(_ended(process, pidfd, None)), loop.create_task(stop.wait())
    try:
        await asyncio.wait((ended, told), return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            _signal(process, signal.SIGTERM)
            await asyncio.wait((ended,), timeout=KILL_AFTER)
    finally:
        if process.poll() is None:
            _signal(process, signal.SIGKILL)
            process.wait()
        ended.cancel()
        told.cancel()
        await asyncio.wait((ended, told))
        os.close(pidfd)
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
    environ = {name: value for name, value in os.environ.items() if name not in WITHHELD}
    environ.update(environment or {})
    own = script.uid in (None, os.geteuid()) and script.gid in (None, os.getegid()) and script.groups is None
    restore = restoring()
    if restore is not None:
        prepare: Callable[[], None] | None = partial(_prepare, restore, None if own else script, leaves_with_us)
        own = True  # what is restored needs root, and Popen changes the user before it calls `prepare`
    else:
        prepare = _leave_with_parent if leaves_with_us else None

    def execute(*words: str, path: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            words,
            executable=path,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environ,
            process_group=0,
            umask=script_umask(),
            preexec_fn=prepare,
            user=None if own else script.uid,
            group=None if own else script.gid,
            extra_groups=None if own else list(script.groups or ()),
        )

    try:
        return execute(*script.argv, *args, path=script.executed)
    except OSError as exc:
        if exc.errno != errno.ENOEXEC:
            raise
        command = shlex.join((script.executed, *script.argv[1:], *args))
        return execute("sh", "-c", command, path="/bin/sh")  # the file has no interpreter line


def _prepare(restore: Callable[[], None], identity: Script | None, leaves_with_us: bool) -> None:
    """In the forked child: give back what the daemon was started with, then become the script's user."""
    restore()
    if identity is not None:
        os.setgroups(identity.groups or ())
        if identity.gid is not None:
            os.setregid(identity.gid, identity.gid)
        if identity.uid is not None:
            os.setreuid(identity.uid, identity.uid)
    if leaves_with_us:
        _leave_with_parent()


def _leave_with_parent() -> None:
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _collect(descriptor: int, output: bytearray) -> None:
    """Read what is there; beyond the limit it is thrown away, so that the script never waits for us."""
    with contextlib.suppress(OSError):
        while data := os.read(descriptor, 65536):
            output += data[: max(0, OUTPUT_LIMIT - len(output))]
        asyncio.get_running_loop().remove_reader(descriptor)


async def _wait(process: subprocess.Popen[bytes], pidfd: int, limit: float) -> bool:
    """Wait for the end; True when it had to be forced."""
    for within, number in ((limit, signal.SIGTERM), (KILL_AFTER, signal.SIGKILL)):
        if await _ended(process, pidfd, within):
            return number is signal.SIGKILL
        _signal(process, number)
    await _ended(process, pidfd, KILL_AFTER)
    return True


async def _ended(process: subprocess.Popen[bytes], pidfd: int, within: float | None) -> bool:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    loop.add_reader(pidfd, _resolve, ended)
    try:
        async with asyncio.timeout(within):
            await ended
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(pidfd)
    process.poll()
    return True


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _resolve(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)

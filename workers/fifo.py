"""FIFOs that get a line per event, and the programs that read them (vrrp-behaviour.md 9, checker-behaviour.md 2.2).

A FIFO is made where none is, and never trusted because of its name: no link is followed, and one that is not a FIFO of
the daemon's or the configured user is refused. Writing never waits; what a full FIFO does not take is lost and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import stat
import sys
import termios
from collections.abc import Iterable
from dataclasses import field

from keepalived_py.clock import now
from keepalived_py.config.model import Fifo
from keepalived_py.records import dataclass

from . import scripts

logger = logging.getLogger(__name__)

MODE = 0o644
"""Permissions of a new FIFO, before the umask."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds between the end of a program and its next start; doubled each time."""
DRAIN_INTERVAL = 0.01
FOLLOW_AFTER = 1.0
"""Seconds after a reload in which another process of the daemon may have made a FIFO anew."""


class NotifyFifo:
    """One FIFO, held open for reading and writing so that no reader has to be there."""

    def __init__(self, config: Fifo, umask: int) -> None:
        self.config = config
        self.umask = umask
        self.lost = 0
        """Lines that found the FIFO full."""
        self._descriptor = -1
        self._identity = (0, 0)
        self._made_here = False
        self._reported = False

    def open(self) -> None:
        """Make it if it is missing, and open it; a refusal is logged and leaves it closed."""
        try:
            self._descriptor = self._open()
        except OSError as exc:
            logger.error("FIFO %s cannot be opened: %s", self.config.path, exc.strerror)
        except ValueError as exc:
            logger.error("FIFO %s is refused: %s", self.config.path, exc)

    @property
    def is_open(self) -> bool:
        return self._descriptor >= 0

    @property
    def unread(self) -> int:
        """Bytes that wait for a reader."""
        if not self.is_open:
            return 0
        return int.from_bytes(fcntl.ioctl(self._descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)

    def write(self, line: bytes) -> None:
        """Write `line` whole or not at all."""
        if not self.is_open:
            return
        self.follow()
        try:
            os.write(self._descriptor, line)
        except OSError as exc:
            self.lost += 1
            if not self._reported:
                logger.warning("FIFO %s takes no more, events are lost: %s", self.config.path, exc.strerror)
            self._reported = True
            return
        if self._reported:
            logger.warning("FIFO %s takes lines again; %d were lost", self.config.path, self.lost)
            self._reported = False

    def follow(self) -> bool:
        """Open what stands at the path now if that is another FIFO; True when it was.

        Two processes of the daemon write to notify_fifo, and the one that made it makes it anew at a reload.
        """
        try:
            found = os.stat(self.config.path, follow_symlinks=False)
        except OSError:
            return False  # removed: whoever has it open still reads what is written
        if not self.is_open or self._identity == (found.st_dev, found.st_ino):
            return False
        old = self._descriptor
        try:
            self._descriptor = self._open()
        except (OSError, ValueError):
            return False
        os.close(old)
        return True

    def close(self) -> None:
        """Close it; one made here, and still there, is removed."""
        if not self.is_open:
            return
        if self._made_here:
            with contextlib.suppress(OSError):
                found = os.stat(self.config.path, follow_symlinks=False)
                if self._identity == (found.st_dev, found.st_ino):
                    os.unlink(self.config.path)
        os.close(self._descriptor)
        self._descriptor = -1

    def _open(self) -> int:
        """Its descriptor. OSError when it cannot be opened, ValueError when it is not what it should be."""
        path, config = self.config.path, self.config
        try:
            os.mkfifo(path, MODE)
            made = True
        except FileExistsError:
            made = False
            self._trust(os.stat(path, follow_symlinks=False))  # opening a device or the like may have effects
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if made:
                os.fchmod(descriptor, MODE & ~self.umask)
                if config.uid is not None or config.gid is not None:
                    os.fchown(
                        descriptor,
                        -1 if config.uid is None else config.uid,
                        -1 if config.gid is None else config.gid,
                    )
            found = os.fstat(descriptor)
            self._trust(found)
        except (OSError, ValueError):
            os.close(descriptor)
            if made:
                os.unlink(path)
            raise
        self._made_here, self._identity = made, (found.st_dev, found.st_ino)
        return descriptor

    def _trust(self, found: os.stat_result) -> None:
        if not stat.S_ISFIFO(found.st_mode):
            raise ValueError("it is not a FIFO")
        if found.st_uid not in (os.geteuid(), self.config.uid):
            raise ValueError(f"it belongs to user {found.st_uid}")


@dataclass(slots=True)
class _Program:
    """The program that reads a FIFO: started again whenever it ends."""

    fifo: NotifyFifo
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    restart: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.task = asyncio.get_running_loop().create_task(self._keep_running())

    async def _keep_running(self) -> None:
        script, path = self.fifo.config.script, self.fifo.config.path
        assert script is not None
        pause = FIRST_PAUSE
        while not self.stopping.is_set():
            self.restart.clear()
            outcome, lasted = await scripts.serve(script, (path,), self.restart)
            if self.stopping.is_set():
                return
            if self.restart.is_set():
                continue
            pause = FIRST_PAUSE if lasted >= LONGEST_PAUSE else pause
            logger.warning("FIFO script %s %s, is started again in %gs", script, outcome, pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def end(self) -> None:
        """SIGTERM, and no other start."""
        self.stopping.set()
        self.restart.set()


class FifoSet:
    """The FIFOs of one process."""

    def __init__(self) -> None:
        self.fifos: list[NotifyFifo] = []
        self._programs: list[_Program] = []
        self._leaving: list[asyncio.Task[None]] = []

    def configure(self, fifos: Iterable[Fifo], umask: int) -> None:
        """Close what was open and open `fifos`, each with its program; needs a running loop."""
        again = bool(self.fifos)
        self._end_programs()
        self._close()
        for config in fifos:
            fifo = NotifyFifo(config, umask)
            fifo.open()
            self.fifos.append(fifo)
            if config.script is not None and fifo.is_open:
                program = _Program(fifo)
                program.start()
                self._programs.append(program)
        if again and self.fifos:
            asyncio.get_running_loop().call_later(FOLLOW_AFTER, self._follow)

    def write(self, line: bytes) -> None:
        """`line` to every FIFO, terminator included."""
        for fifo in self.fifos:
            fifo.write(line)

    async def finish(self, within: float) -> None:
        """Close all. Programs have `within` seconds to read the rest and end by themselves, then they are told to."""
        until = now() + within
        for _ in range(int(within / DRAIN_INTERVAL)):
            if not any(program.fifo.unread for program in self._programs):
                break
            await asyncio.sleep(DRAIN_INTERVAL)
        self._close()
        running = [program.task for program in self._programs if program.task is not None]
        for program in self._programs:
            program.stopping.set()
        if running:
            await asyncio.wait(running, timeout=max(0.0, until - now()))
        self._end_programs()
        if self._leaving:
            await asyncio.wait(self._leaving)

    def _close(self) -> None:
        for fifo in self.fifos:
            fifo.close()
        self.fifos.clear()

    def _end_programs(self) -> None:
        for program in self._programs:
            program.end()
            if program.task is not None:
                self._leaving.append(program.task)
        self._programs.clear()
        self._leaving = [task for task in self._leaving if not task.done()]

    def _follow(self) -> None:
        for program in self._programs:
            if program.fifo.follow():
                program.restart.set()
        for fifo in self.fifos:
            fifo.follow()

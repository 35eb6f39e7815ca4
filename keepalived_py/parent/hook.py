"""startup_script and shutdown_script: one program of the parent, limited; late, its whole process group is ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable
from functools import partial

from keepalived_py.config.model import Script

logger = logging.getLogger(__name__)

NEXT_SIGNAL = 2.0
"""Seconds between SIGTERM, SIGKILL and a second SIGKILL (cli-and-signals.md 2)."""
SIGNALS = (signal.SIGTERM, signal.SIGKILL, signal.SIGKILL)
GIVE_UP = 10.0
"""Seconds after the last signal in which the program may still go."""
GRACE = len(SIGNALS) * NEXT_SIGNAL + GIVE_UP
"""Seconds from the limit to the end in any case."""


class Hook:
    """One run. `done` is called once, when the program has ended, could not be started or is given up.

    Whoever collects children tells `ended`; nothing here waits for the process.
    """

    def __init__(
        self,
        name: str,
        script: Script,
        limit: float,
        loop: asyncio.AbstractEventLoop,
        done: Callable[[], None],
    ) -> None:
        self.name, self.script, self.limit = name, script, limit
        self._loop, self._done = loop, done
        self._process: subprocess.Popen[bytes] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._signals = deque(SIGNALS)

    def start(self, start: Callable[[Script], subprocess.Popen[bytes]]) -> None:
        """Start the program; call it outside of the loop."""
        try:
            self._process = start(self.script)
        except (OSError, ValueError, subprocess.SubprocessError) as exc:
            logger.error("%s %s cannot be run: %s", self.name, self.script, exc)
            self._done()
            return
        logger.info("Running %s %s", self.name, self.script)
        self._timer = self._loop.call_later(self.limit, self._late)

    @property
    def pid(self) -> int:
        """0 when nothing runs."""
        return 0 if self._process is None else self._process.pid

    def ended(self, code: int) -> None:
        """The process was collected: exit status, or minus the signal."""
        assert self._process is not None
        self._process.returncode = code
        if code:
            logger.warning(
                "%s %s %s", self.name, self.script, f"died of signal {-code}" if code < 0 else f"exited {code}"
            )
        self._finish()

    def stop(self) -> None:
        """The daemon is to stop: do not wait for the limit."""
        if self._timer is not None:
            self._timer.cancel()
            self._signal()

    def _late(self) -> None:
        logger.warning("%s %s runs longer than %gs", self.name, self.script, self.limit)
        self._signal()

    def _signal(self) -> None:
        number = self._signals.popleft() if self._signals else signal.SIGKILL
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)
        delay, then = (NEXT_SIGNAL, self._signal) if self._signals else (GIVE_UP, self._give_up)
        self._timer = self._loop.call_later(delay, then)

    def _give_up(self) -> None:
        logger.error("%s %s cannot be ended", self.name, self.script)
        assert self._process is not None
        self._process.returncode = -signal.SIGKILL
        self._finish()

    def _finish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._process = self._timer = None
        self._done()


class Hooks:
    """The scripts of one parent, one at a time. `later` runs something outside of the loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        later: Callable[[Callable[[], None]], None],
        start: Callable[[Script], subprocess.Popen[bytes]],
    ) -> None:
        self._loop, self._later, self._start = loop, later, start
        self._current: Hook | None = None

    @property
    def running(self) -> bool:
        return self._current is not None

    def run(self, name: str, script: Script | None, limit: float, then: Callable[[], None]) -> None:
        """Run `script`, if there is one, and `then` go on."""
        if script is None:
            then()
            return
        self._current = Hook(name, script, limit, self._loop, partial(self._done, then))
        self._later(partial(self._current.start, self._start))

    def ended(self, pid: int, code: int) -> bool:
        """Whether the process that was collected is the script."""
        if self._current is None or pid != self._current.pid:
            return False
        self._current.ended(code)
        return True

    def stop(self) -> bool:
        """End what runs; whether something does."""
        if self._current is not None:
            self._current.stop()
        return self._current is not None

    def _done(self, then: Callable[[], None]) -> None:
        self._current = None
        then()

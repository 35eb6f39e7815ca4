"""Telling people: scripts of one subject run in order, one at a time, limited, their output in the log; FIFOs; mail.

Whoever has something to tell never waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import field

from keepalived_py.config.model import Fifo, GlobalDefs, Script
from keepalived_py.records import dataclass

from . import scripts
from .fifo import FifoSet
from .smtp import Mailer

logger = logging.getLogger(__name__)

STOP_LIMIT = 1.0
"""Seconds that scripts get at a stop."""
MOST_WAITING = 200
"""Runs per subject that may wait: with a script that takes its whole time limit they came hours late."""


@dataclass(frozen=True, slots=True)
class _Job:
    script: Script
    args: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(slots=True)
class Notifier:
    """Queues per subject. `time_limit`: seconds a script may run."""

    time_limit: float
    fifos: FifoSet = field(default_factory=FifoSet)
    mailer: Mailer = field(default_factory=Mailer)
    _queues: dict[str, deque[_Job]] = field(default_factory=dict)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def configure(self, defs: GlobalDefs, fifos: Iterable[Fifo | None]) -> None:
        """Move to a configuration: FIFOs are made anew, scripts and mails that wait go on."""
        self.time_limit = defs.script_time_limit
        self.mailer.configure(defs.mail)
        self.fifos.configure([fifo for fifo in fifos if fifo is not None], defs.umask)

    def run(
        self,
        subject: str,
        script: Script | None,
        args: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Queue `script` for `subject`; None is nothing to do."""
        if script is None:
            return
        queue = self._queues.setdefault(subject, deque())
        if len(queue) >= MOST_WAITING:
            queue.popleft()
            logger.warning("(%s) more than %d scripts wait: the oldest are not run", subject, MOST_WAITING)
        queue.append(_Job(script, args, environment or {}))
        if subject not in self._tasks:
            self._tasks[subject] = asyncio.get_running_loop().create_task(self._work(subject))

    async def finish(self, within: float = STOP_LIMIT) -> None:
        """Wait for what is queued, at most `within` seconds, then end the rest."""
        await asyncio.gather(self._finish_scripts(within), self.mailer.finish(within), self.fifos.finish(within))

    async def _finish_scripts(self, within: float) -> None:
        tasks = list(self._tasks.values())
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=within)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    async def _work(self, subject: str) -> None:
        queue = self._queues[subject]
        try:
            while queue:
                job = queue.popleft()
                outcome = await scripts.run(
                    job.script, job.args, limit=self.time_limit, environment=job.environment, listen=True
                )
                for line in filter(None, map(str.rstrip, outcome.output.split("\n"))):
                    logger.info("(%s) script %s: %s", subject, job.script, line)
                if not outcome.success:
                    logger.warning("(%s) script %s %s", subject, job.script, outcome)
        finally:
            del self._queues[subject], self._tasks[subject]

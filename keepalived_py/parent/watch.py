"""Workers whose loop does not turn: reported, reported again when they answer, and killed where that is asked for."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Mapping

from ipc.messages import Heartbeat, Peer
from keepalived_py import log
from keepalived_py.clock import now
from keepalived_py.vitals import Lateness

from .child import Child, ended_though_held
from .roles import NAMES, Role

logger = logging.getLogger(__name__)

STALL_LIMIT = 5.0
"""Seconds without a word before a worker is reported."""
INTERVAL = 1.0
LATE = 1.0
"""Seconds by which the watch itself may be late: after more the workers' silence means nothing."""


class StallWatch:
    """`changed` is called whenever a worker stopped answering or answers again.

    `ended` is called with the process number and exit code of one that has ended and cannot be collected.
    """

    restart_after = 0.0
    """restart_stalled: seconds without a word after which a worker is killed; 0: never."""

    kills = True

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        roles: Mapping[Peer, Role],
        changed: Callable[[], None],
        ended: Callable[[int, int], None],
    ) -> None:
        self._loop, self._roles, self._changed, self._ended = loop, roles, changed, ended
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self.lateness = Lateness()
        """Of this process, by its own look each second."""

    def start(self) -> None:
        self._due = now() + INTERVAL
        self._timer = self._loop.call_later(INTERVAL, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def beat(self, peer: Peer, msg: Heartbeat) -> None:
        """The worker of that kind lives."""
        role = self._roles[peer]
        if role.child is not None:
            role.child.heartbeat = msg
        if role.stalled:
            logger.warning("%s child answers again", NAMES[peer])
            role.stalled = False
            self._changed()

    def _look(self) -> None:
        seconds = now() - self._due
        self.lateness.add(seconds)
        late = seconds > LATE
        self.start()
        log.tick()
        for peer, role in self._roles.items():
            child = role.child
            if child is None:
                continue
            code = ended_though_held(child.pid)
            if code is not None:
                self._ended(child.pid, code)
                continue
            if late:
                child.last_beat = now()  # this process did not run either, and has heard nobody
            self._judge(NAMES[peer], role, child)

    def _judge(self, name: str, role: Role, child: Child) -> None:
        silent = now() - child.last_beat
        if silent > STALL_LIMIT and not role.stalled:
            logger.warning("%s child process(%d) does not answer", name, child.pid)
            role.stalled = True
            self._changed()
        if self.kills and child.ready and 0 < self.restart_after < silent:
            logger.error("%s child process(%d) said nothing for %.1fs - killing it", name, child.pid, silent)
            os.kill(child.pid, signal.SIGKILL)

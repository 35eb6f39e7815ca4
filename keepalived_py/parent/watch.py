"""Workers whose loop does not turn: reported, and reported again when they answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from ipc.messages import Heartbeat, Peer
from keepalived_py import log
from keepalived_py.clock import now

from .roles import NAMES, Role

logger = logging.getLogger(__name__)

STALL_LIMIT = 5.0
"""Seconds without a word before a worker is reported."""
INTERVAL = STALL_LIMIT / 2


class StallWatch:
    """`changed` is called whenever a worker stopped answering or answers again."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, roles: Mapping[Peer, Role], changed: Callable[[], None]
    ) -> None:
        self._loop, self._roles, self._changed = loop, roles, changed
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
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
        self.start()
        log.tick()
        for peer, role in self._roles.items():
            if role.child is not None and not role.stalled and now() - role.child.last_beat > STALL_LIMIT:
                logger.warning("%s child process(%d) does not answer", NAMES[peer], role.child.pid)
                role.stalled = True
                self._changed()

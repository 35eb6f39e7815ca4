"""Has what others changed made again, as often in a row as vrrp_restore_lost allows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from keepalived_py.clock import now

from .losses import HELD_FOR, Losses, count_loss

logger = logging.getLogger(__name__)


class Restorer:
    """`again` makes everything anew, and says whether that worked."""

    def __init__(self, again: Callable[[], Awaitable[bool]]) -> None:
        self.limit = 0
        """How many changes in a row are put up with before there is a pause; 0: they are left as they are."""
        self.restored = 0
        self.hurt: dict[str, None] = {}
        """What others changed, for the log."""
        self.culprit = ""
        self.due = False
        """Whether it is to be made again, changed or not."""
        self._again = again
        self._losses: Losses = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Put back what is hurt or due."""
        if (self.hurt or self.due) and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._put_back())

    def forget(self) -> None:
        """All is as it has to be."""
        self.hurt.clear()
        self.culprit, self.due = "", False

    def close(self) -> None:
        """Put nothing back any more."""
        self.forget()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _put_back(self) -> None:
        while self.hurt or self.due:
            if self.hurt:
                pause = self._complain()
                if pause is None:
                    break
                await asyncio.sleep(pause)
                self.restored += 1
            self.forget()
            if not await self._again():
                await asyncio.sleep(HELD_FOR)
                self.due = True
        self.forget()
        self._task = None

    def _complain(self) -> float | None:
        """Seconds until it is to be put back; None: it stays as it is."""
        times = count_loss(self._losses, "", now())
        shown, culprit = ", ".join(sorted(self.hurt)), self.culprit or "somebody else"
        if times <= self.limit:
            logger.warning("%s was changed by %s and is put back", shown, culprit)
            return 0
        if not self.limit:
            logger.error("%s was changed by %s and stays so", shown, culprit)
            return None
        logger.error("%s was changed by %s, %d times in a row: it stays so for a while", shown, culprit, times)
        return HELD_FOR

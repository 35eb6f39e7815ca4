"""Long work cut into pieces, a few per turn of the loop, so that adverts and packets go in between.

Adding thousands of addresses in one go keeps a single-threaded router from advertising, and that makes a second master.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Hashable

from keepalived_py.clock import now

SIZE = 25
"""Addresses or frames per piece: a third of a millisecond, some milliseconds where there are thousands already."""
BUDGET = 0.001
"""Seconds of work per turn; no piece is begun after that."""


class SliceQueue:
    """First in, first out; the pieces of one owner can be dropped. `busy` hears when work begins and ends."""

    def __init__(self, busy: Callable[[bool], None], budget: float = BUDGET) -> None:
        self._busy, self._budget = busy, budget
        self._waiting: deque[tuple[Hashable, Callable[[], None]]] = deque()
        self._owned: Counter[Hashable] = Counter()
        """How many pieces of each owner wait: most that are cancelled have none."""
        self._scheduled = False

    def add(self, owner: Hashable, piece: Callable[[], None]) -> None:
        """Run `piece` now when nothing waits before it, else in its turn."""
        if not self._waiting and not self._scheduled:
            self._scheduled = True
            piece()
            self._busy(True)
            asyncio.get_running_loop().call_soon(self._turn)
            return
        self._waiting.append((owner, piece))
        self._owned[owner] += 1

    def cancel(self, owner: Hashable) -> None:
        """Forget what `owner` still has waiting."""
        if self._owned.pop(owner, 0):
            self._waiting = deque(item for item in self._waiting if item[0] != owner)

    def finish(self) -> None:
        """Run everything that waits, now."""
        while self._waiting:
            self._next()()

    def _turn(self) -> None:
        """What the loop found while pieces ran stands behind this turn, and has to come before the next ones."""
        asyncio.get_running_loop().call_soon(self._work)

    def _work(self) -> None:
        if not self._waiting:
            self._scheduled = False
            self._busy(False)
            return
        asyncio.get_running_loop().call_soon(self._turn)
        until = now() + self._budget
        self._next()()
        while self._waiting and now() < until:
            self._next()()

    def _next(self) -> Callable[[], None]:
        owner, piece = self._waiting.popleft()
        self._owned[owner] -= 1
        return piece

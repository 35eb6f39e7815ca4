"""BFD_CHECK: a real server is well while its session is Up (checker-behaviour.md 4)."""

from __future__ import annotations

import math
from collections.abc import Callable

from keepalived_py.config.model import BfdCheck
from keepalived_py.records import dataclass

from .probe import CheckFailed


class BfdSessions:
    """What is known of the sessions: one counts as down until it is told to be up. `changed` hears names."""

    def __init__(self, changed: Callable[[str], None]) -> None:
        self._changed = changed
        self._up: set[str] = set()

    def up(self, name: str) -> bool:
        return name in self._up

    def tell(self, name: str, up: bool) -> None:
        """Session `name` went up or down."""
        if up is self.up(name):
            return
        (self._up.add if up else self._up.discard)(name)
        self._changed(name)


@dataclass(frozen=True, slots=True)
class BfdChecker:
    """`up` gives the state of a session. Nothing has to be waited for: the session tells when it changes."""

    config: BfdCheck
    up: Callable[[str], bool]
    name: str = "BFD_CHECK"
    limit: float = math.inf

    async def check(self) -> None:
        self.judge()

    def judge(self) -> None:
        """Raises CheckFailed."""
        if not self.up(self.config.name):
            raise CheckFailed(f"session {self.config.name} is down")

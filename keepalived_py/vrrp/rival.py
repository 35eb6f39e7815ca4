"""Two address owners on one link (vrrp-behaviour.md 1.4): the one with the higher address insists for a while."""

from __future__ import annotations

from enum import Enum

from keepalived_py.values import Centiseconds, IPAddress, seconds

PATIENCE = 1.2
"""Intervals that the other owner gets to fall silent."""
MEMORY = 10 * PATIENCE
"""Intervals after which an owner that was heard once counts as new."""


class Verdict(Enum):
    NEW = "say that we are here"
    WAIT = "it may still fall silent"
    GIVE_IN = "it does not yield, so we do"


class Rival:
    """What is known of the other owner."""

    def __init__(self) -> None:
        self.source: IPAddress | None = None
        self._since = 0.0

    def heard(self, source: IPAddress, adver_int: Centiseconds, now: float) -> Verdict:
        """An advert of priority 255 from a lower address; `adver_int` is the longer of both intervals."""
        waited = (now - self._since) / seconds(adver_int)
        if source != self.source or waited > MEMORY:
            self.source, self._since = source, now
            return Verdict.NEW
        return Verdict.WAIT if waited < PATIENCE else Verdict.GIVE_IN

"""A checker that makes one of its steps each time: the urls of HTTP_GET and SSL_GET (checker-behaviour.md 4). Pure."""

from __future__ import annotations

from keepalived_py.config.model import CheckTiming

from .state import CheckerState


class RoundsState(CheckerState):
    """Well is who has passed a whole round: all `steps`, in order.

    A step that has failed is made alone until it passes; then a round begins anew, which must be passed to come up.
    `fast`: until a round was passed, and while one is made to come up, steps follow each other at once.
    """

    def __init__(self, timing: CheckTiming, steps: int, *, fast: bool = False) -> None:
        super().__init__(timing)
        self.steps, self.fast = steps, fast
        self.step = 0
        self.broken = False
        """The step is known to have failed."""
        self.proven = False
        """A round has been passed."""

    def record(self, success: bool) -> bool:
        """Count the result of the step; True when the checker went up or down by it."""
        if not success:
            changed = super().record(False)
            self.broken = not self.up
            return changed
        self.failures = 0
        if self.broken:
            self.broken, self.step = False, 0
            return False
        if self.step + 1 < self.steps:
            self.step += 1
            return False
        self.step, self.proven = 0, True
        return super().record(True)

    @property
    def next_delay(self) -> float:
        """Seconds from the end of this step to the next."""
        if self.broken:
            return max(self.timing.delay_before_retry, self.timing.delay_loop)
        if self.fast and not self.failures and not self._settled:
            return 0.0
        return super().next_delay

    @property
    def _settled(self) -> bool:
        """Nothing has to be found out soon. Rounds that count for `rise` are an interval apart."""
        between_rounds = self.step == 0 and self.successes > 0
        return self.proven and (self.up or between_rounds)

    def adopt(self, other: CheckerState) -> None:
        """Carry on with the step at which an equal checker of the previous configuration stood."""
        super().adopt(other)
        if isinstance(other, RoundsState):
            self.step, self.broken, self.proven = other.step, other.broken, other.proven

"""MISC_CHECK: a script decides (checker-behaviour.md 4)."""

from __future__ import annotations

from keepalived_py.config.model import MiscCheck
from keepalived_py.records import dataclass
from workers import scripts
from workers.scripts import KILL_AFTER

from .probe import CheckFailed, CheckNotMade


@dataclass(frozen=True, slots=True)
class MiscChecker:
    """`weight` is the configured weight of the real server, from which misc_dynamic's is counted."""

    config: MiscCheck
    weight: int
    name: str = "MISC_CHECK"

    @property
    def limit(self) -> float:
        """The script has a limit of its own; this one is only beyond its SIGKILL."""
        return self.config.timeout + 2 * KILL_AFTER + 1

    async def check(self) -> int | None:
        outcome = await scripts.run(self.config.script, limit=self.config.timeout)
        if outcome.timed_out:  # one that cannot even be killed has no status
            raise CheckFailed(str(outcome))
        if outcome.status is None:
            raise CheckNotMade(str(outcome))
        if self.config.dynamic and 2 <= outcome.status <= 255:
            return outcome.status - 2 - self.weight
        if not outcome.success:
            raise CheckFailed(str(outcome))
        return None

"""FILE_CHECK: the number in a track_file is a state, or adds to the weight (checker-behaviour.md 4)."""

from __future__ import annotations

import math
from collections.abc import Callable

from keepalived_py.config.model import FileCheck
from keepalived_py.records import dataclass

from .probe import CheckFailed

LEAST, MOST = -(2**31), 2**31 - 1


@dataclass(frozen=True, slots=True)
class FileChecker:
    """`value` gives the number of a track_file. Nothing has to be waited for: the file tells when it changes."""

    config: FileCheck
    value: Callable[[str], int]
    name: str = "FILE_CHECK"
    limit: float = math.inf

    async def check(self) -> int | None:
        return self.judge()

    def judge(self) -> int | None:
        """Points for the weight, None when the file says up or down only. Raises CheckFailed."""
        config = self.config
        value = self.value(config.track_file)
        if config.weight == 0:
            if (value == 0) == config.reverse:
                raise CheckFailed(f"{config.track_file} is {value}")
            return None
        points = max(LEAST, min(MOST, value * config.weight * (-1 if config.reverse else 1)))
        if points == LEAST:
            raise CheckFailed(f"{config.track_file} is {value}, which is down with weight {config.weight}")
        return points

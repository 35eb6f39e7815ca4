"""vrrp_startup_delay and vrrp_delay_after_boot (vrrp-behaviour.md 1.1, 15)."""

from __future__ import annotations

import os
import time

from keepalived_py.clock import now
from keepalived_py.config.model import GlobalDefs


def started_at(pid: int) -> float:
    """When a process began, on CLOCK_BOOTTIME. Raises OSError."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        behind_name = file.read().rpartition(b")")[2].split()
    return int(behind_name[19]) / os.sysconf("SC_CLK_TCK")


class StartupDelay:
    """Counts from now, or for a worker that takes the place of one that died from the start of process `daemon`.

    The start never moves, so another setting moves the end by the difference.
    """

    def __init__(self, daemon: int = 0) -> None:
        self._start = time.clock_gettime(time.CLOCK_BOOTTIME)
        if daemon:
            self._start = min(self._start, started_at(daemon))

    def ends(self, defaults: GlobalDefs) -> float:
        """The end of the longer delay on CLOCK_MONOTONIC; 0 without any."""
        if not defaults.startup_delay and not defaults.delay_after_boot:
            return 0.0
        end = max(self._start + defaults.startup_delay, defaults.delay_after_boot)
        return now() + end - time.clock_gettime(time.CLOCK_BOOTTIME)

"""Option -L: where the memory of a process goes, told at each reload and at the stop."""

from __future__ import annotations

import gc
import logging
from typing import TYPE_CHECKING

from . import log, log_limits, log_sinks

if TYPE_CHECKING:
    import tracemalloc

logger = logging.getLogger(__name__)

LINES = 5
"""How many places that grew are named."""


class MemoryTrace:
    """Compares with the time before. Without `wanted` it does nothing and costs nothing."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        self._before: tracemalloc.Snapshot | None = None
        self._total = 0
        """Bytes since the start."""

    def start(self) -> None:
        """Everything so far is what a start needs."""
        if self.wanted:
            import tracemalloc  # a start without it is 4 ms shorter

            tracemalloc.start()
            self._before = self._snapshot()

    def report(self, when: str) -> None:
        """Log what grew since the last report, without what is bounded anyway (log records) or garbage."""
        if self._before is None:
            return
        gc.collect()
        snapshot = self._snapshot()
        grown = [row for row in snapshot.compare_to(self._before, "lineno") if row.size_diff > 0]
        total = sum(row.size_diff for row in snapshot.compare_to(self._before, "filename"))
        self._total += total
        logger.info("Memory at %s: %+d bytes, %+d since the start", when, total, self._total)
        for row in grown[:LINES]:
            frame = row.traceback[0]
            logger.info("  %+d bytes in %+d blocks: %s:%d", row.size_diff, row.count_diff, frame.filename, frame.lineno)
        self._before = snapshot

    @staticmethod
    def _snapshot() -> tracemalloc.Snapshot:
        import tracemalloc

        left_out = (each.__file__ or "" for each in (tracemalloc, logging, log, log_sinks, log_limits))
        return tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, path) for path in left_out])

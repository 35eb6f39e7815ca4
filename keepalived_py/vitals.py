"""What a process is made of at the moment, and how late it is: for the dumps."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise

STEPS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Where the classes of lateness begin, in seconds."""
_frozen: list[int] = []
"""How many objects are frozen, once somebody has asked: they are counted one by one, which takes milliseconds."""


class Lateness:
    """A histogram of how late something was, in seconds."""

    def __init__(self) -> None:
        self.worst = 0.0
        self.counts = [0] * len(STEPS)

    def add(self, seconds: float) -> None:
        self.counts[bisect_right(STEPS, seconds) - 1 if seconds > 0 else 0] += 1
        if seconds > self.worst:
            self.worst = seconds

    def lines(self, of: str) -> Iterator[str]:
        yield f"Worst lateness of {of}: {self.worst * 1000:.3f} ms"
        names = [*(f"below {end * 1000:g} ms" for _, end in pairwise(STEPS)), "more"]
        found = ", ".join(f"{name} {count}" for name, count in zip(names, self.counts, strict=True) if count)
        yield f"Lateness of {of}: {found or 'none yet'}"


def resident_bytes() -> int:
    """Memory of this process that is in RAM."""
    with contextlib.suppress(OSError), open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    return 0


def freeze() -> None:
    """Keep the collector away from all that there is now."""
    gc.collect()
    gc.freeze()
    _frozen.clear()


def lines() -> Iterator[str]:
    """Of this process. Objects are those that the collector knows; frozen ones are from before the start was over."""
    yield f"Memory: {resident_bytes() // 1024} KiB"
    if not _frozen:
        _frozen.append(gc.get_freeze_count())
    yield f"Objects: {len(gc.get_objects())}, {_frozen[0]} frozen"
    yield f"Collections: {', '.join(str(each['collections']) for each in gc.get_stats())}"
    yield f"Threads: {threading.active_count()}"
    with contextlib.suppress(OSError):
        yield f"Descriptors: {len(os.listdir('/proc/self/fd')) - 1}"

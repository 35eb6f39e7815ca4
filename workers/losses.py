"""What others take away again and again: how often in a row, so that nobody is fought with for ever."""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import suppress
from pathlib import Path

HELD_FOR = 10.0
"""Seconds after which what was put back counts as safe."""

PID_MAX = 1 << 22
"""Ports above are those of further sockets of a process."""


class Culprits(dict[int, str]):
    """Who caused a notice of the kernel, by its netlink port: that mostly is the number of a process."""

    def __missing__(self, port: int) -> str:
        shown = "somebody else"
        if 0 < port <= PID_MAX:
            shown = f"process {port}"
            with suppress(OSError):  # it may have ended
                # the kernel cuts names, also in the middle of a character
                name = Path(f"/proc/{port}/comm").read_bytes().strip().decode("utf-8", "surrogateescape")
                shown = f"{name} ({shown})"
        self[port] = shown
        return shown


Losses = dict[Hashable, tuple[int, float]]
"""How many times in a row others removed something, and when last (CLOCK_MONOTONIC, seconds)."""


def count_loss(losses: Losses, what: Hashable, at: float) -> int:
    """How many times in a row `what` was removed now; what held for a while starts afresh."""
    count, last = losses.get(what, (0, at))
    count = count + 1 if at - last < HELD_FOR else 1
    losses[what] = count, at
    return count

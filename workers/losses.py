"""What others take away again and again: how often in a row, so that nobody is fought with for ever."""

from __future__ import annotations

from collections.abc import Hashable

HELD_FOR = 10.0
"""Seconds after which what was put back counts as safe."""

Losses = dict[Hashable, tuple[int, float]]
"""How many times in a row others removed something, and when last (CLOCK_MONOTONIC, seconds)."""


def count_loss(losses: Losses, what: Hashable, at: float) -> int:
    """How many times in a row `what` was removed now; what held for a while starts afresh."""
    count, last = losses.get(what, (0, at))
    count = count + 1 if at - last < HELD_FOR else 1
    losses[what] = count, at
    return count

"""Whether a virtual server has enough live weight (checker-behaviour.md 2.1). A function of the past, said out loud."""

from __future__ import annotations


def has_quorum(live_weight: int, *, quorum: int, hysteresis: int, had_quorum: bool) -> bool:
    """Gained at quorum + hysteresis; lost below quorum - hysteresis, or without any live weight."""
    if had_quorum:
        return live_weight > 0 and live_weight >= quorum - hysteresis
    return live_weight >= quorum + hysteresis

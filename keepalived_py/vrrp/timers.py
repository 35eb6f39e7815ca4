"""Durations of the protocol, in seconds (vrrp-behaviour.md 1; RFC 3768 section 6.1, RFC 9568 section 6.1)."""

from __future__ import annotations

from keepalived_py.values import Centiseconds, seconds


def skew_time(version: int, priority: int, master_adver_int: Centiseconds) -> float:
    """Skew_Time: the lower the priority, the longer. An address owner counts as 255 and still waits 1/256."""
    unit = 1.0 if version == 2 else seconds(master_adver_int)
    return (256 - priority) * unit / 256


def master_down_interval(version: int, priority: int, master_adver_int: Centiseconds, adverts: int = 3) -> float:
    """Active_Down_Interval: `adverts` intervals of silence, and the skew."""
    return adverts * seconds(master_adver_int) + skew_time(version, priority, master_adver_int)


def would_have_been_replaced(
    version: int, priority: int, adver_int: Centiseconds, adverts: int, silence: float
) -> bool:
    """Whether a router of `priority` has become master after `silence` seconds without an advert."""
    return silence > master_down_interval(version, priority, adver_int, adverts)

"""What IPVS has counted: connections, packets and bytes of services and destinations, in 64 bits (linux/ip_vs.h)."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import astuple, field

from keepalived_py.records import dataclass
from keepalived_py.values import RealKey
from workers.netlink import attributes

from .ipvs_messages import number

SVC_STATS64 = DEST_STATS64 = 12
DEST_ACTIVE, DEST_INACTIVE, DEST_PERSISTENT = 7, 8, 9
FIRST, LAST = 1, 5
"""Attributes of the counters: connections, packets in and out, bytes in and out."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Since the row was made; it is made anew whenever a server comes back."""

    connections: int = 0
    packets_in: int = 0
    packets_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    def __add__(self, other: Counters) -> Counters:
        return Counters(*map(operator.add, astuple(self), astuple(other)))

    def __str__(self) -> str:
        return (
            f"{self.connections} connections, packets {self.packets_in} in {self.packets_out} out,"
            f" bytes {self.bytes_in} in {self.bytes_out} out"
        )


@dataclass(frozen=True, slots=True)
class RealUsage:
    """Connections that one destination has now, and what was counted."""

    active: int = 0
    inactive: int = 0
    persistent: int = 0
    counters: Counters = Counters()

    def __add__(self, other: RealUsage) -> RealUsage:
        return RealUsage(
            self.active + other.active,
            self.inactive + other.inactive,
            self.persistent + other.persistent,
            self.counters + other.counters,
        )

    def __str__(self) -> str:
        return f"active {self.active}, inactive {self.inactive}, persistent {self.persistent}; {self.counters}"


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one service, or of all that a virtual server is made of."""

    counters: Counters = Counters()
    reals: Mapping[RealKey, RealUsage] = field(default_factory=dict)


def decode_counters(value: memoryview | None) -> Counters:
    """None: a kernel that does not count in 64 bits."""
    found = attributes(value) if value is not None else {}
    return Counters(*(number(found.get(kind)) for kind in range(FIRST, LAST + 1)))


def decode_usage(found: Mapping[int, memoryview]) -> RealUsage:
    """From the attributes of a destination."""
    active, inactive, persistent = (number(found.get(kind)) for kind in (DEST_ACTIVE, DEST_INACTIVE, DEST_PERSISTENT))
    return RealUsage(active, inactive, persistent, decode_counters(found.get(DEST_STATS64)))

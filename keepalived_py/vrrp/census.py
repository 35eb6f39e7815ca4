"""Which VRIDs are in use on a link, and who uses ours for other addresses (user-pains.md 16)."""

from __future__ import annotations

from collections.abc import Iterable

from keepalived_py.values import IPAddress

from .packet import Advertisement

VRIDS = range(1, 256)
SOURCES_REMEMBERED = 64
"""Further foreign senders are not told of one by one."""


class LinkCensus:
    """One link's. `own` are the VRIDs that we use on it."""

    def __init__(self, own: Iterable[int] = ()) -> None:
        self.seen = set(own)
        self._told: set[IPAddress] = set()

    def heard(self, vrid: int) -> None:
        """An advert of anybody."""
        self.seen.add(vrid)

    def stranger(self, advert: Advertisement) -> str:
        """What to say of an advert for our VRID without any address of ours; "" for no stranger, or a known one."""
        if not advert.foreign or advert.source in self._told or len(self._told) >= SOURCES_REMEMBERED:
            return ""
        self._told.add(advert.source)
        addresses = ", ".join(map(str, advert.addresses))
        return (
            f"{advert.source} uses VRID {advert.vrid} for other addresses ({addresses}): another cluster on this link? "
            f"VRIDs not seen here: {free(self.seen)}"
        )


def free(seen: set[int]) -> str:
    """The VRIDs from 1 to 255 that are not in `seen`, as ranges."""
    ranges: list[list[int]] = []
    for vrid in (each for each in VRIDS if each not in seen):
        if ranges and ranges[-1][1] == vrid - 1:
            ranges[-1][1] = vrid
        else:
            ranges.append([vrid, vrid])
    return ", ".join(f"{low}-{high}" if low != high else str(low) for low, high in ranges) or "none"

"""Which VRIDs are in use on a link, and who uses ours for other addresses (user-pains.md 16)."""

from __future__ import annotations

from collections.abc import Iterable

from keepalived_py.values import IPAddress

from .packet import Advertisement

VRIDS = range(1, 256)
SOURCES_REMEMBERED = 64
"""Further foreign senders are not told of one by one."""


class LinkCensus:
    """One link's. `own` are the VRIDs that we use on it. `complete`: adverts for other VRIDs reach us too."""

    def __init__(self, own: Iterable[int] = (), *, complete: bool = True) -> None:
        self.own = set(own)
        self.complete = complete
        self.strangers: dict[IPAddress, str] = {}
        """Foreign senders on our VRIDs, and what was said of each."""
        self._heard: dict[int, set[IPAddress]] = {}

    @property
    def seen(self) -> set[int]:
        """VRIDs in use by anybody."""
        return self.own | set(self._heard)

    def heard(self, vrid: int, source: IPAddress | None = None) -> bool:
        """An advert for a VRID that is not ours; True the first time from that sender."""
        senders = self._heard.setdefault(vrid, set())
        if source is None or source in senders or len(senders) >= SOURCES_REMEMBERED:
            return False
        senders.add(source)
        return True

    def stranger(self, advert: Advertisement) -> str:
        """What to say of an advert for our VRID without any address of ours; "" for no stranger, or a known one."""
        if not advert.foreign or advert.source in self.strangers or len(self.strangers) >= SOURCES_REMEMBERED:
            return ""
        addresses = ", ".join(map(str, advert.addresses))
        text = f"{advert.source} uses VRID {advert.vrid} for other addresses ({addresses})"
        self.strangers[advert.source] = text
        return f"{text}: another cluster on this link? {self.hint()}"

    def hint(self) -> str:
        """Which VRIDs may be free."""
        if not self.complete:
            return "log_unknown_vrids tells which VRIDs are free"
        return f"VRIDs not seen here: {free(self.seen)}"

    def lines(self) -> list[str]:
        """For dumps: who else is here, and what is free."""
        others = [
            f"VRID {vrid} of others: {', '.join(map(str, sorted(senders, key=int)))}"
            for vrid, senders in sorted(self._heard.items())
            if senders
        ]
        return [*others, *self.strangers.values(), self.hint()]


def free(seen: set[int]) -> str:
    """The VRIDs from 1 to 255 that are not in `seen`, as ranges."""
    ranges: list[list[int]] = []
    for vrid in (each for each in VRIDS if each not in seen):
        if ranges and ranges[-1][1] == vrid - 1:
            ranges[-1][1] = vrid
        else:
            ranges.append([vrid, vrid])
    return ", ".join(f"{low}-{high}" if low != high else str(low) for low, high in ranges) or "none"

"""A long virtual_server block in chapters, its real servers, of which only those with another text are read again.

Memory matters more than time here: every page that a process touches after a fork is copied first. Chapters are looked
at one by one, and what is the same as before is never looked into.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Sequence

from .model import RealServer

LONG = 30_000
"""Characters of a block that is read in chapters."""
DIGEST_SIZE = 16
_CHAPTER = re.compile(
    r"^[ \t]*real_server [^{}#!\n]*\{[^{}]*(?:\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}[^{}]*)*\}[ \t]*\n", re.MULTILINE
)
_PLACE = b"\0"
"""Where real servers stand; plain text has none. Several in a row are one, so that one more is no other rest."""
NEW = -1


def digest_of(text: str) -> bytes:
    """Tells `text` from any other."""
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_SIZE).digest()


class Chapters:
    """`text` holds a plain block from `start` to `end`. `rest` tells apart what is not a real server."""

    def __init__(self, text: str, start: int, end: int) -> None:
        self._text, self._end = text, end
        self._starts, self._ends = array("L"), array("L")
        rest, last = hashlib.blake2b(digest_size=DIGEST_SIZE), start
        reals = bytearray()
        for chapter in _CHAPTER.finditer(text, start, end):
            first, behind = chapter.span()
            if first > last:
                rest.update(text[last:first].encode() + _PLACE)
            last = behind
            self._starts.append(first)
            self._ends.append(behind)
            reals += digest_of(text[first:behind])
        rest.update(text[last:end].encode())
        self._start, self.rest = start, rest.digest()
        self.digest = self.rest + reals

    def places(self, known: Known) -> array[int]:
        """Of each chapter, which of the known real servers it is; NEW for one to be read."""
        size, old, new = DIGEST_SIZE, known.digests, memoryview(self.digest)[DIGEST_SIZE:]
        if len(old) == len(new):
            pairs = enumerate(range(0, len(new), size))
            places = array("l", (n if new[at : at + size] == old[at : at + size] else NEW for n, at in pairs))
            if places.count(NEW) <= len(places) // 2:
                return places
        numbers = {bytes(old[at : at + size]): number for number, at in enumerate(range(0, len(old), size))}
        return array("l", [numbers.get(bytes(new[at : at + size]), NEW) for at in range(0, len(new), size)])

    def without_known(self, places: Sequence[int]) -> str:
        """The text without the chapters that are known."""
        left, last = [], self._start
        for place, start, end in zip(places, self._starts, self._ends, strict=True):
            if start > last:
                left.append(self._text[last:start])
            if place == NEW:
                left.append(self._text[start:end])
            last = end
        return "".join((*left, self._text[last : self._end]))


class Known:
    """What an earlier load made of a long block; `digest` is that of its Chapters."""

    def __init__(self, digest: bytes, reals: Sequence[RealServer]) -> None:
        self.digests, self.reals = memoryview(digest)[DIGEST_SIZE:], reals

    @property
    def whole(self) -> bool:
        """Every real server was a chapter."""
        return len(self.digests) == DIGEST_SIZE * len(self.reals)

    def completed(self, places: Sequence[int], read: Sequence[RealServer]) -> tuple[RealServer, ...] | None:
        """Known real servers and those that were read, in their order; None when one of them stands twice."""
        if len(read) != places.count(NEW):
            return None
        news = iter(read)
        reals = tuple([next(news) if place == NEW else self.reals[place] for place in places])
        in_place = len(places) == len(self.reals) and all(
            place == number or (place == NEW and reals[number].key == self.reals[number].key)
            for number, place in enumerate(places)
        )
        return reals if in_place or len({real.key for real in reals}) == len(reals) else None

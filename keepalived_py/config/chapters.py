"""A long virtual_server block in chapters, its real servers, of which only those with another text are read again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

from .model import RealServer

DIGEST_SIZE = 16
_CHAPTER = re.compile(
    r"^[ \t]*real_server [^{}#!\n]*\{[^{}]*(?:\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}[^{}]*)*\}[ \t]*\n", re.MULTILINE
)
_PLACE = "\0"
"""Where real servers stand; plain text has none. Several in a row are one, so that one more is no other rest."""
_PLACES = re.compile(f"{_PLACE}+")


def digest_of(text: str) -> bytes:
    """Tells `text` from any other."""
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_SIZE).digest()


class Chapters:
    """`lines` of a plain block, its first one included."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._text = "\n".join(lines) + "\n"
        self.rest = digest_of(_PLACES.sub(_PLACE, _CHAPTER.sub(_PLACE, self._text)))
        self.reals = b"".join(map(digest_of, _CHAPTER.findall(self._text)))

    @property
    def digest(self) -> bytes:
        return self.rest + self.reals

    def without(self, known: Mapping[bytes, RealServer]) -> tuple[list[str], list[RealServer | None]]:
        """The lines without the chapters that are known, and all real servers in order, None for those to be read."""
        order: list[RealServer | None] = []

        def keep(chapter: re.Match[str]) -> str:
            at = len(order) * DIGEST_SIZE
            real = known.get(self.reals[at : at + DIGEST_SIZE])
            order.append(real)
            return chapter[0] if real is None else ""

        return _CHAPTER.sub(keep, self._text).split("\n")[:-1], order


class Known:
    """What an earlier load made of a long block; `digest` is that of its Chapters."""

    def __init__(self, digest: bytes, reals: Sequence[RealServer]) -> None:
        self._digest, self._reals = digest, reals

    def by_text(self) -> dict[bytes, RealServer]:
        """Real servers by the digests of their texts; none where one of them was no chapter."""
        places = range(DIGEST_SIZE, len(self._digest), DIGEST_SIZE)
        if len(places) != len(self._reals):
            return {}
        return {self._digest[at : at + DIGEST_SIZE]: real for at, real in zip(places, self._reals, strict=True)}

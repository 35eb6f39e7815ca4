"""A long virtual_server block in chapters, its real servers, of which only those with another text are read again.

What two texts begin and end with alike is found by comparing memory and never looked into: every page that a process
touches after a fork is copied first.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Callable, Sequence

from keepalived_py.records import dataclass

from .model import RealServer
from .plain import is_plain

LONG = 30_000
"""Characters of a block that is read in chapters."""
STEP = 1 << 14
"""Characters that are compared at a time: pieces that need no memory of their own."""
NEW = -1
_CHAPTER = re.compile(
    r"^[ \t]*real_server [^{}#!\n]*\{[^{}]*(?:\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}[^{}]*)*\}[ \t]*\n", re.MULTILINE
)
_OPENING = "real_server "
_FIRST_LINES = re.compile(rf"^[ \t]*{_OPENING}", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Long:
    """A long block up to the line that closes it, what of it is not a chapter, and how many chapters there are."""

    text: str
    rest: str
    count: int

    @property
    def first_line(self) -> str:
        return self.text[: self.text.index("\n")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Splice:
    """A long block for somebody who has another one, the one of server `number`: `middle` between its first `head` and
    its last `tail` characters, which makes `count` chapters. What is not a chapter is the same.
    """

    number: int
    head: int
    middle: str
    tail: int
    count: int

    def joined(self, old: Long) -> Long:
        """Raises ValueError where `old` cannot be what it was made of."""
        text = old.text
        if not (self.head >= 0 and self.tail >= 0 and self.head + self.tail <= len(text)):
            raise ValueError(f"{self.head} and {self.tail} of {len(text)} characters")
        joined = text[: self.head] + self.middle + text[len(text) - self.tail :]
        return Long(text=joined, rest=old.rest, count=self.count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """What became of a long block: its chapters are the first `head` and the last `tail` ones of the old one, and
    between them those of `places`, numbers of old chapters or NEW. `text` is a block of all that is to be read.
    """

    splice: Splice
    old: Long
    head: int
    places: Sequence[int]
    tail: int
    text: str

    @property
    def unchanged(self) -> bool:
        return not self.places and self.head + self.tail == self.old.count

    def completed(self, known: Sequence[RealServer], read: Sequence[RealServer]) -> tuple[RealServer, ...] | None:
        """Known real servers and those that were read, in their order; None when one of them stands twice."""
        if len(read) != self.places.count(NEW):
            return None
        news = iter(read)
        middle = tuple([next(news) if place == NEW else known[place] for place in self.places])
        last = len(known) - self.tail
        before = known[self.head : last]
        reals = (*known[: self.head], *middle, *known[last:])
        if [real.key for real in middle] == [real.key for real in before]:
            return reals
        return reals if len({real.key for real in reals}) == len(reals) else None


def long_block(text: str) -> Long:
    """A block that nobody knows yet."""
    rest, chapters = _taken_apart(text)
    return Long(text=text, rest=rest, count=len(chapters))


def revised(number: int, old: Long, text: str, start: int, end: int) -> Revision | None:
    """What became of the block of server `number`, which is now `text` from `start` to `end`.

    None where more changed than chapters, and where anything is not plain.
    """
    shorter = min(len(old.text), end - start)
    head = _alike(shorter, lambda low, high: old.text[low:high] == text[start + low : start + high])
    if head < shorter or len(old.text) != end - start:
        head = _begin_of_chapter(old.text, head)
    if head < 0:
        return None
    tail = _alike(
        shorter - head,
        lambda low, high: old.text[len(old.text) - high : len(old.text) - low] == text[end - high : end - low],
    )
    tail = len(old.text) - _next_chapter(old.text, len(old.text) - tail)
    middle = text[start + head : end - tail]
    if not is_plain(middle, 0, len(middle)):
        return None
    rest, chapters = _taken_apart(middle)
    old_rest, old_chapters = _taken_apart(old.text[head : len(old.text) - tail])
    if rest != old_rest:
        return None
    if head <= tail:
        first = _count(old.text, 0, head)
    else:
        first = old.count - len(old_chapters) - _count(old.text, len(old.text) - tail, len(old.text))
    last = old.count - len(old_chapters) - first
    numbers = {chapter: place for place, chapter in enumerate(old_chapters, first)}
    places = [numbers.get(chapter, NEW) for chapter in chapters]
    return Revision(
        splice=Splice(number=number, head=head, middle=middle, tail=tail, count=first + len(places) + last),
        old=old,
        head=first,
        places=places,
        tail=last,
        text=old.rest + "".join(chapter for chapter, place in zip(chapters, places, strict=True) if place == NEW),
    )


def _taken_apart(text: str) -> tuple[str, list[str]]:
    """What is not a chapter, and the chapters."""
    rest, chapters, last = [], [], 0
    for chapter in _CHAPTER.finditer(text):
        first, behind = chapter.span()
        rest.append(text[last:first])
        chapters.append(chapter[0])
        last = behind
    rest.append(text[last:])
    return "".join(rest), chapters


def _alike(size: int, same: Callable[[int, int], bool]) -> int:
    """How many of `size` characters are alike; `same` compares those from one place to another."""
    at = 0
    while at < size and same(at, min(at + STEP, size)):
        at = min(at + STEP, size)
    return at + bisect(range(1, min(STEP, size - at) + 1), 0, key=lambda count: not same(at, at + count))


def _begin_of_chapter(text: str, at: int) -> int:
    """Where the last line begins before `at` that opens a chapter, or says so in a comment; -1 for none."""
    found = text.rfind(_OPENING, 0, at)
    return -1 if found < 0 else text.rfind("\n", 0, found) + 1


def _next_chapter(text: str, at: int) -> int:
    """Where the first line begins that opens a chapter, and is begun behind `at`; the end for none."""
    line = text.find("\n", at) + 1
    found = _FIRST_LINES.search(text, line) if line else None
    return found.start() if found else len(text)


def _count(text: str, start: int, end: int) -> int:
    """Chapters in a part that is nothing but whole ones and what is between them."""
    return sum(1 for _ in _FIRST_LINES.finditer(text, start, end))

"""Changes to inputs. Every change takes the text, another input and the random generator, and gives a text."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from .seeds import BAD_BYTES, TOKENS, keywords

MAX_SIZE = 8192
"""Bytes of an input; what a change makes longer is cut."""

_ARGUMENTS = (*TOKENS, *[b'""'] * 10)
"""An empty word is what converters forget."""
_WORDS = re.compile(rb"[^\s{}]+")
_NUMBERS = re.compile(rb"\d+")
_BRACES = re.compile(rb"[{}\"']")
_KEYWORDS = keywords()
_VOCABULARY = (*TOKENS, *_KEYWORDS)
_GROWERS = (
    b"$A=${A}${A}\nx ${A}\n",
    b"$A=$B\n$B=$A\nx $A\n",
    b"$M=x \\\n$M \\\n$M\n$M\n",
    b"~SEQ(i, 999999) x $i\n",
    b"~SEQ(i, 99999999999999) x\n",
    b"~SEQ(i, 9999) ~SEQ(j, 9999) x\n",
    b"~SEQ(i, 0x7fffffff, -1, 0) x\n",
    b"include *\n",
    b"include " + b"{1,2}" * 40 + b"\n",
)

Change = Callable[[bytes, bytes, Random], bytes]


def _put(data: bytes, place: tuple[int, int], new: bytes) -> bytes:
    return data[: place[0]] + new + data[place[1] :]


def _span(data: bytes, random: Random) -> tuple[int, int]:
    start = random.randint(0, len(data))
    return start, min(len(data), start + random.choice((0, 1, 1, 2, 8, 64)))


def _pick(pattern: re.Pattern[bytes], data: bytes, random: Random) -> tuple[int, int]:
    """A random match; an empty place when there is none."""
    spans = [found.span() for found in pattern.finditer(data)]
    return random.choice(spans) if spans else _span(data, random)


def change_bytes(data: bytes, other: bytes, random: Random) -> bytes:
    return _put(data, _span(data, random), random.randbytes(random.choice((0, 1, 1, 2))))


def bad_byte(data: bytes, other: bytes, random: Random) -> bytes:
    """NUL and what is no UTF-8."""
    start = random.randint(0, len(data))
    return _put(data, (start, start), random.choice(BAD_BYTES))


def repeat_span(data: bytes, other: bytes, random: Random) -> bytes:
    start, end = _span(data, random)
    return _put(data, (end, end), data[start:end] * random.choice((1, 1, 2, 100)))


def insert_token(data: bytes, other: bytes, random: Random) -> bytes:
    """Between two words, or anywhere."""
    place = _pick(_WORDS, data, random)[0] if random.random() < 0.7 else random.randint(0, len(data))
    return _put(data, (place, place), random.choice(_VOCABULARY) + random.choice((b"", b" ", b"\n")))


def insert_statement(data: bytes, other: bytes, random: Random) -> bytes:
    """A keyword and up to three words, as a line or a block of its own."""
    line = data.find(b"\n", random.randint(0, len(data))) + 1
    words = [random.choice(_KEYWORDS), *random.choices(_ARGUMENTS, k=random.randint(0, 3))]
    return _put(data, (line, line), b" ".join(words) + random.choice((b"\n", b"\n", b" {\n}\n", b" {\n")))


def replace_word(data: bytes, other: bytes, random: Random) -> bytes:
    return _put(data, _pick(_WORDS, data, random), random.choice((random.choice(_VOCABULARY), b"", b'""')))


def repeat_word(data: bytes, other: bytes, random: Random) -> bytes:
    start, end = _pick(_WORDS, data, random)
    return _put(data, (end, end), random.choice((b"", b" ")) + data[start:end])


def change_number(data: bytes, other: bytes, random: Random) -> bytes:
    new = random.choice((0, 1, 255, 2**16, 2**31, 2**32, 2**63, 10**30, random.randint(0, 300)))
    return _put(data, _pick(_NUMBERS, data, random), b"%d" % new)


def move_lines(data: bytes, other: bytes, random: Random) -> bytes:
    """A few lines dropped, said again elsewhere, or moved."""
    lines = data.splitlines(keepends=True)
    start, keep = random.randint(0, len(lines)), random.random() < 0.5
    taken = lines[start : start + random.choice((1, 1, 2, 5))]
    rest = lines if keep else lines[:start] + lines[start + len(taken) :]
    to = random.randint(0, len(rest))
    return b"".join(rest[:to] + (taken if random.random() < 0.7 else []) + rest[to:])


def splice(data: bytes, other: bytes, random: Random) -> bytes:
    """Lines of another input among these."""
    lines, more = data.splitlines(keepends=True), other.splitlines(keepends=True)
    to, start = random.randint(0, len(lines)), random.randint(0, len(more))
    return b"".join(lines[:to] + more[start : start + random.choice((1, 3, 10))] + lines[to:])


def damage_brace(data: bytes, other: bytes, random: Random) -> bytes:
    """A brace or quote lost, doubled or changed."""
    return _put(data, _pick(_BRACES, data, random), random.choice((b"", b"{", b"}", b'"', b"{{", b"}}", b"{}")))


def nest(data: bytes, other: bytes, random: Random) -> bytes:
    """Many blocks in each other, with or without their ends."""
    deep, place = random.choice((2, 49, 51, 400)), random.randint(0, len(data))
    opening = random.choice((b"x {\n", b"x{", b"{", b"vrrp_instance {\n"))
    return _put(data, (place, place), opening * deep + b"}" * random.choice((0, deep - 1, deep, deep + 1)))


def lengthen_line(data: bytes, other: bytes, random: Random) -> bytes:
    """A line around the limit of 1022 bytes, of one thing again and again."""
    place, token = (
        _pick(_WORDS, data, random)[1],
        random.choice((b"x", b"x ", b" ", b"${A}", random.choice(_VOCABULARY))),
    )
    size = random.choice((1000, 1021, 1022, 1023, 1024, 2047, 4000))
    return _put(data, (place, place), (token * size)[:size])


def grow(data: bytes, other: bytes, random: Random) -> bytes:
    """Definitions that name themselves, huge repetitions, includes without end."""
    line = data.rfind(b"\n", 0, random.randint(0, len(data))) + 1
    return _put(data, (line, line), random.choice(_GROWERS))


RARE_CHANGES: tuple[Change, ...] = (nest, lengthen_line, grow)
"""What mostly ends in one of the bounds, and takes long."""
CHANGES: tuple[Change, ...] = (
    change_bytes,
    bad_byte,
    repeat_span,
    insert_token,
    insert_statement,
    insert_statement,
    replace_word,
    replace_word,
    repeat_word,
    change_number,
    move_lines,
    move_lines,
    splice,
    splice,
    damage_brace,
)


def mutated(data: bytes, other: bytes, random: Random) -> bytes:
    """`data` after one to five changes."""
    for _ in range(random.choice((1, 1, 2, 3, 5))):
        change = random.choice(RARE_CHANGES if random.random() < 0.02 else CHANGES)
        data = change(data, other, random)[:MAX_SIZE]
    return data

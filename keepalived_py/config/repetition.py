"""~SEQ and ~LST: what is repeated, and with which values in each round (config-language.md 7). Pure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable

Rounds = Iterable[list[tuple[str, str]]]
"""Of each round the names that it defines, and their values."""
_SEQ = re.compile(r"~SEQ(x?)[ \t]*\(([^()]*)\)[ \t]*(.*)", re.DOTALL)
_LST = re.compile(r"~LST[ \t]*\(([^()]*)\)[ \t]*(.*)", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_LST_ITEM = re.compile(r"[ \t]*(?:\{([^{}]*)\}|([^,{}\s]*))[ \t]*(,|$)", re.ASCII)


def sequence(text: str, limit: int, value_of: Callable[[str], str]) -> tuple[Rounds, str]:
    """~SEQ: its rounds, `limit` at most, and the text to repeat. `value_of` replaces references. Raises ValueError."""
    found = _SEQ.fullmatch(text)
    if found is None:
        raise ValueError("needs ~SEQ(name, [start, [step,]] end) and text to repeat")
    parts = [part.strip(" \t") for part in found[2].split(",")]
    if not 2 <= len(parts) <= 4 or not _NAME.fullmatch(parts[0]):
        raise ValueError("takes a name and one to three numbers")
    numbers = [_c_integer(value_of(part)) for part in parts[1:]]
    start, end = (1 if numbers[-1] >= 0 else -1, numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[-1])
    step = numbers[1] if len(numbers) == 3 else (1 if end >= start else -1)
    if step == 0 or (end - start) * step < 0:
        raise ValueError("the step never reaches the end")
    if found[1] and min(start, end) < 0:
        raise ValueError("~SEQx counts from 0 upwards")
    if abs(end - start) // abs(step) >= limit:
        raise ValueError(f"more than {limit} rounds")
    shape = "{:x}" if found[1] else "{}"
    values = range(start, end + (1 if step > 0 else -1), step)
    return ([(parts[0], shape.format(value))] for value in values), found[3]


def listed(text: str) -> tuple[Rounds, str]:
    """~LST: its rounds and the text to repeat. Raises ValueError."""
    found = _LST.fullmatch(text)
    items = _list_items(found[1]) if found else []
    if found is None or len(items) < 2:
        raise ValueError("needs ~LST(name, value, ...) and text to repeat")
    names, rounds = items[0], items[1:]
    if not all(_NAME.fullmatch(name) for name in names):
        raise ValueError("names are letters, digits and _")
    if any(len(values) > len(names) for values in rounds):
        raise ValueError("more values in a set than names")
    return [list(itertools.zip_longest(names, values, fillvalue="")) for values in rounds], found[2]


def _c_integer(text: str) -> int:
    """A number in any C base. Raises ValueError."""
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if re.fullmatch(r"0[0-7]+", digits):
        return sign * int(digits, 8)
    if not re.fullmatch(r"0[xX][0-9a-fA-F]+|[0-9]+", digits):
        raise ValueError(f"'{text}' is no number")
    return sign * int(digits, 0)


def _list_items(text: str) -> list[list[str]]:
    """Items of ~LST: `v` or `{v, w}`. Raises ValueError."""
    items: list[list[str]] = []
    position = 0
    while position <= len(text):
        found = _LST_ITEM.match(text, position)
        if found is None:
            raise ValueError(f"cannot read '{text[position:].strip()}'")
        items.append([part.strip(" \t") for part in found[1].split(",")] if found[1] is not None else [found[2]])
        position = found.end()
        if not found[3]:
            break
    return items

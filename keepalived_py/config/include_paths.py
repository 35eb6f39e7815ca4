"""Which files an include means, and which of them are read (config-language.md 6)."""

from __future__ import annotations

import itertools
import os
import re
import stat
from functools import lru_cache

MAX_ALTERNATIVES = 1000
"""Patterns that the braces of one include make."""


def unreadable(path: str) -> str:
    """Why a file is not read, "" when it is fine: it must be a regular file without execute bits."""
    try:
        mode = os.stat(path).st_mode
    except OSError as exc:
        return f"cannot be read: {exc.strerror}"
    if stat.S_ISDIR(mode):
        return "is a directory"
    if not stat.S_ISREG(mode):
        return "is not a regular file"
    if mode & 0o111:
        return "is executable, so it is not taken for a configuration file"
    return "" if os.access(path, os.R_OK) else "cannot be read: permission denied"


@lru_cache(maxsize=256)
def expand_braces(pattern: str) -> tuple[str, ...]:
    """`a{b,c}d` as `abd`, `acd`, the innermost braces first, as glob(3) does; not much more than MAX_ALTERNATIVES."""
    patterns = {pattern: None}
    while len(patterns) <= MAX_ALTERNATIVES:
        grown = dict.fromkeys(itertools.chain.from_iterable(map(_expanded, patterns)))
        if grown.keys() == patterns.keys():
            break
        patterns = grown
    return tuple(patterns)


def _expanded(pattern: str) -> list[str]:
    """One pair of braces expanded."""
    found = re.search(r"\{([^{}]*)\}", pattern)
    if found is None:
        return [pattern]
    return [pattern[: found.start()] + part + pattern[found.end() :] for part in found[1].split(",")]

"""Text that can be left unread: nothing in it is a directive, reports a mistake, or reaches beyond it."""

from __future__ import annotations

import re

MAX_DEPTH = 25
"""Deeper blocks than any keyword has."""
_NOT_PLAIN = re.compile(r"^(?![\t %-?A-\[\]-}]{0,511}(?:[#!][\t -z|~]{0,510})?$)", re.MULTILINE)
"""A line with anything that has to be looked at when it is its turn. A match of all lines at once would take 13 MB."""
_BRACES = re.compile(r"[{}]+")
_PAIR = "{}"
_STRAY = re.compile(r"[\n{}][ \t]*\{")
"""A brace that opens no block of a keyword before it."""


def is_plain(text: str, start: int, end: int, opened: int = 0) -> bool:
    """Whether the lines from `start` to `end` are plain and close every block they open, but for the first `opened`."""
    if text.find("include", start, end) >= 0 or _NOT_PLAIN.search(text, start, end) or _STRAY.search(text, start, end):
        return False
    braces = "".join(_BRACES.findall(text, start, end))[opened:]
    for _ in range(MAX_DEPTH):
        if _PAIR not in braces:
            break
        braces = braces.replace(_PAIR, "")
    return not braces

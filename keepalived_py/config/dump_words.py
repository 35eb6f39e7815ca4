"""Values to words that read back as those values (config-language.md 4)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from .model import Script

_PLAIN = re.compile(r"[A-Za-z0-9_.:/%+,=*^()<>\[\]|&;?-]+")
_SAFE_ARGUMENT = re.compile(r"[A-Za-z0-9_.:/%+,=@-]+")
_QUOTABLE = re.compile(r"[^'\"\\$\x00-\x1f\x7f]+")
_ESCAPED = {" ": "\\ ", "'": "\\'", "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def quoted(word: str) -> str:
    """A normal word; it never holds a double quote, for none can be written."""
    if _PLAIN.fullmatch(word) and not word.startswith("include"):
        return word
    return f'"{word}"'


def line(*words: str) -> str:
    return " ".join(map(quoted, words))


def number(value: float) -> str:
    """Whole numbers as such, others with at most six decimals."""
    if isinstance(value, int) or value == int(value):
        return str(int(value))
    return f"{value:.6f}".rstrip("0")


def indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"    {each}" for each in lines)


def block(head: str, inner: Iterable[str]) -> Iterator[str]:
    yield f"{head} {{"
    yield from indented(inner)
    yield "}"


def escaped(text: str) -> str:
    """For words that know backslashes; double quotes and dollars are written as numbers, as lines count them."""
    return "".join(
        _ESCAPED.get(each) or (f"\\x{ord(each):02x}" if each in '"$' or ord(each) < 32 or ord(each) == 127 else each)
        for each in text
    )


def _argument(word: str) -> str:
    if _SAFE_ARGUMENT.fullmatch(word):
        return word
    if _QUOTABLE.fullmatch(word):
        return f"'{word}'"
    return escaped(word) or "''"


def command_word(script: Script) -> str:
    """The command as one word."""
    command = " ".join(map(_argument, script.argv))
    return f'"{"<" if script.readable_only else ""}{command}"'


def identity_words(script: Script) -> str:
    """User and group; "" for the daemon's own."""
    return line(script.user, *((script.group,) if script.group else ())) if script.user else ""


def script_words(script: Script) -> str:
    """Command, user and group as a script keyword reads them."""
    return f"{command_word(script)} {identity_words(script)}".rstrip()


def script_lines(keyword: str, script: Script) -> Iterator[str]:
    """The same where the identity is a keyword of its own."""
    yield f"{keyword} {command_word(script)}"
    if script.user:
        yield f"user {identity_words(script)}"

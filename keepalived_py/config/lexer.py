"""Characters to words: comments, quotes, braces (config-language.md 2 to 5).

A physical line becomes pieces: runs of words, and single braces. Columns are found only when a problem is reported, so
a line that is fine costs next to nothing.
"""

from __future__ import annotations

import re
from functools import lru_cache

from keepalived_py.records import dataclass

from .problems import Location

MAX_LINE = 1022
"""Bytes of a physical line, and of a line after substitution."""

_ODD = re.compile(r"[^\x00-\x1b -\x7f]")
"""What str.split() may take for a blank but no configuration does; the other way round it takes 5 ms to compile."""
_SPECIAL = re.compile(r'["#!\\{}]')
_BLANKS = " \t"
_SEPARATORS = " \t\f\n\r\v"
_SEPARATOR = re.compile(f"[{_SEPARATORS}]")


def to_text(data: bytes) -> str:
    """Bytes of a file as text; what is no UTF-8 is kept as it is."""
    return data.decode("utf-8", "surrogateescape")


def to_bytes(text: str) -> bytes:
    """The bytes that `to_text` read."""
    return text.encode("utf-8", "surrogateescape")


def line_size(text: str) -> int:
    """Bytes of a line."""
    return len(text) if text.isascii() else len(to_bytes(text))


class QuoteError(Exception):
    """A double quote is never closed."""


@dataclass(slots=True)
class SourceLine:
    """A physical line and where it stands. Pieces made from it by substitution point here."""

    file: str
    number: int
    text: str
    start: int = 0
    """Where the piece that is meant begins, in a line of several pieces."""

    def beginning_at(self, start: int) -> SourceLine:
        return SourceLine(self.file, self.number, self.text, start)

    def whole(self) -> Location:
        return Location(self.file, self.number, 0, self.text)

    def find(self, word: str, index: int) -> Location:
        """Where `word` is, at best the `index`-th word of the line; the line itself when it came by substitution."""
        plain = self.text.rstrip("\r\n")
        spans = word_spans(plain)
        if self.start:
            spans = [span for span in spans if span[0] >= self.start]
        if index < len(spans):
            start, end = spans[index]
            if plain[start:end].strip('"') == word:
                return Location(self.file, self.number, start + 1, plain, max(1, end - start))
        for start, end in spans:
            if plain[start:end].strip('"') == word:
                return Location(self.file, self.number, start + 1, plain, max(1, end - start))
        start = plain.find(word, self.start) if word else -1
        if start < 0:
            start = len(plain) - len(plain.lstrip())
            return Location(self.file, self.number, start + 1, plain, max(1, len(plain.strip())))
        return Location(self.file, self.number, start + 1, plain, max(1, len(word)))

    def end(self) -> Location:
        """Just behind the last character: where something is missing."""
        plain = self.text.rstrip()
        return Location(self.file, self.number, len(plain) + 1, plain)


_SPAN = re.compile(r'"[^"]*"?|[{}]|[^\s"{}]+', re.ASCII)


@lru_cache(maxsize=16)
def word_spans(text: str) -> list[tuple[int, int]]:
    """Start and end of every word and brace of a raw line."""
    return [match.span() for match in _SPAN.finditer(text)]


def strip_comment(text: str) -> str:
    """Without comment and outer blanks; `\\#` and `\\!` outside quotes lose their backslash.

    Raises QuoteError when the double quotes do not pair up.
    """
    if not _SPECIAL.search(text):
        return text.strip(_BLANKS)
    kept: list[str] = []
    quoted = False
    position, length = 0, len(text)
    while position < length:
        character = text[position]
        if character == '"':
            quoted = not quoted
        elif not quoted and character in "#!":
            break
        elif not quoted and character == "\\" and position + 1 < length:
            following = text[position + 1]
            kept.append(following if following in "#!" else character + following)
            position += 2
            continue
        kept.append(character)
        position += 1
    if quoted:
        raise QuoteError(text)
    return "".join(kept).strip(_BLANKS)


def split_braces(text: str) -> list[str]:
    """`text` cut at every brace outside double quotes; braces are pieces of their own, empty pieces are dropped."""
    if "{" not in text and "}" not in text:
        return [text] if text else []
    pieces: list[str] = []
    start, quoted = 0, False
    for position, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif not quoted and character in "{}":
            pieces.append(text[start:position].strip(_SEPARATORS))
            pieces.append(character)
            start = position + 1
    pieces.append(text[start:].strip(_SEPARATORS))
    return [piece for piece in pieces if piece]


def split_words(text: str) -> tuple[str, ...]:
    """Words of one piece (config-language.md 4.1). A quote ends an unquoted word; an empty `""` is a word."""
    if '"' not in text:
        return tuple(text.split() if _ODD.search(text) is None else filter(None, _SEPARATOR.split(text)))
    words: list[str] = []
    position, length = 0, len(text)
    while position < length:
        if text[position] in _SEPARATORS:
            position += 1
        elif text[position] == '"':
            end = text.find('"', position + 1)
            if end < 0:
                break  # the line's quotes were counted already; the rest of the line is dropped
            words.append(text[position + 1 : end])
            position = end + 1
        else:
            end = position
            while end < length and text[end] not in _SEPARATORS and text[end] != '"':
                end += 1
            words.append(text[position:end])
            position = end
    return tuple(words)


class EscapeError(Exception):
    """A quoted-and-escaped word is malformed: the text says how."""


_ESCAPES = {"a": "\a", "b": "\b", "E": "\x1b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def split_shell_words(text: str, *, undo_escapes: bool) -> tuple[str, ...]:
    """Words under the richer rules of config-language.md 4.2; touching pieces form one word.

    With `undo_escapes` backslash sequences are replaced, otherwise they are kept as they stand (pass 1 of scripts).
    Raises EscapeError.
    """
    words: list[str] = []
    current: list[str] | None = None
    position, length = 0, len(text)
    quote = ""
    while position < length:
        character = text[position]
        if character == "\\":
            piece, position = _escape(text, position, undo_escapes)
            current = [*(current or []), piece]
            continue
        position += 1
        if quote:
            if character == quote:
                quote = ""
            else:
                assert current is not None
                current.append(character)
        elif character in "'\"":
            quote = character
            current = current if current is not None else []
        elif character in _SEPARATORS:
            if current is not None:
                words.append("".join(current))
                current = None
        else:
            current = current if current is not None else []
            current.append(character)
    if quote:
        raise EscapeError(f"missing closing {quote}")
    if current is not None:
        words.append("".join(current))
    return tuple(words)


def _escape(text: str, position: int, undo: bool) -> tuple[str, int]:
    """The piece that the backslash at `position` stands for, and where to go on."""
    if position + 1 >= len(text):
        raise EscapeError("a lone backslash at the end")
    character = text[position + 1]
    if not undo:
        return text[position : position + 2], position + 2
    if character in _ESCAPES:
        return _ESCAPES[character], position + 2
    if character == "x" and (found := re.compile(r"[0-9a-fA-F]{1,2}").match(text, position + 2)):
        return chr(int(found[0], 16)), found.end()
    if character in "01234567" and (found := re.compile(r"[0-7]{1,3}").match(text, position + 1)):
        return chr(int(found[0], 8) & 0xFF), found.end()
    if character == "c" and position + 2 < len(text):
        return chr(ord(text[position + 2]) & 0x1F), position + 3
    return character, position + 2

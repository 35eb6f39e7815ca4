"""Files to pieces: includes, conditions, definitions, repetition and substitution (config-language.md 2 to 7).

Every line goes through the same steps once: definition being collected, condition, definition, ~SEQ and ~LST,
substitution, comment, include, braces, words. What a step injects (rounds, lines of a multi-line definition)
starts over. Growth is bounded, so no file can keep the reader busy for ever.
"""

from __future__ import annotations

import glob
import hashlib
import os
import random
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import field
from functools import partial

from keepalived_py.records import dataclass

from .chapters import LONG, Long, long_block, revised
from .include_paths import MAX_ALTERNATIVES, expand_braces, unreadable
from .lexer import (
    MAX_LINE,
    QuoteError,
    SourceLine,
    line_size,
    split_braces,
    split_words,
    strip_comment,
    to_bytes,
    to_text,
)
from .plain import is_plain
from .problems import Problems, Severity
from .repetition import listed, sequence
from .tree import CLOSE, Folded, Mark, Piece, Statement

DIGEST_SIZE = 16
MAX_GROWN = 1_000_000
"""Lines of one load that repetition, multi-line definitions and files read again make; 50 bytes more count as one."""
MAX_FILES = 10_000
"""Files read in one load, a file read again counted again."""
MAX_INCLUDE_DEPTH = 64
MAX_SUBSTITUTIONS = 200
"""References replaced in one line; a definition that names itself is found this way."""

INCLUDE_CHECKS = {
    "include": "",
    "includer": "r",
    "includem": "rm",
    "includew": "rmw",
    "includeb": "rb",
    "includea": "rmwb",
}
_CHECK_WORDS = {"read": "r", "readable": "r", "match": "m", "wildcard_match": "w", "brace_match": "b"}
_INCLUDE = re.compile(r"(include[rmwba]?)[ \t]+(.*)")
_DEFINITION = re.compile(r"\$([A-Za-z_]\w*)=[ \t]*(.*)", re.DOTALL | re.ASCII)
_REFERENCE = re.compile(r"\$(?:\{([A-Za-z_]\w*)((?:[ \t]+[^{}]*)?)\}|([A-Za-z_]\w*)(?=[ \t,)]|$))", re.ASCII)
_CONDITION = re.compile(r"@(\^?)(\S*)[ \t]+(.+)", re.DOTALL | re.ASCII)
_UNUSUAL = re.compile(r"[$@~]|^[ \t]*include")
_FOLDED = "virtual_server "
"""Blocks that begin so at the left margin are read later, and not again when nothing in them changed."""
_MAX_FOLDED = 200_000
"""Characters; once a longer block was not plain, no other of that length is looked at: each look may read up to the
end."""
_CLOSING_LINE = f"\n{CLOSE}\n"
_FOLDED_HEAD = re.compile(r"[^{}]*(?= *\{[ \t]*$)")


class TooMuch(Exception):
    """The text grows beyond every bound, at `line`; reading stops."""

    def __init__(self, message: str, line: SourceLine) -> None:
        super().__init__(message)
        self.line = line


@dataclass(slots=True, kw_only=True)
class ReadOptions:
    """What reading depends on beside the files."""

    config_id: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)
    check_all_includes: bool = False
    random_seed: int | None = None
    fold: bool = True
    """Leave the inside of plain blocks for later: see tree.Folded."""
    known: Mapping[str, tuple[int, Long]] = field(default_factory=dict)
    """Long blocks of an earlier load with the numbers of their servers, by their first lines."""


@dataclass(slots=True)
class Preprocessor:
    """Reads a configuration and everything it includes. One object reads one configuration once."""

    options: ReadOptions
    problems: Problems
    files: list[str] = field(default_factory=list)
    """Every file that was read, in order."""
    _values: dict[str, str | tuple[str, ...]] = field(default_factory=dict)
    _collecting: tuple[str, list[str]] | None = None
    _checks: str = ""
    _grown: int = 0
    _depth: int = 0
    _max_folded: int = sys.maxsize // 2
    _seen: set[str] = field(default_factory=set)
    _cache: dict[str, tuple[tuple[tuple[str, ...], str], ...]] = field(default_factory=dict)
    _random: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        self._checks = "rmwb" if self.options.check_all_includes else ""
        self._random.seed(self.options.random_seed)

    def read(self, pattern: str) -> Iterator[Piece | Statement]:
        """Pieces of the main file, which may be a pattern. Nothing readable is a problem of exit code 6."""
        paths = sorted(glob.glob(pattern)) or [pattern]
        readable = [path for path in paths if self._readable(path, main=True)]
        if len(readable) > 1:
            self.problems.add(
                "several-main-files",
                Severity.MULTIPLE_FILES,
                f"'{pattern}' matches {len(readable)} files; all are read",
            )
        try:
            for path in readable:
                yield from self._file(path, SourceLine(path, 1, ""))
        except TooMuch as exc:
            self.problems.add("too-much-text", Severity.SYNTAX, str(exc), exc.line.whole())

    # files --------------------------------------------------------------------------------------------------------

    def _readable(self, path: str, *, main: bool = False, where: SourceLine | None = None, checks: str = "rmw") -> bool:
        """Whether `path` is a file to read; what is wrong with it is reported as the checks in force ask for."""
        why = unreadable(path)
        if not why:
            return True
        if main:
            self.problems.add("no-main-file", Severity.NOTE, f"Configuration file '{path}' {why}", stops=6)
        else:
            self._include_problem("include-unreadable", "r" in checks, f"include file '{path}' {why}", where)
        return False

    def _include_problem(self, id: str, enabled: bool, message: str, where: SourceLine | None) -> None:
        at = where.whole() if where else None
        if enabled:
            self.problems.add(id, Severity.FILE_NOT_FOUND, message, at, stops=6)
        else:
            self.problems.add(id, Severity.NOTE, message, at)

    def _file(self, path: str, line: SourceLine) -> Iterator[Piece | Statement]:
        """Pieces of the file that `line` includes."""
        if self._depth >= MAX_INCLUDE_DEPTH:
            raise TooMuch(f"'{path}': files include each other more than {MAX_INCLUDE_DEPTH} deep", line)
        if len(self.files) >= MAX_FILES:
            raise TooMuch(f"'{path}': more than {MAX_FILES} files are included", line)
        try:
            with open(path, "rb") as file:
                text = to_text(file.read())
        except OSError as exc:
            self._include_problem("include-unreadable", True, f"'{path}': {exc.strerror}", None)
            return
        again = path in self._seen
        self._seen.add(path)
        self.files.append(path)
        checks, self._depth = self._checks, self._depth + 1
        if again:
            self._count(text.count("\n") + (text[-1:] not in ("", "\n")), line)
        directory = os.path.dirname(path) or "."
        yield from self._text(path, directory, text)
        self._checks, self._depth = checks, self._depth - 1

    def _text(self, path: str, directory: str, text: str) -> Iterator[Piece | Statement]:
        """Blocks that can be left folded are not even cut into lines."""
        at, number = 0, 1
        while at < len(text):
            if text.startswith(_FOLDED, at) and self.options.fold and self._collecting is None:
                end = self._end_of_block(text, at)
                folded = self._fold(path, number, text, at, end + 1) if end >= 0 else None
                if folded is not None:
                    yield folded
                    end = text.find("\n", end + 1) + 1 or len(text)
                    if end < len(text):
                        number += text.count("\n", at, end)
                    at = end
                    continue
                if end - at > _MAX_FOLDED:
                    self._max_folded = _MAX_FOLDED
            end = text.find("\n" + _FOLDED, at) + 1 or len(text)
            lines = text[at:end].split("\n")
            if not lines[-1]:
                lines.pop()
            yield from self._physical_lines(path, directory, number, lines)
            number += len(lines)
            at = end

    def _end_of_block(self, text: str, at: int) -> int:
        """Where the line ends that is before the closing brace; -1 for none."""
        end = text.find(_CLOSING_LINE, at, at + self._max_folded)
        if end < 0 and text.endswith(_CLOSING_LINE[:-1]) and len(text) - at < self._max_folded:
            end = len(text) - len(_CLOSING_LINE[:-1])
        if end < 0:
            self._max_folded = _MAX_FOLDED
        return end

    def _physical_lines(self, path: str, directory: str, first: int, lines: list[str]) -> Iterator[Piece | Statement]:
        cache = self._cache
        for number, raw in enumerate(lines, first):
            known = cache.get(raw)
            if known is None or self._collecting is not None:
                if line_size(raw) <= MAX_LINE and self._collecting is None and not _UNUSUAL.search(raw):
                    known = self._plain(SourceLine(path, number, raw))
                    if known is None:
                        continue
                    cache[raw] = known
                else:
                    yield from self._unusual(SourceLine(path, number, raw), directory)
                    continue
            if known:
                line = SourceLine(path, number, raw)
                if len(known) == 1:
                    yield (*known[0], line)
                else:
                    yield from _placed(known, line)
                if known[0][0][0] == "include_check":
                    self._set_checks(known[0][0][1:])

    def _fold(self, path: str, number: int, text: str, start: int, end: int) -> Statement | None:
        """The block that begins in line `number`, at `start`, and is closed in the line at `end`; None: not plain."""
        first = text[start : text.index("\n", start)]
        head = _FOLDED_HEAD.match(first)
        mark = self._mark(text, start, end, first) if head is not None else None
        if head is None or mark is None:
            return None
        words = head[0].rstrip(" \t")
        folded = Folded(mark, text, start, end, partial(self._plain_lines, path, number))
        return Statement(split_words(words), words, SourceLine(path, number, first), [], folded)

    def _mark(self, text: str, start: int, end: int, first: str) -> Mark | None:
        """What tells a plain block from any other; None for one that is not plain."""
        if end - start > LONG and first in self.options.known:
            revision = revised(*self.options.known[first], text, start, end)
            if revision is not None:
                return revision
        if not is_plain(text, start, end, opened=1):
            return None
        return long_block(text[start:end]) if end - start > LONG else digest_of(text[start:end])

    def _plain_lines(self, path: str, head: int, text: str) -> Iterator[Piece]:
        """Pieces of lines without directives and quotes behind the first one, which is line `head`."""
        cache = self._cache
        for number, raw in enumerate(text.split("\n")[1:-1], head + 1):
            known = cache.get(raw)
            if known is None:
                known = cache[raw] = self._plain(SourceLine(path, number, raw)) or ()
            if len(known) == 1:
                yield (*known[0], SourceLine(path, number, raw))
            elif known:
                yield from _placed(known, SourceLine(path, number, raw))

    def _count(self, lines: int, line: SourceLine) -> None:
        self._grown += lines
        if self._grown > MAX_GROWN:
            raise TooMuch(f"repetition, definitions and includes make more than {MAX_GROWN} lines", line)

    def _plain(self, line: SourceLine) -> tuple[tuple[tuple[str, ...], str], ...] | None:
        """Pieces of a line that no directive concerns; None after reporting that it cannot be read."""
        text = self._uncommented(line.text.rstrip("\r"), line)
        if text is None:
            return None
        return tuple((words, piece) for piece in split_braces(text) if (words := split_words(piece)))

    def _uncommented(self, raw: str, line: SourceLine) -> str | None:
        if "\0" in raw:
            self.problems.add("nul-byte", Severity.SYNTAX, "line holds a NUL byte - ignored", line.whole())
            return None
        try:
            return strip_comment(raw)
        except QuoteError:
            self.problems.add("unterminated-quote", Severity.SYNTAX, "Unterminated quote", line.find('"', 0))
            return strip_comment(raw + '"')

    # directives ---------------------------------------------------------------------------------------------------

    def _unusual(self, line: SourceLine, directory: str) -> Iterator[Piece | Statement]:
        """A line that may be a directive, hold references, or belong to a definition."""
        raw = line.text
        while line_size(raw) > MAX_LINE:
            # the beginning is dropped and the rest read as a line, as keepalived does
            self.problems.add("line-too-long", Severity.SYNTAX, f"line longer than {MAX_LINE} bytes", line.whole())
            raw = to_text(to_bytes(raw)[MAX_LINE + 1 :])
        text = self._uncommented(raw.rstrip("\r"), line)
        if text is None:
            return
        if self._continues(raw, text):
            text += "\\"
        waiting = [iter((text,))]
        while waiting:
            following, injected = next(waiting[-1], None), len(waiting) > 1
            if following is None:
                waiting.pop()
                continue
            if injected:
                self._count(1, line)
            for piece in self._step(following, line, directory, waiting):
                if injected:
                    self._count(1 if isinstance(piece, Statement) else 1 + len(piece[1]) // 50, line)
                yield piece

    def _continues(self, raw: str, text: str) -> bool:
        """Whether a mark at the end of a comment goes on with a definition of several lines: keepalived counts it."""
        if not raw.rstrip().endswith("\\") or text.endswith("\\"):
            return False
        return self._collecting is not None or _DEFINITION.fullmatch(text) is not None

    def _step(
        self, text: str, line: SourceLine, directory: str, waiting: list[Iterator[str]]
    ) -> Iterator[Piece | Statement]:
        if self._collecting is not None:
            self._collect(text)
            return
        conditioned = self._condition(text)
        if conditioned is None or self._define(conditioned) or self._repeat(conditioned, line, waiting):
            return
        substituted = self._substitute(conditioned, line, waiting)
        if substituted is None:
            return
        include = _INCLUDE.fullmatch(substituted)
        if include:
            yield from self._include(include[1], include[2], line, directory)
            return
        for piece in split_braces(substituted):
            words = split_words(piece)
            if words:
                yield words, piece, line
                if words[0] == "include_check":
                    self._set_checks(words[1:])

    def _collect(self, text: str) -> None:
        assert self._collecting is not None
        name, lines = self._collecting
        more = text.endswith("\\")
        content = text[:-1].strip(" \t") if more else text
        if content:
            lines.append(content)
        if not more:
            self._values[name] = tuple(lines)
            self._collecting = None

    def _condition(self, text: str) -> str | None:
        """What `@ID` leaves of the line; None: nothing."""
        if not text.startswith("@"):
            return text
        found = _CONDITION.fullmatch(text)
        if found is None:
            return None
        wanted_equal = not found[1]
        return found[3] if (found[2] == self.options.config_id) is wanted_equal else None

    def _define(self, text: str) -> bool:
        found = _DEFINITION.fullmatch(text) if text.startswith("$") else None
        if found is None:
            return False
        name, value = found[1], found[2]
        if value.endswith("\\"):
            first = value[:-1].strip(" \t")
            self._collecting = (name, [first] if first else [])
        else:
            self._values[name] = value
        return True

    def _repeat(self, text: str, line: SourceLine, waiting: list[Iterator[str]]) -> bool:
        """~SEQ and ~LST: the rest of the line once per value, each round behind a definition of its own."""
        if not text.startswith(("~SEQ", "~LST")):
            return False
        try:
            if text.startswith("~SEQ"):
                rounds, rest = sequence(text, MAX_GROWN, lambda part: self._substituted(part, line))
            else:
                rounds, rest = listed(text)
        except ValueError as exc:
            self.problems.add(
                "bad-repetition", Severity.SYNTAX, f"Invalid {text[:4]} specification: {exc}", line.find("~", 0)
            )
            return True
        waiting.append(text for values in rounds for text in (*(f"${name}={value}" for name, value in values), rest))
        return True

    # substitution -------------------------------------------------------------------------------------------------

    def _substituted(self, text: str, line: SourceLine) -> str:
        """`text` with single-line references replaced."""
        return self._substitute(text, line, None) or ""

    def _substitute(self, text: str, line: SourceLine, waiting: list[Iterator[str]] | None) -> str | None:
        """References replaced until none is left; the further lines of a multi-line value go to `waiting`."""
        if "$" not in text:
            return text
        changed, position = 0, 0
        while found := _REFERENCE.search(text, position):
            name = found[1] or found[3]
            value = self._value(name, (found[2] or "").split(), line)
            if value is None or (isinstance(value, tuple) and (waiting is None or found.end() != len(text))):
                position = found.end()
                continue
            if isinstance(value, tuple):
                self._count(1, line)
                if waiting is not None:
                    waiting.append(iter(value[1:]))
                value = value[0] if value else ""
            grown = text[: found.start()] + value + text[found.end() :]
            changed += 1
            if line_size(grown) > MAX_LINE or changed > MAX_SUBSTITUTIONS:
                self.problems.add(
                    "definition-too-long",
                    Severity.NOTE,
                    f"${name} makes the line longer than {MAX_LINE} bytes; it is left as it stands",
                    line.find("$", 0),
                )
                break
            text, position = grown, found.start()
        return self._uncommented(text, line) if changed else text

    def _value(self, name: str, args: list[str], line: SourceLine) -> str | tuple[str, ...] | None:
        if name in self._values and not args:
            return self._values[name]
        match name, args:
            case "_PWD", []:
                return os.path.abspath(os.path.dirname(line.file) or ".")
            case "_INSTANCE", []:
                return self.options.config_id
            case "_HASH", []:
                return "#"
            case "_BANG", []:
                return "!"
            case "_ENV", [variable]:
                return self.options.environ.get(variable, "")
            case "_RANDOM", _ if len(args) <= 2 and all(arg.isascii() and arg.isdecimal() for arg in args):
                low = int(args[0]) if args else 0
                high = int(args[1]) if len(args) == 2 else 32767
                if low > high:
                    self.problems.add(
                        "bad-random", Severity.ERROR, f"_RANDOM: {low} is above {high}", line.find("$", 0)
                    )
                    return str(low)
                return str(self._random.randint(low, high))
        return None

    # includes -----------------------------------------------------------------------------------------------------

    def _set_checks(self, words: tuple[str, ...]) -> None:
        """include_check: a plain first word replaces the set and adds reading, + adds, - removes."""
        checks = set(self._checks)
        if not words:
            checks = set("rmwb")
        for index, word in enumerate(filter(None, words)):
            letter = _CHECK_WORDS.get(word.lstrip("+-"), "")
            if index == 0 and word[0] not in "+-":
                checks = {"r"}
            if word.startswith("-"):
                checks.discard(letter)
            elif letter:
                checks.add(letter)
        self._checks = "".join(sorted(checks))

    def _include(self, directive: str, pattern: str, line: SourceLine, directory: str) -> Iterator[Piece | Statement]:
        checks = INCLUDE_CHECKS[directive] or self._checks
        pattern = pattern.strip()
        alternatives = expand_braces(pattern)
        if len(alternatives) > MAX_ALTERNATIVES:
            raise TooMuch(f"include: the braces make more than {MAX_ALTERNATIVES} patterns", line)
        for alternative in alternatives:
            found = sorted(glob.glob(os.path.join(directory, alternative)))
            braced = alternative != pattern
            if not found:
                wild = glob.has_magic(alternative)
                enabled = ("b" in checks) if braced else ("w" if wild else "m") in checks
                self._include_problem("include-no-match", enabled, f"include '{alternative}' matches no file", line)
            for path in found:
                if self._readable(path, where=line, checks=checks):
                    yield from self._file(path, line)


def digest_of(text: str) -> bytes:
    """Tells `text` from any other."""
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_SIZE).digest()


def _placed(pieces: tuple[tuple[tuple[str, ...], str], ...], line: SourceLine) -> Iterator[Piece]:
    """The pieces of one line, each with where in the line it begins."""
    position = 0
    for words, piece in pieces:
        found = line.text.find(piece, position)
        start = position if found < 0 else found
        yield words, piece, line.beginning_at(start) if position else line
        position = start + len(piece)

"""Pieces to statements: a keyword, its words, and its block (config-language.md 5). Knows no keyword."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from keepalived_py.records import dataclass

from .chapters import Long, Revision
from .lexer import SourceLine
from .problems import Location, Problems, Severity

Piece = tuple[tuple[str, ...], str, SourceLine]
"""Words, their text and the physical line they come from. A brace is a piece of one word with itself as text."""

OPEN, CLOSE = "{", "}"
"""Texts, not words: a quoted brace is a word like any other."""


Mark = bytes | Long | Revision
"""A digest; a long block has its text, or what became of an earlier one."""


@dataclass(frozen=True, slots=True)
class Folded:
    """A block of which only the outside was looked at. `mark` tells its text from any other.

    It is the part of `file` from `start`, where the line begins that opens it, to `end`, where the one begins that
    closes it. `read` makes pieces of what is inside.
    """

    mark: Mark
    file: str
    start: int
    end: int
    read: Callable[[str], Iterable[Piece]]

    @property
    def text(self) -> str:
        return self.file[self.start : self.end]


@dataclass(slots=True)
class Statement:
    """One line of configuration and, when braces follow, its block; empty while it is folded."""

    words: tuple[str, ...]
    text: str
    line: SourceLine
    block: list[Statement] | None = None
    folded: Folded | None = None

    @property
    def keyword(self) -> str:
        return self.words[0]

    @property
    def args(self) -> tuple[str, ...]:
        return self.words[1:]

    def at(self, index: int = 0) -> Location:
        """Place of the `index`-th word, counting the keyword as 0; behind the line for a missing word."""
        if index >= len(self.words):
            return self.line.end()
        return self.line.find(self.words[index], index)

    def unfold(self, problems: Problems) -> None:
        """Read the block, unless that was done."""
        if self.folded is not None:
            self.block, self.folded = build(self.folded.read(self.folded.text), problems), None


MAX_DEPTH = 50
"""Deeper blocks than any keyword has: a run-away file, not a configuration."""


def build(pieces: Iterable[Piece | Statement], problems: Problems) -> list[Statement]:
    """The statements of the root. Braces that do not pair up are reported and read as well as can be."""
    root: list[Statement] = []
    block = root
    stack: list[tuple[list[Statement], SourceLine]] = []
    orphan = SourceLine("", 0, "")

    def report(id: str, message: str, line: SourceLine, brace: str) -> None:
        problems.add(id, Severity.SYNTAX, message, line.find(brace, 0) if problems.wants(Severity.SYNTAX) else None)

    for piece in pieces:
        if isinstance(piece, Statement):
            if stack:
                piece.unfold(problems)
            block.append(piece)
            continue
        words, text, line = piece
        if text == OPEN:
            if block and block[-1].block is None and len(stack) < MAX_DEPTH:
                stack.append((block, line))
                block[-1].block = block = []
            else:
                report("unexpected-brace", "Unexpected '{' - ignoring", line, "{")
                orphan = line
        elif text == CLOSE:
            if stack:
                block, _ = stack.pop()
            elif orphan.number:
                orphan = SourceLine("", 0, "")
            else:
                report("surplus-brace", "Unexpected '}' - ignoring", line, "}")
        else:
            block.append(Statement(words, text, line))
    for _, line in stack:
        problems.add(
            "missing-close-brace",
            Severity.SYNTAX,
            "Missing '}': this block is never closed",
            line.find("{", 0),
        )
    return root

"""What is wrong with a configuration: collected, never raised, each with a place and a stable identifier.

The classes and the exit status of a config test are those of config-language.md 8.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import field
from enum import IntEnum
from typing import Any

from keepalived_py.records import dataclass
from keepalived_py.values import visible

STATEMENTS = re.compile(r"[^{}]+")


class Severity(IntEnum):
    """keepalived's error classes in ascending weight; NOTE and LINT are ours and weigh nothing without --strict."""

    NOTE = 0
    LINT = 1
    FILE_NOT_FOUND = 2
    BAD_INTERFACE = 3
    FATAL = 4
    MULTIPLE_FILES = 5
    SYNTAX = 6
    MISSING_PARAMETER = 7
    INVALID_NUMBER = 8
    ERROR = 9
    WARNING = 10
    SECURITY = 11

    @property
    def word(self) -> str:
        if self in (Severity.NOTE,):
            return "note"
        return "warning" if self in (Severity.LINT, Severity.WARNING, Severity.MULTIPLE_FILES) else "error"


@dataclass(frozen=True, slots=True)
class Location:
    """A place in a configuration file. `line` and `column` count from 1; column 0: the whole line."""

    file: str
    line: int
    column: int = 0
    text: str = ""
    """The physical line, as it stands in the file."""
    width: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" + (f":{self.column}" if self.column else "")


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding. `id` never changes between versions; `hint` says how to mend it.

    `stops` marks what keeps a daemon from running at all (config-language.md 8.2) and is its exit code, 0 otherwise.
    """

    id: str
    severity: Severity
    message: str
    at: Location | None = None
    hint: str = ""
    stops: int = 0

    @property
    def subject(self) -> str:
        """What it is about, wherever that stands in the file: the statement, else the message.

        A message may speak of more than its statement (the sum of all weights), which says nothing of the statement.
        """
        at = self.at
        if at is None or not at.text:
            return self.message
        parts = (part for part in STATEMENTS.finditer(at.text) if part.start() < at.column <= part.end())
        found = next(parts, None)
        return " ".join((at.text if found is None else found[0]).split())

    @property
    def word(self) -> str:
        """Whatever its class weighs in a test, what keeps a daemon from running is an error."""
        return "error" if self.stops else self.severity.word

    def render(self) -> str:
        """For people: place, text, the offending line and a caret."""
        place = f"{self.at}: " if self.at else ""
        lines = [f"{place}{self.word}: {visible(self.message)} [{self.id}]"]
        if self.at and self.at.text:
            shown = self.at.text.expandtabs(8).rstrip()
            lines.append(f"    {visible(shown)}")
            if self.at.column:
                before = len(self.at.text[: self.at.column - 1].expandtabs(8))
                marked = len(visible(shown[before : before + self.at.width])) or 1
                lines.append("    " + " " * len(visible(shown[:before])) + "^" + "~" * (marked - 1))
        if self.hint:
            lines.append(f"    {self.hint}")
        return "\n".join(lines)

    def log_line(self) -> str:
        """For the log: keepalived's line, for rules that look for it, and our column behind it."""
        if self.at is None:
            return visible(self.message)
        column = f", column {self.at.column}" if self.at.column else ""
        return f"({self.at.file}: Line {self.at.line}) {visible(self.message)}{column}"

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        at = self.at
        return {
            "id": self.id,
            "severity": Severity.FATAL.name.lower() if self.stops else self.severity.name.lower(),
            "message": self.message,
            "file": at.file if at else None,
            "line": at.line if at else None,
            "column": at.column if at else None,
            "hint": self.hint or None,
        }


MAX_PROBLEMS = 1000
"""Further ones of a severity are counted only: a broken file of a million lines must not fill the log."""


@dataclass(slots=True)
class Problems:
    """The collector that a whole load shares."""

    found: list[Problem] = field(default_factory=list)
    left_out: int = 0
    _kept: Counter[Severity] = field(default_factory=Counter)

    def add(
        self,
        id: str,
        severity: Severity,
        message: str,
        at: Location | None = None,
        hint: str = "",
        stops: int = 0,
    ) -> None:
        problem = Problem(id, severity, message, at, hint, stops)
        if stops or self.wants(severity):
            self.found.append(problem)
            self._kept[severity] += 1
        else:
            self.left_out += 1

    def wants(self, severity: Severity) -> bool:
        """Whether such a problem is not only counted: no need to look for the place of one that is."""
        return severity is Severity.SECURITY or self._kept[severity] < MAX_PROBLEMS

    @property
    def count(self) -> int:
        """All that were reported."""
        return len(self.found) + self.left_out

    def __iter__(self) -> Iterator[Problem]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    @property
    def heaviest(self) -> Severity:
        """The class that decides the exit status of a config test."""
        return max((problem.severity for problem in self.found), default=Severity.NOTE)

    @property
    def stops(self) -> int:
        """Exit code of a daemon that must not start, else 0."""
        return next((problem.stops for problem in self.found if problem.stops), 0)

    def exit_status(self, strict: bool = False) -> int:
        """Exit status of `-t` (config-language.md 8.1); `strict`: our warnings count too."""
        if any(problem.severity is Severity.MISSING_PARAMETER for problem in self.found):
            return 2
        if any(problem.stops == 6 for problem in self.found):
            return 6
        heaviest = self.heaviest
        if heaviest <= Severity.LINT:
            return 5 if strict and heaviest is Severity.LINT else 0
        if heaviest is Severity.SECURITY:
            return 6
        return 4 if heaviest <= Severity.FATAL else 5

"""Reads statements by tables of keywords. The reader knows no keyword; the tables know no parsing.

A table is a `Section`: keywords, each with a converter and a destination. Reading a block gives a `Draft`: values by
name, and the statement each came from, so that later checks can point at it. How a table is written::

    SCRIPT = Section("vrrp_script", (
        Keyword("interval", seconds(0.001, 4294), "SECS", "time between starts", default="1"),
        Keyword("fall", integer(1, 2**31 - 1), "N", "failures to become down", default="1"),
        Keyword("init_fail", flag(True), "", "start in failed state", default="off"),
    ))

A converter takes the statement and returns a value, or raises `Bad`; `Keyword.once` keeps the first value, `many`
collects a list. Texts are for people: the manual page is made from them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, TypeVar

from keepalived_py.records import dataclass

from .problems import Problems, Severity
from .tree import Statement

Shared = TypeVar("Shared")


class Bad(Exception):
    """A converter's refusal. `index` is the word at fault, 0 for the keyword itself.

    `value` is used all the same when it is given: keepalived's lenient reading (config-language.md 4.3). A `hint` that
    takes a search is a function: it is only asked for when somebody will read it.
    """

    def __init__(
        self,
        id: str,
        message: str,
        index: int = 1,
        severity: Severity = Severity.ERROR,
        hint: str | Callable[[], str] = "",
        value: Any = None,
        use_value: bool = False,
    ) -> None:
        super().__init__(message)
        self.id, self.message, self.index, self.severity, self._hint = id, message, index, severity, hint
        self.value, self.use_value = value, use_value

    @property
    def hint(self) -> str:
        return self._hint if isinstance(self._hint, str) else self._hint()


class MissingParameter(Bad):
    """A required word is not there: fatal (config-language.md 5)."""

    def __init__(self, keyword: str, index: int = 1) -> None:
        super().__init__("missing-parameter", f"'{keyword}' is missing a parameter", index, Severity.MISSING_PARAMETER)


@dataclass(slots=True)
class Context:
    """What converters and builders share during one load."""

    problems: Problems
    interfaces: frozenset[str] | None = None
    """Names that exist on this machine; None: not known, so nothing is said about missing ones."""
    mtus: Mapping[str, int] = field(default_factory=dict)
    """MTU by interface, as far as known."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Values that later text depends on (script_user, names defined so far)."""
    places: Callable[[], Mapping[str, Sequence[str]]] = dict
    """The blocks that each keyword may stand in, for hints."""
    shared: dict[Any, Any] = field(default_factory=dict)
    """Equal objects are made once: see `share`."""

    def share(self, value: Shared) -> Shared:
        """The first object equal to `value`; keeps big configurations small."""
        first: Shared = self.shared.setdefault(value, value)
        return first

    def report(
        self,
        id: str,
        message: str,
        statement: Statement | None = None,
        index: int = 0,
        severity: Severity = Severity.ERROR,
        hint: str = "",
        stops: int = 0,
    ) -> None:
        wanted = stops or self.problems.wants(severity)
        at = statement.at(index) if statement is not None and wanted else None
        self.problems.add(id, severity, message, at, hint, stops)

    def refuse(self, bad: Bad, statement: Statement, consequence: str = "") -> None:
        """Report a refusal at the word it concerns."""
        message = f"{bad.message}; {consequence}" if consequence else bad.message
        stops = 2 if bad.severity is Severity.MISSING_PARAMETER else 0
        hint = bad.hint if self.problems.wants(bad.severity) else ""
        self.report(bad.id, message, statement, bad.index, bad.severity, hint, stops)

    def need_interface(self, name: str, statement: Statement, index: int) -> None:
        """Say when an interface is not there; it may still come, so this weighs nothing by itself."""
        if self.interfaces is not None and name not in self.interfaces:
            self.report(
                "interface-not-found",
                f"interface '{name}' does not exist on this machine",
                statement,
                index,
                Severity.LINT,
            )


Converter = Callable[[Statement, Context], Any]


@dataclass(frozen=True, slots=True)
class Keyword:
    """One row of a table."""

    name: str
    convert: Converter | None
    arguments: str = ""
    text: str = ""
    field: str = ""
    """Name in the draft; "": the keyword's own."""
    default: str = ""
    range: str = ""
    once: bool = False
    """Only the first counts; a second one is an error."""
    many: bool = False
    """Values are collected in a list."""
    alias_of: str = ""
    """Deprecated spelling of that keyword; use is reported."""
    deprecated: Severity | None = Severity.WARNING
    block: Section | None = None
    """The keyword opens a block read by this table."""
    raw_block: bool = False
    """The keyword opens a value block: free lines, which `convert` reads itself."""
    optional_block: bool = False
    contents: Section | None = None
    """The table of a block that `convert` reads, for the manual."""
    ours: bool = False
    """Not a keyword of keepalived."""
    pending: bool = False
    """Understood, but its effect is not built yet: every use is reported."""

    most: int | None = dataclasses.field(init=False, default=None)
    """Words that may follow; None: the converter knows."""

    def __post_init__(self) -> None:
        simple = " " not in self.arguments and "..." not in self.arguments and self.convert is not None
        if simple and not self.raw_block:
            object.__setattr__(self, "most", 1 if self.arguments else 0)

    @property
    def target(self) -> str:
        return self.field or self.name


ROOT_NAME = "(root)"


@dataclass(frozen=True, slots=True)
class Section:
    """A block: its keywords by name."""

    name: str
    keywords: tuple[Keyword, ...]
    table: Mapping[str, Keyword] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        table = {keyword.name: keyword for keyword in self.keywords}
        if len(table) != len(self.keywords):
            raise TypeError(f"{self.name}: a keyword stands twice")
        object.__setattr__(self, "table", table)


@dataclass(slots=True)
class Draft:
    """What a block said: `values` by field, and in `where` the statement each came from."""

    head: Statement
    values: dict[str, Any] = field(default_factory=dict)
    where: dict[str, Statement] = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:
        return self.values.get(name, default)

    def many(self, name: str) -> list[Any]:
        found: list[Any] = self.values.get(name, [])
        return found

    def has(self, name: str) -> bool:
        return name in self.values

    def at(self, name: str) -> Statement:
        """The statement that gave `name`, or the head of the block."""
        return self.where.get(name, self.head)

    def pick(self, *names: str) -> dict[str, Any]:
        """Those of `names` that were given: keyword arguments for a model object."""
        values = self.values
        return {name: values[name] for name in names if name in values}


def read_section(section: Section, head: Statement, context: Context) -> Draft:
    """Read the block of `head`. Every problem is reported with its place; none stops the reading."""
    draft = Draft(head)
    if head.block is None:
        context.report(
            "missing-open-brace", f"Missing '{{' after '{head.keyword}'", head, len(head.words), Severity.SYNTAX
        )
        return draft
    read_statements(section, head.block, draft, context)
    return draft


def read_statements(section: Section, block: Iterable[Statement], draft: Draft, context: Context) -> None:
    """Read `block` by `section` into `draft`."""
    table = section.table
    for statement in block:
        keyword = table.get(statement.words[0])
        if keyword is None:
            _unknown(section, statement, context)
            continue
        if keyword.alias_of and keyword.deprecated is not None:
            _deprecated(keyword, statement, context)
        if keyword.pending:
            context.report(
                "no-effect-yet", f"'{keyword.name}' is understood but has no effect yet", statement, 0, Severity.NOTE
            )
        if statement.block is not None and keyword.block is None and not keyword.raw_block:
            context.report(
                "unexpected-brace",
                f"'{keyword.name}' takes no block",
                statement,
                0,
                Severity.SYNTAX,
            )
        if keyword.raw_block and keyword.arguments.startswith("{") and len(statement.words) > 1:
            context.report("extra-words", f"'{statement.words[1]}' before the block is one word too many", statement, 1)
        if keyword.most is not None and len(statement.words) > keyword.most + 1:
            _surplus(keyword, statement, context)
        _read_keyword(keyword, statement, draft, context)


def _surplus(keyword: Keyword, statement: Statement, context: Context) -> None:
    """keepalived does not look at further words; they may be a mistake all the same."""
    index = (keyword.most or 0) + 1
    context.report("extra-words", f"'{statement.words[index]}' is one word too many", statement, index, Severity.LINT)


def _read_keyword(keyword: Keyword, statement: Statement, draft: Draft, context: Context) -> None:
    target = keyword.target
    if keyword.once and target in draft.values:
        context.report("repeated-keyword", f"'{keyword.name}' was given before; only the first counts", statement, 0)
        return
    if keyword.raw_block and statement.block is None and not keyword.optional_block:
        context.report(
            "missing-open-brace",
            f"Missing '{{' after '{keyword.name}'",
            statement,
            len(statement.words),
            Severity.NOTE,
        )
    try:
        value: Any = read_section(keyword.block, statement, context) if keyword.block else None
        if keyword.convert is not None:
            value = keyword.convert(statement, context)
    except Bad as bad:
        _refused(keyword, statement, bad, context)
        if not bad.use_value:
            return
        value = bad.value
    if keyword.many:
        draft.values.setdefault(target, []).append(value)
    else:
        draft.values[target] = value
    draft.where[target] = statement


def _refused(keyword: Keyword, statement: Statement, bad: Bad, context: Context) -> None:
    stops = 2 if bad.severity is Severity.MISSING_PARAMETER else 0
    hint = bad.hint if context.problems.wants(bad.severity) else ""
    hint = hint or (f"usage: {keyword.name} {keyword.arguments}" if keyword.arguments else "")
    context.report(bad.id, f"{keyword.name}: {bad.message}", statement, bad.index, bad.severity, hint, stops)


def _unknown(section: Section, statement: Statement, context: Context) -> None:
    word = statement.keyword
    # a slow search, and of no use for problems that are only counted
    wanted = context.problems.wants(Severity.SYNTAX)
    hint = _meant(section, word, context.places().get(word, ())) if wanted else ""
    context.report("unknown-keyword", f"Unknown keyword '{word}'", statement, 0, Severity.SYNTAX, hint)


def _meant(section: Section, word: str, places: Sequence[str]) -> str:
    """A hint for a keyword that is unknown here: `places` are the blocks that know it."""
    if ROOT_NAME in places:
        return "it stands outside of all blocks"
    if places:
        return f"it belongs into {' or '.join(places[:3])}"
    near = _near(section, word)
    return f"did you mean '{near[0]}'?" if near else ""


def _near(section: Section, word: str) -> list[str]:
    """Keywords that may be meant, the likeliest first."""
    longer = [name for name in section.table if name.startswith(word)] if len(word) > 3 else []
    return sorted(longer, key=len) or like(word, section.table)


def like(word: str, known: Iterable[str]) -> list[str]:
    """The one of `known` that may be meant, if any."""
    import difflib  # only mistakes need it

    return difflib.get_close_matches(word, tuple(known), 1, 0.7)


def _deprecated(keyword: Keyword, statement: Statement, context: Context) -> None:
    assert keyword.deprecated is not None
    context.report(
        "deprecated-keyword",
        f"Keyword '{keyword.name}' is deprecated",
        statement,
        0,
        keyword.deprecated,
        f"write '{keyword.alias_of}'",
    )


def lines_of(statement: Statement) -> list[Statement]:
    """The lines of a value block; none when the braces are missing."""
    return statement.block or []

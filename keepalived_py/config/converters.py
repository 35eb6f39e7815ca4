"""Words to values, for any table. Every converter takes a statement and gives a value or raises Bad.

Numbers follow config-language.md 4.3: a number with junk behind it is reported as a warning and its leading part still
used by old ("lenient") keywords; out of range is always refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from keepalived_py.values import IPAddress, MacAddress, ip_address

from .lexer import EscapeError, split_shell_words
from .problems import Severity
from .schema import Bad, Context, Converter, MissingParameter
from .tree import Statement

UINT32 = 2**32 - 1
INT32 = 2**31 - 1
IFNAMSIZ = 16
TIMER_MAX = 4294.967295
"""Longest timer in seconds: 32 bits of microseconds."""
MAX_EXTRA = 86400

_DECIMAL = re.compile(r"[+-]?[0-9]+")
_FRACTION = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")


def need(statement: Statement, index: int = 1) -> str:
    """The `index`-th word. Raises MissingParameter."""
    if len(statement.words) <= index:
        raise MissingParameter(statement.keyword, index)
    return statement.words[index]


def parse_integer(text: str, low: int, high: int, index: int = 1, *, c_base: bool = False) -> int:
    """`text` as a number from `low` to `high`. Raises Bad; with a usable value when only junk follows it."""
    number: int | None = None
    junk = False
    if c_base and (found := re.match(r"[+-]?(0[xX][0-9a-fA-F]+|0[0-7]*|[0-9]+)", text)):
        digits = found[1]
        number = int(digits, 8) if re.fullmatch(r"0[0-7]+", digits) else int(digits, 0)
        number = -number if text.startswith("-") else number
        junk = found.end() != len(text)
    elif not c_base and (found := _DECIMAL.match(text)):
        number = int(found[0])
        junk = found.end() != len(text)
    if number is None or (number == 0 and low >= 0 and text.startswith("-")):
        raise Bad("not-a-number", f"'{text}' is not a number from {low} to {high}", index, Severity.INVALID_NUMBER)
    if not low <= number <= high:
        raise Bad("out-of-range", f"'{text}' is not a number from {low} to {high}", index, Severity.INVALID_NUMBER)
    if junk:
        raise Bad(
            "junk-after-number",
            f"WARNING - number '{text}' has extra characters",
            index,
            Severity.INVALID_NUMBER,
        )
    return number


def parse_seconds(text: str, low: float, high: float, index: int = 1) -> float:
    """`text` as seconds from `low` to `high`, to the microsecond. Raises Bad."""
    found = _FRACTION.match(text)
    if found is None or found.end() != len(text):
        raise Bad("not-a-number", f"'{text}' is not a number of seconds", index, Severity.INVALID_NUMBER)
    value = round(float(text), 6)
    if not low <= value <= high:
        raise Bad(
            "out-of-range",
            f"'{text}' is not between {low:g} and {high:.15g} seconds",
            index,
            Severity.INVALID_NUMBER,
        )
    return value


def integer(low: int, high: int, *, c_base: bool = False) -> Converter:
    """One number."""

    def convert(statement: Statement, context: Context) -> int:
        return parse_integer(need(statement), low, high, c_base=c_base)

    return convert


def seconds(low: float, high: float) -> Converter:
    """One duration in seconds, fractions allowed."""

    def convert(statement: Statement, context: Context) -> float:
        return parse_seconds(need(statement), low, high)

    return convert


def flag(value: Any) -> Converter:
    """A keyword without argument; words behind it are ignored, as keepalived does."""

    def convert(statement: Statement, context: Context) -> Any:
        return value

    return convert


TRUE, FALSE = frozenset(("on", "true", "yes")), frozenset(("off", "false", "no"))


def parse_boolean(text: str, index: int = 1) -> bool:
    """on true yes / off false no. Raises Bad."""
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise Bad("not-a-boolean", f"'{text}' is not one of on, true, yes, off, false, no", index)


def boolean(statement: Statement, context: Context) -> bool:
    """A bare keyword means on."""
    return parse_boolean(statement.words[1]) if len(statement.words) > 1 else True


def word(statement: Statement, context: Context) -> str:
    """Any one word."""
    return need(statement)


def optional_word(default: str) -> Converter:
    """One word, or `default` for the bare keyword."""

    def convert(statement: Statement, context: Context) -> str:
        return statement.words[1] if len(statement.words) > 1 else default

    return convert


def choice(*allowed: str, fold: bool = False) -> Converter:
    """One word out of `allowed`."""

    def convert(statement: Statement, context: Context) -> str:
        text = need(statement)
        for each in allowed:
            if text == each or (fold and text.lower() == each.lower()):
                return each
        raise Bad("not-a-choice", f"'{text}' is not one of {', '.join(allowed)}")

    return convert


_address = lru_cache(maxsize=1024)(ip_address)
"""The same addresses stand in many lines."""


def parse_address(text: str, index: int = 1) -> IPAddress:
    """An IPv4 or IPv6 address. Raises Bad."""
    try:
        return _address(text)
    except ValueError:
        raise Bad("not-an-address", f"'{text}' is not an IP address", index) from None


def address(statement: Statement, context: Context) -> IPAddress:
    return parse_address(need(statement))


def parse_server_address(text: str) -> tuple[IPAddress, str]:
    """An address of the checker, and what stands behind it: a length or range, which means nothing. Raises Bad."""
    try:
        return parse_address(text), ""
    except Bad:
        plain = re.split("[/-]", text, maxsplit=1)[0]
        if plain == text:
            raise
    return parse_address(plain), text[len(plain) :]


def server_address(statement: Statement, context: Context) -> IPAddress:
    """That in the first word, read as keepalived does."""
    found, rest = parse_server_address(need(statement))
    if rest:
        context.report("extra-words", f"'{rest}' behind an address is ignored", statement, 1, Severity.LINT)
    return found


def parse_prefix(text: str, index: int = 1) -> tuple[IPAddress, int | None]:
    """`ADDRESS[/LENGTH]`. Raises Bad."""
    plain, slash, length = text.partition("/")
    found = parse_address(plain, index)
    if not slash:
        return found, None
    return found, parse_integer(length, 0, found.max_prefixlen, index)


def parse_mac(text: str, index: int = 1) -> MacAddress:
    """Six octets. Raises Bad."""
    try:
        return MacAddress.parse(text)
    except ValueError:
        raise Bad("not-a-mac", f"'{text}' is not a MAC address", index) from None


def parse_interface(text: str, index: int = 1) -> str:
    """An interface name of at most 15 characters. Raises Bad."""
    if not text or len(text.encode("utf-8", "surrogateescape")) >= IFNAMSIZ:
        raise Bad("interface-name-too-long", f"'{text}' is longer than {IFNAMSIZ - 1} characters", index)
    return text


def interface(statement: Statement, context: Context) -> str:
    return parse_interface(need(statement))


def words_of_block(statement: Statement, context: Context) -> tuple[str, ...]:
    """All words of a value block: lists of plain names."""
    return tuple(name for line in statement.block or () for name in line.words)


def affinity(online: int) -> Converter:
    """CPU numbers; one bad value discards all."""

    def convert(statement: Statement, context: Context) -> tuple[int, ...]:
        need(statement)
        return tuple(parse_integer(text, 0, online - 1, i) for i, text in enumerate(statement.args, 1))

    return convert


def shell_words(statement: Statement) -> tuple[str, ...]:
    """Words of a quoted-and-escaped keyword, the keyword included; escapes still stand (config-language.md 4.2)."""
    try:
        return split_shell_words(statement.text, undo_escapes=False)
    except EscapeError as exc:
        raise Bad("bad-quoting", str(exc)) from None


def command_words(text: str) -> tuple[str, ...]:
    """Second pass over a command: its argv with escapes undone. Raises Bad."""
    try:
        return split_shell_words(text, undo_escapes=True)
    except EscapeError as exc:
        raise Bad("bad-quoting", str(exc)) from None


def pairs(names: Iterable[str], words: tuple[str, ...], start: int) -> dict[str, tuple[str, int]]:
    """Options `name value` from word `start` on: value and its index by name. Raises Bad for anything else."""
    allowed = tuple(names)
    found: dict[str, tuple[str, int]] = {}
    index = start
    while index < len(words):
        name = words[index]
        if name not in allowed:
            raise Bad("unknown-option", f"'{name}' is not one of {', '.join(allowed)}", index)
        if index + 1 >= len(words):
            raise Bad("missing-value", f"'{name}' needs a value", index + 1)
        found[name] = (words[index + 1], index + 1)
        index += 2
    return found


def mapped(convert: Converter, change: Callable[[Any], Any]) -> Converter:
    """`change` applied to what `convert` gives."""

    def both(statement: Statement, context: Context) -> Any:
        return change(convert(statement, context))

    return both


def at_least_one(statement: Statement, context: Context) -> int:
    """A repeat count; 0 becomes 1."""
    return max(1, parse_integer(need(statement), 0, UINT32))


def port(statement: Statement, context: Context) -> int:
    return parse_integer(need(statement), 1, 65535)


def clamped(low: int, high: int) -> Converter:
    """One number; one outside the range is reported and brought inside."""

    def convert(statement: Statement, context: Context) -> int:
        number = parse_integer(need(statement), -INT32 - 1, INT32)
        value = min(high, max(low, number))
        if value != number:
            raise Bad(
                "out-of-range",
                f"{number} is not from {low} to {high}; {value} is taken",
                value=value,
                use_value=True,
            )
        return value

    return convert


def cut(length: int) -> Converter:
    """One word, cut to `length` characters."""

    def convert(statement: Statement, context: Context) -> str:
        text = need(statement)
        if len(text) > length:
            context.report("name-cut", f"'{text}' is cut to {length} characters", statement, 1, Severity.LINT)
        return text[:length]

    return convert


def absolute_path(statement: Statement, context: Context) -> str:
    """A path from the root."""
    text = need(statement)
    if not text.startswith("/"):
        raise Bad("relative-path", f"'{text}' does not start with /")
    return text


def extra_interface(low: int) -> Converter:
    """`[all] SECS`: the period and whether all interfaces are meant."""

    def convert(statement: Statement, context: Context) -> tuple[int, bool]:
        everything = need(statement) == "all"
        index = 2 if everything else 1
        return parse_integer(need(statement, index), low, MAX_EXTRA, index), everything

    return convert

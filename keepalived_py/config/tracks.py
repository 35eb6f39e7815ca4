"""Lines of the track_* blocks, and the default weights of what they name (vrrp-behaviour.md 6)."""

from __future__ import annotations

from typing import Any

from .converters import need, parse_integer, parse_interface
from .links import reported
from .model import Track
from .schema import Bad, Context, Converter, Keyword
from .tree import Statement

LIMITS = {"interface": 253, "script": 253, "bfd": 253, "file": 254, "process": 254, "virtual_server": 253}
"""Greatest weight by kind; one more is cut where the limit is 253."""
TABLES = {"script": "vrrp_scripts", "file": "track_files", "process": "track_processes", "bfd": "bfd_instances"}
"""Where the names of a kind are kept while a file is read."""


def parse_weight(text: str, limit: int, index: int) -> int:
    """A weight; 254 is cut to 253 where that is the limit. Raises Bad."""
    weight = parse_integer(text, -254, 254, index)
    return max(-limit, min(limit, weight))


def _direction(words: tuple[str, ...], index: int, default: bool) -> bool:
    """`[reverse|noreverse]` as the last word."""
    if len(words) <= index:
        return default
    if words[index] not in ("reverse", "noreverse"):
        raise Bad("unknown-option", f"'{words[index]}' is not reverse or noreverse", index)
    if len(words) > index + 1:
        raise Bad("unknown-option", f"'{words[index + 1]}' is one word too many", index + 1)
    return words[index] == "reverse"


def weight_of_item(limit: int) -> Converter:
    """`N [reverse]`: weight and direction."""

    def convert(statement: Statement, context: Context) -> tuple[int, bool]:
        weight = parse_weight(need(statement), limit, 1)
        try:
            return weight, _direction(statement.words, 2, False)
        except Bad as bad:
            bad.value, bad.use_value = (weight, False), True
            raise

    return convert


def _entry(line: Statement, kind: str, default: tuple[int, bool]) -> Track:
    """`NAME [weight N [reverse|noreverse]]`."""
    words = line.words
    weight, reverse = default
    if len(words) > 1:
        if words[1] != "weight":
            raise Bad("unknown-option", f"'{words[1]}' is not weight", 1)
        if len(words) == 2:
            raise Bad("missing-value", "'weight' needs a number", 2)
        weight = parse_weight(words[2], LIMITS[kind], 2)
        reverse = _direction(words, 3, reverse if kind != "interface" else False)
    return Track(kind=kind, name=words[0], weight=weight, reverse=reverse)


def _tracked(kind: str) -> Any:
    """Reader of the lines of one kind; the name must be defined above (config-language.md 1)."""

    def read(line: Statement, context: Context) -> Track:
        known = context.facts.setdefault(TABLES[kind], {})
        name = line.words[0]
        if name not in known:
            raise Bad(f"unknown-{kind}", f"{kind} '{name}' is not defined above", 0)
        context.facts.setdefault("tracked", set()).add((kind, name))
        own = known[name]
        return _entry(line, kind, (own.weight, own.reverse))

    return read


def _interface(line: Statement, context: Context) -> Track:
    name = parse_interface(line.words[0], 0)
    context.need_interface(name, line, 0)
    return _entry(line, "interface", (0, False))


def _virtual_server(line: Statement, context: Context) -> Track:
    """Resolved when the whole file has been read."""
    return _entry(line, "virtual_server", (0, False))


def _row(kind: str, read: Any, arguments: str, text: str, default: str, **more: Any) -> Keyword:
    return Keyword(f"track_{kind}", reported(read), arguments, text, default=default, raw_block=True, many=True, **more)


TRACKS = (
    _row(
        "interface",
        _interface,
        "{ IFNAME [weight N [reverse]] ... }",
        "Interfaces whose state counts.",
        "weight 0",
        range="-253..253",
    ),
    _row(
        "script",
        _tracked("script"),
        "{ SCRIPT [weight N [reverse|noreverse]] ... }",
        "Scripts whose result counts.",
        "script's weight",
        range="-253..253",
    ),
    _row(
        "file",
        _tracked("file"),
        "{ FILE [weight N [reverse|noreverse]] ... }",
        "Files whose number counts.",
        "file's weight",
        range="-254..254",
    ),
    _row(
        "process",
        _tracked("process"),
        "{ PROC [weight N [reverse|noreverse]] ... }",
        "Processes whose number counts.",
        "process's weight",
        range="-254..254",
    ),
    _row(
        "bfd",
        _tracked("bfd"),
        "{ BFD [weight N [reverse|noreverse]] ... }",
        "BFD sessions whose state counts.",
        "bfd_instance's weight",
        range="-253..253",
        pending=True,
    ),
)
TRACK_VIRTUAL_SERVER = _row(
    "virtual_server",
    _virtual_server,
    "{ NAME [weight N [reverse]] ... }",
    "Virtual servers whose quorum counts, by snmp_name or as logs write them: [10.0.0.1]:tcp:80, FWM 5, FWM 5 inet6.",
    "weight 0",
    range="-253..253",
    ours=True,
)

"""`encap KIND ...` of a route or next hop: lightweight tunnels (keywords.tsv, virtual_routes, row encap)."""

from __future__ import annotations

import re
from typing import Any

from .converters import parse_address, parse_integer
from .iproute_names import Names, OptionWords
from .model.links import Encap
from .schema import Bad

UINT64 = 2**64 - 1
MAX_LABEL = 2**20 - 1
"""MPLS labels have 20 bits (RFC 3032 section 2.1)."""
MAX_LABELS = 30
"""The kernel's limit of one label stack."""

_OPTIONS = {
    "ip": {"id": "id", "dst": "dst", "src": "src", "tos": "tos", "ttl": "ttl", "flags": "flags"},
    "ip6": {"id": "id", "dst": "dst", "src": "src", "tc": "tos", "hoplimit": "ttl", "flags": "flags"},
}
"""Fields of Encap by option."""
_NUMBERS = {"id": UINT64, "ttl": 255, "flags": 65535}
_LOCATOR = re.compile(r"[0-9a-fA-F]{1,4}(:[0-9a-fA-F]{1,4}){3}")


def parse_encap(line: OptionWords, names: Names) -> Encap:
    """What stands behind the word `encap`. Takes every word that can be an option of the tunnel. Raises Bad."""
    kind, index = line.value("encap")
    if kind in _OPTIONS:
        return _ip(kind, line, names)
    if kind == "mpls":
        text, index = line.value(kind)
        return Encap(kind=kind, labels=_labels(text, index))
    if kind == "ila":
        text, index = line.value(kind)
        return Encap(kind=kind, locator=_locator(text, index))
    raise Bad("not-a-choice", f"'{kind}' is not one of ip, ip6, mpls, ila", index)


def _ip(kind: str, line: OptionWords, names: Names) -> Encap:
    fields = _OPTIONS[kind]
    values: dict[str, Any] = {}
    while line.peek() in fields:
        option, index = line.take()
        field = fields[option]
        if field in values:
            raise Bad("repeated-option", f"'{option}' was given before in this encap", index)
        values[field] = _value(field, 4 if kind == "ip" else 6, *line.value(option), names)
    if not values:
        raise Bad("missing-value", f"'encap {kind}' needs one of {', '.join(fields)}", line.index)
    return Encap(kind=kind, **values)


def _value(field: str, family: int, text: str, index: int, names: Names) -> Any:
    if field in _NUMBERS:
        return parse_integer(text, 0, _NUMBERS[field], index, c_base=True)
    if field == "tos":
        return names.number("dsfield", text, index)
    address = parse_address(text, index)
    if address.version != family:
        raise Bad("wrong-family", f"'{text}' is not an IPv{family} address", index)
    return address


def _labels(text: str, index: int) -> tuple[int, ...]:
    """`LABEL[/LABEL ...]`, outermost first."""
    labels = tuple(parse_integer(part, 0, MAX_LABEL, index, c_base=True) for part in text.split("/"))
    if len(labels) > MAX_LABELS:
        raise Bad("out-of-range", f"more than {MAX_LABELS} labels", index)
    return labels


def _locator(text: str, index: int) -> int:
    """64 bits: a number, or four groups of hexadecimal digits with colons."""
    if _LOCATOR.fullmatch(text):
        return int("".join(group.rjust(4, "0") for group in text.split(":")), 16)
    return parse_integer(text, 0, UINT64, index, c_base=True)


def encap_words(encap: Encap) -> list[str]:
    """Words that parse to an equal Encap again; they must stand last in their route or next hop."""
    words = ["encap", encap.kind]
    if encap.kind == "mpls":
        return [*words, "/".join(map(str, encap.labels))]
    if encap.kind == "ila":
        return [*words, str(encap.locator)]
    for option, field in _OPTIONS[encap.kind].items():
        value = getattr(encap, field)
        if value is not None:
            words += [option, str(value)]
    return words

"""Lines of virtual_ipaddress and its likes to addresses (keywords.tsv, block virtual_ipaddress)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any

from .converters import UINT32, need, parse_address, parse_integer, parse_interface, parse_prefix
from .model import Address
from .model.links import FOREVER
from .schema import Bad, Context, lines_of
from .tree import Statement

SCOPES = {"global": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}

_FLAGS = {
    "home": ("home", True),
    "-nodad": ("dad", True),
    "mngtmpaddr": ("mngtmpaddr", True),
    "noprefixroute": ("noprefixroute", True),
    "autojoin": ("autojoin", True),
    "no_track": ("no_track", True),
}
_VALUES = ("dev", "scope", "brd", "broadcast", "label", "peer", "preferred_lft")


def parse_address_line(words: tuple[str, ...]) -> Address:
    """`ADDR[/LEN] [option ...]`. Raises Bad with the index of the word at fault."""
    found, prefixlen = parse_prefix(words[0], 0)
    prefixlen = found.max_prefixlen if prefixlen is None else prefixlen
    values: dict[str, Any] = {}
    index = 1
    while index < len(words):
        name = words[index]
        if name in _FLAGS:
            key, value = _FLAGS[name]
            values[key] = value
            index += 1
        elif name in _VALUES:
            if index + 1 >= len(words):
                raise Bad("missing-value", f"'{name}' needs a value", index + 1)
            key, value = _option(name, words[index + 1], index + 1, found, prefixlen)
            if key in values:
                raise Bad("repeated-option", f"'{name}' was given before", index)
            values[key] = value
            index += 2
        else:
            raise Bad("unknown-option", f"'{name}' is not an option of an address", index)
    if "peer" in values and prefixlen != found.max_prefixlen:
        raise Bad("peer-with-prefix", "an address with a peer has no prefix length of its own", 0)
    return Address(address=found, prefixlen=prefixlen, **values)


def _option(name: str, text: str, index: int, own: Any, prefixlen: int) -> tuple[str, Any]:
    """Field and value of one option."""
    match name:
        case "dev":
            return "dev", parse_interface(text, index)
        case "scope" | "label" | "brd" | "broadcast" if own.version == 6:
            raise Bad("not-for-ipv6", f"'{name}' is for IPv4 addresses only", index - 1)
        case "scope":
            return "scope", SCOPES[text] if text in SCOPES else parse_integer(text, 0, 255, index)
        case "label":
            return "label", parse_interface(text, index)
        case "peer":
            peer = parse_address(text, index)
            if peer.version != own.version:
                raise Bad("wrong-family", f"'{text}' is of another family than the address", index)
            return "peer", peer
        case "preferred_lft":
            return "preferred_lft", FOREVER if text == "forever" else parse_integer(text, 0, UINT32, index)
    return "broadcast", _broadcast(text, index, own, prefixlen)


def _broadcast(text: str, index: int, own: IPv4Address, prefixlen: int) -> IPv4Address:
    """`ADDR`, `+` for all ones or `-` for all zeros in the host part."""
    if text in "+-":
        if prefixlen > 30:
            raise Bad("no-broadcast", f"a /{prefixlen} has no broadcast address", index)
        network = IPv4Network((int(own), prefixlen), strict=False)
        return network.broadcast_address if text == "+" else network.network_address
    found = parse_address(text, index)
    if not isinstance(found, IPv4Address):
        raise Bad("wrong-family", f"'{text}' is not an IPv4 address", index)
    return found


def addresses(statement: Statement, context: Context) -> tuple[tuple[Address, Statement], ...]:
    """Converter of virtual_ipaddress: one address per line, each with its statement; bad lines are reported."""
    found: list[tuple[Address, Statement]] = []
    for line in lines_of(statement):
        try:
            need(line, 0)
            found.append((parse_address_line(line.words), line))
        except Bad as bad:
            context.problems.add(bad.id, bad.severity, f"{bad.message}; the address is left out", line.at(bad.index))
    return tuple(found)

"""Lines of virtual_ipaddress and its likes to addresses, and the converters of all such value blocks."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from typing import Any, TypeVar

from keepalived_py.values import IPAddress

from .converters import UINT32, need, parse_address, parse_integer, parse_interface, parse_prefix
from .model import Address, Route, Rule
from .model.links import FOREVER
from .routes import parse_route_line
from .rules import parse_rule_line
from .schema import Bad, Context, lines_of
from .tree import Statement

Entry = TypeVar("Entry")
Lines = tuple[tuple[Entry, Statement], ...]
"""What a value block says: each entry with the line it came from."""

SCOPES = {"global": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}

_FLAGS = {
    "home": ("home", True),
    "-nodad": ("dad", True),
    "mngtmpaddr": ("mngtmpaddr", True),
    "noprefixroute": ("noprefixroute", True),
    "autojoin": ("autojoin", True),
    "no_track": ("no_track", True),
    "use_vmac": ("use_vmac", True),
}
_VALUES = ("dev", "scope", "brd", "broadcast", "label", "peer", "preferred_lft")


class Ignored(Bad):
    """An option that says nothing. Its address stays: nobody is to lose one that keepalived serves."""


def parse_address_line(
    words: tuple[str, ...], ignore: Callable[[Bad], None], static: bool = False, groups: Container[str] = ()
) -> Address:
    """`ADDR[/LEN] [option ...]`; static ones may name one of the track groups.

    `ignore` hears of options that are left out. Raises Bad with the word at fault where no address is left.
    """
    found, prefixlen = _prefix(words[0], ignore)
    values: dict[str, Any] = {}
    index = 1
    while index < len(words):
        name, at = words[index], index
        takes_value = name in _VALUES or (static and name == "track_group")
        index += 2 if takes_value else 1
        if name in _FLAGS and not (static and name == "use_vmac"):
            key, value = _FLAGS[name]
            values[key] = value
        elif takes_value:
            if index > len(words):
                raise Bad("missing-value", f"'{name}' needs a value", index - 1)
            try:
                key, value = _option(name, words[at + 1], at + 1, found, prefixlen, groups)
            except Ignored as bad:
                ignore(bad)
                continue
            if key in values:
                raise Bad("repeated-option", f"'{name}' was given before", at)
            values[key] = value
        elif at == 1 or words[at - 1] in _FLAGS or words[at - 2] in _VALUES:  # else it belongs to the one before it
            ignore(Bad("unknown-option", f"'{name}' is not an option of an address", at))
    if "peer" in values and prefixlen != found.max_prefixlen:
        ignore(Bad("peer-with-prefix", "an address with a peer has no prefix length of its own", 0))
        prefixlen = found.max_prefixlen
    return Address(address=found, prefixlen=prefixlen, **values)


def _prefix(text: str, ignore: Callable[[Bad], None]) -> tuple[IPAddress, int]:
    """An address and its prefix length; a wrong one counts as none."""
    plain = text.partition("/")[0]
    try:
        found, prefixlen = parse_prefix(text, 0)
    except Bad as bad:
        found, prefixlen = parse_address(plain, 0), None
        ignore(bad)
    return found, found.max_prefixlen if prefixlen is None else prefixlen


def address_words(found: Address) -> tuple[str, ...]:
    """Words that read back as `found`."""
    words = [str(found.address) if found.peer else f"{found.address}/{found.prefixlen}"]
    for name in ("dev", "label", "track_group"):
        words += [name, getattr(found, name)] if getattr(found, name) else []
    words += ["peer", str(found.peer)] if found.peer else []
    words += ["brd", str(found.broadcast)] if found.broadcast else []
    words += ["scope", str(found.scope)] if found.scope else []
    words += ["preferred_lft", str(found.preferred_lft)] if found.preferred_lft is not None else []
    words += [word for word, (name, _) in _FLAGS.items() if getattr(found, name)]
    return tuple(words)


def _option(name: str, text: str, index: int, own: Any, prefixlen: int, groups: Container[str]) -> tuple[str, Any]:
    """Field and value of one option. Raises Bad, and Ignored where the address is as good without it."""
    match name:
        case "dev":
            return "dev", parse_interface(text, index)
        case "scope" | "label" | "brd" | "broadcast" if own.version == 6:
            raise Ignored("not-for-ipv6", f"'{name}' is for IPv4 addresses only", index - 1)
        case "scope":
            try:
                return "scope", SCOPES[text] if text in SCOPES else parse_integer(text, 0, 255, index)
            except Bad as bad:
                raise Ignored(bad.id, bad.message, bad.index) from None
        case "label":
            return "label", parse_interface(text, index)
        case "peer":
            peer = parse_address(text, index)
            if peer.version != own.version:
                raise Ignored("wrong-family", f"'{text}' is of another family than the address", index)
            return "peer", peer
        case "track_group":
            if text not in groups:
                raise Ignored("unknown-track-group", f"track_group '{text}' is not defined above", index)
            return "track_group", text
        case "preferred_lft":
            return "preferred_lft", FOREVER if text == "forever" else parse_integer(text, 0, UINT32, index)
    return "broadcast", _broadcast(text, index, own, prefixlen)


def _broadcast(text: str, index: int, own: IPv4Address, prefixlen: int) -> IPv4Address:
    """`ADDR`, `+` for all ones or `-` for all zeros in the host part."""
    if text in ("+", "-"):
        if prefixlen > 30:
            raise Ignored("no-broadcast", f"a /{prefixlen} has no broadcast address", index)
        network = IPv4Network((int(own), prefixlen), strict=False)
        return network.broadcast_address if text == "+" else network.network_address
    found = parse_address(text, index)
    if not isinstance(found, IPv4Address):
        raise Bad("wrong-family", f"'{text}' is not an IPv4 address", index)
    return found


def reported(read: Callable[[Statement, Context], Entry]) -> Callable[[Statement, Context], Lines[Entry]]:
    """Converter of a value block of one entry per line; bad lines are reported and the good ones count."""

    def convert(statement: Statement, context: Context) -> Lines[Entry]:
        found = []
        for line in lines_of(statement):
            try:
                need(line, 0)
                found.append((read(line, context), line))
            except Bad as bad:
                context.refuse(bad, line, "the line is left out")
        return tuple(found)

    return convert


def _address(line: Statement, context: Context, static: bool = False) -> Address:
    def ignore(bad: Bad) -> None:
        context.refuse(bad, line, "it is ignored")

    found = parse_address_line(line.words, ignore, static, context.facts.get("track_groups", {}))
    if found.dev:
        context.need_interface(found.dev, line, line.words.index("dev") + 1)
    return found


def _route(line: Statement, context: Context, static: bool = False) -> Route:
    return parse_route_line(line.words, context.facts["names"], _reporter(line, context), static)


def _rule(line: Statement, context: Context, static: bool = False) -> Rule:
    found = parse_rule_line(line.words, context.facts["names"], _reporter(line, context), static)
    return found if found.preference >= 0 else _numbered(found, line, context)


def _numbered(found: Rule, line: Statement, context: Context) -> Rule:
    """A rule without preference gets 16384, 16383, ... by family (vrrp-behaviour.md 11)."""
    following: dict[int, int] = context.facts.setdefault("preferences", {})
    preference = following.get(found.family, FIRST_PREFERENCE)
    following[found.family] = preference - 1
    context.report(
        "no-preference",
        f"the rule has no preference; {preference} is taken",
        line,
        hint="give every rule a preference, so that its place does not depend on the file",
    )
    return replace(found, preference=preference)


def _reporter(line: Statement, context: Context) -> Callable[[Bad], None]:
    def report(bad: Bad) -> None:
        context.refuse(bad, line)

    return report


FIRST_PREFERENCE = 16384
addresses, routes, rules = reported(_address), reported(_route), reported(_rule)
static_addresses = reported(partial(_address, static=True))
static_routes = reported(partial(_route, static=True))
static_rules = reported(partial(_rule, static=True))

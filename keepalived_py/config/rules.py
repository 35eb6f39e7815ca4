"""Lines of virtual_rules and static_rules to rules, and back (keywords.tsv, these blocks)."""

from __future__ import annotations

from typing import Any

from .converters import INT32, UINT32, parse_integer, parse_prefix
from .iproute_names import (
    ANY,
    FAMILIES,
    KEEPALIVED,
    Convert,
    Names,
    OptionWords,
    Report,
    check_families,
    group,
    interface,
    keep_protocol,
    keep_track_group,
    named,
    number,
    prefix_text,
    realms,
    realms_text,
    unknown_option,
)
from .model.links import RULE_ACTIONS, Rule
from .problems import Severity
from .schema import Bad

NO_PREFERENCE = -1
"""The line gives none: the caller numbers such rules downwards."""
TO_TABLE, GOTO = 1, 2
MAIN_TABLE = 254
ACTIONS = {name: code for code, name in RULE_ACTIONS.items() if name != "goto"}
"""Actions without a value: FR_ACT_*."""

IP_PROTOCOLS = {
    "icmp": 1,
    "igmp": 2,
    "ipip": 4,
    "tcp": 6,
    "udp": 17,
    "dccp": 33,
    "ipv6": 41,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "icmpv6": 58,
    "ipv6-icmp": 58,
    "ospf": 89,
    "pim": 103,
    "vrrp": 112,
    "sctp": 132,
    "udplite": 136,
}


def _range(high: int, single: bool) -> Convert:
    """`A-B`; with `single` also `A`, as the manual page promises for ports."""

    def convert(text: str, index: int, names: Names) -> tuple[int, int]:
        first, dash, second = text.partition("-")
        if not dash and not single:
            raise Bad("not-a-range", f"'{text}' is not of the form A-B", index)
        low = parse_integer(first, 0, high, index, c_base=True)
        top = parse_integer(second, low, high, index, c_base=True) if dash else low
        return low, top

    return convert


def _ip_protocol(text: str, index: int, names: Names) -> int:
    if text in IP_PROTOCOLS:
        return IP_PROTOCOLS[text]
    if not text[:1].isdecimal():
        raise Bad("unknown-name", f"'{text}' is not a known IP protocol", index, hint="write its number")
    return parse_integer(text, 0, 255, index, c_base=True)


def _table(text: str, index: int, names: Names) -> int:
    table = names.number("table", text, index)
    if not table:
        raise Bad("table-zero", "a rule cannot look up table 0", index)
    return table


_FLAGS: dict[str, tuple[str, object]] = {
    **{option: ("family", family) for option, family in FAMILIES.items()},
    "not": ("invert", True),
    "no_track": ("no_track", True),
}
_PREFERENCE = ("preference", number(0, UINT32))
_VALUES: dict[str, tuple[str, Convert]] = {
    "preference": _PREFERENCE,
    "order": _PREFERENCE,
    "priority": _PREFERENCE,
    "tos": ("tos", named("dsfield")),
    "dsfield": ("tos", named("dsfield")),
    "realms": ("realms", realms),
    "suppress_prefixlength": ("suppress_prefixlength", number(0, INT32)),
    "sup_pl": ("suppress_prefixlength", number(0, INT32)),
    "suppress_ifgroup": ("suppress_ifgroup", named("group")),
    "sup_group": ("suppress_ifgroup", named("group")),
    "iif": ("iif", interface),
    "dev": ("iif", interface),
    "oif": ("oif", interface),
    "tunnel-id": ("tunnel_id", number(0, 2**64 - 1)),
    "uidrange": ("uidrange", _range(UINT32, single=False)),
    "protocol": ("protocol", number(0, 255)),
    "ipproto": ("ipproto", _ip_protocol),
    "sport": ("sport", _range(65535, single=True)),
    "dport": ("dport", _range(65535, single=True)),
    "track_group": ("track_group", group),
}
_SELECTORS = {"from": "source", "to": "destination"}
_ACTION_VALUES = {"table": ("table", _table), "lookup": ("table", _table), "goto": ("goto", number(0, UINT32))}
_ACTIONS = (*_ACTION_VALUES, *ACTIONS, "l3mdev")
_NEED_TABLE = ("realms", "suppress_prefixlength", "suppress_ifgroup")


def parse_rule_line(words: tuple[str, ...], names: Names, report: Report, static: bool = False) -> Rule:
    """`[option ...] ACTION`, in any order; `preference` is NO_PREFERENCE when the line gives none.

    Raises Bad with the index of the word at fault when there can be no such rule; `report` gets what is wrong with a
    rule that is used all the same. `static` allows `track_group`.
    """
    return _RuleReader(words, names, report, static).read()


_NOT_STATIC = {option: row for option, row in _VALUES.items() if option != "track_group"}


class _RuleReader:
    def __init__(self, words: tuple[str, ...], names: Names, report: Report, static: bool) -> None:
        self.line = OptionWords(words)
        self.names, self.report = names, report
        self.options = _VALUES if static else _NOT_STATIC
        self.values: dict[str, Any] = {"preference": NO_PREFERENCE}
        self.action = ""
        """The word that chose the action: table for lookup."""
        self.addresses: list[tuple[int, int]] = []
        """Family and index of each address."""

    def read(self) -> Rule:
        while self.line.more():
            self._option(*self.line.take())
        values = self.values
        family = values.pop("family", self.addresses[0][0] if self.addresses else 4)
        self._check(family)
        keep_protocol(values, self.line, self.report)
        keep_track_group(values, "iif" in values, self.line, self.report)
        return Rule(family=family, **values)

    def _option(self, option: str, index: int) -> None:
        if option in _FLAGS:
            field, value = _FLAGS[option]
            self._set(field, option, index, value)
        elif option in self.options:
            field, convert = self.options[option]
            self._set(field, option, index, convert(*self.line.value(option), self.names))
        elif option in _SELECTORS:
            self._selector(option, index)
        elif option == "fwmark":
            self._fwmark(option, index)
        elif option in _ACTIONS:
            self._action(option, index)
        elif option == "type":
            text, at = self.line.value(option)
            if text not in _ACTIONS:
                raise Bad("not-an-action", f"'{text}' is not one of {', '.join(_ACTIONS)}", at)
            self._action(text, at)
        else:
            known = (*_FLAGS, *self.options, *_SELECTORS, *_ACTIONS, "fwmark", "type")
            raise unknown_option(option, index, "rule", known)

    def _set(self, field: str, option: str, index: int, value: object) -> None:
        self.line.once(field, option, index)
        self.values[field] = value

    def _selector(self, option: str, index: int) -> None:
        """`PREFIX|all|any|default`."""
        field = _SELECTORS[option]
        self.line.once(field, option, index)
        text, at = self.line.value(option)
        if text in ANY:
            return
        address, length = parse_prefix(text, at)
        self.addresses.append((address.version, at))
        if length != 0:
            self.values[field] = address
            self.values[f"{field}_prefixlen"] = address.max_prefixlen if length is None else length

    def _fwmark(self, option: str, index: int) -> None:
        """`N[/MASK]`."""
        text, at = self.line.value(option)
        mark, slash, mask = text.partition("/")
        self._set("fwmark", option, index, parse_integer(mark, 0, UINT32, at, c_base=True))
        if slash:
            self.values["fwmask"] = parse_integer(mask, 0, UINT32, at, c_base=True)

    def _action(self, option: str, index: int) -> None:
        name = "table" if option == "lookup" else option
        if {self.action, name} == {"l3mdev", "table"}:
            raise Bad("l3mdev-and-table", "'l3mdev' looks up the table of the device; no other can be given", index)
        if self.action and self.action != name:
            raise Bad("two-actions", f"'{option}': the rule has an action, '{self.action}'", index)
        self.line.once("action", option, index)
        self.action = name
        if option in _ACTION_VALUES:
            field, convert = _ACTION_VALUES[option]
            self.values[field] = convert(*self.line.value(option), self.names)
        elif option == "l3mdev":
            self.values["l3mdev"] = True
        self.values["action"] = GOTO if option == "goto" else ACTIONS.get(option, TO_TABLE)

    def _check(self, family: int) -> None:
        """What needs the whole line. Raises Bad."""
        seen, words = self.line.seen, self.line.words
        check_families(family, self.addresses, words)
        if "realms" in seen and family == 6:
            raise Bad("wrong-family", "'realms' is for IPv4 rules only", seen["realms"])
        for field in _NEED_TABLE:
            if field in seen and self.action not in ("table", "l3mdev"):
                raise Bad("needs-table", f"'{words[seen[field]]}' needs a table to look up", seen[field])
        if self.action == "goto":
            self._check_goto(seen["action"])
        if not self.action:
            message = "the rule has no action; table main is looked up"
            self.report(Bad("missing-action", message, len(words), Severity.WARNING, "write 'table main'"))
            self.values["table"] = MAIN_TABLE

    def _check_goto(self, index: int) -> None:
        if self.values["preference"] == NO_PREFERENCE:
            raise Bad("bad-goto", "'goto' needs a preference", index)
        if self.values["goto"] <= self.values["preference"]:
            raise Bad("bad-goto", "'goto' leads to larger preferences only", index + 1)


def rule_words(rule: Rule, static: bool = False) -> tuple[str, ...]:
    """Words that `parse_rule_line` reads as an equal rule again."""
    words = ["not"] if rule.invert else []
    mask = "" if rule.fwmask is None else f"/{rule.fwmask:#x}"
    values = {
        "from": prefix_text(rule.source, rule.source_prefixlen),
        "to": None if rule.destination is None else prefix_text(rule.destination, rule.destination_prefixlen),
        "preference": None if rule.preference == NO_PREFERENCE else rule.preference,
        "tos": rule.tos or None,
        "fwmark": None if rule.fwmark is None else f"{rule.fwmark:#x}{mask}",
        "realms": realms_text(rule.realms),
        "suppress_prefixlength": rule.suppress_prefixlength,
        "suppress_ifgroup": rule.suppress_ifgroup,
        "iif": rule.iif or None,
        "oif": rule.oif or None,
        "tunnel-id": rule.tunnel_id,
        "uidrange": _range_text(rule.uidrange),
        "protocol": rule.protocol if rule.protocol != KEEPALIVED else None,
        "ipproto": rule.ipproto,
        "sport": _range_text(rule.sport),
        "dport": _range_text(rule.dport),
        "track_group": (rule.track_group or None) if static else None,
    }
    words += [word for option, value in values.items() if value is not None for word in (option, str(value))]
    words += ["no_track"] if rule.no_track else []
    words += _action_words(rule)
    if rule.source is None and rule.destination is None:
        words.append("inet" if rule.family == 4 else "inet6")  # last: keepalived skips the word behind it
    return tuple(words)


def _range_text(pair: tuple[int, int] | None) -> str | None:
    return None if pair is None else f"{pair[0]}-{pair[1]}"


def _action_words(rule: Rule) -> list[str]:
    if rule.action == GOTO:
        return ["goto", str(rule.goto)]
    if rule.action == TO_TABLE:
        return ["l3mdev"] if rule.l3mdev else ["table", str(rule.table)]
    return [next(word for word, action in ACTIONS.items() if action == rule.action)]

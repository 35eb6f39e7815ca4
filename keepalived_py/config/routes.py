"""Lines of virtual_routes and static_routes to routes, and back (keywords.tsv, these blocks).

A line is read once from left to right; what depends on the family is checked when the whole line is known, because
`inet`, `inet6` and the destination may stand anywhere before the next hops.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import Any

from keepalived_py.values import IPAddress

from .converters import UINT32, parse_address, parse_integer, parse_interface
from .encap import encap_words, parse_encap
from .iproute_names import (
    ANY,
    FAMILIES,
    KEEPALIVED,
    Convert,
    Names,
    OptionWords,
    Report,
    check_families,
    choice,
    gateway,
    group,
    interface,
    keep_protocol,
    keep_track_group,
    named,
    network,
    number,
    prefix_text,
    realms,
    realms_text,
    unknown_option,
)
from .model.links import ROUTE_TYPES, NextHop, Route
from .problems import Severity
from .schema import Bad

PREFERENCES = {"low": 3, "medium": 0, "high": 1}
"""Codes of RFC 4191 section 2.1."""
MAIN_TABLE = 254
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|[0-9]+")
CONGCTL_MAX = 15
"""The kernel's limit of an algorithm's name."""


def _table(text: str, at: int, names: Names) -> int:
    return names.number("table", text, at) or MAIN_TABLE  # The kernel puts routes of table 0 into main.


def _preference(text: str, at: int, names: Names) -> int:
    return PREFERENCES[text] if text in PREFERENCES else parse_integer(text, 0, 255, at, c_base=True)


def _algorithm(text: str, at: int, names: Names) -> str:
    if len(text.encode()) > CONGCTL_MAX:
        raise Bad("name-too-long", f"'{text}' is longer than {CONGCTL_MAX} characters", at)
    return text


_TIME = re.compile(r"(\d+\.?\d*|\.\d+)(s|sec|secs|ms|msec)")


def _time(per_millisecond: int) -> Convert:
    """A whole number of the metric's own unit, or a decimal number with a suffix."""

    def convert(text: str, at: int, names: Names) -> int:
        found = _TIME.fullmatch(text)
        if found is None:
            return parse_integer(text, 0, UINT32, at, c_base=True)
        scale = per_millisecond if found[2].startswith("m") else per_millisecond * 1000
        from decimal import Decimal  # few need it

        value = Decimal(found[1]) * scale
        if value > UINT32:
            raise Bad("out-of-range", f"'{text}' is too long a time", at)
        return round(value)

    return convert


_FLAGS: dict[str, tuple[str, Any]] = {
    **{option: ("family", family) for option, family in FAMILIES.items()},
    "onlink": ("onlink", True),
    "no_track": ("no_track", True),
    "add": ("create", "add"),
    "prepend": ("create", "prepend"),
    "append": ("create", "append"),
}
_VALUES: dict[str, tuple[str, Convert]] = {
    "tos": ("tos", named("dsfield")),
    "dsfield": ("tos", named("dsfield")),
    "table": ("table", _table),
    "protocol": ("protocol", named("protocol")),
    "scope": ("scope", named("scope")),
    "metric": ("metric", number(0, UINT32)),
    "priority": ("metric", number(0, UINT32)),
    "preference": ("metric", number(0, UINT32)),
    "dev": ("dev", interface),
    "oif": ("dev", interface),
    "vrf": ("vrf", interface),
    "expires": ("expires", number(0, UINT32)),
    "realms": ("realms", realms),
    "pref": ("pref", _preference),
    "ttl-propagate": ("ttl_propagate", choice({"enabled": True, "disabled": False})),
    "track_group": ("track_group", group),
}
_METRICS: dict[str, tuple[bool, Convert]] = {
    "mtu": (True, number(0, UINT32)),
    "hoplimit": (False, number(0, 255)),
    "advmss": (True, number(0, UINT32)),
    "rtt": (True, _time(8)),
    "rttvar": (True, _time(4)),
    "reordering": (True, number(0, UINT32)),
    "window": (False, number(0, UINT32)),
    "cwnd": (True, number(0, UINT32)),
    "ssthresh": (True, number(0, UINT32)),
    "rto_min": (True, _time(1)),
    "initcwnd": (False, number(0, UINT32)),
    "initrwnd": (False, number(0, UINT32)),
    "features": (False, choice({"ecn": 1})),
    "quickack": (False, number(0, 1)),
    "congctl": (True, _algorithm),
    "fastopen_no_cookie": (False, number(0, 1)),
}
"""Whether `lock` may stand before the value, and the value; in the order of `Route.metrics`."""
_ONE_FAMILY = {"source": 6, "expires": 6, "pref": 6, "realms": 4}
_NEXTHOP = ("via", "dev", "weight", "onlink", "encap", "realms", "as")


def parse_route_line(words: tuple[str, ...], names: Names, report: Report, static: bool = False) -> Route:
    """`[to] [TYPE] PREFIX [option ...] [nexthop ...]...`.

    Raises Bad with the index of the word at fault when there can be no such route; `report` gets what is wrong with a
    route that is used all the same. `static` allows `track_group`.
    """
    return _RouteReader(words, names, report, static).read()


_NOT_STATIC = {option: row for option, row in _VALUES.items() if option != "track_group"}


class _RouteReader:
    def __init__(self, words: tuple[str, ...], names: Names, report: Report, static: bool) -> None:
        self.line = OptionWords(words)
        self.names, self.report = names, report
        self.options = _VALUES if static else _NOT_STATIC
        self.values: dict[str, Any] = {}
        self.metrics: dict[str, tuple[Any, bool]] = {}
        self.addresses: list[tuple[int, int]] = []
        """Family and index of each address that must be of the route's family."""
        self.other_gateway = False
        """The IPv6 gateway may belong to an IPv4 route: its family is written."""
        self.second: IPAddress | None = None
        self.nexthops: list[NextHop] = []
        self.readers = {
            "via": self._via,
            "gw": self._via,
            "or": self._or,
            "src": self._src,
            "from": self._from,
            "as": self._as,
            "encap": self._encap,
            "nexthop": self._nexthop,
        }

    def read(self) -> Route:
        while self.line.more():
            self._option(*self.line.take())
        family = self._family()
        self._check(family)
        self._spread()
        keep_protocol(self.values, self.line, self.report)
        has_interface = "dev" in self.values or any(hop.dev for hop in self.nexthops)
        keep_track_group(self.values, has_interface, self.line, self.report)
        metrics = tuple((name, *self.metrics[name]) for name in _METRICS if name in self.metrics and name != "congctl")
        congctl, locked = self.metrics.get("congctl", ("", False))
        return Route(
            **{**self.values, "family": family},
            metrics=metrics,
            congctl=congctl,
            congctl_lock=locked,
            nexthops=tuple(self.nexthops),
        )

    def _option(self, option: str, index: int) -> None:
        if option in self.readers:
            self.readers[option](option, index)
        elif option in _FLAGS:
            field, value = _FLAGS[option]
            self._set(field, option, index, value)
        elif option in self.options:
            field, convert = self.options[option]
            self._set(field, option, index, convert(*self.line.value(option), self.names))
        elif option in _METRICS:
            self._metric(option, index)
        else:
            self._destination(option, index)

    def _set(self, field: str, option: str, index: int, value: Any) -> None:
        self.line.once(field, option, index)
        self.values[field] = value

    def _metric(self, option: str, index: int) -> None:
        lockable, convert = _METRICS[option]
        self.line.once(option, option, index)
        locked = lockable and self.line.skip("lock")
        self.metrics[option] = (convert(*self.line.value(option), self.names), locked)

    def _destination(self, word: str, index: int) -> None:
        """`[to] [TYPE] PREFIX|default|any|all`."""
        text, at = (word, index) if word != "to" else self.line.value(word)
        if text in ROUTE_TYPES or _NUMBER.fullmatch(text):
            self.values["type"] = (
                ROUTE_TYPES[text] if text in ROUTE_TYPES else parse_integer(text, 0, 255, at, c_base=True)
            )
            text, at = self.line.value(text)
        if at == index and text not in ANY and not text[:1].isdecimal() and ":" not in text:
            known = chain(self.readers, self.options, _FLAGS, _METRICS, ROUTE_TYPES)
            raise unknown_option(text, at, "route", known)
        self.line.once("destination", word, index)
        if text not in ANY:
            address, length = network(text, at, self.report)
            self.addresses.append((address.version, at))
            if length:
                self.values.update(destination=address, prefixlen=length)
        self.values.setdefault("destination", None)

    def _via(self, option: str, index: int) -> None:
        if option == "gw":
            self._deprecated(option, index, "write 'via'")
        address, at, written = gateway(self.line, option)
        self.other_gateway = written and address.version == 6
        if not self.other_gateway:
            self.addresses.append((address.version, at))
        self._set("via", option, index, address)

    def _or(self, option: str, index: int) -> None:
        self._deprecated(option, index, "write 'nexthop via ADDR' for each gateway")
        self.line.once("or", option, index)
        self.second = self._address(option)

    def _deprecated(self, option: str, index: int, hint: str) -> None:
        self.report(Bad("deprecated-option", f"'{option}' is deprecated", index, hint=hint))

    def _address(self, option: str) -> IPAddress:
        text, at = self.line.value(option)
        address = parse_address(text, at)
        self.addresses.append((address.version, at))
        return address

    def _src(self, option: str, index: int) -> None:
        self._set("prefsrc", option, index, self._address(option))

    def _from(self, option: str, index: int) -> None:
        text, at = self.line.value(option)
        address, length = network(text, at, self.report)
        self.addresses.append((address.version, at))
        self._set("source", option, index, address if length else None)
        self.values["source_prefixlen"] = length

    def _as(self, option: str, index: int) -> None:
        """`as [to] ADDR`."""
        self.line.skip("to")
        self.line.value(option)
        self.report(Bad("not-supported", f"'{option}' is not supported; it is ignored", index))

    def _encap(self, option: str, index: int) -> None:
        self._set("encap", option, index, parse_encap(self.line, self.names))

    def _nexthop(self, option: str, index: int) -> None:
        """`via ADDR [dev IF] [weight N] ...` up to the next `nexthop`."""
        self.line.seen.setdefault(option, index)
        hop = OptionWords(self.line.words, self.line.index)
        values: dict[str, Any] = {}
        while hop.more() and hop.peek() != option:
            name, at = hop.take()
            if name not in _NEXTHOP:
                raise unknown_option(name, at, "next hop", _NEXTHOP)
            hop.once(name, name, at)
            values[name] = self._nexthop_value(name, at, hop)
        self.line.index = hop.index
        if not values.keys() & {"via", "dev"}:
            raise Bad("missing-value", f"'{option}' needs 'via ADDR' or 'dev IFNAME'", hop.index)
        self.nexthops.append(NextHop(**values))

    def _nexthop_value(self, name: str, index: int, hop: OptionWords) -> Any:
        if name == "as":
            raise Bad("not-supported", f"'{name}' is not supported", index)
        if name == "onlink":
            return True
        if name == "encap":
            return parse_encap(hop, self.names)
        if name == "via":
            address, at, _ = gateway(hop, name)
            self.addresses.append((address.version, at))
            return address
        text, at = hop.value(name)
        if name == "realms":
            self.line.seen.setdefault(name, index)
            return self.names.realms(text, at)
        return parse_integer(text, 1, 256, at, c_base=True) if name == "weight" else parse_interface(text, at)

    def _family(self) -> int:
        """`inet` or `inet6`, else that of the addresses, else IPv4."""
        if "family" in self.values:
            family: int = self.values["family"]
        elif self.addresses:
            family = self.addresses[0][0]
        else:
            family = 6 if self.other_gateway else 4
        check_families(family, self.addresses, self.line.words)
        return family

    def _check(self, family: int) -> None:
        """What needs the whole line. Raises Bad."""
        seen, values = self.line.seen, self.values
        if "destination" not in values:
            raise Bad("missing-destination", "a route needs a destination", len(self.line.words))
        for field, only in _ONE_FAMILY.items():
            if field in seen and family != only:
                option = self.line.words[seen[field]]
                raise Bad("wrong-family", f"'{option}' is for IPv{only} routes only", seen[field])
        if "vrf" in seen and "table" in seen:
            raise Bad("vrf-and-table", "a VRF has a table of its own", max(seen["vrf"], seen["table"]))
        if "via" in seen and self.nexthops:
            raise Bad("via-with-nexthop", "a route has either one gateway or next hops", seen["nexthop"])
        if self.second is not None:
            self._check_second(family)
        if family == 6 and values.pop("scope", None) is not None:
            message = "'scope' is for IPv4 routes only; it is ignored"
            self.report(Bad("wrong-family", message, seen["scope"], Severity.LINT))  # keepalived says nothing

    def _check_second(self, family: int) -> None:
        seen = self.line.seen
        if "via" not in seen:
            raise Bad("or-without-via", "'or' adds a gateway to that of 'via'", seen["or"])
        if family == 4 and self.other_gateway:
            raise Bad("wrong-family", "with 'or' both gateways are of the route's family", seen["via"])

    def _spread(self) -> None:
        """`via A or B` becomes two next hops that share the interface."""
        if self.second is not None:
            shared = {name: self.values.pop(name) for name in ("dev", "onlink", "encap") if name in self.values}
            gateways = (self.values.pop("via"), self.second)
            self.nexthops = [NextHop(via=address, **shared) for address in gateways]


def route_words(route: Route, static: bool = False) -> tuple[str, ...]:
    """Words that `parse_route_line` reads as an equal route again."""
    words = [*_type_words(route.type), prefix_text(route.destination, route.prefixlen)]
    if route.via is not None:
        words += ["via", *(["inet6"] if route.via.version != route.family else []), str(route.via)]
    if route.source is not None:
        words += ["from", prefix_text(route.source, route.source_prefixlen)]
    words += _plain_words(route)
    words += [] if route.create == "prepend" else [route.create]
    words += ["onlink"] if route.onlink else []
    words += ["no_track"] if route.no_track else []
    words += ["track_group", route.track_group] if static and route.track_group else []
    words += encap_words(route.encap) if route.encap is not None else []
    if route.destination is None and (route.via is None or route.via.version != route.family):
        # last: keepalived skips the word behind it
        words.append("inet" if route.family == 4 else "inet6")
    for hop in route.nexthops:
        words += _nexthop_words(hop)
    return tuple(words)


def _type_words(type_: int) -> list[str]:
    if type_ == ROUTE_TYPES["unicast"]:
        return []
    return [next((name for name, known in ROUTE_TYPES.items() if known == type_), str(type_))]


def _plain_words(route: Route) -> list[str]:
    """Options with one value that is written as it is, and metrics."""
    plain = {
        "src": route.prefsrc,
        "dev": route.dev or None,
        "vrf": route.vrf or None,
        "tos": route.tos or None,
        "table": route.table if route.table != MAIN_TABLE else None,
        "protocol": route.protocol if route.protocol != KEEPALIVED else None,
        "scope": route.scope,
        "metric": route.metric,
        "expires": route.expires,
        "realms": realms_text(route.realms),
        "pref": route.pref,
        "ttl-propagate": {True: "enabled", False: "disabled", None: None}[route.ttl_propagate],
    }
    words = [word for option, given in plain.items() if given is not None for word in (option, str(given))]
    for name, value, locked in route.metrics:
        words += [name, *(["lock"] if locked else []), "ecn" if name == "features" else str(value)]
    if route.congctl:
        words += ["congctl", *(["lock"] if route.congctl_lock else []), route.congctl]
    return words


def _nexthop_words(hop: NextHop) -> list[str]:
    values = {"via": hop.via, "dev": hop.dev or None, "weight": hop.weight, "realms": realms_text(hop.realms)}
    words = [word for option, value in values.items() if value is not None for word in (option, str(value))]
    words += ["onlink"] if hop.onlink else []
    return ["nexthop", *words, *(encap_words(hop.encap) if hop.encap is not None else [])]

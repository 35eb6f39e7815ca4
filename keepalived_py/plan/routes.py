"""Routes and rules that should be in the kernel, and the operations that lead there. Pure.

An entry is a route or rule with its interfaces and table as numbers, as the kernel gets it. Two entries are equal when
the kernel would hold the same; how it is to be inserted and who tracks it makes no other entry. Only entries that we
put there, or that the configuration names, are ever removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field, replace

from keepalived_py.config.model import Address, Route, Rule, VrrpInstance
from keepalived_py.config.model.links import NAMES_OF_ROUTE_TYPES, RULE_ACTIONS
from keepalived_py.records import dataclass
from keepalived_py.values import IPAddress

IPV6_METRIC = 1024
"""What the kernel makes of an IPv6 route without a metric."""
GOTO = 2
MAIN_TABLE = 254


@dataclass(frozen=True, slots=True)
class RouteKey:
    """What a notice about a route tells it by. Routes that share a key are siblings with other gateways."""

    family: int
    table: int
    destination: IPAddress | None
    prefixlen: int
    tos: int
    metric: int
    type: int


@dataclass(frozen=True, slots=True)
class RuleKey:
    """What a notice about a rule tells it by."""

    family: int
    preference: int
    action: int
    source: IPAddress | None
    source_prefixlen: int
    destination: IPAddress | None
    destination_prefixlen: int
    iif: str
    oif: str


@dataclass(frozen=True, slots=True)
class RouteEntry:
    route: Route
    table: int
    ifindex: int = 0
    """0: the kernel chooses."""
    hop_indices: tuple[int, ...] = ()
    create: str = field(default="prepend", compare=False)
    tracked: bool = field(default=True, compare=False)
    track_group: str = field(default="", compare=False)

    @property
    def key(self) -> RouteKey:
        route = self.route
        metric = route.metric or (IPV6_METRIC if route.family == 6 else 0)
        return RouteKey(
            route.family, self.table, route.destination, route.prefixlen, route.tos, metric, route.type or 1
        )

    @property
    def transient(self) -> bool:
        """It goes by itself."""
        return self.route.expires is not None

    @property
    def divisible(self) -> bool:
        """Linux keeps the next hops of an IPv6 route apart: some may be there and some not."""
        return self.route.family == 6 and len(self.route.nexthops) > 1

    @property
    def indices(self) -> tuple[int, ...]:
        """Interfaces that it needs, as far as they are given."""
        return tuple(index for index in (self.ifindex, *self.hop_indices) if index)

    def __str__(self) -> str:
        return route_text(self.route, self.table)


@dataclass(frozen=True, slots=True)
class RuleEntry:
    rule: Rule
    tracked: bool = field(default=True, compare=False)
    track_group: str = field(default="", compare=False)

    @property
    def key(self) -> RuleKey:
        rule = self.rule
        return RuleKey(
            rule.family,
            rule.preference,
            rule.action,
            rule.source,
            rule.source_prefixlen,
            rule.destination,
            rule.destination_prefixlen,
            rule.iif,
            rule.oif,
        )

    @property
    def transient(self) -> bool:
        return False

    @property
    def divisible(self) -> bool:
        return False

    @property
    def indices(self) -> tuple[int, ...]:
        """A rule stays when the interface that it names goes."""
        return ()

    def __str__(self) -> str:
        return rule_text(self.rule)


Entry = RouteEntry | RuleEntry
Row = Address | Route | Rule
"""A line of the configuration."""


@dataclass(frozen=True, slots=True)
class AddEntry:
    entry: Entry


@dataclass(frozen=True, slots=True)
class DeleteEntry:
    entry: Entry


EntryOp = AddEntry | DeleteEntry


def desired_entries(
    routes: Iterable[Route], rules: Iterable[Rule], index_of: Mapping[str, int], tables: Mapping[str, int]
) -> tuple[Entry, ...]:
    """Routes, then rules, each once. A route whose interface or VRF does not exist is left out."""
    entries: dict[Entry, None] = {}
    for route in routes:
        entry = _resolve(route, index_of, tables)
        if entry is not None:
            entries[entry] = None
    for rule in rules:
        entries[RuleEntry(replace(rule, no_track=False, track_group=""), not rule.no_track, rule.track_group)] = None
    return tuple(entries)


def _resolve(route: Route, index_of: Mapping[str, int], tables: Mapping[str, int]) -> RouteEntry | None:
    names = [route.dev, *(hop.dev for hop in route.nexthops)]
    indices = [index_of.get(name, 0) for name in names]
    if any(name and not index for name, index in zip(names, indices, strict=True)):
        return None
    table = tables.get(route.vrf, 0) if route.vrf else route.table or MAIN_TABLE
    if not table:
        return None
    plain = replace(route, create="prepend", vrf="", no_track=False, track_group="")
    hops = tuple(indices[1:])
    return RouteEntry(plain, table, indices[0], hops, route.create, not route.no_track, route.track_group)


def reconcile_entries(desired: Iterable[Entry], owned: Iterable[Entry]) -> tuple[list[DeleteEntry], list[AddEntry]]:
    """What must go, last first, and what must come, in order."""
    wanted, held = dict.fromkeys(desired), dict.fromkeys(owned)
    gone = [DeleteEntry(entry) for entry in reversed(held) if entry not in wanted]
    return gone, [AddEntry(entry) for entry in wanted if entry not in held]


def insertions(entries: Iterable[Entry]) -> Iterator[EntryOp]:
    """Operations after which all of `entries` are there, whether they were or not.

    One that the kernel has in part would be refused as present, so what is left of it goes first.
    """
    for entry in entries:
        if entry.divisible:
            yield DeleteEntry(entry)
        yield AddEntry(entry)


def route_interfaces(route: Route) -> Iterator[str]:
    """Names of the interfaces that a route names."""
    yield from (name for name in (route.dev, *(hop.dev for hop in route.nexthops)) if name)


def rule_interfaces(rule: Rule) -> Iterator[str]:
    yield from (name for name in (rule.iif, rule.oif) if name)


def interfaces_of(row: Row) -> Iterator[str]:
    """Names of the interfaces that a line names."""
    if isinstance(row, Route):
        yield from route_interfaces(row)
    elif isinstance(row, Rule):
        yield from rule_interfaces(row)
    elif row.dev:
        yield row.dev


def held_interfaces(config: VrrpInstance) -> frozenset[str]:
    """Interfaces, but for its own, without which an instance is in FAULT because of what it holds (section 7)."""
    rows: tuple[Row, ...] = (*config.addresses, *config.excluded, *config.routes, *config.rules)
    return frozenset(name for row in rows if not row.no_track for name in interfaces_of(row)) - {config.interface}


def named_interfaces(config: VrrpInstance) -> frozenset[str]:
    """Interfaces that change what an instance asks the kernel for."""
    rows: tuple[Row, ...] = (*config.addresses, *config.excluded, *config.routes)
    names = {name for row in rows for name in interfaces_of(row)}
    return frozenset(names | {route.vrf for route in config.routes if route.vrf})


# for the log ----------------------------------------------------------------------------------------------------------


def _prefix(address: IPAddress | None, length: int) -> str:
    return "default" if address is None else f"{address}/{length}"


def route_text(route: Route, table: int) -> str:
    """A route in the words of its line."""
    words = ["route", *([NAMES_OF_ROUTE_TYPES[route.type]] if route.type in NAMES_OF_ROUTE_TYPES else [])]
    words.append(_prefix(route.destination, route.prefixlen))
    given = {
        "from": route.source and _prefix(route.source, route.source_prefixlen),
        "via": route.via,
        "dev": route.dev,
        "src": route.prefsrc,
        "tos": route.tos,
        "metric": route.metric,
        "table": table if table != MAIN_TABLE else 0,
        "encap": route.encap and route.encap.kind,
    }
    words += [f"{word} {value}" for word, value in given.items() if value]
    for hop in route.nexthops:
        words += ["nexthop", *([f"via {hop.via}"] if hop.via else []), *([f"dev {hop.dev}"] if hop.dev else [])]
    return " ".join(words)


def rule_text(rule: Rule) -> str:
    """A rule in the words of its line."""
    words = ["rule", *(["not"] if rule.invert else [])]
    given = {
        "from": rule.source and _prefix(rule.source, rule.source_prefixlen),
        "to": rule.destination and _prefix(rule.destination, rule.destination_prefixlen),
        "iif": rule.iif,
        "oif": rule.oif,
        "preference": rule.preference,
    }
    words += [f"{word} {value}" for word, value in given.items() if value]
    if rule.action == GOTO:
        words.append(f"goto {rule.goto}")
    elif rule.action in RULE_ACTIONS:
        words.append(RULE_ACTIONS[rule.action])
    else:
        words.append("l3mdev" if rule.l3mdev else f"table {rule.table}")
    return " ".join(words)

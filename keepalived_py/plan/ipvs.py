"""The IPVS table that the virtual servers mean, and the operations from the actual one to it. Pure.

Services are made before their destinations and destinations removed before nothing else takes their place: whatever can
be kept is edited in place, so connections stay. Rows that are not ours are never touched.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import field, replace
from types import MappingProxyType

from keepalived_py.checks.virtual_server import Destination, VirtualServerState, replaced
from keepalived_py.config.model import MOST_SERVICES, Forwarding, GroupRange, VirtualServer
from keepalived_py.records import dataclass
from keepalived_py.values import IPAddress, Protocol, RealKey, ServiceKey

PERSISTENT, ONE_PACKET = 0x1, 0x4
FLAG_BITS = {"ops": ONE_PACKET, "flag-1": 0x8, "flag-2": 0x10, "flag-3": 0x20}
FLAG_MASK = PERSISTENT | ONE_PACKET | 0x38
LOCAL = "LOCAL"
IPV4_MASK, IPV6_MASK = 0xFFFFFFFF, 128


@dataclass(frozen=True, slots=True)
class ServiceId:
    """What the kernel knows a service by: protocol, address and port, or a firewall mark of one family."""

    family: int
    protocol: Protocol = Protocol.NONE
    address: IPAddress | None = None
    port: int = 0
    fwmark: int = 0

    def __str__(self) -> str:
        if self.address is None:
            return f"FWM {self.fwmark}"
        return f"[{self.address}]:{self.protocol.value}:{self.port}"


@dataclass(frozen=True, slots=True)
class Service:
    """Settings of a service. `netmask`: IPv4 mask as a number in host order, IPv6 prefix length."""

    scheduler: str
    flags: int = 0
    timeout: int = 0
    netmask: int = IPV4_MASK
    engine: str = ""


@dataclass(slots=True)
class Entry:
    service: Service
    destinations: dict[RealKey, Destination] = field(default_factory=dict)


Table = dict[ServiceId, Entry]


@dataclass(frozen=True, slots=True)
class AddService:
    id: ServiceId
    service: Service


@dataclass(frozen=True, slots=True)
class EditService:
    id: ServiceId
    service: Service


@dataclass(frozen=True, slots=True)
class DeleteService:
    """Takes its destinations with it."""

    id: ServiceId


@dataclass(frozen=True, slots=True)
class AddDestination:
    id: ServiceId
    key: RealKey
    destination: Destination


@dataclass(frozen=True, slots=True)
class EditDestination:
    id: ServiceId
    key: RealKey
    destination: Destination


@dataclass(frozen=True, slots=True)
class DeleteDestination:
    id: ServiceId
    key: RealKey


Op = AddService | EditService | DeleteService | AddDestination | EditDestination | DeleteDestination


Marks = Mapping[tuple[str, Protocol], int]
"""Firewall marks that stand for all addresses of a group and protocol (nftables_ipvs)."""
NO_MARKS: Marks = MappingProxyType({})


def service_ids(config: VirtualServer, marks: Marks = NO_MARKS) -> tuple[ServiceId, ...]:
    """The services that a virtual server becomes: one, or one for every address and mark of its group.

    None where those are more than anybody has memory for.
    """
    key = config.key
    if key.group:
        mark = marks.get((key.group, key.protocol), 0)
        if not mark and sum(entry.size for entry in config.group_entries) > MOST_SERVICES:
            return ()
        found = (_marked(entry, key, mark) if mark else _services_of(entry, key) for entry in config.group_entries)
        return tuple(dict.fromkeys(id for ids in found for id in ids))
    if key.address is None:
        return (ServiceId(family=key.family, fwmark=key.fwmark),)
    return (ServiceId(family=key.address.version, protocol=key.protocol, address=key.address, port=key.port),)


def _services_of(entry: GroupRange, key: ServiceKey) -> Iterator[ServiceId]:
    """A mark, or every address from the first to the last (checker-behaviour.md 1.3)."""
    first, last = entry.first, entry.last
    if first is None or last is None:
        yield ServiceId(family=entry.family or key.family, fwmark=entry.fwmark)
        return
    for offset in range(int(last) - int(first) + 1):
        yield ServiceId(first.version, key.protocol, first + offset, entry.port)


def _marked(entry: GroupRange, key: ServiceKey, mark: int) -> Iterator[ServiceId]:
    """The same where nftables gives the packets to the addresses a mark."""
    if entry.first is None:
        yield from _services_of(entry, key)
    else:
        yield ServiceId(family=entry.first.version, fwmark=mark)


def service_of(config: VirtualServer, family: int) -> Service:
    """The settings of its services of one family."""
    flags = PERSISTENT if config.persistence_timeout else 0
    for flag in config.flags:
        flags |= FLAG_BITS[flag]
    default = IPV4_MASK if family == 4 else IPV6_MASK
    granularity = config.persistence_granularity
    return Service(
        scheduler=config.scheduler,
        flags=flags,
        timeout=config.persistence_timeout,
        netmask=default if granularity is None else granularity,
        engine=config.persistence_engine,
    )


def desired_table(states: Iterable[VirtualServerState], marks: Marks = NO_MARKS) -> Table:
    """What the kernel should hold."""
    table: Table = {}
    for state in states:
        rows = state.destinations()
        for id in service_ids(state.config, marks):
            _add(table, id, state, rows)
    return table


def desired_entries(pairs: Iterable[tuple[VirtualServerState, ServiceId]]) -> Table:
    """The same for some services of virtual servers only."""
    table: Table = {}
    for state, id in pairs:
        _add(table, id, state, state.destinations())
    return table


def _add(table: Table, id: ServiceId, state: VirtualServerState, rows: Mapping[RealKey, Destination]) -> None:
    """Where several mean the same service the first says how it works, and the greatest weight of a row counts."""
    entry = table.get(id)
    if entry is None:
        entry = table[id] = Entry(service_of(state.config, id.family))
    for key, row in rows.items():
        place = _placed(key, id, row.forwarding)
        known = entry.destinations.get(place)
        if known is None or known.weight < row.weight:
            entry.destinations[place] = row


def placements(state: VirtualServerState, marks: Marks = NO_MARKS) -> Iterator[tuple[ServiceId, RealKey, RealKey]]:
    """Every row of a virtual server: its service, its name in the kernel, and its name in the configuration."""
    for id in service_ids(state.config, marks):
        for key, row in state.destinations().items():
            yield id, _placed(key, id, row.forwarding), key


def _placed(key: RealKey, id: ServiceId, forwarding: Forwarding) -> RealKey:
    """The port of a destination: only NAT may have another than its service (checker-behaviour.md 1.5)."""
    port = key.port or id.port if forwarding.method == "NAT" else id.port
    return key if port == key.port else RealKey(key.address, port)


def reconcile(desired: Table, actual: Table, owned: Iterable[ServiceId]) -> Iterator[Op]:
    """Operations that turn `actual` into `desired`; services that are neither desired nor `owned` stay as they are."""
    for id, want in desired.items():
        have = actual.get(id)
        if have is None:
            yield AddService(id, want.service)
        elif have.service != want.service:
            yield EditService(id, want.service)
        yield from _reconcile_destinations(id, want.destinations, have.destinations if have else {})
    for id in owned:
        if id in actual and id not in desired:
            yield DeleteService(id)


def rows_that_changed(old: VirtualServer, new: VirtualServer) -> set[RealKey] | None:
    """The real servers that are other ones, where their rows in the table are all that changed; None for any more."""
    reals = replaced(old, new)
    if reals is None or replace(old, real_servers=()) != replace(new, real_servers=()):
        return None
    keys = {real.key for real in reals}
    before = {real.key: real.forwarding for real in old.real_servers if real.key in keys} if keys else {}
    return keys if all(before[real.key] == real.forwarding for real in reals) else None


def reconcile_rows(
    state: VirtualServerState, keys: Collection[RealKey], actual: Table, marks: Marks = NO_MARKS
) -> Iterator[Op]:
    """The same for some real servers of a virtual server: one that changed among thousands is all that is looked at."""
    if state.config.sorry_server is not None or _is_crowded(state.config):
        yield from reconcile(desired_table([state], marks), actual, ())
        return
    rows = state.destinations(keys)
    for id in service_ids(state.config, marks):
        have = actual.get(id)
        if have is None:  # it was refused
            yield from reconcile(desired_entries([(state, id)]), actual, ())
            continue
        places = {key: _placed(key, id, state.reals[key].config.forwarding) for key in keys if key in state.reals}
        known = {place: have.destinations[place] for place in places.values() if place in have.destinations}
        yield from _reconcile_destinations(id, {places[key]: row for key, row in rows.items()}, known)


def _is_crowded(config: VirtualServer) -> bool:
    """Whether real servers may be one row: those of a group with one address and several ports."""
    reals = config.real_servers
    return bool(config.key.group) and len({real.address for real in reals}) < len(reals)


def compare(desired: Table, put: Table, actual: Table) -> tuple[list[Op], list[Op]]:
    """Intent, what we put and the kernel, for the same services: operations from `actual` to `desired`, and the part of
    them that is drift, putting back what others changed. The rest should have been done already and was refused.
    """
    due = frozenset(reconcile(desired, put, put))
    ops = list(reconcile(desired, actual, put))
    return ops, [op for op in ops if op not in due]


def _reconcile_destinations(
    id: ServiceId, desired: Mapping[RealKey, Destination], actual: Mapping[RealKey, Destination]
) -> Iterator[Op]:
    for key, destination in desired.items():
        known = actual.get(key)
        if known is None:
            yield AddDestination(id, key, destination)
        elif known != destination and not _equal_but_local(known, destination):
            yield EditDestination(id, key, destination)
    for key in actual:
        if key not in desired:
            yield DeleteDestination(id, key)


def _equal_but_local(known: Destination, wanted: Destination) -> bool:
    """The kernel turns the forwarding of a destination on this very host into LOCAL."""
    return known.forwarding.method == LOCAL and replace(known, forwarding=wanted.forwarding) == wanted


def apply(op: Op, table: Table) -> None:
    """Do to `table` what the kernel does on `op`."""
    match op:
        case AddService():
            table[op.id] = Entry(op.service)
        case EditService():
            table[op.id].service = op.service
        case DeleteService():
            table.pop(op.id, None)
        case AddDestination() | EditDestination():
            table[op.id].destinations[op.key] = op.destination
        case DeleteDestination():
            table[op.id].destinations.pop(op.key, None)

"""nftables_ipvs: one firewall mark for all addresses of a group and protocol (checker-behaviour.md 1.5). Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from keepalived_py.config.model import VirtualServer
from keepalived_py.values import IPAddress, IPv4Address, IPv6Address, Protocol

from .disjoint import Range, disjoint
from .ipvs import Marks

FAMILIES = {4: "ip", 6: "ip6"}
PROTOCOLS = (Protocol.TCP, Protocol.UDP, Protocol.SCTP)
ADDRESSES: dict[int, Callable[[int], IPAddress]] = {4: IPv4Address, 6: IPv6Address}
MOST = 2**32 - 1


def assign(servers: Sequence[VirtualServer], first: int, before: Marks) -> Marks:
    """A mark for each group with addresses and protocol, from `first` upward; one that had a mark keeps it.

    Marks that stand in the file are not taken. Where they end, groups get none.
    """
    wanted = dict.fromkeys(
        (server.key.group, server.key.protocol)
        for server in servers
        if server.key.group and any(entry.first is not None for entry in server.group_entries)
    )
    used = {server.key.fwmark for server in servers}
    used |= {entry.fwmark for server in servers for entry in server.group_entries if entry.first is None}
    marks = {}
    for key in wanted:
        mark = before.get(key, 0)
        if mark >= first and mark not in used:
            marks[key] = mark
            used.add(mark)
    mark = first
    for key in wanted:
        if key not in marks:
            while mark in used:
                mark += 1
            if mark <= MOST:
                marks[key] = mark
                used.add(mark)
    return marks


def ruleset(table: str, priority: int, servers: Iterable[VirtualServer], marks: Marks) -> str:
    """The tables for nft; those of that name are replaced, or removed where nothing has a mark."""
    elements = _elements(servers, marks)
    out = []
    for family, name in FAMILIES.items():
        full = f"{name} {table}"
        out += [f"add table {full}", f"delete table {full}"]
        maps = {protocol: found for protocol in PROTOCOLS if (found := elements.get((family, protocol)))}
        if maps:
            out.append("\n".join((f"table {full} {{", *_table(family, priority, maps), "}")))
    return "\n".join(out) + "\n"


def _elements(servers: Iterable[VirtualServer], marks: Marks) -> dict[tuple[int, Protocol], dict[str, int]]:
    """By family and protocol: mark by address and port, as nft writes them."""
    entries: dict[tuple[int, Protocol], list[tuple[Range, int, int]]] = {}
    for server in servers:
        mark = marks.get((server.key.group, server.key.protocol), 0)
        for entry in server.group_entries if mark else ():
            if entry.first is not None and entry.last is not None:
                found = entries.setdefault((entry.first.version, server.key.protocol), [])
                found.append(((int(entry.first), int(entry.last)), entry.port, mark))
    return {
        kind: {_key(ADDRESSES[kind[0]], part, ports): mark for part, ports, mark in disjoint(found)}
        for kind, found in entries.items()
    }


def _key(address: Callable[[int], IPAddress], addresses: Range, ports: Range) -> str:
    return f"{_written(*map(address, addresses))} . {_written(*ports)}"


def _written(first: object, last: object) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _table(family: int, priority: int, maps: dict[Protocol, dict[str, int]]) -> Iterator[str]:
    for protocol, elements in maps.items():
        members = ",\n  ".join(f"{key} : {mark}" for key, mark in elements.items())
        interval = " flags interval;" if any("-" in key for key in elements) else ""
        yield f" map {protocol.value}_map {{ type ipv{family}_addr . inet_service : mark;{interval}"
        yield f"  elements = {{ {members} }}\n }}"
    yield f" chain in {{\n  type filter hook input priority {priority}; policy accept;"
    for protocol in maps:
        name = protocol.value
        yield f"  meta mark set {FAMILIES[family]} daddr . {name} dport map @{name}_map"
    yield " }"

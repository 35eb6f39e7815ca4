"""What accept mode and VMACs need to be filtered, and the tables of nftables for it (vrrp-behaviour.md 12)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from ipaddress import ip_address

from keepalived_py.config.model import Address, FirewallSettings, VrrpInstance
from keepalived_py.plan.links import AddressKey
from keepalived_py.records import dataclass
from keepalived_py.values import IPAddress
from workers.nftables import FAMILIES

from .rtnetlink import Link
from .vmac_wish import families, own_wish


@dataclass(frozen=True, slots=True, order=True)
class Element:
    """A member of a set, or of a map when it has a value."""

    family: int
    set: str
    key: bytes
    value: bytes = b""


BY_INDEX, BY_NAME = "vips_link_local", "vips_link_local_name"
LOCAL_SETS = {BY_NAME: ("ifname", "ifname"), BY_INDEX: ("iface_index", "if")}
"""Sets of link-local addresses: type of their second half, and what a rule compares it with."""
NAME_SIZE = 16
"""IFNAMSIZ."""


def is_local(address: IPAddress) -> bool:
    """Whether an address says nothing without an interface."""
    return address.version == 6 and address.is_link_local


def vips(
    config: VrrpInstance, rows: Mapping[AddressKey, Address], links: Mapping[int, Link], settings: FirewallSettings
) -> frozenset[Element]:
    """Addresses to and from which nothing is let through; link-local ones on their interface only."""
    found = set()
    for key, row in rows.items():
        packed = key.address.packed
        if not is_local(key.address):
            found.add(Element(key.address.version, "vips", packed))
        elif not goes_by_name(config, row, settings):
            found.add(Element(6, BY_INDEX, packed + struct.pack("=I", key.ifindex)))
        elif key.ifindex in links:
            found.add(Element(6, BY_NAME, packed + links[key.ifindex].name.encode().ljust(NAME_SIZE, b"\0")))
    return frozenset(found)


def vmac(spoken: frozenset[int], index: int, parent: int) -> frozenset[Element]:
    """What sends reports of group membership out of the interface below a VMAC that speaks these families."""
    own, below = struct.pack("=I", index), struct.pack("=I", parent)
    found = {Element(family, "vmac_map", own, below) for family in spoken}
    return frozenset(found | ({Element(6, "vmac_set", own)} if 6 in spoken else set()))


@dataclass(frozen=True, slots=True)
class Needs:
    """What the tables must be able to do: families whose addresses may be closed, and that have VMACs; the sets that
    link-local addresses need."""

    closed: frozenset[int] = frozenset()
    vmacs: frozenset[int] = frozenset()
    local: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.closed or self.vmacs)

    def __contains__(self, element: Element) -> bool:
        """Whether there is a set for it."""
        if element.set in LOCAL_SETS:
            return element.set in self.local
        return element.family in (self.closed if element.set == "vips" else self.vmacs)


def needs(instances: Iterable[VrrpInstance], igmp_off: bool, settings: FirewallSettings) -> Needs:
    closed: set[int] = set()
    with_vmac: set[int] = set()
    local: set[str] = set()
    for config in instances:
        if is_closed(config):
            rows = (*config.addresses, *config.excluded)
            closed |= {row.family for row in rows}
            scoped = (row for row in rows if is_local(row.address))
            local |= {BY_NAME if goes_by_name(config, row, settings) else BY_INDEX for row in scoped}
        if has_filters(config):
            with_vmac |= families(config) - ({4} if igmp_off else set())
    return Needs(frozenset(closed), frozenset(with_vmac), frozenset(local))


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known before anything is closed and any VMAC is there, for filters that are slow to change."""

    closed: frozenset[tuple[IPAddress, str]] = frozenset()
    """Addresses that must not answer on whichever router they are, with the interface that link-local ones are for."""
    vmacs: frozenset[tuple[int, str, str]] = frozenset()
    """Families and names of VMACs as they most likely are called, and the interfaces below."""


def standing(instances: Iterable[VrrpInstance], prefix: str) -> Standing:
    """`prefix`: of the names of VMACs."""
    closed, vmacs = set(), set()
    for config in instances:
        if is_closed(config):
            for row in (*config.addresses, *config.excluded):
                closed.add((row.address, (row.dev or config.interface) if is_local(row.address) else ""))
        if has_filters(config):
            name = own_wish(config, prefix).names[0]
            vmacs |= {(family, name, config.interface) for family in families(config)}
    return Standing(frozenset(closed), frozenset(vmacs))


def has_filters(config: VrrpInstance) -> bool:
    """Whether an instance has a VMAC from which not everything may go."""
    return config.vmac is not None and config.vmac.kind == "macvlan"


def is_closed(config: VrrpInstance) -> bool:
    """Whether its addresses must not answer (RFC 9568 6.1, Accept_Mode)."""
    return not config.accept and not config.is_owner


def goes_by_name(config: VrrpInstance, row: Address, settings: FirewallSettings) -> bool:
    """Whether the interface of a link-local address is known by its name: one that is not tracked may go and come."""
    at_home = row.dev in ("", config.interface) and (config.vmac is None or row.family == config.family)
    return config.dont_track_primary and not settings.nftables_ifindex and (at_home or row.no_track)


def ruleset(wanted: Needs, settings: FirewallSettings, elements: Iterable[Element] = ()) -> str:
    """The tables for nft, with those of `elements` that have a set in them; those of that name are replaced."""
    by_set: dict[tuple[int, str], list[str]] = {}
    for element in sorted(set(elements)):
        by_set.setdefault((element.family, element.set), []).append(_words(element))
    out = []
    for family in (4, 6):
        name = f"{FAMILIES[family]} {settings.nftables_table}"
        out += [f"add table {name}", f"delete table {name}"]
        if family in wanted.closed | wanted.vmacs:
            full = {
                name: f" elements = {{ {', '.join(found)} }};" for (of, name), found in by_set.items() if of == family
            }
            body = "\n".join(_table(family, wanted, settings, full))
            out.append(f"table {name} {{\n{body}\n}}")
    return "\n".join(out) + "\n"


def _words(element: Element) -> str:
    """An element as nft reads it."""
    if element.value:
        return " : ".join(str(*struct.unpack("=I", each)) for each in (element.key, element.value))
    if len(element.key) == 4:
        return str(ip_address(element.key)) if element.set == "vips" else str(*struct.unpack("=I", element.key))
    rest = element.key[16:]
    if element.set == BY_NAME:
        places = [f'"{rest.rstrip(bytes(1)).decode()}"']
    else:
        places = [str(index) for (index,) in struct.iter_unpack("=I", rest)]
    return " . ".join((str(ip_address(element.key[:16])), *places))


def _table(family: int, wanted: Needs, settings: FirewallSettings, full: dict[str, str]) -> list[str]:
    """Lines of a table; `full` has the elements of sets by their name."""
    ip, count = FAMILIES[family], "counter " if settings.nftables_counters else ""
    closed, with_vmac = family in wanted.closed, family in wanted.vmacs
    sets: list[str] = []
    incoming: list[str] = []
    outgoing: list[str] = []
    if with_vmac:
        sets.append(f" map vmac_map {{ type iface_index : iface_index;{full.get('vmac_map', '')} }}")
        dup = f"dup to {ip} daddr device oif map @vmac_map {count}drop"
        if family == 4:
            outgoing.append(f'  ip protocol igmp meta oifkind "macvlan" {dup}')
        else:
            sets.append(f" set vmac_set {{ type iface_index;{full.get('vmac_set', '')} }}")
            outgoing.append(f'  icmpv6 type mld2-listener-report meta oifkind "macvlan" {dup}')
            outgoing.append(f'  icmpv6 type nd-router-solicit meta oifkind "macvlan" oif @vmac_set {count}drop')
    if closed:
        sets.append(f" set vips {{ type ipv{family}_addr;{full.get('vips', '')} }}")
        if family == 6:
            sets.append(
                " set neighbor-discovery { type icmpv6_type; flags constant; "
                "elements = { nd-neighbor-solicit, nd-neighbor-advert } }"
            )
            kinds = [each for each in LOCAL_SETS.items() if each[0] in wanted.local]
            sets += [f" set {name} {{ type ipv6_addr . {kind};{full.get(name, '')} }}" for name, (kind, _) in kinds]
            for rules, word, way in ((incoming, "daddr", "in"), (outgoing, "saddr", "out")):
                rules.append(f"  icmpv6 type @neighbor-discovery {count}accept")
                rules.append(f"  ip6 {word} fe80::/10 goto {way}_link_local")
                through = (f"ip6 {word} . {way[0]}{meta} @{name} {count}drop;" for name, (_, meta) in kinds)
                sets.append(f" chain {way}_link_local {{ {' '.join(through)} }}")
        incoming.append(f"  {ip} daddr @vips {count}drop")
        outgoing.append(f"  {ip} saddr @vips {count}drop")
    for way, hook, rules in (("in", "input", incoming), ("out", "output", outgoing)):
        if rules:
            head = f"  type filter hook {hook} priority {settings.nftables_priority}; policy accept;"
            sets.append("\n".join((f" chain {way} {{", head, *rules, " }")))
    return sets

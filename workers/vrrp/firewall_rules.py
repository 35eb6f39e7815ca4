"""What accept mode and VMACs need to be filtered, and the tables of nftables for it (vrrp-behaviour.md 12)."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from keepalived_py.config.model import FirewallSettings, VrrpInstance
from keepalived_py.plan.links import AddressKey
from keepalived_py.values import IPAddress
from workers.nftables import FAMILIES


@dataclass(frozen=True, slots=True, order=True)
class Element:
    """A member of a set, or of a map when it has a value."""

    family: int
    set: str
    key: bytes
    value: bytes = b""


def vips(keys: Iterable[AddressKey]) -> frozenset[Element]:
    """Addresses to and from which nothing is let through; link-local ones on their interface only."""
    found = set()
    for key in keys:
        packed = key.address.packed
        if key.address.version == 6 and key.address.is_link_local:
            found.add(Element(6, "vips_link_local", packed + struct.pack("=I", key.ifindex)))
        else:
            found.add(Element(key.address.version, "vips", packed))
    return frozenset(found)


def vmac(family: int, index: int, parent: int) -> frozenset[Element]:
    """What sends reports of group membership out of the interface below a VMAC."""
    own, below = struct.pack("=I", index), struct.pack("=I", parent)
    found = {Element(family, "vmac_map", own, below)}
    if family == 6:
        found.add(Element(6, "vmac_set", own))
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class Needs:
    """What the tables must be able to do: families whose addresses may be closed, and that have VMACs."""

    closed: frozenset[int] = frozenset()
    vmacs: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.closed or self.vmacs)


def needs(instances: Iterable[VrrpInstance], igmp_off: bool) -> Needs:
    closed: set[int] = set()
    with_vmac: set[int] = set()
    for config in instances:
        if is_closed(config):
            closed |= {row.family for row in (*config.addresses, *config.excluded)}
        if config.vmac is not None and config.vmac.kind == "macvlan" and not (igmp_off and config.family == 4):
            with_vmac.add(config.family)
    return Needs(frozenset(closed), frozenset(with_vmac))


def closed_addresses(instances: Iterable[VrrpInstance]) -> frozenset[IPAddress]:
    """Addresses that must not answer on whichever router they are."""
    closed = (config for config in instances if is_closed(config))
    return frozenset(row.address for config in closed for row in (*config.addresses, *config.excluded))


def is_closed(config: VrrpInstance) -> bool:
    """Whether its addresses must not answer (RFC 9568 6.1, Accept_Mode)."""
    return not config.accept and not config.is_owner


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
    rest = "".join(f" . {index}" for (index,) in struct.iter_unpack("=I", element.key[16:]))
    return f"{ip_address(element.key[:16])}{rest}"


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
            sets.append(f" set vips_link_local {{ type ipv6_addr . iface_index;{full.get('vips_link_local', '')} }}")
            for rules, word, way in ((incoming, "daddr", "in"), (outgoing, "saddr", "out")):
                rules.append(f"  icmpv6 type @neighbor-discovery {count}accept")
                rules.append(f"  ip6 {word} fe80::/10 goto {way}_link_local")
            sets.append(f" chain in_link_local {{ ip6 daddr . iif @vips_link_local {count}drop; }}")
            sets.append(f" chain out_link_local {{ ip6 saddr . oif @vips_link_local {count}drop; }}")
        incoming.append(f"  {ip} daddr @vips {count}drop")
        outgoing.append(f"  {ip} saddr @vips {count}drop")
    for way, hook, rules in (("in", "input", incoming), ("out", "output", outgoing)):
        if rules:
            head = f"  type filter hook {hook} priority {settings.nftables_priority}; policy accept;"
            sets.append("\n".join((f" chain {way} {{", head, *rules, " }")))
    return sets

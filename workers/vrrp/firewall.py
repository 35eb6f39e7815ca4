"""Accept mode and the filters of VMACs in nftables (vrrp-behaviour.md 12).

Tables, chains and sets are made by nft(8) when a configuration is applied; becoming and leaving master only adds and
removes elements, by one netlink batch. Layouts: linux/netfilter/nf_tables.h, nfnetlink.h.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import chain

from keepalived_py.config.model import FirewallSettings, VrrpInstance
from keepalived_py.plan.links import AddressKey
from workers.nftables import FAMILIES, load

from .rtnetlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, NLMSG, NLMSG_ERROR, attribute, message, messages

logger = logging.getLogger(__name__)

NETLINK_NETFILTER, SUBSYSTEM = 12, 10
BATCH_BEGIN, BATCH_END = 0x10, 0x11
NEWSETELEM, DELSETELEM = SUBSYSTEM << 8 | 12, SUBSYSTEM << 8 | 14
NESTED = 0x8000
NFGENMSG = struct.Struct("!BBH")
LIST_TABLE, LIST_SET, LIST_ELEMENTS = 1, 2, 3
LIST_ELEMENT, ELEMENT_KEY, ELEMENT_DATA, DATA_VALUE = 1, 1, 2, 1
WITHOUT = "accept mode and VMAC filters are without effect"


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


def needs(instances: Iterable[VrrpInstance], igmp_off: bool) -> Needs:
    closed: set[int] = set()
    with_vmac: set[int] = set()
    for config in instances:
        if is_closed(config):
            closed |= {row.family for row in (*config.addresses, *config.excluded)}
        if config.vmac is not None and config.vmac.kind == "macvlan" and not (igmp_off and config.family == 4):
            with_vmac.add(config.family)
    return Needs(frozenset(closed), frozenset(with_vmac))


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


@dataclass(slots=True)
class Firewall:
    """The tables of this worker, and which elements are whose."""

    settings: FirewallSettings = field(default_factory=FirewallSettings)
    _made: Needs = field(default_factory=Needs)
    _elements: dict[Hashable, frozenset[Element]] = field(default_factory=dict)
    _sock: socket.socket | None = None

    async def configure(self, wanted: Needs, settings: FirewallSettings) -> None:
        """Make the tables that are needed, full from their first moment: not one packet gets through meanwhile."""
        if (wanted, settings) == (self._made, self.settings):
            return
        started = bool(self._made.closed or self._made.vmacs)
        self._made, self.settings = wanted, settings
        if not started and not (wanted.closed or wanted.vmacs):
            return
        await load(ruleset(wanted, settings, chain.from_iterable(self._elements.values())), WITHOUT)

    def expect(self, owner: Hashable, elements: frozenset[Element]) -> None:
        """`owner` has something to close already, left by a process before: the first table is made with it."""
        self._elements[owner] = elements

    def set(self, owner: Hashable, elements: frozenset[Element]) -> None:
        """`owner` wants these elements now, and none of those it wanted before."""
        before = self._elements.get(owner, frozenset())
        others = frozenset().union(*(found for key, found in self._elements.items() if key != owner))
        if elements:
            self._elements[owner] = elements
        else:
            self._elements.pop(owner, None)
        self._change(NEWSETELEM, sorted(elements - before - others))
        self._change(DELSETELEM, sorted(before - elements - others))

    async def close(self) -> None:
        """Take the tables away."""
        if self._made.closed or self._made.vmacs:
            await load(ruleset(Needs(), self.settings), WITHOUT)
        self._made = Needs()
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _change(self, kind: int, elements: list[Element]) -> None:
        if not elements:
            return
        if self._sock is None:
            flags = socket.SOCK_RAW | socket.SOCK_CLOEXEC
            self._sock = socket.socket(socket.AF_NETLINK, flags, NETLINK_NETFILTER)
            self._sock.setblocking(False)
        try:
            self._sock.send(encode(kind, elements, self.settings.nftables_table))
            refused = {code for code in self._answers() if code not in (errno.EEXIST, errno.ENOENT)}
        except OSError as exc:
            refused = {exc.errno or errno.EIO}
        for code in refused:
            logger.error("nftables table %s: %s", self.settings.nftables_table, os.strerror(code))

    def _answers(self) -> Iterable[int]:
        """The kernel answers before send returns."""
        assert self._sock is not None
        while True:
            try:
                data = self._sock.recv(1 << 16)
            except BlockingIOError:
                return
            for kind, _, _, body in messages(data):
                if kind == NLMSG_ERROR:
                    (code,) = struct.unpack_from("=i", body)
                    if code:
                        yield -code


def encode(kind: int, elements: Iterable[Element], table: str) -> bytes:
    """One batch: all or nothing."""
    by_set: dict[tuple[int, str], list[Element]] = {}
    for element in elements:
        by_set.setdefault((element.family, element.set), []).append(element)
    parts = [_message(BATCH_BEGIN, NLM_F_REQUEST, NFGENMSG.pack(socket.AF_UNSPEC, 0, SUBSYSTEM), 0)]
    create = NLM_F_CREATE if kind == NEWSETELEM else 0
    for number, ((family, name), members) in enumerate(by_set.items(), 1):
        body = NFGENMSG.pack(socket.AF_INET if family == 4 else socket.AF_INET6, 0, 0)
        body += attribute(LIST_TABLE, table.encode() + b"\0") + attribute(LIST_SET, name.encode() + b"\0")
        body += attribute(LIST_ELEMENTS | NESTED, b"".join(map(_element, members)))
        parts.append(_message(kind, NLM_F_REQUEST | NLM_F_ACK | create, body, number))
    parts.append(_message(BATCH_END, NLM_F_REQUEST, NFGENMSG.pack(socket.AF_UNSPEC, 0, SUBSYSTEM), len(by_set) + 1))
    return b"".join(parts)


def _message(kind: int, flags: int, body: bytes, sequence: int) -> bytes:
    plain = message(kind, flags, body)
    length, *_ = NLMSG.unpack_from(plain)
    return NLMSG.pack(length, kind, flags, sequence, 0) + body


def _element(element: Element) -> bytes:
    inner = attribute(ELEMENT_KEY | NESTED, attribute(DATA_VALUE, element.key))
    if element.value:
        inner += attribute(ELEMENT_DATA | NESTED, attribute(DATA_VALUE, element.value))
    return attribute(LIST_ELEMENT | NESTED, inner)

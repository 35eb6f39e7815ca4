"""Accept mode and the filters of VMACs as rules of iptables and members of sets (vrrp-behaviour.md 12)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address

from keepalived_py.config.model import FirewallSettings
from keepalived_py.records import dataclass
from keepalived_py.values import IPAddress

from .firewall_rules import BY_INDEX, BY_NAME, Element, Needs, Standing

CHAINS = IN, OUT, BELOW = "keepalived_in", "keepalived_out", "keepalived_below"
"""Our chains; the last one sends reports of group membership out of the interface below a VMAC."""
SETS = {
    "keepalived": "hash:ip family inet",
    "keepalived6": "hash:ip family inet6",
    "keepalived_if6": "hash:net,iface family inet6",
    "keepalived_igmp": "hash:net,iface family inet",
    "keepalived_mld": "hash:net,iface family inet6",
}
ADDRESS_SET, LINK_LOCAL_SET, VMAC_SET = {4: 0, 6: 1}, 2, {4: 3, 6: 4}
"""Places in SETS by family."""
GROUPS = {4: ip_address("224.0.0.0"), 6: ip_address("ff00::")}
GROUP_PREFIX = {4: 4, 6: 8}
NEIGHBOUR_TYPES, ROUTER_SOLICITATION = (135, 136), 133
REPORT = {4: "-p igmp", 6: "-p ipv6-icmp --icmpv6-type 143"}
ROUTERS = {4: "224.0.0.22", 6: "ff02::16"}
"""Where reports go: any group will do, since a copy keeps its destination."""


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """Of a set: `set` is the place of its name in SETS."""

    set: int
    address: IPAddress
    prefix: int
    interface: str = ""

    def __str__(self) -> str:
        net = f"{self.address}/{self.prefix}" if self.prefix < self.address.max_prefixlen else str(self.address)
        return ",".join(filter(None, (net, self.interface)))


class Interfaces(dict[int, str]):
    """Names by index, also of those that went."""

    def __missing__(self, index: int) -> str:
        with suppress(OSError):
            self[index] = socket.if_indextoname(index)
            return self[index]
        return ""

    def of(self, key: bytes) -> str:
        return self[struct.unpack("=I", key)[0]]


def members(elements: Iterable[Element], names: Interfaces) -> set[Member]:
    """The elements of our tables as members of sets."""
    found = set()
    for element in elements:
        family = element.family
        if element.set == "vips":
            found.add(Member(ADDRESS_SET[family], ip_address(element.key), len(element.key) * 8))
        elif element.set in (BY_INDEX, BY_NAME):
            where = element.key[16:]
            name = names.of(where) if element.set == BY_INDEX else where.rstrip(b"\0").decode()
            found.add(Member(LINK_LOCAL_SET, ip_address(element.key[:16]), 128, name))
        elif element.set == "vmac_map":
            found.add(Member(VMAC_SET[family], GROUPS[family], GROUP_PREFIX[family], names.of(element.key)))
    return {each for each in found if each.set < LINK_LOCAL_SET or each.interface}


def below(elements: Iterable[Element], names: Interfaces) -> set[tuple[int, str, str]]:
    """Families and names of VMACs, and the interfaces below."""
    found = {(e.family, names.of(e.key), names.of(e.value)) for e in elements if e.set == "vmac_map"}
    return {each for each in found if all(each)}


def set_names(settings: FirewallSettings) -> tuple[str, ...]:
    return (settings.ipset_names or tuple(SETS))[: len(SETS)] if settings.ipsets else ()


def sets_text(names: Iterable[str], content: Iterable[Member]) -> str:
    """For `ipset restore`: every set is filled aside and put in place at once."""
    filled = sorted(content)
    lines = []
    for number, (name, type_of) in enumerate(zip(names, SETS.values(), strict=False)):
        aside = f"{name}_"
        lines += [f"create {name} {type_of} -exist", f"create {aside} {type_of} -exist", f"flush {aside}"]
        lines += [f"add {aside} {each}" for each in filled if each.set == number]
        lines += [f"swap {aside} {name}", f"destroy {aside}"]
    return "\n".join(lines) + "\n"


def filters(
    family: int,
    wanted: Needs,
    names: Sequence[str],
    content: Collection[Member],
    beforehand: Standing,
) -> Iterator[str]:
    """Rules of our chains. `names` are those of the sets; without them each address and interface has rules."""
    parents = {vmac: parent for of, vmac, parent in sorted(beforehand.vmacs) if of == family}
    if family in wanted.vmacs:
        yield f"-A {OUT} {REPORT[family]} -j {BELOW}"
        yield from (f"-A {BELOW} -o {vmac} -j {copies(family, parent)}" for vmac, parent in parents.items())
        places = [f"-o {vmac}" for vmac in parents]
        if names:
            places = [f"-m set --match-set {names[VMAC_SET[family]]} dst,dst"]
        yield from (f"-A {BELOW} {place} -j DROP" for place in places)
        if family == 6:
            solicitation = f"-p ipv6-icmp --icmpv6-type {ROUTER_SOLICITATION}"
            yield from (f"-A {OUT} {solicitation} {place} -j DROP" for place in places)
    if family not in wanted.closed:
        return
    for chain, flag, to, through in ((IN, "-d", "dst", "src"), (OUT, "-s", "src", "dst")):
        if family == 6:
            yield from (f"-A {chain} -p ipv6-icmp --icmpv6-type {each} -j RETURN" for each in NEIGHBOUR_TYPES)
        if not names:
            link = "-i" if chain == IN else "-o"
            own = (each for each in sorted(beforehand.closed) if each[0].version == family)
            for address, interface in own:
                places = [f"{link} {name} " for name in _through(address, interface, content, parents)] or [""]
                yield from (f"-A {chain} {place}{flag} {address} -j DROP" for place in places)
            continue
        if family == 6:
            yield f"-A {chain} -m set --match-set {names[LINK_LOCAL_SET]} {to},{through} -j DROP"
        yield f"-A {chain} -m set --match-set {names[ADDRESS_SET[family]]} {to} -j DROP"


def copies(family: int, parent: str) -> str:
    """The target that sends a copy out of another interface."""
    return f"TEE --gateway {ROUTERS[family]} --oif {parent}"


def _through(
    address: IPAddress, interface: str, content: Iterable[Member], parents: Mapping[str, str]
) -> Iterable[str]:
    """The interfaces on which a link-local address may be: its own, VMACs above, and where it is."""
    if not interface:
        return ()  # not a link-local one
    held = {each.interface for each in content if each.set == LINK_LOCAL_SET and each.address == address}
    return sorted({interface, *held, *(vmac for vmac, parent in parents.items() if parent == interface)})


def jumps(settings: FirewallSettings) -> dict[str, str]:
    """Our chains by the rule that leads there."""
    return {f"{at} -j {chain}": chain for at, chain in ((settings.iptables_in, IN), (settings.iptables_out, OUT)) if at}


def jumps_in(listed: str) -> list[str]:
    """The rules that lead to our chains from others."""
    ends = f" -j {IN}", f" -j {OUT}"
    return [line.removeprefix("-A ") for line in ours_in(listed) if line.startswith("-A ") and line.endswith(ends)]


def ours_in(listed: str) -> list[str]:
    """What of `iptables -S` is ours."""
    return [line for line in listed.splitlines() if set(CHAINS).intersection(line.split())]

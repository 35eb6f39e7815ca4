"""What a configuration is compared with on this machine: interfaces, their MTU, and the networks on them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import field
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from keepalived_py.records import dataclass

Network = IPv4Network | IPv6Network
GATEWAY = 0x2
"""RTF_GATEWAY: the route does not lead to neighbours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What is known; nothing is said about what is not. `interfaces` None: not looked at."""

    interfaces: frozenset[str] | None = None
    mtus: dict[str, int] = field(default_factory=dict)
    networks: dict[str, tuple[Network, ...]] = field(default_factory=dict)
    """Directly connected networks by interface."""


def this_machine(root: Path = Path("/")) -> Machine:
    """The network namespace this process is in. Needs no privileges; what cannot be read is left out."""
    names = frozenset(name for _, name in socket.if_nameindex())
    networks: dict[str, list[Network]] = {}
    for name, network in (*_ipv4(root), *_ipv6(root)):
        networks.setdefault(name, []).append(network)
    mtus = {name: mtu for name in names if (mtu := _mtu(root, name))}
    return Machine(interfaces=names, mtus=mtus, networks={name: tuple(found) for name, found in networks.items()})


def _lines(path: Path) -> list[list[str]]:
    try:
        return [text.split() for text in path.read_text("utf-8", "surrogateescape").splitlines()]
    except OSError:
        return []


def _ipv4(root: Path) -> Iterator[tuple[str, Network]]:
    """/proc/net/route: addresses and masks as hexadecimal numbers in host order."""
    for fields in _lines(root / "proc/net/route")[1:]:
        flags, mask = int(fields[3], 16), socket.ntohl(int(fields[7], 16))
        if not flags & GATEWAY and mask:
            yield fields[0], IPv4Network((socket.ntohl(int(fields[1], 16)), mask.bit_count()))


def _ipv6(root: Path) -> Iterator[tuple[str, Network]]:
    """/proc/net/ipv6_route: destination, prefix length, ..., next hop, ..., flags, interface."""
    for fields in _lines(root / "proc/net/ipv6_route"):
        length = int(fields[1], 16)
        if not int(fields[8], 16) & GATEWAY and 0 < length < 128:
            yield fields[9], ip_network((bytes.fromhex(fields[0]), length))


def _mtu(root: Path, name: str) -> int:
    try:
        return int((root / "sys/class/net" / name / "mtu").read_text())
    except (OSError, ValueError):
        return 0

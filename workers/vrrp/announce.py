"""Gratuitous ARP (RFC 5227, RFC 9568 section 8.1.2) and unsolicited neighbour advertisements (RFC 4861 section 7.2.6).

Frames are built once per address and sent from packet sockets, so no address lookup or kernel queue is in the way.
"""

from __future__ import annotations

import errno
import logging
import socket
import struct
from collections.abc import Iterable

from keepalived_py.plan.links import AddressKey
from keepalived_py.values import IPAddress
from keepalived_py.vrrp.packet import internet_checksum

from .rtnetlink import IFF_NOARP, Link

logger = logging.getLogger(__name__)

ETH_P_ARP, ETH_P_IPV6 = 0x0806, 0x86DD
BROADCAST = b"\xff" * 6
ALL_NODES_MAC = b"\x33\x33\x00\x00\x00\x01"
ALL_NODES = socket.inet_pton(socket.AF_INET6, "ff02::1")
ICMPV6, ND_NEIGHBOR_ADVERT = 58, 136
NA_ROUTER, NA_OVERRIDE = 0x80, 0x20
TARGET_LINK_LAYER_OPTION = b"\x02\x01"


def gratuitous_arp(address: IPAddress, mac: bytes) -> bytes:
    """An ARP request for our own address, to everybody."""
    arp = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, mac, address.packed, BROADCAST, address.packed)
    return BROADCAST + mac + ETH_P_ARP.to_bytes(2) + arp


def unsolicited_na(address: IPAddress, mac: bytes, router: bool) -> bytes:
    """A neighbour advertisement to all nodes: override set, solicited clear."""
    flags = NA_OVERRIDE | (NA_ROUTER if router else 0)
    body = struct.pack(
        "!BBHBxxx16s2s6s", ND_NEIGHBOR_ADVERT, 0, 0, flags, address.packed, TARGET_LINK_LAYER_OPTION, mac
    )
    pseudo = address.packed + ALL_NODES + struct.pack("!IxxxB", len(body), ICMPV6)
    body = body[:2] + internet_checksum(pseudo + body).to_bytes(2) + body[4:]
    header = struct.pack("!IHBB16s16s", 0x60000000, len(body), ICMPV6, 255, address.packed, ALL_NODES)
    return ALL_NODES_MAC + mac + ETH_P_IPV6.to_bytes(2) + header + body


def announced(frame: bytes) -> bytes:
    """The address that a frame of ours announces, packed."""
    return frame[38:42] if int.from_bytes(frame[12:14]) == ETH_P_ARP else frame[62:78]


def forwards_ipv6(interface: str) -> bool:
    """Whether the interface is a router's: the R flag of its neighbour advertisements."""
    try:
        with open(f"/proc/sys/net/ipv6/conf/{interface}/forwarding", "rb") as file:
            return file.read(1) == b"1"
    except OSError:
        return False


Frames = list[tuple[str, bytes]]
"""Interface and Ethernet frame."""


class Announcer:
    """Sends frames. One packet socket serves all interfaces."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
        self.sent = 0
        self.lost = 0

    def frames(self, keys: Iterable[AddressKey], links: dict[int, Link]) -> Frames:
        """Interface and frame for every address that can be announced."""
        found = []
        router: dict[str, bool] = {}
        for key in keys:
            link = links.get(key.ifindex)
            if link is None or link.flags & IFF_NOARP or len(link.mac) != 6:
                continue
            if key.address.version == 4:
                found.append((link.name, gratuitous_arp(key.address, link.mac)))
            else:
                if link.name not in router:
                    router[link.name] = forwards_ipv6(link.name)
                found.append((link.name, unsolicited_na(key.address, link.mac, router[link.name])))
        return found

    def send(self, frames: Frames) -> Frames:
        """Send in order; what a full queue did not take. A frame for an interface that is gone or down is lost."""
        send = self._sock.sendto
        for number, (interface, frame) in enumerate(frames):
            try:
                send(frame, (interface, 0))
            except OSError as exc:
                if exc.errno in (errno.EAGAIN, errno.ENOBUFS):
                    self.sent += number
                    return frames[number:]
                self.lost += 1
        self.sent += len(frames)
        return []

    def close(self) -> None:
        self._sock.close()

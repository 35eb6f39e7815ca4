"""PING_CHECK: an ICMP echo comes back (checker-behaviour.md 4).

The kernel's sockets for echoes (SOCK_DGRAM) need the group to be in net.ipv4.ping_group_range; else raw ones, which
need CAP_NET_RAW and get everybody's ICMP from the target, so that identifier and sequence number are compared.
"""

from __future__ import annotations

import itertools
import os
import socket
import struct
from dataclasses import replace

from keepalived_py.config.model import Endpoint, PingCheck
from keepalived_py.records import dataclass

from .probe import CheckNotMade, connect, open_socket, receive, send
from .udp import filler

HEADER = struct.Struct("!BBHHH")
FILLER = filler(128)
ECHO = {4: (8, 0), 6: (128, 129)}
"""Types of request and reply by IP version (RFC 792, RFC 4443)."""
ICMP_FILTER = 1
RAW, ICMPV6_FILTER = 255, 1
PACKET_LIMIT = 60 + HEADER.size + len(FILLER) + 1

_sequence = itertools.count(1)


@dataclass(frozen=True, slots=True)
class PingChecker:
    config: PingCheck
    name: str = "PING_CHECK"

    @property
    def limit(self) -> float:
        return self.config.timing.connect_timeout

    async def check(self) -> None:
        endpoint = replace(self.config.endpoint, port=0)
        sock = open_icmp_socket(endpoint)
        raw = sock.type == socket.SOCK_RAW
        identifier, sequence = (os.getpid() & 0xFFFF) if raw else 0, next(_sequence) & 0xFFFF
        version = endpoint.address.version
        with sock:
            await connect(sock, endpoint)
            await send(sock, echo_request(version, identifier, sequence))
            while True:
                packet = await receive(sock, PACKET_LIMIT)
                if is_reply(packet, version, sequence, identifier if raw else None):
                    return


def open_icmp_socket(endpoint: Endpoint) -> socket.socket:
    """Raises CheckNotMade."""
    protocol = socket.IPPROTO_ICMP if endpoint.address.version == 4 else socket.IPPROTO_ICMPV6
    try:
        return open_socket(endpoint, socket.SOCK_DGRAM, protocol)
    except CheckNotMade as excuse:
        if not isinstance(excuse.__cause__, PermissionError):
            raise
    try:
        sock = open_socket(endpoint, socket.SOCK_RAW, protocol)
    except CheckNotMade as excuse:
        if isinstance(excuse.__cause__, PermissionError):
            raise CheckNotMade(f"{excuse}; CAP_NET_RAW is missing") from excuse
        raise
    _pass_only_replies(sock, endpoint.address.version)
    return sock


def _pass_only_replies(sock: socket.socket, version: int) -> None:
    """The bits of the filters are the types that are kept out (linux/icmp.h, RFC 3542 3.2)."""
    reply = ECHO[version][1]
    if version == 4:
        sock.setsockopt(RAW, ICMP_FILTER, struct.pack("=I", 0xFFFFFFFF & ~(1 << reply)))
    else:
        words = [0xFFFFFFFF] * 8
        words[reply // 32] &= ~(1 << reply % 32)
        sock.setsockopt(socket.IPPROTO_ICMPV6, ICMPV6_FILTER, struct.pack("=8I", *words))


def echo_request(version: int, identifier: int, sequence: int) -> bytes:
    """With its checksum for IPv4; the kernel makes that of IPv6."""
    kind = ECHO[version][0]
    plain = HEADER.pack(kind, 0, 0, identifier, sequence) + FILLER
    if version == 6:
        return plain
    return HEADER.pack(kind, 0, _checksum(plain), identifier, sequence) + FILLER


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def is_reply(packet: bytes, version: int, sequence: int, identifier: int | None) -> bool:
    """`identifier` None: the kernel has looked at it. A raw IPv4 socket gives the IP header too."""
    if version == 4 and identifier is not None:
        packet = packet[(packet[0] & 0x0F) * 4 :] if packet else packet
    if len(packet) < HEADER.size:
        return False
    kind, code, _, found, number = HEADER.unpack_from(packet)
    return (kind, code, number) == (ECHO[version][1], 0, sequence) and identifier in (None, found)

"""Which other routers are there: whoever was heard, and whoever says that it listens to the group of VRRP."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Container

from keepalived_py.values import IPAddress, IPv4Address, IPv6Address
from keepalived_py.vrrp.membership import (
    MLD_V1_DONE,
    MLD_V1_REPORT,
    MLD_V2_REPORT,
    igmp_reports,
    mld_reports,
)

from .sockets import IP_MULTICAST_ALL, IPV6_MULTICAST_ALL, ReceiverKey

logger = logging.getLogger(__name__)

IGMP_REPORTS_TO, MLD_REPORTS_TO = IPv4Address("224.0.0.22"), IPv6Address("ff02::16")
"""Where hosts send reports of the current versions; older ones go to the group itself."""
ICMP6_FILTER = 1
RECEIVE_SIZE = 9000
MAX_PER_WAKEUP = 64
REMEMBERED = 64
"""Routers of one link; more tell nothing new."""


class Audience:
    """One per worker. Links are known by the receiver that hears VRRP there."""

    def __init__(self) -> None:
        self._sockets: dict[ReceiverKey, socket.socket] = {}
        self._routers: dict[ReceiverKey, set[IPAddress]] = {}

    def attend(self, key: ReceiverKey, interface: str) -> None:
        """Hear reports on the link of `key`; without them only routers that send adverts are known there."""
        if key.group is None:
            return
        try:
            sock = _socket(key.family, interface)
            try:
                _join(sock, key.family, key.ifindex, key.group)
            except OSError:
                sock.close()
                raise
        except OSError as exc:
            logger.debug("reports of group membership on %s: %s", interface, exc.strerror)
            return
        self._sockets[key] = sock
        asyncio.get_running_loop().add_reader(sock, self._drain, key, key.group)

    def ignore(self, key: ReceiverKey) -> None:
        self._routers.pop(key, None)
        sock = self._sockets.pop(key, None)
        if sock is not None:
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()

    def heard(self, key: ReceiverKey, router: IPAddress) -> None:
        """Another router sent an advert."""
        routers = self._routers.setdefault(key, set())
        if len(routers) < REMEMBERED:
            routers.add(router)

    def others(self, key: ReceiverKey, own: Container[IPAddress]) -> bool:
        """There is a router that has none of the `own` addresses: our own reports come back to us."""
        return any(router not in own for router in self._routers.get(key, ()))

    def _drain(self, key: ReceiverKey, group: IPAddress) -> None:
        sock = self._sockets[key]
        for _ in range(MAX_PER_WAKEUP):
            try:
                data, sender = sock.recvfrom(RECEIVE_SIZE)
            except OSError:
                return
            if key.family == 4:
                reports = igmp_reports(data[(data[0] & 0xF) * 4 :])
                source: IPAddress = IPv4Address(data[12:16])
            else:
                reports, source = mld_reports(data), IPv6Address(sender[0].partition("%")[0])
            for reported, joined in reports:
                if reported == group and joined:
                    self.heard(key, source)
                elif reported == group:
                    self._routers.get(key, set()).discard(source)


def _socket(family: int, interface: str) -> socket.socket:
    """Raises OSError."""
    domain, protocol = (
        (socket.AF_INET, socket.IPPROTO_IGMP) if family == 4 else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
    )
    sock = socket.socket(domain, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
    return sock


def _join(sock: socket.socket, family: int, ifindex: int, group: IPAddress) -> None:
    """Raises OSError."""
    if family == 4:
        sock.setsockopt(socket.IPPROTO_IP, IP_MULTICAST_ALL, 0)
        for each in (IGMP_REPORTS_TO, group):
            request = struct.pack("=4s4si", each.packed, bytes(4), ifindex)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        return
    wanted = (MLD_V1_REPORT, MLD_V1_DONE, MLD_V2_REPORT)
    blocked = [0xFFFFFFFF & ~sum(1 << kind % 32 for kind in wanted if kind // 32 == word) for word in range(8)]
    sock.setsockopt(socket.IPPROTO_ICMPV6, ICMP6_FILTER, struct.pack("=8I", *blocked))
    sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0)
    for each in (MLD_REPORTS_TO, group):
        request = struct.pack("=16sI", each.packed, ifindex)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)

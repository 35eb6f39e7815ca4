"""Raw sockets of VRRP: a receiver per interface, family, protocol and kind of cast; a sender per instance."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from keepalived_py.config.model import VrrpInstance
from keepalived_py.values import IPAddress, IPv6Address
from keepalived_py.vrrp.auth import AH_SIZE, next_sequence, seal
from keepalived_py.vrrp.examiner import Examiner
from keepalived_py.vrrp.packet import (
    IPPROTO_AH,
    IPPROTO_VRRP,
    TOS_INTERNETWORK_CONTROL,
    TTL,
    Datagram,
    PacketError,
    ipv4_header,
    parse_ipv4,
)

logger = logging.getLogger(__name__)

IP_FREEBIND = 15
SO_ATTACH_FILTER = 26
BPF_RETURN = 0x06
IP_MULTICAST_ALL = 49
IPV6_MULTICAST_ALL = 29
IPV6_FREEBIND = 78
RECEIVE_SIZE = 65536
MAX_PER_WAKEUP = 256
"""Datagrams taken from one socket before other sockets get their turn."""


@dataclass(frozen=True, slots=True)
class ReceiverKey:
    """What tells receivers apart. `source` is set for unicast."""

    ifindex: int
    family: int
    protocol: int
    group: IPAddress | None
    source: IPAddress | None


class Receiver:
    """One receiving socket; `drain` hands every waiting datagram to `deliver`."""

    def __init__(
        self,
        key: ReceiverKey,
        interface: str,
        deliver: Callable[[ReceiverKey, Datagram], None],
        malformed: Callable[[ReceiverKey, PacketError], None],
    ) -> None:
        self.key = key
        self._deliver, self._malformed = deliver, malformed
        domain = socket.AF_INET if key.family == 4 else socket.AF_INET6
        self.sock = socket.socket(domain, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, key.protocol)
        try:
            self._set_up(interface)
        except OSError:
            self.sock.close()
            raise

    def _set_up(self, interface: str) -> None:
        sock, key = self.sock, self.key
        if interface:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
        if key.family == 4:
            sock.setsockopt(socket.IPPROTO_IP, IP_MULTICAST_ALL, 0)
            if key.group is not None:
                request = struct.pack("=4s4si", key.group.packed, bytes(4), key.ifindex)
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            if key.group is not None:
                request = struct.pack("=16sI", key.group.packed, key.ifindex)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
        if key.source is not None:
            if key.family == 4:
                sock.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
                sock.bind((str(key.source), 0))
            else:
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
                scope = key.ifindex if key.source.is_link_local else 0
                sock.bind((str(key.source), 0, 0, scope))

    def drain(self) -> None:
        """Read until the socket is empty, within reason."""
        for _ in range(MAX_PER_WAKEUP):
            try:
                data, ancillary, _, sender = self.sock.recvmsg(RECEIVE_SIZE, 256)
            except BlockingIOError:
                return
            except OSError as exc:
                logger.debug("receiving: %s", exc.strerror)
                return
            try:
                datagram = parse_ipv4(data) if self.key.family == 4 else _ipv6(data, ancillary, sender)
            except PacketError as exc:
                self._malformed(self.key, exc)
                continue
            self._deliver(self.key, datagram)

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self.sock)
        self.sock.close()


def _ipv6(data: bytes, ancillary: list[tuple[int, int, bytes]], sender: tuple[str, int, int, int]) -> Datagram:
    """IPv6 delivers the payload; hop limit and destination come beside it."""
    ttl, destination = 0, IPv6Address(0)
    for level, kind, value in ancillary:
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_HOPLIMIT:
            (ttl,) = struct.unpack("=i", value[:4])
        elif level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            destination = IPv6Address(value[:16])
    return Datagram(IPv6Address(sender[0].partition("%")[0]), destination, ttl, data)


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_void_p))


def _deafen(sock: socket.socket) -> None:
    """A raw IPv6 socket hears all VRRP there is; this one only sends, so a filter drops everything in the kernel."""
    program = ctypes.create_string_buffer(struct.pack("=HBBI", BPF_RETURN, 0, 0, 0))
    fprog = _Filter(1, ctypes.cast(program, ctypes.c_void_p))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, bytes(fprog))


class Sender:
    """Sends the adverts of one instance. Messages are encoded once per priority and destination and kept."""

    def __init__(
        self, config: VrrpInstance, ifindex: int, interface: str, source: IPAddress, examiner: Examiner
    ) -> None:
        self.config, self.source, self.ifindex, self._examiner = config, source, ifindex, examiner
        self._old_checksum = examiner.old_checksum
        self._identification = 0
        self._messages: dict[tuple[int, IPAddress], bytes] = {}
        domain = socket.AF_INET if config.family == 4 else socket.AF_INET6
        proto = socket.IPPROTO_RAW if config.family == 4 else IPPROTO_VRRP
        self._sock = socket.socket(domain, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, proto)
        self._destinations: tuple[IPAddress, ...] = tuple(peer.address for peer in config.unicast_peers)
        if config.mcast_group is not None:
            self._destinations = (config.mcast_group,)
        self._set_up(interface)
        for priority in (config.priority, 0):
            self.prepare(priority)

    def _set_up(self, interface: str) -> None:
        sock, config = self._sock, self.config
        if interface:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, 6)
        if config.family == 4:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
            sock.setsockopt(
                socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("=4s4si", bytes(4), bytes(4), self.ifindex)
            )
            return
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, self.ifindex)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, TTL)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, TOS_INTERNETWORK_CONTROL)
        if config.unicast_ttl is not None:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, config.unicast_ttl)
        _deafen(sock)

    def prepare(self, priority: int) -> None:
        """Encode ahead what an advert of `priority` will need."""
        if self._old_checksum != self._examiner.old_checksum:
            self._old_checksum = self._examiner.old_checksum
            self._messages.clear()
        for destination in self._destinations:
            if (priority, destination) not in self._messages:
                self._messages[priority, destination] = self._examiner.message(priority, self.source, destination)

    def send(self, priority: int) -> str:
        """Send one advert to every destination; what went wrong, "" when nothing did."""
        if self.config.authentication is not None and self.config.authentication.auth_type == "ah":
            self._examiner.sequence = next_sequence(self._examiner.sequence)
        errors = []
        for destination in self._destinations:
            try:
                self._send_to(priority, destination)
            except OSError as exc:
                if not (priority == 0 and exc.errno in (errno.ENETUNREACH, errno.ENETDOWN)):
                    errors.append(f"{destination}: {exc.strerror}")
        return ", ".join(errors)

    def _send_to(self, priority: int, destination: IPAddress) -> None:
        self.prepare(priority)
        message = self._messages[priority, destination]
        message += self._examiner.trailer(message, self.source, time.time())
        if self.config.family == 4:
            self._sock.sendto(self._ipv4(message, destination), (str(destination), 0))
            return
        info = struct.pack("=16sI", self.source.packed, self.ifindex)
        ancillary = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, info)]
        local = destination.is_link_local or destination.is_multicast
        address = (str(destination), 0, 0, self.ifindex if local else 0)
        self._sock.sendmsg([message], ancillary, 0, address)

    def _ipv4(self, message: bytes, destination: IPAddress) -> bytes:
        self._identification = self._identification % 0xFFFF + 1
        unicast = not destination.is_multicast
        ttl = self.config.unicast_ttl if unicast and self.config.unicast_ttl is not None else TTL
        own = self.config.authentication
        if own is None or own.auth_type != "ah":
            return (
                ipv4_header(self.source, destination, len(message), ttl, self._identification, IPPROTO_VRRP) + message
            )
        header = ipv4_header(self.source, destination, AH_SIZE + len(message), ttl, self._identification, IPPROTO_AH)
        return header + seal(header, self._examiner.sequence, message, own.password, unicast) + message

    def close(self) -> None:
        self._sock.close()

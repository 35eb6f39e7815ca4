"""Raw sockets of VRRP: a receiver per interface, family, protocol and kind of cast; a sender per instance."""

from __future__ import annotations

import ctypes
import errno
import logging
import socket
import struct
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from keepalived_py.config.model import VrrpInstance
from keepalived_py.records import dataclass
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
from workers import netlink

logger = logging.getLogger(__name__)

IP_FREEBIND = 15
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
BPF_SIZE = 8
BPF_RETURN, BPF_JUMP_EQUAL = 0x06, 0x15
BPF_LOAD_BYTE, BPF_LOAD_BYTE_BEHIND, BPF_LOAD_HEADER_SIZE = 0x30, 0x50, 0xB1
"""From a fixed offset; from one behind the IPv4 header; the size of that header."""
IP_MULTICAST_ALL = 49
IPV6_MULTICAST_ALL = 29
IPV6_FREEBIND = 78
RECEIVE_SIZE = 65536
MAX_PER_WAKEUP = 256
"""Datagrams taken from one socket before other sockets get their turn; the default buffer holds about as many."""
PARSED_REMEMBERED = 1024
ADVERTS_PER_VRID, ADVERT_ROOM = 5, 1024
"""What a buffer holds for each VRID: more adverts than a master down interval has, and the bytes that one takes."""


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
        malformed: Callable[[ReceiverKey, str, PacketError], None],
    ) -> None:
        self.key = key
        self._deliver, self._malformed = deliver, malformed
        self._limit = MAX_PER_WAKEUP
        self._room = MAX_PER_WAKEUP * ADVERT_ROOM
        self._parsed: dict[bytes, Datagram] = {}
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
        for _ in range(self._limit):
            try:
                data, ancillary, _, sender = self.sock.recvmsg(RECEIVE_SIZE, 256)
            except BlockingIOError:
                return
            except OSError as exc:
                logger.debug("receiving: %s", exc.strerror)
                return
            try:
                datagram = self._ipv4(data) if self.key.family == 4 else _ipv6(data, ancillary, sender)
            except PacketError as exc:
                self._malformed(self.key, sender[0], exc)
                continue
            self._deliver(self.key, datagram)

    def _ipv4(self, data: bytes) -> Datagram:
        """Taken apart once for packets that differ in identification and header checksum only. Raises PacketError."""
        if self.key.protocol == IPPROTO_AH:
            return parse_ipv4(data)
        same = data[:4] + data[6:10] + data[12:]
        found = self._parsed.get(same)
        if found is None:
            found = parse_ipv4(data)
            if len(self._parsed) >= PARSED_REMEMBERED:
                self._parsed.clear()
            self._parsed[same] = found
        return found

    def make_room(self, vrids: int, asked: int = 0) -> None:
        """For the adverts of so many VRIDs: what waits during a stall must not be lost, nor taken for silence.

        `asked` is what the configuration wants, in bytes: more is given, not less.
        """
        self._limit = max(self._limit, vrids * ADVERTS_PER_VRID)
        size = max(self._limit * ADVERT_ROOM, asked)
        if size > self._room:
            self._room = size
            with suppress(OSError):
                netlink.make_room(self.sock, size)

    def hear_only(self, vrids: Iterable[int] | None) -> None:
        """Let the kernel drop adverts for other VRIDs, so that they wake nobody; None: hear all."""
        if vrids is None:
            with suppress(OSError):  # there may be none
                self.sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
            return
        _attach(self.sock, vrid_filter(vrids, self.key.family, self.key.protocol))

    def close(self) -> None:
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


def vrid_filter(vrids: Iterable[int], family: int, protocol: int) -> bytes:
    """A classic BPF program that passes packets for `vrids`; one that is too short for a VRID does not pass.

    A raw IPv4 socket sees the IP header, a raw IPv6 socket what comes behind it.
    """
    wanted = sorted(set(vrids))
    offset = 1 + (AH_SIZE if protocol == IPPROTO_AH else 0)
    if family == 4:
        head = [(BPF_LOAD_HEADER_SIZE, 0, 0, 0), (BPF_LOAD_BYTE_BEHIND, 0, 0, offset)]
    else:
        head = [(BPF_LOAD_BYTE, 0, 0, offset)]
    compare = [(BPF_JUMP_EQUAL, len(wanted) - number, 0, vrid) for number, vrid in enumerate(wanted)]
    tail = [(BPF_RETURN, 0, 0, 0), (BPF_RETURN, 0, 0, 0xFFFFFFFF)]
    return b"".join(struct.pack("=HBBI", *each) for each in (*head, *compare, *tail))


def _attach(sock: socket.socket, program: bytes) -> None:
    buffer = ctypes.create_string_buffer(program)
    fprog = _Filter(len(program) // BPF_SIZE, ctypes.cast(buffer, ctypes.c_void_p))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, bytes(fprog))


def _deafen(sock: socket.socket) -> None:
    """A raw IPv6 socket hears all VRRP there is; this one only sends, so a filter drops everything in the kernel."""
    _attach(sock, struct.pack("=HBBI", BPF_RETURN, 0, 0, 0))


@dataclass(frozen=True, slots=True)
class _Ready:
    """An advert for one destination. `front` and `back`: the IPv4 header around its identification."""

    destination: IPAddress
    target: tuple[str, int] | tuple[str, int, int, int]
    message: bytes
    front: bytes = b""
    back: bytes = b""


class Sender:
    """Sends the adverts of one instance. Messages are encoded once per priority and destination and kept."""

    def __init__(
        self, config: VrrpInstance, ifindex: int, interface: str, source: IPAddress, examiner: Examiner
    ) -> None:
        self.config, self.source, self.ifindex, self._examiner = config, source, ifindex, examiner
        self._old_checksum = examiner.old_checksum
        self._identification = 0
        self._ready: dict[int, list[_Ready]] = {}
        own = config.authentication
        self._seals = own is not None and own.auth_type == "ah"
        self._ancillary = (
            []
            if config.family == 4
            else [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, struct.pack("=16sI", source.packed, ifindex))]
        )
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

    def prepare(self, priority: int) -> list[_Ready]:
        """Encode ahead what an advert of `priority` will need."""
        if self._old_checksum != self._examiner.old_checksum:
            self._old_checksum = self._examiner.old_checksum
            self._ready.clear()
        ready = self._ready.get(priority)
        if ready is None:
            ready = self._ready[priority] = [self._encode(priority, each) for each in self._destinations]
        return ready

    def _encode(self, priority: int, destination: IPAddress) -> _Ready:
        message = self._examiner.message(priority, self.source, destination)
        if self.config.family == 4:
            header = self._header(destination, len(message), 0, IPPROTO_VRRP)
            return _Ready(destination, (str(destination), 0), message, header[:4], header[6:])
        local = destination.is_link_local or destination.is_multicast
        return _Ready(destination, (str(destination), 0, 0, self.ifindex if local else 0), message)

    def _header(self, destination: IPAddress, size: int, identification: int, protocol: int) -> bytes:
        unicast = not destination.is_multicast
        ttl = self.config.unicast_ttl if unicast and self.config.unicast_ttl is not None else TTL
        return ipv4_header(self.source, destination, size, ttl, identification, protocol)

    def send(self, priority: int) -> str:
        """Send one advert to every destination; what went wrong, "" when nothing did."""
        if self._seals:
            self._examiner.sequence = next_sequence(self._examiner.sequence)
        errors = []
        for ready in self.prepare(priority):
            try:
                self._send(ready)
            except OSError as exc:
                if not (priority == 0 and exc.errno in (errno.ENETUNREACH, errno.ENETDOWN)):
                    errors.append(f"{ready.destination}: {exc.strerror}")
        return ", ".join(errors)

    def _send(self, ready: _Ready) -> None:
        message = ready.message
        if self.config.auth_hmac is not None:
            message += self._examiner.trailer(message, self.source, time.time())
        if self.config.family == 6:
            self._sock.sendmsg([message], self._ancillary, 0, ready.target)
            return
        number = self._identification = self._identification % 0xFFFF + 1
        if self._seals:
            packet = self._sealed(ready.destination, message)
        elif message is ready.message:
            packet = ready.front + number.to_bytes(2) + ready.back + message
        else:
            packet = self._header(ready.destination, len(message), number, IPPROTO_VRRP) + message
        self._sock.sendto(packet, ready.target)

    def _sealed(self, destination: IPAddress, message: bytes) -> bytes:
        """With IP and authentication header."""
        own = self.config.authentication
        assert own is not None
        header = self._header(destination, AH_SIZE + len(message), self._identification, IPPROTO_AH)
        return header + seal(header, self._examiner.sequence, message, own.password, self.config.unicast) + message

    @property
    def descriptor(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()

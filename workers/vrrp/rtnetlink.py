"""The little of rtnetlink that VRRP needs on its hot path, as bytes: messages are encoded once and sent in batches.

pyroute2 costs about 100 us a message; becoming master with 4,000 addresses would stop the adverts for half a second.
Layouts: linux/netlink.h, linux/if_link.h, linux/if_addr.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from keepalived_py.config.model import Address
from keepalived_py.plan.links import AddAddress, AddressKey, Op
from keepalived_py.plan.routes import AddEntry, DeleteEntry, EntryOp
from keepalived_py.records import dataclass
from keepalived_py.values import IPAddress, IPv4Address, IPv6Address
from workers import netlink
from workers.netlink import BUFFER_SIZE as BUFFER_SIZE
from workers.netlink import NLM_F_ACK as NLM_F_ACK
from workers.netlink import NLM_F_CREATE as NLM_F_CREATE
from workers.netlink import NLM_F_DUMP as NLM_F_DUMP
from workers.netlink import NLM_F_EXCL as NLM_F_EXCL
from workers.netlink import NLM_F_REQUEST as NLM_F_REQUEST
from workers.netlink import NLMSG as NLMSG
from workers.netlink import NLMSG_DONE as NLMSG_DONE
from workers.netlink import NLMSG_ERROR as NLMSG_ERROR
from workers.netlink import attribute as attribute
from workers.netlink import attributes as attributes
from workers.netlink import message as message
from workers.netlink import messages as messages

IFINFOMSG = struct.Struct("=BxHiII")
IFADDRMSG = struct.Struct("=BBBBI")
CACHEINFO = struct.Struct("=IIII")

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
IFA_ADDRESS, IFA_LOCAL, IFA_LABEL, IFA_BROADCAST, IFA_CACHEINFO, IFA_FLAGS, IFA_PROTO = 1, 2, 3, 4, 6, 8, 11
IFA_F_NODAD, IFA_F_HOMEADDRESS, IFA_F_MANAGETEMPADDR, IFA_F_NOPREFIXROUTE, IFA_F_MCAUTOJOIN = (
    0x02,
    0x10,
    0x100,
    0x200,
    0x400,
)
IFA_F_SECONDARY, IFA_F_TENTATIVE, IFA_F_DADFAILED = 0x01, 0x40, 0x08
IFLA_ADDRESS, IFLA_BROADCAST, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER = 1, 2, 3, 4, 5, 10
IFLA_LINKINFO, IFLA_GROUP = 18, 27
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_VRF_TABLE = 1, 2, 1
IFF_UP, IFF_RUNNING, IFF_NOARP, IFF_MULTICAST = 0x1, 0x40, 0x80, 0x1000
RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR = 0x1, 0x10, 0x100
ADDRESS_PROTOCOL = 18
"""IFAPROT keepalived."""
FOREVER = 0xFFFFFFFF


class KernelError(Exception):
    """The kernel refused a request."""

    def __init__(self, what: object, code: int, op: Op | EntryOp | None = None) -> None:
        super().__init__(f"{what}: {os.strerror(code)}")
        self.code = code
        self.op = op


@dataclass(frozen=True, slots=True)
class Link:
    """One interface."""

    index: int
    name: str
    flags: int
    mac: bytes
    table: int = 0
    """Routing table of a VRF."""
    kind: str = ""
    """macvlan, bridge, ...; "" for plain devices."""
    parent: int = 0
    """Index of the interface below."""
    master: int = 0
    group: int = 0
    mode: int = 0
    """Of a macvlan."""
    mtu: int = 0
    hardware: int = 0
    """ARPHRD number."""
    broadcast: bytes = b""

    @property
    def running(self) -> bool:
        return bool(self.flags & IFF_UP and self.flags & IFF_RUNNING)

    @property
    def is_vmac(self) -> bool:
        """An interface above another that can be a virtual router's own."""
        return self.kind in ("macvlan", "ipvlan")


@dataclass(frozen=True, slots=True)
class LinkNotice:
    link: Link
    present: bool


@dataclass(frozen=True, slots=True)
class AddressNotice:
    key: AddressKey
    present: bool
    tentative: bool
    secondary: bool = False
    """IPv4: goes with the primary address of its network."""
    port: int = 0
    """Of the socket that asked for it; 0: the kernel's own."""


def encode(op: Op) -> bytes:
    """One operation as a message; sequence number and flags are completed when it is sent."""
    key, row = op.key, op.row
    family = socket.AF_INET if key.address.version == 4 else socket.AF_INET6
    packed = key.address.packed
    if not isinstance(op, AddAddress):
        body = IFADDRMSG.pack(family, key.prefixlen, 0, 0, key.ifindex) + attribute(IFA_LOCAL, packed)
        return message(RTM_DELADDR, NLM_F_REQUEST, body)
    flags = _flags(row)
    body = IFADDRMSG.pack(family, key.prefixlen, flags & 0xFF, row.scope, key.ifindex)
    body += attribute(IFA_LOCAL, packed)
    body += attribute(IFA_ADDRESS, row.peer.packed if row.peer else packed)
    if row.broadcast:
        body += attribute(IFA_BROADCAST, row.broadcast.packed)
    if row.label:
        body += attribute(IFA_LABEL, row.label.encode() + b"\0")
    if flags:
        body += attribute(IFA_FLAGS, struct.pack("=I", flags))
    if family == socket.AF_INET6:
        preferred = row.preferred_lft
        if preferred is None:
            preferred = 0 if key.prefixlen == 128 else FOREVER  # a /128 must not become a source address
        body += attribute(IFA_CACHEINFO, CACHEINFO.pack(preferred, FOREVER, 0, 0))
    body += attribute(IFA_PROTO, bytes((ADDRESS_PROTOCOL,)))
    return message(RTM_NEWADDR, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL, body)


def _flags(row: Address) -> int:
    flags = IFA_F_NODAD if row.family == 6 and not row.dad else 0
    for wanted, bit in (
        (row.home, IFA_F_HOMEADDRESS),
        (row.mngtmpaddr, IFA_F_MANAGETEMPADDR),
        (row.noprefixroute, IFA_F_NOPREFIXROUTE),
        (row.autojoin, IFA_F_MCAUTOJOIN),
    ):
        flags |= bit if wanted else 0
    return flags


def _kind_of(info: memoryview | None) -> tuple[str, int]:
    """Kind of an interface, and its first number: the table of a VRF, the mode of a macvlan."""
    inner = attributes(info) if info is not None else {}
    kind = bytes(inner.get(IFLA_INFO_KIND, b"")).rstrip(b"\0").decode("ascii", "replace")
    value = attributes(inner.get(IFLA_INFO_DATA, memoryview(b""))).get(IFLA_VRF_TABLE)
    return kind, 0 if value is None else int.from_bytes(value[:4], sys.byteorder)


def _number(value: memoryview | None) -> int:
    return 0 if value is None else int.from_bytes(value[:4], sys.byteorder)


def notice(kind: int, body: memoryview, port: int = 0) -> LinkNotice | AddressNotice | None:
    """What a message of the kernel says about links or addresses; None for anything else. `port`: of who asked."""
    if kind in (RTM_NEWLINK, RTM_DELLINK) and len(body) >= IFINFOMSG.size:
        _, hardware, index, flags, _ = IFINFOMSG.unpack_from(body)
        found = attributes(body[IFINFOMSG.size :])
        name = bytes(found.get(IFLA_IFNAME, b"")).rstrip(b"\0").decode("utf-8", "replace")
        type_of, value = _kind_of(found.get(IFLA_LINKINFO))
        link = Link(
            index,
            name,
            flags,
            bytes(found.get(IFLA_ADDRESS, b"")),
            table=value if type_of == "vrf" else 0,
            kind=type_of,
            parent=_number(found.get(IFLA_LINK)),
            master=_number(found.get(IFLA_MASTER)),
            group=_number(found.get(IFLA_GROUP)),
            mode=value if type_of == "macvlan" else 0,
            mtu=_number(found.get(IFLA_MTU)),
            hardware=hardware,
            broadcast=bytes(found.get(IFLA_BROADCAST, b"")),
        )
        return LinkNotice(link, kind == RTM_NEWLINK)
    if kind in (RTM_NEWADDR, RTM_DELADDR) and len(body) >= IFADDRMSG.size:
        family, prefixlen, flags, _, index = IFADDRMSG.unpack_from(body)
        found = attributes(body[IFADDRMSG.size :])
        packed = bytes(found.get(IFA_LOCAL) or found.get(IFA_ADDRESS) or b"")
        address: IPAddress
        if family == socket.AF_INET and len(packed) == 4:
            address = IPv4Address(packed)
        elif family == socket.AF_INET6 and len(packed) == 16:
            address = IPv6Address(packed)
        else:
            return None
        if IFA_FLAGS in found:
            (flags,) = struct.unpack_from("=I", found[IFA_FLAGS])
        tentative = bool(flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)) and not flags & IFA_F_NODAD
        secondary = family == socket.AF_INET and bool(flags & IFA_F_SECONDARY)
        return AddressNotice(AddressKey(index, address, prefixlen), kind == RTM_NEWADDR, tentative, secondary, port)
    return None


@dataclass(frozen=True, slots=True)
class Batch:
    """Operations and the bytes that ask for them, made ahead."""

    ops: tuple[Op | EntryOp, ...]
    data: bytes


class RequestSocket:
    """Sends batches and reads their acknowledgements; rtnetlink answers before sendmsg returns, so nothing waits."""

    GONE = frozenset((errno.EADDRNOTAVAIL, errno.ENODEV, errno.ENOENT, errno.ESRCH))

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._sock.bind((0, 0))
        self._sock.setblocking(False)
        self._sequence = 0
        self._buffer = bytearray(BUFFER_SIZE)

    def resize(self, size: int, force: bool) -> None:
        """Bytes of the receive buffer."""
        netlink.resize(self._sock, size, force)

    def close(self) -> None:
        self._sock.close()

    @property
    def port(self) -> int:
        """What the kernel signs notices with that we caused."""
        return int(self._sock.getsockname()[0])

    def submit(self, batch: Batch) -> list[KernelError]:
        """Send a batch; what failed. What is there already, or gone already, is no failure."""
        self._sock.send(batch.data)
        return [
            KernelError(_describe(batch.ops[number]), code, batch.ops[number])
            for number, code in self._acknowledged()
            if number < len(batch.ops) and not self._harmless(batch.ops[number], code)
        ]

    def ask(self, request: bytes, what: str) -> None:
        """One request that wants an acknowledgement. Raises KernelError."""
        self._sock.send(request)
        for _, code in self._acknowledged():
            raise KernelError(what, code)

    def _harmless(self, op: Op | EntryOp, code: int) -> bool:
        return code == errno.EEXIST if isinstance(op, AddAddress | AddEntry) else code in self.GONE

    def _acknowledged(self) -> Iterator[tuple[int, int]]:
        """Sequence number and errno of every answer that waits; successes are left out."""
        while True:
            try:
                size = self._sock.recv_into(self._buffer)
            except BlockingIOError:
                return
            except OSError as exc:
                if exc.errno != errno.ENOBUFS:
                    raise
                continue
            for kind, _, sequence, body in messages(memoryview(self._buffer)[:size]):
                if kind == NLMSG_ERROR:
                    code = netlink.error_code(body)
                    if code:
                        yield sequence, code

    def dump(self) -> Iterator[LinkNotice | AddressNotice]:
        """All links, then all addresses. Raises OSError."""
        for kind, body in ((RTM_GETLINK, IFINFOMSG.pack(0, 0, 0, 0, 0)), (RTM_GETADDR, IFADDRMSG.pack(0, 0, 0, 0, 0))):
            yield from self._dump(kind, body)

    def _dump(self, kind: int, body: bytes) -> Iterator[LinkNotice | AddressNotice]:
        self._sequence += 1
        self._sock.setblocking(True)
        try:
            answers = netlink.dump(self._sock, kind, body, self._sequence)
        finally:
            self._sock.setblocking(False)
        return (found for answer in answers if (found := notice(*answer)) is not None)


def _describe(op: Op | EntryOp) -> str:
    if isinstance(op, AddEntry | DeleteEntry):
        return f"{'add' if isinstance(op, AddEntry) else 'delete'} {op.entry}"
    verb = "add" if isinstance(op, AddAddress) else "delete"
    return f"{verb} {op.key.address}/{op.key.prefixlen} on interface {op.key.ifindex}"


def batches(ops: Iterable[Op] | Iterable[EntryOp], size: int, encoder: Callable[[Any], bytes] = encode) -> list[Batch]:
    """`ops` encoded, `size` to a batch; the sequence number of a message is its place in the batch."""
    made = []
    waiting = list(ops)
    for start in range(0, len(waiting), size):
        chunk = waiting[start : start + size]
        parts = []
        for number, op in enumerate(chunk):
            encoded = encoder(op)
            length, kind, flags, _, _ = NLMSG.unpack_from(encoded)
            if number == len(chunk) - 1:
                flags |= NLM_F_ACK  # errors come back regardless; one acknowledgement says the batch is through
            parts.append(NLMSG.pack(length, kind, flags, number, 0) + encoded[NLMSG.size :])
        made.append(Batch(tuple(chunk), b"".join(parts)))
    return made

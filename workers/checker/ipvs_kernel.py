"""IPVS over generic netlink: many requests in one sendmsg, the table read back (linux/ip_vs.h).

pyroute2 resolves the family and loads the module. It needs 100 us and more for one IPVS message, 50 times what the
kernel takes, so requests are encoded here, and tests hold the encoding against pyroute2's own decoder. Its traps, for
who comes to use more of it: "update" is the delete command, an IPv6 service gets no netmask, default dictionaries are
shared between objects.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache

from keepalived_py.checks.virtual_server import Destination
from keepalived_py.config.model import Forwarding
from keepalived_py.plan.ipvs import (
    FLAG_MASK,
    LOCAL,
    AddDestination,
    AddService,
    DeleteDestination,
    DeleteService,
    EditDestination,
    EditService,
    Entry,
    Op,
    Service,
    ServiceId,
    Table,
)
from keepalived_py.values import IPAddress, IPv4Address, IPv6Address, Protocol, RealKey

NLMSG = struct.Struct("=IHHII")
GENL = struct.Struct("=BBH")
ATTRIBUTE = struct.Struct("=HH")
NETLINK_GENERIC = 16
NESTED = 0x8000
TYPE_MASK = 0x3FFF
VERSION = 1
NLMSG_ERROR, NLMSG_DONE = 2, 3
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300

NEW_SERVICE, SET_SERVICE, DEL_SERVICE, GET_SERVICE, NEW_DEST, SET_DEST, DEL_DEST, GET_DEST = range(1, 9)
SET_CONFIG, GET_CONFIG = 12, 13
FLUSH = 17
CMD_SERVICE, CMD_DEST = 1, 2
CMD_TIMEOUTS = {"tcp": 4, "tcpfin": 5, "udp": 6}
SVC_AF, SVC_PROTOCOL, SVC_ADDR, SVC_PORT, SVC_FWMARK, SVC_SCHED, SVC_FLAGS, SVC_TIMEOUT, SVC_NETMASK = range(1, 10)
SVC_PE = 11
DEST_ADDR, DEST_PORT, DEST_FWD, DEST_WEIGHT, DEST_UTHRESH, DEST_LTHRESH = range(1, 7)
DEST_FAMILY, DEST_TUN_TYPE, DEST_TUN_PORT, DEST_TUN_FLAGS = 11, 13, 14, 15
FORWARDING = {"NAT": 0, "TUN": 2, "DR": 3}
FORWARDING_MASK = 0x7
TUNNELS = ("ipip", "gue", "gre")
CHECKSUMS = {"nocsum": 0, "csum": 1, "remcsum": 2}
PROTOCOLS = {Protocol.TCP: socket.IPPROTO_TCP, Protocol.UDP: socket.IPPROTO_UDP, Protocol.SCTP: 132, Protocol.NONE: 0}
PROTOCOL_OF = {number: protocol for protocol, number in PROTOCOLS.items()}
BUFFER_SIZE = 1 << 18
BATCH = 500
"""Requests per sendmsg."""


class IpvsError(Exception):
    """The kernel refused a request, or has no IPVS."""

    def __init__(self, what: object, code: int) -> None:
        super().__init__(f"IPVS: {what}: {os.strerror(code)}")
        self.code = code


@cache
def resolve_family() -> int:
    """The number of the IPVS family; loads the module. Raises IpvsError. Call it outside of an event loop.

    pyroute2 does it in a process of its own: it takes 22 MB, for one question that is asked once.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, str(_ask_pyroute2()).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        answer = int(pipe.read() or -errno.ENOENT)
    with suppress(ChildProcessError):  # the supervisor may have collected it
        os.waitpid(pid, 0)
    if answer < 0:
        raise IpvsError("the kernel has no IPVS", -answer)
    return answer


def _ask_pyroute2() -> int:
    """The family's number, or minus an errno."""
    try:
        from pyroute2 import IPVS

        with IPVS() as ipvs:
            return int(ipvs.prid)
    except OSError as exc:
        return -(exc.errno or errno.ENOENT)
    except Exception as exc:  # pyroute2's own errors carry the errno in `code`
        return -int(getattr(exc, "code", errno.ENOENT))


# encoding ---------------------------------------------------------------------------------------------------------


def _attribute(kind: int, value: bytes) -> bytes:
    size = ATTRIBUTE.size + len(value)
    return ATTRIBUTE.pack(size, kind) + value + bytes(-size % 4)


def _u16(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=H", value))


def _u32(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))


def _af(family: int) -> int:
    return int(socket.AF_INET if family == 4 else socket.AF_INET6)


def _id(id: ServiceId) -> bytes:
    body = _u16(SVC_AF, _af(id.family))
    if id.address is None:
        return body + _u32(SVC_FWMARK, id.fwmark)
    return (
        body
        + _u16(SVC_PROTOCOL, PROTOCOLS[id.protocol])
        + _attribute(SVC_ADDR, id.address.packed)
        + _attribute(SVC_PORT, id.port.to_bytes(2))
    )


def _service(id: ServiceId, service: Service) -> bytes:
    # IPv4 wants the mask in network order, IPv6 a prefix length in host order
    netmask = service.netmask.to_bytes(4) if id.family == 4 else struct.pack("=I", service.netmask)
    body = (
        _id(id)
        + _attribute(SVC_SCHED, service.scheduler.encode() + b"\0")
        + _attribute(SVC_FLAGS, struct.pack("=II", service.flags, 0xFFFFFFFF))
        + _u32(SVC_TIMEOUT, service.timeout)
        + _attribute(SVC_NETMASK, netmask)
    )
    if service.engine:
        body += _attribute(SVC_PE, service.engine.encode() + b"\0")
    return body


def _real(key: RealKey) -> bytes:
    return (
        _attribute(DEST_ADDR, key.address.packed)
        + _attribute(DEST_PORT, key.port.to_bytes(2))
        + _u16(DEST_FAMILY, _af(key.address.version))
    )


def _destination(key: RealKey, destination: Destination) -> bytes:
    forwarding = destination.forwarding
    body = (
        _real(key)
        + _u32(DEST_FWD, FORWARDING[forwarding.method])
        + _u32(DEST_WEIGHT, destination.weight)
        + _u32(DEST_UTHRESH, destination.uthreshold)
        + _u32(DEST_LTHRESH, destination.lthreshold)
    )
    if forwarding.method == "TUN" and forwarding.tunnel_type != "ipip":
        body += _attribute(DEST_TUN_TYPE, bytes((TUNNELS.index(forwarding.tunnel_type),)))
        body += _attribute(DEST_TUN_PORT, forwarding.tunnel_port.to_bytes(2))
        body += _u16(DEST_TUN_FLAGS, CHECKSUMS[forwarding.tunnel_csum])
    return body


def encode(op: Op) -> tuple[int, bytes]:
    """Command and attributes of one operation."""
    match op:
        case AddService():
            return NEW_SERVICE, _attribute(CMD_SERVICE | NESTED, _service(op.id, op.service))
        case EditService():
            return SET_SERVICE, _attribute(CMD_SERVICE | NESTED, _service(op.id, op.service))
        case DeleteService():
            return DEL_SERVICE, _attribute(CMD_SERVICE | NESTED, _id(op.id))
        case AddDestination():
            command, body = NEW_DEST, _destination(op.key, op.destination)
        case EditDestination():
            command, body = SET_DEST, _destination(op.key, op.destination)
        case DeleteDestination():
            command, body = DEL_DEST, _real(op.key)
    return command, _attribute(CMD_SERVICE | NESTED, _id(op.id)) + _attribute(CMD_DEST | NESTED, body)


# decoding ---------------------------------------------------------------------------------------------------------


def attributes(data: memoryview) -> dict[int, memoryview]:
    """Attributes of one level by type. Malformed ends are dropped."""
    found: dict[int, memoryview] = {}
    position = 0
    while position + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, position)
        if length < ATTRIBUTE.size:
            break
        found[kind & TYPE_MASK] = data[position + ATTRIBUTE.size : position + length]
        position += length + -length % 4
    return found


def _number(value: memoryview | None) -> int:
    return int.from_bytes(value or b"", sys.byteorder)


def _address(value: memoryview, family: int) -> IPAddress:
    return IPv4Address(bytes(value[:4])) if family == 4 else IPv6Address(bytes(value[:16]))


def _text(value: memoryview | None) -> str:
    return bytes(value or b"").rstrip(b"\0").decode()


def decode_service(body: memoryview) -> tuple[ServiceId, Service]:
    found = attributes(body)
    family = 4 if _number(found.get(SVC_AF)) == socket.AF_INET else 6
    if SVC_FWMARK in found:
        id = ServiceId(family=family, fwmark=_number(found[SVC_FWMARK]))
    else:
        id = ServiceId(
            family=family,
            protocol=PROTOCOL_OF.get(_number(found.get(SVC_PROTOCOL)), Protocol.NONE),
            address=_address(found[SVC_ADDR], family),
            port=int.from_bytes(found[SVC_PORT]),
        )
    raw = found.get(SVC_NETMASK, memoryview(b"\xff\xff\xff\xff"))
    flags = _number(found[SVC_FLAGS][:4]) & FLAG_MASK if SVC_FLAGS in found else 0
    return id, Service(
        scheduler=_text(found.get(SVC_SCHED)),
        flags=flags,
        timeout=_number(found.get(SVC_TIMEOUT)) if flags & 1 else 0,
        netmask=int.from_bytes(raw) if family == 4 else _number(raw),
        engine=_text(found.get(SVC_PE)),
    )


def decode_destination(body: memoryview, family: int) -> tuple[RealKey, Destination]:
    found = attributes(body)
    if DEST_FAMILY in found:
        family = 4 if _number(found[DEST_FAMILY]) == socket.AF_INET else 6
    method = _number(found.get(DEST_FWD)) & FORWARDING_MASK
    name = next((name for name, number in FORWARDING.items() if number == method), LOCAL)
    if name == "TUN":
        csum = next((name for name, bit in CHECKSUMS.items() if bit == _number(found.get(DEST_TUN_FLAGS))), "nocsum")
        forwarding = Forwarding(
            method="TUN",
            tunnel_type=TUNNELS[min(_number(found.get(DEST_TUN_TYPE)), 2)],
            tunnel_port=int.from_bytes(found.get(DEST_TUN_PORT, b"")),
            tunnel_csum=csum,
        )
    else:
        forwarding = Forwarding(method=name)
    return RealKey(_address(found[DEST_ADDR], family), int.from_bytes(found[DEST_PORT])), Destination(
        weight=_number(found.get(DEST_WEIGHT)),
        forwarding=forwarding,
        uthreshold=_number(found.get(DEST_UTHRESH)),
        lthreshold=_number(found.get(DEST_LTHRESH)),
    )


class IpvsKernel:
    """The kernel's table: read it, change it."""

    def __init__(self, family: int) -> None:
        self._family = family
        self._sequence = 0
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_GENERIC)
        self._sock.bind((0, 0))
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._buffer = bytearray(BUFFER_SIZE)
        self.requests = 0

    def close(self) -> None:
        self._sock.close()

    def _message(self, command: int, flags: int, body: bytes) -> bytes:
        self._sequence += 1
        size = NLMSG.size + GENL.size + len(body)
        return NLMSG.pack(size, self._family, flags, self._sequence, 0) + GENL.pack(command, VERSION, 0) + body

    def apply(self, ops: list[Op]) -> list[tuple[Op, IpvsError]]:
        """Perform `ops` in batches; those that failed. What is there already, or gone already, is no failure."""
        failed: list[tuple[Op, IpvsError]] = []
        for start in range(0, len(ops), BATCH):
            failed += self._apply_batch(ops[start : start + BATCH])
        return failed

    def _apply_batch(self, ops: list[Op]) -> list[tuple[Op, IpvsError]]:
        first = self._sequence + 1
        last = len(ops) - 1
        self._sock.sendmsg(
            [
                self._message(*_flagged(encode(op), REQUEST | (ACK if index == last else 0)))
                for index, op in enumerate(ops)
            ]
        )
        self.requests += len(ops)
        failed = []
        for sequence, code in self._answers(self._sequence):
            op = ops[sequence - first]
            if code and not _harmless(op, code):
                failed.append((op, IpvsError(_describe(op), code)))
        return failed

    def _answers(self, last: int) -> Iterator[tuple[int, int]]:
        """Sequence number and errno of each answer up to that of request `last`."""
        while True:
            size = self._sock.recv_into(self._buffer)
            for kind, sequence, body in _messages(memoryview(self._buffer)[:size]):
                if kind == NLMSG_ERROR:
                    (code,) = struct.unpack_from("=i", body)
                    yield sequence, -code
                    if sequence == last:
                        return

    def _dump(self, command: int, body: bytes) -> Iterator[memoryview]:
        self._sock.sendall(self._message(command, REQUEST | DUMP, body))
        while True:
            data = memoryview(self._sock.recv(BUFFER_SIZE))
            for kind, _, content in _messages(data):
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    (code,) = struct.unpack_from("=i", content)
                    raise IpvsError("reading the table", -code)
                yield content[GENL.size :]

    def table(self) -> Table:
        """The whole table as it is."""
        table: Table = {}
        for body in list(self._dump(GET_SERVICE, b"")):
            id, service = decode_service(attributes(body)[CMD_SERVICE])
            table[id] = Entry(service)
        for id, entry in table.items():
            request = _attribute(CMD_SERVICE | NESTED, _id(id))
            for body in self._dump(GET_DEST, request):
                key, destination = decode_destination(attributes(body)[CMD_DEST], id.family)
                entry.destinations[key] = destination
        return table

    def _command(self, command: int, body: bytes, what: str) -> None:
        self._sock.sendall(self._message(command, REQUEST | ACK, body))
        for _, code in self._answers(self._sequence):
            if code:
                raise IpvsError(what, code)

    def flush(self) -> None:
        """Remove every service there is."""
        self._command(FLUSH, b"", "flush")

    def timeouts(self) -> dict[str, int]:
        """Connection timeouts in seconds."""
        self._sock.sendall(self._message(GET_CONFIG, REQUEST, b""))
        data = memoryview(self._sock.recv(BUFFER_SIZE))
        found = next(attributes(body[GENL.size :]) for kind, _, body in _messages(data) if kind == self._family)
        return {name: _number(found.get(kind)) for name, kind in CMD_TIMEOUTS.items()}

    def set_timeouts(self, values: dict[str, int]) -> None:
        """Set all three timeouts, in seconds."""
        body = b"".join(_u32(CMD_TIMEOUTS[name], value) for name, value in values.items())
        self._command(SET_CONFIG, body, "timeouts")


def _flagged(encoded: tuple[int, bytes], flags: int) -> tuple[int, int, bytes]:
    command, body = encoded
    return command, flags, body


def _messages(view: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    position = 0
    while position + NLMSG.size <= len(view):
        length, kind, _, sequence, _ = NLMSG.unpack_from(view, position)
        if length < NLMSG.size:
            return
        yield kind, sequence, view[position + NLMSG.size : position + length]
        position += length + -length % 4


def _harmless(op: Op, code: int) -> bool:
    match op:
        case AddService() | AddDestination():
            return code == errno.EEXIST
        case DeleteService() | DeleteDestination():
            return code in (errno.ENOENT, errno.ESRCH)
    return False


def _describe(op: Op) -> str:
    name = type(op).__name__.replace("Service", " service ").replace("Destination", " destination ").lower()
    real = f"{op.key} of " if isinstance(op, AddDestination | EditDestination | DeleteDestination) else ""
    return f"{name}{real}{op.id}"

"""IPVS over generic netlink: many requests in one sendmsg, the table read back (linux/ip_vs.h).

pyroute2 resolves the family and loads the module. It needs 100 us and more for one IPVS message, 50 times what the
kernel takes, so requests are encoded here, and tests hold the encoding against pyroute2's own decoder. Its traps, for
who comes to use more of it: "update" is the delete command, an IPv6 service gets no netmask, default dictionaries are
shared between objects.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
from collections.abc import Container, Iterator
from contextlib import nullcontext, suppress
from functools import cache

from keepalived_py import netns
from keepalived_py.plan.ipvs import (
    AddDestination,
    AddService,
    DeleteDestination,
    DeleteService,
    EditDestination,
    Entry,
    Op,
    ServiceId,
    Table,
)
from keepalived_py.values import RealKey
from workers import netlink

from .ipvs_messages import (
    CMD_DEST,
    CMD_SERVICE,
    CMD_TIMEOUTS,
    FLUSH,
    GET_CONFIG,
    GET_DEST,
    GET_SERVICE,
    NESTED,
    SET_CONFIG,
    attribute,
    attributes,
    decode_destination,
    decode_service,
    encode,
    number,
    service_id,
    u32,
)
from .ipvs_statistics import SVC_STATS64, Counters, RealUsage, Usage, decode_counters, decode_usage

NLMSG = struct.Struct("=IHHII")
GENL = struct.Struct("=BBH")
NETLINK_GENERIC = 16
VERSION = 1
NLMSG_ERROR, NLMSG_DONE = 2, 3
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
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
        logging.disable()  # it tells its whole life
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


class IpvsKernel:
    """The kernel's table: read it, change it. `namespace` is whose: None for that of this process. Raises OSError.

    With `family` 0 there is none: it is empty, and cannot be changed.
    """

    def __init__(self, family: int, namespace: str | None = None) -> None:
        self.family = family
        self._sequence = 0
        with nullcontext() if namespace is None else netns.inside(namespace):
            self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_GENERIC)
        self._sock.bind((0, 0))
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._buffer = bytearray(BUFFER_SIZE)
        self.requests = 0

    def resize(self, size: int, force: bool) -> None:
        """Bytes of the receive buffer."""
        netlink.resize(self._sock, size, force)

    def close(self) -> None:
        self._sock.close()

    def _message(self, command: int, flags: int, body: bytes) -> bytes:
        self._sequence += 1
        size = NLMSG.size + GENL.size + len(body)
        return NLMSG.pack(size, self.family, flags, self._sequence, 0) + GENL.pack(command, VERSION, 0) + body

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
        if not self.family:
            return
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
            self._read_destinations(id, entry)
        return table

    def entry(self, id: ServiceId) -> Entry | None:
        """One service as it is, None when it is not there. Raises IpvsError."""
        request = attribute(CMD_SERVICE | NESTED, service_id(id))
        self._sock.sendall(self._message(GET_SERVICE, REQUEST, request))
        for kind, _, body in _messages(memoryview(self._sock.recv(BUFFER_SIZE))):
            if kind == NLMSG_ERROR:
                (code,) = struct.unpack_from("=i", body)
                if -code in (errno.ENOENT, errno.ESRCH):
                    return None
                raise IpvsError(f"reading {id}", -code)
            entry = Entry(decode_service(attributes(body[GENL.size :])[CMD_SERVICE])[1])
            self._read_destinations(id, entry)
            return entry
        return None

    def _read_destinations(self, id: ServiceId, entry: Entry) -> None:
        for body in self._dump(GET_DEST, attribute(CMD_SERVICE | NESTED, service_id(id))):
            key, destination = decode_destination(attributes(body)[CMD_DEST], id.family)
            entry.destinations[key] = destination

    def usage(self, ids: Container[ServiceId]) -> dict[ServiceId, Usage]:
        """What these services have counted, as far as they are there. Raises IpvsError."""
        counted: dict[ServiceId, Counters] = {}
        for body in list(self._dump(GET_SERVICE, b"")):
            service = attributes(body)[CMD_SERVICE]
            id, _ = decode_service(service)
            if id in ids:
                counted[id] = decode_counters(attributes(service).get(SVC_STATS64))
        return {id: Usage(counters, self._usage_of(id)) for id, counters in counted.items()}

    def _usage_of(self, id: ServiceId) -> dict[RealKey, RealUsage]:
        found = {}
        for body in self._dump(GET_DEST, attribute(CMD_SERVICE | NESTED, service_id(id))):
            row = attributes(body)[CMD_DEST]
            found[decode_destination(row, id.family)[0]] = decode_usage(attributes(row))
        return found

    def _command(self, command: int, body: bytes, what: str) -> None:
        self._need(what)
        self._sock.sendall(self._message(command, REQUEST | ACK, body))
        for _, code in self._answers(self._sequence):
            if code:
                raise IpvsError(what, code)

    def _need(self, what: str) -> None:
        if not self.family:
            raise IpvsError(what, errno.ENOENT)

    def flush(self) -> None:
        """Remove every service there is."""
        if self.family:
            self._command(FLUSH, b"", "flush")

    def timeouts(self) -> dict[str, int]:
        """Connection timeouts in seconds. Raises IpvsError."""
        self._need("timeouts")
        self._sock.sendall(self._message(GET_CONFIG, REQUEST, b""))
        data = memoryview(self._sock.recv(BUFFER_SIZE))
        found = next(attributes(body[GENL.size :]) for kind, _, body in _messages(data) if kind == self.family)
        return {name: number(found.get(kind)) for name, kind in CMD_TIMEOUTS.items()}

    def set_timeouts(self, values: dict[str, int]) -> None:
        """Set all three timeouts, in seconds."""
        body = b"".join(u32(CMD_TIMEOUTS[name], value) for name, value in values.items())
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

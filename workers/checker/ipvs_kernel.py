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
import signal
import socket
from collections.abc import Container, Iterator, Sequence
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
from workers.netlink import (
    GENL,
    NESTED,
    NETLINK_GENERIC,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG,
    NLMSG_DONE,
    NLMSG_ERROR,
    attribute,
    attributes,
    error_code,
    messages,
)

from .ipvs_messages import (
    CMD_DEST,
    CMD_SERVICE,
    CMD_TIMEOUTS,
    FLUSH,
    GET_CONFIG,
    GET_DEST,
    GET_SERVICE,
    SET_CONFIG,
    decode_destination,
    decode_service,
    encode,
    number,
    service_id,
    u32,
)
from .ipvs_statistics import SVC_STATS64, Counters, RealUsage, Usage, decode_counters, decode_usage

VERSION = 1
SEQUENCES = 1 << 32
BUFFER_SIZE = 1 << 16
"""Bytes; the kernel fills 32 KB at most."""
BATCH = 500
"""Requests per sendmsg."""
ROOM = 1 << 20
"""Bytes of the receive buffer: a batch may be refused as a whole, and every refusal holds the request."""


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
    # its signals would be heard by our loop, whose descriptor for them it has: one that is meant to end it ended us
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            try:
                logging.disable()  # it tells its whole life
                os.write(writing, str(_ask_pyroute2()).encode())
            finally:
                os._exit(0)  # whatever happens: it must not go on as a second one of us
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(writing)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
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
        self._sock.setblocking(False)
        netlink.make_room(self._sock, ROOM)
        self.requests = 0

    def resize(self, size: int, force: bool) -> None:
        """Bytes of the receive buffer."""
        netlink.resize(self._sock, size, force)

    def close(self) -> None:
        self._sock.close()

    def _message(self, command: int, flags: int, body: bytes) -> bytes:
        self._sequence = (self._sequence + 1) % SEQUENCES
        size = NLMSG.size + GENL.size + len(body)
        return NLMSG.pack(size, self.family, flags, self._sequence, 0) + GENL.pack(command, VERSION, 0) + body

    def apply(self, ops: list[Op]) -> list[tuple[Op, IpvsError]]:
        """Perform `ops` in batches; those that failed. What is there already, or gone already, is no failure."""
        failed: list[tuple[Op, IpvsError]] = []
        for start in range(0, len(ops), BATCH):
            failed += self._apply_batch(ops[start : start + BATCH])
        return failed

    def _apply_batch(self, ops: list[Op]) -> list[tuple[Op, IpvsError]]:
        last = len(ops) - 1
        parts, asked = [], dict[int, Op]()
        for index, op in enumerate(ops):
            command, body = encode(op)
            parts.append(self._message(command, NLM_F_REQUEST | (NLM_F_ACK if index == last else 0), body))
            asked[self._sequence] = op
        self.requests += len(ops)
        failed = []
        try:
            self._send(parts)
            for sequence, answer in self._acknowledgements(self._sequence):
                refused, code = asked.get(sequence), error_code(answer)
                if refused is not None and code and not _harmless(refused, code):
                    failed.append((refused, IpvsError(_describe(refused), code)))
        except IpvsError as exc:
            return [(op, exc) for op in ops]  # how many were performed is not known
        return failed

    def _send(self, parts: Sequence[bytes]) -> None:
        """Raises IpvsError."""
        try:
            self._sock.sendmsg(parts)
        except OSError as exc:
            raise IpvsError("asking the kernel", exc.errno or errno.EIO) from exc

    def _heard(self) -> Iterator[tuple[int, int, int, memoryview]]:
        """Type, flags, sequence number and body of what the kernel says. Raises IpvsError when some of it was lost.

        It answers before sending returns, so nothing is ever waited for.
        """
        while True:
            try:
                data = self._sock.recv(BUFFER_SIZE)
            except OSError as exc:
                self._drain()
                raise IpvsError("answers were lost", errno.ENOBUFS) from exc
            yield from messages(data)

    def _drain(self) -> None:
        """Read what there is: the kernel says nothing more before that is done."""
        with suppress(OSError):
            while True:
                self._sock.recv(BUFFER_SIZE)

    def _acknowledgements(self, last: int) -> Iterator[tuple[int, memoryview]]:
        """Sequence numbers and bodies, up to that of request `last`. Raises IpvsError."""
        for kind, _, sequence, body in self._heard():
            if kind == NLMSG_ERROR:
                yield sequence, body
                if sequence == last:
                    return

    def _ask(self, command: int, flags: int, body: bytes, what: object) -> Iterator[memoryview]:
        """The answers to one request; what is left of earlier ones is passed over. Raises IpvsError."""
        if not self.family:
            raise IpvsError(what, errno.ENOENT)
        self._send([self._message(command, flags, body)])
        own = self._sequence
        for kind, _, sequence, content in self._heard():
            if sequence != own:
                continue
            if kind in (NLMSG_DONE, NLMSG_ERROR):
                code = error_code(content)
                if code:
                    raise IpvsError(what, code)
                return
            yield content[GENL.size :]
            if not flags & (NLM_F_DUMP | NLM_F_ACK):
                return

    def _dump(self, command: int, body: bytes) -> Iterator[memoryview]:
        """Rows as they come; nothing else may be asked meanwhile."""
        return self._ask(command, NLM_F_REQUEST | NLM_F_DUMP, body, "reading the table") if self.family else iter(())

    def table(self) -> Table:
        """The whole table as it is."""
        table: Table = {}
        for body in self._dump(GET_SERVICE, b""):
            id, service = decode_service(attributes(body)[CMD_SERVICE])
            table[id] = Entry(service)
        for id, entry in table.items():
            self._read_destinations(id, entry)
        return table

    def entry(self, id: ServiceId) -> Entry | None:
        """One service as it is, None when it is not there. Raises IpvsError."""
        request = attribute(CMD_SERVICE | NESTED, service_id(id))
        try:
            (body,) = self._ask(GET_SERVICE, NLM_F_REQUEST, request, f"reading {id}")
        except IpvsError as exc:
            if exc.code == errno.ENOENT:
                self._find_family()
            elif exc.code != errno.ESRCH:
                raise
            return None
        entry = Entry(decode_service(attributes(body)[CMD_SERVICE])[1])
        self._read_destinations(id, entry)
        return entry

    def _find_family(self) -> None:
        """The module was removed, and with it all services; when it is loaded again its number is another.

        Raises IpvsError.
        """
        try:
            self.family = netlink.generic_family("IPVS")
        except OSError as exc:
            raise IpvsError("the kernel has no IPVS", exc.errno or errno.ENOENT) from exc

    def _read_destinations(self, id: ServiceId, entry: Entry) -> None:
        for body in self._dump(GET_DEST, attribute(CMD_SERVICE | NESTED, service_id(id))):
            key, destination = decode_destination(attributes(body)[CMD_DEST], id.family)
            entry.destinations[key] = destination

    def usage(self, ids: Container[ServiceId]) -> dict[ServiceId, Usage]:
        """What these services have counted, as far as they are there. Raises IpvsError."""
        counted: dict[ServiceId, Counters] = {}
        for body in self._dump(GET_SERVICE, b""):
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

    def _order(self, command: int, body: bytes, what: str) -> None:
        for _ in self._ask(command, NLM_F_REQUEST | NLM_F_ACK, body, what):
            pass

    def flush(self) -> None:
        """Remove every service there is."""
        if self.family:
            self._order(FLUSH, b"", "flush")

    def timeouts(self) -> dict[str, int]:
        """Connection timeouts in seconds."""
        (body,) = self._ask(GET_CONFIG, NLM_F_REQUEST, b"", "timeouts")
        found = attributes(body)
        return {name: number(found.get(kind)) for name, kind in CMD_TIMEOUTS.items()}

    def set_timeouts(self, values: dict[str, int]) -> None:
        """Set all three timeouts, in seconds."""
        body = b"".join(u32(CMD_TIMEOUTS[name], value) for name, value in values.items())
        self._order(SET_CONFIG, body, "timeouts")


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

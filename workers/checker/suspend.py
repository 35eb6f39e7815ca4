"""The addresses of this host, for virtual servers with ha_suspend: who is not at home does not check."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
from collections.abc import Callable, Iterable

from keepalived_py.checks.presence import is_suspended
from keepalived_py.config.model import VirtualServer
from keepalived_py.values import IPAddress, IPv4Address, IPv6Address
from workers import netlink
from workers.netlink import BUFFER_SIZE, attributes, messages

from .task import CheckerTask, Scheduler

logger = logging.getLogger(__name__)

IFADDRMSG = struct.Struct("=BBBBI")
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
IFA_ADDRESS, IFA_LOCAL = 1, 2
GROUPS = 0x10 | 0x100
"""Addresses of IPv4 and IPv6."""
SETTLE = 0.1
"""Seconds that notices are collected for: an instance brings its addresses by the thousand."""
RECEIVE_BUFFER = 4 << 20
Place = tuple[IPAddress, int, int]
"""Address, prefix length and interface: what the kernel holds once."""


def decode(body: memoryview) -> Place | None:
    """The address that a message is about."""
    if len(body) < IFADDRMSG.size:
        return None
    family, prefixlen, _, _, index = IFADDRMSG.unpack_from(body)
    found = attributes(body[IFADDRMSG.size :])
    packed = bytes(found.get(IFA_LOCAL) or found.get(IFA_ADDRESS) or b"")
    if family == socket.AF_INET and len(packed) == 4:
        return IPv4Address(packed), prefixlen, index
    if family == socket.AF_INET6 and len(packed) == 16:
        return IPv6Address(packed), prefixlen, index
    return None


class HostAddresses:
    """Kept current by notices of the kernel while anybody wants to know. `changed` hears that something did."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.present: frozenset[IPAddress] = frozenset()
        self._changed = changed
        self._places: set[Place] = set()
        self._sock: socket.socket | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._room = (0, False)

    def watch(self, wanted: bool, room: tuple[int, bool] = (0, False)) -> None:
        """Start or stop; `room` is the receive buffer in bytes, and whether to force it. Raises OSError."""
        self._room = room
        if wanted is (self._sock is not None):
            return
        loop = asyncio.get_running_loop()
        if self._sock is not None:
            self._settle()
            loop.remove_reader(self._sock)
            self._sock.close()
            self._sock = None
            return
        self._sock = _socket(GROUPS)
        self._sock.setblocking(False)
        netlink.make_room(self._sock, RECEIVE_BUFFER)
        netlink.resize(self._sock, *self._room)
        self.read_all()
        loop.add_reader(self._sock, self._readable)

    def read_all(self) -> None:
        """Ask for all addresses there are; also when somebody says that they moved."""
        if self._sock is None:
            return
        self._places = _dump()
        self._settle()

    def _readable(self) -> None:
        assert self._sock is not None
        for _ in range(64):
            try:
                data = self._sock.recv(BUFFER_SIZE)
            except BlockingIOError:
                break
            except OSError as exc:
                if exc.errno != errno.ENOBUFS:
                    raise
                logger.warning("netlink notices were lost - reading all addresses again")
                self.read_all()
                return
            for kind, _, _, body in messages(data):
                self._take(kind, body)
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_later(SETTLE, self._settle)

    def _take(self, kind: int, body: memoryview) -> None:
        place = decode(body) if kind in (RTM_NEWADDR, RTM_DELADDR) else None
        if place is not None:
            (self._places.add if kind == RTM_NEWADDR else self._places.discard)(place)

    def _settle(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        present = frozenset(address for address, _, _ in self._places)
        if present != self.present:
            self.present = present
            self._changed()


def suspend(config: VirtualServer, tasks: Iterable[CheckerTask], present: frozenset[IPAddress], by: Scheduler) -> None:
    """Servers of a virtual server that is at home are checked, others not."""
    suspended = is_suspended(config, present)
    verb = "Suspending" if suspended else "Activating"
    for task in [task for task in tasks if task.suspended is not suspended]:
        task.suspended = suspended
        name = task.real.text(config.protocol)
        logger.info("%s healthchecker for service %s for VS %s", verb, name, config.key)
        if not suspended:
            by.hasten(task)


def _socket(groups: int) -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    sock.bind((0, groups))
    return sock


def _dump() -> set[Place]:
    """All addresses of this network namespace."""
    with _socket(0) as sock:
        answers = netlink.dump(sock, RTM_GETADDR, IFADDRMSG.pack(0, 0, 0, 0, 0))
    return {place for kind, body in answers if kind == RTM_NEWADDR and (place := decode(body)) is not None}

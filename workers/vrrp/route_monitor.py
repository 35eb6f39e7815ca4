"""Hears that routes and rules of ours were removed.

A router may carry a million routes of a routing daemon, so a filter in the kernel lets only removals of routes with our
protocol pass; nothing else wakes the worker. No table is kept: putting something back that is still there does no harm.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

from keepalived_py.plan.routes import RouteKey, RuleKey
from workers import netlink

from .link_monitor import RECEIVE_BUFFER
from .route_netlink import RTM_DELROUTE, RTM_DELRULE, removed
from .rtnetlink import BUFFER_SIZE, NLMSG

logger = logging.getLogger(__name__)

PROTOCOL = 18
"""keepalived: what every tracked route has."""
GROUPS = (7, 8, 11, 19)
"""RTNLGRP_IPV4_ROUTE, _IPV4_RULE, _IPV6_ROUTE, _IPV6_RULE."""
SOL_NETLINK, ADD_MEMBERSHIP, DROP_MEMBERSHIP = 270, 1, 2
SO_ATTACH_FILTER = 26
LOAD_HALF, LOAD_BYTE, JUMP_EQUAL, RETURN = 0x28, 0x30, 0x15, 0x06
KIND_OFFSET, PROTOCOL_OFFSET = 4, 16 + 5
MOST = 500
"""Notices in one go: a few milliseconds, as adverts must not wait."""
INSTRUCTION = struct.Struct("=HBBI")


def _filter() -> bytes:
    """Classic BPF over struct nlmsghdr; it loads big-endian numbers."""
    program = (
        (LOAD_HALF, 0, 0, KIND_OFFSET),
        (JUMP_EQUAL, 3, 0, socket.htons(RTM_DELRULE)),
        (JUMP_EQUAL, 0, 3, socket.htons(RTM_DELROUTE)),
        (LOAD_BYTE, 0, 0, PROTOCOL_OFFSET),
        (JUMP_EQUAL, 0, 1, PROTOCOL),
        (RETURN, 0, 0, BUFFER_SIZE),
        (RETURN, 0, 0, 0),
    )
    return b"".join(INSTRUCTION.pack(*each) for each in program)


class RouteMonitor:
    """`gone` hears keys of what others removed and their ports, `missed` that notices were lost."""

    def __init__(
        self, own_port: int, gone: Callable[[RouteKey | RuleKey, int], None], missed: Callable[[], None]
    ) -> None:
        self._own_port, self._gone, self._missed = own_port, gone, missed
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        netlink.make_room(self._sock, RECEIVE_BUFFER)
        self._sock.setblocking(False)
        program = ctypes.create_string_buffer(_filter())
        size = len(program) // INSTRUCTION.size
        self._sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", size, ctypes.addressof(program)))
        self._sock.bind((0, 0))
        self._watching = False

    def resize(self, size: int, force: bool) -> None:
        """Bytes of the receive buffer."""
        netlink.resize(self._sock, size, force)

    def watch(self, wanted: bool) -> None:
        """Listen only while there is something to lose."""
        if wanted == self._watching:
            return
        self._watching = wanted
        for group in GROUPS:
            self._sock.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP if wanted else DROP_MEMBERSHIP, group)
        loop = asyncio.get_running_loop()
        if wanted:
            loop.add_reader(self._sock, self._readable)
        else:
            loop.remove_reader(self._sock)

    def _readable(self) -> None:
        for _ in range(MOST):
            try:
                data, _, _, sender = self._sock.recvmsg(BUFFER_SIZE)
            except BlockingIOError:
                return
            except OSError as exc:
                if exc.errno != errno.ENOBUFS:
                    raise
                logger.warning("notices about routes were lost - putting all of ours again")
                self._missed()
                return
            if sender[0] == 0:  # only the kernel is believed
                self._take(memoryview(data))

    def _take(self, data: memoryview) -> None:
        """One notice, unless our own request caused it."""
        with suppress(struct.error):
            length, kind, _, _, port = NLMSG.unpack_from(data)
            found = removed(kind, data[NLMSG.size : length])
            if found is not None and port != self._own_port:
                self._gone(found, port)

"""Option -a: every address of this host that comes or goes is logged."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import sys
from ipaddress import ip_address

from workers import netlink
from workers.netlink import BUFFER_SIZE, attributes, messages

logger = logging.getLogger(__name__)

RTM_NEWADDR, RTM_DELADDR = 20, 21
RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR = 0x10, 0x100
IFA_ADDRESS, IFA_LOCAL = 1, 2
HEADER_SIZE = 8


def describe(kind: int, body: memoryview) -> str | None:
    """A line for an event (struct ifaddrmsg), None for anything else."""
    if kind not in (RTM_NEWADDR, RTM_DELADDR) or len(body) < HEADER_SIZE:
        return None
    found = attributes(body[HEADER_SIZE:])
    packed = found.get(IFA_LOCAL, found.get(IFA_ADDRESS))
    if packed is None or len(packed) not in (4, 16):
        return None
    index = int.from_bytes(body[4:8], sys.byteorder)
    try:
        interface = socket.if_indextoname(index)
    except OSError:
        interface = f"interface {index}"
    what = "added" if kind == RTM_NEWADDR else "removed"
    return f"Netlink reflector reports IP {ip_address(bytes(packed))} {what} (/{body[1]} on {interface})"


class AddressLog:
    """Listens until it is closed."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        self._sock.bind((0, RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR))
        asyncio.get_running_loop().add_reader(self._sock, self._readable)

    def resize(self, size: int, force: bool) -> None:
        """Bytes of the receive buffer."""
        netlink.resize(self._sock, size, force)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._sock)
        self._sock.close()

    def _readable(self) -> None:
        try:
            data, sender = self._sock.recvfrom(BUFFER_SIZE)
        except BlockingIOError:
            return
        except OSError as exc:
            if exc.errno != errno.ENOBUFS:
                raise
            logger.warning("Netlink: changes of addresses were lost")
            return
        if sender[0] == 0:  # only the kernel is believed
            for kind, _, _, body in messages(data):
                line = describe(kind, body)
                if line is not None:
                    logger.info("%s", line)

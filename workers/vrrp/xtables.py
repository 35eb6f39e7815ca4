"""Members of ipset's sets by netlink, and what the kernel says of tables and sets in a few microseconds.

Layouts: linux/netfilter/ipset/ip_set.h, linux/netfilter_ipv4/ip_tables.h.
"""

from __future__ import annotations

import ctypes
import logging
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

from workers.netlink import (
    NESTED,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    attribute,
    attributes,
    error_code,
    message,
    messages,
)
from workers.nftables_keeper import NETLINK_NETFILTER, NFGENMSG

from .iptables_rules import Member

logger = logging.getLogger(__name__)

SUBSYSTEM, LIST, ADD, DELETE = 6, 7, 9, 10
PROTOCOL, SET_NAME, FLAGS, DATA = 1, 2, 6, 7
ADDRESS, PREFIX, INTERFACE, ELEMENTS = 1, 3, 23, 24
PROTOCOL_VERSION = 6
HEADER_ONLY = 1 << 2
NETWORK_ORDER = 0x4000
MANY = 500
"""Messages in one datagram."""
MOST_CODES = 4096
"""Greater numbers are errors of ipset's own."""
GET_INFO = 64
"""IPT_SO_GET_INFO and IP6T_SO_GET_INFO."""
INFO_SIZE = 84
TABLE = b"filter"


TABLES = ((socket.AF_INET, socket.IPPROTO_IP), (socket.AF_INET6, socket.IPPROTO_IPV6))
"""Families, and the level of their options."""


class Xtables:
    """Sockets for both."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        self._sock.setblocking(False)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._tables = [(socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW), level) for family, level in TABLES]

    def close(self) -> None:
        for sock in (self._sock, *(sock for sock, _ in self._tables)):
            sock.close()

    def sizes(self) -> list[bytes]:
        """Sizes of the tables, which change with most changes of their rules: to be compared with what they were."""
        return [self._info(sock.fileno(), level) for sock, level in self._tables]

    def _info(self, descriptor: int, level: int) -> bytes:
        info = ctypes.create_string_buffer(TABLE, INFO_SIZE)
        size = ctypes.c_uint32(INFO_SIZE)
        failed = self._libc.getsockopt(descriptor, level, GET_INFO, info, ctypes.byref(size))
        return b"" if failed else info.raw

    def change(self, names: tuple[str, ...], content: list[Member], *, present: bool) -> None:
        """Put members in or take them out, before this returns; a refusal is logged."""
        try:
            for start in range(0, len(content), MANY):
                chunk = content[start : start + MANY]
                self._sock.send(b"".join(encode(each, names[each.set], present) for each in chunk))
                codes = {error_code(body) for kind, body in self._answers() if kind == NLMSG_ERROR}
                for code in codes - {0}:
                    logger.error("ipset: %s", os.strerror(code) if code < MOST_CODES else f"error {code}")
        except OSError as exc:
            logger.error("ipset: %s", exc.strerror)

    def size(self, name: str) -> int | None:
        """How many members a set has; None where there is no such set."""
        body = NFGENMSG.pack(socket.AF_INET, 0, 0) + attribute(PROTOCOL, bytes((PROTOCOL_VERSION,)))
        body += attribute(SET_NAME, name.encode() + b"\0")
        body += attribute(FLAGS | NETWORK_ORDER, struct.pack("!I", HEADER_ONLY))
        self._sock.send(message(SUBSYSTEM << 8 | LIST, NLM_F_REQUEST | NLM_F_DUMP, body))
        found = None
        for kind, answer in self._answers():
            if kind not in (NLMSG_DONE, NLMSG_ERROR):
                header = attributes(attributes(answer[NFGENMSG.size :]).get(DATA, memoryview(b"")))
                found = struct.unpack("!I", header[ELEMENTS])[0] if ELEMENTS in header else found
        return found

    def _answers(self) -> Iterator[tuple[int, memoryview]]:
        """The kernel answers before send returns."""
        with suppress(BlockingIOError):
            while True:
                for kind, _, _, body in messages(self._sock.recv(1 << 16)):
                    yield kind, body


def encode(member: Member, name: str, present: bool) -> bytes:
    """Put a member into a set, or take it out; what is so already is no error."""
    family = socket.AF_INET if member.address.version == 4 else socket.AF_INET6
    kind = 1 if member.address.version == 4 else 2
    data = attribute(ADDRESS | NESTED, attribute(kind | NETWORK_ORDER, member.address.packed))
    if member.interface:
        data += attribute(PREFIX, bytes((member.prefix,))) + attribute(INTERFACE, member.interface.encode() + b"\0")
    body = NFGENMSG.pack(family, 0, 0) + attribute(PROTOCOL, bytes((PROTOCOL_VERSION,)))
    body += attribute(SET_NAME, name.encode() + b"\0") + attribute(DATA | NESTED, data)
    return message(SUBSYSTEM << 8 | (ADD if present else DELETE), NLM_F_REQUEST | NLM_F_ACK, body)

"""Netlink messages and attributes as bytes, whatever the family (linux/netlink.h)."""

from __future__ import annotations

import logging
import os
import socket
import struct
import sys
from collections.abc import Iterator

NLMSG = struct.Struct("=IHHII")
RTATTR = struct.Struct("=HH")
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_DUMP_INTR = 0x10
"""In answers: something changed during the dump, which may have missed what was there all the time."""
NLM_F_EXCL, NLM_F_CREATE = 0x200, 0x400
NESTED = 0x8000
TYPE_MASK = 0x3FFF
BUFFER_SIZE = 1 << 18
SO_RCVBUFFORCE = 33
INT_MAX = (1 << 31) - 1
TRIES = 3
"""Times that a dump is asked for, if the kernel says that it was interrupted.

Adverts wait meanwhile, with 4,000 addresses about 20 ms each.
"""
GENL = struct.Struct("=BBH")
NETLINK_GENERIC = 16
CTRL, GETFAMILY, FAMILY_ID, FAMILY_NAME = 0x10, 3, 1, 2

logger = logging.getLogger(__name__)


def make_room(sock: socket.socket, size: int) -> None:
    """A receive buffer of `size` bytes. Raises OSError.

    In a user namespace of its own, as most containers without privileges have, net.core.rmem_max is the limit.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, min(size, INT_MAX))
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, min(size, INT_MAX))


def resize(sock: socket.socket, size: int, force: bool) -> None:
    """The receive buffer as the configuration wants it (keywords *_rcv_bufs), 0: as it is."""
    if not size:
        return
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE if force else socket.SO_RCVBUF, min(size, INT_MAX))
    except OSError as exc:
        logger.warning("a receive buffer of %d bytes: %s", size, exc.strerror)


def attribute(kind: int, value: bytes) -> bytes:
    size = RTATTR.size + len(value)
    return RTATTR.pack(size, kind) + value + bytes(-size % 4)


def message(kind: int, flags: int, body: bytes, sequence: int = 0) -> bytes:
    return NLMSG.pack(NLMSG.size + len(body), kind, flags, sequence, 0) + body


def messages(data: bytes | memoryview) -> Iterator[tuple[int, int, int, memoryview]]:
    """Type, flags, sequence number and body of every message in a datagram; malformed ends are dropped."""
    for kind, flags, sequence, _, body in signed_messages(data):
        yield kind, flags, sequence, body


def signed_messages(data: bytes | memoryview) -> Iterator[tuple[int, int, int, int, memoryview]]:
    """The same with the port of the socket that caused a message, before the body."""
    view = memoryview(data)
    position = 0
    while position + NLMSG.size <= len(view):
        length, kind, flags, sequence, port = NLMSG.unpack_from(view, position)
        if length < NLMSG.size or position + length > len(view):
            return
        yield kind, flags, sequence, port, view[position + NLMSG.size : position + length]
        position += length + -length % 4


def dump(sock: socket.socket, kind: int, body: bytes, sequence: int = 1) -> list[tuple[int, memoryview]]:
    """Type and body of all answers on a blocking socket. Raises OSError.

    What changes while it is read is read again, but not for ever; nothing is decoded in vain.
    """
    for _ in range(TRIES):
        sock.send(message(kind, NLM_F_REQUEST | NLM_F_DUMP, body, sequence))
        found, whole = _answers(sock, sequence)
        if whole:
            break
    return found


def _answers(sock: socket.socket, wanted: int) -> tuple[list[tuple[int, memoryview]], bool]:
    """The answers to one request, and whether nothing changed meanwhile."""
    found: list[tuple[int, memoryview]] = []
    whole = True
    while True:
        for kind, flags, sequence, body in messages(sock.recv(BUFFER_SIZE)):
            if sequence != wanted:
                continue
            whole = whole and not flags & NLM_F_DUMP_INTR
            if kind == NLMSG_DONE:
                return found, whole
            if kind == NLMSG_ERROR:
                code = error_code(body)
                raise OSError(code, os.strerror(code))
            found.append((kind, body))


def error_code(body: memoryview) -> int:
    """The errno in a NLMSG_ERROR; 0 acknowledges."""
    return -int.from_bytes(body[:4], sys.byteorder, signed=True)


def attributes(body: memoryview) -> dict[int, memoryview]:
    """Attributes of one level by type; malformed ends are dropped."""
    found: dict[int, memoryview] = {}
    position = 0
    while position + RTATTR.size <= len(body):
        length, kind = RTATTR.unpack_from(body, position)
        if length < RTATTR.size:
            break
        found[kind & TYPE_MASK] = body[position + RTATTR.size : position + length]
        position += length + -length % 4
    return found


def generic_family(name: str) -> int:
    """The number of a generic netlink family (linux/genetlink.h); the kernel loads its module. Raises OSError."""
    body = GENL.pack(GETFAMILY, 1, 0) + attribute(FAMILY_NAME, name.encode() + b"\0")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_GENERIC) as sock:
        sock.send(message(CTRL, NLM_F_REQUEST, body, 1))
        kind, _, _, answer = next(messages(sock.recv(BUFFER_SIZE)))
    if kind != CTRL:
        code = error_code(answer)
        raise OSError(code, os.strerror(code))
    return int.from_bytes(attributes(answer[GENL.size :])[FAMILY_ID], sys.byteorder)

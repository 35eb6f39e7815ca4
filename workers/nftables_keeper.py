"""Tables of nftables stay as we made them: the kernel tells of every change of its rule set, and who made it.

Layouts: linux/netfilter/nfnetlink.h, nf_tables.h.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
from collections.abc import Callable, Collection, Iterator
from contextlib import nullcontext, suppress

from keepalived_py import netns

from . import nftables
from .netlink import BUFFER_SIZE, attributes, make_room, signed_messages
from .restorer import Restorer

logger = logging.getLogger(__name__)

NETLINK_NETFILTER, SUBSYSTEM = 12, 10
GROUP_NFTABLES = 7
SOL_NETLINK, ADD_MEMBERSHIP = 270, 1
RECEIVE_BUFFER = 4 << 20
NEWGEN = 15
NFGENMSG = struct.Struct("!BBH")
FAMILIES = {int(socket.AF_INET): "ip", int(socket.AF_INET6): "ip6"}
TABLE_NAME = 1
"""Attribute of every notice but that of the generation."""
PROCESS_ID, PROCESS_NAME = 2, 3
MOST = 50
"""Datagrams in one go: a few milliseconds, as adverts must not wait for the rules of others."""


class TableKeeper:
    """Tells `restorer` of changes by others; it loads the tables once more. `without` says in the log what is missing
    when nft cannot be run."""

    def __init__(self, restorer: Restorer, without: str, namespace: str | None = None) -> None:
        self.port = 0
        """Of another socket of ours that changes the tables."""
        self._restorer, self._without, self._namespace = restorer, without, namespace
        self._sock: socket.socket | None = None
        self._loading = asyncio.Lock()
        self._table = ""

    async def load(self, table: str, text: Callable[[], str]) -> bool:
        """Have nft perform `text`, which is asked for when its turn comes, and follow the tables called `table`.

        Notices wait meanwhile: what comes before those that nft caused is repaired by it.
        """
        async with self._loading:
            self._listen()
            self._table = table
            self._pause(True)
            ports: set[int] = set()
            try:
                return await nftables.load(text(), self._without, self._namespace, ports.add)
            finally:
                self._take(ports, 1 << 20)
                self._pause(False)

    async def remove(self, text: str) -> bool:
        """The same for the end: nothing is followed any more."""
        async with self._loading:
            self.close()
            return await nftables.load(text, "the tables stay", self._namespace)

    def close(self) -> None:
        """Follow nothing any more."""
        self._table = ""
        self._restorer.close()
        if self._sock is not None:
            self._pause(True)
            self._sock.close()
            self._sock = None

    def _listen(self) -> None:
        if self._sock is not None:
            return
        try:
            with nullcontext() if self._namespace is None else netns.inside(self._namespace):
                sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
            sock.setblocking(False)
            make_room(sock, RECEIVE_BUFFER)
            sock.bind((0, 0))
            sock.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, GROUP_NFTABLES)
        except OSError as exc:
            logger.warning("changes of nftables by others cannot be seen: %s", exc.strerror)
            return
        self._sock = sock

    def _pause(self, paused: bool) -> None:
        """Leave notices in the socket."""
        if self._sock is None:
            return
        loop = asyncio.get_running_loop()
        if paused:
            loop.remove_reader(self._sock)
        else:
            loop.add_reader(self._sock, self._take)

    def _take(self, loaders: Collection[int] = (), most: int = MOST) -> None:
        """Read notices. `loaders`: ports of those that made the tables anew for us."""
        name = self._table.encode() + b"\0"
        for _ in range(most):
            try:
                if self._sock is None:
                    return
                data, _, _, sender = self._sock.recvmsg(BUFFER_SIZE)
            except BlockingIOError:
                break
            except OSError as exc:
                if exc.errno != errno.ENOBUFS:
                    raise
                logger.warning("notices about nftables were lost - the tables are made again")
                self._restorer.due = True
                continue
            if sender[0] == 0 and (name in data or self._restorer.hurt):  # only the kernel is believed
                self._judge(data, loaders)
        self._restorer.start()

    def _judge(self, data: bytes, loaders: Collection[int]) -> None:
        restorer = self._restorer
        for port, table, process in notices(data):
            if process:
                restorer.culprit = restorer.culprit or (process if restorer.hurt else "")
            elif table.partition(" ")[2] != self._table or port == self.port:
                continue
            elif port in loaders:
                restorer.forget()
            else:
                restorer.hurt[f"nftables table {table}"] = None


def notices(data: bytes | memoryview) -> Iterator[tuple[int, str, str]]:
    """Port of who caused it, table with family, and for the end of a change instead the process that made it."""
    for kind, _, _, port, body in signed_messages(data):
        if kind >> 8 != SUBSYSTEM or len(body) < NFGENMSG.size:
            continue
        found = attributes(body[NFGENMSG.size :])
        if kind & 0xFF == NEWGEN:
            yield port, "", _process(found.get(PROCESS_NAME), found.get(PROCESS_ID))
        elif body[0] in FAMILIES and TABLE_NAME in found:
            yield port, f"{FAMILIES[body[0]]} {_word(found[TABLE_NAME])}", ""


def _word(value: memoryview) -> str:
    return bytes(value).rstrip(b"\0").decode("utf-8", "replace")


def _process(name: memoryview | None, number: memoryview | None) -> str:
    """`nft (process 7)`; the number is that of the first process namespace."""
    shown = _word(name) if name is not None else "somebody else"
    with suppress(TypeError, struct.error):
        return f"{shown} (process {struct.unpack('!I', number or b'')[0]})"
    return shown

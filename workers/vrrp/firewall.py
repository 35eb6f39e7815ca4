"""Accept mode and the filters of VMACs in nftables, or in iptables where that is wanted (vrrp-behaviour.md 12).

Tables, chains and sets are made by nft(8) when a configuration is applied; becoming and leaving master only adds and
removes elements, by one netlink batch. Layouts: linux/netfilter/nf_tables.h, nfnetlink.h.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterable
from contextlib import suppress
from functools import partial

from keepalived_py.config.model import FirewallSettings
from workers.nftables_keeper import NETLINK_NETFILTER, NFGENMSG, SUBSYSTEM, TableKeeper
from workers.restorer import Restorer

from . import iptables
from .firewall_rules import Element, Needs, Standing, ruleset
from .rtnetlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, NLMSG, NLMSG_ERROR, attribute, message, messages

logger = logging.getLogger(__name__)

BATCH_BEGIN, BATCH_END = 0x10, 0x11
NEWSETELEM, DELSETELEM = SUBSYSTEM << 8 | 12, SUBSYSTEM << 8 | 14
NESTED = 0x8000
LIST_TABLE, LIST_SET, LIST_ELEMENTS = 1, 2, 3
LIST_ELEMENT, ELEMENT_KEY, ELEMENT_DATA, DATA_VALUE = 1, 1, 2, 1
WITHOUT = "accept mode and VMAC filters are without effect"


class Firewall:
    """The tables of this worker, and which elements are whose."""

    def __init__(self) -> None:
        self.settings = FirewallSettings()
        self.restorer = Restorer(self._load)
        self._tables = TableKeeper(self.restorer, WITHOUT)
        self._made = Needs()
        self._standing = Standing()
        self._iptables: iptables.Chains | None = None
        """Instead of nftables."""
        self._elements: dict[Hashable, frozenset[Element]] = {}
        self._uses: Counter[Element] = Counter()
        """How many want each."""
        self._sock: socket.socket | None = None

    async def configure(self, wanted: Needs, settings: FirewallSettings, standing: Standing) -> None:
        """Make the tables that are needed, full from their first moment: not one packet gets through meanwhile."""
        same = (wanted, settings) == (self._made, self.settings)
        if same and (self._iptables is None or standing == self._standing):
            return
        legacy = self._iptables is not None
        if wanted and (settings != self.settings or not self._made):
            legacy = await iptables.is_wanted(settings)
        chains = (self._iptables or iptables.Chains(self.restorer)) if wanted and legacy else None
        old = self._remover() if self._made and (not wanted or type(chains) is not type(self._iptables)) else None
        self._made, self.settings, self._standing, self._iptables = wanted, settings, standing, chains
        await self._load()
        if old is not None:
            await old()

    def _remover(self) -> Callable[[], Awaitable[object]]:
        """What takes away what is there now."""
        if self._iptables is not None:
            return self._iptables.remove
        return partial(self._tables.remove, ruleset(Needs(), self.settings))

    async def _load(self) -> bool:
        """The tables as they have to be; what is wanted from the moment that nft gets its text follows after it."""
        if not self._made:
            return True
        loaded: frozenset[Element] = frozenset()

        def text() -> str:
            nonlocal loaded
            loaded = self._all()
            return ruleset(self._made, self.settings, loaded)

        if self._iptables is not None:
            loaded = self._all()
            done = await self._iptables.load(self._made, self.settings, loaded, self._standing)
        else:
            with suppress(OSError):  # a master to come may find no descriptor for it
                self._open()
            done = await self._tables.load(self.settings.nftables_table, text)
        self._change(NEWSETELEM, sorted(self._all() - loaded))
        self._change(DELSETELEM, sorted(loaded - self._all()))
        return done

    def _all(self) -> frozenset[Element]:
        return frozenset(self._uses)

    def expect(self, owner: Hashable, elements: frozenset[Element]) -> None:
        """`owner` has something to close already, left by a process before: the first table is made with it."""
        self._own(owner, elements)

    def set(self, owner: Hashable, elements: frozenset[Element]) -> None:
        """`owner` wants these elements now, and none of those it wanted before."""
        added, gone = self._own(owner, elements)
        self._change(NEWSETELEM, added)
        self._change(DELSETELEM, gone)

    def _own(self, owner: Hashable, elements: frozenset[Element]) -> tuple[list[Element], list[Element]]:
        """What nobody wanted until now, and what nobody wants any more."""
        before = self._elements.pop(owner, frozenset())
        if elements:
            self._elements[owner] = elements
        added = sorted(each for each in elements - before if each not in self._uses)
        self._uses.update(elements - before)
        self._uses.subtract(before - elements)
        gone = sorted(each for each in before - elements if not self._uses[each])
        for each in gone:
            del self._uses[each]
        return added, gone

    async def close(self) -> None:
        """Take the tables away."""
        remove, made, self._made = self._remover(), self._made, Needs()
        if made:
            await remove()
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _change(self, kind: int, elements: list[Element]) -> None:
        elements = [each for each in elements if each in self._made]  # one without a set costs the whole batch
        if not elements:
            return
        if self._iptables is not None:
            self._iptables.change(elements, present=kind == NEWSETELEM)
            return
        try:
            self._open().send(encode(kind, elements, self.settings.nftables_table))
            refused = {code for code in self._answers() if code not in (errno.EEXIST, errno.ENOENT)}
        except OSError as exc:
            refused = {exc.errno or errno.EIO}
            self.restorer.due = True  # the tables are made with what they should have
            self.restorer.start()
        for code in refused:
            logger.error("nftables table %s: %s", self.settings.nftables_table, os.strerror(code))

    def _open(self) -> socket.socket:
        """The socket for elements. Raises OSError."""
        if self._sock is None:
            sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
            sock.setblocking(False)
            sock.bind((0, 0))
            self._tables.port, self._sock = sock.getsockname()[0], sock
        return self._sock

    def _answers(self) -> Iterable[int]:
        """The kernel answers before send returns."""
        assert self._sock is not None
        while True:
            try:
                data = self._sock.recv(1 << 16)
            except BlockingIOError:
                return
            for kind, _, _, body in messages(data):
                if kind == NLMSG_ERROR:
                    (code,) = struct.unpack_from("=i", body)
                    if code:
                        yield -code


def encode(kind: int, elements: Iterable[Element], table: str) -> bytes:
    """One batch: all or nothing."""
    by_set: dict[tuple[int, str], list[Element]] = {}
    for element in elements:
        by_set.setdefault((element.family, element.set), []).append(element)
    parts = [_message(BATCH_BEGIN, NLM_F_REQUEST, NFGENMSG.pack(socket.AF_UNSPEC, 0, SUBSYSTEM), 0)]
    create = NLM_F_CREATE if kind == NEWSETELEM else 0
    for number, ((family, name), members) in enumerate(by_set.items(), 1):
        body = NFGENMSG.pack(socket.AF_INET if family == 4 else socket.AF_INET6, 0, 0)
        body += attribute(LIST_TABLE, table.encode() + b"\0") + attribute(LIST_SET, name.encode() + b"\0")
        body += attribute(LIST_ELEMENTS | NESTED, b"".join(map(_element, members)))
        parts.append(_message(kind, NLM_F_REQUEST | NLM_F_ACK | create, body, number))
    parts.append(_message(BATCH_END, NLM_F_REQUEST, NFGENMSG.pack(socket.AF_UNSPEC, 0, SUBSYSTEM), len(by_set) + 1))
    return b"".join(parts)


def _message(kind: int, flags: int, body: bytes, sequence: int) -> bytes:
    plain = message(kind, flags, body)
    length, *_ = NLMSG.unpack_from(plain)
    return NLMSG.pack(length, kind, flags, sequence, 0) + body


def _element(element: Element) -> bytes:
    inner = attribute(ELEMENT_KEY | NESTED, attribute(DATA_VALUE, element.key))
    if element.value:
        inner += attribute(ELEMENT_DATA | NESTED, attribute(DATA_VALUE, element.value))
    return attribute(LIST_ELEMENT | NESTED, inner)

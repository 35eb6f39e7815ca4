"""What the kernel knows of links and addresses, kept current. A lost notice means a full re-read, never a guess."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

from keepalived_py.plan.links import AddressKey
from keepalived_py.values import IPAddress
from workers import netlink

from .rtnetlink import (
    BUFFER_SIZE,
    RTMGRP_IPV4_IFADDR,
    RTMGRP_IPV6_IFADDR,
    RTMGRP_LINK,
    AddressNotice,
    Link,
    LinkNotice,
    RequestSocket,
    notice,
)

logger = logging.getLogger(__name__)

RECEIVE_BUFFER = 16 << 20


class LinkMonitor:
    """Tables of links and addresses. `changed` hears each notice once they have it, `reread` of a full re-read."""

    def __init__(self, changed: Callable[[LinkNotice | AddressNotice], None], reread: Callable[[], None]) -> None:
        self.links: dict[int, Link] = {}
        self.secondary: set[AddressKey] = set()
        """IPv4 addresses that go with the primary one of their network."""
        self.addresses: dict[AddressKey, bool] = {}
        """Whether each is tentative."""
        self._names: tuple[dict[str, int], dict[str, int]] | None = None
        """Interfaces and routing tables by name; None: to be worked out again."""
        self._on_link: dict[int, dict[AddressKey, None]] = {}
        """Addresses by interface, in the kernel's order."""
        self.overruns = 0
        self._changed, self._reread = changed, reread
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        netlink.make_room(self._sock, RECEIVE_BUFFER)
        self._sock.setblocking(False)
        self._buffer = bytearray(BUFFER_SIZE)

    def start(self, loop: asyncio.AbstractEventLoop, requests: RequestSocket) -> None:
        """Subscribe first, then read everything, so that nothing is missed in between."""
        self._requests, self._loop = requests, loop
        self._sock.bind((0, RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR))
        self.read_all()
        loop.add_reader(self._sock, self._readable)

    def resize(self, size: int, force: bool) -> None:
        """Bytes of the receive buffer."""
        netlink.resize(self._sock, size, force)

    def pause(self, paused: bool) -> None:
        """Leave notices in the socket while our own changes cause them by the thousand."""
        if paused:
            self._loop.remove_reader(self._sock)
        else:
            self._loop.add_reader(self._sock, self._readable)

    def read_all(self) -> None:
        self.links.clear()
        self.addresses.clear()
        self.secondary.clear()
        self._names, self._on_link = None, {}
        for each in self._requests.dump():
            self._take(each)

    def index_of(self) -> dict[str, int]:
        """Interface indices by name; another dictionary after each change."""
        return self._by_name()[0]

    def tables(self) -> dict[str, int]:
        """Routing tables of VRFs by name; another dictionary after each change."""
        return self._by_name()[1]

    def _by_name(self) -> tuple[dict[str, int], dict[str, int]]:
        if self._names is None:
            links = self.links.values()
            tables = {link.name: link.table for link in links if link.table}
            self._names = {link.name: link.index for link in links}, tables
        return self._names

    def by_name(self, name: str) -> Link | None:
        index = self._by_name()[0].get(name)
        return None if index is None else self.links.get(index)

    def base_of(self, name: str) -> str:
        """The interface whose wire an interface uses: the one below a VMAC, else itself."""
        link = self.by_name(name)
        base = self.links.get(link.parent) if link is not None and link.is_vmac else None
        return name if base is None else base.name

    def own_addresses(self, index: int, family: int, but_not: frozenset[IPAddress]) -> list[IPAddress]:
        """Usable addresses of an interface in the kernel's order; IPv6: link-local ones only."""
        return [
            key.address
            for key in self._on_link.get(index, ())
            if key.address.version == family
            and key.address not in but_not
            and not self.addresses[key]
            and (family == 4 or key.address.is_link_local)
        ]

    def _is_known(self, each: LinkNotice | AddressNotice) -> bool:
        """Whether a notice says nothing new: an interface says something each time that one is made above it."""
        return isinstance(each, LinkNotice) and each.present and self.links.get(each.link.index) == each.link

    def _take(self, each: LinkNotice | AddressNotice) -> None:
        if isinstance(each, LinkNotice):
            self._take_link(each)
        elif each.present:
            self.addresses[each.key] = each.tentative
            (self.secondary.add if each.secondary else self.secondary.discard)(each.key)
            self._on_link.setdefault(each.key.ifindex, {})[each.key] = None
        else:
            self.addresses.pop(each.key, None)
            self.secondary.discard(each.key)
            self._on_link.get(each.key.ifindex, {}).pop(each.key, None)

    def _take_link(self, notice: LinkNotice) -> None:
        link = notice.link
        before = self.links.pop(link.index, None) if not notice.present else self.links.get(link.index)
        if notice.present:
            self.links[link.index] = link
        if before is not None and notice.present and (before.name, before.table) == (link.name, link.table):
            return
        self._names = None

    def forget(self, link: Link) -> None:
        """The kernel does not know `link` any more; its notice is still on the way."""
        self._take_link(LinkNotice(link, present=False))

    def read_waiting(self) -> None:
        """Take every notice that is there now."""
        self._read(1 << 20, self._changed)

    def absorb(self) -> None:
        """The same in the middle of a change of ours: who is to hear of it hears when the change is made."""
        self._read(1 << 20, lambda found: self._loop.call_soon(self._changed, found))

    def _readable(self) -> None:
        self._read(64, self._changed)  # a flood of notices must not keep the adverts waiting

    def _read(self, limit: int, tell: Callable[[LinkNotice | AddressNotice], object]) -> None:
        for _ in range(limit):
            try:
                size, _, _, sender = self._sock.recvmsg_into([self._buffer])
            except BlockingIOError:
                return
            except OSError as exc:
                if exc.errno != errno.ENOBUFS:
                    raise
                self.overruns += 1
                logger.warning("netlink notices were lost - reading all links and addresses again")
                self.read_all()
                self._reread()
                return
            if sender[0] != 0:
                continue  # only the kernel is believed
            for kind, _, _, port, body in netlink.signed_messages(memoryview(self._buffer)[:size]):
                found = notice(kind, body, port)
                if found is not None and not self._is_known(found):
                    self._take(found)
                    tell(found)

"""Who held an address when, seen by the kernels of all routers: the time without an owner, the time with two."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from tests.netns.rig import Host, inside
from workers.vrrp.rtnetlink import AddressNotice, messages, notice

RTNLGRP_IPV4_IFADDR = 0x10
Span = tuple[float, float]


@dataclass(slots=True)
class Owner:
    """One router: when the address was there, and when that did not count. Times of CLOCK_MONOTONIC."""

    name: str
    changes: list[tuple[float, bool]] = field(default_factory=list)
    away: list[list[float]] = field(default_factory=list)
    """Cut off or dead: clients do not reach it."""
    frozen: list[list[float]] = field(default_factory=list)
    """Cannot know what goes on: clients reach it, but it counts for no second master."""

    def holds(self, at: float) -> bool:
        held = False
        for moment, present in self.changes:
            if moment > at:
                break
            held = present
        return held


def _within(spans: list[list[float]], at: float) -> bool:
    return any(span[0] <= at < span[1] for span in spans)


class Record:
    """Follows one address on all `hosts` until it is closed."""

    def __init__(self, hosts: Iterable[Host], address: str) -> None:
        self.address = address
        self.owners = {host.name: Owner(host.name) for host in hosts}
        self._running = True
        self._socks: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        for host in hosts:
            with inside(host.namespace):
                sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
                sock.bind((0, RTNLGRP_IPV4_IFADDR))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
            sock.settimeout(0.2)
            thread = threading.Thread(target=self._read, args=(sock, self.owners[host.name]), daemon=True)
            thread.start()
            self._socks.append(sock)
            self._threads.append(thread)

    def _read(self, sock: socket.socket, owner: Owner) -> None:
        while self._running:
            with contextlib.suppress(OSError):
                data = sock.recv(1 << 18)
                at = time.monotonic()
                for kind, _, _, body in messages(data):
                    found = notice(kind, body)
                    if isinstance(found, AddressNotice) and str(found.key.address) == self.address:
                        owner.changes.append((at, found.present))

    def close(self) -> None:
        self._running = False
        for thread in self._threads:
            thread.join()
        for sock in self._socks:
            sock.close()

    def _moments(self, since: float, until: float) -> list[float]:
        """When anything changed, and both ends."""
        found = {since, until}
        for owner in self.owners.values():
            found |= {moment for moment, _ in owner.changes}
            found |= {moment for span in (*owner.away, *owner.frozen) for moment in span}
        return sorted(moment for moment in found if since <= moment <= until)

    def _longest(self, since: float, until: float, bad: Iterable[bool], moments: list[float]) -> float:
        longest = current = 0.0
        for (begin, end), is_bad in zip(pairwise(moments), bad, strict=False):
            current = current + end - begin if is_bad else 0.0
            longest = max(longest, current)
        return longest

    def gap(self, since: float, until: float) -> float:
        """Longest time in which no router that can be reached held the address."""
        moments = self._moments(since, until)
        nobody = [
            not any(owner.holds(at) and not _within(owner.away, at) for owner in self.owners.values()) for at in moments
        ]
        return self._longest(since, until, nobody, moments)

    def double(self, since: float, until: float) -> float:
        """Longest time in which two that could know of each other held it."""
        moments = self._moments(since, until)
        several = [
            sum(
                owner.holds(at) and not _within(owner.away, at) and not _within(owner.frozen, at)
                for owner in self.owners.values()
            )
            > 1
            for at in moments
        ]
        return self._longest(since, until, several, moments)

"""What -D adds to the log of VRRP, with keepalived's words for what people look for in it.

One line for one deed: it names a few addresses and counts the others, so that thousands cost what one costs. Lines are
written when the deeds are done: a thousand instances that take over are not to wait for their log.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain

from keepalived_py.clock import now
from keepalived_py.log import DETAIL
from keepalived_py.plan.links import AddAddress, DeleteAddress

from .announce import ETH_P_ARP, Frames, announced
from .rtnetlink import Batch

logger = logging.getLogger(__name__)

NAMED = 10
"""Addresses that a line names."""
KINDS = {True: "gratuitous ARP", False: "unsolicited Neighbour Advert"}


PAUSE = 0.02
"""Seconds between pieces of work on lines."""
BUDGET = 0.001
"""Seconds of work on lines at a time."""


class Lines:
    """Lines that wait for a quiet moment. Each is a call that writes it."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()

    def add(self, line: Callable[[], None]) -> None:
        if not logger.isEnabledFor(DETAIL):
            return
        if not self._waiting:
            asyncio.get_running_loop().call_later(PAUSE, self._write)
        self._waiting.append(line)

    def _write(self) -> None:
        until = now() + BUDGET
        while self._waiting and now() < until:
            self._waiting.popleft()()
        if self._waiting:
            asyncio.get_running_loop().call_later(PAUSE, self._write)

    def finish(self) -> None:
        """Write all that wait."""
        while self._waiting:
            self._waiting.popleft()()


def addresses(instance: str, steps: Sequence[Batch]) -> None:
    """What an instance puts on interfaces and removes from them."""
    for deed, kind in (("removing", DeleteAddress), ("setting", AddAddress)):
        keys = [op.key for batch in steps for op in batch.ops if isinstance(op, kind)]
        if keys:
            text = _named((f"{key.address}/{key.prefixlen}" for key in keys[:NAMED]), len(keys))
            logger.debug("(%s) %s VIPs: %s", instance, deed, text)


def announcements(instance: str, chunks: Iterable[Frames], rounds: int) -> None:
    """A line for each interface and protocol of a burst."""
    groups: dict[tuple[str, bool], list[bytes]] = {}
    for interface, frame in chain.from_iterable(chunks):
        groups.setdefault((interface, int.from_bytes(frame[12:14]) == ETH_P_ARP), []).append(frame)
    times = f" ({rounds} times)" if rounds > 1 else ""
    for (interface, arp), frames in groups.items():
        text = _named((ipaddress.ip_address(announced(frame)) for frame in frames[:NAMED]), len(frames))
        logger.debug("(%s) Sending %s on %s for %s%s", instance, KINDS[arp], interface, text, times)


def farewell(instance: str) -> None:
    logger.debug("(%s) sent 0 priority", instance)


def master_is_silent(instance: str) -> None:
    logger.debug("(%s) Receive advertisement timeout", instance)


def source(instance: str, address: object, interface: str) -> None:
    """Where its adverts come from."""
    logger.debug("(%s) Assigned address %s for interface %s", instance, address, interface or "any")


def _named(first: Iterable[object], count: int) -> str:
    return ", ".join(map(str, first)) + (f" and {count - NAMED} more" if count > NAMED else "")

"""vrrp_hand_over: whether a master that leaves keeps what it holds until another router has it, and how long."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Sequence
from contextlib import suppress

from keepalived_py.clock import now
from keepalived_py.values import IPAddress
from keepalived_py.vrrp.timers import skew_time

from .hearing import Hearing
from .instance import Instance

GRACE = 0.1
"""Seconds that a router may be late when it takes over."""


class HandOver:
    """`took_over` is called when an instance that hands over has heard its successor."""

    def __init__(self, hearing: Hearing) -> None:
        self._hearing = hearing
        self._taken = asyncio.Event()

    def took_over(self) -> None:
        self._taken.set()

    def is_followed(self, instance: Instance, wanted: str, own: Container[IPAddress]) -> bool:
        """Whether there is a router to hand over to. `wanted`: always, never or auto; `own`: addresses of this host."""
        if wanted != "auto":
            return wanted == "always"
        if instance.config.unicast:
            return bool(instance.config.unicast_peers)
        return instance.receiver is not None and self._hearing.audience.others(instance.receiver, own)

    async def wait(self, waiting: Sequence[Instance], limit: float) -> None:
        """Until others have taken over all of `waiting`: no longer than it takes the one with the lowest priority.

        `limit` in seconds.
        """
        longest = max((skew_time(each.config.version, 0, each.config.advert_int) for each in waiting), default=0.0)
        until = now() + min(longest + GRACE, limit)
        while (left := until - now()) > 0 and any(each.router.handing_over for each in waiting):
            self._taken.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._taken.wait()

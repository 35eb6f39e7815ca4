"""UDP_CHECK: no ICMP error comes back, or the wanted answer does (checker-behaviour.md 4)."""

from __future__ import annotations

import asyncio
import socket

from keepalived_py.config.model import UdpCheck
from keepalived_py.records import dataclass

from .probe import CheckFailed, connect, open_socket, receive, send

FILLER = b"keepalived check - "
"""What is sent where nobody says what, again and again."""
LENGTH = 32
"""Bytes of it."""


def filler(length: int) -> bytes:
    return (FILLER * (length // len(FILLER) + 1))[:length]


@dataclass(frozen=True, slots=True)
class UdpChecker:
    config: UdpCheck
    name: str = "UDP_CHECK"

    @property
    def limit(self) -> float:
        """Silence is well unless an answer is required, so waiting for it in vain must not count as too long."""
        within = self.config.timing.connect_timeout
        return within if self.config.require_reply else within + 1.0

    async def check(self) -> None:
        config = self.config
        with open_socket(config.endpoint, socket.SOCK_DGRAM) as sock:
            await connect(sock, config.endpoint)
            await send(sock, filler(LENGTH) if config.payload is None else config.payload)
            if config.require_reply:
                self._judge(await receive(sock, config.max_reply_length + 1))
                return
            try:
                async with asyncio.timeout(config.timing.connect_timeout):
                    await receive(sock, 1)
            except TimeoutError:
                return

    def _judge(self, answer: bytes) -> None:
        """Length and beginning, compared over the shorter of both. Raises CheckFailed."""
        config = self.config
        if config.reply is None:
            return
        if not config.min_reply_length <= len(answer) <= config.max_reply_length:
            more = " or more" if len(answer) > config.max_reply_length else ""
            raise CheckFailed(f"answer of {len(answer)}{more} bytes")
        mask = config.reply_mask or b"\xff" * len(config.reply)
        for place, (found, wanted, bits) in enumerate(zip(answer, config.reply, mask, strict=False)):
            if (found ^ wanted) & bits:
                raise CheckFailed(f"answer differs at byte {place}")

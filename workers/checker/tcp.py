"""TCP_CHECK: well means it accepts a connection (checker-behaviour.md 4)."""

from __future__ import annotations

from dataclasses import dataclass

from keepalived_py.config.model import TcpCheck

from .probe import connect, open_socket


@dataclass(frozen=True, slots=True)
class TcpChecker:
    config: TcpCheck
    name: str = "TCP_CHECK"

    @property
    def limit(self) -> float:
        return self.config.timing.connect_timeout

    async def check(self) -> None:
        with open_socket(self.config.endpoint) as sock:
            await connect(sock, self.config.endpoint)

"""TCP_CHECK: well means it accepts a connection (checker-behaviour.md 4)."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

from keepalived_py.config.model import TcpCheck

from .probe import CheckFailed, open_socket


@dataclass(frozen=True, slots=True)
class TcpChecker:
    config: TcpCheck
    name: str = "TCP_CHECK"

    @property
    def limit(self) -> float:
        return self.config.timing.connect_timeout

    async def check(self) -> None:
        endpoint = self.config.endpoint
        sock = open_socket(endpoint)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (str(endpoint.address), endpoint.port))
        except OSError as exc:
            raise CheckFailed(f"connect: {os.strerror(exc.errno) if exc.errno else exc}") from exc
        finally:
            sock.close()

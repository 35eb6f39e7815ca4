"""Connections of checks that speak for a while, over TLS where that is asked for."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

from keepalived_py.config.model import Endpoint

from .probe import connect, failure, open_socket

Secured = tuple[ssl.SSLContext | None, str | None]
"""How to speak TLS and to whom; twice None for not."""
PLAIN: Secured = (None, None)


@contextlib.asynccontextmanager
async def stream(
    endpoint: Endpoint, secured: Secured
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Raises CheckFailed and CheckNotMade, for what goes wrong on the connection within, too."""
    context, name = secured
    with open_socket(endpoint) as sock:
        await connect(sock, endpoint)
        try:
            reader, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname=name)
        except OSError as exc:
            raise failure("TLS", exc) from exc
        try:
            yield reader, writer
            writer.close()  # ends TLS properly; that of the other side is not waited for
        except OSError as exc:
            raise failure("receive", exc) from exc
        finally:
            writer.transport.abort()


async def read(reader: asyncio.StreamReader, most: int) -> bytes:
    """What there is, b"" at the end. Raises OSError."""
    await asyncio.sleep(0)  # one that floods us must not keep the deadline from being noticed
    return await reader.read(most)

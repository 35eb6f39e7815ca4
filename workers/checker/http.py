"""HTTP_GET and SSL_GET over TLS or with a pattern (checker-behaviour.md 4); the others are made by http_plain.py.

Of the body only a limited part is kept, and that only for a pattern, so an endless answer costs time until the deadline
and no memory. TLS connections are closed properly, whether tls_compliant is set or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import TYPE_CHECKING

from keepalived_py.config.model import Endpoint, HttpCheck, HttpUrl, SslSettings, TlsSettings
from keepalived_py.pattern import Pattern, PatternError, SearchGivenUp, compiled
from keepalived_py.records import dataclass
from keepalived_py.values import IPAddress

from . import http_request
from .http_plain import Visit
from .probe import CheckFailed, CheckNotMade
from .searcher import Searcher
from .stream import PLAIN, Secured, read, stream
from .tls import TlsContexts, TlsError, server_name

if TYPE_CHECKING:  # 10 MB, which only processes that keep connections have to have
    import aiohttp

CHUNK = 65536


class HttpClient:
    """What the checks of one worker share that speak TLS, look for patterns or keep connections.

    Sessions of kept connections: one for each source, interface and mark.
    """

    def __init__(self, ssl: SslSettings | None = None) -> None:
        self.tls = TlsContexts(ssl)
        self.searcher = Searcher()
        self._sessions: dict[Hashable, aiohttp.ClientSession] = {}

    def secured(self, tls: TlsSettings | None, address: IPAddress, virtualhost: str, *protocols: str) -> Secured:
        """How to speak TLS, and to whom; `protocols` are offered by ALPN. Raises CheckNotMade."""
        if tls is None:
            return PLAIN
        try:
            return self.tls.context(tls, *protocols), server_name(tls, virtualhost, address)
        except TlsError as exc:
            raise CheckNotMade(str(exc)) from exc

    async def look_for(self, url: HttpUrl, pattern: Pattern, body: bytes, size: int, until: float) -> None:
        """In the part that is there of a body of `size`; `until` on the loop's clock. Raises CheckFailed."""
        try:
            found = await self.searcher.search(pattern, body, url.regex_min_offset, url.regex_max_offset, until)
        except SearchGivenUp as exc:
            raise CheckFailed(f"{url.path}: {exc}") from exc
        if found and url.regex_no_match:
            raise CheckFailed(f"{url.path}: the pattern is in the body")
        if not found and not url.regex_no_match:
            where = "the body" if size <= len(body) else f"the first {len(body)} bytes of the body"
            raise CheckFailed(f"{url.path}: the pattern is not in {where}")

    def session(self, endpoint: Endpoint) -> aiohttp.ClientSession:
        """The session that keeps connections to `endpoint`."""
        key = endpoint.bindto, endpoint.bind_port, endpoint.bind_if, endpoint.fwmark
        found = self._sessions.get(key)
        if found is None:
            from .http_kept import open_session

            found = self._sessions[key] = open_session(endpoint)
        return found

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()


@dataclass(frozen=True, slots=True)
class HttpChecker:
    """One url of an HTTP_GET or SSL_GET, that with `number`."""

    config: HttpCheck
    client: HttpClient
    number: int = 0

    @property
    def name(self) -> str:
        return "HTTP_GET" if self.config.tls is None else "SSL_GET"

    @property
    def limit(self) -> float:
        return self.config.timing.connect_timeout

    async def check(self) -> None:
        until = asyncio.get_running_loop().time() + self.limit
        url, endpoint = self.config.urls[self.number], self.config.endpoint
        pattern = pattern_of(url)
        visit = self._visit(url, pattern is not None)
        secured = self.client.secured(self.config.tls, endpoint.address, url.virtualhost)
        async with stream(endpoint, secured) as (reader, writer):
            writer.write(visit.opening)
            while (result := visit.hear(await read(reader, CHUNK))) is None:
                pass
        if result.failure:
            raise CheckFailed(result.failure)
        if pattern is not None:
            await self.client.look_for(url, pattern, bytes(visit.kept), visit.size, until)

    def _visit(self, url: HttpUrl, keep: bool) -> Visit:
        return Visit(self.config, url, http_request.request(self.config, url), keep)


def pattern_of(url: HttpUrl) -> Pattern | None:
    """One that cannot be compiled was reported when the file was read, and counts as none (checker-behaviour.md 4)."""
    try:
        return compiled(url.regex, url.regex_options) if url.regex else None
    except PatternError:
        return None

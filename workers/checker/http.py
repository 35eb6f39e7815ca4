"""HTTP_GET and SSL_GET (checker-behaviour.md 4): the request as keepalived makes it, judged by status, digest, pattern.

aiohttp speaks HTTP here, for TLS, kept connections and patterns; the rest, which is most, is made by http_plain.py. Of
the body only a limited part is kept, and that only for a pattern, so an endless answer costs time until the deadline
and no memory. TLS connections are closed properly, whether tls_compliant is set or not.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
from collections.abc import AsyncIterator, Hashable
from typing import TYPE_CHECKING, Any

from keepalived_py.config.model import Endpoint, HttpCheck, HttpUrl, SslSettings
from keepalived_py.pattern import Pattern, PatternError, SearchGivenUp, compiled
from keepalived_py.records import dataclass

from . import http_request, probe
from .http_plain import tell_missing
from .probe import CheckFailed, CheckNotMade
from .searcher import Searcher
from .tls import TlsContexts, TlsError, server_name, tls_reason

if TYPE_CHECKING:  # 10 MB, which only processes with such checks have to have
    import aiohttp
    from yarl import URL

CHUNK = 65536
TRANSFER_ENCODING = "Transfer-Encoding"
UNSENDABLE = re.compile(r"[\0-\x08\x0a-\x1f\x7f\ud800-\udfff]")
BODY_LIMIT = 1 << 20
"""Bytes of a body in which a pattern is looked for."""


class HttpClient:
    """What the url checks of one worker share.

    Sessions: one for all plain checks, one for each source, interface and mark.
    """

    def __init__(self, ssl: SslSettings | None = None) -> None:
        self.tls = TlsContexts(ssl)
        self.searcher = Searcher()
        self._sessions: dict[tuple[Hashable, bool, bool], aiohttp.ClientSession] = {}

    def session(self, endpoint: Endpoint, newer: bool, keep: bool = False) -> aiohttp.ClientSession:
        """The session for checks of `endpoint`; `newer` speaks HTTP/1.1, else 1.0; `keep` keeps connections."""
        key = ((endpoint.bindto, endpoint.bind_port, endpoint.bind_if, endpoint.fwmark), newer, keep)
        found = self._sessions.get(key)
        if found is None:
            from .http_session import open_session

            found = self._sessions[key] = open_session(endpoint, newer, keep)
        return found

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()


@dataclass(frozen=True, slots=True)
class HttpChecker:
    """One url of an HTTP_GET, that with `number`."""

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
        await self._get(self.config.urls[self.number], until)

    async def _get(self, url: HttpUrl, until: float) -> None:
        import aiohttp

        endpoint = self.config.endpoint
        keeps = http_request.keeps_connection(self.config)
        session = self.client.session(endpoint, self.config.http_protocol == "1.1", keeps)
        try:
            async with session.request(
                url.method,
                self._target(url),
                headers=self._headers(url),
                data=http_request.body(url) or None,
                allow_redirects=False,
                **self._tls(url),
            ) as response:
                await self._judge(url, response, until)
        except aiohttp.ClientConnectorCertificateError as exc:
            raise CheckFailed(f"TLS: {tls_reason(exc.certificate_error)}") from exc
        except aiohttp.ClientConnectorError as exc:
            raise probe.failure("connect", exc.os_error) from exc
        except aiohttp.ClientOSError as exc:  # of a connection that there was; an alert is its cause only
            raise probe.failure(url.path, exc.__cause__ if isinstance(exc.__cause__, OSError) else exc) from exc
        except aiohttp.ClientError as exc:
            raise CheckFailed(f"{url.path}: {_reason(exc)}") from exc
        except ssl.SSLError as exc:
            raise probe.failure(url.path, exc) from exc
        except OSError as exc:
            raise CheckNotMade(f"socket: {exc.strerror or exc}") from exc

    def _target(self, url: HttpUrl) -> URL:
        """As the file has it, signs that have a meaning in a URL included. Raises CheckNotMade."""
        from yarl import URL

        scheme = "http" if self.config.tls is None else "https"
        authority = http_request.host(self.config.endpoint, scoped=True)
        path = _sendable("path", http_request.target(url))
        return URL.build(scheme=scheme, authority=authority, path=path, encoded=True)

    def _headers(self, url: HttpUrl) -> list[tuple[str, str]]:
        """Raises CheckNotMade."""
        found = http_request.headers(self.config, url)
        return [(name, _sendable(name, value)) for name, value in found]

    def _tls(self, url: HttpUrl) -> dict[str, Any]:
        """Arguments for the request. Raises CheckNotMade."""
        tls = self.config.tls
        if tls is None:
            return {}
        try:
            name = server_name(tls, url.virtualhost, self.config.endpoint.address)
            return {"ssl": self.client.tls.context(tls), "server_hostname": name}
        except TlsError as exc:
            raise CheckNotMade(str(exc)) from exc

    async def _judge(self, url: HttpUrl, response: aiohttp.ClientResponse, until: float) -> None:
        if not any(low <= response.status <= high for low, high in url.statuses):
            raise CheckFailed(f"{url.path}: status {response.status}")
        pattern = _pattern(url)
        digest, kept, size = hashlib.md5(usedforsecurity=False), bytearray(), 0
        async for chunk in self._body(url.path, response):
            size += len(chunk)
            if url.digest:
                digest.update(chunk)
            if pattern is not None:
                kept += chunk[: BODY_LIMIT - len(kept)]
        if url.digest and digest.hexdigest() != url.digest:
            raise CheckFailed(f"{url.path}: digest {digest.hexdigest()}")
        if pattern is not None:
            await self._look_for(url, pattern, bytes(kept), size, until)

    async def _body(self, path: str, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        import aiohttp

        missing = response.content_length or 0
        protocol = response.connection.protocol if response.connection is not None else None
        try:
            async for chunk in response.content.iter_chunked(CHUNK):
                missing -= len(chunk)
                yield chunk
        except aiohttp.ClientPayloadError:
            if missing <= 0 or TRANSFER_ENCODING in response.headers:
                raise
        error = protocol.exception() if protocol is not None and self.config.tls is None else None
        if isinstance(error, OSError):  # a reset, which aiohttp takes for the end
            raise CheckFailed(f"receive: {probe.reason(error)}")
        tell_missing(self.config.endpoint, path, max(0, missing))

    async def _look_for(self, url: HttpUrl, pattern: Pattern, body: bytes, size: int, until: float) -> None:
        try:
            found = await self.client.searcher.search(pattern, body, url.regex_min_offset, url.regex_max_offset, until)
        except SearchGivenUp as exc:
            raise CheckFailed(f"{url.path}: {exc}") from exc
        if found and url.regex_no_match:
            raise CheckFailed(f"{url.path}: the pattern is in the body")
        if not found and not url.regex_no_match:
            where = "the body" if size <= len(body) else f"the first {len(body)} bytes of the body"
            raise CheckFailed(f"{url.path}: the pattern is not in {where}")


def _sendable(what: str, text: str) -> str:
    """The text. Raises CheckNotMade for what aiohttp refuses, or leaves out without a word."""
    if UNSENDABLE.search(text):
        raise CheckNotMade(f"{what}: has a byte that is no character, or a control character")
    return text


def _pattern(url: HttpUrl) -> Pattern | None:
    """One that cannot be compiled was reported when the file was read, and counts as none (checker-behaviour.md 4)."""
    try:
        return compiled(url.regex, url.regex_options) if url.regex else None
    except PatternError:
        return None


def _reason(exc: aiohttp.ClientError) -> str:
    """One short line; servers may put anything into an error."""
    import aiohttp

    if isinstance(exc, aiohttp.ServerDisconnectedError):
        return "the server closed the connection"
    text = (exc.message if isinstance(exc, aiohttp.ClientResponseError) else str(exc)) or type(exc).__name__
    return text.splitlines()[0].rstrip(":")[:200]

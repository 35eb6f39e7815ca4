"""HTTP_GET (checker-behaviour.md 4): the request as keepalived makes it, judged by status code and digest.

aiohttp speaks HTTP; nothing of the body is kept, so an endless answer costs time until the deadline and no memory.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from keepalived_py.config.model import Endpoint, HttpCheck, HttpUrl

from .probe import CheckFailed, CheckNotMade, needs_own_socket, prepare_socket

logger = logging.getLogger(__name__)

USER_AGENT = "KeepAliveClient"
CHUNK = 65536
HEADER_LIMIT = 16384


class HttpClient:
    """The sessions of one worker: one for all plain checks, one per endpoint with a source, interface or mark."""

    def __init__(self) -> None:
        self._sessions: dict[tuple[Endpoint | None, bool], aiohttp.ClientSession] = {}

    def session(self, endpoint: Endpoint, newer: bool) -> aiohttp.ClientSession:
        """The session for checks of `endpoint`; `newer` speaks HTTP/1.1, else 1.0."""
        key = (endpoint if needs_own_socket(endpoint) else None, newer)
        found = self._sessions.get(key)
        if found is None:
            found = self._sessions[key] = self._open(*key)
        return found

    def _open(self, endpoint: Endpoint | None, newer: bool) -> aiohttp.ClientSession:
        def make(info: Any) -> socket.socket:
            try:
                sock = socket.socket(info[0], info[1] | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, info[2])
            except OSError as exc:
                raise CheckNotMade(f"socket: {exc.strerror}") from exc
            if endpoint is not None:
                try:
                    prepare_socket(sock, endpoint)
                except OSError as exc:
                    sock.close()
                    raise CheckNotMade(f"binding the socket: {exc.strerror}") from exc
            return sock

        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True, socket_factory=make, happy_eyeballs_delay=None),
            timeout=aiohttp.ClientTimeout(total=None),
            version=aiohttp.HttpVersion11 if newer else aiohttp.HttpVersion10,
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            max_line_size=HEADER_LIMIT,
            max_field_size=HEADER_LIMIT,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()


@dataclass(frozen=True, slots=True)
class HttpChecker:
    """One HTTP_GET: all its urls, in order."""

    config: HttpCheck
    client: HttpClient
    name: str = "HTTP_GET"

    @property
    def limit(self) -> float:
        return self.config.timing.connect_timeout

    async def check(self) -> None:
        """One run: every url in turn, the first that fails decides."""
        for url in self.config.urls:
            await self._get(url)

    async def _get(self, url: HttpUrl) -> None:
        endpoint = self.config.endpoint
        host = f"[{endpoint.address}]" if endpoint.address.version == 6 else str(endpoint.address)
        headers = {"User-Agent": USER_AGENT, "Host": url.virtualhost or f"{host}:{endpoint.port}"}
        if self.config.http_protocol != "1.0":
            headers["Connection"] = "close"
        target = URL(
            f"http://{host}:{endpoint.port}{url.path if url.path.startswith('/') else '/' + url.path}", encoded=True
        )
        session = self.client.session(endpoint, self.config.http_protocol == "1.1")
        try:
            async with session.request("GET", target, headers=headers, allow_redirects=False) as response:
                await self._judge(url, response)
        except aiohttp.ClientConnectorError as exc:
            code = exc.os_error.errno
            raise CheckFailed(f"connect: {os.strerror(code) if code else exc}") from exc
        except aiohttp.ClientError as exc:
            raise CheckFailed(f"{url.path}: {_reason(exc)}") from exc
        except OSError as exc:
            raise CheckNotMade(f"socket: {exc.strerror or exc}") from exc

    async def _judge(self, url: HttpUrl, response: aiohttp.ClientResponse) -> None:
        if not any(low <= response.status <= high for low, high in url.statuses):
            raise CheckFailed(f"{url.path}: status {response.status}")
        digest = hashlib.md5(usedforsecurity=False)
        async for chunk in response.content.iter_chunked(CHUNK):
            if url.digest:
                digest.update(chunk)
        if url.digest and digest.hexdigest() != url.digest:
            raise CheckFailed(f"{url.path}: digest {digest.hexdigest()}")


def _reason(exc: aiohttp.ClientError) -> str:
    """One short line; servers may put anything into an error."""
    text = str(exc) or type(exc).__name__
    return text.splitlines()[0][:200]

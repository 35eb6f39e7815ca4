"""HTTP_GET and SSL_GET with keep_alive: aiohttp speaks HTTP and keeps the connections. It is loaded here, 10 MB."""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
import ssl
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from keepalived_py.config.model import Endpoint, HttpUrl

from . import http_request, probe
from .http import CHUNK, HttpChecker, pattern_of
from .http_plain import KEPT_LIMIT, tell_missing
from .probe import CheckFailed, CheckNotMade, open_socket
from .tls import tls_reason

TRANSFER_ENCODING = "Transfer-Encoding"
UNSENDABLE = re.compile(r"[\0-\x08\x0a-\x1f\x7f\ud800-\udfff]")

HEADER_LIMIT = 16384
KEPT_FOR = 600.0
"""Seconds that an idle connection is kept, if the server agrees."""
WAITING_LIMIT = 100
"""Answers that wait for a reader, interim ones included."""


class _Protocol(ResponseHandler):
    """Answers that nobody has asked for do not pile up: between two checks a kept connection has no reader."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if len(self) > WAITING_LIMIT and self.transport is not None:
            self.set_exception(aiohttp.ClientPayloadError("more answers than anybody asks for"))
            self.transport.abort()


class _Connector(aiohttp.TCPConnector):
    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self._factory = partial(cast("type[ResponseHandler]", _Protocol), loop=self._loop)


def open_session(endpoint: Endpoint) -> aiohttp.ClientSession:
    """For checks from where `endpoint` says."""

    def make(info: Any) -> socket.socket:
        """Checks of both families may share a session."""
        return open_socket(endpoint, info[1], info[2], info[0])

    return aiohttp.ClientSession(
        connector=_Connector(
            limit=0,
            keepalive_timeout=KEPT_FOR,
            socket_factory=make,
            happy_eyeballs_delay=None,
        ),
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        max_line_size=HEADER_LIMIT,
        max_field_size=HEADER_LIMIT,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


class KeptHttpChecker(HttpChecker):
    """The same over a connection that outlives the check."""

    __slots__ = ()

    async def check(self) -> None:
        until = asyncio.get_running_loop().time() + self.limit
        await self._get(self.config.urls[self.number], until)

    async def _get(self, url: HttpUrl, until: float) -> None:
        endpoint = self.config.endpoint
        try:
            async with self.client.session(endpoint).request(
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
        if self.config.tls is None:
            return {}
        context, name = self.client.secured(self.config.tls, self.config.endpoint.address, url.virtualhost)
        return {"ssl": context, "server_hostname": name}

    async def _judge(self, url: HttpUrl, response: aiohttp.ClientResponse, until: float) -> None:
        if not any(low <= response.status <= high for low, high in url.statuses):
            raise CheckFailed(f"{url.path}: status {response.status}")
        pattern = pattern_of(url)
        digest, kept, size = hashlib.md5(usedforsecurity=False), bytearray(), 0
        async for chunk in self._body(url.path, response):
            size += len(chunk)
            if url.digest:
                digest.update(chunk)
            if pattern is not None:
                kept += chunk[: KEPT_LIMIT - len(kept)]
        if url.digest and digest.hexdigest() != url.digest:
            raise CheckFailed(f"{url.path}: digest {digest.hexdigest()}")
        if pattern is not None:
            await self.client.look_for(url, pattern, bytes(kept), size, until)

    async def _body(self, path: str, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
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


def _sendable(what: str, text: str) -> str:
    """The text. Raises CheckNotMade for what aiohttp refuses, or leaves out without a word."""
    if UNSENDABLE.search(text):
        raise CheckNotMade(f"{what}: has a byte that is no character, or a control character")
    return text


def _reason(exc: aiohttp.ClientError) -> str:
    """One short line; servers may put anything into an error."""
    if isinstance(exc, aiohttp.ServerDisconnectedError):
        return "the server closed the connection"
    text = (exc.message if isinstance(exc, aiohttp.ClientResponseError) else str(exc)) or type(exc).__name__
    return text.splitlines()[0].rstrip(":")[:200]

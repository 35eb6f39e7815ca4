"""How aiohttp is used for url checks. Loads aiohttp, 10 MB that only processes with such checks have to have."""

from __future__ import annotations

import socket
from functools import partial
from typing import Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler

from keepalived_py.config.model import Endpoint

from .probe import CheckNotMade, prepare_socket

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


def open_session(endpoint: Endpoint, newer: bool, keep: bool) -> aiohttp.ClientSession:
    """For checks from where `endpoint` says; `newer` speaks HTTP/1.1, else 1.0; `keep` keeps connections."""

    def make(info: Any) -> socket.socket:
        try:
            sock = socket.socket(info[0], info[1] | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, info[2])
        except OSError as exc:
            raise CheckNotMade(f"socket: {exc.strerror}") from exc
        try:
            prepare_socket(sock, endpoint)
        except OSError as exc:
            sock.close()
            raise CheckNotMade(f"binding the socket: {exc.strerror}") from exc
        return sock

    session = aiohttp.ClientSession(
        connector=_Connector(
            limit=0,
            force_close=not keep,
            keepalive_timeout=KEPT_FOR if keep else None,
            socket_factory=make,
            happy_eyeballs_delay=None,
        ),
        timeout=aiohttp.ClientTimeout(total=None),
        version=aiohttp.HttpVersion11 if newer else aiohttp.HttpVersion10,
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        max_line_size=HEADER_LIMIT,
        max_field_size=HEADER_LIMIT,
        cookie_jar=aiohttp.DummyCookieJar(),
    )
    session._retry_connection = keep  # only a kept one may be gone without that being the answer
    return session

"""HTTP_GET over plain connections (checker-behaviour.md 4): judged by status and digest, made without aiohttp.

There may be thousands a second. What needs TLS or a pattern is the business of http.py, a kept connection that of
http_kept.py.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import field

from keepalived_py.config.model import Endpoint, HttpCheck, HttpUrl
from keepalived_py.records import dataclass

from .connections import ConnectionChecker, Dialogue, Target
from .http_answer import Answer, AnswerError
from .http_request import host, keeps_connection, request
from .probe import WELL, Result

logger = logging.getLogger(__name__)


KEPT_LIMIT = 1 << 20
"""Bytes of a body in which a pattern is looked for."""
_told: dict[tuple[Endpoint, str], int] = {}
"""Bytes that bodies were too short by when that was said last."""


def tell_missing(endpoint: Endpoint, path: str, missing: int) -> None:
    """A body that is shorter than its Content-Length is logged, once per difference."""
    if not (missing or _told) or _told.get((endpoint, path), 0) == missing:
        return
    _told[endpoint, path] = missing
    if missing:
        logger.info("%s of %s: %d bytes of the Content-Length did not come", path, host(endpoint), missing)


def is_plain(config: HttpCheck, number: int) -> bool:
    """Whether PlainHttpChecker can make it."""
    return config.tls is None and not keeps_connection(config) and not config.urls[number].regex


@dataclass(frozen=True, slots=True)
class PlainHttpChecker(ConnectionChecker):
    """One url of an HTTP_GET, that with `number`."""

    config: HttpCheck
    number: int = 0
    name: str = "HTTP_GET"
    target: Target = field(init=False, repr=False, compare=False)
    url: HttpUrl = field(init=False, repr=False, compare=False)
    _request: bytes = field(init=False, repr=False, compare=False)
    """b"": it is made anew each time."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", Target(self.config.endpoint))
        object.__setattr__(self, "url", self.config.urls[self.number])
        object.__setattr__(self, "_request", b"" if self.config.auth_kind else request(self.config, self.url))

    @property
    def limit(self) -> float:
        return self.config.timing.connect_timeout

    def dialogue(self) -> Visit:
        return Visit(self.config, self.url, self._request or request(self.config, self.url))


class Visit(Dialogue):
    """`url` is asked for; `keep`: the beginning of the body is wanted as well."""

    __slots__ = ("_answer", "_config", "_digest", "_keep", "_url", "kept", "size")

    def __init__(self, config: HttpCheck, url: HttpUrl, request: bytes, keep: bool = False) -> None:
        self._config, self._url, self._keep = config, url, keep
        self.kept, self.size = bytearray(), 0
        self._answer = Answer(url.method == "HEAD")
        self._digest = hashlib.md5(usedforsecurity=False) if url.digest else None
        self.opening = request

    def hear(self, data: bytes) -> Result | None:
        answer = self._answer
        known, body, broken = answer.status, b"", ""
        try:
            body = answer.feed(data)
        except AnswerError as exc:
            broken = str(exc)
        if not known and answer.status and not self._wanted(answer.status):
            return self._failed(f"status {answer.status}")
        if broken:
            return self._failed(broken)
        self.take(body)
        return self._verdict() if answer.ended else None

    def take(self, body: bytes) -> None:
        """One more part of the body."""
        if self._digest is not None:
            self._digest.update(body)
        if self._keep:
            self.size += len(body)
            self.kept += body[: KEPT_LIMIT - len(self.kept)]

    def _wanted(self, status: int) -> bool:
        for low, high in self._url.statuses:  # noqa: SIM110  (any() takes twice as long)
            if low <= status <= high:
                return True
        return False

    def _verdict(self) -> Result:
        if self._digest is not None and self._digest.hexdigest() != self._url.digest:
            return self._failed(f"digest {self._digest.hexdigest()}")
        tell_missing(self._config.endpoint, self._url.path, self._answer.missing)
        return WELL

    def _failed(self, why: str) -> Result:
        return Result(f"{self._url.path}: {why}")

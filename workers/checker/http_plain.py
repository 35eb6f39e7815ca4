"""HTTP_GET over plain connections (checker-behaviour.md 4): judged by status and digest, made without aiohttp.

There may be thousands a second. What needs TLS, a kept connection or a pattern is the business of http.py.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import field

from keepalived_py.config.model import Endpoint, HttpCheck
from keepalived_py.records import dataclass

from .connections import ConnectionChecker, Dialogue, Target
from .http_answer import Answer, AnswerError
from .http_request import host, keeps_connection, request
from .probe import WELL, Result

logger = logging.getLogger(__name__)


_told: dict[tuple[Endpoint, str], int] = {}
"""Bytes that bodies were too short by when that was said last."""


def tell_missing(endpoint: Endpoint, path: str, missing: int) -> None:
    """A body that is shorter than its Content-Length is logged, once per difference."""
    if not (missing or _told) or _told.get((endpoint, path), 0) == missing:
        return
    _told[endpoint, path] = missing
    if missing:
        logger.info("%s of %s: %d bytes of the Content-Length did not come", path, host(endpoint), missing)


def is_plain(config: HttpCheck) -> bool:
    """Whether PlainHttpChecker can make it."""
    return config.tls is None and not keeps_connection(config) and not any(url.regex for url in config.urls)


@dataclass(frozen=True, slots=True)
class PlainHttpChecker(ConnectionChecker):
    """One HTTP_GET: all its urls, in order, each over a connection of its own; the first that fails decides."""

    config: HttpCheck
    name: str = "HTTP_GET"
    target: Target = field(init=False, repr=False, compare=False)
    _requests: tuple[bytes, ...] | None = field(init=False, repr=False, compare=False)
    """None: they are made anew each time."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", Target(self.config.endpoint))
        object.__setattr__(self, "_requests", None if self.config.auth_kind else self._made())

    def _made(self) -> tuple[bytes, ...]:
        return tuple(request(self.config, url) for url in self.config.urls)

    @property
    def limit(self) -> float:
        return self.config.timing.connect_timeout

    def dialogue(self) -> Dialogue | None:
        if not self.config.urls:
            return None
        return Visit(self.config, self._made() if self._requests is None else self._requests, 0)


class Visit(Dialogue):
    """Number `number` of the urls of `config` is asked for."""

    __slots__ = ("_answer", "_config", "_digest", "_number", "_requests", "_url")

    def __init__(self, config: HttpCheck, requests: tuple[bytes, ...], number: int) -> None:
        self._config, self._requests, self._number = config, requests, number
        self._url = config.urls[number]
        self._answer = Answer(self._url.method == "HEAD")
        self._digest = hashlib.md5(usedforsecurity=False) if self._url.digest else None
        self.opening = requests[number]

    def hear(self, data: bytes) -> Result | Dialogue | None:
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
        if self._digest is not None:
            self._digest.update(body)
        return self._verdict() if answer.ended else None

    def _wanted(self, status: int) -> bool:
        for low, high in self._url.statuses:  # noqa: SIM110  (any() takes twice as long)
            if low <= status <= high:
                return True
        return False

    def _verdict(self) -> Result | Dialogue:
        if self._digest is not None and self._digest.hexdigest() != self._url.digest:
            return self._failed(f"digest {self._digest.hexdigest()}")
        tell_missing(self._config.endpoint, self._url.path, self._answer.missing)
        following = self._number + 1
        return Visit(self._config, self._requests, following) if following < len(self._requests) else WELL

    def _failed(self, why: str) -> Result:
        return Result(f"{self._url.path}: {why}")

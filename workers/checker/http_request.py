"""What HTTP_GET and SSL_GET ask for (checker-behaviour.md 4): the request as keepalived makes it."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable

from keepalived_py.config.model import Endpoint, HttpCheck, HttpUrl
from workers.small_file import read_start

from .probe import CheckNotMade

USER_AGENT = "KeepAliveClient"
WITH_BODY = ("POST", "PUT")
SECRET_LIMIT = 65536
"""Bytes of a file."""
SECRETS = {
    "basic": ("USER:PASSWORD", re.compile(rb"[^\0-\x1f:\x7f]*:[^\0-\x1f\x7f]*")),
    "bearer": ("a token", re.compile(rb"[ -~]+")),
}
"""What their files hold (RFC 7617 2, RFC 6750 2.1)."""


def keeps_connection(config: HttpCheck) -> bool:
    """Whether the connection is kept for the next check."""
    return config.keep_alive and config.http_protocol == "1.1"


def host(endpoint: Endpoint, *, scoped: bool = False) -> str:
    """Address and port. The scope of an address says nothing to the other side (RFC 6874 section 1)."""
    name = str(endpoint.address) if scoped else str(endpoint.address).partition("%")[0]
    return f"[{name}]:{endpoint.port}" if endpoint.address.version == 6 else f"{name}:{endpoint.port}"


def target(url: HttpUrl) -> str:
    return url.path if url.path.startswith("/") else "/" + url.path


def headers(config: HttpCheck, url: HttpUrl) -> list[tuple[str, str]]:
    """All but those of a body, in keepalived's order; those of the url take the place of ours. Raises CheckNotMade."""
    ours = {"User-Agent": USER_AGENT}
    if config.http_protocol != "1.0" and not keeps_connection(config):
        ours["Connection"] = "close"
    ours["Host"] = url.virtualhost or host(config.endpoint)
    if config.auth_kind:
        ours["Authorization"] = _authorization(config)
    return [*_without(ours, url.headers), *url.headers]


def _without(ours: dict[str, str], given: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those that are not given otherwise; letters of names count in either case (RFC 9110 5.1)."""
    names = {name.lower() for name, _ in given}
    return [(name, value) for name, value in ours.items() if name.lower() not in names]


def _authorization(config: HttpCheck) -> str:
    """Raises CheckNotMade. The file is read each time, so a new secret needs no reload."""
    try:
        secret = read_start(config.auth_file, SECRET_LIMIT).strip()
    except OSError as exc:
        raise CheckNotMade(f"{config.auth_file}: {exc.strerror}") from exc
    what, pattern = SECRETS[config.auth_kind]
    if pattern.fullmatch(secret) is None:
        raise CheckNotMade(f"{config.auth_file}: is not one line with {what}")
    return f"Basic {b64encode(secret).decode()}" if config.auth_kind == "basic" else f"Bearer {secret.decode()}"


def body(url: HttpUrl) -> bytes:
    return url.body.encode("utf-8", "surrogateescape")


def request(config: HttpCheck, url: HttpUrl) -> bytes:
    """The whole request. Raises CheckNotMade."""
    lines = [f"{url.method} {target(url)} HTTP/{config.http_protocol.rstrip('C')}"]
    found, data = headers(config, url), body(url)
    if data or url.method in WITH_BODY:
        found += _without({"Content-Length": str(len(data)), "Content-Type": "application/octet-stream"}, found)
    lines += [f"{name}: {value}" for name, value in found]
    return "\r\n".join((*lines, "", "")).encode("utf-8", "surrogateescape") + data

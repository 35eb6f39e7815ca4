"""What HTTP_GET and SSL_GET ask for (checker-behaviour.md 4): the request as keepalived makes it."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

from keepalived_py.config.model import Endpoint, HttpCheck, HttpUrl

from .probe import CheckNotMade

USER_AGENT = "KeepAliveClient"
WITH_BODY = ("POST", "PUT")


def keeps_connection(config: HttpCheck) -> bool:
    """Whether the connection is kept for the next check."""
    return config.keep_alive and config.http_protocol == "1.1"


def host(endpoint: Endpoint) -> str:
    """Address and port."""
    name = f"[{endpoint.address}]" if endpoint.address.version == 6 else str(endpoint.address)
    return f"{name}:{endpoint.port}"


def target(url: HttpUrl) -> str:
    return url.path if url.path.startswith("/") else "/" + url.path


def headers(config: HttpCheck, url: HttpUrl) -> dict[str, str]:
    """All but those of a body, in keepalived's order. Raises CheckNotMade."""
    found = {"User-Agent": USER_AGENT}
    if config.http_protocol != "1.0" and not keeps_connection(config):
        found["Connection"] = "close"
    found["Host"] = url.virtualhost or host(config.endpoint)
    if config.auth_kind:
        found["Authorization"] = _authorization(config)
    return found | dict(url.headers)


def _authorization(config: HttpCheck) -> str:
    """Raises CheckNotMade. The file is read each time, so a new secret needs no reload."""
    try:
        secret = Path(config.auth_file).read_bytes().strip()
    except OSError as exc:
        raise CheckNotMade(f"{config.auth_file}: {exc.strerror}") from exc
    if config.auth_kind == "basic":
        return f"Basic {b64encode(secret).decode()}"
    return f"Bearer {secret.decode(errors='replace')}"


def request(config: HttpCheck, url: HttpUrl) -> bytes:
    """The whole request. Raises CheckNotMade."""
    lines = [f"{url.method} {target(url)} HTTP/{config.http_protocol.rstrip('C')}"]
    found = headers(config, url)
    body = url.body.encode("utf-8", "surrogateescape")
    if body or url.method in WITH_BODY:
        given = {name.lower() for name in found}
        added = {"Content-Length": str(len(body)), "Content-Type": "application/octet-stream"}
        found |= {name: value for name, value in added.items() if name.lower() not in given}
    lines += [f"{name}: {value}" for name, value in found.items()]
    return "\r\n".join((*lines, "", "")).encode("utf-8", "surrogateescape") + body

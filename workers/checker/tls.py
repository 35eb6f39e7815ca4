"""TLS of SSL_GET (checker-behaviour.md 4) and GRPC_CHECK: nothing is verified unless it is asked for."""

from __future__ import annotations

import hashlib
import logging
import re
import ssl
import time
from calendar import timegm
from collections.abc import Iterator
from typing import Any

from keepalived_py.config.model import CheckerSlice, GrpcCheck, HttpCheck, SslSettings, TlsSettings
from keepalived_py.values import IPAddress

logger = logging.getLogger(__name__)

DAY = 86400
EXPLICIT_0, UTC_TIME = 0xA0, 0x17
NUMBERS = re.compile(r"^\[[^\]]*\] | \(_ssl\.c:\d+\)$")
"""What Python has around the library's words."""


class TlsError(Exception):
    """Certificate, key or authorities cannot be loaded."""


class TlsContexts:
    """The contexts of one worker: checks that want the same share one."""

    def __init__(self, settings: SslSettings | None = None) -> None:
        self.settings = settings or SslSettings()
        self._contexts: dict[tuple[bool, str, bool, int, tuple[str, ...]], ssl.SSLContext] = {}

    def load(self, config: CheckerSlice) -> None:
        """Load the SSL block's material if a check uses it. Raises TlsError."""
        reals = (real for server in config.checker.virtual_servers for real in server.real_servers)
        if any(
            isinstance(check, HttpCheck | GrpcCheck) and check.tls is not None
            for real in reals
            for check in real.checks
        ):
            self.context(TlsSettings())

    def context(self, tls: TlsSettings, *protocols: str) -> ssl.SSLContext:
        """`protocols` are offered by ALPN. Raises TlsError."""
        key = (tls.verify, tls.ca, bool(tls.expected_name), tls.warn_days, protocols)
        found = self._contexts.get(key)
        if found is None:
            found = self._contexts[key] = self._open(tls)
            if protocols:
                found.set_alpn_protocols(protocols)
        return found

    def _open(self, tls: TlsSettings) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = tls.verify and bool(tls.expected_name)
        context.verify_mode = ssl.CERT_REQUIRED if tls.verify else ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.set_ciphers("DEFAULT")  # the library's own choice; Python's is narrower
        if tls.warn_days:
            context.sslobject_class = warning_object(tls.warn_days)
        ours, authorities = self.settings, tls.ca or self.settings.ca
        what = authorities
        try:
            if authorities:
                context.load_verify_locations(authorities)
            elif tls.verify:
                context.load_default_certs()
            what = ours.certificate or ours.key
            if what:
                # a function, because without one the library would ask at the terminal
                context.load_cert_chain(what, ours.key or None, password=lambda: ours.password)
        except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
            raise TlsError(f"SSL: {what}: {exc.strerror if isinstance(exc, OSError) else exc}") from exc
        return context


def server_name(tls: TlsSettings, virtualhost: str, address: IPAddress) -> str:
    """The name for SNI, which is the one that is verified; an address where none is sent. Raises TlsError."""
    name = ""
    if tls.verify and tls.expected_name:
        name = tls.expected_name
    elif tls.sni:
        name = tls.sni_name or ("" if virtualhost.startswith("[") else virtualhost.partition(":")[0])
    try:
        name.encode("idna")
    except UnicodeError as exc:
        raise TlsError(f"the name '{name}' cannot be sent: {exc}") from exc
    return name or str(address).partition("%")[0]


def tls_reason(exc: Exception) -> str:
    """The library's own words without its numbers."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return exc.verify_message
    text = (exc.reason if isinstance(exc, ssl.SSLError) else "") or NUMBERS.sub("", str(exc))
    return text.replace("_", " ").lower()[:200]


# how long the certificate is good for -----------------------------------------------------------------------------


def warning_object(days: int) -> Any:
    """A class for SSLContext.sslobject_class that knows `days`."""
    return type("WarningObject", (WarningObject,), {"days": days})


class WarningObject(ssl.SSLObject):
    """Warns once a day after a handshake with a server whose certificate ends in less than `days`."""

    days = 0
    _warned: set[tuple[int, bytes]] = set()  # noqa: RUF012  (one memory for all)
    """Days and certificates; only those of one day."""

    def do_handshake(self) -> None:
        super().do_handshake()
        certificate = self.getpeercert(binary_form=True)
        if certificate is not None:
            self._look_at(certificate, time.time())

    def _look_at(self, certificate: bytes, moment: float) -> None:
        try:
            left = not_after(certificate) - moment
        except (ValueError, IndexError, StopIteration):
            return
        today = int(moment // DAY)
        key = today, hashlib.sha256(certificate).digest()
        if left >= self.days * DAY or key in self._warned:
            return
        self._warned.difference_update([each for each in self._warned if each[0] != today])
        self._warned.add(key)
        if left < 0:
            logger.warning("The certificate of %s has ended", self.server_hostname)
        else:
            logger.warning("The certificate of %s ends in %d days", self.server_hostname, left // DAY)


def not_after(certificate: bytes) -> float:
    """Seconds since 1970 at which a DER certificate ends (RFC 5280 4.1).

    Raises ValueError, IndexError or StopIteration when it cannot be read.
    """
    _, outer = next(_elements(certificate))
    _, inner = next(_elements(outer))
    fields = [each for each in _elements(inner) if each[0] != EXPLICIT_0]
    validity = list(_elements(fields[3][1]))
    kind, text = validity[1]
    layout = "%y%m%d%H%M%SZ" if kind == UTC_TIME else "%Y%m%d%H%M%SZ"
    return timegm(time.strptime(text.decode("ascii"), layout))


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tags and contents of one level of DER."""
    at = 0
    while at < len(data):
        tag, size = data[at], data[at + 1]
        at += 2
        if size & 0x80:
            count = size & 0x7F
            size = int.from_bytes(data[at : at + count])
            at += count
        yield tag, data[at : at + size]
        at += size

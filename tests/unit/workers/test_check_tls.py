"""SSL_GET: what is sent and accepted in TLS, the SSL block, and hostile servers."""

from __future__ import annotations

import asyncio
import calendar
import hashlib
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from keepalived_py.config.model import (
    CheckerConfig,
    CheckerSlice,
    CheckTiming,
    GrpcCheck,
    HttpCheck,
    HttpUrl,
    RealServer,
    SslSettings,
    TlsSettings,
    VirtualServer,
)
from keepalived_py.values import ServiceKey, ip_address
from tests.unit.workers.helpers_check import (
    ON_TIME,
    PATIENT,
    TIMING,
    Make,
    Serve,
    against,
    alone,
    endpoint,
    peak_memory,
)
from workers.checker import tls as tls_module
from workers.checker.connections import AnyChecker
from workers.checker.followed import Followed
from workers.checker.grpc import GrpcChecker
from workers.checker.http import HttpChecker
from workers.checker.registry import make_checkers
from workers.checker.tls import TlsContexts, TlsError, not_after, server_name, tls_reason

PASSWORD = "secret"
NAME = "www.example.com"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem; server.pem and client.pem signed by it, keys inside; plain.pem and locked.key of the client apart."""
    if shutil.which("openssl") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("needs the openssl command")
    place = tmp_path_factory.mktemp("pki")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=place, check=True, capture_output=True)

    fresh = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *fresh, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=CA", "-days", "30")
    for name, subject in (("server", f"/CN={NAME}"), ("client", "/CN=client")):
        openssl(
            "req", "-x509", *fresh, "-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", subject, "-days", "30",
            "-CA", "ca.pem", "-CAkey", "ca.key", "-addext", f"subjectAltName=DNS:{NAME}",
            "-addext", "basicConstraints=critical,CA:false",
        )  # fmt: skip
        joined = (place / f"{name}.crt").read_text() + (place / f"{name}.key").read_text()
        (place / f"{name}.pem").write_text(joined)
    openssl("ec", "-in", "client.key", "-out", "locked.key", "-aes256", "-passout", f"pass:{PASSWORD}")
    return place


def server_context(pki: Path, seen: list[str | None] | None = None, ask: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "server.pem")
    if ask:
        context.load_verify_locations(pki / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED
    if seen is not None:
        context.sni_callback = lambda _, name, __: seen.append(name)
    return context


def check(
    tls: TlsSettings | None = None,
    ours: SslSettings | None = None,
    url: HttpUrl | None = None,
    timing: CheckTiming = PATIENT,
) -> Make:
    def make(target: Any, client: Any) -> HttpChecker:
        client.tls = TlsContexts(ours)
        config = HttpCheck(timing=timing, endpoint=target, urls=(url or HttpUrl(path="/"),), tls=tls or TlsSettings())
        return HttpChecker(config, client)

    return make


def over_tls(kind: str, tls: TlsSettings) -> Make:
    if kind == "SSL_GET":
        return check(tls)
    return lambda to, client: GrpcChecker(GrpcCheck(timing=PATIENT, endpoint=to, tls=tls), client)


async def well(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.0 200 OK\r\n\r\nwell")


def test_a_certificate_of_nobody_known_is_accepted(pki: Path) -> None:
    url = HttpUrl(path="/", regex="^well$")
    assert against(well, check(url=url), tls=server_context(pki))[0].failure == ""
    assert against(well, check(url=url), tls=server_context(pki), address="::1")[0].failure == ""


def test_the_answer_is_judged(pki: Path) -> None:
    url = HttpUrl(path="/x", statuses=((204, 204),))
    assert against(well, check(url=url), tls=server_context(pki))[0].failure == "/x: status 200"


def test_the_name_in_the_log() -> None:
    config = HttpCheck(timing=TIMING, endpoint=endpoint(1), urls=())
    assert HttpChecker(config, None).name == "HTTP_GET"  # type: ignore[arg-type]
    secure = HttpCheck(timing=TIMING, endpoint=endpoint(1), urls=(), tls=TlsSettings())
    assert HttpChecker(secure, None).name == "SSL_GET"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tls", "virtualhost", "name"),
    [
        (TlsSettings(), NAME, None),
        (TlsSettings(sni=True), NAME, NAME),
        (TlsSettings(sni=True), f"{NAME}:8443", NAME),
        (TlsSettings(sni=True), "", None),
        (TlsSettings(sni=True), "[::1]:443", None),
        (TlsSettings(sni=True, sni_name="other.example.com"), NAME, "other.example.com"),
    ],
)
def test_sni(pki: Path, tls: TlsSettings, virtualhost: str, name: str | None) -> None:
    seen: list[str | None] = []
    url = HttpUrl(path="/", virtualhost=virtualhost)
    assert server_name(tls, virtualhost, ip_address("fe80::1%eth0")) == (name or "fe80::1")
    assert against(well, check(tls, url=url), tls=server_context(pki, seen))[0].failure == ""
    assert seen == [name]


@pytest.mark.parametrize("kind", ["SSL_GET", "GRPC_CHECK"])
@pytest.mark.parametrize("name", ["a" * 64 + ".com", ".com", "\udcff.com"])
def test_a_name_that_cannot_be_sent_says_nothing_about_the_server(pki: Path, kind: str, name: str) -> None:
    for tls in (TlsSettings(sni=True, sni_name=name), TlsSettings(verify=True, expected_name=name)):
        assert not against(well, over_tls(kind, tls), tls=server_context(pki))[0].made


@pytest.mark.parametrize(
    ("name", "key", "password", "accepted"),
    [
        ("client.pem", "", "", True),
        ("client.crt", "client.key", "", True),
        ("client.crt", "locked.key", PASSWORD, True),
        ("", "client.pem", "", True),
        ("", "", "", False),
    ],
)
def test_our_certificate(pki: Path, name: str, key: str, password: str, accepted: bool) -> None:
    ours = SslSettings(
        certificate=str(pki / name) if name else "", key=str(pki / key) if key else "", password=password
    )
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):  # refuses within the handshake, or after it
        context = server_context(pki, ask=True)
        context.maximum_version = version
        result, _ = against(well, check(ours=ours), tls=context)
        assert result.made
        assert result.success is accepted, result


@pytest.mark.parametrize(
    "values",
    [
        {"certificate": "nothing.pem"},
        {"certificate": "ca.key"},
        {"certificate": "client.crt", "key": "server.key"},
        {"certificate": "client.crt", "key": "locked.key"},
        {"certificate": "client.crt", "key": "locked.key", "password": "wrong"},
        {"ca": "nothing.pem"},
        {"ca": "client.key"},
    ],
)
def test_material_that_cannot_be_loaded(pki: Path, values: dict[str, str]) -> None:
    """And the library never asks at the terminal for a password."""
    paths = {name: value if name == "password" else str(pki / value) for name, value in values.items()}
    contexts = TlsContexts(SslSettings(**paths))
    with pytest.raises(TlsError, match="SSL: "):
        contexts.context(TlsSettings())
    contexts.load(CheckerSlice())  # nobody uses it
    real = RealServer(
        address=ip_address("10.0.0.1"),
        port=1,
        checks=(HttpCheck(timing=TIMING, endpoint=endpoint(1), urls=(), tls=TlsSettings()),),
    )
    servers = (VirtualServer(key=ServiceKey(fwmark=1), real_servers=(real,)),)
    with pytest.raises(TlsError):
        contexts.load(CheckerSlice(checker=CheckerConfig(virtual_servers=servers)))


@pytest.mark.parametrize(
    ("ca", "expected", "failure"),
    [
        ("ca.pem", "", ""),
        ("ca.pem", NAME, ""),
        ("ca.pem", "other.example.com", "TLS: Hostname mismatch, certificate is not valid for 'other.example.com'."),
        ("", "", "TLS: unable to get local issuer certificate"),
    ],
)
def test_verification_where_it_is_asked_for(pki: Path, ca: str, expected: str, failure: str) -> None:
    tls = TlsSettings(verify=True, ca=str(pki / ca) if ca else "", expected_name=expected)
    assert against(well, check(tls), tls=server_context(pki))[0].failure == failure


def test_old_versions_of_tls_are_spoken_as_far_as_the_library_does(pki: Path) -> None:
    context = server_context(pki)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-SHA")  # not in Python's own choice
    assert against(well, check(), tls=context)[0].failure == ""


def expiry(pki: Path) -> tuple[bytes, float]:
    der = ssl.PEM_cert_to_DER_cert((pki / "server.crt").read_text())
    text = subprocess.run(
        ["openssl", "x509", "-noout", "-enddate", "-in", pki / "server.crt"], capture_output=True, text=True, check=True
    ).stdout.strip()
    return der, ssl.cert_time_to_seconds(text.partition("=")[2])


def test_the_end_of_a_certificate(pki: Path) -> None:
    der, end = expiry(pki)
    assert not_after(der) == end


def test_the_end_of_a_certificate_beyond_2050(pki: Path) -> None:
    far = pki / "far.crt"
    command = ["openssl", "x509", "-in", pki / "ca.pem", "-signkey", pki / "ca.key", "-days", "20000", "-out", far]
    subprocess.run(command, check=True, capture_output=True)
    assert not_after(ssl.PEM_cert_to_DER_cert(far.read_text())) > calendar.timegm((2050, 1, 1, 0, 0, 0))


@pytest.mark.parametrize("kind", ["SSL_GET", "GRPC_CHECK"])
def test_a_certificate_that_ends_soon_is_warned_of_once_a_day(
    pki: Path, kind: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: set[tuple[int, bytes]] = set()
    monkeypatch.setattr(tls_module.WarningObject, "_warned", warned)
    day = int(time.time()) // tls_module.DAY
    for ahead in (0, 1, 29, 40):
        monkeypatch.setattr(tls_module, "time", Clock(time.time() + ahead * tls_module.DAY))
        for days in (20, 20, 40, 40):
            against(well, over_tls(kind, TlsSettings(warn_days=days)), tls=server_context(pki))
        assert {each for each, _ in warned} == {day + ahead}
    assert [record.getMessage() for record in caplog.records] == [
        "The certificate of 127.0.0.1 ends in 29 days",
        "The certificate of 127.0.0.1 ends in 28 days",
        "The certificate of 127.0.0.1 ends in 0 days",
        "The certificate of 127.0.0.1 has ended",
    ]


class Clock:
    """Stands still."""

    strptime = staticmethod(time.strptime)

    def __init__(self, moment: float) -> None:
        self.time = lambda: moment


@pytest.mark.parametrize("junk", [b"", b"\x30", b"\xff" * 40, b"\x30\x84\xff\xff\xff\xff", bytes(300)])
def test_a_certificate_of_nonsense(junk: bytes) -> None:
    with pytest.raises((ValueError, IndexError, StopIteration)):
        not_after(junk)


@pytest.mark.parametrize("status", [200, 500])
def test_the_end_of_tls_is_said(pki: Path, status: int) -> None:
    """Whatever the verdict, and without waiting for that of the other side."""
    heard: list[bytes] = []

    def serve() -> None:
        sock, _ = listener.accept()
        with server_context(pki).wrap_socket(sock, server_side=True, suppress_ragged_eofs=False) as secure:
            secure.recv(4096)
            secure.sendall(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)
            heard.append(secure.recv(100))  # SSLEOFError when it is not

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        result, _ = alone(lambda client: check()(endpoint(listener.getsockname()[1]), client))
        thread.join()
    assert result.failure == ("" if status == 200 else "/: status 500")
    assert heard == [b""]


ODD = {
    "longer than it says": b"Content-Length: 4\r\n\r\nwell and more",
    "two lengths": b"Content-Length: 4\r\nContent-Length: 9\r\n\r\nwell",
    "a header that is none": b"nonsense\r\nX Y: z\r\nX: a\0b\r\nContent-Length: 4\r\n\r\nwell",
    "many headers": b"a: b\r\n" * 1000 + b"Content-Length: 4\r\n\r\nwell",
    "a long header": b"a: " + b"b" * 40000 + b"\r\nContent-Length: 4\r\n\r\nwell",
    "chunks beside a length": b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwell\r\n0\r\n\r\nmore",
    "an encoding that is none": b"Transfer-Encoding: identity\r\nContent-Length: 4\r\n\r\nwell",
    "more answers": b"Content-Length: 4\r\n\r\nwell" + b"HTTP/1.1 500 X\r\n\r\n" * 3,
}
"""What follows the status line."""


@pytest.mark.parametrize("kind", ["SSL_GET", "pattern", "plain"])
@pytest.mark.parametrize("answer", ODD.values(), ids=ODD)
def test_odd_answers_are_judged_alike(pki: Path, kind: str, answer: bytes) -> None:
    """As keepalived does: it looks at the status line, the length and the body."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + answer)

    def make(to: Any, client: Any) -> AnyChecker:
        url = HttpUrl(path="/", regex="^well$" if kind == "pattern" else "", digest=hashlib.md5(b"well").hexdigest())
        tls = TlsSettings() if kind == "SSL_GET" else None
        config = HttpCheck(timing=PATIENT, endpoint=to, urls=(url,), tls=tls)
        (made,) = make_checkers(config, RealServer(address=to.address, port=to.port), client, Followed(lambda *_: None))
        return made

    assert against(serve, make, tls=server_context(pki) if kind == "SSL_GET" else None)[0].failure == ""


# why it failed ----------------------------------------------------------------------------------------------------


@contextmanager
def refusing(context: ssl.SSLContext) -> Iterator[int]:
    """A server that shakes one hand, as far as it comes to that, and waits for the other side to go; its port.

    One of asyncio would not send its alerts.
    """

    def serve() -> None:
        sock, _ = listener.accept()
        with context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False) as secure:
            with suppress(ssl.SSLError):
                secure.do_handshake()
            while os.read(secure.fileno(), 1000):
                pass  # hanging up on what was not read would be a reset, which takes the alert away

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def refuse_name(sock: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> int:
    return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME


ALERTS: dict[str, tuple[Callable[[Path], ssl.SSLContext], str]] = {
    "certificate-1.3": (lambda pki: server_context(pki, ask=True), "tlsv13 alert certificate required"),
    "certificate-1.2": (
        lambda pki: changed(server_context(pki, ask=True), maximum_version=ssl.TLSVersion.TLSv1_2),
        "sslv3 alert handshake failure",
    ),
    "name": (lambda pki: changed(server_context(pki), sni_callback=refuse_name), "tlsv1 unrecognized name"),
}


def changed(context: ssl.SSLContext, **values: Any) -> ssl.SSLContext:
    for name, value in values.items():
        setattr(context, name, value)
    return context


@pytest.mark.parametrize("kind", ["SSL_GET", "GRPC_CHECK"])
@pytest.mark.parametrize("alert", ALERTS)
def test_alerts_are_told_by_name(pki: Path, kind: str, alert: str) -> None:
    """In TLS 1.3 the one that wants a certificate comes after the handshake."""
    context, words = ALERTS[alert]
    with refusing(context(pki)) as port:
        result, _ = alone(lambda client: over_tls(kind, TlsSettings())(endpoint(port), client))
    assert (result.failure, result.made) == (f"TLS: {words}", True)


@pytest.mark.parametrize("kind", ["SSL_GET", "GRPC_CHECK"])
def test_one_that_hangs_up_in_the_handshake(kind: str) -> None:
    assert against(closed, over_tls(kind, TlsSettings()))[0].failure == "TLS: the server closed the connection"


def test_the_words_of_the_library_without_its_numbers() -> None:
    error = ssl.SSLError(1, "[SSL] tlsv1 alert no application protocol (_ssl.c:1006)")
    error.reason = None  # type: ignore[assignment]  # as where Python does not know the number
    assert tls_reason(error) == "tlsv1 alert no application protocol"


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(5)


async def drip_handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The head of a record of 16 kB, and then its content very slowly."""
    writer.write(b"\x16\x03\x03\x40\x00")
    while True:
        writer.write(b"\x02")
        await writer.drain()
        await asyncio.sleep(0.05)


async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x00\xff" * 500)


async def plain_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.0 400 This is not TLS\r\n\r\n")


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"\x16\x03\x03\x40\x00" + bytes(16384))
        await writer.drain()


async def closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)


@pytest.mark.parametrize("serve", [silence, drip_handshake, nonsense, plain_http, flood, closed])
def test_hostile_handshakes_end_in_a_verdict_on_time(serve: Serve) -> None:
    result, took = against(serve, check(timing=TIMING))
    assert result.made
    assert result.failure.startswith(("no answer", "TLS: ", "connect: "))
    assert took < ON_TIME


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.0 200 OK\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.0 200 OK\r\n\r\n")
    while True:
        writer.write(bytes(65536))
        await writer.drain()
        await asyncio.sleep(0)  # a lost TLS connection is noticed only when the loop turns


@pytest.mark.parametrize("serve", [drip, endless, silence])
def test_hostile_answers_end_in_a_verdict_on_time_and_in_little_memory(pki: Path, serve: Serve) -> None:
    before = peak_memory()
    result, took = against(serve, check(timing=TIMING), tls=server_context(pki))
    assert result.failure == "no answer within 0.4s"
    assert took < ON_TIME
    assert peak_memory() - before < 32 << 20


def test_handshake_and_answer_share_one_deadline(pki: Path) -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.0 200 OK\r\n")
        await asyncio.sleep(0.3)
        writer.write(b"\r\n")
        await asyncio.sleep(0.3)

    result, took = against(slow, check(timing=TIMING), tls=server_context(pki))
    assert result.failure == "no answer within 0.4s"
    assert took < ON_TIME


def test_authorities_of_a_check_that_are_gone_say_nothing_about_the_server(pki: Path) -> None:
    result, _ = against(well, check(TlsSettings(verify=True, ca=str(pki / "none.pem"))), tls=server_context(pki))
    assert not result.made
    assert "No such file" in result.failure

"""Source address, source port, interface and mark of every checker that has a socket."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from keepalived_py.config.model import (
    DnsCheck,
    Endpoint,
    GrpcCheck,
    HttpCheck,
    HttpUrl,
    PingCheck,
    SmtpCheck,
    TcpCheck,
    TlsSettings,
    UdpCheck,
)
from keepalived_py.values import ip_address
from tests.unit.workers import helpers_check
from tests.unit.workers.helpers_check import TIMING, alone, endpoint
from workers.checker import probe
from workers.checker.dns import DnsChecker
from workers.checker.grpc import GrpcChecker
from workers.checker.http import HttpChecker, HttpClient
from workers.checker.http_kept import KeptHttpChecker
from workers.checker.http_plain import PlainHttpChecker
from workers.checker.ping import PingChecker
from workers.checker.probe import Result
from workers.checker.smtp import SmtpChecker
from workers.checker.tcp import TcpChecker
from workers.checker.udp import UdpChecker

SO_MARK = 36
URLS = (HttpUrl(path="/"),)
MAKE: dict[str, Callable[[Endpoint, Any], Any]] = {
    "TCP_CHECK": lambda to, client: TcpChecker(TcpCheck(timing=TIMING, endpoint=to)),
    "HTTP_GET": lambda to, client: HttpChecker(HttpCheck(timing=TIMING, endpoint=to, urls=URLS), client),
    "HTTP_GET, kept": lambda to, client: KeptHttpChecker(
        HttpCheck(timing=TIMING, endpoint=to, urls=URLS, http_protocol="1.1", keep_alive=True), client
    ),
    "HTTP_GET, plain": lambda to, client: PlainHttpChecker(HttpCheck(timing=TIMING, endpoint=to, urls=URLS)),
    "SSL_GET": lambda to, client: HttpChecker(
        HttpCheck(timing=TIMING, endpoint=to, urls=URLS, tls=TlsSettings()), client
    ),
    "SMTP_CHECK": lambda to, client: SmtpChecker(SmtpCheck(timing=TIMING, endpoint=to)),
    "UDP_CHECK": lambda to, client: UdpChecker(UdpCheck(timing=TIMING, endpoint=to)),
    "DNS_CHECK": lambda to, client: DnsChecker(DnsCheck(timing=TIMING, endpoint=to)),
    "PING_CHECK": lambda to, client: PingChecker(PingCheck(timing=TIMING, endpoint=to)),
    "GRPC_CHECK": lambda to, client: GrpcChecker(GrpcCheck(timing=TIMING, endpoint=to), client),
}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("name", MAKE)
def test_sockets_are_bound_and_marked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, ...]] = []
    prepare = probe.prepare_socket

    def record(sock: socket.socket, target: Endpoint) -> None:
        prepare(sock, target)
        device = sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0")
        address, port = sock.getsockname()[:2]
        seen.append(
            (address, port if name != "PING_CHECK" else 4321, device, sock.getsockopt(socket.SOL_SOCKET, SO_MARK))
        )

    monkeypatch.setattr(probe, "prepare_socket", record)
    target = endpoint(1, bindto=ip_address("127.0.0.9"), bind_port=4321, bind_if="lo", fwmark=7)
    result, _ = alone(lambda client: MAKE[name](target, client))
    assert result.made, result
    assert seen == [("127.0.0.9", 4321, b"lo", 7)]


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("values", [{"bindto": ip_address("192.0.2.1")}, {"bind_if": "none0"}])
def test_what_cannot_be_bound_says_nothing_about_the_server(name: str, values: dict[str, Any]) -> None:
    result, _ = alone(lambda client: MAKE[name](endpoint(1, **values), client))
    assert not result.made


@pytest.mark.parametrize("name", MAKE)
def test_a_host_without_descriptors_says_nothing_about_the_server(name: str) -> None:
    """And with one more it can say something, but for those that need a second one for themselves."""

    async def main() -> list[Result]:
        client = HttpClient()
        try:
            await helpers_check.probe(MAKE[name](endpoint(1), client))  # what is loaded is loaded
            results = []
            for free in (0, 1, 2):
                with helpers_check.descriptors(free):
                    results.append(await helpers_check.probe(MAKE[name](endpoint(1), client)))
            return results
        finally:
            await client.close()

    none, one, two = asyncio.run(main())
    assert (none.made, none.success) == (False, False)
    assert "Too many open files" in none.failure
    assert two.made
    assert one.made or "Too many open files" in one.failure


@pytest.mark.parametrize("name", MAKE)
def test_the_scope_of_an_interface_that_is_gone_says_nothing_about_the_server(name: str) -> None:
    """It may come back; until then the address cannot even be named."""
    result, _ = alone(lambda client: MAKE[name](endpoint(9, "fe80::1%nosuch0"), client))
    assert (result.made, result.failure) == (False, "connect: Name or service not known")


@pytest.mark.parametrize("name", [name for name in MAKE if name not in ("UDP_CHECK", "DNS_CHECK", "PING_CHECK")])
def test_a_host_without_a_free_port_says_nothing_about_the_server(name: str) -> None:
    """The only one that the check may come from has a connection to the server already."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.9", 0))
        other.connect(server.getsockname())
        source, port = other.getsockname()
        target = endpoint(server.getsockname()[1], bindto=ip_address(source), bind_port=port)
        result, _ = alone(lambda client: MAKE[name](target, client))
    assert (result.made, result.failure) == (False, "connect: Cannot assign requested address")


@pytest.mark.parametrize(("code", "made"), [(errno.ENOBUFS, False), (errno.EHOSTUNREACH, True)])
@pytest.mark.parametrize("name", ["HTTP_GET", "HTTP_GET, plain"])
def test_a_request_that_there_is_no_memory_for_says_nothing_about_the_server(
    name: str, code: int, made: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Poor(socket.socket):
        def send(self, *args: Any) -> int:
            raise OSError(code, os.strerror(code))

    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(socket, "socket", Poor)
        monkeypatch.setattr(socket, "SocketType", Poor)
        port = server.getsockname()[1]
        result, _ = alone(lambda client: MAKE[name](endpoint(port), client))
    assert (result.made, os.strerror(code) in result.failure) == (made, True), result

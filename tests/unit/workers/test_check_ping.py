"""PING_CHECK: real echoes over loopback where this process may send them, and what counts as an answer."""

from __future__ import annotations

import os
import socket
import struct

import pytest

from keepalived_py.config.model import Endpoint, PingCheck
from tests.unit.workers.helpers_check import ON_TIME, TIMING, alone, endpoint
from workers.checker import ping
from workers.checker.ping import FILLER, PingChecker, echo_request, is_reply, open_icmp_socket
from workers.checker.probe import CheckNotMade


def checker(target: Endpoint) -> PingChecker:
    return PingChecker(PingCheck(timing=TIMING, endpoint=target))


def allowed() -> bool:
    try:
        open_icmp_socket(endpoint(0)).close()
    except CheckNotMade:
        return False
    return True


needs_icmp = pytest.mark.skipif(not allowed(), reason="needs CAP_NET_RAW or a place in net.ipv4.ping_group_range")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@needs_icmp
@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.77", "::1"])
@pytest.mark.parametrize("raw", [False, True])
def test_echoes_come_back(address: str, raw: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if raw:
        if os.geteuid():
            pytest.skip("needs root")
        refuse_datagram_sockets(monkeypatch)
    result, took = alone(lambda client: checker(endpoint(80, address)))
    assert result.failure == ""
    assert took < 0.3


def refuse_datagram_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = ping.open_socket

    def refuse(target: Endpoint, kind: int, protocol: int) -> socket.socket:
        if kind == socket.SOCK_DGRAM:
            raise CheckNotMade("socket: Permission denied") from PermissionError()
        return opened(target, kind, protocol)

    monkeypatch.setattr(ping, "open_socket", refuse)


@needs_icmp
def test_a_source_address() -> None:
    assert alone(lambda client: checker(endpoint(0, bindto=endpoint(0, "127.0.0.9").address)))[0].success
    result, _ = alone(lambda client: checker(endpoint(0, bindto=endpoint(0, "192.0.2.1").address)))
    assert not result.made


@needs_root
@pytest.mark.parametrize("raw", [False, True])
def test_nobody_answers(raw: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request goes to an address that is ours, by a socket that hears no answer to it."""
    if raw:
        refuse_datagram_sockets(monkeypatch)
    monkeypatch.setattr(ping, "is_reply", lambda *args: False)
    result, took = alone(lambda client: checker(endpoint(0)))
    assert result.failure == "no answer within 0.4s"
    assert took < ON_TIME


def test_without_any_socket_nothing_is_said_about_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(target: Endpoint, kind: int, protocol: int) -> socket.socket:
        raise CheckNotMade("socket: Operation not permitted") from PermissionError()

    monkeypatch.setattr(ping, "open_socket", refuse)
    result, _ = alone(lambda client: checker(endpoint(0)))
    assert (result.made, result.failure) == (False, "socket: Operation not permitted; CAP_NET_RAW is missing")


def reply(version: int, identifier: int, sequence: int, *, kind: int | None = None, code: int = 0) -> bytes:
    number = {4: 0, 6: 129}[version] if kind is None else kind
    return struct.pack("!BBHHH", number, code, 0, identifier, sequence) + FILLER


HEAD = b"\x45" + bytes(19)
LONG_HEAD = b"\x47" + bytes(27)


@pytest.mark.parametrize(
    ("packet", "version", "identifier", "expected"),
    [
        (reply(4, 1, 7), 4, None, True),
        (reply(6, 1, 7), 6, None, True),
        (HEAD + reply(4, 5, 7), 4, 5, True),
        (LONG_HEAD + reply(4, 5, 7), 4, 5, True),
        (reply(6, 5, 7), 6, 5, True),
        (reply(4, 1, 8), 4, None, False),
        (HEAD + reply(4, 6, 7), 4, 5, False),
        (reply(6, 6, 7), 6, 5, False),
        (HEAD + reply(4, 5, 7, kind=8), 4, 5, False),
        (HEAD + reply(4, 5, 7, kind=3), 4, 5, False),
        (HEAD + reply(4, 5, 7, code=1), 4, 5, False),
        (b"", 4, 5, False),
        (b"\xff" * 8, 4, 5, False),
        (HEAD, 4, 5, False),
        (reply(4, 1, 7)[:7], 4, None, False),
    ],
)
def test_what_counts_as_an_answer(packet: bytes, version: int, identifier: int | None, expected: bool) -> None:
    assert is_reply(packet, version, 7, identifier) is expected


def test_the_request_has_a_right_checksum() -> None:
    packet = echo_request(4, 0x1234, 7)
    total = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF
    assert len(packet) == 8 + 128

"""UDP_CHECK and DNS_CHECK against real and hostile servers on loopback."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import dns.flags
import dns.message
import dns.rcode
import pytest

from keepalived_py.config.model import DnsCheck, Endpoint, UdpCheck
from tests.unit.workers.helpers_check import ON_TIME, TIMING, against_udp, alone, endpoint
from workers.checker.dns import DnsChecker
from workers.checker.udp import UdpChecker


def udp(**values: object) -> Callable[[Endpoint], UdpChecker]:
    return lambda target: UdpChecker(UdpCheck(timing=TIMING, endpoint=target, **values))  # type: ignore[arg-type]


def name_server(**values: str) -> Callable[[Endpoint], DnsChecker]:
    return lambda target: DnsChecker(DnsCheck(timing=TIMING, endpoint=target, **values))


def closed_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.mark.parametrize(
    ("payload", "seen"), [(None, b"keepalived check - keepalived ch"), (b"", b""), (b"\0x", b"\0x")]
)
def test_what_is_sent(payload: bytes | None, seen: bytes) -> None:
    got: list[bytes] = []
    result, _ = against_udp(lambda data: got.append(data) or [b"x"], udp(payload=payload))
    assert result.success
    assert got == [seen]


def test_silence_is_well_when_no_answer_is_required() -> None:
    result, took = against_udp(lambda data: [], udp())
    assert result.success
    assert 0.35 < took < ON_TIME


def test_silence_is_a_failure_when_one_is_required() -> None:
    result, took = against_udp(lambda data: [], udp(require_reply=True))
    assert result.failure == "no answer within 0.4s"
    assert took < ON_TIME


@pytest.mark.parametrize("required", [False, True])
def test_an_icmp_error_is_a_failure(required: bool) -> None:
    result, took = alone(lambda client: udp(require_reply=required)(endpoint(closed_port())))
    assert result.failure == "receive: Connection refused"
    assert result.made
    assert took < 0.3


def test_ipv6() -> None:
    assert against_udp(lambda data: [data], udp(require_reply=True), "::1")[0].success


@pytest.mark.parametrize(
    ("answer", "values", "failure"),
    [
        (b"x", {}, ""),
        (b"anything", {"min_reply_length": 100}, ""),  # lengths count only with reply data
        (b"\x12\x34\x56", {"reply": b"\x12\x34", "reply_mask": b"\xff\xff"}, ""),
        (b"\x12", {"reply": b"\x12\x34", "reply_mask": b"\xff\xff"}, ""),
        (b"\x12\x35", {"reply": b"\x12\x34", "reply_mask": b"\xff\xff"}, "answer differs at byte 1"),
        (b"\x1f\x34", {"reply": b"\x10\x34", "reply_mask": b"\xf0\xff"}, ""),
        (b"\x2f\x34", {"reply": b"\x10\x34", "reply_mask": b"\xf0\xff"}, "answer differs at byte 0"),
        (b"\xf1\x34", {"reply": b"\x01\x34", "reply_mask": b"\x0f\xff"}, ""),
        (b"ab", {"reply": b"a", "reply_mask": b"\xff", "min_reply_length": 3}, "answer of 2 bytes"),
        (b"abc", {"reply": b"a", "reply_mask": b"\xff", "min_reply_length": 3, "max_reply_length": 3}, ""),
        (b"abcd", {"reply": b"a", "reply_mask": b"\xff", "max_reply_length": 3}, "answer of 4 or more bytes"),
        (b"a" * 60000, {"reply": b"a", "reply_mask": b"\xff"}, "answer of 256 or more bytes"),
    ],
)
def test_answers(answer: bytes, values: dict[str, object], failure: str) -> None:
    assert against_udp(lambda data: [answer], udp(require_reply=True, **values))[0].failure == failure


def test_sockets_are_bound_as_configured() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        port, source = server.getsockname()[1], closed_port()
        values = endpoint(port, bindto=endpoint(1, "127.0.0.9").address, bind_port=source)
        assert alone(lambda client: udp()(values))[0].success
        assert server.recvfrom(100)[1] == ("127.0.0.9", source)


@pytest.mark.parametrize("make", [udp(), name_server()])
def test_a_source_address_that_is_not_ours_says_nothing_about_the_server(make: Callable[[Endpoint], object]) -> None:
    result, _ = alone(lambda client: make(endpoint(9, bindto=endpoint(1, "192.0.2.1").address)))
    assert not result.made
    assert "binding the socket" in result.failure


def respond(query: bytes, code: int = 0, flags: int = dns.flags.QR, id_change: int = 0) -> bytes:
    message = dns.message.from_wire(query)
    message.id ^= id_change
    message.flags = flags
    message.set_rcode(dns.rcode.Rcode(code))
    return message.to_wire()


def test_the_query() -> None:
    got: list[dns.message.Message] = []

    def answer(query: bytes) -> list[bytes]:
        got.append(dns.message.from_wire(query))
        return [respond(query)]

    assert against_udp(answer, name_server())[0].success
    assert against_udp(answer, name_server(type="AAAA", name="www.example.com"))[0].success
    assert [str(each.question[0]) for each in got] == [". IN SOA", "www.example.com. IN AAAA"]
    assert all(each.flags == dns.flags.RD for each in got)
    assert got[0].id != got[1].id


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (lambda query: [respond(query)], ""),
        (lambda query: [respond(query, flags=dns.flags.QR | dns.flags.TC)], ""),
        (lambda query: [respond(query)[:12]], ""),
        (lambda query: [respond(query) + bytes(9000)], ""),
        (lambda query: [respond(query, 3)], "answer NXDOMAIN"),
        (lambda query: [respond(query, 5)], "answer REFUSED"),
        (lambda query: [b"", b"\xff" * 500, respond(query, 3, id_change=1), respond(query, 3, 0), respond(query)], ""),
        (lambda query: [respond(query, id_change=1)], "no answer within 0.4s"),
        (lambda query: [query], "no answer within 0.4s"),
        (lambda query: [respond(query)[:11]], "no answer within 0.4s"),
        (lambda query: [], "no answer within 0.4s"),
    ],
)
def test_name_servers(answer: Callable[[bytes], list[bytes]], failure: str) -> None:
    result, took = against_udp(answer, name_server())
    assert result.failure == failure
    assert took < ON_TIME


def test_no_name_server() -> None:
    result, _ = alone(lambda client: name_server()(endpoint(closed_port())))
    assert result.failure == "receive: Connection refused"


def test_a_name_that_nobody_can_ask_for_says_nothing_about_the_server() -> None:
    result, _ = alone(lambda client: name_server(name="a" * 64 + ".com")(endpoint(9)))
    assert not result.made


@pytest.fixture
def flood() -> Iterator[int]:
    """A server in a thread that answers the first datagram with nonsense for ever, as fast as it can; its port."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    server.settimeout(5)
    over = threading.Event()

    def run() -> None:
        _, client = server.recvfrom(100)
        while not over.is_set():
            try:
                server.sendto(b"x" * 40, client)
            except OSError:
                time.sleep(0.001)

    thread = threading.Thread(target=run)
    thread.start()
    yield server.getsockname()[1]
    over.set()
    thread.join()
    server.close()


def test_an_endless_stream_of_nonsense_ends_in_a_verdict_on_time(flood: int) -> None:
    result, took = alone(lambda client: name_server()(endpoint(flood)))
    assert result.failure == "no answer within 0.4s"
    assert took < ON_TIME

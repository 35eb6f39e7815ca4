"""GRPC_CHECK against the gRPC project's own health service, and against servers that are none."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import uvloop
from grpc_health.v1 import health, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse
from hypothesis import given
from hypothesis import strategies as st

from keepalived_py.config.model import CheckTiming, GrpcCheck, TlsSettings
from tests.unit.workers.helpers_check import ON_TIME, PATIENT, TIMING, Make, Serve, against, endpoint, peak_memory
from workers.checker.grpc import GrpcChecker, request, serving_status
from workers.checker.http import HttpClient
from workers.checker.probe import CheckFailed, Result, probe

NAME = "www.example.com"
STATES = {
    "": HealthCheckResponse.SERVING,
    "good": HealthCheckResponse.SERVING,
    "bad": HealthCheckResponse.NOT_SERVING,
    "vague": HealthCheckResponse.UNKNOWN,
    "x" * 200: HealthCheckResponse.SERVING,
}


@dataclass(frozen=True)
class Ports:
    plain: int
    secure: int
    other: int
    """A gRPC server without a health service."""
    authority: str


def certificate(place: Path) -> tuple[bytes, bytes]:
    if shutil.which("openssl") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("needs the openssl command")
    fresh = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30")
    words = ("-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}", "-keyout", "key.pem", "-out", "crt.pem")
    subprocess.run(["openssl", "req", *fresh, *words], cwd=place, check=True, capture_output=True)
    return (place / "key.pem").read_bytes(), (place / "crt.pem").read_bytes()


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    place = tmp_path_factory.mktemp("grpc")
    pool = futures.ThreadPoolExecutor(2)
    server, other = grpc.server(pool), grpc.server(pool)
    service = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(service, server)
    for name, state in STATES.items():
        service.set(name, state)
    credentials = grpc.ssl_server_credentials([certificate(place)])
    found = Ports(
        server.add_insecure_port("127.0.0.1:0"),
        server.add_secure_port("127.0.0.1:0", credentials),
        other.add_insecure_port("127.0.0.1:0"),
        str(place / "crt.pem"),
    )
    server.start()
    other.start()
    yield found
    server.stop(None).wait()
    other.stop(None).wait()
    pool.shutdown()


def ask(port: int, service: str = "", tls: TlsSettings | None = None, loop: Any = asyncio.new_event_loop) -> Result:
    checker = GrpcChecker(GrpcCheck(timing=PATIENT, endpoint=endpoint(port), service=service, tls=tls), HttpClient())
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(probe(checker))


@pytest.mark.parametrize(
    ("service", "failure"),
    [
        ("", ""),
        ("good", ""),
        ("x" * 200, ""),
        ("bad", "the service is NOT_SERVING"),
        ("vague", "the service is UNKNOWN"),
        ("never heard of", "grpc-status 5"),
    ],
)
@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_the_health_service_decides(ports: Ports, service: str, failure: str, loop: Any) -> None:
    assert ask(ports.plain, service, loop=loop).failure == failure


def test_a_server_without_a_health_service(ports: Ports) -> None:
    assert ask(ports.other).failure == "grpc-status 12: Method not found!"


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_tls(ports: Ports, loop: Any) -> None:
    named = TlsSettings(verify=True, ca=ports.authority, expected_name=NAME)
    assert ask(ports.secure, "good", TlsSettings(), loop).failure == ""
    assert ask(ports.secure, "good", TlsSettings(sni=True, sni_name=NAME), loop).failure == ""
    assert ask(ports.secure, "good", named, loop).failure == ""
    assert ask(ports.secure, "bad", named, loop).failure == "the service is NOT_SERVING"
    wrong = TlsSettings(verify=True, ca=ports.authority, expected_name="mail.example.com")
    assert "mail.example.com" in ask(ports.secure, "good", wrong, loop).failure
    assert ask(ports.secure, "good", TlsSettings(verify=True), loop).failure == "TLS: self-signed certificate"
    assert ask(ports.plain, "good", TlsSettings(), loop).failure.startswith("TLS: ")
    missing = ask(ports.secure, "good", TlsSettings(ca="/nonexistent"), loop)
    assert not missing.made


# servers that are no such thing -------------------------------------------------------------------------------------

PREFACE = b"\0\0\0\4\0\0\0\0\0"  # an empty SETTINGS frame (RFC 9113 section 6.5)


def hostile(timing: CheckTiming = TIMING) -> Make:
    return lambda target, client: GrpcChecker(GrpcCheck(timing=timing, endpoint=target), client)


def says(*parts: bytes, pause: float = 0, for_ever: bool = False) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        while True:
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause)
            if not for_ever:
                await reader.read()
                return

    return serve


PING = b"\0\0\x08\6\0\0\0\0\0" + bytes(8)
ONE_HEADER = b"\0\0\1\1\0\0\0\0\1\x88"  # :status 200 and no end


@pytest.mark.parametrize(
    ("serve", "failure"),
    [
        pytest.param(says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "no answer within 0.4s", id="http-1"),
        pytest.param(says(b"\xff" * 100), "no answer within 0.4s", id="binary"),
        pytest.param(says(PREFACE), "no answer within 0.4s", id="silent"),
        pytest.param(says(PREFACE, pause=0.05, for_ever=True), "no answer within 0.4s", id="dripping"),
        pytest.param(says(PREFACE, PING * 1000, for_ever=True), "no answer within 0.4s", id="endless-pings"),
        pytest.param(says(PREFACE, ONE_HEADER * 1000, for_ever=True), "HTTP/2: ", id="endless-headers"),
        pytest.param(says(PREFACE, b"\0\0\4\3\0\0\0\0\1\0\0\0\7"), "the server reset the stream: error 7", id="reset"),
        pytest.param(
            says(PREFACE, b"\0\0\x08\7\0\0\0\0\0" + bytes(8)), "the server ended the connection: error 0", id="go-away"
        ),
        pytest.param(
            says(PREFACE, b"\0\0\1\1\4\0\0\0\1\x88", b"\0\x08\0\0\0\0\0\0\1" + bytes(2048)),
            "the answer is no HealthCheckResponse: too long",
            id="long",
        ),
        pytest.param(says(PREFACE, b"\0\0\1\1\5\0\0\0\1\x8d"), "HTTP status 404", id="status"),
        pytest.param(says(PREFACE, b"\0\0\1\1\5\0\0\0\1\x88"), "grpc-status missing", id="no-trailers"),
    ],
)
def test_what_is_no_health_service_fails_on_time(serve: Serve, failure: str) -> None:
    before = peak_memory()
    result, seconds = against(serve, hostile())
    assert result.failure.startswith(failure)
    assert seconds < ON_TIME
    assert peak_memory() - before < 32 << 20


ANSWER = (
    ONE_HEADER.replace(b"\1\1\0", b"\1\1\4"),
    b"\0\0\7\0\0\0\0\0\1\0\0\0\0\2\x08\1",
    b"\0\0\x0f\1\5\0\0\0\1\0\x0bgrpc-status\x010",
)
SERVES = PREFACE + b"".join(ANSWER)
GO_AWAY = b"\0\0\x08\7\0\0\0\0\0\0\0\0\1" + bytes(4)  # no error, stream 1 was the last


@pytest.mark.parametrize("end", [b"", GO_AWAY, b"\0\0\4\3\0\0\0\0\1" + bytes(4)], ids=["", "go-away", "reset"])
def test_what_comes_behind_a_complete_answer_is_no_part_of_it(end: bytes) -> None:
    """A server may end the connection, or say that it reads no more, in the same breath (RFC 9113 6.8 and 8.1)."""
    result, _ = against(says(SERVES + end), hostile(PATIENT))
    assert result.failure == ""


@pytest.mark.parametrize("at", range(1, 4))
@pytest.mark.parametrize("pause", [0, 0.02], ids=["at-once", "bit-by-bit"])
def test_one_that_takes_no_more_questions_may_answer_this_one(at: int, pause: float) -> None:
    """Streams up to the last that it names are completed (RFC 9113 6.8)."""
    parts = [PREFACE, *ANSWER]
    parts.insert(at, GO_AWAY)
    result, _ = against(says(*(parts if pause else [b"".join(parts)]), pause=pause), hostile(PATIENT))
    assert result.failure == ""


@pytest.mark.parametrize(
    ("last", "error", "failure"), [(1, 2, "error 2"), (0, 0, "error 0")], ids=["with-an-error", "without-us"]
)
def test_one_that_does_not_say_so_ends_it(last: int, error: int, failure: str) -> None:
    end = GO_AWAY[:-8] + last.to_bytes(4) + error.to_bytes(4)
    result, _ = against(says(PREFACE + end + SERVES[len(PREFACE) :]), hostile(PATIENT))
    assert result.failure == f"the server ended the connection: {failure}"


def test_what_it_waits_for_before_it_answers_is_said_all_the_same() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(PREFACE + GO_AWAY)
        await reader.readuntil(b"\0\0\0\4\1\0\0\0\0")  # our word for its SETTINGS
        writer.write(b"".join(ANSWER))

    assert against(serve, hostile(PATIENT))[0].failure == ""


def test_one_that_hangs_up() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)

    assert against(serve, hostile(PATIENT))[0].failure in (
        "the server closed the connection",
        "receive: Connection reset by peer",
    )


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 0),
        (b"\x08\x01", 1),
        (b"\x08\x02", 2),
        (b"\x12\x03abc\x08\x01", 1),
        (b"\x19" + bytes(8) + b"\x08\x01", 1),
        (b"\x1d" + bytes(4) + b"\x08\x01", 1),
        (b"\x10\x01", 0),
    ],
)
def test_fields_of_the_answer(body: bytes, status: int) -> None:
    assert serving_status(b"\0" + len(body).to_bytes(4) + body) == status


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\0\0\0\0",
        b"\1\0\0\0\2\x08\1",
        b"\0\0\0\0\3\x08\1",
        b"\0\0\0\0\1\x08",
        b"\0\0\0\0\2\x12\x09",
        b"\0\0\0\0\1\x0b",
    ],
)
def test_answers_that_are_none(message: bytes) -> None:
    with pytest.raises(CheckFailed):
        serving_status(message)


@given(st.binary(max_size=60))
def test_any_answer_is_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(CheckFailed):
        serving_status(b"\0" + len(body).to_bytes(4) + body)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_the_request_is_what_protobuf_makes(service: str) -> None:
    from grpc_health.v1.health_pb2 import HealthCheckRequest

    made = HealthCheckRequest(service=service).SerializeToString()
    assert request(service) == b"\0" + len(made).to_bytes(4) + made


def test_a_name_of_other_bytes_is_sent_as_it_stands() -> None:
    assert request("\udcff") == b"\0\0\0\0\3\x0a\1\xff"

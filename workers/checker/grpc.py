"""GRPC_CHECK, ours: grpc.health.v1.Health/Check says SERVING (the gRPC health checking protocol, over HTTP/2).

h2 speaks HTTP/2. The two messages have one field each, so their few bytes of protobuf are read and written here.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import field

from h2.config import H2Configuration
from h2.connection import ConnectionInputs, H2Connection, H2ConnectionStateMachine
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError

from keepalived_py.config.model import GrpcCheck
from keepalived_py.records import dataclass

from . import http_request
from .http import HttpClient
from .probe import CheckFailed
from .stream import read, stream

METHOD = "/grpc.health.v1.Health/Check"
SERVING, STATUS = 1, ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
CHUNK, ANSWER_LIMIT = 16384, 1024
"""Bytes read at once, and those that an answer may have; a true one has seven."""
STATUS_FIELD, VARINT, LENGTH_DELIMITED = 1, 0, 2
FIXED = {1: 8, 5: 4}
"""Bytes of the protobuf wire types that have always as many."""


class _State(H2ConnectionStateMachine):
    """The other side's GOAWAY does not close the connection: streams that it names are completed (RFC 9113 6.8)."""

    def process_input(self, input_: ConnectionInputs) -> list[Event]:
        return [] if input_ is ConnectionInputs.RECV_GOAWAY else super().process_input(input_)


class _Connection(H2Connection):
    """One that h2 keeps open after a GOAWAY. Whether there is still something to wait for is said by the event."""

    def __init__(self) -> None:
        super().__init__(H2Configuration(client_side=True))
        self.state_machine = _State()

    def clear_outbound_data_buffer(self) -> None:
        """h2 does it for a GOAWAY only; what was to be sent is still to be sent."""


@dataclass(slots=True)
class Answer:
    """What came back on `stream` so far."""

    stream: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False

    def take(self, event: Event) -> None:
        """Raises CheckFailed. What comes behind the end is no part of it: many a server hangs up in the same breath."""
        if self.ended:
            return
        match event:
            case ResponseReceived(headers=headers) | TrailersReceived(headers=headers):
                self.headers |= {_text(name): _text(value) for name, value in headers or ()}
            case DataReceived(data=data):
                self.body += data or b""
                if len(self.body) > ANSWER_LIMIT:
                    raise CheckFailed("the answer is no HealthCheckResponse: too long")
            case StreamReset(error_code=code):
                raise CheckFailed(f"the server reset the stream: error {int(code or 0)}")
            case ConnectionTerminated(error_code=code, last_stream_id=last):
                if code or (last or 0) < self.stream:
                    raise CheckFailed(f"the server ended the connection: error {int(code or 0)}")
            case StreamEnded():
                self.ended = True

    def judge(self) -> None:
        """Raises CheckFailed unless the service is SERVING."""
        if self.headers.get(":status") != "200":
            raise CheckFailed(f"HTTP status {self.headers.get(':status', 'missing')[:20]}")
        code = self.headers.get("grpc-status", "missing")
        if code != "0":
            said = "".join(letter for letter in self.headers.get("grpc-message", "") if letter.isprintable())
            raise CheckFailed(f"grpc-status {code[:20]}" + (f": {said[:200]}" if said else ""))
        status = serving_status(bytes(self.body))
        if status != SERVING:
            raise CheckFailed(f"the service is {STATUS[status] if status < len(STATUS) else status}")


@dataclass(frozen=True, slots=True)
class GrpcChecker:
    config: GrpcCheck
    client: HttpClient
    name: str = "GRPC_CHECK"

    @property
    def limit(self) -> float:
        return self.config.timing.connect_timeout

    async def check(self) -> None:
        endpoint = self.config.endpoint
        secured = self.client.secured(self.config.tls, endpoint.address, "", "h2")
        async with stream(endpoint, secured) as (reader, writer):
            try:
                await self._ask(reader, writer)
            except ProtocolError as exc:
                raise CheckFailed(f"HTTP/2: {str(exc) or type(exc).__name__}"[:200]) from exc

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Raises CheckFailed, ProtocolError and OSError."""
        connection = _Connection()
        connection.initiate_connection()
        number = connection.get_next_available_stream_id()
        connection.send_headers(number, self._headers())
        connection.send_data(number, request(self.config.service), end_stream=True)
        answer = Answer(number)
        while not answer.ended:
            writer.write(connection.data_to_send())
            data = await read(reader, CHUNK)
            if not data:
                raise CheckFailed("the server closed the connection")
            for event in connection.receive_data(data):
                answer.take(event)
        answer.judge()
        with contextlib.suppress(ProtocolError):
            connection.close_connection()
            writer.write(connection.data_to_send())

    def _headers(self) -> list[tuple[str, str]]:
        return [
            (":method", "POST"),
            (":scheme", "http" if self.config.tls is None else "https"),
            (":path", METHOD),
            (":authority", http_request.host(self.config.endpoint)),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "keepalived-py"),
        ]


def request(service: str) -> bytes:
    """HealthCheckRequest of a service, "" for the whole server, as one gRPC message."""
    name = service.encode("utf-8", "surrogateescape")
    body = bytes((STATUS_FIELD << 3 | LENGTH_DELIMITED,)) + _varint(len(name)) + name if name else b""
    return b"\0" + len(body).to_bytes(4) + body


def serving_status(message: bytes) -> int:
    """The status in a gRPC message with a HealthCheckResponse; 0 when it does not say. Raises CheckFailed."""
    body = message[5:]
    if len(message) < 5 or message[0] or int.from_bytes(message[1:5]) != len(body):
        raise CheckFailed("the answer is no HealthCheckResponse")
    status, at = 0, 0
    while at < len(body):
        key, at = _read_varint(body, at)
        kind = key & 7
        if kind == VARINT:
            value, at = _read_varint(body, at)
            status = value if key >> 3 == STATUS_FIELD else status
        elif kind == LENGTH_DELIMITED:
            size, at = _read_varint(body, at)
            at += size
        else:
            at += FIXED.get(kind, len(body))
    if at > len(body):
        raise CheckFailed("the answer is no HealthCheckResponse")
    return status


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*found, number))


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number, and where what follows it begins; beyond the end when it is cut off."""
    number = shift = 0
    while at < len(data):
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return number, at
    return 0, len(data) + 1


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value

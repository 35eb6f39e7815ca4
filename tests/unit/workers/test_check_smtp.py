"""SMTP_CHECK against a real mail server, and against those that are none."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink

from keepalived_py.config.model import CheckTiming, Endpoint, SmtpCheck
from tests.unit.workers.helpers_check import ON_TIME, PATIENT, TIMING, Serve, against, alone, endpoint
from workers.checker.http import HttpClient
from workers.checker.smtp import SmtpChecker


def smtp(target: Endpoint, client: HttpClient | None = None, timing: CheckTiming = PATIENT) -> SmtpChecker:
    return SmtpChecker(SmtpCheck(timing=timing, endpoint=target, helo_name="me.example.com"))


@pytest.fixture
def mail_server() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    controller = Controller(Sink(), hostname="127.0.0.1", port=port)
    controller.start()
    yield port
    controller.stop()


def test_a_real_mail_server(mail_server: int) -> None:
    assert alone(lambda client: smtp(endpoint(mail_server)))[0].failure == ""


def dialogue(*answers: bytes, seen: list[bytes] | None = None) -> Serve:
    """Says the first, and one more for each line it hears; closes after the last."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number, answer in enumerate(answers):
            if number:
                line = await reader.readline()
                if seen is not None:
                    seen.append(line)
            writer.write(answer)

    return serve


GREETING, HELLO, BYE = b"220 mx\r\n", b"250 hello\r\n", b"221 bye\r\n"


def test_what_is_said() -> None:
    seen: list[bytes] = []
    assert against(dialogue(GREETING, HELLO, BYE, seen=seen), smtp)[0].success
    assert seen == [b"HELO me.example.com\r\n", b"QUIT\r\n"]


@pytest.mark.parametrize(
    ("answers", "failure"),
    [
        ((b"220\n", b"250\n", b"\n"), ""),
        ((b"220 a\r\nand more\r\n", b"250 b\r\n250 c\r\n", b"nonsense\r\n"), ""),
        ((b"220\r\n", HELLO, BYE), "the greeting: '220'"),
        ((b"220-mx\r\n220 mx\r\n", HELLO, BYE), "the greeting: '220-mx'"),
        ((b"2200 mx\r\n", HELLO, BYE), "the greeting: '2200 mx'"),
        ((b"421 busy\r\n",), "the greeting: '421 busy'"),
        ((GREETING, b"550 \xff\x1b[2J who\r\n"), "answer to HELO: '550 \\\\xff\\x1b[2J who'"),
        ((), "the greeting: the server closed the connection"),
        ((b"220 m",), "the greeting: the server closed the connection"),
        ((GREETING, b""), "HELO: the server closed the connection"),
        ((GREETING, HELLO, b""), "QUIT: the server closed the connection"),
        ((b"220 " + b"x" * 5000,), "the greeting: a line of more than 512 bytes"),
        ((bytes(5000),), "the greeting: a line of more than 512 bytes"),
    ],
)
def test_answers(answers: tuple[bytes, ...], failure: str) -> None:
    assert against(dialogue(*answers), smtp)[0].failure == failure


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"2")
        await writer.drain()
        await asyncio.sleep(0.05)


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(5)


async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Each answer would be in time alone; together they are not."""
    for answer in (GREETING, HELLO, BYE):
        await asyncio.sleep(0.2)
        writer.write(answer)


@pytest.mark.parametrize("serve", [drip, silence, late])
def test_hostile_servers_get_their_verdict_on_time(serve: Serve) -> None:
    result, took = against(serve, lambda target, client: smtp(target, client, TIMING))
    assert result.failure == "no answer within 0.4s"
    assert took < ON_TIME

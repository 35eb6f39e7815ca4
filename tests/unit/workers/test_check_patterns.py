"""Patterns of url checks: verdicts, and hostile bodies in bounded time and memory."""

from __future__ import annotations

import asyncio
import gzip
import time
from typing import Any

import pytest

from keepalived_py.config.model import CheckTiming, HttpCheck, HttpUrl
from tests.unit.workers.helpers_check import ON_TIME, PATIENT, TIMING, Make, Serve, against, peak_memory
from workers.checker import searcher
from workers.checker.http import HttpChecker
from workers.checker.http_plain import KEPT_LIMIT

HEAD = b"HTTP/1.0 200 OK\r\n\r\n"


def check(regex: str, timing: CheckTiming = PATIENT, **values: Any) -> Make:
    url = HttpUrl(path="/x", regex=regex, **values)
    return lambda target, client: HttpChecker(HttpCheck(timing=timing, endpoint=target, urls=(url,)), client)


def answer(*parts: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)

    return serve


@pytest.mark.parametrize(
    ("parts", "regex", "values", "failure"),
    [
        ((b"all is well",), "is w.ll$", {}, ""),
        ((b"all is we", b"ll"), "is w.ll$", {}, ""),  # across reads
        ((b"all is bad",), "is w.ll$", {}, "/x: the pattern is not in the body"),
        ((b"all is bad",), "bad", {"regex_no_match": True}, "/x: the pattern is in the body"),
        ((b"all is well",), "bad", {"regex_no_match": True}, ""),
        ((b"WELL",), "well", {"regex_options": ("caseless",)}, ""),
        ((b"..well",), "well", {"regex_min_offset": 2, "regex_max_offset": 2}, ""),
        ((b"..well",), "well", {"regex_min_offset": 3}, "/x: the pattern is not in the body"),
        ((b"..well",), "well", {"regex_max_offset": 1}, "/x: the pattern is not in the body"),
        ((), "^$", {}, ""),
        ((b"x",), "a(b", {}, ""),  # cannot be compiled: counts as none
        ((b"x",), "x", {"digest": "0" * 32}, "/x: digest 9dd4e461268c8034f5c8564e155c67a6"),
        ((b"\x00\xff\xfe" * 100 + b"well",), "well", {}, ""),
    ],
)
def test_verdicts(parts: tuple[bytes, ...], regex: str, values: dict[str, Any], failure: str) -> None:
    assert against(answer(HEAD, *parts), check(regex, **values))[0].failure == failure


def test_the_status_is_looked_at_first() -> None:
    assert against(answer(b"HTTP/1.0 500 No\r\n\r\nwell"), check("well"))[0].failure == "/x: status 500"


def test_a_pattern_is_looked_for_in_a_limited_part() -> None:
    result, _ = against(answer(HEAD, bytes(KEPT_LIMIT), b"well"), check("well"))
    assert result.failure == f"/x: the pattern is not in the first {KEPT_LIMIT} bytes of the body"
    assert against(answer(HEAD, bytes(KEPT_LIMIT - 4), b"well"), check("well"))[0].success


def test_a_pattern_that_costs_too_much_is_a_failure_and_stalls_nothing() -> None:
    """While the search runs, the loop goes on turning."""
    worst = 0.0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal worst
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b"a" * 500_000)
        writer.close()
        until = time.monotonic() + 0.35
        while time.monotonic() < until:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            worst = max(worst, time.monotonic() - before)

    result, took = against(serve, check("(?s).{1,3000}[xy]", TIMING))
    assert result.failure in ("no answer within 0.4s", "/x: looking for the pattern takes too long")
    assert took < ON_TIME
    assert worst < 0.15


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD)
    while True:
        writer.write(b"well" * 16384)
        await writer.drain()


async def bomb(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A gigabyte in a megabyte: must not be unpacked."""
    packed = gzip.compress(bytes(1 << 20), 9) * 1024
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed)


async def huge_chunk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffff\r\n")
    while True:
        writer.write(bytes(65536))
        await writer.drain()


async def broken_chunk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nwell\r\n")


async def short(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\nwe")


@pytest.mark.parametrize("serve", [flood, bomb, huge_chunk, broken_chunk, short])
def test_hostile_bodies_end_in_a_verdict_on_time_and_in_little_memory(serve: Serve) -> None:
    before = peak_memory()
    result, took = against(serve, check("never there", TIMING))
    assert result.failure
    assert took < ON_TIME
    assert peak_memory() - before < 32 << 20


def test_a_check_that_finds_no_thread_says_nothing_about_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Costly patterns of others take them all; this one waits in vain."""
    monkeypatch.setattr(searcher, "THREADS", 0)
    result, took = against(answer(HEAD, b"well"), check("well", TIMING))
    assert not result.made
    assert result.failure == "too many patterns are looked for at once"
    assert took < ON_TIME

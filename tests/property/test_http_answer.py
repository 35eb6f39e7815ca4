"""Answers of web servers, well-formed and hostile: one verdict however they are cut, and that of another parser."""

from __future__ import annotations

import http.client
import io
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from workers.checker.http_answer import HEAD_LIMIT, Answer, AnswerError

Verdict = tuple[int, bytes, bool, int, str]


def verdict(parts: list[bytes], head: bool = False) -> Verdict:
    """Status, body, whether it ended, what was missing, the error. Of an answer with an error the body is nothing."""
    answer, body = Answer(head), b""
    try:
        for part in (*(each for each in parts if each), b""):
            body += answer.feed(part)
            held = len(answer._held or b"") + len(answer._chunks._held if answer._chunks else b"")
            assert held <= HEAD_LIMIT + len(part)
            if answer.ended:
                break
    except AnswerError as exc:
        return answer.status, b"", answer.ended, answer.missing, str(exc)
    return answer.status, body, answer.ended, answer.missing, ""


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in pairwise(edges)]


bodies = st.binary(max_size=40)
names = st.from_regex(rb"\A[A-Za-z-]{1,12}\Z")
values = st.from_regex(rb"\A[ -~]{0,20}\Z").map(bytes.strip)
PIECES = (
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 404 \r\n",
    b"HTTP/1.1 100 Go on\r\n\r\n",
    b"HTTP/1.1 204 No\r\n",
    b"Content-Length: 3\r\n",
    b"content-length:99999999999999999999\r\n",
    b"CONTENT-LENGTH: 0x\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"\r\n",
    b"\r",
    b"\n",
    b"\0",
    b"3\r\nabc\r\n",
    b"0\r\n\r\n",
    b"fffffffffffffff\r\n",
    b";",
    b"x" * 1023,
    b"a: b\r\n" * 11000,
)
nonsense = st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=4)), max_size=12).map(b"".join)
places = st.lists(st.integers(0, 1 << 20), max_size=8)


@settings(max_examples=400)
@given(nonsense, places, st.booleans())
def test_the_verdict_does_not_depend_on_the_cuts(data: bytes, where: list[int], head: bool) -> None:
    assert verdict(cut(data, where), head) == verdict([data], head)


@settings(max_examples=200)
@given(nonsense.filter(lambda data: len(data) < 3000))
def test_nor_when_every_byte_comes_alone(data: bytes) -> None:
    assert verdict([bytes((byte,)) for byte in data]) == verdict([data])


@st.composite
def answers(draw: Any) -> bytes:
    """Well-formed: a body with a length, in chunks, or to the end."""
    body, fields = draw(bodies), draw(st.lists(st.tuples(names, values), max_size=4))
    reserved = (b"content-length", b"transfer-encoding", b"connection")
    lines = [name + b": " + value for name, value in fields if name.lower() not in reserved]
    status = draw(st.sampled_from((200, 201, 204, 302, 304, 404, 500, 503)))
    way = "none" if status in (204, 304) else draw(st.sampled_from(("length", "chunks", "end")))
    if way == "length":
        lines.insert(draw(st.integers(0, len(lines))), b"Content-Length: %d" % len(body))
    if way == "chunks":
        lines.append(b"Transfer-Encoding: chunked")
        parts = [part for part in cut(body, draw(places)) if part]
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    interim = draw(st.sampled_from((b"", b"HTTP/1.1 100 Continue\r\n\r\n")))
    return interim + b"\r\n".join((b"HTTP/1.1 %d Reason" % status, *lines, b"", b"")) + body


class Wire:
    """What http.client reads from."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self.data)


@settings(max_examples=300)
@given(answers(), places, st.sampled_from(("GET", "HEAD")))
def test_it_is_that_of_another_parser(data: bytes, where: list[int], method: str) -> None:
    wire: Any = Wire(data)
    other = http.client.HTTPResponse(wire, method=method)
    other.begin()
    assert verdict(cut(data, where), method == "HEAD") == (other.status, other.read(), True, 0, "")

"""The reader of answers and what HTTP_GET makes of them, without a connection."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

import pytest

from keepalived_py.config.model import CheckTiming, Endpoint, HttpCheck, HttpUrl
from keepalived_py.values import ip_address
from workers.checker import http_plain
from workers.checker.http_answer import HEAD_LIMIT, LINE_LIMIT, Answer, AnswerError
from workers.checker.http_plain import PlainHttpChecker, is_plain
from workers.checker.probe import WELL, Result

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def read(data: bytes, *, head: bool = False, closed: bool = True) -> tuple[int, bytes, bool]:
    """Status, body and whether it has ended."""
    answer = Answer(head)
    body = answer.feed(data)
    if closed and not answer.ended:
        body += answer.feed(b"")
    return answer.status, body, answer.ended


@pytest.mark.parametrize(
    ("data", "status", "body"),
    [
        (OK + b"\r\n" + b"to the end", 200, b"to the end"),
        (OK + b"Content-Length: 3\r\n\r\nabcdef", 200, b"abc"),
        (OK + b"a: b\r\ncontent-LENGTH:\t3 \r\nc: d\r\n\r\nabc", 200, b"abc"),
        (OK + b"Content-Length: 0\r\n\r\n", 200, b""),
        (OK + b"Content-Length: 3\r\nContent-Length: 9\r\n\r\nabcdef", 200, b"abc"),
        (OK + b"X-Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc", 200, b"abc"),
        (b"HTTP/1.0 404 Not Found\r\n\r\nno", 404, b"no"),
        (b"HTTP/1.1 200\r\n\r\n", 200, b""),
        (b"HTTP/1.1 204 Empty\r\nContent-Length: 5\r\n\r\nabc", 204, b""),
        (b"HTTP/1.1 304 Same\r\n\r\nabc", 304, b""),
        (b"HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 103 Soon\r\na: b\r\n\r\n" + OK + b"\r\nx", 200, b"x"),
        (b"HTTP/1.1 101 Other\r\n\r\nx", 101, b"x"),
        (CHUNKED + b"3\r\nabc\r\n0\r\n\r\nmore", 200, b"abc"),
        (CHUNKED + b"00A;x=y\r\n0123456789\r\n1 \r\nz\r\n0\r\nTrailer: t\r\n\r\n", 200, b"0123456789z"),
        (OK + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n2\r\nab\r\n0\r\n\r\n", 200, b"ab"),
        (OK + b"Content-Length: 1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", 200, b"ab"),
        (OK + b"Transfer-Encoding: chunked, gzip\r\nContent-Length: 2\r\n\r\nabc", 200, b"ab"),
    ],
)
def test_bodies_end_as_they_say(data: bytes, status: int, body: bytes) -> None:
    assert read(data) == (status, body, True)


def test_a_body_is_over_when_all_of_it_is_there() -> None:
    assert read(OK + b"Content-Length: 3\r\n\r\nabc", closed=False) == (200, b"abc", True)
    assert read(CHUNKED + b"0\r\n\r\n", closed=False) == (200, b"", True)
    assert read(OK + b"\r\nabc", closed=False) == (200, b"abc", False)
    assert read(OK + b"Content-Length: 3\r\n\r\nab", closed=False) == (200, b"ab", False)
    assert read(OK + b"Content-Length: 9\r\n\r\n", head=True, closed=False) == (200, b"", True)


def test_a_body_that_is_too_short_is_no_error() -> None:
    answer = Answer()
    assert answer.feed(OK + b"Content-Length: 9\r\n\r\nab") + answer.feed(b"") == b"ab"
    assert (answer.ended, answer.missing) == (True, 7)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "the server closed the connection"),
        (b"HTT", "the server closed the connection"),
        (OK, "the server closed the connection"),
        (b"HTTP/1.1 200 OK\n\n", "the server closed the connection"),
        (b"SSH-2.0-OpenSSH\r\n", "no answer in HTTP"),
        (b"http/1.1 200 OK\r\n\r\n", "no answer in HTTP"),
        (b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "no answer in HTTP"),
        (b"\r\n" + OK + b"\r\n", "no answer in HTTP"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "no answer in HTTP"),
        (b"HTTP/1.1 20 OK\r\n\r\n", "no answer in HTTP"),
        (b"HTTP/1.1 -20 OK\r\n\r\n", "no answer in HTTP"),
        (b"HTTP/1.1  200 OK\r\n\r\n", "no answer in HTTP"),
        (b"HTTP/1.1 \xb2\xb0\xb0 OK\r\n\r\n", "no answer in HTTP"),
        (bytes(100), "no answer in HTTP"),
        (OK + b"a: b\r\n" * HEAD_LIMIT, "the head is too long"),
        (OK + bytes(HEAD_LIMIT), "the head is too long"),
        (OK + b"Content-Length: -1\r\n\r\n", "a Content-Length that is no number"),
        (OK + b"Content-Length: 1e3\r\n\r\n", "a Content-Length that is no number"),
        (OK + b"Content-Length: \r\n\r\n", "a Content-Length that is no number"),
        (OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", "a Content-Length that is no number"),
        (CHUNKED + b"3\r\nab", "the server closed the connection"),
        (CHUNKED + b"3\r\nabc\r\n0\r\n", "the server closed the connection"),
        (CHUNKED + b"\r\n", "a chunk without a size"),
        (CHUNKED + b"-1\r\n", "a chunk without a size"),
        (CHUNKED + b"0x3\r\nabc\r\n", "a chunk without a size"),
        (CHUNKED + b"f" * 16 + b"\r\n", "a chunk without a size"),
        (CHUNKED + b"3\r\nabcd\r\n", "a chunk that is longer than it says"),
        (CHUNKED + b"1" * (LINE_LIMIT + 1) + b"\r\n", "a chunk without an end"),
        (CHUNKED + b"3;" + b"x" * LINE_LIMIT, "a chunk without an end"),
    ],
)
def test_nonsense_is_told_by_name(data: bytes, error: str) -> None:
    with pytest.raises(AnswerError, match=error):
        read(data)


def test_limits_are_the_same_however_a_line_is_cut() -> None:
    longest = b"1;" + b"x" * (LINE_LIMIT - 2)
    answer = Answer()
    assert answer.feed(CHUNKED + longest + b"\r") == b""
    assert answer.feed(b"\nx") == b"x"
    head = OK + b"a: ".ljust(HEAD_LIMIT - len(OK) - 4, b"b") + b"\r\n\r\n"
    answer = Answer()
    for part in (head[:-1], head[-1:]):
        answer.feed(part)
    assert (len(head), answer.status) == (HEAD_LIMIT, 200)


def test_a_head_that_drips_costs_little() -> None:
    """Looked at from its beginning with each byte it took two seconds."""
    answer, began = Answer(), time.process_time()
    for byte in OK + b"a: " + b"b" * (HEAD_LIMIT - 100):
        answer.feed(bytes((byte,)))
    assert time.process_time() - began < 0.7


# what a check says --------------------------------------------------------------------------------------------------

CHECK = HttpCheck(
    timing=CheckTiming(),
    endpoint=Endpoint(address=ip_address("192.0.2.1"), port=80),
    urls=(HttpUrl(path="/a"), HttpUrl(path="/b", digest="900150983cd24fb0d6963f7d28e17f72", statuses=((201, 203),))),
)
B = b"HTTP/1.1 202 Fine\r\nContent-Length: 3\r\n\r\n"


def said(*parts: bytes, url: int | HttpUrl = 0) -> Result | None:
    """The verdict on an answer that comes in parts."""
    check = CHECK if isinstance(url, int) else replace(CHECK, urls=(url,))
    dialogue = PlainHttpChecker(check, url if isinstance(url, int) else 0).dialogue()
    return next((heard for heard in map(dialogue.hear, parts) if heard is not None), None)


def test_each_checker_asks_for_one_url() -> None:
    openings = [PlainHttpChecker(CHECK, number).dialogue().opening for number in (0, 1)]
    assert [opening.partition(b"\r\n")[0] for opening in openings] == [b"GET /a HTTP/1.0", b"GET /b HTTP/1.0"]
    assert PlainHttpChecker(CHECK, 0) != PlainHttpChecker(CHECK, 1)


def test_an_answer_is_judged_by_status_and_digest() -> None:
    assert said(OK + b"\r\n", b"") == WELL
    assert said(B + b"abc", url=1) == said(B, b"a", b"b", b"c", url=1) == WELL
    assert said(OK, url=1) is None
    assert said(B + b"abd", url=1) == Result("/b: digest 4911e516e5aa21d327512e0c8b197616")
    assert said(b"HTTP/1.0 503 No\r\n\r\n") == Result("/a: status 503")


def test_the_status_is_judged_before_the_body() -> None:
    bad = b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert said(bad + b"nonsense\r\n") == said(bad, b"nonsense\r\n") == Result("/a: status 500")


def test_a_head_request_has_no_body() -> None:
    url = HttpUrl(path="/a", method="HEAD")
    assert said(OK + b"Content-Length: 9\r\n\r\n", url=url) == WELL


def test_a_body_that_is_too_short_is_told_once_for_each_difference(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_plain, "_told", {})
    caplog.set_level(logging.INFO)
    checker = PlainHttpChecker(replace(CHECK, urls=(HttpUrl(path="/a"),)))
    for body in (b"ab", b"ab", b"abc", b"abcde", b"abc"):
        dialogue = checker.dialogue()
        verdict = dialogue.hear(OK + b"Content-Length: 5\r\n\r\n" + body)
        assert (verdict or dialogue.hear(b"")) == WELL
    assert [record.getMessage() for record in caplog.records] == [
        f"/a of 192.0.2.1:80: {missing} bytes of the Content-Length did not come" for missing in (3, 2, 2)
    ]


def test_what_is_plain() -> None:
    assert is_plain(CHECK, 0)
    urls = HttpUrl(path="/", regex="x"), HttpUrl(path="/")
    assert [is_plain(replace(CHECK, urls=urls), number) for number in (0, 1)] == [False, True]
    assert not is_plain(replace(CHECK, keep_alive=True, http_protocol="1.1"), 0)
    assert is_plain(replace(CHECK, keep_alive=True, http_protocol="1.0"), 0)

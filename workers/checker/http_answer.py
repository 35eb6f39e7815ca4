"""The answer of a web server, as it comes in (RFC 9112). No I/O; whatever comes, the only error is AnswerError."""

from __future__ import annotations

import re

HEAD_END = b"\r\n\r\n"
HEAD_LIMIT = 65536
LINE_LIMIT = 1024
"""Bytes of a line between chunks."""
NUMBER_LIMIT = 18
"""Digits of a Content-Length."""
SWITCHING = 101
BODILESS = (204, 304)
NO_BODY = tuple(b"%d" % status for status in BODILESS)
STATUS = re.compile(rb"HTTP/\d\.\d ([1-9]\d\d)(?: |\r)").match
ORDINARY = re.compile(
    rb"(?-i:HTTP)/\d\.\d ([2-9]\d\d)(?: [^\r]*)?\r\n"
    rb"(?:(?!content-length:|transfer-encoding:)[^\r]+\r\n)*"
    rb"content-length:[ \t]*(\d{1,18})[ \t]*\r\n"
    rb"(?:(?!transfer-encoding:)[^\r]+\r\n)*\r\n",
    re.IGNORECASE,
).match
"""The whole head of most answers, read at one go: five times as fast as step by step."""
CONTENT_LENGTH = b"\r\ncontent-length:"
CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked[ \t]*\r")
CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?", re.DOTALL)


class AnswerError(Exception):
    """It is none, or not a whole one."""


class Answer:
    """Fed with what arrives; `bodiless`: it answers a HEAD request.

    `status` is 0 until the head is there, `ended` True when the body is complete or the connection has ended. `missing`
    are the bytes of the Content-Length that did not come, which is no error (checker-behaviour.md 4).
    """

    __slots__ = ("_bodiless", "_chunks", "_held", "_left", "ended", "missing", "status")

    def __init__(self, bodiless: bool = False) -> None:
        self.status, self.ended, self.missing = 0, False, 0
        self._bodiless = bodiless
        self._held: bytearray | None = None
        """The part of the head that is there."""
        self._left: int | None = None
        """Bytes of the body that are missing; None: it ends with the connection."""
        self._chunks: Chunks | None = None

    def feed(self, data: bytes) -> bytes:
        """The part of the body in `data`; b"" is the end of the connection. Raises AnswerError."""
        if not data:
            return self._closed()
        if self.status == 0:
            ordinary = None if self._held is not None or self._bodiless else ORDINARY(data, 0, HEAD_LIMIT)
            if ordinary is not None and ordinary[1] not in NO_BODY:
                self.status, self._left = int(ordinary[1]), int(ordinary[2])
                data = data[ordinary.end() :]
            else:
                data = self._head(data)
                if self.status == 0:
                    return b""
        if self._left is not None:
            if len(data) > self._left:
                data = data[: self._left]
            self._left -= len(data)
            self.ended = self._left == 0
        elif self._chunks is not None:
            data = self._chunks.feed(data)
            self.ended = self._chunks.ended
        return data

    def _closed(self) -> bytes:
        if self.status == 0 or self._chunks is not None:
            raise AnswerError("the server closed the connection")
        self.ended, self.missing = True, self._left or 0
        return b""

    def _head(self, data: bytes) -> bytes:
        """What follows the head, if that is complete."""
        held = self._held = bytearray() if self._held is None else self._held
        start = max(0, len(held) - len(HEAD_END) + 1)
        held += data
        while (end := held.find(HEAD_END, start, HEAD_LIMIT)) >= 0:
            found = STATUS(held)
            if found is None:
                raise AnswerError("no answer in HTTP")
            status = int(found[1])
            data = bytes(held[: end + 2])
            del held[: end + len(HEAD_END)]
            if status >= 200 or status == SWITCHING:
                self.status, self._held = status, None
                self._frame(status, data.lower())
                return bytes(held)
            start = 0
        if not held.startswith(b"HTTP/"[: len(held)]):
            raise AnswerError("no answer in HTTP")
        if len(held) >= HEAD_LIMIT:
            raise AnswerError("the head is too long")
        return b""

    def _frame(self, status: int, head: bytes) -> None:
        """How the body ends (RFC 9112 6.3)."""
        if self._bodiless or status in BODILESS:
            self._left = 0
        elif b"chunked" in head and CHUNKED.search(head):
            self._chunks = Chunks()
        else:
            at = head.find(CONTENT_LENGTH)
            if at >= 0:
                at += len(CONTENT_LENGTH)
                value = head[at : head.find(b"\r", at)].strip()
                if not value.isdigit() or len(value) > NUMBER_LIMIT:
                    raise AnswerError("a Content-Length that is no number")
                self._left = int(value)


class Chunks:
    """A body in chunks (RFC 9112 7.1). Trailers are dropped."""

    __slots__ = ("_held", "_left", "_next", "ended")

    def __init__(self) -> None:
        self.ended = False
        self._held = b""
        self._left = 0
        self._next = self._size

    def feed(self, data: bytes) -> bytes:
        """The part of the body in `data`. Raises AnswerError."""
        data, self._held = self._held + data, b""
        parts, at = [], 0
        while not self.ended:
            if self._left:
                part = data[at : at + self._left]
                parts.append(part)
                at += len(part)
                self._left -= len(part)
                if self._left:
                    break
            end = data.find(b"\r\n", at)
            if (end if end >= 0 else len(data) - 1) - at > LINE_LIMIT:  # one byte may be that of the end
                raise AnswerError("a chunk without an end")
            if end < 0:
                self._held = data[at:]
                break
            self._next(data[at:end])
            at = end + 2
        return b"".join(parts)

    def _size(self, line: bytes) -> None:
        found = CHUNK.fullmatch(line)
        if found is None:
            raise AnswerError("a chunk without a size")
        self._left = int(found[1], 16)
        self._next = self._gap if self._left else self._trailer

    def _gap(self, line: bytes) -> None:
        """Behind the data of a chunk."""
        if line:
            raise AnswerError("a chunk that is longer than it says")
        self._next = self._size

    def _trailer(self, line: bytes) -> None:
        self.ended = not line

"""One end of a socket pair between two processes: length-prefixed frames, on whatever event loop is running."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

from .codec import decode, encode, limit_of
from .messages import Peer, merge_key
from .types import ProtocolError

_LENGTH = struct.Struct("!I")
READ_SIZE = 1 << 18
NOTHING = memoryview(b"")
SHORTAGES = (errno.ENOBUFS, errno.ENOMEM)
RETRY = 0.1
"""Seconds until something is sent again for which the kernel had no memory."""


class Channel:
    """Sends messages to `peer` and hands what it says to `received`; `closed` hears why it ended ("" for end of file).

    The channel never blocks: what the socket does not take waits here, and a newer report takes the place of an older
    one of the same subject.
    """

    def __init__(
        self,
        sock: socket.socket,
        peer: Peer,
        received: Callable[[Any], None],
        closed: Callable[[str], None],
    ) -> None:
        sock.setblocking(False)
        self.peer = peer
        self._sock = sock
        self._received, self._closed = received, closed
        self._input = bytearray()
        self._output: deque[tuple[Any, bytes]] = deque()
        self._partial = NOTHING
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writing = False
        self._retry: asyncio.TimerHandle | None = None
        self.open = True

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start listening on `loop`."""
        self._loop = loop
        loop.add_reader(self._sock, self._readable)
        self._flush()

    def send(self, msg: Any) -> None:
        """Queue `msg`; a no-op once the channel is closed."""
        if not self.open:
            return
        frame = encode(msg)
        key = merge_key(msg)
        if key is not None:
            self._output = deque(item for item in self._output if item[0] != key)
        self._output.append((key, _LENGTH.pack(len(frame)) + frame))
        self._flush()

    def close(self, reason: str | None = None) -> None:
        """Stop; with a reason, `closed` is told."""
        if not self.open:
            return
        self.open = False
        if self._loop is not None:
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
        self._sock.close()
        if reason is not None:
            self._closed(reason)

    def drain(self) -> None:
        """The process at the other end has ended: hear what it still said, and close."""
        while self._readable():
            pass
        self.close()

    @property
    def idle(self) -> bool:
        """Everything that was sent has left."""
        return not self._output and not self._partial

    def _readable(self) -> bool:
        """Take what is there; False when there was nothing, or there will be no more."""
        try:
            data = self._sock.recv(READ_SIZE) if self.open else b""
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True  # of who ended with something unread the last words are still to come, then the end of file
        except OSError as exc:
            self.close(exc.strerror or str(exc))
            return False
        if not data:
            self.close("")
            return False
        self._input += data
        try:
            self._take_frames()
        except ProtocolError as exc:
            self.close(f"protocol error: {exc}")
        return self.open

    def _take_frames(self) -> None:
        while self.open and len(self._input) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._input)
            if length > limit_of(self.peer):
                raise ProtocolError(f"frame of {length} bytes from {self.peer.value}")
            end = _LENGTH.size + length
            if len(self._input) < end:
                return
            frame = bytes(memoryview(self._input)[_LENGTH.size : end])
            del self._input[:end]
            self._received(decode(frame, self.peer))

    def _flush(self) -> None:
        try:
            while self._partial or self._output:
                self._partial = self._partial or memoryview(self._output.popleft()[1])
                # what is empty would still hold the whole frame
                self._partial = self._partial[self._sock.send(self._partial) :] or NOTHING
        except BlockingIOError:
            pass
        except ConnectionError:  # nobody reads it any more
            self._output.clear()
            self._partial = NOTHING
        except OSError as exc:
            if exc.errno not in SHORTAGES or self._loop is None:
                self.close(exc.strerror or str(exc))
                return
            self._await_room(False)  # there is room, but no memory
            self._retry = self._retry or self._loop.call_later(RETRY, self._try_again)
            return
        self._await_room(not self.idle)

    def _try_again(self) -> None:
        self._retry = None
        if self.open:
            self._flush()

    def _await_room(self, waiting: bool) -> None:
        """Go on when the socket takes something again, or no longer ask for that."""
        if self._loop is None:
            return
        if waiting and not self._writing:
            self._loop.add_writer(self._sock, self._flush)
        elif not waiting and self._writing:
            self._loop.remove_writer(self._sock)
        self._writing = waiting

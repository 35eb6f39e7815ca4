"""Where log records go: syslog, a file, the console. None of them waits."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import math
import os
import re
import select
import signal
import socket
import stat
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from keepalived_py.dumpfile import make_directories
from keepalived_py.values import visible

SYSLOG_LIMIT = 8192
WAITING_LIMIT = 5000
"""Records that wait for a sink."""
LOOK_AGAIN = 0.1
"""Seconds after which a sink is tried again that cannot tell when it takes something."""
STACK_SIZE = 1 << 19
"""Of a thread: where memory is locked all of it is in RAM."""
FINISH_LIMIT = 1.0
"""Seconds that the end of a process waits for them."""
NO_TEXT = re.compile("[\ud800-\udfff]")
"""Bytes that are no UTF-8 (PEP 383)."""
FILE_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
FILE_PERMISSIONS = 0o666
"""Before the umask."""


class Sink(logging.Handler, ABC):
    """Where records go. `destination` is what people call it, `lost` counts all that were refused."""

    def __init__(self, destination: str) -> None:
        super().__init__()
        self.destination = destination
        self.lost = 0
        self._untold = 0
        self._reason = ""
        """Why the last one was refused."""
        self._reported = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.offer(record)
        except BlockingIOError:
            self._lose("too many waited")

    def offer(self, record: logging.LogRecord) -> None:
        """Write the record, behind what tells of those that were lost. Raises BlockingIOError when it must wait."""
        try:
            if self._untold:
                self.write(self._told(record))
                self._untold, self._reported = 0, False
            self.write(record)
        except BlockingIOError:
            raise
        except OSError as exc:
            self._lose(exc.strerror or str(exc))
        except Exception as exc:  # out of memory, say: the log is no reason to end, nor for its thread
            self._lose(str(exc) or type(exc).__name__)

    def _lose(self, reason: str) -> None:
        self.lost += 1
        self._untold += 1
        self._reason = reason

    def _told(self, like: logging.LogRecord) -> logging.LogRecord:
        """What tells of lost records; a warning."""
        number = f"{self._untold} log record{'s were' if self._untold > 1 else ' was'}"
        text = f"{number} lost by {self.destination}: {self._reason}"
        return logging.LogRecord(like.name, logging.WARNING, like.pathname, like.lineno, text, (), None)

    def trouble(self) -> str:
        """What others have to be told, once: that this takes no records. "" otherwise."""
        if not self._untold or self._reported:
            return ""
        self._reported = True
        return f"{self.destination} takes no log records: {self._reason}"

    @abstractmethod
    def write(self, record: logging.LogRecord) -> None:
        """Must not wait. Raises OSError when the record is not taken, BlockingIOError when it would be later."""

    def await_room(self, limit: float) -> None:
        """Wait until a record may be taken, `limit` seconds at most."""
        time.sleep(min(limit, LOOK_AGAIN))

    @abstractmethod
    def give_back(self) -> None:
        """Give descriptors back; a later record opens new ones."""

    def forked(self) -> None:
        """In a forked process: what is open or waits belongs to the other one."""
        self.give_back()

    def forget(self) -> None:
        """What was lost belongs to another process."""
        self.lost = self._untold = 0
        self._reported = False

    def inherit(self, before: Sink) -> None:
        """This takes the place of `before`, whose losses are still to be told."""
        self.lost, self._untold = before.lost, before._untold
        self._reason, self._reported = before._reason, before._reported

    def settle(self, limit: float) -> None:
        """Wait until nothing waits, `limit` seconds at most."""


class SyslogHandler(Sink):
    """RFC 3164 records to /dev/log as syslog(3) writes them, non-blocking: datagrams, or a stream where it is one."""

    PATH = "/dev/log"
    SEVERITY = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 6))

    def __init__(self, ident: str, facility: int) -> None:
        super().__init__("syslog")
        self.ident, self.facility = ident, facility
        self._sock: socket.socket | None = None
        self._rest = b""
        """Of the last record, which a stream took in part."""

    def write(self, record: logging.LogRecord) -> None:
        severity = next((code for level, code in self.SEVERITY if record.levelno >= level), 6)
        when = time.strftime("%b %e %T", time.localtime(record.created))
        line = f"<{self.facility * 8 + severity}>{when} {self.ident}[{os.getpid()}]: {_shown(record, ' | ')}"
        data = _cut(line, SYSLOG_LIMIT).encode("utf-8", "replace")
        known = self._sock is not None
        try:
            self._send(data)
        except BlockingIOError:
            raise
        except OSError:
            if not known:
                raise
            self._send(data)  # who read the socket may have been replaced since

    def _send(self, data: bytes) -> None:
        try:
            sock = self._connected()
            if sock.type == socket.SOCK_STREAM:
                self._rest = self._rest[sock.send(self._rest) :] if self._rest else b""
                if self._rest:
                    raise BlockingIOError
                data += b"\0"  # which ends a record there
                self._rest = data[sock.send(data) :]
            else:
                sock.send(data)
        except BlockingIOError:
            raise
        except OSError:
            self.give_back()
            raise

    def _connected(self) -> socket.socket:
        """Raises OSError."""
        if self._sock is None:
            try:
                self._sock = self._connect(socket.SOCK_DGRAM)
            except OSError as exc:
                if exc.errno != errno.EPROTOTYPE:
                    raise
                self._sock = self._connect(socket.SOCK_STREAM)
        return self._sock

    def _connect(self, kind: socket.SocketKind) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, kind)
        try:
            sock.setblocking(False)
            sock.connect(self.PATH)
        except OSError:
            sock.close()
            raise
        return sock

    def await_room(self, limit: float) -> None:
        if self._sock is None:
            super().await_room(limit)
        else:
            _await_room(self._sock.fileno(), limit)

    def give_back(self) -> None:
        self._rest = b""
        if self._sock is not None:
            self._sock.close()
            self._sock = None


class StreamHandler(Sink):
    """Lines to a descriptor: `date: text`, as keepalived's console has them, or JSON.

    With a path: the file there; when it was moved or removed it is made anew, its directory too, and no part of a line
    stays in it. Where it cannot be opened it is tried again with each record.
    """

    def __init__(
        self, descriptor: int = -1, *, path: Path | None = None, ident: str = "", as_json: bool = False
    ) -> None:
        super().__init__("standard error" if path is None else str(path))
        self.ident, self.as_json = ident, as_json
        self.descriptor = descriptor
        self._path = path
        self._identity = (0, 0)
        self._opening = threading.Lock()

    def write(self, record: logging.LogRecord) -> None:
        line = self._line(record, select.PIPE_BUF - 1).encode("utf-8", "replace") + b"\n"
        if self._path is not None:
            self.follow()
        # a pipe that polls writable takes PIPE_BUF bytes without blocking (pipe(7)); the descriptor itself stays
        # blocking, since others share it
        if not _await_room(self.descriptor, 0):
            raise BlockingIOError
        written = os.write(self.descriptor, line)
        if written < len(line):
            if self._path is not None:
                os.ftruncate(self.descriptor, os.fstat(self.descriptor).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def await_room(self, limit: float) -> None:
        _await_room(self.descriptor, limit)

    @property
    def is_file(self) -> bool:
        """Whether it is one of option -g."""
        return self._path is not None

    @property
    def never_waits(self) -> bool:
        """Whether writing takes no time whatever the reader does: pipes and sockets say before if there is room."""
        if self._path is not None:
            return False
        mode = os.fstat(self.descriptor).st_mode
        return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)

    def give_back(self) -> None:
        if self._path is not None and self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor, self._identity = -1, (0, 0)

    def forked(self) -> None:
        self._opening = threading.Lock()
        super().forked()

    def refusal(self, limit: float) -> str:
        """What keeps the file from being opened, "" for nothing. It is known after `limit` seconds at the latest."""
        found = ["it takes too long"]

        def look() -> None:
            try:
                self.follow()
                found[0] = ""
            except OSError as exc:
                found[0] = exc.strerror or str(exc)

        try:
            _thread(look).join(limit)
        except RuntimeError:
            return ""  # it turns out with the first record
        self._reported = bool(found[0])
        return found[0]

    def follow(self) -> None:
        """Open the file unless the one that is open is still at its path. Raises OSError."""
        with self._opening:
            self._follow()

    def _follow(self) -> None:
        assert self._path is not None
        with contextlib.suppress(FileNotFoundError):
            found = os.lstat(self._path)
            if (found.st_dev, found.st_ino) == self._identity:
                return
        try:
            descriptor = os.open(self._path, FILE_FLAGS, FILE_PERMISSIONS)
        except FileNotFoundError:
            make_directories(str(self._path.parent), 0o755)
            descriptor = os.open(self._path, FILE_FLAGS, FILE_PERMISSIONS)
        self.give_back()
        self.descriptor = descriptor
        found = os.fstat(descriptor)
        self._identity = found.st_dev, found.st_ino

    def _line(self, record: logging.LogRecord, limit: int) -> str:
        """At most `limit` bytes unless it is for a file."""
        if not self.as_json:
            line = f"{time.strftime('%c', time.localtime(record.created))}: {_shown(record)}"
            return line if self._path is not None else _cut(line, limit)
        text = NO_TEXT.sub(lambda found: visible(found[0]), _text(record))
        line = self._json(record, text)
        if self._path is None and len(line.encode("utf-8", "replace")) > limit:
            return self._json(record, text[: limit // 8])  # at most six bytes for a character
        return line

    def _json(self, record: logging.LogRecord, text: str) -> str:
        return json.dumps(
            {
                "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
                "level": record.levelname.lower(),
                "process": self.ident,
                "pid": os.getpid(),
                "source": record.name,
                "message": text,
            },
            ensure_ascii=False,
        )


class Aside(Sink):
    """Hands records to a sink in a thread of its own; what comes before `start` waits.

    With `direct` a record is written at once unless others wait: the sink says by itself when it takes no more.
    Capabilities belong to threads: one of a worker may start only when they are those that it keeps.
    """

    def __init__(self, sink: Sink, direct: bool = False) -> None:
        super().__init__(sink.destination)
        self.sink = sink
        self._direct = direct
        self._reset()

    def _reset(self) -> None:
        self._waiting: deque[logging.LogRecord] = deque()
        self._news = threading.Event()
        self._thread: threading.Thread | None = None
        self._started = False
        self._given_up: logging.LogRecord | None = None
        """What was waited for in vain by `settle`."""

    def write(self, record: logging.LogRecord) -> None:
        if self._direct and not self._waiting:  # the thread uses the sink only while something waits
            try:
                self.sink.offer(record)
                return
            except BlockingIOError:
                pass
        if len(self._waiting) >= WAITING_LIMIT:
            raise BlockingIOError
        record.msg, record.args = record.getMessage(), ()
        self._waiting.append(record)
        self._news.set()
        if self._started and self._thread is None:
            self.start()

    def start(self) -> None:
        """From now on records are written. Where no thread can be had it is tried again with each record."""
        self._started = True
        if self._thread is None and (self._waiting or not self._direct):
            with contextlib.suppress(RuntimeError):
                self._thread = _thread(partial(self._run, self._news, self._waiting))

    def _run(self, news: threading.Event, waiting: deque[logging.LogRecord]) -> None:
        while news.wait() and news is self._news:
            news.clear()
            self._pass_on(waiting, math.inf)

    def _pass_on(self, waiting: deque[logging.LogRecord], until: float) -> None:
        while waiting:
            try:
                self.sink.offer(waiting[0])
            except BlockingIOError:
                if time.monotonic() > until:
                    return
                self.sink.await_room(LOOK_AGAIN)
            else:
                waiting.popleft()

    def settle(self, limit: float) -> None:
        until = time.monotonic() + limit
        if self._waiting:
            self.start()
            if self._thread is None:
                self._pass_on(self._waiting, until)
        while self._waiting and time.monotonic() < until:
            time.sleep(0.001)
        self._given_up = self._first()

    @property
    def stands_still(self) -> bool:
        """Nothing was taken since it was waited for in vain."""
        return self._given_up is not None and self._given_up is self._first()

    def _first(self) -> logging.LogRecord | None:
        try:
            return self._waiting[0]
        except IndexError:  # the thread may have taken it a moment ago
            return None

    def give_back(self) -> None:
        """The thread ends as soon as the sink lets it."""
        if not self.stands_still:
            self.settle(FINISH_LIMIT)
        news = self._news
        idle = not self._waiting
        self._reset()
        news.set()
        if idle:
            self.sink.give_back()

    def forked(self) -> None:
        self._reset()
        self.sink.forked()

    def forget(self) -> None:
        super().forget()
        self.sink.forget()

    def inherit(self, before: Sink) -> None:
        super().inherit(before)
        if isinstance(before, Aside):
            self.sink.inherit(before.sink)

    def trouble(self) -> str:
        return super().trouble() or self.sink.trouble()

    def refused(self) -> int:
        """Records that were lost before the sink and by it."""
        return self.lost + self.sink.lost


def _thread(target: Callable[[], None]) -> threading.Thread:
    """Raises RuntimeError."""
    thread = threading.Thread(target=target, daemon=True, name="log")
    size = threading.stack_size(STACK_SIZE)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # it inherits that: no signal is for it
    try:
        thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        threading.stack_size(size)
    return thread


def _shown(record: logging.LogRecord, separator: str = "\n") -> str:
    """The text as one line for people; those of a traceback are lines of their own."""
    return separator.join(map(visible, _text(record).split("\n") if record.exc_info else [record.getMessage()]))


def _text(record: logging.LogRecord) -> str:
    """The message, with the traceback if there is one."""
    text = record.getMessage()
    if record.exc_info and record.exc_info[0] is not None:
        text += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
    return text


def _await_room(descriptor: int, limit: float) -> bool:
    """Whether writing would not wait, or fail, within `limit` seconds."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(limit * 1000))


def _cut(text: str, limit: int) -> str:
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")


def record_like(like: logging.LogRecord, text: str) -> logging.LogRecord:
    return logging.LogRecord(like.name, like.levelno, like.pathname, like.lineno, text, (), None)

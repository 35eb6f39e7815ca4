"""Checks that are connections: no task, no future and one registration for each, on an epoll of their own.

Thousands of them begin every second, and asyncio takes longer for a task and its timer than the kernel for the whole
connection. The event loop watches the epoll as one descriptor. What is said over a connection is pure (`Dialogue`).
"""

from __future__ import annotations

import asyncio
import errno
import math
import os
import select
import socket
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

from keepalived_py.clock import now
from keepalived_py.config.model import Endpoint

from . import probe
from .probe import WELL, Checker, CheckNotMade, Result

CHUNK = 16384
MOST = 512
"""Events that are handled in one turn of the loop."""
BUSY = 100
"""Events in a WINDOW from which on they wait for `look`: waking up for each would cost as much as the work."""
WINDOW, PAUSE = 0.05, 0.002
"""Seconds. No event waits longer than PAUSE."""
STRETCH = 0.01
"""Seconds of handling events after which the loop turns."""
BROKEN = select.EPOLLERR | select.EPOLLHUP
ENDED = select.EPOLLRDHUP
HEARD = select.EPOLLIN | ENDED | BROKEN
CHANGES = select.EPOLLOUT | select.EPOLLIN | ENDED | select.EPOLLET
"""An event for each that happens: one registration serves connecting, sending and receiving."""
PLAIN = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
Subject = TypeVar("Subject")


class Dialogue:
    """What is said over one connection: something is sent, and what comes is judged. No I/O."""

    __slots__ = ("opening",)
    opening: bytes
    """Sent when the connection is there."""

    def hear(self, data: bytes) -> Result | None:
        """The verdict; None while there is more to hear.

        b"" is the end of what the other side says.
        """
        raise NotImplementedError


class Target:
    """Where connections go, ready for the kernel."""

    __slots__ = ("_family", "_prepared", "address")

    def __init__(self, endpoint: Endpoint) -> None:
        self.address = (str(endpoint.address), endpoint.port)
        self._family = int(socket.AF_INET if endpoint.address.version == 4 else socket.AF_INET6)
        wishes = endpoint.fwmark or endpoint.bind_if or endpoint.bindto is not None
        self._prepared = endpoint if wishes else None

    def open(self) -> Any:
        """A non-blocking socket. Raises CheckNotMade."""
        if self._prepared is not None:
            return probe.open_socket(self._prepared)
        try:
            return socket.SocketType(self._family, PLAIN)  # what socket.socket adds to it takes 2 us
        except OSError as exc:
            raise CheckNotMade(f"socket: {exc.strerror}") from exc


class ConnectionChecker:
    """A checker whose check is a connection. No ABC: those make isinstance slow."""

    __slots__ = ()
    target: Target

    @property
    def name(self) -> str:
        raise NotImplementedError

    @property
    def limit(self) -> float:
        """Seconds that the connection may take, with all that is said over it."""
        raise NotImplementedError

    def dialogue(self) -> Dialogue | None:
        """What to say first; None when being connected is all that is asked for. Raises CheckNotMade."""
        raise NotImplementedError


AnyChecker = Checker | ConnectionChecker


class Connection:
    """One check under way."""

    __slots__ = (
        "all",
        "connected",
        "descriptor",
        "dialogue",
        "done",
        "limit",
        "sock",
        "subject",
        "target",
        "unsent",
        "waiting",
    )

    def __init__(
        self,
        all: Connections,
        checker: ConnectionChecker,
        done: Callable[[Any, Result], None],
        subject: Any,
    ) -> None:
        self.all, self.target, self.dialogue, self.limit = all, checker.target, checker.dialogue(), checker.limit
        self.done, self.subject = done, subject
        self.waiting = all.waiting_of(self.limit)
        self.sock: Any = None
        self.descriptor = -1
        self.connected = False
        self.unsent = b""

    def cancel(self) -> None:
        """End it without a result."""
        self.all.cancel(self)


def _not_connected(code: int) -> Result:
    return Result(f"connect: {os.strerror(code)}", made=code not in probe.OURS)


class Connections:
    """All checks of one worker that are connections."""

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._open: dict[int, Connection] = {}
        self._waiting: dict[float, OrderedDict[Connection, float]] = {}
        """Deadlines by limit. Those of one limit end in the order in which they began."""
        self._timer: asyncio.TimerHandle | None = None
        self._armed = math.inf
        """When the timer ends."""
        self._events: dict[int, int] = {}
        """Those that were told of and not handled yet, by descriptor. Who is closed has none."""
        self._rest: asyncio.Handle | None = None
        """Goes on with them in the next turn of the loop."""
        self.busy = False
        """Events wait for `look`; else the loop tells of them."""
        self._pause: asyncio.TimerHandle | None = None
        self._looked, self._window, self._seen = 0.0, 0.0, 0
        """The last look, the end of the window, and the events in it."""

    def __len__(self) -> int:
        return len(self._open)

    def start(
        self, checker: ConnectionChecker, done: Callable[[Subject, Result], None], subject: Subject
    ) -> Connection | None:
        """Begin a check; `done` gets `subject` and the result. None when it has ended at once."""
        try:
            connection = Connection(self, checker, done, subject)
        except CheckNotMade as excuse:
            done(subject, Result(str(excuse), made=False))
            return None
        connection.waiting[connection] = deadline = now() + connection.limit
        if deadline < self._armed:
            self._arm()
        self._connect(connection)
        return connection if connection.sock is not None else None

    def waiting_of(self, limit: float) -> OrderedDict[Connection, float]:
        """The deadlines of all connections that may take so long."""
        found = self._waiting.get(limit)
        if found is None:
            found = self._waiting[limit] = OrderedDict()
        return found

    def cancel(self, connection: Connection) -> None:
        """End it without a result."""
        if connection.sock is not None:
            self._shut(connection)
            del connection.waiting[connection]

    def close(self) -> None:
        """End all without results."""
        for connection in list(self._open.values()):
            self.cancel(connection)
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._armed = None, math.inf
        for handle in (self._pause, self._rest):
            if handle is not None:
                handle.cancel()
        self._pause = self._rest = None
        if self._epoll is not None:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    # one connection -----------------------------------------------------------------------------------------------

    def _connect(self, connection: Connection) -> None:
        target = connection.target
        sock = None
        try:
            sock = target.open()
            code = probe.begin_connecting(sock, target.address)
        except CheckNotMade as excuse:
            if sock is not None:
                sock.close()
            self._finish(connection, Result(str(excuse), made=False))
            return
        if code and code != errno.EINPROGRESS:
            sock.close()
            self._finish(connection, _not_connected(code))
            return
        descriptor = sock.fileno()
        try:
            (self._epoll or self._attach()).register(descriptor, CHANGES)
        except OSError as exc:
            sock.close()
            self._finish(connection, Result(f"epoll: {exc.strerror}", made=False))
            return
        connection.sock, connection.connected, connection.descriptor = sock, False, descriptor
        self._open[descriptor] = connection

    def _attach(self) -> select.epoll:
        epoll = select.epoll()
        asyncio.get_running_loop().add_reader(epoll.fileno(), self.look)
        self._epoll = epoll
        return epoll

    def look(self) -> None:
        """Handle the events there are."""
        if self._epoll is None or self._rest is not None:
            return
        if not self._events:
            self._events.update(self._epoll.poll(0, MOST))
        self._seen += len(self._events)
        self._handle()
        self._seen -= len(self._events)
        self._looked = moment = now()
        if moment >= self._window:
            self._moderate(self._seen >= BUSY)
            self._window, self._seen = moment + WINDOW, 0

    def _moderate(self, busy: bool) -> None:
        if self._epoll is None or busy is self.busy:
            return
        self.busy = busy
        if busy:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._look_at_last()
        else:
            asyncio.get_running_loop().add_reader(self._epoll.fileno(), self.look)

    def _look_at_last(self) -> None:
        """Where nobody else looks in time."""
        if now() - self._looked >= PAUSE:
            self.look()
        if self.busy:
            self._pause = asyncio.get_running_loop().call_at(self._looked + PAUSE, self._look_at_last)

    def _handle(self) -> None:
        """As many as there is time for: what is costly to hear must not keep others waiting."""
        until = now() + STRETCH
        while self._events:
            descriptor, event = self._events.popitem()
            connection = self._open[descriptor]
            if not connection.connected:
                self._connected(connection, event)
            elif connection.unsent:
                self._send(connection)
            if event & HEARD and connection.sock is not None:
                self._receive(connection, event)
            if self._events and now() > until:
                self._rest = asyncio.get_running_loop().call_soon(self._go_on)
                return

    def _go_on(self) -> None:
        self._rest = None
        self.look()

    def _connected(self, connection: Connection, event: int) -> None:
        if event & BROKEN:
            code = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                self._finish(connection, _not_connected(code))
                return
        if connection.dialogue is None:
            self._finish(connection, WELL)
            return
        connection.connected = True
        connection.unsent = connection.dialogue.opening
        self._send(connection)

    def _send(self, connection: Connection) -> None:
        try:
            sent = connection.sock.send(connection.unsent)
        except BlockingIOError:
            return
        except OSError as exc:
            self._finish(connection, Result(f"send: {probe.reason(exc)}", made=exc.errno not in probe.OURS))
            return
        connection.unsent = b"" if sent == len(connection.unsent) else connection.unsent[sent:]

    def _receive(self, connection: Connection, event: int) -> None:
        try:
            data = connection.sock.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError as exc:
            self._finish(connection, Result(f"receive: {probe.reason(exc)}"))
            return
        assert connection.dialogue is not None
        heard = connection.dialogue.hear(data)
        if heard is None:
            if self._epoll is not None and (len(data) == CHUNK or event & ENDED):
                # there is more, and no event of its own comes for it
                self._epoll.modify(connection.descriptor, CHANGES)
        else:
            self._finish(connection, heard)

    def _shut(self, connection: Connection) -> None:
        """Closing takes it out of the epoll: whatever was executed meanwhile has closed its copy."""
        del self._open[connection.descriptor]
        self._events.pop(connection.descriptor, None)
        connection.sock.close()
        connection.sock = None

    def _finish(self, connection: Connection, result: Result) -> None:
        if connection.sock is not None:
            self._shut(connection)
        del connection.waiting[connection]
        connection.done(connection.subject, result)

    # deadlines ----------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """For the earliest there is; checks that end before leave it as it is."""
        if self._timer is not None:
            self._timer.cancel()
        self._armed = min((next(iter(each.values())) for each in self._waiting.values() if each), default=math.inf)
        some = self._armed < math.inf
        self._timer = asyncio.get_running_loop().call_at(self._armed, self._expire) if some else None

    def _expire(self) -> None:
        moment = now()
        for limit, waiting in list(self._waiting.items()):
            while waiting:
                connection, deadline = next(iter(waiting.items()))
                if deadline > moment:
                    break
                self._finish(connection, Result(f"no answer within {limit:g}s"))
        self._arm()

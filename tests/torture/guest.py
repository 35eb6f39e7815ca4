"""What needs a kernel of its own (User-Mode Linux): steps of the clock, and services with hostile back ends."""

from __future__ import annotations

import os
import signal
import socket
import struct
import threading
import time
from contextlib import suppress

from tests.netns.rig import OURS, Host, inside, sh
from tests.torture.arena import VIP, Arena
from tests.torture.story import story

HOUR = 3600


@story("clock steps", guest=True)
def clock(arena: Arena) -> None:
    """The clock of the machine goes an hour ahead, two back and one ahead, with a reload after each."""
    arena.begin()
    for step in (HOUR, -2 * HOUR, HOUR):
        time.clock_settime(time.CLOCK_REALTIME, time.time() + step)
        time.sleep(1.0)
        arena.signal("one", signal.SIGHUP)
        time.sleep(1.0)
    arena.must(arena.transitions() == 0, "no change of state")


def endless(sock: socket.socket) -> None:
    """A body without an end."""
    sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        sock.sendall(bytes(65536))


def many_headers(sock: socket.socket) -> None:
    """Headers without an end."""
    sock.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        sock.sendall(b"X-A: " + b"a" * 1000 + b"\r\n")


def slow(sock: socket.socket) -> None:
    """A byte now and then."""
    for byte in b"HTTP/1.1 200 OK\r\n" * 100:
        sock.sendall(bytes([byte]))
        time.sleep(0.3)


def garbage(sock: socket.socket) -> None:
    """No HTTP at all."""
    sock.sendall(os.urandom(5000))


def reset(sock: socket.socket) -> None:
    """The connection is reset at once."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def chunks(sock: socket.socket) -> None:
    """Chunks with lengths that nobody can have."""
    sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc\r\n-5\r\n")


def good(sock: socket.socket) -> None:
    """A real answer."""
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes")


KINDS = (good, endless, many_headers, slow, garbage, reset, chunks)


class Backends:
    """One server for each kind, on ports from 8000."""

    def __init__(self, host: Host) -> None:
        self._running = True
        self._listeners = []
        with inside(host.namespace):
            for number in range(len(KINDS)):
                self._listeners.append(socket.create_server(("10.0.0.9", 8000 + number)))
        for kind, listener in zip(KINDS, self._listeners, strict=True):
            threading.Thread(target=self._serve, args=(kind, listener), daemon=True).start()

    def _serve(self, kind: object, listener: socket.socket) -> None:
        while self._running:
            with suppress(OSError):
                sock, _ = listener.accept()
                threading.Thread(target=self._answer, args=(kind, sock), daemon=True).start()

    def _answer(self, kind: object, sock: socket.socket) -> None:
        assert callable(kind)
        with suppress(OSError), sock:
            sock.settimeout(5)
            sock.recv(4096)
            kind(sock)

    def close(self) -> None:
        self._running = False
        for listener in self._listeners:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()


def services() -> str:
    reals = "".join(
        f" real_server 10.0.0.9 {8000 + number} {{\n  HTTP_GET {{\n   url {{\n    path /\n"
        f"    {'status_code 200' if kind is good else 'digest ' + '0' * 32}\n   }}\n"
        "   connect_timeout 2\n   retry 1\n   delay_before_retry 1\n  }\n }\n"
        for number, kind in enumerate(KINDS)
    )
    return f"virtual_server {VIP} 80 {{\n delay_loop 1\n lvs_sched rr\n lvs_method NAT\n protocol TCP\n{reals}}}\n"


def resident(pid: int) -> float:
    """MB."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * 4096 / (1 << 20)


@story("hostile back ends", guest=True, interval=1.0)
def hostile(arena: Arena) -> None:
    """Bodies and headers without an end, bytes that trickle, garbage, resets: they go, the good one stays, VRRP too."""
    backends = Backends(arena.client)
    try:
        for name in arena.hosts:
            arena.start(name, arena.config(name) + services())
        arena.settle("one", 30)
        host, checker = arena.hosts["one"], arena.daemons["one"].pid_of("checkers")

        def table() -> set[str]:
            lines = sh("ip", "netns", "exec", host.namespace, "ipvsadm", "-Sn").splitlines()
            return {line.split(" -r ")[1].split()[0] for line in lines if " -r " in line}

        arena.until(lambda: table() == {"10.0.0.9:8000"}, 30, "the good one alone is in the table")
        before = resident(checker)
        until = time.monotonic() + 15
        while time.monotonic() < until:
            arena.must("10.0.0.9:8000" in table(), "the good one stays")
            time.sleep(0.5)
        arena.say(f"the checker grew by {resident(checker) - before:.1f} MB")
        arena.must(resident(checker) - before < 10, "the checker does not grow")
        arena.must(arena.transitions() == 0, "no change of state")
        arena.must(arena.daemons["one"].pid_of("checkers") == checker, "the checker lives on")
    finally:
        backends.close()


@story("SIGKILL of the checker in the stop", guest=True, interval=1.0, programs=(OURS,))
def checker_killed_in_the_stop(arena: Arena) -> None:
    """The checker is killed and the daemon told to stop at the same time: the services go all the same."""
    backends = Backends(arena.client)
    for name in arena.hosts:
        arena.start(name, arena.config(name) + services())
    arena.settle("one", 30)
    daemon, host = arena.daemons["one"], arena.hosts["one"]
    arena.until(lambda: "10.0.0.9:8000" in host.run("ipvsadm", "-Sn"), 10, "the service stands")
    checker = daemon.pid_of("checkers")
    os.kill(checker, signal.SIGSTOP)
    arena.signal("one", signal.SIGTERM)
    time.sleep(0.3)
    os.kill(checker, signal.SIGKILL)
    daemon.process.wait(10)
    arena.must(not host.run("ipvsadm", "-Sn").strip(), "no service is left")
    arena.start("one")
    arena.settle_later("one")
    backends.close()

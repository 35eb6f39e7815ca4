"""What the service manager is told."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from keepalived_py.parent.systemd import Systemd


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        yield sock


def heard(manager: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(manager.recv(4096).decode())
        except BlockingIOError:
            return found


def test_ready_once_for_the_start_and_once_for_each_reload(manager: socket.socket) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": manager.getsockname()})
    ready = f"READY=1\nMAINPID={os.getpid()}"
    systemd.now("one", busy=True)
    assert heard(manager) == ["STATUS=one"]
    systemd.now("one", busy=False)
    systemd.now("one", busy=False)
    assert heard(manager) == [ready]
    before = time.monotonic_ns() // 1000
    systemd.reloading()
    kind, stamp = heard(manager)[0].split("\nMONOTONIC_USEC=")
    assert kind == "RELOADING=1"
    assert before <= int(stamp) <= time.monotonic_ns() // 1000
    systemd.now("two\nlines", busy=False)
    systemd.stopping()
    systemd.failed(22)
    assert heard(manager) == ["STATUS=two lines", ready, "STOPPING=1", "ERRNO=22"]


def test_its_variables_are_for_nobody_else() -> None:
    environ = {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "PATH": "/bin"}
    Systemd(environ)
    assert environ == {"PATH": "/bin"}


def test_an_abstract_socket() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0test-{os.getpid()}")
        Systemd({"NOTIFY_SOCKET": f"@test-{os.getpid()}"}).stopping()
        assert sock.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("address", ["", "/nowhere/at/all"])
def test_nobody_to_tell(address: str) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": address})
    systemd.now("x", busy=False)
    systemd.stopping()


def test_a_manager_that_does_not_read_costs_no_time(manager: socket.socket) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": manager.getsockname()})
    started = time.monotonic()
    for _ in range(5000):
        systemd.stopping()
    assert time.monotonic() - started < 2
    assert 0 < len(heard(manager)) < 5000


def test_what_the_manager_was_too_busy_for_is_told_later(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keepalived_py.parent.systemd.RETRY", 0.0)
    systemd = Systemd({"NOTIFY_SOCKET": manager.getsockname()})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as others:
        with contextlib.suppress(BlockingIOError):
            while others.sendto(b"X=1", manager.getsockname()):
                pass

        async def scenario() -> list[str]:
            systemd.attend(asyncio.get_running_loop())
            systemd.now("on", busy=False)
            assert "STATUS=on" not in heard(manager)
            for _ in range(10):
                await asyncio.sleep(0)
            return heard(manager)

        assert asyncio.run(scenario()) == ["STATUS=on", f"READY=1\nMAINPID={os.getpid()}"]


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({}, 0.0),
    ],
)
def test_signs_of_life_at_half_of_the_limit(environ: dict[str, str], interval: float) -> None:
    assert Systemd(dict(environ)).watchdog == interval


def test_signs_of_life_come_as_long_as_the_loop_turns(manager: socket.socket) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "40000"})

    async def scenario() -> tuple[int, float]:
        systemd.attend(asyncio.get_running_loop())
        said, began = 0, time.monotonic()
        async with asyncio.timeout(5):
            while said < 4:
                await asyncio.sleep(0.01)
                said += heard(manager).count("WATCHDOG=1")
        return said, time.monotonic() - began

    said, took = asyncio.run(scenario())
    assert said <= took / 0.02 + 2

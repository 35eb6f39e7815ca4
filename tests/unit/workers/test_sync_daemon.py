"""The IPVS sync daemon: bytes, what is started and stopped when, and the instance that it follows."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from dataclasses import replace
from typing import Any

import pytest

from keepalived_py.config.model import GroupRange, IpvsSettings, VirtualServer
from keepalived_py.config.model import SyncDaemon as Settings
from keepalived_py.values import Protocol, ServiceKey, ip_address
from workers import nftables, sync_daemon
from workers.checker.marks import GroupMarks
from workers.checker.suspend import decode
from workers.netlink import attribute, attributes, message, messages
from workers.sync_daemon import BOTH, CMD_DAEMON, DEL_DAEMON, NEW_DAEMON, InstanceFollower, Side, SyncDaemon, encode

PLAIN = Settings(interface="eth0")
FULL = Settings(
    interface="eth0", syncid=3, maxlen=1400, port=9000, ttl=5, group=ip_address("224.0.0.90"), instance="VI_1"
)


def daemon_of(body: bytes) -> dict[int, bytes]:
    inner = attributes(attributes(memoryview(body))[CMD_DAEMON])
    return {kind: bytes(value) for kind, value in inner.items()}


def test_all_that_can_be_said_of_a_daemon() -> None:
    found = daemon_of(encode(FULL, Side.BACKUP, 7))
    assert found == {
        1: struct.pack("=I", 2),
        2: b"eth0\0",
        3: struct.pack("=I", 7),
        4: struct.pack("=H", 1400),
        5: bytes((224, 0, 0, 90)),
        7: struct.pack("=H", 9000),
        8: b"\x05",
    }
    six = daemon_of(encode(replace(FULL, group=ip_address("ff05::5")), Side.MASTER, 0))
    assert six[6] == ip_address("ff05::5").packed
    assert 5 not in six
    assert daemon_of(encode(PLAIN, Side.MASTER, 0)).keys() == {1, 2, 3}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What was asked of the kernel: start or stop, and the side."""
    found: list[tuple[str, int]] = []

    def request(self: SyncDaemon, command: int, body: bytes) -> None:
        (side,) = struct.unpack("=I", daemon_of(body)[1])
        found.append(({NEW_DAEMON: "start", DEL_DAEMON: "stop"}[command], side))

    monkeypatch.setattr(SyncDaemon, "_request", request)
    return found


def test_only_what_differs_is_touched(asked: list[tuple[str, int]]) -> None:
    daemon = SyncDaemon()
    daemon.set(None, BOTH)
    assert asked == []  # nobody asks for a kernel module that is not needed
    daemon.set(PLAIN, BOTH)
    assert asked == [("stop", 1), ("stop", 2), ("start", 1), ("start", 2)]
    del asked[:]
    daemon.set(PLAIN, BOTH)
    assert asked == []
    daemon.set(PLAIN, frozenset({Side.MASTER}))
    assert asked == [("stop", 2)]
    del asked[:]
    daemon.set(FULL, frozenset({Side.MASTER}), 3)
    assert asked == [("stop", 1), ("start", 1)]
    del asked[:]
    daemon.set(None, BOTH)
    assert asked == [("stop", 1)]


def test_a_refusal_is_logged_and_tried_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    working: list[bool] = []

    def request(self: SyncDaemon, command: int, body: bytes) -> None:
        if command == NEW_DAEMON and not working:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    monkeypatch.setattr(SyncDaemon, "_request", request)
    daemon = SyncDaemon()
    daemon.set(PLAIN, BOTH)
    assert "IPVS sync daemon: No such device" in caplog.text
    assert daemon.running == {}
    working.append(True)
    daemon.set(PLAIN, BOTH)
    assert set(daemon.running) == set(BOTH)


def test_the_side_follows_the_instance(asked: list[tuple[str, int]]) -> None:
    follower = InstanceFollower()
    follower.configure(PLAIN, 0)
    follower.moved("VI_1", True)
    assert asked == []  # without an instance it is the checker's
    follower.configure(replace(FULL, syncid=None), 51)
    follower.moved("VI_2", True)
    assert asked == []
    follower.moved("VI_1", False)
    assert set(follower.daemon.running) == {Side.BACKUP}
    assert follower.daemon.running[Side.BACKUP][1] == 51
    follower.moved("VI_1", True)
    assert set(follower.daemon.running) == {Side.MASTER}
    follower.configure(FULL, 51, True)
    assert follower.daemon.running == {Side.MASTER: (FULL, 3)}
    follower.moved("VI_1", None)
    assert follower.daemon.running == {}


def test_sockets_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's side of the talk, by hand: the family, an acknowledgement, something that does not run."""
    answers: list[bytes] = []

    class Socket:
        def __init__(self, *_: Any) -> None:
            self.sent: list[bytes] = []

        def __enter__(self) -> Socket:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def send(self, data: bytes) -> None:
            sent.append(data)

        def recv(self, size: int) -> bytes:
            return answers.pop(0)

    sent: list[bytes] = []
    monkeypatch.setattr(sync_daemon.socket, "socket", Socket)
    family = message(0x10, 0, bytes(4) + attribute(1, struct.pack("=H", 28)))

    def acknowledgement(code: int) -> bytes:
        return message(2, 0, struct.pack("=i", -code) + bytes(16))

    answers += [family, acknowledgement(errno.ESRCH), acknowledgement(errno.ESRCH)]
    answers += [acknowledgement(0), acknowledgement(0)]
    daemon = SyncDaemon()
    daemon.set(PLAIN, BOTH)
    assert set(daemon.running) == set(BOTH)
    assert [kind for data in sent for kind, _, _, _ in messages(data)] == [0x10, 28, 28, 28, 28]


# addresses of the host --------------------------------------------------------------------------------------------


def test_addresses_in_notices() -> None:
    def body(family: int, *found: tuple[int, bytes]) -> memoryview:
        return memoryview(struct.pack("=BBBBI", family, 24, 0, 0, 7) + b"".join(attribute(*each) for each in found))

    peer, local = ip_address("10.0.0.1"), ip_address("10.0.0.2")
    assert decode(body(socket.AF_INET, (1, peer.packed), (2, local.packed))) == (local, 24, 7)
    six = ip_address("fd00::1")
    assert decode(body(socket.AF_INET6, (1, six.packed))) == (six, 24, 7)
    assert decode(body(socket.AF_INET, (1, six.packed))) is None
    assert decode(body(socket.AF_INET)) is None
    assert decode(memoryview(b"\x02")) is None


# marks of groups --------------------------------------------------------------------------------------------------


def test_tables_are_replaced_only_when_they_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    works = True

    async def load(text: str, without: str, namespace: str | None = None, started: object = None) -> bool:
        loaded.append(text)
        return works

    monkeypatch.setattr(nftables, "load", load)
    entry = GroupRange(first=ip_address("10.0.0.1"), last=ip_address("10.0.0.1"), port=80)
    server = VirtualServer(key=ServiceKey(protocol=Protocol.TCP, group="g", family=4), group_entries=(entry,))
    marks, on = GroupMarks(), IpvsSettings(nftables_table="mine")

    async def story() -> None:
        nonlocal works
        assert await marks.apply(IpvsSettings(), (server,)) == {}
        assert await marks.apply(on, ()) == {}
        assert loaded == []
        assert await marks.apply(on, (server,)) == await marks.apply(on, (server,)) == {("g", Protocol.TCP): 1000}
        assert len(loaded) == 1
        assert await marks.apply(on, ()) == {}
        assert (len(loaded), "elements" in loaded[-1]) == (2, False)
        works = False
        assert await marks.apply(on, (server,)) == {}
        works = True
        assert await marks.apply(on, (server,)) == {("g", Protocol.TCP): 1000}
        await marks.close()
        await marks.close()
        assert (len(loaded), "elements" in loaded[-1]) == (5, False)

    asyncio.run(story())


def test_nft_that_cannot_be_run(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(nftables, "COMMAND", ("/nowhere/nft",))
    assert asyncio.run(nftables.load("", "nothing works")) is False
    assert "nothing works" in caplog.text
    monkeypatch.setattr(nftables, "COMMAND", ("/bin/sh", "-c", "cat >&2; exit 1"))
    assert asyncio.run(nftables.load("first line\nsecond", "")) is False
    assert "nft: first line" in caplog.text
    assert "second" not in caplog.text
    monkeypatch.setattr(nftables, "COMMAND", ("/bin/sh", "-c", "cat > /dev/null"))
    assert asyncio.run(nftables.load("x", "")) is True
    monkeypatch.setattr(nftables, "COMMAND", ("sleep", "5"))
    monkeypatch.setattr(nftables, "LIMIT", 0.1)
    assert asyncio.run(nftables.load("x", "")) is False

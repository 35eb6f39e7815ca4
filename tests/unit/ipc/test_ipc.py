"""Messages: round trip, refusal of everything undeclared, channels over a real socket pair."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.channel import Channel
from ipc.codec import VERSION, decode, encode, limit_of
from ipc.messages import (
    BY_TAG,
    SENDERS,
    AdoptConfig,
    ApplyConfig,
    ConfigAccepted,
    ConfigApplied,
    ConfigLoaded,
    Drain,
    DumpKind,
    DumpRequest,
    Heartbeat,
    Hello,
    Peer,
    Stop,
    VrrpStateChanged,
    message,
)
from ipc.types import ProtocolError, record_of
from keepalived_py.config.delta import difference
from keepalived_py.config.model import CheckerSlice, Config, VrrpConfig, VrrpSlice
from tests.unit.vrrp.builders import instance, password

STATE = VrrpStateChanged(
    kind="INSTANCE", name="VI_1", old="BACKUP", new="MASTER", priority=100, reason="timer", time=1.5
)
CONFIG = VrrpConfig(instances=(instance("192.0.2.1", "192.0.2.2", authentication=password()),))
EXAMPLES: list[tuple[Any, Peer]] = [
    (ApplyConfig(generation=3, base=0, config=difference(None, VrrpSlice(vrrp=CONFIG))), Peer.PARENT),
    (ApplyConfig(generation=3, base=2, config=difference(CheckerSlice(), CheckerSlice())), Peer.PARENT),
    (ConfigLoaded(config=difference(None, Config(vrrp=CONFIG)), problems=("a",), errors=()), Peer.LOADER),
    (ConfigLoaded(config=None, problems=(), errors=("b",), files=("/f",)), Peer.LOADER),
    (DumpRequest(kind=DumpKind.JSON), Peer.PARENT),
    (Hello(pid=1, generation=2), Peer.VRRP),
    (STATE, Peer.VRRP),
    (STATE, Peer.PARENT),
    (Stop(), Peer.PARENT),
    (AdoptConfig(generation=3), Peer.PARENT),
    (ConfigAccepted(generation=3), Peer.CHECKER),
]


@pytest.mark.parametrize(("msg", "sender"), EXAMPLES, ids=lambda each: type(each).__name__)
def test_round_trip(msg: Any, sender: Peer) -> None:
    assert decode(encode(msg), sender) == msg


@pytest.mark.parametrize("sender", list(Peer))
def test_only_declared_senders(sender: Peer) -> None:
    for cls, allowed in SENDERS.items():
        examples = [msg for msg, _ in EXAMPLES if type(msg) is cls]
        if examples and sender not in allowed:
            with pytest.raises(ProtocolError, match="may not send"):
                decode(encode(examples[0]), sender)


def frame(tag: object, *body: object, version: object = VERSION) -> bytes:
    packed: bytes = msgpack.packb((version, tag, body))
    return packed


HELLO = record_of(Hello).number


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgpack.packb(1),
        msgpack.packb((1, 2)),
        frame("worker.hello", HELLO, 1, 2, version=99),
        frame("no.such", HELLO, 1, 2),
        frame(7, HELLO, 1, 2),
        frame("worker.hello"),
        frame("worker.hello", HELLO, 1),
        frame("worker.hello", HELLO, 1, 2, 3),
        frame("worker.hello", HELLO + 1, 1, 2),
        frame("worker.hello", HELLO, "1", 2),
        frame("worker.hello", HELLO, True, 2),
        frame("worker.hello", HELLO, 1, None),
        encode(Hello(pid=1, generation=2)) + b"x",
        b"\x93" * 3000,
    ],
)
def test_what_is_not_declared_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data, Peer.VRRP)


def test_a_frame_above_the_limit_is_refused() -> None:
    with pytest.raises(ProtocolError, match="frame of"):
        decode(bytes(limit_of(Peer.VRRP) + 1), Peer.VRRP)


def test_a_tag_belongs_to_one_message() -> None:
    with pytest.raises(TypeError):
        message("worker.hello", Peer.VRRP)(type("Another", (), {}))


def test_every_message_can_travel() -> None:
    for cls in BY_TAG.values():
        assert len(record_of(cls).shapes) == len(fields(cls))


@given(st.binary(max_size=200), st.sampled_from(list(Peer)))
def test_any_bytes_give_a_message_or_the_one_error(data: bytes, sender: Peer) -> None:
    with contextlib.suppress(ProtocolError):
        decode(data, sender)


@given(st.data())
def test_damaged_frames_give_a_message_or_the_one_error(data: st.DataObject) -> None:
    msg, sender = data.draw(st.sampled_from(EXAMPLES))
    good = bytearray(encode(msg))
    for _ in range(data.draw(st.integers(1, 3))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ProtocolError):
        decode(bytes(good), sender)


def over_a_pair(scenario: Callable[[Channel, socket.socket, list[Any], list[str]], Any]) -> None:
    """Run `scenario` with a channel that hears VRRP, its raw other end, what it heard, and how it closed."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        heard: list[Any] = []
        closed: list[str] = []
        channel = Channel(ours, Peer.VRRP, heard.append, closed.append)
        channel.attach(asyncio.get_running_loop())
        try:
            await scenario(channel, theirs, heard, closed)
        finally:
            channel.close()
            theirs.close()

    asyncio.run(main())


def wire(data: bytes) -> bytes:
    return len(data).to_bytes(4) + data


def test_messages_arrive_however_they_are_cut() -> None:
    async def scenario(channel: Channel, other: socket.socket, heard: list[Any], closed: list[str]) -> None:
        for byte in wire(encode(Hello(pid=1, generation=1))) + wire(encode(STATE)):
            other.send(bytes((byte,)))
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        assert heard == [Hello(pid=1, generation=1), STATE]
        assert closed == []

    over_a_pair(scenario)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", ""),
        (wire(b"\xc1"), "protocol error"),
        ((1 << 30).to_bytes(4), "protocol error"),
        (wire(encode(Stop())), "may not send"),
    ],
)
def test_a_broken_contract_closes_the_channel(data: bytes, says: str) -> None:
    async def scenario(channel: Channel, other: socket.socket, heard: list[Any], closed: list[str]) -> None:
        other.send(data) if data else other.shutdown(socket.SHUT_WR)
        await asyncio.sleep(0.01)
        assert heard == []
        assert len(closed) == 1
        assert says in closed[0]
        channel.send(Stop())  # a no-op from now on

    over_a_pair(scenario)


@pytest.mark.parametrize("says_more", [False, True])
def test_who_ends_before_it_has_read_all_has_only_ended(says_more: bool) -> None:
    """Its last words are heard all the same, whether or not something is sent to it meanwhile."""

    async def scenario(channel: Channel, other: socket.socket, heard: list[Any], closed: list[str]) -> None:
        channel.send(Stop())
        other.send(wire(encode(STATE)))
        other.close()
        if says_more:
            channel.send(Stop())
        for _ in range(500):
            if closed:
                break
            await asyncio.sleep(0.01)
        assert heard == [STATE]
        assert closed == [""]

    over_a_pair(scenario)


def test_what_who_has_ended_said_is_heard_at_once() -> None:
    async def scenario(channel: Channel, other: socket.socket, heard: list[Any], closed: list[str]) -> None:
        channel.send(Stop())
        other.send(wire(encode(STATE)) * 3)
        other.close()
        channel.drain()
        assert heard == [STATE] * 3
        assert not channel.open

    over_a_pair(scenario)


class Short(socket.socket):
    """A socket on a machine that has no memory for what is sent, a few times."""

    refusals = 3

    def send(self, data: Any, flags: int = 0) -> int:
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        return super().send(data, flags)


def test_what_the_kernel_has_no_memory_for_is_sent_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ipc.channel.RETRY", 0.0)

    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        closed: list[str] = []
        with theirs:
            channel = Channel(Short(fileno=ours.detach()), Peer.VRRP, closed.append, closed.append)
            channel.attach(asyncio.get_running_loop())
            channel.send(Stop())
            channel.send(Drain())
            for _ in range(10):
                await asyncio.sleep(0)
            assert theirs.recv(100) == wire(encode(Stop())) + wire(encode(Drain()))
            assert channel.idle
            channel.close()
        assert closed == []

    asyncio.run(scenario())


def test_a_slow_reader_gets_the_newest_report_only() -> None:
    async def scenario(channel: Channel, other: socket.socket, heard: list[Any], closed: list[str]) -> None:
        while channel.idle:
            channel.send(ConfigApplied(generation=0))  # keeps every one
        for number in range(50):
            channel.send(Heartbeat(lateness=float(number), rss=0, tasks=0, lost_records="0"))
        received = bytearray()
        while not channel.idle or received[-1:] == b"":
            with contextlib.suppress(BlockingIOError):
                received += other.recv(1 << 20)
            await asyncio.sleep(0)
        with contextlib.suppress(BlockingIOError):
            while more := other.recv(1 << 20):
                received += more
        beats = received.count(b"worker.heartbeat")
        assert beats <= 2
        assert received.endswith(encode(Heartbeat(lateness=49.0, rss=0, tasks=0, lost_records="0")))

    over_a_pair(scenario)

"""What the workers share: one thing at a time, whatever the parent asks for meanwhile."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from ipc.channel import Channel
from ipc.messages import (
    AdoptConfig,
    ApplyConfig,
    ConfigAccepted,
    ConfigApplied,
    ConfigRefused,
    Drain,
    Drained,
    DumpKind,
    DumpRequest,
    Hello,
    Peer,
    Stop,
    Stopped,
)
from keepalived_py.config.delta import difference
from keepalived_py.config.model import Config, VrrpConfig, VrrpSlice
from keepalived_py.config.slices import vrrp_slice
from tests.unit.vrrp.builders import instance
from workers.worker import Worker, WorkerContext, WorkerOptions


def part(priority: int) -> VrrpSlice:
    return vrrp_slice(Config(vrrp=VrrpConfig(instances=(instance(priority=priority),))), checker_runs=False)


def order(generation: int, priority: int) -> ApplyConfig:
    return ApplyConfig(generation=generation, base=0, config=difference(None, part(priority)))


class Slow(Worker[VrrpSlice]):
    """Everything takes two turns of the loop, and is noted when it begins and ends."""

    role = Peer.VRRP
    ident = title = "slow"

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(
            WorkerContext(sock=sock, generation=1, config=part(1), options=WorkerOptions(), parent_pid=os.getppid())
        )
        self.seen: list[str] = []
        self.happened: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def _note(self, what: str) -> None:
        self.seen.append(what)
        self.happened[what].set()

    async def _slowly(self, what: str) -> None:
        self._note(f"{what} begins")
        await asyncio.sleep(0.01)
        self._note(f"{what} ends")

    async def start(self) -> None:
        await self._slowly("start")

    async def check(self, new: VrrpSlice) -> None:
        await self._slowly(f"check {new.vrrp.instances[0].priority}")

    async def apply(self, new: VrrpSlice) -> None:
        await self._slowly(f"apply {new.vrrp.instances[0].priority}")

    async def drain(self) -> None:
        await self._slowly("drain")

    async def stop(self) -> None:
        await self._slowly("stop")

    def dump(self, kind: DumpKind) -> None:
        self._note("dump")

    def describe(self) -> Callable[[], str]:
        return str

    def armed(self) -> int:
        return 0


Scenario = Callable[[Slow, Channel], Awaitable[None]]


@pytest.fixture(autouse=True)
def _nothing_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "freeze", lambda: None)


def play(scenario: Scenario) -> tuple[list[str], list[Any]]:
    """The life of a worker whose parent does what `scenario` says; what it did, and what it said."""
    said: list[Any] = []

    async def main() -> list[str]:
        ours, theirs = socket.socketpair()
        worker = Slow(theirs)
        parent = Channel(ours, Peer.VRRP, said.append, lambda reason: None)
        parent.attach(asyncio.get_running_loop())
        life = asyncio.create_task(worker._main())
        await scenario(worker, parent)
        async with asyncio.timeout(5):
            await life
        parent.drain()
        worker.channel.close()
        return worker.seen

    seen = asyncio.run(main())
    return seen, [msg for msg in said if not isinstance(msg, Hello)]


def whole(*names: str) -> list[str]:
    return [f"{name} {how}" for name in names for how in ("begins", "ends")]


def test_a_reload_that_needs_what_cannot_be_loaded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def modules(worker: Slow, config: VrrpSlice) -> list[str]:
        worker._note("modules")
        return ["keepalived_py.nowhere"]

    monkeypatch.setattr(Slow, "modules", modules)

    async def scenario(worker: Slow, parent: Channel) -> None:
        await worker.happened["start ends"].wait()
        parent.send(order(2, 7))
        await worker.happened["modules"].wait()
        parent.send(Stop())

    seen, said = play(scenario)
    assert seen == [*whole("start"), "modules", *whole("stop")]
    reason = "keepalived_py.nowhere cannot be loaded: No module named 'keepalived_py.nowhere'"
    assert ConfigRefused(generation=2, reason=reason) in said


@pytest.mark.parametrize("command", ["true", "false"])
def test_waiting_for_a_process_takes_no_thread(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """Where no thread could be had an nft or iptables that ran would have ended the worker."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> int:
        process = await asyncio.create_subprocess_exec(command)
        return await process.wait()

    policy = asyncio.get_event_loop_policy()
    ours, theirs = socket.socketpair()
    worker = Slow(theirs)
    monkeypatch.setattr(worker, "_main", main)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    asyncio.set_event_loop_policy(None)
    try:
        assert worker._run_loop() == (command == "false")
    finally:
        asyncio.get_event_loop().close()
        asyncio.set_event_loop_policy(policy)
        ours.close()
        theirs.close()


def test_a_configuration_waits_for_the_start_and_for_the_one_before() -> None:
    async def scenario(worker: Slow, parent: Channel) -> None:
        await worker.happened["start begins"].wait()
        parent.send(order(2, 2))
        parent.send(order(3, 3))
        await worker.happened["apply 3 ends"].wait()
        parent.send(Stop())

    seen, said = play(scenario)
    assert seen == whole("start", "apply 2", "apply 3", "stop")
    assert said == [*(ConfigApplied(generation=number) for number in (1, 2, 3)), Stopped()]


def test_what_it_could_move_to_waits_for_the_others() -> None:
    """Where they cannot it goes on as it was."""

    async def scenario(worker: Slow, parent: Channel) -> None:
        await worker.happened["start ends"].wait()
        for number in (2, 3, 4):
            parent.send(replace(order(number, number), at_once=False))
        await worker.happened["check 4 ends"].wait()
        for number in (3, 4, 4):
            parent.send(AdoptConfig(generation=number))
        parent.send(replace(order(5, 5), at_once=False))
        await worker.happened["check 5 ends"].wait()
        parent.send(Stop())

    seen, said = play(scenario)
    assert seen == whole("start", "check 2", "check 3", "check 4", "apply 4", "check 5", "stop")
    assert said == [
        ConfigApplied(generation=1),
        *(ConfigAccepted(generation=number) for number in (2, 3, 4)),
        ConfigApplied(generation=4),
        ConfigAccepted(generation=5),
        Stopped(),
    ]


def test_a_stop_waits_for_the_end_of_a_change_and_is_the_last_thing() -> None:
    async def scenario(worker: Slow, parent: Channel) -> None:
        await worker.happened["start ends"].wait()
        parent.send(order(2, 2))
        parent.send(order(3, 3))
        await worker.happened["apply 2 begins"].wait()
        parent.send(Stop())
        await worker.happened["stop begins"].wait()
        parent.send(order(4, 4))

    seen, _ = play(scenario)
    assert seen == whole("start", "apply 2", "stop")


def test_a_burst_of_requests_is_few_dumps() -> None:
    """What a thousand dumps cost would make adverts and checks late."""

    async def scenario(worker: Slow, parent: Channel) -> None:
        await worker.happened["start ends"].wait()
        for _ in range(1000):
            parent.send(DumpRequest(kind=DumpKind.DATA))
            signal.raise_signal(signal.SIGUSR1)
        await worker.happened["dump"].wait()
        parent.send(Stop())

    seen, _ = play(scenario)
    assert 1 <= seen.count("dump") <= 10


def test_what_is_drained_takes_over_nothing_new() -> None:
    async def scenario(worker: Slow, parent: Channel) -> None:
        await worker.happened["start ends"].wait()
        parent.send(order(2, 2))
        await worker.happened["apply 2 begins"].wait()
        parent.send(Drain())
        parent.send(order(3, 3))
        await worker.happened["drain ends"].wait()
        parent.send(Stop())

    seen, said = play(scenario)
    assert seen == whole("start", "apply 2", "drain", "stop")
    assert Drained() in said

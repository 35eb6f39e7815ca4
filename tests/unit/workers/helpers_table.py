"""A checker worker over a kernel that is a dictionary, and what it is made of in tests."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Container, Coroutine
from typing import Any, ClassVar

import pytest

from ipc.messages import (
    StateMessage,
)
from keepalived_py.checks.virtual_server import VirtualServerState
from keepalived_py.config.model import (
    CheckerConfig,
    CheckerSlice,
    CheckTiming,
    Endpoint,
    GlobalDefs,
    RealServer,
    TcpCheck,
    VirtualServer,
)
from keepalived_py.plan import ipvs
from keepalived_py.values import Protocol, ServiceKey, ip_address
from workers.checker import table as table_module
from workers.checker import task as task_module
from workers.checker.ipvs_kernel import IpvsError
from workers.checker.ipvs_statistics import Counters, RealUsage, Usage
from workers.checker.worker import CheckerWorker
from workers.worker import WorkerContext, WorkerOptions


class FakeKernel:
    """An IPVS table of our own. `refuse`: operations on these services fail."""

    shared: ClassVar[ipvs.Table] = {}
    timers: ClassVar[dict[str, int]] = {}
    """Seconds, by the names of lvs_timeouts."""

    def __init__(self, family: int, namespace: str | None = None) -> None:
        self.family = 1
        self.ops: list[ipvs.Op] = []
        self.refuse: set[ipvs.ServiceId] = set()

    def resize(self, size: int, force: bool) -> None:
        """There is no socket."""

    def table(self) -> ipvs.Table:
        return {id: ipvs.Entry(found.service, dict(found.destinations)) for id, found in self.shared.items()}

    def usage(self, ids: Container[ipvs.ServiceId]) -> dict[ipvs.ServiceId, Usage]:
        """The second row has ten times the connections of the first, and so on."""
        return {
            id: Usage(
                Counters(connections=9 * 2**32),
                {
                    key: RealUsage(10**number, counters=Counters(1, 2, 3, 4, 5))
                    for number, key in enumerate(found.destinations)
                },
            )
            for id, found in self.shared.items()
            if id in ids
        }

    def entry(self, id: ipvs.ServiceId) -> ipvs.Entry | None:
        return self.table().get(id)

    def apply(self, ops: list[ipvs.Op]) -> list[tuple[ipvs.Op, IpvsError]]:
        failed = []
        for op in ops:
            if op.id in self.refuse:
                failed.append((op, IpvsError(op, 22)))
                continue
            self.ops.append(op)
            ipvs.apply(op, self.shared)
        return failed

    def timeouts(self) -> dict[str, int]:
        return dict(self.timers)

    def set_timeouts(self, values: dict[str, int]) -> None:
        self.timers.update(values)


def pretend(monkeypatch: pytest.MonkeyPatch) -> ipvs.Table:
    """No kernel: what stands in the table."""
    monkeypatch.setattr(table_module, "IpvsKernel", FakeKernel)
    monkeypatch.setattr(task_module, "FIRST_DELAY", 0.05)
    FakeKernel.shared, FakeKernel.timers = {}, {"tcp": 900, "tcpfin": 120, "udp": 300}
    return FakeKernel.shared


def service(number: int, **changes: Any) -> VirtualServer:
    key = ServiceKey(protocol=Protocol.TCP, address=ip_address(f"10.0.0.{number}"), port=80, family=4)
    return VirtualServer(**{"key": key, "scheduler": "rr", **changes})


def reals(*weights: int, **changes: Any) -> tuple[RealServer, ...]:
    return tuple(
        RealServer(address=ip_address(f"10.1.{number // 250}.{number % 250 + 1}"), port=80, weight=weight, **changes)
        for number, weight in enumerate(weights)
    )


STRANGER = ipvs.ServiceId(4, Protocol.TCP, ip_address("10.9.9.9"), 1)


def started(config: VirtualServer) -> VirtualServerState:
    state = VirtualServerState(config)
    state.start()
    return state


def pairs(*states: VirtualServerState) -> table_module.Pairs:
    return [(state, id) for state in states for id in ipvs.service_ids(state.config)]


def sliced(*servers: VirtualServer, **defaults: Any) -> CheckerSlice:
    return CheckerSlice(global_defs=GlobalDefs(**defaults), checker=CheckerConfig(virtual_servers=servers))


def run(
    config: CheckerSlice,
    scenario: Callable[[CheckerWorker], Coroutine[Any, Any, None]],
    reported: tuple[StateMessage, ...] = (),
    abandoned: CheckerSlice | None = None,
) -> list[Any]:
    """A worker that has started, without a process; what it sent to its parent."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sent: list[Any] = []

    async def main() -> None:
        context = WorkerContext(
            sock=ours,
            generation=1,
            config=config,
            options=WorkerOptions(),
            parent_pid=os.getppid(),
            reported=reported,
            abandoned=abandoned,
        )
        worker = CheckerWorker(context)
        worker.channel.send = sent.append  # type: ignore[assignment, method-assign]
        await worker.start()
        try:
            await scenario(worker)
        finally:
            await worker.stop()
            for task in worker._tasks:
                task.cancel()

    try:
        asyncio.run(main())
    finally:
        theirs.close()
        ours.close()
    return sent


async def until(condition: Callable[[], object], within: float = 4) -> None:
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def tcp(port: int, **timing: Any) -> TcpCheck:
    values = {"delay_loop": 0.2, "warmup": 0.0, "retry": 0, "connect_timeout": 1.0, **timing}
    return TcpCheck(timing=CheckTiming(**values), endpoint=Endpoint(address=ip_address("127.0.0.1"), port=port))


def checked(number: int, *checks: TcpCheck, **changes: Any) -> VirtualServer:
    return service(number, real_servers=reals(1, checks=checks), **changes)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def runs(worker: CheckerWorker) -> list[int]:
    return [task.runs for task in worker._all_tasks()]


def weights(table: ipvs.Table) -> dict[str, int]:
    return {str(id): len(entry.destinations) for id, entry in table.items()}


class Door:
    """A listener that counts connections."""

    def __init__(self) -> None:
        self.seen = 0

    async def __aenter__(self) -> Door:
        self._server = await asyncio.start_server(self._taken, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def _taken(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen += 1
        writer.close()

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

"""The checker worker over a kernel that is a dictionary: any history of check results, reloads and edits by others.

What the table must be is told here a second time, from the opinions of the checkers, the configuration and the memory
of the quorum alone. While nobody else edits, the table is that after every event; after edits it is that again at the
next look, and then nothing more is sent.
"""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keepalived_py.checks.virtual_server import VirtualServerState
from keepalived_py.config.model import (
    Check,
    CheckTiming,
    Endpoint,
    Forwarding,
    GroupRange,
    RealServer,
    SorryServer,
    TcpCheck,
    VirtualServer,
)
from keepalived_py.plan import ipvs
from keepalived_py.values import Protocol, RealKey, ServiceKey, ip_address
from tests.unit.workers.test_service_table import STRANGER, FakeKernel, run, sliced
from workers.checker import table as table_module
from workers.checker import task as task_module
from workers.checker.ipvs_kernel import IpvsError
from workers.checker.probe import Result
from workers.checker.worker import CheckerWorker

LIMIT = 2**31 - 1
NEVER = 1e9


class StrictKernel(FakeKernel):
    """Refuses to edit or fill what is not there, as the kernel does. What is there or gone already is no failure."""

    def apply(self, ops: list[ipvs.Op]) -> list[tuple[ipvs.Op, IpvsError]]:
        failed = []
        for op in ops:
            if isinstance(op, ipvs.AddService) and op.id in self.shared:
                continue
            if isinstance(op, ipvs.DeleteService) or self._possible(op):
                self.ops.append(op)
                ipvs.apply(op, self.shared)
            elif not isinstance(op, ipvs.DeleteDestination):
                failed.append((op, IpvsError(op, errno.ESRCH)))
        return failed

    def _possible(self, op: ipvs.Op) -> bool:
        if isinstance(op, ipvs.AddService):
            return True
        return op.id in self.shared and (
            not isinstance(op, ipvs.EditDestination) or op.key in self.shared[op.id].destinations
        )


@pytest.fixture(autouse=True)
def _by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is checked and nobody looks but when the history says so."""
    monkeypatch.setattr(table_module, "IpvsKernel", StrictKernel)
    monkeypatch.setattr(table_module, "WATCH_PAUSE", NEVER)
    monkeypatch.setattr(table_module.ServiceTable, "look_again", lambda self: None)
    monkeypatch.setattr(task_module, "FIRST_DELAY", NEVER)


WEIGHTS = st.sampled_from([0, 1, 3, LIMIT])


@st.composite
def real_servers(draw: st.DrawFn) -> tuple[RealServer, ...]:
    found = []
    for number in sorted(draw(st.sets(st.integers(1, 4), max_size=4))):
        timing = CheckTiming(alpha=draw(st.booleans()), retry=draw(st.integers(0, 1)), rise=draw(st.integers(1, 2)))
        checks: tuple[Check, ...] = tuple(
            TcpCheck(timing=timing, endpoint=Endpoint(address=ip_address("127.0.0.1"), port=port))
            for port in range(1, 1 + draw(st.integers(0, 2)))
        )
        address = ip_address(f"10.1.0.{number}")
        inhibit = draw(st.booleans())
        found.append(
            RealServer(address=address, port=80, weight=draw(WEIGHTS), inhibit_on_failure=inhibit, checks=checks)
        )
    return tuple(found)


@st.composite
def virtual_servers(draw: st.DrawFn) -> tuple[VirtualServer, ...]:
    """Up to three; the last is a group of addresses and a mark. One of them may be the address of the first.

    With DR all its servers of one address are one row, whatever their ports.
    """
    found = []
    for number in sorted(draw(st.sets(st.integers(1, 3), min_size=1))):
        values: dict[str, Any] = {
            "real_servers": draw(real_servers()),
            "scheduler": draw(st.sampled_from(["rr", "wlc"])),
        }
        values["quorum"], values["hysteresis"] = draw(st.sampled_from([(1, 0), (3, 2), (4, 1), (LIMIT, 0)]))
        if draw(st.booleans()):
            last = draw(st.sampled_from([1, 9]))  # 1: a real server too
            inhibit = draw(st.booleans())
            values["sorry_server"] = SorryServer(address=ip_address(f"10.1.0.{last}"), port=80, inhibit=inhibit)
        if number == 3:
            first = ip_address(draw(st.sampled_from(["10.0.1.1", "10.0.0.1"])))
            if draw(st.booleans()):
                direct = [replace(real, forwarding=Forwarding(method="DR")) for real in values["real_servers"]]
                values["real_servers"] = (*direct, *(replace(real, port=81) for real in direct[:2]))
            values["group_entries"] = (
                GroupRange(first=first, last=first + draw(st.integers(0, 1)), port=80),
                GroupRange(first=first, last=first, port=80),
                GroupRange(fwmark=draw(st.integers(5, 6)), family=4),
            )
            key = ServiceKey(protocol=Protocol.TCP, group="g", family=4)
        else:
            key = ServiceKey(protocol=Protocol.TCP, address=ip_address(f"10.0.0.{number}"), port=80, family=4)
        found.append(VirtualServer(key=key, **values))
    return tuple(found)


NUMBERS = st.integers(0, 50)
RESULTS = st.one_of(
    st.tuples(st.just("result"), NUMBERS, st.booleans(), st.none() | st.sampled_from([-LIMIT - 1, -1, 0, 1, LIMIT])),
    st.tuples(st.just("reload"), virtual_servers()),
)
EDITS = st.tuples(st.sampled_from(["weight", "remove", "add", "settings", "drop", "flush"]), NUMBERS)


def meant(worker: CheckerWorker) -> ipvs.Table:
    """The table that the opinions of the checkers and the configuration mean."""
    table: ipvs.Table = {}
    for key, state in worker.states.items():
        rows = destinations(worker, key, state)
        for id in ipvs.service_ids(state.config):
            entry = table.setdefault(id, ipvs.Entry(ipvs.Service(state.config.scheduler)))
            for real, row in rows.items():
                place = real if row.forwarding.method == "NAT" else RealKey(real.address, id.port)
                known = entry.destinations.get(place)
                if known is None or known.weight < row.weight:
                    entry.destinations[place] = row
    return table


def destinations(worker: CheckerWorker, key: ServiceKey, state: VirtualServerState) -> dict[RealKey, ipvs.Destination]:
    config, sorry = state.config, state.config.sorry_server
    weights, alive = {}, set()
    for real in config.real_servers:
        tasks = worker.tasks[key][real.key]
        weights[real.key] = min(LIMIT, max(0, real.weight + sum(task.points for task in tasks)))
        if all(task.state.up for task in tasks):
            alive.add(real.key)
    live = sum(weights[each] for each in alive)
    if live >= config.quorum + config.hysteresis:
        assert state.had_quorum
    if live == 0 or live < config.quorum - config.hysteresis:
        assert not state.had_quorum
    fallback = sorry is not None and not state.had_quorum
    rows = {}
    for real in config.real_servers:
        serves = real.key in alive and not fallback
        if serves or real.inhibit_on_failure:
            rows[real.key] = ipvs.Destination(weights[real.key] if serves else 0, real.forwarding)
    if sorry is not None and fallback:
        rows[sorry.key] = ipvs.Destination(1, sorry.forwarding)
    elif sorry is not None and sorry.inhibit:
        rows.setdefault(sorry.key, ipvs.Destination(0, sorry.forwarding))
    return rows


def edit(kind: str, number: int) -> None:
    """What somebody else does to a service of ours."""
    kernel = FakeKernel.shared
    ids = [id for id in kernel if id != STRANGER]
    if kind == "flush":
        kernel.clear()
        kernel[STRANGER] = ipvs.Entry(ipvs.Service("rr"))
    if not ids or kind == "flush":
        return
    id = ids[number % len(ids)]
    entry = kernel[id]
    keys = list(entry.destinations)
    match kind:
        case "weight" if keys:
            key = keys[number % len(keys)]
            entry.destinations[key] = replace(entry.destinations[key], weight=number)
        case "remove" if keys:
            del entry.destinations[keys[number % len(keys)]]
        case "add":
            entry.destinations[RealKey(ip_address("10.9.9.8"), 80)] = ipvs.Destination(1, SORRY.forwarding)
        case "settings":
            entry.service = replace(entry.service, scheduler="sh", timeout=number)
        case "drop":
            del kernel[id]


SORRY = SorryServer(address=ip_address("10.1.0.9"), port=80)


async def happens(worker: CheckerWorker, event: tuple[Any, ...]) -> None:
    match event:
        case ("result", number, well, points):
            tasks = list(worker._all_tasks())
            if tasks:
                worker._checked(tasks[number % len(tasks)], Result("" if well else "sick", points=points))
        case ("reload", servers):
            await worker.apply(sliced(*servers))
        case (kind, number):
            edit(kind, number)
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def look(worker: CheckerWorker) -> None:
    """What the watch does every few seconds."""
    states = worker.states.values()
    worker.table.mend([(state, id) for state in states for id in ipvs.service_ids(state.config)])


def within_limits() -> bool:
    return all(0 <= row.weight <= LIMIT for entry in FakeKernel.shared.values() for row in entry.destinations.values())


def fresh() -> None:
    FakeKernel.shared = {STRANGER: ipvs.Entry(ipvs.Service("rr"))}


SETTINGS = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@SETTINGS
@given(virtual_servers(), st.lists(RESULTS, max_size=25))
def test_the_table_is_what_health_and_configuration_mean_after_every_event(
    servers: tuple[VirtualServer, ...], events: list[tuple[Any, ...]]
) -> None:
    async def history(worker: CheckerWorker) -> None:
        for event in events:
            assert {id: row for id, row in FakeKernel.shared.items() if id != STRANGER} == meant(worker)
            assert within_limits()
            await happens(worker, event)
        assert {id: row for id, row in FakeKernel.shared.items() if id != STRANGER} == meant(worker)
        sent = len(worker.table.kernel.ops)  # type: ignore[attr-defined]
        look(worker)
        await worker.apply(worker.config)
        assert len(worker.table.kernel.ops) == sent  # type: ignore[attr-defined]
        assert worker.table.repaired == 0

    fresh()
    run(sliced(*servers), history)
    assert FakeKernel.shared == {STRANGER: ipvs.Entry(ipvs.Service("rr"))}


@SETTINGS
@given(virtual_servers(), st.lists(RESULTS | EDITS, max_size=25))
def test_after_edits_by_others_it_converges_and_rests(
    servers: tuple[VirtualServer, ...], events: list[tuple[Any, ...]]
) -> None:
    async def history(worker: CheckerWorker) -> None:
        for event in events:
            await happens(worker, event)
        look(worker)
        assert {id: row for id, row in FakeKernel.shared.items() if id != STRANGER} == meant(worker)
        assert within_limits()
        sent = len(worker.table.kernel.ops)  # type: ignore[attr-defined]
        look(worker)
        assert len(worker.table.kernel.ops) == sent  # type: ignore[attr-defined]

    fresh()
    run(sliced(*servers), history)
    assert FakeKernel.shared == {STRANGER: ipvs.Entry(ipvs.Service("rr"))}

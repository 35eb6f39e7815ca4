"""The table over a kernel that is a dictionary: one message for one change, convergence, drift, counters."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepalived_py.checks.virtual_server import VirtualServerState
from keepalived_py.config.model import (
    Forwarding,
    GroupRange,
    SorryServer,
)
from keepalived_py.plan import ipvs
from keepalived_py.values import Protocol, ServiceKey, ip_address
from tests.unit.workers.helpers_table import (
    STRANGER,
    FakeKernel,
    pairs,
    pretend,
    reals,
    run,
    service,
    sliced,
    started,
)
from workers.checker import describe
from workers.checker.ipvs_kernel import IpvsError
from workers.checker.ipvs_statistics import Counters, RealUsage
from workers.checker.table import ServiceTable
from workers.checker.worker import CheckerWorker


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> ipvs.Table:
    return pretend(monkeypatch)


def test_one_changed_weight_among_many_is_one_message() -> None:
    table = ServiceTable(0)
    state = started(service(1, real_servers=reals(*[1] * 2000)))
    table.sync([state])
    ops = table.kernel.ops  # type: ignore[attr-defined]
    assert len(ops) == 2001
    state.reconfigure(service(1, real_servers=reals(7, *[1] * 1999)), {}, {})
    table.sync([state])
    assert [type(op) for op in ops[2001:]] == [ipvs.EditDestination]
    table.mend(pairs(state))
    assert len(ops) == 2002


def test_what_is_refused_is_tried_again_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    table, state = ServiceTable(0), started(service(1, real_servers=reals(1)))
    (id,) = ipvs.service_ids(state.config)
    table.kernel.refuse.add(id)  # type: ignore[attr-defined]
    table.sync([state])
    for _ in range(3):
        table.mend(pairs(state))
    assert (len(caplog.records), table.repaired, table.rows) == (2, 0, {})
    table.kernel.refuse.clear()  # type: ignore[attr-defined]
    table.mend(pairs(state))
    assert table.rows == FakeKernel.shared == ipvs.desired_table([state])


def test_a_stop_right_after_a_reload_leaves_nothing(kernel: ipvs.Table) -> None:
    """The watch was called for a look at the new table, and must not put it back."""

    async def scenario(worker: CheckerWorker) -> None:
        await asyncio.sleep(0)
        await worker.apply(sliced(service(1, real_servers=reals(2))))
        assert len(kernel) == 1

    run(sliced(service(1, real_servers=reals(1))), scenario)
    assert kernel == {}


def test_strangers_are_not_even_looked_at(kernel: ipvs.Table) -> None:
    stranger = kernel[STRANGER] = ipvs.Entry(ipvs.Service("wlc"))
    table, state = ServiceTable(0), started(service(1, real_servers=reals(1)))
    table.adopt([state])
    table.sync([state])
    kernel[STRANGER].service = ipvs.Service("rr")
    table.mend(pairs(state))
    table.clear(flush=False)
    assert kernel == {STRANGER: stranger}


@pytest.mark.parametrize("flush", [False, True])
def test_a_stop_goes_on_whatever_the_kernel_says(flush: bool, caplog: pytest.LogCaptureFixture) -> None:
    """People still have to be told, and the tables of nftables to go."""

    def refuse(*_: object) -> None:
        raise IpvsError("flush", errno.ENOENT)

    table, state = ServiceTable(0), started(service(1, real_servers=reals(1)))
    table.sync([state])
    table.kernel.flush = table.kernel.set_timeouts = refuse  # type: ignore[method-assign]
    table.old_timeouts = {"tcp": 900}
    table.clear(flush)
    assert "IPVS: flush: No such file or directory" in caplog.text


def test_what_ipvs_counts_is_told_by_the_names_of_the_configuration(kernel: ipvs.Table) -> None:
    """A group is the sum of its services, the port of DR is that of each service, the sorry server counts too."""
    ranges = (
        GroupRange(first=ip_address("10.0.0.1"), last=ip_address("10.0.0.2"), port=80),
        GroupRange(first=ip_address("10.0.0.3"), last=ip_address("10.0.0.3"), port=81),
    )
    key = ServiceKey(protocol=Protocol.TCP, group="g", family=4)
    servers = tuple(replace(real, forwarding=Forwarding(method="DR")) for real in reals(1, 1))
    sorry = SorryServer(address=ip_address("10.1.0.9"), port=80, inhibit=True, forwarding=Forwarding(method="DR"))
    state = started(service(1, key=key, group_entries=ranges, real_servers=servers, sorry_server=sorry))
    table = ServiceTable(0)
    table.sync([state])
    kernel[STRANGER] = ipvs.Entry(ipvs.Service("wlc"))
    found = table.usage([state])[key]
    assert found.counters.connections == 3 * 9 * 2**32
    keys = [*(real.key for real in servers), sorry.key]
    assert found.reals == {
        each: RealUsage(3 * 10**number, counters=Counters(3, 6, 9, 12, 15)) for number, each in enumerate(keys)
    }
    lines = list(describe.servers({key: state}, {key: {real.key: [] for real in servers}}, {key: found}))
    assert lines == [
        "Virtual server [g]:0: quorum up, weight 2",
        "  IPVS: 115964116992 connections, packets 0 in 0 out, bytes 0 in 0 out",
        "  Sorry server [10.1.0.9]:80",
        "    IPVS: active 300, inactive 0, persistent 0; 3 connections, packets 6 in 9 out, bytes 12 in 15 out",
        "  Real server [10.1.0.1]:80: up, weight 1",
        "    IPVS: active 3, inactive 0, persistent 0; 3 connections, packets 6 in 9 out, bytes 12 in 15 out",
        "  Real server [10.1.0.2]:80: up, weight 1",
        "    IPVS: active 30, inactive 0, persistent 0; 3 connections, packets 6 in 9 out, bytes 12 in 15 out",
    ]


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("check"), st.integers(0, 3), st.booleans()),
        st.tuples(st.just("points"), st.integers(0, 3), st.sampled_from([0, -1, 1, 2**31 - 1, -(2**31)])),
        st.tuples(
            st.just("reload"),
            st.lists(st.sampled_from([0, 1, 2**31 - 1]), max_size=4),
            st.sampled_from([1, 2, 2**31]),
            st.booleans(),
        ),
        st.tuples(st.just("weight"), st.integers(0, 3), st.integers(0, 3)),
        st.tuples(st.just("delete"), st.integers(0, 3)),
        st.tuples(st.just("scheduler")),
        st.tuples(st.just("drop")),
    ),
    max_size=25,
)


def happens(event: tuple[Any, ...], state: VirtualServerState, table: ServiceTable) -> None:
    """One check result, reload or edit from outside."""
    (id,) = ipvs.service_ids(state.config)
    entry = FakeKernel.shared.get(id)
    key = reals(1, 1, 1, 1)[event[1]].key if event[0] in ("check", "points", "weight", "delete") else None
    match event:
        case ("check", _, up):
            assert key is not None
            state.checker_changed(key, 0, up, "")
        case ("points", _, points):
            assert key is not None
            state.weight_changed(key, 0, points)
        case ("reload", weights, quorum, sorry):
            spare = SorryServer(address=ip_address("10.1.0.9"), port=80) if sorry else None
            config = service(1, real_servers=reals(*weights), quorum=quorum, sorry_server=spare)
            state.reconfigure(config, {key: real.failed for key, real in state.reals.items()}, {})
        case ("weight", _, weight) if entry is not None and key in entry.destinations:
            entry.destinations[key] = replace(entry.destinations[key], weight=weight)
        case ("delete", _) if entry is not None and key is not None:
            entry.destinations.pop(key, None)
        case ("scheduler",) if entry is not None:
            entry.service = ipvs.Service("sh")
        case ("drop",):
            FakeKernel.shared.pop(id, None)
    if event[0] in ("check", "points", "reload"):
        table.sync([state])


@settings(max_examples=150)
@given(EVENTS)
def test_every_history_converges_and_then_rests(events: list[tuple[Any, ...]]) -> None:
    FakeKernel.shared = {}
    table, state = ServiceTable(0), started(service(1, real_servers=reals(1, 2, 3)))
    table.sync([state])
    for event in events:
        # an edit of a service that somebody has just deleted is refused by the real kernel; the watch comes first here
        (id,) = ipvs.service_ids(state.config)
        if id not in FakeKernel.shared:
            table.mend(pairs(state))
        happens(event, state, table)
        rows = FakeKernel.shared.get(id, ipvs.Entry(ipvs.Service(""))).destinations
        assert all(0 <= row.weight <= 2**31 - 1 for row in rows.values())
    table.mend(pairs(state))
    assert FakeKernel.shared == ipvs.desired_table([state]) == table.rows
    done = len(table.kernel.ops)  # type: ignore[attr-defined]
    table.mend(pairs(state))
    table.sync([state])
    assert len(table.kernel.ops) == done  # type: ignore[attr-defined]

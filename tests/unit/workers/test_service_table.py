"""The table and the worker that keeps it, over a kernel that is a dictionary: one message for one change, convergence,
drift, equal checks made once, ha_suspend.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from collections.abc import Callable, Container, Coroutine
from dataclasses import replace
from itertools import pairwise
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipc.messages import (
    GroupMarked,
    RealServerStateChanged,
    StateMessage,
    TimeoutsReplaced,
    VirtualServerStateChanged,
    merge_key,
)
from keepalived_py.checks.virtual_server import Destination, VirtualServerState
from keepalived_py.config.model import (
    CheckerConfig,
    CheckerSlice,
    CheckTiming,
    Endpoint,
    Forwarding,
    GlobalDefs,
    GroupRange,
    IpvsSettings,
    MiscCheck,
    RealServer,
    Script,
    SorryServer,
    TcpCheck,
    VirtualServer,
)
from keepalived_py.plan import ipvs
from keepalived_py.values import IPAddress, Protocol, RealKey, ServiceKey, ip_address
from workers import nftables
from workers.checker import describe, suspend
from workers.checker import table as table_module
from workers.checker import task as task_module
from workers.checker.ipvs_kernel import IpvsError, IpvsKernel
from workers.checker.ipvs_statistics import Counters, RealUsage, Usage
from workers.checker.probe import Result
from workers.checker.table import ServiceTable
from workers.checker.worker import CheckerWorker
from workers.worker import WorkerContext, WorkerError, WorkerOptions


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


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> ipvs.Table:
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


# the table --------------------------------------------------------------------------------------------------------


def started(config: VirtualServer) -> VirtualServerState:
    state = VirtualServerState(config)
    state.start()
    return state


def pairs(*states: VirtualServerState) -> table_module.Pairs:
    return [(state, id) for state in states for id in ipvs.service_ids(state.config)]


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


# the worker -------------------------------------------------------------------------------------------------------


def sliced(*servers: VirtualServer, **defaults: Any) -> CheckerSlice:
    return CheckerSlice(global_defs=GlobalDefs(**defaults), checker=CheckerConfig(virtual_servers=servers))


def run(
    config: CheckerSlice,
    scenario: Callable[[CheckerWorker], Coroutine[Any, Any, None]],
    reported: tuple[StateMessage, ...] = (),
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


def test_without_ipvs_the_table_is_empty_and_nothing_is_asked_of_it() -> None:
    """The family's number 0 is that of another protocol."""
    kernel = IpvsKernel(0)
    kernel.flush()
    assert kernel.table() == {}
    assert kernel.usage([]) == {}
    for ask in (kernel.timeouts, lambda: kernel.set_timeouts({"tcp": 1})):
        with pytest.raises(IpvsError, match="timeouts"):
            ask()
    assert kernel.requests == 0
    kernel.close()


def test_ipvs_is_looked_for_when_a_reload_brings_the_first_service(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[int | IpvsError] = [IpvsError("the kernel has no IPVS", 2), 31]

    def resolve() -> int:
        answer = answers.pop(0)
        if isinstance(answer, IpvsError):
            raise answer
        return answer

    async def scenario(worker: CheckerWorker) -> None:
        monkeypatch.setattr("workers.checker.worker.resolve_family", resolve)
        worker.table.kernel.family = 0
        await worker.apply(sliced())
        with pytest.raises(WorkerError, match="no IPVS"):
            await worker.apply(sliced(checked(1)))
        assert worker.states == {}
        await worker.apply(sliced(checked(1)))
        assert (worker.table.kernel.family, len(worker.table.rows)) == (31, 1)

    run(sliced(), scenario)


def test_equal_checks_are_made_once() -> None:
    async def scenario(worker: CheckerWorker) -> None:
        async with Door() as door:
            different = tcp(door.port, delay_loop=0.3)
            servers = [checked(number, tcp(door.port)) for number in range(1, 21)]
            await worker.apply(sliced(*servers, checked(21, different)))
            await until(lambda: min(runs(worker)) >= 5)
            assert door.seen <= sum(sorted(runs(worker))[:1]) + max(runs(worker)) + 2
            assert len(worker.states) == 21

    run(sliced(), scenario)


def test_without_sharing_each_makes_its_own_and_the_switch_works_in_a_reload() -> None:
    async def scenario(worker: CheckerWorker) -> None:
        async with Door() as door:
            servers = [checked(number, tcp(door.port)) for number in range(1, 6)]
            await worker.apply(sliced(*servers, checker_share_probes=False))
            await until(lambda: min(runs(worker)) >= 2)
            await until(lambda: door.seen >= 10)
            await worker.apply(sliced(*servers))
            before, door.seen = max(runs(worker)), 0
            await until(lambda: min(runs(worker)) >= before + 3)
            assert door.seen <= 3 * 5

    run(sliced(checker_share_probes=False), scenario)


def test_the_heir_of_a_leader_goes_on() -> None:
    port = free_port()

    async def scenario(worker: CheckerWorker) -> None:
        servers = [checked(number, tcp(port)) for number in range(1, 4)]
        await worker.apply(sliced(*servers))
        await until(lambda: all(not each.reals[reals(1)[0].key].alive for each in worker.states.values()))
        await worker.apply(sliced(servers[2]))
        before = runs(worker)[0]
        await until(lambda: runs(worker)[0] >= before + 2)
        await worker.apply(sliced())
        assert list(worker._all_tasks()) == []

    run(sliced(), scenario)


def test_a_leader_that_is_gone_while_it_checks() -> None:
    """The check never ends by itself: the heir makes one of its own."""

    async def scenario(worker: CheckerWorker) -> None:
        servers = [checked(number, tcp(9, delay_loop=30, connect_timeout=20)) for number in (1, 2)]
        stuck = asyncio.Event()

        class Stuck:
            name, limit = "STUCK", 20.0
            count = 0

            async def check(self) -> None:
                Stuck.count += 1
                await stuck.wait()

        checker = Stuck()
        worker.maker.checkers = lambda check, real: (checker,)
        await worker.apply(sliced(*servers))
        await until(lambda: Stuck.count == 1)
        await worker.apply(sliced(servers[1]))
        await until(lambda: Stuck.count == 2)
        stuck.set()
        await until(lambda: runs(worker) == [1])

    run(sliced(), scenario)


def test_starts_are_spread_evenly() -> None:
    async def scenario(worker: CheckerWorker) -> None:
        servers = [checked(number, tcp(1000 + number, warmup=100.0)) for number in range(1, 101)]
        await worker.apply(sliced(*servers))
        due = sorted(task.due for task in worker._all_tasks())
        gaps = [later - earlier for earlier, later in pairwise(due)]
        assert 90 < due[-1] - due[0] <= 100
        assert max(gaps) < 4

    run(sliced(), scenario)


def test_suspended_servers_are_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    here: set[IPAddress] = set()
    monkeypatch.setattr(suspend, "_dump", lambda: {(address, 32, 1) for address in here})
    port = free_port()

    async def scenario(worker: CheckerWorker) -> None:
        await worker.apply(sliced(checked(1, tcp(port), ha_suspend=True), checked(2, tcp(port))))
        suspended, other = worker._all_tasks()
        await until(lambda: other.runs >= 2)
        assert (suspended.runs, suspended.suspended) == (0, True)
        assert weights(FakeKernel.shared) == {"[10.0.0.1]:tcp:80": 1, "[10.0.0.2]:tcp:80": 0}
        here.add(ip_address("10.0.0.1"))
        worker.addresses.read_all()
        await until(lambda: suspended.runs >= 1)
        await until(lambda: weights(FakeKernel.shared)["[10.0.0.1]:tcp:80"] == 0)
        here.clear()
        worker.addresses.read_all()
        before = suspended.runs
        await until(lambda done=other.runs + 2: other.runs >= done)  # type: ignore[misc]
        assert suspended.runs == before

    run(sliced(), scenario)


def test_only_suspended_servers_cost_nothing_and_start_again(monkeypatch: pytest.MonkeyPatch) -> None:
    here: set[IPAddress] = set()
    monkeypatch.setattr(suspend, "_dump", lambda: {(address, 32, 1) for address in here})

    async def scenario(worker: CheckerWorker) -> None:
        (task,) = worker._all_tasks()
        await asyncio.sleep(0.3)
        assert task.runs == 0
        here.add(ip_address("10.0.0.1"))
        worker.addresses.read_all()
        await until(lambda: task.runs >= 1)

    run(sliced(checked(1, tcp(free_port(), delay_loop=60), ha_suspend=True)), scenario)


def states_of(sent: list[Any]) -> list[tuple[str, bool, str]]:
    return [(msg.real, msg.up, msg.reason) for msg in sent if isinstance(msg, RealServerStateChanged)]


def test_the_parent_hears_of_what_a_reload_removes_and_adds() -> None:
    async def scenario(worker: CheckerWorker) -> None:
        await worker.apply(sliced(service(1, real_servers=reals(1))))
        await worker.apply(sliced(service(1, real_servers=reals(1, 1)), service(2, real_servers=reals(5))))
        await worker.apply(sliced(service(1, real_servers=reals(1, 1))))

    told = states_of(run(sliced(service(1, real_servers=reals(1, 1))), scenario))
    first, second = "[10.1.0.1]:tcp:80", "[10.1.0.2]:tcp:80"
    assert told == [
        (second, False, "removing"),
        (first, True, "added by a reload"),
        (second, True, "added by a reload"),
        (first, False, "removing"),
    ]


def test_an_alpha_server_that_was_up_stays_up_for_the_successor() -> None:
    real = reals(1)[0]
    report = RealServerStateChanged(
        service="[10.0.0.1]:tcp:80", real=real.key.text(Protocol.TCP), up=True, reason="", time=0.0
    )
    alive: list[bool] = []

    async def scenario(worker: CheckerWorker) -> None:
        alive.extend(state.alive for server in worker.states.values() for state in server.reals.values())

    config = sliced(checked(1, tcp(1, alpha=True, delay_loop=60)))
    run(config, scenario, (report,))
    run(config, scenario)
    assert alive == [True, False]


def reports(up: bool, *servers: RealServer) -> tuple[VirtualServerStateChanged | RealServerStateChanged, ...]:
    """The last words of a predecessor: `up` is the quorum; of `servers` all are well."""
    name = "[10.0.0.1]:tcp:80"
    wells = (real.key.text(Protocol.TCP) for real in servers)
    return (
        VirtualServerStateChanged(service=name, up=up, reason="", time=0.0),
        *(RealServerStateChanged(service=name, real=real, up=True, reason="", time=0.0) for real in wells),
    )


@pytest.mark.parametrize("had", [True, False])
def test_a_quorum_within_the_hysteresis_is_what_it_was_for_the_successor(
    had: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Live weight 2 of quorum 2 with hysteresis 1: what it is depends on what it was."""
    caplog.set_level("INFO")
    sorry = SorryServer(address=ip_address("10.1.9.9"), port=80)
    config = service(1, real_servers=reals(1, 1), quorum=2, hysteresis=1, sorry_server=sorry)
    rows: list[set[RealKey]] = []

    async def scenario(worker: CheckerWorker) -> None:
        rows.extend(set(entry.destinations) for entry in FakeKernel.shared.values())

    told = run(sliced(config), scenario, reports(had, *config.real_servers))
    assert [each.up for each in told if isinstance(each, VirtualServerStateChanged)] == [had]
    assert ("Gained quorum" in caplog.text, "Lost quorum" in caplog.text) == (False, not had)
    assert rows == [{real.key for real in config.real_servers} if had else {sorry.key}]


@pytest.mark.parametrize(("dynamic", "restarted", "weight"), [(True, True, 50), (True, False, 3), (False, True, 3)])
def test_a_weight_that_a_script_has_set_stays_for_the_successor(dynamic: bool, restarted: bool, weight: int) -> None:
    """Until the script says something else; at a start it has said nothing yet."""
    script = MiscCheck(
        timing=CheckTiming(delay_loop=3600, warmup=3600), script=Script(argv=("true",)), timeout=1, dynamic=dynamic
    )
    config = service(1, real_servers=reals(3, checks=(script,)))
    (id,) = ipvs.service_ids(config)
    (real,) = config.real_servers
    FakeKernel.shared[id] = ipvs.Entry(ipvs.Service("rr"), {real.key: Destination(50, Forwarding())})
    found: list[int] = []

    async def scenario(worker: CheckerWorker) -> None:
        found.append(FakeKernel.shared[id].destinations[real.key].weight)

    run(sliced(config), scenario, reports(True, real) if restarted else ())
    assert found == [weight]


def test_groups_keep_their_marks_for_the_successor(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would count anew, and give the mark of one group, with its connections, to another."""

    async def load(*_: object) -> bool:
        return True

    def group(name: str, address: str) -> VirtualServer:
        entry = GroupRange(first=ip_address(address), last=ip_address(address), port=80, family=4)
        key = ServiceKey(protocol=Protocol.TCP, group=name, family=4)
        return service(1, key=key, group_entries=(entry,), real_servers=reals(1))

    monkeypatch.setattr(nftables, "load", load)
    on = IpvsSettings(nftables_table="mine")
    one, two, three = group("a", "10.0.0.1"), group("b", "10.0.0.2"), group("c", "10.0.0.3")
    seen: list[set[int]] = []

    async def predecessor(worker: CheckerWorker) -> None:
        await worker.apply(sliced(two, ipvs=on))

    async def successor(worker: CheckerWorker) -> None:
        seen.append({id.fwmark for id in FakeKernel.shared})
        assert worker.table.marks[("b", Protocol.TCP)] == 1001

    said = run(sliced(one, two, ipvs=on), predecessor)
    newest = {merge_key(each): each for each in said if isinstance(each, GroupMarked)}
    run(sliced(two, three, ipvs=on), successor, tuple(newest.values()))
    assert seen == [{1000, 1001}]
    run(sliced(three, two), lambda worker: asyncio.sleep(0), tuple(newest.values()))


@pytest.mark.parametrize("still", [True, False])
def test_timeouts_of_before_are_put_back_by_the_successor(still: bool) -> None:
    """It finds ours in the kernel, which a stop and a reload would leave there."""
    before = FakeKernel.timers.copy()
    on, off = sliced(ipvs=IpvsSettings(timeout_tcp=100)), sliced()
    killed: list[dict[str, int]] = []
    seen: list[int] = []

    async def predecessor(worker: CheckerWorker) -> None:
        killed.append(FakeKernel.timers.copy())

    async def successor(worker: CheckerWorker) -> None:
        seen.append(FakeKernel.timers["tcp"])
        await worker.apply(off)
        seen.append(FakeKernel.timers["tcp"])

    newest = {merge_key(each): each for each in run(on, predecessor) if isinstance(each, TimeoutsReplaced)}
    assert list(newest.values()) == [TimeoutsReplaced(**before)]
    FakeKernel.timers.update(killed[0])
    told = run(on if still else off, successor, tuple(newest.values()))
    assert seen == ([100, 900] if still else [900, 900])
    assert FakeKernel.timers == before
    assert [each for each in told if isinstance(each, TimeoutsReplaced)] == [TimeoutsReplaced()]
    FakeKernel.timers.update(killed[0])
    run(on, lambda worker: asyncio.sleep(0), tuple(newest.values()))
    assert FakeKernel.timers == before
    run(sliced(), lambda worker: asyncio.sleep(0), (TimeoutsReplaced(),))
    assert FakeKernel.timers == before


def test_the_first_in_the_file_says_how_a_shared_service_works() -> None:
    """Also when a reload has put it there: the next start would make another service of the same file."""
    same = GroupRange(first=ip_address("10.0.0.1"), last=ip_address("10.0.0.1"), port=80)
    key = ServiceKey(protocol=Protocol.TCP, group="g", family=4)
    one, two = service(1), service(2, key=key, group_entries=(same,), scheduler="wlc")
    found: list[str] = []

    async def scenario(worker: CheckerWorker) -> None:
        for servers in ((one, two), (two, one), (one,), (two, one), (one, two)):
            await worker.apply(sliced(*servers))
            found.extend(entry.service.scheduler for entry in FakeKernel.shared.values())

    run(sliced(one, two), scenario)
    assert found == ["rr", "wlc", "rr", "wlc", "rr"]


def test_a_server_comes_up_with_the_weight_it_has_then() -> None:
    """A script that says well and weight 0 in one word gains no quorum, which would be lost in the same breath."""
    script = MiscCheck(
        timing=CheckTiming(delay_loop=3600, warmup=3600, alpha=True),
        script=Script(argv=("true",)),
        timeout=1,
        dynamic=True,
    )
    rows: list[int] = []

    async def scenario(worker: CheckerWorker) -> None:
        (task,) = worker._all_tasks()
        worker._checked(task, Result(points=-1))
        worker._sync()
        rows.extend(row.weight for entry in FakeKernel.shared.values() for row in entry.destinations.values())

    told = run(sliced(service(1, real_servers=reals(1, checks=(script,)))), scenario)
    assert [each.up for each in told if isinstance(each, RealServerStateChanged)] == [True]
    assert [each.up for each in told if isinstance(each, VirtualServerStateChanged)] == [False]
    assert rows == [0]


def test_a_first_failure_is_reported_once() -> None:
    check = tcp(free_port(), alpha=True)

    async def scenario(worker: CheckerWorker) -> None:
        await until(lambda: min(runs(worker)) >= 3)

    told = states_of(run(sliced(checked(1, check)), scenario))
    assert [up for _, up, _ in told] == [False]
    assert told[0][2].startswith("TCP_CHECK connect")


def test_first_states_where_they_are_wanted() -> None:
    async def scenario(worker: CheckerWorker) -> None:
        await worker.apply(sliced(service(1, real_servers=reals(1, 1)), rs_init_notifies=True))

    told = states_of(run(sliced(service(1, real_servers=reals(1)), rs_init_notifies=True), scenario))
    assert [(real, up, reason) for real, up, reason in told if reason == "initial state"] == [
        ("[10.1.0.1]:tcp:80", True, "initial state"),
        ("[10.1.0.2]:tcp:80", True, "initial state"),
    ]


def test_what_is_refused_is_looked_at_at_once() -> None:
    """Somebody has taken the row that a new weight is for: it is there again before the watch would have come by."""

    async def scenario(worker: CheckerWorker) -> None:
        await asyncio.sleep(0.05)  # the watch rests for seconds now
        (state,) = worker.states.values()
        (id,) = FakeKernel.shared
        key = next(iter(state.reals))
        FakeKernel.shared[id].destinations.pop(key)
        worker.table.kernel.refuse.add(id)  # type: ignore[attr-defined]
        worker._absorb(state, key, state.weight_changed(key, 0, 5))
        await asyncio.sleep(0)
        worker.table.kernel.refuse.clear()  # type: ignore[attr-defined]
        await until(lambda: FakeKernel.shared[id].destinations.get(key), 2)
        assert FakeKernel.shared[id].destinations[key].weight == 6

    run(sliced(service(1, real_servers=reals(1))), scenario)


@pytest.mark.parametrize("broken", [True, False])
def test_a_worker_that_fails_leaves_its_services_to_the_successor(broken: bool) -> None:
    async def scenario(worker: CheckerWorker) -> None:
        if broken:
            worker._unhandled(asyncio.get_running_loop(), {"message": "a bug"})

    run(sliced(service(1, real_servers=reals(1))), scenario)
    assert len(FakeKernel.shared) == broken


def test_the_watch_finds_drift_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "WATCH_PAUSE", 0.05)

    async def scenario(worker: CheckerWorker) -> None:
        key = RealKey(ip_address("10.1.0.1"), 80)
        (entry,) = FakeKernel.shared.values()
        for _ in range(3):
            (entry,) = FakeKernel.shared.values()
            entry.destinations.pop(key)
            await until(lambda found=entry: key in found.destinations)  # type: ignore[misc]
        assert worker.table.repaired == 3
        await worker.drain()
        (entry,) = FakeKernel.shared.values()
        entry.destinations.pop(key)
        await asyncio.sleep(0.3)
        assert key not in entry.destinations

    run(sliced(service(1, real_servers=reals(1))), scenario)

"""The worker that keeps the table: equal checks made once, ha_suspend, what a successor takes over, drift."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ipc.messages import (
    DumpKind,
    GroupMarked,
    RealServerStateChanged,
    TimeoutsReplaced,
    VirtualServerStateChanged,
    merge_key,
)
from keepalived_py.config.model import (
    CheckerSlice,
    CheckTiming,
    Config,
    FileCheck,
    GlobalDefs,
    GroupRange,
    IpvsSettings,
    MiscCheck,
    RealServer,
    Script,
    SorryServer,
    TrackFile,
    VirtualServer,
)
from keepalived_py.parent.roles import subjects
from keepalived_py.plan import ipvs
from keepalived_py.values import IPAddress, Protocol, RealKey, ServiceKey, ip_address
from tests.unit.workers.helpers_table import (
    STRANGER,
    Door,
    FakeKernel,
    checked,
    free_port,
    pretend,
    reals,
    run,
    runs,
    service,
    sliced,
    tcp,
    until,
    weights,
)
from workers import nftables
from workers.checker import suspend
from workers.checker import table as table_module
from workers.checker.ipvs_kernel import IpvsError, IpvsKernel
from workers.checker.probe import Result
from workers.checker.worker import CheckerWorker
from workers.worker import WorkerError


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> ipvs.Table:
    return pretend(monkeypatch)


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


@pytest.mark.parametrize(("number", "code"), [(errno.ENOBUFS, 70), (errno.EMFILE, 70), (errno.EPERM, 1)])
def test_a_table_that_cannot_be_had_for_want_of_something_is_no_end(
    number: int, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Codes that the supervisor takes for permanent end the daemon, VRRP included."""

    def refuse(table: Any, *_: Any) -> None:
        raise IpvsError("table", number)

    async def scenario(worker: CheckerWorker) -> None:
        monkeypatch.setattr(table_module.ServiceTable, "adopt", refuse)
        with pytest.raises(WorkerError, match=os.strerror(number)) as found:
            await worker._take_table()
        assert found.value.code == code

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


def test_suspended_servers_are_not_checked(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    here: set[IPAddress] = set()
    monkeypatch.setattr(suspend, "_dump", lambda: {(address, 32, 1) for address in here})
    port = free_port()

    async def scenario(worker: CheckerWorker) -> None:
        caplog.set_level(logging.INFO)
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
    checker = "healthchecker for service [10.1.0.1]:tcp:80 for VS [10.0.0.1]:tcp:80"
    assert [line for line in caplog.messages if "healthchecker" in line] == [
        f"{word} {checker}" for word in ("Suspending", "Activating", "Suspending")
    ]


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


def test_the_log_names_only_so_many_servers_at_the_stop(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten thousand lines took longer than taking away the rows."""
    monkeypatch.setattr("workers.checker.worker.FAREWELLS", 2)
    caplog.set_level(logging.INFO)

    async def scenario(worker: CheckerWorker) -> None:
        await asyncio.sleep(0)

    run(sliced(*(service(number, real_servers=reals(1, 1)) for number in (1, 2, 3))), scenario)
    assert [line for line in caplog.messages if line.startswith("Shutting")] == [
        "Shutting down service [10.1.0.1]:tcp:80 from VS [10.0.0.1]:tcp:80",
        "Shutting down service [10.1.0.2]:tcp:80 from VS [10.0.0.1]:tcp:80",
        "Shutting down 4 more services",
    ]


def test_the_log_tells_of_rows_that_go_and_of_dumps(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """In the words of keepalived."""
    caplog.set_level(logging.INFO)
    defs = GlobalDefs(state_dump_file=str(tmp_path / "data"))

    async def scenario(worker: CheckerWorker) -> None:
        await worker.apply(replace(sliced(service(1, real_servers=reals(1))), global_defs=defs))
        await worker.apply(replace(sliced(service(1, real_servers=reals(3))), global_defs=defs))
        worker.dump(DumpKind.DATA)
        worker.dump(DumpKind.STATS)
        await until(lambda: not worker.dumps._running)
        assert "RIP = 10.1.0.1" in (tmp_path / "data_check").read_text()

    run(sliced(service(1, real_servers=reals(1, 1)), service(2, real_servers=reals(1))), scenario)
    one, two = ("[10.1.0.1]:tcp:80", "[10.1.0.2]:tcp:80")
    assert [line for line in caplog.messages if not line.startswith("Gained")] == [
        f"Removing service {one} from VS [10.0.0.2]:tcp:80",
        f"Removing service {two} from VS [10.0.0.1]:tcp:80",
        f"Changing weight from 1 to 3 for active service {one} of VS [10.0.0.1]:tcp:80",
        f"Printing checker data for process({os.getpid()}) on signal",
        f"Shutting down service {one} from VS [10.0.0.1]:tcp:80",
    ]


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


def test_a_mark_of_both_families_is_two_virtual_servers_for_the_successor() -> None:
    """They have one name for people; within its hysteresis the first keeps its quorum, the other never had it."""
    check = tcp(1, delay_loop=60, warmup=60)
    four, six = (
        service(1, key=ServiceKey(fwmark=5, family=family), real_servers=servers, quorum=2, hysteresis=1)
        for family, servers in ((4, reals(1, 1, 1, checks=(check,))), (6, reals(1, 1, checks=(check,))))
    )
    config = sliced(four, six)
    quorums: list[list[bool]] = []

    async def predecessor(worker: CheckerWorker) -> None:
        (task, *_) = worker.tasks[four.key][four.real_servers[0].key]
        worker._checked(task, Result("down"))
        worker._sync()
        await successor(worker)

    async def successor(worker: CheckerWorker) -> None:
        quorums.append([state.had_quorum for state in worker.states.values()])

    newest = {merge_key(each): each for each in run(config, predecessor) if merge_key(each) is not None}
    run(config, successor, tuple(newest.values()))
    assert quorums == [[True, False], [True, False]]
    assert newest.keys() <= subjects(Config(checker=config.checker))


@pytest.mark.parametrize(
    ("points", "again", "dynamic", "weight"),
    [(47, 3, True, 50), (0, 3, True, 3), (0, 4, True, 3), (None, 4, True, 4), (47, 4, True, 50), (47, 3, False, 3)],
)
@pytest.mark.parametrize("quorum", [1, 100])
def test_a_weight_that_a_script_has_set_stays_for_the_successor(
    points: int | None, again: int, dynamic: bool, weight: int, quorum: int
) -> None:
    """Until it says something else, also where a reload configures `again` and while the sorry server serves."""

    def config(own: int, dynamic: bool = True) -> CheckerSlice:
        script = MiscCheck(
            timing=CheckTiming(delay_loop=3600, warmup=3600), script=Script(argv=("true",)), timeout=1, dynamic=dynamic
        )
        spare = SorryServer(address=ip_address("10.1.9.9"), port=80)
        return sliced(service(1, real_servers=reals(own, checks=(script,)), quorum=quorum, sorry_server=spare))

    found: list[int] = []

    async def predecessor(worker: CheckerWorker) -> None:
        (task,) = worker._all_tasks()
        worker._checked(task, Result(points=points))
        await worker.apply(config(again))

    async def successor(worker: CheckerWorker) -> None:
        (state,) = worker.states.values()
        found.append(state.live_weight)
        found.extend(row.weight for entry in FakeKernel.shared.values() for row in entry.destinations.values())

    newest = {merge_key(each): each for each in run(config(3), predecessor) if merge_key(each) is not None}
    run(config(again, dynamic), successor, tuple(newest.values()))
    assert found == [weight, weight if quorum == 1 else 1]


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


def test_the_successor_takes_away_what_an_abandoned_reload_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address, one of a group and one behind a mark; what is still configured stays as it is."""

    async def load(*_: object) -> bool:
        return True

    def group(name: str, *numbers: int) -> VirtualServer:
        entries = tuple(
            GroupRange(first=ip_address(f"10.0.9.{each}"), last=ip_address(f"10.0.9.{each}"), port=80, family=4)
            for each in numbers
        )
        key = ServiceKey(protocol=Protocol.TCP, group=name, family=4)
        return service(1, key=key, group_entries=entries, real_servers=reals(1))

    monkeypatch.setattr(nftables, "load", load)
    kept = service(1, real_servers=reals(1))
    for marks in (IpvsSettings(), IpvsSettings(nftables_table="mine")):
        FakeKernel.shared.clear()
        FakeKernel.shared[STRANGER] = ipvs.Entry(ipvs.Service("wlc"))
        old = sliced(kept, group("g", 1), ipvs=marks)
        new = sliced(kept, group("g", 1, 2), group("h", 3), service(2, real_servers=reals(1)), ipvs=marks)
        tables: list[ipvs.Table] = []

        async def look(worker: CheckerWorker, found: list[ipvs.Table] = tables) -> None:
            found.append(worker.table.kernel.table())

        said: list[Any] = []
        run(old, look)
        said = run(new, look)
        FakeKernel.shared.update(tables[1])
        newest = {merge_key(each): each for each in said if merge_key(each) is not None}
        run(old, look, tuple(newest.values()), new)
        assert tables[0] == tables[2] != tables[1]


@pytest.mark.parametrize(
    ("protocols", "told"),
    [(("udp",), ["[g]:0"]), (("udp", "tcp"), []), (("tcp", "udp", "sctp"), []), (("sctp", "udp"), ["[g]:0"])],
)
def test_a_virtual_server_of_a_group_is_the_same_whatever_a_reload_puts_before_it(
    protocols: tuple[str, ...], told: list[str]
) -> None:
    """Its number is another then: its name, but not its servers, of which one is down, nor its quorum."""
    address = ip_address("10.0.9.1")
    entry = GroupRange(first=address, last=address, port=80, family=4)

    def config(*protocols: str) -> CheckerSlice:
        keys = (ServiceKey(Protocol(each), group="g", family=4, ordinal=at) for at, each in enumerate(protocols))
        checks = (tcp(1, delay_loop=60, warmup=60),)
        return sliced(
            *(service(1, key=key, group_entries=(entry,), real_servers=reals(1, 1, checks=checks)) for key in keys)
        )

    id = ipvs.ServiceId(4, Protocol.UDP, address, 80)
    tables: list[ipvs.Entry] = []

    async def predecessor(worker: CheckerWorker) -> None:
        (task, *_), *_ = worker.tasks[ServiceKey(Protocol.UDP, group="g", family=4, ordinal=1)].values()
        worker._checked(task, Result("down"))
        tables.append(worker.table.kernel.table()[id])
        await worker.apply(config(*protocols))
        assert (
            worker.states.keys() == worker.tasks.keys() == {each.key for each in worker.config.checker.virtual_servers}
        )
        assert all(task.service in worker.states for task in worker._all_tasks())
        await successor(worker)
        worker._checked(task, Result())
        worker._sync()
        tables.append(worker.table.kernel.table()[id])

    async def successor(worker: CheckerWorker) -> None:
        tables.append(worker.table.kernel.table()[id])

    said = run(config("tcp", "udp"), predecessor)
    assert [
        each.service for each in said if isinstance(each, RealServerStateChanged) and each.reason == "removing"
    ] == ([*told, *told])
    assert [len(each.destinations) for each in tables] == [2, 1, 2]
    newest = {merge_key(each): each for each in said[:-1] if merge_key(each) is not None}
    FakeKernel.shared.clear()
    run(config(*protocols), successor, tuple(newest.values()))
    assert len(tables[-1].destinations) == 1


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


def test_a_check_that_cannot_be_made_is_told_once_for_each_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    check = tcp(free_port(), delay_loop=3600, warmup=3600)

    async def scenario(worker: CheckerWorker) -> None:
        ((task,),) = (tasks.values() for tasks in worker.tasks.values())
        for failure, made in (("a", False), ("a", False), ("b", False), ("", True), ("b", False), ("c", True)):
            worker._checked(task[0], Result(failure, made=made))

    run(sliced(checked(1, check)), scenario)
    lines = [line.rpartition("tcp:80 ")[2] for line in caplog.messages if line.startswith("TCP_CHECK on")]
    not_made = [f"could not be made: {reason}" for reason in "abb"]
    assert lines == [*not_made[:2], "can be made again", not_made[2], "can be made again", "failed: c"]


def test_a_server_that_a_reload_brings_is_down_by_its_file_untold(tmp_path: Path) -> None:
    """As at a start: nobody saw it well. What the file says again is no news either."""
    (tmp_path / "f").write_text("1\n")
    file = TrackFile(name="f", file=str(tmp_path / "f"))
    check = FileCheck(timing=CheckTiming(), track_file="f", weight=0)
    well, down = service(1, real_servers=reals(1)), service(2, real_servers=reals(1, checks=(check,)))

    def loaded(*servers: VirtualServer) -> CheckerSlice:
        return replace(sliced(*servers), track_files=(file,))

    async def scenario(worker: CheckerWorker) -> None:
        await worker.apply(loaded(well, down))
        await worker.apply(loaded(well, replace(down, quorum=2)))
        assert not worker.states[down.key].reals[down.real_servers[0].key].alive
        worker._subject_changed(FileCheck, "f")

    told = states_of(run(loaded(well), scenario))
    assert told == [("[10.1.0.1]:tcp:80", False, "added by a reload")]


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

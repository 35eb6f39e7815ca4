"""The checker worker over a kernel that is a dictionary: any story of checks, files, scripts, addresses, reloads,
deaths of the worker, refusals of the kernel and edits by others.

What the table must be is told a second time in balancer_world.py. While nobody else edits, the table is that after
every event; after edits and refusals it is that again at the next look, and then nothing more is sent.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipc.messages import StateMessage, merge_key
from keepalived_py.checks.virtual_server import Destination
from keepalived_py.config.model import (
    Check,
    CheckerSlice,
    CheckTiming,
    Endpoint,
    FileCheck,
    Forwarding,
    MiscCheck,
    Script,
    SorryServer,
    TcpCheck,
)
from keepalived_py.plan import ipvs
from keepalived_py.values import IPAddress, RealKey, ip_address
from tests.unit.workers.helpers_table import STRANGER, FakeKernel, reals, run, service, sliced
from workers import file_watch, nftables_keeper, scripts
from workers.checker import suspend
from workers.checker import table as table_module
from workers.checker import task as task_module
from workers.checker.ipvs_kernel import IpvsError
from workers.checker.misc import MiscChecker
from workers.checker.probe import Result, probe
from workers.checker.task import CheckerTask
from workers.checker.worker import CheckerWorker

from .balancer import FILES, HOME, LIMIT, NEVER, TWEAKS, Plan, configurations, tweaked
from .balancer_world import World, name, told

Event = tuple[Any, ...]
KILLED = ("killed",)


class StrictKernel(FakeKernel):
    """Refuses to edit or fill what is not there, as the kernel does, and what it has no room for.

    What is there or gone already is no failure.
    """

    refused: ClassVar[set[ipvs.ServiceId]] = set()
    """Services of which nothing is taken."""
    dead: ClassVar[bool] = False
    """The worker was killed: it does nothing more."""

    def apply(self, ops: list[ipvs.Op]) -> list[tuple[ipvs.Op, IpvsError]]:
        failed: list[tuple[ipvs.Op, IpvsError]] = []
        for op in [] if self.dead else ops:
            if op.id in self.refused and not isinstance(op, ipvs.DeleteService):
                failed.append((op, IpvsError(op, errno.ENOMEM)))
            elif isinstance(op, ipvs.AddService) and op.id in self.shared:
                continue
            elif isinstance(op, ipvs.DeleteService) or self._possible(op):
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


class Outside:
    """The world of the story that is told at the moment."""

    world = World()
    status: int | None = 0
    """How the script ends that runs next."""

    @classmethod
    def addresses(cls) -> set[tuple[IPAddress, int, int]]:
        return {(HOME, 32, 1)} if cls.world.here else set()

    @classmethod
    async def script(cls, *_: object, **__: object) -> scripts.Outcome:
        return scripts.Outcome(cls.status, False, "")


async def _loaded(*_: object) -> bool:
    return True


@pytest.fixture(autouse=True)
def _by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is checked and nobody looks but when the story says so."""
    monkeypatch.setattr(table_module, "IpvsKernel", StrictKernel)
    monkeypatch.setattr(table_module, "WATCH_PAUSE", NEVER)
    monkeypatch.setattr(table_module.ServiceTable, "look_again", lambda self: None)
    monkeypatch.setattr(task_module, "FIRST_DELAY", NEVER)
    monkeypatch.setattr(suspend, "_dump", Outside.addresses)
    monkeypatch.setattr(scripts, "run", Outside.script)
    monkeypatch.setattr(file_watch.FileWatcher, "value", lambda self, name: Outside.world.files[name])
    monkeypatch.setattr(nftables_keeper.TableKeeper, "load", _loaded)
    monkeypatch.setattr(nftables_keeper.TableKeeper, "remove", _loaded)


NUMBERS = st.integers(0, 50)
CHECKS = st.tuples(st.just("check"), NUMBERS, st.booleans(), st.sampled_from([0, 1, 2, 3, 5, 255]))
STORY = st.one_of(
    CHECKS,
    CHECKS,
    st.tuples(st.just("file"), st.sampled_from(FILES), st.sampled_from([0, 1, -1, 2, LIMIT, -LIMIT - 1, LIMIT // 253])),
    st.tuples(st.just("address"), st.booleans()),
    st.tuples(st.just("reload"), configurations()),
    st.tuples(st.just("tweak"), st.sampled_from(TWEAKS), NUMBERS),
    st.just(("tweak", "nftables", 0)),
    st.just(KILLED),
)
TROUBLE = st.one_of(
    st.tuples(st.sampled_from(["weight", "remove", "add", "settings", "drop", "flush", "refuse"]), NUMBERS),
    st.just(("accept",)),
)


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
            entry.destinations[RealKey(ip_address("10.9.9.8"), 80)] = Destination(1, Forwarding())
        case "settings":
            entry.service = replace(entry.service, scheduler="sh", timeout=number)
        case "drop":
            del kernel[id]
        case "refuse":
            StrictKernel.refused.add(id)


async def check(worker: CheckerWorker, task: CheckerTask, well: bool, status: int) -> None:
    """`task` makes a check, with its script where it has one."""
    world, result = Outside.world, Result("" if well else "sick")
    task.step = task.state.step
    checker = task.checker
    if isinstance(checker, MiscChecker):
        Outside.status = status
        result = await probe(checker)
    opinion = world.opinion(worker, task)
    worker.scheduler._ended(task, result)
    if task.suspended:
        assert world.opinion(worker, task) == opinion
    elif isinstance(task.config, MiscCheck) and task.config.dynamic and status != 1:
        world.said[name(task)] = status - 2 if status else None


async def reload(worker: CheckerWorker, config: CheckerSlice) -> None:
    world, before = Outside.world, worker.config
    world.remember(worker)
    await worker.apply(config)
    world.follow(before, config)
    world.forget(worker)


async def happens(worker: CheckerWorker, event: Event) -> None:
    world = Outside.world
    match event:
        case ("check", number, well, status):
            tasks = [task for task in worker._all_tasks() if not isinstance(task.config, FileCheck)]
            if tasks:
                await check(worker, tasks[number % len(tasks)], well, status)
        case ("file", name, value):
            world.files[name] = value
            worker._subject_changed(FileCheck, name)
        case ("address", here):
            world.here = here
            worker.addresses.read_all()
        case ("reload", plan):
            await reload(worker, plan.config)
        case ("tweak", kind, number):
            await reload(worker, tweaked(worker.config, kind, number))
        case ("accept",):
            StrictKernel.refused.clear()
        case (kind, number):
            edit(kind, number)
    world.hear(worker)
    for _ in range(2):
        await asyncio.sleep(0)


def look(worker: CheckerWorker) -> None:
    """What the watch does every few seconds."""
    states = worker.states.values()
    worker.table.mend([(state, id) for state in states for id in ipvs.service_ids(state.config, worker.table.marks)])


def ours() -> ipvs.Table:
    return {id: row for id, row in FakeKernel.shared.items() if id != STRANGER}


def check_now(worker: CheckerWorker) -> None:
    """All that must be so while nobody interferes."""
    assert told(ours()) == told(Outside.world.table(worker))
    for key, state in worker.states.items():
        assert state.had_quorum == Outside.world.quorums[key]
        suspended = key.address == HOME and not Outside.world.here
        assert all(task.suspended == suspended for tasks in worker.tasks[key].values() for task in tasks)
    marks = worker.table.marks.values()
    in_file = {entry.fwmark for state in worker.states.values() for entry in state.config.group_entries}
    assert not in_file.intersection(marks)
    within_limits()


def within_limits() -> None:
    rows = [row for entry in FakeKernel.shared.values() for row in entry.destinations.values()]
    assert all(0 <= row.weight <= LIMIT for row in rows)


def sent(worker: CheckerWorker) -> list[ipvs.Op]:
    kernel = worker.table.kernel
    assert isinstance(kernel, StrictKernel)
    return kernel.ops


def lives(events: Sequence[Event]) -> Iterator[list[Event]]:
    """What one worker after the other lives to see."""
    life: list[Event] = []
    for event in events:
        if event == KILLED:
            yield life
            life = []
        else:
            life.append(event)
    yield life


def take_over(worker: CheckerWorker, before: World | None) -> None:
    """What the new worker takes for true."""
    world = Outside.world
    world.ups = {}
    if before is not None:
        world.quorums = dict(before.quorums)
    world.forget(worker)


def tell(plan: Plan, events: Sequence[Event], peaceful: bool) -> None:
    """One story, with as many workers as it takes."""
    FakeKernel.shared = {STRANGER: ipvs.Entry(ipvs.Service("rr"))}
    StrictKernel.refused.clear()
    StrictKernel.dead = False
    Outside.world = World()
    config = plan.config
    reported: dict[object, StateMessage] = {}
    every = list(lives(events))
    for number, life in enumerate(every):
        last = number == len(every) - 1
        now = [config]

        async def history(
            worker: CheckerWorker, life: list[Event] = life, last: bool = last, number: int = number, now: Any = now
        ) -> None:
            take_over(worker, Outside.world if number else None)
            if number and peaceful:
                assert sent(worker) == []
            for event in life:
                if peaceful:
                    check_now(worker)
                within_limits()
                await happens(worker, event)
            now[0] = worker.config
            if last:
                await settles(worker, peaceful)
            elif peaceful:
                check_now(worker)
            StrictKernel.dead = not last

        said = run(config, history, tuple(reported.values()))
        reported.update({merge_key(each): each for each in said if isinstance(each, StateMessage)})
        StrictKernel.dead, config = False, now[0]
    assert FakeKernel.shared == {STRANGER: ipvs.Entry(ipvs.Service("rr"))}


async def settles(worker: CheckerWorker, peaceful: bool) -> None:
    """The table is what it means, and nothing more is sent."""
    StrictKernel.refused.clear()
    if not peaceful:
        look(worker)
    check_now(worker)
    done = len(sent(worker))
    look(worker)
    await worker.apply(worker.config)
    assert sent(worker)[done:] == []
    if peaceful:
        assert worker.table.repaired == 0
    for task in list(worker._all_tasks()):
        for _ in range(0 if isinstance(task.config, FileCheck) or task.suspended else 6):
            await check(worker, task, True, 0)
        assert isinstance(task.config, FileCheck) or task.suspended or task.state.up
    await happens(worker, ("accept",))
    check_now(worker)


SETTINGS = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@SETTINGS
@given(configurations(), st.lists(STORY, min_size=4, max_size=20))
def test_the_table_is_what_health_and_configuration_mean_after_every_event(plan: Plan, events: list[Event]) -> None:
    tell(plan, events, peaceful=True)


@SETTINGS
@given(configurations(), st.lists(STORY | TROUBLE, min_size=4, max_size=20))
def test_after_edits_and_refusals_it_converges_and_rests(plan: Plan, events: list[Event]) -> None:
    tell(plan, events, peaceful=False)


SLOW = CheckTiming(delay_loop=NEVER, delay_before_retry=NEVER, share=False)
ALONE = TcpCheck(timing=SLOW, endpoint=Endpoint(address=ip_address("127.0.0.1"), port=1))
FAILED = replace(ALONE, timing=replace(SLOW, alpha=True))
FILE = FileCheck(timing=SLOW, track_file="a")
SCRIPT = MiscCheck(timing=SLOW, script=Script(argv=("true",)), timeout=1, dynamic=True)


@pytest.mark.parametrize(
    ("checks", "events"),
    [
        pytest.param([ALONE], [("tweak", "alpha", 0), KILLED], id="alpha came with a reload"),
        pytest.param([FAILED], [("tweak", "alpha", 0), KILLED], id="alpha went with a reload"),
        pytest.param([SCRIPT], [("check", 0, True, 3), ("tweak", "weight", 4)], id="said the configured weight"),
        pytest.param([SCRIPT], [("check", 0, True, 0), ("tweak", "weight", 4)], id="said nothing"),
        pytest.param([SCRIPT], [("check", 0, True, 9), ("check", 0, True, 0)], id="says nothing more"),
        pytest.param([ALONE, FILE], [("file", "a", 1), ("file", "a", -2), KILLED], id="quorum within the hysteresis"),
        pytest.param([FILE], [("file", "a", -LIMIT - 1), ("file", "a", 0)], id="least number of a file"),
        pytest.param([FILE], [("file", "a", LIMIT), ("file", "a", 0)], id="greatest number of a file"),
        pytest.param([ALONE], [("check", 0, False, 0), ("check", 0, False, 0), ("tweak", "alpha", 0)], id="still down"),
    ],
)
def test_rare_stories(checks: list[Check], events: list[Event]) -> None:
    """Some that were once told wrongly, and some that chance seldom tells."""
    servers = reals(3, 3, checks=tuple(checks))
    for sorry in (None, SorryServer(address=ip_address("10.1.0.9"), port=80)):
        config = service(1, real_servers=servers, quorum=5, hysteresis=3, sorry_server=sorry)
        tell(Plan(sliced(config)), events, peaceful=True)

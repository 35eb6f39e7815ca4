"""The urls of a site on the schedule: one at a time, shared by those that are at the same one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from keepalived_py.checks.rounds import RoundsState
from keepalived_py.checks.virtual_server import VirtualServerState
from keepalived_py.config.model import CheckTiming, HttpCheck, HttpUrl, RealServer, VirtualServer
from keepalived_py.values import RealKey, ServiceKey
from tests.unit.workers.helpers_schedule import ADDRESS, CONFIG, SLOT, World, live
from workers.checker import describe
from workers.checker.matching import TaskMaker
from workers.checker.probe import CheckFailed
from workers.checker.task import CheckerTask

SERVICE, REAL = ServiceKey(fwmark=1), RealKey(ADDRESS, 80)


class Site:
    """A server with several urls, of which those in `bad` fail; notes which were asked for."""

    def __init__(self, count: int) -> None:
        self.bad: set[int] = set()
        self.asked: list[tuple[float, int]] = []
        self.checkers = tuple(Page(self, number) for number in range(count))

    def add(self, world: World, *, fast: bool = False, **timing: Any) -> CheckerTask:
        """A task that goes round it."""
        times = CheckTiming(**{"delay_loop": 10.0, "warmup": 0.0, "delay_before_retry": 3.0, **timing})
        state = RoundsState(times, len(self.checkers), fast=fast)
        task = CheckerTask(SERVICE, REAL, self.config(times), self.checkers, state)
        world.scheduler.add(task)
        return task

    def config(self, times: CheckTiming) -> HttpCheck:
        urls = tuple(HttpUrl(path=f"/{page.number}") for page in self.checkers)
        return HttpCheck(timing=times, endpoint=CONFIG.endpoint, urls=urls)

    def seconds(self, world: World) -> list[tuple[int, int]]:
        """When, in whole seconds, and which url."""
        return [(int(moment - world.began), number) for moment, number in self.asked]


class Page:
    """One url of a site."""

    name, limit = "TEST", 3.0

    def __init__(self, site: Site, number: int) -> None:
        self.site, self.number = site, number

    async def check(self) -> None:
        self.site.asked.append((asyncio.get_running_loop().time(), self.number))
        if self.number in self.site.bad:
            raise CheckFailed("bad")


def test_urls_are_asked_for_in_turn() -> None:
    async def story(world: World) -> None:
        slow, fast = Site(3), Site(3)
        tasks = slow.add(world), fast.add(world, fast=True)
        await asyncio.sleep(35)
        assert slow.seconds(world) == [(1, 0), (11, 1), (21, 2), (31, 0)]
        assert fast.seconds(world) == [(1, 0), (1, 1), (1, 2), (11, 0), (21, 1), (31, 2)]
        assert [task.runs for task in tasks] == [4, 6]

    live(story)


def test_a_failure_names_its_url_where_there_are_several() -> None:
    async def story(world: World) -> None:
        one, two = Site(1), Site(2)
        one.bad, two.bad = {0}, {1}
        tasks = one.add(world), two.add(world)
        await asyncio.sleep(12)
        assert [task.last and task.last.failure for task in tasks] == ["bad", "/1: bad"]

    live(story)


def test_who_shares_a_check_of_urls_gets_the_results_of_the_url_it_is_at() -> None:
    """The second task begins later and must not be told that url 1 failed before it has asked for url 0."""

    async def story(world: World) -> None:
        site = Site(2)
        site.bad = {1}
        first = site.add(world, retry=0)
        await asyncio.sleep(15)
        assert (first.state.up, first.state.step) == (False, 1)
        second = site.add(world, retry=0)
        await asyncio.sleep(1.5)
        # url 0 for the second one; both want url 1 from then on
        assert site.seconds(world) == [(1, 0), (11, 1), (16, 0)]
        assert (second.runs, first.runs, second.state.up) == (1, 2, True)
        await asyncio.sleep(5)
        assert site.seconds(world)[3:] == [(21, 1)]
        assert (second.runs, first.runs) == (2, 3)
        assert (second.state.up, second.state.step) == (False, 1)
        site.bad = set()
        await asyncio.sleep(31)
        assert site.seconds(world)[4:] == [(31, 1), (41, 0), (51, 1)]
        assert first.state.up
        assert second.state.up

    live(story)


sites = st.lists(st.tuples(st.floats(0.1, 30), st.integers(0, 5), st.booleans()), max_size=25)


@settings(max_examples=60)
@given(st.integers(1, 3), sites, st.booleans())
def test_sharing_changes_nothing_but_the_number_of_checks(count: int, script: list[Any], fast: bool) -> None:
    """Every task of one site knows of each failure as soon as one that asks for itself."""

    async def story(world: World) -> None:
        shared, world.scheduler.sharing.enabled = Site(count), True
        tasks: list[CheckerTask] = []
        for delay, number, well in script:
            if number == 5 or not tasks:
                tasks.append(shared.add(world, retry=1, fast=fast))
            elif number == 4:
                world.scheduler.remove(tasks.pop(number % len(tasks)))
            else:
                (shared.bad.discard if well else shared.bad.add)(number % count)
            await asyncio.sleep(delay)
            # nobody waits beyond its own time, whatever the others want
            assert all(task.due > world.now - (2 + count * len(tasks)) * SLOT for task in tasks)
        shared.bad = set(range(count))
        await asyncio.sleep(1 + (count + 2) * 10 + 2 * 3)
        assert not any(task.state.up for task in tasks)
        shared.bad = set()
        await asyncio.sleep((count + 3) * 10)
        assert all(task.state.up for task in tasks)

    live(story)


def test_a_reload_goes_on_with_the_same_url() -> None:
    """Where the urls are the same; other times and fast_recovery change nothing in what is known."""

    async def story(world: World) -> None:
        site = Site(2)
        site.bad = {1}
        maker = TaskMaker(world.scheduler, lambda check, real: site.checkers)
        config = site.config(CheckTiming(delay_loop=10.0, warmup=0.0))
        (old,) = tasks = maker.new(SERVICE, RealServer(address=ADDRESS, port=80, checks=(config,)))
        await asyncio.sleep(15)
        assert (old.state.up, old.state.step) == (False, 1)
        for changed in (
            replace(config, fast_recovery=True),
            replace(config, fast_recovery=True, timing=replace(config.timing, delay_loop=5.0)),
        ):
            (new,) = tasks = maker.matched(SERVICE, RealServer(address=ADDRESS, port=80, checks=(changed,)), tasks, 1)
            assert new is not old
            assert (new.state.up, new.state.step) == (False, 1)
        site.bad, site.asked = set(), []
        await asyncio.sleep(10)
        assert [number for _, number in site.asked] == [1, 0, 1, 0]
        assert new.state.up
        # another url makes it another checker, which begins as down where the server is
        site.bad = {0}
        await asyncio.sleep(20)
        other = replace(changed, urls=(HttpUrl(path="/other"), *changed.urls[1:]))
        (new,) = maker.matched(SERVICE, RealServer(address=ADDRESS, port=80, checks=(other,)), tasks, 1)
        assert (new.state.up, new.state.step, new.state.has_run) == (False, 0, False)

    live(story)


def test_a_dump_says_which_url_is_looked_at() -> None:
    def shown(task: CheckerTask) -> str:
        state = VirtualServerState(VirtualServer(key=SERVICE, real_servers=(RealServer(address=ADDRESS, port=80),)))
        return list(describe.servers({SERVICE: state}, {SERVICE: {REAL: [task]}}, {}))[-1].strip()

    async def story(world: World) -> None:
        site = Site(2)
        one, two = Site(1).add(world), site.add(world)
        assert shown(one) == "TEST: up, last: not checked yet"
        assert shown(two) == "TEST: up, last: not checked yet, next url: /0"
        await asyncio.sleep(2)
        site.bad = {1}
        assert shown(two) == "TEST: up, last: well, next url: /1"
        await asyncio.sleep(11)
        assert shown(two) == "TEST: down, last: /1: bad, failed url: /1"

    live(story)

"""When checks begin: slots, intervals, retries, spread. Time is the loop's own and passes at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.workers.helpers_schedule import SLOT, Checker, World, live
from workers.checker.probe import Result
from workers.checker.task import AT_ONCE, CheckerTask


def test_the_first_check_comes_after_a_second_and_the_next_an_interval_after_the_end() -> None:
    async def story(world: World) -> None:
        quick, slow, script = Checker(), Checker(takes=2), Checker(takes=2)
        world.add(quick)
        world.add(slow)
        world.add(script, from_start=True)
        await asyncio.sleep(40)
        for checker, interval in ((quick, 10), (slow, 12), (script, 10)):
            begun = [moment - world.began for moment in checker.begun]
            assert begun[0] == pytest.approx(1, abs=2 * SLOT)
            assert [after - before for before, after in pairwise(begun)] == pytest.approx(
                [interval] * (len(begun) - 1), abs=2 * SLOT
            )
            assert len(begun) == 1 + 39 // interval

    live(story)


def test_a_script_that_takes_longer_than_its_interval_is_run_again_at_once() -> None:
    async def story(world: World) -> None:
        script = Checker(takes=2.5)
        world.add(script, from_start=True, delay_loop=1.0)
        await asyncio.sleep(12)
        gaps = [after - before for before, after in pairwise(script.begun)]
        assert gaps == pytest.approx([2.5] * len(gaps), abs=2 * SLOT)

    live(story)


def test_failures_are_retried_sooner_while_it_counts_as_well() -> None:
    async def story(world: World) -> None:
        checker = Checker(answers="+--+---++")
        world.add(checker, retry=2, delay_before_retry=3.0)
        await asyncio.sleep(80)
        gaps = [after - before for before, after in pairwise(checker.begun)]
        assert gaps == pytest.approx([10, 3, 3, 10, 3, 3, 10, 10, 10, 10], abs=2 * SLOT)

    live(story)


def test_a_check_that_was_not_made_is_made_an_interval_later() -> None:
    async def story(world: World) -> None:
        checker = Checker(answers="?+")
        task = world.add(checker, retry=2, delay_before_retry=3.0)
        await asyncio.sleep(12)
        assert checker.begun[1] - checker.begun[0] == pytest.approx(10, abs=2 * SLOT)
        assert (task.state.up, task.state.failures) == (True, 0)

    live(story)


def test_a_check_ends_at_its_limit() -> None:
    async def story(world: World) -> None:
        world.add(Checker(takes=60))
        await asyncio.sleep(5)
        ((moment, _, result),) = world.told
        assert moment - world.began == pytest.approx(4, abs=2 * SLOT)
        assert result == Result("no answer within 3s")

    live(story)


@pytest.mark.parametrize("number", [7, 400])
def test_first_checks_are_spread_evenly_over_the_warm_up(number: int) -> None:
    async def story(world: World) -> None:
        checkers = [Checker() for _ in range(number)]
        for checker in checkers:
            world.add(checker, warmup=10.0)
        await asyncio.sleep(11.01)
        first = [checker.begun[0] - world.began - 1 for checker in checkers]
        assert all(0 <= delay <= 10 + 2 * SLOT for delay in first)
        shares = Counter(int(delay / 2.5) for delay in first)
        assert all(abs(shares[quarter] - number / 4) <= 2 for quarter in range(4))

    live(story)


def test_the_loop_turns_between_checks_that_are_all_due() -> None:
    async def story(world: World) -> None:
        turns: list[int] = []
        checkers = [Checker() for _ in range(5 * AT_ONCE)]
        for checker in checkers:
            world.add(checker)

        def turn() -> None:
            turns.append(sum(bool(checker.begun) for checker in checkers))
            loop.call_soon(turn)

        loop = asyncio.get_running_loop()
        await asyncio.sleep(0.999)
        handle = loop.call_soon(turn)
        while turns.count(len(checkers)) == 0:
            await asyncio.sleep(0)
            loop._selector.moment += SLOT / 10  # type: ignore[attr-defined]
        handle.cancel()
        steps = [after - before for before, after in pairwise(turns)]
        assert max(steps) == AT_ONCE

    live(story)


def test_what_was_removed_is_not_heard_of_again() -> None:
    async def story(world: World) -> None:
        waiting, running, stays = world.add(), world.add(Checker(takes=2)), world.add()
        world.scheduler.remove(waiting)
        await asyncio.sleep(2)
        world.scheduler.remove(running)
        await asyncio.sleep(30)
        assert {task.number for _, task, _ in world.told} == {stays.number}

    live(story)


def test_one_that_is_removed_by_a_result_of_its_own_is_not_scheduled_again() -> None:
    async def story(world: World) -> None:
        task = world.add()
        finished = world.scheduler._finished

        def remove(task: CheckerTask, result: Result) -> None:
            finished(task, result)
            world.scheduler.remove(task)

        world.scheduler._finished = remove
        await asyncio.sleep(30)
        assert [told for _, told, _ in world.told] == [task]

    live(story)


def test_followers_get_the_results_of_one_check_and_inherit_it() -> None:
    async def story(world: World) -> None:
        checker = Checker()
        tasks = [world.add(checker, delay_loop=delay) for delay in (10.0, 4.0, 7.0)]
        await asyncio.sleep(6)
        # as often as the most eager one wants it
        assert [moment - world.began for moment in checker.begun] == pytest.approx([1, 5], abs=3 * SLOT)
        assert [task.runs for task in tasks] == [2, 2, 2]
        world.scheduler.remove(tasks[0])
        world.scheduler.remove(tasks[1])
        await asyncio.sleep(14)
        assert [task.runs for task in tasks] == [2, 2, 4]
        assert [moment - world.began for moment in checker.begun] == pytest.approx([1, 5, 9, 16], abs=5 * SLOT)

    live(story)


def test_a_retry_that_was_not_made_waits_for_the_next_interval() -> None:
    async def story(world: World) -> None:
        checker = Checker(answers="+-?-+")
        task = world.add(checker, retry=2, delay_before_retry=3.0)
        await asyncio.sleep(32)
        gaps = [after - before for before, after in pairwise(checker.begun)]
        assert gaps == pytest.approx([10, 3, 10, 3], abs=2 * SLOT)
        assert task.state.up

    live(story)


def test_without_sharing_each_makes_its_own() -> None:
    async def story(world: World) -> None:
        checker = Checker()
        tasks = [world.add(checker) for _ in range(3)]
        await asyncio.sleep(2)
        assert len(checker.begun) == 1
        world.scheduler.share(False, tasks)
        await asyncio.sleep(2)
        assert len(checker.begun) == 4
        world.scheduler.share(True, tasks)
        await asyncio.sleep(2)
        assert len(checker.begun) == 5

    live(story)


def test_who_counts_again_is_checked_as_at_a_start() -> None:
    async def story(world: World) -> None:
        checker = Checker()
        task = world.add(checker, delay_loop=1000.0)
        await asyncio.sleep(2)
        world.scheduler.hasten(task)
        await asyncio.sleep(2)
        assert [moment - world.began for moment in checker.begun] == pytest.approx([1, 3], abs=3 * SLOT)

    live(story)


def test_after_a_stop_nothing_begins() -> None:
    async def story(world: World) -> None:
        running, waiting = Checker(takes=2), Checker()
        world.add(running)
        world.add(waiting, warmup=5.0)
        await asyncio.sleep(1.1)
        await world.scheduler.stop()
        count = len(waiting.begun)
        world.add(waiting)
        await asyncio.sleep(30)
        assert (len(running.begun), len(waiting.begun)) == (1, count)
        assert not any(task.checker is running for _, task, _ in world.told)

    live(story)


orders = st.lists(
    st.tuples(st.sampled_from(("add", "remove", "wait")), st.integers(0, 9), st.floats(0, 9)), max_size=30
)


@settings(max_examples=60)
@given(orders)
def test_whoever_is_there_is_checked_at_its_interval_whatever_comes_and_goes(script: list[Any]) -> None:
    """Nothing is forgotten, and the timer is always set for the earliest."""

    async def story(world: World) -> None:
        there: list[tuple[float, Checker, CheckerTask]] = []
        for what, number, delay in script:
            if what == "add":
                checker = Checker(takes=number / 10)
                there.append((world.now, checker, world.add(checker, delay_loop=1.0 + number, warmup=delay)))
            elif what == "remove" and there:
                world.scheduler.remove(there.pop(number % len(there))[2])
            else:
                await asyncio.sleep(delay)
        await asyncio.sleep(0.001)
        for added, checker, task in there:
            timing = task.state.timing
            moments = [added + timing.warmup - timing.delay_loop + 1, *checker.begun, world.now]
            most = timing.delay_loop + checker.takes + 4 * SLOT
            assert all(after - before <= most for before, after in pairwise(moments))

    live(story)

"""Checks of several steps: the order of urls and the pauses between them (checker-behaviour.md 4, HTTP_GET)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepalived_py.checks.rounds import RoundsState
from keepalived_py.checks.state import CheckerState
from keepalived_py.config.model import CheckTiming

TIMES = {"delay_loop": 10.0, "delay_before_retry": 3.0, "retry": 2}


def rounds(steps: int = 2, fast: bool = False, **timing: Any) -> RoundsState:
    return RoundsState(CheckTiming(**{**TIMES, **timing}), steps, fast=fast)


def story(state: RoundsState, results: str) -> str:
    """Of each result the step, its sign, U or D where the opinion changed, and the pause that follows."""
    out = []
    for sign in results:
        step = state.step + 1
        changed = state.record(sign == "+")
        opinion = ("U" if state.up else "D") if changed else ""
        out.append(f"{step}{sign}{opinion}{state.next_delay:g}")
    return " ".join(out)


@pytest.mark.parametrize(
    ("state", "results", "told"),
    [
        # one url each time, the next after delay_loop
        (rounds(), "+++++", "1+10 2+10 1+10 2+10 1+10"),
        (rounds(3), "++++", "1+10 2+10 3+10 1+10"),
        # the same url is retried, and a success clears the counter
        (rounds(), "++--+--+", "1+10 2+10 1-3 1-3 1+10 2-3 2-3 2+10"),
        # exhausted: only that url until it passes, then a complete round from the first
        (rounds(), "+++---" + "--+++", "1+10 2+10 1+10 2-3 2-3 2-D10 2-10 2-10 2+10 1+10 2+U10"),
        # before a first round is complete retries are skipped, whichever url fails
        (rounds(), "-", "1-D10"),
        (rounds(), "+-", "1+10 2-D10"),
        # while down every failure is known at once, those of another url too
        (rounds(), "--+++" + "-+", "1-D10 1-10 1+10 1+10 2+U10 1-3 1+10"),
        (rounds(), "-++-+++", "1-D10 1+10 1+10 2-10 2+10 1+10 2+U10"),
        # the pause of a known failed url is the longer one
        (rounds(delay_before_retry=30.0, retry=0), "++--+++", "1+10 2+10 1-D30 1-30 1+10 1+10 2+U10"),
        # one url alone: it must pass and then a round must
        (rounds(1), "+---+++", "1+10 1-3 1-3 1-D10 1+10 1+U10 1+10"),
        # alpha: down until a first round is complete
        (rounds(alpha=True), "+++", "1+10 2+U10 1+10"),
        (rounds(alpha=True), "+-+++", "1+10 2-10 2+10 1+10 2+U10"),
        # fast_recovery: at once in the first round, and in the one that brings it up
        (rounds(3, fast=True), "++++", "1+0 2+0 3+10 1+10"),
        (rounds(2, fast=True, alpha=True), "+++", "1+0 2+U10 1+10"),
        (rounds(2, fast=True), "++---" + "-+++", "1+0 2+10 1-3 1-3 1-D10 1-10 1+0 1+0 2+U10"),
        # a url that fails on the way up is waited for, not asked for without pause
        (rounds(2, fast=True), "-++--+++", "1-D10 1+0 1+0 2-10 2-10 2+0 1+0 2+U10"),
        # rise counts rounds, an interval apart
        (rounds(2, rise=2), "-" + "+++++", "1-D10 1+10 1+10 2+10 1+10 2+U10"),
        (rounds(2, fast=True, rise=2), "++---" + "+++++", "1+0 2+10 1-3 1-3 1-D10 1+0 1+0 2+10 1+0 2+U10"),
        (rounds(2, rise=2), "-+++-" + "+++++", "1-D10 1+10 1+10 2+10 1-10 1+10 1+10 2+10 1+10 2+U10"),
    ],
)
def test_order_and_pauses_of_urls(state: RoundsState, results: str, told: str) -> None:
    assert story(state, results) == told


def test_an_equal_checker_goes_on_with_the_same_url() -> None:
    old = rounds(3)
    assert story(old, "++++---").endswith(" 2-3 2-3 2-D10")
    new = rounds(3, retry=0)
    new.adopt(old)
    assert (new.up, new.step, new.broken, new.proven, new.has_run) == (False, 1, True, True, True)
    assert story(new, "-+++") == "2-10 2+10 1+10 2+10"


def test_what_was_no_check_of_urls_says_nothing_of_the_step() -> None:
    old, new = CheckerState(CheckTiming()), rounds(3)
    old.record(False)
    new.adopt(old)
    assert (new.up, new.step) == (False, 0)


results = st.lists(st.booleans(), max_size=60)


@given(results, st.integers(1, 4), st.booleans(), st.booleans(), st.integers(0, 3), st.integers(1, 3))
def test_who_comes_up_has_passed_every_url_and_none_waits_for_nothing(
    script: list[bool], steps: int, fast: bool, alpha: bool, retry: int, rise: int
) -> None:
    state = rounds(steps, fast, alpha=alpha, retry=retry, rise=rise)
    passed: list[int] = []
    for success in script:
        step, was_broken, was_up, failures = state.step, state.broken, state.up, state.failures
        changed = state.record(success)
        passed = [*passed, step] if success and not was_broken else []
        # the order: the next one, the same again after a failure, the first after one that was known to have failed
        following = 0 if was_broken else (step + 1) % steps
        assert state.step == (following if success else step)
        if changed and state.up:
            assert passed[-steps * rise :] == list(range(steps)) * rise
        if changed and not state.up:
            assert failures in ((retry,) if state.proven else (0, retry))
        assert state.broken == (not success and not state.up)
        assert changed == (state.up != was_up)
        if state.next_delay == 0:
            assert fast
            assert success
        elif not success:
            assert state.next_delay == (3 if state.up else 10)
        else:
            assert state.next_delay == 10


@given(results, st.integers(0, 3), st.integers(1, 3))
def test_without_a_known_failed_url_one_url_is_as_any_other_checker(script: list[bool], retry: int, rise: int) -> None:
    """But for the pass that a failed url needs before its round."""
    timing = CheckTiming(**{**TIMES, "retry": retry, "rise": rise})
    one, other = RoundsState(timing, 1), CheckerState(timing)
    for success in script:
        if success and one.broken:
            assert not one.record(True)
        assert one.record(success) == other.record(success)
        assert (one.up, one.failures, one.next_delay) == (other.up, other.failures, other.next_delay)

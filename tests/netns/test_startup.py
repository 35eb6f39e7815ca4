"""vrrp_startup_delay and vrrp_delay_after_boot: when the first advert comes, and what a reload makes of a delay."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.netns.conftest import Pair
from tests.netns.rig import OURS, THEIRS, Daemon, Frame, patience
from tests.netns.test_daemon import fast
from tests.netns.test_vrrp_takeover import VIP4

pytestmark = pytest.mark.netns

DOWN = 0.2 * (3 + 106 / 256)
"""Master down interval of fast(150), seconds."""
GROUP = bytes((224, 0, 0, 18))


def delayed(text: str, seconds: float, keyword: str = "vrrp_startup_delay") -> str:
    return f"global_defs {{\n {keyword} {seconds}\n}}\n{text}"


def start(pair: Pair, text: str, program: str = OURS) -> tuple[Daemon, float]:
    """A daemon and when its instance began to listen, on CLOCK_MONOTONIC: the kernel reports that at once."""
    wire = pair.lan.capture()

    def reports() -> list[Frame]:
        return [each for each in wire.frames_of(2) if each.source == "10.0.0.1" and GROUP in each.data]

    daemon = pair.one.start(program, text)
    pair.rig.wait(reports, 5)
    return daemon, reports()[0].time


def first_advert(pair: Pair, text: str, program: str = OURS) -> float:
    """Seconds from the beginning to the first advert."""
    wire = pair.lan.capture()
    _, started = start(pair, text, program)
    pair.rig.wait(lambda: wire.adverts("10.0.0.1"), 8)
    return wire.adverts("10.0.0.1")[0].time - started


@pytest.mark.parametrize("program", [OURS, THEIRS])
def test_the_timer_counts_from_the_end_of_the_delay(pair: Pair, program: str) -> None:
    assert first_advert(pair, delayed(fast(150), 2), program) == pytest.approx(2 + DOWN, abs=patience(0.15))


def test_an_owner_comes_at_the_end_of_it(pair: Pair) -> None:
    text = fast(255).replace("state BACKUP", "state MASTER")
    assert first_advert(pair, delayed(text, 1.5)) == pytest.approx(1.5, abs=patience(0.15))


def test_a_boot_long_ago_delays_nothing(pair: Pair) -> None:
    text = delayed(fast(150), 0.001, "vrrp_delay_after_boot")
    assert first_advert(pair, text) == pytest.approx(DOWN, abs=patience(0.15))


def test_what_is_heard_meanwhile_counts_for_nothing(pair: Pair) -> None:
    """A master that leaves before the end of the delay: neither its adverts nor its farewell are obeyed."""
    other = pair.two.start(OURS, fast(200))
    pair.rig.wait(lambda: pair.two.has(VIP4), 4)
    _, started = start(pair, delayed(fast(150), 3))
    time.sleep(1)
    other.stop()
    pair.rig.holds(lambda: not pair.one.has(VIP4), 1.8)
    pair.rig.wait(lambda: pair.one.has(VIP4), 3)
    assert time.monotonic() - started == pytest.approx(3 + DOWN, abs=patience(0.2))


def test_a_master_that_is_still_there_stays(pair: Pair) -> None:
    pair.two.start(OURS, fast(200))
    pair.rig.wait(lambda: pair.two.has(VIP4), 4)
    pair.one.start(OURS, delayed(fast(150), 1))
    pair.rig.holds(lambda: not pair.one.has(VIP4), 3)


def reload(pair: Pair, daemon: Daemon, text: str, number: int = 2) -> None:
    daemon.rewrite(text)
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: f"configuration {number}" in daemon.log, 3)


@pytest.mark.parametrize(("first", "second"), [(30, 3), (2, 4)])
def test_a_reload_moves_the_end_by_the_difference(pair: Pair, first: float, second: float) -> None:
    wire = pair.lan.capture()
    daemon, started = start(pair, delayed(fast(150), first))
    time.sleep(1)
    reload(pair, daemon, delayed(fast(150), second))
    pair.rig.wait(lambda: wire.adverts("10.0.0.1"), 8)
    assert wire.adverts("10.0.0.1")[0].time - started == pytest.approx(second + DOWN, abs=patience(0.15))


def test_a_delay_that_is_over_does_not_come_back(pair: Pair) -> None:
    daemon = pair.one.start(OURS, delayed(fast(150), 0.5))
    pair.rig.wait(lambda: pair.one.has(VIP4), 4)
    wire = pair.lan.capture()
    reload(pair, daemon, delayed(fast(150), 60))
    time.sleep(1)
    assert pair.one.has(VIP4)
    assert len(wire.adverts("10.0.0.1")) >= 4


def test_a_killed_worker_does_not_wait_once_more(pair: Pair) -> None:
    """It counts from the start of the daemon, which is a little earlier than that of its predecessor."""
    wire, spawned = pair.lan.capture(), time.monotonic()
    daemon, started = start(pair, delayed(fast(150), 5))
    time.sleep(1)
    os.kill(daemon.pid_of("vrrp"), signal.SIGKILL)
    pair.rig.wait(lambda: wire.adverts("10.0.0.1"), 15)
    first = wire.adverts("10.0.0.1")[0].time - DOWN
    assert first - spawned > 4.98  # the clock of processes has ticks of 10 ms
    assert first - started < 5.2

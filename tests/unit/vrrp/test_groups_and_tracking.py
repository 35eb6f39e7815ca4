"""Sync groups, weights and scripts (vrrp-behaviour.md 6 and 8)."""

from __future__ import annotations

from typing import Any

import pytest

from keepalived_py.config.model import Script, Track, VrrpScript
from keepalived_py.vrrp.events import (
    FaultCleared,
    FaultRaised,
    GroupAnnounced,
    GroupDemoted,
    GroupFaulted,
    GroupPromoted,
    GroupRecovered,
    Shutdown,
    Startup,
    TimerExpired,
)
from keepalived_py.vrrp.machine import VirtualRouter
from keepalived_py.vrrp.states import State, Timer
from keepalived_py.vrrp.sync_group import GroupTransition, SyncGroup
from keepalived_py.vrrp.tracking import ScriptState, effective_priority, is_fault, next_run, points
from tests.unit.vrrp.builders import ME, advert, instance


class Cluster:
    """A group and its members; events run until nothing follows."""

    def __init__(self, *names: str) -> None:
        self.routers = {name: VirtualRouter(instance(name=name), ME, grouped=True) for name in names}
        self.group = SyncGroup("G", self.routers)
        self.heard: list[tuple[str, Any]] = []

    def post(self, name: str, event: Any, now: float = 0.0) -> None:
        waiting = [(name, event)]
        while waiting:
            member, what = waiting.pop(0)
            effects = self.routers[member].step(what, now)
            told = self.group.absorb(member, effects)
            if isinstance(what, FaultCleared):
                told += self.group.recovery()
            self.heard += told
            waiting += told

    @property
    def states(self) -> list[str]:
        return [router.state.value for router in self.routers.values()]


def started(*names: str) -> Cluster:
    cluster = Cluster(*names)
    for name in names:
        cluster.post(name, Startup())
    return cluster


def promoted() -> Cluster:
    cluster = started("a", "b", "c")
    for name in cluster.routers:
        cluster.post(name, TimerExpired(Timer.MASTER_DOWN), 4.0)
    return cluster


def test_all_members_wait_for_the_last() -> None:
    cluster = started("a", "b", "c")
    assert cluster.group.settle() == GroupTransition("G", State.INIT, State.BACKUP)
    cluster.post("a", TimerExpired(Timer.MASTER_DOWN), 4.0)
    cluster.post("b", TimerExpired(Timer.MASTER_DOWN), 4.0)
    assert cluster.states == ["BACKUP"] * 3
    cluster.post("c", TimerExpired(Timer.MASTER_DOWN), 4.0)
    assert cluster.states == ["MASTER"] * 3
    assert cluster.group.settle() == GroupTransition("G", State.BACKUP, State.MASTER)
    assert cluster.group.settle() is None


def test_one_that_yields_takes_all_along() -> None:
    cluster = promoted()
    cluster.post("b", advert(200), 5.0)
    assert cluster.states == ["BACKUP"] * 3
    reason = "b left MASTER: Master received advert from 192.0.2.5 with higher priority 200, ours 100"
    assert cluster.heard[-3:-1] == [("a", GroupDemoted(reason)), ("c", GroupDemoted(reason))]


def test_one_fault_takes_all_along_and_all_return_together() -> None:
    cluster = promoted()
    cluster.post("a", FaultRaised("x", "x is bad"), 5.0)
    assert cluster.states == ["FAULT"] * 3
    assert cluster.group.settle() == GroupTransition("G", State.INIT, State.FAULT)
    cluster.post("b", FaultRaised("y", "y is bad"), 5.0)
    cluster.post("a", FaultCleared("x"), 6.0)
    assert cluster.states == ["FAULT"] * 3
    cluster.post("b", FaultCleared("y"), 7.0)
    assert cluster.states == ["BACKUP"] * 3
    assert any(isinstance(event, GroupFaulted) for _, event in cluster.heard)
    assert any(isinstance(event, GroupRecovered) for _, event in cluster.heard)


def test_all_announce_when_one_heard_a_lower_priority() -> None:
    cluster = promoted()
    cluster.heard.clear()
    cluster.post("a", advert(50), 5.0)
    assert cluster.heard == [("b", GroupAnnounced()), ("c", GroupAnnounced())]


def test_a_stopped_member_changes_nothing_for_the_others() -> None:
    cluster = promoted()
    cluster.post("a", Shutdown(), 5.0)
    assert cluster.states == ["INIT", "MASTER", "MASTER"]


def test_a_group_has_the_state_of_a_member_that_is_not_master() -> None:
    cluster = promoted()
    cluster.group.settle()
    cluster.routers["a"].state = State.FAULT
    assert cluster.group.settle() == GroupTransition("G", State.MASTER, State.FAULT)


def test_a_new_member_joins_a_master_group_without_a_ripple() -> None:
    cluster = promoted()
    cluster.routers["d"] = VirtualRouter(instance(name="d"), ME, grouped=True)
    cluster.group = SyncGroup("G", cluster.routers)
    cluster.heard.clear()
    cluster.post("d", Startup(), 5.0)
    assert cluster.states == ["MASTER", "MASTER", "MASTER", "BACKUP"]
    cluster.post("d", TimerExpired(Timer.MASTER_DOWN), 9.0)
    assert cluster.states == ["MASTER"] * 4
    assert [event for _, event in cluster.heard] == [GroupPromoted("master down timer expired")]


@pytest.mark.parametrize(
    ("weight", "reverse", "good", "adds"),
    [
        (10, False, True, 10),
        (10, False, False, 0),
        (-10, False, True, 0),
        (-10, False, False, -10),
        (10, True, True, -10),
        (10, True, False, 0),
        (-10, True, False, 10),
        (-10, True, True, 0),
        (0, False, False, 0),
        (10, False, None, 0),
    ],
)
def test_what_a_track_adds(weight: int, reverse: bool, good: bool | None, adds: int) -> None:
    assert points(Track(kind="script", name="x", weight=weight, reverse=reverse), good) == adds


@pytest.mark.parametrize(
    ("weight", "reverse", "good", "fault"),
    [
        (0, False, False, True),
        (0, False, True, False),
        (0, True, True, True),
        (0, False, None, True),
        (5, False, False, False),
    ],
)
def test_what_a_track_faults(weight: int, reverse: bool, good: bool | None, fault: bool) -> None:
    assert is_fault(Track(kind="interface", name="x", weight=weight, reverse=reverse), good) is fault


@pytest.mark.parametrize(("base", "weight", "value"), [(100, 20, 120), (250, 20, 254), (10, -20, 1), (255, -20, 255)])
def test_effective_priority_keeps_its_limits(base: int, weight: int, value: int) -> None:
    track = Track(kind="script", name="x", weight=weight)
    found = effective_priority(base, [track], lambda each: weight > 0)
    assert found.value == value
    assert str(found).endswith(f"= {value}")


def script(rise: int, fall: int, init_fail: bool = False) -> ScriptState:
    return ScriptState(VrrpScript(name="x", script=Script(argv=("x",)), rise=rise, fall=fall, init_fail=init_fail))


@pytest.mark.parametrize(
    ("rise", "fall", "init_fail", "results", "states"),
    [
        (1, 1, False, "+-+", "UDU"),
        (3, 2, False, "+-+--+++", "UUUUDDDU"),
        (2, 3, False, "-++---", "DDUUUD"),
        (2, 1, False, "-+-++", "DDDDU"),
        (2, 1, True, "+++", "DUU"),
        (1, 1, True, "-+", "DU"),
    ],
)
def test_rise_and_fall(rise: int, fall: int, init_fail: bool, results: str, states: str) -> None:
    made = script(rise, fall, init_fail)
    assert made.up is None  # nothing counts before the first result, with init_fail neither
    seen = []
    for result in results:
        before = made.up
        assert made.record(result == "+") is (made.up is not before)
        seen.append("U" if made.up else "D")
    assert "".join(seen) == states


@pytest.mark.parametrize(
    ("ended", "next_due", "missed"),
    [(10.0, 12.0, 0), (11.9, 12.0, 0), (12.0, 12.0, 0), (12.1, 14.0, 1), (17.0, 18.0, 3)],
)
def test_starts_that_fall_into_a_run_are_left_out(ended: float, next_due: float, missed: int) -> None:
    assert next_run(10.0, 2.0, ended) == (next_due, missed)


@pytest.mark.parametrize(("ended", "next_due"), [(11.0, 12.0), (12.1, 12.1), (17.0, 17.0)])
def test_a_script_that_hung_is_run_again_at_once(ended: float, next_due: float) -> None:
    assert next_run(10.0, 2.0, ended, timed_out=True) == (next_due, 0)


def test_a_script_keeps_its_state_across_a_reload() -> None:
    made = script(1, 1)
    made.record(True)
    made.reconfigure(script(3, 3).config)
    assert (made.up, made.count) == (True, 5)
    made = script(5, 1)
    for result in (False, True, True, True):
        made.record(result)
    made.reconfigure(script(2, 1).config)
    assert (made.up, made.count) == (False, 1)

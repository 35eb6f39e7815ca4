"""Start-up delay, waiting for results, two owners, stalls, strictness: vrrp-behaviour.md 1, 7, 8, 14 and 15."""

from __future__ import annotations

from typing import Any

import pytest

from keepalived_py.config.model import GarpSettings, Route
from keepalived_py.values import Centiseconds
from keepalived_py.vrrp.effects import (
    AnnounceExtra,
    AnnounceSource,
    AnnounceVips,
    Effect,
    LowerPriorityHeard,
    Note,
    PriorityShifted,
    SendAdvert,
    SetVips,
    Transition,
    WantMaster,
)
from keepalived_py.vrrp.events import (
    AdvertReceived,
    ConfigChanged,
    FaultCleared,
    FaultRaised,
    GroupFaulted,
    GroupHeld,
    GroupPromoted,
    GroupRecovered,
    PriorityChanged,
    Shutdown,
    StartDelayed,
    Startup,
    TimerExpired,
)
from keepalived_py.vrrp.machine import IllegalEvent, VirtualRouter
from keepalived_py.vrrp.states import State, Timer
from keepalived_py.vrrp.sync_group import SyncGroup
from tests.unit.vrrp.builders import HIGHER, LOWER, ME, advert, instance

ADVERT, DOWN = TimerExpired(Timer.ADVERT), TimerExpired(Timer.MASTER_DOWN)
OWNER = {"priority": 255, "wants_master": True}


def router(*, grouped: bool = False, **changes: Any) -> VirtualRouter:
    return VirtualRouter(instance(**changes), ME, grouped=grouped)


def started(**changes: Any) -> VirtualRouter:
    made = router(**changes)
    made.step(Startup(), 0.0)
    return made


def master(**changes: Any) -> VirtualRouter:
    made = started(**changes)
    if made.state is not State.MASTER:
        made.step(DOWN, 10.0)
    made.deadlines[Timer.ADVERT] = 11.0
    return made


def silent(effects: list[Effect]) -> list[Effect]:
    return [effect for effect in effects if not isinstance(effect, Note)]


# start-up delay ---------------------------------------------------------------------------------------------------


def test_timers_count_from_the_end_of_the_startup_delay() -> None:
    made = router()
    made.step(Startup(not_before=30.0), 0.0)
    assert made.deadline == pytest.approx(33.609375)
    assert made.step(advert(0), 10.0) == []
    assert made.step(advert(200), 20.0) == []
    assert made.deadline == pytest.approx(33.609375)
    made.step(advert(200), 31.0)
    assert made.deadline == pytest.approx(34.609375)


def test_an_owner_waits_for_the_end_of_the_startup_delay() -> None:
    made = router(**OWNER)
    made.step(Startup(not_before=30.0), 0.0)
    assert (made.state, made.deadline) == (State.BACKUP, 30.0)
    assert made.step(DOWN, 30.0)[0] == SendAdvert(255)


@pytest.mark.parametrize(("end", "deadline"), [(50.0, 53.609375), (12.0, 15.609375), (5.0, 13.609375)])
def test_a_reload_moves_the_end_of_a_running_delay(end: float, deadline: float) -> None:
    made = router()
    made.step(Startup(not_before=30.0), 0.0)
    assert made.step(StartDelayed(end), 10.0) == []
    assert made.deadline == pytest.approx(deadline)
    assert made.step(advert(200), max(end, 10.0) - 0.1) == []
    assert made.step(advert(200), max(end, 10.0) + 1) == []
    assert made.deadline == pytest.approx(deadline + 1)


def test_a_delay_that_is_over_stays_over() -> None:
    made = router()
    made.step(Startup(not_before=30.0), 0.0)
    made.step(StartDelayed(90.0), 31.0)
    assert (made.not_before, made.deadline) == (30.0, pytest.approx(33.609375))


def test_an_owner_that_waits_for_the_end_moves_with_it() -> None:
    made = router(**OWNER)
    made.step(Startup(not_before=30.0), 0.0)
    made.step(StartDelayed(20.0), 10.0)
    assert made.deadline == 20.0


# extra interfaces -------------------------------------------------------------------------------------------------


def test_extra_interfaces_have_a_period_of_their_own() -> None:
    made = master(garp=GarpSettings(extra_if=30))
    assert made.deadlines[Timer.EXTRA] == 40.0
    assert made.step(TimerExpired(Timer.EXTRA), 40.0) == [AnnounceExtra()]
    assert made.deadlines[Timer.EXTRA] == 70.0
    made.step(Shutdown(), 41.0)
    assert made.deadlines == {}


def test_a_reload_changes_that_period() -> None:
    made = master()
    assert Timer.EXTRA not in made.deadlines
    made.step(ConfigChanged(instance(garp=GarpSettings(extra_if=30))), 12.0)
    assert made.deadlines[Timer.EXTRA] == 42.0
    made.step(ConfigChanged(instance(garp=GarpSettings(extra_if=30), priority=101)), 15.0)
    assert made.deadlines[Timer.EXTRA] == 42.0
    made.step(ConfigChanged(instance()), 16.0)
    assert Timer.EXTRA not in made.deadlines


# waiting for first results ----------------------------------------------------------------------------------------


def test_one_that_waits_for_a_result_starts_silently_and_late() -> None:
    made = router()
    assert made.step(FaultRaised("script x", "no result", waiting=True), 0.0) == []
    assert made.step(Startup(), 0.0) == []
    assert made.state is State.INIT
    assert made.step(FaultCleared("script x"), 2.0) == [Transition(State.INIT, State.BACKUP, "startup")]
    assert made.deadline == pytest.approx(5.609375)


def test_a_bad_first_result_is_a_fault() -> None:
    made = router()
    made.step(FaultRaised("script x", "no result", waiting=True), 0.0)
    made.step(Startup(), 0.0)
    assert made.step(FaultRaised("script x", "bad"), 1.0) == [Transition(State.INIT, State.FAULT, "bad")]
    assert made.waiting == {}


def test_waiting_does_not_touch_one_that_runs() -> None:
    made = master()
    assert made.step(FaultRaised("script x", "no result", waiting=True), 10.5) == []
    assert made.state is State.MASTER
    assert made.step(FaultCleared("script x"), 10.6) == []


def test_a_router_starts_once() -> None:
    made = router()
    made.step(FaultRaised("script x", "no result", waiting=True), 0.0)
    made.step(Startup(), 0.0)
    with pytest.raises(IllegalEvent):
        made.step(Startup(), 1.0)
    assert made.step(Shutdown(), 2.0) == []
    made.step(FaultCleared("script x"), 3.0)
    assert made.step(Startup(), 4.0) == [Transition(State.INIT, State.BACKUP, "startup")]


def group(**members: VirtualRouter) -> SyncGroup:
    return SyncGroup("G", members)


def test_a_group_waits_for_its_members() -> None:
    a, b = router(grouped=True), router(grouped=True)
    a.step(FaultRaised("script x", "no result", waiting=True), 0.0)
    made = group(a=a, b=b)
    assert made.prepare() == [("b", GroupHeld("a waits for its first results"))]
    b.step(GroupHeld("a waits"), 0.0)
    assert a.step(Startup(), 0.0) == b.step(Startup(), 0.0) == []
    a.step(FaultCleared("script x"), 1.0)
    assert made.recovery() == [("b", GroupRecovered())]
    assert b.step(GroupRecovered(), 1.0)[-1] == Transition(State.INIT, State.BACKUP, "startup")


def test_a_group_with_a_faulty_member_starts_in_fault() -> None:
    a, b = router(grouped=True), router(grouped=True)
    assert group(a=a, b=b).prepare() == []
    a.step(FaultRaised("x", "x is bad"), 0.0)
    (told,) = group(a=a, b=b).prepare()
    assert told == ("b", GroupFaulted("a is in FAULT"))
    b.step(told[1], 0.0)
    assert b.step(Startup(), 0.0) == [Transition(State.INIT, State.FAULT, "a is in FAULT")]


def test_an_owner_in_a_group_wishes_at_once() -> None:
    made = router(grouped=True, **OWNER)
    assert made.step(Startup(), 0.0)[-1] == WantMaster("address owner")
    assert made.wants_master
    assert made.step(GroupPromoted("all"), 0.1)[0] == SendAdvert(255)


# two owners -------------------------------------------------------------------------------------------------------


def test_the_owner_with_the_lower_address_yields() -> None:
    made = master(**OWNER)
    made.step(advert(255, HIGHER), 10.5)
    assert made.state is State.BACKUP


def test_the_owner_with_the_higher_address_insists_and_then_gives_in() -> None:
    made = master(**OWNER)
    effects = made.step(advert(255, LOWER), 10.0)
    assert silent(effects) == [SendAdvert(255), SendAdvert(255)]
    assert any(isinstance(each, Note) and each.warning and "CONFIGURATION ERROR" in each.text for each in effects)
    assert made.step(advert(255, LOWER), 11.1) == []
    effects = made.step(advert(255, LOWER), 11.3)
    assert (made.state, made.priority) == (State.BACKUP, 254)
    assert effects[-1] == Transition(State.MASTER, State.BACKUP, f"the other address owner {LOWER} does not yield")
    made.step(advert(255, LOWER), 12.0)
    assert made.priority == 254


@pytest.mark.parametrize("heard", [advert(200, LOWER), advert(255, HIGHER)])
def test_an_owner_is_one_again_when_the_other_is_gone(heard: AdvertReceived) -> None:
    made = master(**OWNER)
    made.step(advert(255, LOWER), 10.0)
    made.step(advert(255, LOWER), 11.3)
    made.step(heard, 12.0)
    assert made.priority == 255


def test_an_owner_is_one_again_as_master() -> None:
    made = master(**OWNER)
    made.step(advert(255, LOWER), 10.0)
    made.step(advert(255, LOWER), 11.3)
    assert made.step(DOWN, 20.0)[0] == SendAdvert(255)


def test_an_owner_heard_long_ago_counts_as_new() -> None:
    made = master(**OWNER)
    made.step(advert(255, LOWER), 10.0)
    assert silent(made.step(advert(255, LOWER), 100.0)) == [SendAdvert(255), SendAdvert(255)]


def test_an_owner_that_hears_itself_only_warns() -> None:
    made = master(**OWNER)
    assert silent(made.step(advert(255, ME), 10.5)) == []


# stalls -----------------------------------------------------------------------------------------------------------


def test_a_short_lateness_changes_nothing() -> None:
    made = master()
    assert made.step(ADVERT, 13.0) == [SendAdvert(100)]
    assert made.deadlines[Timer.ADVERT] == 14.0


def test_a_master_that_was_stalled_announces_again() -> None:
    made = master()
    effects = made.step(ADVERT, 14.5)
    assert silent(effects) == [SendAdvert(100), AnnounceVips(5)]
    assert effects[-1] == Note("was not scheduled: no advert was sent for 4.500s; announcing again", warning=True)
    assert made.deadlines[Timer.ADVERT] == 15.5


@pytest.mark.parametrize(("limit", "at", "state"), [(100, 14.0, State.BACKUP), (1, 13.9, State.MASTER)])
def test_a_stalled_master_may_step_down(limit: int, at: float, state: State) -> None:
    made = master(timer_expired_backup=limit, preempt=False)
    made.step(ADVERT, at)
    assert made.state is state


# strictness, priorities, unicast, reload --------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "answers"), [(2, False), (3, True)])
def test_strict_mode_is_the_rfc_of_its_version(version: int, answers: bool) -> None:
    made = master(version=version, strict=True, lower_prio_no_advert=True, garp=GarpSettings(lower_prio_repeat=0))
    effects = made.step(advert(50), 10.5)
    assert (SendAdvert(100) in effects) is answers
    assert (made.deadlines[Timer.ADVERT] == 11.5) is answers
    assert LowerPriorityHeard(50, str(LOWER)) in effects


def test_fifos_hear_of_a_new_priority() -> None:
    assert PriorityShifted(120) in started().step(PriorityChanged(120, "x"), 1.0)


def test_a_unicast_router_announces_its_own_address_after_a_fault() -> None:
    made = started(unicast=True, mcast_group=None)
    made.step(FaultRaised("x", "x"), 1.0)
    assert made.step(FaultCleared("x"), 2.0)[0] == AnnounceSource()


def test_the_priority_of_the_master_is_kept() -> None:
    made = started()
    made.step(advert(150), 1.0)
    assert made.master_priority == 150
    made.step(DOWN, 10.0)
    assert made.master_priority == 0


def test_a_reload_moves_the_timer_with_the_priority() -> None:
    made = started()
    made.step(ConfigChanged(instance(priority=200)), 1.0)
    assert made.deadline == pytest.approx(3 + 56 / 256)


def test_a_reload_that_changes_routes_or_accept_mode_is_put_into_effect() -> None:
    made = master()
    route = Route(family=4, destination=None, via=LOWER)
    assert made.step(ConfigChanged(instance(routes=(route,))), 10.5) == [SetVips(True)]
    assert made.step(ConfigChanged(instance(routes=(route,), accept=False)), 10.6) == [SetVips(True)]
    assert made.step(ConfigChanged(instance(routes=(route,), accept=False, advert_int=Centiseconds(100))), 10.7) == []

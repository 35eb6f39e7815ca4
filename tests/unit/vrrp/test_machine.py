"""The virtual router, told as RFC 9568 section 6.4 and vrrp-behaviour.md tell it. Time is an argument."""

from __future__ import annotations

from typing import Any

import pytest

from keepalived_py.config.model import GarpSettings
from keepalived_py.values import Centiseconds
from keepalived_py.vrrp.effects import (
    AnnounceVips,
    Effect,
    LowerPriorityHeard,
    Note,
    SendAdvert,
    SetVips,
    StopAnnouncing,
    Transition,
    WantMaster,
)
from keepalived_py.vrrp.events import (
    AddressesLost,
    ConfigChanged,
    FaultCleared,
    FaultRaised,
    GroupAnnounced,
    GroupDemoted,
    GroupFaulted,
    GroupPromoted,
    GroupRecovered,
    PriorityChanged,
    Shutdown,
    SourceChanged,
    Startup,
    TimerExpired,
)
from keepalived_py.vrrp.machine import IllegalEvent, VirtualRouter
from keepalived_py.vrrp.states import State, Timer
from tests.unit.vrrp.builders import HIGHER, LOWER, ME, advert, instance

DOWN = TimerExpired(Timer.MASTER_DOWN)


def router(*, grouped: bool = False, **changes: Any) -> VirtualRouter:
    return VirtualRouter(instance(**changes), ME, grouped=grouped)


def backup(**changes: Any) -> VirtualRouter:
    made = router(**changes)
    made.step(Startup(), 0.0)
    assert made.state is State.BACKUP
    return made


def master(**changes: Any) -> VirtualRouter:
    made = backup(**changes)
    made.step(DOWN, 10.0)
    assert made.state is State.MASTER
    return made


def silent(effects: list[Effect]) -> list[Effect]:
    """Without the lines for the log."""
    return [effect for effect in effects if not isinstance(effect, Note)]


def test_backup_takes_over_when_the_master_goes_quiet() -> None:
    made = router()
    assert made.step(Startup(), 0.0) == [Transition(State.INIT, State.BACKUP, "startup")]
    assert made.deadline == pytest.approx(3.609375)
    assert made.due(3.6) is None
    assert made.due(3.61) is Timer.MASTER_DOWN
    assert made.step(DOWN, 3.61) == [
        SendAdvert(100),
        SetVips(True),
        AnnounceVips(5),
        Transition(State.BACKUP, State.MASTER, "master down timer expired"),
    ]


@pytest.mark.parametrize(
    ("version", "priority", "interval", "down"),
    [(2, 100, 100, 3.609375), (2, 254, 300, 9.0078125), (3, 100, 10, 0.3609375), (3, 1, 100, 3.99609375)],
)
def test_master_down_interval(version: int, priority: int, interval: int, down: float) -> None:
    made = router(version=version, priority=priority, advert_int=Centiseconds(interval))
    assert made.master_down_interval == pytest.approx(down)


def test_an_address_owner_is_master_at_once() -> None:
    made = router(priority=255, wants_master=True)
    assert made.step(Startup(), 0.0)[:2] == [SendAdvert(255), SetVips(True)]


def test_priority_255_in_state_backup_waits() -> None:
    assert backup(priority=255).deadline == pytest.approx(3 + 1 / 256)


def test_a_restarted_worker_goes_on_as_master() -> None:
    made = router()
    effects = made.step(Startup(State.MASTER), 0.0)
    assert effects[:2] == [SendAdvert(100), SetVips(True)]
    assert made.state is State.MASTER


def test_adverts_hold_a_backup_back() -> None:
    made = backup()
    made.step(advert(150), 2.0)
    assert made.deadline == pytest.approx(5.609375)
    assert made.master_source == LOWER


def test_version_3_takes_the_interval_of_the_master() -> None:
    made = backup()
    made.step(advert(150, interval=50), 2.0)
    assert made.deadline == pytest.approx(2 + 1.5 + 0.5 * 156 / 256)


def test_equal_priority_holds_a_backup_back_whatever_the_address() -> None:
    made = backup()
    made.step(advert(100, HIGHER), 2.0)
    made.step(advert(100, LOWER), 3.0)
    assert made.deadline == pytest.approx(6.609375)


def test_a_lower_priority_does_not_hold_a_backup_back() -> None:
    made = backup()
    effects = made.step(advert(50), 2.0)
    assert silent(effects) == []
    assert made.deadline == pytest.approx(3.609375)


def test_without_preemption_any_advert_holds_a_backup_back() -> None:
    made = backup(preempt=False)
    made.step(advert(50), 2.0)
    assert made.deadline == pytest.approx(5.609375)


def test_preemption_waits_for_its_delay() -> None:
    made = backup(preempt_delay=5.0)
    for second in range(1, 6):
        made.step(advert(50), float(second))
    assert made.deadlines[Timer.PREEMPT_DELAY] == 6.0
    made.step(TimerExpired(Timer.PREEMPT_DELAY), 6.0)
    made.step(advert(50), 6.5)
    assert made.deadline == pytest.approx(8.609375)  # that of the last advert that was still obeyed
    assert silent(made.step(DOWN, 8.61))[0] == SendAdvert(100)


def test_a_better_master_cancels_the_preemption_delay() -> None:
    made = backup(preempt_delay=5.0)
    made.step(advert(50), 1.0)
    made.step(advert(150), 2.0)
    assert Timer.PREEMPT_DELAY not in made.deadlines
    made.step(advert(50), 3.0)
    assert made.deadlines[Timer.PREEMPT_DELAY] == 8.0


def test_a_farewell_leaves_only_the_skew_time() -> None:
    made = backup()
    made.step(advert(0), 2.0)
    assert made.deadline == pytest.approx(2 + 156 / 256)


def test_adverts_do_not_drift() -> None:
    made = master()
    assert made.deadlines[Timer.ADVERT] == 11.0
    assert made.step(TimerExpired(Timer.ADVERT), 11.003) == [SendAdvert(100)]
    assert made.deadlines[Timer.ADVERT] == 12.0
    made.step(TimerExpired(Timer.ADVERT), 15.0)
    assert made.deadlines[Timer.ADVERT] == 16.0  # a whole interval late: start afresh


@pytest.mark.parametrize(
    ("heard", "wins"),
    [(advert(101), True), (advert(100, HIGHER), True), (advert(100, LOWER), False), (advert(99, HIGHER), False)],
)
def test_the_higher_priority_then_the_higher_address_wins(heard: Any, wins: bool) -> None:
    made = master()
    effects = made.step(heard, 10.5)
    assert (made.state is State.BACKUP) is wins
    if wins:
        assert effects[:2] == [StopAnnouncing(), SetVips(False)]
        assert made.deadline == pytest.approx(10.5 + 3.609375)
    else:
        assert effects[:2] == [SendAdvert(100), AnnounceVips(5)]
        assert LowerPriorityHeard(heard.priority, str(heard.source)) in effects


def test_a_master_may_stay_silent_towards_lower_priorities() -> None:
    made = master(lower_prio_no_advert=True)
    before = made.deadlines[Timer.ADVERT]
    assert SendAdvert(100) not in made.step(advert(50), 10.5)
    assert made.deadlines[Timer.ADVERT] == before


def test_a_master_may_answer_once_before_it_yields() -> None:
    assert master(higher_prio_send_advert=True).step(advert(150), 10.5)[0] == SendAdvert(100)


def test_our_own_address_and_priority_only_warn() -> None:
    made = master()
    assert silent(made.step(advert(100, ME), 10.5)) == []
    assert made.state is State.MASTER


def test_a_master_answers_a_farewell_at_once() -> None:
    made = master()
    assert made.step(advert(0), 10.5) == [SendAdvert(100), AnnounceVips(5)]
    assert made.deadlines[Timer.ADVERT] == 11.5


def test_announcements_come_again() -> None:
    made = backup(garp=GarpSettings(master_delay=5, master_repeat=3, master_refresh=60, lower_prio_delay=2))
    assert AnnounceVips(3) in made.step(DOWN, 10.0)
    assert made.deadlines[Timer.SECOND_BURST] == 15.0
    assert made.step(TimerExpired(Timer.SECOND_BURST), 15.0) == [AnnounceVips(3)]
    assert made.deadlines[Timer.REFRESH] == 75.0
    assert made.step(TimerExpired(Timer.REFRESH), 75.0) == [AnnounceVips(1)]
    assert made.deadlines[Timer.REFRESH] == 135.0
    made.step(advert(50), 80.0)
    assert made.step(TimerExpired(Timer.LOWER_PRIORITY_BURST), 82.0) == [AnnounceVips(5)]


def test_no_burst_after_a_lower_priority_when_switched_off() -> None:
    made = master(garp=GarpSettings(lower_prio_repeat=0))
    assert not any(isinstance(effect, AnnounceVips) for effect in made.step(advert(50), 10.5))


def test_shutdown_says_farewell() -> None:
    made = master()
    assert made.step(Shutdown(), 11.0) == [
        SendAdvert(0),
        StopAnnouncing(),
        SetVips(False),
        Transition(State.MASTER, State.INIT, "shutdown"),
    ]
    assert made.deadline is None
    assert made.step(Shutdown(), 12.0) == []


def test_shutdown_may_keep_the_addresses() -> None:
    assert master().step(Shutdown(keep=True), 11.0) == [Transition(State.MASTER, State.INIT, "shutdown")]


def test_a_fault_of_the_master_says_farewell_twice() -> None:
    made = master()
    effects = made.step(FaultRaised("interface eth0", "interface eth0 is down"), 11.0)
    assert effects[:4] == [SendAdvert(0), SendAdvert(0), StopAnnouncing(), SetVips(False)]
    assert effects[4] == Transition(State.MASTER, State.FAULT, "interface eth0 is down")
    assert made.deadline is None


def test_a_fault_ends_when_every_cause_is_gone() -> None:
    made = backup()
    made.step(FaultRaised("a", "a is bad"), 1.0)
    assert made.step(FaultRaised("b", "b is bad"), 1.0) == [Note("another reason for FAULT: b is bad")]
    assert made.step(FaultRaised("b", "b is bad"), 1.0) == []
    assert made.step(FaultCleared("a"), 2.0) == []
    assert made.step(FaultCleared("b"), 3.0) == [Transition(State.FAULT, State.BACKUP, "faults are gone")]
    assert made.deadline == pytest.approx(6.609375)


def test_a_fault_before_the_start_is_kept() -> None:
    made = router()
    assert made.step(FaultRaised("a", "a is bad"), 0.0) == []
    assert made.step(Startup(), 0.0) == [Transition(State.INIT, State.FAULT, "a is bad")]


def test_an_owner_returns_from_a_fault_as_master() -> None:
    made = router(priority=255, wants_master=True)
    made.step(FaultRaised("a", "a is bad"), 0.0)
    made.step(Startup(), 0.0)
    assert made.step(FaultCleared("a"), 1.0)[0] == SendAdvert(255)


@pytest.mark.parametrize("state", [State.INIT, State.FAULT])
def test_init_and_fault_ignore_what_they_hear(state: State) -> None:
    made = router()
    if state is State.FAULT:
        made.step(FaultRaised("a", "a is bad"), 0.0)
        made.step(Startup(), 0.0)
    assert made.step(advert(1), 1.0) == []
    assert made.state is state


def test_a_changed_priority_moves_the_running_timer() -> None:
    made = backup()
    made.step(PriorityChanged(150, "script"), 1.0)
    assert made.deadline == pytest.approx(3 + 106 / 256)
    assert made.step(PriorityChanged(150, "script"), 1.0) == []
    assert master(priority=255).step(PriorityChanged(200, "script"), 11.0) == []


def test_lost_addresses_give_the_role_away_for_the_skew_time() -> None:
    made = master()
    effects = made.step(AddressesLost("somebody removed them"), 11.0)
    assert effects[:3] == [SendAdvert(0), StopAnnouncing(), SetVips(False)]
    assert made.deadline == pytest.approx(11 + 156 / 256)
    assert backup().step(AddressesLost("late news"), 1.0) == []


def test_members_of_a_group_only_wish() -> None:
    made = backup(grouped=True)
    assert made.step(DOWN, 3.61) == [WantMaster("master down timer expired")]
    assert (made.state, made.wants_master) == (State.BACKUP, True)
    assert made.step(GroupPromoted("all want it"), 4.0)[0] == SendAdvert(100)
    assert made.step(GroupPromoted("again"), 4.0) == []


def test_an_acceptable_advert_withdraws_the_wish() -> None:
    made = backup(grouped=True)
    made.step(DOWN, 3.61)
    made.step(advert(150), 3.7)
    assert not made.wants_master


def test_what_the_group_says() -> None:
    made = master()
    assert made.step(GroupAnnounced(), 11.0) == [AnnounceVips(5)]
    assert made.step(GroupDemoted("other left"), 11.0)[0] == StopAnnouncing()
    assert made.step(GroupDemoted("other left"), 12.0) == []
    assert made.deadline == pytest.approx(15.609375)
    assert made.step(GroupFaulted("other is in FAULT"), 12.0)[-1].new is State.FAULT  # type: ignore[union-attr]
    assert made.step(GroupRecovered(), 13.0)[-1].new is State.BACKUP  # type: ignore[union-attr]


def test_the_farewell_for_a_fault_of_the_group_is_said_once() -> None:
    assert master().step(GroupFaulted("other"), 11.0).count(SendAdvert(0)) == 1


def test_a_reload_of_a_master_touches_nothing_that_did_not_change() -> None:
    made = master()
    deadlines = dict(made.deadlines)
    assert made.step(ConfigChanged(instance(name="other")), 10.5) == []
    assert made.deadlines == deadlines


def test_a_reload_brings_new_addresses_refresh_and_interval() -> None:
    made = master()
    changed = instance("192.0.2.101", advert_int=Centiseconds(10), garp=GarpSettings(master_refresh=30))
    assert made.step(ConfigChanged(changed), 10.5) == [SetVips(True)]
    assert made.deadlines[Timer.ADVERT] == pytest.approx(10.6)
    assert made.deadlines[Timer.REFRESH] == 40.5
    assert made.step(ConfigChanged(instance("192.0.2.101")), 11.0) == []
    assert Timer.REFRESH not in made.deadlines


def test_a_reload_of_a_backup_takes_priority_and_interval() -> None:
    made = backup(version=2, preempt_delay=5.0)
    made.step(advert(50), 1.0)
    made.step(ConfigChanged(instance(version=2, priority=120, advert_int=Centiseconds(200))), 2.0)
    assert made.priority == 120
    assert made.deadlines == {Timer.MASTER_DOWN: pytest.approx(2 + 6 + 136 / 256)}


def test_the_source_address_may_change() -> None:
    made = master()
    made.step(SourceChanged(HIGHER), 11.0)
    assert made.source == HIGHER


@pytest.mark.parametrize(
    ("made", "event"),
    [
        (router(), DOWN),
        (backup(), Startup()),
        (backup(), TimerExpired(Timer.ADVERT)),
        (master(), DOWN),
    ],
)
def test_what_cannot_happen_is_a_bug_of_the_caller(made: VirtualRouter, event: Any) -> None:
    state = made.state
    with pytest.raises(IllegalEvent):
        made.step(event, 20.0)
    assert made.state is state

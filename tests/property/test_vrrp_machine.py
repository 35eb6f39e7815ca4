"""Invariants of one machine, whatever happens to it."""

from __future__ import annotations

from ipaddress import IPv4Address

from hypothesis import given, settings
from hypothesis import strategies as st

from keepalived_py.values import Centiseconds, ip_address
from keepalived_py.vrrp.effects import Effect, SendAdvert, SetVips, Transition
from keepalived_py.vrrp.events import (
    AddressesLost,
    AdvertReceived,
    ConfigChanged,
    Event,
    FaultCleared,
    FaultRaised,
    GroupAnnounced,
    GroupDemoted,
    GroupFaulted,
    GroupHeld,
    GroupPromoted,
    GroupRecovered,
    PriorityChanged,
    Shutdown,
    SourceChanged,
    Startup,
    TimerExpired,
)
from keepalived_py.vrrp.machine import VirtualRouter
from keepalived_py.vrrp.states import State
from tests.unit.vrrp.builders import instance

PRIORITIES = [1, 100, 101, 254, 255]
adverts = st.builds(
    AdvertReceived,
    priority=st.sampled_from([0, *PRIORITIES]),
    adver_int=st.integers(1, 4095).map(Centiseconds),
    source=st.sampled_from([IPv4Address("192.0.2.9"), IPv4Address("192.0.2.200"), IPv4Address("192.0.2.10")]),
)
happenings: st.SearchStrategy[Event | str] = st.one_of(
    adverts,
    st.just("timer"),
    st.sampled_from(
        [
            Shutdown(),
            FaultRaised("a", "a"),
            FaultCleared("a"),
            FaultRaised("b", "b"),
            FaultRaised("b", "b", waiting=True),
            FaultCleared("b"),
            GroupFaulted("x"),
            GroupHeld("x"),
            GroupRecovered(),
            GroupPromoted("x"),
            GroupDemoted("x"),
            GroupAnnounced(),
            SourceChanged(IPv4Address("192.0.2.77")),
            ConfigChanged(instance(priority=7, advert_int=Centiseconds(10), version=2)),
            ConfigChanged(instance("192.0.2.101", priority=254, preempt_delay=3.0)),
            "late",
            PriorityChanged(1, "x"),
            PriorityChanged(254, "x"),
            AddressesLost("x"),
        ]
    ),
)


@given(
    priority=st.sampled_from(PRIORITIES),
    version=st.sampled_from([2, 3]),
    preempt=st.booleans(),
    delay=st.sampled_from([0.0, 5.0]),
    grouped=st.booleans(),
    limit=st.sampled_from([0, 100]),
    not_before=st.sampled_from([0.0, 2.0]),
    adopted=st.booleans(),
    known=st.lists(st.sampled_from([FaultRaised("a", "a"), FaultRaised("b", "b", waiting=True)]), max_size=2),
    script=st.lists(happenings, max_size=40),
)
@settings(max_examples=300)
def test_addresses_are_there_exactly_while_master(
    priority: int,
    version: int,
    preempt: bool,
    delay: float,
    grouped: bool,
    limit: int,
    not_before: float,
    adopted: bool,
    known: list[Event],
    script: list[Event | str],
) -> None:
    config = instance(
        priority=priority,
        wants_master=priority == 255,
        version=version,
        preempt=preempt,
        preempt_delay=delay,
        timer_expired_backup=limit,
    )
    router = VirtualRouter(config, ip_address("192.0.2.10"), grouped=grouped)
    held, now = adopted, 0.0
    for each in known:
        assert router.step(each, now) == []
    startup = Startup(State.MASTER if adopted else None, not_before)
    for what in [startup, *script]:
        now += 0.01
        event = what
        if isinstance(what, str):
            if router.deadline is None:
                continue
            now = max(now, router.deadline) + (20.0 if what == "late" else 0.0)
            due = router.due(now)
            assert due is not None
            event = TimerExpired(due)
        assert not isinstance(event, str)
        was = router.state
        effects = router.step(event, now)
        for effect in effects:
            if isinstance(effect, SetVips):
                held = effect.present
        check(router, was, effects, held, spoke=was is State.MASTER or (adopted and what is startup))


def check(router: VirtualRouter, was: State, effects: list[Effect], held: bool, spoke: bool) -> None:
    """What holds after every step. `spoke`: it, or a predecessor that died, was MASTER before."""
    assert held == (router.state is State.MASTER)
    assert (router.deadline is None) == (router.state in (State.INIT, State.FAULT))
    changes = [effect for effect in effects if isinstance(effect, Transition)]
    assert [change.new for change in changes] == ([router.state] if router.state is not was else [])
    assert all(change.reason for change in changes)
    sends = [effect for effect in effects if isinstance(effect, SendAdvert)]
    if not spoke and router.state is not State.MASTER:
        assert not sends
    if router.state is State.MASTER and was is not State.MASTER:
        assert isinstance(effects[0], SendAdvert)
        assert effects[1] == SetVips(True)
    if router.state is State.FAULT:
        assert router.faults

"""Invariants of one machine, and of clusters on a lossy link under a virtual clock."""

from __future__ import annotations

import random
from ipaddress import IPv4Address

from hypothesis import given, settings
from hypothesis import strategies as st

from keepalived_py.config.model import GarpSettings
from keepalived_py.values import Centiseconds, ip_address
from keepalived_py.vrrp.effects import Effect, SendAdvert, SetVips, Transition
from keepalived_py.vrrp.events import (
    AddressesLost,
    AdvertReceived,
    Event,
    FaultCleared,
    FaultRaised,
    PriorityChanged,
    Shutdown,
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
            FaultCleared("b"),
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
    script=st.lists(happenings, max_size=40),
)
@settings(max_examples=300)
def test_addresses_are_there_exactly_while_master(
    priority: int, version: int, preempt: bool, delay: float, script: list[Event | str]
) -> None:
    config = instance(
        priority=priority, wants_master=priority == 255, version=version, preempt=preempt, preempt_delay=delay
    )
    router = VirtualRouter(config, ip_address("192.0.2.10"))
    held, now = False, 0.0
    for what in [Startup(), *script]:
        now += 0.01
        if what == "timer":
            if router.deadline is None:
                continue
            now = max(now, router.deadline)
            due = router.due(now)
            assert due is not None
            event: Event = TimerExpired(due)
        else:
            assert not isinstance(what, str)
            event = what
        was = router.state
        effects = router.step(event, now)
        for effect in effects:
            if isinstance(effect, SetVips):
                held = effect.present
        check(router, was, effects, held)


def check(router: VirtualRouter, was: State, effects: list[Effect], held: bool) -> None:
    """What holds after every step."""
    assert held == (router.state is State.MASTER)
    assert (router.deadline is None) == (router.state in (State.INIT, State.FAULT))
    changes = [effect for effect in effects if isinstance(effect, Transition)]
    assert [change.new for change in changes] == ([router.state] if router.state is not was else [])
    assert all(change.reason for change in changes)
    sends = [effect for effect in effects if isinstance(effect, SendAdvert)]
    if was is not State.MASTER and router.state is not State.MASTER:
        assert not sends
    if router.state is State.MASTER and was is not State.MASTER:
        assert isinstance(effects[0], SendAdvert)
        assert effects[1] == SetVips(True)
    if router.state is State.FAULT:
        assert router.faults


class Network:
    """Routers on one link: adverts take a moment, some are lost, the link can be split in two."""

    DELAY = 0.001

    def __init__(self, count: int, seed: int, loss: float) -> None:
        self.random = random.Random(seed)
        self.loss = loss
        self.now = 0.0
        self.split = 0
        """Routers below this number do not hear the others."""
        self.flying: list[tuple[float, int, AdvertReceived, int]] = []
        self.dead: set[int] = set()
        self.routers = [self._router(number) for number in range(count)]
        self.both_since: float | None = None
        self.longest_overlap = 0.0
        for number in range(count):
            self.post(number, Startup())

    def _router(self, number: int) -> VirtualRouter:
        priority = self.random.choice([1, 100, 100, 200, 254])
        config = instance(
            name=f"r{number}", priority=priority, advert_int=Centiseconds(100), garp=GarpSettings(master_delay=0)
        )
        return VirtualRouter(config, ip_address(f"192.0.2.{number + 1}"))

    def post(self, number: int, event: Event) -> None:
        router = self.routers[number]
        for effect in router.step(event, self.now):
            if isinstance(effect, SendAdvert):
                self.send(number, effect.priority)

    def send(self, sender: int, priority: int) -> None:
        router = self.routers[sender]
        assert router.source is not None
        advert = AdvertReceived(priority, router.config.advert_int, router.source)
        for number in range(len(self.routers)):
            apart = (number < self.split) != (sender < self.split)
            if number != sender and number not in self.dead and not apart and self.random.random() >= self.loss:
                self.flying.append((self.now + self.DELAY, len(self.flying), advert, number))

    def run(self, until: float) -> None:
        while True:
            timers = [
                (router.deadline, number)
                for number, router in enumerate(self.routers)
                if router.deadline is not None and number not in self.dead
            ]
            arrival = min(self.flying, key=lambda each: each[:2], default=None)
            timer = min(timers, default=None)
            when = min(each[0] for each in (arrival, timer) if each is not None) if arrival or timer else until
            if when > until:
                self.now = until
                self.watch()
                return
            self.now = max(self.now, when)
            if arrival is not None and (timer is None or arrival[0] <= timer[0]):
                self.flying.remove(arrival)
                if arrival[3] not in self.dead:
                    self.post(arrival[3], arrival[2])
            elif timer is not None:
                due = self.routers[timer[1]].due(self.now)
                if due is not None:
                    self.post(timer[1], TimerExpired(due))
            self.watch()

    @property
    def masters(self) -> list[int]:
        return [n for n, router in enumerate(self.routers) if router.state is State.MASTER and n not in self.dead]

    def watch(self) -> None:
        """How long two masters lasted on a link that is whole."""
        if len(self.masters) > 1 and not self.split:
            self.both_since = self.now if self.both_since is None else self.both_since
            self.longest_overlap = max(self.longest_overlap, self.now - self.both_since)
        else:
            self.both_since = None


@given(count=st.integers(2, 50), seed=st.integers(0, 10**6))
@settings(max_examples=40)
def test_one_master_in_the_end_and_two_for_a_moment_only(count: int, seed: int) -> None:
    network = Network(count, seed, loss=0.0)
    network.run(10.0)
    assert len(network.masters) == 1
    best = max(range(count), key=lambda n: (network.routers[n].priority, n))
    assert network.routers[network.masters[0]].priority == network.routers[best].priority
    assert network.longest_overlap <= 1.1

    first = network.masters[0]
    network.dead.add(first)
    network.run(20.0)
    if count > 2:
        assert len(network.masters) == 1
        assert network.longest_overlap <= 1.1


@given(count=st.integers(2, 10), seed=st.integers(0, 10**6), split=st.integers(1, 9))
@settings(max_examples=30)
def test_a_partition_heals_within_an_interval(count: int, seed: int, split: int) -> None:
    network = Network(count, seed, loss=0.0)
    network.run(10.0)
    network.split = min(split, count - 1)
    network.run(20.0)
    assert len(network.masters) == 2
    network.split = 0
    network.run(30.0)
    assert len(network.masters) == 1
    assert network.longest_overlap <= 1.1


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20)
def test_a_fifth_of_the_adverts_lost_is_survived(seed: int) -> None:
    network = Network(3, seed, loss=0.2)
    network.run(200.0)
    network.loss = 0.0
    network.run(210.0)
    assert len(network.masters) == 1

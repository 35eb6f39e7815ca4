"""Hosts with machines on lossy links under a virtual clock: what real workers do, without sockets and sleeping.

A host may run several instances, one on each link, and sync groups of them. A frozen host handles nothing; when it
thaws it reads what has queued up first and looks at its timers then, as the worker does.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterable
from typing import Any

from keepalived_py.config.model import SyncGroup, Track, VrrpInstance
from keepalived_py.values import IPAddress, ip_address
from keepalived_py.vrrp.effects import Effect, SendAdvert, SetVips
from keepalived_py.vrrp.engine import Engine
from keepalived_py.vrrp.events import AdvertReceived, ConfigChanged, Event, FaultRaised, Shutdown, Startup, TimerExpired
from keepalived_py.vrrp.machine import VirtualRouter
from keepalived_py.vrrp.states import State
from keepalived_py.vrrp.sync_group import GroupTransition
from keepalived_py.vrrp.tracking import Observation, effective_priority, is_fault
from tests.unit.vrrp.builders import NO_SECOND_BURST, instance

DELAY = 0.001
"""Seconds that an advert is on its way."""


class Router:
    """One instance of a host, on the link that it is named after."""

    def __init__(self, link: str, config: VrrpInstance, source: IPAddress) -> None:
        self.name, self.group = link, ""
        self.router = VirtualRouter(config, source)


Heard = Callable[["Host", str, list[Effect] | GroupTransition], None]


class Host:
    """One process. `held` are the links whose addresses it has put on its interfaces."""

    def __init__(
        self, number: int, configs: dict[str, VrrpInstance], groups: Iterable[SyncGroup] = (), name: str = ""
    ) -> None:
        self.number, self.name = number, name or str(number)
        self.configs, self.groups = configs, tuple(groups)
        self.alive = False
        self.frozen = False
        self.waiting: list[tuple[str, Event]] = []
        self.held: set[str] = set()
        self.broken: set[str] = set()
        """Links that are down here."""
        self.to_lose = 0
        """How many of its next adverts nobody hears."""
        self.seen: dict[tuple[str, str], Observation] = {}
        """What is known of tracked things, by kind and name."""
        self.routers: dict[str, Router] = {}
        self.engine: Engine[Router]

    @property
    def works(self) -> bool:
        return self.alive and not self.frozen

    def state(self, link: str) -> State:
        return self.routers[link].router.state

    def tracks(self, config: VrrpInstance) -> tuple[Track, ...]:
        """What counts for an instance: its own trackers, and those of its group."""
        shared = (group.tracks for group in self.groups if config.name in group.members)
        return (*config.tracks, *itertools.chain.from_iterable(shared))

    def faults(self, config: VrrpInstance) -> list[FaultRaised]:
        found = [FaultRaised("link", "link is down")] if config.name in self.broken else []
        for track in self.tracks(config):
            seen = self.seen.get((track.kind, track.name))
            if is_fault(track, seen):
                what = f"{track.kind} {track.name}"
                found.append(FaultRaised(what, f"{what} is {seen}", waiting=seen is None))
        return found


class Cluster:
    """Hosts on links. `loss` is the share of adverts that get lost; `apart` are pairs that do not hear each other."""

    def __init__(
        self,
        count: int = 0,
        seed: int = 0,
        *,
        links: str = "a",
        loss: float = 0.0,
        heard: Heard | None = None,
        **changes: Any,
    ) -> None:
        self.random = random.Random(seed)
        self.now, self.loss, self.links = 0.0, loss, links
        self.apart: set[frozenset[int]] = set()
        self._heard = heard
        self._heap: list[tuple[float, int, int, str, Event | None]] = []
        self._order = itertools.count()
        self._both_since: dict[str, float] = {}
        self.longest_overlap = 0.0
        """Seconds that two hosts were MASTER on a link that is whole and loses nothing."""
        self.hosts = [self._host(number, changes) for number in range(count)]
        for host in self.hosts:
            self.start(host)

    def _host(self, number: int, changes: dict[str, Any]) -> Host:
        priority = self.random.choice([1, 100, 100, 200, 254])
        fields = {"priority": priority, "garp": NO_SECOND_BURST} | changes
        configs = {link: instance(name=link, vrid=1, **fields) for link in self.links}
        together = [SyncGroup(name="G", members=tuple(self.links))] if len(self.links) > 1 else []
        return Host(number, configs, together)

    # what may happen ----------------------------------------------------------------------------------------------

    def start(self, host: Host, adopt: bool = False) -> None:
        """Boot a process; one that adopts goes on where its predecessor was killed."""
        held, host.held = host.held, set(host.held) if adopt else set()
        host.alive, host.frozen = True, False
        host.waiting.clear()
        host.routers = {}
        host.engine = Engine(
            lambda router, effects: self._perform(host, router, effects),
            lambda found: self._heard(host, found.name, found) if self._heard else None,
        )
        added = [self._add(host, config) for config in host.configs.values()]
        self._configure(host)
        self._start(host, added, held if adopt else set())

    def _add(self, host: Host, config: VrrpInstance) -> Router:
        made = Router(config.name, config, ip_address(f"192.0.2.{host.number + 1}"))
        host.routers[config.name] = made
        return made

    def _configure(self, host: Host) -> None:
        host.engine.configure(host.routers, {group.name: group.members for group in host.groups})

    def _start(self, host: Host, added: list[Router], held: set[str]) -> None:
        for router in added:
            self.judge(host, router.name)
        adopted = {True: State.MASTER, False: None}
        host.engine.start(added, lambda each: Startup(adopted[each.name in held]), self.now)
        self._check(host)

    def reload(self, host: Host, configs: dict[str, VrrpInstance], groups: Iterable[SyncGroup] | None = None) -> None:
        """Another configuration: instances of the same name are kept, as those of the same identity are."""
        for link in [link for link in host.routers if link not in configs]:
            gone = host.routers.pop(link)
            gone.group = ""
            host.engine.post(gone, Shutdown(), self.now)
        host.configs, host.groups = configs, host.groups if groups is None else tuple(groups)
        kept = list(host.routers.values())
        added = [self._add(host, config) for link, config in configs.items() if link not in host.routers]
        self._configure(host)
        for router in kept:
            host.engine.post(router, ConfigChanged(configs[router.name]), self.now)
        for router in kept:
            self.judge(host, router.name)
        host.engine.regroup(self.now)
        self._start(host, added, set())

    def kill(self, host: Host) -> None:
        host.alive = False
        self._watch()

    def freeze(self, host: Host) -> None:
        host.frozen = True
        self._watch()

    def stop(self, host: Host) -> None:
        """The daemon ends."""
        for router in host.routers.values():
            host.engine.post(router, Shutdown(), self.now)
        host.engine.leaving = True
        host.engine.settle()
        self._check(host)
        host.alive = False
        self._watch()

    def thaw(self, host: Host) -> None:
        if not host.works and host.alive:
            host.frozen = False
            queued, host.waiting = host.waiting, []
            for link, event in queued:
                self.post(host, link, event)
            self._fire(host)
            self._watch()

    def split(self, size: int) -> None:
        """The first `size` hosts do not hear the others."""
        numbers = range(len(self.hosts))
        self.apart = {frozenset((a, b)) for a in numbers for b in numbers if a < size <= b}
        self._watch()

    def fault(self, host: Host, link: str, present: bool) -> None:
        """The interface of a host goes down, or comes up."""
        (host.broken.add if present else host.broken.discard)(link)
        if host.works and link in host.routers:
            self.judge(host, link)
            self._check(host)
        self._watch()

    def see(self, host: Host, kind: str, name: str, value: Observation) -> None:
        """Something that is tracked changed."""
        host.seen[kind, name] = value
        for link, config in host.configs.items():
            if host.works and any((track.kind, track.name) == (kind, name) for track in host.tracks(config)):
                self.judge(host, link)
                self._check(host)
        self._watch()

    # the clockwork ------------------------------------------------------------------------------------------------

    def judge(self, host: Host, link: str) -> None:
        router = host.routers[link]
        config = router.router.config
        tracks = host.tracks(config)
        priority = effective_priority(config.priority, tracks, lambda track: host.seen.get((track.kind, track.name)))
        host.engine.judge(router, host.faults(config), priority, self.now)

    def post(self, host: Host, link: str, event: Event) -> None:
        """One event of one instance, and all that its group makes of it."""
        if link in host.routers:
            host.engine.post(host.routers[link], event, self.now)
            self._check(host)

    def _perform(self, host: Host, router: Router, effects: list[Effect]) -> None:
        if self._heard is not None:
            self._heard(host, router.name, effects)
        for effect in effects:
            if isinstance(effect, SendAdvert):
                self._send(host, router, effect.priority)
            elif isinstance(effect, SetVips):
                (host.held.add if effect.present else host.held.discard)(router.name)
        if router.router.deadline is not None:
            self._push(router.router.deadline, host.number, router.name, None)

    @staticmethod
    def _check(host: Host) -> None:
        """Addresses are there exactly while MASTER, and FAULT is shared by a group, but for who has not started."""
        assert host.held == {link for link in host.routers if host.state(link) is State.MASTER}
        for group in host.engine.groups.values():
            states = {router.state for router in group.members.values()} - {State.INIT}
            assert State.FAULT not in states or len(states) == 1, (host.name, states)

    def _push(self, at: float, number: int, link: str, event: Event | None) -> None:
        heapq.heappush(self._heap, (at, next(self._order), number, link, event))

    def _send(self, sender: Host, router: Router, priority: int) -> None:
        if sender.to_lose:
            sender.to_lose -= 1
            return
        if router.name in sender.broken:
            return
        machine = router.router
        assert machine.source is not None
        event = AdvertReceived(priority, machine.config.advert_int, machine.source)
        for host in self.hosts:
            deaf = host is sender or frozenset((host.number, sender.number)) in self.apart
            if not deaf and not (self.loss and self.random.random() < self.loss):
                self._push(self.now + DELAY, host.number, router.name, event)

    def _fire(self, host: Host) -> None:
        """Every timer of a host that is due."""
        for link, router in list(host.routers.items()):
            while (due := router.router.due(self.now)) is not None:
                self.post(host, link, TimerExpired(due))

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self._heap and self._heap[0][0] <= until:
            at, _, number, link, event = heapq.heappop(self._heap)
            self.now = max(self.now, at)
            host = self.hosts[number]
            if event is None:
                if host.works:
                    self._fire(host)
            elif link in host.broken:
                continue
            elif host.works:
                self.post(host, link, event)
            elif host.alive:
                host.waiting.append((link, event))
            self._watch()
        self.now = until
        self._watch()

    def masters(self, link: str = "a") -> list[int]:
        """Hosts that work and are MASTER."""
        return [
            host.number
            for host in self.hosts
            if host.works and link in host.routers and host.state(link) is State.MASTER
        ]

    def _watch(self) -> None:
        """How long several masters lasted on a link that is whole."""
        for link in self.links:
            if self.apart or self.loss or len(self.masters(link)) < 2:
                self._both_since.pop(link, None)
                continue
            since = self._both_since.setdefault(link, self.now)
            self.longest_overlap = max(self.longest_overlap, self.now - since)

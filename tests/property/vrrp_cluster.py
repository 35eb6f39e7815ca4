"""Hosts with machines on lossy links under a virtual clock: what a real worker does, without sockets and sleeping.

A host may run several instances, one on each link, in one sync group. A frozen host handles nothing; when it thaws it
reads what has queued up first and looks at its timers then, as the worker does.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import defaultdict, deque
from typing import Any

from keepalived_py.config.model import VrrpInstance
from keepalived_py.values import ip_address
from keepalived_py.vrrp.effects import SendAdvert, SetVips
from keepalived_py.vrrp.events import AdvertReceived, Event, FaultCleared, FaultRaised, Startup, TimerExpired
from keepalived_py.vrrp.machine import VirtualRouter
from keepalived_py.vrrp.states import State
from keepalived_py.vrrp.sync_group import SyncGroup
from tests.unit.vrrp.builders import NO_SECOND_BURST, instance

DELAY = 0.001


class Host:
    """One process. `held` are the links whose addresses it has put on its interfaces."""

    def __init__(self, number: int, configs: dict[str, VrrpInstance]) -> None:
        self.number, self.configs = number, configs
        self.alive = False
        self.frozen = False
        self.waiting: list[tuple[str, Event]] = []
        self.held: set[str] = set()
        self.routers: dict[str, VirtualRouter] = {}
        self.group: SyncGroup | None = None

    def boot(self) -> None:
        grouped = len(self.configs) > 1
        source = ip_address(f"192.0.2.{self.number + 1}")
        self.routers = {link: VirtualRouter(config, source, grouped=grouped) for link, config in self.configs.items()}
        self.group = SyncGroup("G", self.routers) if grouped else None
        self.alive, self.frozen = True, False
        self.waiting.clear()

    @property
    def works(self) -> bool:
        return self.alive and not self.frozen


class Cluster:
    """Hosts on links. `loss` is the share of adverts that get lost; `apart` are pairs that do not hear each other."""

    def __init__(self, count: int, seed: int, *, links: str = "a", loss: float = 0.0, **changes: Any) -> None:
        self.random = random.Random(seed)
        self.now, self.loss, self.links = 0.0, loss, links
        self.apart: set[frozenset[int]] = set()
        self._heap: list[tuple[float, int, int, str, Event | None]] = []
        self._order = itertools.count()
        self._both_since: dict[str, float] = {}
        self.longest_overlap = 0.0
        self.hosts = [Host(number, self._configs(number, changes)) for number in range(count)]
        for host in self.hosts:
            self.start(host)

    def _configs(self, number: int, changes: dict[str, Any]) -> dict[str, VrrpInstance]:
        priority = self.random.choice([1, 100, 100, 200, 254])
        fields = {"priority": priority, "garp": NO_SECOND_BURST} | changes
        return {link: instance(name=link, vrid=1, **fields) for link in self.links}

    # what may happen ----------------------------------------------------------------------------------------------

    def start(self, host: Host, adopt: bool = False) -> None:
        """Boot a process; one that adopts goes on where its predecessor was killed."""
        held, host.held = host.held, host.held if adopt else set()
        host.boot()
        for link in self.links:
            self.post(host, link, Startup(State.MASTER if adopt and link in held else None))

    def kill(self, host: Host) -> None:
        host.alive = False

    def freeze(self, host: Host) -> None:
        host.frozen = True

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

    def fault(self, host: Host, link: str, present: bool) -> None:
        self.post(host, link, FaultRaised("link", "link is down") if present else FaultCleared("link"))
        self._watch()

    # the clockwork ------------------------------------------------------------------------------------------------

    def post(self, host: Host, link: str, event: Event) -> None:
        """One event of one instance, and all that its group makes of it."""
        events = deque([(link, event)])
        while events:
            name, what = events.popleft()
            router = host.routers[name]
            effects = router.step(what, self.now)
            for effect in effects:
                if isinstance(effect, SendAdvert):
                    self._send(host, name, effect.priority)
                elif isinstance(effect, SetVips):
                    (host.held.add if effect.present else host.held.discard)(name)
            if host.group is not None:
                events.extend(host.group.absorb(name, effects))
                if isinstance(what, FaultCleared):
                    events.extend(host.group.recovery())
            if router.deadline is not None:
                self._push(router.deadline, host.number, name, None)
        assert host.held == {name for name, router in host.routers.items() if router.state is State.MASTER}

    def _push(self, at: float, number: int, link: str, event: Event | None) -> None:
        heapq.heappush(self._heap, (at, next(self._order), number, link, event))

    def _send(self, sender: Host, link: str, priority: int) -> None:
        router = sender.routers[link]
        assert router.source is not None
        event = AdvertReceived(priority, router.config.advert_int, router.source)
        for host in self.hosts:
            deaf = host is sender or frozenset((host.number, sender.number)) in self.apart
            if not deaf and not (self.loss and self.random.random() < self.loss):
                self._push(self.now + DELAY, host.number, link, event)

    def _fire(self, host: Host) -> None:
        """Every timer of a host that is due."""
        for link, router in host.routers.items():
            while (due := router.due(self.now)) is not None:
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
            elif host.works:
                self.post(host, link, event)
            elif host.alive:
                host.waiting.append((link, event))
            self._watch()
        self.now = until
        self._watch()

    def masters(self, link: str = "a") -> list[int]:
        """Hosts that work and are MASTER."""
        return [host.number for host in self.hosts if host.works and host.routers[link].state is State.MASTER]

    def _watch(self) -> None:
        """How long several masters lasted on a link that is whole."""
        owners = defaultdict(list)
        for link in self.links:
            owners[link] = self.masters(link)
            if len(owners[link]) < 2 or self.apart:
                self._both_since.pop(link, None)
                continue
            since = self._both_since.setdefault(link, self.now)
            self.longest_overlap = max(self.longest_overlap, self.now - since)

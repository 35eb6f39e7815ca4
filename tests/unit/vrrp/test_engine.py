"""Machines and groups together: order, what others post meanwhile, reloads."""

from __future__ import annotations

from keepalived_py.vrrp.effects import Effect, SendAdvert, SetVips, Transition
from keepalived_py.vrrp.engine import Engine
from keepalived_py.vrrp.events import Event, FaultCleared, FaultRaised, GroupFaulted, Shutdown, Startup, TimerExpired
from keepalived_py.vrrp.machine import GROUP_FAULT, VirtualRouter
from keepalived_py.vrrp.states import State, Timer
from keepalived_py.vrrp.sync_group import GroupTransition
from keepalived_py.vrrp.tracking import EffectivePriority
from tests.unit.vrrp.builders import ME, instance

NO_TRACKERS = EffectivePriority(100, ())


class Router:
    def __init__(self, name: str) -> None:
        self.name, self.group = name, ""
        self.router = VirtualRouter(instance(name=name), ME)


class World:
    """An engine and what it did, in order."""

    def __init__(self, *names: str) -> None:
        self.did: list[tuple[str, object]] = []
        self.meanwhile: Event | None = None
        self.routers = {name: Router(name) for name in names}
        self.engine: Engine[Router] = Engine(self._perform, lambda found: self.did.append((found.name, found)))

    def _perform(self, router: Router, effects: list[Effect]) -> None:
        event, self.meanwhile = self.meanwhile, None
        if event is not None:
            self.engine.post(router, event, 9.0)
        self.did += [(router.name, effect) for effect in effects]

    def group(self, *names: str) -> None:
        self.engine.configure(self.routers, {"G": names} if names else {})

    def start(self) -> None:
        self.engine.start(self.routers.values(), lambda router: Startup(), 0.0)

    def post(self, name: str, event: Event, now: float = 5.0) -> None:
        self.engine.post(self.routers[name], event, now)

    @property
    def states(self) -> list[str]:
        return [each.router.state.value for each in self.routers.values()]

    def transitions(self) -> list[tuple[str, str]]:
        return [(name, what.new.value) for name, what in self.did if isinstance(what, Transition | GroupTransition)]


def grouped() -> World:
    world = World("a", "b")
    world.group("a", "b")
    world.start()
    return world


def test_members_are_told_before_their_group() -> None:
    world = grouped()
    assert world.transitions() == [("a", "BACKUP"), ("b", "BACKUP"), ("G", "BACKUP")]
    world.did.clear()
    for name in "ab":
        world.post(name, TimerExpired(Timer.MASTER_DOWN))
    assert world.transitions() == [("a", "MASTER"), ("b", "MASTER"), ("G", "MASTER")]


def test_what_is_posted_meanwhile_comes_afterwards_at_its_own_time() -> None:
    world = World("a")
    world.group()
    world.start()
    world.did.clear()
    world.meanwhile = FaultRaised("x", "x is bad")
    world.post("a", TimerExpired(Timer.MASTER_DOWN))
    assert [what for _, what in world.did if isinstance(what, SendAdvert | SetVips)] == [
        SendAdvert(100),
        SetVips(True),
        SendAdvert(0),
        SendAdvert(0),
        SetVips(False),
    ]
    world.post("a", FaultCleared("x"), 20.0)
    assert world.routers["a"].router.deadline == 20.0 + world.routers["a"].router.master_down_interval


def test_judging_tells_differences_only() -> None:
    world = World("a")
    world.group()
    world.start()
    router = world.routers["a"]
    down, lost = FaultRaised("link", "link is down"), FaultRaised("source", "no address")
    world.engine.judge(router, [down, lost], NO_TRACKERS, 1.0)
    assert router.router.faults == {"link": "link is down", "source": "no address"}
    world.did.clear()
    world.engine.judge(router, [lost], NO_TRACKERS, 2.0)
    assert world.did == []
    world.engine.judge(router, [], EffectivePriority(90, ()), 3.0)
    assert world.transitions() == [("a", "BACKUP")]
    assert router.router.priority == 90


def test_judging_leaves_the_fault_of_the_group_alone() -> None:
    world = grouped()
    world.post("b", FaultRaised("x", "x is bad"))
    world.engine.judge(world.routers["a"], [], NO_TRACKERS, 6.0)
    assert world.states == ["FAULT", "FAULT"]


def test_faults_of_two_members_are_shared_whoever_joined_last() -> None:
    """Each must know of the other's, or the first that is well again would leave FAULT alone."""
    world = World("a", "b")
    world.group()
    world.start()
    for name in "ab":
        world.post(name, FaultRaised("x", "x is bad"))
    world.group("a", "b")
    world.engine.regroup(6.0)
    world.post("a", FaultCleared("x"), 7.0)
    assert world.states == ["FAULT", "FAULT"]
    world.post("b", FaultCleared("x"), 8.0)
    assert world.states == ["BACKUP", "BACKUP"]


def test_one_that_starts_with_a_fault_in_a_group_in_fault_leaves_it_with_the_others() -> None:
    world = World("a", "b")
    world.engine.configure({"a": world.routers["a"]}, {"G": ("a", "b")})
    world.engine.start([world.routers["a"]], lambda router: Startup(), 0.0)
    world.post("a", FaultRaised("x", "x is bad"))
    world.group("a", "b")
    world.engine.regroup(6.0)
    world.post("b", FaultRaised("y", "y is bad"), 6.0)
    world.engine.start([world.routers["b"]], lambda router: Startup(), 6.0)
    world.post("b", FaultCleared("y"), 7.0)
    assert world.states == ["FAULT", "FAULT"]
    world.post("a", FaultCleared("x"), 8.0)
    assert world.states == ["BACKUP", "BACKUP"]


def test_an_event_for_a_group_that_is_not_configured_yet_does_no_harm() -> None:
    world = World("a")
    world.routers["a"].group = "G"
    world.post("a", FaultRaised("x", "x is bad"))
    world.post("a", GroupFaulted("other"))
    assert world.did == []
    assert set(world.routers["a"].router.faults) == {"x", GROUP_FAULT}


def test_a_group_stops_after_its_members() -> None:
    world = grouped()
    world.did.clear()
    for name in "ab":
        world.post(name, Shutdown())
    assert world.transitions() == [("a", "INIT"), ("b", "INIT")]
    world.engine.leaving = True
    world.engine.settle()
    assert world.transitions()[-1] == ("G", "INIT")


def test_a_group_stays_master_while_a_new_member_joins() -> None:
    world = grouped()
    for name in "ab":
        world.post(name, TimerExpired(Timer.MASTER_DOWN))
    world.routers["c"] = Router("c")
    world.did.clear()
    world.group("a", "b", "c")
    world.engine.regroup(6.0)
    world.engine.start([world.routers["c"]], lambda router: Startup(), 6.0)
    assert world.transitions() == [("c", "BACKUP")]
    assert world.engine.groups["G"].state is State.MASTER
    world.post("c", TimerExpired(Timer.MASTER_DOWN), 10.0)
    assert world.states == ["MASTER"] * 3
    world.post("a", FaultRaised("x", "x is bad"), 11.0)
    assert world.transitions()[-1] == ("G", "FAULT")

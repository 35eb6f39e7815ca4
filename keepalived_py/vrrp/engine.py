"""All machines of one process and their sync groups: one event goes in, every effect that follows comes out in order.

Pure: what effects do is the caller's, and so is the time. A worker has one, and so has every host of a simulation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from .effects import Effect
from .events import Event, FaultCleared, FaultRaised, GroupRecovered, PriorityChanged, Startup
from .machine import GROUP_FAULT, VirtualRouter
from .states import State
from .sync_group import GroupTransition, SyncGroup
from .tracking import EffectivePriority


class Member(Protocol):
    """One instance: its machine, and the sync group it is in, "" for none."""

    group: str

    @property
    def router(self) -> VirtualRouter: ...

    @property
    def name(self) -> str: ...


M = TypeVar("M", bound=Member)


class Engine(Generic[M]):
    """`perform` gets a member and its effects; `group_moved` hears what became of a group, after its members."""

    def __init__(
        self, perform: Callable[[M, list[Effect]], None], group_moved: Callable[[GroupTransition], None]
    ) -> None:
        self._perform, self._group_moved = perform, group_moved
        self.members: dict[str, M] = {}
        """By name, as the configuration has them."""
        self.groups: dict[str, SyncGroup] = {}
        self.leaving = False
        """All members are being stopped: their groups stop with them."""
        self._joining = False
        """Members came and went, and groups have not been looked at as a whole since."""
        self._events: deque[tuple[M, Event, float]] = deque()
        self._working = False

    # membership ---------------------------------------------------------------------------------------------------

    def configure(self, members: Mapping[str, M], groups: Mapping[str, Sequence[str]]) -> None:
        """Members and groups of a configuration; `start` or `regroup` follows, and groups say nothing until then.

        A group that was there keeps its state, so it is not told again.
        """
        self._joining = True
        self.members = dict(members)
        states = {name: group.state for name, group in self.groups.items()}
        self.groups = {}
        group_of: dict[str, str] = {}
        for name, names in groups.items():
            group = SyncGroup(name, {each: members[each].router for each in names if each in members})
            group.state = states.get(name, State.INIT)
            self.groups[name] = group
            group_of |= dict.fromkeys(group.members, name)
        for name, member in self.members.items():
            member.group = group_of.get(name, "")
            member.router.grouped = bool(member.group)

    # events -------------------------------------------------------------------------------------------------------

    def post(self, member: M, event: Event, now: float) -> None:
        """Step a machine and all that follows from it. What `perform` posts meanwhile has its turn afterwards."""
        self._events.append((member, event, now))
        if self._working:
            return
        self._working = True
        try:
            while self._events:
                self._step(*self._events.popleft())
        finally:
            self._working = False

    def _step(self, member: M, event: Event, now: float) -> None:
        effects = member.router.step(event, now)
        self._perform(member, effects)
        group = self.groups.get(member.group)
        if group is not None:
            self._tell_group(group, member.name, event, effects, now)

    def _tell_group(self, group: SyncGroup, name: str, event: Event, effects: list[Effect], now: float) -> None:
        told = group.absorb(name, effects)
        if isinstance(event, FaultCleared):
            told += group.recovery()
        self._events += [(self.members[other], follows, now) for other, follows in told]
        if not self._events and not self._joining:
            self._settle(group)

    def _settle(self, group: SyncGroup) -> None:
        """Tell what the group is now; one with a member that has not started, or that is about to stop, is nothing."""
        if not self.leaving and any(router.state is State.INIT for router in group.members.values()):
            return
        found = group.settle()
        if found is not None:
            self._group_moved(found)

    def settle(self) -> None:
        """Tell what became of the groups."""
        self._joining = False
        for group in self.groups.values():
            self._settle(group)

    # what many events make up -------------------------------------------------------------------------------------

    def judge(self, member: M, faults: Iterable[FaultRaised], priority: EffectivePriority, now: float) -> None:
        """Everything that holds a member back at this moment, and its priority; the machine hears of differences."""
        present = {fault.subject: fault for fault in faults}
        for fault in present.values():
            self.post(member, fault, now)
        known = {*member.router.faults, *member.router.waiting}
        for subject in known - present.keys() - {GROUP_FAULT}:
            self.post(member, FaultCleared(subject), now)
        self.post(member, PriorityChanged(priority.value, str(priority)), now)

    def start(self, starting: Iterable[M], startup: Callable[[M], Startup], now: float) -> None:
        """Start members whose conditions have been judged: what holds one member of a group back holds all back."""
        for group in self.groups.values():
            for name, event in group.prepare():
                self.post(self.members[name], event, now)
        for member in starting:
            self.post(member, startup(member), now)
        self.settle()

    def regroup(self, now: float) -> None:
        """After a reload: the faults that members share are those of the groups as they are now."""
        for member in self.members.values():
            if not member.group and GROUP_FAULT in {*member.router.faults, *member.router.waiting}:
                self.post(member, GroupRecovered(), now)
        for group in self.groups.values():
            for name, event in group.regroup():
                self.post(self.members[name], event, now)
        self.settle()

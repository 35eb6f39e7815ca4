"""Instances that change state together (vrrp-behaviour.md 8). Pure: told what a member did, says what others hear."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from keepalived_py.records import dataclass

from .effects import Effect, LowerPriorityHeard, SendAdvert, Transition, WantMaster
from .events import (
    AddressesLost,
    Event,
    GroupAnnounced,
    GroupDemoted,
    GroupFaulted,
    GroupHeld,
    GroupPromoted,
    GroupRecovered,
)
from .machine import GROUP_FAULT, VirtualRouter
from .states import State


@dataclass(frozen=True, slots=True)
class GroupTransition:
    """The group as a whole changed state: its scripts are told, after those of the members."""

    name: str
    old: State
    new: State


class SyncGroup:
    """One group. Its state follows its members: FAULT if one is, else MASTER if all are, else BACKUP."""

    def __init__(self, name: str, members: Mapping[str, VirtualRouter]) -> None:
        self.name = name
        self.members = dict(members)
        self.state = State.INIT

    def absorb(self, member: str, effects: Sequence[Effect]) -> list[tuple[str, Event]]:
        """Events for other members (or, for a promotion, all) that follow from what `member` just did."""
        told: list[tuple[str, Event]] = []
        for effect in effects:
            match effect:
                case WantMaster():
                    told += self._promote(effect.reason)
                case Transition(new=State.BACKUP, old=State.MASTER):
                    reason = f"{member} left MASTER: {effect.reason}"
                    # one that gives its addresses up says farewell and is back soon, and so do the others (1.2)
                    gives_up = SendAdvert(0) in effects
                    told += self._others(member, (AddressesLost if gives_up else GroupDemoted)(reason), State.MASTER)
                case Transition(new=State.FAULT):  # of the others one may have a fault of its own later
                    told += self._others(member, GroupFaulted(f"{member} is in FAULT: {effect.reason}"))
                case LowerPriorityHeard():
                    told += self._others(member, GroupAnnounced(), State.MASTER)
        return told

    def _others(self, member: str, event: Event, state: State | None = None) -> list[tuple[str, Event]]:
        return [
            (name, event)
            for name, router in self.members.items()
            if name != member and (state is None or router.state is state)
        ]

    def _promote(self, reason: str) -> list[tuple[str, Event]]:
        """All go up once the last one wants to; members that are MASTER already stay as they are."""
        routers = self.members.values()
        if not all(router.wants_master or router.state is State.MASTER for router in routers):
            return []
        return [(name, GroupPromoted(reason)) for name, router in self.members.items() if router.state is State.BACKUP]

    def recovery(self) -> list[tuple[str, Event]]:
        """Call after a member's own fault was cleared: once none has a fault of its own, all leave FAULT."""
        if any((set(router.faults) | set(router.waiting)) - {GROUP_FAULT} for router in self.members.values()):
            return []
        return [
            (name, GroupRecovered())
            for name, router in self.members.items()
            if GROUP_FAULT in router.faults or GROUP_FAULT in router.waiting
        ]

    def regroup(self) -> list[tuple[str, Event]]:
        """Call after the members changed: a fault of one that runs is a fault of all, and one of nobody is none."""
        running = [name for name, router in self.members.items() if router.started]
        return self._share_faults(running, running) or self.recovery()

    def prepare(self) -> list[tuple[str, Event]]:
        """Call when every member's conditions are known and before any starts: what holds one back holds all back."""
        starting = [name for name, router in self.members.items() if router.state is State.INIT]
        told = self._share_faults(starting, self.members)
        waiting = [name for name, router in self.members.items() if router.waiting]
        if told or not waiting:
            return told
        event = GroupHeld(f"{waiting[0]} waits for its first results")
        return [(name, event) for name in starting if name not in waiting]

    def _share_faults(self, whose: Iterable[str], causes: Iterable[str]) -> list[tuple[str, Event]]:
        """That of `causes` some are in FAULT by themselves, for those of `whose` that do not know."""
        faulty = [name for name in causes if set(self.members[name].faults) - {GROUP_FAULT}]
        told: list[tuple[str, Event]] = []
        for name in whose:
            cause = next((each for each in faulty if each != name), None)
            if cause is not None and GROUP_FAULT not in self.members[name].faults:
                told.append((name, GroupFaulted(f"{cause} is in FAULT")))
        return told

    def settle(self) -> GroupTransition | None:
        """The group's own change of state, once its members have settled.

        Some are MASTER and some BACKUP while a new member joins a MASTER group, which stays what it is meanwhile.
        """
        states = {router.state for router in self.members.values()}
        if State.INIT in states:
            new = State.INIT
        elif State.FAULT in states:
            new = State.FAULT
        elif states == {State.MASTER} or (State.MASTER in states and self.state is State.MASTER):
            new = State.MASTER
        else:
            new = State.BACKUP
        if new is self.state:
            return None
        old, self.state = self.state, new
        return GroupTransition(self.name, old, new)

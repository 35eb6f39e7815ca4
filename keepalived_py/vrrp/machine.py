"""One virtual router: `step(event, now)` gives effects. Pure: no socket, no clock, no kernel.

RFC 9568 section 6.4 with keepalived's FAULT, preemption delay and sync groups (vrrp-behaviour.md 1, 7, 8). Two rules
hold throughout. On the way up the advertisement is the first effect, the addresses the second, the announcements the
third, so that an old master falls silent before we speak for its addresses. And every change of state has a reason.

Deadlines are absolute instants of a monotonic clock. The next advertisement is due one interval after the last was
*due*, not after it was sent, so intervals do not drift; a machine later than a whole interval starts afresh.
"""

from __future__ import annotations

from keepalived_py.config.model import VrrpInstance
from keepalived_py.values import OWNER, Centiseconds, IPAddress, seconds

from .effects import (
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
from .events import (
    AddressesLost,
    AdvertReceived,
    ConfigChanged,
    Event,
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
from .states import State, Timer
from .timers import master_down_interval, skew_time

GROUP_FAULT = "sync group"


class IllegalEvent(Exception):
    """An event that cannot happen in this state: a bug in the caller."""


class VirtualRouter:
    """The machine of one instance. `grouped`: a sync group decides when it may be MASTER."""

    def __init__(self, config: VrrpInstance, source: IPAddress | None = None, *, grouped: bool = False) -> None:
        self.config = config
        self.source = source
        self.grouped = grouped
        self.priority = config.priority
        """Effective priority."""
        self.master_adver_int: Centiseconds = config.advert_int
        self.master_source: IPAddress | None = None
        self.state = State.INIT
        self.wants_master = False
        """In a sync group: the timer ran out and the others are waited for."""
        self.may_preempt = False
        """The preemption delay has passed since a lower-priority master was first heard."""
        self.faults: dict[str, str] = {}
        """Why the router must not run, by subject."""
        self.deadlines: dict[Timer, float] = {}

    # what others ask ----------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """The earliest deadline; call `step(TimerExpired(...))` for `due(now)` then."""
        return min(self.deadlines.values(), default=None)

    def due(self, now: float) -> Timer | None:
        """The timer that has run out, the oldest first."""
        late = [(at, timer.value, timer) for timer, at in self.deadlines.items() if at <= now]
        return min(late)[2] if late else None

    @property
    def is_owner(self) -> bool:
        return self.config.priority == OWNER

    @property
    def skew_time(self) -> float:
        return skew_time(self.config.version, self.priority, self.master_adver_int)

    @property
    def master_down_interval(self) -> float:
        return master_down_interval(
            self.config.version, self.priority, self.master_adver_int, self.config.down_timer_adverts
        )

    # the one door -------------------------------------------------------------------------------------------------

    def step(self, event: Event, now: float) -> list[Effect]:
        """Effects of `event` at `now` (seconds, CLOCK_MONOTONIC). Raises IllegalEvent and changes nothing then."""
        match self.state, event:
            case State.INIT, Startup():
                return self._start(event, now)
            case State.INIT, Shutdown():
                return []
            case _, Shutdown():
                return self._shutdown(event)
            case _, FaultRaised():
                return self._fault(event.subject, event.reason, now)
            case _, FaultCleared():
                self.faults.pop(event.subject, None)
                return self._leave_fault(now)
            case _, GroupFaulted():
                return self._fault(GROUP_FAULT, event.reason, now, adverts=1)
            case _, GroupRecovered():
                self.faults.pop(GROUP_FAULT, None)
                return self._leave_fault(now)
            case _, PriorityChanged():
                return self._reprioritize(event, now)
            case _, SourceChanged():
                self.source = event.source
                return []
            case _, ConfigChanged():
                return self._reconfigure(event.config, now)
            case State.BACKUP, AdvertReceived():
                return self._advert_in_backup(event, now)
            case State.MASTER, AdvertReceived():
                return self._advert_in_master(event, now)
            case State.BACKUP, TimerExpired():
                return self._timer_in_backup(event.timer, now)
            case State.MASTER, TimerExpired():
                return self._timer_in_master(event.timer, now)
            case State.BACKUP, GroupPromoted():
                return self._become_master(now, event.reason)
            case State.MASTER, GroupDemoted():
                return self._become_backup(now, event.reason)
            case State.BACKUP, GroupDemoted():
                self._await_master(now)
                return []
            case State.MASTER, GroupAnnounced():
                return self._announce_again(now)
            case State.MASTER, AddressesLost():
                return self._give_up(event.reason, now)
            case ((State.INIT | State.FAULT), AdvertReceived()):
                return []  # section 3: these states ignore everything they hear
            case _, (GroupDemoted() | GroupPromoted() | GroupAnnounced() | AddressesLost()):
                return []  # the state it is about has passed
            case _:
                raise IllegalEvent(f"{self.config.name}: {event} in {self.state.value}")

    # start and stop -----------------------------------------------------------------------------------------------

    def _start(self, event: Startup, now: float) -> list[Effect]:
        if self.faults:
            self.state = State.FAULT
            return [Transition(State.INIT, State.FAULT, self._why())]
        if event.adopted is State.MASTER:
            return self._become_master(now, "taken over from the process that died", fresh=False)
        if self.is_owner and self.config.wants_master and not self.grouped:
            return self._become_master(now, "address owner")
        return self._become_backup(now, "startup")

    def _shutdown(self, event: Shutdown) -> list[Effect]:
        was = self.state
        self._enter(State.INIT)
        self.deadlines.clear()
        effects: list[Effect] = []
        if was is State.MASTER and not event.keep:
            effects = [SendAdvert(0), StopAnnouncing(), SetVips(False)]
        return [*effects, Transition(was, State.INIT, "shutdown")]

    # transitions --------------------------------------------------------------------------------------------------

    def _enter(self, state: State) -> State:
        was, self.state = self.state, state
        self.wants_master = self.may_preempt = False
        return was

    def _become_master(self, now: float, reason: str, *, fresh: bool = True) -> list[Effect]:
        was = self._enter(State.MASTER)
        self.master_adver_int = self.config.advert_int
        self.master_source = self.source
        garp = self.config.garp
        self.deadlines = {Timer.ADVERT: now + seconds(self.config.advert_int)}
        if garp.master_delay:
            self.deadlines[Timer.SECOND_BURST] = now + garp.master_delay
        if garp.master_refresh:
            self.deadlines[Timer.REFRESH] = now + garp.master_delay + garp.master_refresh
        return [
            SendAdvert(self.priority),
            SetVips(True),
            AnnounceVips(garp.master_repeat if fresh else 1),
            Transition(was, State.MASTER, reason),
        ]

    def _become_backup(self, now: float, reason: str) -> list[Effect]:
        was = self._enter(State.BACKUP)
        self.deadlines.clear()
        self._await_master(now)
        leaving: list[Effect] = [StopAnnouncing(), SetVips(False)] if was is State.MASTER else []
        return [*leaving, Transition(was, State.BACKUP, reason)]

    def _fault(self, subject: str, reason: str, now: float, adverts: int = 2) -> list[Effect]:
        known = subject in self.faults
        self.faults[subject] = reason
        if known or self.state in (State.INIT, State.FAULT):
            return []
        was = self._enter(State.FAULT)
        self.deadlines.clear()
        effects: list[Effect] = []
        if was is State.MASTER:
            # a farewell may be lost with the interface that failed, so the instance itself says it twice
            effects = [*([SendAdvert(0)] * adverts), StopAnnouncing(), SetVips(False)]
        return [*effects, Transition(was, State.FAULT, reason)]

    def _leave_fault(self, now: float) -> list[Effect]:
        if self.state is not State.FAULT or self.faults:
            return []
        self.master_adver_int = self.config.advert_int
        if self.is_owner and self.config.wants_master and not self.grouped:
            return self._become_master(now, "address owner, faults are gone")
        return self._become_backup(now, "faults are gone")

    def _give_up(self, reason: str, now: float) -> list[Effect]:
        """vrrp-behaviour.md 1.2: priority 0, the rest removed, back soon."""
        effects = self._become_backup(now, reason)
        self.deadlines[Timer.MASTER_DOWN] = now + self.skew_time
        return [SendAdvert(0), *effects]

    def _await_master(self, now: float) -> None:
        self.deadlines[Timer.MASTER_DOWN] = now + self.master_down_interval

    def _why(self) -> str:
        return "; ".join(self.faults.values())

    # adverts ------------------------------------------------------------------------------------------------------

    def _advert_in_backup(self, advert: AdvertReceived, now: float) -> list[Effect]:
        if advert.priority == 0:
            self.master_source = advert.source
            self.deadlines[Timer.MASTER_DOWN] = now + self.skew_time
            return [Note(f"master {advert.source} says farewell")]
        if advert.priority >= self.priority or not self.config.preempt:
            self._follow(advert, now)
            self.deadlines.pop(Timer.PREEMPT_DELAY, None)
            self.wants_master = self.may_preempt = False
            return []
        return self._lower_in_backup(advert, now)

    def _lower_in_backup(self, advert: AdvertReceived, now: float) -> list[Effect]:
        """A master that we outrank: its adverts no longer hold us back, unless a delay is set (section 1.3)."""
        if self.config.preempt_delay and not self.may_preempt:
            starts = Timer.PREEMPT_DELAY not in self.deadlines
            if starts:
                self.deadlines[Timer.PREEMPT_DELAY] = now + self.config.preempt_delay
            self._follow(advert, now)
            return [Note(f"start preempt delay of {self.config.preempt_delay:g}s")] if starts else []
        text = f"received lower priority ({advert.priority}) advert from {advert.source} - discarding"
        return [Note(text)]

    def _follow(self, advert: AdvertReceived, now: float) -> None:
        self.master_source = advert.source
        if self.config.version == 3:
            self.master_adver_int = advert.adver_int
        self._await_master(now)

    def _advert_in_master(self, advert: AdvertReceived, now: float) -> list[Effect]:
        if advert.priority == 0:
            return self._advertise_again(now)
        if self._outranked_by(advert):
            reason = f"higher priority ({advert.priority}) advert from {advert.source}, ours is {self.priority}"
            farewell: list[Effect] = [SendAdvert(self.priority)] if self.config.higher_prio_send_advert else []
            effects = [*farewell, *self._become_backup(now, reason)]
            self._follow(advert, now)
            return effects
        if advert.priority == self.priority and advert.source == self.source:
            return [Note(f"advert with our own address {advert.source} and priority", warning=True)]
        return self._assert_ourselves(advert, now)

    def _outranked_by(self, advert: AdvertReceived) -> bool:
        """RFC 9568 section 6.4.3: the higher priority wins, then the higher address."""
        if advert.priority != self.priority:
            return advert.priority > self.priority
        return self.source is not None and int(advert.source) > int(self.source)

    def _assert_ourselves(self, advert: AdvertReceived, now: float) -> list[Effect]:
        """Another router of lower rank believes it is master."""
        text = f"Received advert from {advert.source} with lower priority {advert.priority}, ours {self.priority}"
        again: list[Effect] = []
        if not self.config.lower_prio_no_advert:
            again = self._advertise_again(now)
            text += ", forcing new election"
        return [
            *again,
            *self._announce_again(now),
            Note(text),
            LowerPriorityHeard(advert.priority, str(advert.source)),
        ]

    def _announce_again(self, now: float) -> list[Effect]:
        garp = self.config.garp
        if not garp.lower_prio_repeat:
            return []
        if garp.lower_prio_delay:
            self.deadlines[Timer.LOWER_PRIORITY_BURST] = now + garp.lower_prio_delay
        return [AnnounceVips(garp.lower_prio_repeat)]

    def _advertise_again(self, now: float) -> list[Effect]:
        self.deadlines[Timer.ADVERT] = now + seconds(self.config.advert_int)
        return [SendAdvert(self.priority)]

    # timers -------------------------------------------------------------------------------------------------------

    def _timer_in_backup(self, timer: Timer, now: float) -> list[Effect]:
        if timer is Timer.PREEMPT_DELAY:
            del self.deadlines[timer]
            self.may_preempt = True
            return [Note("preempt delay has passed")]
        if timer is not Timer.MASTER_DOWN:
            raise IllegalEvent(f"{self.config.name}: timer {timer.value} in BACKUP")
        reason = "master down timer expired"
        if self.grouped:
            self.wants_master = True
            self._await_master(now)
            return [WantMaster(reason)]
        return self._become_master(now, reason)

    def _timer_in_master(self, timer: Timer, now: float) -> list[Effect]:
        garp = self.config.garp
        match timer:
            case Timer.ADVERT:
                interval = seconds(self.config.advert_int)
                due = self.deadlines[timer] + interval
                self.deadlines[timer] = due if due > now else now + interval
                return [SendAdvert(self.priority)]
            case Timer.SECOND_BURST:
                del self.deadlines[timer]
                return [AnnounceVips(garp.master_repeat)]
            case Timer.LOWER_PRIORITY_BURST:
                del self.deadlines[timer]
                return [AnnounceVips(garp.lower_prio_repeat)]
            case Timer.REFRESH:
                self.deadlines[timer] = now + garp.master_refresh
                return [AnnounceVips(garp.master_refresh_repeat)]
        raise IllegalEvent(f"{self.config.name}: timer {timer.value} in MASTER")

    # changes of priority and configuration ------------------------------------------------------------------------

    def _reprioritize(self, event: PriorityChanged, now: float) -> list[Effect]:
        if self.is_owner or event.priority == self.priority:
            return []
        before = self.master_down_interval
        old, self.priority = self.priority, event.priority
        if self.state is State.BACKUP and Timer.MASTER_DOWN in self.deadlines:
            self.deadlines[Timer.MASTER_DOWN] += self.master_down_interval - before
        return [Note(f"Changing effective priority from {old} to {event.priority} ({event.reason})")]

    def _reconfigure(self, config: VrrpInstance, now: float) -> list[Effect]:
        """Absorb a new configuration without a ripple (vrrp-behaviour.md 15)."""
        old, self.config = self.config, config
        if old.priority != config.priority:
            self.priority = config.priority
        if self.state is State.MASTER:
            return self._reconfigure_master(old, now)
        if self.state is State.BACKUP and old.advert_int != config.advert_int and config.version == 2:
            self.master_adver_int = config.advert_int
            self._await_master(now)
        if not config.preempt_delay:
            self.deadlines.pop(Timer.PREEMPT_DELAY, None)
        return []

    def _reconfigure_master(self, old: VrrpInstance, now: float) -> list[Effect]:
        config = self.config
        self.master_adver_int = config.advert_int
        if old.advert_int != config.advert_int:
            self.deadlines[Timer.ADVERT] = min(self.deadlines[Timer.ADVERT], now + seconds(config.advert_int))
        if not config.garp.master_refresh:
            self.deadlines.pop(Timer.REFRESH, None)
        elif Timer.REFRESH not in self.deadlines:
            self.deadlines[Timer.REFRESH] = now + config.garp.master_refresh
        same = (old.addresses, old.excluded) == (config.addresses, config.excluded)
        return [] if same else [SetVips(True)]

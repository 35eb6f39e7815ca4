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
    AnnounceExtra,
    AnnounceSource,
    AnnounceVips,
    Effect,
    LowerPriorityHeard,
    Note,
    PriorityShifted,
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
    GroupHeld,
    GroupPromoted,
    GroupRecovered,
    PriorityChanged,
    Shutdown,
    SourceChanged,
    StartDelayed,
    Startup,
    TimerExpired,
)
from .rival import Rival, Verdict
from .states import State, Timer
from .timers import master_down_interval, skew_time, would_have_been_replaced

GROUP_FAULT = "sync group"
BEST_BACKUP = 254
"""The priority that waits the least."""


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
        self.master_priority = 0
        """Of the last advert that was obeyed; 0 while MASTER."""
        self.state = State.INIT
        self.wants_master = False
        """In a sync group: the timer ran out and the others are waited for."""
        self.may_preempt = False
        """The preemption delay has passed since a lower-priority master was first heard."""
        self.faults: dict[str, str] = {}
        """Why the router must not run, by subject."""
        self.waiting: dict[str, str] = {}
        """What must be known before the router may start, by subject."""
        self.started = False
        self.handing_over = False
        """It said farewell and holds its addresses for whoever follows."""
        self.not_before = 0.0
        """End of the start-up delay."""
        self.deadlines: dict[Timer, float] = {}
        self._rival: Rival | None = None

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
            case State.MASTER, TimerExpired():  # nearly all that happens, so these two come first
                return self._timer_in_master(event.timer, now)
            case State.BACKUP, AdvertReceived():
                return self._advert_in_backup(event, now) if now >= self.not_before else []
            case State.INIT, Startup() if not self.started:
                self.started, self.not_before = True, event.not_before
                return self._start(event.adopted, now)
            case State.INIT, Shutdown():
                self.started = False
                return self._let_go("nobody has taken over")
            case State.INIT, AdvertReceived() if event.priority:
                return self._let_go(f"{event.source} has taken over")
            case _, Shutdown():
                return self._shutdown(event)
            case _, FaultRaised(waiting=True):
                self._hold(event.subject, event.reason)
                return []
            case _, FaultRaised():
                return self._fault(event.subject, event.reason)
            case _, FaultCleared():
                return self._clear(event.subject, now)
            case _, GroupFaulted():
                return self._fault(GROUP_FAULT, event.reason, adverts=1)
            case _, GroupHeld():
                self._hold(GROUP_FAULT, event.reason)
                return []
            case _, GroupRecovered():
                return self._clear(GROUP_FAULT, now)
            case _, PriorityChanged():
                return self._reprioritize(event, now)
            case _, SourceChanged():
                self.source = event.source
                return []
            case _, StartDelayed():
                self._move_start(event.not_before, now)
                return []
            case _, ConfigChanged():
                return self._reconfigure(event.config, now)
            case State.MASTER, AdvertReceived():
                return self._advert_in_master(event, now)
            case State.BACKUP, TimerExpired():
                return self._timer_in_backup(event.timer, now)
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

    def _start(self, adopted: State | None, now: float) -> list[Effect]:
        if self.faults:
            why = self._why()
            self._enter(State.FAULT)
            # a predecessor that was MASTER left addresses behind, and others believe that somebody speaks for them
            leaving = self._farewell() if adopted is State.MASTER else []
            return [*leaving, Transition(State.INIT, State.FAULT, why)]
        if adopted is State.MASTER:  # what is not known yet was good for the predecessor
            return self._become_master(now, "taken over from the process that died", fresh=False)
        if self.waiting:
            return []
        return self._claim_or_wait(now, "address owner", "startup")

    def _claim_or_wait(self, now: float, owner_reason: str, reason: str) -> list[Effect]:
        """An owner that wants MASTER has it at once, or as soon as its group or the start-up delay lets it."""
        if not (self.is_owner and self.config.wants_master):
            return self._become_backup(now, reason)
        if now < self.not_before:
            effects = self._become_backup(now, reason)
            self.deadlines[Timer.MASTER_DOWN] = self.not_before
            return effects
        if not self.grouped:
            return self._become_master(now, owner_reason)
        effects = self._become_backup(now, reason)
        self.wants_master = True
        return [*effects, WantMaster(owner_reason)]

    def _move_start(self, not_before: float, now: float) -> None:
        """A running delay ends at another time, and what waits for its end moves with it."""
        old = self.not_before
        if now >= old:
            return
        self.not_before = not_before
        if self.state is State.BACKUP:
            self.deadlines[Timer.MASTER_DOWN] += max(now, not_before) - old

    def _shutdown(self, event: Shutdown) -> list[Effect]:
        was = self._enter(State.INIT)
        self.started = False
        self.deadlines.clear()
        effects: list[Effect] = []
        if was is State.MASTER and not event.keep:
            effects = [SendAdvert(0), StopAnnouncing()]
            if event.hand_over:
                self.handing_over = True
                return effects  # who remembers it as MASTER takes the addresses away should this process die
            effects.append(SetVips(False))
        return [*effects, Transition(was, State.INIT, "shutdown")]

    def _let_go(self, reason: str) -> list[Effect]:
        """The end of a hand-over."""
        if not self.handing_over:
            return []
        self.handing_over = False
        return [SetVips(False), Note(reason), Transition(State.MASTER, State.INIT, "shutdown")]

    # transitions --------------------------------------------------------------------------------------------------

    def _enter(self, state: State) -> State:
        was, self.state = self.state, state
        self.wants_master = self.may_preempt = False
        if state is State.FAULT:
            self.faults = {**self.waiting, **self.faults}
            self.waiting = {}
        return was

    def _become_master(self, now: float, reason: str, *, fresh: bool = True) -> list[Effect]:
        was = self._enter(State.MASTER)
        self._forget_rival()
        self.master_adver_int = self.config.advert_int
        self.master_source, self.master_priority = self.source, 0
        garp = self.config.garp
        self.deadlines = {Timer.ADVERT: now + seconds(self.config.advert_int)}
        if garp.master_delay:
            self.deadlines[Timer.SECOND_BURST] = now + garp.master_delay
        if garp.master_refresh:
            self.deadlines[Timer.REFRESH] = now + garp.master_delay + garp.master_refresh
        if garp.extra_if:
            self.deadlines[Timer.EXTRA] = now + garp.extra_if
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

    def _hold(self, subject: str, reason: str) -> None:
        """A condition without a result yet: a reason to stay in FAULT where the router is, else only to wait."""
        (self.faults if self.state is State.FAULT else self.waiting)[subject] = reason

    def _fault(self, subject: str, reason: str, adverts: int = 2) -> list[Effect]:
        known = subject in self.faults
        self.faults[subject] = reason
        self.waiting.pop(subject, None)
        if self.state is State.FAULT and not known and subject != GROUP_FAULT:
            return [Note(f"another reason for FAULT: {reason}")]
        if known or self.state is State.FAULT or not self.started:
            return []
        was = self._enter(State.FAULT)
        self.deadlines.clear()
        effects: list[Effect] = []
        if was is State.MASTER:
            effects = self._farewell(adverts)
        return [*effects, Transition(was, State.FAULT, reason)]

    def _farewell(self, adverts: int = 2) -> list[Effect]:
        """One may be lost with the interface that failed, so the instance itself says it twice."""
        return [*([SendAdvert(0)] * adverts), StopAnnouncing(), SetVips(False)]

    def _clear(self, subject: str, now: float) -> list[Effect]:
        self.faults.pop(subject, None)
        self.waiting.pop(subject, None)
        if self.faults or self.waiting or not self.started:
            return []
        if self.state is State.INIT:
            return self._start(None, now)
        if self.state is not State.FAULT:
            return []
        self.master_adver_int = self.config.advert_int
        effects = self._claim_or_wait(now, "address owner, faults are gone", "faults are gone")
        return [AnnounceSource(), *effects] if self.config.unicast else effects

    def _give_up(self, reason: str, now: float) -> list[Effect]:
        """vrrp-behaviour.md 1.2: priority 0, the rest removed, back soon."""
        effects = self._become_backup(now, reason)
        self.deadlines[Timer.MASTER_DOWN] = now + self.skew_time
        return [SendAdvert(0), *effects]

    def _await_master(self, now: float) -> None:
        self.deadlines[Timer.MASTER_DOWN] = max(now, self.not_before) + self.master_down_interval

    def _why(self) -> str:
        own = [reason for subject, reason in self.faults.items() if subject != GROUP_FAULT]
        return "; ".join(own or self.faults.values())

    # adverts ------------------------------------------------------------------------------------------------------

    def _advert_in_backup(self, advert: AdvertReceived, now: float) -> list[Effect]:
        if self._rival is not None and (advert.source != self._rival.source or advert.priority != OWNER):
            self._forget_rival()
        if advert.priority == 0:
            self.master_source = advert.source
            self.deadlines[Timer.MASTER_DOWN] = now + self.skew_time
            text = f"received priority 0 advertisement: master {advert.source} says farewell"
            return [Note(text, kind="farewell")]
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
        return [Note(text, kind="lower priority")]

    def _follow(self, advert: AdvertReceived, now: float) -> None:
        self.master_source, self.master_priority = advert.source, advert.priority
        if self.config.version == 3:
            self.master_adver_int = advert.adver_int
        self._await_master(now)

    def _advert_in_master(self, advert: AdvertReceived, now: float) -> list[Effect]:
        if advert.priority == 0:  # whoever says farewell may have spoken for our addresses
            return [*self._advertise_again(now), *self._announce_again(now)]
        if advert.priority == OWNER == self.priority and not self._outranked_by(advert):
            return self._other_owner(advert, now)
        if self._outranked_by(advert):
            higher, same = f"higher priority {advert.priority}, ours {self.priority}", f"same priority {self.priority}"
            rank = higher if advert.priority > self.priority else f"{same} but higher IP address than ours"
            reason = f"Master received advert from {advert.source} with {rank}"
            farewell: list[Effect] = [SendAdvert(self.priority)] if self.config.higher_prio_send_advert else []
            effects = [*farewell, *self._become_backup(now, reason)]
            self._follow(advert, now)
            return effects
        if advert.priority == self.priority and advert.source == self.source:
            return [_own_address(advert)]
        return self._assert_ourselves(advert, now)

    def _outranked_by(self, advert: AdvertReceived) -> bool:
        """RFC 9568 section 6.4.3: the higher priority wins, then the higher address."""
        if advert.priority != self.priority:
            return advert.priority > self.priority
        return self.source is not None and int(advert.source) > int(self.source)

    def _other_owner(self, advert: AdvertReceived, now: float) -> list[Effect]:
        """Two address owners, and the other has the lower address (section 1.4): it should yield, else we do."""
        if advert.source == self.source:
            return [_own_address(advert)]
        self._rival = self._rival or Rival()
        verdict = self._rival.heard(advert.source, max(advert.adver_int, self.config.advert_int), now)
        if verdict is Verdict.NEW:
            text = f"CONFIGURATION ERROR: {advert.source} is an address owner as well, as only one router may be"
            return [*self._advertise_again(now), SendAdvert(self.priority), Note(text, warning=True, kind="owner")]
        if verdict is Verdict.WAIT:
            return []
        self.priority = BEST_BACKUP
        effects = self._become_backup(now, f"the other address owner {advert.source} does not yield")
        self._follow(advert, now)
        return effects

    def _forget_rival(self) -> None:
        if self._rival is not None:
            self._rival = None
            self.priority = self.config.priority

    def _assert_ourselves(self, advert: AdvertReceived, now: float) -> list[Effect]:
        """Another router of lower rank believes it is master."""
        text = f"Received advert from {advert.source} with lower priority {advert.priority}, ours {self.priority}"
        again: list[Effect] = []
        config = self.config
        # strict means the RFC of the version: 3768 says nothing to a lower priority, 9568 advertises at once
        if not config.lower_prio_no_advert or (config.strict and config.version == 3):
            again = self._advertise_again(now)
            text += ", forcing new election"
        return [
            *again,
            *self._announce_again(now),
            Note(text, kind="lower priority"),
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
                return self._advert_due(now)
            case Timer.SECOND_BURST:
                del self.deadlines[timer]
                return [AnnounceVips(garp.master_repeat)]
            case Timer.LOWER_PRIORITY_BURST:
                del self.deadlines[timer]
                return [AnnounceVips(garp.lower_prio_repeat)]
            case Timer.REFRESH:
                self.deadlines[timer] = now + garp.master_refresh
                return [AnnounceVips(garp.master_refresh_repeat)]
            case Timer.EXTRA:
                self.deadlines[timer] = now + garp.extra_if
                return [AnnounceExtra()]
        raise IllegalEvent(f"{self.config.name}: timer {timer.value} in MASTER")

    def _advert_due(self, now: float) -> list[Effect]:
        interval = seconds(self.config.advert_int)
        late = now - self.deadlines[Timer.ADVERT]
        if late > interval and self._replaced(BEST_BACKUP, late + interval):
            return self._advert_after_a_stall(now, late + interval)
        self.deadlines[Timer.ADVERT] += interval if late < interval else late + interval
        return [SendAdvert(self.priority)]

    def _replaced(self, priority: int, silence: float) -> bool:
        config = self.config
        return would_have_been_replaced(config.version, priority, config.advert_int, config.down_timer_adverts, silence)

    def _advert_after_a_stall(self, now: float, silence: float) -> list[Effect]:
        """We were silent for so long that somebody may have spoken for our addresses, though nobody does now."""
        text = f"was not scheduled: no advert was sent for {silence:.3f}s"
        limit = self.config.timer_expired_backup
        if limit and self._replaced(limit, silence):
            return [Note(text, warning=True), *self._become_backup(now, text)]
        self.deadlines[Timer.ADVERT] = now + seconds(self.config.advert_int)
        return [
            SendAdvert(self.priority),
            AnnounceVips(self.config.garp.master_repeat),
            Note(f"{text}; announcing again", warning=True),
        ]

    # changes of priority and configuration ------------------------------------------------------------------------

    def _reprioritize(self, event: PriorityChanged, now: float) -> list[Effect]:
        if self.is_owner or event.priority == self.priority:
            return []
        old = self.priority
        self._set_priority(event.priority)
        return [
            Note(f"Changing effective priority from {old} to {event.priority} ({event.reason})"),
            PriorityShifted(event.priority),
        ]

    def _set_priority(self, priority: int) -> None:
        """A running master down timer moves by what its length changes."""
        before = self.master_down_interval
        self.priority = priority
        if self.state is State.BACKUP:
            self.deadlines[Timer.MASTER_DOWN] += self.master_down_interval - before

    def _reconfigure(self, config: VrrpInstance, now: float) -> list[Effect]:
        """Absorb a new configuration without a ripple (vrrp-behaviour.md 15)."""
        old, self.config = self.config, config
        if old.priority != config.priority:
            self._rival = None
            self._set_priority(config.priority)
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
        if not config.garp.extra_if:
            self.deadlines.pop(Timer.EXTRA, None)
        elif old.garp.extra_if != config.garp.extra_if:
            self.deadlines[Timer.EXTRA] = now + config.garp.extra_if
        return [] if _holds(old) == _holds(config) else [SetVips(True)]


def _holds(config: VrrpInstance) -> tuple[object, ...]:
    """What a master puts into the kernel."""
    return config.addresses, config.excluded, config.routes, config.rules, config.accept


def _own_address(advert: AdvertReceived) -> Note:
    return Note(f"advert with our own address {advert.source} and priority", warning=True, kind="own address")

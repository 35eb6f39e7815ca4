"""Least gaps between announcements: garp_interval, gna_interval and garp_group (vrrp-behaviour.md 10).

A gap belongs to an interface, or to all interfaces of a group together; a VMAC counts for the interface below it. What
cannot be sent now waits in one queue per gap and is sent in order. Without any gap everything is sent at once.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import field

from keepalived_py.clock import now
from keepalived_py.config.model import GarpDefaults, GarpGroup
from keepalived_py.records import dataclass

from .announce import ETH_P_ARP, Frames
from .timer_driver import AbsoluteTimer

Frame = tuple[str, bytes]
Pending = Counter[Frame]
"""How many times each frame of one owner still is to be sent."""

QUEUE_FULL_PAUSE = 0.01
"""Seconds that a full interface queue gets before announcements go on."""


@dataclass(slots=True)
class _Gap:
    """One gap and what waits for it. An entry whose frame is pending no more is passed over."""

    seconds: float
    free_at: float = 0.0
    waiting: deque[tuple[Pending, Frame]] = field(default_factory=deque)


class Pacer:
    """Between those who announce and the wire. `wake` is told when `serve` is to be called, 0 for never."""

    def __init__(
        self,
        send: Callable[[Frames], Frames],
        base_of: Callable[[str], str],
        wake: Callable[[float], None],
        clock: Callable[[], float] = now,
    ) -> None:
        self._send, self._base_of, self._wake, self._clock = send, base_of, wake, clock
        self._settings: object = None
        self._group_of: dict[str, GarpGroup] = {}
        self._defaults = GarpDefaults()
        self._paced = False
        self._gaps: dict[tuple[object, bool], _Gap] = {}
        self._gap_of: dict[tuple[str, bool], _Gap | None] = {}
        self._pending: dict[Hashable, Pending] = {}

    def configure(self, defaults: GarpDefaults, groups: Iterable[GarpGroup]) -> None:
        """Gaps from now on; what waits goes on waiting for the new ones."""
        groups = tuple(groups)
        if self._settings == (defaults, groups):
            return
        self._settings, self._defaults = (defaults, groups), defaults
        self._group_of = {name: group for group in groups for name in group.interfaces}
        limits = [defaults.interval, defaults.gna_interval]
        limits += [limit or 0.0 for group in groups for limit in (group.garp_interval, group.gna_interval)]
        self._paced = any(limits)
        before, self._gaps = self._gaps, {}
        self._gap_of.clear()
        for gap in before.values():
            for pending, frame in gap.waiting:
                new = self._gap(frame)
                if new is None:
                    if pending[frame] > 0:
                        pending[frame] -= 1
                        self._send([frame])
                    continue
                new.free_at = max(new.free_at, gap.free_at - gap.seconds + new.seconds)
                new.waiting.append((pending, frame))
        self._arm()

    def send(self, owner: Hashable, frames: Frames, repeat: int) -> Frames:
        """Send what may be sent now and queue the rest, no frame more than `repeat` times; what a full interface queue
        did not take."""
        if not self._paced:
            return self._send(frames)
        free: Frames = []
        for frame in frames:
            gap = self._gap(frame)
            if gap is None:
                free.append(frame)
            elif gap.waiting or gap.free_at > self._clock() or not self._transmit(gap, frame):
                self._queue(owner, gap, frame, repeat)
        self._arm()
        return self._send(free)

    def _queue(self, owner: Hashable, gap: _Gap, frame: Frame, repeat: int) -> None:
        pending = self._pending.setdefault(owner, Counter())
        if pending[frame] < repeat:
            pending[frame] += 1
            gap.waiting.append((pending, frame))

    def drop(self, owner: Hashable) -> None:
        """Forget what waits for `owner`."""
        pending = self._pending.pop(owner, None)
        if pending is not None:
            pending.clear()

    def retain(self, owner: Hashable, frames: Iterable[Frame]) -> None:
        """Forget what waits for `owner` and is not in `frames`: addresses that it does not hold any more."""
        pending = self._pending.get(owner)
        if pending:
            for frame in set(pending) - set(frames):
                del pending[frame]

    def waiting(self) -> int:
        """How many announcements wait."""
        return sum(pending.total() for pending in self._pending.values())

    def serve(self) -> None:
        """Send what has waited long enough: one frame per gap."""
        for gap in self._gaps.values():
            while gap.waiting and not gap.waiting[0][0][gap.waiting[0][1]]:
                gap.waiting.popleft()
            if not gap.waiting or gap.free_at > self._clock():
                continue
            pending, frame = gap.waiting[0]
            if self._transmit(gap, frame):
                gap.waiting.popleft()
                pending[frame] -= 1
        self._arm()

    def _transmit(self, gap: _Gap, frame: Frame) -> bool:
        """Send one frame and start its gap; False when the interface did not take it."""
        taken = not self._send([frame])
        gap.free_at = self._clock() + (gap.seconds if taken else QUEUE_FULL_PAUSE)
        return taken

    def _arm(self) -> None:
        self._wake(min((gap.free_at for gap in self._gaps.values() if gap.waiting), default=0.0))

    def _gap(self, frame: Frame) -> _Gap | None:
        """The gap that a frame must keep; None for none."""
        interface, arp = frame[0], int.from_bytes(frame[1][12:14]) == ETH_P_ARP
        try:
            return self._gap_of[interface, arp]
        except KeyError:
            base = self._base_of(interface)
            group = self._group_of.get(base)
            own = None if group is None else group.garp_interval if arp else group.gna_interval
            where: object = base if own is None else group
            limit = own if own is not None else self._defaults.interval if arp else self._defaults.gna_interval
            gap = self._gaps.setdefault((where, arp), _Gap(limit)) if limit else None
            self._gap_of[interface, arp] = gap
            return gap


def timed_pacer(send: Callable[[Frames], Frames], base_of: Callable[[str], str]) -> Pacer:
    """One with a timer of its own on the running loop."""
    timer = AbsoluteTimer()
    pacer = Pacer(send, base_of, timer.set)

    def fire() -> None:
        timer.clear()
        pacer.serve()

    asyncio.get_running_loop().add_reader(timer.descriptor, fire)
    return pacer

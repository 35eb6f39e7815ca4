"""From what is tracked to faults and an effective priority (vrrp-behaviour.md 6), kept as data that can be shown."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable

from keepalived_py.config.model import Track, TrackProcess, VrrpScript
from keepalived_py.records import dataclass
from keepalived_py.values import OWNER

Observation = bool | int | None
"""What is known of a tracked thing: good or bad, the content of a file, None before anything is known."""

LARGEST = 253
"""Bounds what one file can add; below minus this it is a fault."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one tracked thing adds to the priority."""

    track: Track
    seen: Observation
    points: int


@dataclass(frozen=True, slots=True)
class EffectivePriority:
    """The sum as it was made: base, contributions, and the result within 1..254 (an owner stays 255)."""

    base: int
    contributions: tuple[Contribution, ...]

    @property
    def value(self) -> int:
        return OWNER if self.base == OWNER else max(1, min(254, self.total))

    @property
    def total(self) -> int:
        """Before the limits."""
        return self.base + sum(each.points for each in self.contributions)

    def __str__(self) -> str:
        parts = [f"{each.track.kind} {each.track.name} {each.points:+d}" for each in self.contributions if each.points]
        return f"{self.base}" + "".join(f", {part}" for part in parts) + f" = {self.value}"


def points(track: Track, seen: Observation) -> int:
    """Good adds a positive weight, bad a negative one, `reverse` with the other sign; a file adds content x weight."""
    if seen is None or not track.weight:
        return 0
    if track.kind == "file":
        return max(-LARGEST, min(LARGEST, _file_product(track, seen)))
    counts = track.weight > 0 if seen else track.weight < 0
    sign = -1 if track.reverse else 1
    return sign * track.weight if counts else 0


def _file_product(track: Track, content: int) -> int:
    return content * track.weight * (-1 if track.reverse else 1)


def effective_priority(base: int, tracks: Iterable[Track], seen: Callable[[Track], Observation]) -> EffectivePriority:
    """The priority that the weighted `tracks` make of `base`."""
    found = tuple(Contribution(track, seen(track), points(track, seen(track))) for track in tracks if track.weight)
    return EffectivePriority(base, found)


def is_fault(track: Track, seen: Observation) -> bool:
    """Whether a track holds the instance in FAULT. An unweighted one that is not known yet does, but for two kinds.

    A file always has a value. A virtual server is known by another process, which may be late or not run at all.
    """
    if seen is None and track.kind == "virtual_server":
        return False
    if track.kind == "file":
        return seen is not None and _file_is_fault(track, seen)
    if track.weight:
        return False
    return seen is None or bool(seen) is track.reverse


def _file_is_fault(track: Track, content: int) -> bool:
    if track.weight:
        return _file_product(track, content) < -LARGEST
    return (content == 0) is track.reverse


FILE_BYTES = 127
_NUMBER = re.compile(rb"\s*([+-]?)(0[xX][0-9a-fA-F]+|[0-9]+)")


def file_content(data: bytes) -> int | None:
    """The number at the start of a tracked file, in any base of C; 0 without one, None outside 32 bits: no change."""
    match = _NUMBER.match(data[:FILE_BYTES])
    if match is None:
        return 0
    sign, digits = match.groups()
    if digits[:2].lower() == b"0x":
        value = int(digits, 16)
    elif digits.startswith(b"0"):
        octal = re.match(rb"[0-7]+", digits)
        value = int(octal[0], 8) if octal else 0
    else:
        value = int(digits)
    value = -value if sign == b"-" else value
    return value if -(1 << 31) <= value < 1 << 31 else None


class ProcessState:
    """The quorum of one tracked process name, with its delays (vrrp-behaviour.md 6)."""

    def __init__(self, config: TrackProcess, count: int = 0) -> None:
        self.config = config
        self.count = count
        self.have_quorum = self._enough()
        self.deadline: float | None = None
        """When a change that is being delayed takes effect."""

    def _enough(self) -> bool:
        most = self.config.quorum_max
        return self.count >= self.config.quorum and (most is None or self.count <= most)

    def counted(self, count: int, now: float, *, delayed: bool = True) -> bool:
        """The number of processes is `count`; True when the quorum came or went by it.

        `delayed`: a fork or an exit, which the delays apply to; exec and rename take effect at once.
        """
        self.count = count
        if self._enough() is self.have_quorum:
            self.deadline = None
            return False
        delay = self.config.terminate_delay if self.have_quorum else self.config.fork_delay
        if not delayed or not delay:
            return self._settle()
        if self.deadline is None:
            self.deadline = now + delay
        return False

    def expired(self, now: float) -> bool:
        """The deadline was reached; True when the quorum came or went by it."""
        return self.deadline is not None and self.deadline <= now and self._settle()

    def _settle(self) -> bool:
        self.deadline = None
        self.have_quorum = not self.have_quorum
        return True

    def reconfigure(self, config: TrackProcess, now: float) -> bool:
        """Another quorum applies at once; True when it came or went by it."""
        self.config = config
        return self.counted(self.count, now, delayed=False)


def next_run(due: float, interval: float, ended: float, *, timed_out: bool = False) -> tuple[float, int]:
    """When a script whose run was due at `due` and ended at `ended` is run again, and how many starts it missed.

    After a time-out it is run at once where it is late: what hangs is to be known as down as soon as may be.
    """
    if timed_out:
        return max(due + interval, ended), 0
    missed = max(0, math.ceil((ended - due) / interval) - 1)
    return due + (missed + 1) * interval, missed


class ScriptState:
    """Rise and fall of one vrrp_script: a counter from 0 to rise + fall - 1, up from `rise` on."""

    def __init__(self, config: VrrpScript, known: bool | None = None) -> None:
        """`known`: it is up or down already, as somebody else found."""
        self.config = config
        self.up = known
        """None before the first result, which decides alone but for init_fail: that begins as if it had been down."""
        self.count = self._top if self.up else 0
        self.last_status: int | None = 0
        """None: it could not be run."""

    @property
    def _top(self) -> int:
        return self.config.rise + self.config.fall - 1

    def record(self, success: bool) -> bool:
        """Count one result; True when the script went up or down by it."""
        rise, top, was = self.config.rise, self._top, self.up
        if was is None and not self.config.init_fail:
            self.up, self.count = success, top if success else 0
        elif success:
            self.count = top if was or self.count >= rise - 1 else self.count + 1
            self.up = self.count >= rise
        elif was:
            self.count = self.count - 1 if self.count > rise else 0
            self.up = self.count >= rise
        else:
            self.up, self.count = False, 0
        return self.up is not was

    def reconfigure(self, config: VrrpScript) -> None:
        """Keep up or down across a reload, scaled to the new rise and fall."""
        self.config = config
        self.count = self._top if self.up else min(self.count, config.rise - 1)

"""From what is tracked to faults and an effective priority (vrrp-behaviour.md 6), kept as data that can be shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from keepalived_py.config.model import Track, VrrpScript
from keepalived_py.values import OWNER


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one tracked thing adds to the priority."""

    track: Track
    good: bool | None
    """None: no result yet; contributes nothing."""
    points: int


@dataclass(frozen=True, slots=True)
class EffectivePriority:
    """The sum as it was made: base, contributions, and the result within 1..254 (an owner stays 255)."""

    base: int
    contributions: tuple[Contribution, ...]

    @property
    def value(self) -> int:
        if self.base == OWNER:
            return OWNER
        return max(1, min(254, self.base + sum(each.points for each in self.contributions)))

    def __str__(self) -> str:
        parts = [f"{each.track.kind} {each.track.name} {each.points:+d}" for each in self.contributions if each.points]
        return f"{self.base}" + "".join(f", {part}" for part in parts) + f" = {self.value}"


def points(track: Track, good: bool | None) -> int:
    """Good adds a positive weight, bad a negative one; `reverse` turns the sign and the sense around."""
    if good is None or not track.weight:
        return 0
    if track.reverse:
        return -points(Track(kind=track.kind, name=track.name, weight=track.weight), good)
    counts = track.weight > 0 if good else track.weight < 0
    return track.weight if counts else 0


def effective_priority(base: int, tracks: Iterable[Track], good: Callable[[Track], bool | None]) -> EffectivePriority:
    """The priority that the weighted `tracks` make of `base`."""
    found = tuple(Contribution(track, good(track), points(track, good(track))) for track in tracks if track.weight)
    return EffectivePriority(base, found)


def is_fault(track: Track, good: bool | None) -> bool:
    """Whether an unweighted track holds the instance in FAULT; one without a result yet does."""
    if track.weight:
        return False
    return good is None or good is track.reverse


class ScriptState:
    """Rise and fall of one vrrp_script: a counter from 0 to rise + fall - 1, up from `rise` on."""

    def __init__(self, config: VrrpScript) -> None:
        self.config = config
        self.count = 0
        self.up: bool | None = False if config.init_fail else None
        self.last_status: int | None = None

    def record(self, success: bool) -> bool:
        """Count one result; True when the script went up or down by it."""
        rise, fall = self.config.rise, self.config.fall
        top = rise + fall - 1
        was = self.up
        if was is None:
            self.up, self.count = success, top if success else 0
        elif success:
            self.count = top if was or self.count >= rise - 1 else self.count + 1
            self.up = self.count >= rise
        elif was:
            self.count = self.count - 1 if self.count > rise else 0
            self.up = self.count >= rise
        else:
            self.count = 0
        return self.up is not was

    def reconfigure(self, config: VrrpScript) -> None:
        """Keep up or down across a reload, scaled to the new rise and fall."""
        self.config = config
        if self.up:
            self.count = config.rise + config.fall - 1
        else:
            self.count = min(self.count, config.rise - 1)

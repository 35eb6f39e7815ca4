"""One virtual server: which real servers are alive, whether there is a quorum, and what that means for the table. Pure.

Everything is recounted from the real servers each time; a running total drifts.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import field

from keepalived_py.config.model import Forwarding, RealServer, VirtualServer
from keepalived_py.records import dataclass
from keepalived_py.values import RealKey

from .quorum import has_quorum

MAX_WEIGHT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class RealServerChanged:
    """A real server came up or went down."""

    key: RealKey
    up: bool
    reason: str


@dataclass(frozen=True, slots=True)
class QuorumChanged:
    """The quorum was gained or lost. `starting` tells the evaluation at start apart."""

    up: bool
    live_weight: int
    starting: bool = False


@dataclass(frozen=True, slots=True)
class WeightChanged:
    """A real server has another weight. `active`: it was up at that moment."""

    key: RealKey
    before: int
    weight: int
    active: bool


Effect = RealServerChanged | QuorumChanged | WeightChanged


@dataclass(frozen=True, slots=True)
class Destination:
    """One row of a virtual server's table."""

    weight: int
    forwarding: Forwarding
    uthreshold: int = 0
    lthreshold: int = 0


@dataclass(slots=True)
class RealServerState:
    """What is known of a real server: `failed` are the checkers that are down, `points` what they add to its weight.

    `told`: somebody has heard of its state; its first failure, of an alpha checker, is told once.
    """

    config: RealServer
    failed: set[Hashable] = field(default_factory=set)
    points: dict[Hashable, int] = field(default_factory=dict)
    told: bool = False

    @property
    def alive(self) -> bool:
        return not self.failed

    @property
    def has_row(self) -> bool:
        """Whether it is to be in the table, with the weight 0 perhaps."""
        return self.alive or self.config.inhibit_on_failure

    @property
    def weight(self) -> int:
        return max(0, min(MAX_WEIGHT, self.config.weight + sum(self.points.values())))


def replaced(old: VirtualServer, new: VirtualServer) -> list[RealServer] | None:
    """The real servers that are other ones; None where any came, went or moved. Of thousands few change at a time."""
    if len(old.real_servers) != len(new.real_servers):
        return None
    pairs = [(was, now) for was, now in zip(old.real_servers, new.real_servers, strict=True) if was is not now]
    return [now for _, now in pairs] if all(was.key == now.key for was, now in pairs) else None


def _weight(key: RealKey, before: int, real: RealServerState, active: bool) -> list[Effect]:
    return [WeightChanged(key, before, real.weight, active)] if real.weight != before else []


class VirtualServerState:
    """The machine of one virtual server."""

    def __init__(self, config: VirtualServer) -> None:
        self.config = config
        self.reals = {real.key: RealServerState(real) for real in config.real_servers}
        self.had_quorum = False
        self.started = False

    @property
    def live_weight(self) -> int:
        return sum(real.weight if real.points else real.config.weight for real in self.reals.values() if real.alive)

    def start(self, init_notifies: bool = False) -> list[Effect]:
        """Evaluate the quorum for the first time: being up is told, being down only where a sorry server takes over.

        `init_notifies`: of real servers that are up from the start that is told too (rs_init_notifies).
        """
        self.started = True
        live, config = self.live_weight, self.config
        # a quorum that a predecessor had and that would not be gained now is no news
        kept = self.had_quorum and live < config.quorum + config.hysteresis
        self.had_quorum = self._has_quorum()
        effects = self._introduce(self.reals) if init_notifies else list[Effect]()
        told = not kept if self.had_quorum else config.sorry_server is not None
        if told:
            effects.append(QuorumChanged(self.had_quorum, live, starting=True))
        return effects

    def _introduce(self, keys: Iterable[RealKey]) -> list[Effect]:
        """Real servers that are up when they are first seen."""
        alive = [key for key in keys if self.reals[key].alive]
        for key in alive:
            self.reals[key].told = True
        return [RealServerChanged(key, True, "initial state") for key in alive]

    def checker_changed(self, key: RealKey, checker: Hashable, up: bool, reason: str) -> list[Effect]:
        """One checker of real server `key` went up or down. An unknown server is one that a reload removed."""
        real = self.reals.get(key)
        if real is None:
            return []
        was = real.alive
        if up:
            real.failed.discard(checker)
        else:
            real.failed.add(checker)
        if real.alive == was:
            return []
        real.told = True
        return [RealServerChanged(key, real.alive, reason), *self._recount()]

    def first_failure(self, key: RealKey, reason: str) -> list[Effect]:
        """An alpha checker failed the first time: its real server stays down, and people hear of it once."""
        real = self.reals.get(key)
        if real is None or real.alive or real.told:
            return []
        real.told = True
        return [RealServerChanged(key, False, reason)]

    def weight_changed(self, key: RealKey, checker: Hashable, points: int) -> list[Effect]:
        """A checker adds `points` to the weight of real server `key` (dynamic MISC_CHECK)."""
        real = self.reals.get(key)
        if real is None:
            return []
        before = real.weight
        real.points[checker] = points
        return [*_weight(key, before, real, real.alive), *self._recount()]

    def _has_quorum(self) -> bool:
        config = self.config
        return has_quorum(
            self.live_weight, quorum=config.quorum, hysteresis=config.hysteresis, had_quorum=self.had_quorum
        )

    def _recount(self) -> list[Effect]:
        now = self._has_quorum()
        if now == self.had_quorum or not self.started:
            return []
        self.had_quorum = now
        return [QuorumChanged(now, self.live_weight)]

    def reconfigure(
        self,
        config: VirtualServer,
        failed: Mapping[RealKey, set[Hashable]],
        points: Mapping[RealKey, dict[Hashable, int]],
        init_notifies: bool = False,
    ) -> list[Effect]:
        """Move to a changed configuration.

        `failed` and `points` are those of the checkers there are from now on; of the real servers that are `replaced`
        where that can be told. Everything is counted once, when all is in place; of a new server nothing is told
        (checker-behaviour.md 6) but with `init_notifies`.
        """
        known, effects = self.reals, list[Effect]()
        rows = replaced(self.config, config)
        self.config, self.reals = config, {} if rows is None else dict(known)
        for real in config.real_servers if rows is None else rows:
            key = real.key
            before = known.get(key)
            state = RealServerState(real, set(failed.get(key, ())), dict(points.get(key, {})))
            self.reals[key] = state
            if before is not None:
                state.told = before.told
                effects += _weight(key, before.weight, state, before.alive)
                if before.alive is not state.alive:
                    state.told = True
                    effects.append(RealServerChanged(key, state.alive, "checkers changed by the reload"))
        if init_notifies:
            effects += self._introduce([key for key in self.reals if key not in known])
        return [*effects, *self._recount()]

    def destinations(self, only: Iterable[RealKey] | None = None) -> Mapping[RealKey, Destination]:
        """What the table must hold for this virtual server (checker-behaviour.md 2 and 2.1).

        `only`: of some real servers alone, where there is no sorry server.
        """
        sorry = self.config.sorry_server
        fallback = sorry is not None and self.started and not self.had_quorum
        rows: dict[RealKey, Destination] = {}
        reals = self.reals if only is None else {key: self.reals[key] for key in only if key in self.reals}
        for key, real in reals.items():
            serving = real.alive and not fallback
            if serving or real.config.inhibit_on_failure:
                config = real.config
                weight = real.weight if serving else 0
                rows[key] = Destination(weight, config.forwarding, config.uthreshold, config.lthreshold)
        if sorry is not None and (fallback or (sorry.inhibit and sorry.key not in rows)):
            rows[sorry.key] = Destination(1 if fallback else 0, sorry.forwarding)
        return rows

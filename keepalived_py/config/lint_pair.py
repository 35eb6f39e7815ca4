"""Two routers' files compared: who wins, and what would split the virtual router (vrrp-behaviour.md 3)."""

from __future__ import annotations

from collections.abc import Iterator

from keepalived_py.records import dataclass

from .load import LoadResult
from .model import Config, VrrpInstance
from .problems import Location, Problem, Severity

Key = tuple[int, int]
"""VRID and family: interfaces may be called differently on the two machines."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The two sides of one virtual router."""

    a: VrrpInstance
    b: VrrpInstance

    @property
    def name(self) -> str:
        same = self.a.name == self.b.name
        return f"{self.a.name}" if same else f"{self.a.name} / {self.b.name}"


def lint_pair(first: LoadResult, second: LoadResult) -> list[Problem]:
    """All findings; those of severity NOTE only tell who wins. Both results must have a configuration."""
    assert first.config is not None
    assert second.config is not None
    pairs, alone = _match(first.config, second.config)
    found = []
    for pair in pairs:
        place = first.places.get(pair.a.name)
        found += [_problem(place, severity, id, f"({pair.name}) {text}") for severity, id, text in _compare(pair)]
    for result, instance in ((first if side == "a" else second, each) for side, each in alone):
        place = result.places.get(instance.name)
        text = f"({instance.name}) the other file has no VRID {instance.vrid}"
        found.append(_problem(place, Severity.LINT, "pair-missing", text))
    for id, text in _groups(first.config, second.config, pairs):
        found.append(_problem(None, Severity.LINT, id, text))
    return found


def _problem(place: Location | None, severity: Severity, id: str, message: str) -> Problem:
    return Problem(id, severity, message, place)


def _match(first: Config, second: Config) -> tuple[list[Pair], list[tuple[str, VrrpInstance]]]:
    """Pairs by VRID and family, and by name where several have the same; what is left alone, and on which side."""
    waiting: dict[Key, list[VrrpInstance]] = {}
    for instance in second.vrrp.instances:
        waiting.setdefault((instance.vrid, instance.family), []).append(instance)
    pairs: list[Pair] = []
    alone: list[tuple[str, VrrpInstance]] = []
    for instance in first.vrrp.instances:
        candidates = waiting.get((instance.vrid, instance.family), [])
        same = [other for other in candidates if other.name == instance.name]
        same += [other for other in candidates if other.interface == instance.interface]
        other = next(iter(same or candidates), None)
        if other is None:
            alone.append(("a", instance))
        else:
            candidates.remove(other)
            pairs.append(Pair(instance, other))
    alone += [("b", instance) for rest in waiting.values() for instance in rest]
    return pairs, alone


Finding = tuple[Severity, str, str]


def _compare(pair: Pair) -> Iterator[Finding]:
    yield from _election(pair)
    yield from _way(pair)
    yield from _what(pair)
    yield from _weights(pair)


def _split(id: str, text: str) -> Finding:
    """What keeps two routers from hearing each other: both are MASTER."""
    return Severity.ERROR, id, f"{text}: each discards the other's adverts and both become MASTER"


def _election(pair: Pair) -> Iterator[Finding]:
    a, b = pair.a, pair.b
    if a.priority != b.priority:
        winner, loser = ("first", "second") if a.priority > b.priority else ("second", "first")
        high, low = max(a.priority, b.priority), min(a.priority, b.priority)
        later = b if winner == "second" else a
        keeps = "" if later.preempt else f"; it does not take over from the {loser} (nopreempt)"
        yield Severity.NOTE, "pair-winner", f"the {winner} router wins with priority {high} against {low}{keeps}"
    elif a.is_owner:
        yield Severity.LINT, "pair-two-owners", "both have priority 255, but an address has one owner"
    else:
        yield (
            Severity.LINT,
            "pair-equal-priority",
            f"both have priority {a.priority}; the higher source address wins, but takes over from nobody",
        )
    if a.preempt != b.preempt:
        yield Severity.LINT, "pair-preemption", "only one of both has nopreempt"
    if a.down_timer_adverts != b.down_timer_adverts:
        yield Severity.LINT, "pair-down-timer", "down_timer_adverts differ, so one takes over sooner than the other"


def _way(pair: Pair) -> Iterator[Finding]:
    """How the adverts travel and what makes them valid."""
    a, b = pair.a, pair.b
    if a.version != b.version:
        yield _split("pair-version", f"versions {a.version} and {b.version}")
    elif a.advert_int != b.advert_int:
        intervals = f"advert_int {a.advert_int / 100:g} and {b.advert_int / 100:g}"
        if a.version == 2:
            yield _split("pair-interval", intervals)
        else:
            yield Severity.LINT, "pair-interval", f"{intervals}: each backup follows the master's"
    if a.authentication != b.authentication:
        yield _split("pair-authentication", "authentication differs")
    if _keys(a) != _keys(b):
        yield _split("pair-authentication", "auth_hmac differs")
    if a.unicast != b.unicast:
        yield _split("pair-unicast", "one is unicast, the other multicast")
    elif not a.unicast and a.mcast_group != b.mcast_group:
        yield _split("pair-group", f"groups {a.mcast_group} and {b.mcast_group}")
    elif a.unicast:
        for one, other, which in ((a, b, "first"), (b, a, "second")):
            if other.source is not None and all(peer.address != other.source for peer in one.unicast_peers):
                yield (
                    Severity.ERROR,
                    "pair-peers",
                    f"the {which} router has no unicast peer {other.source}, the other's source address",
                )


def _keys(instance: VrrpInstance) -> object:
    """What must agree of auth_hmac."""
    found = instance.auth_hmac
    return None if found is None else (sorted(found.keys, key=lambda key: key.id), found.anti_replay)


def _what(pair: Pair) -> Iterator[Finding]:
    a, b = ({found.address for found in side.addresses} for side in (pair.a, pair.b))
    for only, which in ((a - b, "first"), (b - a, "second")):
        if only:
            listed = ", ".join(sorted(map(str, only)))
            yield Severity.LINT, "pair-addresses", f"only the {which} router has {listed}"
    x, y = ({found.address for found in side.excluded} for side in (pair.a, pair.b))
    if x != y:
        listed = ", ".join(sorted(map(str, x ^ y)))
        yield Severity.LINT, "pair-addresses", f"virtual_ipaddress_excluded differ in {listed}"


def _weights(pair: Pair) -> Iterator[Finding]:
    """A tracker whose failure does not bring the winner below the other one."""
    a, b = pair.a, pair.b
    if a.priority == b.priority or a.is_owner or b.is_owner:
        return
    winner, loser = (a, b) if a.priority > b.priority else (b, a)
    gap = winner.priority - loser.priority
    drops = {track.name: abs(track.weight) for track in winner.tracks if track.weight and track.kind != "file"}
    for name, drop in drops.items():
        if sum(drops.values()) < gap:
            yield (
                Severity.LINT,
                "pair-weight-too-small",
                f"when '{name}' fails the winner loses {drop}, but it is {gap} ahead, so it stays MASTER",
            )


def _groups(first: Config, second: Config, pairs: list[Pair]) -> Iterator[tuple[str, str]]:
    """Sync groups must bind the same virtual routers on both machines."""
    names = {pair.b.name: pair.a.name for pair in pairs}
    one = {frozenset(group.members) for group in first.vrrp.sync_groups}
    other = {frozenset(names.get(member, member) for member in group.members) for group in second.vrrp.sync_groups}
    for members in one ^ other:
        which = "first" if members in one else "second"
        yield "pair-sync-group", f"only the {which} router binds {', '.join(sorted(members))} in a sync group"

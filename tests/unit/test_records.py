"""Our dataclasses beside the standard ones: whatever is done to them, the outcome is the same."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field
from types import SimpleNamespace
from typing import Any

import pytest

from keepalived_py.records import dataclass


def define(decorator: Any) -> Any:
    @decorator(frozen=True, slots=True)
    class Point:
        """Positional."""

        x: int
        y: int = 2
        tags: list[int] = field(default_factory=list, compare=False, repr=False)

    @decorator(frozen=True, slots=True, kw_only=True)
    class Named:
        name: str
        unit: str = "s"

    @decorator(frozen=True, slots=True)
    class Child(Point):
        z: int = 3
        made: int = field(init=False, default=7)
        twice: int = field(init=False, repr=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "twice", self.z * 2)

        def __hash__(self) -> int:
            return 42

    @decorator(frozen=True, slots=True)
    class Empty:
        pass

    @decorator(slots=True)
    class Mutable:
        x: int
        y: int = 2
        tags: list[int] = field(default_factory=list, compare=False)

        def total(self) -> int:
            return self.x + self.y

        @property
        def double(self) -> int:
            return self.x * 2

    @decorator(slots=True)
    class Further(Mutable):
        y: int = 5
        z: int = 6

    return SimpleNamespace(Point=Point, Named=Named, Child=Child, Empty=Empty, Mutable=Mutable, Further=Further)


def changed(found: Any) -> Any:
    found.x, found.y = 8, 9
    return found


OURS, THEIRS = define(dataclass), define(dataclasses.dataclass)
DOINGS: dict[str, Callable[[Any], Any]] = {
    "defaults": lambda k: repr(k.Point(1)),
    "positions": lambda k: repr(k.Point(1, 5, [3])),
    "names": lambda k: repr(k.Point(y=1, x=5)),
    "a name too much": lambda k: k.Point(1, nothing=2),
    "a value too much": lambda k: k.Point(1, 2, [], 4),
    "a value too few": lambda k: k.Point(),
    "no positions": lambda k: k.Named("a"),
    "keywords": lambda k: repr(k.Named(name="a", unit="ms")),
    "made again": lambda k: (k.Point(1).tags is k.Point(1).tags, k.Point(1) == k.Point(1)),
    "not compared": lambda k: (k.Point(1, 2, [3]) == k.Point(1, 2, []), hash(k.Point(1, 2, [3])) == hash(k.Point(1))),
    "differs": lambda k: (k.Point(1) == k.Point(2), k.Point(1) == (1, 2), k.Point(1) != k.Point(2)),
    "hash": lambda k: len({k.Point(1), k.Point(1), k.Point(2)}),
    "own hash": lambda k: hash(k.Child(1)),
    "inherits": lambda k: (repr(k.Child(1, z=9)), k.Child(1, z=9).twice, k.Child(1).made),
    "other classes": lambda k: (k.Point(1) == k.Child(1), k.Child(1) == k.Child(1, z=4)),
    "set": lambda k: setattr(k.Point(1), "x", 2),
    "delete": lambda k: delattr(k.Point(1), "x"),
    "no dictionary": lambda k: hasattr(k.Point(1), "__dict__"),
    "replace": lambda k: repr(dataclasses.replace(k.Point(1), y=8)),
    "fields": lambda k: [each.name for each in dataclasses.fields(k.Child)],
    "as a dictionary": lambda k: dataclasses.asdict(k.Point(1)),
    "copy": lambda k: (copy.copy(k.Point(1, 4)) == k.Point(1, 4), copy.deepcopy(k.Point(1, 4, [5])).tags),
    "match": lambda k: k.Point.__match_args__,
    "document": lambda k: k.Point.__doc__,
    "mutable": lambda k: (repr(changed(k.Mutable(1))), changed(k.Mutable(1)) == k.Mutable(8, 9), k.Mutable(3).total()),
    "mutable hash": lambda k: hash(k.Mutable(1)),
    "mutable deleted": lambda k: delattr(k.Mutable(1), "nothing"),
    "mutable without others": lambda k: setattr(k.Mutable(1), "nothing", 1),
    "mutable property": lambda k: setattr(k.Mutable(1), "double", 1),
    "mutable copy": lambda k: None,
    "further": lambda k: (repr(k.Further(1)), k.Further(1).total(), changed(k.Further(1)).z, k.Further.__match_args__),
    "slots": lambda k: [k.Child.__slots__, k.Further.__slots__, k.Mutable.__slots__],
    "empty": lambda k: (repr(k.Empty()), k.Empty() == k.Empty(), hash(k.Empty()) == hash(())),
}


def outcome(doing: Callable[[Any], Any], kinds: Any) -> Any:
    try:
        return doing(kinds)
    except Exception as exc:
        return type(exc), str(exc).rpartition(".")[2]


@pytest.mark.parametrize("doing", DOINGS)
def test_nothing_tells_them_apart(doing: str) -> None:
    assert outcome(DOINGS[doing], OURS) == outcome(DOINGS[doing], THEIRS)


@dataclass(frozen=True, slots=True)
class Pickled:
    x: int


def test_what_is_left_to_the_standard_one() -> None:
    @dataclass(slots=True)
    class Mutable:
        x: int

    @dataclass(frozen=True, slots=True, order=True)
    class Ordered:
        x: int

    found = Mutable(1)
    found.x = 2
    assert found == Mutable(2)
    assert Ordered(1) < Ordered(2)
    with pytest.raises(FrozenInstanceError):
        Ordered(1).x = 3  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(Pickled(4))) == Pickled(4)

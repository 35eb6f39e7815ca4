"""Dataclasses with slots that are cheap to define.

The standard decorator compiles six functions for each class, which was half of the time that a start took. This one
compiles the constructor when the first object is made, and the rest are closures; what it does not know it leaves to
the standard one. For type checkers it is the standard one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(cls=None, /, *, frozen=False, slots=False, kw_only=False, **others):
        """As `dataclasses.dataclass`."""

        def made(cls):
            if not slots or others:
                return dataclasses.dataclass(cls, frozen=frozen, slots=slots, kw_only=kw_only, **others)
            return _made(cls, frozen, kw_only)

        return made if cls is None else made(cls)


def _made(cls: Any, frozen: bool, kw_only: bool) -> Any:
    """The class with slots where it has defaults, and with the functions that it does not have."""
    given = {name: found for name, found in vars(cls).items() if found is not None and name not in NOT_COPIED}
    described = cls.__doc__
    cls.__doc__ = described or ""  # else one is made of the signature, which takes long
    found: Any = dataclasses.dataclass(cls, init=False, repr=False, eq=False, kw_only=kw_only)
    every = fields(found)
    names = {each.name for each in every}
    inherited = {each.name for base in cls.__mro__[1:] if dataclasses.is_dataclass(base) for each in fields(base)}
    compared = [each.name for each in every if each.compare]
    values: Callable[[Any], Any] = attrgetter(*compared) if compared else lambda self: ()

    def equal(self: Any, other: Any) -> Any:
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    def digest(self: Any) -> int:
        return hash(values(self))

    def construct(self: Any, *args: Any, **more: Any) -> None:
        made.__init__ = _constructor(made)
        made.__init__(self, *args, **more)

    made: Any = type(cls)(
        cls.__name__,
        cls.__bases__,
        {
            "__init__": construct,
            "__repr__": _shown,
            "__eq__": equal,
            "__hash__": digest if frozen else None,
            **(FROZEN if frozen else {}),
            **{name: value for name, value in vars(found).items() if name in ADDED},
            **{name: value for name, value in given.items() if name not in names},
            "__doc__": described,
            "__qualname__": cls.__qualname__,
            "__slots__": tuple(each.name for each in every if each.name not in inherited),
        },
    )
    return made


def _constructor(cls: Any) -> Callable[..., None]:
    """`__init__` of a class with slots: each value goes straight into its slot."""
    known: dict[str, Any] = {"MISSING": MISSING}
    positional, named, body = ["self"], list[str](), list[str]()
    for each in fields(cls):
        name = each.name
        known[f"set_{name}"] = getattr(cls, name).__set__
        if each.default is not MISSING:
            known[f"default_{name}"] = each.default
        elif each.default_factory is not MISSING:
            known[f"make_{name}"] = each.default_factory
        if each.init:
            (named if each.kw_only else positional).append(f"{name}{_default(each)}")
        value = _value(each)
        if value:
            body.append(f"set_{name}(self, {value})")
    body += ["self.__post_init__()"] if hasattr(cls, "__post_init__") else []
    parameters = ", ".join(positional + (["*", *named] if named else []))
    exec(f"def __init__({parameters}):\n " + "\n ".join(body or ["pass"]), known)
    made: Callable[..., None] = known["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    return made


def _default(each: Field[Any]) -> str:
    if each.default is not MISSING:
        return f"=default_{each.name}"
    return "=MISSING" if each.default_factory is not MISSING else ""


def _value(each: Field[Any]) -> str:
    """What the constructor puts into a field; "" for nothing."""
    name = each.name
    if each.default_factory is not MISSING:
        return f"make_{name}() if {name} is MISSING else {name}" if each.init else f"make_{name}()"
    if each.init:
        return name
    return f"default_{name}" if each.default is not MISSING else ""


def _shown(self: Any) -> str:
    parts = (f"{each.name}={getattr(self, each.name)!r}" for each in fields(self) if each.repr)
    return f"{self.__class__.__qualname__}({', '.join(parts)})"


def _refuse_to_set(self: Any, name: str, value: Any) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, each.name) for each in fields(self)]


def _restore(self: Any, state: list[Any]) -> None:
    for each, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, each.name, value)


FROZEN = {
    "__setattr__": _refuse_to_set,
    "__delattr__": _refuse_to_delete,
    "__getstate__": _state,
    "__setstate__": _restore,
}
NOT_COPIED = ("__dict__", "__weakref__", "__doc__")
ADDED = ("__dataclass_fields__", "__dataclass_params__", "__match_args__")
"""By the standard decorator."""

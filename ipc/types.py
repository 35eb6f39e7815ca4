"""What a declared type accepts off the wire, worked out once per type.

msgpack brings numbers, text, bytes, booleans, None and tuples. A dataclass travels as a tuple: its class number, then
its fields in order; an enumeration as its value; an address as its 4 or 16 bytes (as text with a scope); a union by
what tells its members apart. `Shape.decode` gives a value of the declared type or raises ProtocolError.
"""

from __future__ import annotations

import types
import typing
import zlib
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from operator import attrgetter
from typing import Any, NewType, Union, get_args, get_origin, get_type_hints


class ProtocolError(Exception):
    """The peer broke the contract. Close the channel; never carry on."""


class Shape:
    """One declared type. `exact` is the type of wire values that need no further look."""

    exact: type | None = None

    def decode(self, value: Any) -> Any:
        raise ProtocolError(f"{type(value).__name__} where {self} was declared")


class Plain(Shape):
    """int, str, bytes, bool, float or None, exactly."""

    def __init__(self, exact: type) -> None:
        self.exact = exact

    def __str__(self) -> str:
        assert self.exact is not None
        return self.exact.__name__

    def decode(self, value: Any) -> Any:
        if type(value) is self.exact:
            return value
        if self.exact is float and type(value) is int:
            return value  # whole seconds are often written without a point
        return super().decode(value)


class Choice(Shape):
    """An enumeration."""

    def __init__(self, cls: type[Enum]) -> None:
        self.members: dict[Any, Enum] = {member.value: member for member in cls}
        self.name = cls.__name__

    def __str__(self) -> str:
        return self.name

    def decode(self, value: Any) -> Any:
        if type(value) not in (int, str) or value not in self.members:
            return super().decode(value)
        return self.members[value]


class Address(Shape):
    """IPv4Address or IPv6Address."""

    def __init__(self, cls: type[IPv4Address] | type[IPv6Address]) -> None:
        self.cls = cls

    def __str__(self) -> str:
        return self.cls.__name__

    def decode(self, value: Any) -> Any:
        size = 4 if self.cls is IPv4Address else 16
        scoped = type(value) is str and "%" in value and self.cls is IPv6Address
        if not scoped and (type(value) is not bytes or len(value) != size):
            return super().decode(value)
        try:
            return self.cls(value)
        except AddressValueError as exc:
            raise ProtocolError(f"bad address {value!r}") from exc


class Row(Shape):
    """tuple[X, ...], or tuple[X, Y] when `items` is given."""

    def __init__(self, item: Shape | None, items: tuple[Shape, ...] = ()) -> None:
        self.item, self.items = item, items

    def __str__(self) -> str:
        return "tuple"

    def decode(self, value: Any) -> Any:
        if type(value) is not tuple:
            return super().decode(value)
        if self.item is not None:
            exact, decode = self.item.exact, self.item.decode
            return tuple([x if type(x) is exact else decode(x) for x in value])
        if len(value) != len(self.items):
            return super().decode(value)
        return tuple([shape.decode(x) for shape, x in zip(self.items, value, strict=True)])


class Record(Shape):
    """A dataclass. Equal small objects come out as one object, as they went in."""

    MEMO_SIZE = 10_000

    def __init__(self, cls: type, number: int) -> None:
        self.cls, self.number = cls, number
        self.names = tuple(item.name for item in fields(cls))
        self._shapes: tuple[Shape, ...] | None = None
        self._memo: dict[Any, Any] = {}

    def __str__(self) -> str:
        return self.cls.__name__

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Of the fields, in order; worked out late because classes refer to each other."""
        if self._shapes is None:
            hints = get_type_hints(self.cls)
            self._shapes = tuple(shape_of(hints[name]) for name in self.names)
        return self._shapes

    def decode(self, value: Any) -> Any:
        if type(value) is not tuple or len(value) != len(self.names) + 1 or value[0] != self.number:
            return super().decode(value)
        shared = self._memo.get(value)
        if shared is None:
            shared = self._build(value[1:])
            if len(self._memo) >= self.MEMO_SIZE:
                self._memo.clear()
            self._memo[value] = shared
        return shared

    def forget(self) -> None:
        """Let go of what was decoded; called when a frame is done."""
        self._memo.clear()

    def _build(self, parts: tuple[Any, ...]) -> Any:
        try:
            values = [
                x if type(x) is shape.exact else shape.decode(x) for shape, x in zip(self.shapes, parts, strict=True)
            ]
            return self.cls(**dict(zip(self.names, values, strict=True)))
        except ProtocolError as exc:
            raise ProtocolError(f"{self.cls.__name__}: {exc}") from None
        except (TypeError, ValueError) as exc:
            raise ProtocolError(f"{self.cls.__name__}: {exc}") from exc


class OneOf(Shape):
    """A union; records are told apart by their number, the rest by trying."""

    def __init__(self, shapes: tuple[Shape, ...]) -> None:
        self.records = {shape.number: shape for shape in shapes if isinstance(shape, Record)}
        self.others = tuple(shape for shape in shapes if not isinstance(shape, Record))

    def __str__(self) -> str:
        return " | ".join(str(shape) for shape in (*self.others, *self.records.values()))

    def decode(self, value: Any) -> Any:
        if type(value) is tuple and value and type(value[0]) is int:
            record = self.records.get(value[0])
            if record is not None:
                return record.decode(value)
        for shape in self.others:
            try:
                return shape.decode(value)
            except ProtocolError:
                continue
        return super().decode(value)


_NUMBERS: dict[int, str] = {}
_RECORDS: dict[type, Record] = {}


def record_of(cls: type) -> Record:
    """The shape of dataclass `cls`. Its number is drawn from its name, so that both ends agree without talking."""
    record = _RECORDS.get(cls)
    if record is None:
        number = _number(f"{cls.__module__}.{cls.__qualname__}")
        record = _RECORDS[cls] = Record(cls, number)
    return record


def _number(name: str) -> int:
    number = zlib.crc32(name.encode())
    if _NUMBERS.setdefault(number, name) != name:
        raise TypeError(f"{name} and {_NUMBERS[number]} have the same number: rename one")
    return number


@cache
def shape_of(hint: Any) -> Shape:
    """The shape of a type hint. TypeError for types that have no business in a message."""
    if isinstance(hint, NewType):
        return shape_of(hint.__supertype__)
    if hint is type(None):
        return Plain(type(None))
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return OneOf(tuple(shape_of(arg) for arg in get_args(hint)))
    if origin is tuple:
        args = get_args(hint)
        if len(args) == 2 and args[1] is Ellipsis:
            return Row(shape_of(args[0]))
        return Row(None, tuple(shape_of(arg) for arg in args))
    return _shape_of_class(hint)


def _shape_of_class(hint: Any) -> Shape:
    if hint in (int, str, bytes, bool, float):
        return Plain(hint)
    if hint in (IPv4Address, IPv6Address):
        return Address(hint)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return Choice(hint)
    if isinstance(hint, type) and is_dataclass(hint):
        return record_of(hint)
    raise TypeError(f"{hint!r} cannot travel in a message")


Getter = Callable[[Any], tuple[Any, ...]]
_GETTERS: dict[type, tuple[int, Getter]] = {}


def to_wire(value: Any) -> Any:
    """What msgpack asks for a value that it does not know itself. TypeError for strangers."""
    cls = type(value)
    known = _GETTERS.get(cls)
    if known is not None:
        number, getter = known
        return (number, *getter(value))
    if cls is IPv4Address:
        return value.packed
    if cls is IPv6Address:
        return str(value) if value.scope_id else value.packed
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        _GETTERS[cls] = record_of(cls).number, _getter(record_of(cls).names)
        return to_wire(value)
    raise TypeError(f"{cls.__name__} cannot travel in a message")


def _getter(names: tuple[str, ...]) -> Getter:
    if not names:
        return lambda value: ()
    if len(names) == 1:
        get = attrgetter(names[0])
        return lambda value: (get(value),)
    return typing.cast(Getter, attrgetter(*names))


def forget_decoded() -> None:
    """Drop what the decoders remember of finished frames."""
    for record in _RECORDS.values():
        record.forget()

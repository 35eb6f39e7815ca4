"""A configuration told as its difference to another one: what makes a reload of tens of thousands of servers quick.

Only the rows that can be many are compared: instances, virtual servers, and the real servers of one that is long. Both
sides hold the other configuration, so a row that is in it travels as its number there, and comes out as the very object
that the receiver has.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from itertools import takewhile
from operator import attrgetter, is_
from typing import Any, TypeVar, cast

from keepalived_py.records import dataclass

from .chapters import DIGEST_SIZE
from .model import (
    CheckerConfig,
    CheckerSlice,
    Config,
    GlobalDefs,
    RealServer,
    VirtualServer,
    VrrpConfig,
    VrrpInstance,
    VrrpSlice,
)

Whole = TypeVar("Whole", Config, VrrpSlice, CheckerSlice)
Row = TypeVar("Row", VrrpInstance, VirtualServer, RealServer)

_KEY: Callable[[Any], Hashable] = attrgetter("key")


LONG = 64
"""Real servers of a virtual server that is told as a difference itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """`count` rows in a row of what it is told against."""

    first: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A changed virtual server: `rest` without real servers, `number` is that of the one it is told against."""

    number: int
    rest: VirtualServer
    reals: tuple[Run | RealServer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """`rest` is without instances and virtual servers; numbers are those of rows of what it is told against."""

    rest: Config | VrrpSlice | CheckerSlice
    instances: tuple[int | VrrpInstance, ...] = ()
    servers: tuple[int | VirtualServer | Part, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Digests:
    """What spares a later load the reading of texts that it knows: of each virtual server, b"" where it must be read.

    Of long ones it is that of what is not a real server, followed by that of each of these.
    `defaults` are what they were read with.
    """

    defaults: GlobalDefs
    of_servers: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Splice:
    """`middle` between the first `head` and the last `tail` bytes of digest `number` of those it is told against."""

    number: int
    head: int
    middle: bytes
    tail: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestsTold:
    """Digests for somebody who holds others."""

    defaults: GlobalDefs
    of_servers: tuple[bytes | Splice, ...]


def digests_told(old: Digests | None, new: Digests) -> DigestsTold:
    """`new` for somebody who holds `old`."""
    known = old.of_servers if old is not None else ()
    numbers = {each[:DIGEST_SIZE]: number for number, each in enumerate(known) if len(each) > DIGEST_SIZE}

    def told(digest: bytes) -> bytes | Splice:
        number = numbers.get(digest[:DIGEST_SIZE])
        return digest if number is None else _splice(number, known[number], digest)

    return DigestsTold(defaults=new.defaults, of_servers=tuple(map(told, new.of_servers)))


def digests_held(old: Digests | None, told: DigestsTold) -> Digests:
    """What `digests_told(old, new)` was made of. Raises ValueError for what `old` does not have."""
    known = old.of_servers if old is not None else ()

    def held(each: bytes | Splice) -> bytes:
        if isinstance(each, bytes):
            return each
        before = known[each.number] if 0 <= each.number < len(known) else b""
        if not (each.head >= 0 and each.tail >= 0 and each.head + each.tail <= len(before)):
            raise ValueError(f"digest {each.number} of {len(known)}")
        return before[: each.head] + each.middle + before[len(before) - each.tail :]

    return Digests(defaults=told.defaults, of_servers=tuple(map(held, told.of_servers)))


def _splice(number: int, old: bytes, new: bytes) -> Splice:
    shorter = min(len(old), len(new))
    head = bisect(range(1, shorter + 1), 0, key=lambda size: old[:size] != new[:size])
    tail = bisect(range(1, shorter - head + 1), 0, key=lambda size: old[-size:] != new[-size:])
    return Splice(number=number, head=head, middle=new[head : len(new) - tail], tail=tail)


def difference(old: Whole | None, new: Whole) -> Delta:
    """`new` for somebody who holds `old`."""
    known = _servers(old) if old is not None else ()
    numbers = {server.key: number for number, server in enumerate(known)}
    return Delta(
        rest=_with_rows(new, (), ()),
        instances=_numbered(_instances(old) if old is not None else (), _instances(new)),
        servers=tuple(
            row if isinstance(row, int) else _part(known, numbers.get(row.key), row)
            for row in _numbered(known, _servers(new))
        ),
    )


def rebuilt(old: Whole | None, delta: Delta) -> Whole:
    """What `difference(old, new)` was made of. Raises ValueError for numbers of rows that `old` does not have."""
    instances = _resolved(_instances(old) if old is not None else (), delta.instances)
    known = _servers(old) if old is not None else ()
    servers = _resolved(known, [_joined(known, row) if isinstance(row, Part) else row for row in delta.servers])
    return cast(Whole, _with_rows(delta.rest, instances, servers))


def _part(known: Sequence[VirtualServer], number: int | None, server: VirtualServer) -> VirtualServer | Part:
    """A changed server told against the one of its key, if that is worth while."""
    if number is None or len(server.real_servers) < LONG:
        return server
    old, new = known[number].real_servers, server.real_servers
    head = _alike(old, new)
    tail = min(_alike(reversed(old), reversed(new)), len(old) - head, len(new) - head)
    reals: list[Run | RealServer] = [Run(first=0, count=head)]
    for row in _numbered(old[head : len(old) - tail], new[head : len(new) - tail]):
        last = reals[-1]
        if not isinstance(row, int):
            reals.append(row)
        elif isinstance(last, Run) and last.first + last.count == head + row:
            reals[-1] = Run(first=last.first, count=last.count + 1)
        else:
            reals.append(Run(first=head + row, count=1))
    reals.append(Run(first=len(old) - tail, count=tail))
    return Part(number=number, rest=replace(server, real_servers=()), reals=tuple(reals))


def _alike(old: Iterable[RealServer], new: Iterable[RealServer]) -> int:
    """How many in a row are the same objects, from the first one on."""
    return sum(1 for _ in takewhile(bool, map(is_, old, new)))


def _joined(known: Sequence[VirtualServer], part: Part) -> VirtualServer:
    """Raises ValueError."""
    old = _resolved(known, [part.number])[0].real_servers
    reals: list[RealServer] = []
    for row in part.reals:
        if isinstance(row, RealServer):
            reals.append(row)
        elif 0 <= row.first <= row.first + row.count <= len(old):
            reals += old[row.first : row.first + row.count]
        else:
            raise ValueError(f"rows {row.first} to {row.first + row.count} of {len(old)}")
    return replace(part.rest, real_servers=tuple(reals))


def _instances(part: Config | VrrpSlice | CheckerSlice) -> tuple[VrrpInstance, ...]:
    return () if isinstance(part, CheckerSlice) else part.vrrp.instances


def _servers(part: Config | VrrpSlice | CheckerSlice) -> tuple[VirtualServer, ...]:
    return () if isinstance(part, VrrpSlice) else part.checker.virtual_servers


def _with_rows(
    part: Config | VrrpSlice | CheckerSlice, instances: tuple[VrrpInstance, ...], servers: tuple[VirtualServer, ...]
) -> Config | VrrpSlice | CheckerSlice:
    changes: dict[str, VrrpConfig | CheckerConfig] = {}
    if not isinstance(part, CheckerSlice):
        changes["vrrp"] = replace(part.vrrp, instances=instances)
    if not isinstance(part, VrrpSlice):
        changes["checker"] = replace(part.checker, virtual_servers=servers)
    return replace(part, **cast(Any, changes))


def _numbered(old: Sequence[Row], new: Sequence[Row]) -> tuple[int | Row, ...]:
    numbers = {_KEY(row): number for number, row in enumerate(old)}
    out: list[int | Row] = []
    for row in new:
        number = numbers.get(_KEY(row))
        known = number is not None and (old[number] is row or old[number] == row)
        out.append(cast(int, number) if known else row)
    return tuple(out)


def _resolved(old: Sequence[Row], rows: Sequence[int | Row]) -> tuple[Row, ...]:
    out = []
    for row in rows:
        if isinstance(row, int):
            if not 0 <= row < len(old):
                raise ValueError(f"row {row} of {len(old)}")
            row = old[row]
        out.append(row)
    return tuple(out)

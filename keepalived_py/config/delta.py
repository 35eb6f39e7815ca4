"""A configuration told as its difference to another one: what makes a reload of tens of thousands of servers quick.

Only the rows that can be many are compared: instances, virtual servers, and the real servers of one that is long. Both
sides hold the other configuration, so a row that is in it travels as its number there, and comes out as the very object
that the receiver has.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from itertools import takewhile
from operator import attrgetter, is_
from typing import Any, TypeVar, cast

from keepalived_py.records import dataclass

from .chapters import Long, Splice
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


Digest = bytes | Long | Splice
"""Tells the text of a block from any other: b"" where it must be read again, of a long one the text itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Digests:
    """What spares a later load the reading of texts that it knows, of each virtual server.

    `defaults` are what they were read with.
    """

    defaults: GlobalDefs
    of_servers: tuple[Digest, ...]


def joined(old: Digests | None, told: Digests) -> Digests:
    """`told` without splices of `old`. Raises ValueError for what `old` does not have."""
    known = old.of_servers if old is not None else ()

    def whole(digest: Digest) -> Digest:
        if not isinstance(digest, Splice):
            return digest
        before = known[digest.number] if 0 <= digest.number < len(known) else None
        if not isinstance(before, Long):
            raise ValueError(f"text {digest.number} of {len(known)}")
        return digest.joined(before)

    return Digests(defaults=told.defaults, of_servers=tuple(map(whole, told.of_servers)))


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

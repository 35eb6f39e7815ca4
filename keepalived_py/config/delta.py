"""A configuration told as its difference to another one: what makes a reload of tens of thousands of servers quick.

Only the rows that can be many are compared, instances and virtual servers. Both sides hold the other configuration,
so a row that is in it travels as its number there, and comes out as the very object that the receiver has.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, TypeVar, cast

from .model import CheckerConfig, CheckerSlice, Config, GlobalDefs, VirtualServer, VrrpConfig, VrrpInstance, VrrpSlice

Part = TypeVar("Part", Config, VrrpSlice, CheckerSlice)
Row = TypeVar("Row", VrrpInstance, VirtualServer)

_KEY: Callable[[Any], Hashable] = attrgetter("key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """`rest` is without instances and virtual servers; numbers are those of rows of what it is told against."""

    rest: Config | VrrpSlice | CheckerSlice
    instances: tuple[int | VrrpInstance, ...] = ()
    servers: tuple[int | VirtualServer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Digests:
    """What spares a later load the reading of texts that it knows: of each virtual server, b"" where it must be read.

    `defaults` are what they were read with.
    """

    defaults: GlobalDefs
    of_servers: tuple[bytes, ...]


def difference(old: Part | None, new: Part) -> Delta:
    """`new` for somebody who holds `old`."""
    return Delta(
        rest=_with_rows(new, (), ()),
        instances=_numbered(_instances(old) if old is not None else (), _instances(new)),
        servers=_numbered(_servers(old) if old is not None else (), _servers(new)),
    )


def rebuilt(old: Part | None, delta: Delta) -> Part:
    """What `difference(old, new)` was made of. Raises ValueError for numbers of rows that `old` does not have."""
    instances = _resolved(_instances(old) if old is not None else (), delta.instances)
    servers = _resolved(_servers(old) if old is not None else (), delta.servers)
    return cast(Part, _with_rows(delta.rest, instances, servers))


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

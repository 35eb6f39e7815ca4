"""Addresses and ports that overlap, as parts that do not: a map of nftables takes no others. Pure."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator
from itertools import pairwise

Range = tuple[int, int]
"""The first and the last."""
Part = tuple[Range, Range, int]
"""Addresses, ports and a mark."""
ALL_PORTS = (0, 65535)


def disjoint(entries: Iterable[tuple[Range, int, int]]) -> Iterator[Part]:
    """Entries are addresses, a port, 0 for all, and a mark. A port counts before all ports, then who comes first."""
    whole: list[tuple[Range, int]] = []
    by_port: dict[int, list[Range]] = {}
    for addresses, port, mark in entries:
        if port:
            for part in _take(by_port.setdefault(port, []), addresses):
                yield part, (port, port), mark
        else:
            whole.append((addresses, mark))
    taken: list[Range] = []
    for addresses, mark in whole:
        for part in _take(taken, addresses):
            for piece, ports in _by_ports_in_use(part, by_port):
                yield from ((piece, free, mark) for free in _between(ports))


def _take(taken: list[Range], wanted: Range) -> list[Range]:
    """What of `wanted` is free, which is taken from then on. `taken` is in order and does not overlap."""
    first, last = wanted
    found = []
    for start, end in [*_overlapping(taken, wanted), (last + 1, last)]:
        if first < start:
            found.append((first, start - 1))
        first = max(first, end + 1)
    for each in found:
        insort(taken, each)
    return found


def _overlapping(taken: list[Range], wanted: Range) -> list[Range]:
    low = bisect_right(taken, wanted[0], key=lambda each: each[0])
    if low and taken[low - 1][1] >= wanted[0]:
        low -= 1
    return taken[low : bisect_right(taken, wanted[1], key=lambda each: each[0])]


def _by_ports_in_use(addresses: Range, by_port: dict[int, list[Range]]) -> Iterator[tuple[Range, list[int]]]:
    """Parts of `addresses` whose ports are in use alike, with these ports in order."""
    used = {port: found for port, ranges in sorted(by_port.items()) if (found := _overlapping(ranges, addresses))}
    bounds = {each for ranges in used.values() for first, last in ranges for each in (first, last + 1)}
    cuts = [addresses[0], *sorted(bound for bound in bounds if addresses[0] < bound <= addresses[1]), addresses[1] + 1]
    for first, following in pairwise(cuts):
        yield (first, following - 1), [port for port, ranges in used.items() if _overlapping(ranges, (first, first))]


def _between(ports: list[int]) -> Iterator[Range]:
    """Ranges of all ports but these."""
    first, last = ALL_PORTS
    for port in [*ports, last + 1]:
        if first < port:
            yield first, port - 1
        first = port + 1

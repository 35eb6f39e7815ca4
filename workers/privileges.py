"""What a worker may do: capabilities that it needs, and no new ones where it executes nothing (capabilities(7))."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import re
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from inspect import get_annotations
from typing import Any, get_args

from keepalived_py.config.model import Fifo, Script

NUMBERS = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_FOWNER": 3,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_NET_BIND_SERVICE": 10,
    "CAP_NET_ADMIN": 12,
    "CAP_NET_RAW": 13,
    "CAP_IPC_LOCK": 14,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_NICE": 23,
    "CAP_SYS_RESOURCE": 24,
}
NAMESPACES = "CAP_SYS_ADMIN"
"""Needed only to work in another network namespace."""
WORK = frozenset(NUMBERS) - {NAMESPACES}
"""What a worker keeps: for addresses, IPVS, scheduling, and for the identity, files and end of scripts."""
VERSION_3 = 0x20080522
OF_PROGRAMS = ("CAP_NET_ADMIN", "CAP_NET_RAW")
"""What nft, iptables and ipset need."""
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 47, 2
OF_PARENT = ("startup_script", "shutdown_script")
FOR_GROUPS = {"CAP_SETGID": "scripts of other users"}
FOR_USERS = {"CAP_SETUID": "scripts of other users", **FOR_GROUPS, "CAP_KILL": "to end scripts of other users"}
FOR_FIFOS = {"CAP_CHOWN": "FIFOs of other users"}


def effective() -> int:
    """The capabilities of this process, a bit for each."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    return 0


def has(name: str) -> bool:
    """Whether this process has that capability now."""
    return bool(effective() >> NUMBERS[name] & 1)


def keep_only(names: Iterable[str]) -> None:
    """Give every other capability up (capset(2)). Raises OSError.

    What root executes has all again. For what other users execute those OF_PROGRAMS are passed on.
    """
    have = effective()
    keep, of_programs = (sum(1 << NUMBERS[name] for name in each) & have for each in (names, OF_PROGRAMS))
    sets = keep, keep, keep & of_programs  # effective, permitted, inheritable
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("=Ii", VERSION_3, 0)
    if libc.capset(header, struct.pack("=6I", *(each & 0xFFFFFFFF for each in sets), *(each >> 32 for each in sets))):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    for name in OF_PROGRAMS:  # where it may not be, those programs fail and say so
        libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, NUMBERS[name], 0, 0)


def missing(needed: Mapping[str, str], have: int) -> list[str]:
    """Those of `needed` (capability: what for) that are not in `have`, as text."""
    return [f"{name} ({purpose})" for name, purpose in needed.items() if not have >> NUMBERS[name] & 1]


def scripts_of(value: Any) -> Iterable[Script | Fifo]:
    """Every script of a worker's, and every FIFO, anywhere in a part of the configuration."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, tuple | frozenset):
            waiting += found
        elif isinstance(found, Mapping):
            waiting += found.values()
        elif isinstance(found, Script):
            if found.argv:
                yield found
        elif isinstance(found, Fifo):
            yield found
        else:
            parts = (getattr(found, name) for name in _compound(found.__class__))
            waiting += (part for part in parts if part is not None)


@cache
def _compound(kind: type) -> tuple[str, ...]:
    """The fields of a class that can lead to a script: there are thousands of objects and few classes."""
    return tuple(name for name, kinds in _fields(kind) if name not in OF_PARENT and any(map(_leads_to_script, kinds)))


@cache
def _leads_to_script(kind: type) -> bool:
    return kind in (Script, Fifo) or any(_leads_to_script(inner) for _, kinds in _fields(kind) for inner in kinds)


def _fields(kind: type) -> Iterator[tuple[str, set[type]]]:
    """The fields of a dataclass, each with the classes that its annotation names; typing.get_type_hints takes 8 ms."""
    for base in kind.__mro__ if dataclasses.is_dataclass(kind) else ():
        known = vars(sys.modules[base.__module__])
        for name, hint in get_annotations(base).items():
            named = (known.get(word) for word in re.findall(r"\w+", hint))
            yield name, {each for found in named for each in (found, *get_args(found)) if isinstance(each, type)}


def for_others(found: Iterable[Script | Fifo], uid: int, gid: int) -> dict[str, str]:
    """Capabilities that scripts and FIFOs of others than `uid` and `gid` need, and what for."""
    needed: dict[str, str] = {}
    for each in found:
        other_user, other_group = each.uid not in (None, uid), each.gid not in (None, gid)
        if isinstance(each, Fifo):
            needed |= FOR_FIFOS if other_user or other_group else {}
        elif other_user:
            needed |= FOR_USERS
        elif other_group or each.groups is not None:
            needed |= FOR_GROUPS
    return needed

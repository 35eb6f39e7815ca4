"""With a primary IPv4 address the kernel takes away all others of its network, unless the interface promotes them.

A virtual address is primary where it came first: others flushed the interface, and ours was back before their own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from pathlib import Path

from keepalived_py.plan.links import AddressKey, DeleteAddress

from .rtnetlink import Link

SETTING = "/proc/sys/net/ipv4/conf/{}/promote_secondaries"


def _network(key: AddressKey) -> tuple[int, int, int]:
    return key.ifindex, key.prefixlen, int(key.address) >> 32 - key.prefixlen


def endangered(
    ops: Iterable[object], ours: Collection[AddressKey], addresses: Collection[AddressKey], secondary: Set[AddressKey]
) -> set[int]:
    """Interfaces on which something that is not `ours` is in the network of a primary address that `ops` delete."""
    keys = (op.key for op in ops if isinstance(op, DeleteAddress) and op.key.address.version == 4)
    going = (key for key in keys if key in addresses and key not in secondary)
    networks = {_network(key) for key in going if key.prefixlen < 32}
    if not networks:
        return set()
    known = frozenset(ours)
    others = (key for key in addresses if key.address.version == 4 and key not in known)
    return {key.ifindex for key in others if _network(key) in networks}


@contextmanager
def promoting(
    ops: Iterable[object],
    ours: Collection[AddressKey],
    addresses: Collection[AddressKey],
    secondary: Set[AddressKey],
    links: Mapping[int, Link],
) -> Iterator[None]:
    """While `ops` are done: what others have in the networks of ours stays."""
    changed = []
    for index in endangered(ops, ours, addresses, secondary):
        setting = Path(SETTING.format(links[index].name)) if index in links else None
        if setting is not None and _write(setting, "0", "1"):
            changed.append(setting)
    try:
        yield
    finally:
        for setting in changed:
            _write(setting, "1", "0")


def _write(setting: Path, before: str, after: str) -> bool:
    with suppress(OSError):
        if setting.read_text().strip() == before:
            setting.write_text(after)
            return True
    return False

"""Whether a virtual server is at home: with ha_suspend its servers are checked only then (checker-behaviour.md 8)."""

from __future__ import annotations

from collections.abc import Collection

from keepalived_py.config.model import VirtualServer
from keepalived_py.values import IPAddress


def is_suspended(config: VirtualServer, present: Collection[IPAddress]) -> bool:
    """`present`: the addresses of this host. A group is at home with any of its addresses; marks have none to miss."""
    if not config.ha_suspend:
        return False
    if config.key.address is not None:
        return config.key.address not in present
    ranges = [(entry.first, entry.last) for entry in config.group_entries if entry.first is not None]
    if not ranges:
        return False
    return not any(_within(address, first, last) for first, last in ranges for address in present)


def _within(address: IPAddress, first: IPAddress | None, last: IPAddress | None) -> bool:
    if first is None or last is None or first.version != address.version:
        return False
    return int(first) <= int(address) <= int(last)

"""Addresses that should be on the interfaces, and the operations that lead there. Pure.

Rows are keyed by interface and address. Only rows that we put there, or that the configuration names, are ever removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from keepalived_py.config.model import Address, VrrpInstance
from keepalived_py.records import dataclass
from keepalived_py.values import IPAddress


@dataclass(frozen=True, slots=True)
class AddressKey:
    """What the kernel knows an address by."""

    ifindex: int
    address: IPAddress
    prefixlen: int


@dataclass(frozen=True, slots=True)
class AddAddress:
    key: AddressKey
    row: Address


@dataclass(frozen=True, slots=True)
class DeleteAddress:
    key: AddressKey
    row: Address


Op = AddAddress | DeleteAddress


def slot(key: AddressKey) -> object:
    """What there is one of: an interface has an IPv6 address once, with whatever prefix."""
    return key if key.address.version == 4 else (key.ifindex, key.address)


Place = tuple[str, int]
"""Interface and family of addresses that have a VMAC of their own."""


def _place(config: VrrpInstance, row: Address) -> Place | None:
    """Where an address with a VMAC beside that of its instance goes, None for others (vrrp-behaviour.md 13)."""
    dev = row.dev or config.interface
    at_home = row.family == config.family and dev == config.interface
    asked = row.use_vmac or (config.vmac_addr and not at_home)
    return (dev, row.family) if dev and asked and not (at_home and config.vmac is not None) else None


def extra_vmacs(config: VrrpInstance) -> tuple[Place, ...]:
    """The VMACs that addresses ask for, in the order of the addresses."""
    places = (_place(config, row) for row in (*config.addresses, *config.excluded))
    return tuple(dict.fromkeys(place for place in places if place is not None))


def desired_addresses(
    config: VrrpInstance,
    own_index: int,
    index_of: Mapping[str, int],
    base_index: int = 0,
    extra: Mapping[Place, int] | None = None,
) -> dict[AddressKey, Address]:
    """What `config` holds while MASTER. An address whose interface does not exist is left out.

    Addresses of the instance's family go to its VMAC, the others, and those of an ipvlan, to `base_index` below it
    (vrrp-behaviour.md 11); those with a VMAC of their own to that in `extra`.
    """
    rows: dict[AddressKey, Address] = {}
    for row in (*config.addresses, *config.excluded):
        at_vmac = config.vmac is None or (row.family == config.family and config.vmac.kind == "macvlan")
        own = own_index if at_vmac else base_index
        place = _place(config, row)
        if place is not None:
            index = (extra or {}).get(place)
        else:
            index = own if row.dev in ("", config.interface) else index_of.get(row.dev)
        if index:
            rows[AddressKey(index, row.address, row.prefixlen)] = row
    return rows


def reconcile(
    desired: Mapping[AddressKey, Address], actual: Iterable[AddressKey], owned: Mapping[AddressKey, Address]
) -> Iterator[Op]:
    """Operations that turn `actual` into `desired` as far as our rows go; additions first.

    `owned` are rows that are ours to remove. A row that is there already is not touched, unless it is ours and its
    attributes changed: the kernel takes a new label or scope only with a new row.
    """
    present = set(actual)
    going = {slot(key): key for key in owned if key in present and key not in desired}
    for key, row in desired.items():
        if key not in present:
            other = going.pop(slot(key), None)
            if other is not None:
                yield DeleteAddress(other, owned[other])
            yield AddAddress(key, row)
        elif owned.get(key, row) != row:
            yield DeleteAddress(key, owned[key])
            yield AddAddress(key, row)
    for key in going.values():
        yield DeleteAddress(key, owned[key])

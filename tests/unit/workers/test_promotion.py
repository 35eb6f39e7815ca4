"""Which interfaces would lose addresses of others with one of ours."""

from __future__ import annotations

import pytest

from keepalived_py.config.model import Address
from keepalived_py.plan.links import AddAddress, AddressKey, DeleteAddress
from keepalived_py.values import ip_address
from workers.vrrp.promotion import endangered


def key(text: str, ifindex: int = 2) -> AddressKey:
    address, _, length = text.partition("/")
    return AddressKey(ifindex, ip_address(address), int(length))


def delete(text: str) -> DeleteAddress:
    found = key(text)
    return DeleteAddress(found, Address(address=found.address, prefixlen=found.prefixlen))


@pytest.mark.parametrize(
    ("going", "ours", "there", "found"),
    [
        ("10.0.0.100/24", (), ("10.0.0.1/24",), {2}),
        ("10.0.0.100/24", (), ("10.0.1.1/24",), set()),
        ("10.0.0.100/24", (), ("10.0.0.1/25",), set()),
        ("10.0.0.100/32", (), ("10.0.0.1/24",), set()),
        ("10.0.0.100/24", ("10.0.0.101/24",), ("10.0.0.101/24",), set()),
        ("fd00::100/64", (), ("fd00::1/64",), set()),
    ],
)
def test_interfaces_with_others_in_the_network(
    going: str, ours: tuple[str, ...], there: tuple[str, ...], found: set[int]
) -> None:
    mine = [key(going), *map(key, ours)]
    addresses = [key(going), *map(key, there)]
    assert endangered([delete(going)], mine, addresses, set()) == found
    assert endangered([delete(going)], mine, addresses, {key(going)}) == set()


def test_another_interface_and_what_is_added_do_not_matter() -> None:
    other = key("10.0.0.1/24", ifindex=3)
    assert endangered([delete("10.0.0.100/24")], [], [key("10.0.0.100/24"), key("10.0.0.1/24"), other], set()) == {2}
    assert endangered([delete("10.0.0.100/24")], [key("10.0.0.100/24")], [key("10.0.0.100/24"), other], set()) == set()
    added = key("10.0.0.100/24")
    row = Address(address=added.address, prefixlen=24)
    assert endangered([AddAddress(added, row)], [], [added, key("10.0.0.1/24")], set()) == set()

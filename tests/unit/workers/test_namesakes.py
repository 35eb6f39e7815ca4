"""Who would be the same virtual router on one link, and which link an interface uses."""

from __future__ import annotations

from typing import Any

import pytest

from keepalived_py.config.model import UnicastPeer
from keepalived_py.values import ip_address
from keepalived_py.vrrp.examiner import Examiner
from keepalived_py.vrrp.machine import VirtualRouter
from tests.unit.vrrp.builders import instance
from workers.vrrp.instance import Instance
from workers.vrrp.namesakes import Namesakes, wire
from workers.vrrp.rtnetlink import Link


def link(index: int, kind: str = "", parent: int = 0) -> Link:
    return Link(index, f"if{index}", 0, b"", kind=kind, parent=parent)


def running(wire: int = 1, **changes: Any) -> Instance:
    config = instance(**changes)
    return Instance(key=config.key, router=VirtualRouter(config), examiner=Examiner(config), wire=wire)


def unicast(peer: str, **changes: Any) -> Instance:
    peers = (UnicastPeer(address=ip_address(peer)),)
    return running(unicast=True, mcast_group=None, unicast_peers=peers, **changes)


@pytest.mark.parametrize(("index", "expected"), [(1, 1), (2, 1), (3, 3), (4, 4), (9, 9)])
def test_which_link_is_used(index: int, expected: int) -> None:
    links = {
        1: link(1),
        2: link(2, "macvlan", 1),
        3: link(3, "vlan", 1),
        4: link(4, "macvlan"),  # what is below it is in another namespace
    }
    assert wire(links, index) == expected


def test_the_second_one_yields() -> None:
    first, other, second, third = running(), running(vrid=7), running(interface="mac0"), running(interface="mac1")
    found = Namesakes([first, other, second, third])
    assert [found.first(each) for each in (first, other, second, third)] == [None, None, first, first]
    assert found.others(second) == [first, third]
    assert not found.others(other)


@pytest.mark.parametrize(
    "second",
    [
        running(wire=2),
        running(vrid=7),
        running(family=6),
        running(mcast_group=ip_address("224.0.0.99")),
        unicast("192.0.2.7"),
    ],
)
def test_others_are_none(second: Instance) -> None:
    assert Namesakes([running(), second]).first(second) is None


def test_without_an_interface_there_is_no_link_to_share() -> None:
    first, second = running(wire=0), running(wire=0)
    assert Namesakes([first, second]).first(second) is None


@pytest.mark.parametrize(("peer", "same"), [("192.0.2.7", True), ("192.0.2.8", False)])
def test_unicast_ones_need_a_peer_in_common(peer: str, same: bool) -> None:
    first, second = unicast("192.0.2.7"), unicast(peer, interface="mac0")
    assert (Namesakes([first, second]).first(second) is first) is same

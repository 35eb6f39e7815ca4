"""Sync groups on two links: what the other member's link hears, beside Debian's keepalived (vrrp-behaviour.md 8)."""

from __future__ import annotations

import signal
from itertools import groupby, pairwise

import pytest

from tests.netns.conftest import Pair
from tests.netns.rig import OURS, THEIRS, Capture, Switch, patience

pytestmark = pytest.mark.netns

OUTER, INNER, THIRD = "10.51.0.100", "10.52.0.100", "10.53.0.100"
INTERVAL = 0.2


def instance(name: str, interface: str, vrid: int, priority: int = 150) -> str:
    return f"""
vrrp_instance {name} {{
    interface {interface}
    version 3
    virtual_router_id {vrid}
    priority {priority}
    advert_int {INTERVAL}
    virtual_ipaddress {{
        10.{vrid}.0.100/24
    }}
}}
"""


def group(*names: str) -> str:
    members = "\n        ".join(names)
    return f"vrrp_sync_group G {{\n    group {{\n        {members}\n    }}\n}}\n"


TWO = instance("VI_1", "eth0", 51) + instance("VI_2", "eth1", 52)


def said(wire: Capture, source: str) -> list[tuple[int, int]]:
    """Priorities of a router's adverts, each with how often it came in a row."""
    priorities = (frame.vrrp[2] for frame in wire.adverts(source) if frame.vrrp)
    return [(priority, len(list(run))) for priority, run in groupby(priorities)]


@pytest.fixture
def inner(pair: Pair) -> Switch:
    made = pair.rig.switch("inner")
    pair.one.plug(made, "eth1", "10.1.0.1/24")
    return made


def both(pair: Pair) -> bool:
    return pair.one.addresses() >= {OUTER, INNER}


def neither(pair: Pair) -> bool:
    return not pair.one.addresses() & {OUTER, INNER}


@pytest.mark.parametrize("program", [OURS, THEIRS])
def test_members_go_together_and_say_farewell_for_a_fault_only(pair: Pair, inner: Switch, program: str) -> None:
    pair.one.start(program, TWO + group("VI_1", "VI_2"))
    pair.rig.wait(lambda: both(pair), 15)
    outside = pair.lan.capture()
    pair.one.cut("eth1")
    pair.rig.wait(lambda: neither(pair), 10)
    pair.rig.wait(lambda: said(outside, "10.0.0.1")[-1:] == [(0, 1)], 10)  # once, for a member that has no fault itself
    pair.one.restore("eth1")
    pair.rig.wait(lambda: both(pair), 15)
    outside, inside = pair.lan.capture(), inner.capture()
    peer = pair.two.start(THEIRS, instance("P", "eth0", 51, 200))
    pair.rig.wait(lambda: neither(pair) and pair.two.has(OUTER), 15)
    peer.stop()
    pair.rig.wait(lambda: both(pair), 15)
    assert [priority for priority, _ in said(inside, "10.1.0.1")] == [150]
    assert [priority for priority, _ in said(outside, "10.0.0.1")] == [150]


def test_a_new_member_does_not_drag_down_a_group_that_is_master(pair: Pair, inner: Switch) -> None:
    """keepalived takes all members to BACKUP. A group of one is like no group, and a reload may make one."""
    new = instance("VI_3", "eth0", 53)
    daemon = pair.one.start(OURS, TWO + group("VI_1"))
    pair.rig.wait(lambda: both(pair), 15)
    wires = (pair.lan.capture(), "10.0.0.1", 51), (inner.capture(), "10.1.0.1", 52)
    for number, text in enumerate((TWO + group("VI_1", "VI_2"), TWO + new + group("VI_1", "VI_2", "VI_3")), 1):
        daemon.rewrite(text)
        daemon.signal(signal.SIGHUP)
        pair.rig.wait(lambda number=number: daemon.log.count("Reload complete") == number, 10)
    pair.rig.wait(lambda: pair.one.has(THIRD), 10)
    daemon.rewrite(TWO + new + group("VI_1"))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: daemon.log.count("Reload complete") == 3, 10)
    for wire, source, vrid in wires:
        times = [frame.time for frame in wire.adverts(source) if frame.vrrp and frame.vrrp[1] == vrid]
        assert max(later - earlier for earlier, later in pairwise(times)) < patience(3 * INTERVAL)
    for name in ("VI_1", "VI_2"):
        assert daemon.log.count(f"({name}) Entering MASTER STATE") == 1
        assert daemon.log.count(f"({name}) Entering BACKUP STATE") == 1
    pair.one.cut("eth1")
    pair.rig.wait(lambda: not pair.one.has(INNER), 10)
    pair.rig.holds(lambda: pair.one.addresses() >= {OUTER, THIRD}, 0.5)

"""vrrp_hand_over: a master that is stopped keeps its addresses until another router has taken over."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.netns.conftest import Pair
from tests.netns.rig import OURS, THEIRS, patience
from tests.netns.test_vrrp_takeover import VIP4, VIP6, config

pytestmark = pytest.mark.netns

UNICAST = "\n unicast_src_ip 10.0.0.{}\n unicast_peer {{\n 10.0.0.{}\n }}\n"
MOMENT = 0.05
"""Seconds; the skew time of the other one is 0.6."""
WAYS = [
    ("4", 3, 4, THEIRS),
    ("4", 2, 4, OURS),
    ("6", 3, 6, THEIRS),
    ("unicast", 3, 4, THEIRS),
    ("vmac", 3, 4, THEIRS),
]


@pytest.mark.parametrize(("way", "version", "family", "follower"), WAYS, ids=[f"{w}-v{v}-{f}" for w, v, _, f in WAYS])
def test_clients_hardly_notice(pair: Pair, way: str, version: int, family: int, follower: str) -> None:
    """The second router is backup from its start: nothing tells of it but its report, or the list of peers.

    Its advert comes before its addresses, so that there is a moment without them.
    """
    vip = VIP4 if family == 4 else VIP6
    extra = {"unicast": (UNICAST.format(1, 2), UNICAST.format(2, 1)), "vmac": ("use_vmac", "use_vmac")}.get(
        way, ("", "")
    )
    leaver = pair.one.start(OURS, config(150, version, family, extra[0]))
    pair.rig.wait(lambda: pair.one.has(vip), 10)
    pair.two.start(follower, config(100, version, family, extra[1]))
    pair.rig.wait(lambda: "BACKUP STATE" in pair.two.daemons[0].log, 10)
    pair.rig.wait(lambda: _groups(pair) or way == "unicast", 10)
    time.sleep(1.2)  # a host repeats its report of a group within a second (RFC 3376 8.11)
    leaver.signal(signal.SIGTERM)
    assert longest(lambda: not (pair.one.has(vip) or pair.two.has(vip)), 2.0) < patience(MOMENT)
    assert leaver.process.wait(10) == 0
    assert not pair.one.has(vip)
    assert pair.two.has(vip)
    assert f"{'fe80' if family == 6 else '10.0.0.2'}" in leaver.log.split("has taken over")[0].splitlines()[-1]


def longest(condition: Callable[[], bool], during: float) -> float:
    """Seconds that `condition` held at a stretch."""
    found, since, until = 0.0, 0.0, time.monotonic() + during
    while (at := time.monotonic()) < until:
        since = (since or at) if condition() else 0.0
        found = max(found, at - since if since else 0.0)
    return found


def _groups(pair: Pair) -> bool:
    return "120000E0" in pair.two.run("cat", "/proc/net/igmp") or "ff02::12" in pair.two.run("ip", "maddr")


def test_who_is_alone_or_does_not_want_to_leaves_at_once(pair: Pair) -> None:
    never = "global_defs {\n vrrp_hand_over never\n}\n" + config(150, 3, 4, interval="10")
    alone = (
        config(150, 3, 4, interval="10").replace("state BACKUP", "state MASTER").replace("priority 150", "priority 255")
    )
    leaver = pair.one.start(OURS, alone)
    pair.rig.wait(lambda: pair.one.has(VIP4), 10)
    started = time.monotonic()
    assert leaver.stop() == 0
    assert time.monotonic() - started < patience(2.0)  # an advert interval is ten
    pair.two.start(OURS, config(100, 3, 4, interval="10"))
    pair.rig.wait(lambda: "BACKUP STATE" in pair.two.daemons[0].log, 10)
    leaver = pair.one.start(OURS, never.replace("state BACKUP", "state MASTER").replace("priority 150", "priority 255"))
    pair.rig.wait(lambda: pair.one.has(VIP4), 10)
    time.sleep(1.2)
    started = time.monotonic()
    assert leaver.stop() == 0
    assert time.monotonic() - started < patience(2.0)
    assert "has taken over" not in leaver.log


@pytest.mark.parametrize("how", ["cut off", "gone"])
def test_nobody_takes_over(pair: Pair, how: str) -> None:
    """One that is cut off is waited for as long as the lowest priority takes; one that left the group is not."""
    other = pair.two.start(THEIRS, config(200, 3, 4))
    pair.rig.wait(lambda: pair.two.has(VIP4), 10)
    leaver = pair.one.start(OURS, config(150, 3, 4))
    pair.rig.wait(lambda: "BACKUP STATE" in leaver.log, 10)
    time.sleep(1.2)
    if how == "cut off":
        pair.two.cut("eth0")
    else:
        other.kill()
    pair.rig.wait(lambda: pair.one.has(VIP4), 10)
    leaver.signal(signal.SIGTERM)
    if how == "cut off":
        pair.rig.holds(lambda: pair.one.has(VIP4), 0.9)
    assert leaver.process.wait(10) == 0
    assert not pair.one.has(VIP4)
    assert ("nobody has taken over" in leaver.log) == (how == "cut off")


def test_who_is_killed_while_it_hands_over_leaves_nothing(pair: Pair) -> None:
    pair.two.start(THEIRS, config(200, 3, 4))
    pair.rig.wait(lambda: pair.two.has(VIP4), 10)
    leaver = pair.one.start(OURS, config(150, 3, 4))
    pair.rig.wait(lambda: "BACKUP STATE" in leaver.log, 10)
    time.sleep(1.2)
    pair.two.cut("eth0")
    pair.rig.wait(lambda: pair.one.has(VIP4), 10)
    worker, wire = leaver.pid_of("vrrp"), pair.one.capture("eth0")
    leaver.signal(signal.SIGTERM)
    pair.rig.wait(lambda: [each for each in wire.adverts("10.0.0.1") if each.vrrp and each.vrrp[2] == 0], 10)
    time.sleep(0.1)  # what the worker has to say of it is with the parent
    os.kill(worker, signal.SIGKILL)
    assert leaver.process.wait(10) == 0
    assert not pair.one.has(VIP4)

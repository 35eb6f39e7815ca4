"""Interfaces that come, go, flap and are called otherwise: dynamic_interfaces, delays, polling, track_src_ip."""

from __future__ import annotations

import random
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from tests.netns.conftest import Pair
from tests.netns.rig import OURS, THEIRS, Daemon, Host, patience, sh
from tests.netns.test_vmac import links, on

pytestmark = pytest.mark.netns

VIP, VIP6 = "10.0.0.100", "fd00::100"
EXTRA = "virtual_ipaddress_excluded {\n fd00::200/64\n }"
DYNAMIC = "global_defs {\n dynamic_interfaces\n}\n"


def config(
    priority: int, *lines: str, head: str = "", interface: str = "eth0", interval: str = "0.2", addresses: str = ""
) -> str:
    body = "\n    ".join(lines)
    return f"""{head}
vrrp_instance VI_1 {{
    state BACKUP
    interface {interface}
    version 3
    virtual_router_id 51
    priority {priority}
    advert_int {interval}
    {body}
    virtual_ipaddress {{
        {addresses or f"{VIP}/24"}
    }}
}}
"""


def ip(host: Host, command: str) -> str:
    return sh("ip", "-n", host.namespace, *command.split())


def has_lines(daemon: Daemon, text: str, times: int) -> bool:
    return daemon.log.count(text) == times


def is_master(daemon: Daemon, times: int = 1) -> bool:
    return has_lines(daemon, "Entering MASTER STATE", times)


def replug(pair: Pair, interface: str = "eth0") -> None:
    """The interface of host one made anew, as when a driver is loaded again."""
    pair.one.plug(pair.lan, interface, "10.0.0.1/24", "fd00::1/64", "fe80::1/64")


# interfaces that do not exist --------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", [OURS, THEIRS])
def test_without_the_keyword_a_missing_interface_ends_the_start(pair: Pair, program: str) -> None:
    daemon = pair.one.start(program, config(150, interface="later0"))
    assert daemon.process.wait(8) == 2


@pytest.mark.parametrize("option", ["", " allow_if_changes"])
@pytest.mark.parametrize("vmac", ["", "use_vmac"])
def test_an_instance_waits_for_its_interface(pair: Pair, option: str, vmac: str) -> None:
    head = DYNAMIC.replace("dynamic_interfaces", f"dynamic_interfaces{option}")
    daemon = pair.one.start(OURS, config(150, vmac, head=head, interface="later0"))
    pair.rig.wait(lambda: "Entering FAULT STATE (interface later0 does not exist)" in daemon.log, 3)
    wire = pair.lan.capture()
    replug(pair, "later0")
    pair.rig.wait(lambda: VIP in on(pair.one, "vrrp.51" if vmac else "later0"), 4)
    pair.rig.wait(lambda: wire.adverts("10.0.0.1"), 1)
    assert daemon.stop() == 0
    assert not pair.one.has(VIP)


def test_a_reload_may_name_an_interface_that_is_not_there(pair: Pair) -> None:
    daemon = pair.one.start(OURS, config(150, head=DYNAMIC))
    pair.rig.wait(lambda: pair.one.has(VIP), 4)
    second = config(150, interface="later0", addresses="10.0.0.101/24").replace("VI_1", "VI_2").replace("51", "52")
    daemon.rewrite(config(150, head=DYNAMIC) + second)
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: "(VI_2) Entering FAULT STATE (interface later0 does not exist)" in daemon.log, 3)
    replug(pair, "later0")
    pair.rig.wait(lambda: "10.0.0.101" in on(pair.one, "later0"), 4)
    assert pair.one.has(VIP)


@pytest.mark.parametrize("head", ["", DYNAMIC])
@pytest.mark.parametrize("vmac", ["", "use_vmac"])
def test_an_interface_is_deleted_and_made_again(pair: Pair, head: str, vmac: str) -> None:
    place = "vrrp.51" if vmac else "eth0"
    daemon = pair.one.start(OURS, config(150, vmac, head=head))
    pair.rig.wait(lambda: pair.one.has(VIP), 4)
    vrrp = daemon.pid_of("vrrp")
    for times in (2, 3):
        ip(pair.one, "link del eth0")
        pair.rig.wait(partial(has_lines, daemon, "Entering FAULT STATE (interface eth0", times - 1), 2)
        pair.rig.wait(lambda: place not in links(pair.one), 1)
        wire = pair.lan.capture()
        replug(pair)
        pair.rig.wait(partial(is_master, daemon, times), 4)
        pair.rig.wait(lambda: VIP in on(pair.one, place), 1)
        pair.rig.wait(partial(wire.announcements, VIP), 2)
        pair.rig.wait(partial(wire.adverts, "10.0.0.1"), 2)
        if vmac:
            assert links(pair.one)[place]["link"] == "eth0"
            assert pair.one.run("sysctl", "-n", "net.ipv4.conf.eth0.arp_ignore").strip() == "1"
    pair.two.start(THEIRS, config(200))  # and it hears
    pair.rig.wait(lambda: "Entering BACKUP STATE" in daemon.log.split("Entering MASTER STATE")[3], 4)
    assert daemon.pid_of("vrrp") == vrrp
    assert daemon.stop() == 0
    assert place == "eth0" or place not in links(pair.one)


@pytest.mark.parametrize("vmac", ["", "use_vmac"])
def test_an_interface_is_renamed_and_renamed_back(pair: Pair, vmac: str) -> None:
    daemon = pair.one.start(OURS, config(150, vmac))
    pair.rig.wait(lambda: pair.one.has(VIP), 4)
    for times in (2, 3):
        ip(pair.one, "link set eth0 down")
        ip(pair.one, "link set eth0 name old0")
        ip(pair.one, "link set old0 up")
        pair.rig.wait(partial(has_lines, daemon, "Entering FAULT STATE", times - 1), 2)
        pair.rig.wait(lambda: not pair.one.has(VIP) and "vrrp.51" not in links(pair.one), 2)
        pair.rig.wait(lambda: pair.one.run("sysctl", "-n", "net.ipv4.conf.old0.arp_ignore").strip() == "0", 1)
        ip(pair.one, "link set old0 down")
        ip(pair.one, "link set old0 name eth0")
        ip(pair.one, "link set eth0 up")
        pair.rig.wait(partial(is_master, daemon, times), 4)
        pair.rig.wait(lambda: pair.one.has(VIP), 1)
        assert VIP in on(pair.one, "vrrp.51" if vmac else "eth0")


def test_an_interface_is_replaced_by_one_of_another_type(pair: Pair) -> None:
    daemon = pair.one.start(OURS, config(150, head=DYNAMIC, interface="use0", addresses="10.9.0.100/24"))
    pair.rig.wait(partial(has_lines, daemon, "Entering FAULT STATE", 1), 3)
    ip(pair.one, "link add use0 type veth peer name use1")
    ip(pair.one, "addr add 10.9.0.1/24 dev use0")
    ip(pair.one, "link set use0 up")
    ip(pair.one, "link set use1 up")
    pair.rig.wait(lambda: is_master(daemon), 4)
    ip(pair.one, "link del use0")
    pair.rig.wait(lambda: daemon.log.count("Entering FAULT STATE") == 2, 2)
    ip(pair.one, "link add use0 link eth0 type macvlan mode bridge")
    ip(pair.one, "addr add 10.9.0.1/24 dev use0")
    ip(pair.one, "link set use0 up")
    pair.rig.wait(lambda: is_master(daemon, 2) and "10.9.0.100" in on(pair.one, "use0"), 4)


def test_the_interface_of_an_address_comes_and_goes(pair: Pair) -> None:
    addresses = f"{VIP}/24\n 10.8.0.100/24 dev use0 no_track"
    daemon = pair.one.start(OURS, config(150, head=DYNAMIC, addresses=addresses))
    pair.rig.wait(lambda: is_master(daemon), 4)
    for _ in range(2):
        ip(pair.one, "link add use0 type veth peer name use1")
        ip(pair.one, "link set use1 up")
        ip(pair.one, "link set use0 up")
        pair.rig.wait(lambda: "10.8.0.100" in on(pair.one, "use0"), 2)
        ip(pair.one, "link del use0")
    daemon.said("Entering MASTER STATE", 1)
    assert pair.one.has(VIP)


@pytest.mark.parametrize("vmac", ["", "use_vmac"])
def test_an_interface_that_is_down_at_the_start(pair: Pair, vmac: str) -> None:
    ip(pair.one, "link set eth0 down")
    daemon = pair.one.start(OURS, config(150, vmac))
    pair.rig.wait(lambda: "Entering FAULT STATE (interface eth0 is down)" in daemon.log, 3)
    ip(pair.one, "link set eth0 up")
    pair.rig.wait(lambda: VIP in on(pair.one, "vrrp.51" if vmac else "eth0"), 4)


def test_a_vmac_that_somebody_sets_down_comes_up_again(pair: Pair) -> None:
    daemon = pair.one.start(OURS, config(150, "use_vmac"))
    pair.rig.wait(lambda: pair.one.has(VIP), 4)
    ip(pair.one, "link set vrrp.51 down")
    pair.rig.wait(lambda: "UP" in links(pair.one)["vrrp.51"]["flags"], 1)
    daemon.said("Entering MASTER STATE", 1)


# delays ------------------------------------------------------------------------------------------------------------


def delays(*lines: str) -> str:
    return "interface_up_down_delays {\n" + "\n".join(lines) + "\n}\n"


def test_a_short_loss_of_the_link_does_not_count(pair: Pair) -> None:
    daemon = pair.one.start(OURS, config(150, head=delays("eth0 0.5 0.3"), interval="1"))
    pair.rig.wait(lambda: pair.one.has(VIP), 8)
    pair.one.cut("eth0")
    pair.rig.holds(lambda: "FAULT" not in daemon.log, 0.3)
    pair.one.restore("eth0")
    pair.rig.holds(lambda: "FAULT" not in daemon.log, 0.8)
    pair.one.cut("eth0")
    pair.rig.holds(lambda: "FAULT" not in daemon.log, 0.35)
    assert pair.rig.wait(lambda: "Entering FAULT STATE (interface eth0 is down)" in daemon.log, 1) > 0.05
    pair.one.restore("eth0")
    pair.rig.holds(lambda: daemon.log.count("Entering BACKUP") == 1, 0.2)
    pair.rig.wait(lambda: daemon.log.count("Entering BACKUP") == 2, 1)


def test_the_delay_ends_before_a_peer_takes_over(pair: Pair) -> None:
    daemon = pair.one.start(OURS, config(150, head=delays("eth0 10 0"), interval="0.3"))
    pair.rig.wait(lambda: pair.one.has(VIP), 4)
    daemon.said("the down delay of eth0 is limited to 0.598828 s")
    pair.one.cut("eth0")
    took = pair.rig.wait(lambda: "Entering FAULT STATE" in daemon.log, 2)
    assert 0.5 < took < patience(0.75)


def test_an_interface_that_is_deleted_has_no_delay(pair: Pair) -> None:
    daemon = pair.one.start(OURS, config(150, head=delays("eth0 1.5 0"), interval="1"))
    pair.rig.wait(lambda: pair.one.has(VIP), 8)
    ip(pair.one, "link del eth0")
    assert pair.rig.wait(lambda: "Entering FAULT STATE" in daemon.log, 1) < patience(0.5)


def test_ipv6_addresses_are_back_after_a_loss_that_did_not_count(pair: Pair) -> None:
    text = config(150, f"virtual_ipaddress_excluded {{\n {VIP6}/64\n }}", head=delays("eth0 1.5 0"), interval="1")
    daemon = pair.one.start(OURS, text)
    pair.rig.wait(lambda: pair.one.has(VIP6), 8)
    wire = pair.lan.capture()
    ip(pair.one, "link set eth0 down")
    assert not pair.one.has(VIP6)
    ip(pair.one, "link set eth0 up")
    pair.rig.wait(lambda: pair.one.has(VIP6) and pair.one.has(VIP), 1)
    pair.rig.wait(lambda: wire.announcements(VIP6), 1)
    assert "FAULT" not in daemon.log


# polling -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "line"),
    [
        ("linkbeat_use_polling\n", ""),
        ("", "linkbeat_use_polling"),
        ("linkbeat_interfaces {\n eth0\n}\n", ""),
        ("linkbeat_interfaces {\n eth0 ETHTOOL\n}\n", ""),
        ("linkbeat_interfaces {\n eth0 IOCTL\n}\n", ""),
    ],
)
def test_a_polled_link(pair: Pair, head: str, line: str) -> None:
    daemon = pair.one.start(OURS, config(150, line, head=head))
    pair.rig.wait(lambda: pair.one.has(VIP), 4)
    pair.one.cut("eth0")
    pair.rig.wait(lambda: "polling: link of interface eth0 is down" in daemon.log, 2)
    pair.rig.wait(lambda: "Entering FAULT STATE (interface eth0 is down)" in daemon.log, 1)
    pair.one.restore("eth0")
    pair.rig.wait(lambda: is_master(daemon, 2), 4)
    ip(pair.one, "link set eth0 down")
    pair.rig.wait(lambda: daemon.log.count("Entering FAULT STATE") == 2, 2)


def test_what_cannot_be_polled_is_watched_as_ever(pair: Pair) -> None:
    ip(pair.one, "link add mac0 link eth0 type macvlan mode bridge")
    ip(pair.one, "addr add 10.0.0.77/24 dev mac0")
    ip(pair.one, "link set mac0 up")
    head = "linkbeat_interfaces {\n mac0\n eth0 MII\n}\n"
    daemon = pair.one.start(OURS, config(150, "track_interface {\n eth0\n }", head=head, interface="mac0"))
    pair.rig.wait(lambda: pair.one.has(VIP), 4)
    daemon.said("interface mac0 is a macvlan, whose link is not polled")
    daemon.said("interface eth0 does not support MII")
    ip(pair.one, "link set mac0 down")
    pair.rig.wait(lambda: "Entering FAULT STATE (interface mac0 is down)" in daemon.log, 1)


def test_a_polled_interface_that_is_missing(pair: Pair) -> None:
    daemon = pair.one.start(OURS, config(150, head="linkbeat_interfaces {\n later0\n}\n"))
    assert daemon.process.wait(8) == 2


# source address ----------------------------------------------------------------------------------------------------


def test_a_tracked_source_address(pair: Pair) -> None:
    ip(pair.one, "addr add 10.0.0.50/24 dev eth0")
    daemon = pair.one.start(OURS, config(150, "mcast_src_ip 10.0.0.50", "track_src_ip"))
    pair.rig.wait(lambda: pair.one.has(VIP), 5)
    ip(pair.one, "addr del 10.0.0.50/24 dev eth0")
    pair.rig.wait(lambda: not pair.one.has(VIP), 2)
    daemon.said("FAULT")
    ip(pair.one, "addr add 10.0.0.50/24 dev eth0")
    pair.rig.wait(lambda: pair.one.has(VIP), 4)


def test_a_source_address_that_is_not_tracked_may_go(pair: Pair) -> None:
    ip(pair.one, "addr add 10.0.0.50/24 dev eth0")
    daemon = pair.one.start(OURS, config(150, "mcast_src_ip 10.0.0.50"))
    pair.rig.wait(lambda: pair.one.has(VIP), 5)
    ip(pair.one, "addr del 10.0.0.50/24 dev eth0")
    pair.rig.holds(lambda: "FAULT" not in daemon.log, 0.5)


@pytest.mark.parametrize("vmac", ["", "use_vmac"])
def test_a_storm_of_changes_leaves_nothing_behind(pair: Pair, vmac: str) -> None:
    place = "vrrp.51" if vmac else "eth0"
    daemon = pair.one.start(OURS, config(150, vmac, "use_vmac_addr", EXTRA))
    pair.rig.wait(lambda: pair.one.has("fd00::200"), 5)
    before = set(Path(f"/proc/{daemon.pid_of('vrrp')}/fd").iterdir())
    dice = random.Random(7)
    storm = ["link set eth0 down", "link set eth0 up", f"link del {place}", f"addr flush dev {place}"]
    storm += ["link set eth0 name odd0", "link set odd0 name eth0", "link set odd0 up", "link del odd0"]
    for _ in range(60):
        if not {"eth0", "odd0"} & set(links(pair.one)):
            replug(pair)
        sh("ip", "-n", pair.one.namespace, *dice.choice(storm).split(), check=False)
        time.sleep(dice.choice((0, 0, 0.02, 0.3)))
    for name in {"eth0", "odd0"} & set(links(pair.one)):
        ip(pair.one, f"link del {name}")
    pair.rig.wait(lambda: "FAULT" in daemon.log.split("Entering")[-1], 2)
    replug(pair)
    pair.rig.wait(lambda: VIP in on(pair.one, place) and pair.one.has("fd00::200"), 5)
    assert "Traceback" not in daemon.log
    assert len(set(Path(f"/proc/{daemon.pid_of('vrrp')}/fd").iterdir())) == len(before)
    macs = [link["address"] for link in links(pair.one).values() if link["address"].startswith("00:00:5e")]
    assert len(macs) == len(set(macs)) == (2 if vmac else 1)
    assert daemon.stop() == 0
    assert set(links(pair.one)) == {"lo", "eth0"}
    assert pair.one.run("sysctl", "-n", "net.ipv4.conf.eth0.arp_ignore").strip() == "0"

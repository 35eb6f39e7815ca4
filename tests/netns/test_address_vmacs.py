"""use_vmac of an address and use_vmac_addr beside Debian's keepalived: which interfaces there are, what is on them."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from tests.netns.conftest import Pair
from tests.netns.rig import OURS, THEIRS, Host, sh
from tests.netns.test_firewall import rules
from tests.netns.test_links import config, ip, is_master
from tests.netns.test_vmac import links, on, settings, shape

pytestmark = pytest.mark.netns

PREFIXES = "global_defs {\n vmac_prefix vm\n vmac_addr_prefix va\n}\n"
ONE = "10.0.0.100/24"
OTHER = "10.1.0.100/24 dev eth1"
EXCLUDED = "virtual_ipaddress_excluded {\n fd00::100/64\n 10.1.0.101/24 dev eth1\n fd01::100/64 dev eth1\n }"
MARKED = "virtual_ipaddress_excluded {\n fd00::100/64\n 10.1.0.101/24 dev eth1\n fd01::100/64 dev eth1 use_vmac\n }"
CASES = {
    "both": config(150, "use_vmac", "use_vmac_addr", EXCLUDED, head=PREFIXES, addresses=f"{ONE}\n{OTHER}"),
    "without prefix": config(150, "use_vmac", "use_vmac_addr", EXCLUDED, addresses=f"{ONE}\n{OTHER}"),
    "addresses only": config(150, "use_vmac_addr", EXCLUDED, head=PREFIXES, addresses=f"{ONE}\n{OTHER}"),
    "marked": config(150, MARKED, head=PREFIXES, addresses=f"{ONE} use_vmac\n{OTHER} use_vmac"),
    "marked and own": config(150, "use_vmac vm7", MARKED, addresses=f"{ONE}\n{OTHER} use_vmac"),
    "own interface named": config(150, "use_vmac", addresses=f"{ONE}\n10.0.0.102/24 dev eth0\n{OTHER} use_vmac"),
    "own MAC": config(150, "use_vmac 02:00:00:00:00:99", addresses=f"{ONE}\n{OTHER} use_vmac"),
}
LAST = {"own interface named": "10.1.0.100", "own MAC": "10.1.0.100"}


@pytest.fixture(autouse=True)
def _second_network(pair: Pair) -> None:
    lan = pair.rig.switch("more")
    for number, host in enumerate((pair.one, pair.two), 1):
        host.plug(lan, "eth1", f"10.1.0.{number}/24", f"fe80::1{number}/64")


def made(host: Host) -> dict[str, tuple[Any, ...]]:
    """Every macvlan with its shape, its settings and the addresses on it; link-local ones of their hosts left out."""
    found = {}
    for name, link in links(host).items():
        if link.get("linkinfo", {}).get("info_kind") == "macvlan":
            held = {each for each in on(host, name) if not each.startswith("fe80")}
            local = any(each.startswith("fe80") for each in on(host, name))
            known = settings(host, name)
            known = {key: value for key, value in known.items() if ".{vmac}." in key or ".eth0." in key}
            if link["address"].startswith("00:00:5e:00:02"):
                known = {key: value for key, value in known.items() if "ipv4.conf.{vmac}" not in key}
            below = host.run("sysctl", "-n", f"net.ipv4.conf.{link['link']}.arp_ignore").strip()
            found[name] = (shape(host, name), sorted(held), local, sorted(known.items()), below)
    return found


@pytest.mark.parametrize("name", CASES)
def test_names_number_shape_and_contents_are_keepaliveds(pair: Pair, name: str) -> None:
    last = LAST.get(name, "fd01::100")
    ours = pair.one.start(OURS, CASES[name])
    pair.rig.wait(lambda: pair.one.has(last), 5)
    mine, filters = made(pair.one), rules(pair.one)
    plain = {each: {a for a in on(pair.one, each) if ".100" in a or ":100" in a} for each in ("eth0", "eth1")}
    assert ours.stop() == 0
    assert not made(pair.one)
    for interface in ("eth0", "eth1"):
        assert pair.one.run("sysctl", "-n", f"net.ipv4.conf.{interface}.arp_ignore").strip() == "0"
    pair.two.start(THEIRS, CASES[name])
    pair.rig.wait(lambda: pair.two.has(last), 8)
    assert mine == made(pair.two)
    assert filters == rules(pair.two)
    assert plain == {each: {a for a in on(pair.two, each) if ".100" in a or ":100" in a} for each in ("eth0", "eth1")}


def test_the_addresses_are_announced_from_their_macs(pair: Pair) -> None:
    wire = pair.one.capture("eth1")
    pair.one.start(OURS, CASES["both"])
    pair.rig.wait(lambda: wire.announcements("10.1.0.100") and wire.announcements("fd01::100"), 5)
    assert {frame.data[6:12].hex(":") for frame in wire.announcements("10.1.0.100")} == {"00:00:5e:00:01:33"}
    assert {frame.data[6:12].hex(":") for frame in wire.announcements("fd01::100")} == {"00:00:5e:00:02:33"}


def test_a_reload_moves_an_address_to_a_vmac_and_back(pair: Pair) -> None:
    with_vmac = config(150, addresses=f"{ONE}\n{OTHER} use_vmac")
    daemon = pair.one.start(OURS, config(150, addresses=f"{ONE}\n{OTHER}"))
    pair.rig.wait(lambda: "10.1.0.100" in on(pair.one, "eth1"), 5)
    daemon.rewrite(with_vmac)
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: "vrrp.51" in links(pair.one) and "10.1.0.100" in on(pair.one, "vrrp.51"), 4)
    assert "10.1.0.100" not in on(pair.one, "eth1")
    daemon.rewrite(config(150, addresses=f"{ONE}\n{OTHER}"))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: "10.1.0.100" in on(pair.one, "eth1") and not made(pair.one), 4)
    daemon.said("Entering MASTER STATE", 1)


def test_it_is_back_when_somebody_deletes_it_or_what_is_below(pair: Pair) -> None:
    daemon = pair.one.start(OURS, config(150, addresses=f"{ONE}\n{OTHER} use_vmac"))
    pair.rig.wait(lambda: pair.one.has("10.1.0.100"), 5)
    ip(pair.one, "link del vrrp.51")
    pair.rig.wait(lambda: pair.one.has("10.1.0.100"), 1)
    daemon.said("Entering MASTER STATE", 1)
    ip(pair.one, "link del eth1")
    pair.rig.wait(lambda: "Entering FAULT STATE (interface eth1" in daemon.log, 2)
    pair.one.plug(pair.rig.switch("again"), "eth1", "10.1.0.1/24")
    pair.rig.wait(lambda: "vrrp.51" in links(pair.one) and "10.1.0.100" in on(pair.one, "vrrp.51"), 4)


def test_two_instances_may_share_one_only_in_a_group(pair: Pair) -> None:
    first = config(150, addresses=f"{ONE}\n{OTHER} use_vmac")
    second = config(150, "use_vmac", interface="eth1", addresses="10.1.0.200/24").replace("VI_1", "VI_2")
    daemon = pair.one.start(OURS, first + second)
    pair.rig.wait(lambda: pair.one.has("10.1.0.100"), 5)
    daemon.said("(VI_2) Entering FAULT STATE (there is no VMAC on interface eth1")
    assert len(made(pair.one)) == 1
    daemon.stop()
    group = "vrrp_sync_group G {\n group {\n VI_1\n VI_2\n }\n}\n"
    daemon = pair.one.start(OURS, group + first + second)
    pair.rig.wait(lambda: {"10.1.0.100", "10.1.0.200"} <= pair.one.addresses(), 5)
    assert list(made(pair.one)) == ["vrrp.51"]
    daemon.stop()
    assert not made(pair.one)


def test_one_left_by_a_killed_daemon_is_used_again(pair: Pair) -> None:
    daemon = pair.one.start(OURS, CASES["addresses only"])
    pair.rig.wait(lambda: pair.one.has("fd01::100"), 5)
    before = {name: link["ifindex"] for name, link in links(pair.one).items()}
    daemon.kill()
    daemon = pair.one.start(OURS, CASES["addresses only"])
    pair.rig.wait(lambda: is_master(daemon), 5)
    assert {name: link["ifindex"] for name, link in links(pair.one).items()} == before
    assert "fd01::100" in sh("ip", "-n", pair.one.namespace, "addr", "show", "va1.51")

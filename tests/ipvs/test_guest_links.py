"""What needs a kernel with ipvlan, VRFs or IPVS: use_ipvlan, VMACs and unicast in a VRF, net_namespace_ipvs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ipvs.compare import OURS, THEIRS, running, table, wait
from tests.ipvs.test_ipvs_table import HEAD, server
from tests.netns.conftest import Pair
from tests.netns.rig import Host, Rig, sh
from tests.netns.test_links import VIP, config, ip
from tests.netns.test_routes import kernel, preferences, routes, twin
from tests.netns.test_vmac import links, on

pytestmark = pytest.mark.ipvs

VIP6 = "fe80::100"
SERVICE = server("10.0.0.1 80", HEAD, "real_server 127.0.0.9 80 {\n weight 1\n }\n")


PROBE = """ip link add v0 type veth peer name v1 && ip link add i0 link v0 type ipvlan &&
    ip link add r0 type vrf table 10"""


@pytest.fixture
def pair() -> Iterator[Pair]:
    if subprocess.run(["unshare", "-n", "sh", "-c", PROBE], capture_output=True, check=False).returncode:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("the kernel has no ipvlan or no VRFs")
    with Rig() as rig:
        yield Pair(rig)


def slow(*lines: str, **more: Any) -> str:
    """The guest is slow."""
    return config(150, *lines, interval="0.5", **more)


def shape(host: Host, name: str) -> dict[str, Any]:
    link = links(host)[name]
    conf = {
        key: host.run("sysctl", "-n", f"net.{key.format(name.replace('.', '/'))}").strip()
        for key in ("ipv4.conf.{}.arp_ignore", "ipv4.conf.{}.accept_local", "ipv6.conf.{}.disable_ipv6")
    }
    return {"info": link["linkinfo"], "on": link["link"], "up": "UP" in link["flags"], "settings": conf}


@pytest.mark.parametrize(
    ("line", "name", "vip", "source"),
    [
        ("use_ipvlan 10.0.0.77/24", "vrrp.51", f"{VIP}/24", "10.0.0.77"),
        ("use_ipvlan ipv7 10.0.0.77/24 private", "ipv7", f"{VIP}/24", "10.0.0.77"),
        ("use_ipvlan ipv6", "ipv6", VIP6, ""),
    ],
)
def test_an_ipvlan_and_the_source_of_its_adverts(pair: Pair, line: str, name: str, vip: str, source: str) -> None:
    address = vip.partition("/")[0]
    found = {}
    for host, program in ((pair.one, OURS), (pair.two, THEIRS)):
        wire = pair.lan.capture()
        daemon = host.start(program, slow(line, addresses=vip))
        pair.rig.wait(lambda host=host: host.has(address), 15)
        pair.rig.wait(lambda wire=wire: wire.announcements(address) and wire.adverts(), 5)
        assert address in on(host, "eth0")
        held = on(host, name)
        sources = {frame.source for frame in wire.adverts()}
        assert len(sources) == 1
        assert sources <= held
        assert not source or sources == {source}
        mac = links(host)["eth0"]["address"]
        assert {frame.data[6:12].hex(":") for frame in wire.adverts()} == {mac}
        found[program] = shape(host, name)
        daemon.stop()
        assert name not in links(host)
        wire.close()
    assert found[OURS] == found[THEIRS]


def test_two_ipvlans_of_ipv6_and_a_lost_address(pair: Pair) -> None:
    second = slow("use_ipvlan two", addresses="fe80::200").replace("VI_1", "VI_2").replace("51", "52")
    daemon = pair.one.start(OURS, slow("use_ipvlan 10.0.0.77/24") + second)
    pair.rig.wait(lambda: pair.one.has(VIP) and pair.one.has("fe80::200"), 15)
    ip(pair.one, "addr del 10.0.0.77/24 dev vrrp.51")
    pair.rig.wait(lambda: pair.one.has("10.0.0.77"), 2)
    ip(pair.one, "link del vrrp.51")
    pair.rig.wait(lambda: pair.one.has("10.0.0.77"), 4)
    pair.rig.wait(lambda: pair.one.has(VIP), 10)
    assert "Traceback" not in daemon.log


def into_vrf(host: Host) -> None:
    ip(host, "link add red type vrf table 10")
    ip(host, "link set red up")
    ip(host, "link set eth0 master red")


def masters_of(host: Host) -> dict[str, str | None]:
    return {name: link.get("master") for name, link in links(host).items() if name not in ("lo", "red")}


def test_a_vmac_is_in_the_vrf_of_the_interface_below_and_follows_it(pair: Pair) -> None:
    into_vrf(pair.one)
    into_vrf(pair.two)
    pair.one.start(OURS, slow("use_vmac"))
    pair.rig.wait(lambda: pair.one.has(VIP), 10)
    assert masters_of(pair.one) == {"eth0": "red", "vrrp.51": "red"}
    pair.two.start(THEIRS, slow("use_vmac"))
    pair.rig.wait(lambda: masters_of(pair.two) == masters_of(pair.one), 10)
    ip(pair.one, "link set eth0 nomaster")
    pair.rig.wait(lambda: masters_of(pair.one) == {"eth0": None, "vrrp.51": None}, 3)
    ip(pair.one, "link set eth0 master red")
    pair.rig.wait(lambda: masters_of(pair.one) == {"eth0": "red", "vrrp.51": "red"}, 3)


def unicast(own: int, peer: int, priority: int) -> str:
    lines = ("vrf red", f"unicast_src_ip 10.0.0.{own}", f"unicast_peer {{\n 10.0.0.{peer}\n }}")
    return slow(*lines, addresses=f"{VIP}/24 dev eth0").replace("interface eth0\n", "\n").replace("150", str(priority))


def test_unicast_in_a_vrf_without_interface(pair: Pair) -> None:
    for host in (pair.one, pair.two):
        into_vrf(host)
    first = pair.one.start(OURS, unicast(1, 2, 150))
    pair.rig.wait(lambda: pair.masters(VIP) == ["one"], 12)
    second = pair.two.start(OURS, unicast(2, 1, 100))
    pair.rig.holds(lambda: pair.masters(VIP) == ["one"], 3)
    pair.rig.wait(lambda: "Entering BACKUP" in second.log, 8)
    pair.rig.holds(lambda: "MASTER" not in second.log, 4)
    ip(pair.one, "link set red down")
    pair.rig.wait(lambda: "Entering FAULT STATE (interface red is down" in first.log, 3)
    pair.rig.wait(lambda: pair.masters(VIP) == ["two"], 6)
    ip(pair.one, "link del red")
    pair.rig.wait(lambda: second.log.count("Entering MASTER") == 1, 1)
    into_vrf(pair.one)
    pair.rig.wait(lambda: pair.masters(VIP) == ["one"], 12)


def test_a_vrf_that_is_missing_ends_the_start(pair: Pair) -> None:
    assert pair.one.start(OURS, unicast(1, 2, 150)).process.wait(20) == 2


# a VLAN above a bond -------------------------------------------------------------------------------------------------

BOND = """
    link add bond0 type bond mode active-backup miimon 20
    link set eth0 down
    link set eth1 down
    link set eth0 master bond0
    link set eth1 master bond0
    link set bond0 up
    link add link bond0 name bond0.7 type vlan id 7
    addr add 10.7.0.1/24 dev bond0.7
    link set bond0.7 up
"""


def test_a_vmac_above_a_vlan_above_a_bond_minds_only_the_loss_of_both_wires(pair: Pair) -> None:
    pair.one.plug(pair.lan, "eth1")
    for line in BOND.strip().splitlines():
        ip(pair.one, line)
    daemon = pair.one.start(OURS, slow("use_vmac", interface="bond0.7", addresses="10.7.0.100/24"))
    pair.rig.wait(lambda: pair.one.has("10.7.0.100"), 20)
    assert "10.7.0.100" in on(pair.one, "vrrp.51")
    assert links(pair.one)["vrrp.51"]["link"] == "bond0.7"
    pair.one.cut("eth0")
    pair.rig.wait(lambda: "NO-CARRIER" in links(pair.one)["eth0"]["flags"], 10)
    pair.rig.holds(lambda: "FAULT" not in daemon.log, 1)
    pair.one.cut("eth1")
    pair.rig.wait(lambda: "Entering FAULT STATE (interface bond0.7 is down" in daemon.log, 10)
    pair.rig.wait(lambda: not pair.one.has("10.7.0.100"), 10)
    pair.one.restore("eth1")
    pair.rig.wait(lambda: pair.one.has("10.7.0.100"), 20)
    assert daemon.stop() == 0


# routes that few kernels have ----------------------------------------------------------------------------------------

ROUTES = """
    10.80.0.0/16 encap mpls 100/200 via 10.0.0.3 dev eth0
    10.81.0.0/16 dev eth0 vrf red
    10.82.0.0/16 via 10.0.0.3 dev eth0 encap mpls 300 ttl-propagate enabled
    2001:db8:80:0:2000::1/128 encap ila 1:2:3:4 via fe80::3 dev eth0
    2001:db8:81::/48 encap mpls 301 via fe80::3 dev eth0
    2001:db8:82::/48 dev eth0 vrf red
"""
ENTRIES = f"virtual_routes {{{ROUTES}}}\nvirtual_rules {{\n oif red l3mdev preference 705\n }}"


def test_routes_of_vrfs_and_with_labels_and_locators_are_keepaliveds(pair: Pair) -> None:
    theirs = twin(pair)
    for host, program in ((pair.one, OURS), (theirs, THEIRS)):
        into_vrf(host)
        host.start(program, slow(ENTRIES))
        pair.rig.wait(lambda host=host: 705 in preferences(host), 15)
    assert len([each for each in routes(pair.one) if each["protocol"] == "keepalived"]) == 6
    assert kernel(pair.one) == kernel(theirs)


# IPVS ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def namespace() -> Iterator[str]:
    sh("ip", "netns", "add", "elsewhere")
    sh("ip", "-n", "elsewhere", "link", "set", "lo", "up")
    yield "elsewhere"
    sh("ip", "netns", "del", "elsewhere")


def table_in(namespace: str) -> list[str]:
    command = ["ip", "netns", "exec", namespace, "ipvsadm", "-Sn"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize("program", [OURS, THEIRS])
def test_the_table_of_another_namespace(namespace: str, program: str) -> None:
    text = f"net_namespace_ipvs {namespace}\n" + SERVICE
    with running(program, text):
        wait(lambda: len(table_in(namespace)) == 2)
        assert table() == []
    assert table_in(namespace) == []


def test_the_table_of_the_first_namespace(namespace: str) -> None:
    with running(OURS, "net_namespace_ipvs\n" + SERVICE, "-s", namespace) as daemon:
        wait(lambda: len(table()) == 2)
        assert table_in(namespace) == []
        names = json.loads(sh("nsenter", f"--net=/proc/{daemon.worker}/ns/net", "ip", "-j", "link"))
        assert {link["ifname"] for link in names} == {"lo"}
    assert table() == []


def test_the_table_of_the_own_namespace(namespace: str) -> None:
    with running(OURS, f"net_namespace {namespace}\n" + SERVICE):
        wait(lambda: len(table_in(namespace)) == 2)
        assert table() == []


def test_a_namespace_of_ipvs_that_may_not_be_entered(namespace: str, tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    conf.write_text(f"net_namespace_ipvs {namespace}\n" + SERVICE)
    files = [f"-{letter}{tmp_path}/{letter}.pid" for letter in "prc"]
    words = ["setpriv", "--bounding-set=-sys_admin", str(Path(sys.executable).with_name(OURS)), "-n", "-l", "-G", "-C"]
    done = subprocess.run([*words, "-f", str(conf), *files], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 4
    assert "Missing: CAP_SYS_ADMIN (net_namespace_ipvs)\n" in done.stderr


def test_a_namespace_of_ipvs_that_is_missing() -> None:
    with running(OURS, "net_namespace_ipvs nowhere\n" + SERVICE) as daemon:
        assert daemon.process.wait(20) != 0
    assert "No such file or directory" in daemon.log

"""use_vmac beside Debian's keepalived: the interface, its settings, the wire, what a neighbour learns, and the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.netns.conftest import Pair
from tests.netns.rig import OURS, THEIRS, Host, addresses_in, children_of, sh
from workers.vrrp.vmac_wish import link_local

pytestmark = pytest.mark.netns

VIP, VIP6 = "10.0.0.100", "fd00::100"
MAC, MAC6 = "00:00:5e:00:01:33", "00:00:5e:00:02:33"


def config(priority: int, *extra: str, family: int = 4, interval: str = "0.3") -> str:
    address = f"{VIP}/24" if family == 4 else f"fe80::100\n        {VIP6}/64"
    lines = "\n    ".join(extra or ("use_vmac",))
    return f"""
vrrp_instance VI_1 {{
    state BACKUP
    interface eth0
    version 3
    virtual_router_id 51
    priority {priority}
    advert_int {interval}
    {lines}
    virtual_ipaddress {{
        {address}
    }}
}}
"""


def links(host: Host) -> dict[str, dict[str, Any]]:
    found = json.loads(sh("ip", "-d", "-j", "-n", host.namespace, "link"))
    return {link["ifname"]: link for link in found}


def shape(host: Host, name: str) -> dict[str, Any]:
    """What makes an interface what it is."""
    link = links(host)[name]
    info = link["linkinfo"]
    return {
        "mac": link["address"],
        "kind": info["info_kind"],
        "mode": info["info_data"].get("mode"),
        "on": link["link"],
        "up": "UP" in link["flags"],
        "addrgenmode": link.get("inet6_addr_gen_mode"),
        "group": link.get("group"),
    }


SETTINGS = [
    "net.ipv4.conf.{vmac}.arp_ignore",
    "net.ipv4.conf.{vmac}.accept_local",
    "net.ipv4.conf.{vmac}.rp_filter",
    "net.ipv4.conf.{vmac}.promote_secondaries",
    "net.ipv6.conf.{vmac}.disable_ipv6",
    "net.ipv4.conf.eth0.arp_ignore",
    "net.ipv4.conf.eth0.arp_filter",
    "net.ipv4.conf.eth0.rp_filter",
    "net.ipv4.conf.all.rp_filter",
]


def settings(host: Host, name: str = "vrrp.51") -> dict[str, str]:
    return {
        each: host.run("sysctl", "-n", each.format(vmac=name.replace(".", "/")), check=False).strip()
        for each in SETTINGS
    }


def on(host: Host, name: str) -> set[str]:
    return addresses_in(host.namespace, name)


@pytest.mark.parametrize("family", [4, 6])
def test_the_interface_and_its_settings_are_keepaliveds(pair: Pair, family: int) -> None:
    for host in (pair.one, pair.two):
        host.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=2")
    ours = pair.one.start(OURS, config(150, family=family))
    name = "vrrp.51"
    pair.rig.wait(lambda: name in links(pair.one), 10)
    pair.rig.wait(lambda: (VIP if family == 4 else VIP6) in on(pair.one, name), 10)
    mine, my_settings = shape(pair.one, name), settings(pair.one, name)
    ours.stop()
    pair.rig.wait(lambda: name not in links(pair.one), 3)
    assert settings(pair.one, name)["net.ipv4.conf.eth0.arp_ignore"] == "0"
    assert settings(pair.one, name)["net.ipv4.conf.all.rp_filter"] == "2"
    theirs = pair.two.start(THEIRS, config(150, family=family))
    pair.rig.wait(lambda: (VIP if family == 4 else VIP6) in pair.two.addresses(), 8)
    assert mine == shape(pair.two, name)
    their_settings = settings(pair.two, name)
    if family == 6:
        # 2.3 sets it for IPv6 too, 2.2.7 does not
        assert my_settings.pop(SETTINGS[0]) == "1"
        their_settings.pop(SETTINGS[0])
    assert my_settings == their_settings
    theirs.stop()


@pytest.mark.parametrize("family", [4, 6])
def test_adverts_and_announcements_come_from_the_virtual_mac(pair: Pair, family: int) -> None:
    vip = VIP if family == 4 else VIP6
    wire = pair.lan.capture()
    pair.one.start(OURS, config(150, family=family))
    pair.rig.wait(lambda: pair.masters(vip) == ["one"], 10)
    pair.rig.wait(lambda: len(wire.announcements(vip)) >= 5, 3)
    mac = bytes.fromhex((MAC if family == 4 else MAC6).replace(":", ""))
    assert {frame.data[6:12] for frame in wire.adverts()} == {mac}
    assert {frame.data[6:12] for frame in wire.announcements(vip)} == {mac}
    if family == 4:
        assert {frame.source for frame in wire.adverts()} == {"10.0.0.1"}


@pytest.mark.parametrize(("first", "second"), [(OURS, THEIRS), (THEIRS, OURS), (OURS, OURS)])
def test_the_mac_moves_and_a_client_notices_nothing(pair: Pair, first: str, second: str) -> None:
    client = pair.client
    for host in (pair.one, pair.two):
        host.run("ping", "-c1", "-W2", "10.0.0.3")  # so that no request of theirs tells the client another address
    master = pair.one.start(first, config(150))
    pair.two.start(second, config(100))
    pair.rig.wait(lambda: pair.masters(VIP) == ["one"], 6)
    client.run("ping", "-c1", "-W2", VIP)
    assert MAC in client.run("ip", "neigh", "show", VIP)
    client.run("ping", "-c1", "-W2", "10.0.0.1")
    client.run("ping", "-c1", "-W2", "10.0.0.2")
    assert MAC not in client.run("ip", "neigh", "show", "10.0.0.1")
    master.kill()
    sh("ip", "-n", pair.one.namespace, "link", "set", "eth0", "down")
    pair.rig.wait(lambda: pair.two.has(VIP), 3)
    client.run("ping", "-c1", "-W2", VIP)
    assert MAC in client.run("ip", "neigh", "show", VIP)


def test_an_interface_left_by_a_killed_daemon_is_used_again(pair: Pair) -> None:
    daemon = pair.one.start(OURS, config(150))
    pair.rig.wait(lambda: pair.one.has(VIP), 10)
    index = links(pair.one)["vrrp.51"]["ifindex"]
    daemon.kill()
    assert "vrrp.51" in links(pair.one)
    daemon = pair.one.start(OURS, config(150))
    pair.rig.wait(lambda: "Entering MASTER" in daemon.log, 10)
    assert links(pair.one)["vrrp.51"]["ifindex"] == index
    assert [name for name in links(pair.one) if name.startswith("vrrp")] == ["vrrp.51"]


def test_a_killed_worker_leaves_it_in_place(pair: Pair) -> None:
    daemon = pair.one.start(OURS, config(150))
    pair.rig.wait(lambda: pair.one.has(VIP), 10)
    index = links(pair.one)["vrrp.51"]["ifindex"]
    (worker,) = children_of(daemon.process.pid)
    os.kill(worker, signal.SIGKILL)
    pair.rig.holds(lambda: pair.one.has(VIP), 1.0)
    assert links(pair.one)["vrrp.51"]["ifindex"] == index


def test_a_deleted_interface_comes_back_with_its_addresses(pair: Pair) -> None:
    daemon = pair.one.start(OURS, config(150))
    pair.rig.wait(lambda: pair.one.has(VIP), 10)
    sh("ip", "-n", pair.one.namespace, "link", "del", "vrrp.51")
    pair.rig.wait(lambda: "vrrp.51" in links(pair.one) and VIP in on(pair.one, "vrrp.51"), 2)
    data = daemon.directory / "keepalived.data"
    daemon.signal(signal.SIGUSR1)
    pair.rig.wait(data.exists, 10)
    assert data.read_text().count("Link vrrp.51") == 1  # nothing is remembered of the one that is gone


@pytest.mark.parametrize(
    ("lines", "name", "mac"),
    [
        (("use_vmac vm1",), "vm1", MAC),
        (("use_vmac name vm2 02:00:00:00:00:99",), "vm2", "02:00:00:00:00:99"),
        (("use_vmac 02:00:00:00:00",), "vrrp.51", "02:00:00:00:00:33"),
        (("use_vmac vm3", "vmac_xmit_base"), "vm3", MAC),
        (("use_vmac vm4", "unicast_peer {\n 10.0.0.2\n }"), "vm4", MAC),
    ],
)
def test_names_and_addresses_as_asked_for(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: tuple[str, ...], name: str, mac: str
) -> None:
    nmcli = tmp_path / "nmcli"
    nmcli.write_text(f"#!/bin/sh\necho $* >>{tmp_path}/told\n")
    nmcli.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    wire = pair.two.capture("eth0")
    daemon = pair.one.start(OURS, config(150, *lines))
    pair.rig.wait(lambda: name in links(pair.one) and VIP in on(pair.one, name), 10)
    assert links(pair.one)[name]["address"] == mac
    pair.rig.wait(wire.adverts, 10)
    sender = {frame.data[6:12].hex(":") for frame in wire.adverts()}
    assert sender == {links(pair.one)["eth0"]["address"] if name in ("vm3", "vm4") else mac}
    pair.rig.wait((tmp_path / "told").exists, 10)
    assert (tmp_path / "told").read_text() == f"device set {name} managed no\n"  # by NetworkManager
    daemon.stop()
    assert name not in links(pair.one)


def test_the_link_local_address_follows_that_of_the_interface_below(pair: Pair) -> None:
    """An advert can come from an address of its own interface only."""
    host, ip = pair.one, partial(sh, "ip", "-n", pair.one.namespace)
    ip("-6", "addr", "flush", "dev", "eth0")
    mac = bytes.fromhex(links(host)["eth0"]["address"].replace(":", ""))
    derived = str(link_local(mac))
    wire = pair.lan.capture()
    daemon = host.start(OURS, config(150, family=6))
    pair.rig.wait(lambda: "vrrp.51" in links(host) and derived in on(host, "vrrp.51"), 10)
    pair.rig.wait(lambda: "FAULT" in daemon.log, 10)
    ip("addr", "add", "fe80::5/64", "dev", "eth0", "nodad")
    pair.rig.wait(lambda: wire.adverts("fe80::5"), 10)
    pair.rig.wait(lambda: {"fe80::5", VIP6} <= on(host, "vrrp.51"), 2)  # an advert goes before the addresses
    assert derived not in on(host, "vrrp.51")
    ip("addr", "add", "fe80::6/64", "dev", "eth0", "nodad")
    ip("addr", "del", "fe80::5/64", "dev", "eth0")
    pair.rig.wait(lambda: wire.adverts("fe80::6"), 10)
    pair.rig.wait(lambda: {each for each in on(host, "vrrp.51") if "fe80" in each} == {"fe80::6", "fe80::100"}, 2)
    assert "cannot send" not in daemon.log


def test_an_interface_that_is_not_ethernet_has_none_and_that_is_a_fault(pair: Pair) -> None:
    ip = partial(sh, "ip", "-n", pair.one.namespace)
    ip("tuntap", "add", "tun0", "mode", "tun")
    ip("addr", "add", "10.9.0.1/24", "dev", "tun0")
    ip("link", "set", "tun0", "up", "multicast", "on")
    daemon = pair.one.start(OURS, config(150, "use_vmac", "dont_track_primary").replace("eth0", "tun0"))
    pair.rig.wait(lambda: "Entering FAULT STATE (there is no VMAC on interface tun0" in daemon.log, 10)
    daemon.said("VMAC on tun0: an interface that is not Ethernet cannot have one")
    assert not any("vrrp" in name for name in links(pair.one))


TAKEN = """
    link set eth0 group 5
    link add vrrp.51 type veth peer name other0
    link add vrrp.52 type veth peer name other1
    link add vm53 link eth0 address 02:00:00:00:00:53 type macvlan mode bridge
    link add mine54 link eth0 address 00:00:5e:00:01:36 type macvlan mode private
    link set mine54 addrgenmode none up
    link add vm56 link eth1 address 00:00:5e:00:01:38 type macvlan mode private
"""
CHOSEN = {
    51: ("use_vmac", "vrrp1.51"),
    52: ("use_vmac", "vrrp6.52"),
    53: ("use_vmac vm53", "vrrp.53"),
    54: ("use_vmac", "mine54"),
    55: ("use_vmac vm55 group 9", "vm55"),
    56: ("use_vmac vm56", "vm56"),
    57: ("use_vmac\n mcast_src_ip fe80::77", "vrrp.57"),
    58: ("use_vmac\n unicast_peer {\n 10.0.0.9\n }", "vrrp.58"),
}


def test_names_that_are_taken_groups_and_link_local_addresses_are_keepaliveds(pair: Pair) -> None:
    text = ""
    for vrid, (lines, _) in CHOSEN.items():
        one = config(150, lines, family=6 if vrid in (52, 57) else 4)
        one = one.replace("VI_1", f"VI_{vrid}").replace("_id 51", f"_id {vrid}")
        text += one.replace(f"{VIP}/24", f"10.0.0.{vrid + 100}/24").replace("::100", f"::{vrid}")
    found = {}
    for host, program in ((pair.one, OURS), (pair.two, THEIRS)):
        host.plug(pair.rig.switch(f"more-{host.name}"), "eth1")
        for line in TAKEN.strip().splitlines():
            sh("ip", "-n", host.namespace, *line.split())
        daemon = host.start(program, text if program == OURS else text.replace(" group 9", ""))  # of 2.3
        pair.rig.wait(lambda daemon=daemon: daemon.log.count("Entering MASTER STATE") == len(CHOSEN), 10)
        pair.rig.wait(lambda host=host: host.has("fe80::57") and host.has("fe80::52"), 10)
        made = [name for name, link in links(host).items() if link.get("linkinfo", {}).get("info_kind") == "macvlan"]
        found[program] = {name: (shape(host, name), {a for a in on(host, name) if "ff:fe" not in a}) for name in made}
        daemon.stop()
    assert set(found[OURS]) == {"vm53", *(name for _, name in CHOSEN.values())}
    groups = {name: own.pop("group") for name, (own, _) in found[OURS].items()}
    assert {name for name, group in groups.items() if group != "5"} == {"vm53", "mine54", "vm55"}
    assert groups["vm55"] == "9"
    for own, _ in found[THEIRS].values():
        del own["group"]  # of 2.3
    assert "vm53" in links(pair.one)
    assert found[OURS] == found[THEIRS]
    assert "fe80::77" in found[OURS]["vrrp.57"][1]


def test_a_reload_takes_it_away_and_brings_it(pair: Pair) -> None:
    daemon = pair.one.start(OURS, config(150))
    pair.rig.wait(lambda: pair.one.has(VIP), 10)
    daemon.rewrite(config(150, "accept"))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: VIP in on(pair.one, "eth0") and "vrrp.51" not in links(pair.one), 10)
    daemon.rewrite(config(150))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: "vrrp.51" in links(pair.one) and VIP in on(pair.one, "vrrp.51"), 10)
    assert VIP not in on(pair.one, "eth0")


@pytest.mark.parametrize("whom", ["daemon", "worker"])
def test_settings_are_as_before_at_the_end_also_when_somebody_was_killed(pair: Pair, whom: str) -> None:
    pair.one.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=2", "net.ipv4.conf.eth0.arp_ignore=0")
    before = settings(pair.one, "none")
    daemon = pair.one.start(OURS, config(150, "use_vmac", "promote_secondaries"))
    pair.rig.wait(lambda: pair.one.has(VIP), 10)
    daemon.said("Entering MASTER STATE")
    changed = settings(pair.one, "none")
    record = daemon.directory / "vrrp.sysctl"
    assert record.exists()
    assert changed != before
    if whom == "worker":
        (worker,) = children_of(daemon.process.pid)
        os.kill(worker, signal.SIGKILL)
    else:
        daemon.kill()
        kept = daemon
        daemon = pair.one.start(
            OURS, config(150, "use_vmac", "promote_secondaries"), "-r", str(kept.directory / "vrrp.pid")
        )
    pair.rig.wait(lambda: daemon.log.count("Entering MASTER") == 1 + (whom == "worker"), 8)
    assert settings(pair.one, "none") == changed
    daemon.stop()
    assert settings(pair.one, "none") == before
    assert not record.exists()


def test_settings_of_a_killed_daemon_go_back_when_nobody_needs_them(pair: Pair) -> None:
    pair.one.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=2")
    before = settings(pair.one, "none")
    killed = pair.one.start(OURS, config(150))
    pair.rig.wait(lambda: pair.one.has(VIP), 10)
    killed.kill()
    assert settings(pair.one, "none") != before
    pair.one.start(OURS, config(150, "accept"), "-r", str(killed.directory / "vrrp.pid"))
    pair.rig.wait(lambda: settings(pair.one, "none") == before, 10)


@pytest.mark.parametrize("word", ["", "netlink_notify_msg"])
def test_others_hear_of_a_bridge_that_became_promiscuous_when_asked_for(pair: Pair, word: str) -> None:
    host = pair.one
    host.run("ip", "link", "add", "br9", "group", "7", "type", "bridge")
    host.run("ip", "addr", "add", "10.9.0.1/24", "dev", "br9")
    host.run("ip", "link", "set", "eth0", "master", "br9")
    host.run("ip", "link", "set", "br9", "up")
    pair.rig.wait(lambda: "state UP" in host.run("ip", "link", "show", "br9"), 10)
    heard = pair.rig.directory / "heard"
    with heard.open("w") as out:
        command = ["ip", "netns", "exec", host.namespace, "ip", "-d", "-o", "monitor", "link", "addr"]
        with subprocess.Popen(command, stdout=out) as monitor:
            try:
                pair.rig.wait(lambda: host.run("ip", "link", "set", "lo", "mtu", "9000") or heard.read_text(), 10)
                host.start(OURS, config(150, f"use_vmac vm9 {word}").replace("interface eth0", "interface br9"))
                pair.rig.wait(lambda: f"inet {VIP}" in heard.read_text(), 10)
            finally:
                monitor.terminate()
    lines = heard.read_text().splitlines()
    up = next(number for number, line in enumerate(lines) if "vm9" in line and "LOWER_UP" in line)
    told = [line for line in lines[up:] if ": br9: " in line]
    assert ["promiscuity 1 " in line and "group 7" in line for line in told] == ([True] if word else [])

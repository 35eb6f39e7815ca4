"""One rich configuration from start to end beside Debian's keepalived: after each step the kernels hold the same."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Container
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.netns.rig import OURS, THEIRS, Daemon, Host, Rig, Switch
from tests.netns.test_firewall import rules as filters

pytestmark = pytest.mark.netns

VIPS = """
        10.0.0.100/24
        10.0.0.101
    """
VIPS6 = """
        fe80::100
        fd00::100/64
    """


def config(first: str, second: str = "", *, head: str = "") -> str:
    return f"""{head}
vrrp_instance VI_1 {{
    state BACKUP
    interface eth0
    version 3
    virtual_router_id 51
    priority 150
    advert_int 0.3
    {first}
}}
vrrp_instance VI_2 {{
    state BACKUP
    interface eth0
    version 3
    virtual_router_id 52
    priority 150
    advert_int 0.3
    {second}
}}
"""


STATIC = """
global_defs {
    default_interface eth0
}
static_ipaddress {
    10.9.0.1/24 dev eth1
    fd00:9::1/64 dev eth1
}
static_routes {
    10.90.0.0/16 via 10.9.0.2 dev eth1 metric 5
}
static_rules {
    from 10.90.0.0/16 table 90 preference 90
}
"""
FIRST = f"""
    use_vmac
    no_accept
    virtual_ipaddress {{{VIPS}}}
    virtual_ipaddress_excluded {{
        10.1.0.100/24 dev eth1 label eth1:v
        fd00:1::100/64 dev eth1
        fd00::101/64
    }}
    virtual_routes {{
        10.60.0.0/16 via 10.0.0.2 dev eth0 metric 7
        10.61.0.0/16 dev eth1 src 10.1.0.100 table 100
        10.62.0.0/16 nexthop via 10.1.0.2 dev eth1 weight 3 nexthop via 10.1.0.3 dev eth1
        blackhole 10.63.0.0/16
    }}
    virtual_rules {{
        from 10.60.0.0/16 table 100 preference 600
        oif eth1 to 10.61.0.0/16 fwmark 1/3 table 100 preference 601
    }}
"""
SECOND = f"""
    use_vmac
    no_accept
    virtual_ipaddress {{{VIPS6}}}
    virtual_routes {{
        2001:db8:60::/48 via fe80::2 dev eth0 metric 9
        2001:db8:61::/48 dev eth1 table 100
    }}
    virtual_rules {{
        from 2001:db8:60::/48 table 100 preference 602
    }}
"""
CHANGED = (
    FIRST.replace("        10.0.0.101\n", "        10.0.0.101/25\n")
    .replace("fd00::101/64", "fd00::101/64\n        10.0.0.102")
    .replace("label eth1:v", "label eth1:w")
    .replace("metric 7", "metric 8")
    .replace("weight 3", "weight 4")
    .replace("        blackhole 10.63.0.0/16\n", "")
    .replace("preference 601", "preference 611")
)
CHANGED_SECOND = SECOND.replace("    no_accept\n", "").replace("fd00::100/64", "fd00::100/65")


CHANCE = ("ifindex", "link_index", "link_netnsid", "handle")
SETTINGS = ("conf", "neigh", "igmp_link_local_mcast_reports", "ip_nonlocal_bind", "ip_forward")


def plain(value: Any) -> Any:
    """Without what chance decides."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items() if key not in CHANCE}
    return [plain(each) for each in value] if isinstance(value, list) else value


def rows(host: Host, *words: str) -> list[Any]:
    return [plain(each) for each in json.loads(host.run("ip", "-d", "-j", *words) or "[]")]


def settings(host: Host) -> set[str]:
    """Every setting of all interfaces, by its path."""
    paths = " ".join(f"/proc/sys/net/ipv[46]/{each}" for each in SETTINGS)
    return set(host.run("sh", "-c", f"grep -rs . {paths}", check=False).splitlines())


State = dict[str, set[str]]


def state(host: Host) -> State:
    families = ("-4", "-6")
    found = {
        "link": rows(host, "link"),
        "address": [{"on": link["ifname"], **each} for link in rows(host, "addr") for each in link["addr_info"]],
        "route": [each for family in families for each in rows(host, family, "route", "show", "table", "all")],
        "rule": [each for family in families for each in rows(host, family, "rule")],
    }
    texts = {kind: {json.dumps(each, sort_keys=True) for each in parts} for kind, parts in found.items()}
    return {**texts, "filter": set(filters(host)), "setting": settings(host)}


LATER = "net/ipv4/conf/vrrp.52/arp_ignore"
"""Keepalived 2.2 does not set it on the VMAC of an IPv6 instance, 2.3 does."""


def differences(one: State, other: State, but_for: Container[str] = ()) -> list[str]:
    return [
        f"{sign} {kind} {each}"
        for kind in one
        if kind not in but_for
        for sign, lines in (("+", one[kind] - other[kind]), ("-", other[kind] - one[kind]))
        for each in sorted(lines)
        if LATER not in each
    ]


def held(found: State) -> set[str]:
    """What the sets have in them."""
    return {each for each in found["filter"] if '"elem"' in each and '"constant"' not in each}


class Twins:
    """Ours and theirs, alike to the MAC address, each on a wire of its own; one better router is on both at times."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.hosts = [rig.host("ours"), rig.host("theirs")]
        self.daemons: list[Daemon] = []
        self._better = rig.host("better")
        for number, host in enumerate(self.hosts):
            wire = rig.switch(f"lan{number}")
            for name, address in (("eth0", "10.0.0.1/24"), ("eth1", "10.1.0.1/24")):
                plug(host, wire, name, address)
            # keepalived 2.2 copies rp_filter to fewer interfaces than 2.3
            host.run("sysctl", "-qw", *(f"net.ipv4.conf.{name}.rp_filter=1" for name in ("all", "lo", "eth1")))
            self._better.plug(wire, f"eth{number}", f"10.0.{number}.2/24", f"fe80::{number}2/64")

    def outrank(self, times: int) -> Daemon:
        """Start the better router: ours and theirs become BACKUP, for the time given."""
        text = "".join(
            config(f"virtual_ipaddress {{{VIPS}}}", f"virtual_ipaddress {{{VIPS6}}}")
            .replace("eth0", f"eth{number}")
            .replace("VI_", f"VI_{number}_")
            .replace("priority 150", "priority 200")
            for number in range(2)
        )
        better = self._better.start(THEIRS, text)
        self.rig.wait(lambda: better.log.count("Entering MASTER STATE") == 4, 10)
        if times:
            self.logged("Entering BACKUP STATE", times)
        return better

    def start(self, text: str, *ours: str) -> None:
        """`ours`: options of our daemon."""
        options = zip(self.hosts, (OURS, THEIRS), (ours, ()), strict=True)
        self.daemons = [host.start(program, text, *words) for host, program, words in options]

    def logged(self, what: str, times: int) -> None:
        """By each of two instances of both."""
        self.rig.wait(lambda: all(daemon.log.count(what) == 2 * times for daemon in self.daemons), 10)

    def alike(self, *but_for: str) -> State:
        """The state of both, once they agree."""
        found: list[State] = []

        def agree() -> bool:
            found[:] = map(state, self.hosts)
            return not differences(*found, but_for)

        with suppress(AssertionError):
            self.rig.wait(agree, 10, every=0.2)
        assert differences(*found, but_for) == []
        return found[0]


def test_the_kernel_holds_what_it_holds_with_keepalived_from_the_start_to_the_end(rig: Rig) -> None:
    twins = Twins(rig)
    before = twins.alike()
    assert all(before[kind] for kind in ("link", "address", "route", "rule"))
    assert len(before["setting"]) > 400
    better = twins.outrank(0)
    twins.start(config(FIRST, SECOND, head=STATIC))
    twins.logged("Entering BACKUP STATE", 1)
    backup = twins.alike("filter")  # ours are whole before the first address comes
    assert not {each for each in held(backup) if "vips" in each}

    better.stop()
    twins.logged("Entering MASTER STATE", 1)
    twins.alike()

    better = twins.outrank(2)
    assert differences(twins.alike(), backup) == []

    better.stop()
    twins.logged("Entering MASTER STATE", 2)
    for daemon in twins.daemons:
        daemon.rewrite(config(CHANGED, CHANGED_SECOND, head=STATIC))
        daemon.signal(signal.SIGHUP)
    for host in twins.hosts:
        rig.wait(lambda host=host: host.has("10.0.0.102"), 10)
    changed = twins.alike("filter")  # theirs keep what is not needed any more
    assert held(changed) == held(state(twins.hosts[1]))

    for daemon in twins.daemons:
        daemon.kill()
    assert differences(twins.alike("filter"), changed) == []

    pid_file = str(twins.daemons[0].directory / "vrrp.pid")  # beside it is what settings were
    better = twins.outrank(0)
    twins.start(config(CHANGED, CHANGED_SECOND, head=STATIC), "-r", pid_file)
    twins.logged("Entering BACKUP STATE", 1)
    left = twins.alike("filter", "route")  # keepalived 2.2 leaves routes and members of sets behind
    assert differences(left, backup, "filter") == []
    assert held(left) == held(backup)

    better.stop()
    twins.logged("Entering MASTER STATE", 1)
    assert differences(twins.alike("filter"), changed) == []  # theirs forget filters of a VMAC that they find

    for daemon in twins.daemons:
        daemon.stop()
    assert differences(twins.alike("setting"), before) == []  # theirs forget settings


THEFTS = (
    "ip addr flush dev vrrp.51",
    "ip -6 addr flush dev vrrp.52",
    "ip addr del 10.1.0.100/24 dev eth1; ip addr del 10.9.0.1/24 dev eth1; ip addr del fd00:1::100/64 dev eth1",
    "ip route flush table all proto keepalived; ip -6 route flush table all proto keepalived",
    "ip rule del preference 600; ip -6 rule del preference 602; ip rule del preference 90",
    "ip link set vrrp.51 down; ip link set vrrp.52 down",
    "ip link del vrrp.51; ip link del vrrp.52",
    "ip link set vrrp.52 down; ip link set vrrp.52 name odd; ip link set odd up",
    "ip link set odd down; ip link set odd name vrrp.52; ip link set vrrp.52 up",
    "nft flush ruleset",
    "sysctl -qw net.ipv4.conf.eth0.arp_ignore=0 net.ipv4.conf.vrrp/51.rp_filter=1 net.ipv4.conf.all.rp_filter=2",
)
LOSSES = {
    "ip link set eth0 down": "ip link set eth0 up",
    "ip link set eth0 down; ip link set eth0 name odd; ip link set odd up": "ip link set odd down;"
    " ip link set odd name eth0; ip link set eth0 up",
    "ip link del eth0": "",
}
"""A router without its interface is none: another one takes over meanwhile."""
FAULTS_HEAD = STATIC.replace("global_defs {", "global_defs {\n    dynamic_interfaces\n    vrrp_restore_lost 1000")


def test_whatever_is_taken_away_is_back_without_a_failover_and_nothing_is_left(rig: Rig) -> None:
    host, other, wire = rig.host("one"), rig.host("other"), rig.switch("lan")
    plug(host, wire, "eth1", "10.1.0.1/24")
    plug(host, wire, "eth0", "10.0.0.1/24")
    other.plug(wire, "eth0", "10.0.0.2/24", "fe80::2/64")
    host.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1")
    before = state(host)
    daemon = host.start(OURS, config(FIRST, SECOND, head=FAULTS_HEAD))
    rig.wait(lambda: daemon.log.count("Entering MASTER STATE") == 2, 10)
    vips = f"virtual_ipaddress {{{VIPS}}}", f"virtual_ipaddress {{{VIPS6}}}"
    backup = other.start(THEIRS, config(*vips).replace("priority 150", "priority 100"))
    rig.wait(lambda: backup.log.count("Entering BACKUP STATE") == 2, 10)
    rig.wait(lambda: len(held(state(host))) == 6, 10)
    whole, descriptors = state(host), count_of_descriptors(daemon)
    for theft in THEFTS * 2:
        host.run("sh", "-c", theft)
        if "name odd" not in theft:
            until_whole(rig, host, whole, theft)
    assert "Entering MASTER STATE" not in backup.log
    assert re.search(r"address 10\.0\.0\.10[01].* was removed by (ip \()?process \d+\)? and is put back", daemon.log)
    assert re.search(r"rule from 10\.60\.0\.0/16 .* was removed by (ip \()?process \d+\)? and is put back", daemon.log)
    os.kill(daemon.pid_of("vrrp"), signal.SIGUSR1)
    data = daemon.directory / "keepalived.data"
    rig.wait(lambda: data.exists() and "Filters put back" in data.read_text(), 10)
    counts = dict(re.findall(r"(\S+) put back: (\d+)", data.read_text()))
    certain = 7 + 7 + 3  # addresses, routes and rules; a flush that finds some back takes them again
    assert int(counts.pop("rules")) >= 2 * certain
    assert counts == {"VMACs": "4", "settings": "6", "Filters": "2"}
    assert daemon.log.count("Entering") == 4
    for number, (loss, gain) in enumerate(LOSSES.items(), 1):
        host.run("sh", "-c", loss)
        rig.wait(lambda number=number: daemon.log.count("Entering FAULT STATE") == 2 * number, 10)
        if gain:
            host.run("sh", "-c", gain)
        else:
            # what comes earlier begins with the settings that VRRP needed, and nobody knows that of it
            rig.wait(lambda: host.run("sysctl", "-n", "net.ipv4.conf.default.rp_filter").strip() == "0", 10)
            plug(host, wire, "eth0", "10.0.0.1/24")
        until_whole(rig, host, whole, loss)
    assert count_of_descriptors(daemon) == descriptors
    assert "Traceback" not in daemon.log
    assert daemon.stop() == 0
    assert differences(state(host), before) == []


def plug(host: Host, wire: Switch, name: str, address: str) -> None:
    """A link of the same MAC address each time."""
    host.plug(wire, name, address, mac=f"02:00:00:00:0a:0{name[-1]}")


def count_of_descriptors(daemon: Daemon) -> int:
    return len(list(Path(f"/proc/{daemon.pid_of('vrrp')}/fd").iterdir()))


def until_whole(rig: Rig, host: Host, whole: State, what: str) -> None:
    found: list[State] = []

    def is_whole() -> bool:
        found[:] = [state(host)]
        return not differences(*found, whole)

    with suppress(AssertionError):
        print(what, rig.wait(is_whole, 10, every=0.1))
    assert differences(*found, whole) == [], what

"""Somebody takes away, in a loop, what a master put into the kernel: it comes back at once, and nobody takes over."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.netns.conftest import Pair
from tests.netns.rig import OURS, Host
from tests.netns.test_routes import routes, rules

pytestmark = pytest.mark.netns

ROUNDS = 60
WITHIN = 0.2
"""Seconds until something is back (TARGETS.md, safety)."""
SETTLE = 0.02

FAULTS = (
    "ip addr flush dev v51 scope global",
    "ip addr del 10.0.0.100/24 dev v51",
    "ip -6 addr del fd00::100/64 dev eth0",
    "ip addr del 10.0.1.100/24 dev eth1",
    "ip route flush table 100",
    "ip route del 10.61.0.0/16",
    "ip -6 route del 2001:db8:60::/48",
    "ip rule del preference 700",
    "ip -6 rule del preference 705",
    "ip link del v51",
    "ip link set v51 down",
    "sysctl -qw net.ipv4.conf.eth0.arp_ignore=0",
    "sysctl -qw net.ipv4.conf.v51.accept_local=0",
    "sysctl -qw net.ipv4.conf.v51.rp_filter=1",
)


def config(priority: int) -> str:
    return f"""
global_defs {{
    vrrp_restore_lost 1000
}}
vrrp_instance VI_1 {{
    interface eth0
    use_vmac v51
    version 3
    virtual_router_id 51
    priority {priority}
    advert_int 0.3
    virtual_ipaddress {{
        10.0.0.100/24
        10.0.1.100/24 dev eth1
    }}
    virtual_ipaddress_excluded {{
        fd00::100/64
    }}
    virtual_routes {{
        10.60.0.0/16 via 10.0.0.2 table 100
        10.61.0.0/16 dev v51
        2001:db8:60::/48 via fe80::2 dev eth0
    }}
    virtual_rules {{
        from 10.60.0.0/16 table 100 preference 700
        from 2001:db8:60::/48 table 100 preference 705
    }}
}}
"""


def links(host: Host) -> dict[str, Any]:
    """Interfaces with what is on them; not what the kernel makes anew each time."""
    found = {}
    for link in json.loads(host.run("ip", "-j", "addr")):
        own = sorted((each["local"], each["prefixlen"]) for each in link["addr_info"] if "ff:fe" not in each["local"])
        found[link["ifname"]] = ("UP" in link["flags"], own)
    return found


def settings(host: Host) -> list[str]:
    names = "net.ipv4.conf.all.rp_filter", "net.ipv4.conf.eth0.arp_ignore", "net.ipv4.conf.eth0.arp_filter"
    own = [f"net.ipv4.conf.v51.{each}" for each in ("arp_ignore", "accept_local", "rp_filter")]
    return host.run("sysctl", "-e", *names, *own).splitlines()


def state(host: Host) -> tuple[Any, ...]:
    shown = [sorted(json.dumps({**row, "flags": []}) for row in rows) for rows in (routes(host), rules(host))]
    return links(host), *shown, settings(host)


@pytest.mark.parametrize("seed", [1])
def test_what_is_taken_away_is_back(pair: Pair, seed: int) -> None:
    for host in (pair.one, pair.two):
        other = pair.rig.switch(f"other-{host.name}")
        host.plug(other, "eth1", "10.0.1.1/24")
    before = state(pair.one)
    daemon = pair.one.start(OURS, config(150))
    pair.rig.wait(lambda: pair.one.has("10.0.0.100"), 6)
    pair.two.start(OURS, config(100))
    pair.rig.wait(lambda: pair.two.has("fe80::2"), 3)
    pair.rig.wait(lambda: settings(pair.two) == settings(pair.one), 6)
    wire = pair.lan.capture()
    wanted = state(pair.one)
    choice = random.Random(seed)
    order = [*FAULTS, *choice.choices(FAULTS, k=ROUNDS - len(FAULTS))]
    for fault in order:
        pair.one.run(*fault.split())
        late = time.monotonic() + WITHIN + 0.1  # looking takes time, too
        while (found := state(pair.one)) != wanted:
            assert time.monotonic() < late, (fault, found, wanted)
        time.sleep(SETTLE)
    assert not wire.adverts("10.0.0.2"), "the other one took over"
    assert daemon.log.count("Entering MASTER STATE") == 1
    descriptors = len(list(Path(f"/proc/{daemon.pid_of('vrrp')}/fd").iterdir()))
    assert descriptors < 60, descriptors
    assert daemon.stop() == 0
    assert state(pair.one) == before

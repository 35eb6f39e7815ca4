"""Every attribute of addresses, routes and rules in a kernel, side by side with Debian's keepalived."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest

from tests.netns.conftest import Pair
from tests.netns.rig import OURS, THEIRS, Host, inside
from tests.netns.test_routes import ip, kernel, preferences, statics, twin
from tests.netns.test_vrrp_takeover import VIP4
from workers.netlink import NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, attributes, message, messages

pytestmark = pytest.mark.netns

ADDRESSES = """
    10.1.0.1/24 dev eth0 scope link
    10.1.1.1/24 brd + label eth0:one
    10.1.2.1/24 broadcast -
    10.1.3.1/24 brd 10.1.3.77 scope 200
    10.1.4.1/32 peer 10.1.4.2
    10.1.5.1/24 noprefixroute
    10.1.6.1/24 preferred_lft 300
    10.1.7.1
    239.1.2.3/32 autojoin
    fd00:1:0::1/64 home
    fd00:1:1::1/64 -nodad
    fd00:1:2::1/64 mngtmpaddr
    fd00:1:3::1/64 noprefixroute
    fd00:1:4::1
    fd00:1:5::1/64 preferred_lft 1000
    fd00:1:6::1/128 preferred_lft forever
    fd00:1:7::1/64 dev lo
    fd00:1:8::1/128 peer fd00:1:8::2
    fd00:1:9::1/64 no_track
"""
ROUTES = """
    10.60.0.0/16 dev eth0 hoplimit 60 rtt lock 1600 rttvar 900 reordering 5 window 7000 cwnd lock 9 ssthresh 11
    10.61.0.0/16 dev eth0 rto_min 300 initrwnd 12 features ecn fastopen_no_cookie 1 advmss lock 1300 mtu 1300
    10.62.0.0/16 dev eth0 scope link protocol 77 table 4711 no_track
    multicast 224.1.0.0/16 dev eth0 table 4711
    prohibit 10.66.0.0/16 priority 7
    10.67.0.0/16 dev eth0 add
    10.68.0.0/16 gw 10.0.0.2 oif eth0 prepend preference 9
    10.69.0.0/16 nexthop via 10.0.0.2 dev eth0 onlink realms 1/2 nexthop via 10.0.0.3 weight 256
    10.71.0.0/16 via 10.0.0.2 or 10.0.0.3
    10.73.0.0/16 dev eth0 dsfield 4
    10.74.0.0/16 dev eth0 scope site protocol static table default no_track
    default via 10.0.0.2 dev eth0 table 4711
    2001:db8:60::/48 dev eth0 expires 4000
    2001:db8:61::/48 dev eth0 hoplimit 9 mtu 1400 pref low
    2001:db8:62::/48 via fe80::2 dev eth0 onlink initcwnd 4
    default via fe80::2 dev eth0 table 4711
"""
RULES = """
    from 10.60.0.1 lookup 100 order 710
    to 10.60.0.2 tos 8 table 100 priority 711
    uidrange 100-200 table 100 preference 712
    l3mdev preference 713
    ipproto tcp sport 10-20 dport 30-40 table 100 preference 714
    fwmark 0x10/0xff table 100 sup_pl 4 preference 715
    iif eth0 table 100 sup_group 3 preference 716
    dev eth0 from 10.60.0.3 blackhole preference 717
    from 10.60.0.4 type unreachable preference 718
    from 10.60.0.5 nop preference 719
    from 10.60.0.6 dsfield 4 protocol 77 table 100 no_track preference 720
    ipproto udp table 100 preference 721 inet6
    from 10.60.0.7 table main preference 722
    from 10.60.0.8 table 100
    from 2001:db8:8::/48 table 100
    from 10.60.0.9 table 100
    to 2001:db8::/32 uidrange 1-2 l3mdev preference 723
"""
SHOW = ("ip", "-4", "route", "show", "table", "all")
LAST = 723
KEEPALIVED, RTM_GETADDR = 18, 22
IFA_ADDRESS, IFA_LOCAL, IFA_PROTO = 1, 2, 11
OURS_ALONE = """
    local 10.63.0.0/16 dev eth0 table 4712
    broadcast 10.64.0.0/16 dev eth0 table 4712
    anycast 10.65.0.0/16 dev eth0 table 4712
    10.70.0.0/16 via inet6 fe80::2 dev eth0
    10.72.0.0/16 nexthop via 10.0.0.2 encap ip id 8 dst 192.0.2.2 nexthop via 10.0.0.3
"""
"""What Debian's keepalived leaves out, or asks the kernel for in vain."""
MADE_OF_THEM = """
local 10.63.0.0/16 dev eth0 table 4712 proto keepalived scope host
broadcast 10.64.0.0/16 dev eth0 table 4712 proto keepalived scope link
anycast 10.65.0.0/16 dev eth0 table 4712 proto keepalived scope link
10.70.0.0/16 via inet6 fe80::2 dev eth0 proto keepalived
10.72.0.0/16 proto keepalived
    nexthop encap ip id 8 src 0.0.0.0 dst 192.0.2.2 ttl 0 tos 0 via 10.0.0.2 dev eth0 weight 1
    nexthop via 10.0.0.3 dev eth0 weight 1
"""


def virtual(addresses: str, routes: str, rules: str) -> str:
    return f"""
vrrp_instance VI_1 {{
    state BACKUP
    interface eth0
    version 3
    virtual_router_id 51
    priority 150
    advert_int 0.2
    virtual_ipaddress {{
        {VIP4}/24
    }}
    virtual_ipaddress_excluded {{{addresses}
    }}
    virtual_routes {{{routes}
    }}
    virtual_rules {{{rules}
    }}
}}
"""


def addresses(host: Host) -> list[dict[str, Any]]:
    """With all attributes, lifetimes roughly, but for those that the kernel makes of a chance MAC address."""
    found = []
    for link in ip(host, "-d", "addr"):
        for each in link["addr_info"]:
            if "ff:fe" not in each["local"]:
                found.append({"link": link["ifname"], **each, **lasting(each, "preferred_life_time")})
    return found


def lasting(what: dict[str, Any], name: str) -> dict[str, int]:
    """A number of seconds that counts down, roughly."""
    return {name: round(what[name], -2)} if name in what else {}


def entries(host: Host) -> list[list[dict[str, Any]]]:
    return [[{**each, **lasting(each, "expires")} for each in part] for part in kernel(host)]


@pytest.mark.parametrize("kind", [virtual, statics])
def test_every_attribute_is_in_the_kernel_as_with_keepalived(pair: Pair, kind: Callable[[str, str, str], str]) -> None:
    theirs = twin(pair)
    before = addresses(pair.one), entries(pair.one)
    text = kind(ADDRESSES, ROUTES, RULES)
    for host, program in ((pair.one, OURS), (theirs, THEIRS)):
        host.start(program, "global_defs {\n default_interface eth0\n}\n" + text)
        pair.rig.wait(lambda host=host: LAST in preferences(host), 10)
    settled = addresses(pair.one), entries(pair.one)
    tagged = protocols(pair.one)
    assert {tagged[each] for each in ("10.1.0.1", "10.1.4.1", "fd00:1:4::1", "fd00:1:7::1")} == {KEEPALIVED}
    assert tagged["10.0.0.1"] == 0
    assert settled == (addresses(theirs), entries(theirs))
    assert [len(part) - len(old) for part, old in zip(settled[1], before[1], strict=True)] == [16, 17]
    daemon = pair.one.daemons[0]
    daemon.rewrite(text.replace(ROUTES, ROUTES + OURS_ALONE))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: shown(MADE_OF_THEM) <= shown(pair.one.run(*SHOW)), 10)
    daemon.stop()
    assert (addresses(pair.one), entries(pair.one)) == before


def protocols(host: Host) -> dict[str, int]:
    """Who put each address there (IFA_PROTO), which ip does not show; 0: nobody says."""
    with inside(host.namespace), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.send(message(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, bytes(8)))
        found = {}
        while True:
            for kind, _, _, body in messages(sock.recv(1 << 16)):
                if kind == NLMSG_DONE:
                    return found
                words = attributes(body[8:])
                address = words.get(IFA_LOCAL, words.get(IFA_ADDRESS, b""))
                found[str(ip_address(bytes(address)))] = words[IFA_PROTO][0] if IFA_PROTO in words else 0


def shown(text: str) -> set[str]:
    """Routes as ip shows them, each on a line of its own."""
    return {" ".join(line.split()) for line in re.sub(r"\n\s+", " ", text).splitlines() if line}

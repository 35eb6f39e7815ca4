"""Routes and rules as bytes, held against the decoder of pyroute2, and what is made of notices."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from keepalived_py.config.iproute_names import Names
from keepalived_py.config.model import Address, Encap, NextHop, Route, Rule, VrrpInstance
from keepalived_py.config.routes import parse_route_line
from keepalived_py.config.rules import parse_rule_line
from keepalived_py.plan.links import AddAddress, AddressKey, DeleteAddress
from keepalived_py.plan.routes import (
    AddEntry,
    DeleteEntry,
    Entry,
    RouteEntry,
    RuleEntry,
    desired_entries,
    held_interfaces,
    insertions,
    named_interfaces,
    reconcile_entries,
)
from keepalived_py.values import ip_address
from keepalived_py.vrrp.examiner import Examiner
from keepalived_py.vrrp.machine import VirtualRouter
from workers.vrrp import route_netlink
from workers.vrrp.effect_runner import difference
from workers.vrrp.instance import Instance, Prepared
from workers.vrrp.route_netlink import encode_entry, removed
from workers.vrrp.rtnetlink import IFINFOMSG, NLMSG, RTM_NEWLINK, LinkNotice, attribute, notice

INDICES = {"eth0": 2, "eth1": 3, "red": 9}
TABLES = {"red": 77}


def entries(*rows: Route | Rule) -> tuple[Entry, ...]:
    routes = [row for row in rows if isinstance(row, Route)]
    rules = [row for row in rows if isinstance(row, Rule)]
    return desired_entries(routes, rules, INDICES, TABLES)


def route(line: str) -> Route:
    return parse_route_line(tuple(line.split()), Names(), lambda bad: None, static=True)


def rule(line: str) -> Rule:
    return parse_rule_line(tuple(line.split()), Names(), lambda bad: None, static=True)


def decoded(row: Route | Rule, add: bool = True) -> Any:
    (entry,) = entries(row)
    data = encode_entry(AddEntry(entry) if add else DeleteEntry(entry))
    assert NLMSG.unpack_from(data)[0] == len(data)
    found = (rtmsg if isinstance(row, Route) else fibmsg)(data)
    found.decode()
    return found


def attributes(row: Route | Rule, add: bool = True) -> dict[str, Any]:
    return dict(decoded(row, add)["attrs"])


def test_a_plain_route() -> None:
    found = decoded(route("10.1.0.0/16 via 10.0.0.2 dev eth0 src 10.0.0.1 metric 5 tos 8 realms 3/4"))
    header = {name: found[name] for name in ("family", "dst_len", "src_len", "tos", "table", "proto", "scope", "type")}
    assert header == {
        "family": 2,
        "dst_len": 16,
        "src_len": 0,
        "tos": 8,
        "table": 254,
        "proto": 18,
        "scope": 0,
        "type": 1,
    }
    assert found["header"]["type"] == route_netlink.RTM_NEWROUTE
    assert dict(found["attrs"]) == {
        "RTA_TABLE": 254,
        "RTA_DST": "10.1.0.0",
        "RTA_PREFSRC": "10.0.0.1",
        "RTA_PRIORITY": 5,
        "RTA_GATEWAY": "10.0.0.2",
        "RTA_OIF": 2,
        "RTA_FLOW": 3 << 16 | 4,
    }


def test_an_ipv6_route() -> None:
    found = decoded(route("2001:db8:1::/48 from 2001:db8:2::/56 via fe80::1 dev eth1 expires 60 pref high onlink"))
    assert (found["family"], found["dst_len"], found["src_len"], found["flags"]) == (10, 48, 56, 4)
    assert dict(found["attrs"]) == {
        "RTA_TABLE": 254,
        "RTA_DST": "2001:db8:1::",
        "RTA_SRC": "2001:db8:2::",
        "RTA_GATEWAY": "fe80::1",
        "RTA_OIF": 3,
        "RTA_EXPIRES": "3c:00:00:00",
        "RTA_PREF": 1,
    }


@pytest.mark.parametrize(
    ("line", "type_", "scope"),
    [
        ("10.1.0.0/16 dev eth0", 1, 0),
        ("local 10.1.0.1 dev eth0", 2, 254),
        ("broadcast 10.1.0.255 dev eth0", 3, 253),
        ("multicast 224.1.0.0/16 dev eth0", 5, 0),
        ("blackhole 10.1.0.0/16", 6, 0),
        ("10.1.0.0/16 dev eth0 scope site", 1, 200),
        ("unreachable 2001:db8::/48", 7, 0),
        ("local 2001:db8::1 dev eth0", 2, 0),
        ("default dev eth0", 1, 0),
    ],
)
def test_type_and_scope(line: str, type_: int, scope: int) -> None:
    found = decoded(route(line))
    assert (found["type"], found["scope"]) == (type_, scope)
    assert ("RTA_DST" in dict(found["attrs"])) is (line != "default dev eth0")


@pytest.mark.parametrize(("word", "flags"), [("", 0x401), ("prepend", 0x401), ("append", 0xC01), ("add", 0x601)])
def test_how_a_route_is_inserted(word: str, flags: int) -> None:
    assert decoded(route(f"10.1.0.0/16 dev eth0 {word}"))["header"]["flags"] == flags
    assert decoded(route(f"10.1.0.0/16 dev eth0 {word}"), add=False)["header"]["flags"] == 1


@pytest.mark.parametrize(("option", "table"), [("table 100", 100), ("table 4711", 4711), ("vrf red", 77), ("", 254)])
def test_tables(option: str, table: int) -> None:
    found = decoded(route(f"10.1.0.0/16 dev eth0 {option}"))
    assert dict(found["attrs"])["RTA_TABLE"] == table
    assert found["table"] == (table if table < 256 else 0)


def test_every_metric() -> None:
    line = (
        "10.1.0.0/16 dev eth0 mtu lock 1400 hoplimit 60 advmss 1000 rtt lock 100ms rttvar 50ms reordering 5"
        " window 6 cwnd 9 ssthresh 4 rto_min 200ms initcwnd 10 initrwnd 11 features ecn quickack 1 congctl lock cubic"
    )
    found = attributes(route(line))
    metrics = dict(found["RTA_METRICS"]["attrs"])
    locked = metrics.pop("RTAX_LOCK")
    assert locked == 1 << 2 | 1 << 4 | 1 << 16
    assert metrics.pop("RTAX_CC_ALGO").strip("\0") == "cubic"
    assert metrics == {
        "RTAX_MTU": 1400,
        "RTAX_HOPLIMIT": 60,
        "RTAX_ADVMSS": 1000,
        "RTAX_RTT": 800,
        "RTAX_RTTVAR": 200,
        "RTAX_REORDERING": 5,
        "RTAX_WINDOW": 6,
        "RTAX_CWND": 9,
        "RTAX_SSTHRESH": 4,
        "RTAX_RTO_MIN": 200,
        "RTAX_INITCWND": 10,
        "RTAX_INITRWND": 11,
        "RTAX_FEATURES": 1,
        "RTAX_QUICKACK": 1,
    }
    assert "RTA_METRICS" not in attributes(route(line), add=False)


@pytest.mark.parametrize(("word", "value"), [("enabled", 1), ("disabled", 0)])
def test_ttl_propagate(word: str, value: int) -> None:
    (entry,) = entries(route(f"10.1.0.0/16 dev eth0 ttl-propagate {word}"))
    body = memoryview(encode_entry(AddEntry(entry)))[NLMSG.size + route_netlink.RTMSG.size :]
    assert bytes(route_netlink.attributes(body)[26]) == bytes((value,))


def test_a_metric_that_the_decoder_does_not_know() -> None:
    (entry,) = entries(route("10.1.0.0/16 dev eth0 fastopen_no_cookie 1"))
    body = memoryview(encode_entry(AddEntry(entry)))[NLMSG.size + route_netlink.RTMSG.size :]
    found = route_netlink.attributes(route_netlink.attributes(body)[route_netlink.RTA_METRICS])
    assert {number: bytes(value) for number, value in found.items()} == {17: struct.pack("=I", 1)}


def test_a_gateway_of_the_other_family() -> None:
    found = attributes(route("10.1.0.0/16 via inet6 fe80::1 dev eth0"))
    assert found["RTA_VIA"] == {"family": 10, "addr": "fe80::1"}
    assert "RTA_GATEWAY" not in found


def test_next_hops() -> None:
    first, second = attributes(
        route("10.1.0.0/16 nexthop via 10.0.0.2 dev eth0 weight 3 onlink nexthop dev eth1 realms 1/2")
    )["RTA_MULTIPATH"]
    assert (first["hops"], first["oif"], first["flags"], dict(first["attrs"])) == (
        2,
        2,
        4,
        {"RTA_GATEWAY": "10.0.0.2"},
    )
    assert (second["hops"], second["oif"], second["flags"], dict(second["attrs"])) == (
        0,
        3,
        0,
        {"RTA_FLOW": 1 << 16 | 2},
    )
    assert len(attributes(route("10.1.0.0/16 nexthop dev eth0 nexthop dev eth1"), add=False)["RTA_MULTIPATH"]) == 2


def encap_of(line: str) -> tuple[int, bytes]:
    """Kind and raw attributes of a route's tunnel; pyroute2 decodes only some kinds."""
    (entry,) = entries(route(line))
    body = memoryview(encode_entry(AddEntry(entry)))[NLMSG.size + route_netlink.RTMSG.size :]
    found = route_netlink.attributes(body)
    (kind,) = struct.unpack("=H", found[route_netlink.RTA_ENCAP_TYPE])
    return kind, bytes(found[route_netlink.RTA_ENCAP])


def test_mpls() -> None:
    found = attributes(route("10.1.0.0/16 encap mpls 100/200 via 10.0.0.2"))
    assert found["RTA_ENCAP_TYPE"] == 1
    labels = dict(found["RTA_ENCAP"]["attrs"])["MPLS_IPTUNNEL_DST"]
    assert [(each["label"], each["bos"]) for each in labels] == [(100, 0), (200, 1)]


def test_tunnels() -> None:
    kind, raw = encap_of("10.1.0.0/16 encap ip id 77 dst 192.0.2.1 src 192.0.2.2 tos 8 ttl 9 flags 3 dev eth0")
    found = route_netlink.attributes(memoryview(raw))
    assert kind == 2
    assert {number: bytes(value) for number, value in found.items()} == {
        1: (77).to_bytes(8),
        2: bytes((192, 0, 2, 1)),
        3: bytes((192, 0, 2, 2)),
        4: b"\x09",
        5: b"\x08",
        6: b"\x00\x03",
    }
    kind, raw = encap_of("2001:db8::/48 encap ip6 dst 2001:db8::9 hoplimit 64 dev eth0")
    assert kind == 4
    assert bytes(route_netlink.attributes(memoryview(raw))[2]) == ip_address("2001:db8::9").packed
    kind, raw = encap_of("2001:db8::/48 encap ila 1:2:3:4 via fe80::1")
    assert (kind, raw) == (3, bytes.fromhex("0c00010000010002") + bytes.fromhex("00030004"))


def test_a_tunnel_in_a_next_hop() -> None:
    row = Route(
        family=4,
        destination=ip_address("10.1.0.0"),
        prefixlen=16,
        nexthops=(NextHop(dev="eth0", encap=Encap(kind="mpls", labels=(5,))), NextHop(dev="eth1")),
    )
    (hop, _) = attributes(row)["RTA_MULTIPATH"]
    assert dict(hop["attrs"])["RTA_ENCAP_TYPE"] == 1


def test_a_rule_with_everything() -> None:
    line = (
        "not from 10.1.0.0/16 to 10.2.0.0/24 preference 700 tos 8 fwmark 0x10/0xff realms 1/2 suppress_prefixlength 3"
        " suppress_ifgroup 4 iif eth0 oif eth1 tunnel-id 5 uidrange 1-6 ipproto tcp sport 1-7 dport 80 table 1000"
    )
    found = decoded(rule(line))
    assert found["header"]["type"] == route_netlink.RTM_NEWRULE
    assert found["header"]["flags"] == 0x601
    header = {name: found[name] for name in ("family", "src_len", "dst_len", "tos", "table", "action", "flags")}
    assert header == {"family": 2, "src_len": 16, "dst_len": 24, "tos": 8, "table": 0, "action": 1, "flags": 2}
    expected = {
        "FRA_PRIORITY": 700,
        "FRA_PROTOCOL": 18,
        "FRA_SRC": "10.1.0.0",
        "FRA_DST": "10.2.0.0",
        "FRA_TABLE": 1000,
        "FRA_IIFNAME": "eth0",
        "FRA_OIFNAME": "eth1",
        "FRA_FWMARK": 0x10,
        "FRA_FWMASK": 0xFF,
        "FRA_FLOW": 1 << 16 | 2,
        "FRA_SUPPRESS_PREFIXLEN": 3,
        "FRA_SUPPRESS_IFGROUP": 4,
        "FRA_IP_PROTO": 6,
        "FRA_TUN_ID": 5,
        "FRA_UID_RANGE": "1:6",
        "FRA_SPORT_RANGE": "1:7",
        "FRA_DPORT_RANGE": "80:80",
    }
    assert dict(found["attrs"]) == expected
    gone = decoded(rule(line), add=False)
    assert gone["header"]["type"] == route_netlink.RTM_DELRULE
    assert dict(gone["attrs"])["FRA_TUN_ID"] == 5


@pytest.mark.parametrize(
    ("line", "action", "more"),
    [
        ("inet6 l3mdev preference 5", 1, {"FRA_L3MDEV": 1}),
        ("from 10.0.0.1 goto 900 preference 5", 2, {"FRA_GOTO": 900}),
        ("from 10.0.0.1 nop preference 5", 3, {}),
        ("from 10.0.0.1 blackhole preference 5", 6, {}),
        ("from 10.0.0.1 unreachable preference 5", 7, {}),
        ("from 10.0.0.1 prohibit preference 5", 8, {}),
    ],
)
def test_actions_of_rules(line: str, action: int, more: dict[str, int]) -> None:
    found = decoded(rule(line))
    assert found["action"] == action
    assert dict(found["attrs"]).items() >= more.items()
    assert "FRA_TABLE" not in dict(found["attrs"])


# the way to what is desired -------------------------------------------------------------------------------------------


def test_a_route_without_its_interface_or_vrf_is_left_out() -> None:
    rows = [
        route(f"10.1.0.0/16 {rest}")
        for rest in ("dev nothere", "dev eth0 vrf blue", "nexthop dev nothere nexthop dev eth0")
    ]
    assert entries(*rows) == ()
    assert len(entries(*rows, rule("from 10.0.0.1 iif nothere table 5 preference 1"))) == 1


def test_only_what_the_kernel_sees_makes_another_entry() -> None:
    one, two = route("10.1.0.0/16 dev eth0"), route("10.1.0.0/16 dev eth0 no_track append")
    assert reconcile_entries(entries(two), entries(one)) == ([], [])
    assert len(entries(one, two)) == 1
    other = route("10.1.0.0/16 dev eth0 mtu 1400")
    gone, coming = reconcile_entries(entries(other), entries(one))
    assert (gone, coming) == ([DeleteEntry(entries(one)[0])], [AddEntry(entries(other)[0])])


def test_removal_is_in_reverse_order() -> None:
    held = entries(route("10.1.0.0/16 dev eth0"), route("10.2.0.0/16 dev eth0"), rule("from 10.0.0.1 nop preference 1"))
    gone, _ = reconcile_entries((), held)
    assert [op.entry for op in gone] == list(reversed(held))
    assert isinstance(gone[0].entry, RuleEntry)


def test_routes_leave_before_addresses_and_come_again_after_them() -> None:
    one, two = entries(route("10.1.0.0/16 dev eth0"), route("10.2.0.0/16 dev eth0"))
    row = Address(address=ip_address("10.0.0.100"), prefixlen=24)
    key = AddressKey(2, row.address, 24)
    prepared = Prepared(
        basis=(), desired={key: row}, entries=(two,), renewals=[], additions=[], deletions=[], frames=[]
    )
    router = VirtualRouter(VrrpInstance(name="VI_1", interface="eth0", family=4, vrid=1))
    held = Instance(key=router.config.key, router=router, examiner=Examiner(router.config), entries=(one, two))

    def ops(present: bool) -> list[object]:
        return [op for batch in difference(held, prepared, present) for op in batch.ops]

    assert ops(True) == [DeleteEntry(one), AddAddress(key, row), AddEntry(two)]
    held.rows = {key: row}
    assert ops(True) == [DeleteEntry(one)]
    assert ops(False) == [DeleteEntry(two), DeleteEntry(one), DeleteAddress(key, row)]


def test_an_ipv6_route_with_next_hops_is_put_as_a_whole() -> None:
    (parted,) = entries(route("2001:db8::/48 nexthop via fe80::1 dev eth0 nexthop via fe80::2 dev eth0"))
    (whole,) = entries(route("10.1.0.0/16 nexthop dev eth0 nexthop dev eth1"))
    assert list(insertions((parted, whole))) == [DeleteEntry(parted), AddEntry(parted), AddEntry(whole)]


def test_interfaces_without_which_there_is_a_fault() -> None:
    config = VrrpInstance(
        name="VI_1",
        interface="eth0",
        family=4,
        vrid=1,
        addresses=(Address(address=ip_address("10.0.0.1"), prefixlen=24, dev="eth5"),),
        routes=(
            route("10.1.0.0/16 dev eth1"),
            route("10.2.0.0/16 dev eth2 no_track"),
            route("10.2.0.0/16 dev eth0"),
            route("10.3.0.0/16 nexthop dev eth3 nexthop dev eth0"),
            route("10.3.0.0/16 vrf red dev eth0"),
        ),
        rules=(rule("oif eth4 table 5 preference 1"),),
    )
    assert held_interfaces(config) == {"eth1", "eth3", "eth4", "eth5"}
    assert named_interfaces(config) == {"eth0", "eth1", "eth2", "eth3", "eth5", "red"}


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("10.1.0.0/16 via 10.0.0.2 dev eth0 table 5", "route 10.1.0.0/16 via 10.0.0.2 dev eth0 table 5"),
        ("unreachable default metric 3", "route unreachable default metric 3"),
        ("default nexthop via 10.0.0.2 nexthop dev eth1", "route default nexthop via 10.0.0.2 nexthop dev eth1"),
    ],
)
def test_routes_for_the_log(line: str, text: str) -> None:
    assert str(entries(route(line))[0]) == text


@pytest.mark.parametrize(
    "line", ["from 10.0.0.0/8 preference 5 table 7", "not iif eth0 preference 6 goto 9", "preference 7 prohibit"]
)
def test_rules_for_the_log(line: str) -> None:
    assert str(entries(rule(line))[0]) == f"rule {line}"


@pytest.mark.parametrize(("kind", "table"), [(b"vrf\0", 77), (b"vlan\0", 0)])
def test_the_table_of_a_vrf(kind: bytes, table: int) -> None:
    inner = attribute(1, kind) + attribute(2, attribute(1, struct.pack("=I", 77)))
    body = IFINFOMSG.pack(0, 1, 9, 1, 0) + attribute(3, b"red\0") + attribute(18, inner)
    found = notice(RTM_NEWLINK, memoryview(body))
    assert isinstance(found, LinkNotice)
    assert (found.link.name, found.link.table) == ("red", table)


# notices --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "10.1.0.0/16 via 10.0.0.2 dev eth0 metric 5 tos 8 table 4711",
        "default dev eth0",
        "2001:db8::/48 dev eth0 metric 7",
        "blackhole 10.1.0.0/16",
    ],
)
def test_a_removed_route_is_known_by_its_key(line: str) -> None:
    (entry,) = entries(route(line))
    data = encode_entry(DeleteEntry(entry))
    assert removed(route_netlink.RTM_DELROUTE, memoryview(data)[NLMSG.size :]) == entry.key
    (other,) = entries(route(line + " vrf red" if "table" not in line else "10.1.0.0/16 dev eth0"))
    assert entry.key != other.key


def test_the_kernel_gives_ipv6_routes_a_metric() -> None:
    (entry,) = entries(route("2001:db8::/48 dev eth0"))
    assert isinstance(entry, RouteEntry)
    assert entry.key.metric == 1024


@pytest.mark.parametrize(
    "line",
    ["from 10.0.0.0/8 iif eth0 preference 5 table 7", "inet6 oif eth1 preference 6 prohibit", "to 10.0.0.1 nop"],
)
def test_a_removed_rule_is_known_by_its_key(line: str) -> None:
    row = rule(line)
    if row.preference < 0:
        row = rule(f"{line} preference 0")
    (entry,) = entries(row)
    data = encode_entry(DeleteEntry(entry))
    assert removed(route_netlink.RTM_DELRULE, memoryview(data)[NLMSG.size :]) == entry.key


def test_other_notices_are_none() -> None:
    (entry,) = entries(route("10.1.0.0/16 dev eth0"))
    body = memoryview(encode_entry(AddEntry(entry)))[NLMSG.size :]
    assert removed(route_netlink.RTM_NEWROUTE, body) is None
    assert removed(route_netlink.RTM_DELROUTE, body[:8]) is None
    assert removed(route_netlink.RTM_DELROUTE, memoryview(b"\x07" + bytes(body[1:]))) is None


@given(st.binary(max_size=120))
def test_any_bytes_do_no_harm(data: bytes) -> None:
    for kind in (route_netlink.RTM_DELROUTE, route_netlink.RTM_DELRULE):
        with contextlib.suppress(struct.error):
            removed(kind, memoryview(data))

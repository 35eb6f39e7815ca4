"""Lines of virtual_routes and static_routes: every option once right and once wrong, and the way back."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepalived_py.config.iproute_names import Names
from keepalived_py.config.model.links import Encap, NextHop, Route
from keepalived_py.config.routes import ROUTE_TYPES, parse_route_line, route_words
from keepalived_py.config.schema import Bad

NOWHERE = Path("/nonexistent")
NAMES = Names((NOWHERE,), NOWHERE)
V4 = Route(family=4, destination=IPv4Address("10.0.0.0"), prefixlen=8)
V6 = Route(family=6, destination=IPv6Address("2001:db8::"), prefixlen=32)
GW, GW6 = IPv4Address("192.0.2.1"), IPv6Address("fe80::1")
MAX = 2**32 - 1


def read(line: str, static: bool = False) -> tuple[Route, list[tuple[str, int]]]:
    """The route, and what was reported: id and index of the word."""
    reports: list[tuple[str, int]] = []
    route = parse_route_line(tuple(line.split()), NAMES, lambda bad: reports.append((bad.id, bad.index)), static)
    return route, reports


def never(bad: Bad) -> None:
    raise bad


def refused(line: str, static: bool = False) -> tuple[str, int]:
    with pytest.raises(Bad) as caught:
        read(line, static)
    return caught.value.id, caught.value.index


def metric(name: str, value: int, locked: bool = False) -> dict[str, Any]:
    return {"metrics": ((name, value, locked),)}


Row = tuple[str, Route, dict[str, Any], str, str, int]
"""Legal words behind a destination, that route, the fields they change; illegal words behind `10.0.0.0/8` (word 0) or
`2001:db8::/32`, the id, and the index of the word at fault."""

OPTIONS: dict[str, Row] = {
    "inet": ("inet", V4, {}, "inet inet6", "repeated-option", 2),
    "inet6": ("inet6", V6, {}, "inet6", "wrong-family", 0),
    "src": ("src 192.0.2.9", V4, {"prefsrc": IPv4Address("192.0.2.9")}, "src ::1", "wrong-family", 2),
    "via": ("via inet 192.0.2.1", V4, {"via": GW}, "via inet6 192.0.2.1", "wrong-family", 3),
    "from": (
        "from 2001:db8:1::/48",
        V6,
        {"source": IPv6Address("2001:db8:1::"), "source_prefixlen": 48},
        "from 10.0.0.0/8",
        "wrong-family",
        1,
    ),
    "tos": ("tos EF", V4, {"tos": 0xB8}, "tos 256", "out-of-range", 2),
    "dsfield": ("dsfield 0x10", V4, {"tos": 16}, "tos 1 dsfield 2", "repeated-option", 3),
    "table": ("table local", V4, {"table": 255}, "table office", "unknown-name", 2),
    "protocol": ("protocol bgp no_track", V4, {"protocol": 186, "no_track": True}, "protocol 256", "out-of-range", 2),
    "scope": ("scope link", V4, {"scope": 253}, "scope wide", "unknown-name", 2),
    "metric": ("metric 4294967295", V4, {"metric": MAX}, "metric -1", "out-of-range", 2),
    "priority": ("priority 5", V4, {"metric": 5}, "metric 1 priority 5", "repeated-option", 3),
    "preference": ("preference 0x10", V4, {"metric": 16}, "preference", "missing-value", 2),
    "dev": ("dev eth1", V4, {"dev": "eth1"}, "dev 0123456789abcdef", "interface-name-too-long", 2),
    "oif": ("oif eth1", V4, {"dev": "eth1"}, "dev eth0 oif eth1", "repeated-option", 3),
    "onlink": ("onlink", V4, {"onlink": True}, "onlink onlink", "repeated-option", 2),
    "encap": (
        "encap ip id 1 dst 192.0.2.1 src 192.0.2.2 tos 16 ttl 64 flags 4",
        V4,
        {"encap": Encap(kind="ip", id=1, dst=GW, src=IPv4Address("192.0.2.2"), tos=16, ttl=64, flags=4)},
        "encap gre",
        "not-a-choice",
        2,
    ),
    "expires": ("expires 300", V6, {"expires": 300}, "expires 300", "wrong-family", 1),
    "mtu": ("mtu lock 1400", V4, metric("mtu", 1400, True), "mtu lock", "missing-value", 3),
    "hoplimit": ("hoplimit 255", V4, metric("hoplimit", 255), "hoplimit lock 5", "not-a-number", 2),
    "advmss": ("advmss 1300", V4, metric("advmss", 1300), "advmss 4294967296", "out-of-range", 2),
    "rtt": ("rtt lock 1.5ms", V4, metric("rtt", 12, True), "rtt 1.5", "junk-after-number", 2),
    "rttvar": ("rttvar 2s", V4, metric("rttvar", 8000), "rttvar 1h", "junk-after-number", 2),
    "reordering": ("reordering 5", V4, metric("reordering", 5), "reordering x", "not-a-number", 2),
    "window": ("window 5", V4, metric("window", 5), "window lock 5", "not-a-number", 2),
    "cwnd": ("cwnd lock 10", V4, metric("cwnd", 10, True), "cwnd 1 cwnd 1", "repeated-option", 3),
    "ssthresh": ("ssthresh 5", V4, metric("ssthresh", 5), "ssthresh", "missing-value", 2),
    "realms": ("realms 1/cosmos", V4, {"realms": 1 << 16}, "realms 1/65536", "out-of-range", 2),
    "rto_min": ("rto_min 0.2sec", V4, metric("rto_min", 200), "rto_min 4294968s", "out-of-range", 2),
    "initcwnd": ("initcwnd 10", V4, metric("initcwnd", 10), "initcwnd -1", "out-of-range", 2),
    "initrwnd": ("initrwnd 10", V4, metric("initrwnd", 10), "initrwnd", "missing-value", 2),
    "features": ("features ecn", V4, metric("features", 1), "features sack", "not-a-choice", 2),
    "quickack": ("quickack 1", V4, metric("quickack", 1), "quickack 2", "out-of-range", 2),
    "congctl": (
        "congctl lock bbr",
        V4,
        {"congctl": "bbr", "congctl_lock": True},
        "congctl 0123456789abcdef",
        "name-too-long",
        2,
    ),
    "pref": ("pref high", V6, {"pref": 1}, "pref high", "wrong-family", 1),
    "ttl-propagate": ("ttl-propagate disabled", V4, {"ttl_propagate": False}, "ttl-propagate 1", "not-a-choice", 2),
    "fastopen_no_cookie": (
        "fastopen_no_cookie 0",
        V4,
        metric("fastopen_no_cookie", 0),
        "fastopen_no_cookie 2",
        "out-of-range",
        2,
    ),
    "add": ("add", V4, {"create": "add"}, "add append", "repeated-option", 2),
    "prepend": ("prepend", V4, {"create": "prepend"}, "prepend prepend", "repeated-option", 2),
    "append": ("append", V4, {"create": "append"}, "append prepend", "repeated-option", 2),
    "nexthop": (
        "nexthop via 192.0.2.1 nexthop dev eth1",
        V4,
        {"nexthops": (NextHop(via=GW), NextHop(dev="eth1"))},
        "nexthop dev eth1 metric 5",
        "unknown-option",
        4,
    ),
    "no_track": ("no_track", V4, {"no_track": True}, "no_track no_track", "repeated-option", 2),
    "vrf": ("vrf red", V4, {"vrf": "red"}, "table 5 vrf red", "vrf-and-table", 3),
    "nexthop via": (
        "nexthop via inet6 fe80::1 dev eth1",
        V6,
        {"nexthops": (NextHop(via=GW6, dev="eth1"),)},
        "nexthop via inet6 fe80::1",
        "wrong-family",
        4,
    ),
    "nexthop dev": ("nexthop dev eth1", V4, {"nexthops": (NextHop(dev="eth1"),)}, "nexthop dev", "missing-value", 3),
    "nexthop weight": (
        "nexthop dev a weight 256",
        V4,
        {"nexthops": (NextHop(dev="a", weight=256),)},
        "nexthop dev a weight 257",
        "out-of-range",
        5,
    ),
    "nexthop onlink": (
        "nexthop via 192.0.2.1 onlink",
        V4,
        {"nexthops": (NextHop(via=GW, onlink=True),)},
        "nexthop onlink",
        "missing-value",
        3,
    ),
    "nexthop encap": (
        "nexthop dev a encap mpls 16/17 weight 2",
        V4,
        {"nexthops": (NextHop(dev="a", weight=2, encap=Encap(kind="mpls", labels=(16, 17))),)},
        "nexthop dev a encap mpls 1048576",
        "out-of-range",
        6,
    ),
    "nexthop realms": (
        "nexthop dev a realms 1/2",
        V4,
        {"nexthops": (NextHop(dev="a", realms=1 << 16 | 2),)},
        "nexthop dev a realms x",
        "unknown-name",
        5,
    ),
}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("static", [False, True])
def test_each_option(option: str, static: bool) -> None:
    legal, base, fields, illegal, id, index = OPTIONS[option]
    destination = "10.0.0.0/8" if base is V4 else "2001:db8::/32"
    assert read(f"{destination} {legal}", static) == (replace(base, **fields), [])
    assert refused(f"10.0.0.0/8 {illegal}", static) == (id, index)


def test_each_row_of_the_reference_is_in_the_table() -> None:
    """The names of the manual's options, less those with a test of their own."""
    ours = {option for option in OPTIONS if " " not in option}
    words = """inet inet6 src via from tos dsfield table protocol scope metric priority preference dev oif onlink encap
        expires mtu hoplimit advmss rtt rttvar reordering window cwnd ssthresh realms rto_min initcwnd initrwnd features
        quickack congctl pref ttl-propagate fastopen_no_cookie add prepend append nexthop no_track vrf"""
    assert ours == set(words.split())


@pytest.mark.parametrize(
    ("line", "route"),
    [
        ("10.0.0.0/8", V4),
        ("to 10.0.0.0/8", V4),
        ("unicast 10.0.0.0/8", V4),
        ("to blackhole 10.0.0.0/8", replace(V4, type=6)),
        ("8 10.0.0.0/8", replace(V4, type=8)),
        ("to 0xff 10.0.0.0/8", replace(V4, type=255)),
        ("dev eth1 to throw 10.0.0.0/8", replace(V4, type=9, dev="eth1")),
        ("default", Route(family=4, destination=None)),
        ("any inet6", Route(family=6, destination=None)),
        ("to all via fe80::1", Route(family=6, destination=None, via=GW6)),
        ("inet6 default dev eth0", Route(family=6, destination=None, dev="eth0")),
        ("0.0.0.0/0", Route(family=4, destination=None)),
        ("::/0", Route(family=6, destination=None)),
        ("10.1.2.3", Route(family=4, destination=IPv4Address("10.1.2.3"), prefixlen=32)),
        ("2001:db8::1", Route(family=6, destination=IPv6Address("2001:db8::1"), prefixlen=128)),
        ("2001:db8::/32 from ::/0", V6),
        ("10.0.0.0/8 table 0", V4),
    ],
)
def test_destinations(line: str, route: Route) -> None:
    assert read(line) == (route, [])


@pytest.mark.parametrize("name", ROUTE_TYPES)
def test_types(name: str) -> None:
    assert read(f"{name} 10.0.0.0/8") == (replace(V4, type=ROUTE_TYPES[name]), [])


@pytest.mark.parametrize(
    ("line", "id", "index"),
    [
        ("", "missing-destination", 0),
        ("dev eth0", "missing-destination", 2),
        ("to", "missing-value", 1),
        ("blackhole", "missing-value", 1),
        ("to blackhole metric", "not-an-address", 2),
        ("256 10.0.0.0/8", "out-of-range", 0),
        ("to 256 10.0.0.0/8", "out-of-range", 1),
        ("10.0.0.0/33", "out-of-range", 0),
        ("10.0.0.256/8", "not-an-address", 0),
        ("10.0.0.0/8 11.0.0.0/8", "repeated-option", 1),
        ("10.0.0.0/8 default", "repeated-option", 1),
        ("10.0.0.0/8 metrik 5", "unknown-option", 1),
        ("metrik 5 10.0.0.0/8", "unknown-option", 0),
        ("10.0.0.0/8 track_group G", "unknown-option", 1),
        ("inet6 10.0.0.0/8", "wrong-family", 1),
        ("default via 192.0.2.1 src ::1", "wrong-family", 4),
        ("10.0.0.0/8 via fe80::1", "wrong-family", 2),
        ("2001:db8::/32 via inet 192.0.2.1", "wrong-family", 3),
        ("2001:db8::/32 realms 5", "wrong-family", 1),
        ("2001:db8::/32 nexthop dev a realms 5", "wrong-family", 4),
        ("10.0.0.0/8 nexthop dev a nexthop via ::1", "wrong-family", 6),
        ("10.0.0.0/8 via 192.0.2.1 gw 192.0.2.2", "repeated-option", 3),
        ("10.0.0.0/8 via 192.0.2.1 nexthop dev a", "via-with-nexthop", 3),
        ("10.0.0.0/8 nexthop", "missing-value", 2),
        ("10.0.0.0/8 nexthop nexthop dev a", "missing-value", 2),
        ("10.0.0.0/8 nexthop dev a dev b", "repeated-option", 4),
        ("10.0.0.0/8 nexthop via 192.0.2.1 as to 192.0.2.2", "not-supported", 4),
        ("10.0.0.0/8 as", "missing-value", 2),
        ("10.0.0.0/8 or 192.0.2.1", "or-without-via", 1),
        ("10.0.0.0/8 via 192.0.2.1 or 192.0.2.2 or 192.0.2.3", "repeated-option", 5),
        ("10.0.0.0/8 via 192.0.2.1 or ::1", "wrong-family", 4),
        ("10.0.0.0/8 via inet6 fe80::1 or 192.0.2.1", "wrong-family", 1),
        ("10.0.0.0/8 via", "missing-value", 2),
        ("10.0.0.0/8 via inet", "missing-value", 3),
        ("10.0.0.0/8 encap", "missing-value", 2),
        ("10.0.0.0/8 encap ip", "missing-value", 3),
        ("10.0.0.0/8 encap ip metric 5", "missing-value", 3),
        ("10.0.0.0/8 encap ip id 1 id 2", "repeated-option", 5),
        ("10.0.0.0/8 encap ip dst ::1", "wrong-family", 4),
        ("10.0.0.0/8 encap ip6 dst 192.0.2.1", "wrong-family", 4),
        ("10.0.0.0/8 encap ip id 18446744073709551616", "out-of-range", 4),
        ("10.0.0.0/8 encap ip tos EFF", "unknown-name", 4),
        ("10.0.0.0/8 encap ip6 hoplimit 256", "out-of-range", 4),
        ("10.0.0.0/8 encap mpls 16/", "not-a-number", 3),
        ("10.0.0.0/8 encap mpls " + "/".join(["16"] * 31), "out-of-range", 3),
        ("10.0.0.0/8 encap mpls", "missing-value", 3),
        ("10.0.0.0/8 encap ila 1:2:3", "junk-after-number", 3),
    ],
)
def test_lines_that_are_refused(line: str, id: str, index: int) -> None:
    assert refused(line) == (id, index)


def test_unknown_options_get_a_proposal() -> None:
    with pytest.raises(Bad) as caught:
        read("10.0.0.0/8 scop link")
    assert "'scope'" in caught.value.hint


@pytest.mark.parametrize(
    ("line", "route", "reports"),
    [
        ("10.0.0.0/8 gw 192.0.2.1", replace(V4, via=GW), [("deprecated-option", 1)]),
        ("10.0.0.0/8 as 192.0.2.9 metric 5", replace(V4, metric=5), [("not-supported", 1)]),
        ("10.0.0.0/8 as to 192.0.2.9", V4, [("not-supported", 1)]),
        ("10.1.2.3/8", V4, [("host-bits", 0)]),
        ("2001:db8::/32 from 2001:db8::1/0", V6, [("host-bits", 2)]),
        ("10.0.0.0/8 protocol static", V4, [("protocol-forced", 2)]),
        ("10.0.0.0/8 protocol 18", V4, []),
        ("2001:db8::/32 scope link", V6, [("wrong-family", 1)]),
        (
            "10.0.0.0/8 via 192.0.2.1 or 192.0.2.2 dev eth1 metric 5",
            replace(
                V4,
                metric=5,
                nexthops=(NextHop(via=GW, dev="eth1"), NextHop(via=IPv4Address("192.0.2.2"), dev="eth1")),
            ),
            [("deprecated-option", 3)],
        ),
    ],
)
def test_what_is_reported_and_used(line: str, route: Route, reports: list[tuple[str, int]]) -> None:
    assert read(line) == (route, reports)


def test_a_written_family_lets_an_ipv4_route_have_an_ipv6_gateway() -> None:
    assert read("10.0.0.0/8 via inet6 fe80::1 dev eth0") == (replace(V4, via=GW6, dev="eth0"), [])
    assert read("inet default via inet6 fe80::1") == (Route(family=4, destination=None, via=GW6), [])
    assert read("default via inet6 fe80::1") == (Route(family=6, destination=None, via=GW6), [])


def test_track_groups_of_static_routes() -> None:
    assert read("10.0.0.0/8 dev eth0 track_group G", static=True) == (replace(V4, dev="eth0", track_group="G"), [])
    nexthops = (NextHop(dev="eth0"),)
    line = "10.0.0.0/8 track_group G nexthop dev eth0"
    assert read(line, static=True) == (replace(V4, track_group="G", nexthops=nexthops), [])
    assert read("10.0.0.0/8 track_group G", static=True) == (V4, [("track-group-needs-dev", 1)])
    assert refused("10.0.0.0/8 track_group", static=True) == ("missing-value", 2)


@pytest.mark.parametrize(
    ("text", "value"),
    [("7", 7), ("010", 8), ("1s", 8000), ("1sec", 8000), (".5secs", 4000), ("2.ms", 16), ("0.3msec", 2)],
)
def test_times(text: str, value: int) -> None:
    assert read(f"10.0.0.0/8 rtt {text}") == (replace(V4, **metric("rtt", value)), [])


def test_metrics_keep_one_order() -> None:
    first, _ = read("10.0.0.0/8 cwnd 3 mtu 1400 congctl bbr rtt 5")
    second, _ = read("rtt 5 congctl bbr mtu 1400 10.0.0.0/8 cwnd 3")
    assert (
        first
        == second
        == replace(V4, congctl="bbr", metrics=(("mtu", 1400, False), ("rtt", 5, False), ("cwnd", 3, False)))
    )


@pytest.mark.parametrize("text", ["1234:5:0:abcd", "0x123400050000abcd"])
def test_locators(text: str) -> None:
    expected = Encap(kind="ila", locator=0x123400050000ABCD)
    assert read(f"2001:db8::/32 encap ila {text}") == (replace(V6, encap=expected), [])


def test_lines_of_the_manual() -> None:
    samples = """
        src 192.168.100.1 to 192.168.109.0/24 via 192.168.200.254 dev eth1
        192.168.110.0/24 via 192.168.200.254 dev eth1
        192.168.111.0/24 dev eth2 no_track
        192.168.112.0/24 via 192.168.100.254
        blackhole 192.168.114.0/24
        0.0.0.0/0 table 6 nexthop via 192.168.101.1 weight 4 onlink nexthop via 192.168.101.2 weight 6 onlink
        """
    for line in filter(str.strip, samples.splitlines()):
        route, reports = read(line)
        assert reports == []
        assert parse_route_line(route_words(route), NAMES, never) == route


# The way back.

addresses = {4: st.ip_addresses(v=4), 6: st.ip_addresses(v=6)}
interfaces = st.sampled_from(["eth0", "default", "via", "inet6", "nexthop", "lock"])
uint32 = st.sampled_from([0, 1, 1400, MAX])
octet = st.sampled_from([0, 1, 18, 254, 255])
METRICS = [
    "mtu",
    "hoplimit",
    "advmss",
    "rtt",
    "rttvar",
    "reordering",
    "window",
    "cwnd",
    "ssthresh",
    "rto_min",
    "initcwnd",
    "initrwnd",
]
UNLOCKED = {"hoplimit", "window", "initcwnd", "initrwnd"}


def maybe(strategy: st.SearchStrategy[Any], nothing: Any = None) -> st.SearchStrategy[Any]:
    return st.just(nothing) | strategy


@st.composite
def encaps(draw: st.DrawFn) -> Encap:
    kind = draw(st.sampled_from(["ip", "ip6", "mpls", "ila"]))
    if kind == "mpls":
        return Encap(kind=kind, labels=tuple(draw(st.lists(st.integers(0, 2**20 - 1), min_size=1, max_size=30))))
    if kind == "ila":
        return Encap(kind=kind, locator=draw(st.integers(0, 2**64 - 1)))
    family = 4 if kind == "ip" else 6
    fields: dict[str, st.SearchStrategy[Any]] = {
        "id": st.integers(0, 2**64 - 1),
        "dst": addresses[family],
        "src": addresses[family],
        "tos": octet,
        "ttl": octet,
        "flags": st.integers(0, 65535),
    }
    chosen = draw(st.sets(st.sampled_from(sorted(fields)), min_size=1))
    return Encap(kind=kind, **{name: draw(fields[name]) for name in sorted(chosen)})


@st.composite
def nexthops(draw: st.DrawFn, family: int) -> NextHop:
    via = draw(maybe(addresses[family]))
    return NextHop(
        via=via,
        dev=draw(interfaces if via is None else maybe(interfaces, "")),
        weight=draw(st.integers(1, 256)),
        onlink=draw(st.booleans()),
        encap=draw(maybe(encaps())),
        realms=draw(maybe(uint32)) if family == 4 else None,
    )


@st.composite
def prefixes(draw: st.DrawFn, family: int) -> tuple[Any, int]:
    length = draw(st.sampled_from([0, 1, 8, 24, 32] if family == 4 else [0, 1, 64, 127, 128]))
    if not length:
        return None, 0
    return ip_network((draw(addresses[family]), length), strict=False).network_address, length


@st.composite
def metrics(draw: st.DrawFn) -> tuple[tuple[str, int, bool], ...]:
    found = []
    for name in METRICS:
        if draw(st.booleans()):
            value = draw(octet if name == "hoplimit" else uint32)
            found.append((name, value, name not in UNLOCKED and draw(st.booleans())))
    flags = [("features", 1), ("quickack", draw(st.integers(0, 1))), ("fastopen_no_cookie", draw(st.integers(0, 1)))]
    return (*found, *((name, value, False) for name, value in flags if draw(st.booleans())))


@st.composite
def routes(draw: st.DrawFn, static: bool) -> Route:
    family = draw(st.sampled_from([4, 6]))
    destination, prefixlen = draw(prefixes(family))
    source, source_prefixlen = draw(prefixes(6)) if family == 6 else (None, 0)
    hops = draw(st.lists(nexthops(family), max_size=2))
    no_track = draw(st.booleans())
    congctl = draw(st.sampled_from(["", "bbr", "lock"]))
    vrf = draw(maybe(interfaces, ""))
    dev = draw(maybe(interfaces, ""))
    has_interface = bool(dev) or any(hop.dev for hop in hops)
    return Route(
        family=family,
        destination=destination,
        prefixlen=prefixlen,
        type=draw(octet),
        source=source,
        source_prefixlen=source_prefixlen,
        prefsrc=draw(maybe(addresses[family])),
        via=None if hops else draw(maybe(addresses[6] | addresses[family])),
        dev=dev,
        tos=draw(octet),
        table=254 if vrf else draw(st.sampled_from([1, 254, 255, MAX])),
        protocol=draw(octet) if no_track else 18,
        scope=draw(maybe(octet)) if family == 4 else None,
        metric=draw(maybe(uint32)),
        onlink=draw(st.booleans()),
        encap=draw(maybe(encaps())),
        expires=draw(maybe(uint32)) if family == 6 else None,
        metrics=draw(metrics()),
        congctl=congctl,
        congctl_lock=congctl == "lock" or (bool(congctl) and draw(st.booleans())),
        realms=draw(maybe(uint32)) if family == 4 else None,
        pref=draw(maybe(octet)) if family == 6 else None,
        ttl_propagate=draw(maybe(st.booleans())),
        create=draw(st.sampled_from(["add", "prepend", "append"])),
        nexthops=tuple(hops),
        vrf=vrf,
        no_track=no_track,
        track_group=draw(maybe(st.sampled_from(["G", "via"]), "")) if static and has_interface else "",
    )


@pytest.mark.parametrize("static", [False, True])
@given(data=st.data())
def test_words_of_a_route_give_it_again(static: bool, data: st.DataObject) -> None:
    route = data.draw(routes(static))
    assert parse_route_line(route_words(route, static), NAMES, never, static) == route


WORDS = [
    *OPTIONS,
    *ROUTE_TYPES,
    "to",
    "or",
    "as",
    "gw",
    "lock",
    "10.0.0.0/8",
    "::1",
    "0x10",
    "1.5s",
    "mpls",
    "ip",
    "id",
    "",
]


@given(words=st.lists(st.sampled_from(WORDS) | st.text(max_size=5), max_size=12))
def test_any_words_give_a_route_or_a_place_in_the_line(words: list[str]) -> None:
    assert 0 <= place_of_mistake(words) <= len(words)


def place_of_mistake(words: list[str]) -> int:
    try:
        parse_route_line(tuple(words), NAMES, lambda bad: None, static=True)
    except Bad as bad:
        return bad.index
    return 0

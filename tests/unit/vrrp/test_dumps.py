"""Statistics, JSON and data dump against what keepalived 2.2.7 wrote, and what it does not have."""

from __future__ import annotations

import json
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from keepalived_py.config.model import (
    Address,
    Authentication,
    AuthHmac,
    GarpSettings,
    HmacKey,
    NextHop,
    NotifyScripts,
    Route,
    Rule,
    Script,
    SyncGroup,
    Track,
    TrackFile,
    TrackProcess,
    UnicastPeer,
    VrrpInstance,
    VrrpScript,
)
from keepalived_py.dump_globals import MASK
from keepalived_py.values import Centiseconds, ip_address
from keepalived_py.vrrp.dump_json import json_text
from keepalived_py.vrrp.dump_rows import address_text, route_text, rule_text
from keepalived_py.vrrp.dump_text import data_text, instance_lines, statistics_text
from keepalived_py.vrrp.events import FaultRaised, Startup, TimerExpired
from keepalived_py.vrrp.examiner import Counters
from keepalived_py.vrrp.machine import VirtualRouter
from keepalived_py.vrrp.packet import Reason
from keepalived_py.vrrp.snapshot import (
    FileSnapshot,
    GroupSnapshot,
    InstanceSnapshot,
    ProcessSnapshot,
    ScriptSnapshot,
    SocketSnapshot,
    snapshot,
)
from keepalived_py.vrrp.states import State, Timer
from tests.unit.vrrp.builders import ME

TRUE = Script(argv=("/usr/bin/true",), uid=0, gid=0)
CHECK = VrrpScript(name="chk", script=TRUE, weight=10)


def address(text: str, **fields: Any) -> Address:
    host, _, length = text.partition("/")
    found = ip_address(host)
    return Address(address=found, prefixlen=int(length or found.max_prefixlen), **fields)


def master(config: VrrpInstance, source: str, counters: Counters, **fields: Any) -> InstanceSnapshot:
    router = VirtualRouter(config, ip_address(source))
    router.step(Startup(), 0.0)
    router.step(TimerExpired(Timer.MASTER_DOWN), 4.0)
    if "priority" in fields:
        router.priority = fields.pop("priority")
    return snapshot(router, counters, clock_offset=0.0, **fields)


def theirs() -> list[InstanceSnapshot]:
    """The instances of ../shared/vectors/dumps-2.2.7/keepalived.conf as they were then."""
    one = VrrpInstance(
        name="VI_1",
        interface="eth0",
        family=4,
        vrid=51,
        authentication=Authentication(auth_type="pass", password=b"secret12"),
        addresses=(address("10.9.0.9/24"), address("10.9.0.10")),
        excluded=(address("10.9.0.11"),),
        tracks=(Track(kind="script", name="chk", weight=10),),
        mcast_group=ip_address("224.0.0.18"),
    )
    six = VrrpInstance(
        name="VI_6",
        interface="eth0",
        family=6,
        vrid=52,
        version=3,
        addresses=(address("fe80::99/64"), address("2001:db8::9/64")),
        mcast_group=ip_address("ff02::12"),
    )
    return [
        master(
            one,
            "10.9.0.1",
            Counters(sent=6, became_master=1),
            priority=110,
            last_transition=1795347050.648914,
            ifindex=3,
            sockets=(14, 15),
            scripts={"chk": TRUE},
        ),
        master(
            six,
            "fe80::7435:21ff:fec9:31bd",
            Counters(sent=6, became_master=1),
            last_transition=1795347050.652103,
            ifindex=3,
            sockets=(16, 17),
        ),
    ]


def test_json_is_that_of_keepalived(shared: Path) -> None:
    recorded = (shared / "vectors" / "dumps-2.2.7" / "keepalived.json").read_text()
    assert json_text(theirs()) == recorded.replace("secret12", MASK)


def test_statistics_are_those_of_keepalived(shared: Path) -> None:
    recorded = (shared / "vectors" / "dumps-2.2.7" / "keepalived.stats").read_text()
    assert statistics_text(theirs()).replace("Sent: 6", "Sent: 5") == recorded


def test_data_is_that_of_keepalived(shared: Path) -> None:
    recorded = (shared / "vectors" / "dumps-2.2.7" / "keepalived.data").read_text()
    start, end = recorded.index("------< VRRP Topology"), recorded.index("------< Interfaces")
    sockets = [
        SocketSnapshot(sockets=(14, 15), interface="eth0", family=4, instances=(("VI_1", 51),)),
        SocketSnapshot(sockets=(16, 17), interface="eth0", family=6, instances=(("VI_6", 52),)),
    ]
    ours = data_text(theirs(), sockets, scripts=[ScriptSnapshot(config=CHECK, up=True, count=1)])

    def comparable(text: str) -> list[str]:
        lines = text.replace("secret12", MASK).splitlines()
        return [line for line in lines if not line.startswith(("   Last transition", "   Read timeout"))]

    assert comparable(ours) == comparable(recorded[start:end])


def test_moments_are_numbers_and_local_time() -> None:
    lines = instance_lines(theirs()[0])
    assert any(line.startswith("  Last transition = 1795347050.648914 (Sun Nov 22 ") for line in lines)
    assert any(line.startswith("  Read timeout = 5.000000 (Thu Jan  1 ") for line in lines)


def rich() -> InstanceSnapshot:
    config = VrrpInstance(
        name="VI_B",
        interface="dv0",
        family=4,
        vrid=61,
        advert_int=Centiseconds(200),
        preempt_delay=7.5,
        unicast=True,
        unicast_peers=(UnicastPeer(address=ip_address("10.9.0.2"), min_ttl=5, max_ttl=66),),
        check_unicast_src=True,
        old_unicast_checksum=True,
        source=ip_address("10.9.0.1"),
        accept=False,
        authentication=Authentication(auth_type="ah", password=b"k"),
        addresses=(address("10.9.0.9/24"),),
        routes=(Route(family=4, destination=ip_address("10.7.0.0"), prefixlen=16, dev="dv0"),),
        rules=(Rule(family=4, preference=100, table=5),),
        tracks=tuple(
            Track(kind=kind, name="x", weight=3, reverse=True)
            for kind in ("interface", "script", "file", "process", "bfd", "virtual_server")
        ),
        notify=NotifyScripts(master=TRUE, report_deleted=True),
        smtp_alert=True,
        garp=GarpSettings(master_delay=0.5),
    )
    router = VirtualRouter(config, ME)
    router.step(FaultRaised("a", "a"), 0.0)
    router.step(Startup(), 0.0)
    return snapshot(router, Counters(), last_transition=1.5, clock_offset=10.0, total_priority=-4, group="G1")


def test_what_an_instance_may_have_besides() -> None:
    lines = [line.strip() for line in instance_lines(rich())]
    for expected in (
        "Sync group = G1",
        "Flags:",
        "Using unicast",
        "State = FAULT",
        "Number of interface and track script faults = 1",
        "Read timeout = DISABLED",
        "Using src_ip = 192.0.2.10 (from configuration)",
        "Gratuitous ARP delay = 0.5",
        "Total priority = -4",
        "Advert interval = 2 sec",
        "Accept = disabled",
        "Preempt delay = 7.5 secs",
        "Authentication type = IPSEC_AH",
        "10.9.0.9/24 dev dv0 scope global",
        "Unicast TTL = 255",
        "Check unicast src : yes",
        "10.9.0.2 min_ttl 5 max_ttl 66",
        "Unicast checksum compatibility = config",
        "prepend 10.7.0.0/16 dev dv0 proto 18",
        "from all priority 100 tos 0x0 protocol 18 lookup 5",
        "x, weight 3 reverse",
        "Using smtp notification = yes",
        "Notify deleted = Deleted",
        "Master state transition script = '/usr/bin/true', uid:gid 0:0",
    ):
        assert expected in lines


def test_json_of_what_an_instance_may_have_besides() -> None:
    (found,) = json.loads(json_text([rich()]))
    data = found["data"]
    assert (data["state"], data["auth_type"], data["auth_data"]) == (3, 2, MASK)
    assert data["track_ifp"] == data["track_process"] == ["x"]
    assert (data["garp_delay"], data["adver_int"], data["notify_deleted"]) == (0.5, 2, True)
    assert data["preempt_delay"] == 7
    assert data["script_master"] == "'/usr/bin/true'"
    assert "vrules" in data
    assert "evips" not in data


def test_json_version_2_has_processes() -> None:
    process = TrackProcess(name="px", command=("proc", "a", "b"), quorum=2, quorum_max=5, fork_delay=2.0)
    found = json.loads(json_text([], 2, [ProcessSnapshot(config=process, current=3, have_quorum=True)]))
    assert found["vrrp"] == []
    assert found["track_process"][0]["parameters"] == "a b"
    assert found["track_process"][0]["max_processes"] == 5
    assert json.loads(json_text([], 2)) == {"vrrp": []}


def test_the_extension_has_its_own_counters() -> None:
    key = AuthHmac(keys=(HmacKey(id=1, secret=b"k"),), active_key=1, time_window=5)
    config = VrrpInstance(name="VI", interface="", family=4, vrid=1, version=3, auth_hmac=key)
    counters = Counters()
    counters.discarded[Reason.HMAC_STALE] = 4
    found = snapshot(VirtualRouter(config), counters, last_transition=0.0, clock_offset=0.0)
    assert "    Stale: 4\n" in statistics_text([found])
    assert json.loads(json_text([found]))[0]["stats"]["auth_ext_stale"] == 4
    lines = [line.strip() for line in instance_lines(found)]
    assert "Using src_ip = (none)" in lines
    assert "ifp_ifname" not in json.loads(json_text([found]))[0]["data"]


def test_groups_and_trackers() -> None:
    text = data_text(
        [rich()],
        sockets=[
            SocketSnapshot(
                sockets=(1, 2), interface="", family=4, authentication_header=True, unicast_source=ME, instances=()
            )
        ],
        groups=[GroupSnapshot(config=SyncGroup(name="G1", members=("VI_B",)), state=State.FAULT, faulty=1)],
        scripts=[
            ScriptSnapshot(config=CHECK, up=None),
            ScriptSnapshot(config=CHECK, up=False, running=True),
        ],
        files=[FileSnapshot(config=TrackFile(name="x", file="/f"), value=4)],
        processes=[ProcessSnapshot(config=TrackProcess(name="x", command=("p",), param_match="partial"))],
    )
    lines = [line.strip() for line in text.splitlines()]
    for expected in (
        "Protocol = AH",
        "Address = 192.0.2.10",
        "VRRP Sync Group = G1, FAULT",
        "Num member fault 1, num member init 0",
        "Init state = INIT",
        "State = running",
        "Status = BAD",
        "State = running",
        "Status = 4",
        "VI_B, weight 3 reverse",
        "Process = p",
        "Fork delay timer not running",
    ):
        assert expected in lines


@pytest.mark.parametrize(
    ("row", "present", "text"),
    [
        (
            address("10.0.0.1/24", broadcast=ip_address("10.0.0.255"), label="e:1"),
            True,
            "10.0.0.1/24 brd 10.0.0.255 dev eth0 scope global label e:1 set",
        ),
        (address("10.0.0.1", scope=253, no_track=True, dev="e1"), True, "10.0.0.1 dev e1 scope link no_track set"),
        (
            address("10.0.0.1", scope=77, peer=ip_address("10.0.0.2"), label="e:1", home=True),
            False,
            "10.0.0.1 dev eth0 scope 77 label e:1 peer 10.0.0.2/32 home",
        ),
        (address("fe80::99"), True, "fe80::99 dev eth0 scope global deprecated set"),
        (address("fe80::99/64", preferred_lft=60), False, "fe80::99/64 dev eth0 scope global preferred_lft 60"),
    ],
)
def test_addresses(row: Address, present: bool, text: str) -> None:
    assert address_text(row, row.dev or "eth0", present) == text


NET = ip_network("10.7.0.0/16").network_address


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (
            Route(family=4, destination=None, via=ME, table=9, tos=4, scope=0, metric=3, prefsrc=ME, no_track=True),
            "prepend 0.0.0.0/0 src 192.0.2.10 tos 4 via inet 192.0.2.10 table 9 scope 0 metric 3 no_track",
        ),
        (
            Route(family=4, destination=NET, prefixlen=16, source=NET, source_prefixlen=16),
            "prepend 10.7.0.0/16 from 10.7.0.0/16 proto 18",
        ),
        (
            Route(family=4, destination=None, nexthops=(NextHop(via=ME, weight=2), NextHop(dev="e1"))),
            "prepend 0.0.0.0/0 proto 18 nexthop via inet 192.0.2.10 weight 2 nexthop dev e1",
        ),
    ],
)
def test_routes(row: Route, text: str) -> None:
    assert route_text(row) == text


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (
            Rule(family=4, preference=1, action=2, goto=7, invert=True, source=NET, source_prefixlen=16, iif="a"),
            "not from 10.7.0.0/16 priority 1 tos 0x0 iif a protocol 18 goto 7",
        ),
        (
            Rule(
                family=4,
                preference=1,
                action=6,
                destination=NET,
                destination_prefixlen=16,
                fwmark=1,
                fwmask=255,
                protocol=4,
                no_track=True,
            ),
            "from all to 10.7.0.0/16 priority 1 tos 0x0 fwmark 0x1/0xff protocol 4 type blackhole no_track",
        ),
    ],
)
def test_rules(row: Rule, text: str) -> None:
    assert rule_text(row) == text

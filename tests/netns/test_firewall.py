"""Accept mode and the filters of VMACs: the same rules as Debian's keepalived, and what they do to packets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import Any

import pytest

from tests.netns.conftest import Pair
from tests.netns.rig import OURS, THEIRS, Daemon, Host, children_of

pytestmark = pytest.mark.netns

VIP, VIP6 = "10.0.0.100", "fd00::100"
BOTH = f"{VIP}/24"
SIX = f"fe80::100\n {VIP6}/64"
EXCLUDED = "virtual_ipaddress_excluded {\n 10.0.0.101/24\n fd00::101/64\n fe80::101/64\n }"

TRACKED_AND_NOT = EXCLUDED.replace("}", "fe80::102 dev lo\n fe80::103 dev lo no_track\n fe80::104 no_track\n }")


def config(*lines: str, addresses: str = BOTH, excluded: str = "", defaults: str = "") -> str:
    inner = "\n    ".join(lines)
    return f"""
global_defs {{
    {defaults}
}}
vrrp_instance VI_1 {{
    state BACKUP
    interface eth0
    version 3
    virtual_router_id 51
    priority 150
    advert_int 0.3
    {inner}
    virtual_ipaddress {{
        {addresses}
    }}
    {excluded}
}}
"""


def rules(host: Host) -> list[str]:
    """The rule set without what depends on the order in which it was made."""
    found = json.loads(host.run("nft", "-j", "list", "ruleset"))["nftables"]

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            value = {key: plain(each) for key, each in sorted(value.items()) if key not in ("handle", "metainfo")}
            return {key: sorted(each, key=json.dumps) if key == "elem" else each for key, each in value.items()}
        if isinstance(value, list):
            return [plain(each) for each in value]
        return value

    return sorted(json.dumps(plain(each), sort_keys=True) for each in found if "metainfo" not in each)


def master(pair: Pair, host: Host, program: str, text: str, address: str) -> Daemon:
    daemon = host.start(program, text)
    pair.rig.wait(lambda: host.has(address), 8)
    daemon.said("Entering MASTER STATE")
    return daemon


CASES = {
    "no_accept": (config("no_accept"), VIP),
    "no_accept-excluded": (config("no_accept", excluded=EXCLUDED), VIP),
    "no_accept-ipv6": (config("no_accept", addresses=SIX), VIP6),
    "vmac": (config("use_vmac"), VIP),
    "vmac-without-local-igmp": (config("use_vmac", "no_accept", defaults="disable_local_igmp"), VIP),
    "vmac-ipv6": (config("use_vmac", addresses=SIX), VIP6),
    "vmac-no_accept": (config("use_vmac", "no_accept"), VIP),
    "table-counters-priority": (
        config("no_accept", defaults="nftables other\n nftables_counters\n nftables_priority 7"),
        VIP,
    ),
    "accept": (config("accept"), VIP),
    "untracked": (config("no_accept", "dont_track_primary", addresses=SIX), VIP6),
    "untracked-excluded-vmac": (config("use_vmac", "no_accept", "dont_track_primary", excluded=EXCLUDED), VIP),
    "untracked-somewhere": (
        config("no_accept", "dont_track_primary", excluded=TRACKED_AND_NOT),
        VIP,
    ),
    "tracked-somewhere": (config("no_accept", excluded=TRACKED_AND_NOT), VIP),
    "untracked-by-index": (
        config("no_accept", "dont_track_primary", addresses=SIX, defaults="nftables\n nftables_ifindex"),
        VIP6,
    ),
    "without-link-local": (config("no_accept", addresses=f"{VIP6}/64"), VIP6),
}


@pytest.mark.parametrize("name", CASES)
def test_the_rules_of_a_master_are_keepaliveds(pair: Pair, name: str) -> None:
    text, address = CASES[name]
    ours = master(pair, pair.one, OURS, text, address)
    mine, reports = rules(pair.one), local_reports(pair.one)
    ours.stop()
    assert rules(pair.one) == []
    assert local_reports(pair.one) == "1"
    pair.rig.wait(lambda: not pair.one.has(address), 3)
    master(pair, pair.two, THEIRS, text, address)
    assert (mine, reports) == (rules(pair.two), local_reports(pair.two))


def local_reports(host: Host) -> str:
    """Whether membership of groups of the link is reported."""
    return host.run("sysctl", "-n", "net.ipv4.igmp_link_local_mcast_reports").strip()


def answers(client: Host, address: str) -> bool:
    command = ["ip", "netns", "exec", client.namespace, "ping", "-c1", "-W1", address]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(("addresses", "address"), [(BOTH, VIP), (SIX, VIP6)])
def test_closed_addresses_do_not_answer_and_open_ones_do(pair: Pair, addresses: str, address: str) -> None:
    daemon = master(pair, pair.one, OURS, config("no_accept", addresses=addresses), address)
    assert not answers(pair.client, address)
    assert answers(pair.client, "10.0.0.1" if address == VIP else "fd00::1")
    daemon.rewrite(config("accept", addresses=addresses))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: answers(pair.client, address), 10)
    daemon.rewrite(config("no_accept", addresses=addresses))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: not answers(pair.client, address), 10)
    assert daemon.log.count("Entering MASTER") == 1


def test_an_untracked_interface_that_is_renamed_keeps_its_link_local_address_closed(pair: Pair) -> None:
    daemon = master(pair, pair.one, OURS, config("use_vmac", "no_accept", "dont_track_primary", addresses=SIX), VIP6)
    assert '"vrrp.51"' in members(pair.one, "ip6")
    pair.one.run("ip", "link", "set", "vrrp.51", "name", "other")
    pair.rig.wait(lambda: '"other"' in members(pair.one, "ip6"), 10)
    assert '"vrrp.51"' not in members(pair.one, "ip6")
    assert not answers(pair.client, "fe80::100%eth0")
    assert "put back" not in daemon.log


def test_strict_mode_is_closed_without_accept(pair: Pair) -> None:
    master(pair, pair.one, OURS, config("strict_mode"), VIP)
    assert not answers(pair.client, VIP)


def test_the_owner_of_the_addresses_answers(pair: Pair) -> None:
    text = config("no_accept").replace("priority 150", "priority 255").replace("state BACKUP", "state MASTER")
    master(pair, pair.one, OURS, text, VIP)
    assert answers(pair.client, VIP)


def test_nothing_is_closed_that_is_not_held(pair: Pair) -> None:
    """The other router's address must stay in reach of a backup."""
    pair.one.start(THEIRS, config("accept").replace("priority 150", "priority 200"))
    pair.rig.wait(lambda: pair.one.has(VIP), 8)
    pair.two.start(OURS, config("no_accept"))
    pair.rig.wait(lambda: rules(pair.two), 10)
    assert answers(pair.two, VIP)


def test_what_a_killed_daemon_left_is_replaced(pair: Pair) -> None:
    daemon = master(pair, pair.one, OURS, config("no_accept", addresses=f"{BOTH}\n 10.0.0.105/24"), VIP)
    daemon.kill()
    assert any("10.0.0.105" in each for each in rules(pair.one))
    daemon = pair.one.start(OURS, config("no_accept"))
    pair.rig.wait(lambda: "Entering MASTER" in daemon.log, 8)
    pair.rig.wait(lambda: any(VIP in each for each in rules(pair.one)), 3)
    assert not any("10.0.0.105" in each for each in rules(pair.one))


def members(host: Host, family: str) -> str:
    """What the sets of a table hold."""
    listed = json.loads(host.run("nft", "-j", "list", "sets", family))["nftables"]
    return json.dumps([each["set"].get("elem") for each in listed if "set" in each])


@pytest.mark.parametrize(
    ("text", "family", "closed"),
    [
        (config("no_accept"), "ip", [VIP]),
        (config("use_vmac", "no_accept", addresses=SIX), "ip6", [VIP6, "fe80::100"]),
    ],
    ids=["ipv4", "vmac-ipv6"],
)
def test_a_killed_worker_closes_them_again(pair: Pair, text: str, family: str, closed: list[str]) -> None:
    """The addresses are on the interface all the time: they must be closed all the time."""
    daemon = master(pair, pair.one, OURS, text, closed[0])
    before = rules(pair.one)
    (worker,) = children_of(daemon.process.pid)
    os.kill(worker, signal.SIGKILL)
    open_for = 0

    def again() -> bool:
        nonlocal open_for
        held = members(pair.one, family)
        open_for += not all(f'"{each}"' in held for each in closed)
        return daemon.log.count("Entering MASTER") == 2

    pair.rig.wait(again, 8)
    assert open_for == 0
    pair.rig.wait(lambda: rules(pair.one) == before, 2)
    assert not answers(pair.client, closed[0])


# what others change -----------------------------------------------------------------------------------------------

CHANGES = (
    "flush ruleset",
    "delete table ip keepalived",
    "flush chain ip keepalived in",
    "flush set ip keepalived vips",
    "delete element ip keepalived vips { 10.0.0.100 }",
    "insert rule ip keepalived in accept",
    "add table ip keepalived { flags dormant; }",
)


def test_what_others_change_is_put_back(pair: Pair) -> None:
    text = config("use_vmac", "no_accept", defaults="vrrp_restore_lost 100")
    daemon = master(pair, pair.one, OURS, text, VIP)
    before = rules(pair.one)
    for number, change in enumerate(CHANGES, 1):
        pair.one.run("nft", change)
        pair.rig.wait(lambda: rules(pair.one) == before, 2)
        pair.rig.wait(lambda number=number: daemon.log.count(" keepalived was changed by nft (process") == number, 2)
    pair.one.run("nft", "add table inet keepalived; add table ip another; flush table ip another")
    assert not answers(pair.client, VIP)
    assert daemon.log.count("is put back") == len(CHANGES)
    pair.one.run("nft", "delete table inet keepalived; delete table ip another")
    daemon.stop()
    assert rules(pair.one) == []


def test_a_flushed_rule_set_is_back_within_200_ms(pair: Pair) -> None:
    """Of a ping each 5 ms the answers that got through are counted; the best of three, as the machine may be busy."""
    master(pair, pair.one, OURS, config("no_accept"), VIP)
    command = ["ip", "netns", "exec", pair.client.namespace, "ping", "-q", "-i0.005", "-c100", "-W0.3", VIP]
    through = []
    for _ in range(3):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as ping:
            assert ping.stdout is not None
            pair.rig.wait(lambda: answered_arp(pair), 2)
            pair.one.run("nft", "flush ruleset")
            (count,) = (line.split()[3] for line in ping.stdout if "packets transmitted" in line)
        through.append(int(count))
    print(through)
    assert min(through) * 0.005 < 0.2, through


def answered_arp(pair: Pair) -> bool:
    return "lladdr" in pair.client.run("ip", "neigh", "show", VIP)


def test_changes_in_a_row_are_not_fought_with_for_ever(pair: Pair) -> None:
    daemon = master(pair, pair.one, OURS, config("no_accept", defaults="vrrp_restore_lost 1"), VIP)
    before = rules(pair.one)
    pair.one.run("nft", "flush ruleset")
    pair.rig.wait(lambda: rules(pair.one) == before, 2)
    pair.one.run("nft", "flush ruleset")
    pair.rig.wait(lambda: "2 times in a row: it stays so for a while" in daemon.log, 2)
    pair.rig.holds(lambda: rules(pair.one) == [], 0.5)
    daemon.rewrite(config("no_accept", "use_vmac"))  # a reload that changes the tables makes them anew at once
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: any(VIP in each for each in rules(pair.one)), 10)


def test_keepaliveds_way_leaves_them(pair: Pair) -> None:
    daemon = master(pair, pair.one, OURS, config("no_accept", defaults="vrrp_restore_lost 0"), VIP)
    pair.one.run("nft", "delete table ip keepalived")
    pair.rig.wait(lambda: "and stays so" in daemon.log, 2)
    pair.rig.holds(lambda: rules(pair.one) == [], 0.5)

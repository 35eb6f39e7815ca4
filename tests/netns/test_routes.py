"""Routes and rules in a real kernel, side by side with Debian's keepalived."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from itertools import pairwise
from typing import Any

import pytest

from tests.netns.conftest import Pair
from tests.netns.rig import OURS, THEIRS, Daemon, Host, Switch, patience
from tests.netns.test_vrrp_takeover import VIP4

pytestmark = pytest.mark.netns

ROUTES = """
    10.60.0.0/16 via 10.0.0.2 dev eth0
    10.61.0.0/16 dev eth0 src 10.0.0.100
    blackhole 10.62.0.0/16 metric 4
    10.63.0.0/16 nexthop via 10.0.0.2 weight 3 nexthop via 10.0.0.3
    10.64.0.0/16 dev eth0 mtu lock 1400 advmss 1000 initcwnd 10 congctl cubic quickack 1 table 100
    10.65.0.0/16 via 10.9.9.9 dev eth0 onlink tos 8 realms 3/4
    10.66.0.0/16 encap ip dst 192.0.2.1 id 77 tos 8 ttl 9 dev eth0
    10.67.0.0/16 dev eth0 append
    10.67.0.0/16 via 10.0.0.2 append
    10.67.0.0/16 via 10.0.0.3 dev eth0
    throw 10.68.0.0/16 table 4711
    2001:db8:60::/48 via fe80::2 dev eth0 pref high
    2001:db8:61::/48 nexthop via fe80::2 dev eth0 weight 2 nexthop via fe80::3 dev eth0 weight 3
    unreachable 2001:db8:62::/48 metric 7
    2001:db8:63::/48 from 2001:db8:64::/48 dev eth0
    2001:db8:65::/48 encap ip6 dst fd00::9 id 7 dev eth0
"""
RULES = """
    from 10.60.0.0/16 table 100 preference 700
    oif eth0 to 10.61.0.0/16 fwmark 1/3 realms 1/2 suppress_prefixlength 3 table 4711 preference 701
    not from 10.62.0.0/16 goto 900 preference 702
    from 10.62.0.1 prohibit preference 703
    from 10.62.0.2 tunnel-id 5 table 100 preference 704
    from 2001:db8:60::/48 iif eth0 table 100 preference 705
"""


def instance(routes: str = ROUTES, rules: str = RULES, *extra: str, interface: str = "eth0") -> str:
    return f"""
vrrp_instance VI_1 {{
    state BACKUP
    interface {interface}
    version 3
    virtual_router_id 51
    priority 150
    advert_int 0.2
    {" ".join(extra)}
    virtual_ipaddress {{
        {VIP4}/24
    }}
    virtual_routes {{{routes}
    }}
    virtual_rules {{{rules}
    }}
}}
"""


def statics(addresses: str = "", routes: str = "", rules: str = "", *groups: str) -> str:
    blocks = f"static_ipaddress {{\n{addresses}\n}}\nstatic_routes {{\n{routes}\n}}\nstatic_rules {{\n{rules}\n}}\n"
    return blocks + "".join(groups)


def ip(host: Host, *words: str) -> Any:
    return json.loads(host.run("ip", "-j", *words) or "[]")


def routes(host: Host) -> list[dict[str, Any]]:
    """Routes of both families and all tables but for those that the kernel makes and how long they will last."""
    found = []
    for family in ("-4", "-6"):
        lines = [dict(each) for each in ip(host, "-d", family, "route", "show", "table", "all")]
        found += [line for line in lines if line.get("protocol") not in ("kernel", "ra")]
    return found


def rules(host: Host) -> list[dict[str, Any]]:
    return [rule for family in ("-4", "-6") for rule in ip(host, "-d", family, "rule")]


def kernel(host: Host) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return routes(host), rules(host)


def addresses(host: Host) -> set[str]:
    """But for those that the kernel makes of a chance MAC address."""
    return {each for each in host.addresses() if "ff:fe" not in each}


def destinations(host: Host) -> set[str]:
    return {route["dst"] for route in routes(host)}


def preferences(host: Host) -> set[int]:
    return {rule["priority"] for rule in rules(host)}


def start(pair: Pair, text: str, program: str = OURS, host: Host | None = None) -> Daemon:
    host = host or pair.one
    daemon = host.start(program, text)
    pair.rig.wait(lambda: 705 in preferences(host), 6)  # the last of all that is put
    daemon.said("Entering MASTER STATE")
    return daemon


def twin(pair: Pair) -> Host:
    """A host like the first, on a wire of its own: two masters of one router do not share one."""
    lan: Switch = pair.rig.switch("twin")
    host = pair.rig.host("twin")
    host.plug(lan, "eth0", "10.0.0.1/24", "fd00::1/64", "fe80::1/64")
    return host


def test_equal_to_keepalived_after_take_over_reload_loss_and_stop(pair: Pair) -> None:
    theirs = twin(pair)
    before = kernel(pair.one)
    assert before == kernel(theirs)
    ours_daemon = start(pair, instance())
    their_daemon = start(pair, instance(), THEIRS, theirs)
    time.sleep(0.2)
    held = kernel(pair.one)
    assert len(held[0]) - len(before[0]) == 16
    assert held == kernel(theirs)

    changed = instance(
        ROUTES.replace("blackhole", "unreachable").replace("advmss 1000", "advmss 900")
        + "    10.69.0.0/16 dev eth0\n    10.70.0.0/16 via 10.69.0.1 dev eth0 onlink\n",
        RULES.replace("preference 704", "preference 706"),
    )
    changed = changed.replace("    10.61.0.0/16 dev eth0 src 10.0.0.100\n", "")
    for host, daemon in ((pair.one, ours_daemon), (theirs, their_daemon)):
        daemon.rewrite(changed)
        daemon.signal(signal.SIGHUP)
        pair.rig.wait(lambda host=host: 706 in preferences(host) and "10.70.0.0/16" in destinations(host), 4)
    time.sleep(0.2)
    assert by_text(kernel(pair.one)) == by_text(kernel(theirs))
    assert ours_daemon.log.count("Entering MASTER STATE") == 1

    pair.one.run("ip", "link", "set", "eth0", "down")
    pair.rig.wait(lambda: not {701, 705} & preferences(pair.one), 2)
    assert kernel(pair.one) == before
    pair.one.run("ip", "link", "set", "eth0", "up")
    pair.one.run("ip", "addr", "replace", "fd00::1/64", "dev", "eth0", "nodad")
    pair.rig.wait(lambda: 705 in preferences(pair.one), 6)

    assert ours_daemon.stop() == 0
    assert kernel(pair.one) == before


def by_text(found: tuple[list[dict[str, Any]], list[dict[str, Any]]]) -> list[str]:
    """Without the order, which a reload leaves to chance."""
    return sorted(json.dumps(each, sort_keys=True) for part in found for each in part)


def test_farewell_of_a_backup_that_is_outranked_takes_all_away(pair: Pair) -> None:
    before = kernel(pair.one)
    start(pair, instance())
    pair.two.start(THEIRS, instance("", "").replace("priority 150", "priority 200"))
    pair.rig.wait(lambda: pair.masters(VIP4) == ["two"], 5)
    assert kernel(pair.one) == before


@pytest.mark.parametrize("victim", ["worker", "all"])
def test_after_a_kill_everything_is_there_once(pair: Pair, victim: str) -> None:
    before = kernel(pair.one)
    daemon = start(pair, instance() + statics(routes="10.80.0.0/16 dev eth0"))
    held = by_text(kernel(pair.one))
    if victim == "worker":
        os.kill(daemon.pid_of("vrrp"), signal.SIGKILL)
        pair.rig.wait(lambda: daemon.log.count("Entering MASTER STATE") == 2, 4)
    else:
        daemon.kill()
        assert by_text(kernel(pair.one)) == held
        daemon = pair.one.start(OURS, instance() + statics(routes="10.80.0.0/16 dev eth0"))
        pair.rig.wait(lambda: "Entering BACKUP STATE" in daemon.log, 4)
        assert destinations(pair.one) == {"10.80.0.0/16"} | {route["dst"] for route in before[0]}
        assert kernel(pair.one)[1] == before[1]
        pair.rig.wait(lambda: 705 in preferences(pair.one), 4)
    pair.rig.holds(lambda: by_text(kernel(pair.one)) == held, 0.5)
    daemon.stop()
    assert kernel(pair.one) == before


def test_what_is_flushed_by_hand_is_back_at_once(pair: Pair) -> None:
    daemon = start(pair, instance() + statics("10.50.0.1/24 dev eth0", "10.80.0.0/16 dev eth0", "preference 800 nop"))
    held = by_text(kernel(pair.one))
    for family in ("-4", "-6"):
        pair.one.run("ip", family, "route", "flush", "table", "all", "proto", "keepalived")
        pair.rig.wait(lambda: by_text(kernel(pair.one)) == held, 1)
    started = time.monotonic()
    pair.one.run("ip", "rule", "del", "preference", "701")
    pair.one.run("ip", "rule", "del", "preference", "800")
    pair.one.run("ip", "addr", "del", "10.50.0.1/24", "dev", "eth0")
    pair.one.run("ip", "route", "del", "10.80.0.0/16")
    pair.rig.wait(lambda: by_text(kernel(pair.one)) == held and pair.one.has("10.50.0.1"), 1)
    assert time.monotonic() - started < patience(0.5)
    daemon.said("rule to 10.61.0.0/16 oif eth0 preference 701 table 4711 was removed by ")
    assert daemon.log.count("Entering MASTER STATE") == 1


def test_a_route_is_back_within_200_ms_and_untracked_ones_stay_away(pair: Pair) -> None:
    daemon = start(pair, instance("\n10.60.0.0/16 dev eth0\n10.61.0.0/16 dev eth0 no_track\n"))
    monitor = pair.rig.directory / "monitor"
    with open(monitor, "wb") as output:
        command = ["ip", "-n", pair.one.namespace, "-ts", "monitor", "route"]
        process = subprocess.Popen(command, stdout=output)
        time.sleep(0.3)
        pair.one.run("ip", "route", "del", "10.61.0.0/16")
        pair.one.run("ip", "route", "del", "10.60.0.0/16")
        pair.rig.wait(lambda: "10.60.0.0/16" in destinations(pair.one), 1)
        time.sleep(0.3)
        process.kill()
        process.wait()
    lines = [line for line in monitor.read_text().splitlines() if "10.60.0.0/16" in line]
    gone, back = (float(line.split("]")[0].split(":")[-1]) for line in lines)
    assert (back - gone) % 60 < patience(0.2)
    assert "10.61.0.0/16" not in destinations(pair.one)
    assert "route 10.61" not in daemon.log


def test_a_route_that_is_always_removed_costs_the_role(pair: Pair) -> None:
    daemon = start(pair, instance("\n10.60.0.0/16 dev eth0\n"))
    for _ in range(7):
        pair.one.run("ip", "route", "del", "10.60.0.0/16", check=False)
        time.sleep(0.05)
    pair.rig.wait(lambda: "route 10.60.0.0/16 dev eth0 was removed 6 times in a row" in daemon.log, 2)
    daemon.said("Entering BACKUP STATE", 2)


def test_how_many_losses_are_put_up_with_is_configured(pair: Pair) -> None:
    text = instance("\n10.60.0.0/16 dev eth0\n")
    daemon = start(pair, "global_defs {\n vrrp_restore_lost 1\n}\n" + text)
    pair.one.run("ip", "route", "del", "10.60.0.0/16")
    pair.rig.wait(lambda: "10.60.0.0/16" in destinations(pair.one), 1)
    pair.one.run("ip", "route", "del", "10.60.0.0/16")
    pair.rig.wait(lambda: "route 10.60.0.0/16 dev eth0 was removed 2 times in a row" in daemon.log, 1)
    pair.rig.wait(lambda: not pair.one.has(VIP4), 1)


def test_a_thousand_routes_are_flushed_and_back_between_two_adverts(pair: Pair) -> None:
    lines = "\n".join(f"10.{60 + number // 250}.{number % 250}.0/24 via 10.0.0.2" for number in range(1000))
    daemon = start(pair, instance(f"\n{lines}\n"))
    held = by_text(kernel(pair.one))
    assert len(held) > 1000
    wire = pair.lan.capture()
    pair.rig.wait(lambda: wire.adverts("10.0.0.1"), 2)
    pair.one.run("ip", "route", "flush", "proto", "keepalived")
    assert pair.rig.wait(lambda: by_text(kernel(pair.one)) == held, 2) < patience(0.6)
    sent = len(wire.adverts("10.0.0.1"))
    pair.rig.wait(lambda: len(wire.adverts("10.0.0.1")) >= sent + 2, 2)
    adverts = wire.adverts("10.0.0.1")
    assert max(after.time - before.time for before, after in pairwise(adverts)) < patience(0.35)
    assert daemon.log.count("Entering MASTER STATE") == 1
    daemon.stop()
    assert len(routes(pair.one)) < 10


def test_a_route_of_two_instances_stays_while_one_of_them_is_master(pair: Pair) -> None:
    both = instance("\n10.60.0.0/16 dev eth0\n")
    other = both.replace("VI_1", "VI_2").replace("_id 51", "_id 52").replace(VIP4, "10.0.0.101")
    other = other[: other.index("    virtual_rules")] + "}\n"
    daemon = start(pair, both + other)
    pair.rig.wait(lambda: pair.one.has("10.0.0.101"), 2)
    other = other.replace("10.60.0.0/16 dev eth0", "")
    pair.two.start(THEIRS, other.replace("priority 150", "priority 200"))
    pair.rig.wait(lambda: not pair.one.has("10.0.0.101"), 5)
    pair.rig.wait(lambda: "10.60.0.0/16" in destinations(pair.one), 0.3)
    daemon.stop()
    assert "10.60.0.0/16" not in destinations(pair.one)


def test_a_route_that_becomes_static_stays(pair: Pair) -> None:
    daemon = start(pair, instance("\n10.60.0.0/16 dev eth0\n"))
    daemon.rewrite(statics(routes="10.60.0.0/16 dev eth0") + instance("\n"))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: "Reload complete" in daemon.log, 3)
    pair.rig.wait(lambda: "10.60.0.0/16" in destinations(pair.one), 0.3)
    daemon.rewrite(instance("\n"))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: "10.60.0.0/16" not in destinations(pair.one), 3)


def test_an_address_removed_by_hand_brings_back_the_routes_that_need_it(pair: Pair) -> None:
    daemon = start(pair, instance("\n10.60.0.0/16 dev eth0 src 10.0.0.100\n"))
    for _ in range(3):
        pair.one.run("ip", "addr", "del", f"{VIP4}/24", "dev", "eth0")
        pair.rig.wait(lambda: pair.one.has(VIP4) and "10.60.0.0/16" in destinations(pair.one), 1)
    pair.rig.holds(lambda: "10.60.0.0/16" in destinations(pair.one), 0.4)
    assert daemon.log.count("Entering MASTER STATE") == 1


def test_an_interface_of_a_route_or_rule_that_is_down_is_a_fault(pair: Pair) -> None:
    for number in (1, 2, 3):
        pair.one.plug(pair.lan, f"eth{number}", f"10.{number}.0.1/24")
    text = instance(
        "\n10.60.0.0/16 dev eth1\n10.61.0.0/16 dev eth3 no_track\n", RULES + "oif eth2 table 100 preference 800\n"
    )
    daemon = start(pair, text)
    for name in ("eth1", "eth2"):
        pair.one.cut(name)
        pair.rig.wait(lambda: not pair.one.has(VIP4), 2)
        daemon.said(f"interface {name} of what it holds is down")
        pair.one.restore(name)
        pair.rig.wait(lambda: 800 in preferences(pair.one), 4)
    pair.one.run("ip", "link", "set", "eth3", "down")
    pair.rig.wait(lambda: "10.61.0.0/16" not in destinations(pair.one), 1)
    pair.rig.holds(lambda: pair.one.has(VIP4), 0.5)
    pair.one.run("ip", "link", "set", "eth3", "up")
    pair.rig.wait(lambda: "10.61.0.0/16" in destinations(pair.one), 1)
    daemon.said("Entering FAULT STATE", 2)


def test_an_interface_that_goes_down_is_no_theft(pair: Pair) -> None:
    daemon = start(pair, instance("\n2001:db8:60::/48 dev eth0\n", RULES, "dont_track_primary"))
    for _ in range(7):
        pair.one.run("ip", "link", "set", "eth0", "down")
        pair.rig.wait(lambda: "2001:db8:60::/48" not in destinations(pair.one), 1)
        pair.one.run("ip", "link", "set", "eth0", "up")
        pair.rig.wait(lambda: "2001:db8:60::/48" in destinations(pair.one), 1)
    assert "was removed" not in daemon.log
    assert daemon.log.count("Entering") == 2


def test_what_the_kernel_refuses_is_told_once_and_tried_again(pair: Pair) -> None:
    pair.one.plug(pair.lan, "eth1")
    daemon = start(pair, instance("\n10.60.0.0/16 via 10.77.0.2\n10.61.0.0/16 dev eth0\n"))
    pair.rig.wait(lambda: "add route 10.60.0.0/16 via 10.77.0.2: Network is unreachable" in daemon.log, 1)
    assert "10.61.0.0/16" in destinations(pair.one)
    pair.one.run("ip", "addr", "add", "10.78.0.1/24", "dev", "eth1")
    time.sleep(0.3)
    pair.one.run("ip", "addr", "add", "10.77.0.1/24", "dev", "eth1")
    pair.rig.wait(lambda: "10.60.0.0/16" in destinations(pair.one), 1)
    assert daemon.log.count("10.77.0.2") == 1
    daemon.stop()
    assert not {"10.60.0.0/16", "10.61.0.0/16"} & destinations(pair.one)


# static entries -------------------------------------------------------------------------------------------------------

STATIC_ADDRESSES = "10.50.0.1/24 dev eth0\n2001:db8:50::1/64 dev eth0"
STATIC_ROUTES = "10.51.0.0/16 via 10.50.0.2 dev eth0\n2001:db8:51::/48 via 2001:db8:50::2 dev eth0"
STATIC_RULES = "from 10.52.0.0/16 table 100 preference 800"


def test_static_entries_come_differ_and_go_as_with_keepalived(pair: Pair) -> None:
    theirs = twin(pair)
    before = kernel(pair.one), addresses(pair.one)
    changed = statics(
        STATIC_ADDRESSES.replace("10.50.0.1", "10.50.0.3"),
        STATIC_ROUTES.replace("10.51", "10.53"),
        STATIC_RULES.replace("800", "801"),
    )
    hosts = ((pair.one, OURS), (theirs, THEIRS))
    first = statics(STATIC_ADDRESSES, STATIC_ROUTES, STATIC_RULES)
    daemons = [host.start(program, first) for host, program in hosts]
    for host, _ in hosts:
        pair.rig.wait(lambda host=host: 800 in preferences(host), 3)
    time.sleep(0.2)
    assert kernel(pair.one) == kernel(theirs)
    assert addresses(pair.one) == addresses(theirs) > {"10.50.0.1", "2001:db8:50::1"}
    for (host, _), daemon in zip(hosts, daemons, strict=True):
        daemon.rewrite(changed)
        daemon.signal(signal.SIGHUP)
        pair.rig.wait(lambda host=host: {800, 801} & preferences(host) == {801}, 4)
    pair.rig.wait(lambda: kernel(pair.one) == kernel(theirs), 1)
    assert addresses(pair.one) == addresses(theirs) > {"10.50.0.3", "2001:db8:50::1"}
    daemons[0].stop()
    assert (kernel(pair.one), addresses(pair.one)) == before


def test_static_entries_return_with_their_interface(pair: Pair) -> None:
    text = statics("10.50.0.1/24 dev eth1", "10.51.0.0/16 via 10.50.0.2 dev eth1\n10.52.0.0/16 via 10.50.0.3")
    daemon = pair.one.start(OURS, text)
    time.sleep(0.5)
    for _ in range(2):
        pair.one.plug(pair.lan, "eth1")
        pair.rig.wait(lambda: destinations(pair.one) >= {"10.51.0.0/16", "10.52.0.0/16"}, 1)
        assert pair.one.has("10.50.0.1")
        pair.one.run("ip", "link", "set", "eth1", "down")
        pair.one.run("ip", "link", "set", "eth1", "up")
        pair.rig.wait(lambda: destinations(pair.one) >= {"10.51.0.0/16", "10.52.0.0/16"}, 1)
        pair.one.run("ip", "link", "del", "eth1")
        pair.rig.wait(lambda: "10.51.0.0/16" not in destinations(pair.one), 1)
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.log


def test_an_instance_may_live_on_a_static_address(pair: Pair) -> None:
    pair.one.plug(pair.lan, "eth1")
    text = statics("10.70.0.1/24 dev eth1") + instance("", "", interface="eth1")
    daemon = pair.one.start(OURS, text)
    wire = pair.lan.capture()
    pair.rig.wait(lambda: wire.adverts("10.70.0.1"), 4)
    assert "Entering FAULT" not in daemon.log


def test_a_track_group_shares_the_fate_of_a_static_entry(pair: Pair) -> None:
    pair.one.plug(pair.lan, "eth1", "10.1.0.1/24")
    group = "track_group G {\n group {\n VI_1\n }\n}\n"
    static = "10.51.0.0/16 dev eth1 track_group G\n10.52.0.0/16 via 10.77.0.2 dev eth1 track_group G"
    daemon = pair.one.start(OURS, group + statics(routes=static) + instance("", ""))
    pair.rig.wait(lambda: "static route 10.52.0.0/16 via 10.77.0.2 dev eth1 cannot be kept" in daemon.log, 3)
    pair.one.run("ip", "addr", "add", "10.77.0.1/24", "dev", "eth1")
    pair.rig.wait(lambda: pair.one.has(VIP4), 4)
    pair.one.cut("eth1")
    pair.rig.wait(lambda: not pair.one.has(VIP4), 2)
    daemon.said("interface eth1 of a static entry is down")
    pair.one.restore("eth1")
    pair.rig.wait(lambda: pair.one.has(VIP4), 4)
    for _ in range(8):
        pair.one.run("ip", "route", "del", "10.51.0.0/16", check=False)
        time.sleep(0.05)
    pair.rig.wait(lambda: "route 10.51.0.0/16 dev eth1 was removed 6 times in a row" in daemon.log, 1)
    pair.rig.wait(lambda: not pair.one.has(VIP4), 1)
    pair.rig.wait(lambda: pair.one.has(VIP4) and "10.51.0.0/16" in destinations(pair.one), 13)


def test_encapsulations_that_the_kernel_refuses_are_named_once_and_cost_nothing_else(pair: Pair) -> None:
    """Or they are there, where the kernel has them."""
    refusable = {
        "10.70.0.0/16": ("encap mpls 100/200 via 10.0.0.3 dev eth0", "encap mpls"),
        "2001:db8:70::/48": ("encap ila 1:2:3:4 via fd00::3 dev eth0", "encap ila"),
    }
    routes = "".join(f"    {net} {words}\n" for net, (words, _) in refusable.items()) + "    10.71.0.0/16 dev eth0\n"
    daemon = pair.one.start(OURS, instance(routes, ""))

    def listed() -> str:
        return pair.one.run("ip", "route") + pair.one.run("ip", "-6", "route")

    pair.rig.wait(lambda: "10.71.0.0/16" in listed(), 10)
    for net, (_, shown) in refusable.items():
        pair.rig.wait(lambda net=net: net in listed() or f"add route {net}" in daemon.log, 5)
        if net not in listed():
            (line,) = (each for each in daemon.log.splitlines() if f"add route {net}" in each)
            assert f"{shown}: Operation not supported" in line
    assert "Entering FAULT" not in daemon.log

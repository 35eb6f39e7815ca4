"""Rules of vrrp-behaviour.md that only a kernel can show: sockets, links, and what is on the wire."""

from __future__ import annotations

import re
import resource
import signal
import socket
import time
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from tests.netns.conftest import Pair
from tests.netns.rig import OURS, THEIRS, Daemon, Host, patience, sh

pytestmark = pytest.mark.netns

VIP, SECOND = "10.0.0.100", "10.0.0.101"


def config(
    name: str = "VI_1", interface: str = "eth0", vip: str = f"{VIP}/24", priority: int = 150, extra: str = ""
) -> str:
    return f"""
vrrp_instance {name} {{
    interface {interface}
    version 3
    virtual_router_id 51
    priority {priority}
    advert_int 0.2
    {extra}
    virtual_ipaddress {{
        {vip}
    }}
}}
"""


def ip(host: Host, command: str) -> str:
    return sh("ip", "-n", host.namespace, *command.split())


def log_has(daemon: Daemon, text: str) -> bool:
    return text in daemon.log


# one VRID, one link ------------------------------------------------------------------------------------------------


def macvlan(host: Host, below: str) -> None:
    ip(host, f"link add link {below} name mac0 type macvlan mode private")
    ip(host, "addr add 10.1.0.9/24 dev mac0")
    ip(host, "link set mac0 up")


def test_a_vrid_used_twice_on_one_link_is_a_fault_of_the_second(pair: Pair) -> None:
    """An interface is made anew above another one: what was allowed is not any more, until it is again."""
    pair.one.plug(pair.rig.switch("inner"), "eth1", "10.1.0.1/24")
    macvlan(pair.one, "eth1")
    second = config("VI_2", "mac0", "10.1.0.100/24")
    daemon = pair.one.start(OURS, "global_defs {\n dynamic_interfaces allow_if_changes\n}\n" + config() + second)
    pair.rig.wait(lambda: pair.one.addresses() >= {VIP, "10.1.0.100"}, 5)
    ip(pair.one, "link del mac0")
    macvlan(pair.one, "eth0")
    text = "(VI_2) another reason for FAULT: VI_1 uses VRID 51 on the link of interface mac0 already"
    pair.rig.wait(lambda: log_has(daemon, text), 3)
    pair.rig.wait(lambda: pair.one.has(VIP) and not pair.one.has("10.1.0.100"), 2)
    pair.rig.holds(lambda: pair.one.has(VIP) and not pair.one.has("10.1.0.100"), 1.0)
    ip(pair.one, "link del mac0")
    macvlan(pair.one, "eth1")
    pair.rig.wait(lambda: pair.one.addresses() >= {VIP, "10.1.0.100"}, 5)


def test_the_second_runs_when_the_first_is_gone(pair: Pair) -> None:
    macvlan(pair.one, "eth0")
    second = config("VI_2", "mac0", "10.1.0.100/24")
    daemon = pair.one.start(OURS, "global_defs {\n dynamic_interfaces\n}\n" + config(interface="eth0") + second)
    pair.rig.wait(lambda: pair.one.has(VIP), 5)
    daemon.said("(VI_2) Entering FAULT STATE (VI_1 uses VRID 51 on the link of interface mac0 already)")
    ip(pair.one, "link set eth0 name odd0")
    ip(pair.one, "link set odd0 up")
    pair.rig.wait(lambda: pair.one.has("10.1.0.100"), 5)
    assert not pair.one.has(VIP)


def test_unicast_instances_that_differ_in_their_peers_only(pair: Pair) -> None:
    """Section 3: an advert belongs to the instance that has its sender as a peer."""

    def unicast(own: int, peer: int) -> str:
        return f"unicast_src_ip 10.0.0.{own}\n unicast_peer {{\n 10.0.0.{peer}\n }}"

    two = config(vip=f"{VIP}/24", priority=100, extra=unicast(2, 1))
    pair.two.start(OURS, two)
    pair.client.start(OURS, config(vip=f"{SECOND}/24", priority=200, extra=unicast(3, 1)))
    first, second = config(extra=unicast(1, 2)), config("VI_2", vip=f"{SECOND}/24", extra=unicast(1, 3))
    daemon = pair.one.start(OURS, first + second)
    pair.rig.wait(lambda: pair.one.has(VIP) and pair.client.has(SECOND), 5)
    pair.rig.holds(lambda: not pair.one.has(SECOND) and not pair.two.has(VIP), 1.0)
    daemon.rewrite(first + second.replace("priority 150", "priority 250"))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: pair.one.addresses() >= {VIP, SECOND} and not pair.client.has(SECOND), 5)
    assert daemon.log.count("(VI_1) Entering") == 2  # BACKUP and MASTER, the reload did not touch it


# sockets -----------------------------------------------------------------------------------------------------------


def test_without_sockets_there_is_a_fault_and_they_are_tried_again(pair: Pair) -> None:
    """A router that can neither speak nor hear must not believe that it is alone."""
    daemon = pair.one.start(OURS, config())
    pair.rig.wait(lambda: pair.one.has(VIP), 5)
    pid = daemon.pid_of("vrrp")
    hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
    ip(pair.one, "addr add 10.9.0.77/24 dev eth0")
    ip(pair.one, "addr del 10.0.0.1/24 dev eth0")  # another source needs another socket
    pair.rig.wait(lambda: re.search(r"Entering FAULT STATE \(sockets on eth0: Too many open files\)", daemon.log), 4)
    assert not pair.one.has(VIP)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
    pair.rig.wait(lambda: pair.one.has(VIP), 5)
    assert daemon.log.count("(VI_1) sockets on eth0") == 1


def test_an_interface_that_cannot_multicast_is_a_fault(pair: Pair) -> None:
    ip(pair.one, "link set eth0 multicast off")
    daemon = pair.one.start(OURS, config())
    pair.rig.wait(lambda: log_has(daemon, "Entering FAULT STATE (interface eth0 cannot multicast)"), 4)
    ip(pair.one, "link set eth0 multicast on")
    pair.rig.wait(lambda: pair.one.has(VIP), 4)


@pytest.mark.parametrize("program", [OURS, THEIRS])
@pytest.mark.parametrize("vip", [f"{VIP}/24", "fe80::100"])
def test_what_an_advert_looks_like(pair: Pair, program: str, vip: str) -> None:
    """Section 2: the IP header, and the frame that carries it."""
    wire = pair.lan.capture()
    pair.one.start(program, config(vip=vip))
    pair.rig.wait(lambda: len(wire.adverts()) >= 5, 8)
    packets = [frame.data[14:] for frame in wire.adverts()]
    if ":" in vip:
        assert {int.from_bytes(each[:4]) >> 20 & 0xFF for each in packets} == {0xC0}
        assert {each[7] for each in packets} == {255}
        assert {socket.inet_ntop(socket.AF_INET6, each[24:40]) for each in packets} == {"ff02::12"}
        return
    assert {each[:2] for each in packets} == {b"\x45\xc0"}
    assert {each[6:8] for each in packets} == {b"\0\0"}  # no fragment, and none forbidden
    assert {(each[8], each[9]) for each in packets} == {(255, 112)}
    assert {socket.inet_ntoa(each[16:20]) for each in packets} == {"224.0.0.18"}
    numbers = [int.from_bytes(each[4:6]) for each in packets]
    assert all(later == earlier + 1 for earlier, later in pairwise(numbers))
    assert 0 not in numbers


def test_nothing_is_announced_where_there_is_no_arp(pair: Pair) -> None:
    ip(pair.one, "link set eth0 arp off")
    wire = pair.lan.capture()
    pair.one.start(OURS, config())
    pair.rig.wait(lambda: pair.one.has(VIP), 4)
    pair.rig.wait(lambda: len(wire.adverts()) >= 3, 3)
    assert wire.announcements(VIP) == []


# groups and processes ----------------------------------------------------------------------------------------------


def in_group(*names: str) -> str:
    return "vrrp_sync_group G {\n group {\n " + "\n ".join(names) + "\n }\n}\n"


def test_a_reload_ends_a_fault_that_a_group_only_shared(pair: Pair) -> None:
    pair.one.plug(pair.rig.switch("inner"), "eth1", "10.1.0.1/24")
    second = config("VI_2", "eth1", "10.1.0.100/24")
    daemon = pair.one.start(OURS, config() + second + in_group("VI_1", "VI_2"))
    pair.rig.wait(lambda: pair.one.addresses() >= {VIP, "10.1.0.100"}, 5)
    pair.one.cut("eth1")
    pair.rig.wait(lambda: not pair.one.has(VIP), 3)
    daemon.rewrite(config() + second)
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: pair.one.has(VIP), 5)
    daemon.said("(VI_2) Entering FAULT STATE")


SCRIPT = "vrrp_script chk {\n script \"/bin/sh -c 'sleep 0.2; test ! -e FLAG'\"\n interval 1\n}\n"


WEIGHTED = 'vrrp_script more {\n script "/bin/sleep 0.6"\n interval 1\n weight 20\n}\n'


@pytest.mark.parametrize("fails", [False, True])
def test_a_killed_worker_does_not_wait_for_its_scripts(pair: Pair, tmp_path: Path, fails: bool) -> None:
    """The next one goes on as MASTER at once, its priority the same; when the script then fails, all is given up."""
    flag = tmp_path / "flag"
    defs = "global_defs {\n script_user root\n enable_script_security\n}\n"
    text = defs + SCRIPT.replace("FLAG", str(flag)) + WEIGHTED + config(extra="track_script {\n chk\n more\n }")
    daemon = pair.one.start(OURS, text)
    pair.rig.wait(lambda: pair.one.has(VIP) and "VRRP_Script(more) succeeded" in daemon.log, 10)
    wire = pair.lan.capture()
    pair.rig.wait(lambda: wire.adverts("10.0.0.1"), 5)
    if fails:
        flag.touch()
    seen = len(wire.adverts())
    killed = time.monotonic()
    daemon_pid = daemon.pid_of("vrrp")
    sh("kill", "-KILL", str(daemon_pid))
    pair.rig.wait(lambda: len(wire.adverts()) > seen, 3)
    assert wire.adverts()[seen].time - killed < patience(1.0)
    if fails:
        pair.rig.wait(partial(log_has, daemon, "Entering FAULT STATE (tracked script chk is down)"), 4)
        pair.rig.wait(lambda: not pair.one.has(VIP), 1)
    else:
        pair.rig.holds(lambda: pair.one.has(VIP), 1.0)
        daemon.said("taken over from the process that died")
        assert {frame.vrrp[2] for frame in wire.adverts() if frame.vrrp} == {170}


def test_a_killed_worker_that_cannot_go_on_leaves_no_address(pair: Pair) -> None:
    daemon = pair.one.start(OURS, config())
    pair.rig.wait(lambda: pair.one.has(VIP), 5)
    daemon_pid = daemon.pid_of("vrrp")
    sh("kill", "-STOP", str(daemon_pid))
    pair.one.cut("eth0")
    sh("kill", "-KILL", str(daemon_pid))
    pair.rig.wait(lambda: daemon.log.count("Entering FAULT STATE (interface eth0 is down") == 1, 4)
    pair.rig.wait(lambda: not pair.one.has(VIP), 1)

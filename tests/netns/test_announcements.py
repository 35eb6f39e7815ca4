"""Announcements on the wire, who else is heard there, and what SIGUSR1 tells of it; Debian's keepalived beside."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import socket
import time
from itertools import pairwise
from pathlib import Path

import pytest

from tests.netns.conftest import Pair
from tests.netns.rig import OURS, THEIRS, Capture, Daemon, Frame, Host, Rig, inside, patience
from tests.netns.test_daemon import fast
from tests.netns.test_vrrp_takeover import VIP4

pytestmark = pytest.mark.netns

PIDFD_GETFD = 438

BOTH = pytest.mark.parametrize("program", [OURS, THEIRS])
MANY = [f"10.0.0.{number}" for number in range(101, 106)]


def config(
    *lines: str,
    vips: tuple[str, ...] | list[str] = (VIP4,),
    priority: int = 150,
    defaults: str = "",
    top: str = "",
    interface: str = "eth0",
    vrid: int = 51,
) -> str:
    """One instance at 0.2 s. `lines` go into it, `defaults` into global_defs, `top` stands before all."""
    body = "\n    ".join(lines)
    addresses = "\n        ".join(vips)
    return f"""
global_defs {{
    {defaults}
}}
{top}
vrrp_instance VI_{vrid} {{
    state BACKUP
    interface {interface}
    version 3
    virtual_router_id {vrid}
    priority {priority}
    advert_int 0.2
    {body}
    virtual_ipaddress {{
        {addresses}
    }}
}}
"""


def arps(wire: Capture) -> list[Frame]:
    """Gratuitous ARP frames."""
    return [each for each in list(wire.frames) if each.protocol == 0x0806 and each.data[28:32] == each.data[38:42]]


def targets(frames: list[Frame]) -> list[str]:
    return [socket.inet_ntoa(each.data[28:32]) for each in frames]


def gaps(frames: list[Frame]) -> list[float]:
    return [later.time - earlier.time for earlier, later in pairwise(frames)]


def master(pair: Pair, text: str, program: str = OURS, vip: str = VIP4) -> Daemon:
    daemon = pair.one.start(program, text)
    pair.rig.wait(lambda: pair.one.has(vip), 6)
    daemon.said("Entering MASTER STATE")
    return daemon


# gaps -------------------------------------------------------------------------------------------------------------


def test_a_gap_is_kept_and_all_are_announced_round_by_round(pair: Pair) -> None:
    """Keepalived 2.2.7 sends one of each, whatever the number of rounds."""
    wire = pair.lan.capture()
    lines = "vrrp_garp_interval 0.1", "vrrp_garp_master_repeat 3", "vrrp_garp_master_delay 0"
    master(pair, config(vips=MANY, defaults="\n".join(lines)), vip=MANY[-1])
    pair.rig.wait(lambda: len(arps(wire)) >= 15, 4)
    time.sleep(0.5)
    found = arps(wire)
    assert targets(found) == MANY * 3
    assert min(gaps(found)) > 0.098
    assert max(gaps(found)) < patience(0.15)


def test_neighbour_advertisements_have_their_own(pair: Pair) -> None:
    wire = pair.lan.capture()
    vips = ["fe80::100", "fd00::100", "fd00::101"]
    defaults = "vrrp_gna_interval 0.2\nvrrp_garp_master_repeat 1\nvrrp_garp_master_delay 0"
    master(pair, config(vips=vips, defaults=defaults), vip="fd00::101")
    time.sleep(0.8)
    found = sorted((each for vip in vips for each in wire.announcements(vip)), key=lambda each: each.time)
    assert len(found) == 3
    assert min(gaps(found)) > 0.198


@pytest.mark.parametrize(("group", "least"), [("interfaces {\n eth0 eth1\n }", 0.198), ("interface eth0", 0.0)])
def test_interfaces_of_a_group_share_a_gap(pair: Pair, group: str, least: float) -> None:
    other = pair.rig.switch("other")
    pair.one.plug(other, "eth1", "10.1.0.1/24")
    wires = pair.lan.capture(), other.capture()
    vips = ["10.0.0.101", "10.1.0.101 dev eth1", "10.0.0.102", "10.1.0.102 dev eth1"]
    defaults = "vrrp_garp_master_repeat 1\nvrrp_garp_master_delay 0"
    master(
        pair, config(vips=vips, defaults=defaults, top=f"garp_group {{\n garp_interval 0.2\n {group}\n}}"), vip=MANY[1]
    )
    time.sleep(1.2)
    found = sorted((each for wire in wires for each in arps(wire)), key=lambda each: each.time)
    assert sorted(targets(found)) == ["10.0.0.101", "10.0.0.102", "10.1.0.101", "10.1.0.102"]
    assert min(gaps(found)) > least
    assert min(gaps(arps(wires[0]))) > 0.198
    if not least:
        assert gaps(arps(wires[1]))[0] < patience(0.1)  # what is in no group does not wait


def test_what_waits_is_forgotten_with_the_role_and_with_the_address(pair: Pair) -> None:
    wire = pair.lan.capture()
    defaults = "vrrp_garp_interval 0.3\nvrrp_garp_master_delay 0"
    daemon = master(pair, config(vips=MANY, defaults=defaults), vip=MANY[-1])
    daemon.rewrite(config(vips=MANY[:3], defaults=defaults))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: not pair.one.has(MANY[-1]), 3)
    gone = time.monotonic()
    time.sleep(1.6)
    assert {*targets([each for each in arps(wire) if each.time > gone + 0.05])} == {*MANY[:3]}
    pair.two.start(OURS, config(vips=MANY[:3], priority=200, defaults="vrrp_garp_master_repeat 1"))
    pair.rig.wait(lambda: not pair.one.has(MANY[0]), 4)
    left = time.monotonic()
    time.sleep(1.0)
    own = pair.one.run("cat", "/sys/class/net/eth0/address").strip().replace(":", "")
    assert [each.time for each in arps(wire) if each.data[6:12].hex() == own and each.time > left + 0.05] == []


def test_without_a_gap_nothing_waits(pair: Pair) -> None:
    wire = pair.lan.capture()
    vips = [f"10.0.1.{number}" for number in range(1, 101)]
    master(pair, config(vips=vips, defaults="vrrp_garp_master_delay 0"), vip=vips[-1])
    pair.rig.wait(lambda: len(arps(wire)) >= 500, 2)
    found = arps(wire)
    assert found[-1].time - found[0].time < patience(0.2)
    assert targets(found) == vips * 5


# extra interfaces -------------------------------------------------------------------------------------------------


def test_interfaces_without_adverts_are_announced_on(pair: Pair) -> None:
    other = pair.rig.switch("other")
    pair.one.plug(other, "eth1", "10.1.0.1/24")
    wire, main = other.capture(), pair.lan.capture()
    vips = [VIP4, "10.1.0.101 dev eth1", "10.1.0.102 dev eth1"]
    quiet = "vrrp_garp_master_delay 0\nvrrp_garp_master_repeat 1"
    daemon = master(pair, config("garp_extra_if all 1", vips=vips, defaults=quiet))
    time.sleep(3.5)
    found = targets(arps(wire))
    assert found == ["10.1.0.101", "10.1.0.102", *["10.1.0.101"] * 3]
    assert gaps(arps(wire))[2] == pytest.approx(1, abs=patience(0.05))
    assert targets(arps(main)) == [VIP4]
    daemon.rewrite(config("garp_extra_if 1", vips=vips, defaults=quiet))  # VMACs only, and eth1 is none
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: "configuration 2" in daemon.log, 3)
    before = len(arps(wire))
    time.sleep(2.2)
    assert len(arps(wire)) == before


@BOTH
def test_a_second_vmac_is_announced(pair: Pair, program: str) -> None:
    other = pair.rig.switch("other")
    pair.one.plug(other, "eth1", "10.1.0.1/24")
    wire = other.capture()
    vips = [VIP4, "10.1.0.101/24 dev eth1", "10.1.0.102/24 dev eth1"]
    quiet = "vrrp_garp_master_delay 0\nvrrp_garp_master_repeat 1\nvrrp_garp_extra_if 1"
    master(pair, config("use_vmac", "use_vmac_addr", vips=vips, defaults=quiet), program)
    time.sleep(2.6)
    assert targets(arps(wire)) == ["10.1.0.101", "10.1.0.102", "10.1.0.101", "10.1.0.101"]
    assert {each.data[6:12].hex() for each in arps(wire)} == {"00005e000133"}
    assert gaps(arps(wire))[2] == pytest.approx(1, abs=patience(0.1))


def test_a_vmac_that_sends_no_adverts_is_announced(pair: Pair) -> None:
    wire = pair.lan.capture()
    quiet = "vrrp_garp_master_delay 0\nvrrp_garp_master_repeat 1\nvrrp_garp_extra_if 1"
    master(pair, config("use_vmac", "vmac_xmit_base", vips=[f"{VIP4}/24"], defaults=quiet))
    time.sleep(3.4)
    virtual = [each for each in arps(wire) if each.data[6:12].hex() == "00005e000133"]
    assert targets(virtual) == [VIP4] * 4
    assert max(gaps(virtual)[1:]) == pytest.approx(1, abs=patience(0.1))


# announcing again -------------------------------------------------------------------------------------------------


def say(host: Host, payloads: list[bytes]) -> None:
    """Send VRRP messages, or what is none, to the group."""
    with inside(host.namespace), socket.socket(socket.AF_INET, socket.SOCK_RAW, 112) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\0")
        for payload in payloads:
            sock.sendto(payload, ("224.0.0.18", 0))


def foreign(priority: int, vip: str = VIP4, source: str = "10.0.0.3", vrid: int = 51) -> bytes:
    """A version 3 advert of another router; 0.2 s."""
    body = bytes((0x31, vrid, priority, 1)) + (20).to_bytes(2) + bytes(2) + socket.inet_aton(vip)
    pseudo = socket.inet_aton(source) + socket.inet_aton("224.0.0.18") + bytes((0, 112)) + len(body).to_bytes(2)
    words = pseudo + body
    total = sum(int.from_bytes(words[at : at + 2]) for at in range(0, len(words), 2))
    total = (total & 0xFFFF) + (total >> 16)
    return body[:6] + (~(total + (total >> 16)) & 0xFFFF).to_bytes(2) + body[8:]


@pytest.mark.parametrize("priority", [0, 100])
def test_a_master_that_hears_another_router_announces_again(pair: Pair, priority: int) -> None:
    master(pair, config(defaults="vrrp_garp_master_delay 0"))
    wire = pair.lan.capture()
    pair.rig.holds(lambda: not arps(wire), 0.5)
    say(pair.client, [foreign(priority)])
    pair.rig.wait(lambda: len(arps(wire)) == 5, 1)
    assert wire.adverts("10.0.0.1")[-1].time - wire.adverts("10.0.0.3")[0].time < patience(0.3)


def test_a_master_that_was_blocked_announces_again(pair: Pair) -> None:
    daemon = master(pair, config(defaults="vrrp_garp_master_delay 0"))
    wire = pair.lan.capture()
    os.kill(daemon.pid_of("vrrp"), signal.SIGSTOP)
    time.sleep(1.5)
    assert not arps(wire)
    os.kill(daemon.pid_of("vrrp"), signal.SIGCONT)
    pair.rig.wait(lambda: len(arps(wire)) >= 5, 1)
    daemon.said("no advert was sent for 1.")
    assert re.search(r"no advert was sent for 1\.\d+s; announcing again", daemon.log)


def test_a_short_stall_is_no_reason(pair: Pair) -> None:
    daemon = master(pair, config(defaults="vrrp_garp_master_delay 0"))
    wire = pair.lan.capture()
    os.kill(daemon.pid_of("vrrp"), signal.SIGSTOP)
    time.sleep(0.35)
    os.kill(daemon.pid_of("vrrp"), signal.SIGCONT)
    pair.rig.holds(lambda: not arps(wire), 1)


# who else is there ------------------------------------------------------------------------------------------------


def data(daemon: Daemon) -> str:
    """keepalived.data, asked for now."""
    path = daemon.directory / "keepalived.data"
    path.unlink(missing_ok=True)
    os.kill(daemon.pid_of("vrrp"), signal.SIGUSR1)
    Rig.wait(lambda: path.exists() and path.read_text(), 3)
    return path.read_text()


def switches(pid: int) -> int:
    """How many times a process went to sleep by itself."""
    found = re.search(r"^voluntary_ctxt_switches:\s*(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


@pytest.mark.parametrize(("wanted", "hears"), [("", False), ("log_unknown_vrids", True)])
def test_adverts_for_others_wake_nobody_unless_they_are_asked_for(pair: Pair, wanted: str, hears: bool) -> None:
    daemon = master(pair, config(defaults=f"{wanted}\nvrrp_garp_master_delay 0"))
    time.sleep(0.5)
    pid = daemon.pid_of("vrrp")
    before = switches(pid)
    for vrid in range(52, 152):
        say(pair.client, [foreign(200, vrid=vrid)])
        time.sleep(0.003)
    assert (switches(pid) - before > 40) is hears
    assert pair.one.has(VIP4)
    assert ("Unknown VRIDs heard: 0" not in data(daemon)) is hears


def test_another_vrid_is_told_once_for_each_sender(pair: Pair) -> None:
    daemon = master(pair, config(defaults="log_unknown_vrids"))
    for host, source in ((pair.client, "10.0.0.3"), (pair.two, "10.0.0.2"), (pair.client, "10.0.0.3")):
        for vrid in (60, 61):
            say(host, [foreign(100, vrid=vrid, source=source)] * 3)
    pair.rig.wait(lambda: "Unknown VRID(61) received on eth0 from 10.0.0.2" in daemon.log, 2)
    time.sleep(0.3)
    assert daemon.log.count("Unknown VRID(") == 4
    text = data(daemon)
    assert "Unknown VRIDs heard: 18" in text
    assert "VRID 60 of others: 10.0.0.2, 10.0.0.3" in text
    assert "VRIDs not seen here: 1-50, 52-59, 62-255" in text


@pytest.mark.parametrize(
    ("wanted", "hint"),
    [("log_unknown_vrids", "VRIDs not seen here: 1-50, 52-255"), ("", "log_unknown_vrids tells which VRIDs are free")],
)
def test_a_foreign_cluster_is_told_once_with_what_is_free(pair: Pair, wanted: str, hint: str) -> None:
    daemon = master(pair, config(defaults=wanted))
    for _ in range(4):
        say(pair.client, [foreign(100, vip="10.0.0.77")])
        time.sleep(0.1)
    said = "10.0.0.3 uses VRID 51 for other addresses (10.0.0.77)"
    pair.rig.wait(lambda: said in daemon.log, 2)
    assert daemon.log.count(f"{said}: another cluster on this link? {hint}") == 1
    assert said in data(daemon)


def test_a_malformed_packet_is_told_once_for_each_sender(pair: Pair) -> None:
    daemon = master(pair, config(defaults="log_unknown_vrids"))
    for host in (pair.client, pair.two, pair.client):
        say(host, [b"", b"\x31"] * 5)
    pair.rig.wait(lambda: "Malformed packets: 30" in data(daemon), 3)
    daemon.said("malformed packet on eth0 from 10.0.0.3", 1)
    daemon.said("malformed packet on eth0 from 10.0.0.2", 1)


def test_a_new_vrid_is_heard_after_a_reload(pair: Pair) -> None:
    daemon = master(pair, config())
    more = config(vrid=52, vips=["10.0.0.120"], priority=100)
    pair.two.start(OURS, config(vrid=52, vips=["10.0.0.120"], priority=150))
    pair.rig.wait(lambda: pair.two.has("10.0.0.120"), 4)
    daemon.rewrite(config() + more.replace("global_defs {\n    \n}", ""))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: "configuration 2" in daemon.log, 3)
    pair.rig.holds(lambda: pair.two.has("10.0.0.120") and not pair.one.has("10.0.0.120"), 1.5)


# keepalived.data --------------------------------------------------------------------------------------------------


def test_dumping_is_quick(pair: Pair) -> None:
    vips = [f"10.0.{high}.{low}" for high in (1, 2, 3, 4) for low in range(1, 51)]
    daemon = master(pair, config(vips=vips), vip=vips[-1])
    wire = pair.lan.capture()
    for _ in range(10):
        assert data(daemon).count("dev eth0 scope global set") == 200
        time.sleep(0.1)
    assert max(gaps(wire.adverts("10.0.0.1"))) < patience(0.25)


def test_receive_buffers_are_as_large_as_asked_for(pair: Pair) -> None:
    text = fast(150, "kernel_rx_buf_size 3000000")
    buffers = "vrrp_netlink_monitor_rcv_bufs 50000000\nvrrp_netlink_monitor_rcv_bufs_force"
    daemon = pair.one.start(OURS, f"global_defs {{\n{buffers}\n}}\n{text}")
    pair.rig.wait(lambda: pair.one.has(VIP4), 4)
    found = receive_buffers(daemon.pid_of("vrrp"))
    assert 2 * 3000000 in found
    assert 2 * 50000000 in found


def receive_buffers(pid: int) -> set[int]:
    """Of all sockets of a process, looked at through copies of their descriptors."""
    libc, found = ctypes.CDLL(None), set()
    process = os.pidfd_open(pid)
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        if os.readlink(entry).startswith("socket:"):
            with socket.socket(fileno=libc.syscall(PIDFD_GETFD, process, int(entry.name), 0)) as copy:
                found.add(copy.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF))
    os.close(process)
    return found

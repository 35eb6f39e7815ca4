"""Two routers, one dies: ours beside Debian's keepalived in both roles, versions 2 and 3, IPv4 and IPv6."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.netns.conftest import Pair
from tests.netns.rig import OURS, THEIRS, Capture, patience

pytestmark = pytest.mark.netns

VIP4, VIP6 = "10.0.0.100", "fd00::100"
LINK_LOCAL = "fe80::100"


def config(priority: int, version: int, family: int, *extra: str, interval: str = "1") -> str:
    """One instance."""
    addresses = [f"{VIP4}/24"] if family == 4 else [LINK_LOCAL, f"{VIP6}/64"]
    lines = "\n        ".join(addresses)
    return f"""
vrrp_instance VI_1 {{
    state BACKUP
    interface eth0
    version {version}
    virtual_router_id 51
    priority {priority}
    advert_int {interval}
    {" ".join(extra)}
    virtual_ipaddress {{
        {lines}
    }}
}}
"""


KINDS = {VIP4: (2, 4, "1"), "10.0.0.101": (3, 4, "0.3"), VIP6: (3, 6, "0.3")}
"""Version, family and interval by address: an instance of each in one daemon."""


def every_kind(priority: int) -> str:
    return "".join(
        config(priority, version, family, interval=interval)
        .replace("VI_1", f"VI_{number}")
        .replace("router_id 51", f"router_id {50 + number}")
        .replace(VIP4, vip)
        for number, (vip, (version, family, interval)) in enumerate(KINDS.items(), 1)
    )


@pytest.mark.parametrize(("first", "second"), [(OURS, THEIRS), (THEIRS, OURS), (OURS, OURS)])
def test_backup_takes_over_on_farewell_and_on_death(pair: Pair, first: str, second: str) -> None:
    def owners() -> list[list[str]]:
        held = {host.name: host.addresses() for host in (pair.one, pair.two)}
        return [[name for name, addresses in held.items() if vip in addresses] for vip in KINDS]

    one, two = [["one"]] * len(KINDS), [["two"]] * len(KINDS)
    wire = pair.lan.capture()
    master = pair.one.start(first, every_kind(150))
    backup = pair.two.start(second, every_kind(100))
    pair.rig.wait(lambda: owners() == one, 8)
    pair.rig.holds(lambda: owners() == one, 1.5)

    master.stop()
    assert pair.rig.wait(lambda: owners() == two, 1.5) < patience(1.2)  # no longer than the skew time
    assert all(wire.announcements(vip) for vip in KINDS)

    again = pair.one.start(first, every_kind(150))
    pair.rig.wait(lambda: owners() == one, 8)  # preemption
    again.kill()
    pair.rig.wait(lambda: pair.two.addresses() >= KINDS.keys(), 5)
    assert backup.process.poll() is None
    assert tshark_complaints(wire, pair.rig.directory) == []


@pytest.mark.parametrize(("first", "second"), [(OURS, THEIRS), (THEIRS, OURS)])
def test_a_password_of_version_2_over_ipv6(pair: Pair, first: str, second: str) -> None:
    """No RFC has it. keepalived 2.2.7 only knows its own one while no other instance has more addresses."""
    password = "authentication { auth_type PASS\n auth_pass secret\n }"
    pair.one.start(first, config(150, 2, 6, password))
    pair.two.start(second, config(100, 2, 6, password))
    pair.rig.wait(lambda: pair.masters(VIP6) == ["one"], 15)
    pair.rig.holds(lambda: pair.masters(VIP6) == ["one"], 4.0)  # longer than the other one waits


def tshark_complaints(wire: Capture, directory: Path) -> list[str]:
    """What tshark's expert finds wrong in our adverts, checksums included."""
    if shutil.which("tshark") is None:
        pytest.fail("tshark is not installed")
    path = directory / "wire.pcap"
    wire.write_pcap(path)
    options = ("-o", "ip.check_checksum:TRUE")
    fields = ("-T", "fields", "-e", "frame.number", "-e", "_ws.expert.message", "-e", "vrrp.checksum.status")
    done = subprocess.run(
        ["tshark", "-r", str(path), *options, "-Y", "vrrp", *fields], capture_output=True, text=True, check=True
    )
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert lines, "no VRRP frame was captured"
    return [" ".join(line) for line in lines if line[1] or line[2] not in ("1", "Good", "")]


def test_preemption_can_be_switched_off(pair: Pair) -> None:
    pair.two.start(OURS, config(100, 3, 4, "nopreempt", interval="0.2"))
    pair.rig.wait(lambda: pair.masters(VIP4) == ["two"], 4)
    pair.one.start(OURS, config(150, 3, 4, "nopreempt", interval="0.2"))
    pair.rig.holds(lambda: pair.masters(VIP4) == ["two"], 2)


def test_link_failure_is_a_fault_and_heals(pair: Pair) -> None:
    one = pair.one.start(OURS, config(150, 3, 4, interval="0.2"))
    pair.two.start(THEIRS, config(100, 3, 4, interval="0.2"))
    pair.rig.wait(lambda: pair.masters(VIP4) == ["one"], 4)
    pair.one.cut("eth0")
    pair.rig.wait(lambda: pair.masters(VIP4) == ["two"], 4)
    one.said("Entering FAULT STATE (interface eth0 is down)")
    pair.one.restore("eth0")
    pair.rig.wait(lambda: pair.masters(VIP4) == ["one"], 6)


def test_password_must_agree(pair: Pair) -> None:
    good = "authentication { auth_type PASS\n auth_pass secret\n }"
    pair.one.start(OURS, config(150, 2, 4, good))
    two = pair.two.start(THEIRS, config(100, 2, 4, good))
    pair.rig.wait(lambda: pair.masters(VIP4) == ["one"], 6)
    pair.rig.holds(lambda: pair.masters(VIP4) == ["one"], 2)
    two.stop()
    pair.two.start(OURS, config(100, 2, 4, good.replace("secret", "guess")))
    pair.rig.wait(lambda: pair.masters(VIP4) == ["one", "two"], 6)


def test_authentication_header_interoperates(pair: Pair) -> None:
    """Also when the worker is killed: its successor goes on behind the sequence numbers that peers have seen."""
    ah = "authentication { auth_type AH\n auth_pass secret\n }"
    one = pair.one.start(OURS, config(150, 2, 4, ah))
    pair.rig.wait(lambda: pair.one.has(VIP4), 10)
    two = pair.two.start(THEIRS, config(100, 2, 4, ah))
    wire = pair.lan.capture()
    pair.rig.wait(lambda: len(wire.frames_of(51)) > 2, 20)
    os.kill(one.pid_of("vrrp"), signal.SIGKILL)
    pair.rig.wait(lambda: len(wire.frames_of(51)) > 7, 20)  # longer than a backup waits
    one.said("Entering MASTER STATE", 2)
    assert "Entering MASTER STATE" not in two.log
    assert "ICV" not in two.log
    assert "AH" not in two.log.replace("auth_type AH", "")

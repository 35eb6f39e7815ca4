"""Ours beside FRR's vrrpd on one LAN: VRRP version 3, IPv4 and IPv6 at once, each of them as the preferred router."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.netns.conftest import Pair
from tests.netns.rig import OURS, Capture, Daemon, Frame, Host, Rig, sh

pytestmark = pytest.mark.netns

FRR = "frr"
PROGRAMS = Path("/usr/lib/frr")
VRID = 51
LINK_LOCAL = "fe80::100"
VIPS = {4: "10.0.0.100", 6: "fd00::100"}
LENGTHS = {4: 24, 6: 64}
VIRTUAL_MAC = {4: f"00:00:5e:00:01:{VRID:02x}", 6: f"00:00:5e:00:02:{VRID:02x}"}
INTERVAL = 0.2
HIGH, LOW = 200, 100
BACKUP = {FRR: "Initialize -> Backup", OURS: "Entering BACKUP STATE"}
SKEW = (256 - LOW) / 256 * INTERVAL
LATE = 0.25
"""Seconds that a busy machine may add to a timer; a farewell saves more than that."""

# One shell is the whole router: it ends when vrrpd does. `ip netns exec` gave it mounts of its own, so that all FRR
# writes, as its own user and with crash buffers below /var/tmp, lands in the test's directory $1.
SCRIPT = """
mkdir "$1/tmp" && chown -R frr:frr "$1" && mount --bind "$1/tmp" /var/tmp && mount --bind "$1" /etc/frr || exit 1
common="-P 0 --vty_socket /etc/frr -z /etc/frr/zserv.api --log stdout --log-level debug"
$2/zebra $common -f /etc/frr/zebra.conf -i /etc/frr/zebra.pid & zebra=$!
until [ -S /etc/frr/zserv.api ]; do kill -0 $zebra || exit 1; sleep 0.02; done
$2/vrrpd $common -f /etc/frr/conf -i /etc/frr/vrrp.pid & vrrpd=$!
trap 'kill $vrrpd' TERM
wait $vrrpd; wait $vrrpd
kill $zebra; wait $zebra
"""


@pytest.fixture(autouse=True)
def _installed() -> None:
    if not (PROGRAMS / "vrrpd").exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("needs FRR's vrrpd (Debian package frr)")


def start_frr(host: Host, priority: int) -> Daemon:
    """zebra and vrrpd, and before them the interfaces with the virtual MAC that vrrpd takes over."""
    for family, vip in VIPS.items():
        # not the link-local one of IPv6: vrrpd could take it for its own address and send from it
        name = f"vrrp{family}-{VRID}"
        link, mac = ("ip", "-n", host.namespace, "link"), VIRTUAL_MAC[family]
        sh(*link, "add", name, "link", "eth0", "address", mac, "type", "macvlan", "mode", "bridge")
        host.run("sysctl", "-qw", f"net.ipv6.conf.{name}.accept_dad=0")
        sh("ip", "-n", host.namespace, "addr", "add", f"{vip}/{LENGTHS[family]}", "dev", name)
        sh(*link, "set", name, "up")
    lines = ["version 3", f"priority {priority}", f"advertisement-interval {INTERVAL * 1000:.0f}"]
    lines += [f"ip {VIPS[4]}", f"ipv6 {LINK_LOCAL}", f"ipv6 {VIPS[6]}"]
    directory = Path(tempfile.mkdtemp(prefix="frr-", dir=host.rig.directory))
    text = "".join(f" vrrp {VRID} {line}\n" for line in lines)
    (directory / "conf").write_text(f"debug vrrp packets\ninterface eth0\n{text}")
    (directory / "zebra.conf").touch()
    command = ["ip", "netns", "exec", host.namespace, "sh", "-c", SCRIPT, FRR, str(directory), str(PROGRAMS)]
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    daemon = Daemon(FRR, process, directory)
    host.daemons.append(daemon)
    return daemon


def config(priority: int, *extra: str) -> str:
    """Ours: what `start_frr` tells FRR."""
    addresses = {4: f"{VIPS[4]}/24", 6: f"{LINK_LOCAL}\n {VIPS[6]}/64"}
    return "".join(
        f"""
vrrp_instance IPv{family} {{
    state BACKUP
    interface eth0
    version 3
    virtual_router_id {VRID}
    priority {priority}
    advert_int {INTERVAL}
    {" ".join(extra) if family == 4 else ""}
    virtual_ipaddress {{
        {lines}
    }}
}}
"""
        for family, lines in addresses.items()
    )


def by_frr(frame: Frame) -> bool:
    """FRR sends from the virtual MAC, ours from that of the interface."""
    return frame.data[6:12].hex(":") in VIRTUAL_MAC.values()


def serving(host: Host) -> set[str]:
    """The virtual addresses a host answers to. FRR's backup keeps them, on an interface that is "protodown"."""
    links = json.loads(sh("ip", "-j", "-n", host.namespace, "addr", "show", "up"))
    found = {entry["local"] for link in links if link["operstate"] == "UP" for entry in link["addr_info"]}
    return found & set(VIPS.values())


class Lan:
    """A router of ours, one of FRR's, and the wire between them."""

    def __init__(self, pair: Pair) -> None:
        self.rig: Rig = pair.rig
        self.hosts = {FRR: pair.one, OURS: pair.two}
        self.wire: Capture = pair.lan.capture()

    def start(self, program: str, priority: int) -> Daemon:
        host = self.hosts[program]
        return start_frr(host, priority) if program == FRR else host.start(OURS, config(priority))

    def adverts(self, program: str, family: int, since: float = 0) -> list[Frame]:
        protocol = 0x0800 if family == 4 else 0x86DD
        frames = [f for f in self.wire.adverts() if f.protocol == protocol and f.time > since]
        return [frame for frame in frames if by_frr(frame) == (program == FRR)]

    def rules(self, program: str, *families: int) -> bool:
        """Whether it alone has the virtual addresses and sent the last adverts."""
        other = OURS if program == FRR else FRR
        families = families or tuple(VIPS)
        for family in families:
            sent = self.adverts(program, family)
            if not sent or self.adverts(other, family, sent[-1].time):
                return False
        vips = {VIPS[family] for family in families}
        return vips <= serving(self.hosts[program]) and not vips & serving(self.hosts[other])


@pytest.fixture
def lan(pair: Pair) -> Lan:
    return Lan(pair)


@pytest.mark.parametrize("farewell", [True, False], ids=["preempts-farewell", "first-death"])
@pytest.mark.parametrize(("high", "low"), [(FRR, OURS), (OURS, FRR)], ids=["frr-ours", "ours-frr"])
def test_the_higher_one_rules_and_the_lower_one_takes_over(lan: Lan, high: str, low: str, farewell: bool) -> None:
    """Started after the lower one and stopped, or started first and killed."""
    settled = 0.0
    if farewell:
        backup = lan.start(low, LOW)
        lan.rig.wait(lambda: lan.rules(low), 8)
        master = lan.start(high, HIGH)
        lan.rig.wait(lambda: lan.rules(high), 8)
        settled = max(lan.adverts(high, family)[-1].time for family in VIPS)
    else:
        master = lan.start(high, HIGH)
        lan.rig.wait(lambda: lan.rules(high), 8)
        backup = lan.start(low, LOW)
        lan.rig.wait(lambda: backup.log.count(BACKUP[low]) == 2, 8)
    lan.rig.holds(lambda: lan.rules(high), 1)
    assert [frame for family in VIPS for frame in lan.adverts(low, family, settled)] == []

    if farewell:
        master.stop()
    else:
        master.kill()
    lan.rig.wait(lambda: all(lan.adverts(low, family, settled) for family in VIPS), 3)
    for family, vip in VIPS.items():
        last, first = lan.adverts(high, family)[-1], lan.adverts(low, family, settled)[0]
        assert last.vrrp is not None
        assert last.vrrp[2] == (0 if farewell else HIGH)
        due = SKEW if farewell else 3 * INTERVAL + SKEW
        # FRR loses its first IPv6 advert: the interface it has just released has no link-local address yet
        late = LATE + INTERVAL if low == FRR and family == 6 else LATE
        assert due - 0.02 < first.time - last.time < due + late
        lan.rig.wait(lambda vip=vip: [f for f in lan.wire.announcements(vip) if by_frr(f) == (low == FRR)], 2)  # type: ignore[misc]
    lan.rig.wait(lambda: serving(lan.hosts[low]) == set(VIPS.values()), 2)
    assert backup.process.poll() is None


def test_frr_refuses_the_checksum_without_the_pseudo_header(lan: Lan) -> None:
    frr = lan.start(FRR, LOW)
    ours = lan.hosts[OURS].start(OURS, config(HIGH, "v3_checksum_as_v2"))
    lan.rig.wait(lambda: lan.rules(OURS, 6) and lan.adverts(OURS, 4) and lan.adverts(FRR, 4), 8)
    lan.rig.holds(lambda: VIPS[4] in serving(lan.hosts[OURS]) & serving(lan.hosts[FRR]), 1)  # two masters
    frr.said("[IPv4] Datagram invalid: Bad VRRP checksum")
    assert "[IPv6] Datagram invalid" not in frr.log

    ours.rewrite(config(HIGH))
    ours.signal(signal.SIGHUP)
    lan.rig.wait(lambda: lan.rules(OURS), 5)

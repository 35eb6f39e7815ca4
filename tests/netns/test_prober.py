"""A prober on the link: crafted adverts at a running master and a running backup (rfc-deviations.md).

Whatever is refused moves no timer and is counted by reason and source; a backup still notices its master's death.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import pytest

from keepalived_py.vrrp.packet import Reason, internet_checksum
from tests.netns.conftest import Pair
from tests.netns.rig import OURS, THEIRS, Daemon, Frame, Host, inside, patience

pytestmark = pytest.mark.netns

VIP, GROUP, PROBER = "10.0.0.100", "224.0.0.18", "10.0.0.3"
INTERVAL = 0.2
EACH = 25
"""Packets of one kind; a row lasts longer than an interval, and its packets come much closer than one."""
GAP = 0.01


def config(priority: int, version: int, *extra: str) -> str:
    return f"""
vrrp_instance VI_1 {{
    interface eth0
    version {version}
    virtual_router_id 51
    priority {priority}
    advert_int {INTERVAL if version == 3 else 1}
    {" ".join(extra)}
    virtual_ipaddress {{
        {VIP}/24
    }}
}}
"""


@dataclass(frozen=True)
class Probe:
    """An advert of version 3, priority 200, that would be a better master's; changed in one respect."""

    version: int = 3
    type: int = 1
    vrid: int = 51
    priority: int = 200
    count: int = 1
    middle: int = 20
    addresses: tuple[str, ...] = (VIP,)
    tail: bytes = b""
    ttl: int = 255
    spoil: bool = False
    """A checksum that is wrong by one bit."""

    @property
    def message(self) -> bytes:
        head = struct.pack(
            "!BBBBHH", self.version << 4 | self.type, self.vrid, self.priority, self.count, self.middle, 0
        )
        body = head + b"".join(socket.inet_aton(each) for each in self.addresses) + self.tail
        covered = body
        if self.version == 3:
            covered = socket.inet_aton(PROBER) + socket.inet_aton(GROUP) + struct.pack("!BBH", 0, 112, len(body)) + body
        return body[:6] + struct.pack("!H", internet_checksum(covered) ^ self.spoil) + body[8:]


class Prober:
    """Sends from the third host of the pair."""

    def __init__(self, host: Host) -> None:
        with inside(host.namespace):
            self._sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, 112)
            self._sock.setsockopt(
                socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("0.0.0.0") + socket.inet_aton(PROBER)
            )

    def send(self, message: bytes, ttl: int = 255, times: int = EACH) -> None:
        self._sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
        for _ in range(times):
            self._sock.sendto(message, (GROUP, 0))
            time.sleep(GAP)

    def close(self) -> None:
        self._sock.close()

    def flood(self, probe: Probe, until: Callable[[], bool], limit: float) -> float:
        """Go on until it is so; the seconds that took."""
        began = time.monotonic()
        while not until():
            assert time.monotonic() - began < limit
            self.send(probe.message, probe.ttl, times=5)
        return time.monotonic() - began


@pytest.fixture
def prober(pair: Pair) -> Iterator[Prober]:
    made = Prober(pair.client)
    yield made
    made.close()


JUNK = (b"", b"\x31", bytes(1400), b"\xff" * 40)
PASSWORD = b"secret\0\0"
V3 = {
    "wrong checksum": (Probe(spoil=True), Reason.CHECKSUM),
    "interval 0": (Probe(middle=0), Reason.INTERVAL),
    "no address": (Probe(count=0, addresses=()), Reason.NO_ADDRESS),
    "more addresses said than sent": (Probe(count=2), Reason.LENGTH),
    "fewer addresses said than sent": (Probe(addresses=(VIP, "10.0.0.101")), Reason.LENGTH),
    "255 addresses said": (Probe(count=255), Reason.LENGTH),
    "trailing byte": (Probe(tail=b"\0"), Reason.LENGTH),
    "TTL 254": (Probe(ttl=254), Reason.TTL),
    "TTL 1": (Probe(ttl=1), Reason.TTL),
    "type 2": (Probe(type=2), Reason.INVALID_TYPE),
    "version 1": (Probe(version=1), Reason.VERSION),
    "version 2": (Probe(version=2, middle=1, tail=bytes(8)), Reason.VERSION),
    "farewell with a wrong checksum": (Probe(priority=0, spoil=True), Reason.CHECKSUM),
    "owner's with a wrong checksum": (Probe(priority=255, spoil=True), Reason.CHECKSUM),
}
V2 = {
    "no password": (Probe(version=2, middle=0x0001, tail=bytes(8)), Reason.AUTH_TYPE_MISMATCH),
    "wrong password": (Probe(version=2, middle=0x0101, tail=b"guessed\0"), Reason.AUTH_FAILURE),
    "unknown authentication": (Probe(version=2, middle=0x0301, tail=PASSWORD), Reason.INVALID_AUTH_TYPE),
    "another interval": (Probe(version=2, middle=0x0102, tail=PASSWORD), Reason.INTERVAL),
    "wrong checksum": (Probe(version=2, middle=0x0101, tail=PASSWORD, spoil=True), Reason.CHECKSUM),
    "no authentication data": (Probe(version=2, middle=0x0101), Reason.LENGTH),
    "version 3": (Probe(), Reason.VERSION),
    "farewell with a wrong password": (Probe(version=2, priority=0, middle=0x0101, tail=b"x" * 8), Reason.AUTH_FAILURE),
}


SAID = {
    3: {
        "wrong checksum": "Invalid VRRPv3 checksum",
        "TTL 254": "invalid TTL/HL. Received 254 and expect 255",
        "version 2": "wrong version. Received 2 and expect 3",
    },
    2: {
        "no password": "received a 0 auth, expecting 1!",
        "wrong password": "received an invalid passwd!",
        "unknown authentication": "Invalid auth type: 3",
        "another interval": "advertisement interval mismatch mine=1 sec rcv'd=2 sec",
        "wrong checksum": "Invalid VRRPv2 checksum",
        "version 3": "wrong version. Received 3 and expect 2",
    },
}
"""What alert rules look for: two routers that do not understand each other are two masters."""


def probes(version: int) -> dict[str, tuple[Probe, Reason]]:
    return V3 if version == 3 else V2


def counted(daemon: Daemon) -> dict[str, int]:
    """What keepalived.data says of the prober's packets, by reason."""
    data = daemon.directory / "keepalived.data"
    data.unlink(missing_ok=True)
    daemon.signal(signal.SIGUSR1)
    deadline = time.monotonic() + 3
    while not (data.exists() and "Discarded from" in data.read_text()):
        assert time.monotonic() < deadline, daemon.log
        time.sleep(0.02)
    found = {}
    for line in data.read_text().splitlines():
        if line.strip().startswith(f"Discarded from {PROBER}: "):
            number, reason = line.split(": ")[1].split(" ", 1)
            found[reason.strip("()")] = int(number)
    return found


@pytest.mark.parametrize("version", [3, 2])
def test_what_is_refused_moves_no_timer_and_is_counted(pair: Pair, prober: Prober, version: int) -> None:
    extra = () if version == 3 else ("authentication {\n auth_type PASS\n auth_pass secret\n }",)
    interval = INTERVAL if version == 3 else 1.0
    one = pair.one.start(OURS, config(150, version, *extra))
    two = pair.two.start(OURS, config(100, version, *extra))
    pair.rig.wait(lambda: pair.masters(VIP) == ["one"], 8)
    wire = pair.lan.capture()
    for probe, _ in probes(version).values():
        prober.send(probe.message, probe.ttl)
    for message in JUNK:  # for no VRID of ours
        prober.send(message)
    adverts = [frame.time for frame in wire.adverts("10.0.0.1")]
    assert len(adverts) >= len(probes(version)) * EACH * GAP / interval - 1
    assert all(abs(later - earlier - interval) < interval * 0.3 for earlier, later in pairwise(adverts))
    assert not wire.adverts("10.0.0.2")
    assert pair.masters(VIP) == ["one"]
    expected: dict[str, int] = {}
    for _, reason in probes(version).values():
        expected[reason.value] = expected.get(reason.value, 0) + EACH
    assert counted(one) == expected
    assert counted(two) == expected
    for daemon in (one, two):
        daemon.said(f"advert from {PROBER} discarded: ", len(expected))  # once for each reason


@pytest.mark.parametrize("program", [OURS, THEIRS])
def test_why_adverts_are_refused_is_said_in_the_words_of_keepalived(pair: Pair, prober: Prober, program: str) -> None:
    for version, words in SAID.items():
        extra = () if version == 3 else ("authentication {\n auth_type PASS\n auth_pass secret\n }",)
        daemon = pair.one.start(program, config(150, version, *extra))
        daemon.said("Entering MASTER STATE")
        for name, text in words.items():
            probe, _ = probes(version)[name]
            prober.send(probe.message, probe.ttl, times=2)
            daemon.said(f"(VI_1) {text}" if program == THEIRS else text)
        daemon.stop()


@pytest.mark.parametrize("name", ["wrong checksum", "interval 0", "TTL 254", "farewell with a wrong checksum"])
def test_a_backup_notices_the_death_of_its_master_in_spite_of_junk(pair: Pair, prober: Prober, name: str) -> None:
    one = pair.one.start(OURS, config(150, 3))
    pair.two.start(OURS, config(100, 3))
    pair.rig.wait(lambda: pair.masters(VIP) == ["one"], 8)
    probe, _ = V3[name]
    prober.send(probe.message, probe.ttl)
    one.kill()
    assert prober.flood(probe, lambda: pair.two.has(VIP), 3) < patience(3 * INTERVAL + INTERVAL * 156 / 256 + 0.3)


def test_the_same_advert_without_a_flaw_wins(pair: Pair, prober: Prober) -> None:
    """The rows above are refused for their flaw, not for something else."""
    pair.one.start(OURS, config(150, 3))
    pair.rig.wait(lambda: pair.masters(VIP) == ["one"], 8)
    assert prober.flood(Probe(), lambda: not pair.one.has(VIP), 3) < patience(1)
    wire = pair.lan.capture()
    prober.send(Probe().message)
    assert not wire.adverts("10.0.0.1")


# auth_hmac -----------------------------------------------------------------------------------------------------------


def sealed(mode: str = "enforce", secret: str = "s" * 32) -> str:
    return f"auth_hmac {{\n key 1 {secret}\n active_key 1\n mode {mode}\n }}"


class Replayer:
    """Sends whole IPv4 packets as they were heard, from the third host of the pair."""

    def __init__(self, host: Host) -> None:
        with inside(host.namespace):
            self._sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\0")

    def __enter__(self) -> Replayer:
        return self

    def __exit__(self, *exc: object) -> None:
        self._sock.close()

    def send(self, frame: Frame) -> None:
        self._sock.sendto(frame.data[14:], (GROUP, 0))


def test_sealed_adverts_survive_a_killed_worker_and_cannot_be_replayed(pair: Pair) -> None:
    """The successor's sequence numbers grow; what an eavesdropper sends again is no sign of life."""
    one = pair.one.start(OURS, config(150, 3, sealed()))
    pair.rig.wait(lambda: pair.one.has(VIP), 10)
    two = pair.two.start(OURS, config(100, 3, sealed()))
    wire = pair.lan.capture()
    pair.rig.wait(lambda: len(wire.adverts("10.0.0.1")) > 3, 10)
    killed = one.pid_of("vrrp")
    os.kill(killed, signal.SIGKILL)
    seen = len(wire.adverts("10.0.0.1"))
    pair.rig.wait(lambda: len(wire.adverts("10.0.0.1")) > seen + 6, 10)
    assert "Entering MASTER" not in two.log
    assert "discarded" not in two.log
    one.kill()
    heard = wire.adverts("10.0.0.1")
    with Replayer(pair.client) as replayer:

        def taken_over() -> bool:
            replayer.send(heard[-1])
            return pair.two.has(VIP)

        pair.rig.wait(taken_over, 10, GAP)
        two.said("advert from 10.0.0.1 discarded: replayed trailer")
        replayer.send(heard[-2])  # nor does it move a master, though it is of a better one
        pair.rig.holds(lambda: pair.two.has(VIP), 0.5)
    assert two.log.count("Entering BACKUP STATE") == 1


@pytest.mark.parametrize(
    ("backup", "masters"),
    [
        (sealed("permissive"), ["one"]),
        (sealed("receive-only"), ["one"]),
        (sealed("enforce"), ["one", "two"]),
        (sealed("permissive", "t" * 32), ["one"]),
    ],
    ids=["permissive", "receive-only", "enforce", "other-key"],
)
def test_adverts_without_a_seal_count_unless_seals_are_enforced(pair: Pair, backup: str, masters: list[str]) -> None:
    """For the time when some routers have it and some not."""
    pair.one.start(OURS, config(150, 3))
    pair.rig.wait(lambda: pair.one.has(VIP), 10)
    pair.two.start(OURS, config(100, 3, backup))
    if masters == ["one"]:
        pair.rig.holds(lambda: pair.masters(VIP) == masters, 1.5)
    else:
        pair.rig.wait(lambda: pair.masters(VIP) == masters, 10)

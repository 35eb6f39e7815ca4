"""What happens to the wire: flaps, loss, duplicates, partitions, floods."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from keepalived_py.config.model import Address, VrrpInstance
from keepalived_py.values import Centiseconds, ip_address
from keepalived_py.vrrp.packet import encode
from tests.netns.rig import ETH_P_ALL, Host, inside, sh
from tests.torture.arena import VIP, Arena
from tests.torture.story import story

GROUP = "224.0.0.18"


@story("link flaps")
def flaps(arena: Arena) -> None:
    """The master's cable is out and in again, six times, for 50 ms to 2 s."""
    choice = random.Random(1)
    arena.begin()
    arena.causes += ("interface eth0 is down",)
    for seconds in (0.05, 0.3, 2.0, *(choice.uniform(0.05, 1.5) for _ in range(3))):
        with arena.away("one"):
            arena.hosts["one"].cut("eth0")
            time.sleep(seconds)
            arena.hosts["one"].restore("eth0")
        time.sleep(choice.uniform(0.0, 1.5))
    arena.settle_later("one")


@story("one-way loss", quick=True)
def one_way(arena: Arena) -> None:
    """The backup hears nothing for 2 s, and is heard: it must give in as soon as it hears again."""
    arena.begin()
    with arena.frozen("two"):
        arena.hosts["two"].deaf("eth0")
        time.sleep(2.0)
        arena.hosts["two"].hearing()
    arena.settle_later("one")


@contextmanager
def lossy(arena: Arena, drop: str) -> Iterator[None]:
    """nftables drop VRRP at every router as `drop` says."""
    rules = "add table netdev rig; add chain netdev rig in { type filter hook ingress device eth0 priority 0; }; "
    rules += f"add rule netdev rig in ip protocol 112 {drop} drop"
    for host in arena.hosts.values():
        host.run("nft", rules)
    yield
    for host in arena.hosts.values():
        host.run("nft", "delete table netdev rig")


@story("20 % loss, even", quick=True)
def even_loss(arena: Arena) -> None:
    """Every fifth advert is lost: no change of state at all."""
    arena.begin()
    with lossy(arena, "numgen inc mod 5 == 0"):
        time.sleep(4.0)
    arena.must(arena.transitions() == 0, "no change of state")


@story("20 % loss, by chance")
def random_loss(arena: Arena) -> None:
    """Each advert is lost with one chance in five, for 20 s; a backup may miss three in a row, and hears the next."""
    arena.begin()
    arena.allowed_double += 4 * arena.interval
    with lossy(arena, "numgen random mod 100 < 20"):
        time.sleep(20.0)
    arena.say(f"{arena.transitions()} changes of state")


class Echo:
    """A host that sends every VRRP frame that it hears once more, some of them late."""

    def __init__(self, host: Host, times: int, delay: float) -> None:
        namespace, port = host.interfaces["eth0"]
        sh("bridge", "-n", namespace, "link", "set", "dev", port, "learning", "off")
        with inside(host.namespace):
            self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            self._sock.bind(("eth0", 0))
        self._sock.settimeout(0.1)
        self.sent = 0
        self._times, self._delay = times, delay
        self._running = True
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while self._running:
            with suppress(OSError):
                data, origin = self._sock.recvfrom(2048)
                if origin[2] == socket.PACKET_OUTGOING or data[12:14] != b"\x08\x00" or data[23] != 112:
                    continue
                for _ in range(self._times):
                    time.sleep(self._delay)
                    self._sock.send(data)
                    self.sent += 1

    def close(self) -> None:
        self._running = False
        self._thread.join()
        self._sock.close()


@story("duplicates", quick=True)
def duplicates(arena: Arena) -> None:
    """Every advert comes three times more, to its sender too, each 20 ms later: no change of state."""
    arena.begin()
    echo = Echo(arena.client, 3, 0.02)
    try:
        time.sleep(3.0)
    finally:
        echo.close()
    arena.must(echo.sent > 20, "something was duplicated")
    arena.must(arena.transitions() == 0, "no change of state")


@story("partitions and healing", routers=3)
def partitions(arena: Arena) -> None:
    """Three routers are cut into two parts in every way, and joined again: one master for each part, then one."""
    arena.begin()
    for apart in ("one", "two", "three"):
        others = [name for name in arena.hosts if name != apart]
        with arena.frozen(apart):
            _hide(arena, apart, others)
            arena.until(lambda apart=apart: apart in arena.holders(), 5, f"a master in the part of {apart}")  # type: ignore[misc]
            arena.until(lambda: len(arena.holders()) == 2, 5, "a master in each part")
            _unhide(arena)
        arena.settle_later("one")


def _hide(arena: Arena, apart: str, others: list[str]) -> None:
    rules = "add table netdev rig; add chain netdev rig in { type filter hook ingress device eth0 priority 0; }; "
    numbers = {name: number for number, name in enumerate(arena.hosts, 1)}
    for name in others:
        arena.hosts[name].run(
            "nft", f"{rules} add rule netdev rig in ip protocol 112 ip saddr 10.0.0.{numbers[apart]} drop"
        )
    hidden = ", ".join(f"10.0.0.{numbers[name]}" for name in others)
    arena.hosts[apart].run("nft", f"{rules} add rule netdev rig in ip protocol 112 ip saddr {{ {hidden} }} drop")


def _unhide(arena: Arena) -> None:
    for host in arena.hosts.values():
        host.run("nft", "delete table netdev rig")


def forged() -> list[bytes]:
    """Messages that nobody may believe: other VRIDs, wrong checksums, versions, lengths, addresses."""
    row = Address(address=ip_address(VIP), prefixlen=24)
    source, group = ip_address("10.0.0.9"), ip_address(GROUP)

    def message(vrid: int, priority: int) -> bytearray:
        other = VrrpInstance(
            name="x", interface="eth0", family=4, vrid=vrid, version=3, advert_int=Centiseconds(20), addresses=(row,)
        )
        return bytearray(encode(other, priority, source, group))

    wrong_sum = message(51, 255)
    wrong_sum[6] ^= 0x55
    version = message(51, 255)
    version[0] = 0x41
    return [bytes(message(60, 255)), bytes(wrong_sum), bytes(version), bytes(message(51, 255)[:7]), b"", b"\x31" * 1400]


@story("flood of forged adverts")
def flood(arena: Arena) -> None:
    """As many forged adverts as a process can send, for 3 s: no change of state, every own advert in time."""
    arena.begin()
    wire = arena.lan.capture()
    messages, sent = forged(), 0
    with inside(arena.client.namespace), socket.socket(socket.AF_INET, socket.SOCK_RAW, 112) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\0")
        until = time.monotonic() + 3.0
        while time.monotonic() < until:
            for each in messages:
                sock.sendto(each, (GROUP, 0))
                sent += 1
            time.sleep(0.0002)
    wire.close()
    arena.say(f"{sent // 3} adverts/s, {arena.latest_advert(wire):.0f} ms late at most")
    arena.must(arena.transitions() == 0, "no change of state")


@story("hop limit and spoofed farewells")
def far(arena: Arena) -> None:
    """Adverts with a TTL below 255 and priority 255 or 0, from another network: no change of state."""
    arena.begin()
    row = Address(address=ip_address(VIP), prefixlen=24)
    other = VrrpInstance(
        name="x", interface="eth0", family=4, vrid=51, version=3, advert_int=Centiseconds(20), addresses=(row,)
    )
    with inside(arena.client.namespace), socket.socket(socket.AF_INET, socket.SOCK_RAW, 112) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 64)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\0")
        for priority in (255, 0) * 200:
            sock.sendto(encode(other, priority, ip_address("10.0.0.9"), ip_address(GROUP)), (GROUP, 0))
            time.sleep(0.005)
    arena.must(arena.transitions() == 0, "no change of state")

"""Real traffic: a client, a director with our daemon, two real servers and a sorry server, each a network namespace.

The client and the front side of the servers (DR, TUN) are on one link, their back side (NAT) is behind the director.
Servers say who they are and count who came.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import pytest

from tests.ipvs.compare import wait
from tests.netns.rig import OURS, Daemon, Host, Rig, Switch, batch, inside, settings

pytestmark = pytest.mark.ipvs
TOGETHER = True
"""In one guest: the network takes long to build."""

VIP, VIP6 = "10.0.0.100", "fd00::100"
GUE_PORT = 6080
WHO = b"who"
NAT4, NAT6 = ("10.1.0.11", "10.1.0.12"), ("fd01::11", "fd01::12")
FRONT4, FRONT6 = ("10.0.0.11", "10.0.0.12"), ("fd00::11", "fd00::12")
KINDS = {
    "nat": (VIP, "lvs_method NAT", NAT4),
    "nat6": (VIP6, "lvs_method NAT", NAT6),
    "dr": (VIP, "lvs_method DR", FRONT4),
    "dr6": (VIP6, "lvs_method DR", FRONT6),
    "ipip": (VIP, "lvs_method TUN", FRONT4),
    "ipip6": (VIP6, "lvs_method TUN", FRONT6),
    "gue": (VIP, f"lvs_method TUN type gue port {GUE_PORT}", FRONT4),
    "gue-csum": (VIP, f"lvs_method TUN type gue port {GUE_PORT} csum", FRONT4),
    "gue6": (VIP6, f"lvs_method TUN type gue port {GUE_PORT} csum", FRONT6),
    "gre": (VIP, "lvs_method TUN type gre", FRONT4),
    "gre-csum": (VIP, "lvs_method TUN type gre csum", NAT4),
    "gre6": (VIP6, "lvs_method TUN type gre", FRONT6),
    "4-in-6": (VIP, "lvs_method TUN", FRONT6),
    "6-in-4": (VIP6, "lvs_method TUN", FRONT4),
}
FIRST_PORT = 8000
MARK_PORT, WIDE_PORT = 8103, 8104
PORTS = (80, MARK_PORT, WIDE_PORT, *range(FIRST_PORT, FIRST_PORT + len(KINDS)))
UDP_PORT, OPS_PORT, SIP_PORT, SCTP_PORT = 8100, 8101, 8105, 8102
MARKING = ("iptable_mangle", "xt_mark", "xt_tcpudp")
CLIENTS = ("10.0.0.3/24", "10.0.0.4/24", "fd00::3/64")


class Answering:
    """Accepts on some ports of every address of a host; tells who it is, and echoes what else it hears."""

    def __init__(self, host: Host) -> None:
        self.host, self.name = host, host.name.encode()
        self.seen = 0
        self.heard: Counter[bytes] = Counter()
        """Datagrams."""
        self._selector = selectors.DefaultSelector()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._doors: list[socket.socket] = []
        self.on()
        self._thread.start()

    def on(self) -> None:
        with inside(self.host.namespace):
            for port in PORTS:
                door = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=200)
                self._doors.append(door)
                self._selector.register(door, selectors.EVENT_READ, self._accept)
            for port in (UDP_PORT, OPS_PORT, SIP_PORT):
                door = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
                door.bind(("::", port))
                self._doors.append(door)
                self._selector.register(door, selectors.EVENT_READ, self._hear)

    def take_sctp(self, address: str) -> None:
        """Associations too, with this address only."""
        with inside(self.host.namespace):
            door = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
            door.bind((address, SCTP_PORT))
            door.listen()
        self._doors.append(door)
        self._selector.register(door, selectors.EVENT_READ, self._accept)

    def _hear(self, door: socket.socket) -> None:
        self.heard[door.recv(1000)] += 1

    def off(self) -> None:
        """New connections are refused; those there are go on."""
        for door in self._doors:
            self._selector.unregister(door)
            door.close()
        self._doors.clear()

    def close(self) -> None:
        self.off()
        self._over.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            cast(socket.socket, key.fileobj).close()
        self._selector.close()

    def _run(self) -> None:
        while not self._over.is_set():
            for key, _ in self._selector.select(0.1):
                with suppress(OSError, ValueError):  # the door may have been closed meanwhile
                    key.data(key.fileobj)

    def _accept(self, door: socket.socket) -> None:
        connection, _ = door.accept()
        connection.setblocking(False)
        self._selector.register(connection, selectors.EVENT_READ, self._answer)

    def _answer(self, connection: socket.socket) -> None:
        data = b""
        with suppress(OSError):
            data = connection.recv(100)
        if not data:
            self._selector.unregister(connection)
            connection.close()
            return
        self.seen += data == WHO
        connection.sendall(self.name if data == WHO else data)


@dataclass
class Net:
    rig: Rig
    client: Host
    director: Host
    servers: dict[str, Answering]

    def run(self, config: str) -> Daemon:
        """Start the daemon, or have it read another configuration: that is faster here."""
        if self.director.daemons:
            (daemon,) = self.director.daemons
            daemon.rewrite(config)
            daemon.signal(signal.SIGHUP)
            return daemon
        return self.director.start(OURS, config, "-C")

    def open(self, address: str, port: int = 80, source: str = "") -> tuple[socket.socket, str]:
        """A connection from the client, and who answers."""
        with inside(self.client.namespace):
            connection = socket.create_connection((address, port), 5, (source, 0) if source else None)
        connection.sendall(WHO)
        return connection, connection.recv(100).decode()

    def ask(self, address: str, port: int = 80, source: str = "") -> str:
        """Who answers; "" for nobody."""
        try:
            connection, name = self.open(address, port, source)
        except OSError:
            return ""
        connection.close()
        return name

    def share(self, address: str, times: int, port: int = 80) -> Counter[str]:
        """How many of so many connections each server gets, as the client sees it and as they do."""
        before = {name: server.seen for name, server in self.servers.items()}
        found = Counter(self.ask(address, port) for _ in range(times))
        assert {name: server.seen - before[name] for name, server in self.servers.items()} == {
            name: found[name] for name in self.servers
        }
        return found

    def table(self) -> list[str]:
        return sorted(self.director.run("ipvsadm", "-Sn").splitlines())


def plug(host: Host, interface: str, lan: Switch, port: str) -> None:
    peer = f"type veth peer name {port} netns {lan.namespace}"
    batch("", f"link add {interface} netns {host.namespace} {peer}")
    batch(lan.namespace, f"link set {port} master br0 up")


def behind_tunnels(host: Host, number: int, front: Switch, back: Switch) -> Answering:
    """A server: every way to take packets out of tunnels, and the addresses of the service, silent about them."""
    plug(host, "eth0", front, f"f{number}")
    plug(host, "eth1", back, f"b{number}")
    settings(
        host.namespace,
        *(f"ipv4/conf/{link}/rp_filter=0" for link in ("all", "default")),
        "ipv4/conf/all/arp_ignore=1",
        "ipv4/conf/all/arp_announce=2",
    )
    batch(
        host.namespace,
        *(f"addr add {net}.{number}/24 dev {link}" for link, net in (("eth0", "10.0.0"), ("eth1", "10.1.0"))),
        *(f"addr add {net}::{number}/64 dev {link} nodad" for link, net in (("eth0", "fd00"), ("eth1", "fd01"))),
        "link add vip type dummy",
        f"addr add {VIP}/32 dev vip",
        f"addr add {VIP6}/128 dev vip nodad",
        f"link add gre1 type gre local 10.0.0.{number}",
        f"link add gre2 type gre local 10.1.0.{number} icsum",
        f"link add gre6 type ip6gre local fd00::{number}",
        f"link add any6 type ip6tnl local fd00::{number} mode any",
        *(f"link set {link} up" for link in ("eth0", "eth1", "vip", "gre1", "gre2", "gre6", "any6", "tunl0", "sit0")),
        f"fou add port {GUE_PORT} gue",
        "rule add from 10.1.0.0/24 table 7",
        "route add default via 10.1.0.1 table 7",
    )
    batch(
        host.namespace,
        f"fou add port {GUE_PORT} gue",
        "rule add from fd01::/64 table 7",
        "route add default via fd01::1 table 7",
        family="-6",
    )
    return Answering(host)


@pytest.fixture(scope="module")
def made() -> Iterator[Net]:
    subprocess.run(
        ["modprobe", "-qa", "ipip", "ip_gre", "ip6_gre", "ip6_tunnel", "sit", "fou", "fou6", "sctp", *MARKING],
        check=False,
    )
    with Rig() as rig:
        front, back = rig.switch("front"), rig.switch("back")
        client, director = rig.host("client"), rig.host("director")
        plug(client, "eth0", front, "f3")
        plug(director, "eth0", front, "f1")
        plug(director, "eth1", back, "b1")
        up = "link set eth0 up"
        batch(client.namespace, *(f"addr add {each} dev eth0 nodad" for each in CLIENTS), up)
        settings(director.namespace, "ipv4/ip_forward=1", "ipv6/conf/all/forwarding=1")
        # a deprecated address is no source: servers have it too, and could not answer to it
        own = ("10.0.0.1/24", "fd00::1/64", f"{VIP}/32", f"{VIP6}/128 preferred_lft 0")
        batch(
            director.namespace,
            *(f"addr add {each} dev eth0 nodad" for each in own),
            *(f"addr add {each} dev eth1 nodad" for each in ("10.1.0.1/24", "fd01::1/64")),
            up,
            "link set eth1 up",
        )
        servers = {
            name: behind_tunnels(rig.host(name), number, front, back)
            for name, number in (("one", 11), ("two", 12), ("sorry", 19))
        }
        net = Net(rig, client, director, servers)
        yield net
        for daemon in director.daemons:
            daemon.stop()
        assert net.table() == []
        for each in servers.values():
            each.close()


@pytest.fixture
def net(made: Net) -> Iterator[Net]:
    """After each test every server is up."""
    yield made
    print(*(daemon.log for daemon in made.director.daemons), file=sys.stderr)
    for each in made.servers.values():
        each.off()
        each.on()


def virtual(head: str, inner: str, *reals: str, every: int = 1) -> str:
    return f"virtual_server {head} {{\n delay_loop {every}\n protocol TCP\n {inner}\n {' '.join(reals)}\n}}\n"


def real(address: str, *lines: str, port: int = 80) -> str:
    check = "TCP_CHECK {\n connect_timeout 3\n retry 0\n warmup 0\n }"
    return "\n".join((f"real_server {address} {port} {{", *lines, check, "}\n"))


def test_traffic_of_every_kind(net: Net) -> None:
    """NAT, DR and TUN with every encapsulation, both families and their mixtures: a turn for each server."""
    config = "".join(
        virtual(
            f"{vip} {FIRST_PORT + number}",
            f"lvs_sched rr\n {method}",
            *(real(each, port=FIRST_PORT + number) for each in addresses),
            every=9,
        )
        for number, (vip, method, addresses) in enumerate(KINDS.values())
    )
    net.run(config)
    wait(lambda: len(net.table()) == 3 * len(KINDS), 60)
    ports = {name: FIRST_PORT + number for number, name in enumerate(KINDS)}
    found = {name: dict(net.share(vip, 4, ports[name])) for name, (vip, _, _) in KINDS.items()}
    assert found == {name: {"one": 2, "two": 2} for name in KINDS}


NAT = "lvs_method NAT"


def several(protocol: str, head: str, inner: str, reals: tuple[str, ...], port: int) -> str:
    """Real servers without checks."""
    rows = " ".join(f"real_server {each} {port} {{\n}}\n" for each in reals)
    return f"virtual_server {head} {{\n {protocol}\n lvs_sched rr\n {NAT}\n {inner}\n {rows}}}\n"


def say(net: Net, address: str, port: int, *texts: bytes) -> dict[str, int]:
    """Datagrams from one socket of the client; how many of them each server heard."""
    before = {name: server.heard.copy() for name, server in net.servers.items()}
    with inside(net.client.namespace):
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        for text in texts:
            sock.sendto(text, (address, port))

        def heard() -> dict[str, int]:
            news = {name: (server.heard - before[name]).total() for name, server in net.servers.items()}
            return {name: count for name, count in news.items() if count}

        wait(lambda: sum(heard().values()) == len(texts))
    return heard()


def test_datagrams_marks_associations_and_persistence_of_networks(net: Net) -> None:
    udp, tcp = "protocol UDP", "protocol TCP"
    wide = "persistence_timeout 60\n persistence_granularity 255.255.255.0"
    config = (
        several(udp, f"{VIP} {UDP_PORT}", "", NAT4, UDP_PORT)
        + several(udp, f"{VIP6} {UDP_PORT}", "", NAT6, UDP_PORT)
        + several(udp, f"{VIP} {OPS_PORT}", "ops", NAT4, OPS_PORT)
        + several(udp, f"{VIP} {SIP_PORT}", "persistence_engine sip\n persistence_timeout 60", NAT4, SIP_PORT)
        + several(tcp, f"{VIP} {WIDE_PORT}", wide, NAT4, WIDE_PORT)
        + several("", "fwmark 5", "", NAT4, MARK_PORT)
        + several("protocol SCTP", f"{VIP} {SCTP_PORT}", "", NAT4, SCTP_PORT)
    )
    daemon = net.run(config)
    wait(lambda: len(net.table()) == 3 * config.count("virtual_server "), 60)
    for address in (VIP, VIP6):
        # without ops a socket stays with its server, the next gets the other
        assert [say(net, address, UDP_PORT, *[b"x"] * 4) for _ in range(2)] in (
            [{"one": 4}, {"two": 4}],
            [{"two": 4}, {"one": 4}],
        )
    assert say(net, VIP, OPS_PORT, *[b"x"] * 4) == {"one": 2, "two": 2}
    # one client, three sockets: the call decides
    calls = [b"INVITE sip:a@example.com SIP/2.0\r\nCall-ID: %d\r\n\r\n" % number for number in (1, 1, 2)]
    first, again, other = (say(net, VIP, SIP_PORT, call) for call in calls)
    assert first == again != other
    assert len({net.ask(VIP, WIDE_PORT, source) for source in ("10.0.0.3", "10.0.0.4")}) == 1
    assert net.ask(VIP, MARK_PORT) == ""
    marking = f"-t mangle -A PREROUTING -d {VIP} -p tcp --dport {MARK_PORT} -j MARK --set-mark 5"
    net.director.run("iptables-legacy", *marking.split())  # the guest's nftables knows no IPv4
    assert net.share(VIP, 4, MARK_PORT) == {"one": 2, "two": 2}
    for name, address in zip(("one", "two"), NAT4, strict=True):
        net.servers[name].take_sctp(address)
    assert {associate(net) for _ in range(2)} == {"one", "two"}
    # the kernel adds up every two seconds
    sctp, mark = f"[{VIP}]:sctp:{SCTP_PORT}", "FWM 5"
    wait(lambda: [counted_by_ipvsadm(net)[name][0] for name in (sctp, mark)] == [2, 4])
    data = daemon.directory / "keepalived_check.data"
    daemon.signal(signal.SIGUSR1)
    wait(data.exists)
    found, theirs = counted(data.read_text()), counted_by_ipvsadm(net)
    assert {name: row[0] for name, row in found.items()} == {name: row[0] for name, row in theirs.items()}
    assert found[mark] == theirs[mark]


Counted = dict[str, tuple[int, ...]]
"""Connections, packets in and out, bytes in and out by service; behind its name that of the server, or none."""


def counted(data: str) -> Counted:
    found, service, row = Counted(), "", ""
    for line in data.splitlines():
        match line.split():
            case ["Virtual", "server", *name, "quorum", _, "weight", _]:
                service = row = " ".join(name).rstrip(":")
            case ["Real", "server", name, *_]:
                row = f"{service} {name.rstrip(':')}"
            case ["IPVS:", *words]:
                found[row] = tuple(int(word) for word in words if word.isdecimal())[-5:]
    return found


def counted_by_ipvsadm(net: Net) -> Counted:
    found, service = Counted(), ""
    for line in net.director.run("ipvsadm", "-Ln", "--stats", "--exact").splitlines()[3:]:
        kind, name, *numbers = line.split()
        name = name if name.startswith("[") or ":" not in name else "[{}]:{}".format(*name.rsplit(":", 1))
        if kind != "->":
            service = f"FWM {name}" if kind == "FWM" else name.replace("]:", f"]:{kind.lower()}:")
        found[service if kind != "->" else f"{service} {name}"] = tuple(map(int, numbers[-5:]))
    return found


def associate(net: Net) -> str:
    """Who answers over SCTP."""
    with inside(net.client.namespace):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
    with sock:
        sock.bind(("10.0.0.3", 0))
        sock.settimeout(10)
        sock.connect((VIP, SCTP_PORT))
        sock.sendall(WHO)
        return sock.recv(100).decode()


def destinations(net: Net) -> dict[str, int]:
    """Weight by address, of the one service there is."""
    rows = (line.split() for line in net.table() if line.startswith("-a"))
    return {row[4].rpartition(":")[0]: int(row[7]) for row in rows}


def test_servers_die_and_come_back_under_traffic(net: Net) -> None:
    """The dead one gets nothing from the moment it is out; then the sorry server serves; connections stay."""
    one, two = NAT4
    lines = f"lvs_sched rr\n {NAT}\n sorry_server 10.1.0.19 80"
    net.run(virtual(f"{VIP} 80", lines, real(one), real(two)))
    wait(lambda: destinations(net) == {one: 1, two: 1}, 60)
    assert net.share(VIP, 10) == {"one": 5, "two": 5}
    held = [net.open(VIP)[0] for _ in range(4)]
    net.servers["two"].off()
    wait(lambda: destinations(net) == {one: 1})
    assert net.share(VIP, 6) == {"one": 6}
    net.servers["one"].off()
    wait(lambda: destinations(net) == {"10.1.0.19": 1})
    assert net.share(VIP, 6) == {"sorry": 6}
    net.servers["two"].on()
    wait(lambda: destinations(net) == {two: 1})
    assert net.share(VIP, 6) == {"two": 6}
    net.servers["one"].on()
    wait(lambda: destinations(net) == {one: 1, two: 1})
    assert net.share(VIP, 6) == {"one": 3, "two": 3}
    assert all(echoes(each) for each in held)  # their rows came back, and they with them
    net.run(virtual(f"{VIP} 80", f"lvs_sched wrr\n {NAT}", real(one, "weight 3"), real(two)))
    wait(lambda: destinations(net) == {one: 3, two: 1} and "-s wrr" in str(net.table()))
    assert net.share(VIP, 12) == {"one": 9, "two": 3}
    assert all(echoes(each) for each in held)
    net.run(virtual(f"{VIP} 80", f"lvs_sched rr\n {NAT}\n persistence_timeout 60", real(one), real(two)))
    wait(lambda: "-p 60" in str(net.table()))
    first = net.ask(VIP)
    assert net.share(VIP, 5) == {first: 5}
    assert net.ask(VIP, source="10.0.0.4") not in ("", first)
    for each in held:
        each.close()


def echoes(connection: socket.socket) -> bool:
    connection.settimeout(5)
    with suppress(OSError):
        connection.sendall(b"still here")
        return connection.recv(100) == b"still here"
    return False


def test_a_checker_killed_under_load_loses_no_connection(net: Net) -> None:
    """Connections through it go on, new ones are taken all the time, the one that was down stays out."""
    one, two = NAT4
    net.servers["two"].off()
    daemon = net.run(virtual(f"{VIP} 80", f"lvs_sched rr\n {NAT}", real(one), real(two)))
    wait(lambda: destinations(net) == {one: 1} and "-p" not in str(net.table()), 60)
    held = [net.open(VIP)[0] for _ in range(40)]
    lost, asked = [], 0
    killed = daemon.pid_of("checkers")
    os.kill(killed, signal.SIGKILL)
    until = None
    while until is None or time.monotonic() < until:
        lost += [each for each in held if not echoes(each)]
        asked += 1
        assert net.ask(VIP) == "one"
        assert destinations(net) == {one: 1}
        if until is None and daemon.pid_of("checkers") != killed:
            until = time.monotonic() + 2  # the new one is at work, its first checks included
    assert not lost
    assert asked > 2
    net.servers["two"].on()
    wait(lambda: destinations(net) == {one: 1, two: 1})
    assert all(echoes(each) for each in held)
    for each in held:
        each.close()

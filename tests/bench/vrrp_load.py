"""Figures of VRRP under load: many addresses beside other instances and routers, floods, a planned switchover."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise

from tests.bench.checks import frames
from tests.bench.frame import Bench, Figures, brief
from tests.bench.vrrp import VIP, Stage, config, cpu, vips
from tests.netns.rig import Capture, Frame, Host, Rig, inside

BYSTANDER = """
vrrp_instance VI_2 {
    state MASTER
    interface eth0
    version 3
    virtual_router_id 52
    priority 255
    advert_int 0.1
    virtual_ipaddress {
        10.98.0.1/32
    }
}
"""
"""Another instance of the router, master all the time."""


def latest(times: list[float]) -> float:
    """The longest interval beyond 0.1 s, in ms."""
    return 1000 * (max(later - earlier for earlier, later in pairwise(times)) - 0.1)


def crowd(program: str, count: int) -> Figures:
    """`count` addresses come and go at 0.1 s: adverts of a third router, and how late those of another instance are."""
    with Rig() as rig:
        stage = Stage(rig)
        third = rig.host("third")
        third.plug(stage.lan, "eth0", "10.0.0.3/16")
        addresses = vips(count)
        stage.router.start(program, config(10, addresses) + BYSTANDER)
        third.start(program, config(10, addresses, priority=50))

        def adverts(vrid: int, source: str, since: float) -> list[Frame]:
            return [
                each for each in stage.wire.adverts(source) if each.vrrp and each.vrrp[1] == vrid if each.time > since
            ]

        rig.wait(lambda: adverts(52, "10.0.0.1", 0.0), 20)
        began = stage.play_master(10, 2.0, addresses)
        rig.wait(lambda: stage.router.has(addresses[-1]), 60)
        time.sleep(2.0)
        turned = stage.play_master(10, 0.15, addresses)
        rig.wait(lambda: not stage.router.addresses() & set(addresses), 60)
        time.sleep(0.2)
        others = [each.time for each in adverts(52, "10.0.0.1", began)]
        return {
            "masters beside the new one (adverts)": sum(each.time < turned for each in adverts(51, "10.0.0.3", began)),
            "another instance's latest advert while they come": latest([each for each in others if each < turned]),
            "another instance's latest advert while they go": latest([each for each in others if each > turned - 0.2]),
        }


def flood(program: str, rate: int) -> Figures:
    """`rate` adverts a second for VRIDs of others on the link: how late our own are, and what the worker spends."""
    with Rig() as rig:
        stage = Stage(rig)
        daemon = stage.router.start(program, config(10, [VIP], 255, "MASTER"))
        rig.wait(stage.sent, 20)
        time.sleep(1.0)
        stage.wire.close()  # it would take the processor that the flood is made with
        file = rig.directory / "own.pcap"
        there = ["ip", "netns", "exec", stage.other.namespace]
        own = "ip proto 112 and src 10.0.0.1"
        tcpdump = [*there, "tcpdump", "-Z", "root", "-i", "eth0", "-U", "-w", str(file), own]
        watch = subprocess.Popen(tcpdump, stderr=subprocess.DEVNULL)
        rig.wait(lambda: file.exists() and file.stat().st_size, 20)
        words = [*there, sys.executable, "-m", "tests.bench.flood", str(rate), str(brief(5))]
        pid = daemon.pid_of("vrrp")
        began, used = time.monotonic(), cpu(pid)
        sent = int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        took, used = time.monotonic() - began, cpu(pid) - used
        time.sleep(0.3)
        watch.terminate()
        watch.wait()
        return {
            "latest own advert (ms)": latest([moment for moment, _ in frames(file.read_bytes())]),
            "adverts of others a second": sent / took,
            "processor of the worker (%)": 100 * used / took,
        }


PROBE_EVERY = 0.001
PROBE_PORT = 7777


@contextlib.contextmanager
def echoing(host: Host) -> Iterator[None]:
    """Whoever sends a datagram to this host gets it back."""
    with inside(host.namespace):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("", PROBE_PORT))
    sock.settimeout(0.2)
    running = True

    def serve() -> None:
        while running:
            with contextlib.suppress(OSError):
                sock.sendto(*sock.recvfrom(64))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        running = False
        thread.join()
        sock.close()


class Probes:
    """A datagram to `address` each millisecond; which of them came back."""

    def __init__(self, host: Host, address: str) -> None:
        with inside(host.namespace):
            self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.settimeout(0.2)
        self._target = (address, PROBE_PORT)
        self._sent: list[float] = []
        self._answered: set[int] = set()
        self._running = True
        self._threads = [threading.Thread(target=each) for each in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        while self._running:
            with contextlib.suppress(OSError):
                self._sock.sendto(len(self._sent).to_bytes(4), self._target)
            self._sent.append(time.monotonic())
            time.sleep(PROBE_EVERY)

    def _receive(self) -> None:
        while self._running:
            with contextlib.suppress(OSError):
                self._answered.add(int.from_bytes(self._sock.recv(64)))

    def close(self) -> float:
        """End; the longest time between two probes that were answered, in seconds."""
        time.sleep(0.2)
        self._running = False
        for thread in self._threads:
            thread.join()
        self._sock.close()
        answered = [self._sent[number] for number in sorted(self._answered)]
        return max(later - earlier for earlier, later in pairwise(answered))


def switchover(program: str, interval: int) -> Figures:
    """The master is told to stop while a client asks its address a thousand times a second; in ms."""
    with Rig() as rig:
        lan = rig.switch("lan")
        one, two, client = rig.host("one"), rig.host("two"), rig.host("client")
        for number, host in enumerate((one, two, client), 1):
            host.plug(lan, "eth0", f"10.0.0.{number}/16")
        client.run("ip", "route", "add", f"{VIP}/32", "dev", "eth0")
        wire: Capture = client.capture("eth0")
        with echoing(one), echoing(two):
            master = one.start(program, config(interval, [VIP], 200))
            two.start(program, config(interval, [VIP]))
            rig.wait(lambda: one.has(VIP) and len(wire.adverts("10.0.0.1")) > 2, 20)
            probes = Probes(client, VIP)
            time.sleep(0.5)
            asked = time.monotonic()
            master.signal(signal.SIGTERM)
            master.process.wait(20)
            ended = time.monotonic()
            rig.wait(lambda: two.has(VIP), 20)
            time.sleep(0.5)
            return {
                "without an owner, client's view": 1000 * probes.close(),
                "exit of the old master": 1000 * (ended - asked),
            }


BENCHES = (
    Bench(
        "crowd", "ms", crowd, sizes=(100, 4000), runs=3, label="{size} addresses at 0.1 s, other instances and routers"
    ),
    Bench("flood", "", flood, sizes=(1000, 20000), runs=3, label="flood of {size}/s for other VRIDs, own at 0.1 s"),
    Bench("switchover", "ms", switchover, sizes=(10, 100), runs=3, label="planned switchover at {size} cs"),
)

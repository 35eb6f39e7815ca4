"""Figures of VRRP: how late, how fast, how much. A made-up master on the wire says when the protocol's limit is."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from functools import partial
from itertools import pairwise

from keepalived_py.config.model import Address, VrrpInstance
from keepalived_py.values import Centiseconds, ip_address
from keepalived_py.vrrp.packet import encode
from keepalived_py.vrrp.timers import master_down_interval
from tests.bench import no_ipvs
from tests.bench.frame import Bench, Figures, brief
from tests.netns.rig import Capture, Frame, Host, Rig, children_of, inside
from workers.vrrp.rtnetlink import AddressNotice, messages, notice

VIP = "10.99.0.1"
PRIORITY = 100


def vips(count: int) -> list[str]:
    return [f"10.99.{number // 250}.{number % 250 + 1}" for number in range(count)]


def config(interval: int, addresses: list[str], priority: int = PRIORITY, state: str = "BACKUP") -> str:
    """One instance; the first address is advertised, the rest is held beside it."""
    rest = "\n".join(f"        {each}/32" for each in addresses[1:])
    return f"""
vrrp_instance VI_1 {{
    state {state}
    interface eth0
    version 3
    virtual_router_id 51
    priority {priority}
    advert_int {interval / 100}
    virtual_ipaddress {{
        {addresses[0]}/32
    }}
    virtual_ipaddress_excluded {{
{rest}
    }}
}}
"""


class Arrivals:
    """When addresses came to a host's interfaces, last."""

    def __init__(self, host: Host) -> None:
        self.times: dict[str, float] = {}
        with inside(host.namespace):
            self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            self._sock.bind((0, 0x10))
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
        self._sock.settimeout(0.2)
        self._running = True
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while self._running:
            with contextlib.suppress(OSError):
                data = self._sock.recv(1 << 18)
                at = time.monotonic()
                for kind, _, _, body in messages(data):
                    found = notice(kind, body)
                    if isinstance(found, AddressNotice) and found.present:
                        self.times[str(found.key.address)] = at

    def came(self, address: str, moment: float) -> bool:
        """It came after `moment`."""
        return self.times.get(address, 0.0) > moment

    def close(self) -> None:
        self._running = False
        self._thread.join()
        self._sock.close()


class Stage:
    """A router under test, and a host that plays the master."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.lan = lan = rig.switch("lan")
        self.router, self.other = rig.host("router"), rig.host("other")
        self.router.plug(lan, "eth0", "10.0.0.1/16")
        self.other.plug(lan, "eth0", "10.0.0.2/16")
        self.wire: Capture = self.other.capture("eth0")

    def sent(self) -> list[Frame]:
        """Adverts of the router under test."""
        return self.wire.adverts("10.0.0.1")

    def first_after(self, moment: float) -> float:
        """When it sent its first advert after `moment`; 0.0 for not yet."""
        return next((frame.time for frame in self.sent() if frame.time > moment), 0.0)

    def play_master(self, interval: int, seconds: float, addresses: list[str]) -> float:
        """Advertise VRID 51 with a higher priority, then fall silent; when the last advert was sent."""
        row = Address(address=ip_address(addresses[0]), prefixlen=32)
        other = VrrpInstance(
            name="x",
            interface="eth0",
            family=4,
            vrid=51,
            version=3,
            advert_int=Centiseconds(interval),
            addresses=(row,),
        )
        group, source = ip_address("224.0.0.18"), ip_address("10.0.0.2")
        message = encode(other, 200, source, group)
        with inside(self.other.namespace), socket.socket(socket.AF_INET, socket.SOCK_RAW, 112) as sock:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\0")
            due = time.monotonic()
            until = due + seconds
            while due < until:
                sock.sendto(message, (str(group), 0))
                last = time.monotonic()
                due += interval / 100
                time.sleep(max(0.0, due - time.monotonic()))
        return last


ROUNDS = {1: 20, 10: 12}
"""Takeovers of one run, by interval; one otherwise."""


def takeover(program: str, interval: int) -> Figures:
    """First advert and address after the protocol's limit, in ms."""
    adverts: list[float] = []
    addresses: list[float] = []
    with Rig() as rig:
        stage = Stage(rig)
        arrivals = Arrivals(stage.router)
        try:
            stage.router.start(program, config(interval, [VIP]))
            for _ in range(max(1, round(brief(ROUNDS.get(interval, 1))))):
                last = stage.play_master(interval, max(brief(1.5), 3 * interval / 100), [VIP])
                limit = last + master_down_interval(3, PRIORITY, Centiseconds(interval))
                rig.wait(partial(stage.first_after, last), 10)
                rig.wait(partial(arrivals.came, VIP, last), 10)
                adverts.append(1000 * (stage.first_after(last) - limit))
                addresses.append(1000 * (arrivals.times[VIP] - limit))
        finally:
            arrivals.close()
    return {"first advert": adverts, "address": addresses}


def many(program: str, count: int) -> Figures:
    """First advert to all addresses present, and to all announced once; the longest gap between adverts; in ms."""
    with Rig() as rig:
        stage = Stage(rig)
        arrivals = Arrivals(stage.router)
        try:
            addresses = vips(count)
            stage.router.start(program, config(10, addresses))
            stage.play_master(10, 2.0, addresses)
            rig.wait(lambda: len(arrivals.times) >= count, 60)
            announced: dict[bytes, float] = {}

            def all_announced() -> bool:
                announced.clear()
                for frame in list(stage.wire.frames):
                    if frame.protocol == 0x0806 and frame.data[28:32] == frame.data[38:42]:
                        announced.setdefault(frame.data[28:32], frame.time)
                return len(announced) >= count

            rig.wait(all_announced, 60, 0.2)
            time.sleep(1.0)
            adverts = [frame.time for frame in stage.sent()]
            gaps = [later - earlier for earlier, later in pairwise(adverts)]
            return {
                "all present": 1000 * (max(arrivals.times[each] for each in addresses) - adverts[0]),
                "all announced once": 1000 * (max(announced.values()) - adverts[0]),
                "latest advert": 1000 * (max(gaps) - 0.1),
            }
        finally:
            arrivals.close()


SERVICE = "virtual_server 10.9.9.9 {} {{\n protocol TCP\n real_server 127.0.0.1 80 {{\n TCP_CHECK {{\n }}\n }}\n}}\n"


def owner(program: str, services: int) -> Figures:
    """From exec to the first advert of an address owner, in ms; its services are there before (no_ipvs.py)."""
    with Rig() as rig:
        stage = Stage(rig)
        text = config(100, [VIP], 255, "MASTER") + "".join(SERVICE.format(port) for port in range(1, services + 1))
        command = no_ipvs.command(program, rig.directory) if services else ()
        started = time.monotonic()
        stage.router.start(program, text, command=command)
        rig.wait(stage.sent, 10)
        return {"first advert": 1000 * (stage.sent()[0].time - started)}


def stop(program: str, _: int) -> Figures:
    """From SIGTERM to the farewell and to the exit, in ms."""
    with Rig() as rig:
        stage = Stage(rig)
        daemon = stage.router.start(program, config(100, [VIP], 255, "MASTER"))
        rig.wait(stage.sent, 10)
        time.sleep(1.5)
        asked = time.monotonic()
        daemon.stop()
        ended = time.monotonic()
        farewells = [frame for frame in stage.sent() if frame.vrrp and frame.vrrp[2] == 0]
        return {"farewell": 1000 * (farewells[0].time - asked), "exit": 1000 * (ended - asked)}


def drift(program: str, seconds: int) -> Figures:
    """Mean deviation of the advert interval of 0.1 s, and the worst, in us."""
    with Rig() as rig:
        stage = Stage(rig)
        stage.router.start(program, config(10, [VIP], 255, "MASTER"))
        rig.wait(stage.sent, 10)
        time.sleep(seconds)
        times = [frame.time for frame in stage.sent()][2:]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        return {
            "mean": 1e6 * ((times[-1] - times[0]) / (len(times) - 1) - 0.1),
            "worst": 1e6 * max(abs(gap - 0.1) for gap in gaps),
        }


def worker_killed(program: str, _: int) -> Figures:
    """Longest silence when the VRRP worker of a master at 0.1 s is killed, in ms."""
    with Rig() as rig:
        stage = Stage(rig)
        daemon = stage.router.start(program, config(10, [VIP], 255, "MASTER"))
        rig.wait(stage.sent, 10)
        time.sleep(0.5)
        os.kill(daemon.pid_of("vrrp"), signal.SIGKILL)
        time.sleep(2.0)
        gaps = [later.time - earlier.time for earlier, later in pairwise(stage.sent())]
        return {"silence": 1000 * max(gaps)}


def memory(program: str, _: int) -> Figures:
    """Proportional set size of the parent and the VRRP worker, idle, in MB."""
    with Rig() as rig:
        stage = Stage(rig)
        daemon = stage.router.start(program, config(100, [VIP]))
        time.sleep(2.0)
        pids = [daemon.process.pid, *children_of(daemon.process.pid)]
        return {"total": sum(pss(pid) for pid in pids)}


def pss(pid: int) -> float:
    """Proportional set size in MB."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:")) / 1024


def reload_loop(program: str, seconds: int) -> Figures:
    """A reload each second, an address more or less each time: changes of state, and announcements of the others."""
    with Rig() as rig:
        lan = rig.switch("lan")
        one = rig.host("one")
        one.plug(lan, "eth0", "10.0.0.1/24")
        watch = lan.capture()
        few, more = vips(20), vips(21)
        daemon = one.start(program, config(10, few, 255, "MASTER"))
        rig.wait(lambda: one.has(few[-1]), 10)
        time.sleep(brief(7.0))  # the second burst of announcements is over
        seen = len(watch.frames)
        losses = 0
        for number in range(seconds):
            daemon.rewrite(config(10, few if number % 2 else more, 255, "MASTER"))
            daemon.signal(signal.SIGHUP)
            until = time.monotonic() + 1.0
            while time.monotonic() < until:
                losses += not one.has(few[0])
                time.sleep(0.05)
        adverts = [frame for frame in watch.adverts() if frame.time > watch.frames[seen].time]
        gaps = [later.time - earlier.time for earlier, later in pairwise(adverts)]
        told = sum(frame.time > watch.frames[seen].time for frame in watch.announcements(few[5]))
        farewells = sum(frame.vrrp is not None and frame.vrrp[2] == 0 for frame in adverts)
        daemon.stop()
    return {
        "farewells": farewells,
        "times the address was missing": losses,
        "announcements of an untouched address": told,
        "longest silence (s)": max(gaps),
    }


PER_LINK = 250
"""VRIDs used on each interface."""


def many_instances(count: int) -> str:
    """Instances at 0.1 s with an address each, on as many interfaces as their VRIDs need."""
    return "".join(
        f"""
vrrp_instance VI_{number} {{
    interface eth{number // PER_LINK}
    version 3
    virtual_router_id {number % PER_LINK + 1}
    priority {PRIORITY}
    advert_int 0.1
    garp_master_repeat 1
    garp_master_delay 0
    virtual_ipaddress {{
        10.{99 + number // PER_LINK}.0.{number % PER_LINK + 1}/32
    }}
}}
"""
        for number in range(count)
    )


def cpu(pid: int) -> float:
    """User and system time of a process, in seconds."""
    with open(f"/proc/{pid}/stat") as file:
        behind_name = file.read().rpartition(")")[2].split()
    return (int(behind_name[11]) + int(behind_name[12])) / os.sysconf("SC_CLK_TCK")


DUMPS = 3


def instances(program: str, count: int) -> Figures:
    """First advert to all masters, in ms; adverts a second; CPU for each, in us; how late the p99 and the last are.

    And how late the last one is while somebody asks for dumps.
    """
    with Rig() as rig:
        router = rig.host("router")
        wires = []
        for number in range((count + PER_LINK - 1) // PER_LINK):
            lan = rig.switch(f"lan{number}")
            router.plug(lan, f"eth{number}", f"10.{number}.0.1/16")
            wires.append(lan.capture())
        daemon = router.start(program, many_instances(count))

        def seen() -> dict[tuple[int, int], list[float]]:
            found: dict[tuple[int, int], list[float]] = {}
            for link, wire in enumerate(wires):
                for frame in wire.adverts():
                    found.setdefault((link, frame.vrrp[1] if frame.vrrp else 0), []).append(frame.time)
            return found

        rig.wait(lambda: len(seen()) == count, 30, 0.5)
        firsts = [times[0] for times in seen().values()]
        time.sleep(brief(1.0))
        pid, period = daemon.pid_of("vrrp"), brief(5.0)
        begin, used = time.monotonic(), cpu(pid)
        time.sleep(period)
        end, used = time.monotonic(), cpu(pid) - used
        for _ in range(DUMPS):
            daemon.signal(signal.SIGUSR1)
            time.sleep(brief(1.0))
        dumped = time.monotonic()

        def between(start: float, stop: float) -> list[list[float]]:
            return [[each for each in times if start <= each <= stop] for times in seen().values()]

        def lateness(start: float, stop: float) -> list[float]:
            return sorted(b - a - 0.1 for times in between(start, stop) for a, b in pairwise(times))

        late, sent = lateness(begin, end), sum(map(len, between(begin, end)))
        return {
            "all masters (ms)": 1000 * (max(firsts) - min(firsts)),
            "adverts a second": sent / (end - begin),
            "CPU for an advert (us)": 1e6 * used / sent,
            "late, p99 (ms)": 1000 * late[len(late) * 99 // 100],
            "late, worst (ms)": 1000 * late[-1],
            "late while dumps are asked for, worst (ms)": 1000 * lateness(end, dumped)[-1],
        }


BENCHES = (
    Bench("takeover", "ms", takeover, sizes=(1, 10, 100), runs=7, label="takeover at {size} cs"),
    Bench("addresses", "ms", many, sizes=(100, 1000, 4000), label="{size} addresses"),
    Bench("instances", "", instances, sizes=(50, 250, 1000), runs=3, label="{size} instances at 0.1 s"),
    Bench("owner", "ms", owner, sizes=(0, 5), label="exec of an owner, {size} virtual servers"),
    Bench("stop", "ms", stop, label="SIGTERM"),
    Bench("drift", "us", drift, sizes=(3, 10), runs=3, label="drift over {size} s"),
    Bench("worker-killed", "ms", worker_killed, ours_only=True, label="VRRP worker killed at 0.1 s"),
    Bench("memory", "MB", memory, runs=3, label="idle memory, parent and VRRP"),
    Bench(
        "reload-loop",
        "",
        reload_loop,
        sizes=(3, int(os.environ.get("SECONDS_OF_RELOADS", "10"))),
        runs=1,
        label="a reload a second for {size} s, advert_int 0.1",
    ),
)

"""Where a story plays: routers on one switch, foreign things beside them, and what must hold whatever happens.

Never two masters on a connected link longer than one interval beyond what the protocol needs; never nobody longer than
master_down_interval and skew; nothing left behind after the stop; nothing foreign touched; no traceback; every cause in
the log is one that the story has.
"""

from __future__ import annotations

import json
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from tests.netns.rig import OURS, Capture, Daemon, Host, Rig, patience
from tests.netns.test_vrrp_takeover import VIP4 as VIP
from tests.netns.test_vrrp_takeover import config
from tests.torture.record import Record

NAMES = ("one", "two", "three")
PRIORITIES = {"one": 150, "two": 100, "three": 50}
GAP_SLACK, DOUBLE_SLACK = 0.3, 0.1
"""Seconds for scheduling on a busy machine, beside what the protocol has."""
CAUSES = (
    "startup",
    "master down timer expired",
    "Master received advert from",
    "taken over from the process that died",
    "faults are gone",
)
"""Reasons of transitions that every story may have."""
TRANSITION = re.compile(r"\((\S+)\) Entering (\w+) STATE \((.*)\)")
FOREIGN = (
    "ip addr add 10.0.0.77/24 dev eth0",
    "ip route add 10.66.0.0/16 via 10.0.0.9",
    "ip rule add from 10.66.0.0/16 table 66 preference 6600",
    "nft add table ip foreign",
    "nft add chain ip foreign keep",
)
PARTS = ("addresses", "routes", "rules", "tables", "settings")
STATE = (
    "ip -4 -j route show table all",
    "ip -j rule",
    "nft list ruleset",
    "sysctl -a --pattern net.ipv4.conf.(all|eth0).(arp_ignore|arp_filter|arp_announce|rp_filter|promote_secondaries)",
)


@dataclass(slots=True)
class Verdict:
    """What was seen with one program."""

    facts: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "; ".join(self.facts + [f"NOT: {each}" for each in self.broken])


class Arena:
    """One run of one story with one program."""

    def __init__(self, rig: Rig, program: str, routers: int = 2, interval: float = 0.2) -> None:
        self.rig, self.program, self.interval = rig, program, interval
        self.lan = rig.switch("lan")
        self.hosts = {name: rig.host(name) for name in NAMES[:routers]}
        for number, host in enumerate(self.hosts.values(), 1):
            host.plug(self.lan, "eth0", f"10.0.0.{number}/24")
            for command in FOREIGN:
                host.run(*command.split(), check=False)  # not every kernel has tables of nftables
        self.client = rig.host("client")
        self.client.plug(self.lan, "eth0", "10.0.0.9/24")
        self.before = {name: state(host) for name, host in self.hosts.items()}
        self.record = Record(self.hosts.values(), VIP)
        self.daemons: dict[str, Daemon] = {}
        self.verdict = Verdict()
        self.causes: tuple[str, ...] = CAUSES
        self.allowed_gap = (3 + (256 - min(PRIORITIES[name] for name in self.hosts)) / 256) * interval + GAP_SLACK
        self.allowed_double = interval + DOUBLE_SLACK
        self.since = time.monotonic()

    # what stories do ----------------------------------------------------------------------------------------------

    def config(self, name: str, *extra: str) -> str:
        return config(PRIORITIES[name], 3, 4, *extra, interval=f"{self.interval:g}")

    def start(self, name: str, text: str = "", *options: str, before: tuple[str, ...] = ()) -> Daemon:
        """`before`: a program that executes the daemon."""
        command = (*before, *executable(self.program)) if before else ()
        daemon = self.hosts[name].start(self.program, text or self.config(name), *options, command=command)
        self.daemons[name] = daemon
        return daemon

    def begin(self, *extra: str) -> None:
        """Start every router and wait until the first is the only master; judged from then on."""
        for name in self.hosts:
            self.start(name, self.config(name, *extra))
        self.settle("one")

    def settle(self, name: str, within: float = 15) -> None:
        """Wait until `name` alone has held the address for three intervals."""
        self.rig.wait(lambda: self.holders() == [name], within)
        self.rig.holds(lambda: self.holders() == [name], 3 * self.interval)
        self.since = time.monotonic()

    def settle_later(self, name: str) -> None:
        """`name` must be the only master in the end; the times until then count."""
        self.until(lambda: self.holders() == [name], 15, f"{name} is the only master in the end")

    def transitions(self) -> int:
        """How often the address came or went since the beginning."""
        return sum(at > self.since for owner in self.record.owners.values() for at, _ in owner.changes)

    def latest_advert(self, wire: Capture, source: str = "10.0.0.1") -> float:
        """By how many ms the latest advert of a router missed its interval."""
        times = [frame.time for frame in wire.adverts(source)]
        return 1000 * (max(later - earlier for earlier, later in pairwise(times)) - self.interval)

    def holders(self) -> list[str]:
        return [name for name, owner in self.record.owners.items() if owner.changes and owner.changes[-1][1]]

    def until(self, condition: Callable[[], object], within: float, what: str) -> None:
        """Wait for what must come true."""
        until = time.monotonic() + patience(within)
        while not condition():
            if time.monotonic() > until:
                self.must(False, what)
                return
            time.sleep(0.02)

    def must(self, condition: object, what: str) -> None:
        if not condition and what not in self.verdict.broken:
            self.verdict.broken.append(what)

    def say(self, fact: str) -> None:
        self.verdict.facts.append(fact)

    @contextmanager
    def away(self, name: str) -> Iterator[None]:
        """Clients do not reach this router."""
        with self._span(self.record.owners[name].away):
            yield

    @contextmanager
    def frozen(self, *names: str) -> Iterator[None]:
        """These cannot know that there is another master."""
        spans = [self._begun(self.record.owners[name].frozen) for name in names]
        try:
            yield
        finally:
            for span in spans:
                span[1] = time.monotonic()

    @contextmanager
    def _span(self, spans: list[list[float]]) -> Iterator[None]:
        span = self._begun(spans)
        try:
            yield
        finally:
            span[1] = time.monotonic()

    @staticmethod
    def _begun(spans: list[list[float]]) -> list[float]:
        spans.append([time.monotonic(), float("inf")])
        return spans[-1]

    @contextmanager
    def dead(self, name: str) -> Iterator[None]:
        """The daemon is killed with everything; its addresses stay, and its link is out, as when a machine dies."""
        with self.away(name):
            self.hosts[name].cut("eth0")
            self.daemons[name].kill()
            yield
            self.hosts[name].run("ip", "addr", "del", f"{VIP}/24", "dev", "eth0", check=False)
            self.hosts[name].restore("eth0")

    def signal(self, name: str, number: int) -> None:
        with suppress(ProcessLookupError):
            self.daemons[name].signal(number)

    # what must hold -----------------------------------------------------------------------------------------------

    def finish(self) -> Verdict:
        """One master in the end, judge the times, stop everything, look at what is left."""
        self.until(lambda: len(self.holders()) == 1, 15, "one master in the end")
        time.sleep(2 * self.interval)
        now = time.monotonic()
        double, gap = self.record.double(self.since, now), self.record.gap(self.since, now)
        self.verdict.facts.insert(0, f"double {double:.2f} s, nobody {gap:.2f} s")
        self.must(double <= self.allowed_double, f"two masters for at most {self.allowed_double:.2f} s")
        self.must(gap <= self.allowed_gap, f"nobody for at most {self.allowed_gap:.2f} s")
        for name, daemon in self.daemons.items():
            self._stop(name, daemon)
        self.record.close()
        return self.verdict

    def _stop(self, name: str, daemon: Daemon) -> None:
        self.must(daemon.process.poll() is None, f"{name} still runs")
        try:
            self.must(daemon.stop(10) == 0, f"{name} stops with 0")
        except Exception:
            self.must(False, f"{name} stops")
            daemon.kill()
        after = state(self.hosts[name])
        for what, old, new in zip(PARTS, self.before[name], after, strict=True):
            self.must(old == new, f"{what} of {name} as before")
        self.must(not list(daemon.directory.glob("*.pid")), f"no pid file of {name} stays")
        log = daemon.log
        self.must("Traceback" not in log and "internal error" not in log, f"no traceback of {name}")
        if self.program == OURS:
            for _, new, reason in TRANSITION.findall(log):
                self.must(reason.startswith(self.causes), f"a true cause ({name} entered {new}: {reason})")


def executable(program: str) -> tuple[str, ...]:
    return (str(Path(sys.executable).with_name(OURS)) if program == OURS else program,)


def state(host: Host) -> list[object]:
    """What belongs to others once the daemon has gone."""
    links = {
        link["ifname"]: (
            "UP" in link["flags"],
            sorted(each["local"] for each in link["addr_info"] if each["family"] == "inet"),
        )
        for link in json.loads(host.run("ip", "-j", "addr"))
    }
    return [links, *(host.run(*command.split(), check=False) for command in STATE)]


STOPPED, GOES_ON = signal.SIGSTOP, signal.SIGCONT

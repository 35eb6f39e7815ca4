"""Stories of a load balancer, and what its table must be: told from opinions and configuration, without the product.

The opinions of checkers that connect are taken from them. What files and scripts say of weights, the memory of the
quorum, which services a virtual server has and what several make of one are told here a second time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field, replace
from ipaddress import IPv4Address
from typing import Any

from hypothesis import strategies as st

from keepalived_py.checks.virtual_server import Destination
from keepalived_py.config.model import (
    Check,
    CheckerConfig,
    CheckerSlice,
    CheckTiming,
    Endpoint,
    FileCheck,
    Forwarding,
    GlobalDefs,
    GroupRange,
    HttpCheck,
    HttpUrl,
    IpvsSettings,
    MiscCheck,
    RealServer,
    Script,
    SorryServer,
    TcpCheck,
    VirtualServer,
)
from keepalived_py.plan import ipvs
from keepalived_py.records import dataclass
from keepalived_py.values import Protocol, RealKey, ServiceKey, ip_address
from workers.checker.task import CheckerTask
from workers.checker.worker import CheckerWorker

LIMIT = 2**31 - 1
NEVER = 1e6
FILES = ("a", "b")
HOME = ip_address("10.0.0.2")
"""The address of a virtual server that comes and goes."""

# configurations -------------------------------------------------------------------------------------------------------


def timing(draw: st.DrawFn, **changes: Any) -> CheckTiming:
    return CheckTiming(
        alpha=draw(st.booleans()),
        retry=draw(st.integers(0, 1)),
        rise=draw(st.integers(1, 2)),
        delay_loop=NEVER,
        delay_before_retry=NEVER,
        share=False,
        **changes,
    )


@st.composite
def checks(draw: st.DrawFn) -> tuple[Check, ...]:
    """One of a kind at most: two equal ones could not be told apart in a reload."""
    found: list[Check] = []
    for kind in sorted(draw(st.sets(st.sampled_from(["tcp", "http", "misc", "file"]), max_size=2))):
        endpoint = Endpoint(address=ip_address("127.0.0.1"), port=1)
        match kind:
            case "tcp":
                found.append(TcpCheck(timing=timing(draw), endpoint=endpoint))
            case "http":
                urls = (HttpUrl(path="/a"), HttpUrl(path="/b"))
                found.append(HttpCheck(timing=timing(draw), endpoint=endpoint, urls=urls))
            case "misc":
                dynamic = draw(st.booleans())
                script = Script(argv=("true",))
                found.append(MiscCheck(timing=timing(draw), script=script, timeout=1, dynamic=dynamic))
            case "file":
                weight, reverse = draw(st.sampled_from([0, 1, -1, 253, LIMIT])), draw(st.booleans())
                file = draw(st.sampled_from(FILES))
                found.append(FileCheck(timing=CheckTiming(), track_file=file, weight=weight, reverse=reverse))
    return tuple(found)


@st.composite
def real_servers(draw: st.DrawFn) -> tuple[RealServer, ...]:
    return tuple(
        RealServer(
            address=ip_address(f"10.1.0.{number}"),
            port=80,
            weight=draw(st.sampled_from([0, 1, 3, LIMIT])),
            inhibit_on_failure=draw(st.booleans()),
            uthreshold=draw(st.sampled_from([0, 5])),
            checks=draw(checks()),
        )
        for number in sorted(draw(st.sets(st.integers(1, 4), max_size=4)))
    )


KEYS = (
    ServiceKey(protocol=Protocol.TCP, address=ip_address("10.0.0.1"), port=80, family=4),
    ServiceKey(protocol=Protocol.TCP, address=HOME, port=80, family=4),
    ServiceKey(protocol=Protocol.TCP, group="g", family=4),
    ServiceKey(protocol=Protocol.TCP, group="g", family=4, ordinal=1),
    ServiceKey(fwmark=5, family=4),
)


@st.composite
def virtual_servers(draw: st.DrawFn) -> tuple[VirtualServer, ...]:
    """In any order: an address, one with ha_suspend, a group twice, which may be the first address too, and a mark.

    With DR all real servers of one address are one row of a group, whatever their ports.
    """
    chosen = draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=4, unique=True))
    start = ip_address(draw(st.sampled_from(["10.0.1.1", "10.0.0.1"])))
    entries = (
        GroupRange(first=start, last=start + draw(st.integers(0, 1)), port=80),
        GroupRange(first=start, last=start, port=80),
        GroupRange(fwmark=draw(st.integers(5, 6)), family=4),
    )
    found = []
    for key in chosen:
        reals, sorry = draw(real_servers()), None
        if draw(st.booleans()):
            address = ip_address(f"10.1.0.{draw(st.sampled_from([1, 9]))}")  # 1: a real server too
            sorry = SorryServer(address=address, port=80, inhibit=draw(st.booleans()))
        if key.group and draw(st.booleans()):
            direct = [replace(real, forwarding=Forwarding(method="DR")) for real in reals]
            reals = (*direct, *(replace(real, port=81) for real in direct[:2]))
        quorum, hysteresis = draw(st.sampled_from([(1, 0), (3, 2), (4, 1), (LIMIT, 0)]))
        found.append(
            VirtualServer(
                key=key,
                real_servers=reals,
                sorry_server=sorry,
                scheduler=draw(st.sampled_from(["rr", "wlc"])),
                persistence_timeout=draw(st.sampled_from([0, 50])),
                quorum=quorum,
                hysteresis=hysteresis,
                ha_suspend=key.address == HOME,
                group_entries=entries if key.group else (),
            )
        )
    return tuple(found)


class Plan:
    """A configuration that is short to read where a story has failed."""

    def __init__(self, config: CheckerSlice) -> None:
        self.config = config

    def __repr__(self) -> str:
        servers = self.config.checker.virtual_servers
        lines = (f"nftables {self.config.global_defs.ipvs.nftables_table!r}", *map(_in_short, servers))
        return "Plan(" + "; ".join(lines) + ")"


def _in_short(config: VirtualServer) -> str:
    sorry = config.sorry_server
    spare = f", sorry {sorry.address}{' inhibit' * sorry.inhibit}" if sorry is not None else ""
    reals = [
        f"{real.address}:{real.port} {real.forwarding.method} {real.weight}{' inhibit' * real.inhibit_on_failure} "
        + " ".join(map(_check_in_short, real.checks))
        for real in config.real_servers
    ]
    how = f"{config.scheduler} {config.persistence_timeout}"
    entries = [f"{entry.first}-{entry.last} {entry.fwmark}" for entry in config.group_entries]
    return f"{config.key} {entries} {how} quorum {config.quorum}+-{config.hysteresis}{spare}, {reals}"


def _check_in_short(check: Check) -> str:
    alpha = " alpha" * check.timing.alpha
    match check:
        case FileCheck():
            return f"[file {check.track_file} * {check.weight}{' reverse' * check.reverse}]"
        case MiscCheck():
            return f"[misc{' dynamic' * check.dynamic}{alpha}]"
    return f"[{type(check).__name__}{alpha}]"


@st.composite
def configurations(draw: st.DrawFn) -> Plan:
    """Marks of nftables_ipvs begin with one that may stand in the file."""
    table = draw(st.sampled_from(["", "", "mine"]))
    settings = IpvsSettings(nftables_table=table, nftables_start_fwmark=5)
    checker = CheckerConfig(virtual_servers=draw(virtual_servers()))
    return Plan(CheckerSlice(global_defs=GlobalDefs(ipvs=settings), checker=checker))


TWEAKS = ("weight", "inhibit", "checks", "alpha", "drop", "quorum", "sorry", "scheduler", "order", "threshold")


def tweaked(config: CheckerSlice, kind: str, number: int) -> CheckerSlice:
    """The same but for one thing, of one virtual server and one of its real servers."""
    servers = list(config.checker.virtual_servers)
    at = number % len(servers)
    server = servers[at]
    reals = list(server.real_servers)
    if reals:
        index = number // len(servers) % len(reals)
        real = reals.pop(index)
        if kind != "drop":
            reals.insert(index, _tweaked_real(real, kind, number))
    match kind:
        case "quorum":
            server = replace(server, quorum=1 + number % 4, hysteresis=0)
        case "sorry":
            server = replace(server, sorry_server=None)
        case "scheduler":
            server = replace(server, scheduler="sh")
    servers[at] = replace(server, real_servers=tuple(reals))
    if kind == "order":
        servers.reverse()
    return replace(config, checker=replace(config.checker, virtual_servers=tuple(servers)))


def _tweaked_real(real: RealServer, kind: str, number: int) -> RealServer:
    match kind:
        case "weight":
            return replace(real, weight=number % 5)
        case "inhibit":
            return replace(real, inhibit_on_failure=not real.inhibit_on_failure)
        case "threshold":
            return replace(real, uthreshold=number % 3)
        case "checks":
            return replace(real, checks=real.checks[1:])
        case "alpha":
            timings = (replace(check.timing, alpha=not check.timing.alpha) for check in real.checks)
            return replace(
                real,
                checks=tuple(replace(check, timing=each) for check, each in zip(real.checks, timings, strict=True)),
            )
    return real


# the table they mean --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a checker thinks: `weight` is what it makes of the configured one, None for nothing."""

    up: bool
    points: int = 0


Name = tuple[ServiceKey, RealKey, Check]


@dataclass(slots=True)
class World:
    """What is outside of the worker, and what is remembered of it."""

    files: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FILES, 0))
    here: bool = True
    """Whether this host has the address HOME."""
    said: dict[Name, int | None] = field(default_factory=dict)
    """The weight that a script has said last, None where it had no wish."""
    quorums: dict[ServiceKey, bool] = field(default_factory=dict)
    opinions: dict[int, Opinion] = field(default_factory=dict)
    """By the number of the task."""

    def opinion(self, worker: CheckerWorker, task: CheckerTask) -> Opinion:
        check = task.config
        if isinstance(check, FileCheck):
            return followed(check, self.files[check.track_file])
        wish = self.said.get(name(task))
        return Opinion(task.state.up, 0 if wish is None else wish - weight_of(worker, task))

    def forget(self, worker: CheckerWorker) -> None:
        """After a reload: what is not there has said nothing, and all that is there counts at once."""
        tasks = list(worker._all_tasks())
        names = {name(task) for task in tasks}
        self.said = {each: wish for each, wish in self.said.items() if each in names}
        self.opinions = {task.number: self.opinion(worker, task) for task in tasks}
        self.quorums = {key: self.quorums.get(key, False) for key in worker.states}
        for key in worker.states:
            self.recount(worker, key)

    def hear(self, worker: CheckerWorker) -> None:
        """One opinion after the other."""
        for task in worker._all_tasks():
            self.opinions[task.number] = self.opinion(worker, task)
            self.recount(worker, task.service)

    def recount(self, worker: CheckerWorker, key: ServiceKey) -> None:
        config = worker.states[key].config
        live = sum(weight for weight, alive in self.servers(worker, config).values() if alive)
        least = config.quorum - config.hysteresis if self.quorums[key] else config.quorum + config.hysteresis
        self.quorums[key] = live >= max(least, 1)

    def servers(self, worker: CheckerWorker, config: VirtualServer) -> dict[RealKey, tuple[int, bool]]:
        """Weight of each, and whether it is alive."""
        found = {}
        for real in config.real_servers:
            opinions = [self.opinions[task.number] for task in worker.tasks[config.key][real.key]]
            weight = min(LIMIT, max(0, real.weight + sum(each.points for each in opinions)))
            found[real.key] = weight, all(each.up for each in opinions)
        return found

    def rows(self, worker: CheckerWorker, config: VirtualServer) -> list[tuple[RealKey, ipvs.Destination]]:
        found, sorry = self.servers(worker, config), config.sorry_server
        fallback = sorry is not None and not self.quorums[config.key]
        rows = {}
        for real in config.real_servers:
            weight, alive = found[real.key]
            serves = alive and not fallback
            if serves or real.inhibit_on_failure:
                rows[real.key] = Destination(weight if serves else 0, real.forwarding, real.uthreshold, real.lthreshold)
        if sorry is not None and fallback:
            rows[sorry.key] = Destination(1, sorry.forwarding)
        elif sorry is not None and sorry.inhibit:
            rows.setdefault(sorry.key, Destination(0, sorry.forwarding))
        return list(rows.items())

    def table(self, worker: CheckerWorker) -> ipvs.Table:
        """Of a service of several the first in the file says how it works; of a row the greatest weight counts."""
        table: ipvs.Table = {}
        for config in worker.config.checker.virtual_servers:
            flags = ipvs.PERSISTENT if config.persistence_timeout else 0
            service = ipvs.Service(config.scheduler, flags, config.persistence_timeout)
            for id in services(worker, config):
                entry = table.setdefault(id, ipvs.Entry(service))
                for real, row in self.rows(worker, config):
                    place = real if row.forwarding.method == "NAT" else RealKey(real.address, id.port)
                    known = entry.destinations.get(place)
                    if known is None or known.weight < row.weight:
                        entry.destinations[place] = row
        return table


def told(table: ipvs.Table) -> dict[str, tuple[object, ...]]:
    """A table in words, which are compared more readably."""
    return {
        f"{id.family} {id}": (
            entry.service,
            {
                f"{key.address}:{key.port}": (row.forwarding.method, row.weight, row.uthreshold)
                for key, row in entry.destinations.items()
            },
        )
        for id, entry in table.items()
    }


def name(task: CheckerTask) -> Name:
    """What stays the same as long as a checker is matched in reloads."""
    return task.service, task.real, replace(task.config, timing=CheckTiming())


def weight_of(worker: CheckerWorker, task: CheckerTask) -> int:
    return worker.states[task.service].reals[task.real].config.weight


def followed(check: FileCheck, value: int) -> Opinion:
    """checker-behaviour.md 4, FILE_CHECK."""
    if check.weight == 0:
        return Opinion(value != 0 if check.reverse else value == 0)
    points = -value * check.weight if check.reverse else value * check.weight
    return Opinion(True, min(points, LIMIT)) if points > -LIMIT - 1 else Opinion(False)


def services(worker: CheckerWorker, config: VirtualServer) -> Iterator[ipvs.ServiceId]:
    """With a mark of nftables_ipvs all addresses of a group are that mark."""
    key = config.key
    if key.address is not None:
        yield ipvs.ServiceId(4, key.protocol, key.address, key.port)
    elif key.fwmark:
        yield ipvs.ServiceId(4, fwmark=key.fwmark)
    mark = worker.table.marks.get((key.group, key.protocol))
    for entry in config.group_entries:
        if entry.first is None or entry.last is None:
            yield ipvs.ServiceId(4, fwmark=entry.fwmark)
        elif mark is not None:
            yield ipvs.ServiceId(4, fwmark=mark)
        else:
            for number in range(int(entry.first), int(entry.last) + 1):
                yield ipvs.ServiceId(4, key.protocol, IPv4Address(number), entry.port)

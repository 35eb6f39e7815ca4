"""What the table of a load balancer must be: told from opinions and configuration, without the product.

The opinions of checkers that connect are taken from them. What files and scripts say of weights, the memory of the
quorum, which services a virtual server has and what several make of one are told here a second time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field, replace
from ipaddress import IPv4Address

from keepalived_py.checks.virtual_server import Destination
from keepalived_py.config.model import Check, CheckerSlice, CheckTiming, FileCheck, VirtualServer
from keepalived_py.plan import ipvs
from keepalived_py.records import dataclass
from keepalived_py.values import RealKey, ServiceKey
from workers.checker.task import CheckerTask
from workers.checker.worker import CheckerWorker

from .balancer import FILES, LIMIT


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
    ups: dict[Name, bool | None] = field(default_factory=dict)
    """What checkers that look for themselves thought when there was time to remember; None: alpha alone said no."""

    def opinion(self, worker: CheckerWorker, task: CheckerTask) -> Opinion:
        check = task.config
        if isinstance(check, FileCheck):
            return followed(check, self.files[check.track_file])
        wish = self.said.get(name(task))
        return Opinion(task.state.up, 0 if wish is None else wish - weight_of(worker, task))

    def remember(self, worker: CheckerWorker) -> None:
        """Before a reload."""
        looking = (task for task in worker._all_tasks() if not isinstance(task.config, FileCheck))
        self.ups = {name(task): task.state.up or (None if _waits(task) else False) for task in looking}

    def follow(self, before: CheckerSlice, after: CheckerSlice) -> None:
        """A virtual server of a group is the same one where it is the n-th of its protocol, whatever its number."""
        now = {place: key for key, place in _places(after).items()}
        names = {key: now[place] for key, place in _places(before).items() if place in now}
        gone = {server.key for server in before.checker.virtual_servers if server.key.group} - names.keys()
        self.quorums = {names.get(key, key): had for key, had in self.quorums.items() if key not in gone}
        said, ups = self.said.items(), self.ups.items()
        self.said = {(names.get(key, key), real, check): wish for (key, real, check), wish in said if key not in gone}
        self.ups = {(names.get(key, key), real, check): up for (key, real, check), up in ups if key not in gone}

    def forget(self, worker: CheckerWorker) -> None:
        """After a reload: what is not there has said nothing, and all that is there counts at once."""
        tasks = list(worker._all_tasks())
        names = {name(task) for task in tasks}
        for task in tasks:
            up = self.ups.get(name(task), task.state.up)
            assert task.state.up == (not task.config.timing.alpha if up is None else up)
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


def _places(config: CheckerSlice) -> dict[ServiceKey, tuple[object, ...]]:
    keys = [server.key for server in config.checker.virtual_servers if server.key.group]
    alike = {key: [each for each in keys if (each.group, each.protocol) == (key.group, key.protocol)] for key in keys}
    return {key: (key.group, key.protocol, alike[key].index(key)) for key in keys}


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


def _waits(task: CheckerTask) -> bool:
    """For its first look, with alpha."""
    return task.config.timing.alpha and not task.state.has_run


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

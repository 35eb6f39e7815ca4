"""What the VRRP worker writes when it is asked: its state, its statistics, both as JSON (cli-and-signals.md 5)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from ipc.messages import DumpKind
from keepalived_py import dumpfile
from keepalived_py.clock import now
from keepalived_py.config.model import VrrpSlice
from keepalived_py.dump_process import DumpProcesses
from keepalived_py.records import dataclass
from keepalived_py.values import VirtualRouterKey
from keepalived_py.vrrp.dump_json import json_text
from keepalived_py.vrrp.dump_text import statistics_text
from keepalived_py.vrrp.engine import Engine
from keepalived_py.vrrp.examiner import Counters
from keepalived_py.vrrp.snapshot import InstanceSnapshot, snapshot

from . import dumps
from .dump_kernel import interfaces, sections_before
from .hearing import Hearing
from .instance import Instance
from .link_monitor import LinkMonitor
from .static_entries import StaticEntries
from .sysctl import Sysctls
from .trackers import Trackers

FEW = 20
"""Instances and addresses whose text is made in less time than a fork takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpWriter:
    """Whose state is shown. `link_up` tells whether an interface counts as up, `by` has the files written."""

    instances: Mapping[VirtualRouterKey, Instance]
    engine: Engine[Instance]
    trackers: Trackers
    hearing: Hearing
    static: StaticEntries
    monitor: LinkMonitor
    sysctls: Sysctls
    link_up: Callable[[str], bool]
    by: DumpProcesses

    def write(self, kind: DumpKind, config: VrrpSlice, state: Callable[[], Callable[[], str]]) -> None:
        """The file of `kind`; `state` gives what makes the text of keepalived.data."""
        defs, brief = config.global_defs, self._size() <= FEW

        def shown() -> Iterator[InstanceSnapshot]:
            return (self._snapshot(each, config) for each in self.instances.values())

        match kind:
            case DumpKind.STATS | DumpKind.STATS_CLEAR:
                clearing = kind is DumpKind.STATS_CLEAR
                dumpfile.tell("VRRP stats", "Printing and clearing" if clearing else "Printing")
                self.by.put(dumpfile.statistics_path(defs), lambda: statistics_text(shown()), brief=brief)
                if clearing:
                    for instance in self.instances.values():
                        instance.examiner.counters = Counters()
            case DumpKind.DATA:
                dumpfile.tell("VRRP data")
                self.by.put(dumpfile.state_path(defs, ""), state(), brief=brief)
            case DumpKind.JSON:
                dumpfile.tell("VRRP as json")
                processes = dumps.processes_of(config, self.trackers)
                path = dumpfile.json_path(defs)
                self.by.put(path, lambda: json_text(shown(), defs.json_version, processes), brief=brief)

    def _size(self) -> int:
        return sum(1 + len(each.config.addresses) + len(each.config.excluded) for each in self.instances.values())

    def state(self, config: VrrpSlice, vitals: Iterable[str], queued: int, restored: Mapping[str, int]) -> str:
        """keepalived.data. `queued`: announcements that wait; `restored`: how much of what was put back."""
        instances = list(self.instances.values())
        text = dumps.data(
            config,
            instances,
            [self._snapshot(each, config) for each in instances],
            self.engine.groups,
            self.trackers,
            self.hearing,
            sections_before(config, self.static, self.monitor),
            interfaces(config, instances, self.monitor, self.sysctls),
        )
        return text + dumps.ours(instances, self.trackers, self.hearing, vitals, queued, restored)

    def _snapshot(self, instance: Instance, config: VrrpSlice) -> InstanceSnapshot:
        """What dumps show of an instance."""
        priority = self.trackers.priority(instance.config)
        return snapshot(
            instance.router,
            instance.counters,
            last_transition=instance.last_transition,
            clock_offset=time.time() - now(),
            total_priority=priority.total,
            group=instance.group,
            ifindex=instance.advert_index,
            vmac_name=self._link_name(instance.ifindex) if instance.config.vmac is not None else "",
            link_up=self.link_up(self._link_name(instance.ifindex)),
            address_vmacs={place: self._link_name(index) for place, index in instance.extra.items()},
            nftables=not config.global_defs.firewall.iptables,
            old_checksum=instance.examiner.old_checksum,
            tracks=self.trackers.of(instance.config),
            sockets=dumps.sockets_of(instance, self.hearing),
            scripts={script.name: script.script for script in config.vrrp.scripts},
        )

    def _link_name(self, index: int) -> str:
        link = self.monitor.links.get(index)
        return "" if link is None else link.name

"""The VRRP worker: everything that arrives becomes an event of a machine, everything a machine wants is performed.

Nothing here waits: no name look-up, no file, no script, no log that can block. A VRRP process that is late by three
intervals is a second master.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from ipc.messages import DumpKind, Peer, VirtualServerStateChanged, VrrpStateChanged
from keepalived_py.clock import now
from keepalived_py.config.model import SyncGroup as GroupConfig
from keepalived_py.config.model import Track, VrrpInstance, VrrpSlice
from keepalived_py.plan.links import AddressKey
from keepalived_py.values import ExitCode, IPAddress, VirtualRouterKey
from keepalived_py.vrrp.dump_json import json_text
from keepalived_py.vrrp.dump_text import statistics_text
from keepalived_py.vrrp.effects import Effect
from keepalived_py.vrrp.events import (
    AddressesLost,
    AdvertReceived,
    ConfigChanged,
    Event,
    FaultCleared,
    FaultRaised,
    PriorityChanged,
    Shutdown,
    SourceChanged,
    Startup,
    TimerExpired,
)
from keepalived_py.vrrp.examiner import Counters, Examiner
from keepalived_py.vrrp.machine import GROUP_FAULT, VirtualRouter
from keepalived_py.vrrp.packet import Datagram, PacketError
from keepalived_py.vrrp.snapshot import InstanceSnapshot, snapshot
from keepalived_py.vrrp.states import State, Timer
from keepalived_py.vrrp.sync_group import SyncGroup
from keepalived_py.vrrp.tracking import effective_priority, is_fault
from workers import dump
from workers.notify import Notifier
from workers.worker import Worker, WorkerContext, WorkerError

from .announce import Announcer
from .effect_runner import EffectRunner
from .instance import Instance
from .link_monitor import LinkMonitor
from .rtnetlink import AddressNotice, LinkNotice, RequestSocket
from .slices import SliceQueue
from .sockets import Receiver, ReceiverKey, Sender
from .timer_driver import TimerDriver
from .trackers import ScriptTracker

logger = logging.getLogger(__name__)

NO_RESULT = "without a result yet"


def run_vrrp(context: WorkerContext[VrrpSlice]) -> int:
    """Main function of the process."""
    return VrrpWorker(context).run()


class VrrpWorker(Worker[VrrpSlice]):
    """All instances of this machine."""

    role = Peer.VRRP
    ident = "Keepalived_vrrp"
    log_role = "vrrp"
    title = "keepalived_vrrp"

    def __init__(self, context: WorkerContext[VrrpSlice]) -> None:
        super().__init__(context)
        self.instances: dict[VirtualRouterKey, Instance] = {}
        self.groups: dict[str, SyncGroup] = {}
        self._group_configs: dict[str, GroupConfig] = {}
        self._group_of: dict[str, str] = {}
        self._by_name: dict[str, Instance] = {}
        self._receivers: dict[ReceiverKey, Receiver] = {}
        self._targets: dict[tuple[ReceiverKey, int], list[Instance]] = {}
        self._events: deque[tuple[Instance, Event]] = deque()
        self._virtual: frozenset[IPAddress] = frozenset()
        self._lost: dict[VirtualRouterKey, set[AddressKey]] = {}
        self._working = False
        self._unknown_vrids = 0
        self._malformed = 0
        self.timers = TimerDriver(self._machine_of, self._drain, self._timer_expired, self._rehearse)
        self.scripts = ScriptTracker(self._script_changed)

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._requests = RequestSocket()
        try:
            self.monitor = LinkMonitor(self._link_changed, self._links_reread)
        except PermissionError as exc:
            raise WorkerError("the addresses of this host need CAP_NET_ADMIN", ExitCode.NO_PERMISSION) from exc
        self.notifier = Notifier(self.config.global_defs.script_time_limit)
        self.slices = SliceQueue(self.monitor.pause)
        try:
            self.announcer = Announcer()
        except PermissionError as exc:
            raise WorkerError("a packet socket needs CAP_NET_RAW", ExitCode.NO_PERMISSION) from exc
        self.runner = EffectRunner(
            self._requests, self.monitor, self.announcer, self.notifier, self.channel, self.slices
        )
        self.monitor.start(loop, self._requests)
        self.timers.start(loop)
        self._check(self.config)
        self.scripts.apply(_tracked_scripts(self.config))
        self._build(self.config)

    # configuration ------------------------------------------------------------------------------------------------

    def _check(self, config: VrrpSlice) -> None:
        """Raises WorkerError for what this machine cannot run."""
        for instance in config.vrrp.instances:
            if instance.interface and self.monitor.by_name(instance.interface) is None:
                raise WorkerError(f"({instance.name}) interface {instance.interface} does not exist", ExitCode.CONFIG)

    def _build(self, config: VrrpSlice) -> None:
        """Start every instance of the first configuration."""
        self._arrange(config)
        was_master = {
            report.name
            for report in self.context.reported
            if isinstance(report, VrrpStateChanged) and report.kind == "INSTANCE" and report.new == State.MASTER.value
        }
        for instance_config in config.vrrp.instances:
            self._add(instance_config)
        self._start_instances(list(self.instances.values()), was_master)

    def _arrange(self, config: VrrpSlice) -> None:
        """What belongs together: members of groups, and all virtual addresses, which are never a source."""
        self._virtual = frozenset(
            row.address for each in config.vrrp.instances for row in (*each.addresses, *each.excluded)
        )
        self._group_configs = {group.name: group for group in config.vrrp.sync_groups}
        self._group_of = {member: group.name for group in config.vrrp.sync_groups for member in group.members}

    def _add(self, config: VrrpInstance) -> Instance:
        group = self._group_of.get(config.name, "")
        router = VirtualRouter(config, grouped=bool(group))
        instance = Instance(key=config.key, router=router, examiner=Examiner(config), group=group)
        self.instances[config.key] = instance
        self._by_name[config.name] = instance
        self._connect(instance)
        return instance

    def _start_instances(self, instances: list[Instance], was_master: set[str]) -> None:
        """Conditions of all first, since what holds one member of a group back holds all back; then they start."""
        for instance in instances:
            self._judge(instance)
        for name in self._group_configs:
            for member, event in self._group(name).prepare():
                self._post(self._by_name[member], event)
        for instance in instances:
            adopted = State.MASTER if instance.name in was_master else None
            if adopted is None:
                self.runner.remove_left_overs(instance)
            self._post(instance, Startup(adopted))
        self._settle_groups()

    def _connect(self, instance: Instance) -> None:
        """Sockets and source address of an instance, as its interface allows at the moment."""
        config = instance.config
        link = self.monitor.by_name(config.interface)
        instance.ifindex = link.index if link is not None else 0
        source = config.source or self._interface_address(instance)
        self.runner.prepare(instance)
        if instance.sender is not None:
            sender = instance.sender
            if (sender.config, sender.source, sender.ifindex) == (config, source, instance.ifindex):
                return
            instance.sender.close()
        instance.sender = None
        instance.router.source = source
        if source is None or (link is None and config.interface):
            self._stop_listening(instance)
            return
        try:
            instance.sender = Sender(config, instance.ifindex, config.interface, source, instance.examiner)
            self._listen(instance)
        except PermissionError as exc:
            raise WorkerError("raw sockets need CAP_NET_RAW", ExitCode.NO_PERMISSION) from exc
        except OSError as exc:
            logger.error("(%s) sockets on %s: %s", config.name, config.interface, exc.strerror)

    def _interface_address(self, instance: Instance) -> IPAddress | None:
        found = self.monitor.own_addresses(instance.ifindex, instance.config.family, self._virtual)
        return found[0] if found else None

    def _listen(self, instance: Instance) -> None:
        config = instance.config
        key = ReceiverKey(
            instance.ifindex,
            config.family,
            instance.protocol,
            config.mcast_group,
            instance.source if config.unicast else None,
        )
        if instance.receiver == key:
            return
        self._stop_listening(instance)
        if key not in self._receivers:
            receiver = Receiver(key, config.interface, self._deliver, self._malformed_packet)
            self._receivers[key] = receiver
            asyncio.get_running_loop().add_reader(receiver.sock, receiver.drain)
        instance.receiver = key
        self._targets.setdefault((key, config.vrid), []).append(instance)

    def _stop_listening(self, instance: Instance) -> None:
        key, instance.receiver = instance.receiver, None
        if key is None:
            return
        targets = self._targets[key, instance.config.vrid]
        targets.remove(instance)
        if not targets:
            del self._targets[key, instance.config.vrid]
        if not any(target[0] == key for target in self._targets):
            self._receivers.pop(key).close(asyncio.get_running_loop())

    async def apply(self, new: VrrpSlice) -> None:
        """Move to `new`: what did not change is not touched."""
        self._check(new)
        self.notifier.time_limit = new.global_defs.script_time_limit
        self._arrange(new)
        wanted = {config.key: config for config in new.vrrp.instances}
        for key in [key for key in self.instances if key not in wanted]:
            self._remove(self.instances[key])
        group_states = {name: group.state for name, group in self.groups.items()}
        self.groups.clear()
        self._by_name = {}
        added = [self._add(config) for key, config in wanted.items() if key not in self.instances]
        for key, config in wanted.items():
            self._by_name[config.name] = self.instances[key]
        for name, state in group_states.items():
            if name in self._group_configs:
                self._group(name).state = state  # an unchanged group is not told again
        self.scripts.apply(_tracked_scripts(new))
        self.config = new
        for instance in self.instances.values():
            if instance not in added:
                self._reconfigure(instance, wanted[instance.key])
        self._settle_groups()
        self._start_instances(added, set())

    def _remove(self, instance: Instance) -> None:
        """An instance that the new configuration does not have: farewell, addresses out."""
        logger.info("(%s) is removed by the reload", instance.name)
        instance.group = ""
        self._post(instance, Shutdown())
        self._stop_listening(instance)
        if instance.sender is not None:
            instance.sender.close()
        del self.instances[instance.key]
        self.timers.rearm(instance.key)

    def _reconfigure(self, instance: Instance, config: VrrpInstance) -> None:
        instance.group = self._group_of.get(config.name, "")
        instance.router.grouped = bool(instance.group)
        if instance.config != config:
            before = set(instance.rows)
            instance.examiner.reconfigure(config)
            instance.prepared = None
            self._post(instance, ConfigChanged(config))
            self._connect(instance)
            news = [key for key in instance.rows if key not in before]
            if news and instance.router.state is State.MASTER:
                self.runner.announce(instance, news, config.garp.master_repeat)
        self._judge(instance)

    # events and effects -------------------------------------------------------------------------------------------

    def _post(self, instance: Instance, event: Event) -> None:
        """Step the machine, perform what it wants, and tell its group; events that follow are handled in turn."""
        self._events.append((instance, event))
        if self._working:
            return
        self._working = True
        try:
            while self._events:
                self._step(*self._events.popleft())
        finally:
            self._working = False

    def _step(self, instance: Instance, event: Event) -> None:
        effects = instance.router.step(event, now())
        self.runner.perform(instance, effects)
        if instance.group:
            self._tell_group(instance, event, effects)
        self.timers.rearm(instance.key)

    def _group(self, name: str) -> SyncGroup:
        group = self.groups.get(name)
        if group is None:
            members = self._group_configs[name].members
            routers = {member: self._by_name[member].router for member in members if member in self._by_name}
            group = self.groups[name] = SyncGroup(name, routers)
        return group

    def _tell_group(self, instance: Instance, event: Event, effects: list[Effect]) -> None:
        group = self._group(instance.group)
        told = group.absorb(instance.name, effects)
        if isinstance(event, FaultCleared):
            told += group.recovery()
        for member, follows in told:
            self._events.append((self._by_name[member], follows))
        if not self._events:
            self._settle_group(group)

    def _settle_group(self, group: SyncGroup) -> None:
        found = group.settle()
        if found is not None:
            self.runner.group_transition(found, self._group_configs[group.name].notify)

    def _settle_groups(self) -> None:
        for name in self._group_configs:
            self._settle_group(self._group(name))

    # what arrives -------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Read every socket until it is empty."""
        for receiver in list(self._receivers.values()):
            receiver.drain()

    def _deliver(self, key: ReceiverKey, datagram: Datagram) -> None:
        instance = self._instance_for(key, datagram)
        if instance is None:
            self._unknown_vrids += 1
            if self.config.global_defs.log_unknown_vrids:
                logger.info("Unknown VRID(%d) received from %s - ignoring", datagram.vrid, datagram.source)
            return
        if instance.router.state in (State.INIT, State.FAULT):
            return
        try:
            advert = instance.examiner.examine(datagram, master=instance.router.state is State.MASTER, wall=time.time())
        except PacketError as exc:
            if instance.once((exc.reason, datagram.source)):
                logger.warning("(%s) advert from %s discarded: %s", instance.name, datagram.source, exc)
            return
        if advert.differs and instance.once(("list", datagram.source, advert.differs)):
            logger.warning("(%s) address list of %s differs: %s", instance.name, datagram.source, advert.differs)
        if advert.interval_differs and instance.once(("interval", datagram.source, advert.adver_int)):
            logger.info(
                "(%s) advert interval of %s is %gs, ours %gs",
                instance.name,
                datagram.source,
                advert.adver_int / 100,
                instance.config.advert_int / 100,
            )
        if advert.bare_checksum and instance.once(("checksum", datagram.source)):
            logger.info("(%s) %s leaves the pseudo header out of its checksum", instance.name, datagram.source)
        if instance.router.master_source != datagram.source:
            instance.reported = {
                what for what in instance.reported if isinstance(what, tuple) and datagram.source in what
            }
        self._post(instance, AdvertReceived(advert.priority, advert.adver_int, advert.source))

    def _instance_for(self, key: ReceiverKey, datagram: Datagram) -> Instance | None:
        """The instance of a VRID; among unicast ones that share it, the one with that peer."""
        targets = self._targets.get((key, datagram.vrid))
        if not targets:
            return None
        if len(targets) > 1:
            for instance in targets:
                if any(peer.address == datagram.source for peer in instance.config.unicast_peers):
                    return instance
        return targets[0]

    def _malformed_packet(self, key: ReceiverKey, error: PacketError) -> None:
        self._malformed += 1
        logger.debug("malformed packet: %s", error)

    def _rehearse(self, key: VirtualRouterKey) -> None:
        """Go through a take-over without performing it, so that the real one a moment later finds all in the caches."""
        instance = self.instances.get(key)
        if instance is not None:
            copied = copy.copy(instance.router)
            copied.deadlines = dict(copied.deadlines)
            copied.step(TimerExpired(Timer.MASTER_DOWN), now())
            if instance.sender is not None:
                instance.sender.prepare(instance.router.priority)
            self.runner.prepare(instance)

    def _machine_of(self, key: VirtualRouterKey) -> VirtualRouter | None:
        instance = self.instances.get(key)
        return instance.router if instance is not None else None

    def _timer_expired(self, key: VirtualRouterKey, timer: Timer) -> None:
        instance = self.instances.get(key)
        if instance is not None:
            self._post(instance, TimerExpired(timer))

    # faults and priority ------------------------------------------------------------------------------------------

    def _judge(self, instance: Instance) -> None:
        """Compare every condition of vrrp-behaviour.md 7 with what the machine believes, and the priority too."""
        present = dict(self._faults(instance))
        for subject, reason in present.items():
            self._post(instance, FaultRaised(subject, reason, waiting=reason.endswith(NO_RESULT)))
        known = {*instance.router.faults, *instance.router.waiting}
        for subject in [each for each in known if each not in present and each != GROUP_FAULT]:
            self._post(instance, FaultCleared(subject))
        priority = effective_priority(instance.config.priority, instance.config.tracks, self._is_good)
        self._post(instance, PriorityChanged(priority.value, str(priority)))

    def _faults(self, instance: Instance) -> Iterable[tuple[str, str]]:
        config = instance.config
        if config.interface and not config.dont_track_primary:
            link = self.monitor.by_name(config.interface)
            if link is None or not link.running:
                yield f"interface {config.interface}", f"interface {config.interface} is down"
        if instance.source is None:
            yield "source address", f"no IPv{config.family} address on interface {config.interface}"
        for track in config.tracks:
            good = self._is_good(track)
            if is_fault(track, good):
                yield f"{track.kind} {track.name}", f"tracked {track.kind} {track.name} is {_word(good)}"

    def _is_good(self, track: Track) -> bool | None:
        if track.kind == "interface":
            link = self.monitor.by_name(track.name)
            return link is not None and link.running
        return self.scripts.good(track.name)

    def _script_changed(self, name: str) -> None:
        for instance in list(self.instances.values()):
            if any(track.kind == "script" and track.name == name for track in instance.config.tracks):
                self._judge(instance)

    # links --------------------------------------------------------------------------------------------------------

    def _link_changed(self, found: LinkNotice | AddressNotice) -> None:
        if isinstance(found, LinkNotice):
            for instance in list(self.instances.values()):
                names = {instance.config.interface, *(track.name for track in instance.config.tracks)}
                if found.link.name in names:
                    self._reconnect(instance)
            return
        if found.key.address in self._virtual:
            if not found.present:
                for instance in [each for each in self.instances.values() if found.key in each.rows]:
                    self._address_lost(instance, found.key)
            return
        for instance in list(self.instances.values()):
            if found.key.ifindex == instance.ifindex:
                self._reconnect(instance)

    def _links_reread(self) -> None:
        for instance in list(self.instances.values()):
            for key in [key for key in instance.rows if key not in self.monitor.addresses]:
                self._address_lost(instance, key)
            self._reconnect(instance)

    def _reconnect(self, instance: Instance) -> None:
        before = instance.source
        self._connect(instance)
        if instance.source is not None and instance.source != before:
            self._post(instance, SourceChanged(instance.source))
        self._judge(instance)

    def _address_lost(self, instance: Instance, key: AddressKey) -> None:
        """Somebody may have removed an address of ours; looked at when all that is known by now has been read."""
        if instance.router.state is not State.MASTER:
            return
        if not self._lost:
            asyncio.get_running_loop().call_soon(self._restore_lost)
        self._lost.setdefault(instance.key, set()).add(key)

    def _restore_lost(self) -> None:
        """Put back what is really gone, all at once, unless that never ends."""
        self.monitor.read_waiting()
        lost, self._lost = self._lost, {}
        for key, rows in lost.items():
            instance = self.instances.get(key)
            if instance is not None and instance.router.state is State.MASTER:
                gone = [row for row in rows if row in instance.rows and row not in self.monitor.addresses]
                self._restore(instance, [row for row in gone if self._on_running_link(row)])

    def _on_running_link(self, key: AddressKey) -> bool:
        link = self.monitor.links.get(key.ifindex)
        return link is not None and link.running

    def _restore(self, instance: Instance, gone: list[AddressKey]) -> None:
        if not gone:
            return
        times = max(instance.count_loss(key, now()) for key in gone)
        shown = ", ".join(str(key.address) for key in gone[:3]) + (", ..." if len(gone) > 3 else "")
        if times > self.config.global_defs.restore_lost:
            self._post(instance, AddressesLost(f"address {shown} was removed {times} times in a row"))
            return
        logger.warning("(%s) address %s was removed by somebody else and is put back", instance.name, shown)
        instance.rows = {key: row for key, row in instance.rows.items() if key not in set(gone)}
        self.runner.announce(instance, self.runner.set_addresses(instance, True), 1)

    # orders -------------------------------------------------------------------------------------------------------

    def on_message(self, msg: Any) -> None:
        if not isinstance(msg, VirtualServerStateChanged):
            super().on_message(msg)

    async def drain(self) -> None:
        """Nothing of VRRP can be put off."""

    async def stop(self) -> None:
        """Farewell first, then the addresses, then people get a second."""
        keep = self.options.keep_vrrp
        for instance in self.instances.values():
            if instance.router.state is not State.INIT:
                self._post(instance, Shutdown(keep))
        self.slices.finish()
        self._settle_groups()
        self.scripts.stop()
        await self.notifier.finish()

    def dump(self, kind: DumpKind) -> None:
        instances = list(self.instances.values())
        match kind:
            case DumpKind.STATS | DumpKind.STATS_CLEAR:
                dump.write("keepalived.stats", statistics_text(map(self._snapshot, instances)))
                if kind is DumpKind.STATS_CLEAR:
                    for instance in instances:
                        instance.examiner.counters = Counters()
            case DumpKind.DATA:
                dump.write("keepalived.data", self._describe())
            case DumpKind.JSON:
                version = self.config.global_defs.json_version
                dump.write("keepalived.json", json_text(map(self._snapshot, instances), version, ()))

    def _snapshot(self, instance: Instance) -> InstanceSnapshot:
        """What dumps show of an instance."""
        priority = effective_priority(instance.config.priority, instance.config.tracks, self._is_good)
        return snapshot(
            instance.router,
            instance.counters,
            last_transition=instance.last_transition,
            clock_offset=time.time() - now(),
            total_priority=priority.total,
            group=instance.group,
            ifindex=instance.ifindex,
            scripts={script.name: script.script for script in self.config.vrrp.scripts},
        )

    def _describe(self) -> str:
        """States with their reasons, for people."""
        lines = [f"Unknown VRIDs heard: {self._unknown_vrids}", f"Malformed packets: {self._malformed}"]
        lines.append(f"Worst lateness of an advert: {self.timers.worst_lateness * 1000:.3f} ms")
        for instance in self.instances.values():
            router, config = instance.router, instance.config
            priority = effective_priority(config.priority, config.tracks, self._is_good)
            lines += [
                f"VRRP Instance: {instance.name}",
                f"  State: {router.state.value}",
                f"  Interface: {config.interface}, VRID {config.vrid}, version {config.version}",
                f"  Source address: {router.source}",
                f"  Priority: {priority}",
                f"  Master: {router.master_source}",
                *(f"  Fault: {reason}" for reason in router.faults.values()),
                *(f"  Address: {row}" for row in (*config.addresses, *config.excluded)),
            ]
        return "\n".join(lines) + "\n"


def _tracked_scripts(config: VrrpSlice) -> list[Any]:
    wanted = {track.name for instance in config.vrrp.instances for track in instance.tracks if track.kind == "script"}
    return [script for script in config.vrrp.scripts if script.name in wanted]


def _word(good: bool | None) -> str:
    return NO_RESULT if good is None else "up" if good else "down"

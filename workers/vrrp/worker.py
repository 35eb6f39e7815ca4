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
from functools import partial
from typing import Any

from ipc.messages import DumpKind, Peer, VirtualServerStateChanged, VrrpStateChanged
from keepalived_py.clock import now
from keepalived_py.config.model import SyncGroup as GroupConfig
from keepalived_py.config.model import VrrpInstance, VrrpSlice
from keepalived_py.plan.links import AddressKey
from keepalived_py.plan.routes import RouteKey, RuleKey
from keepalived_py.values import ExitCode, IPAddress, VirtualRouterKey
from keepalived_py.vrrp.dump_json import json_text
from keepalived_py.vrrp.dump_text import statistics_text
from keepalived_py.vrrp.effects import Effect, SetVips
from keepalived_py.vrrp.events import (
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
from workers import dump
from workers.notify import Notifier
from workers.worker import Worker, WorkerContext, WorkerError

from .announce import Announcer
from .effect_runner import EffectRunner
from .firewall import needs as firewall_needs
from .firewall import vmac as vmac_filter
from .instance import Instance
from .keeper import Keeper
from .link_monitor import LinkMonitor
from .route_monitor import RouteMonitor
from .rtnetlink import AddressNotice, LinkNotice, RequestSocket
from .slices import SliceQueue
from .sockets import Receiver, ReceiverKey, Sender
from .static_entries import StaticEntries
from .sysctl import Sysctls
from .teller import GROUP, INSTANCE, Teller
from .timer_driver import TimerDriver
from .trackers import NO_RESULT, Trackers
from .vmac import Vmacs

logger = logging.getLogger(__name__)


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
        self._working = False
        self._leaving = False
        self._unknown_vrids = 0
        self._malformed = 0
        self.timers = TimerDriver(self._machine_of, self._drain, self._timer_expired, self._rehearse)
        self.trackers = Trackers(self._tracked_changed, self._link_up)

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._requests = RequestSocket()
        try:
            self.monitor = LinkMonitor(self._link_changed, self._links_reread)
        except PermissionError as exc:
            raise WorkerError("the addresses of this host need CAP_NET_ADMIN", ExitCode.NO_PERMISSION) from exc
        self.notifier = Notifier(self.config.global_defs.script_time_limit)
        self.teller = Teller(self.notifier, self.channel)
        self.slices = SliceQueue(self.monitor.pause)
        try:
            self.announcer = Announcer()
        except PermissionError as exc:
            raise WorkerError("a packet socket needs CAP_NET_RAW", ExitCode.NO_PERMISSION) from exc
        self.runner = EffectRunner(self._requests, self.monitor, self.announcer, self.teller, self.slices)
        self.keeper = Keeper(self.instances, self.runner, self.monitor, self._post)
        self.static = StaticEntries(self._requests, self.monitor, self._judge_all)
        self.routes = RouteMonitor(self._requests.port, self._removed, self._stir)
        self.monitor.start(loop, self._requests)
        self.sysctls = Sysctls()
        self.vmacs = Vmacs(self._requests, self.monitor, self.sysctls)
        self.vmacs.prefix = self.config.global_defs.vmac_prefix
        if self.config.global_defs.disable_local_igmp:
            self.sysctls.set("ipv4/igmp_link_local_mcast_reports", "0")
        self.timers.start(loop)
        self._check(self.config)
        self.teller.configure(self.config)
        self._keep(self.config)
        self._hear_of_services()
        await self._filter(self.config)
        self.trackers.apply(self.config)
        self._build(self.config)

    # configuration ------------------------------------------------------------------------------------------------

    def _check(self, config: VrrpSlice) -> None:
        """Raises WorkerError for what this machine cannot run."""
        for instance in config.vrrp.instances:
            if instance.interface and self.monitor.by_name(instance.interface) is None:
                raise WorkerError(f"({instance.name}) interface {instance.interface} does not exist", ExitCode.CONFIG)

    async def _filter(self, config: VrrpSlice) -> None:
        """The tables that accept mode and VMACs need, before anything is put into them."""
        defaults = config.global_defs
        wanted = firewall_needs(config.vrrp.instances, defaults.disable_local_igmp)
        await self.runner.firewall.configure(wanted, defaults.firewall)

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

    def _keep(self, config: VrrpSlice) -> None:
        """Static entries, first of all: an instance may live on one of them. And whether there is any route to lose."""
        vrrp = config.vrrp
        held = any(each.routes or each.rules for each in vrrp.instances)
        self.routes.watch(bool(held or vrrp.static_routes or vrrp.static_rules))
        self.keeper.limit = self.static.limit = config.global_defs.restore_lost
        self.static.apply(vrrp)
        self.monitor.read_waiting()

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
        with self.teller.starting():
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
        if config.promote_secondaries and link is not None:
            self.sysctls.set(f"ipv4/conf/{link.name}/promote_secondaries", "1")
        own = self.vmacs.ensure(config, link) if config.vmac is not None and link is not None else link
        advert = link if config.vmac is not None and config.vmac.xmit_base else own
        instance.base_index = link.index if link is not None else 0
        before, instance.ifindex = instance.ifindex, own.index if own is not None else 0
        instance.advert_index = advert.index if advert is not None else 0
        source = config.source or self._interface_address(instance)
        self.runner.prepare(instance)
        if config.vmac is not None and own is not None and link is not None and config.vmac.kind == "macvlan":
            self.runner.firewall.set(("vmac", instance.key), vmac_filter(config.family, own.index, link.index))
        if config.vmac is not None and before and before != instance.ifindex and instance.ifindex:
            self._move_addresses(instance, before)
        if instance.sender is not None:
            sender = instance.sender
            if (sender.config, sender.source, sender.ifindex) == (config, source, instance.advert_index):
                return
            instance.sender.close()
        instance.sender = None
        instance.router.source = source
        if source is None or (advert is None and config.interface):
            self._stop_listening(instance)
            return
        name = advert.name if advert is not None else ""
        try:
            instance.sender = Sender(config, instance.advert_index, name, source, instance.examiner)
            self._listen(instance, name)
        except PermissionError as exc:
            raise WorkerError("raw sockets need CAP_NET_RAW", ExitCode.NO_PERMISSION) from exc
        except OSError as exc:
            logger.error("(%s) sockets on %s: %s", config.name, config.interface, exc.strerror)

    def _move_addresses(self, instance: Instance, before: int) -> None:
        """The VMAC was removed and made anew: what was on it comes back, and is announced."""
        instance.rows = {key: row for key, row in instance.rows.items() if key.ifindex != before}
        if instance.router.state is State.MASTER:
            logger.warning("(%s) its VMAC was removed by somebody else and is put back", instance.name)
            added = self.runner.set_addresses(instance, True)
            self.runner.announce(instance, added, instance.config.garp.master_repeat)

    def _interface_address(self, instance: Instance) -> IPAddress | None:
        found = self.monitor.own_addresses(instance.base_index, instance.config.family, self._virtual)
        return found[0] if found else None

    def _listen(self, instance: Instance, interface: str) -> None:
        config = instance.config
        key = ReceiverKey(
            instance.advert_index,
            config.family,
            instance.protocol,
            config.mcast_group,
            instance.source if config.unicast else None,
        )
        if instance.receiver == key:
            return
        self._stop_listening(instance)
        if key not in self._receivers:
            receiver = Receiver(key, interface, self._deliver, self._malformed_packet)
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
        await self._filter(new)
        self.teller.configure(new)
        self._keep(new)
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
        self.trackers.apply(new)
        self.config = new
        for instance in self.instances.values():
            if instance not in added:
                self._reconfigure(instance, wanted[instance.key])
        self._settle_groups()
        if new.global_defs.fifo_write_vrrp_states_on_reload:
            self._tell_states(each for each in self.instances.values() if each not in added)
        self._start_instances(added, set())
        self._stir()  # what one gave up may be another's now

    def _remove(self, instance: Instance) -> None:
        """An instance that the new configuration does not have: farewell, addresses out."""
        logger.info("(%s) is removed by the reload", instance.name)
        instance.group, instance.leaving = "", True
        self._post(instance, Shutdown())
        self._stop_listening(instance)
        if instance.sender is not None:
            instance.sender.close()
        del self.instances[instance.key]
        self.timers.rearm(instance.key)
        if instance.config.vmac is not None:
            self.slices.add(instance.key, partial(self.vmacs.forget, instance.key))
            self.runner.firewall.set(("vmac", instance.key), frozenset())

    def _reconfigure(self, instance: Instance, config: VrrpInstance) -> None:
        instance.group = self._group_of.get(config.name, "")
        instance.router.grouped = bool(instance.group)
        if instance.config != config:
            before = set(instance.rows)
            instance.examiner.reconfigure(config)
            instance.prepared = None
            self._post(instance, ConfigChanged(config))
            self._connect(instance)
            self.runner.guard(instance)
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
        if SetVips(False) in effects:
            self._stir()  # another instance may hold a route that this one has just removed
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
        """Tell what the group is now; one with a member that has not started, or that is about to stop, is nothing."""
        if not self._leaving and any(router.state is State.INIT for router in group.members.values()):
            return
        found = group.settle()
        if found is not None:
            self.runner.group_transition(found, self._group_configs[group.name])

    def _settle_groups(self) -> None:
        for name in self._group_configs:
            self._settle_group(self._group(name))

    def _tell_states(self, instances: Iterable[Instance]) -> None:
        """fifo_write_vrrp_states_on_reload."""
        routers = [(INSTANCE, each.name, each.router.state, each.router.priority) for each in instances]
        self.teller.states([*routers, *((GROUP, name, group.state, 0) for name, group in self.groups.items())])

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
        priority = self.trackers.priority(instance.config)
        self._post(instance, PriorityChanged(priority.value, str(priority)))

    def _judge_all(self) -> None:
        for instance in list(self.instances.values()):
            self._judge(instance)

    def _faults(self, instance: Instance) -> Iterable[tuple[str, str]]:
        config = instance.config
        if config.config_fault:
            yield "configuration", config.config_fault
        if config.interface and not config.dont_track_primary:
            link = self.monitor.by_name(config.interface)
            if link is None or not link.running:
                yield f"interface {config.interface}", f"interface {config.interface} is down"
        if config.vmac is not None and instance.base_index and not instance.ifindex:
            yield "VMAC", f"there is no VMAC on interface {config.interface}"
        if instance.source is None:
            yield "source address", f"no IPv{config.family} address on interface {config.interface}"
        for name in instance.held_interfaces:
            link = self.monitor.by_name(name)
            if link is None or not link.running:
                yield f"interface {name}", f"interface {name} of what it holds is down"
        yield from self.static.faults(config.name)
        yield from self.trackers.faults(config)

    def _link_up(self, name: str) -> bool:
        link = self.monitor.by_name(name)
        return link is not None and link.running

    def _tracked_changed(self, kind: str, name: str) -> None:
        for instance in list(self.instances.values()):
            if any((track.kind, track.name) == (kind, name) for track in self.trackers.of(instance.config)):
                self._judge(instance)

    def _hear_of_services(self) -> None:
        """After a restart: what the checker said to the predecessor."""
        for report in self.context.reported:
            if isinstance(report, VirtualServerStateChanged):
                self.trackers.service_changed(report)

    # links --------------------------------------------------------------------------------------------------------

    def _link_changed(self, found: LinkNotice | AddressNotice) -> None:
        if self._leaving:
            return  # what goes now goes because of us
        if isinstance(found, LinkNotice):
            for instance in list(self.instances.values()):
                names = {instance.config.interface, self.vmacs.name_of(instance.key)}
                names |= {track.name for track in self.trackers.of(instance.config)}
                names |= instance.held_interfaces | instance.named_interfaces | self.static.interfaces(instance.name)
                if found.link.name in names:
                    self._reconnect(instance)
            self._stir()
            return
        if not found.present:
            self._removed(found.key)
        if found.key.address in self._virtual:
            return
        self._stir()
        for instance in list(self.instances.values()):
            if found.key.ifindex == instance.base_index:
                self._reconnect(instance)

    def _removed(self, key: AddressKey | RouteKey | RuleKey) -> None:
        self.keeper.removed(key)
        self.static.removed(key)

    def _stir(self) -> None:
        self.keeper.stir()
        self.static.stir()

    def _links_reread(self) -> None:
        self.keeper.reread()
        self.static.stir()
        for instance in list(self.instances.values()):
            self._reconnect(instance)

    def _reconnect(self, instance: Instance) -> None:
        before = instance.source
        self._connect(instance)
        if instance.source is not None and instance.source != before:
            self._post(instance, SourceChanged(instance.source))
        self._judge(instance)

    # orders -------------------------------------------------------------------------------------------------------

    def on_message(self, msg: Any) -> None:
        if isinstance(msg, VirtualServerStateChanged):
            self.trackers.service_changed(msg)
        else:
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
        if not keep:
            self.vmacs.forget_all()
            self.sysctls.restore()
        self.static.stop()
        self._leaving = True
        self._settle_groups()
        self.trackers.stop()
        if not keep:
            await self.runner.firewall.close()
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
        priority = self.trackers.priority(instance.config)
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
            priority = self.trackers.priority(config)
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

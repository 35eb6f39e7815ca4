"""The VRRP worker: everything that arrives becomes an event of a machine, everything a machine wants is performed.

Nothing here waits: no name look-up, no file, no script, no log that can block. A VRRP process that is late by three
intervals is a second master.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

from ipc.messages import (
    BfdSessionChanged,
    DumpKind,
    Peer,
    ScriptStateChanged,
    VirtualServerStateChanged,
    VrrpStateChanged,
)
from keepalived_py import log
from keepalived_py.clock import now
from keepalived_py.config.model import SyncGroup as GroupConfig
from keepalived_py.config.model import VrrpInstance, VrrpSlice
from keepalived_py.plan.links import AddressKey
from keepalived_py.plan.routes import RouteKey, RuleKey
from keepalived_py.values import ExitCode, IPAddress, VirtualRouterKey
from keepalived_py.vrrp.auth import sequence_after
from keepalived_py.vrrp.effects import Effect, SetVips, Transition
from keepalived_py.vrrp.engine import Engine
from keepalived_py.vrrp.events import (
    AdvertReceived,
    ConfigChanged,
    Event,
    Shutdown,
    SourceChanged,
    StartDelayed,
    Startup,
    TimerExpired,
)
from keepalived_py.vrrp.examiner import Examiner
from keepalived_py.vrrp.machine import VirtualRouter
from keepalived_py.vrrp.packet import Datagram, PacketError
from keepalived_py.vrrp.states import State, Timer
from keepalived_py.vrrp.sync_group import GroupTransition
from workers.notify import Notifier
from workers.worker import Worker, WorkerContext, WorkerError

from . import detail
from .announce import Announcer
from .conditions import Conditions
from .connector import Connector
from .dump_writer import DumpWriter
from .effect_runner import EffectRunner
from .firewall_rules import Element, standing
from .firewall_rules import needs as firewall_needs
from .firewall_rules import vmac as vmac_filter
from .hand_over import HandOver
from .hearing import Hearing
from .instance import Instance
from .keeper import Keeper
from .link_monitor import LinkMonitor
from .link_state import LinkStates
from .relations import Relations
from .remarks import remark
from .route_monitor import RouteMonitor
from .rtnetlink import AddressNotice, Link, LinkNotice, RequestSocket
from .setting_keeper import SettingKeeper
from .setting_record import SettingRecord
from .slices import SliceQueue
from .startup import StartupDelay
from .static_entries import StaticEntries
from .sysctl import Sysctls
from .teller import GROUP, INSTANCE, Teller
from .timer_driver import TimerDriver
from .trackers import Trackers
from .vmac import Vmacs
from .vmac_wish import Owner

logger = logging.getLogger(__name__)


def run_vrrp(context: WorkerContext[VrrpSlice]) -> int:
    """Main function of the process."""
    return VrrpWorker(context).run()


class VrrpWorker(Worker[VrrpSlice]):
    """All instances of this machine."""

    role = Peer.VRRP
    ident = "Keepalived_vrrp"
    log_role = "vrrp"
    title = process_name = "keepalived_vrrp"
    needs: ClassVar[Mapping[str, str]] = {
        "CAP_NET_ADMIN": "virtual addresses, routes and rules",
        "CAP_NET_RAW": "adverts and announcements",
    }

    def __init__(self, context: WorkerContext[VrrpSlice]) -> None:
        super().__init__(context)
        self.instances: dict[VirtualRouterKey, Instance] = {}
        self.engine: Engine[Instance] = Engine(self._perform, self._group_moved)
        self._group_configs: dict[str, GroupConfig] = {}
        self._group_of: dict[str, str] = {}
        self._shared: set[IPAddress] = set()
        """Addresses of several instances, now or across the last reload; few, if any."""
        self._leaving = False
        self._not_before = 0.0
        self.hearing = Hearing(self._heard)
        self.hand_over = HandOver(self.hearing)
        self.timers = TimerDriver(self._machine_of, self.hearing.drain, self._timer_expired, self._rehearse)
        self.timers.late = self.tuner.late
        self.trackers = Trackers(self._tracked_changed, self._link_up, self.channel.send)
        self._stopped_running: set[int] = set()

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._requests = RequestSocket()
        self.monitor = LinkMonitor(self._link_changed, self._links_reread)
        self.notifier = Notifier(self.config.global_defs.script_time_limit)
        self.teller = Teller(self.notifier, self.channel)
        self.slices = SliceQueue(self.monitor.pause)
        try:
            self.announcer = Announcer()
        except PermissionError as exc:
            raise WorkerError("a packet socket needs CAP_NET_RAW", ExitCode.NO_PERMISSION) from exc
        self.runner = EffectRunner(self._requests, self.monitor, self.announcer, self.teller, self.slices)
        self.runner.held_by_others = self._held_by_others
        self.keeper = Keeper(self.instances, self.runner, self.monitor, self._post)
        self.static = StaticEntries(self._requests, self.monitor, self._judge_all)
        self.routes = RouteMonitor(self._requests.port, self._removed, self._stir)
        self.monitor.start(loop, self._requests)
        self.sysctls = Sysctls(record=SettingRecord(self.options.setting_record))
        self.settings = SettingKeeper(self.sysctls)
        self.sysctls.adopt()
        self.vmacs = Vmacs(self._requests, self.monitor, self.sysctls)
        self.vmacs.prefix = self.config.global_defs.vmac_prefix
        self.vmacs.address_prefix = self.config.global_defs.vmac_addr_prefix or self.vmacs.prefix
        self.vmacs.may_share, self.vmacs.again = self._same_group, self._ask_again
        self.vmacs.filter = self._filter_vmac
        self.link_states = LinkStates(self.monitor, self._link_settled)
        self.relations = Relations(self.instances, self.vmacs, self.trackers, self.static)
        self.connector = Connector(
            self.monitor,
            self.vmacs,
            self.sysctls,
            self.runner,
            self.hearing,
            self.relations,
            lambda instance: self._ask_again(instance.key),
        )
        self.conditions = Conditions(self.monitor, self._link_up, self.relations, self.static, self.trackers)
        self.writer = DumpWriter(
            instances=self.instances,
            engine=self.engine,
            trackers=self.trackers,
            hearing=self.hearing,
            static=self.static,
            monitor=self.monitor,
            sysctls=self.sysctls,
            link_up=self._link_up,
            by=self.dumps,
        )
        if self.config.global_defs.disable_local_igmp:
            self.sysctls.set("ipv4/igmp_link_local_mcast_reports", "0")
        self.timers.start(loop)
        self.hearing.start(loop)
        self.startup = StartupDelay(self.context.parent_pid if self.context.reported else 0)
        self._check(self.config)
        self.teller.configure(self.config)
        self._keep(self.config)
        self._inherit()
        self.runner.expect_left_overs(self.config.vrrp.instances, self.config.global_defs.firewall)
        await self._filter(self.config)
        self.link_states.apply(self.config)
        self.trackers.apply(self.config)
        self._build(self.config)
        self.sysctls.disown()

    # configuration ------------------------------------------------------------------------------------------------

    def _check(self, config: VrrpSlice) -> None:
        """Raises WorkerError for what this machine cannot run."""
        if config.global_defs.dynamic_interfaces != "no":
            return
        named = [(f"({each.name}) ", each.interface or each.vrf) for each in config.vrrp.instances]
        named += [("linkbeat_interfaces: ", each.interface) for each in config.vrrp.linkbeat_interfaces]
        for where, name in named:
            if name and self.monitor.by_name(name) is None:
                raise WorkerError(f"{where}interface {name} does not exist", ExitCode.CONFIG)

    async def _filter(self, config: VrrpSlice) -> None:
        """The tables that accept mode and VMACs need, before anything is put into them."""
        defaults = config.global_defs
        wanted = firewall_needs(config.vrrp.instances, defaults.disable_local_igmp, defaults.firewall)
        beforehand = standing(config.vrrp.instances, self.vmacs.prefix)
        await self.runner.firewall.configure(wanted, defaults.firewall, beforehand)
        self._synchronise(config)

    def _synchronise(self, config: VrrpSlice) -> None:
        """lvs_sync_daemon goes the way of the instance that it names."""
        settings = config.global_defs.lvs_sync_daemon
        name = settings.instance if settings is not None else ""
        known = self.engine.members.get(name)
        running = known is not None and known.router.state is not State.INIT
        vrid = next((each.vrid for each in config.vrrp.instances if each.name == name), 0)
        self.runner.sync.daemon.namespace = config.global_defs.root.net_namespace_ipvs
        self.runner.sync.configure(settings, vrid, known.router.state is State.MASTER if known and running else None)

    def _build(self, config: VrrpSlice) -> None:
        """Start every instance of the first configuration."""
        self._arrange(config)
        self._delay(config)
        masters = {
            report.name: report
            for report in self.context.reported
            if isinstance(report, VrrpStateChanged) and report.kind == INSTANCE and report.new == State.MASTER.value
        }
        for instance_config in config.vrrp.instances:
            instance = self._add(instance_config)
            report = masters.get(instance.name)
            if report is not None:
                instance.examiner.sequence = sequence_after(report.sequence, now() - report.time)
        self._assemble(config)
        self._start_instances(list(self.instances.values()), set(masters))

    def _keep(self, config: VrrpSlice) -> None:
        """Static entries, first of all: an instance may live on one of them. And whether there is any route to lose."""
        vrrp = config.vrrp
        held = any(each.routes or each.rules for each in vrrp.instances)
        buffers = config.global_defs.buffers
        self._requests.resize(buffers.vrrp_netlink_cmd, buffers.vrrp_netlink_cmd_force)
        for monitor in (self.monitor, self.routes):
            monitor.resize(buffers.vrrp_netlink_monitor, buffers.vrrp_netlink_monitor_force)
        self.routes.watch(bool(held or vrrp.static_routes or vrrp.static_rules))
        for keeper in (self.keeper, self.static, self.settings, self.runner.firewall.restorer):
            keeper.limit = config.global_defs.restore_lost
        self.static.apply(vrrp)
        self.monitor.read_waiting()

    def _arrange(self, config: VrrpSlice) -> None:
        """What belongs together: members of groups, and all virtual addresses, which are never a source."""
        holders: dict[IPAddress, list[VirtualRouterKey]] = {}
        for each in config.vrrp.instances:
            for row in (*each.addresses, *each.excluded):
                holders.setdefault(row.address, []).append(each.key)
        before = self.keeper.holders
        self._shared = {what for what, keys in holders.items() if len({*keys, *before.get(what, keys)}) > 1}
        self.connector.virtual, self.keeper.holders = frozenset(holders), holders
        self._group_configs = {group.name: group for group in config.vrrp.sync_groups}
        self._group_of = {member: group.name for group in config.vrrp.sync_groups for member in group.members}

    def _delay(self, config: VrrpSlice) -> None:
        """The start-up delay, and what is heard and announced beside it, as `config` has them."""
        defaults = config.global_defs
        self.hearing.configure(defaults.log_unknown_vrids, defaults.buffers)
        self.runner.pace(defaults.garp, config.vrrp.garp_groups)
        before, self._not_before = self._not_before, self.startup.ends(defaults)
        if self._not_before > now() and self._not_before != before:
            logger.info("Delaying VRRP for %.3f seconds", self._not_before - now())
        for instance in self.instances.values():
            self._post(instance, StartDelayed(self._not_before))

    def _add(self, config: VrrpInstance) -> Instance:
        instance = Instance(key=config.key, router=VirtualRouter(config), examiner=Examiner(config))
        instance.group = self._group_of.get(config.name, "")
        self.instances[config.key] = instance
        self.connector.connect(instance)
        return instance

    def _assemble(self, config: VrrpSlice) -> None:
        """The instances by the names that `config` has for them, and the groups."""
        members = {each.name: self.instances[each.key] for each in config.vrrp.instances}
        self.engine.configure(members, {name: group.members for name, group in self._group_configs.items()})

    def _start_instances(self, instances: list[Instance], was_master: set[str]) -> None:
        """Conditions of all first, since what holds one member of a group back holds all back; then they start."""
        for instance in instances:
            self._judge(instance)
            if instance.name not in was_master:
                self.runner.remove_left_overs(instance)
        with self.teller.starting():
            self.engine.start(
                instances,
                lambda each: Startup(State.MASTER if each.name in was_master else None, self._not_before),
                now(),
            )
        for instance in instances:
            if instance.name in was_master and instance.router.state is not State.MASTER:
                self.runner.remove_left_overs(instance)  # it cannot go on where its predecessor was killed

    def _filter_vmac(self, owner: Owner, spoken: frozenset[int], link: Link | None) -> None:
        """Reports of group membership leave below a VMAC, from the first one on."""
        elements = vmac_filter(spoken, link.index, link.parent) if link is not None else frozenset[Element]()
        self.runner.firewall.set(("vmac", owner), elements)

    def _ask_again(self, key: VirtualRouterKey) -> None:
        if key in self.instances and not self._leaving:
            self._reconnect(self.instances[key])

    def _same_group(self, one: VirtualRouterKey, other: VirtualRouterKey) -> bool:
        groups = {self.instances[key].group for key in (one, other) if key in self.instances}
        return len(groups) == 1 and "" not in groups

    async def check(self, new: VrrpSlice) -> None:
        self._check(new)

    async def apply(self, new: VrrpSlice) -> None:
        """Move to `new`: what did not change is not touched.

        An interface that is gone is no reason to stay: it may be what has been there before that is gone back to.
        """
        await self._filter(new)
        self.teller.configure(new)
        self._keep(new)
        self._arrange(new)
        self._delay(new)
        wanted = {config.key: config for config in new.vrrp.instances}
        for key in [key for key in self.instances if key not in wanted]:
            self._remove(self.instances[key])
        added = [self._add(config) for key, config in wanted.items() if key not in self.instances]
        self._assemble(new)
        self.link_states.apply(new)
        self.trackers.apply(new)
        self.relations.forget()
        self.config = new
        kept = [each for each in self.instances.values() if each not in added]
        # who gets addresses comes first, so that those that only change hands stay where they are
        for instance in sorted(kept, key=lambda each: not _gains(each.config, wanted[each.key])):
            self._reconfigure(instance, wanted[instance.key])
        for instance in kept:
            self._judge(instance)
        self.engine.regroup(now())
        if new.global_defs.fifo_write_vrrp_states_on_reload:
            self._tell_states(kept)
        self._start_instances(added, set())
        self._stir()  # what one gave up may be another's now

    def _held_by_others(self, instance: Instance) -> set[AddressKey]:
        if not self._shared:
            return set()
        others = [each for each in self.instances.values() if each is not instance]
        return {
            key
            for key in instance.rows
            if key.address in self._shared
            and any(key in each.rows for each in others if each.router.state is State.MASTER)
        }

    def _remove(self, instance: Instance) -> None:
        """An instance that the new configuration does not have: farewell, addresses out."""
        logger.info("(%s) is removed by the reload", instance.name)
        instance.group, instance.leaving = "", True
        self._post(instance, Shutdown())
        self.connector.disconnect(instance)
        del self.instances[instance.key]
        self.relations.forget()
        self.timers.rearm(instance.key)
        if instance.config.vmac is not None or instance.extra:
            self.slices.add(instance.key, partial(self.vmacs.forget, instance.key))

    def _reconfigure(self, instance: Instance, config: VrrpInstance) -> None:
        if instance.config == config:
            return
        before, name = set(instance.rows), instance.name
        instance.examiner.reconfigure(config)
        instance.prepared = None
        self._post(instance, ConfigChanged(config))
        if instance.name != name and instance.router.started:
            self.teller.renamed(instance, name, taken=name in self.engine.members)
        self.connector.connect(instance)
        self.connector.refill(instance)
        self.runner.guard(instance)
        news = [key for key in instance.rows if key not in before]
        if news and instance.router.state is State.MASTER:
            self.runner.announce(instance, news, config.garp.master_repeat)

    # events and effects -------------------------------------------------------------------------------------------

    def _post(self, instance: Instance, event: Event) -> None:
        """Step the machine, perform what it wants, and tell its group; events that follow are handled in turn."""
        self.engine.post(instance, event, now())

    def _perform(self, instance: Instance, effects: list[Effect]) -> None:
        if any(isinstance(each, Transition) and each.new is State.MASTER for each in effects):
            instance.examiner.became_master()
        self.runner.perform(instance, effects)
        if SetVips(False) in effects:
            self._stir()  # another instance may hold a route that this one has just removed
        self.timers.rearm(instance.key)

    def _group_moved(self, found: GroupTransition) -> None:
        self.runner.group_transition(found, self._group_configs[found.name])

    def _tell_states(self, instances: Iterable[Instance]) -> None:
        """fifo_write_vrrp_states_on_reload."""
        routers = [(INSTANCE, each.name, each.router.state, each.router.priority) for each in instances]
        groups = self.engine.groups.items()
        self.teller.states([*routers, *((GROUP, name, group.state, 0) for name, group in groups)])

    # what arrives -------------------------------------------------------------------------------------------------

    def _heard(self, instance: Instance, datagram: Datagram) -> None:
        """A datagram for the VRID of an instance."""
        if instance.router.state in (State.INIT, State.FAULT) and not instance.router.handing_over:
            return
        try:
            advert = instance.examiner.examine(datagram, master=instance.router.state is State.MASTER, wall=time.time())
        except PacketError as exc:
            if instance.once((exc.reason, datagram.source)):
                crowd = {log.CROWD: (instance.name, exc.reason)}
                logger.warning("(%s) advert from %s discarded: %s", instance.name, datagram.source, exc, extra=crowd)
            return
        if instance.receiver is not None:
            self.hearing.audience.heard(instance.receiver, datagram.source)
        stranger = self.hearing.census(instance.advert_index).stranger(advert) if advert.foreign else ""
        remark(instance, datagram, advert, stranger)
        self._post(instance, AdvertReceived(advert.priority, advert.adver_int, advert.source))
        if instance.router.state is State.INIT:
            self.hand_over.took_over()

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
            if timer is Timer.MASTER_DOWN:
                self.runner.lines.add(partial(detail.master_is_silent, instance.name))

    # faults and priority ------------------------------------------------------------------------------------------

    def _judge(self, instance: Instance) -> None:
        """Compare every condition of vrrp-behaviour.md 7 with what the machine believes, and the priority too."""
        faults, priority = self.conditions.faults(instance), self.trackers.priority(instance.config)
        self.engine.judge(instance, faults, priority, now())

    def _judge_all(self) -> None:
        for instance in list(self.instances.values()):
            self._judge(instance)

    def _link_up(self, name: str) -> bool:
        return self.link_states.running(name)

    def _tracked_changed(self, kind: str, name: str) -> None:
        for instance in list(self.instances.values()):
            if any((track.kind, track.name) == (kind, name) for track in self.trackers.of(instance.config)):
                self._judge(instance)

    def _inherit(self) -> None:
        """After a restart: what the predecessor knew of its scripts, and what the checker had said to it."""
        for report in self.context.reported:
            if isinstance(report, VirtualServerStateChanged):
                self.trackers.service_changed(report)
            elif isinstance(report, ScriptStateChanged):
                self.trackers.scripts.inherited[report.name] = report

    # links --------------------------------------------------------------------------------------------------------

    def _link_changed(self, found: LinkNotice | AddressNotice) -> None:
        if self._leaving:
            return  # what goes now goes because of us
        if isinstance(found, LinkNotice):
            self.link_states.refresh_all()
            self._about_link(found.link.name, found.link.index)
            if not found.present:
                self.hearing.forget(found.link.index)
            self._back_up(found)
            self._stir()
            return
        if not found.present:
            self._removed(found.key, found.port)
        virtual = found.key.address in self.connector.virtual
        for instance in self.relations.concerned(found.key.address, *(() if virtual else (found.key.ifindex,))):
            self._reconnect(instance)
        if not virtual:
            self._stir()

    def _about_link(self, name: str, index: int = 0) -> None:
        """Look again at every instance that has to do with an interface; one that was renamed is known by its index."""
        for instance in self.relations.concerned(name, index):
            self._reconnect(instance)

    def _link_settled(self, name: str) -> None:
        """An interface began or ceased to count as up because of a delay or a poll."""
        self._about_link(name)
        self._stir()

    def _back_up(self, found: LinkNotice) -> None:
        """IPv6 addresses do not outlive that their interface is down, and instances may not have minded that it was."""
        index = found.link.index
        if found.present and not found.link.running:
            if index not in self._stopped_running:
                self._stopped_running.add(index)
                self._told_of_link(found.link, "down")
            return
        if index in self._stopped_running:
            self._stopped_running.discard(index)
            self._told_of_link(found.link, "up" if found.present else "deleted")
            for instance in self.instances.values() if found.present else ():
                if any(key.ifindex == index for key in instance.rows):
                    self.connector.refill(instance, index)

    def _told_of_link(self, link: Link, what: str) -> None:
        """In keepalived's words; VMACs of ours are nobody's business."""
        if not self.relations.concerned(link.name, link.index):
            return
        if not any(link.name in self.vmacs.names_of(key) for key in self.instances):
            logger.info("Netlink reports %s %s", link.name, what)

    def _removed(self, key: AddressKey | RouteKey | RuleKey, port: int) -> None:
        self.keeper.removed(key, port)
        self.static.removed(key, port)

    def _stir(self) -> None:
        self.keeper.stir()
        self.static.stir()

    def _links_reread(self) -> None:
        self.link_states.refresh_all()
        self.keeper.reread()
        self.static.stir()
        for instance in list(self.instances.values()):
            self._reconnect(instance)

    def _reconnect(self, instance: Instance) -> None:
        before, affected = instance.source, self.relations.namesakes().others(instance)
        self.connector.connect(instance)
        if instance.source is not None and instance.source != before:
            self._post(instance, SourceChanged(instance.source))
        self._judge(instance)
        self.connector.refill(instance)
        for other in (*affected, *self.relations.namesakes().others(instance)):
            self._judge(other)

    # orders -------------------------------------------------------------------------------------------------------

    def on_message(self, msg: Any) -> None:
        if isinstance(msg, VirtualServerStateChanged):
            self.trackers.service_changed(msg)
        elif isinstance(msg, BfdSessionChanged):
            self.trackers.session_changed(msg)
        else:
            super().on_message(msg)

    async def drain(self) -> None:
        """Nothing of VRRP can be put off."""

    async def stop(self) -> None:
        """Farewell first, then the addresses, then people get a second."""
        keep = self.options.keep_vrrp
        own = {key.address for key in self.monitor.addresses}
        wanted = self.config.global_defs.hand_over
        for instance in self.instances.values():
            if instance.router.state is not State.INIT:
                self._post(instance, Shutdown(keep, hand_over=self.hand_over.is_followed(instance, wanted, own)))
        waiting = [each for each in self.instances.values() if each.router.handing_over]
        await self.hand_over.wait(waiting, self.config.global_defs.root.child_wait_time / 2)
        for instance in waiting:
            self._post(instance, Shutdown())
        self.slices.finish()
        self.settings.stop()
        if not keep:
            self.vmacs.forget_all()
            self.sysctls.restore()
        self.static.stop()
        self._leaving = self.engine.leaving = True
        self.engine.settle()
        self.trackers.stop()
        self.link_states.stop()
        if not keep:
            await self.runner.firewall.close()
        await self.notifier.finish()
        self.runner.lines.finish()

    def dump(self, kind: DumpKind) -> None:
        self.writer.write(kind, self.config, self.describe)

    def describe(self) -> Callable[[], str]:
        """keepalived.data."""
        vitals = tuple(self.vitals())
        restored = {
            "Addresses, routes and rules": self.keeper.restored + self.static.restored,
            "VMACs": self.vmacs.restored,
            "Kernel settings": self.settings.restored,
            "Filters": self.runner.firewall.restorer.restored,
        }
        return lambda: self.writer.state(self.config, vitals, self.runner.queued(), restored)

    def vitals(self) -> Iterator[str]:
        yield from super().vitals()
        yield from self.timers.lateness.lines("adverts")

    def armed(self) -> int:
        return self.timers.armed


def _gains(old: VrrpInstance, new: VrrpInstance) -> bool:
    """Whether a reload gives an instance addresses."""
    before, after = ({row.address for row in (*each.addresses, *each.excluded)} for each in (old, new))
    return not after <= before

"""Performs what the machines ask for: adverts, addresses, announcements, and telling people, in the order given."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable
from functools import partial
from itertools import chain

from keepalived_py import log
from keepalived_py.config.model import FirewallSettings, GarpDefaults, GarpGroup, SyncGroup, VrrpInstance
from keepalived_py.plan.links import AddAddress, AddressKey, DeleteAddress, desired_addresses, reconcile, slot
from keepalived_py.plan.routes import AddEntry, desired_entries, insertions, reconcile_entries
from keepalived_py.values import VirtualRouterKey
from keepalived_py.vrrp.effects import (
    AnnounceExtra,
    AnnounceSource,
    AnnounceVips,
    Effect,
    LowerPriorityHeard,
    Note,
    PriorityShifted,
    SendAdvert,
    SetVips,
    StopAnnouncing,
    Transition,
    WantMaster,
)
from keepalived_py.vrrp.states import State
from keepalived_py.vrrp.sync_group import GroupTransition
from workers.sync_daemon import InstanceFollower

from . import detail
from .announce import Announcer, Frames
from .detail import Lines
from .firewall import Firewall
from .firewall_rules import is_closed, vips
from .instance import Instance, Prepared
from .link_monitor import LinkMonitor
from .pacing import QUEUE_FULL_PAUSE, timed_pacer
from .promotion import promoting
from .route_netlink import encode_entry
from .rtnetlink import Batch, RequestSocket, batches
from .slices import SIZE, SliceQueue
from .teller import STOP, Teller

logger = logging.getLogger(__name__)

SCRIPT_STATE = {State.INIT: STOP}


def difference(instance: Instance, prepared: Prepared, present: bool) -> list[Batch]:
    """From what an instance holds to what it should. Routes depend on addresses: they go before them, and what stays
    comes again after any of them changed, since the kernel may have dropped it without a word."""
    desired, entries = (prepared.desired, prepared.entries) if present else ({}, ())
    gone, missing = reconcile_entries(entries, instance.entries)
    addresses = batches(reconcile(desired, instance.rows, instance.rows), SIZE)
    coming = entries if addresses else tuple(op.entry for op in missing)
    return [*batches(gone, SIZE, encode_entry), *addresses, *batches(insertions(coming), SIZE, encode_entry)]


class EffectRunner:
    """One per worker. Becoming master is: one advert, the addresses in batches, the announcements, then people."""

    def __init__(
        self,
        requests: RequestSocket,
        monitor: LinkMonitor,
        announcer: Announcer,
        teller: Teller,
        slices: SliceQueue,
    ) -> None:
        self._requests, self._monitor, self._announcer = requests, monitor, announcer
        self._teller, self._slices = teller, slices
        self.firewall = Firewall()
        self.sync = InstanceFollower()
        self.lines = Lines()
        self.held_by_others: Callable[[Instance], Container[AddressKey]] = lambda instance: ()
        """Rows of an instance that another MASTER holds as well: a reload moves addresses from one to another."""
        self._bursts: dict[VirtualRouterKey, Counter[int]] = {}
        """How many times each piece of an instance's announcements waits for its turn."""
        self._pacer = timed_pacer(announcer.send, monitor.base_of)

    def pace(self, defaults: GarpDefaults, groups: Iterable[GarpGroup]) -> None:
        """Least gaps between announcements."""
        self._pacer.configure(defaults, groups)

    def queued(self) -> int:
        """Announcements that wait for their gap."""
        return self._pacer.waiting()

    def perform(self, instance: Instance, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case SendAdvert():
                    self._advertise(instance, effect.priority)
                case SetVips():
                    self.set_addresses(instance, effect.present)
                case AnnounceVips():
                    self.announce(instance, None, effect.rounds)
                case AnnounceExtra():
                    self._announce_extra(instance)
                case AnnounceSource():
                    self._announce_source(instance)
                case StopAnnouncing():
                    self._slices.cancel(instance.key)
                    self._pacer.drop(instance.key)
                    self._bursts.pop(instance.key, None)
                case Transition():
                    self._transition(instance, effect)
                case Note():
                    level = logging.WARNING if effect.warning else logging.INFO
                    crowd = {log.CROWD: (instance.name, effect.kind)} if effect.kind else None
                    logger.log(level, "(%s) %s", instance.name, effect.text, extra=crowd)
                case LowerPriorityHeard():
                    self._teller.lower_priority(instance)
                case PriorityShifted():
                    logger.debug("(%s) effective priority is %d", instance.name, effect.priority)
                    self._teller.priority(instance, effect.priority)
                case WantMaster():
                    logger.debug("(%s) wants to be MASTER (%s), waits for its group", instance.name, effect.reason)

    def _advertise(self, instance: Instance, priority: int) -> None:
        if instance.sender is None:
            return
        error = instance.sender.send(priority)
        if error and instance.once(("send", error)):
            logger.error("(%s) cannot send advert: %s", instance.name, error)
        instance.counters.sent += 1
        if priority == 0:
            instance.counters.zero_sent += 1
            self.lines.add(partial(detail.farewell, instance.name))

    # addresses ----------------------------------------------------------------------------------------------------

    def prepare(self, instance: Instance) -> Prepared:
        """Encode what becoming and leaving master will need; again only when links or configuration changed."""
        config, index_of = instance.config, self._monitor.index_of()
        desired = desired_addresses(config, instance.ifindex, index_of, instance.base_index, instance.extra)
        macs = {key.ifindex: self._monitor.links[key.ifindex] for key in desired if key.ifindex in self._monitor.links}
        tables = self._monitor.tables()
        where = (index_of, tables) if config.routes else ()
        basis = (config.addresses, config.excluded, instance.ifindex, macs, config.rules, config.routes, where)
        if instance.prepared is None or instance.prepared.basis != basis:
            frames = self._announcer.frames(desired, self._monitor.links)
            entries = desired_entries(config.routes, config.rules, index_of, tables)
            lasting = [entry for entry in entries if not entry.transient]
            instance.prepared = Prepared(
                basis,
                desired,
                entries,
                batches(insertions(lasting), SIZE, encode_entry),
                batches(reconcile(desired, (), {}), SIZE) + batches(insertions(entries), SIZE, encode_entry),
                batches(reconcile_entries((), entries)[0], SIZE, encode_entry)
                + batches(reconcile({}, desired, desired), SIZE),
                [frames[start : start + SIZE] for start in range(0, len(frames), SIZE)],
            )
            if instance.rows:
                self.guard(instance)  # an interface that it holds something on may be called otherwise now
        return instance.prepared

    def set_addresses(self, instance: Instance, present: bool) -> list[AddressKey]:
        """Bring the kernel to what the instance should hold, routes and rules too; the addresses that were missing.

        What is there is what was asked for before, not what notices have told so far: those lag behind.
        """
        prepared = instance.prepared or self.prepare(instance)
        desired, entries = (prepared.desired, prepared.entries) if present else ({}, ())
        theirs = self.held_by_others(instance)
        if theirs:  # and theirs to remove
            instance.rows = {key: row for key, row in instance.rows.items() if key in desired or key not in theirs}
        if present and not instance.rows and not instance.entries:
            steps = prepared.additions
        elif not present and (instance.rows, instance.entries) == (prepared.desired, prepared.entries):
            steps = prepared.deletions
        else:
            steps = difference(instance, prepared, present)
        instance.rows, instance.entries = dict(desired), entries
        if present and instance.prepared is not None:
            self._pacer.retain(instance.key, chain.from_iterable(instance.prepared.frames))
        if present:
            self.guard(instance)  # before the addresses: not one packet is to get through
        for batch in steps:
            self._slices.add(instance.key, partial(self._submit, instance, batch))
        if not present:
            self._slices.add(instance.key, partial(self.guard, instance))
        if steps:
            self.lines.add(partial(detail.addresses, instance.name, steps))
        return [op.key for batch in steps for op in batch.ops if isinstance(op, AddAddress)]

    def guard(self, instance: Instance) -> None:
        """Accept mode off: nothing to or from the addresses that are held."""
        config = instance.config
        closed = instance.rows if is_closed(config) else {}
        self.firewall.set(instance.key, vips(config, closed, self._monitor.links, self.firewall.settings))

    def renew_entries(self, instance: Instance) -> None:
        """Put all routes and rules again: the kernel drops routes without a word, and those there do not mind."""
        prepared = self.prepare(instance)
        instance.entries = prepared.entries
        for batch in prepared.renewals:
            self._slices.add(instance.key, partial(self._submit, instance, batch))

    def expect_left_overs(self, configs: Iterable[VrrpInstance], settings: FirewallSettings) -> None:
        """Addresses of a predecessor that was killed stay closed while the filters are made anew."""
        for config in filter(is_closed, configs):
            own = {row.address: row for row in (*config.addresses, *config.excluded)}
            held = {key: own[key.address] for key in self._monitor.addresses if key.address in own}
            if held:
                self.firewall.expect(config.key, vips(config, held, self._monitor.links, settings))

    def remove_left_overs(self, instance: Instance) -> None:
        """What the instance would hold and has not put there: a predecessor was killed."""
        prepared = self.prepare(instance)
        for batch in batches(reconcile_entries((), prepared.entries)[0], SIZE, encode_entry):
            self._requests.submit(batch)  # most are not there; what cannot be there is told when it is to be added
        own = {slot(key): row for key, row in prepared.desired.items()}
        left = [DeleteAddress(key, own[slot(key)]) for key in self._monitor.addresses if slot(key) in own]
        if left:
            logger.info("(%s) removing %d addresses left by an earlier process", instance.name, len(left))
        for batch in batches(left, SIZE):
            self._submit(instance, batch)
        self.guard(instance)

    def _submit(self, instance: Instance, batch: Batch) -> None:
        seen = self._monitor
        with promoting(batch.ops, instance.rows, seen.addresses, seen.secondary, seen.links):
            errors = self._requests.submit(batch)
        for error in errors:
            if isinstance(error.op, AddEntry):
                refused = error.op.entry
                instance.entries = tuple(entry for entry in instance.entries if entry != refused)
                if not instance.once(("entry", refused, error.code)):
                    continue
            logger.error("(%s) %s", instance.name, error)

    def _announce_source(self, instance: Instance) -> None:
        """One frame for the address that unicast adverts come from."""
        if instance.source is not None and instance.ifindex:
            key = AddressKey(instance.ifindex, instance.source, instance.source.max_prefixlen)
            self.announce(instance, [key], 1)

    def announce(self, instance: Instance, keys: Iterable[AddressKey] | None, rounds: int) -> None:
        """The addresses `keys`, or all, round by round."""
        if keys is None:
            chunks = (instance.prepared or self.prepare(instance)).frames
        else:
            chunks = [self._announcer.frames(keys, self._monitor.links)]
        queued = [
            self._queue(instance, chunk, rounds, number if keys is None else None)
            for _ in range(rounds)
            for number, chunk in enumerate(chunks)
        ]
        if any(queued):
            self.lines.add(partial(detail.announcements, instance.name, chunks, rounds))

    def _queue(self, instance: Instance, chunk: Frames, rounds: int, number: int | None) -> bool:
        """One piece of a burst; of all the addresses no piece (`number`) waits more often than there are rounds:
        False for one that does."""
        if number is None:
            self._slices.add(instance.key, partial(self._send, instance, chunk, rounds))
            return True
        waiting = self._bursts.setdefault(instance.key, Counter())
        if waiting[number] >= rounds:
            return False
        waiting[number] += 1
        self._slices.add(instance.key, partial(self._send_piece, waiting, number, instance, chunk, rounds))
        return True

    def _send_piece(self, waiting: Counter[int], number: int, instance: Instance, chunk: Frames, rounds: int) -> None:
        waiting[number] -= 1
        self._send(instance, chunk, rounds)

    def _announce_extra(self, instance: Instance) -> None:
        """One address of each interface that holds some and sends no adverts: VMACs, or all with garp_extra_if all."""
        links = self._monitor.links
        first = {key.ifindex: key for key in reversed(instance.rows) if key.ifindex != instance.advert_index}
        everywhere = instance.config.garp.extra_if_all
        extra = [key for key in first.values() if everywhere or (key.ifindex in links and links[key.ifindex].is_vmac)]
        self.announce(instance, extra, 1)

    def _send(self, instance: Instance, frames: Frames, repeat: int) -> None:
        """What the interface does not take now comes again in a moment, while it still is to be announced."""
        rest = self._pacer.send(instance.key, frames, repeat)
        if rest and instance.router.state is State.MASTER:
            asyncio.get_running_loop().call_later(QUEUE_FULL_PAUSE, self._send, instance, rest, repeat)

    # telling ------------------------------------------------------------------------------------------------------

    def _transition(self, instance: Instance, effect: Transition) -> None:
        instance.reported.clear()
        instance.last_transition = time.time()
        self.sync.moved(instance.name, None if effect.new is State.INIT else effect.new is State.MASTER)
        if effect.new is State.MASTER:
            instance.counters.became_master += 1
            instance.losses.clear()
        elif effect.old is State.MASTER:
            instance.counters.released_master += 1
        state = SCRIPT_STATE.get(effect.new, effect.new.value)
        if state == STOP:
            logger.info("(%s) Stopping (%s)", instance.name, effect.reason)
        else:
            logger.info("(%s) Entering %s STATE (%s)", instance.name, state, effect.reason)
        if instance.leaving:
            self._teller.removed(instance, effect.old)
        else:
            self._teller.instance(instance, effect.old, state, effect.reason)

    def group_transition(self, found: GroupTransition, config: SyncGroup) -> None:
        state = SCRIPT_STATE.get(found.new, found.new.value)
        if state != STOP:
            logger.info("VRRP_Group(%s) Syncing instances to %s state", found.name, state)
        self._teller.group(config, found.old, state)

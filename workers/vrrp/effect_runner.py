"""Performs what the machines ask for: adverts, addresses, announcements, and telling people, in the order given."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from functools import partial

from ipc.channel import Channel
from ipc.messages import VrrpStateChanged
from keepalived_py.clock import now
from keepalived_py.config.model import NotifyScripts
from keepalived_py.plan.links import AddAddress, AddressKey, desired_addresses, reconcile
from keepalived_py.vrrp.effects import (
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
from workers.notify import Notifier

from .announce import Announcer, Frames
from .instance import Instance, Prepared
from .link_monitor import LinkMonitor
from .rtnetlink import Batch, RequestSocket, batches
from .slices import SIZE, SliceQueue

logger = logging.getLogger(__name__)

QUEUE_FULL_PAUSE = 0.01
"""Seconds that a full interface queue gets before announcements go on."""

SCRIPT_STATE = {State.INIT: "STOP"}


class EffectRunner:
    """One per worker. Becoming master is: one advert, the addresses in batches, the announcements, then people."""

    def __init__(
        self,
        requests: RequestSocket,
        monitor: LinkMonitor,
        announcer: Announcer,
        notifier: Notifier,
        channel: Channel,
        slices: SliceQueue,
    ) -> None:
        self._requests, self._monitor, self._announcer = requests, monitor, announcer
        self._notifier, self._channel, self._slices = notifier, channel, slices

    def perform(self, instance: Instance, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case SendAdvert():
                    self._advertise(instance, effect.priority)
                case SetVips():
                    self.set_addresses(instance, effect.present)
                case AnnounceVips():
                    self.announce(instance, None, effect.rounds)
                case AnnounceSource():
                    self._announce_source(instance)
                case StopAnnouncing():
                    self._slices.cancel(instance.key)
                case Transition():
                    self._transition(instance, effect)
                case Note():
                    logger.log(
                        logging.WARNING if effect.warning else logging.INFO, "(%s) %s", instance.name, effect.text
                    )
                case LowerPriorityHeard():
                    self._notifier.run(instance.name, instance.config.notify.master_rx_lower_pri)
                case PriorityShifted():
                    logger.debug("(%s) effective priority is %d", instance.name, effect.priority)
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

    # addresses ----------------------------------------------------------------------------------------------------

    def prepare(self, instance: Instance) -> Prepared:
        """Encode what becoming and leaving master will need; again only when links or configuration changed."""
        config, index_of = instance.config, self._monitor.index_of()
        desired = desired_addresses(config, instance.ifindex, index_of)
        macs = {key.ifindex: self._monitor.links[key.ifindex] for key in desired if key.ifindex in self._monitor.links}
        basis = (config.addresses, config.excluded, instance.ifindex, macs)
        if instance.prepared is None or instance.prepared.basis != basis:
            frames = self._announcer.frames(desired, self._monitor.links)
            instance.prepared = Prepared(
                basis,
                desired,
                batches(reconcile(desired, (), {}), SIZE),
                batches(reconcile({}, desired, desired), SIZE),
                [frames[start : start + SIZE] for start in range(0, len(frames), SIZE)],
            )
        return instance.prepared

    def set_addresses(self, instance: Instance, present: bool) -> list[AddressKey]:
        """Bring the kernel to what the instance should hold; the addresses that were missing.

        What is there is what was asked for before, not what notices have told so far: those lag behind.
        """
        prepared = instance.prepared or self.prepare(instance)
        desired = prepared.desired if present else {}
        if present and not instance.rows:
            steps = prepared.additions
        elif not present and instance.rows == prepared.desired:
            steps = prepared.deletions
        else:
            steps = batches(reconcile(desired, instance.rows, instance.rows), SIZE)
        instance.rows = dict(desired)
        for batch in steps:
            self._slices.add(instance.key, partial(self._submit, instance, batch))
        return [op.key for batch in steps for op in batch.ops if isinstance(op, AddAddress)]

    def remove_left_overs(self, instance: Instance) -> None:
        """Addresses of the instance that stand although it has not put them there: a predecessor was killed."""
        left = list(reconcile({}, self._monitor.addresses, self.prepare(instance).desired))
        if left:
            logger.info("(%s) removing %d addresses left by an earlier process", instance.name, len(left))
        for batch in batches(left, SIZE):
            self._submit(instance, batch)

    def _submit(self, instance: Instance, batch: Batch) -> None:
        for error in self._requests.submit(batch):
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
        for _ in range(rounds):
            for chunk in chunks:
                self._slices.add(instance.key, partial(self._send, instance, chunk))

    def _send(self, instance: Instance, frames: Frames) -> None:
        """What the interface does not take now comes again in a moment, while it still is to be announced."""
        rest = self._announcer.send(frames)
        if rest and instance.router.state is State.MASTER:
            asyncio.get_running_loop().call_later(QUEUE_FULL_PAUSE, self._send, instance, rest)

    # telling ------------------------------------------------------------------------------------------------------

    def _transition(self, instance: Instance, effect: Transition) -> None:
        instance.reported.clear()
        instance.last_transition = time.time()
        if effect.new is State.MASTER:
            instance.counters.became_master += 1
            instance.losses.clear()
        elif effect.old is State.MASTER:
            instance.counters.released_master += 1
        state = SCRIPT_STATE.get(effect.new, effect.new.value)
        if state == "STOP":
            logger.info("(%s) Stopping (%s)", instance.name, effect.reason)
        else:
            logger.info("(%s) Entering %s STATE (%s)", instance.name, state, effect.reason)
        self._tell(
            "INSTANCE",
            instance.name,
            effect.old,
            state,
            instance.router.priority,
            effect.reason,
            instance.config.notify,
        )

    def group_transition(self, found: GroupTransition, scripts: NotifyScripts) -> None:
        state = SCRIPT_STATE.get(found.new, found.new.value)
        if state != "STOP":
            logger.info("VRRP_Group(%s) Syncing instances to %s state", found.name, state)
        self._tell("GROUP", found.name, found.old, state, 0, "state of its members", scripts)

    def _tell(
        self, kind: str, name: str, old: State, state: str, priority: int, reason: str, scripts: NotifyScripts
    ) -> None:
        self._channel.send(
            VrrpStateChanged(
                kind=kind, name=name, old=old.value, new=state, priority=priority, reason=reason, time=now()
            )
        )
        environment = {
            "KEEPALIVED_TYPE": kind,
            "KEEPALIVED_NAME": name,
            "KEEPALIVED_STATE": state,
            "KEEPALIVED_PREVIOUS_STATE": old.value,
            "KEEPALIVED_PRIORITY": str(priority),
            "KEEPALIVED_REASON": reason,
        }
        own = {"MASTER": scripts.master, "BACKUP": scripts.backup, "FAULT": scripts.fault, "STOP": scripts.stop}
        subject = f"{kind} {name}"
        self._notifier.run(subject, own[state], (), environment)
        self._notifier.run(subject, scripts.any, (kind, name, state, str(priority)), environment)

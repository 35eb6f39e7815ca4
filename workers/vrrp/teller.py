"""Tells people and the parent what became of instances and sync groups: scripts, FIFOs, mail (vrrp-behaviour.md 9)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from ipc.channel import Channel
from ipc.messages import VrrpStateChanged
from keepalived_py.clock import now
from keepalived_py.config.model import NotifyScripts, VrrpSlice
from keepalived_py.config.model import SyncGroup as GroupConfig
from keepalived_py.records import dataclass
from keepalived_py.vrrp.states import State
from workers.notify import Notifier

from .instance import Instance

STOP, DELETED = "STOP", "DELETED"
INSTANCE, GROUP = "INSTANCE", "GROUP"
SUBJECTS = {
    State.MASTER.value: "Entering MASTER state",
    State.BACKUP.value: "Entering BACKUP state",
    State.FAULT.value: "Entering FAULT state",
    STOP: "Stopping",
    DELETED: "Deleted",
}
INSTANCE_BODIES = {
    State.MASTER.value: "=> VRRP Instance is now owning VRRP VIPs <=",
    State.BACKUP.value: "=> VRRP Instance is no longer owning VRRP VIPs <=",
    State.FAULT.value: "=> VRRP Instance is no longer owning VRRP VIPs <=",
    STOP: "=> VRRP Instance stopping <=",
    DELETED: "=> VRRP Deleted at reload <=",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _News:
    """One change of state. `state` is the word that scripts and FIFOs get."""

    kind: str
    name: str
    old: str
    state: str
    priority: int
    reason: str
    scripts: NotifyScripts
    mail: bool
    sequence: int = 0


class Teller:
    """One per worker. Knows what was mailed last, so that nothing is mailed twice."""

    def __init__(self, notifier: Notifier, channel: Channel) -> None:
        self._notifier, self._channel = notifier, channel
        self._mailed: dict[tuple[str, str], str] = {}
        self._no_fault_mail = False
        self._held: list[_News] | None = None

    def configure(self, config: VrrpSlice) -> None:
        """FIFOs, mail and limits of `config`. The checker runs the program of notify_fifo where there is one."""
        defs = config.global_defs
        self._no_fault_mail = defs.mail.no_email_faults
        shared = defs.notify_fifo
        if shared is not None and not config.runs_notify_fifo_script:
            shared = replace(shared, script=None)
        self._notifier.configure(defs, (shared, defs.vrrp_notify_fifo))

    @contextmanager
    def starting(self) -> Iterator[None]:
        """What happens meanwhile is told at the end: groups that are BACKUP or FAULT before all others (section 8)."""
        self._held = []
        try:
            yield
        finally:
            held, self._held = self._held, None
            early = (State.BACKUP.value, State.FAULT.value)
            for news in sorted(held, key=lambda news: not (news.kind == GROUP and news.state in early)):
                self._tell(news)

    # what happened ------------------------------------------------------------------------------------------------

    def instance(self, instance: Instance, old: State, state: str, reason: str, *, silent: bool = False) -> None:
        """`silent`: the script of the state is left out, as keepalived does for an instance that is removed."""
        notify = replace(instance.config.notify, fault=None) if silent else instance.config.notify
        self._tell(
            _News(
                kind=INSTANCE,
                name=instance.name,
                old=old.value,
                state=state,
                priority=instance.router.priority,
                reason=reason,
                scripts=notify,
                mail=instance.config.smtp_alert,
                sequence=instance.examiner.sequence,
            )
        )

    def group(self, config: GroupConfig, old: State, state: str) -> None:
        self._tell(
            _News(
                kind=GROUP,
                name=config.name,
                old=old.value,
                state=state,
                priority=0,
                reason="state of its members",
                scripts=config.notify,
                mail=config.smtp_alert,
            )
        )

    def removed(self, instance: Instance, old: State) -> None:
        """A reload has left the instance out."""
        deleted = instance.config.notify.report_deleted
        if deleted or old is not State.FAULT:
            state = DELETED if deleted else State.FAULT.value
            self.instance(instance, old, state, "removed by the reload", silent=not deleted)
        self._report_instance(instance, old.value, STOP, "removed by the reload")
        self._mailed.pop((INSTANCE, instance.name), None)

    def renamed(self, instance: Instance, before: str, *, taken: bool) -> None:
        """A reload gave a running instance another name, and its old one to another if that is `taken`.

        Whoever remembers it has to know it by the new one.
        """
        state = instance.router.state.value
        if not taken:
            self._report(INSTANCE, before, state, STOP, instance.router.priority, "renamed by the reload", 0)
        self._report_instance(instance, STOP, state, "renamed by the reload")
        if (INSTANCE, before) in self._mailed:
            self._mailed[INSTANCE, instance.name] = self._mailed.pop((INSTANCE, before))

    def lower_priority(self, instance: Instance) -> None:
        """A MASTER heard a router of lower priority."""
        self._notifier.run(f"{INSTANCE} {instance.name}", instance.config.notify.master_rx_lower_pri)
        self._line(INSTANCE, instance.name, "MASTER_RX_LOWER_PRI", instance.router.priority)

    def priority(self, instance: Instance, priority: int) -> None:
        """The effective priority changed; at a start too, where it is not the configured one."""
        if instance.config.notify_priority_changes:
            role = "MASTER" if instance.router.state is State.MASTER else "BACKUP"
            self._line(INSTANCE, instance.name, f"{role}_PRIORITY", priority)

    def states(self, found: Iterable[tuple[str, str, State, int]]) -> None:
        """Kind, name, state and priority of everything, to the FIFOs (fifo_write_vrrp_states_on_reload)."""
        for kind, name, state, priority in found:
            if state is not State.INIT:
                self._line(kind, name, state.value, priority)

    # telling ------------------------------------------------------------------------------------------------------

    def _tell(self, news: _News) -> None:
        if self._held is not None:
            self._held.append(news)
            return
        if news.state != DELETED:
            self._report(news.kind, news.name, news.old, news.state, news.priority, news.reason, news.sequence)
        self._run_scripts(news)
        self._line(news.kind, news.name, news.state, news.priority)
        if news.mail:
            self._mail(news)

    def _report_instance(self, instance: Instance, old: str, new: str, reason: str) -> None:
        priority, sequence = instance.router.priority, instance.examiner.sequence
        self._report(INSTANCE, instance.name, old, new, priority, reason, sequence)

    def _report(self, kind: str, name: str, old: str, new: str, priority: int, reason: str, sequence: int) -> None:
        self._channel.send(
            VrrpStateChanged(
                kind=kind,
                name=name,
                old=old,
                new=new,
                priority=priority,
                reason=reason,
                time=now(),
                sequence=sequence,
            )
        )

    def _run_scripts(self, news: _News) -> None:
        environment = {
            "KEEPALIVED_TYPE": news.kind,
            "KEEPALIVED_NAME": news.name,
            "KEEPALIVED_STATE": news.state,
            "KEEPALIVED_PREVIOUS_STATE": news.old,
            "KEEPALIVED_PRIORITY": str(news.priority),
            "KEEPALIVED_REASON": news.reason,
        }
        scripts = news.scripts
        own = {
            State.MASTER.value: scripts.master,
            State.BACKUP.value: scripts.backup,
            State.FAULT.value: scripts.fault,
            STOP: scripts.stop,
            DELETED: scripts.deleted,
        }
        run = partial(self._notifier.run, f"{news.kind} {news.name}", environment=environment)
        run(own[news.state])
        run(scripts.any, (news.kind, news.name, news.state, str(news.priority)))

    def _line(self, kind: str, name: str, word: str, priority: int) -> None:
        self._notifier.fifos.write(f'{kind} "{name}" {word} {priority}\n'.encode("utf-8", "surrogateescape"))

    def _mail(self, news: _News) -> None:
        what = news.kind, news.name
        if self._mailed.get(what) == news.state or (self._no_fault_mail and news.state == State.FAULT.value):
            return
        self._mailed[what] = news.state
        if news.kind == INSTANCE:
            title, body = "Instance", INSTANCE_BODIES[news.state]
        else:
            ending = "stopping" if news.state == STOP else f"in {news.state} state"
            title, body = "Group", f"=> All VRRP group instances are now {ending} <="
        self._notifier.mailer.send(f"VRRP {title} {news.name} - {SUBJECTS[news.state]}", body)

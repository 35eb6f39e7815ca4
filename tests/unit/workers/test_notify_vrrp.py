"""Who is told what when instances and groups change: scripts, FIFO lines, mails, the parent."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from ipc.channel import Channel
from ipc.messages import VrrpStateChanged
from keepalived_py.config.model import (
    CheckerConfig,
    Config,
    Fifo,
    GlobalDefs,
    MailSettings,
    NotifyScripts,
    Script,
    SyncGroup,
    VirtualServer,
    VrrpInstance,
    VrrpSlice,
)
from keepalived_py.config.slices import vrrp_slice
from keepalived_py.values import ServiceKey
from keepalived_py.vrrp.examiner import Examiner
from keepalived_py.vrrp.machine import VirtualRouter
from keepalived_py.vrrp.states import State
from tests.unit.vrrp.builders import instance as configured
from workers.notify import Notifier
from workers.vrrp.instance import Instance
from workers.vrrp.teller import DELETED, STOP, Teller

SCRIPTS = NotifyScripts(
    master=Script(argv=("master",)),
    backup=Script(argv=("backup",)),
    fault=Script(argv=("fault",)),
    stop=Script(argv=("stop",)),
    deleted=Script(argv=("deleted",)),
    any=Script(argv=("any",)),
    master_rx_lower_pri=Script(argv=("master_rx_lower_pri",)),
)


@dataclass
class Told:
    """Stands in for the notifier and the channel and keeps everything, in order."""

    scripts: list[str] = field(default_factory=list)
    environments: list[dict[str, str]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    mails: list[tuple[str, str]] = field(default_factory=list)
    messages: list[VrrpStateChanged] = field(default_factory=list)
    fifos_configured: list[Fifo | None] = field(default_factory=list)

    @property
    def fifos(self) -> Told:
        return self

    @property
    def mailer(self) -> Any:
        return _Mailer(self)

    def configure(self, defs: GlobalDefs, fifos: tuple[Fifo | None, ...]) -> None:
        self.fifos_configured = list(fifos)

    def write(self, line: bytes) -> None:
        assert line.endswith(b"\n")
        self.lines.append(line[:-1].decode())

    def run(self, subject: str, script: Script | None, args: tuple[str, ...] = (), environment: Any = None) -> None:
        if script is not None:
            self.scripts.append(" ".join((*script.argv, *args)))
            self.environments.append(environment or {})

    def send(self, msg: VrrpStateChanged) -> None:
        self.messages.append(msg)


@dataclass
class _Mailer:
    told: Told

    def send(self, subject: str, body: str) -> None:
        self.told.mails.append((subject, body))


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def teller(told: Told) -> Teller:
    return Teller(cast(Notifier, told), cast(Channel, told))


def running(state: State = State.MASTER, **changes: Any) -> Instance:
    config: VrrpInstance = configured(**{"notify": SCRIPTS, "smtp_alert": True, "priority": 150, **changes})
    router = VirtualRouter(config)
    router.state = state
    return Instance(key=config.key, router=router, examiner=Examiner(config))


GROUP = SyncGroup(name="G", members=("VI_1",), notify=SCRIPTS, smtp_alert=True)

INSTANCE_CASES = [
    ("MASTER", "master", "Entering MASTER state", "=> VRRP Instance is now owning VRRP VIPs <="),
    ("BACKUP", "backup", "Entering BACKUP state", "=> VRRP Instance is no longer owning VRRP VIPs <="),
    ("FAULT", "fault", "Entering FAULT state", "=> VRRP Instance is no longer owning VRRP VIPs <="),
    (STOP, "stop", "Stopping", "=> VRRP Instance stopping <="),
    (DELETED, "deleted", "Deleted", "=> VRRP Deleted at reload <="),
]


@pytest.mark.parametrize(("state", "script", "subject", "body"), INSTANCE_CASES)
def test_a_change_of_an_instance(teller: Teller, told: Told, state: str, script: str, subject: str, body: str) -> None:
    teller.instance(running(), State.BACKUP, state, "because")
    assert told.scripts == [script, f"any INSTANCE VI_1 {state} 150"]
    assert told.lines == [f'INSTANCE "VI_1" {state} 150']
    assert told.mails == [(f"VRRP Instance VI_1 - {subject}", body)]
    assert told.environments[1]["KEEPALIVED_REASON"] == "because"
    assert told.environments[1]["KEEPALIVED_PREVIOUS_STATE"] == "BACKUP"


@pytest.mark.parametrize(
    ("state", "script", "subject", "body"),
    [
        ("MASTER", "master", "Entering MASTER state", "=> All VRRP group instances are now in MASTER state <="),
        ("BACKUP", "backup", "Entering BACKUP state", "=> All VRRP group instances are now in BACKUP state <="),
        ("FAULT", "fault", "Entering FAULT state", "=> All VRRP group instances are now in FAULT state <="),
        (STOP, "stop", "Stopping", "=> All VRRP group instances are now stopping <="),
    ],
)
def test_a_change_of_a_group(teller: Teller, told: Told, state: str, script: str, subject: str, body: str) -> None:
    teller.group(GROUP, State.BACKUP, state)
    assert told.scripts == [script, f"any GROUP G {state} 0"]
    assert told.lines == [f'GROUP "G" {state} 0']
    assert told.mails == [(f"VRRP Group G - {subject}", body)]


def test_the_parent_hears_of_it(teller: Teller, told: Told) -> None:
    teller.instance(running(), State.BACKUP, "MASTER", "because")
    [message] = told.messages
    assert (message.kind, message.name, message.old, message.new) == ("INSTANCE", "VI_1", "BACKUP", "MASTER")
    assert (message.priority, message.reason) == (150, "because")


def test_mail_is_sent_only_where_it_is_wanted(teller: Teller, told: Told) -> None:
    teller.instance(running(smtp_alert=False), State.BACKUP, "MASTER", "")
    teller.group(replace(GROUP, smtp_alert=False), State.BACKUP, "MASTER")
    assert not told.mails


def test_the_same_state_is_not_mailed_twice(teller: Teller, told: Told) -> None:
    for state in ("BACKUP", "BACKUP", "MASTER", "MASTER", "BACKUP"):
        teller.instance(running(), State.BACKUP, state, "")
    assert [subject.split()[-2] for subject, _ in told.mails] == ["BACKUP", "MASTER", "BACKUP"]
    assert len(told.lines) == 5


def test_no_email_faults(teller: Teller, told: Told) -> None:
    teller.configure(VrrpSlice(global_defs=GlobalDefs(mail=MailSettings(no_email_faults=True))))
    for state in ("MASTER", "FAULT", "BACKUP"):
        teller.instance(running(), State.BACKUP, state, "")
    teller.group(GROUP, State.BACKUP, "FAULT")
    assert [subject.split()[-2] for subject, _ in told.mails] == ["MASTER", "BACKUP"]


@pytest.mark.parametrize("shared", [True, False])
def test_the_program_of_notify_fifo_is_run_by_one_process(teller: Teller, told: Told, shared: bool) -> None:
    script = Script(argv=("/bin/reader",))
    both, own = Fifo(path="/run/all", script=script), Fifo(path="/run/vrrp", script=script)
    defs = GlobalDefs(notify_fifo=both, vrrp_notify_fifo=own, lvs_notify_fifo=Fifo(path="/run/lvs"))
    teller.configure(VrrpSlice(global_defs=defs, runs_notify_fifo_script=not shared))
    assert told.fifos_configured == [Fifo(path="/run/all", script=None if shared else script), own]


@pytest.mark.parametrize(
    ("servers", "checker_runs", "ours"),
    [(0, None, True), (1, None, False), (1, False, True), (0, True, False)],
)
def test_which_process_runs_that_program(servers: int, checker_runs: bool | None, ours: bool) -> None:
    server = VirtualServer(key=ServiceKey(fwmark=7, family=4))
    config = Config(checker=CheckerConfig(virtual_servers=(server,) * servers))
    assert vrrp_slice(config, checker_runs=checker_runs).runs_notify_fifo_script is ours


@pytest.mark.parametrize(
    ("report_deleted", "old", "lines"),
    [
        (True, State.MASTER, ['INSTANCE "VI_1" DELETED 150']),
        (True, State.FAULT, ['INSTANCE "VI_1" DELETED 150']),
        (False, State.MASTER, ['INSTANCE "VI_1" FAULT 150']),
        (False, State.FAULT, []),
    ],
)
def test_an_instance_that_a_reload_removes(
    teller: Teller, told: Told, report_deleted: bool, old: State, lines: list[str]
) -> None:
    teller.removed(running(notify=replace(SCRIPTS, report_deleted=report_deleted)), old)
    assert told.lines == lines
    expected = ["deleted", "any INSTANCE VI_1 DELETED 150"] if report_deleted else ["any INSTANCE VI_1 FAULT 150"]
    assert told.scripts == (expected if lines else [])
    assert told.messages[-1].new == STOP  # the parent forgets that it was MASTER


@pytest.mark.parametrize(
    ("state", "word"),
    [(State.MASTER, "MASTER"), (State.BACKUP, "BACKUP"), (State.FAULT, "BACKUP"), (State.INIT, "BACKUP")],
)
def test_changes_of_priority_are_written_where_they_are_wanted(
    teller: Teller, told: Told, state: State, word: str
) -> None:
    teller.priority(running(state), 90)
    assert not told.lines
    teller.priority(running(state, notify_priority_changes=True), 90)
    assert told.lines == [f'INSTANCE "VI_1" {word}_PRIORITY 90']
    assert not told.scripts


def test_a_lower_priority_that_a_master_hears(teller: Teller, told: Told) -> None:
    teller.lower_priority(running())
    assert told.scripts == ["master_rx_lower_pri"]
    assert told.lines == ['INSTANCE "VI_1" MASTER_RX_LOWER_PRI 150']
    assert not told.mails


def test_all_states_after_a_reload(teller: Teller, told: Told) -> None:
    teller.states(
        [("INSTANCE", "a", State.MASTER, 150), ("INSTANCE", "b", State.INIT, 100), ("GROUP", "G", State.FAULT, 0)]
    )
    assert told.lines == ['INSTANCE "a" MASTER 150', 'GROUP "G" FAULT 0']


def test_groups_are_told_before_instances_at_a_start(teller: Teller, told: Told) -> None:
    with teller.starting():
        teller.instance(running(), State.INIT, "BACKUP", "startup")
        teller.instance(running(name="VI_2"), State.INIT, "BACKUP", "startup")
        teller.group(GROUP, State.INIT, "BACKUP")
        assert not told.lines
    assert told.lines == ['GROUP "G" BACKUP 0', 'INSTANCE "VI_1" BACKUP 150', 'INSTANCE "VI_2" BACKUP 150']


def test_a_group_that_starts_as_master_is_told_after_its_members(teller: Teller, told: Told) -> None:
    with teller.starting():
        teller.instance(running(), State.INIT, "MASTER", "address owner")
        teller.group(GROUP, State.INIT, "MASTER")
    assert told.lines == ['INSTANCE "VI_1" MASTER 150', 'GROUP "G" MASTER 0']
    teller.instance(running(), State.MASTER, "BACKUP", "")
    assert told.lines[-1] == 'INSTANCE "VI_1" BACKUP 150'


@pytest.mark.parametrize("taken", [False, True])
def test_a_new_name_is_reported_and_nobody_else_is_told(told: Told, teller: Teller, taken: bool) -> None:
    """The parent must know the master by the name that a successor will look for."""
    instance = running()
    instance.examiner.sequence = 9
    teller.instance(instance, State.BACKUP, "MASTER", "")
    mails, scripts = list(told.mails), list(told.scripts)
    instance.router.config = replace(instance.config, name="VI_9")
    teller.renamed(instance, "VI_1", taken=taken)
    assert [(each.name, each.new, each.sequence) for each in told.messages] == [
        ("VI_1", "MASTER", 9),
        *([] if taken else [("VI_1", "STOP", 0)]),
        ("VI_9", "MASTER", 9),
    ]
    teller.instance(instance, State.BACKUP, "MASTER", "")
    assert told.mails == mails
    assert told.scripts[: len(scripts)] == scripts

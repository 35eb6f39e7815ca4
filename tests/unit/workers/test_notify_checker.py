"""Who is told what when real and virtual servers change: scripts, FIFO lines, mails."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from ipc.channel import Channel
from keepalived_py.checks.virtual_server import QuorumChanged, RealServerChanged, VirtualServerState, WeightChanged
from keepalived_py.config.model import (
    BfdCheck,
    Check,
    CheckerSlice,
    CheckTiming,
    DnsCheck,
    Endpoint,
    Fifo,
    FileCheck,
    GlobalDefs,
    HttpCheck,
    MailSettings,
    MiscCheck,
    PingCheck,
    RealServer,
    Script,
    SmtpCheck,
    TcpCheck,
    UdpCheck,
    VirtualServer,
)
from keepalived_py.values import Protocol, ServiceKey, ip_address
from workers.checker.teller import REMOVING, SHUTTING_DOWN, Teller, mail_body
from workers.notify import Notifier

VS, RS = "[10.0.0.1]:tcp:80", "[10.1.0.1]:tcp:8080"
TIMING = CheckTiming()
END = Endpoint(address=ip_address("10.1.0.1"), port=8080)
TCP = TcpCheck(timing=TIMING, endpoint=END)
REAL = RealServer(
    address=END.address, port=8080, notify_up=Script(argv=("up",)), notify_down=Script(argv=("down",)), checks=(TCP,)
)
SERVER = VirtualServer(
    key=ServiceKey(Protocol.TCP, ip_address("10.0.0.1"), 80, family=4),
    quorum_up=Script(argv=("q-up",)),
    quorum_down=Script(argv=("q-down",)),
    smtp_alert=True,
    real_servers=(REAL,),
)


@dataclass
class Told:
    """Stands in for the notifier, its FIFOs and its mailer, and for the channel."""

    scripts: list[str] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    mails: list[tuple[str, str]] = field(default_factory=list)
    configured: tuple[Fifo | None, ...] = ()

    @property
    def fifos(self) -> Told:
        return self

    @property
    def mailer(self) -> Any:
        return _Mailer(self)

    def configure(self, defs: GlobalDefs, fifos: tuple[Fifo | None, ...]) -> None:
        self.configured = fifos

    def write(self, line: bytes) -> None:
        self.lines.append(line)

    def run(self, subject: str, script: Script | None, args: tuple[str, ...] = (), environment: Any = None) -> None:
        if script is not None:
            self.scripts.append(" ".join((*script.argv, *args)))

    def send(self, msg: Any) -> None:
        """What goes to the parent is another test's."""


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


def state(server: VirtualServer = SERVER, *, alive: bool = True) -> VirtualServerState:
    made = VirtualServerState(server)
    if not alive:
        made.reals[REAL.key].failed.add("check")
    return made


@pytest.mark.parametrize(("up", "word"), [(True, "UP"), (False, "DOWN")])
def test_a_real_server(teller: Teller, told: Told, up: bool, word: str) -> None:
    teller.tell(state(), RealServerChanged(REAL.key, up, "TCP_CHECK"))
    assert told.scripts == [word.lower()]
    assert told.lines == [f"RS {RS} {VS} {word}\n\0".encode()]  # the NUL byte is keepalived's
    assert not told.mails  # that is the checker's


@pytest.mark.parametrize(
    ("effect", "word", "body"),
    [
        (QuorumChanged(True, 3), "UP", "=> Gained quorum 2+1=3 <= 3 <="),
        (QuorumChanged(False, 0), "DOWN", "=> Lost quorum 2+1=1 <= 0 <="),
        (QuorumChanged(True, 3, starting=True), "UP", "=> Starting with quorum up 2+1=3 <= 3 <="),
        (QuorumChanged(False, 0, starting=True), "DOWN", "=> Starting with quorum down 2+1=1 <= 0 <="),
    ],
)
def test_a_quorum(teller: Teller, told: Told, effect: QuorumChanged, word: str, body: str) -> None:
    teller.tell(state(replace(SERVER, quorum=2, hysteresis=1)), effect)
    assert told.scripts == [f"q-{word.lower()}"]
    assert told.lines == [f"VS {VS} {word}\n\0".encode()]
    assert told.mails == [(f"Virtualserver {VS} - {word}", body)]


def test_a_quorum_is_mailed_only_where_it_is_wanted(teller: Teller, told: Told) -> None:
    teller.tell(state(replace(SERVER, smtp_alert=False)), QuorumChanged(True, 1))
    assert told.lines
    assert not told.mails


@pytest.mark.parametrize("alive", [True, False])
def test_a_checker_mails_the_state_of_its_real_server(teller: Teller, told: Told, alive: bool) -> None:
    teller.checked(state(alive=alive), REAL, TCP, True, "", moved=alive)
    subject = f"Realserver {RS} of virtual server {VS} - {'UP' if alive else 'DOWN'}"
    assert told.mails == [(subject, "=> TCP CHECK succeed on service <=")]


def test_no_mail_for_a_real_server_without_smtp_alert(teller: Teller, told: Told) -> None:
    teller.checked(state(), replace(REAL, smtp_alert=False), TCP, True, "", moved=True)
    assert not told.mails


@pytest.mark.parametrize("moved", [True, False])
def test_no_checker_emails(teller: Teller, told: Told, moved: bool) -> None:
    teller.configure(CheckerSlice(global_defs=GlobalDefs(mail=MailSettings(no_checker_emails=True))))
    teller.checked(state(), REAL, TCP, True, "", moved=moved)
    assert len(told.mails) == moved


MISC = MiscCheck(timing=TIMING, script=Script(argv=("x",)), timeout=1.0)
BODIES = [
    (TCP, True, "", "=> TCP CHECK succeed on service <="),
    (TCP, False, "refused", "=> TCP CHECK failed on service <="),
    (UdpCheck(timing=TIMING, endpoint=END), False, "refused", "=> UDP CHECK failed on service <="),
    (UdpCheck(timing=TIMING, endpoint=END), True, "", "=> UDP CHECK succeed on service <="),
    (PingCheck(timing=TIMING, endpoint=END), False, "x", "=> ICMP CHECK failed on service <="),
    (DnsCheck(timing=TIMING, endpoint=END), True, "", "=> DNS_CHECK: succeed on service <="),
    (SmtpCheck(timing=TIMING, endpoint=END), True, "", "=> CHECK succeed on service <="),
    (BfdCheck(timing=TIMING, name="b"), True, "", "=> BFD CHECK b succeeded on service <="),
    (PingCheck(timing=TIMING, endpoint=END), True, "", "=> ICMP CHECK succeed on service <="),
    (DnsCheck(timing=TIMING, endpoint=END), False, "x", "=> DNS_CHECK: failed on service <="),
    (HttpCheck(timing=TIMING, endpoint=END, urls=()), True, "", "=> CHECK succeed on service <="),
    (
        HttpCheck(timing=TIMING, endpoint=END, urls=()),
        False,
        "status 500",
        "=> CHECK failed on service : HTTP/SSL request failed <=",
    ),
    (SmtpCheck(timing=TIMING, endpoint=END), False, "no greeting", "=> CHECK failed on service : no greeting <="),
    (MISC, True, "", "=> MISC CHECK succeeded on service <="),
    (MISC, False, "exited with status 1", "=> MISC CHECK failed on service <="),
    (MISC, False, "timed out", "=> MISC CHECK timed out on service <="),
    (BfdCheck(timing=TIMING, name="b"), False, "", "=> BFD CHECK b failed on service <="),
    (FileCheck(timing=TIMING, track_file="f"), False, "", ""),
]


@pytest.mark.parametrize(("check", "up", "failure", "body"), BODIES)
def test_what_a_mail_says(check: Check, up: bool, failure: str, body: str) -> None:
    assert mail_body(check, up, failure) == body


def test_a_file_check_mails_nothing(teller: Teller, told: Told) -> None:
    teller.checked(state(), REAL, FileCheck(timing=TIMING, track_file="f"), False, "", moved=True)
    assert not told.mails


@pytest.mark.parametrize(("active", "word"), [(True, "active"), (False, "inactive")])
def test_a_weight(teller: Teller, told: Told, active: bool, word: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody hears of it but who reads the log."""
    caplog.set_level(logging.INFO)
    teller.tell(state(), WeightChanged(REAL.key, 5, 7, active))
    assert caplog.messages == [f"Changing weight from 5 to 7 for {word} service {RS} of VS {VS}"]
    assert told == Told()


@pytest.mark.parametrize(
    ("alive", "inhibit", "lines"),
    [
        (True, False, [f"Removing service {RS} from VS {VS}"]),
        (True, True, [f"Removing service {RS} from VS {VS}"]),
        (False, True, [f"Removing (inhibited) service {RS} from VS {VS}"]),
        (False, False, []),
    ],
)
def test_the_log_tells_of_a_row_that_goes(
    teller: Teller, alive: bool, inhibit: bool, lines: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    real = replace(REAL, inhibit_on_failure=inhibit)
    teller.leaves(SERVER, state(replace(SERVER, real_servers=(real,)), alive=alive).reals[REAL.key], REMOVING)
    assert caplog.messages == lines


@pytest.mark.parametrize("why", [REMOVING, SHUTTING_DOWN])
def test_a_real_server_that_is_taken_away(teller: Teller, told: Told, why: str) -> None:
    teller.gone(SERVER, REAL, why)
    assert told.scripts == ["down"]
    assert told.lines == [f"RS {RS} {VS} DOWN\n\0".encode()]
    assert told.mails == [(f"Realserver {RS} of virtual server {VS} - DOWN", f"=> {why} <=")]


def test_a_virtual_server_that_goes_with_the_daemon(teller: Teller, told: Told) -> None:
    teller.stopped(SERVER)
    assert told.scripts == ["q-down"]
    assert told.lines == [f"VS {VS} DOWN\n\0".encode()]
    assert told.mails == [(f"Virtualserver {VS} - DOWN", "=> Shutting down <=")]


def test_a_virtual_server_that_a_reload_takes_away(teller: Teller, told: Told) -> None:
    teller.removed(replace(SERVER, quorum=3, hysteresis=1))
    assert told.scripts == ["q-down"]
    assert told.lines == [f"VS {VS} DOWN\n\0".encode()]
    assert told.mails == [(f"Virtualserver {VS} - DOWN", "=> Lost quorum 3+1=2 <= 0 <=")]


def test_the_fifos_of_the_checker(teller: Teller, told: Told) -> None:
    both, own = Fifo(path="/run/all", script=Script(argv=("x",))), Fifo(path="/run/lvs")
    teller.configure(
        CheckerSlice(
            global_defs=GlobalDefs(notify_fifo=both, vrrp_notify_fifo=Fifo(path="/run/vrrp"), lvs_notify_fifo=own)
        )
    )
    assert told.configured == (both, own)

"""Alert mail against a real mail server on loopback: what it says, how it is sent, what goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import logging
import os
import pwd
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from email import message_from_bytes
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from keepalived_py.config.model import MailSettings
from workers import smtp
from workers.smtp import Mail, Mailer, compose, envelope_address


@dataclass
class Inbox:
    """Handler of aiosmtpd: keeps what comes."""

    refuse: str = ""
    delay: float = 0.0
    mails: list[tuple[Session, Envelope]] = field(default_factory=list)

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address == self.refuse:
            return "550 unknown user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        await asyncio.sleep(self.delay)
        self.mails.append((session, envelope))
        return "250 OK"

    @property
    def contents(self) -> list[bytes]:
        found = [envelope.content for _, envelope in self.mails]
        assert all(isinstance(each, bytes) for each in found)
        return found  # type: ignore[return-value]

    @property
    def subjects(self) -> list[str]:
        return [message_from_bytes(each)["Subject"] for each in self.contents]


@contextlib.asynccontextmanager
async def serving(inbox: Inbox, tls: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[int]:
    """A mail server; its port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(inbox, loop=loop, hostname="mail.test", **options), "127.0.0.1", 0, ssl=tls
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def settings(port: int, **changes: Any) -> MailSettings:
    values: dict[str, Any] = {
        "router_id": "R1",
        "notification_email": ("admin@example.org",),
        "notification_email_from": "lb@example.org",
        "smtp_server": "127.0.0.1",
        "smtp_port": port,
        "smtp_connect_timeout": 5,
    }
    return MailSettings(**{**values, **changes})


def mail(body: Callable[[Mailer, int], Awaitable[None]], inbox: Inbox, **options: Any) -> None:
    """Run `body` with a mailer and a server's port, then wait for all mails."""

    async def main() -> None:
        async with serving(inbox, **options) as port:
            mailer = Mailer()
            await body(mailer, port)
            await mailer.finish(5.0)

    asyncio.run(main())


def send(inbox: Inbox, *mails: tuple[str, str], changes: dict[str, Any] | None = None, **options: Any) -> None:
    async def body(mailer: Mailer, port: int) -> None:
        mailer.configure(settings(port, **(changes or {})))
        for subject, text in mails:
            mailer.send(subject, text)

    mail(body, inbox, **options)


@pytest.mark.parametrize("broken", ["threads", "library"])
def test_a_mail_that_cannot_be_made_costs_no_more_than_that_mail(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    """An error that nobody takes would end the worker, and this comes when an instance becomes MASTER."""
    inbox, untaken = Inbox(), []

    async def body(mailer: Mailer, port: int) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: untaken.append(context))
        mailer.configure(settings(port))
        with monkeypatch.context() as short:
            if broken == "threads":
                short.setattr(threading.Thread, "start", refuse)
            else:
                short.setattr(importlib, "import_module", refuse)
            mailer.send("one", "1")
            await mailer.finish(5.0)
        mailer.send("two", "2")

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread") if broken == "threads" else ImportError("no such library")

    mail(body, inbox)
    gc.collect()
    assert untaken == []
    assert inbox.subjects == ["[R1] two"]
    assert "mail '[R1] one' to 127.0.0.1:" in caplog.text


ONE = ("VRRP Instance VI_1 - Entering MASTER state", "=> VRRP Instance is now owning VRRP VIPs <=")


def test_a_message_is_keepalived_s() -> None:
    made = compose(Mail("[R1] S", "=> B <=", "Wed, 25 Nov 2026 23:25:41 +0000"), "lb@x", ("a@x", "B <b@x>"))
    assert made == (
        b"Date: Wed, 25 Nov 2026 23:25:41 +0000\r\nFrom: lb@x\r\nSubject: [R1] S\r\nX-Mailer: Keepalived\r\n"
        b"To: a@x,\r\n B <b@x>\r\n\r\n=> B <=\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("text", "address"),
    [("a@x", "a@x"), ("Ann <a@x>", "a@x"), ("<a@x>", "a@x"), ("a<b", "a<b"), ("a>", "a>"), ("<x> <a@x>", "a@x")],
)
def test_the_envelope_has_the_bare_address(text: str, address: str) -> None:
    assert envelope_address(text) == address


def test_a_mail_arrives() -> None:
    inbox = Inbox()
    send(inbox, ONE, changes={"notification_email": ("a@example.org", "Bob <b@example.org>")})
    [(session, envelope)] = inbox.mails
    assert session.host_name == socket.gethostname()
    assert session.extended_smtp is False  # HELO, as keepalived
    assert envelope.mail_from == "lb@example.org"
    assert envelope.rcpt_tos == ["a@example.org", "b@example.org"]
    found = message_from_bytes(inbox.contents[0])
    assert found["Subject"] == "[R1] VRRP Instance VI_1 - Entering MASTER state"
    assert found["X-Mailer"] == "Keepalived"
    assert found["To"].split() == ["a@example.org,", "Bob", "<b@example.org>"]
    assert abs(parsedate_to_datetime(found["Date"]).timestamp() - time.time()) < 5
    assert str(found.get_payload()).strip() == ONE[1]


def test_what_is_not_configured_comes_from_the_host() -> None:
    inbox = Inbox()
    send(inbox, ONE, changes={"router_id": "", "notification_email_from": "", "smtp_helo_name": "helo.test"})
    [(session, envelope)] = inbox.mails
    host, user = socket.gethostname(), pwd.getpwuid(os.geteuid()).pw_name
    assert session.host_name == "helo.test"
    assert inbox.subjects[0].startswith(f"[{host}] ")
    assert envelope.mail_from == f"{user}@{host}"


def test_every_mail_has_its_connection_and_they_come_in_order() -> None:
    inbox = Inbox()
    send(inbox, *((f"number {number}", "text") for number in range(5)))
    assert inbox.subjects == [f"[R1] number {number}" for number in range(5)]
    assert len({id(session) for session, _ in inbox.mails}) == 5


@pytest.mark.parametrize("changes", [{"smtp_server": ""}, {"notification_email": ()}])
def test_without_server_or_recipients_nothing_is_sent(changes: dict[str, Any]) -> None:
    inbox = Inbox()
    send(inbox, ONE, changes=changes)
    assert not inbox.mails


def test_long_texts_are_cut_and_none_can_add_a_header() -> None:
    inbox = Inbox()
    send(inbox, ("x\r\nBcc: victim@example.org\n" + "y" * 300, "line\r\n.\r\nMAIL FROM:<z>" + "z" * 600))
    [content] = inbox.contents
    found = message_from_bytes(content)
    assert found["Bcc"] is None
    assert len(found["Subject"]) == 255
    assert len(str(found.get_payload()).strip()) == 511
    assert len(inbox.mails) == 1


def test_many_recipients_do_not_cost_the_text() -> None:
    """keepalived cuts the whole at 1023 characters."""
    recipients = tuple(f"operator-{number}@example.org" for number in range(100))
    found = message_from_bytes(compose(Mail("[R1] S", "=> B <=", ""), "lb@x", recipients))
    assert found["To"].replace("\r\n", "").split(", ") == list(recipients)
    assert str(found.get_payload()).strip() == "=> B <="


def test_a_line_with_a_dot_does_not_end_the_mail() -> None:
    inbox = Inbox()
    send(inbox, ("s", ".dot"))
    assert inbox.contents[0].endswith(b"\r\n\r\n.dot\r\n\r\n")


def test_refused_recipients_do_not_keep_it_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    inbox = Inbox(refuse="gone@example.org")
    send(inbox, ONE, changes={"notification_email": ("gone@example.org", "here@example.org")})
    assert inbox.mails[0][1].rcpt_tos == ["here@example.org"]
    send(inbox, ONE, changes={"notification_email": ("gone@example.org",)})
    assert len(inbox.mails) == 1
    assert "failed" in caplog.text


def test_a_failure_is_told_and_the_next_mail_is_tried(caplog: pytest.LogCaptureFixture) -> None:
    inbox = Inbox()

    async def body(mailer: Mailer, port: int) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            mailer.configure(settings(closed.getsockname()[1]))
            mailer.send("lost", "text")
            await mailer.finish(5.0)
        mailer.configure(settings(port))
        mailer.send("kept", "text")

    mail(body, inbox)
    assert "mail '[R1] lost' to 127.0.0.1:" in caplog.text
    assert inbox.subjects == ["[R1] kept"]


def test_a_mail_that_was_taken_has_not_failed_where_the_server_says_no_farewell(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Curt(Inbox):
        async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
            server.transport.abort()
            return ""

    inbox = Curt()
    send(inbox, ONE, ONE)
    assert len(inbox.mails) == 2
    assert "failed" not in caplog.text


def test_a_silent_server_costs_its_limit_and_nobody_waits(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            mailer = Mailer()
            mailer.configure(settings(silent.getsockname()[1], smtp_connect_timeout=0.2))
            started = time.monotonic()
            mailer.send(*ONE)
            assert time.monotonic() - started < 0.1
            await mailer.finish(5.0)
            assert 0.2 <= time.monotonic() - started < 2

    asyncio.run(main())
    assert "failed" in caplog.text


def test_the_queue_is_bounded_and_the_loss_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(smtp, "WAITING_LIMIT", 3)
    inbox = Inbox()
    send(inbox, *((f"number {number}", "text") for number in range(10)))
    assert inbox.subjects == [f"[R1] number {number}" for number in range(3)]
    assert caplog.text.count("further ones are dropped") == 1
    assert "7 mails to 127.0.0.1:" in caplog.text


def test_a_stop_does_not_wait_longer_than_it_may(caplog: pytest.LogCaptureFixture) -> None:
    inbox = Inbox(delay=30.0)

    async def body(mailer: Mailer, port: int) -> None:
        mailer.configure(settings(port))
        mailer.send(*ONE)
        mailer.send(*ONE)
        started = time.monotonic()
        await mailer.finish(0.2)
        assert time.monotonic() - started < 1

    mail(body, inbox)
    assert "2 mails to 127.0.0.1:" in caplog.text
    assert not inbox.mails


# encryption and login ---------------------------------------------------------------------------------------------


def authenticator(
    server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: LoginPassword
) -> AuthResult:
    return AuthResult(success=(data.login, data.password) == (b"lb", b"s3cret"), handled=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody vouches for, its key beside it."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    made = tmp_path_factory.mktemp("tls") / "cert.pem"
    names = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(made.with_name("key.pem")))
    subprocess.run(
        ["openssl", "req", "-x509", "-days", "2", *key, *names, "-out", str(made)], check=True, capture_output=True
    )
    return made


@pytest.fixture
def stranger(certificate: Path) -> ssl.SSLContext:
    """The context of a server that clients have no reason to trust."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    return context


@pytest.fixture
def tls(stranger: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The context of a server that clients trust."""
    plain = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", lambda: plain(cafile=str(certificate)))
    return stranger


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
@pytest.mark.parametrize("kind", ["starttls", "tls"])
def test_login_over_tls(kind: str, tls: ssl.SSLContext, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s3cret\n")
    inbox = Inbox()
    changes = {"smtp_tls": kind, "smtp_user": "lb", "smtp_password_file": str(tmp_path / "password")}
    options: dict[str, Any] = {"authenticator": authenticator, "auth_required": True}
    if kind == "tls":
        options |= {"tls": tls, "auth_require_tls": False}
    else:
        options |= {"tls_context": tls, "require_starttls": True}
    send(inbox, ONE, changes=changes, **options)
    [(session, _)] = inbox.mails
    assert session.authenticated
    assert session.ssl is not None or kind == "tls"


def test_a_wrong_password_is_told(tls: ssl.SSLContext, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "password").write_text("wrong")
    inbox = Inbox()
    changes = {"smtp_tls": "starttls", "smtp_user": "lb", "smtp_password_file": str(tmp_path / "password")}
    send(inbox, ONE, changes=changes, tls_context=tls, authenticator=authenticator, auth_required=True)
    assert not inbox.mails
    assert "failed" in caplog.text
    assert "wrong" not in caplog.text


def test_a_missing_password_file_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    inbox = Inbox()
    send(inbox, ONE, changes={"smtp_user": "lb", "smtp_password_file": str(tmp_path / "none")})
    assert not inbox.mails
    assert "No such file" in caplog.text
    send(inbox, ONE, changes={"smtp_user": "lb"})
    assert not inbox.mails
    assert "smtp_user needs smtp_password_file" in caplog.text
    os.mkfifo(tmp_path / "fifo")  # nobody writes into it
    send(inbox, ONE, changes={"smtp_user": "lb", "smtp_password_file": str(tmp_path / "fifo")})
    assert not inbox.mails
    assert f"{tmp_path / 'fifo'} is empty" in caplog.text


def test_a_certificate_that_nobody_vouches_for_is_refused(
    stranger: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)
    inbox = Inbox()
    send(inbox, ONE, changes={"smtp_tls": "starttls"}, tls_context=stranger)
    assert not inbox.mails
    assert "certificate verify failed" in caplog.text


def test_starttls_is_not_given_up_where_the_server_has_none(caplog: pytest.LogCaptureFixture) -> None:
    inbox = Inbox()
    send(inbox, ONE, changes={"smtp_tls": "starttls"})
    assert not inbox.mails
    assert "failed" in caplog.text

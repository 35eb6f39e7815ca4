"""Alert mail (checker-behaviour.md 9): composed here, sent one after the other, never waited for, never tried again."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import pwd
import socket
import ssl
from collections import deque
from typing import TYPE_CHECKING

from keepalived_py.config.model import MailSettings
from keepalived_py.records import dataclass

from .small_file import read_start

if TYPE_CHECKING:
    from aiosmtplib import SMTP

logger = logging.getLogger(__name__)

WAITING_LIMIT = 200
"""Mails that may wait; what comes then is dropped."""
SUBJECT_LIMIT, BODY_LIMIT = 255, 511
"""Characters."""
PASSWORD_LIMIT = 4096
"""Bytes."""


@dataclass(frozen=True, slots=True)
class Mail:
    """One message; its date is that of the event, however late it is sent."""

    subject: str
    body: str
    date: str


def envelope_address(text: str) -> str:
    """The part in angle brackets where an address ends in one: `Name <a@b>` is a@b."""
    if text.endswith(">") and "<" in text:
        return text[text.rindex("<") + 1 : -1]
    return text


def compose(mail: Mail, sender: str, recipients: tuple[str, ...]) -> bytes:
    """The message as it is sent, lines ended by CR LF."""
    lines = [
        f"Date: {mail.date}",
        f"From: {sender}",
        f"Subject: {mail.subject[:SUBJECT_LIMIT]}",
        "X-Mailer: Keepalived",
        "To: " + ",\r\n ".join(recipients),
        "",
        mail.body[:BODY_LIMIT],
        "",
        "",
    ]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape")


class Mailer:
    """Sends to the configured server; does nothing without a server and recipients."""

    def __init__(self) -> None:
        self.settings = MailSettings()
        self.dropped = 0
        self._host = socket.gethostname()
        self._user = ""
        self._waiting: deque[Mail] = deque()
        self._task: asyncio.Task[None] | None = None

    def configure(self, settings: MailSettings) -> None:
        """Mails from now on, those that wait included, go out by `settings`."""
        self.settings = settings
        if self.active and not self._user:
            self._user = _own_user()

    @property
    def active(self) -> bool:
        return self.settings.is_complete

    def send(self, subject: str, body: str) -> None:
        """Queue a mail; `subject` without the router id."""
        if not self.active:
            return
        if len(self._waiting) >= WAITING_LIMIT:
            self.dropped += 1
            if self.dropped == 1:
                logger.warning("more than %d mails wait for %s: further ones are dropped", WAITING_LIMIT, self._server)
            return
        router = self.settings.router_id or self._host
        from email.utils import formatdate  # with its package; most configurations send no mail

        self._waiting.append(Mail(_one_line(f"[{router}] {subject}"), _one_line(body), formatdate(localtime=True)))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def finish(self, within: float) -> None:
        """Wait for what is queued, at most `within` seconds."""
        if self._task is None:
            return
        task = self._task
        _, late = await asyncio.wait((task,), timeout=within)
        if late:
            logger.warning("%d mails to %s are not sent any more", len(self._waiting) + 1, self._server)
            task.cancel()
            await asyncio.wait((task,))

    @property
    def _server(self) -> str:
        return f"{self.settings.smtp_server}:{self.settings.smtp_port}"

    async def _work(self) -> None:
        try:
            while self._waiting:
                mail = self._waiting.popleft()
                try:
                    # loaded with the configuration, see late.py; in a thread where that was not so
                    aiosmtplib = await asyncio.to_thread(importlib.import_module, "aiosmtplib")
                    await self._deliver(aiosmtplib.SMTP, mail, self.settings)
                except Exception as exc:  # no thread to be had, for instance: no mail is worth a router
                    logger.warning("mail '%s' to %s failed: %s", mail.subject, self._server, exc)
                if not self._waiting and self.dropped:
                    logger.warning("%d mails to %s were dropped", self.dropped, self._server)
                    self.dropped = 0
        finally:
            self._task = None

    async def _deliver(self, client_of: type[SMTP], mail: Mail, settings: MailSettings) -> None:
        """One connection, one message. An exception when it was not taken."""
        from aiosmtplib import SMTPException  # which is loaded by now

        sender = settings.notification_email_from or f"{self._user}@{self._host}"
        secure = settings.smtp_tls != "none"
        # reading the certificates of the authorities takes long and the password may be on a slow disk
        context = await asyncio.to_thread(ssl.create_default_context) if secure else None
        password = await asyncio.to_thread(_password, settings) if settings.smtp_user else ""
        client = client_of(
            hostname=settings.smtp_server,
            port=settings.smtp_port,
            local_hostname=settings.smtp_helo_name or self._host,
            timeout=settings.smtp_connect_timeout,
            use_tls=settings.smtp_tls == "tls",
            start_tls=settings.smtp_tls == "starttls",
            tls_context=context,
        )
        try:
            await client.connect()
            if settings.smtp_user:
                await client.login(settings.smtp_user, password)
            elif not secure:
                await client.helo()
            await client.sendmail(
                envelope_address(sender),
                [envelope_address(address) for address in settings.notification_email],
                compose(mail, sender, settings.notification_email),
            )
            with contextlib.suppress(SMTPException, OSError):  # the mail was taken
                await client.quit()
        finally:
            client.close()


def _own_user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _password(settings: MailSettings) -> str:
    """ValueError without a file or with nothing in it, OSError when it cannot be read."""
    if not settings.smtp_password_file:
        raise ValueError("smtp_user needs smtp_password_file")
    password = read_start(settings.smtp_password_file, PASSWORD_LIMIT).decode().rstrip("\r\n")
    if not password:
        raise ValueError(f"{settings.smtp_password_file} is empty")
    return password


def _one_line(text: str) -> str:
    """Names come from the configuration: none may end the line and begin a header of its own."""
    return "".join(" " if ord(letter) < 32 else letter for letter in text)

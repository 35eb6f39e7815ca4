"""Who is told of real and virtual servers: FIFO lines, script calls and mails of ours and of Debian's keepalived."""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ipvs.compare import OURS, THEIRS, clear, running, wait
from tests.ipvs.test_ipvs_table import Listener

pytestmark = pytest.mark.ipvs

STOPPING = "=> Shutting down <="
"""In mails of the stop; Debian's keepalived begins those and does not wait for them."""


class MailSink:
    """A mail server that takes everything, on a port of loopback."""

    def __init__(self) -> None:
        self.mails: list[str] = []
        self._sock = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = self._sock.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                self._talk(self._sock.accept()[0])

    def _talk(self, client: socket.socket) -> None:
        lines: list[bytes] = []
        with suppress(OSError), client, client.makefile("rb") as file:
            client.sendall(b"220 sink\r\n")
            while line := file.readline():
                if line.startswith(b"DATA"):
                    client.sendall(b"354 go on\r\n")
                    lines = list(iter(file.readline, b".\r\n"))
                client.sendall(b"221 bye\r\n" if line.startswith(b"QUIT") else b"250 fine\r\n")
        if lines:
            self.mails.append(b"".join(each for each in lines if not each.startswith(b"Date:")).decode())

    def close(self) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()


@dataclass
class Told:
    """What one daemon told in the course of a story."""

    lines: bytes
    calls: Counter[str]
    mails: Counter[str]


def configuration(directory: Path, mail_port: int, *reals: str) -> str:
    record = directory / "record"
    return f"""
global_defs {{
    script_user root
    router_id R
    smtp_server 127.0.0.1 {mail_port}
    notification_email_from lb@example.org
    notification_email {{
        admin@example.org
    }}
    lvs_notify_fifo {directory}/fifo
}}
virtual_server 10.0.0.1 80 {{
    delay_loop 1
    lvs_sched rr
    lvs_method NAT
    protocol TCP
    quorum 2
    hysteresis 1
    omega
    smtp_alert
    quorum_up "{record} quorum up"
    quorum_down "{record} quorum down"
    {"".join(reals)}
}}
"""


def real(port: int, weight: int, record: Path, check: str) -> str:
    return f"""
    real_server 127.0.0.1 {port} {{
        weight {weight}
        notify_up "{record} {weight} up"
        notify_down "{record} {weight} down"
        {check} {{
            connect_timeout 1
            retry 0
            warmup 0
        }}
    }}
"""


def misc(record: Path, flag: Path) -> str:
    command = f'misc_path "/usr/bin/test -e {flag}"'
    return real(9, 0, record, "MISC_CHECK").replace("connect_timeout 1", command)


def passing(directory: Path) -> str:
    """A virtual server without omega that a reload takes away."""
    record = directory / "record"
    return f"""
virtual_server 10.0.0.2 80 {{
    lvs_sched rr
    lvs_method NAT
    protocol TCP
    smtp_alert
    quorum_up "{record} passing gained"
    quorum_down "{record} passing lost"
    real_server 10.1.0.1 80 {{
        notify_down "{record} passing down"
    }}
}}
"""


def story(program: str, directory: Path, listeners: list[Listener]) -> Told:
    """Start with quorum, lose one server after the other, recover, reload a real and a virtual one away, stop."""
    directory.mkdir()
    record, calls, flag, fifo = (directory / name for name in ("record", "calls", "flag", "fifo"))
    record.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n')
    record.chmod(0o755)
    flag.touch()
    os.mkfifo(fifo, 0o600)
    reader = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    sink = MailSink()
    heard = b""

    def hears(*parts: bytes) -> None:
        def all_there() -> bool:
            nonlocal heard
            with suppress(BlockingIOError):
                heard += os.read(reader, 65536)
            return heard.replace(b"\0", b"").endswith(parts)

        wait(all_there)

    one, two = (real(each.port, weight, record, "TCP_CHECK") for each, weight in zip(listeners, (1, 2), strict=True))
    clear()
    before = passing(directory) + configuration(directory, sink.port, one, two, misc(record, flag))
    with running(program, before) as daemon:
        hears(b"VS [10.0.0.1]:tcp:80 UP\n")
        wait(lambda: any("MISC" in mail for mail in sink.mails))  # the first run of a script
        flag.unlink()
        hears(b"RS [127.0.0.1]:tcp:9 [10.0.0.1]:tcp:80 DOWN\n")
        for listener in listeners:
            listener.off()
            hears(
                f"RS [127.0.0.1]:tcp:{listener.port} [10.0.0.1]:tcp:80 DOWN\n".encode(),
                b"VS [10.0.0.1]:tcp:80 DOWN\n",
            )
        hears(b"VS [10.0.0.1]:tcp:80 DOWN\n")
        for listener in listeners:
            listener.on()
            hears(f"RS [127.0.0.1]:tcp:{listener.port} [10.0.0.1]:tcp:80 UP\n".encode(), b"VS [10.0.0.1]:tcp:80 UP\n")
        hears(b"VS [10.0.0.1]:tcp:80 UP\n")
        wait(lambda: len(sink.mails) == 10)  # Debian's keepalived drops those that are under way at a reload
        daemon.reload(configuration(directory, sink.port, two))
        hears(f"RS [127.0.0.1]:tcp:{listeners[0].port} [10.0.0.1]:tcp:80 DOWN\n".encode())
        wait(lambda: sum("Removing" in mail for mail in sink.mails) == 2)
        wait(lambda: any("1+0=1 <= 0" in mail for mail in sink.mails))
        wait(lambda: "passing lost" in calls.read_text())
    hears(b"VS [10.0.0.1]:tcp:80 DOWN\n")
    wait(lambda: calls.read_text().count("quorum down") == calls.read_text().count("2 down") == 2)
    if program == OURS:
        wait(lambda: sum(STOPPING in mail for mail in sink.mails) == 2)
    os.close(reader)
    sink.close()
    return Told(heard, Counter(calls.read_text().splitlines()), Counter(sink.mails))


def test_checkers_tell_what_keepalived_tells(tmp_path: Path) -> None:
    listeners = [Listener(), Listener()]
    ours, theirs = (story(program, tmp_path / program, listeners) for program in (OURS, THEIRS))
    for listener in listeners:
        listener.off()
    # the NUL byte after every line is that of 2.3; Debian's 2.2.7 has none
    assert ours.lines.replace(b"\n\0", b"\n") == theirs.lines.replace(b"\n\0", b"\n")
    assert ours.lines.count(b"\n\0") == ours.lines.count(b"\n")
    assert ours.calls == theirs.calls
    mails = [Counter({mail: n for mail, n in each.mails.items() if STOPPING not in mail}) for each in (ours, theirs)]
    assert mails[0] == mails[1]

"""Which checkers are the same ones after a reload, and what the others begin with (checker-behaviour.md 6)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from keepalived_py.config.model import (
    Check,
    CheckTiming,
    DnsCheck,
    Endpoint,
    HttpCheck,
    HttpUrl,
    MiscCheck,
    PingCheck,
    RealServer,
    Script,
    SmtpCheck,
    TcpCheck,
    TlsSettings,
    UdpCheck,
)
from keepalived_py.values import ServiceKey, ip_address
from workers.checker.matching import TaskMaker
from workers.checker.task import CheckerTask, Scheduler
from workers.checker.tcp import TcpChecker

ADDRESS = ip_address("127.0.0.1")
END = Endpoint(address=ADDRESS, port=1)
TIMING = CheckTiming(alpha=True, delay_loop=3600, warmup=3600)
SCRIPT = Script(argv=("true",))
TCP = TcpCheck(timing=TIMING, endpoint=END)
URLS = (HttpUrl(path="/a"), HttpUrl(path="/b"))
HTTP = HttpCheck(timing=TIMING, endpoint=END, urls=URLS)
TLS = replace(HTTP, tls=TlsSettings())
MISC = MiscCheck(timing=TIMING, script=SCRIPT, timeout=1)
SMTP, DNS = SmtpCheck(timing=TIMING, endpoint=END), DnsCheck(timing=TIMING, endpoint=END)
UDP, PING = UdpCheck(timing=TIMING, endpoint=END), PingCheck(timing=TIMING, endpoint=END)


def after_reload(before: tuple[Check, ...], up: bool, after: tuple[Check, ...]) -> list[CheckerTask]:
    """The tasks there are then; all of before have run and are `up`."""

    async def main() -> list[CheckerTask]:
        scheduler = Scheduler(lambda task, result: None)
        maker = TaskMaker(scheduler, lambda check, real: (TcpChecker(TCP),))
        real = RealServer(address=ADDRESS, port=80, checks=before)
        tasks = maker.new(ServiceKey(fwmark=1), real)
        for task in tasks:
            task.state.up, task.state.has_run = up, True
        tasks = maker.matched(ServiceKey(fwmark=1), replace(real, checks=after), tasks, 1)
        await scheduler.stop()
        return tasks

    return asyncio.run(main())


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize(
    ("check", "changes"),
    [
        (TCP, {"timing": replace(TIMING, delay_loop=5, retry=7)}),
        (HTTP, {"fast_recovery": True}),
        (HTTP, {"http_protocol": "1.1"}),
        (MISC, {"timeout": 9}),  # that of the interval, where none is given
        (UDP, {"payload": b"x", "require_reply": True, "reply": b"y", "reply_mask": b"\xff", "max_reply_length": 9}),
    ],
)
def test_the_same_checker(check: Check, changes: dict[str, Any], up: bool) -> None:
    (task,) = after_reload((check,), up, (replace(check, **changes),))
    assert (task.state.up, task.state.has_run) == (up, True)


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (TCP, SMTP),
        *((check, replace(check, endpoint=replace(END, port=2))) for check in (TCP, HTTP, SMTP, DNS, UDP, PING)),
        (HTTP, replace(HTTP, urls=URLS[:1])),
        (HTTP, TLS),
        (TLS, replace(TLS, tls=TlsSettings(sni=True))),
        (SMTP, replace(SMTP, helo_name="x")),
        (DNS, replace(DNS, type="A")),
        (DNS, replace(DNS, name="x")),
        (MISC, replace(MISC, script=Script(argv=("false",)))),
        (MISC, replace(MISC, dynamic=True)),
    ],
)
@pytest.mark.parametrize("alpha", [True, False])
def test_another_checker(before: Check, after: Check, up: bool, alpha: bool) -> None:
    """It begins as up where its server was, but for alpha."""
    (task,) = after_reload((before,), up, (replace(after, timing=replace(TIMING, alpha=alpha)),))
    assert (task.state.up, task.state.has_run) == (up and not alpha, False)


def test_each_is_matched_once() -> None:
    first, second = after_reload((TCP, PING), True, (TCP, replace(TCP, timing=CheckTiming(alpha=True))))
    assert (first.state.up, first.state.has_run) == (True, True)
    assert (second.state.up, second.state.has_run) == (False, False)

"""FILE_CHECK and BFD_CHECK: what a number or a session means, and a worker that follows them without looking."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ipc.messages import BfdSessionChanged, RealServerStateChanged
from keepalived_py.config.model import (
    BfdCheck,
    Check,
    CheckerConfig,
    CheckerSlice,
    CheckTiming,
    FileCheck,
    GrpcCheck,
    HttpCheck,
    HttpUrl,
    MiscCheck,
    RealServer,
    Script,
    SmtpCheck,
    SslSettings,
    TcpCheck,
    TlsSettings,
    TrackFile,
    VirtualServer,
)
from keepalived_py.values import RealKey, ServiceKey, ip_address
from tests.unit.workers.helpers_check import endpoint
from workers.checker import table as table_module
from workers.checker.bfd import BfdChecker, BfdSessions
from workers.checker.file import LEAST, FileChecker
from workers.checker.grpc import GrpcChecker
from workers.checker.http import HttpChecker
from workers.checker.probe import WELL, CheckFailed, Result, probe
from workers.checker.worker import CheckerWorker
from workers.worker import WorkerContext, WorkerError, WorkerOptions

SERVICE = ServiceKey(fwmark=1)
REAL = RealKey(ip_address("10.0.0.1"), 80)
SLOW = CheckTiming(delay_loop=3600, warmup=3600)


def file_check(weight: int, reverse: bool = False, name: str = "f") -> FileCheck:
    return FileCheck(timing=CheckTiming(), track_file=name, weight=weight, reverse=reverse)


@pytest.mark.parametrize(
    ("weight", "reverse", "value", "points"),
    [
        (0, False, 0, None),
        (0, True, 5, None),
        (0, True, -5, None),
        (1, False, 7, 7),
        (1, True, 7, -7),
        (-3, False, 7, -21),
        (-3, True, 7, 21),
        (1, False, 0, 0),
        (2**31 - 1, False, 2**31 - 1, 2**31 - 1),
        (1, False, LEAST + 1, LEAST + 1),
    ],
)
def test_a_number_that_is_well(weight: int, reverse: bool, value: int, points: int | None) -> None:
    checker = FileChecker(file_check(weight, reverse), lambda name: value)
    result = asyncio.run(probe(checker))
    assert (result.failure, result.points) == ("", points)


@pytest.mark.parametrize(
    ("weight", "reverse", "value", "failure"),
    [
        (0, False, 1, "f is 1"),
        (0, False, -1, "f is -1"),
        (0, True, 0, "f is 0"),
        (1, False, LEAST, f"f is {LEAST}, which is down with weight 1"),
        (2, False, LEAST // 2, f"f is {LEAST // 2}, which is down with weight 2"),
        (2**31 - 1, True, 2**31 - 1, f"f is {2**31 - 1}, which is down with weight {2**31 - 1}"),
    ],
)
def test_a_number_that_is_a_failure(weight: int, reverse: bool, value: int, failure: str) -> None:
    with pytest.raises(CheckFailed, match=failure):
        FileChecker(file_check(weight, reverse), lambda name: value).judge()


def test_a_session_is_down_until_it_is_told_to_be_up() -> None:
    changed: list[str] = []
    sessions = BfdSessions(changed.append)
    checker = BfdChecker(BfdCheck(timing=CheckTiming(), name="a"), sessions.up)
    assert asyncio.run(probe(checker)).failure == "session a is down"
    sessions.tell("a", False)
    assert changed == []
    sessions.tell("a", True)
    sessions.tell("a", True)
    assert changed == ["a"]
    assert asyncio.run(probe(checker)).success
    sessions.tell("a", False)
    assert changed == ["a", "a"]
    assert asyncio.run(probe(checker)).failure == "session a is down"


# in the worker ----------------------------------------------------------------------------------------------------


class NoKernel:
    """An IPVS table that takes everything."""

    family = 1

    def __init__(self, family: int, namespace: str | None = None) -> None:
        self.ops: list[Any] = []

    def resize(self, size: int, force: bool) -> None:
        """There is no socket."""

    def table(self) -> dict[Any, Any]:
        return {}

    def apply(self, ops: list[Any]) -> list[Any]:
        self.ops += ops
        return []


def config(
    *checks: Check, files: tuple[TrackFile, ...] = (), ssl: SslSettings | None = None, weight: int = 10
) -> CheckerSlice:
    real = RealServer(address=REAL.address, port=REAL.port, weight=weight, checks=checks)
    servers = (VirtualServer(key=SERVICE, real_servers=(real,)),)
    return CheckerSlice(checker=CheckerConfig(virtual_servers=servers, ssl=ssl), track_files=files)


def run(
    first: CheckerSlice,
    scenario: Callable[[CheckerWorker], Coroutine[Any, Any, None]],
    monkeypatch: pytest.MonkeyPatch,
    reported: tuple[RealServerStateChanged, ...] = (),
) -> None:
    """A worker that has started with `first`, without process and kernel."""
    monkeypatch.setattr(table_module, "IpvsKernel", NoKernel)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    async def main() -> None:
        worker = CheckerWorker(
            WorkerContext(
                sock=ours,
                generation=1,
                config=first,
                options=WorkerOptions(keep_ipvs=True),
                parent_pid=os.getppid(),
                reported=reported,
            )
        )
        worker.channel.attach(asyncio.get_running_loop())
        await worker.start()
        try:
            await scenario(worker)
        finally:
            await worker.stop()
            worker.channel.close("")
            await asyncio.sleep(0)

    try:
        asyncio.run(main())
    finally:
        theirs.close()
        ours.close()


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 3
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


def real(worker: CheckerWorker) -> Any:
    return worker.states[SERVICE].reals[REAL]


def track(path: Path, name: str = "f", **values: Any) -> TrackFile:
    return TrackFile(name=name, file=str(path), **values)


def test_a_file_is_up_and_down_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    path.write_text("1")

    async def scenario(worker: CheckerWorker) -> None:
        assert not real(worker).alive
        for text, alive in (("0", True), ("1", False), ("0", True)):
            path.write_text(text)
            await until(lambda alive=alive: real(worker).alive is alive)  # type: ignore[misc]

    run(config(file_check(0), files=(track(path),)), scenario, monkeypatch)


def test_a_file_adds_to_the_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    path.write_text("2")

    async def scenario(worker: CheckerWorker) -> None:
        assert real(worker).weight == 16
        path.write_text("-1")
        await until(lambda: real(worker).weight == 7)
        path.write_text("-100")
        await until(lambda: real(worker).weight == 0)
        assert real(worker).alive
        path.write_text(str(LEAST))
        await until(lambda: not real(worker).alive)
        path.unlink()
        await until(lambda: real(worker).alive and real(worker).weight == 10)

    run(config(file_check(3), files=(track(path),)), scenario, monkeypatch)


def test_a_reload_counts_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("2")
    two.write_text("5")

    async def scenario(worker: CheckerWorker) -> None:
        assert real(worker).weight == 12
        await worker.apply(config(file_check(1), files=(track(two),)))  # another file behind the same name
        assert real(worker).weight == 15
        await worker.apply(config(file_check(2, reverse=True), files=(track(two),)))
        assert real(worker).weight == 0
        await worker.apply(config(file_check(0), files=(track(two),)))
        assert (real(worker).alive, real(worker).weight) == (False, 10)
        await worker.apply(config())
        assert real(worker).alive

    run(config(file_check(1), files=(track(one),)), scenario, monkeypatch)


def test_sessions_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(worker: CheckerWorker) -> None:
        assert not real(worker).alive
        worker.on_message(BfdSessionChanged(name="other", up=True))
        assert not real(worker).alive
        worker.on_message(BfdSessionChanged(name="a", up=True))
        assert real(worker).alive
        worker.on_message(BfdSessionChanged(name="a", up=False))
        assert not real(worker).alive

    run(config(BfdCheck(timing=CheckTiming(alpha=True), name="a")), scenario, monkeypatch)


def test_a_check_that_cannot_be_made_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    timing = replace(SLOW, warmup=0)

    async def scenario(worker: CheckerWorker) -> None:
        (task,) = worker.tasks[SERVICE][REAL]
        await until(lambda: task.last is not None)
        assert task.last is not None
        assert task.last.failure == "binding the socket: Cannot assign requested address"
        assert real(worker).alive

    elsewhere = endpoint(1, bindto=ip_address("192.0.2.77"))
    run(config(TcpCheck(timing=timing, endpoint=elsewhere)), scenario, monkeypatch)


@pytest.mark.parametrize("wanted", [False, True])
def test_failures_that_are_retried_are_logged_where_that_is_wanted(
    wanted: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    timing = replace(SLOW, retry=1, log_all_failures=wanted)

    async def scenario(worker: CheckerWorker) -> None:
        (task,) = worker.tasks[SERVICE][REAL]
        for result in (WELL, Result("first"), Result("second"), Result("third")):
            worker._checked(task, result)

    run(config(TcpCheck(timing=timing, endpoint=endpoint(1))), scenario, monkeypatch)
    failures = [record.getMessage().partition(" failed: ")[2] for record in caplog.records]
    assert [each for each in failures if each] == (["first", "second", "third"] if wanted else ["second"])


def test_an_alpha_smtp_check_is_told_as_down_after_its_retries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(worker: CheckerWorker) -> None:
        (task,) = worker.tasks[SERVICE][REAL]
        told = []
        for _ in range(4):
            worker._checked(task, Result("closed"))
            told.append(real(worker).told)
        assert told == [False, False, True, True]

    check = SmtpCheck(timing=replace(SLOW, retry=2, alpha=True), endpoint=endpoint(1))
    run(config(check), scenario, monkeypatch)


def test_only_smtp_makes_its_retries_the_first_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(worker: CheckerWorker) -> None:
        smtp, tcp = worker.tasks[SERVICE][REAL]
        assert [task.state.record(False) for task in (smtp, tcp)] == [False, True]
        assert smtp.state.record(False)

    checks = (SmtpCheck(timing=SLOW, endpoint=endpoint(1)), TcpCheck(timing=SLOW, endpoint=endpoint(1)))
    run(config(*checks), scenario, monkeypatch)


def test_material_for_tls_that_is_missing_refuses_start_and_reload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = HttpCheck(timing=SLOW, endpoint=endpoint(1), urls=(HttpUrl(path="/"),), tls=TlsSettings())
    broken = config(check, ssl=SslSettings(certificate=str(tmp_path / "none.pem")))

    async def scenario(worker: CheckerWorker) -> None:
        before = worker.tasks[SERVICE][REAL]
        with pytest.raises(WorkerError, match=r"none\.pem"):
            await worker.apply(broken)
        assert worker.tasks[SERVICE][REAL] is before

    run(config(check), scenario, monkeypatch)
    with pytest.raises(WorkerError, match=r"none\.pem"):
        run(broken, scenario, monkeypatch)


TLS_CHECKS: tuple[Check, ...] = (
    HttpCheck(timing=SLOW, endpoint=endpoint(1), urls=(HttpUrl(path="/"),), tls=TlsSettings()),
    GrpcCheck(timing=SLOW, endpoint=endpoint(1), tls=TlsSettings()),
)


@pytest.mark.parametrize("check", TLS_CHECKS)
@pytest.mark.parametrize("weight", [10, 20], ids=["the-same-server", "a-changed-one"])
def test_a_reload_leaves_checks_over_tls_to_their_pace_with_new_material(
    check: Check, weight: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(worker: CheckerWorker) -> None:
        before = worker.tasks[SERVICE][REAL][0]
        old = worker.client.tls
        await worker.apply(config(check, weight=weight))
        (task,) = worker.tasks[SERVICE][REAL]
        assert task is before
        (checker,) = task.checkers
        assert isinstance(checker, HttpChecker | GrpcChecker)
        assert checker.client.tls is worker.client.tls is not old

    run(config(check), scenario, monkeypatch)


@pytest.mark.parametrize(
    ("check", "mails"),
    [
        (MiscCheck(timing=SLOW, script=Script(argv=("true",)), timeout=1), [(True, False)]),
        (TcpCheck(timing=SLOW, endpoint=endpoint(1)), []),
    ],
)
def test_the_first_result_of_a_script_is_mailed_though_nothing_changed(
    check: Check, mails: list[tuple[bool, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by keepalived, of well and not moved; no_checker_emails keeps those that have not moved a server."""
    sent: list[tuple[bool, bool]] = []

    async def scenario(worker: CheckerWorker) -> None:
        def checked(*args: Any, moved: bool) -> None:
            sent.append((args[3], moved))

        monkeypatch.setattr(worker.teller, "checked", checked)
        (task,) = worker.tasks[SERVICE][REAL]
        for _ in range(3):
            worker._checked(task, WELL)

    run(config(check), scenario, monkeypatch)
    assert sent == mails

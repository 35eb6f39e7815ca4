"""A kernel without IPVS, lvs_flush_on_stop, omega, lvs_timeouts, ha_suspend (checker-behaviour.md 1 and 5 to 8)."""

from __future__ import annotations

import errno
import socket
import struct
import threading
from typing import Any

import pytest

from ipc.messages import RealServerStateChanged
from keepalived_py.config.model import IpvsSettings
from keepalived_py.plan import ipvs
from keepalived_py.values import ip_address
from workers.checker import suspend
from workers.checker import table as table_module
from workers.checker.ipvs_kernel import IpvsError
from workers.checker.worker import CheckerWorker
from workers.worker import WorkerError

from .helpers_table import STRANGER, FakeKernel, reals, run, service, sliced


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> ipvs.Table:
    monkeypatch.setattr(table_module, "IpvsKernel", FakeKernel)
    FakeKernel.shared = {}
    return FakeKernel.shared


@pytest.mark.parametrize("omega", [True, False])
@pytest.mark.parametrize(("mode", "told"), [("no", 1), ("all", 0), ("vs", 0)])
def test_what_a_stop_takes_away_and_tells(mode: str, told: int, omega: bool, kernel: ipvs.Table) -> None:
    """lvs_flush_on_stop takes all there is, with VS our services as a whole; real servers are not told then."""
    kernel[STRANGER] = ipvs.Entry(ipvs.Service("wlc"))

    async def scenario(worker: CheckerWorker) -> None:
        def flush() -> None:
            FakeKernel.shared.clear()

        worker.table.kernel.flush = flush  # type: ignore[method-assign]
        await worker.apply(
            sliced(service(1, real_servers=reals(1), omega=omega), ipvs=IpvsSettings(flush_on_stop=mode))
        )

    sent = run(sliced(), scenario)
    assert list(kernel) == ([] if mode == "all" else [STRANGER])
    removed = [each for each in sent if isinstance(each, RealServerStateChanged) and each.reason == "shutting down"]
    assert len(removed) == (told if omega else 0)


@pytest.mark.parametrize("omega", [True, False])
def test_a_reload_tells_of_what_it_takes_away(omega: bool, kernel: ipvs.Table) -> None:
    """Its real servers, and its quorum where it had one; omega is for the stop."""
    told: list[str] = []
    servers = (service(number, real_servers=reals(weight), omega=omega) for number, weight in ((1, 1), (2, 0)))

    async def scenario(worker: CheckerWorker) -> None:
        worker.teller.removed = lambda config: told.append(str(config.key))  # type: ignore[method-assign]
        await worker.apply(sliced())

    sent = run(sliced(*servers), scenario)
    assert told == ["[10.0.0.1]:tcp:80"]
    removed = [each for each in sent if isinstance(each, RealServerStateChanged) and each.reason == "removing"]
    assert [each.service for each in removed] == ["[10.0.0.1]:tcp:80", "[10.0.0.2]:tcp:80"]


def test_timeouts_that_a_reload_takes_away_are_what_they_were() -> None:
    """A reload flushes nothing, whatever lvs_flush says."""
    timeouts = {"tcp": 900, "tcpfin": 120, "udp": 300}
    seen: list[dict[str, int]] = []

    async def scenario(worker: CheckerWorker) -> None:
        kernel: Any = worker.table.kernel
        kernel.timeouts = lambda: dict(timeouts)
        kernel.set_timeouts = timeouts.update
        for ipvs_settings in (
            IpvsSettings(timeout_tcp=5),
            IpvsSettings(timeout_udp=6, flush=True),
            IpvsSettings(timeout_udp=6),
            IpvsSettings(),
        ):
            await worker.apply(sliced(service(1, real_servers=reals(1)), ipvs=ipvs_settings))
            seen.append(dict(timeouts))

    run(sliced(), scenario)
    first = {"tcp": 900, "tcpfin": 120, "udp": 300}
    assert seen == [first | {"tcp": 5}, first | {"udp": 6}, first | {"udp": 6}, first]


@pytest.mark.parametrize("wanted", [True, False])
def test_without_ipvs_the_checker_ends_with_1_where_there_are_services(
    wanted: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing() -> int:
        raise IpvsError("the kernel has no IPVS", errno.ENOENT)

    async def scenario(worker: CheckerWorker) -> None:
        worker.config = sliced(*[service(1, real_servers=reals(1))] * wanted)
        caplog.set_level("INFO")
        if wanted:
            with pytest.raises(WorkerError, match="the kernel has no IPVS") as error:
                worker.prepare()
            assert error.value.code == 1
        else:
            worker.prepare()
            assert "which nothing needs yet" in caplog.text

    monkeypatch.setattr("workers.checker.worker.resolve_family", missing)
    run(sliced(), scenario)


def test_without_a_thread_the_first_services_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def scenario(worker: CheckerWorker) -> None:
        worker.table.kernel.family = 0
        with monkeypatch.context() as short:
            short.setattr(threading.Thread, "start", refuse)
            with pytest.raises(WorkerError, match="new thread"):
                await worker.apply(sliced(service(1, real_servers=reals(1))))

    run(sliced(), scenario)


def test_an_address_is_here_while_any_interface_has_it() -> None:
    """ha_suspend counts it on each."""

    def notice(kind: int, interface: int) -> None:
        body = suspend.IFADDRMSG.pack(socket.AF_INET, 32, 0, 0, interface) + struct.pack(
            "=HH4s", 8, suspend.IFA_LOCAL, ip_address("10.0.0.1").packed
        )
        addresses._take(kind, memoryview(body))
        addresses._settle()
        seen.append(bool(addresses.present))

    seen: list[bool] = []
    changes: list[None] = []
    addresses = suspend.HostAddresses(lambda: changes.append(None))
    for kind, interface in (("NEW", 1), ("NEW", 2), ("DEL", 1), ("DEL", 2)):
        notice(getattr(suspend, f"RTM_{kind}ADDR"), interface)
    assert seen == [True, True, True, False]
    assert len(changes) == 2

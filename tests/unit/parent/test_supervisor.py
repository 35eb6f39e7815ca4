"""The parent between its workers: what happens when two things happen at the same time."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ipc.channel import Channel
from ipc.messages import (
    AdoptConfig,
    ApplyConfig,
    ConfigAccepted,
    ConfigApplied,
    ConfigLoaded,
    ConfigRefused,
    GroupMarked,
    Peer,
    RealServerStateChanged,
    Stop,
    TimeoutsReplaced,
    VirtualServerStateChanged,
    VrrpStateChanged,
)
from keepalived_py.config.delta import difference
from keepalived_py.config.model import (
    CheckerConfig,
    Config,
    GlobalDefs,
    RealServer,
    ReloadSettings,
    RootSettings,
    Script,
    VirtualServer,
    VrrpConfig,
)
from keepalived_py.parent import supervisor as module
from keepalived_py.parent.child import BLOCKED
from keepalived_py.parent.last_good import LastGood, Reading
from keepalived_py.parent.pidfile import PidFile
from keepalived_py.parent.reload import Applied
from keepalived_py.parent.roles import Plan
from keepalived_py.parent.supervisor import Supervisor
from keepalived_py.values import Protocol, ServiceKey, ip_address
from tests.unit.vrrp.builders import instance

SERVER = VirtualServer(key=ServiceKey(protocol=Protocol.TCP, address=ip_address("192.0.2.80"), port=80))
BOTH = CheckerConfig(virtual_servers=(SERVER,))


def config(priority: int = 100, *, vrrp: bool = True, checker: bool = True, **defs: Any) -> Config:
    return Config(
        global_defs=GlobalDefs(**defs),
        vrrp=VrrpConfig(instances=(instance(priority=priority),) if vrrp else ()),
        checker=BOTH if checker else CheckerConfig(),
    )


class Forked:
    """A worker that exists only as the other end of its channel."""

    def __init__(self, peer: Peer, pid: int, sock: socket.socket, applied: Applied) -> None:
        self.peer, self.pid, self.applied, self.generation = peer, pid, applied, applied.generation
        self.heard: list[Any] = []
        self.channel = Channel(sock, Peer.PARENT, self.heard.append, lambda reason: None)

    def sent(self, kind: type) -> list[Any]:
        """What the parent has sent of that kind so far."""
        self.channel._readable()
        return [msg for msg in self.heard if type(msg) is kind]


class Daemon:
    """A parent whose processes are pretended; `turn` is one turn of its loop and of the code around it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, first: Config, kept: str = "") -> None:
        self.kept = LastGood(kept)
        self.forks: list[Forked] = []
        self.killed: list[tuple[int, int]] = []
        self.loaders = 0
        self.pid_files: dict[Peer, PidFile] = {}
        self.withdrawn: list[Config] = []
        self.warm: dict[Peer, Callable[[], None]] = {}
        self.missing = ""
        self._pids = itertools.count(100)
        monkeypatch.setattr(os, "kill", lambda pid, number: self.killed.append((pid, number)))
        monkeypatch.setattr(module, "fork_process", self._fork)
        self.parent = Supervisor(
            Plan(
                mains=dict.fromkeys((Peer.CHECKER, Peer.VRRP), self._main),
                warm=self.warm,
                load_modules=self._load_modules,
                load=lambda applied: ConfigLoaded(config=None, problems=(), errors=()),
                start_script=self._no_script,
                pid_files=self.pid_files,
                withdraw=self._withdraw,
                last_good=self.kept,
            ),
            Applied(1, first),
        )
        monkeypatch.setattr(self.parent._loader, "start", self._load)

    def _load_modules(self, config: Config) -> None:
        if self.missing:
            raise ImportError(self.missing)

    @staticmethod
    def _no_script(script: Any) -> Any:
        raise AssertionError(script)

    def _main(self, sock: socket.socket, applied: Applied, reports: tuple[Any, ...], parent: int) -> int:
        self._begun_with = applied
        return 0

    def _fork(self, peer: Peer, body: Any) -> tuple[int, socket.socket]:
        ours, theirs = socket.socketpair()
        body(theirs)
        self.forks.append(Forked(peer, next(self._pids), theirs, self._begun_with))
        return self.forks[-1].pid, ours

    def _load(self, load: Any, limit: float) -> None:
        self.loaders += 1
        self.limit = limit

    def _withdraw(self, found: Config, names: frozenset[str]) -> int:
        self.withdrawn.append(found)
        return len(names)

    def turn(self) -> None:
        parent = self.parent
        for _ in range(4):
            jobs, parent._jobs = parent._jobs, []
            for job in jobs:
                job()
            parent._loop.call_soon(parent._loop.stop)
            parent._loop.run_forever()

    def start(self) -> None:
        """All workers run and have confirmed."""
        self.parent._adopt()
        self.parent._start_workers()
        self.turn()
        for worker in self.forks:  # which grows meanwhile
            worker.channel.send(ConfigApplied(generation=1))
            self.turn()

    def found(self, new: Config) -> None:
        """The loader is ready."""
        self.parent._loaded(
            ConfigLoaded(config=difference(self.parent.reload.current.config, new), problems=(), errors=())
        )

    def accept(self, *peers: Peer, generation: int = 2) -> None:
        """These workers, or both, could move."""
        for peer in peers or (Peer.CHECKER, Peer.VRRP):
            self.worker(peer).channel.send(ConfigAccepted(generation=generation))
        self.turn()

    def worker(self, peer: Peer) -> Forked:
        return next(each for each in reversed(self.forks) if each.peer is peer)

    def dies(self, peer: Peer, code: int = -9) -> None:
        self.parent._ended(self.worker(peer).pid, code)

    def close(self) -> None:
        for role in self.parent.roles.values():
            if role.child is not None:
                role.child.channel.close()
        for worker in self.forks:
            worker.channel.close()
        self.parent._loop.close()


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    made = Daemon(monkeypatch, config())
    yield made
    made.close()


def test_services_come_before_addresses_and_all_confirm(daemon: Daemon) -> None:
    daemon.start()
    assert [each.peer for each in daemon.forks] == [Peer.CHECKER, Peer.VRRP]
    assert not daemon.parent._expected


def test_a_successor_begins_with_what_the_dead_one_held_and_moves_to_what_a_reload_brings(daemon: Daemon) -> None:
    """Only so it knows what there is to take away."""
    daemon.start()
    daemon.parent.request_reload()
    daemon.turn()
    daemon.dies(Peer.VRRP)
    daemon.found(config(120))
    daemon.turn()
    assert daemon.worker(Peer.VRRP).generation == 1
    for worker in (daemon.worker(Peer.VRRP), daemon.worker(Peer.CHECKER)):
        assert [msg.generation for msg in worker.sent(ApplyConfig)] == [2]
        worker.channel.send(ConfigApplied(generation=2))
    daemon.turn()
    assert not daemon.parent.reload.busy
    assert daemon.parent.reload.current.generation == 2


@pytest.mark.parametrize("peer", [Peer.CHECKER, Peer.VRRP])
def test_what_a_dead_worker_left_is_taken_away_though_nothing_of_it_is_configured_any_more(
    daemon: Daemon, peer: Peer
) -> None:
    daemon.start()
    daemon.dies(peer)
    daemon.turn()
    daemon.worker(peer).channel.send(ConfigApplied(generation=1))
    daemon.turn()
    daemon.dies(peer)  # this time its successor is not started at once
    daemon.parent.request_reload()
    daemon.turn()
    daemon.found(config(vrrp=peer is not Peer.VRRP, checker=peer is not Peer.CHECKER))
    daemon.turn()
    successor = daemon.worker(peer)
    assert successor.generation == 1
    assert [msg.generation for msg in successor.sent(ApplyConfig)] == [2]
    assert daemon.parent.reload.busy


def test_the_successor_of_one_that_died_in_a_reload_knows_what_it_may_have_begun(daemon: Daemon) -> None:
    """It begins with what there was before, and nobody else would take the beginnings away."""
    daemon.start()
    new = config(120)
    daemon.parent.request_reload()
    daemon.turn()
    daemon.found(new)
    daemon.accept()
    daemon.dies(Peer.CHECKER)
    daemon.turn()
    checker = daemon.worker(Peer.CHECKER)
    assert (checker.generation, checker.applied.abandoned) == (3, new)
    daemon.parent.request_reload()
    daemon.turn()
    daemon.found(new)
    for worker in (checker, daemon.worker(Peer.VRRP)):
        worker.channel.send(ConfigApplied(generation=4))
    daemon.turn()
    assert (daemon.parent.reload.current.generation, daemon.parent.reload.current.abandoned) == (4, None)


def _moved_alone(daemon: Daemon, peer: Peer, new: Config) -> None:
    """`peer` takes over what a reload brings, and the other worker does not answer."""
    daemon.start()
    daemon.parent.request_reload()
    daemon.turn()
    daemon.found(new)
    daemon.accept()
    daemon.worker(peer).channel.send(ConfigApplied(generation=2))
    daemon.turn()


@pytest.mark.parametrize("peer", [Peer.CHECKER, Peer.VRRP])
def test_the_successor_of_one_that_had_moved_alone_begins_there_and_goes_back(daemon: Daemon, peer: Peer) -> None:
    new = config(120)
    _moved_alone(daemon, peer, new)
    daemon.dies(peer)
    daemon.turn()
    successor = daemon.worker(peer)
    assert (successor.generation, successor.applied.config) == (2, new)
    assert [(msg.generation, msg.base) for msg in successor.sent(ApplyConfig)] == [(3, 0)]
    for generation in (2, 3):
        successor.channel.send(ConfigApplied(generation=generation))
        daemon.turn()
    daemon.dies(peer)
    daemon.parent._later(partial(daemon.parent._spawn, peer))
    daemon.turn()
    assert daemon.worker(peer).generation == 3
    assert daemon.worker(peer).sent(ApplyConfig) == []


def test_one_that_cannot_live_with_what_the_dead_one_had_is_followed_by_one_that_need_not(daemon: Daemon) -> None:
    new = config(120)
    _moved_alone(daemon, Peer.VRRP, new)
    daemon.worker(Peer.VRRP).channel.send(
        VrrpStateChanged(
            kind="INSTANCE", name="VI_1", old="BACKUP", new="MASTER", priority=100, reason="silence", time=1.0
        )
    )
    daemon.turn()
    daemon.dies(Peer.VRRP)
    daemon.turn()
    daemon.dies(Peer.VRRP, 2)
    daemon.turn()
    assert daemon.withdrawn == [new]
    assert daemon.worker(Peer.VRRP).generation == 3
    assert not daemon.parent._stopping


def test_what_the_dead_one_had_is_known_to_the_second_successor_too(daemon: Daemon) -> None:
    """The first one is killed before it could take anything over."""
    daemon.start()
    daemon.dies(Peer.VRRP)
    daemon.turn()
    daemon.dies(Peer.VRRP)
    daemon.parent.request_reload()
    daemon.turn()
    daemon.found(config(vrrp=False))
    daemon.turn()
    successor = daemon.worker(Peer.VRRP)
    assert successor.generation == 1
    assert [msg.generation for msg in successor.sent(ApplyConfig)] == [2]
    daemon.worker(Peer.CHECKER).channel.send(ConfigApplied(generation=2))
    daemon.dies(Peer.VRRP, 70)
    daemon.turn()
    assert daemon.parent.reload.current.generation == 2
    assert daemon.parent.roles[Peer.VRRP].child is None


def test_what_a_worker_had_moved_to_is_cleaned_up_at_the_stop(daemon: Daemon) -> None:
    new = config(120)
    _moved_alone(daemon, Peer.VRRP, new)
    daemon.parent.request_stop()
    daemon.dies(Peer.VRRP)
    daemon.turn()
    assert daemon.worker(Peer.VRRP).applied.config == new


def test_what_a_living_worker_refused_it_has_not_begun(daemon: Daemon) -> None:
    daemon.start()
    daemon.parent.request_reload()
    daemon.turn()
    daemon.found(config(120))
    daemon.accept()
    daemon.worker(Peer.CHECKER).channel.send(ConfigRefused(generation=2, reason="no"))
    daemon.turn()
    assert (daemon.parent.reload.current.generation, daemon.parent.reload.current.abandoned) == (3, None)


@pytest.mark.parametrize("death", [False, True])
def test_nobody_moves_before_all_have_said_that_they_could(daemon: Daemon, death: bool) -> None:
    """What one cannot take over changes nothing of the other, not even for a moment."""
    daemon.start()
    vrrp, checker = daemon.worker(Peer.VRRP), daemon.worker(Peer.CHECKER)
    for generation in (2, 3):
        daemon.parent.request_reload()
        daemon.turn()
        daemon.found(config(100 + 10 * generation))
        daemon.accept(Peer.CHECKER, generation=generation)
        assert [msg.at_once for msg in checker.sent(ApplyConfig)] == [False] * (generation - 1)
        assert checker.sent(AdoptConfig) == []
        if generation == 2:
            if death:
                daemon.dies(Peer.VRRP)
                daemon.turn()
                vrrp = daemon.worker(Peer.VRRP)
                assert (vrrp.generation, vrrp.sent(ApplyConfig)) == (1, [])
            else:
                vrrp.channel.send(ConfigRefused(generation=2, reason="no such interface"))
                daemon.turn()
            assert daemon.parent.reload.refusal
            assert daemon.parent.reload.current == Applied(1, config())
    daemon.accept(Peer.VRRP, generation=3)
    for worker in (vrrp, checker):
        assert [msg.generation for msg in worker.sent(AdoptConfig)] == [3]
        worker.channel.send(ConfigApplied(generation=3))
    daemon.turn()
    assert daemon.parent.reload.current.generation == 3


def test_a_file_that_the_dead_worker_never_lived_with_is_not_tried_again_before_the_new_one(daemon: Daemon) -> None:
    daemon.parent._adopt()
    daemon.parent._start_workers()
    daemon.turn()
    daemon.dies(Peer.CHECKER)
    daemon.found(config(120))
    daemon.turn()
    assert daemon.worker(Peer.CHECKER).generation == 2


def test_a_reload_does_not_wait_for_a_successor_that_cannot_be_had(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.EAGAIN, "no process")

    daemon.start()
    daemon.dies(Peer.VRRP)
    daemon.found(config(120))
    monkeypatch.setattr(module, "fork_process", none)
    daemon.turn()
    assert not daemon.parent.reload.busy
    assert daemon.parent.reload.refusal.startswith("Reload abandoned")


def test_a_worker_that_would_be_new_is_not_started_with_what_another_has_refused(daemon: Daemon) -> None:
    daemon.parent.reload.current = Applied(1, config(vrrp=False))
    daemon.start()
    assert [each.peer for each in daemon.forks] == [Peer.CHECKER]
    daemon.parent.request_reload()
    daemon.turn()
    daemon.found(config())
    daemon.worker(Peer.CHECKER).channel.send(ConfigRefused(generation=2, reason="no"))
    daemon.parent._loop.call_soon(daemon.parent._loop.stop)
    daemon.parent._loop.run_forever()  # the refusal is there before the process is
    daemon.turn()
    assert [each.peer for each in daemon.forks] == [Peer.CHECKER]
    assert [msg.generation for msg in daemon.worker(Peer.CHECKER).sent(ApplyConfig)] == [2]
    assert daemon.parent.reload.current.config.vrrp.instances == ()


def test_a_reload_that_is_asked_for_in_the_start_waits_for_its_end(daemon: Daemon) -> None:
    daemon.parent._adopt()
    daemon.parent._start_workers()
    daemon.turn()
    daemon.parent.request_reload()
    daemon.turn()
    assert daemon.loaders == 0
    daemon.worker(Peer.CHECKER).channel.send(ConfigApplied(generation=1))
    daemon.turn()
    daemon.parent.request_reload()
    daemon.turn()
    assert daemon.loaders == 0
    daemon.worker(Peer.VRRP).channel.send(ConfigApplied(generation=1))
    daemon.turn()
    assert daemon.loaders == 1


def test_it_does_not_wait_for_a_worker_that_dies_in_the_start(daemon: Daemon) -> None:
    daemon.parent._adopt()
    daemon.parent._start_workers()
    daemon.turn()
    daemon.parent.request_reload()
    daemon.dies(Peer.CHECKER)
    daemon.turn()
    assert daemon.loaders == 1


@pytest.fixture
def _signals(daemon: Daemon) -> Iterator[None]:
    """The handlers of the parent, and then those of the test again."""
    numbers = (*BLOCKED, signal.SIGCHLD, signal.SIGPIPE, signal.SIGRTMAX - 1, signal.SIGRTMIN + 2)
    before = {number: signal.getsignal(number) for number in numbers}
    daemon.parent._install_signals()
    yield
    for number, handler in before.items():
        daemon.parent._loop.remove_signal_handler(number)
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals")
def test_a_worker_that_was_told_to_stop_with_its_parent_has_not_died(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of signals that came together the kernel hands over the one with the highest number first."""
    daemon.start()
    workers = len(daemon.forks)
    ended = [(daemon.worker(Peer.VRRP).pid, 0)]
    monkeypatch.setattr(module, "collected", lambda: [ended.pop()] if ended else [])
    both = (signal.SIGTERM, signal.SIGCHLD)
    signal.pthread_sigmask(signal.SIG_BLOCK, both)
    for number in both:
        signal.raise_signal(number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, both)
    daemon.turn()
    assert ended == []
    assert daemon.parent._stopping
    assert "Respawning" not in caplog.text
    assert len(daemon.forks) == workers


@pytest.mark.usefixtures("_signals")
def test_what_whoever_started_it_had_blocked_is_heard(daemon: Daemon) -> None:
    """Without SIGCHLD no worker would be replaced, and no stop would end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD, signal.SIGHUP, signal.SIGRTMIN + 2))
    try:
        daemon.parent._install_signals()
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_what_a_worker_said_before_it_died_counts(daemon: Daemon) -> None:
    daemon.start()
    vrrp = daemon.worker(Peer.VRRP)
    vrrp.channel.send(
        VrrpStateChanged(
            kind="INSTANCE", name="VI_1", old="BACKUP", new="MASTER", priority=100, reason="silence", time=1.0
        )
    )
    vrrp.channel.close()
    daemon.dies(Peer.VRRP)
    assert [report.new for report in daemon.parent.roles[Peer.VRRP].reports.values()] == ["MASTER"]


def test_a_worker_that_confirmed_and_died_has_not_refused(daemon: Daemon) -> None:
    daemon.start()
    daemon.parent.request_reload()
    daemon.turn()
    daemon.found(config(120))
    daemon.worker(Peer.CHECKER).channel.send(ConfigApplied(generation=2))
    daemon.turn()
    vrrp = daemon.worker(Peer.VRRP)
    vrrp.channel.send(ConfigApplied(generation=2))
    vrrp.channel.close()
    daemon.dies(Peer.VRRP)
    daemon.turn()
    assert daemon.parent.reload.current.generation == 2
    assert daemon.worker(Peer.VRRP).generation == 2


def test_a_stop_while_the_configuration_is_read_ends_the_reading(
    daemon: Daemon, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "reading"
    reload = ReloadSettings(file=str(marker))
    daemon.parent.reload.current = Applied(1, config(reload=reload))
    daemon.start()
    daemon.parent.request_reload()
    daemon.turn()
    assert marker.exists()
    daemon.parent._loader._pid = 99
    daemon.parent.request_stop()
    assert (99, signal.SIGKILL) in daemon.killed
    assert not marker.exists()
    assert daemon.worker(Peer.VRRP).sent(Stop)


def test_a_large_file_has_the_time_that_it_takes_with_reload_check_config_too(daemon: Daemon) -> None:
    """40,000 real servers take more than ten seconds on a busy machine."""
    daemon.parent.reload.current = Applied(1, config(reload=ReloadSettings(check_config="/dev/null")))
    daemon.start()
    daemon.parent.request_reload()
    daemon.turn()
    assert daemon.limit >= 60


def test_no_reading_begins_in_a_stop(daemon: Daemon) -> None:
    daemon.start()
    daemon.parent.request_reload()
    daemon.parent.request_stop()
    daemon.turn()
    assert daemon.loaders == 0


def test_who_takes_long_in_a_stop_is_not_killed_as_stalled(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon.parent.reload.current = Applied(1, config(restart_stalled=2.0))
    daemon.start()
    vrrp = daemon.parent.roles[Peer.VRRP].child
    assert vrrp is not None
    daemon.parent.request_stop()
    daemon.parent._watch.start()
    vrrp.last_beat -= 3.0
    daemon.parent._watch._look()
    assert daemon.killed == []


def test_what_is_configured_no_more_is_forgotten(daemon: Daemon) -> None:
    daemon.start()
    real = RealServer(address=ip_address("192.0.2.81"), port=80)
    group = replace(SERVER, key=ServiceKey(protocol=Protocol.TCP, group="web"))
    served = CheckerConfig(virtual_servers=(replace(SERVER, real_servers=(real,)), group))
    new = replace(config(120), checker=served)
    vrrp, checker = daemon.worker(Peer.VRRP), daemon.worker(Peer.CHECKER)
    for name in ("VI_1", "VI_2"):
        vrrp.channel.send(
            VrrpStateChanged(kind="INSTANCE", name=name, old="", new="BACKUP", priority=100, reason="", time=1.0)
        )
    service, there = str(SERVER.key), real.key.text(SERVER.protocol)
    for number in range(9):
        gone = f"[192.0.2.{number}]:tcp:80"
        for what in (there, gone):
            checker.channel.send(RealServerStateChanged(service=service, real=what, up=True, reason="", time=1.0))
        checker.channel.send(VirtualServerStateChanged(service=gone, up=True, reason="", time=1.0))
    checker.channel.send(VirtualServerStateChanged(service=service, up=True, reason="", time=1.0))
    marks = [GroupMarked(group=name, protocol="tcp", mark=1000) for name in ("web", "gone")]
    for each in (*marks, TimeoutsReplaced(tcp=900)):
        checker.channel.send(each)
    daemon.turn()
    daemon.parent.request_reload()
    daemon.turn()
    daemon.found(new)
    for worker in (vrrp, checker):
        worker.channel.send(ConfigApplied(generation=2))
    daemon.turn()
    reports = {peer: list(role.reports.values()) for peer, role in daemon.parent.roles.items()}
    assert [report.real for report in reports[Peer.CHECKER] if isinstance(report, RealServerStateChanged)] == [there]
    assert [report.service for report in reports[Peer.CHECKER][:2]] == [service, service]
    assert reports[Peer.CHECKER][2:] == [marks[0], TimeoutsReplaced(tcp=900)]
    assert len(reports[Peer.VRRP]) == 2  # so few are no burden


def test_the_service_manager_gives_scripts_and_workers_the_time_that_is_configured(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []
    monkeypatch.setattr(daemon.parent.plan.systemd, "extend", told.append)
    limits: dict[str, Any] = {"startup_script_timeout": 100, "shutdown_script_timeout": 200}
    limits |= {"startup_script": Script(argv=("/bin/true",)), "root": RootSettings(child_wait_time=50)}
    daemon.parent.reload.current = Applied(1, config(**limits))
    daemon.parent._run_startup_script()
    assert told[0] >= 100 + 60
    daemon.parent.request_stop()
    assert told[1] >= 50 + 200


def test_no_pid_file_names_a_worker_that_is_dead_for_a_while(daemon: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "vrrp.pid"
    daemon.pid_files[Peer.VRRP] = PidFile(str(path))
    daemon.start()
    assert path.read_text() == f"{daemon.worker(Peer.VRRP).pid}\n"
    daemon.dies(Peer.VRRP)
    daemon.turn()
    assert path.read_text() == f"{daemon.worker(Peer.VRRP).pid}\n"
    daemon.dies(Peer.VRRP)
    daemon.turn()
    assert not path.exists()
    daemon.parent._later(partial(daemon.parent._spawn, Peer.VRRP))
    daemon.turn()
    assert path.read_text() == f"{daemon.worker(Peer.VRRP).pid}\n"


def test_a_preparation_that_fails_for_want_of_something_is_tried_again(daemon: Daemon) -> None:
    def fail() -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    daemon.warm[Peer.CHECKER] = fail
    daemon.parent._start_workers()
    daemon.turn()
    assert daemon.forks == []
    daemon.warm.clear()
    daemon.parent._later(partial(daemon.parent._spawn, Peer.CHECKER))
    daemon.turn()
    assert [each.peer for each in daemon.forks] == [Peer.CHECKER]


def test_a_configuration_whose_modules_are_gone_changes_nothing(
    daemon: Daemon, caplog: pytest.LogCaptureFixture
) -> None:
    daemon.start()
    daemon.missing = "dns cannot be loaded: No module named 'dns'"
    daemon.parent.request_reload()
    daemon.found(config(priority=7))
    daemon.turn()
    assert [daemon.worker(peer).sent(ApplyConfig) for peer in (Peer.VRRP, Peer.CHECKER)] == [[], []]
    assert not daemon.parent.reload.busy
    assert f"The new configuration cannot be used: {daemon.missing}; the old configuration stays" in caplog.messages


def test_the_end_of_the_start_keeps_what_was_started_with_not_what_a_reload_reads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """For a worker that died in the start no reload waits."""
    path = tmp_path / "kept"
    daemon = Daemon(monkeypatch, config(100), str(path))
    try:
        daemon.kept.stage(config(100), Reading.START)
        daemon.parent._adopt()
        daemon.parent._start_workers()
        daemon.turn()
        daemon.dies(Peer.CHECKER)
        daemon.turn()
        daemon.parent.request_reload()
        daemon.turn()
        assert daemon.loaders == 1
        daemon.kept.stage(config(120), Reading.RELOAD)
        for peer in (Peer.CHECKER, Peer.VRRP):
            daemon.worker(peer).channel.send(ConfigApplied(generation=1))
            daemon.turn()
        assert "priority 100" in path.read_text()
        daemon.found(config(120))
        daemon.turn()
        assert "priority 100" in path.read_text()
        for peer in (Peer.CHECKER, Peer.VRRP):
            daemon.worker(peer).channel.send(ConfigApplied(generation=2))
            daemon.turn()
        assert "priority 120" in path.read_text()
    finally:
        daemon.close()


def test_no_pid_file_names_a_worker_that_a_reload_wanted_and_that_cannot_run(daemon: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "checkers.pid"
    daemon.pid_files[Peer.CHECKER] = PidFile(str(path))
    daemon.parent.reload.current = Applied(1, config(checker=False))
    daemon.start()
    daemon.parent.request_reload()
    daemon.turn()
    daemon.found(config())
    daemon.turn()
    assert path.read_text() == f"{daemon.worker(Peer.CHECKER).pid}\n"
    daemon.dies(Peer.CHECKER, 1)
    daemon.turn()
    assert daemon.parent.roles[Peer.CHECKER].child is None
    assert not path.exists()


def test_a_late_refusal_is_not_one_of_a_later_configuration(daemon: Daemon) -> None:
    """The reload was abandoned before, because another worker had died in it."""
    daemon.start()
    checker = daemon.worker(Peer.CHECKER)
    daemon.parent.request_reload()
    daemon.turn()
    daemon.found(config(110))
    daemon.accept()
    daemon.parent.request_reload()  # which waits
    daemon.dies(Peer.VRRP)
    daemon.turn()
    daemon.found(config(120))
    daemon.turn()
    checker.channel.send(ConfigRefused(generation=2, reason="no"))
    daemon.turn()
    assert daemon.parent.reload.target.generation == 4
    for worker in (checker, daemon.worker(Peer.VRRP)):
        worker.channel.send(ConfigApplied(generation=4))
    daemon.turn()
    assert daemon.parent.reload.current.generation == 4

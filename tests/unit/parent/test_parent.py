"""Restart policy, reload transaction, pid files: the parent's decisions."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ipc.messages import ConfigLoaded, Peer
from keepalived_py.config.delta import difference
from keepalived_py.config.model import Config, GlobalDefs, RootSettings, VrrpConfig
from keepalived_py.dumpfile import save
from keepalived_py.parent import pidfile
from keepalived_py.parent.pidfile import AlreadyRunning, PidFile, default_path
from keepalived_py.parent.reload import Applied, ReloadCoordinator
from keepalived_py.parent.report import describe, status
from keepalived_py.parent.restart import GiveUp, Restart, RestartPolicy
from keepalived_py.vitals import Lateness
from tests.unit.vrrp.builders import instance


def test_delays_grow_and_a_healthy_minute_starts_afresh() -> None:
    policy = RestartPolicy()
    delays = [policy.child_exited(-9, 1.0) for _ in range(9)]
    assert delays == [Restart(float(each)) for each in (0, 1, 2, 4, 8, 16, 32, 60, 60)]
    assert {policy.child_exited(-9, 1.0) for _ in range(2000)} == {Restart(60.0)}
    assert policy.child_exited(70, 61.0) == Restart(0.0)
    assert policy.child_exited(70, 1.0) == Restart(1.0)


@pytest.mark.parametrize("code", [1, 2, 4])
def test_permanent_errors_end_the_daemon(code: int) -> None:
    name = {1: "FATAL", 2: "CONFIG", 4: "missing permission"}[code]
    verdict = RestartPolicy().child_exited(code, 100.0)
    assert verdict == GiveUp(code, f"exited with permanent error {name}. Terminating")


def test_respawning_can_be_switched_off() -> None:
    assert RestartPolicy(respawn=False).child_exited(-9, 100.0) == GiveUp(0, "died: Exiting")


OLD = Config(vrrp=VrrpConfig(instances=(instance(),)))
NEW = Config(vrrp=VrrpConfig(instances=(instance(priority=120),)))


def loaded(config: Config | None, *problems: str, errors: tuple[str, ...] = ()) -> ConfigLoaded:
    delta = None if config is None else difference(OLD, config)
    return ConfigLoaded(config=delta, problems=problems, errors=errors)


def test_a_reload_tells_which_files_it_read(caplog: pytest.LogCaptureFixture) -> None:
    """Also where they are refused."""
    caplog.set_level(logging.DEBUG)
    for config in (None, NEW):
        reload = ReloadCoordinator(Applied(1, OLD))
        reload.request()
        reload.loaded(replace(loaded(config), files=("/a", "/b")))
        assert caplog.messages[:3] == ["Reloading ...", "Opening file '/a'", "Opening file '/b'"]
        caplog.clear()


def test_a_file_that_is_gone_has_no_number_of_errors() -> None:
    reload = ReloadCoordinator(Applied(1, OLD))
    for found, refusal in (
        (loaded(None), "The new configuration cannot be used"),
        (loaded(None, errors=("a",)), "New configuration has 1 error"),
    ):
        reload.request()
        assert reload.loaded(found) is None
        assert reload.refusal == refusal


def test_a_reload_is_current_when_all_have_confirmed() -> None:
    reload = ReloadCoordinator(Applied(1, OLD))
    assert reload.request()
    applied = reload.loaded(loaded(NEW))
    assert applied == Applied(2, NEW)
    assert applied is not None
    reload.handed_out(applied, [Peer.VRRP, Peer.CHECKER])
    reload.confirmed(Peer.VRRP, 2)
    assert reload.current.config is OLD
    reload.confirmed(Peer.CHECKER, 1)
    assert reload.busy
    reload.confirmed(Peer.CHECKER, 2)
    assert reload.current == applied
    assert not reload.busy


def test_any_number_of_requests_meanwhile_become_one() -> None:
    reload = ReloadCoordinator(Applied(1, OLD))
    assert reload.request()
    assert not reload.request()
    assert not reload.request()
    assert not reload.take_queued()
    reload.failed("it died")
    assert reload.take_queued()
    assert not reload.take_queued()


def test_a_bad_file_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    reload = ReloadCoordinator(Applied(1, OLD))
    reload.request()
    assert reload.loaded(loaded(None, "(f: Line 3) bad, column 7", errors=("bad",))) is None
    assert reload.current == Applied(1, OLD)
    assert "(f: Line 3) bad, column 7" in caplog.text
    assert "the old configuration stays" in caplog.text


def test_findings_are_errors_of_the_log_only_where_they_refuse_the_reload(caplog: pytest.LogCaptureFixture) -> None:
    """As at a start: a warning of a file that is taken over is no alarm."""
    caplog.set_level(logging.INFO)
    reload = ReloadCoordinator(Applied(1, OLD, ("known",)))
    for found, level in (
        (loaded(NEW, "(f: Line 3) told", errors=("known",)), logging.INFO),
        (loaded(NEW, "(f: Line 3) told", errors=("new",)), logging.ERROR),
        (loaded(None, "(f: Line 3) told"), logging.ERROR),
    ):
        reload.request()
        reload.loaded(found)
        assert [record.levelno for record in caplog.records if record.message == "(f: Line 3) told"] == [level]
        caplog.clear()


def test_errors_that_the_running_configuration_has_too_do_not_block() -> None:
    reload = ReloadCoordinator(Applied(1, OLD, ("known",)))
    reload.request()
    assert reload.loaded(loaded(NEW, "(f: Line 9) known", errors=("known",))) is not None
    for more in ("new one", "known"):  # the same at a second place is one more
        reload.request()
        assert reload.loaded(loaded(NEW, errors=("known", more))) is None


@pytest.mark.parametrize(
    ("known", "found", "told"),
    [
        ((), loaded(None, "no such file"), "The new configuration cannot be used"),
        ((), loaded(NEW, errors=("bad",)), "New configuration has 1 error"),
        (("a",), loaded(NEW, errors=("a", "b")), "New configuration has 1 error that the old one does not have"),
    ],
)
def test_a_refusal_says_what_the_new_configuration_has(known: tuple[str, ...], found: ConfigLoaded, told: str) -> None:
    reload = ReloadCoordinator(Applied(1, OLD, known))
    reload.request()
    assert reload.loaded(found) is None
    assert reload.refusal == told


def test_what_one_worker_refuses_is_taken_back_from_all() -> None:
    reload = ReloadCoordinator(Applied(1, OLD))
    reload.request()
    applied = reload.loaded(loaded(NEW))
    assert applied is not None
    reload.handed_out(applied, [Peer.VRRP, Peer.CHECKER])
    assert [reload.accepted(peer, 2) for peer in (Peer.CHECKER, Peer.CHECKER, Peer.VRRP)] == [False, False, True]
    reload.confirmed(Peer.CHECKER, 2)
    assert reload.refused(Peer.VRRP, "no such interface") == Applied(3, OLD)
    assert reload.refused(Peer.VRRP, "again") is None
    assert reload.current.config is OLD


def test_why_the_last_reload_changed_nothing_is_told_until_one_does() -> None:
    reload = ReloadCoordinator(Applied(1, OLD))
    assert status({}, reload) == "configuration 1"
    reload.request()
    reload.loaded(loaded(None, errors=("bad", "worse")))
    assert status({}, reload) == "configuration 1, last reload refused (New configuration has 2 errors)"
    assert "\n Last reload refused: New configuration has 2 errors\n" in describe({}, reload, Lateness())
    reload.request()
    applied = reload.loaded(loaded(NEW))
    assert applied is not None
    reload.handed_out(applied, [Peer.VRRP])
    assert "refused" in status({}, reload)
    reload.confirmed(Peer.VRRP, 2)
    assert status({}, reload) == "configuration 2"
    assert "refused" not in describe({}, reload, Lateness())


def test_whom_a_reload_waits_for_is_told() -> None:
    """A worker that stands still would keep it for ever, and nobody would know."""
    reload = ReloadCoordinator(Applied(1, OLD))
    reload.request()
    assert "Reload: under way\n" in describe({}, reload, Lateness())
    applied = reload.loaded(loaded(NEW))
    assert applied is not None
    reload.handed_out(applied, [Peer.VRRP, Peer.CHECKER])
    assert status({}, reload) == "configuration 1, a reload waits for VRRP and Healthcheck"
    assert [reload.accepted(peer, 2) for peer in (Peer.VRRP, Peer.CHECKER)] == [False, True]
    assert "Reload: under way, waits for VRRP and Healthcheck\n" in describe({}, reload, Lateness())
    reload.confirmed(Peer.VRRP, 2)
    assert status({}, reload) == "configuration 1, a reload waits for Healthcheck"
    reload.confirmed(Peer.CHECKER, 2)
    assert status({}, reload) == "configuration 2"
    assert "Reload: none\n" in describe({}, reload, Lateness())


def test_some_keywords_cannot_change() -> None:
    reload = ReloadCoordinator(Applied(1, OLD))
    reload.request()
    other = Config(global_defs=GlobalDefs(root=RootSettings(instance="x")))
    assert reload.loaded(loaded(other)) is None


def test_a_pid_file_is_written_locked_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "run" / "a.pid"
    mine = PidFile(str(path))
    mine.acquire()
    mine.write(123456)
    mine.write(42)
    assert path.read_text() == "42\n"
    assert path.stat().st_mode & 0o777 == 0o644
    with pytest.raises(AlreadyRunning):
        PidFile(str(path)).acquire()
    mine.remove()
    mine.remove()
    assert not path.exists()


def test_only_what_nobody_holds_is_discarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "keepalived"
    monkeypatch.setattr(pidfile, "DIRECTORY", str(directory))
    held, left = PidFile(str(directory / "held.pid")), directory / "left.pid"
    held.write(7)
    left.write_text("8\n")
    PidFile(str(left)).discard()
    PidFile(str(directory / "held.pid")).discard()
    PidFile(str(directory / "none.pid")).discard()
    assert [each.name for each in directory.iterdir()] == ["held.pid"]
    held.remove()
    assert not directory.exists()


def test_a_file_that_another_daemon_removes_meanwhile_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.pid"
    old, new = PidFile(str(path)), PidFile(str(path))
    old.write(1)
    lock = fcntl.fcntl

    def slowly(descriptor: int, *arguments: Any) -> Any:
        old.remove()  # between the opening and the lock
        return lock(descriptor, *arguments)

    monkeypatch.setattr(fcntl, "fcntl", slowly)
    new.write(2)
    assert path.read_text() == "2\n"
    with pytest.raises(AlreadyRunning):
        PidFile(str(path)).acquire()


def test_what_cannot_be_removed_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    mine = PidFile(str(tmp_path / "a.pid"))
    mine.write(1)
    monkeypatch.setattr(os, "unlink", refuse)
    mine.remove()
    PidFile(mine.path).acquire()


def test_a_file_of_another_daemon_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.pid"
    old, new = PidFile(str(path)), PidFile(str(path))
    old.write(1)
    path.unlink()
    new.write(2)
    old.remove()
    assert path.read_text() == "2\n"


def test_whether_another_daemon_holds_a_file(tmp_path: Path) -> None:
    held, free = PidFile(str(tmp_path / "held.pid")), PidFile(str(tmp_path / "free.pid"))
    held.write(1)
    (tmp_path / "free.pid").write_text("1\n")
    others = [PidFile(str(tmp_path / name)) for name in ("held.pid", "free.pid", "none.pid")]
    assert [each.held_by_another for each in others] == [True, False, False]
    assert not held.held_by_another
    with pytest.raises(OSError, match="is locked by another process"):  # who writes it may go on without
        others[0].write(2)
    assert free.path == others[1].path
    assert sorted(each.name for each in tmp_path.iterdir()) == ["free.pid", "held.pid"]


def test_what_is_no_file_is_left_alone(tmp_path: Path) -> None:
    """The mode of /dev/null is everybody's."""
    path = tmp_path / "fifo"
    os.mkfifo(path, 0o600)
    for _ in range(2):
        mine = PidFile(str(path))
        with pytest.raises(OSError, match="not a regular file"):
            mine.write(1)
        mine.remove()
    assert path.stat().st_mode == stat.S_IFIFO | 0o600


def test_a_full_disk_keeps_no_empty_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, text: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        PidFile(str(tmp_path / "a.pid")).write(1)
    assert not list(tmp_path.iterdir())


def test_directories_can_be_entered_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o177)
    try:
        PidFile(str(tmp_path / "a" / "b" / "c.pid")).acquire()
        save(str(tmp_path / "saved" / "name"), "text")
    finally:
        os.umask(before)
    modes = [each.stat().st_mode & 0o777 for each in (tmp_path / "a", tmp_path / "a" / "b", tmp_path / "saved")]
    assert modes == [0o755, 0o755, 0o700]


def test_a_copy_of_the_same_name_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    for text in ("old", "new"):
        save(str(tmp_path / "keepalived.conf.1.1"), text)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("keepalived.conf.1.1", "new")]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("precious")
    os.symlink(tmp_path / "target", tmp_path / "a.pid")
    with pytest.raises(OSError, match="symbolic links"):
        PidFile(str(tmp_path / "a.pid")).acquire()


@pytest.mark.parametrize(
    ("instance_name", "directory", "path"),
    [
        ("", False, "/run/vrrp.pid"),
        ("", True, "/run/keepalived/vrrp.pid"),
        ("lab", False, "/run/keepalived/vrrp_lab.pid"),
    ],
)
def test_default_names(instance_name: str, directory: bool, path: str) -> None:
    assert default_path("vrrp", instance_name, directory) == path

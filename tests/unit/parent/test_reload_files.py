"""reload_time_file and reload_file; the names of dump files."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from keepalived_py import dumpfile
from keepalived_py.config.model import GlobalDefs, ReloadSettings, RootSettings
from keepalived_py.parent import reload_files
from keepalived_py.parent.reload_files import BadTime, ReloadClock, create, parse_time, reload_file, remove

NOON = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC).timestamp()


@pytest.fixture(autouse=True)
def _two_hours_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "XYZ-2")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("12:00:01Z", "2026-03-04 12:00:01"),
        ("12:00:00Z\n", "2026-03-05 12:00:00"),
        ("11:59:59Z", "2026-03-05 11:59:59"),
        ("14:00:01", "2026-03-04 12:00:01"),
        ("13:59:59", "2026-03-05 11:59:59"),
        ("26-03-04 12:00:01Z", "2026-03-04 12:00:01"),
        ("2026-12-31 01:02:03", "2026-12-30 23:02:03"),
        ("2028-02-29 1:02:03Z", "2028-02-29 01:02:03"),
    ],
)
def test_times(text: str, when: str) -> None:
    found = parse_time(text, NOON)
    assert datetime.fromtimestamp(found.at, UTC).strftime("%Y-%m-%d %H:%M:%S") == when
    assert found.dated == ("-" in text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not"),
        ("noon", "is not"),
        ("12:00", "is not"),
        ("12:00:00 Z", "is not"),
        ("12:00:00Z\n12:00:00Z\n", "is not"),
        ("126-01-01 12:00:00", "is not"),
        ("24:00:00", "hour"),
        ("12:60:00", "minute"),
        ("2026-02-29 12:00:00", "day"),
        ("2026-03-04 12:00:00Z", "has passed"),
        ("26-03-04 14:00:00", "has passed"),
        ("9999-12-31 23:59:59", "out of range"),
    ],
)
def test_nonsense_and_the_past(text: str, why: str) -> None:
    with pytest.raises(BadTime, match=why):
        parse_time(text, NOON)


class Day:
    """A clock of the day that a test sets."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


Scenario = Callable[[Path, Day, ReloadClock, list[str]], Coroutine[Any, Any, None]]


def play(tmp_path: Path, scenario: Scenario, *, repeat: bool = False, before: str = "") -> list[str]:
    """Run a scenario with a watched file; what was reloaded."""
    path, day, reloads = tmp_path / "when", Day(), list[str]()
    if before:
        path.write_text(before)

    async def main() -> None:
        clock = ReloadClock(asyncio.get_running_loop(), lambda: reloads.append("reload"), day)
        clock.apply(ReloadSettings(time_file=str(path), repeat=repeat))
        await scenario(path, day, clock, reloads)
        clock.close()

    asyncio.run(main())
    return reloads


def put(path: Path, text: str) -> None:
    path.write_text(text)


def gone(path: Path) -> bool:
    return not path.exists()


async def moment() -> None:
    await asyncio.sleep(0.05)


async def comes(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while True:
            if condition():
                return
            await moment()


def test_a_file_that_is_there_at_the_start_counts_and_is_used_up(tmp_path: Path) -> None:
    async def scenario(path: Path, day: Day, clock: ReloadClock, reloads: list[str]) -> None:
        assert clock.due is not None
        day.now += 1
        clock._look()
        assert gone(path)
        assert clock.due is None

    assert play(tmp_path, scenario, before="12:00:01Z\n") == ["reload"]


def test_the_file_comes_changes_and_goes(tmp_path: Path) -> None:
    async def scenario(path: Path, day: Day, clock: ReloadClock, reloads: list[str]) -> None:
        assert clock.due is None
        put(path, "12:00:30Z\n")
        await moment()
        assert clock.due is not None
        assert clock.due.at == NOON + 30
        other = tmp_path / "other"
        put(other, "12:01:00Z\n")
        os.rename(other, path)
        await moment()
        assert clock.due.at == NOON + 60
        day.now += 45
        clock._look()
        assert clock.due.at == NOON + 60
        put(path, "whenever\n")
        await moment()
        assert clock.due is None
        put(path, "12:01:00Z\n")
        await moment()
        assert clock.due is not None
        os.unlink(path)
        await moment()
        assert clock.due is None

    assert play(tmp_path, scenario) == []


def test_a_directory_that_comes_later_or_is_replaced_is_watched(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As whoever manages configurations does with it, and /run after a boot."""
    monkeypatch.setattr(reload_files, "LOOK_FOR_DIRECTORY", 0.01)
    before = os.listdir("/proc/self/fd")

    async def planned(clock: ReloadClock, at: float) -> None:
        await comes(lambda: clock.due is not None and clock.due.at == at)

    async def scenario(path: Path, day: Day, clock: ReloadClock, reloads: list[str]) -> None:
        path = tmp_path / "directory" / "when"
        clock.apply(ReloadSettings(time_file=str(path)))
        await moment()
        path.parent.mkdir()
        put(path, "12:00:30Z\n")
        await planned(clock, NOON + 30)
        path.parent.rename(tmp_path / "old")
        path.parent.mkdir()
        put(path, "12:01:00Z\n")
        await planned(clock, NOON + 60)
        put(path, "12:02:00Z\n")
        await planned(clock, NOON + 120)
        shutil.rmtree(path.parent)
        await comes(lambda: clock.due is None and caplog.text.count("cannot be watched") == 2)
        await moment()

    assert play(tmp_path, scenario) == []
    assert caplog.text.count("cannot be watched") == 2
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_what_is_no_file_plans_nothing_and_leaks_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.mkdir(tmp_path / "when")
    before = os.listdir("/proc/self/fd")

    async def scenario(path: Path, day: Day, clock: ReloadClock, reloads: list[str]) -> None:
        assert clock.due is None

    assert play(tmp_path, scenario) == []
    assert "Is a directory" in caplog.text
    assert os.listdir("/proc/self/fd") == before


def test_a_time_that_comes(tmp_path: Path) -> None:
    async def scenario(path: Path, day: Day, clock: ReloadClock, reloads: list[str]) -> None:
        day.now += 0.98
        put(path, "12:00:01Z\n")
        await moment()
        day.now += 0.02
        await moment()
        await moment()

    assert play(tmp_path, scenario) == ["reload"]


def test_daily(tmp_path: Path) -> None:
    async def scenario(path: Path, day: Day, clock: ReloadClock, reloads: list[str]) -> None:
        for count in (1, 2):
            assert clock.due is not None
            assert clock.due.at == NOON + 1 + 86400 * (count - 1)
            day.now = clock.due.at
            clock._look()
            assert len(reloads) == count
            assert not gone(path)

    assert play(tmp_path, scenario, repeat=True, before="12:00:01Z\n") == ["reload", "reload"]


def test_a_date_is_not_repeated(tmp_path: Path) -> None:
    async def scenario(path: Path, day: Day, clock: ReloadClock, reloads: list[str]) -> None:
        day.now += 1
        clock._look()
        assert gone(path)

    assert play(tmp_path, scenario, repeat=True, before="2026-03-04 12:00:01Z\n") == ["reload"]


def test_another_file_or_none_after_a_reload(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(path: Path, day: Day, clock: ReloadClock, reloads: list[str]) -> None:
        clock.apply(ReloadSettings(time_file=str(tmp_path / "nowhere" / "else")))
        assert clock.due is None
        clock.apply(ReloadSettings())
        put(path, "12:00:01Z\n")
        await moment()
        assert clock.due is None

    assert play(tmp_path, scenario, before="12:00:01Z\n") == []
    assert "cannot be watched: No such file or directory" in caplog.text


@pytest.mark.parametrize(
    ("settings", "root", "path"),
    [
        (ReloadSettings(), RootSettings(), ""),
        (ReloadSettings(file="/x/y"), RootSettings(instance="lab"), "/x/y"),
        (ReloadSettings(file=""), RootSettings(), "/run/keepalived.reload"),
        (ReloadSettings(file=""), RootSettings(use_pid_dir=True), "/run/keepalived/keepalived.reload"),
        (ReloadSettings(file=""), RootSettings(instance="lab"), "/run/keepalived/keepalived_lab.reload"),
    ],
)
def test_the_path_of_reload_file(settings: ReloadSettings, root: RootSettings, path: str) -> None:
    assert reload_file(GlobalDefs(reload=settings, root=root)) == path


def test_reload_file_is_empty_readable_and_no_link(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "reading"
    path.write_text("old")
    mask = os.umask(0o177)
    try:
        create(str(path))
    finally:
        os.umask(mask)
    assert path.read_text() == ""
    assert path.stat().st_mode & 0o777 == 0o644
    remove(str(path))
    remove(str(path))
    assert not path.exists()
    (tmp_path / "precious").write_text("precious")
    path.symlink_to(tmp_path / "precious")
    create(str(path))
    assert (tmp_path / "precious").read_text() == "precious"
    assert "symbolic links" in caplog.text
    create("")
    remove("")


@pytest.mark.parametrize(
    ("wanted", "instance", "part", "path"),
    [
        ("", "", "", "/tmp/keepalived.data"),
        ("", "", "parent", "/tmp/keepalived_parent.data"),
        ("", "lab", "check", "/tmp/keepalived_check.net_lab.data"),
        ("/var/x/", "", "check", "/var/x/keepalived_check.data"),
        ("x.y.z", "", "bfd", "/tmp/x.y_bfd.z"),
        ("/var/x/plain", "lab", "", "/var/x/plain.net_lab"),
    ],
)
def test_names_of_dumps(wanted: str, instance: str, part: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "relative")
    root = RootSettings(instance=instance, net_namespace="net" if instance else "")
    defs = GlobalDefs(state_dump_file=wanted, data_use_instance=bool(instance), root=root)
    assert dumpfile.state_path(defs, part) == path


def test_tmpdir_counts_where_it_is_an_absolute_path_of_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for value, directory in (("", "/tmp"), (f"{tmp_path}/none", "/tmp"), (f"{tmp_path}/file", "/tmp"), (".", "/tmp")):
        monkeypatch.setenv("TMPDIR", value)
        assert dumpfile.temporary_directory() == directory
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert dumpfile.temporary_directory() == str(tmp_path)


def test_a_dump_replaces_a_link_and_obeys_the_umask(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    (tmp_path / "dump").symlink_to(target)
    mask = os.umask(0o137)
    try:
        dumpfile.write(str(tmp_path / "dump"), "new")
    finally:
        os.umask(mask)
    assert target.read_text() == "precious"
    assert (tmp_path / "dump").read_text() == "new"
    assert (tmp_path / "dump").lstat().st_mode & 0o777 == 0o640
    assert {each.name for each in tmp_path.iterdir()} == {"dump", "precious"}


def test_a_dump_that_cannot_be_written_leaves_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "dump").mkdir()
    dumpfile.write(str(tmp_path / "dump"), "new")
    dumpfile.write(str(tmp_path / "nowhere" / "dump"), "new")
    assert len(caplog.records) == 2
    assert {each.name for each in tmp_path.iterdir()} == {"dump"}

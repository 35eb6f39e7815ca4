"""Tracked files in real directories: what is noticed, what is ignored, what the directory may do meanwhile."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from keepalived_py import inotify
from keepalived_py.config.model import TrackFile
from keepalived_py.inotify import Inotify
from workers import file_watch
from workers.file_watch import FileWatcher, create_files

SOON = 0.3
"""Seconds in which a change must be noticed; a notice takes well under a millisecond."""
QUIET = 0.05


def tracked(path: Path | str, name: str = "f") -> TrackFile:
    return TrackFile(name=name, file=str(path))


class Watching:
    """A watcher and what it told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.watcher = FileWatcher(self.told.append)

    async def becomes(self, value: int, name: str = "f") -> None:
        until = time.monotonic() + SOON
        while self.watcher.value(name) != value:
            assert time.monotonic() < until, f"{self.watcher.value(name)} is not {value}"
            await asyncio.sleep(0.001)

    async def stays(self, value: int, name: str = "f") -> None:
        told = list(self.told)
        await asyncio.sleep(QUIET)
        assert self.watcher.value(name) == value
        assert self.told == told


@asynccontextmanager
async def watching(*files: TrackFile) -> AsyncIterator[Watching]:
    made = Watching()
    made.watcher.apply(files)
    try:
        yield made
    finally:
        made.watcher.stop()


def replace(path: Path, text: str) -> None:
    path.with_name("new").write_text(text)
    path.with_name("new").rename(path)


def test_first_value_is_there_at_once_and_nobody_is_told(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("7\n")

    async def main() -> None:
        async with watching(tracked(tmp_path / "f"), tracked(tmp_path / "missing", "m")) as made:
            assert made.watcher.value("f") == 7
            assert made.watcher.value("m") == 0
            assert made.watcher.value("unheard of") == 0
            await made.stays(7)
            assert not made.told

    asyncio.run(main())


@pytest.mark.parametrize(
    ("change", "value"),
    [
        (lambda path: path.write_text("0x10"), 16),
        (lambda path: path.write_text("text"), 0),
        (lambda path: path.unlink(), 0),
        (lambda path: replace(path, "-9"), -9),
        (lambda path: path.rename(path.with_name("away")), 0),
    ],
)
def test_changes_are_noticed_and_told_once(tmp_path: Path, change: Callable[[Path], object], value: int) -> None:
    path = tmp_path / "f"
    path.write_text("7")

    async def main() -> None:
        async with watching(tracked(path)) as made:
            change(path)
            await made.becomes(value)
            await made.stays(value)
            assert made.told == ["f"]

    asyncio.run(main())


def test_a_file_that_is_still_being_written_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("7")

    async def main() -> None:
        async with watching(tracked(path)) as made:
            with path.open("w") as file:
                file.write("1")
                file.flush()
                await made.stays(7)
                file.write("2")
            await made.becomes(12)
            assert made.told == ["f"]

    asyncio.run(main())


def test_the_same_number_and_other_files_are_no_change(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("7")

    async def main() -> None:
        async with watching(tracked(path)) as made:
            path.write_text("07 seven")
            (tmp_path / "other").write_text("8")
            await made.stays(7)
            assert not made.told

    asyncio.run(main())


def test_a_number_outside_32_bits_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("7")

    async def main() -> None:
        async with watching(tracked(path)) as made:
            path.write_text("2147483648")
            await made.stays(7)
            path.write_text("-2147483648")
            await made.becomes(-(1 << 31))

    asyncio.run(main())


def test_a_directory_that_is_made_later_step_by_step(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "f"

    async def main() -> None:
        async with watching(tracked(path)) as made:
            path.parent.parent.mkdir()
            await made.stays(0)
            path.parent.mkdir()
            await made.stays(0)
            path.write_text("3")
            await made.becomes(3)

    asyncio.run(main())


def test_a_directory_made_with_its_file_at_one_stroke(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "f"

    async def main() -> None:
        async with watching(tracked(path)) as made:
            path.parent.mkdir(parents=True)
            path.write_text("3")
            await made.becomes(3)

    asyncio.run(main())


@pytest.mark.parametrize("away", [shutil.rmtree, lambda path: path.rename(path.with_name("elsewhere"))])
def test_a_directory_that_goes_and_comes_back(tmp_path: Path, away: Callable[[Path], object]) -> None:
    path = tmp_path / "d" / "f"
    path.parent.mkdir()
    path.write_text("5")

    async def main() -> None:
        async with watching(tracked(path)) as made:
            away(path.parent)
            await made.becomes(0)
            path.parent.mkdir()
            path.write_text("6")
            await made.becomes(6)
            if (tmp_path / "elsewhere").exists():
                (tmp_path / "elsewhere" / "f").write_text("9")
                await made.stays(6)

    asyncio.run(main())


def test_behind_a_link_the_resolved_path_counts(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "target").write_text("1")
    (tmp_path / "link").symlink_to(tmp_path / "real" / "target")

    async def main() -> None:
        async with watching(tracked(tmp_path / "link")) as made:
            assert made.watcher.value("f") == 1
            (tmp_path / "real" / "target").write_text("2")
            await made.becomes(2)

    asyncio.run(main())


def test_one_directory_one_path_and_many_names(tmp_path: Path) -> None:
    path, other = tmp_path / "f", tmp_path / "g"

    async def main() -> None:
        async with watching(tracked(path), tracked(path, "same"), tracked(other, "g")) as made:
            path.write_text("4")
            await made.becomes(4)
            assert (made.watcher.value("same"), made.watcher.value("g")) == (4, 0)
            assert sorted(made.told) == ["f", "same"]
            other.write_text("5")
            await made.becomes(5, "g")

    asyncio.run(main())


def test_other_files_from_now_on(tmp_path: Path) -> None:
    kept, gone, new = tmp_path / "k", tmp_path / "g", tmp_path / "sub" / "n"
    new.parent.mkdir()
    new.write_text("3")

    async def main() -> None:
        async with watching(tracked(kept, "k"), tracked(gone, "g")) as made:
            kept.write_text("1")
            await made.becomes(1, "k")
            made.told.clear()
            made.watcher.apply([tracked(kept, "k"), tracked(new, "n")])
            assert (made.watcher.value("k"), made.watcher.value("n")) == (1, 3)
            gone.write_text("2")
            await made.stays(0, "g")
            made.watcher.apply([tracked(new, "k")])
            assert made.watcher.value("k") == 3
            kept.write_text("9")
            await made.stays(3, "k")
            made.watcher.apply([])
            new.write_text("4")
            await made.stays(0, "k")
            made.watcher.apply([tracked(new, "n")])
            new.write_text("5")
            await made.becomes(5, "n")

    asyncio.run(main())


@pytest.mark.parametrize(("what", "number"), [("__init__", errno.EMFILE), ("watch", errno.ENOSPC)])
def test_what_cannot_be_watched_is_read_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str, number: int
) -> None:
    """Containers of one machine share what the kernel grants a user."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(file_watch, "AGAIN", 0.01)

    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    async def main() -> None:
        with monkeypatch.context() as short:
            short.setattr(Inotify, what, refuse)
            async with watching(tracked(tmp_path / "f")) as made:
                for value in (1, 2):
                    (tmp_path / "f").write_text(str(value))
                    await made.becomes(value)
                short.undo()
                while "Tracked files are watched again" not in caplog.messages:
                    await made.stays(2)
                (tmp_path / "f").write_text("3")
                await made.becomes(3)
                assert made.told == ["f"] * 3
                assert made.watcher._timer is None

    asyncio.run(main())
    assert len(caplog.messages) == 2
    assert caplog.messages[0].endswith(f" cannot be watched, only read again and again: {os.strerror(number)}")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_file_that_cannot_be_read_for_want_of_something_keeps_its_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "f").write_text("7")
    monkeypatch.setattr(file_watch, "AGAIN", 0.01)

    def refuse(path: str, most: int) -> bytes:
        raise OSError(number, os.strerror(number))

    async def main() -> None:
        async with watching(tracked(tmp_path / "f")) as made:
            with monkeypatch.context() as short:
                short.setattr(file_watch, "read_start", refuse)
                (tmp_path / "f").write_text("8")
                await made.stays(7)
            await made.becomes(8)
            assert made.told == ["f"]

    asyncio.run(main())


def test_what_the_kernel_lacks_for_a_watch_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`No space left on device` is not about a disk."""
    watch = Inotify()
    for number, name in ((errno.EMFILE, "max_user_instances"), (errno.ENOSPC, "max_user_watches")):
        monkeypatch.setattr(inotify, "_LIBC", SimpleNamespace(inotify_add_watch=lambda *_: -1))
        monkeypatch.setattr(ctypes, "get_errno", lambda number=number: number)
        with pytest.raises(OSError, match=f"fs.inotify.{name}"):
            watch.watch(str(tmp_path))
    watch.close()


def test_nothing_is_left_open(tmp_path: Path) -> None:
    async def main() -> None:
        before = len(os.listdir("/proc/self/fd"))
        async with watching(tracked(tmp_path / "f")) as made:
            (tmp_path / "f").write_text("1")
            await made.becomes(1)
            assert len(os.listdir("/proc/self/fd")) == before + 1
        assert len(os.listdir("/proc/self/fd")) == before
        made.watcher.stop()

    asyncio.run(main())


def test_a_fifo_does_not_make_us_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f")

    async def main() -> None:
        started = time.monotonic()
        async with watching(tracked(tmp_path / "f")) as made:
            assert made.watcher.value("f") == 0
        assert time.monotonic() - started < 1

    asyncio.run(main())


def test_files_are_made_at_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "kept").write_text("9")
    (tmp_path / "over").write_text("9")
    create_files(
        [
            TrackFile(name="none", file=str(tmp_path / "none")),
            TrackFile(name="new", file=str(tmp_path / "new"), init_value=-4),
            TrackFile(name="kept", file=str(tmp_path / "kept"), init_value=1),
            TrackFile(name="over", file=str(tmp_path / "over"), init_value=2, init_overwrite=True),
            TrackFile(name="bad", file=str(tmp_path / "nowhere" / "f"), init_value=2),
        ]
    )
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"new": "-4\n", "kept": "9", "over": "2\n"}
    assert "nowhere/f cannot be written" in caplog.text


def test_first_values_are_not_written_through_links_and_to_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    link, fifo = tmp_path / "link", tmp_path / "fifo"
    link.symlink_to(tmp_path / "precious")
    os.mkfifo(fifo)
    create_files(TrackFile(name=path.name, file=str(path), init_value=1, init_overwrite=True) for path in (link, fifo))
    assert not (tmp_path / "precious").exists()
    assert "link cannot be written: File exists" in caplog.text
    assert "fifo cannot be written: No such device or address" in caplog.text

"""FIFOs for events: made, trusted, written, lost lines, removed; and the programs that read them."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from keepalived_py.config.model import Fifo, Script
from workers import fifo as module
from workers import scripts
from workers.fifo import FifoSet, NotifyFifo

NOBODY = 65534
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events"


def opened(path: Path, umask: int = 0o177, uid: int | None = None, gid: int | None = None) -> NotifyFifo:
    made = NotifyFifo(Fifo(path=str(path), uid=uid, gid=gid), umask)
    made.open()
    return made


@pytest.fixture
def fifo(path: Path) -> Iterator[NotifyFifo]:
    made = opened(path)
    yield made
    made.close()


def content(path: Path) -> bytes:
    """What waits in a FIFO."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(descriptor, 1 << 20)
    except BlockingIOError:
        return b""
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(("umask", "mode"), [(0o177, 0o600), (0, 0o644), (0o027, 0o640)])
def test_a_missing_fifo_is_made_with_its_mode_and_removed(path: Path, umask: int, mode: int) -> None:
    fifo = opened(path, umask)
    found = path.stat()
    assert stat.S_ISFIFO(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == mode
    fifo.close()
    assert not path.exists()


@ROOT_ONLY
def test_a_new_fifo_belongs_to_the_configured_user(path: Path) -> None:
    fifo = opened(path, uid=NOBODY, gid=NOBODY)
    assert (path.stat().st_uid, path.stat().st_gid) == (NOBODY, NOBODY)
    fifo.close()
    assert not path.exists()


def test_one_that_cannot_be_given_to_its_user_does_not_stay(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The next start would take it for that of somebody."""

    def refuse(*_: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    assert not opened(path, uid=NOBODY).is_open
    assert not path.exists()
    assert caplog.messages == [f"FIFO {path} cannot be opened: Operation not permitted"]


def test_one_that_was_there_is_used_and_stays(path: Path) -> None:
    os.mkfifo(path, 0o622)
    before = path.stat()
    fifo = opened(path)
    fifo.write(b"line\n")
    assert content(path) == b"line\n"
    fifo.close()
    assert (path.stat().st_ino, path.stat().st_mode) == (before.st_ino, before.st_mode)


def test_lines_wait_for_a_reader(fifo: NotifyFifo, path: Path) -> None:
    fifo.write(b'INSTANCE "VI_1" MASTER 150\n')
    fifo.write(b"VS [10.0.0.1]:tcp:80 UP\n\0")
    assert content(path) == b'INSTANCE "VI_1" MASTER 150\nVS [10.0.0.1]:tcp:80 UP\n\0'


@pytest.mark.parametrize("kind", ["file", "directory", "link", "dangling link", "socket"])
def test_what_is_no_fifo_is_refused_and_left_alone(path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    target = path.with_name("target")
    match kind:
        case "file":
            path.write_text("precious")
        case "directory":
            path.mkdir()
        case "link":
            os.mkfifo(target)
            path.symlink_to(target)
        case "dangling link":
            path.symlink_to(target)
        case _:
            os.mknod(path, stat.S_IFSOCK | 0o600)
    before = path.lstat()
    fifo = opened(path)
    assert not fifo.is_open
    assert "not a FIFO" in caplog.text
    fifo.write(b"line\n")
    fifo.close()
    assert path.lstat()[:6] == before[:6]
    assert kind != "file" or path.read_text() == "precious"
    assert kind != "dangling link" or not target.exists()


@ROOT_ONLY
def test_a_fifo_of_somebody_else_is_refused_unless_configured(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.mkfifo(path)
    os.chown(path, NOBODY, NOBODY)
    assert not opened(path).is_open
    assert "belongs to user 65534" in caplog.text
    own = opened(path, uid=NOBODY)
    assert own.is_open
    own.close()
    assert path.exists()


def test_a_directory_that_is_missing_is_told(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not opened(path / "below").is_open
    assert "cannot be opened: No such file" in caplog.text


def test_a_full_fifo_loses_whole_lines_and_says_so_once(
    fifo: NotifyFifo, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    line = b"x" * 999 + b"\n"
    for _ in range(100):
        fifo.write(line)
    assert fifo.lost > 0
    assert caplog.text.count("events are lost") == 1
    kept = content(path)
    assert len(kept) % len(line) == 0
    assert fifo.lost == 100 - len(kept) // len(line)
    with caplog.at_level(logging.WARNING):
        fifo.write(line)
    assert content(path) == line
    assert f"takes lines again; {fifo.lost} were lost" in caplog.text


def test_another_fifo_at_the_same_path_is_followed(path: Path) -> None:
    os.mkfifo(path)
    fifo = opened(path)
    aside = path.with_name("aside")
    os.mkfifo(aside)
    os.rename(aside, path)
    fifo.write(b"new\n")
    assert content(path) == b"new\n"
    fifo.close()
    assert path.exists()  # not made here


def test_something_else_at_the_same_path_is_not_followed_nor_removed(fifo: NotifyFifo, path: Path) -> None:
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    path.unlink()
    path.write_text("precious")
    fifo.write(b"line\n")
    assert os.read(reader, 100) == b"line\n"
    os.close(reader)
    fifo.close()
    assert path.read_text() == "precious"


def text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def there(path: Path) -> bool:
    return path.exists()


def inode(path: Path) -> int:
    return path.stat().st_ino


# programs ---------------------------------------------------------------------------------------------------------


def program(command: str, path: Path) -> Fifo:
    return Fifo(path=str(path), script=Script(argv=("/bin/sh", "-c", command, "sh")))


async def until(condition: Callable[[], object], within: float = 5.0) -> None:
    for _ in range(int(within / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within {within:g}s")


def run(body: Callable[[FifoSet], Awaitable[None]]) -> None:
    async def main() -> None:
        fifos = FifoSet()
        try:
            await body(fifos)
        finally:
            await fifos.finish(1.0)

    asyncio.run(main())


def test_the_program_gets_the_path_last_and_all_lines(path: Path) -> None:
    seen = path.with_name("seen")

    async def body(fifos: FifoSet) -> None:
        fifos.configure([program(f'echo "$#" "$1" > {seen}; exec cat "$1" >> {seen}', path)], 0o177)
        fifos.write(b"one\n")
        fifos.write(b"two\n")
        await fifos.finish(5.0)
        assert text(seen) == f"1 {path}\none\ntwo\n"
        assert not there(path)

    run(body)


def test_a_program_that_ends_is_started_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.05)
    seen = path.with_name("seen")

    async def body(fifos: FifoSet) -> None:
        fifos.configure([program(f'echo x >> {seen}; read line < "$1"; echo $line >> {seen}; exit 3', path)], 0o177)
        for number in range(3):
            fifos.write(b"line%d\n" % number)
            await until(lambda n=number: f"line{n}" in text(seen))  # type: ignore[misc]
        assert text(seen).count("x") >= 3

    run(body)


def test_a_program_that_cannot_be_run_is_told(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body(fifos: FifoSet) -> None:
        fifos.configure([Fifo(path=str(path), script=Script(argv=("/nonexistent",)))], 0o177)
        await until(lambda: "cannot be run" in caplog.text)

    run(body)
    assert caplog.text.count("cannot be run") == 1  # the pause holds


def test_a_deaf_program_is_killed_at_the_stop(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "KILL_AFTER", 0.2)
    number = path.with_name("pid")

    async def body(fifos: FifoSet) -> None:
        fifos.configure([program(f"trap '' TERM; echo $$ > {number}; while :; do sleep 0.05; done", path)], 0o177)
        await until(lambda: text(number).strip())
        pid = int(text(number))
        os.kill(pid, 0)
        await fifos.finish(0.1)
        await until(lambda: not Path(f"/proc/{pid}").exists())

    run(body)


def test_a_reload_makes_the_fifo_anew_and_exchanges_the_program(path: Path) -> None:
    seen = path.with_name("seen")

    async def body(fifos: FifoSet) -> None:
        first = program(f'echo $$ >> {seen}; exec cat "$1" > /dev/null', path)
        fifos.configure([first], 0o177)
        await until(lambda: text(seen).count("\n") == 1)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        fifos.configure([first], 0o177)
        await until(lambda: text(seen).count("\n") == 2)
        assert os.fstat(reader).st_ino != inode(path)
        os.close(reader)
        old, _ = map(int, text(seen).split())
        await until(lambda: not os.path.exists(f"/proc/{old}"))

    run(body)


def test_a_program_moves_on_when_another_process_made_its_fifo_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """notify_fifo is written by two processes: the one that made it does so again, the other runs the program."""
    monkeypatch.setattr(module, "FOLLOW_AFTER", 0.3)
    seen = path.with_name("seen")

    async def body(fifos: FifoSet) -> None:
        maker = FifoSet()
        maker.configure([Fifo(path=str(path))], 0o177)
        # open for writing as well, it never sees an end
        reading = program(f'exec 3<>"$1"; while read line <&3; do echo "$line" >> {seen}; done', path)
        fifos.configure([reading], 0o177)
        fifos.configure([reading], 0o177)
        fifos.write(b"opened\n")
        await until(lambda: text(seen) == "opened\n")
        maker.configure([Fifo(path=str(path))], 0o177)
        maker.write(b"after the reload\n")
        await until(lambda: text(seen) == "opened\nafter the reload\n")
        await maker.finish(0)

    run(body)


def test_a_changed_configuration_closes_what_is_left_out(path: Path) -> None:
    async def body(fifos: FifoSet) -> None:
        fifos.configure([Fifo(path=str(path))], 0o177)
        assert there(path)
        fifos.configure([], 0o177)
        assert not there(path)
        fifos.write(b"nobody hears this\n")

    run(body)

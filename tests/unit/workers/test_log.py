"""A log never blocks: a reader that stopped costs records, which are counted."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from keepalived_py import log, log_limits, log_sinks
from keepalived_py.log_sinks import StreamHandler


def test_a_reader_that_stopped_costs_records_and_no_time() -> None:
    reading, writing = os.pipe()
    try:
        handler = StreamHandler(writing)
        record = logging.LogRecord("x", logging.INFO, "f", 1, "y" * 500, (), None)
        started = time.monotonic()
        for _ in range(1000):
            handler.emit(record)
        assert time.monotonic() - started < 2
        assert handler.lost > 500
        os.read(reading, 1 << 20)
        lost = handler.lost
        handler.emit(record)
        assert handler.lost == lost
    finally:
        os.close(reading)
        os.close(writing)


def test_a_very_long_record_is_cut() -> None:
    reading, writing = os.pipe()
    try:
        StreamHandler(writing).emit(logging.LogRecord("x", logging.INFO, "f", 1, "y" * 100000, (), None))
        data = os.read(reading, 1 << 20)
        assert len(data) <= 4096
        assert data.endswith(b"\n")
    finally:
        os.close(reading)
        os.close(writing)


def test_what_may_wait_for_its_reader_is_written_aside(root: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that nobody reads takes nothing any more; a pipe says so itself."""
    reading, terminal = os.openpty()
    pipe = os.pipe()
    console = {"pipe": os.fdopen(pipe[1], "w"), "terminal": os.fdopen(terminal, "w")}
    try:
        for name, file in console.items():
            monkeypatch.setattr(sys, "stderr", file)
            log.set_up(log.LogSettings(syslog=False, console=True), "X", "")
            log.start_threads()
            before = time.monotonic()
            for number in range(log_sinks.WAITING_LIMIT + 4000):
                root.info("%d of many", number)
            assert time.monotonic() - before < 5
            assert log.lost_records().endswith(" by standard error")
            assert log.limiter.sinks[0].sink.never_waits == (name == "pipe")
            os.read(reading if name == "terminal" else pipe[0], 1 << 16)
    finally:
        os.close(reading)
        os.close(pipe[0])
        log.finish()  # the thread must be through before these numbers belong to other files
        for file in console.values():
            file.close()


@pytest.mark.parametrize("as_json", [False, True])
def test_a_full_disk_leaves_no_part_of_a_line(
    root: logging.Logger, tmp_path: Path, as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write, room = tmp_path / "a.log", os.write, 1000

    def short(descriptor: int, data: bytes) -> int:
        """A disk with that much room."""
        return write(descriptor, data[: max(0, room - path.stat().st_size)])

    log.set_up(replace(file_only(path), json=as_json), "X", "")
    monkeypatch.setattr(os, "write", short)
    for number in range(50):
        root.info("record %d of many", number)
    log.finish()
    assert 0 < path.stat().st_size < room
    room = 100_000
    root.info("room again")
    log.finish()
    lines = path.read_text().splitlines()
    assert f"lost by {path}: No space left on device" in lines[-2]
    for line in lines:
        assert json.loads(line)["process"] == "X" if as_json else line.count("of many") <= 1


@pytest.fixture
def root(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[logging.Logger]:
    """The root logger, with its handlers put back afterwards."""
    root = logging.getLogger()
    handlers, level, raising = list(root.handlers), root.level, logging.raiseExceptions
    yield root
    log.set_up(log.LogSettings(syslog=False), "", "")
    root.handlers, logging.raiseExceptions = handlers, raising
    root.setLevel(level)


def file_only(path: Path, **more: bool) -> log.LogSettings:
    return log.LogSettings(syslog=False, file=str(path), **more)


def record(text: str, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("some.module", level, "f", 1, text, (), None)


def texts(path: Path) -> list[str]:
    """Messages without their date."""
    log.finish()
    return [line[line.index(": ") + 2 :] for line in path.read_text().splitlines()]


def test_lost_records_are_told_when_somebody_reads_again() -> None:
    reading, writing = os.pipe()
    try:
        handler = StreamHandler(writing)
        while not handler.lost:
            handler.emit(record("y" * 500))
        handler.emit(record("also lost"))
        os.read(reading, 1 << 20)
        handler.emit(record("heard"))
        handler.emit(record("heard too"))
        lines = os.read(reading, 1 << 20).decode().splitlines()
    finally:
        os.close(reading)
        os.close(writing)
    assert [line.rpartition(": ")[2] for line in lines[-2:]] == ["heard", "heard too"]
    assert lines[-3].endswith("2 log records were lost by standard error: too many waited")


def test_files_are_opened_again_when_they_were_moved_or_removed(root: logging.Logger, tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log.set_up(file_only(path), "X", "vrrp")
    mine = tmp_path / "a_vrrp.log"
    root.info("one")
    log.finish()
    mine.rename(tmp_path / "old")
    root.info("two")
    assert texts(tmp_path / "old") == ["one"]
    assert texts(mine) == ["two"]
    mine.unlink()
    root.info("three")
    assert texts(mine) == ["three"]
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        mine.unlink()
        root.info("four")
        log.finish()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_link_in_the_place_of_the_file_is_not_followed(root: logging.Logger, tmp_path: Path) -> None:
    path, precious = tmp_path / "a.log", tmp_path / "precious"
    log.set_up(file_only(path), "X", "")
    assert log.refused_file() == ""
    precious.touch()
    path.unlink()
    path.symlink_to(precious)
    root.info("one")
    log.finish()
    assert precious.read_text() == ""
    assert log.lost_records() == f"1 by {path}"


def test_a_full_disk_costs_records(root: logging.Logger) -> None:
    handler = StreamHandler(os.open("/dev/full", os.O_WRONLY))
    handler.emit(record("one"))
    assert handler.lost == 1
    os.close(handler.descriptor)


def test_a_file_that_cannot_be_opened_stops_nothing_and_is_tried_again(
    root: logging.Logger, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "no" / "a.log"
    path.parent.touch()
    log.set_up(log.LogSettings(syslog=False, console=True, file=str(path)), "X", "")
    refused = log.refused_file()
    assert refused == f"log file {path}: Not a directory"
    root.info("goes on")
    log.finish()
    log.tick()
    log.finish()
    assert capfd.readouterr().err.count(str(path)) == 1
    path.parent.unlink()
    root.info("heard")
    assert texts(path) == [f"2 log records were lost by {path}: Not a directory", "heard"]


def test_the_others_hear_once_of_a_destination_that_takes_nothing(
    root: logging.Logger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, room = tmp_path / "a.log", tmp_path / "log"
    monkeypatch.setattr(log_sinks.SyslogHandler, "PATH", str(room))
    log.set_up(log.LogSettings(file=str(path)), "X", "")
    log.start_threads()
    for _ in range(3):
        root.info("to the file")
        log.tick()
    assert log.lost_records() == "4 by syslog"
    told = "syslog takes no log records: No such file or directory"
    assert texts(path) == ["to the file", told, "to the file", "to the file"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(room))
        root.info("to both")
    room.unlink()
    root.info("to the file")
    log.tick()
    assert texts(path)[4:] == ["to both", "to the file", told]


def test_a_destination_that_is_the_only_one_is_not_told_of_itself(
    root: logging.Logger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_sinks.SyslogHandler, "PATH", str(tmp_path / "log"))
    log.set_up(log.LogSettings(), "X", "")
    root.info("one")
    log.tick()
    assert log.lost_records() == "1 by syslog"


def test_the_directory_of_a_file_is_made_whatever_the_umask_is(root: logging.Logger, tmp_path: Path) -> None:
    path = tmp_path / "log" / "ours" / "a.log"
    mask = os.umask(0o177)
    try:
        log.set_up(file_only(path), "X", "")
        assert log.refused_file() == ""
        root.info("one")
        assert texts(path) == ["one"]
        shutil.rmtree(path.parent)
        root.info("two")
        assert texts(path) == ["two"]
    finally:
        os.umask(mask)
    assert path.parent.stat().st_mode & 0o777 == 0o755


def test_all_that_a_start_lost_before_there_was_a_syslog_is_counted(
    root: logging.Logger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start sets its log up twice; what a worker says of losses is its own."""
    monkeypatch.setattr(log_sinks.SyslogHandler, "PATH", str(tmp_path / "log"))
    for number in range(2):
        log.set_up(log.LogSettings(), "X", "")
        root.info("nobody hears %d", number)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "log"))
        root.info("heard")
        told = [sock.recv(1000).decode().partition("]: ")[2] for _ in range(2)]
    assert told == ["2 log records were lost by syslog: No such file or directory", "heard"]
    assert log.lost_records() == "2 by syslog"
    log.limiter.forked()
    assert log.lost_records() == "0"


def messages(sock: socket.socket, count: int) -> list[str]:
    """The next records of a syslog, without what stands before them."""
    return [sock.recv(10000).decode().partition("]: ")[2] for _ in range(count)]


def test_a_burst_that_syslog_does_not_read_at_once_is_whole(
    root: logging.Logger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel keeps ten records for it, unless that was changed (net.unix.max_dgram_qlen)."""
    monkeypatch.setattr(log_sinks.SyslogHandler, "PATH", str(tmp_path / "log"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "log"))
        sock.settimeout(10)
        log.set_up(log.LogSettings(), "X", "")
        log.start_threads()
        root.info("alone")
        assert messages(sock, 1) == ["alone"]
        assert threading.active_count() == 1
        sent = [f"record {number}" for number in range(1000)]
        before = time.monotonic()
        for text in sent:
            root.info("%s", text)
        assert time.monotonic() - before < 2
        assert messages(sock, len(sent)) == sent
        root.info("alone")
        assert messages(sock, 1) == ["alone"]
        for _ in range(log_sinks.WAITING_LIMIT + 1000):
            root.info("too many", extra={log.VERBATIM: True})
        lost = log.limiter.sinks[0].refused()
        assert 0 < lost <= 1000
        told = messages(sock, log_sinks.WAITING_LIMIT + 1000 - lost)
        log.finish()
        assert set(told) == {"too many"}
        root.info("after all")
        assert messages(sock, 2) == [f"{lost} log records were lost by syslog: too many waited", "after all"]


def test_no_record_is_lost_when_syslog_is_started_again(
    root: logging.Logger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    monkeypatch.setattr(log_sinks.SyslogHandler, "PATH", str(path))
    log.set_up(log.LogSettings(), "X", "")
    for number in range(3):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(str(path))
            sock.settimeout(10)
            root.info("heard by %d", number)
            assert messages(sock, 1) == [f"heard by {number}"]
        path.unlink()
    assert log.lost_records() == "0"


def test_syslog_may_be_a_stream(root: logging.Logger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each record ends with a NUL byte there, as syslog(3) has it; a slow reader gets all of them whole."""
    path = tmp_path / "log"
    monkeypatch.setattr(log_sinks.SyslogHandler, "PATH", str(path))
    sent = [f"{number} {'y' * 1000}" for number in range(1000)]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(str(path))
        sock.listen()
        sock.settimeout(10)
        log.set_up(log.LogSettings(facility=19), "X", "")
        log.start_threads()
        for text in sent:
            root.info("%s", text)
        peer, _ = sock.accept()
        with peer, peer.makefile("rb") as file:
            peer.settimeout(10)
            data = b""
            while data.count(b"\0") < len(sent):
                data += file.read1()
    found = [each.partition(b"]: ") for each in data.split(b"\0")[:-1]]
    assert {before[:5] for before, _, _ in found} == {b"<158>"}
    assert [text.decode() for _, _, text in found] == sent


def test_a_long_record_is_cut_between_characters(
    root: logging.Logger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_sinks.SyslogHandler, "PATH", str(tmp_path / "log"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "log"))
        for blanks in range(3):
            log.set_up(log.LogSettings(), "X" + "X" * blanks, "")
            root.info("%s", "\u20ac" * 10000)
            data = sock.recv(100000)
            assert log_sinks.SYSLOG_LIMIT - 3 < len(data) <= log_sinks.SYSLOG_LIMIT
            data.decode()


def test_a_syslog_that_stopped_is_waited_for_once(
    root: logging.Logger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_sinks.SyslogHandler, "PATH", str(tmp_path / "log"))
    monkeypatch.setattr(log, "FINISH_LIMIT", 0.5)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "log"))
        sock.settimeout(10)
        log.set_up(log.LogSettings(), "X", "")
        for number in range(1000):
            root.info("record %d", number)
        before = time.monotonic()
        log.finish()
        first = time.monotonic()
        for _ in range(10):
            log.finish()
        assert first - before >= 0.5
        assert time.monotonic() - first < 0.5
        assert messages(sock, 1000)[-1] == "record 999"


def test_json_lines(root: logging.Logger, tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log.set_up(file_only(path, json=True), "Keepalived_vrrp", "")
    try:
        raise ValueError("bad\nvalue")
    except ValueError:
        root.exception('(%s) \u00fc "quoted"', "VI_1")
    log.finish()
    log.use_json(False)
    root.info("plain")
    log.finish()
    first, *rest = path.read_text().splitlines()
    row = json.loads(first)
    assert list(row) == ["time", "level", "process", "pid", "source", "message"]
    assert (row["level"], row["process"], row["pid"]) == ("error", "Keepalived_vrrp", os.getpid())
    assert row["message"].startswith('(VI_1) \u00fc "quoted"\nTraceback')
    assert row["message"].endswith("ValueError: bad\nvalue")
    assert row["time"].endswith("+00:00")
    assert len(rest) == 1
    assert rest[0].endswith(": plain")


@pytest.mark.parametrize("as_json", [False, True])
def test_what_others_have_written_is_one_line_and_no_command_of_a_terminal(
    root: logging.Logger, tmp_path: Path, as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a server that answers with what looks like a line of ours; a NUL byte makes grep call the file binary."""
    path, forged = tmp_path / "a.log", "500\nMon: (VI_1) Entering MASTER STATE\x1b[2J\0\u202e\x9b\udce9\u00e9"
    seen = "500\\nMon: (VI_1) Entering MASTER STATE\\x1b[2J\\x00\\u202e\\x9b\\xe9\u00e9"
    monkeypatch.setattr(log_sinks.SyslogHandler, "PATH", str(tmp_path / "log"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "log"))
        log.set_up(log.LogSettings(file=str(path), json=as_json), "X", "")
        root.info("said %s", forged)
        log.finish()
        assert messages(sock, 1) == [f"said {seen}"]
    (line,) = path.read_text().split("\n")[:-1]
    if as_json:
        assert json.loads(line)["message"] == "said " + forged.replace("\udce9", "\\xe9")
    else:
        assert line.endswith(f": said {seen}")


def test_a_long_record_is_still_json_on_a_pipe() -> None:
    reading, writing = os.pipe()
    try:
        StreamHandler(writing, as_json=True).emit(record("\x01\u20ac" * 5000))
        data = os.read(reading, 1 << 20)
    finally:
        os.close(reading)
        os.close(writing)
    assert len(data) <= 4096
    assert json.loads(data)["message"] == ("\x01\u20ac" * 5000)[: len(json.loads(data)["message"])]


class Now:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


class Kept(log_sinks.Sink):
    """Takes everything."""

    def __init__(self) -> None:
        super().__init__("nowhere")
        self.texts: list[str] = []

    def write(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())

    def give_back(self) -> None:
        """Nothing is open."""


def limited() -> tuple[log_limits.Limiter, Kept, Now]:
    clock = Now()
    limiter, kept = log_limits.Limiter(clock), Kept()
    limiter.sinks = [kept]
    return limiter, kept, clock


def test_equal_records_are_counted_when_they_come_thick_and_fast() -> None:
    limiter, kept, clock = limited()
    for number in range(100):
        limiter.emit(record("again"))
        limiter.emit(record(f"number {number}"))
    assert kept.texts.count("again") == log_limits.EQUAL_RECORDS
    assert [text for text in kept.texts if "number" in text] == [f"number {number}" for number in range(100)]
    clock.time += log_limits.WINDOW
    limiter.tick()
    assert kept.texts[-1] == f"again ({100 - log_limits.EQUAL_RECORDS} more times)"
    limiter.emit(record("again"))
    assert kept.texts[-1] == "again"
    limiter.flush()
    assert kept.texts[-1] == "again"


def test_of_what_others_cause_in_any_number_a_few_pass_and_the_rest_is_counted() -> None:
    """As one line for each of a thousand forged senders."""
    limiter, kept, clock = limited()

    def emit(text: str, crowd: object) -> None:
        made = record(text)
        setattr(made, log.CROWD, crowd)
        limiter.emit(made)

    for number in range(1000):
        emit(f"sender {number}", "one")
        emit(f"other {number}", "two")
        clock.time += log_limits.CROWD_WINDOW / 2000
    limiter.emit(record("of ours"))
    assert [text for text in kept.texts if "sender" in text] == [f"sender {n}" for n in range(log_limits.EQUAL_RECORDS)]
    assert len(kept.texts) == 2 * log_limits.EQUAL_RECORDS + 1
    clock.time += log_limits.CROWD_WINDOW
    limiter.tick()
    held = 1000 - log_limits.EQUAL_RECORDS
    assert kept.texts[-2:] == [f"{name} 0 ({held} more of this kind)" for name in ("sender", "other")]
    for number in range(1000):  # one a second, as of a router that does not yield
        emit(f"slow {number}", "one")
        clock.time += 1.0
    assert kept.texts[-1000:] == [f"slow {number}" for number in range(1000)]


def test_slow_repetition_is_never_held_back() -> None:
    limiter, kept, clock = limited()
    for _ in range(100):
        limiter.emit(record("again"))
        clock.time += 2 * log_limits.WINDOW / log_limits.EQUAL_RECORDS
    assert kept.texts == ["again"] * 100


def test_a_flood_of_different_records_keeps_memory_bounded() -> None:
    limiter, kept, _ = limited()
    for number in range(10 * log_limits.WINDOWS_KEPT):
        limiter.emit(record(str(number)))
    assert len(limiter._equal.open) <= log_limits.WINDOWS_KEPT
    assert len(kept.texts) == 10 * log_limits.WINDOWS_KEPT


def test_a_process_that_goes_on_in_the_background_knows_what_the_start_lost(
    root: logging.Logger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_sinks.SyslogHandler, "PATH", str(tmp_path / "log"))
    path = tmp_path / "no" / "a.log"
    path.parent.touch()
    settings = log.LogSettings(file=str(path))
    log.set_up(settings, "X", "")
    root.info("one")
    log.finish()
    with log.going_on():
        pid = os.fork()
    if pid == 0:
        log.set_up(settings, "X", "")
        told = log.lost_records() == f"1 by syslog, 1 by {path}" and log.ring.records[-1][2] == "one"
        os._exit(0 if told else 1)
    assert os.waitpid(pid, 0)[1] == 0
    pid = os.fork()
    if pid == 0:
        os._exit(0 if log.lost_records() == "0" and not log.ring.records else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert log.refused_file() == f"log file {path}: Not a directory"
    log.set_up(settings, "X", "")
    root.info("two")
    log.finish()
    assert [sink.trouble() for sink in log.limiter.sinks] == [
        "syslog takes no log records: No such file or directory",
        "",  # which was told by the start
    ]


def test_a_forked_process_leaves_descriptors_and_counts_to_the_other(root: logging.Logger, tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log.set_up(file_only(path), "X", "")
    for _ in range(log_limits.EQUAL_RECORDS + 1):
        root.info("again")
    pid = os.fork()
    if pid == 0:
        log.limiter.flush()
        os._exit(0 if log.limiter.sinks[0].sink.descriptor == -1 and not log.ring.records else 1)  # type: ignore[attr-defined]
    assert os.waitpid(pid, 0)[1] == 0
    assert texts(path) == [*["again"] * log_limits.EQUAL_RECORDS, "again (1 more times)"]


class Frozen(Kept):
    """A disk that stands still until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()

    def write(self, record: logging.LogRecord) -> None:
        self.free.wait()
        super().write(record)


def test_a_disk_that_stands_still_costs_no_time_and_records_only_in_the_end() -> None:
    disk = Frozen()
    aside = log_sinks.Aside(disk)
    aside.start()
    started = time.monotonic()
    for number in range(log_sinks.WAITING_LIMIT + 10):
        aside.emit(record(str(number)))
    aside.settle(0.05)
    assert time.monotonic() - started < 2
    assert aside.refused() in (9, 10)
    disk.free.set()
    aside.settle(5)
    aside.emit(record("heard"))
    aside.settle(5)
    assert disk.texts[:2] == ["0", "1"]
    assert disk.texts[-1] == "heard"
    assert disk.texts[-2].endswith("log records were lost by nowhere: too many waited")
    aside.give_back()


def test_a_sink_that_is_given_back_while_it_stands_still() -> None:
    disk = Frozen()
    aside = log_sinks.Aside(disk)
    aside.start()
    aside.emit(record("one"))
    thread = aside._thread
    assert thread is not None
    log_sinks.FINISH_LIMIT, limit = 0.01, log_sinks.FINISH_LIMIT
    try:
        aside.give_back()
    finally:
        log_sinks.FINISH_LIMIT = limit
    disk.free.set()
    thread.join(5)
    assert not thread.is_alive()
    aside.emit(record("two"))
    aside.settle(5)
    assert disk.texts == ["one", "two"]
    aside.give_back()


class Short(Kept):
    """Of memory, now and then."""

    def write(self, record: logging.LogRecord) -> None:
        if record.getMessage() == "too much":
            raise MemoryError
        super().write(record)


def test_a_thread_goes_on_when_memory_is_short() -> None:
    kept = Short()
    aside = log_sinks.Aside(kept)
    aside.start()
    for text in ("one", "too much", "two"):
        aside.emit(record(text))
    aside.settle(5)
    assert kept.texts == ["one", "1 log record was lost by nowhere: MemoryError", "two"]
    aside.give_back()


def test_records_wait_for_the_thread() -> None:
    kept = Kept()
    aside = log_sinks.Aside(kept)
    aside.emit(record("one"))
    time.sleep(0.02)
    assert kept.texts == []
    aside.start()
    aside.settle(5)
    assert kept.texts == ["one"]
    aside.give_back()
    aside.emit(record("two"))
    aside.give_back()
    assert kept.texts == ["one", "two"]


def test_without_a_thread_records_wait_for_one_or_for_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    kept = Kept()
    aside = log_sinks.Aside(kept)
    with monkeypatch.context() as refused:
        refused.setattr(threading.Thread, "start", refuse)
        aside.start()
        aside.emit(record("one"))
        assert kept.texts == []
        aside.settle(5)
        assert kept.texts == ["one"]
        aside.emit(record("two"))
        assert kept.texts == ["one"]
    aside.emit(record("three"))
    aside.settle(5)
    assert kept.texts == ["one", "two", "three"]
    aside.give_back()


def test_threads_of_the_log_are_small_where_memory_is_locked(
    root: logging.Logger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stack of eight megabytes would be in RAM as a whole, in every process (vrrp_no_swap)."""
    sizes, start = [], threading.Thread.start

    def started(thread: threading.Thread) -> None:
        sizes.append(threading.stack_size())
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", started)
    before = threading.stack_size()
    log.set_up(file_only(tmp_path / "a.log"), "X", "")
    assert log.refused_file() == ""
    root.info("one")
    log.start_threads()
    log.finish()
    assert sizes == [log_sinks.STACK_SIZE] * 2
    assert threading.stack_size() == before


def test_a_file_stays_open_from_record_to_record(root: logging.Logger, tmp_path: Path) -> None:
    log.set_up(file_only(tmp_path / "a.log"), "X", "")
    root.info("one")
    log.finish()
    descriptor = log.limiter.sinks[0].sink.descriptor  # type: ignore[attr-defined]
    assert descriptor >= 0
    assert os.readlink(f"/proc/self/fd/{descriptor}") == str(tmp_path / "a.log")

"""Side by side with Debian's keepalived: what `ipvsadm -Sn` says for the same file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.netns.rig import OURS, THEIRS, Logged


def table() -> list[str]:
    """The kernel's table as ipvsadm saves it, in a fixed order."""
    return sorted(subprocess.run(["ipvsadm", "-Sn"], capture_output=True, text=True, check=True).stdout.splitlines())


def clear() -> None:
    subprocess.run(["ipvsadm", "-C"], check=True)


def wait(condition: Callable[[], object], within: float = 20, every: float = 0.05) -> None:
    """AssertionError when `condition` does not hold in time. A guest kernel is slow: times here mean nothing."""
    until = time.monotonic() + within
    while not condition():
        assert time.monotonic() < until, f"not within {within:g}s; the table is {table()}"
        time.sleep(every)


class Checker(Logged):
    """A daemon that checks only, and its file."""

    def __init__(self, program: str, config: str, *options: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="ipvs-"))
        self.config = self.directory / "conf"
        self.config.write_text(config)
        executable = str(Path(sys.executable).with_name(OURS)) if program == OURS else THEIRS
        files = [f"-{letter}{self.directory}/{letter}.pid" for letter in "prc"]
        with open(self.directory / "log", "wb") as log:
            self.process = subprocess.Popen(
                [executable, "-n", "-l", "-D", "-G", "-C", "-f", str(self.config), *files, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "TMPDIR": str(self.directory)},
            )

    @property
    def worker(self) -> int:
        return int((self.directory / "c.pid").read_text())

    def reload(self, config: str) -> None:
        self.config.write_text(config)
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


@contextmanager
def running(program: str, config: str, *options: str) -> Iterator[Checker]:
    daemon = Checker(program, config, *options)
    try:
        yield daemon
    except BaseException:
        print(f"--- {program}\n{daemon.log}", file=sys.stderr)
        raise
    finally:
        daemon.stop()


def after_start(program: str, config: str, rows: int) -> list[str]:
    """The table once it has `rows` rows, then the stop must leave it empty."""
    clear()
    with running(program, config):
        wait(lambda: len(table()) >= rows)
        found = table()
    assert table() == []
    return found

"""What must hold for every text: `examine` loads it and gives the first promise that is broken."""

from __future__ import annotations

import gc
import glob
import json
import os
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from unittest.mock import patch

from keepalived_py.config import preprocess
from keepalived_py.config.load import LoadOptions, LoadResult, load
from keepalived_py.config.problems import Location, Problem
from keepalived_py.config.system import Machine

from .seeds import NEXT_FILE

MACHINE = Machine(
    interfaces=frozenset(("lo", "eth0")),
    mtus={"lo": 65536, "eth0": 1500},
    networks={"eth0": (ip_network("10.0.0.0/24"), ip_network("2001:db8::/64"))},
)
OPTIONS = LoadOptions(config_id="me", machine=MACHINE, lint=True)
WITHOUT_PLACE = frozenset(("no-main-file", "several-main-files"))
"""Problems of the whole configuration; every other one has a place."""

SLOW = 0.3
"""Seconds; what takes longer is loaded once only."""

Loader = Callable[[str, LoadOptions], LoadResult]


class TooSlow(BaseException):
    """The processor time is used up. No Exception, so that nothing on the way catches it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken promise. Two findings of one `key` are the same bug."""

    key: str
    detail: str


@contextmanager
def bounded(cpu: float, memory: int) -> Iterator[None]:
    """At most `cpu` seconds (raises TooSlow) and `memory` bytes more than now (raises MemoryError).

    The bound on what a text may grow to is a tenth of the usual meanwhile: time and memory are in proportion to it.
    """

    def over(signum: int, frame: object) -> None:
        raise TooSlow

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before, collecting = signal.signal(signal.SIGPROF, over), gc.isenabled()
    grown = preprocess.MAX_GROWN
    try:
        preprocess.MAX_GROWN = grown // 10
        # exceptions are lost in what the collector calls
        gc.disable()
        resource.setrlimit(resource.RLIMIT_AS, (used + memory, hard))
        # rings again, in case one is lost in a destructor
        signal.setitimer(signal.ITIMER_PROF, cpu, max(cpu, 1.0))
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        preprocess.MAX_GROWN = grown
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGPROF, before)
        if collecting:
            gc.enable()


@contextmanager
def confined(directory: Path) -> Iterator[None]:
    """Patterns of includes reach files below `directory` only; others are taken as if it were the root."""
    original, root = glob.glob, str(directory)

    def below(pattern: str, **options: Any) -> list[str]:
        plain = os.path.normpath(pattern)
        if plain != root and not plain.startswith(root + "/"):
            plain = root + os.path.normpath("/" + pattern)
        return original(plain, **options)

    with patch.object(glob, "glob", below):
        yield


class Examiner:
    """Loads texts as files in `directory`."""

    def __init__(self, directory: Path, loader: Loader = load, *, cpu: float = 2.0, memory: int = 200 << 20) -> None:
        self.directory, self.loader, self.cpu, self.memory = directory.resolve(), loader, cpu, memory
        self.main = self.directory / "main.conf"
        self.written: set[str] = set()

    def examine(self, data: bytes, tracing: AbstractContextManager[None] | None = None) -> Finding | None:
        """The first broken promise of `data`. The second of two loads runs under `tracing`."""
        self._write(data)
        start = time.process_time()
        first = self._load_fairly(nullcontext())
        if isinstance(first, Finding):
            return first
        if time.process_time() - start > SLOW:
            return self._judge(data, first, first)
        second = self._load_fairly(tracing or nullcontext(), slack=2.0 if tracing else 0.0)
        if isinstance(second, Finding):
            return second
        return self._judge(data, first, second)

    def _write(self, data: bytes) -> None:
        parts = data.split(NEXT_FILE)
        names = ["main.conf", *(f"{number}.conf" for number in range(1, len(parts)))]
        for left in self.written - set(names):
            (self.directory / left).unlink()
        for name, part in zip(names, parts, strict=True):
            (self.directory / name).write_bytes(part)
        self.written = set(names)

    def _load_fairly(self, tracing: AbstractContextManager[None], slack: float = 0.0) -> LoadResult | Finding:
        """Slow is what is slow three times: whatever else the machine does can only add."""
        found = self._load(tracing, slack)
        for _ in range(2):
            if not isinstance(found, Finding) or found.key != "slow":
                break
            found = self._load(nullcontext())
        return found

    def _load(self, tracing: AbstractContextManager[None], slack: float = 0.0) -> LoadResult | Finding:
        try:
            with confined(self.directory), bounded(self.cpu + slack, self.memory), tracing:
                return self.loader(str(self.main), OPTIONS)
        except TooSlow as exc:
            return Finding("slow", f"more than {self.cpu} s of processor time, at last in {_place(exc)}")
        except MemoryError as exc:
            return Finding("memory", f"more than {self.memory >> 20} MB, at last in {_place(exc)}")
        except Exception as exc:
            text = "".join(traceback.format_exception(exc, limit=-4))
            return Finding(f"raised {type(exc).__name__} in {_place(exc)}", text)

    def _judge(self, data: bytes, first: LoadResult, second: LoadResult) -> Finding | None:
        for name in first.files:
            if self.directory not in Path(name).resolve().parents:
                return Finding("escaped", f"read {name}")
        lines = {name: physical_lines(Path(name)) for name in first.files}
        for problem in first.problems:
            why = misplaced(problem.at, lines) if problem.at else "no place" * (problem.id not in WITHOUT_PLACE)
            if why := why or unprintable(problem):
                return Finding(why, f"{problem!r:.600}")
        for name, at in first.places.items():
            if why := misplaced(at, lines):
                return Finding(why, f"place of {name!r:.100}: {at!r:.600}")
        # random numbers differ, everything else must not
        if b"_RANDOM" not in data and first != second:
            return Finding("two loads differ", _difference(first, second))
        return None


def physical_lines(path: Path) -> list[str]:
    """Lines without their newline."""
    return path.read_bytes().decode("utf-8", "surrogateescape").removesuffix("\n").split("\n")


def misplaced(at: Location, lines: dict[str, list[str]]) -> str:
    """What is wrong with a place, "" for nothing."""
    if at.file not in lines:
        return "place in a file that was not read"
    if not 1 <= at.line <= len(lines[at.file]):
        return "line outside the file"
    return _off_line(at, lines[at.file][at.line - 1])


def _off_line(at: Location, physical: str) -> str:
    if at.text.rstrip() != physical.rstrip():
        return "text of another line"
    if not 0 <= at.column <= len(physical.rstrip("\r")) + 1:
        return "column outside the line"
    if at.width < 1 or (at.column and at.column - 1 + at.width > max(len(physical), at.column)):
        return "width outside the line"
    return ""


def unprintable(problem: Problem) -> str:
    """Why a problem cannot be shown, "" for nothing. Bytes of the file that are no UTF-8 come out again."""
    outputs: tuple[Callable[[], str], ...] = (
        problem.render,
        problem.log_line,
        partial(json.dumps, problem.as_json()),
    )
    try:
        for output in outputs:
            if not output().encode("utf-8", "surrogateescape"):
                return "empty output"
    except Exception as exc:
        return f"output raised {type(exc).__name__}"
    return ""


def _place(exc: BaseException) -> str:
    """Innermost function of the package that was running."""
    frames = [frame for frame in traceback.extract_tb(exc.__traceback__) if "/fuzz/" not in frame.filename]
    own = [frame for frame in frames if "keepalived_py" in frame.filename] or frames
    return f"{Path(own[-1].filename).name}:{own[-1].name}" if own else "nowhere"


def _difference(first: LoadResult, second: LoadResult) -> str:
    pairs = zip(list(first.problems), list(second.problems), strict=False)
    return next((f"{one!r:.600}\n{two!r:.600}" for one, two in pairs if one != two), "the configurations")

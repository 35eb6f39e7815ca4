"""Coverage-guided fuzzing of lexer, preprocessor, tree and loader.

python -m tests.fuzz.fuzz_language --runs N [--seconds S] [--seed X] [--corpus DIR]

Inputs that reach new arcs (pairs of lines, one run after the other) of the package are kept and changed further. The
same seed and number of runs give the same inputs. What is found is written to a directory that is named at the end;
`--runs 0 --corpus DIRECTORY` repeats it. Exit status 1 when something was found.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import keepalived_py.config

from .mutate import mutated
from .oracles import Examiner, Finding
from .seeds import seeds

PACKAGE = str(Path(keepalived_py.config.__file__).parent)
SAMPLES = Path(__file__).resolve().parents[2] / "conf.d"
MAX_EVENTS = 60_000
"""Lines traced of one input; one that runs longer is not kept, so that the rest stays quick."""
MAX_FINDINGS = 10
MAX_SHRINKS = 200

Tracer = Callable[[FrameType, str, Any], Any]


class Coverage:
    """The arcs that were ever run in files below `package`."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.arcs: set[tuple[int, int]] = set()
        self.grown = False
        """The last traced run brought a new arc and ended in time."""
        self._now: set[tuple[int, int]] = set()
        self._tracers: dict[str, Tracer | None] = {}
        self._last = 0
        self._left = 0

    @contextmanager
    def tracing(self) -> Iterator[None]:
        """Watches what runs inside, whether it raises or not."""
        self._now, self._last, self._left = set(), 0, MAX_EVENTS
        sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(None)
            before = len(self.arcs)
            self.arcs |= self._now
            self.grown = len(self.arcs) > before and self._left > 0

    def _enter(self, frame: FrameType, event: str, arg: Any) -> Tracer | None:
        name = frame.f_code.co_filename
        if name not in self._tracers:
            self._tracers[name] = self._tracer() if name.startswith(self.package) else None
        return self._tracers[name]

    def _tracer(self) -> Tracer:
        """Notes lines of one file."""
        base = (len(self._tracers) + 1) << 16

        def trace(frame: FrameType, event: str, arg: Any) -> Tracer | None:
            if event == "line":
                here = base + frame.f_lineno
                self._now.add((self._last, here))
                self._last = here
                self._left -= 1
                if self._left <= 0:
                    sys.settrace(None)
                    return None
            return trace

        return trace


@dataclass(slots=True)
class Found:
    """A finding, the input that shows it, and the run that made it."""

    finding: Finding
    data: bytes
    run: int


@dataclass(slots=True)
class Fuzzer:
    """One campaign: inputs kept so far, and what was found."""

    examiner: Examiner
    coverage: Coverage
    random: Random
    guided: bool = True
    kept: list[bytes] = field(default_factory=list)
    found: dict[str, Found] = field(default_factory=dict)
    done: int = 0

    def seed(self, inputs: Sequence[bytes]) -> None:
        """Examine `inputs` and keep them all: even one that breaks a promise can lead on."""
        for data in inputs:
            self._try(data)
            self.kept.append(data)

    def run(self, runs: int, seconds: float = float("inf"), keep: Callable[[bytes], object] | None = None) -> None:
        """Change and examine until `runs`, `seconds` or MAX_FINDINGS are reached."""
        end = time.monotonic() + seconds
        while self.done < runs and time.monotonic() < end and len(self.found) < MAX_FINDINGS:
            self.done += 1
            # the later of two: what was reached last leads to more
            chosen = max(self.random.randrange(len(self.kept)), self.random.randrange(len(self.kept)))
            data = mutated(self.kept[chosen], self.random.choice(self.kept), self.random)
            if self._try(data) and self.guided:
                self.kept.append(data)
                if keep is not None:
                    keep(data)

    def _try(self, data: bytes) -> bool:
        """Whether `data` is worth keeping."""
        self.coverage.grown = False
        finding = self.examiner.examine(data, self.coverage.tracing())
        if finding is None:
            return self.coverage.grown
        if finding.key not in self.found:
            self.found[finding.key] = Found(finding, self._shrunk(data, finding), self.done)
        return False

    def _shrunk(self, data: bytes, finding: Finding) -> bytes:
        """Fewer lines that still show `finding`; slow ones are left as they are."""
        if finding.key in ("slow", "memory"):
            return data
        lines, size, left = data.splitlines(keepends=True), len(data), MAX_SHRINKS
        size = max(1, len(lines) // 2)
        while size and left:
            start = 0
            while start < len(lines) and left:
                left -= 1
                shorter = lines[:start] + lines[start + size :]
                again = self.examiner.examine(b"".join(shorter))
                if again is not None and again.key == finding.key:
                    lines = shorter
                else:
                    start += size
            size //= 2
        return b"".join(lines)


def named(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def report(found: Sequence[Found], seed: int) -> Path:
    """Write every finding to a new directory and say how to repeat it."""
    directory = Path(tempfile.mkdtemp(prefix="fuzz-findings-"))
    for each in found:
        path = directory / named(each.data)
        path.write_bytes(each.data)
        print(f"{each.finding.key}\n{each.finding.detail.rstrip()}\n  {path}: {each.data[:300]!r}")
        print(f"  made by --seed {seed} --runs {each.run}\n")
    print(f"repeat: python -m tests.fuzz.fuzz_language --runs 0 --corpus {directory}")
    return directory


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="fuzz_language", description="Coverage-guided fuzzing of the configuration.")
    parser.add_argument("--runs", type=int, required=True, metavar="N", help="inputs to try beside the seeds")
    parser.add_argument("--seconds", type=float, default=float("inf"), metavar="S", help="stop after this time")
    parser.add_argument("--seed", type=int, default=0, metavar="X", help="of the random generator (default 0)")
    parser.add_argument("--corpus", type=Path, metavar="DIR", help="further seeds; inputs worth keeping are added")
    options = parser.parse_args(arguments)
    corpus: Path | None = options.corpus
    more = [path.read_bytes() for path in sorted(corpus.iterdir())] if corpus and corpus.is_dir() else []

    def keep(data: bytes) -> None:
        if corpus is not None:
            corpus.mkdir(parents=True, exist_ok=True)
            (corpus / named(data)).write_bytes(data)

    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory:
        fuzzer = Fuzzer(Examiner(Path(directory)), Coverage(PACKAGE), Random(options.seed))
        fuzzer.seed([*seeds(SAMPLES), *more])
        fuzzer.run(options.runs, options.seconds, keep)
    print(f"{fuzzer.done} runs, {len(fuzzer.kept)} inputs kept, {len(fuzzer.coverage.arcs)} arcs")
    if not fuzzer.found:
        return 0
    report(list(fuzzer.found.values()), options.seed)
    return 1


if __name__ == "__main__":
    sys.exit(main())

"""What every bench shares: which there are, how often they run, how their figures are shown."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.netns.rig import OURS, THEIRS

Figures = Mapping[str, float | list[float]]
"""One value of a run, or one of each round in it."""
Measure = Callable[[str, int], Figures]

ENOUGH_FOR_P99 = 50


def brief(amount: float) -> float:
    """So many seconds or rounds; a quarter of it with BRIEF set, where nobody looks at the figures."""
    return amount / 4 if os.environ.get("BRIEF") else amount


@dataclass(frozen=True, slots=True)
class Bench:
    """`sizes` are measured one after the other, the smallest first; `unit` is for people."""

    name: str
    unit: str
    measure: Measure
    sizes: tuple[int, ...] = (1,)
    runs: int = 5
    ours_only: bool = False
    label: str = "{name}"
    """How a size is shown."""


@dataclass(slots=True)
class Row:
    """One figure of one bench at one size: all runs of both programs."""

    name: str
    unit: str
    values: dict[str, list[float]] = field(default_factory=dict)

    def median(self, program: str) -> float | None:
        found = self.values.get(program)
        return statistics.median(found) if found else None

    def worst(self, program: str) -> float | None:
        found = self.values.get(program)
        return max(found) if found else None

    def p99(self, program: str) -> float | None:
        """None where there are too few values to tell."""
        found = sorted(self.values.get(program, ()))
        return found[len(found) * 99 // 100] if len(found) >= ENOUGH_FOR_P99 else None

    def add(self, program: str, value: float | list[float]) -> None:
        self.values.setdefault(program, []).extend(value if isinstance(value, list) else [value])

    @property
    def ratio(self) -> float | None:
        ours, theirs = self.median(OURS), self.median(THEIRS)
        return ours / theirs if ours is not None and theirs else None

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "unit": self.unit, "values": self.values, "ratio": self.ratio}


def run(
    bench: Bench,
    *,
    runs: int,
    sizes: tuple[int, ...],
    say: Callable[[str], None],
    programs: tuple[str, ...] = (OURS, THEIRS),
) -> list[Row]:
    """Ours and theirs in turn, so that a machine that slows down slows both."""
    rows: dict[str, Row] = {}
    programs = (OURS,) if bench.ours_only else programs
    for size in sizes:
        label = bench.label.format(name=bench.name, size=size)
        for number in range(runs):
            for program in programs:
                say(f"{label}: {program}, run {number + 1} of {runs}")
                for figure, value in bench.measure(program, size).items():
                    name = f"{label}: {figure}"
                    rows.setdefault(name, Row(name, bench.unit)).add(program, value)
    return list(rows.values())


def machine() -> dict[str, Any]:
    """What the figures were made on."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }

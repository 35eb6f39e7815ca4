"""Random files, failures, recoveries, weights and reloads: our table and that of Debian's keepalived after every step.

More than the few seeds of every run: `python -m tests.ipvs.uml .venv/bin/python -m tests.ipvs.test_stories FIRST END`.
"""

from __future__ import annotations

import difflib
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.ipvs.story import CLOCK, TRACKED, Story, story
from tests.ipvs.twins import Rows, Twins
from tests.netns.rig import Rig

pytestmark = pytest.mark.ipvs

SEEDS = (3, 8)
"""Without and with sorry servers."""
GROUPED = r"\b10\.[23]\.|\bfd0[23]:"
"""Addresses of groups."""


def shows(loads: int, tick: int) -> Callable[[Rows], bool]:
    """Whether a program has loaded so many configurations, and its checkers know of this step."""
    weights = {"10.1.9.1": loads, "10.1.9.2": tick, "10.1.9.3": tick}
    wanted = {f"-a -t {CLOCK} -r {address}:9 -m -w {weight}" for address, weight in weights.items()}
    return lambda rows: wanted <= set(rows)


@dataclass(slots=True)
class Player:
    """Tells one story to both programs; `at` is where it is."""

    twins: Twins
    directory: Path
    texts: list[str] = field(default_factory=list)
    at: str = "start"

    def play(self, told: Story) -> None:
        self._tick(told.values, 0)
        self.texts.append(told.first.text(self.directory, 1))
        self.twins.start(self.texts[0])
        self.twins.agree(shows(1, 0))
        for number, change in enumerate(told.changes, 1):
            self.at = f"step {number}: {change.values or 'reload'}"
            if change.file is not None:
                self.texts.append(change.file.text(self.directory, len(self.texts) + 1))
                self.twins.reload(self.texts[-1])
                self.twins.agree(shows(len(self.texts), number - 1))
            self._tick(change.values, number)
            self.twins.agree(shows(len(self.texts), number))
        self.at = "stop"
        self.twins.stop()
        ours, theirs = self.twins.tables()
        # 2.2.7 can leave services of a group that was reloaded
        left = [row for row in theirs if not re.search(GROUPED, row)]
        assert (ours, left) == ([], []), (ours, left)

    def _write(self, values: dict[str, int]) -> None:
        for name, value in values.items():
            if name in (*TRACKED, "clock"):
                (self.directory / name).write_text(f"{value}\n")
            else:  # a script must not read half of it
                (self.directory / "new").write_text(f"{value}\n")
                (self.directory / "new").rename(self.directory / name)

    def _tick(self, values: dict[str, int], number: int) -> None:
        """The clock goes last: who shows it has seen the rest. A script's status of 2 is a weight of 0."""
        self._write({**values, "clock": number, "tick": number + 2})

    def files(self) -> str:
        """The last two files: the whole of the older one and how the newer one differs."""
        older, newer = (self.texts[-2:] * 2)[:2] if len(self.texts) == 1 else self.texts[-2:]
        lines = difflib.unified_diff(older.splitlines(), newer.splitlines(), "running", "loaded", lineterm="", n=3)
        return older + "\n".join(lines)


def tell(seed: int, steps: int = 8) -> str:
    """ "" when both programs agree all the time, else what happened."""
    with Rig() as rig, tempfile.TemporaryDirectory() as directory:
        player = Player(Twins(rig), Path(directory))
        try:
            player.play(story(seed, steps))
        except AssertionError as exc:
            return f"seed {seed}, {player.at}: {exc}\n{player.files()}"
    return ""


@pytest.mark.parametrize("seed", SEEDS)
def test_both_programs_tell_the_same_story(seed: int) -> None:
    assert not (found := tell(seed, 2)), found


def main(first: int, last: int, at_once: int = 3) -> int:
    """Tell many, each in a process of its own, whose namespaces have its name; how many went wrong."""

    def alone(seed: int) -> str:
        script = f"from {__spec__.name} import tell; print(tell({seed}), end='')"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        return done.stdout + (done.stderr if done.returncode else "")

    bad = 0
    with ThreadPoolExecutor(at_once) as pool:
        for found in pool.map(alone, range(first, last)):
            bad += bool(found)
            print(found or ".", end="\n" if found else "", flush=True)
    print(f"\n{last - first} stories, {bad} of them with a difference", flush=True)
    return bad


if __name__ == "__main__":
    sys.exit(min(1, main(*map(int, sys.argv[1:]))))

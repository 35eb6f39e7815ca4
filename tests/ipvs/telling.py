"""What the stories of a load balancer need to be told: the files they write, how far a program is, many at a time."""

from __future__ import annotations

import difflib
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.ipvs.story import CLOCK, TRACKED, File
from tests.ipvs.twins import Rows
from tests.netns.rig import Daemon


def shows(loads: int, tick: int) -> Callable[[Rows], bool]:
    """Whether a program has loaded so many configurations, and its checkers know of this step."""
    weights = {"10.1.9.1": loads, "10.1.9.2": tick, "10.1.9.3": tick}
    wanted = {f"-a -t {CLOCK} -r {address}:9 -m -w {weight}" for address, weight in weights.items()}
    return lambda rows: wanted <= set(rows)


def complaints(daemon: Daemon) -> list[str]:
    """What our program says when the kernel refused something, or had another table than it was told: nobody else is
    here, so that a mistake of ours would be put right only by the watch.
    """
    return [line for line in daemon.log.splitlines() if "put back" in line or "IPVS: " in line]


@dataclass(slots=True)
class Scene:
    """Where a story is told: its track files, what its scripts read, and the configurations so far."""

    directory: Path
    texts: list[str] = field(default_factory=list)

    def text(self, file: File) -> str:
        """The next configuration."""
        self.texts.append(file.text(self.directory, len(self.texts) + 1))
        return self.texts[-1]

    def write(self, values: dict[str, int], number: int) -> None:
        """The clock goes last: who shows it has seen the rest. A script's status of 2 is a weight of 0."""
        for name, value in {**values, "clock": number, "tick": number + 2}.items():
            if name in (*TRACKED, "clock"):
                (self.directory / name).write_text(f"{value}\n")
            else:  # a script must not read half of it
                (self.directory / "new").write_text(f"{value}\n")
                (self.directory / "new").rename(self.directory / name)

    def files(self) -> str:
        """The last two configurations: the whole of the older one and how the newer one differs."""
        older, newer = (self.texts[-2:] * 2)[:2] if len(self.texts) == 1 else self.texts[-2:]
        lines = difflib.unified_diff(older.splitlines(), newer.splitlines(), "running", "loaded", lineterm="", n=3)
        return older + "\n".join(lines)


def many(module: str, first: int, last: int, at_once: int = 3) -> int:
    """Call the `tell` of a module for many seeds, each in a process of its own, whose namespaces have its name; how
    many stories went wrong.
    """

    def alone(seed: int) -> str:
        script = f"from {module} import tell; print(tell({seed}), end='')"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        return done.stdout + (done.stderr if done.returncode else "")

    bad = 0
    with ThreadPoolExecutor(at_once) as pool:
        for found in pool.map(alone, range(first, last)):
            bad += bool(found)
            print(found or ".", end="\n" if found else "", flush=True)
    print(f"\n{last - first} stories, {bad} of them with a difference", flush=True)
    return bad

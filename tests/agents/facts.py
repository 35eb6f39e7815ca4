"""What a story saw: statements that are to hold with either program. Standard library only."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable

facts: dict[str, bool] = {}
EVERY = 0.02
"""Seconds between two looks."""


def fact(name: str, held: object) -> None:
    facts[name] = bool(held)


def wait(name: str, condition: Callable[[], object], within: float = 15) -> None:
    """A fact that becomes true within so many seconds, or does not."""
    until = time.monotonic() + within
    while not (held := bool(condition())) and time.monotonic() < until:
        time.sleep(EVERY)
    fact(name, held)


def tell() -> None:
    """The last line of a story."""
    json.dump(facts, sys.stdout)
    print()


class Namespace:
    """The network namespace of a story, seen from outside."""

    def __init__(self, name: str) -> None:
        self.name = name

    def ip(self, *words: str) -> str:
        done = subprocess.run(["ip", "-n", self.name, *words], capture_output=True, text=True, check=False)
        return done.stdout

    def has(self, address: str) -> bool:
        return f" {address}/" in self.ip("addr")

    def pids(self) -> list[int]:
        done = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=False)
        return [int(word) for word in done.stdout.split()]

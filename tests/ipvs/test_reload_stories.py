"""After any reload our table is that of a daemon that has just been started with the same files.

More than the few seeds of every run: `python -m tests.ipvs.uml .venv/bin/python -m tests.ipvs.test_reload_stories
FIRST END`.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.ipvs.compare import wait
from tests.ipvs.reload_story import reload_story
from tests.ipvs.story import Story
from tests.ipvs.telling import Scene, complaints, many
from tests.ipvs.twins import rows
from tests.netns.rig import OURS, Daemon, Host, Rig

pytestmark = pytest.mark.ipvs

SEEDS = (1, 2)


def at(host: Host, loads: int, tick: int) -> bool:
    """As telling.shows, without a process: in a guest those take longer than the programs need."""
    weights = {"10.1.9.1": loads, "10.1.9.2": tick, "10.1.9.3": tick}
    found = rows(host)
    wanted = (f"[10.0.9.9]:tcp:9 [{address}]:9 Destination(weight={weight}," for address, weight in weights.items())
    return all(any(row.startswith(start) for row in found) for start in wanted)


def play(told: Story, scene: Scene, running: Host, fresh: Host) -> str:
    """ "" when the tables agree all the time, else what differs."""
    scene.write(told.values, 0)
    daemon = running.start(OURS, scene.text(told.first), "-C")
    wait(lambda: at(running, 1, 0), 60, 0.2)
    file = told.first
    for number, change in enumerate(told.changes, 1):
        file = change.file or file
        scene.write(change.values, number)
        daemon.rewrite(scene.text(file))
        daemon.signal(signal.SIGHUP)
        other = fresh.start(OURS, scene.texts[-1], "-C")
        if found := differs(running, fresh, len(scene.texts), number):
            return f"step {number}, {change.values}: {found}; the log ends in {daemon.log[-1000:]}"
        if wrong := stopped(other, fresh):
            return f"step {number}, the fresh one: {wrong}"
    return stopped(daemon, running)


def differs(running: Host, fresh: Host, loads: int, tick: int) -> str:
    """ "" once both have read everything and have equal tables that stay so."""
    wait(lambda: all(at(host, loads, tick) for host in (running, fresh)), 60, 0.2)
    until = time.monotonic() + 8
    while time.monotonic() < until:
        ours, theirs = rows(running), rows(fresh)
        if ours == theirs:
            time.sleep(0.3)
            if rows(running) == rows(fresh) == ours:
                return ""
        time.sleep(0.1)
    return f"after reloads only: {sorted({*ours} - {*theirs})}, after a start only: {sorted({*theirs} - {*ours})}"


def stopped(daemon: Daemon, host: Host) -> str:
    """What went wrong, "" when nothing did, and the stop leaves nothing either."""
    daemon.stop(30)
    return "\n".join((*complaints(daemon), *(f"the stop leaves {row}" for row in rows(host))))


def tell(seed: int, steps: int = 6) -> str:
    """ "" when nothing was wrong, else what happened."""
    with Rig() as rig, tempfile.TemporaryDirectory() as directory:
        scene = Scene(Path(directory))
        try:
            found = play(reload_story(seed, steps), scene, rig.host("run"), rig.host("new"))
        except AssertionError as exc:
            found = str(exc)
        return f"seed {seed}, {found}\n{scene.files()}" if found else ""


@pytest.mark.parametrize("seed", SEEDS)
def test_a_reload_comes_to_the_table_of_a_start(seed: int) -> None:
    assert not (found := tell(seed, 1)), found


if __name__ == "__main__":
    sys.exit(min(1, many(__spec__.name, *map(int, sys.argv[1:]))))

"""Random files, failures, recoveries, weights and reloads: our table and that of Debian's keepalived after every step.

To ours alone happens more, of which nothing must be seen.

More than the few seeds of every run: `python -m tests.ipvs.uml .venv/bin/python -m tests.ipvs.test_stories FIRST END`.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ipvs.compare import wait
from tests.ipvs.story import Story, story
from tests.ipvs.telling import Scene, complaints, many, shows
from tests.ipvs.twins import Twins, rows
from tests.netns.rig import OURS, Rig

pytestmark = pytest.mark.ipvs

SEEDS = (11, 8)
"""Without and with sorry servers."""
REFUSED = "the old configuration stays"
GROUPED = r"\b10\.[23]\.|\bfd0[23]:|-f 1[012]\d\b"
"""Addresses and marks of groups."""


@dataclass(slots=True)
class Player:
    """Tells one story to both programs; `at` is where it is."""

    twins: Twins
    scene: Scene
    at: str = "start"

    def play(self, told: Story) -> None:
        loads = 1
        self.scene.write(told.values, 0)
        self.twins.start(self.scene.text(told.first))
        self.twins.agree(shows(loads, 0))
        for number, change in enumerate(told.changes, 1):
            self.at = f"step {number}: {change.harm} {change.values or 'reload'}"
            self.harm(change.harm)
            if change.file is not None:
                loads += 1
                self.twins.reload(self.scene.text(change.file))
                self.twins.agree(shows(loads, number - 1))
            self.scene.write(change.values, number)
            self.twins.agree(shows(loads, number))
        self.at = "stop"
        self.twins.stop()
        assert not (wrong := complaints(self.twins.daemons[OURS])), wrong
        ours, theirs = self.twins.tables()
        # 2.2.7 leaves services of a group when a reload found a server of it down
        left = [row for row in theirs if not re.search(GROUPED, row)]
        assert (ours, left) == ([], []), (ours, left)

    def harm(self, what: str) -> None:
        """Ours alone; theirs goes on and shows what should be."""
        ours = self.twins.daemons[OURS]
        match what:
            case "kill":
                killed, before = ours.pid_of("checkers"), rows(self.twins.hosts[OURS])
                os.kill(killed, signal.SIGKILL)
                wait(lambda: (ours.directory / "checkers.pid").exists() and ours.pid_of("checkers") != killed, 60)
                # the successor knows what scripts said, though they have not run again
                Rig.holds(lambda: rows(self.twins.hosts[OURS]) == before, 1.5)
            case "refuse":
                ours.rewrite(self.scene.texts[-1].replace("weight 1\n", "weight 99\n") + "virtual_server {\n")
                refused = ours.log.count(REFUSED)
                ours.signal(signal.SIGHUP)
                wait(lambda: ours.log.count(REFUSED) > refused, 60)
                ours.rewrite(self.scene.texts[-1])
            case "again":
                ours.signal(signal.SIGHUP)


def tell(seed: int, steps: int = 8) -> str:
    """ "" when both programs agree all the time, else what happened."""
    with Rig() as rig, tempfile.TemporaryDirectory() as directory:
        player = Player(Twins(rig), Scene(Path(directory)))
        try:
            player.play(story(seed, steps))
        except AssertionError as exc:
            return f"seed {seed}, {player.at}: {exc}\n{player.scene.files()}"
    return ""


@pytest.mark.parametrize("seed", SEEDS)
def test_both_programs_tell_the_same_story(seed: int) -> None:
    assert not (found := tell(seed, 2)), found


if __name__ == "__main__":
    sys.exit(min(1, many(__spec__.name, *map(int, sys.argv[1:]))))

"""A worker that was brought anywhere by reloads has the table of one that has just read the last file, kernel aside.

What it has told people is then true, and nothing was told twice.

The stories are those of tests/ipvs/test_reload_stories.py, where real daemons tell them to a real kernel.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keepalived_py.config.delta import difference, joined, rebuilt
from keepalived_py.config.load import LoadOptions, LoadResult, load
from keepalived_py.config.model import CheckerSlice, MiscCheck, Script
from keepalived_py.config.problems import Severity
from keepalived_py.config.slices import checker_slice
from keepalived_py.plan import ipvs
from tests.ipvs.reload_story import reload_story
from tests.ipvs.telling import Scene
from tests.property.test_ipvs_convergence import NEVER, StrictKernel, look
from tests.unit.workers.helpers_table import FakeKernel, until
from workers import scripts
from workers.checker import table as table_module
from workers.checker import task as task_module
from workers.checker.misc import MiscChecker
from workers.checker.probe import CheckFailed, Result
from workers.checker.worker import CheckerWorker
from workers.scripts import Outcome
from workers.worker import WorkerContext, WorkerOptions


async def script_ends(script: Script, *args: object, **kwargs: object) -> Outcome:
    """What the shell would end with that reads its status from a file."""
    return Outcome(number(Path(script.argv[-1].split()[3].rstrip(";"))))


def number(path: Path) -> int:
    """In a track file, or what a script reads."""
    return int(path.read_text())


@pytest.fixture(autouse=True)
def _by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """No kernel and no processes, and scripts run when the story says so."""
    monkeypatch.setattr(table_module, "IpvsKernel", StrictKernel)
    monkeypatch.setattr(table_module, "WATCH_PAUSE", NEVER)
    monkeypatch.setattr(table_module.ServiceTable, "look_again", lambda self: None)
    monkeypatch.setattr(task_module, "FIRST_DELAY", NEVER)
    monkeypatch.setattr(scripts, "run", script_ends)
    monkeypatch.setattr(FakeKernel, "flush", lambda self: FakeKernel.shared.clear(), raising=False)


OF_ADDRESS = re.compile(r"\]:(tcp|udp|sctp):\d+$")


@dataclass(slots=True)
class Told:
    """What stands in the FIFO: the last word about each server of an address.

    Names of others are not theirs alone: a mark is one of two families, and what is left of a group is numbered anew.
    """

    words: dict[str, str] = field(default_factory=dict)

    def write(self, line: bytes) -> None:
        subject, _, word = line.decode().rstrip("\n\0").rpartition(" ")
        if OF_ADDRESS.search(subject):
            assert self.words.get(subject) != word, f"{subject} is {word} twice"
            self.words[subject] = word

    def check(self, worker: CheckerWorker) -> None:
        """A quorum is told from the start on, a real server when it changes; what is gone was told to be down."""
        true: dict[str, str] = {}
        for key, state in worker.states.items():
            true[f"VS {key}"] = "UP" if state.had_quorum else "DOWN"
            assert f"VS {key}" in self.words or not state.had_quorum or key.address is None
            for real, known in state.reals.items():
                true[f"RS {real.text(key.protocol)} {key}"] = "UP" if known.alive else "DOWN"
        assert {subject: true.get(subject, "DOWN") for subject in self.words} == self.words
        self.words = {subject: word for subject, word in self.words.items() if subject in true}


@asynccontextmanager
async def worker_of(config: CheckerSlice, said: Told) -> AsyncIterator[CheckerWorker]:
    """A worker that has started, without a process; `said` hears what it tells until its stop."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        worker = CheckerWorker(
            WorkerContext(sock=ours, generation=1, config=config, options=WorkerOptions(), parent_pid=os.getppid())
        )
        worker.channel.send = list[Any]().append  # type: ignore[assignment, method-assign]
        worker.notifier.fifos.write = said.write  # type: ignore[method-assign]
        await worker.start()
        try:
            yield worker
        finally:
            # with omega a stop tells a lost quorum again
            worker.notifier.fifos.write = list[bytes]().append  # type: ignore[method-assign]
            await worker.stop()
            for task in worker._tasks:
                task.cancel()


async def catches_up(worker: CheckerWorker, scene: Scene) -> None:
    """It has seen every track file, and run every script."""
    files = worker.followed.files._files
    await until(lambda: all(each.value == number(Path(each.config.file)) for each in files.values()))
    for task in list(worker._all_tasks()):
        if isinstance(task.config, MiscCheck):
            assert isinstance(task.checker, MiscChecker)
            try:
                result = Result(points=await task.checker.check())
            except CheckFailed as failure:
                result = Result(str(failure))
            worker._checked(task, result)
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def fresh_table(config: CheckerSlice, scene: Scene) -> ipvs.Table:
    """That of a worker which starts with this; its stop leaves nothing."""
    others, FakeKernel.shared = FakeKernel.shared, {}
    async with worker_of(config, Told()) as worker:
        await catches_up(worker, scene)
        found = worker.table.kernel.table()
    assert FakeKernel.shared == {}
    FakeKernel.shared = others
    return found


def read(scene: Scene, options: LoadOptions | None = None) -> LoadResult:
    path = scene.directory / "conf"
    path.write_text(scene.texts[-1])
    found = load(str(path), options)
    assert [each for each in found.problems if each.severity is Severity.ERROR] == []
    return found


async def tell(seed: int, steps: int, scene: Scene) -> None:
    told = reload_story(seed, steps)
    scene.write(told.values, 0)
    scene.text(told.first)
    found = read(scene)
    assert found.config is not None
    before, config, digests, file = found.config, checker_slice(found.config), found.digests, told.first
    said = Told()
    async with worker_of(config, said) as worker:
        for step, change in enumerate(told.changes, 1):
            file = change.file or file
            scene.text(file)
            scene.write(change.values, step)
            new = read(scene, LoadOptions(before=before, digests=digests))
            assert new.config is not None
            assert new.digests is not None
            before, digests = new.config, joined(digests, new.digests)
            config = rebuilt(config, difference(config, checker_slice(before)))
            await worker.apply(config)
            await catches_up(worker, scene)
            started = read(scene).config
            assert started == before
            assert worker.table.kernel.table() == await fresh_table(checker_slice(started), scene), f"step {step}"
            look(worker)
            assert worker.table.repaired == 0
            said.check(worker)
    assert FakeKernel.shared == {}


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, 2**32))
def test_reloads_come_to_the_table_of_a_start(seed: int) -> None:
    FakeKernel.shared = {}
    with TemporaryDirectory() as directory:
        asyncio.run(tell(seed, 6, Scene(Path(directory))))

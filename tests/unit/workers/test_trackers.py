"""What counts for an instance: its own trackers and its group's; what is unknown; who is told."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ipc.messages import BfdSessionChanged, ScriptStateChanged, VirtualServerStateChanged
from keepalived_py.config.model import (
    Script,
    SyncGroup,
    Track,
    TrackFile,
    TrackProcess,
    VrrpConfig,
    VrrpInstance,
    VrrpScript,
    VrrpSlice,
)
from workers import scripts
from workers.scripts import Outcome, Process
from workers.vrrp.trackers import NO_RESULT, Trackers
from workers.vrrp.worker import VrrpWorker

WEB = "[10.0.0.1]:tcp:80"


def instance(*tracks: Track, name: str = "VI_1") -> VrrpInstance:
    return VrrpInstance(name=name, interface="eth0", family=4, vrid=1, tracks=tracks)


def track(kind: str, name: str, weight: int = 0, reverse: bool = False) -> Track:
    return Track(kind=kind, name=name, weight=weight, reverse=reverse)


def told(up: bool) -> VirtualServerStateChanged:
    return VirtualServerStateChanged(service=WEB, up=up, reason="", time=0.0)


def run(
    body: Callable[[Trackers, list[tuple[str, str]]], Awaitable[None]],
    up: bool = True,
    reports: list[ScriptStateChanged] | None = None,
) -> None:
    reports = [] if reports is None else reports

    async def main() -> None:
        changes: list[tuple[str, str]] = []
        trackers = Trackers(lambda kind, name: changes.append((kind, name)), lambda name: up, reports.append)
        try:
            await body(trackers, changes)
        finally:
            trackers.stop()
            if ending := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(ending)  # or the end of the loop keeps them from collecting what they killed

    asyncio.run(main())


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(200):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("never")


@pytest.mark.parametrize(
    ("weight", "reverse", "down", "up"),
    [
        (0, False, (100, True), (100, False)),
        (0, True, (100, False), (100, True)),
        (10, False, (100, False), (110, False)),
        (-10, False, (90, False), (100, False)),
        (10, True, (100, False), (90, False)),
    ],
)
def test_a_bfd_session_is_down_until_somebody_says_otherwise(
    weight: int, reverse: bool, down: tuple[int, bool], up: tuple[int, bool]
) -> None:
    config = instance(track("bfd", "B", weight, reverse))

    async def body(trackers: Trackers, changes: list[tuple[str, str]]) -> None:
        trackers.apply(VrrpSlice(vrrp=VrrpConfig(instances=(config,))))

        def judged() -> tuple[int, bool]:
            return trackers.priority(config).value, bool(dict(trackers.faults(config)))

        trackers.session_changed(BfdSessionChanged(name="B", up=False))
        assert (judged(), changes) == (down, [])
        trackers.session_changed(BfdSessionChanged(name="B", up=True))
        trackers.session_changed(BfdSessionChanged(name="B", up=True))
        assert (judged(), changes) == (up, [("bfd", "B")])
        trackers.session_changed(BfdSessionChanged(name="B", up=False))
        assert (judged(), len(changes)) == (down, 2)

    run(body)


@pytest.mark.parametrize(
    ("weight", "reverse", "unknown", "up", "down"),
    [
        (0, False, (100, False), (100, False), (100, True)),
        (0, True, (100, False), (100, True), (100, False)),
        (10, False, (100, False), (110, False), (100, False)),
        (-10, False, (100, False), (100, False), (90, False)),
        (10, True, (100, False), (90, False), (100, False)),
    ],
)
def test_a_virtual_server_counts_once_it_was_told_of(
    weight: int, reverse: bool, unknown: tuple[int, bool], up: tuple[int, bool], down: tuple[int, bool]
) -> None:
    config = instance(track("virtual_server", WEB, weight, reverse))

    async def body(trackers: Trackers, changes: list[tuple[str, str]]) -> None:
        trackers.apply(VrrpSlice(vrrp=VrrpConfig(instances=(config,))))

        def judged() -> tuple[int, bool]:
            return trackers.priority(config).value, bool(dict(trackers.faults(config)))

        assert judged() == unknown
        trackers.service_changed(told(True))
        assert judged() == up
        trackers.service_changed(told(True))
        assert changes == [("virtual_server", WEB)]
        trackers.service_changed(told(False))
        assert judged() == down
        trackers.apply(VrrpSlice(vrrp=VrrpConfig(instances=(config,))))
        assert judged() == down  # the last word stands
        assert len(changes) == 2

    run(body)


def test_what_is_tracked_twice_counts_once_and_as_the_instance_has_it() -> None:
    config = instance(track("interface", "eth1"), track("bfd", "b"))
    group = SyncGroup(
        name="G", members=("VI_1", "VI_2"), tracks=(track("interface", "eth1", -9), track("interface", "eth2", -8))
    )
    other = instance(name="VI_2")

    async def body(trackers: Trackers, changes: list[tuple[str, str]]) -> None:
        trackers.apply(VrrpSlice(vrrp=VrrpConfig(instances=(config, other), sync_groups=(group,))))
        assert trackers.of(config) == (*config.tracks, group.tracks[1])
        assert trackers.of(other) == group.tracks
        assert trackers.priority(config).value == 92
        assert dict(trackers.faults(config)) == {
            "interface eth1": "tracked interface eth1 is down",
            "bfd b": "tracked bfd b is down",
        }
        assert trackers.priority(other).value == 83
        assert not dict(trackers.faults(other))
        trackers.apply(VrrpSlice(vrrp=VrrpConfig(instances=(config,))))
        assert trackers.of(config) == config.tracks

    run(body, up=False)


def test_only_what_is_tracked_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("3")
    files = tuple(TrackFile(name=name, file=str(tmp_path / "f")) for name in ("f", "idle"))
    processes = tuple(TrackProcess(name=name, command=("no such process",)) for name in ("p", "idle"))
    scripts = tuple(VrrpScript(name=name, script=Script(argv=("/bin/true",))) for name in ("s", "idle"))
    config = instance(track("file", "f", 2), track("process", "p"), track("script", "s"))
    group = SyncGroup(name="G", members=("VI_1",), tracks=(track("file", "idle", 1),))

    async def body(trackers: Trackers, changes: list[tuple[str, str]]) -> None:
        vrrp = VrrpConfig(instances=(config,), scripts=scripts, processes=processes)
        trackers.apply(VrrpSlice(vrrp=vrrp, track_files=files))
        assert str(trackers.priority(config)) == "100, file f +6 = 106"
        assert dict(trackers.faults(config)) == {
            "process p": "tracked process p is down",
            "script s": f"tracked script s is {NO_RESULT}",
        }
        assert trackers.seen(track("file", "idle")) == 0
        assert trackers.seen(track("process", "idle")) is None
        vrrp = VrrpConfig(instances=(config,), sync_groups=(group,), scripts=scripts, processes=processes)
        trackers.apply(VrrpSlice(vrrp=vrrp, track_files=files))
        assert trackers.seen(track("file", "idle")) == 3
        assert not changes
        await until(lambda: ("script", "s") in changes)
        assert "script s" not in dict(trackers.faults(config))
        (tmp_path / "f").write_text("300")
        await until(lambda: ("file", "f") in changes)
        assert trackers.priority(config).value == 254

    run(body)


def test_a_file_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("-254")
    files = (TrackFile(name="f", file=str(tmp_path / "f")),)
    config = instance(track("file", "f", 1))

    async def body(trackers: Trackers, changes: list[tuple[str, str]]) -> None:
        trackers.apply(VrrpSlice(vrrp=VrrpConfig(instances=(config,)), track_files=files))
        assert dict(trackers.faults(config)) == {"file f": "tracked file f is at -254"}

    run(body)


@pytest.mark.parametrize(
    ("command", "up", "before", "after"),
    [
        ("/bin/true", True, 110, 110),
        ("/bin/false", True, 110, 100),
        ("/bin/true", False, 100, 110),
        ("/bin/another", True, 100, 100),
    ],
)
def test_scripts_go_on_with_what_a_predecessor_knew_of_the_same_command(
    command: str, up: bool, before: int, after: int
) -> None:
    """Up, it takes `fall` failures to be down; the first result decides only where nothing was known."""
    config = instance(track("script", "s", 10))
    script = VrrpScript(name="s", script=Script(argv=(command,)), interval=0.01, fall=3)
    said = ScriptStateChanged(
        name="s", command=replace(script.script, argv=(command.replace("another", "true"),)), up=up
    )
    reports: list[ScriptStateChanged] = []

    async def body(trackers: Trackers, changes: list[tuple[str, str]]) -> None:
        trackers.scripts.inherited["s"] = said
        trackers.apply(VrrpSlice(vrrp=VrrpConfig(instances=(config,), scripts=(script,))))
        assert trackers.priority(config).value == before
        await until(lambda: trackers.priority(config).value == after and bool(reports) is (before != after))
        assert reports == [] if before == after else [replace(said, up=after > before)]
        trackers.apply(VrrpSlice())
        trackers.apply(VrrpSlice(vrrp=VrrpConfig(instances=(config,), scripts=(script,))))
        assert trackers.priority(config).value == 100  # what was known is of the past

    run(body, reports=reports)


def test_a_script_that_cannot_be_run_is_told_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    outcomes = [*[Outcome(None, error="no such file")] * 3, Outcome(0), Outcome(0)]

    async def outcome(script: Script, *, limit: float) -> Outcome:
        return outcomes.pop(0) if outcomes[1:] else outcomes[0]

    monkeypatch.setattr(scripts, "run", outcome)
    script = VrrpScript(name="s", script=Script(argv=("/s",)), interval=0.01)
    config = instance(track("script", "s", 10))

    async def body(trackers: Trackers, changes: list[tuple[str, str]]) -> None:
        trackers.apply(VrrpSlice(vrrp=VrrpConfig(instances=(config,), scripts=(script,))))
        await until(lambda: not outcomes[1:])

    run(body)
    lines = [line for line in caplog.messages if line.startswith("Script `s` now")]
    assert lines == ["Script `s` now cannot be run: no such file", "Script `s` now returning 0"]


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_script_for_which_there_is_no_process_has_no_result(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """As with keepalived: the machine is short of something, which says nothing about what the script looks at."""
    caplog.set_level(logging.INFO)
    begun: list[str] = []

    def spawn(script: Script, *_: Any) -> Process:
        begun.append(str(script))
        if 2 <= len(begun) <= 5:
            raise OSError(number, os.strerror(number))
        return spawned(script, *_)

    spawned = scripts.spawn
    monkeypatch.setattr(scripts, "spawn", spawn)
    script = VrrpScript(name="s", script=Script(argv=("/bin/true",)), interval=0.01)
    config = instance(track("script", "s"))

    async def body(trackers: Trackers, changes: list[tuple[str, str]]) -> None:
        trackers.apply(VrrpSlice(vrrp=VrrpConfig(instances=(config,), scripts=(script,))))
        await until(lambda: len(begun) > 6)
        assert changes == [("script", "s")]
        assert not list(trackers.faults(config))

    run(body)
    lines = [line for line in caplog.messages if "cript" in line and "still running" not in line]  # on a busy machine
    assert lines == [
        "VRRP_Script(s) succeeded",
        f"Script `s` now cannot be run: [Errno {number}] {os.strerror(number)}",
        "Script `s` now returning 0",
    ]


def test_the_worker_hands_on_what_it_is_told_of_sessions() -> None:
    heard: list[BfdSessionChanged] = []
    worker: Any = SimpleNamespace(trackers=SimpleNamespace(session_changed=heard.append))
    VrrpWorker.on_message(worker, told_session := BfdSessionChanged(name="B", up=True))
    assert heard == [told_session]

"""Tracked files and processes (vrrp-behaviour.md 6)."""

from __future__ import annotations

import pytest

from keepalived_py.config.model import Track, TrackProcess
from keepalived_py.vrrp.tracking import ProcessState, effective_priority, file_content, is_fault, points


def file(weight: int = 0, reverse: bool = False) -> Track:
    return Track(kind="file", name="f", weight=weight, reverse=reverse)


@pytest.mark.parametrize(
    ("track", "content", "adds", "fault"),
    [
        (file(0), 0, 0, False),
        (file(0), 7, 0, True),
        (file(0, True), 0, 0, True),
        (file(0, True), -1, 0, False),
        (file(0), None, 0, False),
        (file(2), 20, 40, False),
        (file(2, True), 20, -40, False),
        (file(-2), 20, -40, False),
        (file(100), 100, 253, False),
        (file(-1), 253, -253, False),
        (file(-1), 254, -253, True),
        (file(1, True), 254, -253, True),
        (file(5), None, 0, False),
    ],
)
def test_files(track: Track, content: int | None, adds: int, fault: bool) -> None:
    assert points(track, content) == adds
    assert is_fault(track, content) is fault


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"", 0),
        (b"12\n", 12),
        (b"  -3 trailing", -3),
        (b"+0x1F", 31),
        (b"010", 8),
        (b"09", 0),
        (b"text", 0),
        (b"2147483647", 2147483647),
        (b"-2147483648", -2147483648),
        (b"2147483648", None),
        (b" " * 127 + b"5", 0),
    ],
)
def test_content_of_a_file(data: bytes, value: int | None) -> None:
    assert file_content(data) == value


def test_the_sum_is_shown_as_it_was_made() -> None:
    tracks = [file(2), Track(kind="script", name="s", weight=-60), Track(kind="bfd", name="b", weight=5)]
    seen = {"f": 4, "s": False, "b": None}
    found = effective_priority(50, tracks, lambda track: seen[track.name])
    assert (found.total, found.value) == (-2, 1)
    assert str(found) == "50, file f +8, script s -60 = 1"


def process(**fields: float | int | None) -> ProcessState:
    return ProcessState(TrackProcess(name="p", command=("p",), **fields))  # type: ignore[arg-type]


def test_a_quorum_without_delays() -> None:
    state = process(quorum=2, quorum_max=3)
    assert [state.counted(count, 0.0) for count in (1, 2, 3, 4, 3)] == [False, True, False, True, True]
    assert state.have_quorum


def test_gaining_and_losing_may_be_delayed() -> None:
    state = process(fork_delay=2.0, terminate_delay=5.0)
    assert not state.counted(1, 10.0)
    assert not state.counted(2, 11.0)
    assert state.deadline == 12.0
    assert not state.expired(11.9)
    assert state.expired(12.0)
    assert not state.counted(0, 20.0)
    assert state.deadline == 25.0


def test_the_opposite_cancels_what_is_pending() -> None:
    state = process(fork_delay=2.0)
    state.counted(1, 10.0)
    state.counted(0, 11.0)
    assert state.deadline is None
    assert not state.expired(20.0)


def test_exec_and_rename_take_effect_at_once() -> None:
    state = process(fork_delay=2.0)
    assert state.counted(1, 10.0, delayed=False)


def test_another_quorum_applies_at_once() -> None:
    state = process(fork_delay=2.0)
    state.counted(1, 0.0, delayed=False)
    assert state.reconfigure(TrackProcess(name="p", command=("p",), quorum=2), 1.0)
    assert not state.have_quorum

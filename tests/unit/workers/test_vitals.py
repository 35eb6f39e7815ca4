"""What a process says about itself in its dump."""

from __future__ import annotations

import os

import pytest

from keepalived_py import vitals


def test_lateness_is_sorted_into_classes() -> None:
    lateness = vitals.Lateness()
    assert list(lateness.lines("x")) == ["Worst lateness of x: 0.000 ms", "Lateness of x: none yet"]
    for seconds in (-0.5, 0.0, 0.0005, 0.001, 0.25, 0.9999, 1.0, 3600.0):
        lateness.add(seconds)
    assert list(lateness.lines("x")) == [
        "Worst lateness of x: 3600000.000 ms",
        "Lateness of x: below 1 ms 3, below 3 ms 1, below 300 ms 1, below 1000 ms 1, more 2",
    ]


def test_a_process_counts_what_it_has() -> None:
    def found() -> dict[str, str]:
        return dict(line.split(": ", 1) for line in vitals.lines())

    before = found()
    read, write = os.pipe()
    after = found()
    os.close(read)
    os.close(write)
    assert int(after["Descriptors"]) == int(before["Descriptors"]) + 2
    assert int(after["Memory"].split()[0]) > 1000
    assert int(after["Objects"].split(",")[0]) > 100
    assert len(after["Collections"].split(", ")) == 3
    assert int(after["Threads"]) >= 1


def test_what_is_frozen_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """That takes milliseconds, which every dump would be later by."""
    counts = iter((5, 7))
    monkeypatch.setattr(vitals.gc, "freeze", lambda: None)
    monkeypatch.setattr(vitals.gc, "get_freeze_count", lambda: next(counts))

    def shown() -> str:
        (line,) = (line for line in vitals.lines() if line.startswith("Objects"))
        return line.split(", ")[1]

    vitals.freeze()
    assert [shown(), shown()] == ["5 frozen", "5 frozen"]
    vitals.freeze()
    assert shown() == "7 frozen"
    vitals.freeze()

"""Other people's files, with keepalived's verdicts: read without a traceback or a hang, and valid ones found valid.

A file with a keyword that this version does not know, and what follows from it, cannot be judged.
"""

from __future__ import annotations

import csv
import time
from pathlib import Path

from keepalived_py.config.load import LoadOptions, load
from tests.conftest import SHARED

LIMIT = 10.0
"""Seconds for one file; keepalived itself hangs on a few."""
UNKNOWN = ("unknown-keyword", "no-group", "unexpected-brace", "surplus-brace", "bad-member", "not-a-choice")
STRICTER = {
    # the reference asks for an error, keepalived 2.2.7 says nothing
    "duplicate-address",
}


def files() -> list[tuple[str, Path]]:
    """Verdict and path of every file."""
    found = []
    for name in ("public", "regression"):
        table = SHARED / "corpus" / f"{name}.tsv"
        if table.is_file():
            with open(table, newline="") as rows:
                for row in csv.DictReader(rows, delimiter="\t", quoting=csv.QUOTE_NONE):
                    path = SHARED / "corpus" / name / row["file"]
                    if path.is_file():
                        found.append((row["expected"], path))
    return found


def test_every_file_is_read_and_valid_ones_are_found_valid(shared: Path) -> None:
    judged, wrong = 0, []
    for expected, path in files():
        started = time.monotonic()
        problems = load(str(path), LoadOptions(config_id="corpus")).problems
        assert time.monotonic() - started < LIMIT, path
        ids = {problem.id for problem in problems}
        if expected == "valid" and not ids & set(UNKNOWN):
            judged += 1
            if problems.exit_status() and not ids & STRICTER:
                wrong.append((path.name, [problem.render() for problem in problems if problem.severity > 1]))
    assert wrong == []
    assert judged >= 50


def test_invalid_files_are_found_invalid(shared: Path) -> None:
    for expected, path in files():
        if expected == "invalid":
            assert load(str(path), LoadOptions(config_id="corpus")).problems.exit_status(), path

"""Other people's files with keepalived's verdicts: the same verdict, no traceback or hang, a dump that reads back.

What depends on the machine is left out of the comparison: whether interfaces, scripts and included files are there,
and what Debian's build of keepalived was made without.
"""

from __future__ import annotations

import csv
import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from keepalived_py.config.dump import dump
from keepalived_py.config.load import LoadOptions, LoadResult, load
from tests.conftest import SHARED

LIMIT = 10.0
"""Seconds for one file; keepalived itself hangs on a few."""
OF_THE_MACHINE = re.compile(
    r"doesn't exist|not found/accessible|Non-existent interface|missing '/|unknown interface"
    r"|either an interface or default interface must exist|Unknown interface!|more lines\)"
    # the build without iptables; a comment line that ends in a backslash; a \# in a name, which 2.2.7 does not know
    r"|iptables not supported|Unknown keyword '\\'|nftables already specified"
)
"""Complaints of keepalived about what is not there where it ran."""
EXCEPTIONS = {
    "one_hash.conf": "2.2.7 takes \\# for the beginning of a comment",
    "1446/keepalived.conf": "includes files that are not part of the corpus",
    "1809/0202-configs-v2-keepalived.conf": "an executable file, which keepalived finds fine and cannot run with",
    "101.conf": "ends with 0 in spite of the unknown keyword that it logs",
    "notify.conf": "ends with 0 in spite of the unknown keywords that it logs",
}
"""Files whose verdict says something else than whether the text is valid."""


@dataclass(frozen=True)
class Row:
    name: str
    path: Path
    status: str
    log: tuple[str, ...]

    def comparable(self, result: LoadResult) -> bool:
        """Whether the verdict is about the text, and keepalived got as far as judging it."""
        if self.name in EXCEPTIONS or self.status not in ("0", "2", "4", "5", "6"):
            return False
        if result.config is not None and result.config.global_defs.root.net_namespace:
            return False  # the namespace did not exist, which ends with 0 before anything is looked at
        return self.status == "0" or not self.log or any(not OF_THE_MACHINE.search(text) for text in self.log)


def rows() -> list[Row]:
    found = []
    for name in ("public", "regression"):
        table = SHARED / "corpus" / f"{name}.tsv"
        if table.is_file():
            with open(table, newline="") as lines:
                for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
                    path = SHARED / "corpus" / name / row["file"]
                    if path.is_file():
                        log = tuple(text for text in row["log_ifaces"].split(" | ") if text)
                        found.append(Row(row["file"], path, row["rc_ifaces"], log))
    return found


@pytest.fixture(scope="module")
def loaded(shared: Path) -> list[tuple[Row, LoadResult, float]]:
    found = []
    for row in rows():
        started = time.process_time()
        result = load(str(row.path), LoadOptions(config_id="corpus"))
        found.append((row, result, time.process_time() - started))
    return found


def test_every_file_is_read_in_time(loaded: list[tuple[Row, LoadResult, float]]) -> None:
    assert len(loaded) > 500
    late = [row for row, _, seconds in loaded if seconds > LIMIT]
    assert [(row.name, again) for row in late if (again := least_time(row)) > LIMIT] == []


def least_time(row: Row) -> float:
    """Whatever else the machine does can only add."""
    taken = []
    for _ in range(2):
        started = time.process_time()
        load(str(row.path), LoadOptions(config_id="corpus"))
        taken.append(time.process_time() - started)
    return min(taken)


def test_verdicts_are_those_of_keepalived(loaded: list[tuple[Row, LoadResult, float]]) -> None:
    judged: Counter[str] = Counter()
    wrong = []
    for row, result, _ in loaded:
        if not row.comparable(result):
            continue
        judged[row.status] += 1
        status = result.problems.exit_status()
        if bool(status) != (row.status != "0"):
            ids = sorted({problem.id for problem in result.problems if problem.severity > 1 or problem.stops})
            wrong.append((row.name, row.status, status, ids, row.log[:3]))
    assert wrong == []
    assert judged["0"] > 225
    assert judged["5"] > 200
    assert judged["6"] > 40


def test_exit_codes_are_those_of_keepalived(loaded: list[tuple[Row, LoadResult, float]]) -> None:
    """Where both find a file wrong, the class is the same; scripts that are here and were not there may make it 6."""
    wrong = []
    for row, result, _ in loaded:
        status = result.problems.exit_status()
        if row.comparable(result) and status and str(status) != row.status and not (row.status == "5" and status == 6):
            wrong.append((row.name, row.status, status, row.log[:3]))
    assert wrong == []


def test_a_dump_reads_back_as_the_same_configuration(
    loaded: list[tuple[Row, LoadResult, float]], tmp_path: Path
) -> None:
    path = tmp_path / "dump.conf"
    checked, wrong = 0, []
    for row, result, _ in loaded:
        if result.config is not None:
            path.write_text(dump(result.config), errors="surrogateescape")
            checked += 1
            if load(str(path), LoadOptions(config_id="another")).config != result.config:
                wrong.append(row.name)
    assert wrong == []
    assert checked > 500

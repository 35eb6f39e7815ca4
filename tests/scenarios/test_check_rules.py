"""Every rule of health and quorum in the reference has a scenario or a named test (check_rules.txt)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TESTS = HERE.parent


def rules() -> dict[str, list[str]]:
    """What shows each rule."""
    found: dict[str, list[str]] = {}
    for line in (HERE / "check_rules.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            what, _, shown_by = line.partition("|")
            number = what.split()[0]
            assert number not in found, number
            found[number] = shown_by.split()
    return found


def missing(number: str, shown_by: list[str]) -> str:
    """Why a rule is not shown, "" when it is."""
    if not shown_by:
        return f"{number}: neither a scenario nor a test"
    for each in shown_by:
        where, _, name = each.partition("::")
        if name:
            path = TESTS / f"{where}.py"
            there = path.is_file() and re.search(rf"^(async )?def {name}\(", path.read_text(), re.MULTILINE)
        else:
            there = list(HERE.glob(f"{where}-*.txt"))
        if not there:
            return f"{number}: there is no {each}"
    return ""


@pytest.mark.parametrize("number", rules())
def test_a_rule_has_a_scenario_or_a_test(number: str) -> None:
    assert missing(number, rules()[number]) == ""


def test_a_rule_without_anything_is_noticed() -> None:
    assert missing("9#1", []) == "9#1: neither a scenario nor a test"
    assert missing("9#1", ["checks/01", "checks/99"]) == "9#1: there is no checks/99"
    assert missing("9#1", ["unit/checks/test_checks::test_nothing"]).endswith("test_checks::test_nothing")


def numbered(text: str) -> Iterator[str]:
    """The list entries of section 2 by number."""
    section, item = "", 0
    for line in text.splitlines():
        heading = re.match(r"#{2,3} (\d+(?:\.\d+)?)[. ]", line)
        if heading:
            section, item = heading[1], 0
        elif line.startswith("- ") and section.partition(".")[0] == "2":
            item += 1
            yield f"{section}#{item}"


def test_the_list_is_that_of_the_reference(shared: Path) -> None:
    assert list(rules()) == list(numbered((shared / "reference" / "checker-behaviour.md").read_text()))

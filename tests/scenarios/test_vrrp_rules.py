"""Every rule of the reference has a scenario or a named test (rules.txt)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TESTS = HERE.parent
SCENARIOS = sorted((HERE / "vrrp").glob("*.txt")) + sorted((HERE / "vrrp_network").glob("*.txt"))
OURS = "ours"
"""What a scenario is about that the reference does not have."""
LEFT_OUT = "-"
"""No part of this version."""
SECTIONS = 18


def rules() -> dict[str, list[str]]:
    """Tests by rule."""
    found: dict[str, list[str]] = {}
    for line in (HERE / "rules.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            what, _, tests = line.partition("|")
            number = what.split()[0]
            assert number not in found, number
            found[number] = tests.split()
    return found


@cache
def named() -> dict[str, list[str]]:
    """Scenarios by the rules that they name."""
    found: dict[str, list[str]] = {}
    for path in SCENARIOS:
        lines = [line for line in path.read_text().splitlines() if line.startswith("# rules: ")]
        assert len(lines) == 1, path
        for rule in lines[0].removeprefix("# rules: ").split():
            found.setdefault(rule, []).append(path.name)
    return found


@cache
def functions(path: Path) -> frozenset[str]:
    return frozenset(re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE))


def missing(number: str, tests: list[str]) -> str:
    """Why a rule is not shown, "" when it is."""
    if tests == [LEFT_OUT]:
        return ""
    if not tests and number not in named():
        return f"{number}: neither a scenario nor a test"
    for test in tests:
        where, _, name = test.partition("::")
        path = TESTS / f"{where}.py"
        if not path.is_file() or name not in functions(path):
            return f"{number}: there is no test {test}"
    return ""


@pytest.mark.parametrize("number", rules())
def test_a_rule_has_a_scenario_or_a_test(number: str) -> None:
    assert missing(number, rules()[number]) == ""


def test_scenarios_name_rules_that_there_are() -> None:
    assert set(named()) - {OURS} <= set(rules())


def test_a_rule_without_anything_is_noticed() -> None:
    assert missing("99#1", []) == "99#1: neither a scenario nor a test"
    assert missing("1#1", ["unit/vrrp/test_machine::test_nothing"]) == (
        "1#1: there is no test unit/vrrp/test_machine::test_nothing"
    )


def numbered(text: str) -> Iterator[str]:
    """The rules of vrrp-behaviour.md: list entries and rows of tables by number, paragraphs by letter."""
    section, item, paragraph, open_paragraph = "", 0, 0, False
    for line in text.splitlines():
        heading = re.match(r"#{2,3} (\d+(?:\.\d+)?)[. ]", line)
        if heading:
            section, item, paragraph, open_paragraph = heading[1], 0, 0, False
        elif not line.strip() or line.startswith(("---", "#")):
            open_paragraph = False
        elif re.match(r"- |\d+\. ", line) or re.match(r"\| (?!(quantity|#|tracker|\u2013) \|)", line):
            item, open_paragraph = item + 1, False
            yield f"{section}#{item}"
        elif not line.startswith((" ", "|")) and section and not open_paragraph:
            paragraph, open_paragraph = paragraph + 1, True
            yield f"{section}#{'abcdef'[paragraph - 1]}"


def test_the_list_is_that_of_the_reference(shared: Path) -> None:
    behaviour = [
        number
        for number in numbered((shared / "reference" / "vrrp-behaviour.md").read_text())
        if int(re.split(r"[.#]", number)[0]) <= SECTIONS
    ]
    deviations = re.findall(r"^\| (\d+) \|", (shared / "reference" / "rfc-deviations.md").read_text(), re.MULTILINE)
    assert set(rules()) == {*behaviour, *(f"D{number}" for number in deviations)}

"""Small texts that grow without end: reading stops soon, and says where (config-language.md 6 and 7)."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepalived_py.config.load import LoadOptions, LoadResult, load
from tests.fuzz.oracles import bounded

BOUNDS = ("too-much-text", "definition-too-long", "bad-repetition")
EXPLOSIONS = {
    "doubling definition": "$A0=xxxx\n" + "".join(f"$A{i + 1}=${{A{i}}}${{A{i}}}\n" for i in range(30)) + "x ${A30}\n",
    "definition of itself": "$A=${A}${A}\nx ${A}\n",
    "definitions of each other": "$A=$B\n$B=$A\nx $A\n",
    "lines of itself": "$M=x \\\n$M \\\n$M\n$M\n",
    "lines of itself at once": "$M=$M \\\n$M\n$M\n",
    "one sequence": "~SEQ(i, 199999) x $i\n",
    "one huge sequence": "~SEQ(i, 99999999999999999999) x\n",
    "sequences in each other": "~SEQ(i, 9999) ~SEQ(j, 9999) x\n",
    "sequences that drop their text": "~SEQ(i, 9999) ~SEQ(j, 9999) @you x\n",
    "sequence of blocks": "~SEQ(i, 900000) x { y { z } }\n",
    "sequence of long lines": "$L=" + "y" * 900 + "\n~SEQ(i, 900000) x $i ${L}\n",
    "sequence of a definition": "$M=~SEQ(j, 9999) y $i $j \\\nz \\\n~SEQ(k, 9999) y $k\n~SEQ(i, 9999) $M\n",
    "file in itself": "include main.conf\n",
    "file in itself twice": "include main.conf\ninclude main.conf\n",
    "sequence of includes": "~SEQ(i, 900000) include a.conf\n",
    "braces of an include": "include " + "{a,b}" * 60 + "\n",
}


def loaded(directory: Path, files: dict[str, str]) -> LoadResult:
    """A whole load within 2 s and 200 MB."""
    for name, content in files.items():
        (directory / f"{name}.conf").write_text(content)
    with bounded(cpu=2.0, memory=200 << 20):
        return load(str(directory / "main.conf"), LoadOptions(config_id="me"))


@pytest.mark.parametrize("name", EXPLOSIONS)
def test_an_explosion_ends_soon_with_a_problem(tmp_path: Path, name: str) -> None:
    result = loaded(tmp_path, {"main": EXPLOSIONS[name], "a": "x\n" * 100})
    told = [problem for problem in result.problems if problem.id in BOUNDS]
    assert told
    assert all(problem.at is not None for problem in told)


def test_files_that_fan_out_end_soon_with_a_problem(tmp_path: Path) -> None:
    files = {f"f{i}": f"include f{i + 1}.conf\ninclude f{i + 1}.conf\n" for i in range(40)}
    files |= {"main": "include f0.conf\n", "f40": "x\n"}
    assert "too-much-text" in {problem.id for problem in loaded(tmp_path, files).problems}


@pytest.mark.parametrize(("outer", "inner"), [(1, 20_000), (150, 150), (20_000, 1)])
def test_what_does_not_explode_is_read_whole(tmp_path: Path, outer: int, inner: int) -> None:
    result = loaded(tmp_path, {"main": f"~SEQ(i, {outer}) ~SEQ(j, {inner}) x $i $j\n"})
    assert {problem.id for problem in result.problems} == {"unknown-keyword"}
    assert len(result.problems) + result.problems.left_out == outer * inner

"""Every bench runs once, briefly, on ours at its smallest size, so that none rots. No figure is asserted."""

from __future__ import annotations

import pytest

from tests.bench.__main__ import BENCHES, show
from tests.bench.frame import Bench, run
from tests.netns.rig import OURS

pytestmark = pytest.mark.netns


@pytest.mark.parametrize("bench", BENCHES, ids=lambda bench: bench.name)
def test_bench_runs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    monkeypatch.setenv("BRIEF", "1")
    rows = run(bench, runs=1, sizes=bench.sizes[:1], say=lambda text: None, programs=(OURS,))
    assert rows
    show(rows, Console(quiet=True))

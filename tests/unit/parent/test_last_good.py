"""What is kept for a start that finds a broken file."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepalived_py.config.model import Config, GlobalDefs
from keepalived_py.parent.last_good import LastGood, Reading

ONE, TWO = (Config(global_defs=GlobalDefs(parent_process_name=name)) for name in ("one", "two"))
START, RELOAD = Reading


def test_what_was_staged_last_is_kept_when_it_is_in_force(tmp_path: Path) -> None:
    path = tmp_path / "state" / "kept"
    kept = LastGood(str(path))
    kept.stage(ONE, START)
    assert not path.exists()
    kept.confirm(START)
    assert "process_name one" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    kept.stage(TWO, RELOAD)
    kept.stage(None, RELOAD)
    kept.confirm(RELOAD)
    assert "process_name one" in path.read_text()
    kept.stage(TWO, RELOAD)
    kept.confirm(RELOAD)
    assert "process_name two" in path.read_text()
    assert [each.name for each in path.parent.iterdir()] == ["kept"]


def test_a_place_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = LastGood(str(tmp_path / "no" / "such" / "place"))
    kept.stage(ONE, START)
    kept.confirm(START)
    assert "No such file or directory" in caplog.text


def test_without_a_path_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kept = LastGood("")
    kept.stage(ONE, START)
    kept.confirm(START)
    assert list(tmp_path.iterdir()) == []

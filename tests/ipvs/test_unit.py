"""The systemd unit lets the daemon do its work on IPVS: systemd itself is process 1 of a copy of this system."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.netns.life import live

pytestmark = pytest.mark.ipvs


def test_the_hardened_unit_and_ipvs(tmp_path: Path) -> None:
    unit = tmp_path / "keepalived-py.service"
    text = (REPOSITORY / "conf.d/systemd/keepalived-py.service").read_text()
    unit.write_text(text.replace("@SBIN@", str(REPOSITORY / ".venv/bin")))
    live("ipvs", tmp_path, unit)

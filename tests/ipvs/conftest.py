"""These tests run where IPVS is: `make test-ipvs` brings them into a kernel that has it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.ipvs.compare import clear


def _missing() -> str:
    if os.geteuid():
        return "needs root"
    if (
        shutil.which("ipvsadm") is None
        or subprocess.run(["ipvsadm", "-Sn"], capture_output=True, check=False).returncode
    ):
        return "this kernel has no IPVS: run `make test-ipvs`"
    return "" if shutil.which("keepalived") else "needs Debian's keepalived to compare with"


REASON = _missing()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--part", default="1/1", help="of the tests in turn: 1/2 and 2/2 share them out to two guests")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    part, parts = map(int, config.getoption("--part").split("/"))
    # a module that says TOGETHER counts as one
    units = list(dict.fromkeys(map(_unit, items)))
    chosen = set(units[part - 1 :: parts])
    items[:] = [item for item in items if _unit(item) in chosen]


def _unit(item: pytest.Item) -> str:
    module = item.getparent(pytest.Module)
    return module.nodeid if module is not None and getattr(module.obj, "TOGETHER", False) else item.nodeid


@pytest.fixture(autouse=True)
def _empty_table() -> Iterator[None]:
    if REASON:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(REASON)
    clear()
    yield
    clear()

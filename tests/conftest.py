"""Shared by all tests."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("quick", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=100)
settings.load_profile("quick")

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"

FAILED = pytest.StashKey[bool]()
"""Of a test: fixtures show logs then."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture(scope="session")
def shared() -> Path:
    """Other people's data for comparison; tests skip where it is not."""
    if not SHARED.is_dir():
        pytest.skip("the corpus and vectors (../shared) are not here")
    return SHARED

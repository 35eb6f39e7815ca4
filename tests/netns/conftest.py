"""Tests in network namespaces: skipped with a reason where that is not possible, a failure of CI."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.conftest import FAILED
from tests.netns.rig import Host, Rig, Switch, why_not

REASON = why_not() or ("" if shutil.which("keepalived") else "needs Debian's keepalived as the other router")


@pytest.fixture(autouse=True)
def _possible() -> None:
    if REASON:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(REASON)


@pytest.fixture
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    with Rig() as made:
        yield made
        if request.node.stash[FAILED]:
            made.show_logs()


class Pair:
    """Two routers and a client on one switch."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.lan: Switch = rig.switch("lan")
        self.one: Host = rig.host("one")
        self.two: Host = rig.host("two")
        self.client: Host = rig.host("client")
        for number, host in enumerate((self.one, self.two, self.client), 1):
            host.plug(self.lan, "eth0", f"10.0.0.{number}/24", f"fd00::{number}/64", f"fe80::{number}/64")

    def masters(self, address: str) -> list[str]:
        return [host.name for host in (self.one, self.two) if host.has(address)]


@pytest.fixture
def pair(rig: Rig) -> Pair:
    return Pair(rig)

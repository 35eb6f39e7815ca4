"""Programs whose checkers take every IPVS request for granted, so that checks run at full speed on any kernel.

Run as a module this is ours; `command` says how either program is started. Each request that would have been made adds
a byte to the file `requests`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Container
from pathlib import Path

from keepalived_py import cli
from keepalived_py.plan import ipvs
from tests.netns.rig import OURS, THEIRS
from workers.checker import table, worker
from workers.checker.ipvs_statistics import Usage

SOURCE = Path(__file__).with_name("no_ipvs.c")
REQUESTS = "NO_IPVS_REQUESTS"


def why_not(program: str) -> str:
    """What keeps `program` from running so, "" when nothing does."""
    return "" if program == OURS or shutil.which("cc") else "needs a C compiler"


def command(program: str, directory: Path) -> list[str]:
    """How to start `program`; files that this needs go into `directory`."""
    environment = ["env", f"{REQUESTS}={requests(directory)}"]
    if program == OURS:
        return [*environment, sys.executable, "-m", "tests.bench.no_ipvs"]
    library = directory / "no_ipvs.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE)], check=True)
    return [*environment, f"LD_PRELOAD={library}", THEIRS]


def requests(directory: Path) -> Path:
    """What grows with each request of a program that was started with `directory`."""
    return directory / "requests"


class GrantingKernel:
    """The part of IpvsKernel that a checker without marks and timeouts calls."""

    def __init__(self, family: int, namespace: str | None = None) -> None:
        self.family = family
        self.rows: ipvs.Table = {}

    def resize(self, size: int, force: bool) -> None:
        """There is no socket."""

    def table(self) -> ipvs.Table:
        return {}

    def entry(self, id: ipvs.ServiceId) -> ipvs.Entry | None:
        return self.rows.get(id)

    def usage(self, ids: Container[ipvs.ServiceId]) -> dict[ipvs.ServiceId, Usage]:
        return {}

    def apply(self, ops: list[ipvs.Op]) -> list[tuple[ipvs.Op, Exception]]:
        for op in ops:
            ipvs.apply(op, self.rows)
        if REQUESTS in os.environ:
            with open(os.environ[REQUESTS], "ab") as file:
                file.write(b"." * len(ops))
        return []


def _family() -> int:
    return 31


if __name__ == "__main__":
    setattr(table, "IpvsKernel", GrantingKernel)  # noqa: B010  (a type checker would ask for all of it)
    setattr(worker, "resolve_family", _family)  # noqa: B010
    sys.exit(cli.main())

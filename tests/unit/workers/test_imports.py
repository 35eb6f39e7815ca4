"""What few configurations need is imported when it is needed: the processes share one copy of the rest."""

from __future__ import annotations

import subprocess
import sys

LATE = ("aiohttp", "yarl", "email", "aiosmtplib", "dns", "h2", "pyroute2", "rich", "http.client")
EVERYTHING = "import keepalived_py.cli, workers.vrrp.worker, workers.checker.worker, workers.vrrp.withdraw"


def test_big_libraries_come_late() -> None:
    code = f"import sys; {EVERYTHING}; print(*(name for name in {LATE} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []

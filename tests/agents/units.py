"""What Octavia's agent asks of systemctl, done with the units that it wrote."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

from octavia.amphorae.backends.agent.api_server import util
from octavia.common import constants

STOP_LIMIT = 20.0
"""Seconds that a stop may take."""


def _setting(unit: str, name: str) -> str:
    (value,) = re.findall(f"^{name}=(.*)$", unit, re.MULTILINE)
    return str(value)


def systemctl(command: str, service: str, raise_error: bool = True) -> None:
    if command in (constants.ENABLE, constants.DISABLE):
        return
    unit = Path(constants.SYSTEMD_DIR, service.removesuffix(".service") + ".service").read_text()
    file = Path(_setting(unit, "PIDFile"))
    if command in ("stop", "restart") and file.exists():
        pid = int(file.read_text())
        os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + STOP_LIMIT
        while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
            time.sleep(0.02)
    if command in ("start", "restart"):
        subprocess.run(shlex.split(_setting(unit, "ExecStart")), check=True)
        while not file.exists():
            time.sleep(0.001)
    if command == "reload":
        os.kill(int(file.read_text()), signal.SIGHUP)


def use(namespace: str, base: Path) -> None:
    """Octavia with its files below `base`, in a namespace of another name than its own."""
    from octavia.common import config
    from oslo_config import cfg

    config.init([])
    cfg.CONF.set_override("base_path", str(base), "haproxy_amphora")
    constants.AMPHORA_NAMESPACE = namespace
    util.run_systemctl_command = systemctl
    for name in ("vrrp", "lvs", "certs"):
        (base / name).mkdir()
    Path(constants.SYSTEMD_DIR).mkdir(parents=True, exist_ok=True)

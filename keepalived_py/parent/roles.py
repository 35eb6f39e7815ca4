"""What the parent is given and what it keeps per worker."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ipc.messages import ConfigLoaded, Peer
from keepalived_py.config.model import Script

from .child import Child
from .pidfile import PidFile
from .reload import Applied
from .restart import RestartPolicy


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How this daemon is put together: made by the command line."""

    mains: Mapping[Peer, Callable[[socket.socket, Applied, tuple[Any, ...], int], int]]
    """Main functions of the workers that may run: socket, configuration, last reports, parent's pid."""
    warm: Mapping[Peer, Callable[[], None]]
    """What the parent does before it forks a worker of that kind: imports, so that all its successors share them."""
    load: Callable[[], ConfigLoaded]
    """Reads the configuration; called in a process of its own."""
    start_script: Callable[[Script], subprocess.Popen[bytes]]
    """Starts startup_script and shutdown_script."""
    pid_files: Mapping[Peer, PidFile]
    title: str = "keepalived"
    respawn: bool = True
    ignore_sigint: bool = False
    run_all: bool = False
    open_descriptors: frozenset[int] = frozenset()
    """Descriptors that children inherit (log files)."""


@dataclass(slots=True)
class Role:
    """One worker's place, whoever fills it."""

    policy: RestartPolicy
    child: Child | None = None
    reports: dict[Any, Any] = field(default_factory=dict)
    """The newest report per subject: what a successor is told."""
    stalled: bool = False

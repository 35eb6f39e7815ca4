"""Into the background: fork, a session of its own, / as directory, /dev/null as stdio (cli-and-signals.md 2)."""

from __future__ import annotations

import os


def daemonize() -> int:
    """0 in the daemon, and its pid in the process that was started, which should exit with 0."""
    if pid := os.fork():
        return pid
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    if null > 2:
        os.close(null)
    return 0

"""Options -m and -M: core files of the daemon's processes (cli-and-signals.md 1). Scripts keep their old limit."""

from __future__ import annotations

import logging
import os
import resource

logger = logging.getLogger(__name__)

PATTERN_FILE = "/proc/sys/kernel/core_pattern"
UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


def allow() -> None:
    """No limit, or the hard one where that may not be raised; this process and all that it forks."""
    try:
        resource.setrlimit(resource.RLIMIT_CORE, UNLIMITED)
    except (OSError, ValueError) as exc:
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
        logger.warning("Core files are limited to %d bytes: %s", hard, exc)


class CorePattern:
    """The kernel's name for core files while the daemon runs. `path` is another one in tests."""

    def __init__(self, path: str = PATTERN_FILE) -> None:
        self._path = path
        self._before: str | None = None

    def set(self, pattern: str) -> None:
        try:
            with open(self._path) as file:
                before = file.read().strip()
            self._write(pattern)
            self._before = before
        except OSError as exc:
            logger.error("core pattern %s: %s", pattern, exc.strerror)

    def restore(self) -> None:
        """What was there before, if it was changed."""
        if self._before is None:
            return
        try:
            self._write(self._before)
        except OSError as exc:
            logger.error("core pattern %s cannot be restored: %s", self._before, exc.strerror)
        self._before = None

    def _write(self, text: str) -> None:
        descriptor = os.open(self._path, os.O_WRONLY)
        try:
            os.write(descriptor, f"{text}\n".encode())
        finally:
            os.close(descriptor)

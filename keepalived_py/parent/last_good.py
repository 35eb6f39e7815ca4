"""Option --last-good: the configuration in force, kept in a file for a start that finds a broken one."""

from __future__ import annotations

import contextlib
import logging
import os
from enum import StrEnum

from keepalived_py.config.dump import dump
from keepalived_py.config.model import Config
from keepalived_py.dumpfile import make_directory, write
from keepalived_py.records import dataclass

logger = logging.getLogger(__name__)

PRIVATE = 0o600
"""It has passwords."""


class Reading(StrEnum):
    """What a configuration was read for: a reload may begin before the start is complete, where a worker died."""

    START = "start"
    RELOAD = "reload"


@dataclass(frozen=True, slots=True)
class LastGood:
    """Whoever reads a configuration stages it; when the workers have taken it over it is in force. No path: nothing."""

    path: str

    def _staged(self, by: Reading) -> str:
        return f"{self.path}.{by}"

    def stage(self, config: Config | None, by: Reading) -> None:
        """Write what may come into force; None when what was read is not good."""
        if not self.path:
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._staged(by))
        if config is not None:
            with contextlib.suppress(OSError):
                make_directory(os.path.dirname(self.path), 0o700)
            write(self._staged(by), dump(config), PRIVATE)

    def confirm(self, by: Reading) -> None:
        """What was staged last, for this, is in force."""
        if not self.path:
            return
        try:
            os.replace(self._staged(by), self.path)
        except FileNotFoundError:
            return  # it was not good, or could not be written
        except OSError as exc:
            logger.error("%s: %s", self.path, exc.strerror)

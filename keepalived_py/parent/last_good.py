"""Option --last-good: the configuration in force, kept in a file for a start that finds a broken one."""

from __future__ import annotations

import contextlib
import logging
import os

from keepalived_py.config.dump import dump
from keepalived_py.config.model import Config
from keepalived_py.dumpfile import make_directory, write
from keepalived_py.records import dataclass

logger = logging.getLogger(__name__)

PRIVATE = 0o600
"""It has passwords."""


@dataclass(frozen=True, slots=True)
class LastGood:
    """Whoever reads a configuration stages it; when the workers have taken it over it is in force. No path: nothing."""

    path: str

    @property
    def _staged(self) -> str:
        return f"{self.path}.new"

    def stage(self, config: Config | None) -> None:
        """Write what may come into force; None when what was read is not good."""
        if not self.path:
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._staged)
        if config is not None:
            with contextlib.suppress(OSError):
                make_directory(os.path.dirname(self.path), 0o700)
            write(self._staged, dump(config), PRIVATE)

    def confirm(self) -> None:
        """What was staged last is in force."""
        if not self.path:
            return
        try:
            os.replace(self._staged, self.path)
        except FileNotFoundError:
            return  # it was not good, or could not be written
        except OSError as exc:
            logger.error("%s: %s", self.path, exc.strerror)

"""FIFOs of workers that died: what was not there before the daemon is not there after it."""

from __future__ import annotations

import contextlib
import os
import stat

from keepalived_py.config.model import Config, Fifo


class Fifos:
    """A worker removes what it made itself, and one that was killed removes nothing; its successor found it there."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._new: dict[str, Fifo] = {}

    def expect(self, config: Config) -> None:
        """Workers are about to make the FIFOs of `config`."""
        defs = config.global_defs
        for fifo in (defs.notify_fifo, defs.vrrp_notify_fifo, defs.lvs_notify_fifo):
            if fifo is not None and fifo.path not in self._known:
                self._known.add(fifo.path)
                if not os.path.lexists(fifo.path):
                    self._new[fifo.path] = fifo

    def remove(self) -> None:
        """The workers are gone."""
        for path, fifo in self._new.items():
            with contextlib.suppress(OSError):
                found = os.stat(path, follow_symlinks=False)
                if stat.S_ISFIFO(found.st_mode) and found.st_uid in (os.geteuid(), fifo.uid):
                    os.unlink(path)

"""Puts kernel settings back that somebody else changed while VRRP needs them as they are."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from keepalived_py.clock import now
from keepalived_py.inotify import IN_MODIFY, Inotify
from workers.losses import Losses, count_loss

from .sysctl import Sysctls

logger = logging.getLogger(__name__)


class SettingKeeper:
    """Follows every setting that `sysctls` makes. The kernel tells of none, but their files are written to.

    One that was changed more than `limit` times in a row is left as it is. Writes through another mount of /proc (in
    a container beside this one) are not seen.
    """

    def __init__(self, sysctls: Sysctls) -> None:
        self.limit = 0
        self.restored = 0
        self._sysctls = sysctls
        self._losses: Losses = {}
        self._inotify: Inotify | None = None
        self._names: dict[int, str] = {}
        self._watches: dict[str, int] = {}
        self._refused = False
        sysctls.made = self._watch

    def _watch(self, name: str) -> None:
        """Follow the setting of that name; that of an interface which was made again has a file of its own."""
        if self._refused:
            return
        try:
            if self._inotify is None:
                self._inotify = Inotify()
                asyncio.get_running_loop().add_reader(self._inotify.descriptor, self._changed)
            wd = self._inotify.watch(str(self._sysctls.path(name)), IN_MODIFY)
        except OSError as exc:
            self._refused = True
            logger.warning("changes of kernel settings by others cannot be seen: %s", exc.strerror)
            return
        known = self._watches.get(name)
        if known is not None and known != wd:
            self._forget(name, known)
        self._watches[name], self._names[wd] = wd, name

    def _forget(self, name: str, wd: int) -> None:
        self._watches.pop(name, None)
        self._names.pop(wd, None)
        if self._inotify is not None:
            with contextlib.suppress(OSError):  # the kernel may have forgotten it with the file
                self._inotify.forget(wd)

    def _changed(self) -> None:
        if self._inotify is None:
            return
        for name in {self._names[wd]: None for wd, _, _ in self._inotify.events() if wd in self._names}:
            wanted, found = self._sysctls.wanted.get(name), self._sysctls.get(name)
            if wanted is None or found is None:
                self._forget(name, self._watches[name])
            elif found != wanted:
                self._put_back(name, wanted, found)

    def _put_back(self, name: str, wanted: str, found: str) -> None:
        shown = name.replace("/", ".")
        times = count_loss(self._losses, name, now())
        if times > self.limit:
            logger.warning("net.%s was set to %s by somebody else and stays so", shown, found)
            return
        logger.warning("net.%s was set to %s by somebody else and is put back to %s", shown, found, wanted)
        self.restored += 1
        self._sysctls.write(name, wanted)

    def stop(self) -> None:
        """Follow nothing any more."""
        self._names.clear()
        self._watches.clear()
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.descriptor)
            self._inotify.close()
            self._inotify = None

"""Dumps are written by processes of their own.

Neither the text about a thousand instances nor a disk that hangs makes an advert late.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import signal
from collections.abc import Callable

from . import dumpfile

logger = logging.getLogger(__name__)

MOST = 4
"""At the same time: where the disk hangs they all wait for it."""
POLL = 0.05
"""Seconds between two looks whether they have ended."""
INTERNAL_ERROR = 255


class DumpProcesses:
    """Each writes one file, from what this process knew when it was asked. A failure is logged.

    `later` calls a function after so many seconds; without it somebody tells of every process that has `ended`.
    """

    def __init__(self, later: Callable[[float, Callable[[], None]], object] | None = None) -> None:
        self._later = later
        self._running: dict[int, str] = {}
        """Paths by process."""

    def put(self, path: str, text: Callable[[], str], *, brief: bool) -> None:
        """Have `text` put into the file `path`. A brief one is made here and now.

        To a new process every page that it writes to is a fault, so that it takes ten times as long.
        """
        ready = _made(text) if brief else text
        self.run(path, lambda: dumpfile.put(path, ready()))

    def run(self, path: str, write: Callable[[], None]) -> None:
        """Have `write` write the file `path`. It may raise OSError, must not log, and has no descriptor of ours.

        Without a further process it is done here: that is better than no dump.
        """
        if len(self._running) >= MOST:
            logger.error("%s: %d dumps wait for a disk", path, MOST)
            return
        # its signals would be heard by our loop, whose descriptor for them it has for a moment
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                _live(write)
        except OSError:
            _told(path, _error_of(write))
            return
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._running[pid] = path
        if self._later is not None:
            self._later(POLL, self._look)

    def ended(self, pid: int, code: int) -> bool:
        """Whether the process that was collected is one of these."""
        path = self._running.pop(pid, None)
        if path is None:
            return False
        _told(path, code)
        return True

    def _look(self) -> None:
        for pid in list(self._running):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                self.ended(pid, os.waitstatus_to_exitcode(status))
        if self._running and self._later is not None:
            self._later(POLL, self._look)


def _made(text: Callable[[], str]) -> Callable[[], str]:
    """The same, made already. A mistake in it is left to the other process, which may end of it."""
    try:
        made = text()
    except Exception:
        return text
    return lambda: made


def _live(write: Callable[[], None]) -> None:
    """The whole life of a process."""
    code = INTERNAL_ERROR
    try:
        gc.disable()
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # nobody must take this process for ours, whose end it would hide
        code = _error_of(write)
    finally:
        os._exit(code)


def _error_of(write: Callable[[], None]) -> int:
    """The errno of what went wrong, or 0."""
    try:
        write()
    except OSError as exc:
        return exc.errno or errno.EIO
    return 0


def _told(path: str, code: int) -> None:
    """Log what `code` means, unless all went well."""
    if code < 0:
        logger.error("%s: the process that wrote it died of signal %d", path, -code)
    elif code:
        logger.error("%s: %s", path, "internal error" if code == INTERNAL_ERROR else os.strerror(code))

"""Pid files: mode 0644, no link followed, held under an open-file-description lock (cli-and-signals.md 5)."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from contextlib import suppress

from keepalived_py.records import dataclass

RUN = "/run"
DIRECTORY = "/run/keepalived"
_LOCK = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


class AlreadyRunning(Exception):
    """Another process holds the lock."""


@dataclass(slots=True)
class PidFile:
    """One pid file. The lock lives as long as the descriptor, in whichever process has it."""

    path: str
    _descriptor: int = -1

    def acquire(self) -> None:
        """Open and lock the file. Raises AlreadyRunning, or OSError when it cannot be written."""
        directory = os.path.dirname(self.path) or "."
        if not os.path.isdir(directory):
            os.makedirs(directory)
            os.chmod(directory, 0o755)  # whatever the umask is
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self.path, flags, 0o644)
        os.fchmod(self._descriptor, 0o644)
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, _LOCK)
        except OSError as exc:
            os.close(self._descriptor)
            self._descriptor = -1
            if exc.errno in (errno.EACCES, errno.EAGAIN):
                raise AlreadyRunning(self.path) from exc
            raise

    def write(self, pid: int) -> None:
        """Put `pid` into the file; opens it first where that has not been done."""
        if self._descriptor < 0:
            self.acquire()
        # cut after it was written: whoever reads meanwhile never finds nothing
        os.ftruncate(self._descriptor, os.pwrite(self._descriptor, f"{pid}\n".encode(), 0))

    def remove(self) -> None:
        """Delete the file if it is ours, and keepalived's directory when it is empty."""
        if self._descriptor < 0:
            return
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass
        finally:
            os.close(self._descriptor)
            self._descriptor = -1
        if os.path.dirname(self.path) == DIRECTORY:
            with suppress(OSError):
                os.rmdir(DIRECTORY)

    def discard(self) -> None:
        """Delete what a process left that is gone: its number belongs to another one some day."""
        if os.path.lexists(self.path):
            with suppress(AlreadyRunning, OSError):
                self.acquire()
                self.remove()


def default_path(name: str, instance: str, use_directory: bool) -> str:
    """Where the pid file called `name` is: /run, or /run/keepalived with an instance or use_pid_dir."""
    directory = DIRECTORY if use_directory or instance else RUN
    return f"{directory}/{name}{'_' + instance if instance else ''}.pid"

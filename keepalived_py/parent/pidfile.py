"""Pid files: mode 0644, no link followed, held under an open-file-description lock (cli-and-signals.md 5)."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from contextlib import suppress

from keepalived_py.dumpfile import make_directories
from keepalived_py.records import dataclass

RUN = "/run"
DIRECTORY = "/run/keepalived"
_FLOCK = struct.Struct("hhqqi4x")
_LOCK = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class AlreadyRunning(OSError):
    """Another process holds the lock."""


@dataclass(slots=True)
class PidFile:
    """One pid file. The lock lives as long as the descriptor, in whichever process has it."""

    path: str
    _descriptor: int = -1

    def acquire(self) -> None:
        """Open and lock the file. Raises AlreadyRunning, or another OSError when it cannot be written."""
        directory = os.path.dirname(self.path)
        if directory:
            make_directories(directory, 0o755)
        while not self.is_ours:  # whoever had it may have removed it between the opening and the lock
            self._close()
            self._descriptor = _locked(self.path)

    @property
    def is_ours(self) -> bool:
        """Whether the file at the path is the one that this object has open."""
        if self._descriptor < 0:
            return False
        with suppress(FileNotFoundError):
            return os.path.samestat(os.lstat(self.path), os.fstat(self._descriptor))
        return False

    @property
    def held_by_another(self) -> bool:
        """Whether there is such a file and another daemon has the lock."""
        if self._descriptor >= 0:
            return False
        try:
            descriptor = os.open(self.path, _FLAGS)
        except OSError:
            return False
        try:
            found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _LOCK)
        finally:
            os.close(descriptor)
        return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)

    def write(self, pid: int) -> None:
        """Put `pid` into the file, opened if it is not yet. Raises OSError, and leaves no file."""
        if self._descriptor < 0:
            self.acquire()
        try:
            # cut after it was written: whoever reads meanwhile never finds nothing
            os.ftruncate(self._descriptor, os.pwrite(self._descriptor, f"{pid}\n".encode(), 0))
        except OSError:
            self.remove()
            raise

    def remove(self) -> None:
        """Delete the file if it is ours, and keepalived's directory when it is empty."""
        if self._descriptor < 0:
            return
        with suppress(OSError):
            if self.is_ours:
                os.unlink(self.path)
        self._close()
        if os.path.dirname(self.path) == DIRECTORY:
            with suppress(OSError):
                os.rmdir(DIRECTORY)

    def discard(self) -> None:
        """Delete what a process left that is gone: its number belongs to another one some day."""
        if os.path.lexists(self.path):
            with suppress(OSError):
                self.acquire()
                self.remove()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _locked(path: str) -> int:
    """A descriptor of the file, made if it is missing, with the lock. Raises AlreadyRunning or another OSError."""
    descriptor = os.open(path, _FLAGS | os.O_CREAT, 0o644)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _LOCK)
        os.fchmod(descriptor, 0o644)
    except OSError as exc:
        os.close(descriptor)
        if exc.errno in (errno.EACCES, errno.EAGAIN):
            raise AlreadyRunning(exc.errno, "is locked by another process", path) from exc
        raise
    return descriptor


def default_path(name: str, instance: str, use_directory: bool) -> str:
    """Where the pid file called `name` is: /run, or /run/keepalived with an instance or use_pid_dir."""
    directory = DIRECTORY if use_directory or instance else RUN
    return f"{directory}/{name}{'_' + instance if instance else ''}.pid"

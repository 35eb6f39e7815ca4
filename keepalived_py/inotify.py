"""inotify(7): watches of directories and files, and what happened in them."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator

IN_MODIFY, IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x2, 0x8, 0x40, 0x80, 0x100, 0x200
IN_DELETE_SELF, IN_MOVE_SELF, IN_Q_OVERFLOW = 0x400, 0x800, 0x4000
IN_ONLYDIR = 0x01000000
CONTENT = IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE
"""After these the file is read. A file that was only created is still being written."""
MASK = CONTENT | IN_CREATE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR
LACKING = {
    errno.EMFILE: f"{os.strerror(errno.EMFILE)}, or more than fs.inotify.max_user_instances",
    errno.ENOSPC: "more than fs.inotify.max_user_watches",
}
BUFFER_SIZE = 65536
_HEAD = struct.Struct("=iIII")
_LIBC = ctypes.CDLL(None, use_errno=True)


class Inotify:
    """One descriptor, non-blocking. Every method raises OSError with the kernel's reason."""

    def __init__(self) -> None:
        self.descriptor: int = _checked(_LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def watch(self, path: str, mask: int = MASK) -> int:
        """Watch a directory, or with another `mask` a file; the number that its events carry."""
        return _checked(_LIBC.inotify_add_watch(self.descriptor, os.fsencode(path), mask))

    def forget(self, wd: int) -> None:
        _checked(_LIBC.inotify_rm_watch(self.descriptor, wd))

    def events(self) -> list[tuple[int, int, str]]:
        """Watch, mask and name of everything that happened since; nothing when nothing did."""
        try:
            return list(_unpacked(os.read(self.descriptor, BUFFER_SIZE)))
        except BlockingIOError:
            return []

    def close(self) -> None:
        os.close(self.descriptor)


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, LACKING.get(code) or os.strerror(code))
    return result


def _unpacked(data: bytes) -> Iterator[tuple[int, int, str]]:
    at = 0
    while at < len(data):
        wd, mask, _, size = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        yield wd, mask, os.fsdecode(data[at : at + size].rstrip(b"\0"))
        at += size

"""track_file: the numbers in files, kept current by inotify (vrrp-behaviour.md 6). Nothing is polled."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from keepalived_py.config.model import TrackFile
from keepalived_py.vrrp.tracking import FILE_BYTES, file_content

logger = logging.getLogger(__name__)

IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x8, 0x40, 0x80, 0x100, 0x200
IN_DELETE_SELF, IN_MOVE_SELF, IN_Q_OVERFLOW = 0x400, 0x800, 0x4000
IN_ONLYDIR = 0x01000000
IN_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
CONTENT = IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE
"""After these the file is read. A file that was only created is still being written."""
MASK = CONTENT | IN_CREATE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR
HEAD = struct.Struct("=iIII")
BUFFER_SIZE = 65536
TRIES = 10
"""How often a directory that comes and goes meanwhile is looked for again."""
NOT_WATCHED = -1


@dataclass(slots=True)
class _Watched:
    """One file. `wd` is the watch of its directory, or of the nearest parent that exists; `entry` the name in there."""

    config: TrackFile
    wd: int = NOT_WATCHED
    entry: str = ""
    value: int = 0


class FileWatcher:
    """Values of all files given to `apply`; `changed` hears the name of one whose value is another now."""

    def __init__(self, changed: Callable[[str], None]) -> None:
        self._changed = changed
        self._files: dict[str, _Watched] = {}
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._inotify = NOT_WATCHED
        self._watches: set[int] = set()
        self._refused: set[str] = set()

    def value(self, name: str) -> int:
        """The number in the file, 0 without one or when nothing of that name is watched."""
        watched = self._files.get(name)
        return watched.value if watched is not None else 0

    def apply(self, files: Iterable[TrackFile]) -> None:
        """Watch exactly `files` from now on. Those on the same path keep their value; new ones are read at once.

        Nobody is told of first values.
        """
        wanted = {config.name: config for config in files}
        self._files = {name: each for name, each in self._files.items() if name in wanted}
        if wanted and self._inotify < 0:
            self._open()
        for name, config in wanted.items():
            known = self._files.get(name)
            if known is not None and known.config.file == config.file:
                known.config = config
                continue
            watched = self._files[name] = _Watched(config)
            self._place(watched)
            self._read(watched)
        self._forget_unused()
        if not wanted:
            self.stop()

    def stop(self) -> None:
        """Watch nothing any more; may be called twice."""
        self._files.clear()
        if self._inotify >= 0:
            asyncio.get_running_loop().remove_reader(self._inotify)
            os.close(self._inotify)
            self._inotify = NOT_WATCHED

    def _open(self) -> None:
        self._inotify = self._libc.inotify_init1(IN_FLAGS)
        if self._inotify < 0:
            logger.error("Changes of tracked files cannot be seen: %s", os.strerror(ctypes.get_errno()))
            return
        self._watches.clear()
        asyncio.get_running_loop().add_reader(self._inotify, self._readable)

    # where ------------------------------------------------------------------------------------------------------------

    def _place(self, watched: _Watched) -> bool:
        """Watch where the file is, or where it will begin to exist; True when that is elsewhere than before."""
        before = (watched.wd, watched.entry)
        for _ in range(TRIES):
            directory, entry = _nearest(watched.config.file)
            watched.wd, watched.entry = self._add(directory), entry
            if (directory, entry) == _nearest(watched.config.file):
                break  # else it came or went between looking and watching
        return (watched.wd, watched.entry) != before

    def _add(self, directory: str) -> int:
        if self._inotify < 0:
            return NOT_WATCHED
        wd: int = self._libc.inotify_add_watch(self._inotify, os.fsencode(directory), MASK)
        if wd >= 0:
            self._watches.add(wd)
            self._refused.discard(directory)
        elif directory not in self._refused and os.path.isdir(directory):
            self._refused.add(directory)
            logger.error("Changes of files in %s cannot be seen: %s", directory, os.strerror(ctypes.get_errno()))
        return wd

    def _forget_unused(self) -> None:
        used = {watched.wd for watched in self._files.values()}
        if self._inotify >= 0:
            for wd in self._watches - used:
                self._libc.inotify_rm_watch(self._inotify, wd)  # fails for a directory that is gone, which is well
            self._watches &= used

    # what -------------------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        """Read each file that something happened to once, however often it happened."""
        moved: dict[str, bool] = {}
        try:
            data = os.read(self._inotify, BUFFER_SIZE)
        except BlockingIOError:
            return
        for wd, mask, entry in _events(data):
            for name, watched in self._files.items():
                everywhere = mask & IN_Q_OVERFLOW or (wd == watched.wd and mask & (IN_DELETE_SELF | IN_MOVE_SELF))
                if everywhere or (wd == watched.wd and entry == watched.entry):
                    moved[name] = moved.get(name, False) or bool(everywhere or mask & CONTENT)
        for name, content in moved.items():
            known = self._files.get(name)
            if known is not None and (self._place(known) or content) and self._read(known):
                self._changed(name)
        self._forget_unused()

    def _read(self, watched: _Watched) -> bool:
        """Take the number in the file; True when it is another."""
        content = file_content(_start_of(watched.config.file))
        if content is None:
            logger.warning("track_file %s: the number is outside 32 bits, still %d", watched.config.name, watched.value)
            return False
        before, watched.value = watched.value, content
        return content != before


def create_files(files: Iterable[TrackFile]) -> None:
    """init_file: write the first value where the file does not exist or may be overwritten. For the start only."""
    for config in files:
        if config.init_value is None or (os.path.exists(config.file) and not config.init_overwrite):
            continue
        try:
            with open(config.file, "w") as file:
                file.write(f"{config.init_value}\n")
        except OSError as exc:
            logger.error("track_file %s: %s cannot be written: %s", config.name, config.file, exc.strerror)


def _nearest(path: str) -> tuple[str, str]:
    """The directory of the resolved path, or its nearest parent that exists, and the name in it on the way."""
    directory, entry = os.path.split(os.path.realpath(path))
    while not os.path.isdir(directory):
        directory, entry = os.path.split(directory)
    return directory, entry


def _start_of(path: str) -> bytes:
    """What counts of a file; nothing when it cannot be read. Never waits, not even for a FIFO."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, FILE_BYTES)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _events(data: bytes) -> Iterable[tuple[int, int, str]]:
    """Watch, mask and name of each event (inotify(7))."""
    at = 0
    while at < len(data):
        wd, mask, _, size = HEAD.unpack_from(data, at)
        at += HEAD.size
        yield wd, mask, os.fsdecode(data[at : at + size].rstrip(b"\0"))
        at += size

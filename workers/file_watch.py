"""track_file: the numbers in files, kept current by inotify (vrrp-behaviour.md 6).

Nothing is polled but what the kernel will not watch: in containers others may have used up what it grants a user.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterable

from keepalived_py.config.model import TrackFile
from keepalived_py.inotify import CONTENT, IN_DELETE_SELF, IN_MOVE_SELF, IN_Q_OVERFLOW, Inotify
from keepalived_py.records import dataclass
from keepalived_py.vrrp.tracking import FILE_BYTES, file_content

from .shortages import SHORTAGES
from .small_file import read_start

logger = logging.getLogger(__name__)

TRIES = 10
"""How often a directory that comes and goes meanwhile is looked for again."""
NOT_WATCHED = -1
AGAIN = 1.0
"""Seconds between two looks at what cannot be watched, or could not be read for want of something."""


@dataclass(slots=True)
class _Watched:
    """One file. `wd` is the watch of its directory, or of the nearest parent that exists; `entry` the name in there."""

    config: TrackFile
    wd: int = NOT_WATCHED
    entry: str = ""
    value: int = 0
    unread: bool = False
    """It may hold another number: it could not be read."""


class FileWatcher:
    """Values of all files given to `apply`; `changed` hears the name of one whose value is another now."""

    def __init__(self, changed: Callable[[str], None]) -> None:
        self._changed = changed
        self._files: dict[str, _Watched] = {}
        self._inotify: Inotify | None = None
        self._watches: set[int] = set()
        self._refused = False
        self._timer: asyncio.TimerHandle | None = None

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
        if wanted and self._inotify is None:
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
        self._look_later()
        if not wanted:
            self.stop()

    def stop(self) -> None:
        """Watch nothing any more; may be called twice."""
        self._files.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.descriptor)
            self._inotify.close()
            self._inotify = None

    def _open(self) -> None:
        try:
            self._inotify = Inotify()
        except OSError as exc:
            self._tell("Tracked files", exc)
            return
        self._watches.clear()
        asyncio.get_running_loop().add_reader(self._inotify.descriptor, self._readable)

    def _tell(self, what: str, exc: OSError) -> None:
        if not self._refused:
            self._refused = True
            logger.error("%s cannot be watched, only read again and again: %s", what, exc.strerror)

    def _look_later(self) -> None:
        left = [each for each in self._files.values() if each.wd == NOT_WATCHED or each.unread]
        if left and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(AGAIN, self._look)
        if self._refused and not any(each.wd == NOT_WATCHED for each in left):
            self._refused = False
            logger.info("Tracked files are watched again")

    def _look(self) -> None:
        """At what no notice comes of."""
        self._timer = None
        if self._inotify is None:
            self._open()
        for name, watched in list(self._files.items()):
            if self._files.get(name) is watched and (watched.wd == NOT_WATCHED or watched.unread):
                self._place(watched)
                if self._read(watched):
                    self._changed(name)
        self._look_later()

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
        if self._inotify is None:
            return NOT_WATCHED
        try:
            wd = self._inotify.watch(directory)
        except OSError as exc:
            if os.path.isdir(directory):
                self._tell(f"Files in {directory}", exc)
            return NOT_WATCHED
        self._watches.add(wd)
        return wd

    def _forget_unused(self) -> None:
        used = {watched.wd for watched in self._files.values()}
        if self._inotify is not None:
            for wd in self._watches - used:
                with contextlib.suppress(OSError):  # fails for a directory that is gone, which is well
                    self._inotify.forget(wd)
            self._watches &= used

    # what -------------------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        """Read each file that something happened to once, however often it happened."""
        assert self._inotify is not None
        moved: dict[str, bool] = {}
        for wd, mask, entry in self._inotify.events():
            for name, watched in self._files.items():
                everywhere = mask & IN_Q_OVERFLOW or (wd == watched.wd and mask & (IN_DELETE_SELF | IN_MOVE_SELF))
                if everywhere or (wd == watched.wd and entry == watched.entry):
                    moved[name] = moved.get(name, False) or bool(everywhere or mask & CONTENT)
        for name, content in moved.items():
            known = self._files.get(name)
            if known is not None and (self._place(known) or content) and self._read(known):
                self._changed(name)
        self._forget_unused()
        self._look_later()

    def _read(self, watched: _Watched) -> bool:
        """Take the number in the file; True when it is another."""
        start = _start_of(watched.config.file)
        watched.unread = start is None
        if start is None:
            return False
        content = file_content(start)
        if content is None:
            logger.warning("track_file %s: the number is outside 32 bits, still %d", watched.config.name, watched.value)
            return False
        before, watched.value = watched.value, content
        return content != before


def create_files(files: Iterable[TrackFile]) -> None:
    """init_file: write the first value where the file does not exist or may be overwritten. For the start only."""
    for config in files:
        there = os.path.exists(config.file)
        if config.init_value is None or (there and not config.init_overwrite):
            continue
        try:
            with open(_writable(config.file, new=not there), "w") as file:
                file.write(f"{config.init_value}\n")
        except OSError as exc:
            logger.error("track_file %s: %s cannot be written: %s", config.name, config.file, exc.strerror)


def _writable(path: str, new: bool) -> int:
    """A descriptor of the file, emptied. A new one is not made where a link points; a FIFO is not waited for."""
    how = os.O_CREAT | os.O_EXCL if new else os.O_TRUNC
    return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | how, 0o666)


def _nearest(path: str) -> tuple[str, str]:
    """The directory of the resolved path, or its nearest parent that exists, and the name in it on the way."""
    directory, entry = os.path.split(os.path.realpath(path))
    while not os.path.isdir(directory):
        directory, entry = os.path.split(directory)
    return directory, entry


def _start_of(path: str) -> bytes | None:
    """What counts of a file, nothing when it cannot be read; None where that says nothing about the file."""
    try:
        return read_start(path, FILE_BYTES)
    except OSError as exc:
        return None if exc.errno in SHORTAGES else b""

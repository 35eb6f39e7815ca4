"""The files around a reload: the one that says when, and the one that exists meanwhile (config-language.md 10)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from keepalived_py.config.model import GlobalDefs, ReloadSettings
from keepalived_py.inotify import CONTENT, IN_DELETE_SELF, IN_MOVE_SELF, IN_Q_OVERFLOW, Inotify
from keepalived_py.records import dataclass

from .pidfile import DIRECTORY, RUN

logger = logging.getLogger(__name__)

LOOK_AGAIN = 60.0
"""Longest wait in seconds, since the clock of the day may be set meanwhile."""
LOOK_FOR_DIRECTORY = 1.0
"""Seconds between two tries to watch a directory that is not there."""
SIZE_LIMIT = 64
_FORM = re.compile(r"(?:(\d{2}|\d{4})-(\d{1,2})-(\d{1,2}) )?(\d{1,2}):(\d{2}):(\d{2})(Z?)\n?")


class BadTime(Exception):
    """The text is no time to come; the message says why."""


@dataclass(frozen=True, slots=True)
class ReloadTime:
    """When to reload, in seconds since 1970."""

    at: float
    dated: bool


def parse_time(text: str, now: float) -> ReloadTime:
    """`[[YY]YY-MM-DD ]HH:MM:SS[Z]`, Z for UTC, else local time; without a date the next occurrence. Raises BadTime."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise BadTime(f"'{text.strip()}' is not [[YY]YY-MM-DD ]HH:MM:SS[Z]")
    zone = UTC if found[7] else None
    today = datetime.fromtimestamp(now, zone)
    year, month, day = (
        (int(each) for each in found.group(1, 2, 3)) if found[1] else (today.year, today.month, today.day)
    )
    year += 2000 if year < 100 else 0
    try:
        when = datetime(year, month, day, int(found[4]), int(found[5]), int(found[6]), tzinfo=zone)
        if found[1] is None and when.timestamp() <= now:
            when += timedelta(days=1)
        at = when.timestamp()
    except ValueError as exc:  # there is no such day, or the calendar ends before
        raise BadTime(f"'{text.strip()}': {exc}") from exc
    if at <= now:
        raise BadTime(f"'{text.strip()}' has passed")
    return ReloadTime(at, found[1] is not None)


class ReloadClock:
    """reload_time_file: watched, and `reload` is called when its time has come."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, reload: Callable[[], None], clock: Callable[[], float] = time.time
    ) -> None:
        self._loop, self._reload, self._clock = loop, reload, clock
        self._path, self._repeat = "", False
        self._inotify: Inotify | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._search: asyncio.TimerHandle | None = None
        """While there is no directory to watch."""
        self.due: ReloadTime | None = None

    def apply(self, settings: ReloadSettings) -> None:
        """Watch the file that `settings` name, or none."""
        self._repeat = settings.repeat
        if settings.time_file == self._path:
            return
        self.close()
        self._path = settings.time_file
        if self._path:
            self._watch()
            self._read()

    def close(self) -> None:
        """Watch nothing and reload never."""
        self._cancel()
        self._path = ""
        self._stop_watching()

    def _watch(self) -> bool:
        """Watch the directory, or look for it again in a moment; whether it is there."""
        searching = self._search is not None
        self._stop_watching()
        try:
            self._inotify = Inotify()
            self._inotify.watch(os.path.dirname(self._path))
        except OSError as exc:
            if not searching:
                logger.error("reload_time_file %s cannot be watched: %s", self._path, exc.strerror)
            self._search = self._loop.call_later(LOOK_FOR_DIRECTORY, self._look_for_directory)
            return False
        self._loop.add_reader(self._inotify.descriptor, self._happened)
        return True

    def _look_for_directory(self) -> None:
        if self._watch():
            self._read()

    def _stop_watching(self) -> None:
        if self._search is not None:
            self._search.cancel()
            self._search = None
        if self._inotify is not None:
            self._loop.remove_reader(self._inotify.descriptor)
            self._inotify.close()
            self._inotify = None

    def _happened(self) -> None:
        assert self._inotify is not None
        name, seen = os.path.basename(self._path), self._inotify.events()
        if any(mask & (IN_DELETE_SELF | IN_MOVE_SELF) for _, mask, _ in seen):
            self._watch()
            self._read()
        elif any(mask & IN_Q_OVERFLOW or (mask & CONTENT and entry == name) for _, mask, entry in seen):
            self._read()

    def _read(self) -> None:
        """What the file says counts from now on; without a file, or with nonsense in it, nothing is planned."""
        pending = self.due is not None
        self._cancel()
        try:
            text = _start_of(self._path)
        except FileNotFoundError:
            if pending:
                logger.info("Reload is no longer planned")
            return
        except OSError as exc:
            logger.error("reload_time_file %s: %s", self._path, exc.strerror)
            return
        try:
            self.due = parse_time(text, self._clock())
        except BadTime as exc:
            logger.error("reload_time_file %s: %s", self._path, exc)
            return
        logger.info("Reload is planned for %s", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.due.at)))
        self._arm()

    def _arm(self) -> None:
        assert self.due is not None
        self._timer = self._loop.call_later(min(LOOK_AGAIN, max(0.0, self.due.at - self._clock())), self._look)

    def _look(self) -> None:
        assert self.due is not None
        if self._clock() < self.due.at:
            self._arm()
            return
        keep = self._repeat and not self.due.dated
        self._cancel()
        if keep:
            self._read()
        else:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        logger.info("The time in %s has come", self._path)
        self._reload()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.due = None


def _start_of(path: str) -> str:
    """What counts of a file, whatever it is: never waits. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(descriptor, SIZE_LIMIT).decode("utf-8", "replace")
    finally:
        os.close(descriptor)


def reload_file(defs: GlobalDefs) -> str:
    """The path of reload_file, "" without one."""
    path = defs.reload.file
    if path is None or path:
        return path or ""
    root = defs.root
    directory = DIRECTORY if root.use_pid_dir or root.instance or root.net_namespace else RUN
    return f"{directory}/keepalived{'_' + root.instance if root.instance else ''}.reload"


def create(path: str) -> None:
    """Mode 0644, empty. A failure is logged: it must not keep anybody from reading the configuration."""
    if not path:
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        os.fchmod(descriptor, 0o644)
        os.close(descriptor)
    except OSError as exc:
        logger.error("reload_file %s: %s", path, exc.strerror)


def remove(path: str) -> None:
    """The reading is over, or this is a start and the file was left by another one."""
    if path:
        with contextlib.suppress(OSError):
            os.unlink(path)

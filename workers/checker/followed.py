"""What some checkers follow instead of looking for themselves: files and BFD sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from keepalived_py.config.model import BfdCheck, Check, CheckerSlice, FileCheck, TrackFile
from workers.file_watch import FileWatcher

from .bfd import BfdChecker, BfdSessions
from .file import FileChecker
from .probe import Checker, CheckFailed, Result
from .task import CheckerTask

FollowedCheck = FileCheck | BfdCheck


class Followed:
    """Files and sessions. `changed` hears that a checker's subject is another now: its type and its name."""

    def __init__(self, changed: Callable[[type[FollowedCheck], str], None]) -> None:
        self.files = FileWatcher(lambda name: changed(FileCheck, name))
        self.sessions = BfdSessions(lambda name: changed(BfdCheck, name))

    def apply(self, config: CheckerSlice) -> None:
        """Follow the files that a FILE_CHECK names; the daemon has written first values before. Raises OSError."""
        names = _followed(config)
        self.files.apply(file for file in config.track_files if file.name in names)

    def checker(self, config: FollowedCheck) -> Checker:
        if isinstance(config, FileCheck):
            return FileChecker(config, self.files.value)
        return BfdChecker(config, self.sessions.up)

    def values(self, config: CheckerSlice) -> list[tuple[TrackFile, int]]:
        """The files that are followed, and the numbers in them."""
        names = _followed(config)
        return [(file, self.files.value(file.name)) for file in config.track_files if file.name in names]

    def stop(self) -> None:
        self.files.stop()


def follows(task: CheckerTask, kind: type[FollowedCheck], name: str) -> bool:
    """Whether a task's checker follows the `kind` of thing called `name`."""
    config = task.config
    subject = config.track_file if isinstance(config, FileCheck) else getattr(config, "name", None)
    return isinstance(config, kind) and subject == name


def judge(task: CheckerTask) -> Result | None:
    """What a followed subject says now; None for a checker that has to look for itself."""
    checker = task.checker
    if not isinstance(checker, FileChecker | BfdChecker):
        return None
    try:
        return Result(points=checker.judge())
    except CheckFailed as failure:
        return Result(str(failure))


def _followed(config: CheckerSlice) -> set[str]:
    """Names of the files that a FILE_CHECK names."""
    return {check.track_file for check in _checks(config) if isinstance(check, FileCheck)}


def _checks(config: CheckerSlice) -> Iterable[Check]:
    return (check for server in config.checker.virtual_servers for real in server.real_servers for check in real.checks)

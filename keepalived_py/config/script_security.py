"""What is decided about a script before it may run: whether it can, and who else could change it.

Source: vrrp-behaviour.md 9.2. Nothing is opened, run or changed here, and what follows from a verdict is decided
elsewhere: INSECURE keeps a script from running only under enable_script_security, every other fault always does.
Only mode bits count: access lists, capabilities and mount options are not looked at.
"""

from __future__ import annotations

import errno
import grp
import os
import posixpath
import pwd
import stat
from collections.abc import Callable, Iterator
from enum import Enum
from typing import TypeVar

from keepalived_py.records import dataclass

from .model.common import Script

MAX_LINKS = 40
"""Symbolic links that Linux follows in one path (path_resolution(7))."""

_READ, _WRITE, _EXECUTE = 4, 2, 1
_ROOT = 0

_T = TypeVar("_T")


class Kind(Enum):
    """What is wrong with a script."""

    OK = "ok"
    MISSING = "missing"
    NOT_EXECUTABLE = "not executable"
    """For the user it runs as; of `</path` scripts: not readable."""
    WRONG_TYPE = "wrong type"
    INSECURE = "insecure"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision about one script. All but `kind` and `path` are empty when it is OK."""

    kind: Kind
    component: str = ""
    """The path at fault: the script itself, a directory or a link on the way to it; a command that is in no directory
    of PATH."""
    owner: str = ""
    """Name, else number, of the component's owner; empty when the component is not there."""
    mode: str = ""
    """Permission bits like 0775."""
    why: str = ""
    path: str = ""
    """Absolute path to execute, or to read; empty unless OK or INSECURE."""


@dataclass(frozen=True, slots=True)
class Files:
    """Access to the file system; tests put other owners and errors in. Both may raise OSError and ValueError."""

    lstat: Callable[[str], os.stat_result] = os.lstat
    readlink: Callable[[str], str] = os.readlink


@dataclass(frozen=True, slots=True)
class _Place:
    path: str
    status: os.stat_result

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.status.st_mode)

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)


class _Fault(Exception):
    """What is wrong with `path`, in words that follow it; without a status it could not be looked at."""

    def __init__(self, kind: Kind, path: str, text: str, status: os.stat_result | None = None) -> None:
        super().__init__(text)
        self.kind, self.path, self.text, self.status = kind, path, text, status

    def verdict(self, path: str = "") -> Verdict:
        name = repr(self.path)  # whoever named it may have put line ends or terminal controls in
        if self.status is None:
            return Verdict(self.kind, self.path, why=f"{name} {self.text}")
        owner = _user_name(self.status.st_uid)
        mode = f"{stat.S_IMODE(self.status.st_mode):04o}"
        why = f"{name} {self.text} (owner {owner}, mode {mode})"
        return Verdict(self.kind, self.path, owner, mode, why, path)


@dataclass(frozen=True, slots=True)
class _User:
    """Numbers a script runs under."""

    uid: int
    gid: int
    groups: tuple[int, ...]

    def may(self, wanted: int, status: os.stat_result) -> bool:
        """Whether the mode bits grant `wanted`; only the first class that fits counts, as in path_resolution(7)."""
        mode = status.st_mode
        if self.uid == _ROOT:
            return wanted != _EXECUTE or stat.S_ISDIR(mode) or bool(mode & 0o111)
        if self.uid == status.st_uid:
            return bool(mode & wanted << 6)
        if status.st_gid == self.gid or status.st_gid in self.groups:
            return bool(mode & wanted << 3)
        return bool(mode & wanted)


class _Tree:
    """The file system as it was when first looked at. Errors are kept as numbers."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._statuses: dict[str, os.stat_result | int] = {}
        self._targets: dict[str, str | int] = {}

    def status(self, path: str) -> os.stat_result | int:
        return _remember(self._statuses, self._files.lstat, path)

    def target(self, path: str) -> str | int:
        return _remember(self._targets, self._files.readlink, path)


def _remember(known: dict[str, _T | int], call: Callable[[str], _T], path: str) -> _T | int:
    """The result of `call`, asked once; or the errno."""
    if path not in known:
        try:
            known[path] = call(path)
        except OSError as exc:
            known[path] = exc.errno or errno.EIO
        except ValueError:  # a NUL, or a character that file names cannot have
            known[path] = errno.EINVAL
    return known[path]


class _Walk:
    """One path, followed name by name as the kernel does, for one user."""

    def __init__(self, tree: _Tree, user: _User) -> None:
        self._tree = tree
        self._user = user
        self._stack: list[_Place] = []  # the resolved path so far
        self._links = 0
        self.seen: list[_Place] = []
        """Every component in the order met: of the given path, of links on the way, of the resolved path."""
        self.closed: _Place | None = None
        """The first directory that the user may not enter."""
        self.inner_link: _Place | None = None
        """The first link that is a directory of the given path."""

    def follow(self, path: str) -> _Place:
        """The file that an absolute path leads to. Raises _Fault."""
        pending = _names(path)[::-1]
        while pending:
            name = pending.pop()
            if name == "/":
                self._stack.clear()
            else:
                self._enter(self._stack[-1])
            if name == "..":
                self._stack = self._stack[:-1] or self._stack  # the root is its own parent
            elif name != ".":
                place = self._look(name)
                if place.is_link:
                    pending += self._names_behind(place, inner=bool(pending))[::-1]
                else:
                    self._stack.append(place)
        return self._stack[-1]

    def _enter(self, here: _Place) -> None:
        if not here.is_directory:
            raise _Fault(Kind.WRONG_TYPE, here.path, "is not a directory", here.status)
        # Being there counts for more than being open to the user, so the walk goes on.
        if self.closed is None and not self._user.may(_EXECUTE, here.status):
            self.closed = here

    def _look(self, name: str) -> _Place:
        path = posixpath.join(self._stack[-1].path, name) if self._stack else name
        status = self._tree.status(path)
        if isinstance(status, int):
            raise self._unseen(path, status)
        place = _Place(path, status)
        self.seen.append(place)
        return place

    def _names_behind(self, link: _Place, *, inner: bool) -> list[str]:
        self._links += 1
        if self._links > MAX_LINKS:
            raise _Fault(Kind.WRONG_TYPE, link.path, "is a symbolic link in a loop or a chain too long", link.status)
        target = self._tree.target(link.path)
        if isinstance(target, int):
            raise self._unseen(link.path, target)
        if inner and self._links == 1:
            self.inner_link = link
        return _names(target)

    def _unseen(self, path: str, error: int) -> _Fault:
        """Why `path` could not be looked at."""
        if error == errno.ENOENT:
            return _Fault(Kind.MISSING, path, "does not exist")
        if error == errno.EACCES and self._stack:
            here = self._stack[-1]
            return _Fault(Kind.NOT_EXECUTABLE, here.path, "cannot be searched by this process", here.status)
        kinds = {errno.ENOTDIR: Kind.WRONG_TYPE, errno.ELOOP: Kind.WRONG_TYPE, errno.EACCES: Kind.NOT_EXECUTABLE}
        return _Fault(kinds.get(error, Kind.MISSING), path, f"cannot be looked at: {os.strerror(error)}")


class Examiner:
    """Examines the scripts of one configuration; whatever was looked at once is not looked at again.

    `search_path` is PATH of the environment, None when unset; `directory` is the current directory, where relative
    commands start. `own_uid`, `own_gid` and `own_groups` are the daemon's, for scripts without an identity.
    """

    def __init__(
        self,
        *,
        use_symlink_paths: bool,
        own_uid: int,
        own_gid: int,
        own_groups: tuple[int, ...] = (),
        search_path: str | None = None,
        directory: str = "/",
        files: Files | None = None,
    ) -> None:
        self._keep_links = use_symlink_paths
        self._own = _User(own_uid, own_gid, own_groups)
        self._search_path = os.defpath if search_path is None else search_path
        self._directory = posixpath.join("/", directory)
        self._tree = _Tree(files or Files())

    def examine(self, script: Script) -> Verdict:
        """The verdict about `script`; raises nothing."""
        command = script.argv[0] if script.argv else ""
        if "/" in command:
            return self._examine_at(command, script)
        first: Verdict | None = None
        for path in self._candidates(command):
            verdict = self._examine_at(path, script)
            if verdict.kind in (Kind.OK, Kind.INSECURE):
                return verdict
            if verdict.kind is not Kind.MISSING:
                first = first or verdict
        return first or Verdict(Kind.MISSING, command, why=f"{command!r} is in no directory of {self._search_path!r}")

    def _candidates(self, command: str) -> Iterator[str]:
        """Where execvp would look for a name; an empty entry of PATH is the current directory."""
        if command:
            yield from (posixpath.join(entry, command) for entry in self._search_path.split(":"))

    def _examine_at(self, path: str, script: Script) -> Verdict:
        user = self._user(script)
        walk = _Walk(self._tree, user)
        given = posixpath.join(self._directory, path)
        try:
            file = walk.follow(given)
            _check_access(walk, file, user, script)
            protected = not script.readable_only and _runs_as_root(user, file.status)
            if protected and self._keep_links and walk.inner_link is not None:
                link = walk.inner_link
                raise _Fault(Kind.WRONG_TYPE, link.path, "is a symbolic link, not a directory", link.status)
        except _Fault as fault:
            return fault.verdict()
        resolved = given if self._keep_links else file.path
        weak = next(filter(None, map(_weakness, walk.seen)), None) if protected else None
        return weak.verdict(resolved) if weak else Verdict(Kind.OK, path=resolved)

    def _user(self, script: Script) -> _User:
        """Who the script runs as. The daemon's supplementary groups stay only where no identity is changed."""
        uid = self._own.uid if script.uid is None else script.uid
        gid = self._own.gid if script.gid is None else script.gid
        if script.groups is None and (uid, gid) == (self._own.uid, self._own.gid):
            return self._own
        return _User(uid, gid, script.groups or ())


def _names(path: str) -> list[str]:
    """The names in a path, the root as '/'; a slash at the end asks for a directory, as '.' does."""
    names = [name for name in path.split("/") if name]
    return ["/"] * path.startswith("/") + names + ["."] * path.endswith("/")


def _check_access(walk: _Walk, file: _Place, user: _User, script: Script) -> None:
    """Whether the user can execute, or read, the file. Raises _Fault."""
    if not script.readable_only and not stat.S_ISREG(file.status.st_mode):
        raise _Fault(Kind.WRONG_TYPE, file.path, "is not a regular file", file.status)
    if walk.closed is not None:
        text = f"cannot be entered by user {_user_name(user.uid)}"
        raise _Fault(Kind.NOT_EXECUTABLE, walk.closed.path, text, walk.closed.status)
    wanted, verb = (_READ, "read") if script.readable_only else (_EXECUTE, "executed")
    if not user.may(wanted, file.status):
        raise _Fault(Kind.NOT_EXECUTABLE, file.path, f"cannot be {verb} by user {_user_name(user.uid)}", file.status)


def _runs_as_root(user: _User, status: os.stat_result) -> bool:
    """Whether the script has power that others must not lay hands on: root's uid or gid, given or by a set-id bit."""
    return (
        _ROOT in (user.uid, user.gid)
        or bool(status.st_mode & stat.S_ISUID and status.st_uid == _ROOT)
        or bool(status.st_mode & stat.S_ISGID and status.st_gid == _ROOT)
    )


def _weakness(place: _Place) -> _Fault | None:
    """How someone other than root could replace or change what is at `place`."""
    status = place.status
    mode = status.st_mode
    if status.st_uid != _ROOT:
        text = "is not owned by root"
    elif place.is_link or (place.is_directory and mode & stat.S_ISVTX):
        return None  # the mode of a link means nothing; under a sticky bit only owners can replace
    elif mode & _WRITE:
        text = "can be written by everybody"
    elif mode & _WRITE << 3 and status.st_gid != _ROOT:
        text = f"can be written by group {_group_name(status.st_gid)}"
    else:
        return None
    return _Fault(Kind.INSECURE, place.path, text, status)


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)

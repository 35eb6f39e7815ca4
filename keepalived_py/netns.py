"""Network namespaces by name (config-language.md 9)."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
from collections.abc import Iterator

logger = logging.getLogger(__name__)

NAMES = "/run/netns"
FIRST = "/proc/1/ns/net"
OWN = "/proc/thread-self/ns/net"
CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 0x80000
MNT_DETACH = 2
_first: list[int] = []
"""A descriptor, once there is one."""


def _call(name: str, *arguments: object) -> None:
    """A function of the C library that answers 0 or sets errno. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)


def _file_of(name: str) -> str:
    """Raises FileNotFoundError for what cannot be a name."""
    if not name:
        return FIRST
    if "/" in name or name in (".", ".."):
        raise FileNotFoundError(name)
    return f"{NAMES}/{name}"


def _switch(path: str) -> None:
    if path == FIRST and _first:
        _call("setns", _first[0], CLONE_NEWNET)
        return
    with open(path) as file:
        _call("setns", file.fileno(), CLONE_NEWNET)


def keep_first() -> None:
    """Hold the first namespace open for `inside("")`: workers give up the capability to open it."""
    with contextlib.suppress(OSError):
        _first.append(os.open(FIRST, os.O_RDONLY | os.O_CLOEXEC))


def enter(name: str, directory: str) -> None:
    """This process into the namespace `name` for good. Raises OSError where that is not possible.

    It gets mounts of its own as well, with the namespace's part of the pid directory in place of the whole.
    """
    _switch(_file_of(name))
    own = f"{directory}/{name}"
    try:
        _call("unshare", CLONE_NEWNS)
        _call("mount", None, b"/", None, MS_REC | MS_SLAVE, None)
        for each in (directory, own):
            os.makedirs(each, exist_ok=True)
            os.chmod(each, 0o755)
        _call("mount", own.encode(), directory.encode(), None, MS_BIND, None)
    except OSError as exc:
        logger.warning("the pid directory is not that of namespace %s: %s", name, exc.strerror)


def leave(name: str, directory: str) -> None:
    """At the end: the directory for pid files goes too when nobody else has one there."""
    with contextlib.suppress(OSError):
        _call("umount2", directory.encode(), MNT_DETACH)
        os.rmdir(f"{directory}/{name}")
        os.rmdir(directory)


@contextlib.contextmanager
def inside(name: str) -> Iterator[None]:
    """This thread in another namespace for a moment, "" for the first one of the system: sockets stay where they were
    made. Raises OSError."""
    with open(OWN) as back:
        _switch(_file_of(name))
        try:
            yield
        finally:
            _call("setns", back.fileno(), CLONE_NEWNET)

"""Files for people: dumps under a temporary name, moved into place, and what config_save_dir keeps."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TextIO

from .config.model import GlobalDefs

logger = logging.getLogger(__name__)

PERMISSIONS = 0o666
"""Before the umask (cli-and-signals.md 5)."""


def temporary_directory() -> str:
    """$TMPDIR when it is an absolute path of a directory, else /tmp."""
    named = os.environ.get("TMPDIR", "")
    return named if os.path.isabs(named) and os.path.isdir(named) else "/tmp"


def state_path(defs: GlobalDefs, part: str) -> str:
    """Where SIGUSR1 dumps to. `part`: "" for VRRP, else `check`, `bfd` or `parent`."""
    path = os.path.join(temporary_directory(), defs.state_dump_file)
    directory, base = os.path.split(path)
    stem, dot, ending = (base or "keepalived.data").rpartition(".")
    if not dot:
        stem, ending = ending, ""
    stem += f"_{part}" if part else ""
    if defs.data_use_instance:
        of = "_".join(filter(None, (defs.root.net_namespace, defs.root.instance)))
        stem += f".{of}" if of else ""
    return os.path.join(directory, stem + dot + ending)


def statistics_path(defs: GlobalDefs) -> str:
    """Where SIGUSR2 dumps to."""
    return os.path.join(temporary_directory(), defs.stats_dump_file or "keepalived.stats")


def json_path(defs: GlobalDefs) -> str:
    """Where the JSON signal dumps to."""
    return os.path.join(temporary_directory(), defs.json_dump_file or "keepalived.json")


def tell(what: str, verb: str = "Printing") -> None:
    """What a signal asked of this process, in keepalived's words."""
    logger.info("%s %s for process(%d) on signal", verb, what, os.getpid())


def put(path: str, text: str, mode: int = PERMISSIONS) -> None:
    """Put `text` into a new file and move it to `path`. A link there is replaced, not followed. Raises OSError.

    The file is closed where it ends up: programs wait for the end of the writing by that name (inotify).
    """
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name}.{os.urandom(6).hex()}")
    with _new(temporary, mode) as file:
        try:
            file.write(text)
            file.flush()
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise


def write(path: str, text: str, mode: int = PERMISSIONS) -> None:
    """The same; a failure is logged."""
    try:
        put(path, text, mode)
    except OSError as exc:
        logger.error("%s: %s", path, exc.strerror)


def save(path: str, text: str) -> None:
    """config_save_dir: put `text` into a directory which is made if only its last part is missing. Raises OSError.

    A name comes again where process numbers do, as in a container.
    """
    make_directory(os.path.dirname(path), 0o700)
    put(path, text)


def make_directory(path: str, mode: int) -> None:
    """See to it that `path` is there; a new one gets `mode` whatever the umask is. Raises OSError."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, mode)
        os.chmod(path, mode)


def make_directories(path: str, mode: int) -> None:
    """The same with all that is missing above it."""
    above = os.path.dirname(path)
    if not os.path.isdir(above):
        make_directories(above, mode)
    make_directory(path, mode)


def _new(path: str, mode: int = PERMISSIONS) -> TextIO:
    """The file `path`, which must not exist."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return open(os.open(path, flags, mode), "w", encoding="utf-8", errors="surrogateescape")

"""Modules that only some configurations need, loaded when one is read: by the parent, for every worker that it forks.

By the time of the first mail or check what stands on the disk may be of another version, or gone (pip, dpkg).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable

from keepalived_py.config.model import GlobalDefs

BY_PYTHON = ("concurrent.futures.thread", "encodings.ascii", "encodings.idna")
"""What the standard library itself imports at the first use: of a thread, of a name of a host."""
MAIL = ("aiosmtplib", "email.utils")
"""3 MB, and most routers send none."""


def of_all(defs: GlobalDefs) -> tuple[str, ...]:
    """What any worker needs."""
    return BY_PYTHON + (MAIL if defs.mail.is_complete else ())


def missing(names: Iterable[str]) -> list[str]:
    """Those that are not loaded."""
    return [name for name in names if name not in sys.modules]


def load(names: Iterable[str]) -> None:
    """Raises ImportError, whatever the module itself raises."""
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as exc:
            raise ImportError(f"{name} cannot be loaded: {exc}") from exc

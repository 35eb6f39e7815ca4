"""Dump files: written under a temporary name, exclusively, mode 0600, and moved into place (cli-and-signals.md 5)."""

from __future__ import annotations

import logging
import os
import tempfile

logger = logging.getLogger(__name__)


def directory() -> str:
    """$TMPDIR when it is an absolute path of a directory, else /tmp."""
    named = os.environ.get("TMPDIR", "")
    return named if os.path.isabs(named) and os.path.isdir(named) else "/tmp"


def write(name: str, text: str) -> None:
    """Put `text` into the file `name`; a failure is logged. A link of that name is replaced, never followed."""
    target = os.path.join(directory(), name)
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=directory())
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        os.replace(temporary, target)
    except OSError as exc:
        logger.error("%s: %s", target, exc.strerror)

"""Small files of the operator, read while other things must go on."""

from __future__ import annotations

import os


def read_start(path: str, most: int) -> bytes:
    """The first `most` bytes. Never waits, not even for a FIFO. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, most)
    finally:
        os.close(descriptor)

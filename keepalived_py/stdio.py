"""Standard input, output and error: there in any case, and no reason to fail."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from io import TextIOWrapper


def provide() -> None:
    """Descriptors 0 to 2 that are closed become /dev/null: what is opened next would be one of them."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # which gets this number
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # words that are no text in this locale


def say(text: str, *, error: bool = True) -> bool:
    """A line on standard error or output; whether anybody took it. A full disk is not how a program ends."""
    stream = sys.stderr if error else sys.stdout
    try:
        print(text, file=stream, flush=True)
    except OSError:
        with suppress(OSError):  # what waits in the stream would be written, and fail, at the end of the interpreter
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
        return False
    return True

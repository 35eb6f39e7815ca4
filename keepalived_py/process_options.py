"""Options about the processes themselves: umask, syslog facility, core files, and those that have no effect here."""

from __future__ import annotations

import logging
import os
import re
import shlex
import sys
from collections.abc import Sequence

from .options import OPTIONS, Options
from .parent.core_dump import CorePattern, allow
from .stdio import say

logger = logging.getLogger(__name__)
FACILITIES = {"daemon": 3, "user": 1, **{str(n): 16 + n for n in range(8)}, **{f"local{n}": 16 + n for n in range(8)}}
C_NUMBER = re.compile("0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*")


def facility_of(options: Options) -> int:
    """Option -S: a syslog facility number; a bad one is reported and ignored."""
    name = options.text("log-facility", "daemon")
    if name not in FACILITIES:
        say(f"'{name}' is not a syslog facility, daemon is taken")
    return FACILITIES.get(name, FACILITIES["daemon"])


def command_line(program: str, words: Sequence[str], name: str) -> str:
    """What ps shows for the process `name`: programs know a daemon by its path and the files that are named there."""
    directory, called = os.path.split(program)
    shown = " ".join((os.path.join(directory, name) if called == "keepalived" else name, *words))
    return os.fsencode(shown).decode("utf-8", "replace")


def umask_of(options: Options) -> int | None:
    """Option -u: a number in any C base; a bad one is reported and ignored."""
    text = options.text("umask")
    if not text:
        return None
    if C_NUMBER.fullmatch(text):
        mask = int(text, 8 if re.fullmatch("0[0-7]+", text) else 0)
        if mask <= 0o777:
            return mask
    say(f"'{text}' is not a umask, a number from 0 to 0777")
    return None


def core_files(options: Options) -> CorePattern:
    """Options -m and -M."""
    pattern = CorePattern()
    if options.has("core-dump") or options.has("core-dump-pattern"):
        allow()
    if options.has("core-dump-pattern"):
        pattern.set(options.text("core-dump-pattern", "core"))
    return pattern


def tell_start(program: str, file: str) -> None:
    """The first lines of a log: what runs here, and how it was called."""
    system = os.uname()
    logger.info("Starting %s", program)
    python = sys.version.split()[0]
    logger.info("Running on %s %s %s, Python %s", system.sysname, system.release, system.version, python)
    logger.info("Command line: %s", shlex.join(sys.argv))
    logger.info("Configuration file %s", file)


def tell_no_effect(options: Options) -> None:
    """Options that are accepted for what starts keepalived: why they do nothing here."""
    for option in OPTIONS:
        _, accepted, why = option.text.partition("accepted: ")
        if accepted and options.has(option.long):
            logger.warning("Option --%s has no effect: %s", option.long, why)

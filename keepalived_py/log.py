"""Logging of one process: syslog, a file, the console. It never blocks: what a slow sink cannot take at once waits for
it, and what is too much is lost and counted.

Each process has its own identifier (Keepalived, Keepalived_vrrp, Keepalived_healthcheckers) and its own file, and keeps
its newest records in a ring. Equal records that come thick and fast are counted instead of written, and records that a
sink has lost are told of as soon as it takes one again. What waits for a sink is written by a thread, and so is
everything for files and terminals: a disk may stand still without saying so before, and so may a terminal.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from keepalived_py.records import dataclass

from .log_limits import CROWD, VERBATIM, Limiter
from .log_sinks import FINISH_LIMIT, WAITING_LIMIT, Aside, StreamHandler, SyslogHandler

__all__ = ["CROWD", "VERBATIM", "WAITING_LIMIT"]
"""Names of the two that others need too."""

DETAIL = logging.DEBUG
"""Lines shown with -D only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What the command line says about logs. `facility` is a syslog facility number; `file` "" for none."""

    syslog: bool = True
    facility: int = 3
    console: bool = False
    detail: bool = False
    file: str = ""
    suffix: str = ""
    """Instance name, added to identifiers and file names."""
    json: bool | None = False
    """log_format json: of console and files. None: not known yet, so that both wait for `use_json`, or `finish`."""


limiter = Limiter()
ring = limiter.ring
os.register_at_fork(after_in_child=limiter.forked)


@contextlib.contextmanager
def going_on() -> Iterator[None]:
    """A process that is forked meanwhile takes the place of this one: what was lost is told by it."""
    limiter.goes_on = True
    try:
        yield
    finally:
        limiter.goes_on = False


def file_of(settings: LogSettings, role: str) -> Path:
    """The log file of a process: `_vrrp` or `_check` and the suffix go before the last dot."""
    path = Path(settings.file)
    stem = path.stem + (f"_{role}" if role else "") + settings.suffix
    return path.with_name(stem + path.suffix)


def set_up(settings: LogSettings, ident: str, role: str) -> None:
    """Point the root logger of this process at what the settings name. `role` is "", vrrp or check."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.setLevel(DETAIL if settings.detail else logging.INFO)
    logging.raiseExceptions = False
    limiter.flush()
    for old in limiter.sinks:
        old.give_back()
        old.close()
    ident += settings.suffix
    before = {old.destination: old for old in limiter.sinks}
    limiter.sinks = []
    root.addHandler(limiter)
    if settings.syslog:
        limiter.sinks.append(Aside(SyslogHandler(ident, settings.facility), direct=True))
    if settings.console:
        console = StreamHandler(sys.stderr.fileno(), ident=ident, as_json=bool(settings.json))
        limiter.sinks.append(Aside(console, direct=console.never_waits and settings.json is not None))
    if settings.file:  # which is opened by the thread: the disk may stand still
        file = StreamHandler(path=file_of(settings, role), ident=ident, as_json=bool(settings.json))
        limiter.sinks.append(Aside(file))
    for sink in limiter.sinks:
        if sink.destination in before:
            sink.inherit(before[sink.destination])
    for noisy in ("asyncio", "pyroute2"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def refused_file() -> str:
    """What keeps the file from being opened, of which the others are told, or ""; the disk is not waited for long."""
    for sink in limiter.sinks:
        if isinstance(sink.sink, StreamHandler) and sink.sink.is_file:
            reason = sink.sink.refusal(FINISH_LIMIT)
            if reason:
                text = f"log file {sink.destination}: {reason}"
                logging.getLogger().error("%s", text)
                return text
    return ""


def use_json(wanted: bool) -> None:
    """log_format, from now on."""
    for sink in limiter.sinks:
        if isinstance(sink.sink, StreamHandler):
            sink.sink.as_json = wanted


def start_threads() -> None:
    """This process has the capabilities that it keeps: what may block is written from now on."""
    for sink in limiter.sinks:
        sink.start()


def finish() -> None:
    """What waits is written, if that does not take long."""
    limiter.flush()
    until = time.monotonic() + FINISH_LIMIT
    for sink in limiter.sinks:
        if not sink.stands_still:
            sink.settle(until - time.monotonic())


def tick() -> None:
    """Call it about once a second: what was held back is told, and by whom else who takes nothing."""
    limiter.tick()
    for sink in limiter.sinks:
        trouble = sink.trouble()
        if trouble and len(limiter.sinks) > 1:
            logging.getLogger().warning("%s", trouble)


def lost_records() -> str:
    """How many records of this process were lost, and by whom."""
    found = (f"{count} by {sink.destination}" for sink in limiter.sinks if (count := sink.refused()))
    return ", ".join(found) or "0"

"""Signals that mean nothing to the daemon, and would end it (cli-and-signals.md 4)."""

from __future__ import annotations

import signal

OBEYED = {signal.SIGTERM, signal.SIGINT}
"""Until the parent has handlers these end the process."""
FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS}
JOB_CONTROL = {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCONT, signal.SIGCHLD}
OUT_OF_REACH = {signal.SIGKILL, signal.SIGSTOP}
MEANINGLESS = signal.valid_signals() - OBEYED - FAULTS - JOB_CONTROL - OUT_OF_REACH


def pass_over(number: int, frame: object) -> None:
    """A handler that does nothing. What is executed later gets the default action back, unlike with SIG_IGN."""


def pass_over_all() -> None:
    """None of these ends this process, or one that it forks; those that mean something get their handlers later."""
    for number in MEANINGLESS:
        signal.signal(number, pass_over)


def ignore_all() -> None:
    """The daemon has stopped: the interpreter gives up its handlers, and a late signal would be how it ended."""
    for number in MEANINGLESS | OBEYED:
        signal.signal(number, signal.SIG_IGN)

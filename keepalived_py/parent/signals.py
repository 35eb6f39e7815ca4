"""Signals that mean nothing to the daemon, and would end it (cli-and-signals.md 4)."""

from __future__ import annotations

import logging
import os
import signal

logger = logging.getLogger(__name__)

STOPS = {signal.SIGTERM, signal.SIGINT}
FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS}
JOB_CONTROL = {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCONT, signal.SIGCHLD}
OUT_OF_REACH = {signal.SIGKILL, signal.SIGSTOP}
MEANINGLESS = signal.valid_signals() - STOPS - FAULTS - JOB_CONTROL - OUT_OF_REACH


def pass_over(number: int, frame: object) -> None:
    """A handler that does nothing. What is executed later gets the default action back, unlike with SIG_IGN."""


def begin(ignore_sigint: bool) -> None:
    """Before the parent has its handlers a stop ends it, and no other signal does, nor a process that it forks.

    A reload waits until they are there: the file may have been read before it was changed.
    """
    for number in MEANINGLESS:
        signal.signal(number, pass_over)
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP,))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, MEANINGLESS - {signal.SIGHUP})
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, pass_over if ignore_sigint else _end)


def _end(number: int, frame: object) -> None:
    """There is nothing yet that would have to be taken away."""
    logger.info("Stopping")
    raise SystemExit(0)


def keep_stops() -> None:
    """From here on there is something that would have to be taken away: a stop waits for the handlers too."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)


def pass_on(pid: int) -> None:
    """To the daemon, what this process was told that was the daemon until now: no fork inherits that."""
    for number in signal.sigpending() & {signal.SIGHUP, *STOPS}:
        os.kill(pid, number)


def hear_no_more() -> None:
    """The daemon has stopped: the interpreter gives up its handlers, and a late signal would be how it ended."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

"""Forked processes seen from the parent: workers, and the loader that reads the configuration for a reload."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import field
from typing import Any

from ipc.channel import Channel
from ipc.messages import Heartbeat, Peer
from keepalived_py import log, vitals
from keepalived_py.clock import now
from keepalived_py.records import dataclass
from keepalived_py.values import ExitCode

from .reload import Applied
from .signals import pass_over

logger = logging.getLogger(__name__)

BLOCKED = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


def fork_process(peer: Peer, body: Callable[[socket.socket], int]) -> tuple[int, socket.socket]:
    """Fork; the child runs `body` with its end of a socket pair and exits. Call it outside of any event loop.

    Of the parent's descriptors nothing but stdio stays open there. Signals stay blocked until it has its own handlers,
    so that none is lost or handled by a copy of the parent's. Gives the pid and the parent's end. Raises OSError when
    there can be no further process or descriptor.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    vitals.freeze()  # for good, here too: a collection writes to every object that it looks at, which unshares its page
    signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
    try:
        pid = os.fork()
    except OSError:
        _undo_preparations(ours, theirs)
        raise
    if pid == 0:
        code: int = ExitCode.PROGRAM_ERROR
        try:
            _leave_parent_behind(theirs.fileno())
            code = body(theirs)
        except BaseException:
            logger.exception("%s: internal error", peer.value)
        finally:
            try:
                log.finish()
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)  # whatever happens: it must not go on as a second parent
    _undo_preparations(theirs)
    return pid, ours


def _undo_preparations(*unused: socket.socket) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED)
    for sock in unused:
        sock.close()


def _leave_parent_behind(kept: int) -> None:
    """Close what is the parent's and forget its signal handlers.

    Its event loop is left alone, object and all: to close it would change the epoll set that the parent still uses.
    """
    signal.set_wakeup_fd(-1)
    for number in (*BLOCKED, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    for real_time in (signal.SIGRTMAX - 1, signal.SIGRTMIN + 2):
        signal.signal(real_time, pass_over)
    os.closerange(3, kept)  # first, since the list itself needs one
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        if descriptor > 2 and descriptor != kept:
            try:
                os.close(descriptor)
            except OSError:
                continue  # the descriptor of the listing itself


@dataclass(slots=True)
class Child:
    """One live process and its channel."""

    peer: Peer
    pid: int
    channel: Channel
    started: float = field(default_factory=now)
    generation: int = 0
    held: Applied | None = None
    """The configuration that it was made with, or has confirmed since."""
    ready: bool = False
    last_beat: float = 0.0
    heartbeat: Heartbeat | None = None

    def send(self, msg: Any) -> None:
        self.channel.send(msg)


def collected() -> Iterator[tuple[int, int]]:
    """Every child that ended: its pid, and its exit code or minus its signal."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        yield pid, os.waitstatus_to_exitcode(status)


EXIT_STATUS = 49
"""Where the wait status stands in /proc/PID/stat, counted from the state on (proc(5))."""


def ended_though_held(pid: int) -> int | None:
    """As `collected` has it: how a process ended; None while it lives.

    One of its threads may hang in the kernel, on a disk that stands still: then it cannot be collected, nor killed, and
    nobody tells of it, while all it was for is over.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state, *rest = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return os.waitstatus_to_exitcode(int(rest[EXIT_STATUS - 1])) if state == b"Z" else None

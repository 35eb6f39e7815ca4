"""The number of the IPVS family is asked for by a process of its own."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from workers.checker import ipvs_kernel


def test_a_signal_to_the_process_that_asks_is_not_heard_by_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask() -> int:
        os.kill(os.getpid(), signal.SIGUSR1)
        return 26

    monkeypatch.setattr(ipvs_kernel, "_ask_pyroute2", ask)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    heard, told = socket.socketpair()
    with heard, told:
        heard.setblocking(False)
        told.setblocking(False)
        handler = signal.signal(signal.SIGUSR1, lambda number, frame: None)
        wakeup = signal.set_wakeup_fd(told.fileno())
        try:
            assert ipvs_kernel.resolve_family.__wrapped__() == 26
        finally:
            signal.set_wakeup_fd(wakeup)
            signal.signal(signal.SIGUSR1, handler)
        told.close()
        assert heard.recv(100).count(signal.SIGUSR1) == 0
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask

"""Signals in an event loop: none is lost, and many of one are one."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from keepalived_py.signal_watch import SignalWatch

JSON = signal.SIGRTMIN + 2
NUMBERS = (signal.SIGTERM, signal.SIGUSR1, JSON)
MORE_THAN_A_SOCKET_TAKES = 2000


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    before = {number: signal.getsignal(number) for number in NUMBERS}
    yield made
    made.close()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_none_is_lost_and_many_are_one(loop: asyncio.AbstractEventLoop, capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[int] = []
    watch = SignalWatch(loop)
    for number in NUMBERS:
        watch.on(number, heard.append, number)
    for _ in range(MORE_THAN_A_SOCKET_TAKES):
        signal.raise_signal(JSON)
    signal.raise_signal(signal.SIGTERM)
    assert heard == []
    loop.run_until_complete(asyncio.sleep(0))
    assert heard == [JSON, signal.SIGTERM]
    signal.raise_signal(signal.SIGTERM)
    loop.run_until_complete(asyncio.sleep(0))
    assert heard == [JSON, signal.SIGTERM, signal.SIGTERM]
    assert capsys.readouterr().err == ""
    loop.close()
    assert signal.set_wakeup_fd(-1) == -1


def test_a_waiting_loop_wakes_up_for_one_that_another_thread_got(loop: asyncio.AbstractEventLoop) -> None:
    """The kernel chooses among the threads of a process."""
    came = asyncio.Event()

    async def scenario() -> None:
        own, started = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1,)), asyncio.Event()
        try:
            sent = asyncio.ensure_future(asyncio.to_thread(_to_this_thread, loop, started))
            await started.wait()
            await asyncio.wait_for(came.wait(), 30)
            await sent
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, own)

    watch = SignalWatch(loop)
    watch.on(signal.SIGUSR1, came.set)
    loop.run_until_complete(scenario())


def test_system_calls_go_on(loop: asyncio.AbstractEventLoop) -> None:
    """Python tries again what a signal interrupts, a library in C may not."""
    libc, main = ctypes.CDLL(None), threading.get_ident()
    thread_of_loop = Path(f"/proc/self/task/{threading.get_native_id()}")
    reading, writing = os.pipe()

    def disturb() -> None:
        while "pipe_read" not in (thread_of_loop / "wchan").read_text():
            pass
        signal.pthread_kill(main, signal.SIGUSR1)
        while "SigPnd:\t0000000000000000" not in (thread_of_loop / "status").read_text():
            pass
        os.write(writing, b"x")

    watch = SignalWatch(loop)
    watch.on(signal.SIGUSR1, int)
    thread = threading.Thread(target=disturb)
    thread.start()
    assert libc.read(reading, ctypes.create_string_buffer(1), 1) == 1
    thread.join()
    os.close(reading)
    os.close(writing)


def _to_this_thread(loop: asyncio.AbstractEventLoop, started: asyncio.Event) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGUSR1,))
    loop.call_soon_threadsafe(started.set)
    signal.raise_signal(signal.SIGUSR1)

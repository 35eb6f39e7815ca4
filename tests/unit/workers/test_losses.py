"""Who took something away, by what the kernel says of it."""

from __future__ import annotations

import os

import pytest

from workers.losses import PID_MAX, Culprits


@pytest.mark.parametrize(("name", "shown"), [(b"ip", "ip"), (b"x" * 14 + b"\xc3", "x" * 14 + "\udcc3")])
def test_a_process_is_named_whatever_its_name_is(name: bytes, shown: str) -> None:
    """The kernel cuts names after fifteen bytes, also in the middle of a character."""
    named, go_on = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        with open("/proc/self/comm", "wb") as file:
            file.write(name)
        os.write(named[1], b"x")
        os.read(go_on[0], 1)
        os._exit(0)
    os.read(named[0], 1)
    try:
        assert Culprits()[pid] == f"{shown} (process {pid})"
    finally:
        os.write(go_on[1], b"x")
        os.waitpid(pid, 0)
        for descriptor in (*named, *go_on):
            os.close(descriptor)
    assert Culprits()[pid] == f"process {pid}"
    assert Culprits()[PID_MAX + 1] == "somebody else"

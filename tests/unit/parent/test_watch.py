"""Workers that say nothing: when they are reported and when killed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket

import pytest

from ipc.channel import Channel
from ipc.messages import Heartbeat, Peer
from keepalived_py.parent import watch
from keepalived_py.parent.child import Child
from keepalived_py.parent.restart import RestartPolicy
from keepalived_py.parent.roles import Role
from keepalived_py.parent.watch import StallWatch

PID = 4242


class Watched:
    """A watch over one worker, with the time and the kills of the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, restart_after: float = 0.0) -> None:
        self.moment = 100.0
        self.killed: list[tuple[int, int]] = []
        self.changes = 0
        monkeypatch.setattr(watch, "now", lambda: self.moment)
        monkeypatch.setattr(os, "kill", lambda pid, number: self.killed.append((pid, number)))
        ours, self.other = socket.socketpair()
        channel = Channel(ours, Peer.VRRP, lambda msg: None, lambda reason: None)
        self.child = Child(Peer.VRRP, PID, channel, ready=True, last_beat=self.moment)
        self.role = Role(RestartPolicy(), self.child)
        self.loop = asyncio.new_event_loop()
        self.ended: list[tuple[int, int]] = []
        self.held: int | None = None
        monkeypatch.setattr(watch, "ended_though_held", lambda pid: self.held)
        self.watch = StallWatch(self.loop, {Peer.VRRP: self.role}, self._changed, self._ended)
        self.watch.restart_after = restart_after
        self.watch.start()

    def _changed(self) -> None:
        self.changes += 1

    def _ended(self, pid: int, code: int) -> None:
        self.ended.append((pid, code))
        self.role.child = None

    def pass_seconds(self, seconds: int) -> None:
        for _ in range(seconds):
            self.moment += 1.0
            self.watch._look()

    def close(self) -> None:
        self.watch.stop()
        self.loop.close()
        self.child.channel.close()
        self.other.close()


def test_silence_is_reported_once_and_its_end_too(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    watched.pass_seconds(5)
    assert not watched.role.stalled
    watched.pass_seconds(60)
    assert watched.role.stalled
    assert watched.changes == 1
    watched.watch.beat(Peer.VRRP, Heartbeat(lateness=0.0, rss=0, tasks=0, lost_records="0"))
    assert not watched.role.stalled
    assert watched.changes == 2
    assert watched.killed == []
    watched.close()


def test_a_silent_worker_is_killed_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, restart_after=3.0)
    watched.pass_seconds(3)
    assert watched.killed == []
    watched.pass_seconds(1)
    assert watched.killed == [(PID, signal.SIGKILL)]
    watched.close()


def test_one_that_still_starts_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, restart_after=3.0)
    watched.child.ready = False
    watched.pass_seconds(60)
    assert watched.killed == []
    watched.close()


def test_silence_while_the_watch_itself_stood_still_means_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, restart_after=3.0)
    watched.moment += 30.0
    watched.watch._look()
    watched.pass_seconds(3)
    assert watched.killed == []
    assert not watched.role.stalled
    watched.pass_seconds(1)
    assert watched.killed
    watched.close()


def test_a_worker_that_ended_and_cannot_be_collected_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, restart_after=2.0)
    watched.pass_seconds(1)
    assert watched.ended == []
    watched.held = -9
    watched.pass_seconds(10)
    assert (watched.ended, watched.killed, watched.changes) == ([(PID, -9)], [], 0)
    watched.close()


def test_how_late_the_parent_itself_was_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    watched.pass_seconds(3)
    watched.moment += 2.5
    watched.pass_seconds(1)
    assert list(watched.watch.lateness.lines("the loop")) == [
        "Worst lateness of the loop: 2500.000 ms",
        "Lateness of the loop: below 1 ms 3, more 1",
    ]
    watched.close()

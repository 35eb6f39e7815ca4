"""The parent and its workers under ever so many orders of reloads, answers, refusals and deaths (docs/architecture.md).

The supervisor is the real one. Workers are pretended: each takes its messages one by one, when the script says so, and
holds what a real one would hold.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipc.messages import AdoptConfig, ApplyConfig, ConfigAccepted, ConfigApplied, ConfigRefused, Peer
from keepalived_py.config.delta import rebuilt
from keepalived_py.config.model import Config
from keepalived_py.config.slices import checker_slice, vrrp_slice
from tests.unit.parent.test_supervisor import Daemon, Forked, config

PEERS = (Peer.CHECKER, Peer.VRRP)
CONFIGS = (config(100), config(110), config(120, checker=False), config(130, vrrp=False), config(140))


def slice_of(peer: Peer, whole: Config) -> Any:
    """What a worker holds of a configuration, whoever else runs."""
    return checker_slice(whole).checker if peer is Peer.CHECKER else vrrp_slice(whole, checker_runs=True).vrrp


class Pretended:
    """What a worker of workers/worker.py does with its messages, without what it is for."""

    def __init__(self, forked: Forked) -> None:
        self.forked, self.generation, self.taken = forked, forked.generation, 0
        whole = forked.applied.config
        self.holds: Any = checker_slice(whole) if forked.peer is Peer.CHECKER else vrrp_slice(whole, checker_runs=True)
        self.accepted: tuple[int, Any] | None = None
        self.started = False

    def say(self, msg: Any) -> None:
        self.forked.channel.send(msg)

    def step(self, willing: bool) -> bool:
        """Start, or take the next message; whether there was anything to do."""
        if not self.started:
            self.started = True
            self.say(ConfigApplied(generation=self.generation))
            return True
        self.forked.sent(object)
        if self.taken == len(self.forked.heard):
            return False
        msg = self.forked.heard[self.taken]
        self.taken += 1
        if isinstance(msg, ApplyConfig):
            assert msg.base in (0, self.generation), "told against what it does not hold"
            self.accepted = msg.generation, rebuilt(self.holds if msg.base else None, msg.config)
            if not willing and not msg.at_once:  # what has been there before is gone back to in any case
                self.accepted = None
                self.say(ConfigRefused(generation=msg.generation, reason="no"))
            elif msg.at_once:
                self._move()
            else:
                self.say(ConfigAccepted(generation=msg.generation))
        elif isinstance(msg, AdoptConfig) and self.accepted is not None and self.accepted[0] == msg.generation:
            if willing:
                self._move()
            else:
                self.say(ConfigRefused(generation=msg.generation, reason="no longer"))
        return True

    def _move(self) -> None:
        assert self.accepted is not None
        (self.generation, self.holds), self.accepted = self.accepted, None
        self.say(ConfigApplied(generation=self.generation))


class Life:
    """One daemon and the script's hand on it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.daemon = Daemon(monkeypatch, CONFIGS[0])
        self.parent = self.daemon.parent
        self.workers: dict[int, Pretended] = {}
        self.loaders_done = 0
        self.parent._adopt()
        self.parent._start_workers()
        self.turn()

    def turn(self) -> None:
        self.daemon.turn()
        for forked in self.daemon.forks:
            self.workers.setdefault(forked.pid, Pretended(forked))
        for peer in PEERS:
            running = [each for each in self.living if each.forked.peer is peer]
            assert len(running) <= 1, "two of a kind"

    @property
    def living(self) -> list[Pretended]:
        return [self.workers[role.child.pid] for role in self.parent.roles.values() if role.child is not None]

    @property
    def reading(self) -> bool:
        return self.daemon.loaders > self.loaders_done

    def do(self, what: str, number: int) -> None:
        worker = next((each for each in self.living if each.forked.peer is PEERS[number % 2]), None)
        other = next((each for each in self.living if each is not worker), None)
        if what == "reload":
            self.parent.request_reload()
        elif what == "found" and self.reading:
            self.loaders_done += 1
            self.daemon.found(CONFIGS[number])
        elif what == "failed" and self.reading:
            self.loaders_done += 1
            self.parent._load_failed("it died")
        elif what in ("step", "refuse"):
            willing = what == "step"
            _ = (worker is not None and worker.step(willing)) or (other is not None and other.step(willing))
        elif what == "die" and worker is not None:
            self.parent._ended(worker.forked.pid, -9 if number % 3 else 70)
        elif what == "spawn" and worker is None:
            self.parent._later(partial(self.parent._spawn, PEERS[number % 2]))
        elif what == "services":
            self.parent._start_vrrp()
        self.turn()

    def settle(self) -> None:
        """Everybody does what is to be done, and nobody dies or refuses any more."""
        for _ in range(60):
            busy = [each.step(True) for each in self.living]
            self.turn()
            reading = self.reading
            if reading:
                self.do("found", 4)
            for number, peer in enumerate(PEERS):
                if self.parent._needed(peer, self.parent.reload.target.config):
                    self.do("spawn", number)
            if not any(busy) and not reading and not self.reading:
                return
        raise AssertionError("no end of it")


ACTIONS = st.tuples(
    st.sampled_from([*("reload", "found") * 2, *("step",) * 6, "failed", "refuse", "die", "spawn", "services"]),
    st.integers(0, 4),
)


@settings(max_examples=150, deadline=None)
@given(st.booleans(), st.lists(ACTIONS, max_size=40))
def test_in_the_end_all_hold_what_is_said_to_be_in_force(begun: bool, script: list[tuple[str, int]]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        life = Life(monkeypatch)
        try:
            if begun:
                life.settle()
            for what, number in script:
                life.do(what, number)
            life.settle()
            reload = life.parent.reload
            assert not reload.busy
            assert not reload._again
            wanted = reload.current.config
            for worker in life.living:
                peer = worker.forked.peer
                part = worker.holds.checker if peer is Peer.CHECKER else worker.holds.vrrp
                assert part == slice_of(peer, wanted), f"{peer} {worker.generation} of {reload.current.generation}"
            for peer in PEERS:
                if life.parent._needed(peer, wanted):
                    assert [each for each in life.living if each.forked.peer is peer]
            assert life.parent._adopted is wanted
        finally:
            life.daemon.close()

"""Recorded scenarios of one virtual server: a file says what checks find, and what must follow.

The rules are those of checker-behaviour.md 2.

A file under tests/scenarios/checks: `server FIELD VALUE` lines set fields of it, `sorry [inhibit]` gives
it one, `real NAME KEY=VALUE ...` adds a real server (`checks` is how many it has, `retry` and `alpha` are theirs), and
the other lines are events:

    start                   `start notifies` with rs_init_notifies
    fail NAME[.N], pass NAME[.N]
    points NAME[.N] VALUE
    reload                  ended by the next `apply`; between them `server`, `sorry` and `real` lines as above

The indented lines below an event are its effects and the table that follows. To record, and review the difference:

    REWRITE_SCENARIOS=1 pytest tests/scenarios
"""

from __future__ import annotations

import ast
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from keepalived_py.checks.state import CheckerState
from keepalived_py.checks.virtual_server import Effect, RealServerChanged, VirtualServerState, WeightChanged
from keepalived_py.config.model import CheckTiming, RealServer, SorryServer, VirtualServer
from keepalived_py.values import Protocol, RealKey, ServiceKey, ip_address

FOLDER = Path(__file__).parent / "checks"
SORRY = SorryServer(address=ip_address("10.1.0.99"), port=80)
KEY = ServiceKey(protocol=Protocol.TCP, address=ip_address("10.0.0.1"), port=80, family=4)
CHECKER_FIELDS = ("retry", "alpha", "rise")


def real_key(name: str) -> RealKey:
    """a is 10.1.0.1 and so on; `sorry` is the sorry server's."""
    return SORRY.key if name == "sorry" else RealKey(ip_address(f"10.1.0.{ord(name) - 96}"), 80)


def name_of(key: RealKey) -> str:
    return "sorry" if key == SORRY.key else chr(96 + int(str(key.address).rpartition(".")[2]))


@dataclass
class Draft:
    """A configuration as its lines come."""

    fields: dict[str, Any] = field(default_factory=dict)
    reals: dict[RealKey, tuple[RealServer, list[CheckTiming]]] = field(default_factory=dict)

    def take(self, line: str) -> bool:
        word, *rest = line.split()
        if word == "server":
            self.fields[rest[0]] = ast.literal_eval(rest[1])
        elif word == "sorry":
            self.fields["sorry_server"] = replace(SORRY, inhibit="inhibit" in rest)
        elif word == "real":
            values = {key: ast.literal_eval(text) for key, _, text in (each.partition("=") for each in rest[1:])}
            timing = CheckTiming(**{key: values.pop(key) for key in CHECKER_FIELDS if key in values})
            key, checks = real_key(rest[0]), values.pop("checks", 1)
            server = RealServer(address=key.address, port=key.port, **values)
            self.reals[key] = server, [timing] * checks
        else:
            return False
        return True

    def server(self) -> VirtualServer:
        return VirtualServer(key=KEY, real_servers=tuple(real for real, _ in self.reals.values()), **self.fields)


class Play:
    """One virtual server with the checkers of its real servers."""

    def __init__(self) -> None:
        self.draft = Draft()
        self.state: VirtualServerState | None = None
        self.checkers: dict[RealKey, list[CheckerState]] = {}

    def event(self, line: str) -> list[Effect]:
        word, *rest = line.split()
        if word == "start":
            return self._start("notifies" in rest)
        assert self.state is not None
        if word == "reload":
            self.draft = Draft()
            return []
        if word == "apply":
            return self._apply("notifies" in rest)
        name, _, number = rest[0].partition(".")
        key, index = real_key(name), int(number or 0)
        if word == "points":
            return self.state.weight_changed(key, index, int(rest[1]))
        return self._result(key, index, {"pass": True, "fail": False}[word])

    def _start(self, notifies: bool) -> list[Effect]:
        self.state = VirtualServerState(self.draft.server())
        for key, (_, timings) in self.draft.reals.items():
            self.checkers[key] = [CheckerState(timing) for timing in timings]
            self.state.reals[key].failed = self._failed(key)
        return self.state.start(notifies)

    def _failed(self, key: RealKey) -> set[Any]:
        return {index for index, checker in enumerate(self.checkers[key]) if not checker.up}

    def _apply(self, notifies: bool) -> list[Effect]:
        assert self.state is not None
        known, self.checkers = self.checkers, {}
        for key, (_, timings) in self.draft.reals.items():
            made = self.checkers[key] = [CheckerState(timing) for timing in timings]
            for checker, before in zip(made, known.get(key, []), strict=False):
                checker.adopt(before)
        failed = {key: self._failed(key) for key in self.checkers}
        return self.state.reconfigure(self.draft.server(), failed, {}, notifies)

    def _result(self, key: RealKey, index: int, success: bool) -> list[Effect]:
        assert self.state is not None
        checker = self.checkers[key][index]
        first = not checker.has_run
        if checker.record(success):
            return self.state.checker_changed(key, index, checker.up, "check")
        if first and not success and not checker.up:
            return self.state.first_failure(key, "check")
        return []

    def summary(self) -> str:
        assert self.state is not None
        rows = " ".join(f"{name_of(key)}:{row.weight}" for key, row in sorted(self.state.destinations().items()))
        return f"= quorum {'up' if self.state.had_quorum else 'down'}, table {rows or 'empty'}"


def shown(effect: Effect) -> str:
    if isinstance(effect, RealServerChanged):
        return f"real server {name_of(effect.key)} {'UP' if effect.up else 'DOWN'}: {effect.reason}"
    if isinstance(effect, WeightChanged):
        active = "" if effect.active else ", inactive"
        return f"real server {name_of(effect.key)} weight {effect.before} to {effect.weight}{active}"
    starting = ", starting" if effect.starting else ""
    return f"quorum {'UP' if effect.up else 'DOWN'}, live weight {effect.live_weight}{starting}"


def play(text: str) -> str:
    """The scenario with the effects that the code has now."""
    scene, out = Play(), list[str]()
    for line in text.splitlines():
        if line.startswith("    "):
            continue
        out.append(line)
        if line and not line.startswith("#") and not scene.draft.take(line):
            effects = scene.event(line)
            if line != "reload":
                out += [f"    {each}" for each in (*map(shown, effects), scene.summary())]
    return "\n".join(out) + "\n"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    recorded = path.read_text()
    played = play(recorded)
    if os.environ.get("REWRITE_SCENARIOS"):
        path.write_text(played)
    assert played == recorded


def test_there_are_scenarios_and_a_wrong_effect_is_noticed() -> None:
    paths = sorted(FOLDER.glob("*.txt"))
    assert len(paths) >= 15
    spoilt = paths[0].read_text().replace("quorum up", "quorum down", 1)
    assert play(spoilt) != spoilt

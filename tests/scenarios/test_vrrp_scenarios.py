"""Recorded scenarios of the VRRP machine: a file says what happens when, and what must follow.

A file under tests/scenarios/vrrp: `config` lines set fields of the instance, `AT EVENT` lines are events, and the
indented lines below an event are its effects, one each. To record what the machine does now, and review the difference:

    REWRITE_SCENARIOS=1 pytest tests/scenarios
"""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import Any

import pytest

from keepalived_py.config.model import GarpSettings
from keepalived_py.values import Centiseconds, ip_address
from keepalived_py.vrrp import events
from keepalived_py.vrrp.machine import VirtualRouter
from keepalived_py.vrrp.states import State, Timer
from tests.unit.vrrp.builders import instance

FOLDER = Path(__file__).parent / "vrrp"
GARP = "garp."


def value(text: str) -> Any:
    """A field's value: a literal, an address, a timer or a state."""
    for make in (ast.literal_eval, ip_address, lambda name: Timer[name], lambda name: State[name]):
        try:
            return make(text)
        except (ValueError, SyntaxError, KeyError):
            continue
    return text


def event(line: str) -> events.Event:
    """`Name key=value ...`; values with blanks are quoted."""
    name, _, rest = line.partition(" ")
    call = ast.parse(f"f({', '.join(_quoted(word) for word in rest.split())})", mode="eval").body
    assert isinstance(call, ast.Call)
    fields = {each.arg: value(ast.literal_eval(each.value)) for each in call.keywords if each.arg}
    if "adver_int" in fields:
        fields["adver_int"] = Centiseconds(fields["adver_int"])
    made: events.Event = getattr(events, name)(**fields)
    return made


def _quoted(word: str) -> str:
    key, _, text = word.partition("=")
    return f"{key}={text!r}"


def play(text: str) -> str:
    """The scenario with the effects that the machine has now."""
    fields: dict[str, Any] = {"garp": {}}
    router: VirtualRouter | None = None
    out: list[str] = []
    for line in text.splitlines():
        if line.startswith("config "):
            key, _, given = line.removeprefix("config ").partition(" ")
            if key.startswith(GARP):
                fields["garp"][key.removeprefix(GARP)] = value(given)
            else:
                fields[key] = value(given)
            out.append(line)
        elif line[:1].isdigit():
            if router is None:
                router = make(fields)
            at, _, what = line.partition(" ")
            effects = router.step(event(what), float(at))
            deadline = "never" if router.deadline is None else f"{router.deadline:.4f}"
            out += [line, *(f"    {effect}" for effect in effects), f"    = {router.state.value} until {deadline}"]
        elif not line.startswith("    "):
            out.append(line)
    return "\n".join(out) + "\n"


def make(fields: dict[str, Any]) -> VirtualRouter:
    fields = dict(fields)
    source, grouped = fields.pop("source_address", ip_address("192.0.2.10")), fields.pop("grouped", False)
    if "advert_int" in fields:
        fields["advert_int"] = Centiseconds(fields["advert_int"])
    return VirtualRouter(instance(**{**fields, "garp": GarpSettings(**fields["garp"])}), source, grouped=grouped)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    recorded = path.read_text()
    played = play(recorded)
    if os.environ.get("REWRITE_SCENARIOS"):
        path.write_text(played)
    assert played == recorded


def test_a_wrong_effect_is_noticed() -> None:
    path = sorted(FOLDER.glob("*.txt"))[0]
    spoilt = path.read_text().replace("Transition", "Transmission", 1)
    assert play(spoilt) != spoilt

"""Recorded scenarios of hosts on links: sync groups, trackers, reloads, lost adverts, partitions, dead processes.

A file under tests/scenarios/vrrp_network. Lines without a time say what there is, and after the start what the next
`reload` brings: `host NAME`, `instance LINK field=value`, `drop LINK`, `group NAME LINK...` (without links: no such
group), `track LINK-or-GROUP KIND NAME field=value`. Lines with a time let the clock run until then and say what happens
(see the methods of Player). Indented lines are what follows; adverts that merely are due are left out.

    REWRITE_SCENARIOS=1 pytest tests/scenarios
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keepalived_py.config.model import SyncGroup, Track, VrrpInstance
from keepalived_py.values import Centiseconds
from keepalived_py.vrrp.effects import Effect, Note, SendAdvert, Transition
from keepalived_py.vrrp.events import AddressesLost, AdvertReceived
from keepalived_py.vrrp.sync_group import GroupTransition
from tests.property.vrrp_cluster import Cluster, Host
from tests.scenarios.test_vrrp_scenarios import value
from tests.unit.vrrp.builders import NO_SECOND_BURST, instance

FOLDER = Path(__file__).parent / "vrrp_network"


def fields(words: list[str]) -> dict[str, Any]:
    found = {key: value(text) for key, _, text in (word.partition("=") for word in words)}
    for key in ("advert_int", "adver_int"):
        if key in found:
            found[key] = Centiseconds(found[key])
    garp = {key.removeprefix("garp."): found.pop(key) for key in list(found) if key.startswith("garp.")}
    if garp:
        found["garp"] = replace(NO_SECOND_BURST, **garp)
    return found


class Player:
    """Plays one file. `out` is the file as it should be."""

    def __init__(self) -> None:
        self.out: list[str] = []
        self.cluster = Cluster(heard=self._heard, links="abc")
        self.host = Host(0, {})
        self.configs: dict[str, VrrpInstance] = {}
        self.groups: dict[str, SyncGroup] = {}

    def _new(self, name: str) -> Host:
        self.host = Host(len(self.cluster.hosts), {}, name=name)
        self.cluster.hosts.append(self.host)
        return self.host

    def _named(self, name: str) -> Host:
        return next(each for each in self.cluster.hosts if each.name == name)

    def line(self, line: str) -> None:
        if line.startswith("    "):
            return
        self.out.append(line)
        words = line.partition("#")[0].split()
        if not words:
            return
        if not words[0][:1].isdigit():
            self._define(words)
            return
        self.cluster.run(float(words[0]) - self.cluster.now)
        if words[1] != "run":
            getattr(self, words[1])(*words[2:])
        self.out.append(f"    = {self._states()}")

    # what there is ------------------------------------------------------------------------------------------------

    def _define(self, words: list[str]) -> None:
        match words:
            case ["host", name]:
                known = [each for each in self.cluster.hosts if each.name == name]
                self.host = known[0] if known else self._new(name)
                self.configs, self.groups = dict(self.host.configs), {each.name: each for each in self.host.groups}
            case ["instance", link, *rest]:
                given = {"name": link, "vrid": 1} | fields(rest)
                self.configs[link] = instance(*str(given.pop("vips", "192.0.2.100")).split(","), **given)
            case ["drop", link]:
                del self.configs[link]
            case ["group", name]:
                del self.groups[name]
            case ["group", name, *links]:
                self.groups[name] = SyncGroup(name=name, members=tuple(links))
            case ["track", where, kind, name, *rest]:
                track = Track(kind=kind, name=name, **fields(rest))
                table: dict[str, Any] = self.groups if where in self.groups else self.configs
                table[where] = replace(table[where], tracks=(*table[where].tracks, track))
            case _:
                raise ValueError(" ".join(words))
        if not self.host.alive:
            self.host.configs, self.host.groups = self.configs, tuple(self.groups.values())

    # what happens -------------------------------------------------------------------------------------------------

    def start(self, *names: str) -> None:
        for host in map(self._named, names) if names else self.cluster.hosts:
            self.cluster.start(host)

    def adopt(self, name: str) -> None:
        """Another process takes the place of one that was killed."""
        self.cluster.start(self._named(name), adopt=True)

    def kill(self, name: str) -> None:
        self.cluster.kill(self._named(name))

    def stop(self, name: str) -> None:
        self.cluster.stop(self._named(name))

    def freeze(self, name: str) -> None:
        self.cluster.freeze(self._named(name))

    def thaw(self, name: str) -> None:
        self.cluster.thaw(self._named(name))

    def fault(self, name: str, link: str) -> None:
        self.cluster.fault(self._named(name), link, True)

    def well(self, name: str, link: str) -> None:
        self.cluster.fault(self._named(name), link, False)

    def see(self, name: str, kind: str, what: str, text: str) -> None:
        self.cluster.see(self._named(name), kind, what, value(text))

    def split(self, size: str) -> None:
        self.cluster.split(int(size))

    def heal(self) -> None:
        self.cluster.apart = set()

    def lose(self, name: str, count: str) -> None:
        self._named(name).to_lose = int(count)

    def lost(self, name: str, link: str) -> None:
        self.cluster.post(self._named(name), link, AddressesLost("address was removed 6 times in a row"))

    def advert(self, name: str, link: str, *rest: str) -> None:
        self.cluster.post(self._named(name), link, AdvertReceived(**{"adver_int": Centiseconds(100)} | fields([*rest])))

    def reload(self, name: str) -> None:
        assert self.host.name == name
        self.cluster.reload(self.host, self.configs, self.groups.values())

    # what follows -------------------------------------------------------------------------------------------------

    def _heard(self, host: Host, name: str, what: list[Effect] | GroupTransition) -> None:
        if isinstance(what, GroupTransition):
            self._tell(host, name, f"group {what.old.value} -> {what.new.value}")
            return
        if len(what) == 1 and isinstance(what[0], SendAdvert) and what[0].priority:
            return
        for effect in what:
            if isinstance(effect, Transition):
                self._tell(host, name, f"{effect.old.value} -> {effect.new.value}: {effect.reason}")
            elif isinstance(effect, Note):
                self._tell(host, name, f"{'warns' if effect.warning else 'notes'}: {effect.text}")
            else:
                self._tell(host, name, str(effect))

    def _tell(self, host: Host, name: str, text: str) -> None:
        self.out.append(f"    {self.cluster.now:.4f} {host.name} {name} {text}")

    def _states(self) -> str:
        found = []
        for host in self.cluster.hosts:
            if not host.works:
                found.append(f"{host.name} does not run")
                continue
            states = [f"{link} {host.state(link).value}" for link in host.routers]
            states += [f"{name} {group.state.value}" for name, group in host.engine.groups.items()]
            found.append(f"{host.name}: {', '.join(states)}")
        return "; ".join(found)


def play(text: str) -> str:
    player = Player()
    for line in text.splitlines():
        player.line(line)
    return "\n".join(player.out) + "\n"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_network_scenario(path: Path) -> None:
    recorded = path.read_text()
    played = play(recorded)
    if os.environ.get("REWRITE_SCENARIOS"):
        path.write_text(played)
    assert played == recorded


def test_a_line_that_is_not_understood_is_an_error() -> None:
    with pytest.raises(ValueError, match="hots one"):
        play("hots one\n")

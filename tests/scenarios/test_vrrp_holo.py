"""Holo's VRRP conformance cases (../shared/vectors, MIT), played to our machine through a small adapter.

A topology's events bring a router to a state; a case then says one thing and what must follow. Packets are encoded
and examined by our own code on their way. Where holo follows the RFC and keepalived does not, the configuration asks
for it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keepalived_py.config.model import Address, GarpSettings, VrrpInstance
from keepalived_py.values import Centiseconds, IPAddress, ip_address
from keepalived_py.vrrp.effects import Effect, Note, SendAdvert, SetVips
from keepalived_py.vrrp.events import AdvertReceived, ConfigChanged, Event, FaultRaised, Shutdown, Startup, TimerExpired
from keepalived_py.vrrp.machine import VirtualRouter
from keepalived_py.vrrp.packet import Datagram, PacketError, Reason, encode, examine
from keepalived_py.vrrp.states import State, Timer

GROUPS = {4: ip_address("224.0.0.18"), 6: ip_address("ff02::12")}
RUNNING = {"initialize": (State.INIT, State.FAULT), "backup": (State.BACKUP,), "master": (State.MASTER,)}
TOPOLOGIES = ["v2-topo1-1", "v3-topo1-1", "v3-topo1-2"]


def instances(tree: dict[str, Any], family: int) -> list[dict[str, Any]]:
    """The vrrp-instance entries of a configuration or state tree."""
    found = []
    for interface in tree["ietf-interfaces:interfaces"].get("interface", []):
        found += interface.get(f"ietf-ip:ipv{family}", {}).get("ietf-vrrp:vrrp", {}).get("vrrp-instance", [])
    return found


def configured(folder: Path) -> VrrpInstance:
    """The one instance of a router."""
    tree = json.loads((folder / "config.json").read_text())
    family = 4 if instances(tree, 4) else 6
    (found,) = instances(tree, family)
    version = 3 if family == 6 or found.get("version") == "vrrp-v3" else 2
    interval = found.get("advertise-interval-centi-sec") or found.get("advertise-interval-sec", 1) * 100
    return VrrpInstance(
        name="holo",
        interface="eth-sw1",
        family=family,
        vrid=found["vrid"],
        version=version,
        priority=found["priority"],
        advert_int=Centiseconds(interval),
        mcast_group=GROUPS[family],
        addresses=rows(
            each[f"ipv{family}-address"]
            for each in found[f"virtual-ipv{family}-addresses"][f"virtual-ipv{family}-address"]
        ),
        lower_prio_no_advert=True,
        garp=GarpSettings(master_repeat=1, lower_prio_repeat=0),
    )


def rows(texts: Any) -> tuple[Address, ...]:
    return tuple(Address(address=ip_address(text), prefixlen=ip_address(text).max_prefixlen) for text in texts)


class Player:
    """One router: events of theirs become events of ours."""

    def __init__(self, folder: Path) -> None:
        self.config = configured(folder)
        own = [line for line in self._lines(folder / "events.jsonl") if "Ibus" in line]
        self.router = VirtualRouter(self.config, self._own_address(own))
        self.now = 0.0
        self.reason: Reason | None = None
        self.step(Startup())
        for line in self._lines(folder / "events.jsonl"):
            if "Protocol" in line:
                self.hear(line["Protocol"])

    @staticmethod
    def _lines(path: Path) -> list[dict[str, Any]]:
        return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]

    def _own_address(self, events: list[dict[str, Any]]) -> IPAddress:
        added = [each["Ibus"]["InterfaceAddressAdd"] for each in events if "InterfaceAddressAdd" in each["Ibus"]]
        texts = [each["addr"].partition("/")[0] for each in added if each["ifname"] == "eth-sw1"]
        wanted = [ip_address(text) for text in texts if ip_address(text).version == self.config.family]
        return next(each for each in wanted if self.config.family == 4 or each.is_link_local)

    def step(self, event: Event) -> list[Effect]:
        self.now += 0.001
        return [each for each in self.router.step(event, self.now) if not isinstance(each, Note)]

    def hear(self, what: dict[str, Any]) -> list[Effect]:
        if "MasterDownTimer" in what:
            return self.step(TimerExpired(Timer.MASTER_DOWN))
        received = what["VrrpNetRxPacket"]
        try:
            advert = examine(self._datagram(received), self.config)
        except PacketError as error:
            self.reason = error.reason
            return []
        return self.step(AdvertReceived(advert.priority, advert.adver_int, advert.source))

    def _datagram(self, received: dict[str, Any]) -> Datagram:
        source, group = ip_address(received["src"]), GROUPS[self.config.family]
        if "VersionError" in received["packet"].get("Err", {}):
            other = replace(self.config, version=3)
            return Datagram(source, group, 255, encode(other, 30, source, group))
        packet = received["packet"]["Ok"]
        unit = 100 if packet["version"] == "V2" else 1
        config = replace(
            self.config,
            vrid=packet["vrid"],
            advert_int=Centiseconds(packet["adver_int"] * unit),
            addresses=rows(packet["ip_addresses"]),
        )
        return Datagram(source, group, 255, encode(config, packet["priority"], source, group))


@pytest.fixture
def holo(shared: Path) -> Path:
    return shared / "vectors" / "holo-vrrp-conformance"


@pytest.mark.parametrize("router", ["rt1", "rt2", "rt3"])
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_topology_reaches_its_state(holo: Path, topology: str, router: str) -> None:
    folder = holo / "topologies" / topology / router
    player = Player(folder)
    tree = json.loads((folder / "output" / "northbound-state.json").read_text())
    (expected,) = instances(tree, player.config.family)
    assert player.router.state in RUNNING[expected["state"]]


def case(holo: Path, name: str, router: str) -> tuple[Player, list[Effect]]:
    """A case of one packet or timer, on a router of the first topology."""
    player = Player(holo / "topologies" / "v2-topo1-1" / router)
    (line,) = Player._lines(holo / name / "01-input-protocol.jsonl")
    return player, player.hear(line)


def test_a_master_answers_a_farewell(holo: Path) -> None:
    assert case(holo, "packet1", "rt3")[1] == [SendAdvert(30)]


def test_a_master_says_nothing_to_a_lower_priority(holo: Path) -> None:
    player, effects = case(holo, "packet2", "rt3")
    assert not any(isinstance(each, SendAdvert | SetVips) for each in effects)
    assert player.router.state is State.MASTER


def test_a_master_yields_to_a_higher_priority(holo: Path) -> None:
    player, effects = case(holo, "packet3", "rt3")
    assert SetVips(False) in effects
    assert player.router.state is State.BACKUP


def test_a_backup_takes_over(holo: Path) -> None:
    player, effects = case(holo, "master-down-timer1", "rt1")
    assert effects[:2] == [SendAdvert(10), SetVips(True)]
    assert player.router.state is State.MASTER


@pytest.mark.parametrize(("name", "reason"), [("packet-error1", Reason.VERSION), ("packet-error2", Reason.INTERVAL)])
def test_errors_are_named(holo: Path, name: str, reason: Reason) -> None:
    player, effects = case(holo, name, "rt1")
    assert effects == []
    assert player.reason is reason


def test_another_vrid_is_for_somebody_else(holo: Path) -> None:
    player = Player(holo / "topologies" / "v2-topo1-1" / "rt1")
    (line,) = Player._lines(holo / "packet-error3" / "01-input-protocol.jsonl")
    assert player._datagram(line["VrrpNetRxPacket"]).vrid != player.config.vrid


@pytest.mark.parametrize(("router", "expected"), [("rt3", [SetVips(True)]), ("rt1", [])])
@pytest.mark.parametrize("change", ["create", "delete"])
def test_the_list_of_addresses_changes(holo: Path, router: str, expected: list[Effect], change: str) -> None:
    player = Player(holo / "topologies" / "v2-topo1-1" / router)
    addresses = (*player.config.addresses, *rows(["10.0.1.6"])) if change == "create" else ()
    assert player.step(ConfigChanged(replace(player.config, addresses=addresses))) == expected


def test_a_link_that_fails_and_an_instance_that_is_removed(holo: Path) -> None:
    player = Player(holo / "topologies" / "v2-topo1-1" / "rt3")
    player.step(FaultRaised("interface eth-sw1", "down"))
    assert player.router.state in RUNNING["initialize"]
    player.step(Shutdown())
    assert player.router.deadline is None

"""Holo's VRRP conformance cases (../shared/vectors, MIT), played to our machine through a small adapter.

A topology's events bring a router to a state; a case then says one thing and what must follow: requests to the system
(ibus), packets (protocol), notifications and states (northbound). Packets are encoded and examined by our own code on
their way. Where holo follows the RFC and keepalived does not, the configuration asks for it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keepalived_py.config.model import Address, GarpSettings, VrrpInstance
from keepalived_py.values import Centiseconds, IPAddress, IPv4Address, MacAddress, ip_address
from keepalived_py.vrrp.effects import AnnounceVips, Effect, Note, SendAdvert, Transition
from keepalived_py.vrrp.events import (
    AdvertReceived,
    ConfigChanged,
    Event,
    FaultCleared,
    FaultRaised,
    Shutdown,
    Startup,
    TimerExpired,
)
from keepalived_py.vrrp.machine import VirtualRouter
from keepalived_py.vrrp.packet import Datagram, PacketError, Reason, encode, examine
from keepalived_py.vrrp.states import State, Timer
from workers.vrrp.announce import gratuitous_arp

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


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def rows(texts: Any) -> tuple[Address, ...]:
    return tuple(Address(address=ip_address(text), prefixlen=ip_address(text).max_prefixlen) for text in texts)


class Player:
    """One router: events of theirs become events of ours."""

    def __init__(self, folder: Path) -> None:
        self.config = configured(folder)
        events = lines(folder / "events.jsonl")
        self.router = VirtualRouter(self.config, self._own_address([line for line in events if "Ibus" in line]))
        self.now = 0.0
        self.reason: Reason | None = None
        self.step(Startup())
        for line in events:
            if "Protocol" in line:
                self.hear(line["Protocol"])

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
        datagram = self._datagram(received)
        if datagram.vrid != self.config.vrid:
            self.reason = None
            raise LookupError(datagram.vrid)
        try:
            advert = examine(datagram, self.config)
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


ERRORS: dict[Reason, dict[str, Any]] = {
    Reason.VERSION: {"ietf-vrrp:vrrp-protocol-error-event": {"protocol-error-reason": "version-error"}},
    Reason.INTERVAL: {
        "ietf-vrrp:vrrp-virtual-router-error-event": {
            "interface": "eth-sw1",
            "virtual-router-error-reason": "interval-error",
        }
    },
}
NO_SUCH_VRID = {"ietf-vrrp:vrrp-protocol-error-event": {"protocol-error-reason": "vrid-error"}}
VMAC = "mvlan4-vrrp-"
STARTS = {
    "packet1": "rt3",
    "packet2": "rt3",
    "packet3": "rt3",
    "master-down-timer1": "rt1",
    "packet-error1": "rt1",
    "packet-error2": "rt1",
    "packet-error3": "rt1",
    "ibus-iface-update1": "rt1",
    "ibus-iface-update2": "rt1",
    "nb-config-instance1": "rt3",
    "nb-config-instance2": "rt1",
    "nb-config-virtual-addr1": "rt3",
    "nb-config-virtual-addr2": "rt3",
    "nb-config-virtual-addr3": "rt1",
    "nb-config-virtual-addr4": "rt1",
}
"""Which router of the first topology a case begins with: the one whose state its output tells of."""


class Case:
    """One case on one router, and everything that followed in holo's words."""

    def __init__(self, holo: Path, name: str) -> None:
        self.folder = holo / name
        self.player = Player(holo / "topologies" / "v2-topo1-1" / STARTS[name])
        self.players = {self.player.config.vrid: self.player}
        self.seen: dict[str, list[dict[str, Any]]] = {"ibus": [], "protocol": [], "northbound-notif": []}

    def play(self) -> None:
        for path in sorted(self.folder.glob("*-input-*")):
            kind = path.name.partition("-input-")[2].partition(".")[0]
            inputs = [json.loads(path.read_text())] if path.suffix == ".json" else lines(path)
            for each in inputs:
                {"protocol": self._protocol, "ibus": self._ibus, "northbound-config-change": self._config}[kind](each)

    def _protocol(self, what: dict[str, Any]) -> None:
        self.player.reason = None
        try:
            self._follow(self.player, lambda: self.player.hear(what))
        except LookupError:
            self.seen["northbound-notif"].append(NO_SUCH_VRID)
        if self.player.reason is not None:
            self.seen["northbound-notif"].append(ERRORS[self.player.reason])

    def _ibus(self, what: dict[str, Any]) -> None:
        update = what["InterfaceUpd"]
        subject = f"interface {update['ifname']}"
        runs = "OPERATIVE" in update["flags"]
        event: Event = FaultCleared(subject) if runs else FaultRaised(subject, f"{subject} is down")
        self._follow(self.player, lambda: self.player.step(event))

    def _config(self, tree: dict[str, Any]) -> None:
        for found in instances(tree, 4):
            operation = found.get("@", {}).get("yang:operation")
            vrid = found["vrid"]
            if operation == "create":
                self._create(vrid, found)
            elif operation == "delete":
                self._follow(self.players[vrid], lambda vrid=vrid: self.players[vrid].step(Shutdown()))  # type: ignore[misc]
                del self.players[vrid]
                self.seen["ibus"].append({"MacvlanDel": {"ifname": f"{VMAC}{vrid}"}})
            else:
                self._change(self.players[vrid], found["virtual-ipv4-addresses"]["virtual-ipv4-address"])

    def _create(self, vrid: int, found: dict[str, Any]) -> None:
        """Its interface is asked for, and until it is there the new router waits."""
        made = copy.copy(self.player)
        texts = [each["ipv4-address"] for each in found["virtual-ipv4-addresses"]["virtual-ipv4-address"]]
        made.config = replace(self.player.config, vrid=vrid, priority=100, addresses=rows(texts))
        made.router = VirtualRouter(made.config, self.player.router.source)
        made.step(FaultRaised("VMAC", "there is no VMAC"))
        self._follow(made, lambda: made.step(Startup()))
        self.players[vrid] = made
        mac = MacAddress.virtual_router(vrid, 4)
        add = {"parent_ifname": "eth-sw1", "ifname": f"{VMAC}{vrid}", "mac_addr": list(mac.octets)}
        self.seen["ibus"].append({"MacvlanAdd": add})

    def _change(self, player: Player, changes: list[dict[str, Any]]) -> None:
        addresses = list(player.router.config.addresses)
        for each in changes:
            row = rows([each["ipv4-address"]])[0]
            if each["@"]["yang:operation"] == "create":
                addresses.append(row)
            else:
                addresses.remove(row)
        config = replace(player.router.config, addresses=tuple(addresses))
        self._follow(player, lambda: player.step(ConfigChanged(config)))

    def _follow(self, player: Player, act: Callable[[], list[Effect]]) -> None:
        """What an act makes of a router, in holo's words."""
        before = held(player.router)
        effects = act()
        after = held(player.router)
        name = f"{VMAC}{player.config.vrid}"
        for verb, addresses in (("Add", after - before), ("Del", before - after)):
            for address in sorted(addresses):
                self.seen["ibus"].append({f"InterfaceIp{verb}Request": {"ifname": name, "addr": f"{address}/32"}})
        for effect in effects:
            self._tell(player, effect)

    def _tell(self, player: Player, effect: Effect) -> None:
        source = player.router.source
        assert source is not None
        if isinstance(effect, SendAdvert):
            packet = decoded(encode(player.router.config, effect.priority, source, GROUPS[4]), source)
            self.seen["protocol"].append({"NetTxPacket": {"Vrrp": {"packet": packet}}})
        elif isinstance(effect, AnnounceVips):
            for row in player.router.config.addresses * effect.rounds:
                frame = gratuitous_arp(row.address, MacAddress.virtual_router(player.config.vrid, 4).octets)
                self.seen["protocol"].append({"NetTxPacket": {"Arp": decoded_arp(frame, player.config.vrid)}})
        elif isinstance(effect, Transition) and effect.new is State.MASTER:
            event = {"master-ip-address": str(source), "new-master-reason": "no-response"}
            self.seen["northbound-notif"].append({"ietf-vrrp:vrrp-new-master-event": event})


def held(router: VirtualRouter) -> set[str]:
    return {str(row.address) for row in router.config.addresses} if router.state is State.MASTER else set()


def decoded(message: bytes, source: IPAddress) -> dict[str, Any]:
    """An advert of ours with holo's names; holo has the checksum filled in later."""
    kind, vrid, priority, count, _, interval = message[:6]
    addresses = [str(IPv4Address(message[at : at + 4])) for at in range(8, 8 + 4 * count, 4)]
    return {
        "ip": {"total_length": 20 + len(message), "src_address": str(source)},
        "vrrp": {
            "version": f"V{kind >> 4}",
            "hdr_type": kind & 0xF,
            "vrid": vrid,
            "priority": priority,
            "count_ip": count,
            "adver_int": interval,
            "checksum": 0,
            "ip_addresses": addresses,
        },
    }


def decoded_arp(frame: bytes, vrid: int) -> dict[str, Any]:
    return {
        "vrid": vrid,
        "ifindex": 3,
        "eth_hdr": {
            "dst_mac": list(frame[:6]),
            "src_mac": list(frame[6:12]),
            "ethertype": int.from_bytes(frame[12:14]),
        },
        "arp_hdr": {
            "sender_hw_address": list(frame[22:28]),
            "sender_proto_address": str(IPv4Address(frame[28:32])),
            "target_proto_address": str(IPv4Address(frame[38:42])),
        },
    }


@pytest.mark.parametrize("name", STARTS)
def test_a_case(holo: Path, name: str) -> None:
    case = Case(holo, name)
    case.play()
    for kind, seen in case.seen.items():
        path = case.folder / f"01-output-{kind}.jsonl"
        assert seen == (lines(path) if path.exists() else []), kind
    path = case.folder / "01-output-northbound-state.json"
    if path.exists():
        expected = {each["vrid"]: each["state"] for each in instances(json.loads(path.read_text()), 4)}
        assert case.players.keys() == expected.keys()
        assert all(case.players[vrid].router.state in RUNNING[state] for vrid, state in expected.items())


def test_every_case_is_played(holo: Path) -> None:
    """24: a new folder of theirs must not be passed over."""
    assert {path.name for path in holo.iterdir() if path.is_dir()} - {"topologies"} == set(STARTS)
    assert {path.name for path in (holo / "topologies").iterdir() if path.is_dir()} == set(TOPOLOGIES)
    routers = [path for topology in TOPOLOGIES for path in (holo / "topologies" / topology).iterdir() if path.is_dir()]
    assert len(STARTS) + len(routers) == 24


def test_a_link_that_fails_and_an_instance_that_is_removed(holo: Path) -> None:
    player = Player(holo / "topologies" / "v2-topo1-1" / "rt3")
    player.step(FaultRaised("interface eth-sw1", "down"))
    assert player.router.state in RUNNING["initialize"]
    player.step(Shutdown())
    assert player.router.deadline is None

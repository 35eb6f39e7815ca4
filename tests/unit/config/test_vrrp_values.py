"""What instances become: defaults, corrections, strict mode (vrrp-behaviour.md 1, 2, 3, 4, 5, 10, 11, 14)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from keepalived_py.config.model import GarpSettings, VrrpInstance
from tests.unit.config.helpers_config import INSTANCE, load_text

PEER = "unicast_peer {\n 10.0.0.9 %s\n }"


def built(directory: Path, lines: str, *, addresses: str = "10.0.0.100", head: str = "") -> VrrpInstance:
    """The instance that `lines` make of the usual one."""
    text = INSTANCE.replace("virtual_ipaddress", f"{lines}\n    virtual_ipaddress").replace("10.0.0.100", addresses)
    config = load_text(directory, f"{head}\n{text}").config
    assert config is not None
    return config.vrrp.instances[0]


def values(instance: VrrpInstance, names: str) -> tuple[Any, ...]:
    return tuple(getattr(instance, name) for name in names.split())


@pytest.mark.parametrize(
    ("lines", "addresses", "family"),
    [
        ("", "10.0.0.100", 4),
        ("", "fe80::1", 6),
        ("mcast_src_ip fe80::9\n no_virtual_ipaddress", "", 6),
        ("native_ipv6\n no_virtual_ipaddress", "", 6),
        ("no_virtual_ipaddress", "", 4),
    ],
)
def test_the_family_is_that_of_what_is_known(tmp_path: Path, lines: str, addresses: str, family: int) -> None:
    assert built(tmp_path, lines, addresses=addresses).family == family


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("state BACKUP\n preempt_delay 5", (True, 5.0)),
        ("state MASTER\n priority 100\n preempt_delay 5", (True, 0.0)),
        ("nopreempt\n preempt_delay 5", (False, 0.0)),
        ("strict_mode on\n preempt_delay 5", (True, 0.0)),
        ("state MASTER\n priority 100\n nopreempt", (True, 0.0)),
        ("state BACKUP\n priority 255\n nopreempt", (True, 0.0)),
        ("state BACKUP\n nopreempt", (False, 0.0)),
    ],
)
def test_when_preemption_may_be_delayed_or_switched_off(tmp_path: Path, lines: str, expected: object) -> None:
    assert values(built(tmp_path, lines), "preempt preempt_delay") == expected


@pytest.mark.parametrize(("lines", "limit"), [("nopreempt\n timer_expired_backup 77", 77), ("timer_expired_backup", 0)])
def test_stepping_down_after_a_stall_needs_nopreempt(tmp_path: Path, lines: str, limit: int) -> None:
    assert built(tmp_path, lines).timer_expired_backup == limit


def test_what_does_not_fit_an_advert_is_not_advertised(tmp_path: Path) -> None:
    """Octets of Ethernet's 1500 hold 366 addresses of IPv4, but the count has 8 bits; of IPv6 they hold 90."""
    many = "\n".join(f"10.1.{number // 200}.{number % 200 + 1}" for number in range(300))
    found = built(tmp_path, "", addresses=many)
    assert (len(found.addresses), len(found.excluded)) == (255, 45)
    found = built(tmp_path, "", addresses="fe80::1\n" + "\n".join(f"fd00::{number:x}" for number in range(1, 100)))
    assert (len(found.addresses), len(found.excluded)) == (90, 10)


@pytest.mark.parametrize(
    ("head", "lines", "checked"),
    [
        ("", PEER % "", False),
        ("", "check_unicast_src\n " + PEER % "", True),
        ("global_defs {\n vrrp_check_unicast_src\n}", PEER % "", True),
        ("", PEER % "min_ttl 250", True),
        ("", PEER % "max_ttl 5", True),
        ("", "check_unicast_src", False),
    ],
)
def test_when_unicast_senders_are_looked_at(tmp_path: Path, head: str, lines: str, checked: bool) -> None:
    assert built(tmp_path, lines, head=head).check_unicast_src is checked


@pytest.mark.parametrize(
    ("lines", "expected"),
    [(PEER % "", (True, None)), ("unicast_ttl 64\n " + PEER % "", (True, 64)), ("unicast_ttl 64", (False, None))],
)
def test_unicast_needs_peers(tmp_path: Path, lines: str, expected: object) -> None:
    found = built(tmp_path, lines)
    assert values(found, "unicast unicast_ttl") == expected
    assert (found.mcast_group is None) is found.unicast


@pytest.mark.parametrize(("lines", "fault"), [("", ""), ("unicast_fault_no_peer", "no unicast peer is configured")])
def test_without_peers_there_may_be_a_fault(tmp_path: Path, lines: str, fault: str) -> None:
    assert built(tmp_path, lines).config_fault == fault


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ("use_ipvlan", "an IPv4 instance on an ipvlan needs an address for it"),
        ("use_ipvlan 10.0.0.9", ""),
    ],
)
def test_an_ipvlan_needs_an_address(tmp_path: Path, lines: str, fault: str) -> None:
    assert built(tmp_path, lines).config_fault == fault


def test_multicast_and_unicast_sources_are_one(tmp_path: Path) -> None:
    assert str(built(tmp_path, "mcast_src_ip 10.0.0.1").source) == "10.0.0.1"
    assert str(built(tmp_path, "unicast_src_ip 10.0.0.1\n " + PEER % "").source) == "10.0.0.1"


def test_a_password_has_eight_octets(tmp_path: Path) -> None:
    lines = "version 2\n authentication {\n auth_type PASS\n auth_pass 123456789\n }"
    found = built(tmp_path, lines).authentication
    assert found is not None
    assert found.password == b"12345678"


def test_an_authentication_header_does_not_begin_as_master(tmp_path: Path) -> None:
    lines = "version 2\n state MASTER\n priority 100\n authentication {\n auth_type AH\n auth_pass x\n }"
    assert not built(tmp_path, lines).wants_master


def test_addresses_of_another_family_and_doubles_are_left_out(tmp_path: Path) -> None:
    found = built(tmp_path, "virtual_ipaddress_excluded {\n fd00::7\n }", addresses="10.0.0.1\n fd00::1\n 10.0.0.1")
    assert [str(row.address) for row in found.addresses] == ["10.0.0.1"]
    assert [str(row.address) for row in found.excluded] == ["fd00::7"]


@pytest.mark.parametrize(
    ("head", "lines", "expected"),
    [
        ("", "", (5.0, 5, 0.0, 1)),
        ("global_defs {\n vrrp_min_garp\n}", "", (0.0, 1, 0.0, 1)),
        ("global_defs {\n vrrp_min_garp\n}", "garp_master_delay 7", (7.0, 1, 0.0, 1)),
        ("global_defs {\n vrrp_garp_master_refresh 60\n}", "garp_master_repeat 2", (5.0, 2, 60.0, 1)),
    ],
)
def test_how_often_addresses_are_announced(tmp_path: Path, head: str, lines: str, expected: object) -> None:
    garp: GarpSettings = built(tmp_path, lines, head=head).garp
    assert (garp.master_delay, garp.master_repeat, garp.master_refresh, garp.master_refresh_repeat) == expected


CONDUCT = "accept down_timer_adverts lower_prio_no_advert higher_prio_send_advert owner_ignore_adverts"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("version 3", (True, 3, False, False, False)),
        ("version 3\n strict_mode on", (False, 3, True, False, False)),
        ("version 3\n strict_mode on\n accept", (True, 3, True, False, False)),
        ("version 2\n strict_mode on\n accept", (False, 3, True, False, False)),
        (
            "version 3\n strict_mode on\n down_timer_adverts 5\n higher_prio_send_advert on",
            (False, 3, True, False, False),
        ),
        ("version 3\n strict_mode on\n priority 255", (True, 3, True, False, True)),
        ("priority 255\n owner_ignore_adverts", (True, 3, False, False, True)),
        ("owner_ignore_adverts", (True, 3, False, False, False)),
    ],
)
def test_strict_mode_overrules(tmp_path: Path, lines: str, expected: object) -> None:
    assert values(built(tmp_path, lines), CONDUCT) == expected


@pytest.mark.parametrize(
    ("lines", "wants"),
    [
        ("strict_mode on\n state MASTER\n priority 200", False),
        ("strict_mode on\n state BACKUP\n priority 255", True),
        ("state MASTER\n priority 200", True),
    ],
)
def test_in_strict_mode_only_an_owner_wants_to_be_master(tmp_path: Path, lines: str, wants: bool) -> None:
    assert built(tmp_path, lines).wants_master is wants


def test_in_strict_mode_there_is_no_burst_after_a_lower_priority(tmp_path: Path) -> None:
    garp = built(tmp_path, "strict_mode on\n garp_lower_prio_repeat 4\n garp_lower_prio_delay 4").garp
    assert (garp.lower_prio_repeat, garp.lower_prio_delay) == (0, 0)


@pytest.mark.parametrize("lines", [PEER % "", "no_virtual_ipaddress"])
def test_what_strict_mode_does_not_start_with(tmp_path: Path, lines: str) -> None:
    addresses = "" if "no_virtual" in lines else "10.0.0.100"
    text = INSTANCE.replace("virtual_ipaddress", f"strict_mode on\n {lines}\n virtual_ipaddress")
    assert load_text(tmp_path, text.replace("10.0.0.100", addresses)).config is None


@pytest.mark.parametrize(
    ("lines", "version"), [("", 3), ("version 3", 3), ("version 2", 2), ("version 2\n strict_mode on", 3)]
)
def test_version_2_over_ipv6_unless_strict(tmp_path: Path, lines: str, version: int) -> None:
    """Where it is asked for, as keepalived does: it would be a second master beside others of its file."""
    assert built(tmp_path, lines, addresses="fe80::1").version == version


@pytest.mark.parametrize(("kind", "kept"), [("PASS", True), ("AH", False)])
def test_no_authentication_header_over_ipv6(tmp_path: Path, kind: str, kept: bool) -> None:
    lines = f"version 2\n authentication {{\n auth_type {kind}\n auth_pass x\n }}"
    assert (built(tmp_path, lines, addresses="fe80::1").authentication is not None) is kept


def test_strict_mode_knows_no_authentication(tmp_path: Path) -> None:
    lines = "version 2\n strict_mode on\n authentication {\n auth_type PASS\n auth_pass x\n }"
    assert built(tmp_path, lines).authentication is None

"""Accept mode and the filters of VMACs by iptables and ipset, where iptables is the older one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.netns.conftest import Pair
from tests.netns.rig import OURS, Host
from tests.netns.test_firewall import BOTH, SIX, VIP, VIP6, answers, config, master, rules

LEGACY = "/usr/sbin/xtables-legacy-multi"
pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(not Path(LEGACY).exists() or shutil.which("ipset") is None, reason="needs iptables and ipset"),
]
NOTHING = ["-P INPUT ACCEPT", "-P FORWARD ACCEPT", "-P OUTPUT ACCEPT"]
JUMPS = {"-A INPUT -j keepalived_in", "-A OUTPUT -j keepalived_out"}


@pytest.fixture
def legacy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory at the head of PATH whose iptables does not write to nftables."""
    for name in ("iptables", "iptables-restore", "ip6tables", "ip6tables-restore"):
        (tmp_path / name).symlink_to(LEGACY)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def listed(host: Host, program: str) -> list[str]:
    return host.run(f"{program}-legacy", "-S").splitlines()


def sets(host: Host) -> set[str]:
    """Members of all sets, with the name of their set."""
    return {line[4:] for line in host.run("ipset", "save").splitlines() if line.startswith("add ")}


def iptables(*lines: str, addresses: str = BOTH, defaults: str = "") -> str:
    return config(*lines, addresses=addresses, defaults=f"vrrp_iptables\n {defaults}")


@pytest.mark.parametrize("without", ["", "vrrp_ipsets"], ids=["sets", "rules"])
@pytest.mark.parametrize(("addresses", "address"), [(BOTH, VIP), (SIX, VIP6)], ids=["ipv4", "ipv6"])
def test_closed_addresses_do_not_answer(pair: Pair, legacy: Path, addresses: str, address: str, without: str) -> None:
    pair.one.run("iptables-legacy", "-A", "INPUT", "-s", "192.0.2.1", "-j", "DROP")
    text = iptables("no_accept", "use_vmac", addresses=addresses, defaults=without)
    daemon = master(pair, pair.one, OURS, text, address)
    assert rules(pair.one) == []
    assert not answers(pair.client, address)
    assert answers(pair.client, "10.0.0.1" if address == VIP else "fd00::1")
    found = listed(pair.one, "iptables" if address == VIP else "ip6tables")
    assert set(found) >= JUMPS
    if without:
        assert f"-A keepalived_in -d {address}/{32 if address == VIP else 128} -j DROP" in found
        pair.rig.wait(lambda: "-o vrrp" in str(listed(pair.one, "iptables" if address == VIP else "ip6tables")), 3)
    elif address == VIP:
        assert sets(pair.one) == {f"keepalived {VIP}", "keepalived_igmp 224.0.0.0/4,vrrp.51"}
    else:
        assert sets(pair.one) == {
            f"keepalived6 {VIP6}",
            "keepalived_if6 fe80::100,vrrp.51",
            "keepalived_mld ff00::/8,vrrp.51",
        }
    daemon.rewrite(iptables("accept", addresses=addresses, defaults=without))
    daemon.signal(1)
    pair.rig.wait(lambda: answers(pair.client, address), 10)
    daemon.stop()
    assert listed(pair.one, "iptables") == [*NOTHING, "-A INPUT -s 192.0.2.1/32 -j DROP"]
    assert listed(pair.one, "ip6tables") == NOTHING
    assert pair.one.run("ipset", "list", "-n") == ""


def test_a_backup_closes_nothing_and_what_a_killed_daemon_left_is_replaced(pair: Pair, legacy: Path) -> None:
    killed = master(pair, pair.one, OURS, iptables("no_accept", addresses=f"{BOTH}\n 10.0.0.105/24"), VIP)
    killed.kill()
    assert "keepalived 10.0.0.105" in sets(pair.one)
    daemon = pair.one.start(OURS, iptables("no_accept", defaults="vrrp_ipsets mine"))
    pair.rig.wait(lambda: "Entering BACKUP" in daemon.log, 10)
    pair.rig.wait(lambda: "Entering MASTER" in daemon.log or sets(pair.one) == {"keepalived 10.0.0.105"}, 10)
    pair.rig.wait(lambda: "mine 10.0.0.100" in sets(pair.one), 10)
    assert [line for line in listed(pair.one, "iptables") if "-j keepalived_" in line].count(
        "-A INPUT -j keepalived_in"
    ) == 1
    assert not any("match-set keepalived " in line for line in listed(pair.one, "iptables"))


def test_chains_of_the_users(pair: Pair, legacy: Path) -> None:
    for chain in ("theirs_in", "theirs_out"):
        pair.one.run("iptables-legacy", "-N", chain)
    text = config("no_accept", defaults="vrrp_iptables theirs_in theirs_out")
    daemon = master(pair, pair.one, OURS, text, VIP)
    assert {"-A theirs_in -j keepalived_in", "-A theirs_out -j keepalived_out"} <= set(listed(pair.one, "iptables"))
    daemon.stop()
    assert listed(pair.one, "iptables") == [*NOTHING, "-N theirs_in", "-N theirs_out"]


def test_without_ipset_every_address_has_rules(pair: Pair, legacy: Path) -> None:
    (legacy / "ipset").write_text("#!/bin/sh\necho no such thing >&2\nexit 1\n")
    (legacy / "ipset").chmod(0o755)
    daemon = master(pair, pair.one, OURS, iptables("no_accept"), VIP)
    assert "ipset: no such thing: every address has rules of its own" in daemon.log
    assert not answers(pair.client, VIP)


def test_the_iptables_of_nftables_means_nftables(pair: Pair) -> None:
    daemon = master(pair, pair.one, OURS, iptables("no_accept"), VIP)
    assert "iptables writes to nftables here: nftables is used" in daemon.log
    assert any(VIP in each for each in rules(pair.one))

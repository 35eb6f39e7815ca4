"""Accept mode and the filters of VMACs by iptables and ipset, where iptables is the older one."""

from __future__ import annotations

import os
import shutil
import signal
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.netns.conftest import Pair
from tests.netns.rig import OURS, Capture, Frame, Host, children_of
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
def test_closed_addresses_do_not_answer_and_reports_leave_below_the_vmac(
    pair: Pair, legacy: Path, addresses: str, address: str, without: str
) -> None:
    pair.one.run("iptables-legacy", "-A", "INPUT", "-s", "192.0.2.1", "-j", "DROP")
    wire = pair.lan.capture()
    text = iptables("no_accept", "use_vmac", addresses=addresses, defaults=without)
    daemon = master(pair, pair.one, OURS, text, address)
    assert rules(pair.one) == []
    vmac = bytes((0, 0, 0x5E, 0, 1 if address == VIP else 2, 51))
    reports_go_below(pair, wire, vmac, ip_address("224.0.0.18" if address == VIP else "ff02::12").packed)
    assert not answers(pair.client, address)
    assert answers(pair.client, "10.0.0.1" if address == VIP else "fd00::1")
    found = listed(pair.one, "iptables" if address == VIP else "ip6tables")
    assert set(found) >= JUMPS
    if without:
        assert f"-A keepalived_in -d {address}/{32 if address == VIP else 128} -j DROP" in found
        if address == VIP6:
            assert [line for line in found if "keepalived_in" in line and "fe80::100" in line] == [
                f"-A keepalived_in -d fe80::100/128 -i {link} -j DROP" for link in ("eth0", "vrrp.51")
            ]
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


DROPPED = "reports of group membership from VMACs are dropped, not sent below"
WITHOUT_TEE = f"""#!/bin/sh
text=$(cat)
case "$text" in *TEE*) echo no such target >&2; exit 1;; esac
echo "$text" | exec {LEGACY} iptables-restore "$@"
"""


def reports_go_below(pair: Pair, wire: Capture, vmac: bytes, group: bytes) -> None:
    """Reports of membership of `group` leave with the address of eth0, and none with that of the VMAC."""
    below = bytes.fromhex(pair.one.run("cat", "/sys/class/net/eth0/address").strip().replace(":", ""))

    def reports() -> list[bytes]:
        return [frame.data for frame in wire.frames if is_report(frame)]

    pair.rig.wait(lambda: any(data[6:12] == below and group in data[34:] for data in reports()), 10)
    assert vmac not in {data[6:12] for data in reports()}
    assert vmac in {frame.data[6:12] for frame in wire.frames}  # its adverts


def is_report(frame: Frame) -> bool:
    """IGMP, or MLD version 2 behind its hop-by-hop header, and router solicitations."""
    data = frame.data
    return (frame.protocol == 0x0800 and data[23] == 2) or (
        frame.protocol == 0x86DD and ((data[20], data[62]) == (0, 143) or (data[20], data[54]) == (58, 133))
    )


def test_without_copies_in_the_kernel_the_filters_work(pair: Pair, legacy: Path) -> None:
    (legacy / "iptables-restore").unlink()
    (legacy / "iptables-restore").write_text(WITHOUT_TEE)
    (legacy / "iptables-restore").chmod(0o755)
    daemon = master(pair, pair.one, OURS, iptables("no_accept", "use_vmac"), VIP)
    pair.rig.wait(lambda: f"iptables-restore: no such target: {DROPPED}" in daemon.log, 10)
    assert not answers(pair.client, VIP)


CHANGES = {
    "iptables-legacy -F": "chains of iptables",
    "iptables-legacy -D INPUT -j keepalived_in": "chains of iptables",
    "iptables-legacy -F keepalived_out": "chains of iptables",
    "ipset flush keepalived": "set keepalived",
    "ipset del keepalived_igmp 224.0.0.0/4,vrrp.51": "set keepalived_igmp",
    "ipset destroy keepalived_mld": "set keepalived_mld",
}


def test_what_others_change_is_put_back(pair: Pair, legacy: Path) -> None:
    text = iptables("use_vmac", "no_accept", defaults="vrrp_restore_lost 100")
    daemon = master(pair, pair.one, OURS, text, VIP)
    pair.rig.wait(lambda: any(" -j TEE " in line for line in listed(pair.one, "iptables")), 10)
    pair.one.run("ip6tables-legacy", "-A", "INPUT", "-s", "fd00::7", "-j", "DROP")  # is not ours
    rules_before, sets_before = listed(pair.one, "iptables"), sets(pair.one)

    def as_before() -> bool:
        return (sorted(listed(pair.one, "iptables")), sets(pair.one)) == (sorted(rules_before), sets_before)

    for number, (change, what) in enumerate(CHANGES.items(), 1):
        pair.one.run("sh", "-c", change)
        pair.rig.wait(lambda number=number: daemon.log.count("is put back") == number, 10)
        daemon.said(f"{what} was changed by somebody else and is put back")
        pair.rig.wait(as_before, 10)
    assert not answers(pair.client, VIP)
    assert daemon.log.count("is put back") == len(CHANGES)
    (worker,) = children_of(daemon.process.pid)
    os.kill(worker, signal.SIGUSR1)
    data = daemon.directory / "keepalived.data"
    pair.rig.wait(lambda: data.exists() and f"Filters put back: {len(CHANGES)}" in data.read_text(), 10)
    daemon.stop()
    assert listed(pair.one, "iptables") == NOTHING


def test_flushed_chains_are_back_at_once(pair: Pair, legacy: Path) -> None:
    """Half a second; nobody tells of changes of iptables. The best of three, as the machine may be busy."""
    master(pair, pair.one, OURS, iptables("no_accept"), VIP)
    whole, waited = listed(pair.one, "iptables"), []
    for _ in range(3):
        pair.one.run("iptables-legacy", "-F")
        waited.append(pair.rig.wait(lambda: listed(pair.one, "iptables") == whole, 10))
    assert min(waited) < 0.5, waited


def test_keepaliveds_way_leaves_them(pair: Pair, legacy: Path) -> None:
    daemon = master(pair, pair.one, OURS, iptables("no_accept", defaults="vrrp_restore_lost 0"), VIP)
    pair.one.run("iptables-legacy", "-F")
    pair.rig.wait(lambda: "and stays so" in daemon.log, 10)
    pair.rig.holds(lambda: answers(pair.client, VIP), 0.5)


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
    daemon.said("ipset: no such thing: every address has rules of its own")
    assert not answers(pair.client, VIP)


def test_the_iptables_of_nftables_means_nftables(pair: Pair) -> None:
    daemon = master(pair, pair.one, OURS, iptables("no_accept"), VIP)
    daemon.said("iptables writes to nftables here: nftables is used")
    assert any(VIP in each for each in rules(pair.one))

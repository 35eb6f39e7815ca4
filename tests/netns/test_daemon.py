"""The daemon as people meet it: reload, broken files, killed workers, stop, unicast, groups."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.netns.conftest import Pair
from tests.netns.rig import OURS, THEIRS, Daemon, children_of, inside, patience
from tests.netns.test_vrrp_takeover import VIP4, config

pytestmark = pytest.mark.netns


def fast(priority: int, *extra: str) -> str:
    return config(priority, 3, 4, *extra, interval="0.2")


def master(pair: Pair, text: str | None = None) -> Daemon:
    """Ours, alone and MASTER on host one."""
    daemon = pair.one.start(OURS, text or fast(150))
    pair.rig.wait(lambda: pair.one.has(VIP4), 10)
    daemon.said("Entering MASTER STATE")
    return daemon


def test_stop_is_quick_and_leaves_nothing(pair: Pair) -> None:
    daemon = master(pair)
    started = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - started < patience(0.5)
    assert not pair.one.has(VIP4)
    assert not list(daemon.directory.glob("*.pid"))


def test_pid_files_and_process_names(pair: Pair) -> None:
    daemon = master(pair)
    assert daemon.pid_of("parent") == daemon.process.pid
    assert children_of(daemon.process.pid) == [daemon.pid_of("vrrp")]
    title = Path(f"/proc/{daemon.pid_of('vrrp')}/cmdline").read_text()
    assert title.startswith("keepalived_vrrp ")


def test_a_second_daemon_with_the_same_pid_file_does_not_start(pair: Pair) -> None:
    daemon = master(pair)
    done = pair.two.run(
        ".venv/bin/keepalived-py",
        "-nlG",
        "-f",
        str(daemon.directory / "conf"),
        "-p",
        str(daemon.directory / "parent.pid"),
    )
    assert done == ""
    assert not pair.two.has(VIP4)


def test_a_broken_file_changes_nothing(pair: Pair) -> None:
    daemon = master(pair)
    wire = pair.lan.capture()
    vrrp = daemon.pid_of("vrrp")
    daemon.rewrite(fast(150).replace("priority 150", "priority 300") + "vrrp_instance {\n")
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: "the old configuration stays" in daemon.log, 3)
    assert "conf: Line 7) priority: '300' is not a number from 1 to 255, column 14" in daemon.log
    pair.rig.holds(lambda: pair.one.has(VIP4), 0.5)
    assert daemon.pid_of("vrrp") == vrrp
    assert not wire.announcements(VIP4)
    assert daemon.log.count("STATE") == 2  # BACKUP and MASTER of the start


def test_a_reload_brings_what_is_new_and_leaves_the_rest_alone(pair: Pair) -> None:
    daemon = master(pair)
    pair.two.start(THEIRS, fast(100))
    wire = pair.lan.capture()
    daemon.rewrite(fast(150).replace(f"{VIP4}/24", f"{VIP4}/24\n        10.0.0.101/24"))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: pair.one.has("10.0.0.101"), 3)
    pair.rig.wait(lambda: "Reload complete, configuration 2" in daemon.log, 2)
    daemon.said("Configuration changes: instances -0 +0 ~1 =0")
    pair.rig.wait(lambda: wire.announcements("10.0.0.101"), 1)
    assert not wire.announcements(VIP4)
    daemon.rewrite(fast(150))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: not pair.one.has("10.0.0.101"), 3)
    pair.rig.holds(lambda: pair.one.has(VIP4), 1)
    assert daemon.log.count("Entering MASTER STATE") == 1
    gaps = [b.time - a.time for a, b in zip(wire.adverts("10.0.0.1"), wire.adverts("10.0.0.1")[1:], strict=False)]
    assert max(gaps) < patience(0.35)


@pytest.mark.parametrize("order", [1, -1])
def test_an_address_that_goes_to_another_instance_stays_where_it_is(pair: Pair, order: int) -> None:
    moving = "10.0.0.101"

    def text(*first: str) -> str:
        second = fast(150).replace("VI_1", "VI_2").replace("_id 51", "_id 52").replace(VIP4, "10.0.0.102")
        blocks = [fast(150), second]
        here = blocks[bool(first)]
        blocks[bool(first)] = here.replace("virtual_ipaddress {", f"virtual_ipaddress {{\n        {moving}/24")
        return "".join(blocks[::order])

    daemon = pair.one.start(OURS, text())
    pair.rig.wait(lambda: pair.one.addresses() >= {VIP4, moving, "10.0.0.102"}, 10)
    with inside(pair.one.namespace):
        monitor = subprocess.Popen(["ip", "monitor", "addr"], stdout=subprocess.PIPE, text=True)
    time.sleep(0.2)
    daemon.rewrite(text("second"))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: "Reload complete" in daemon.log, 10)
    pair.rig.holds(lambda: pair.one.has(moving), 0.5)
    monitor.terminate()
    assert "Deleted" not in (monitor.communicate()[0] or "")
    assert "removed by somebody else" not in daemon.log
    os.kill(daemon.pid_of("vrrp"), signal.SIGUSR1)
    data = daemon.directory / "keepalived.data"
    pair.rig.wait(lambda: data.exists() and "VI_2: MASTER" in data.read_text(), 10)
    daemon.stop()
    assert not pair.one.addresses() & {VIP4, moving, "10.0.0.102"}


def test_an_interface_that_is_not_there_refuses_the_reload(pair: Pair) -> None:
    daemon = master(pair)
    daemon.rewrite(fast(150) + fast(150).replace("VI_1", "VI_2").replace("eth0", "nothere0"))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: "interface nothere0 does not exist; the old configuration stays" in daemon.log, 3)
    assert pair.one.has(VIP4)


def test_a_missing_interface_ends_the_start_with_2(pair: Pair) -> None:
    daemon = pair.one.start(OURS, fast(150).replace("eth0", "nothere0"))
    assert daemon.process.wait(5) == 2


def test_a_killed_worker_is_back_as_master_with_its_addresses(pair: Pair) -> None:
    daemon = master(pair)
    pair.two.start(THEIRS, fast(100))
    pair.rig.holds(lambda: not pair.two.has(VIP4), 1)
    daemon.rewrite(fast(150).replace("VI_1", "VI_9"))  # is known by its new name, too
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: "Reload complete" in daemon.log, 10)
    wire = pair.lan.capture()
    with inside(pair.one.namespace):
        monitor = subprocess.Popen(["ip", "monitor", "addr"], stdout=subprocess.PIPE, text=True)
    time.sleep(0.2)
    killed = daemon.pid_of("vrrp")
    os.kill(killed, signal.SIGKILL)
    pair.rig.holds(lambda: not pair.two.has(VIP4) and pair.one.has(VIP4), 2)
    monitor.terminate()
    assert "Deleted" not in (monitor.communicate()[0] or "")
    assert daemon.pid_of("vrrp") != killed
    daemon.said("taken over from the process that died")
    gaps = [b.time - a.time for a, b in zip(wire.adverts("10.0.0.1"), wire.adverts("10.0.0.1")[1:], strict=False)]
    assert max(gaps) < patience(0.5)


def test_workers_end_when_the_parent_is_killed(pair: Pair) -> None:
    daemon = master(pair)
    vrrp = daemon.pid_of("vrrp")
    os.kill(daemon.process.pid, signal.SIGKILL)
    daemon.process.wait()
    pair.rig.wait(lambda: not os.path.exists(f"/proc/{vrrp}"), 3)
    assert not pair.one.has(VIP4)


def test_left_overs_of_a_killed_daemon_are_removed_by_a_backup(pair: Pair) -> None:
    master(pair).kill()
    assert pair.one.has(VIP4)
    pair.two.start(THEIRS, fast(200))
    pair.rig.wait(lambda: pair.two.has(VIP4), 10)
    pair.one.start(OURS, fast(150))
    pair.rig.wait(lambda: not pair.one.has(VIP4), 10)


def test_an_address_that_somebody_removes_is_put_back_and_announced(pair: Pair) -> None:
    daemon = master(pair)
    wire = pair.lan.capture()
    pair.one.run("ip", "addr", "del", f"{VIP4}/24", "dev", "eth0")
    assert pair.rig.wait(lambda: pair.one.has(VIP4), 1) < patience(0.2)
    pair.rig.wait(lambda: wire.announcements(VIP4), 1)
    daemon.said("was removed by")
    assert daemon.log.count("Entering MASTER STATE") == 1


@pytest.mark.parametrize("peer", [OURS, THEIRS])
def test_unicast(pair: Pair, peer: str) -> None:
    def text(priority: int, own: int, other: int) -> str:
        extra = f"unicast_src_ip 10.0.0.{own}\n unicast_peer {{\n 10.0.0.{other}\n }}"
        return config(priority, 2, 4, extra)

    one = pair.one.start(OURS, text(150, 1, 2))
    pair.two.start(peer, text(100, 2, 1))
    pair.rig.wait(lambda: pair.masters(VIP4) == ["one"], 6)
    pair.rig.holds(lambda: pair.masters(VIP4) == ["one"], 1.5)
    one.kill()
    pair.one.run("ip", "addr", "del", f"{VIP4}/24", "dev", "eth0")
    pair.rig.wait(lambda: pair.masters(VIP4) == ["two"], 5)


def test_a_group_moves_together(pair: Pair) -> None:
    lan = pair.rig.switch("inner")
    pair.one.plug(lan, "eth1", "10.1.0.1/24")
    pair.two.plug(lan, "eth1", "10.1.0.2/24")
    inner = fast(150).replace("VI_1", "VI_2").replace("eth0", "eth1").replace("10.0.0.100", "10.1.0.100")
    group = "vrrp_sync_group G {\n group {\n VI_1\n VI_2\n }\n notify \"/bin/sh -c 'echo $* told' sh\"\n}\n"
    text = fast(150) + inner + group
    one = pair.one.start(OURS, text)
    pair.two.start(THEIRS, text.replace("priority 150", "priority 100"))
    pair.rig.wait(lambda: pair.one.addresses() >= {VIP4, "10.1.0.100"}, 6)
    pair.rig.wait(lambda: "GROUP G MASTER 0 told" in one.log, 2)
    pair.one.cut("eth1")
    pair.rig.wait(lambda: pair.two.addresses() >= {VIP4, "10.1.0.100"}, 6)
    assert not pair.one.has(VIP4)
    pair.rig.wait(lambda: "GROUP G FAULT 0 told" in one.log, 2)
    pair.one.restore("eth1")
    pair.rig.wait(lambda: pair.one.addresses() >= {VIP4, "10.1.0.100"}, 8)


def test_notify_scripts_and_tracked_scripts(pair: Pair) -> None:
    flag = pair.rig.directory / "flag"
    flag.touch()
    script = f'vrrp_script there {{\n script "/usr/bin/test -e {flag}"\n interval 0.2\n weight -60\n}}\n'
    extra = (
        "track_script {\n there\n }\n notify_master \"/bin/sh -c 'echo M $KEEPALIVED_REASON'\"\n"
        " notify \"/bin/sh -c 'echo N $* $KEEPALIVED_PREVIOUS_STATE' sh\""
    )
    one = pair.one.start(OURS, script + fast(150, extra))
    pair.two.start(THEIRS, fast(100))
    pair.rig.wait(lambda: pair.masters(VIP4) == ["one"], 5)
    pair.rig.wait(lambda: "M master down timer expired" in one.log, 2)
    pair.rig.wait(lambda: "N INSTANCE VI_1 MASTER 150 BACKUP" in one.log, 2)
    flag.unlink()
    pair.rig.wait(lambda: pair.masters(VIP4) == ["two"], 4)
    one.said("Changing effective priority from 150 to 90 (150, script there -60 = 90)")
    flag.touch()
    pair.rig.wait(lambda: pair.masters(VIP4) == ["one"], 5)


def test_daemonising(pair: Pair) -> None:
    directory = pair.rig.directory
    (directory / "conf").write_text(fast(150))
    files = [f"-{letter}{directory}/{letter}.pid" for letter in "prc"]
    pair.one.run(".venv/bin/keepalived-py", "-G", "-D", f"-g{directory}/d.log", "-f", f"{directory}/conf", *files)
    pid = int((directory / "p.pid").read_text())
    assert os.path.realpath(f"/proc/{pid}/cwd") == "/"
    pair.rig.wait(lambda: pair.one.has(VIP4), 4)
    pair.rig.wait(lambda: "Entering MASTER STATE" in (directory / "d_vrrp.log").read_text(), 1)
    assert "Starting VRRP child process" in (directory / "d.log").read_text()
    os.kill(pid, signal.SIGTERM)
    pair.rig.wait(lambda: not os.path.exists(f"/proc/{pid}"), 3)
    assert not pair.one.has(VIP4)


def test_many_addresses_flushed_at_once_are_all_back_without_a_failover(pair: Pair) -> None:
    more = [f"10.0.0.{last}" for last in range(101, 121)]
    lines = "\n        ".join(f"{each}/24" for each in (VIP4, *more))
    daemon = master(pair, fast(150).replace(f"{VIP4}/24", lines))
    pair.rig.wait(lambda: pair.one.addresses() >= {VIP4, *more}, 2)
    for _ in range(2):
        for each in (VIP4, *more):
            pair.one.run("ip", "addr", "del", f"{each}/24", "dev", "eth0", check=False)
        pair.rig.wait(lambda: pair.one.addresses() >= {VIP4, *more}, 1)
    pair.rig.holds(lambda: pair.one.has(VIP4), 0.5)
    assert daemon.log.count("Entering MASTER STATE") == 1


def test_an_address_that_is_always_removed_costs_the_role(pair: Pair) -> None:
    daemon = master(pair)
    pair.two.start(THEIRS, fast(100))
    for _ in range(7):
        pair.one.run("ip", "addr", "del", f"{VIP4}/24", "dev", "eth0", check=False)
        time.sleep(0.05)
    pair.rig.wait(lambda: "was removed 6 times in a row" in daemon.log, 2)


def test_an_interface_that_comes_back_is_heard_again(pair: Pair) -> None:
    text = fast(150, "mcast_src_ip 10.0.0.1")
    daemon = master(pair, text)
    pair.one.run("ip", "link", "del", "eth0")
    pair.rig.wait(lambda: "Entering FAULT STATE" in daemon.log, 2)
    pair.one.plug(pair.lan, "eth0", "10.0.0.1/24")
    pair.rig.wait(lambda: pair.one.has(VIP4), 4)
    wire = pair.lan.capture()
    pair.rig.wait(lambda: wire.adverts("10.0.0.1"), 2)
    pair.two.start(THEIRS, fast(200))
    pair.rig.wait(lambda: pair.masters(VIP4) == ["two"], 5)


def test_a_reload_tells_no_group_again(pair: Pair) -> None:
    group = "vrrp_sync_group G {\n group {\n VI_1\n }\n notify \"/bin/sh -c 'echo $* told' sh\"\n}\n"
    daemon = master(pair, fast(150) + group)
    pair.rig.wait(lambda: "GROUP G MASTER 0 told" in daemon.log, 2)
    before = daemon.log.count("told")
    daemon.rewrite(fast(150).replace(f"{VIP4}/24", f"{VIP4}/24\n        10.0.0.101/24") + group)
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: pair.one.has("10.0.0.101"), 3)
    time.sleep(0.5)
    assert daemon.log.count("told") == before


def test_a_changed_label_of_an_address_is_applied(pair: Pair) -> None:
    daemon = master(pair)
    daemon.rewrite(fast(150).replace(f"{VIP4}/24", f"{VIP4}/24 label eth0:vip"))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: "eth0:vip" in pair.one.run("ip", "addr", "show", "dev", "eth0"), 3)
    assert daemon.log.count("Entering MASTER STATE") == 1


def test_keep_leaves_the_addresses_and_says_no_farewell(pair: Pair) -> None:
    static = "static_ipaddress {\n 10.50.0.1/24 dev eth0\n}\n"
    daemon = pair.one.start(OURS, static + fast(150, "use_vmac"), "-V")
    pair.rig.wait(lambda: pair.one.has(VIP4), 4)
    wire = pair.lan.capture()
    daemon.stop()
    assert VIP4 in pair.one.run("ip", "addr", "show", "dev", "vrrp.51")
    assert pair.one.run("sysctl", "-n", "net.ipv4.conf.eth0.arp_ignore").strip() == "1"
    assert not pair.one.has("10.50.0.1")
    assert not [frame for frame in wire.adverts() if frame.vrrp and frame.vrrp[2] == 0]


def test_addresses_of_others_in_the_network_of_a_primary_virtual_address_stay(pair: Pair) -> None:
    daemon = master(pair, fast(150, "mcast_src_ip 10.0.0.1"))
    pair.one.run("ip", "addr", "flush", "dev", "eth0", "scope", "global")
    pair.rig.wait(lambda: pair.one.has(VIP4), 5)
    for address in ("10.0.0.1/24", "10.0.0.77/24"):
        pair.one.run("ip", "addr", "add", address, "dev", "eth0")
    assert daemon.stop() == 0
    assert pair.one.addresses() >= {"10.0.0.1", "10.0.0.77"}
    assert not pair.one.has(VIP4)
    assert pair.one.run("sysctl", "-n", "net.ipv4.conf.eth0.promote_secondaries").strip() == "0"


def test_a_stop_right_after_the_start_leaves_no_pid_file(pair: Pair) -> None:
    for delay in (0.0, 0.01, 0.02, 0.05):
        daemon = pair.one.start(OURS, fast(150))
        pair.rig.wait(lambda daemon=daemon: list(daemon.directory.glob("parent.pid")), 10, 0.0)  # type: ignore[misc]
        time.sleep(delay)
        assert daemon.stop() == 0
        assert not list(daemon.directory.glob("*.pid"))
    assert not pair.one.has(VIP4)

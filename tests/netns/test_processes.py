"""The processes themselves: scheduling, memory, names, umask, options, capabilities, stalls."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import pytest

from tests.bench import no_ipvs
from tests.ipvs.uml import native
from tests.netns.conftest import Pair
from tests.netns.rig import OURS, Daemon, children_of, inside, sh
from tests.netns.test_daemon import fast
from tests.netns.test_vrrp_takeover import VIP4
from workers.checker.address_log import AddressLog
from workers.privileges import NUMBERS, effective

pytestmark = pytest.mark.netns

SHOW = """#!/bin/sh
{
    awk '{ print "nice", $19; print "policy", $41 }' /proc/self/stat
    grep Cpus_allowed_list: /proc/self/status
    grep -E 'Max (realtime timeout|core file size|open files)' /proc/self/limits
    echo "umask $(umask)"
    echo "socket $NOTIFY_SOCKET"
    grep -E 'CapEff|NoNewPrivs' /proc/self/status
} >> "$OUT"
"""


def with_globals(*lines: str, priority: int = 150, more: tuple[str, ...] = ()) -> str:
    inner = "".join(f"    {line}\n" for line in lines)
    return f"global_defs {{\n{inner}}}\n" + fast(priority, *more)


def master(pair: Pair, text: str, *options: str) -> Daemon:
    daemon = pair.one.start(OURS, text, *options)
    pair.rig.wait(lambda: pair.one.has(VIP4), 10)
    daemon.said("Entering MASTER STATE")
    return daemon


def comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def status(pid: int, name: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(name + ":"))


def script(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A notify script that shows what it runs with, and where it shows it."""
    shown = pair.rig.directory / "shown"
    path = pair.rig.directory / "show"
    path.write_text(SHOW)
    path.chmod(0o755)
    monkeypatch.setenv("OUT", str(shown))
    return path, shown


def drop(pair: Pair, text: str, capability: str) -> Daemon:
    """Start ours without a capability."""
    directory = Path(tempfile.mkdtemp(dir=pair.rig.directory))
    (directory / "conf").write_text(text)
    command = ["setpriv", f"--bounding-set=-{capability}", str(Path(sys.executable).with_name(OURS)), "-n", "-l", "-G"]
    for option, name in (("-f", "conf"), ("-p", "parent.pid"), ("-r", "vrrp.pid"), ("-c", "checkers.pid")):
        command += [option, str(directory / name)]
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen(["ip", "netns", "exec", pair.one.namespace, *command], stdout=log, stderr=log)
    daemon = Daemon(OURS, process, directory)
    pair.one.daemons.append(daemon)
    return daemon


# scheduling and memory ------------------------------------------------------------------------------------------------

TUNED = (
    "vrrp_priority -5",
    "vrrp_rt_priority 10",
    "vrrp_rlimit_rttime 200000",
    "vrrp_cpu_affinity 0",
    "vrrp_no_swap",
)


def test_scheduling_and_memory_of_the_worker_alone(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    path, shown = script(pair, monkeypatch)
    daemon = master(pair, with_globals(*TUNED, more=(f'notify_master "{path}" root root',)))
    vrrp = daemon.pid_of("vrrp")
    assert os.sched_getscheduler(vrrp) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR
    assert os.sched_getparam(vrrp).sched_priority == 10
    assert os.sched_getaffinity(vrrp) == {0}
    assert resource.prlimit(vrrp, resource.RLIMIT_RTTIME) == (100000, 1000000)
    assert int(status(vrrp, "VmLck").split()[0]) > 1000
    parent = daemon.pid_of("parent")
    assert os.sched_getscheduler(parent) == os.SCHED_OTHER
    assert os.getpriority(os.PRIO_PROCESS, parent) == os.getpriority(os.PRIO_PROCESS, 0)
    pair.rig.wait(lambda: shown.exists() and "NoNewPrivs" in shown.read_text(), 10)
    found = shown.read_text()
    assert f"nice {os.getpriority(os.PRIO_PROCESS, 0)}\npolicy 0\n" in found
    assert f"Cpus_allowed_list:\t{status(os.getpid(), 'Cpus_allowed_list')}" in found
    if effective() >> NUMBERS["CAP_SYS_RESOURCE"] & 1:  # else nobody can raise a limit again
        assert found.split("realtime timeout")[1].split()[:2] == ["unlimited", "unlimited"]


def test_the_checker_has_settings_of_its_own(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    path, shown = script(pair, monkeypatch)
    limits = ("checker_rt_priority 5", "checker_rlimit_rttime 400000", "checker_cpu_affinity 0", "checker_no_swap")
    names = ("process_names", "checker_process_name balances", "checker_priority 3")
    check = f"real_server 127.0.0.1 80 {{\n MISC_CHECK {{\n misc_path {path}\n user root\n }}\n }}\n"
    service = f"virtual_server 10.9.9.9 80 {{\n protocol TCP\n delay_loop 1\n warmup 0\n {check}}}\n"
    command = no_ipvs.command(OURS, pair.rig.directory)
    daemon = pair.one.start(OURS, with_globals(*limits, *names) + service, "-a", command=command)
    pair.rig.wait(lambda: shown.exists() and "NoNewPrivs" in shown.read_text(), 15)
    checker, vrrp = daemon.pid_of("checkers"), daemon.pid_of("vrrp")
    assert os.sched_getscheduler(checker) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR
    assert os.sched_getparam(checker).sched_priority == 5
    assert os.sched_getaffinity(checker) == {0}
    assert resource.prlimit(checker, resource.RLIMIT_RTTIME)[0] == 200000
    assert int(status(checker, "VmLck").split()[0]) > 1000
    assert [comm(checker), comm(vrrp)] == ["balances", "keepalived_vrrp"]
    pair.rig.wait(lambda: f"Netlink reflector reports IP {VIP4} added (/24 on eth0)" in daemon.log, 10)
    assert os.sched_getscheduler(vrrp) == os.SCHED_OTHER
    assert os.sched_getaffinity(vrrp) == os.sched_getaffinity(0)
    found = shown.read_text()
    assert f"nice {os.getpriority(os.PRIO_PROCESS, 0)}\npolicy 0\n" in found
    assert f"Cpus_allowed_list:\t{status(os.getpid(), 'Cpus_allowed_list')}" in found


def test_child_wait_time_is_how_long_a_stop_waits(pair: Pair) -> None:
    daemon = master(pair, "child_wait_time 1\n" + fast(150))
    os.kill(daemon.pid_of("vrrp"), signal.SIGSTOP)
    started = time.monotonic()
    assert daemon.stop() == 0
    assert 1 <= time.monotonic() - started < 5  # which is the default
    assert "failed to stop - forcing termination" in daemon.log
    assert not pair.one.has(VIP4)


def test_settings_that_go_are_taken_back_at_a_reload(pair: Pair) -> None:
    daemon = master(pair, with_globals(*TUNED))
    vrrp = daemon.pid_of("vrrp")
    daemon.rewrite(fast(150))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: "Reload complete" in daemon.log, 10)
    pair.rig.wait(lambda: os.sched_getscheduler(vrrp) & ~os.SCHED_RESET_ON_FORK == os.SCHED_OTHER, 10)
    assert os.getpriority(os.PRIO_PROCESS, vrrp) == os.getpriority(os.PRIO_PROCESS, 0)
    assert os.sched_getaffinity(vrrp) == os.sched_getaffinity(0)
    assert status(vrrp, "VmLck") == "0 kB"
    assert daemon.pid_of("vrrp") == vrrp


def test_a_nice_value_is_not_for_scripts(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    path, shown = script(pair, monkeypatch)
    daemon = master(pair, with_globals("vrrp_priority 7", more=(f'notify_master "{path}" nobody',)))
    shown.touch()
    shown.chmod(0o666)
    pair.rig.directory.chmod(0o755)
    assert os.getpriority(os.PRIO_PROCESS, daemon.pid_of("vrrp")) == 7
    daemon.stop()
    daemon = master(pair, with_globals("vrrp_priority 7", more=(f'notify_master "{path}" nobody',)))
    pair.rig.wait(lambda: f"nice {os.getpriority(os.PRIO_PROCESS, 0)}\n" in shown.read_text(), 10)
    assert "nice 7" not in shown.read_text()


def test_late_timers_raise_the_priority_step_by_step(pair: Pair) -> None:
    daemon = master(pair, with_globals("max_auto_priority 2", "min_auto_priority_delay 300000"))
    vrrp = daemon.pid_of("vrrp")
    assert os.sched_getscheduler(vrrp) == os.SCHED_OTHER
    for expected in (1, 2, 2):
        os.kill(vrrp, signal.SIGSTOP)
        time.sleep(0.7)
        os.kill(vrrp, signal.SIGCONT)
        pair.rig.wait(lambda: os.sched_getscheduler(vrrp) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR, 10)
        time.sleep(0.3)
        assert os.sched_getparam(vrrp).sched_priority == expected


def test_without_permission_there_is_a_warning_and_a_worker(pair: Pair) -> None:
    daemon = drop(pair, with_globals("vrrp_rt_priority 10"), "sys_nice")
    pair.rig.wait(lambda: "priority SCHED_RR 10 is refused: Operation not permitted" in daemon.log, 10)
    pair.rig.wait(lambda: pair.one.has(VIP4), 10)


def test_names(pair: Pair) -> None:
    daemon = master(pair, fast(150))
    assert [comm(daemon.pid_of("parent")), comm(daemon.pid_of("vrrp"))] == ["keepalived", "keepalived"]
    daemon.rewrite(with_globals("process_names", "process_name the_boss"))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: comm(daemon.pid_of("vrrp")) == "keepalived_vrrp", 10)
    pair.rig.wait(lambda: comm(daemon.pid_of("parent")) == "the_boss", 10)
    daemon.rewrite(with_globals("process_names", "vrrp_process_name floats"))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: comm(daemon.pid_of("vrrp")) == "floats", 10)
    pair.rig.wait(lambda: comm(daemon.pid_of("parent")) == "keepalived", 10)


def umask_of(pid: int) -> str:
    return status(pid, "Umask")


def test_umask(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    path, shown = script(pair, monkeypatch)
    daemon = master(pair, with_globals("umask 027", more=(f'notify_master "{path}" root',)))
    # a script is started with the umask of before, for which a worker has that for a moment
    pair.rig.wait(lambda: [umask_of(daemon.pid_of(name)) for name in ("parent", "vrrp")] == ["0027", "0027"], 5)
    daemon.signal(signal.SIGUSR1)
    dump = daemon.directory / "keepalived.data"
    pair.rig.wait(dump.exists, 10)
    assert dump.stat().st_mode & 0o777 == 0o640
    pair.rig.wait(lambda: "umask" in shown.read_text(), 10)
    mask = os.umask(0)
    os.umask(mask)
    assert f"umask {mask:04o}" in shown.read_text()
    daemon.stop()
    daemon = master(pair, with_globals("umask 027"), "-u", "0x3f")
    assert [umask_of(daemon.pid_of(name)) for name in ("parent", "vrrp")] == ["0077", "0077"]


# options, capabilities, stalls ----------------------------------------------------------------------------------------


WITHOUT_EFFECT = """
-X -B -b bfd.pid -x -A tcp:1:2 --no-mem-check --perf --debug=D -O --flush-log-file --config-fd=3
"""


def test_options_without_effect_say_so(pair: Pair) -> None:
    daemon = master(pair, fast(150), *WITHOUT_EFFECT.split())
    names = ("release-vips", "no_bfd", "bfd_pid", "snmp", "snmp-agent-socket", "perf", "debug")
    for name in (*names, "openssl-mem-check", "flush-log-file", "config-fd"):
        daemon.said(f"Option --{name} has no effect: ")
    assert daemon.stop() == 0


def test_core_files_of_the_daemon_but_not_of_scripts(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    path, shown = script(pair, monkeypatch)
    kernel = Path("/proc/sys/kernel/core_pattern")
    before = kernel.read_text()
    resource.prlimit(0, resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    daemon = master(pair, fast(150, f'notify_master "{path}" root'), f"-M{pair.rig.directory}/core.%p")
    try:
        assert kernel.read_text().strip() == f"{pair.rig.directory}/core.%p"
        pair.rig.wait(lambda: shown.exists() and "NoNewPrivs" in shown.read_text(), 10)
        assert shown.read_text().split("core file size")[1].split()[0] == "0"
        killed = daemon.pid_of("vrrp")
        os.kill(killed, signal.SIGSEGV)
        pair.rig.wait(lambda: (pair.rig.directory / f"core.{killed}").exists(), 10)
    finally:
        daemon.stop()
        after = kernel.read_text()
        kernel.write_text(before)
    assert after == before


@pytest.mark.parametrize(
    ("capability", "told"),
    [
        ("net_raw", "Missing: CAP_NET_RAW (adverts and announcements)"),
        ("net_admin", "Missing: CAP_NET_ADMIN (virtual addresses, routes and rules)"),
    ],
)
def test_a_missing_capability_is_named(pair: Pair, capability: str, told: str) -> None:
    daemon = drop(pair, fast(150), capability)
    assert daemon.process.wait(10) == 4
    assert told in daemon.log


def test_as_a_user_with_capabilities_its_own_programs_have_them(pair: Pair) -> None:
    """As in containers that do not run as root: what root executes has all of them, what others do has none."""
    executable = str(Path(sys.executable).with_name(OURS))
    few = [f"--{kind}-caps=+net_admin,+net_raw" for kind in ("inh", "ambient")]
    command = ("setpriv", "--securebits=+noroot", *few, "--bounding-set=-all,+net_admin,+net_raw", executable)
    daemon = pair.one.start(OURS, fast(150, "use_vmac\n no_accept"), command=command)
    pair.rig.wait(lambda: pair.one.has(VIP4), 10)
    assert "10.0.0.100" in pair.one.run("nft", "list", "ruleset")
    vrrp = daemon.pid_of("vrrp")
    assert status(vrrp, "CapAmb") == status(vrrp, "CapEff") == f"{3 << 12:016x}"
    assert daemon.stop() == 0
    assert pair.one.run("nft", "list", "ruleset") == ""
    assert "not permitted" not in daemon.log


UNPRIVILEGED = """
for one in eth0 eth1; do ip link add "$one" type veth peer name "of_$one"; ip link set "$one" up; done
ip link set of_eth0 up
ip addr add 10.0.0.1/24 dev eth0
"$@" &
for _ in $(seq 100); do ip addr show | grep "inet 10.0.0.100/" && break; sleep 0.1; done
ip route show proto 18
kill $!
wait $!
echo "ended with $?"
ip -o link | wc -l
"""


def test_in_a_user_namespace_of_its_own(pair: Pair) -> None:
    """As containers without privileges have it: capabilities are for its own network, and no buffer is forced."""
    directory = pair.rig.directory
    conf, log = directory / "conf", directory / "log"
    route = "virtual_routes {\n  198.51.100.0/24 via 10.0.0.9 dev eth0\n }"
    conf.write_text(
        "vrrp_track_process none {\n process nothing\n weight 1\n}\n"
        + fast(150, "use_vmac", "no_accept", "track_process {\n  none\n }", route)
    )
    files = [word for name in "prc" for word in (f"-{name}", str(directory / f"{name}.pid"))]
    command = ["unshare", "-Urnm", "--map-root-user", "sh", "-c", UNPRIVILEGED, "sh"]
    daemon = [str(Path(sys.executable).with_name(OURS)), "-n", "-G", "-f", str(conf), f"-g{log}", *files]
    done = subprocess.run([*command, *daemon], capture_output=True, text=True, timeout=60, check=False)
    if "unshare" in done.stderr:
        pytest.skip("there are no user namespaces here")
    shown, route, *end = done.stdout.splitlines()
    assert "10.0.0.100/" in shown, (directory / "log_vrrp").read_text()
    assert route.startswith("198.51.100.0/24")
    assert end == ["ended with 0", "5"]  # lo and two pairs: the VMAC is gone
    for name in ("log", "log_vrrp"):
        assert not re.search("not permitted|CAP_|error", (directory / name).read_text())


@pytest.mark.parametrize(
    ("capability", "told"),
    [
        ("setuid", "Missing: CAP_SETUID (scripts of other users)"),
        ("setgid", "Missing: CAP_SETGID (scripts of other users)"),
        ("kill", "Missing: CAP_KILL (to end scripts of other users)"),
        ("chown", "Missing: CAP_CHOWN (FIFOs of other users)"),
    ],
)
def test_a_missing_capability_for_scripts_is_named_and_costs_no_more(pair: Pair, capability: str, told: str) -> None:
    fifo = f"vrrp_notify_fifo {pair.rig.directory}/fifo nobody"
    daemon = drop(pair, f"global_defs {{\n {fifo}\n}}\n" + fast(150, 'notify "/bin/true" nobody'), capability)
    pair.rig.wait(lambda: told in daemon.log, 10)
    pair.rig.wait(lambda: pair.one.has(VIP4), 10)
    assert daemon.stop() == 0


def test_an_interrupt_of_all_processes_is_ignored_where_that_is_asked_for(pair: Pair) -> None:
    """As a terminal sends it."""
    daemon = master(pair, fast(150), "--ignore-sigint")
    vrrp, data = daemon.pid_of("vrrp"), daemon.directory / "keepalived.data"
    for pid in (daemon.process.pid, vrrp):
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGUSR1)
    pair.rig.wait(lambda: data.exists() and (daemon.directory / "keepalived_parent.data").exists(), 10)
    assert pair.one.has(VIP4)
    daemon.stop()
    assert daemon.log.count("Starting VRRP child process") == 1


def test_a_start_without_descriptors_says_so_and_is_tried_again(pair: Pair) -> None:
    executable = str(Path(sys.executable).with_name(OURS))
    few = ("sh", "-c", 'ulimit -n 12; exec "$@"', "sh", executable)
    daemon = pair.one.start(OURS, fast(150), command=few)
    pair.rig.wait(lambda: daemon.log.count("Respawning") > 1, 10)
    daemon.said("Out of what every process needs: Too many open files")
    assert "Traceback" not in daemon.log
    assert daemon.stop() == 0


def test_pid_files_of_workers_that_do_not_run_go(pair: Pair) -> None:
    """What an earlier process left would send the signals of others to a stranger."""
    earlier = pair.one.start(OURS, fast(150))
    pair.rig.wait(lambda: pair.one.has(VIP4), 10)
    earlier.kill()
    left = str(earlier.directory / "vrrp.pid")
    assert Path(left).exists()
    daemon = pair.one.start(OURS, "", "-r", left)
    daemon.said("Warning - keepalived has no configuration to run")  # word for word: alert rules look for it
    assert not Path(left).exists()
    assert daemon.stop() == 0


def test_as_process_1_of_a_namespace_it_collects_orphans_and_stops(pair: Pair) -> None:
    orphan = pair.rig.directory / "orphan"
    orphan.write_text("#!/bin/sh\n(sleep 0.2; exit 3) &\n(sleep 0.3) &\n")
    orphan.chmod(0o755)
    executable = str(Path(sys.executable).with_name(OURS))
    text = fast(150, f'notify_master "{orphan}" root')
    daemon = pair.one.start(OURS, text, command=("unshare", "-pf", "--mount-proc", executable))
    pair.rig.wait(lambda: pair.one.has(VIP4), 10)
    assert daemon.pid_of("parent") == 1
    (init,) = children_of(daemon.process.pid)[:1]
    vrrp = children_of(init)[0]
    time.sleep(0.6)
    assert children_of(init) == [vrrp]
    os.kill(vrrp, signal.SIGKILL)
    pair.rig.wait(lambda: "taken over from the process that died" in daemon.log, 10)
    os.kill(init, signal.SIGTERM)
    assert daemon.process.wait(10) == 0
    assert not pair.one.has(VIP4)


def test_a_fifo_of_a_killed_worker_goes_at_the_stop_and_one_of_others_stays(pair: Pair) -> None:
    ours, others = pair.rig.directory / "ours", pair.rig.directory / "others"
    os.mkfifo(others)
    daemon = master(pair, with_globals(f"vrrp_notify_fifo {ours}", f"notify_fifo {others}"))
    pair.rig.wait(ours.exists, 10)
    os.kill(daemon.pid_of("vrrp"), signal.SIGKILL)
    pair.rig.wait(lambda: "taken over from the process that died" in daemon.log, 10)
    assert ours.exists()
    assert daemon.stop() == 0
    assert not ours.exists()
    assert others.exists()


@pytest.mark.skipif(native(), reason="this kernel has IPVS: the checker can run")
def test_a_worker_that_a_reload_adds_and_that_cannot_run_costs_the_reload_only(pair: Pair) -> None:
    daemon = master(pair, fast(150))
    vrrp = daemon.pid_of("vrrp")
    service = "virtual_server 10.0.0.100 80 {\n lvs_sched rr\n lvs_method NAT\n protocol TCP\n"
    service += " real_server 10.0.0.2 80 {\n }\n}\n"
    daemon.rewrite(fast(150) + service)
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: "Reload abandoned: checker: the process died" in daemon.log, 10)
    daemon.rewrite(fast(140))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: "Reload complete" in daemon.log, 10)
    assert daemon.pid_of("vrrp") == vrrp
    assert daemon.log.count("Entering MASTER STATE") == 1


def test_nothing_moves_while_a_worker_stands_still_and_nothing_is_left_when_the_other_is_killed(pair: Pair) -> None:
    daemon = master(pair, fast(150), "--all")
    daemon.said("Startup complete")
    other = fast(150, "use_vmac").replace("VI_1", "VI_2").replace("router_id 51", "router_id 52")
    daemon.rewrite(fast(150).replace(VIP4, f"{VIP4}/24\n        10.0.0.111") + other.replace(VIP4, "10.0.0.112"))
    checker = daemon.pid_of("checkers")
    os.kill(checker, signal.SIGSTOP)
    try:
        daemon.signal(signal.SIGHUP)
        daemon.said("Configuration changes")
        daemon.signal(signal.SIGUSR1)
        data = daemon.directory / "keepalived_parent.data"
        pair.rig.wait(data.exists, 10)
        assert re.search(r"Reload: under way, waits for .*Healthcheck\n", data.read_text())
        os.kill(daemon.pid_of("vrrp"), signal.SIGKILL)
        daemon.said("Reload abandoned: vrrp: the process died")
    finally:
        os.kill(checker, signal.SIGCONT)
    daemon.said("taken over from the process that died")
    assert pair.one.has(VIP4)
    assert not {"10.0.0.111", "10.0.0.112"} & pair.one.addresses()
    assert "vrrp.52" not in pair.one.run("ip", "-o", "link")
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: {"10.0.0.111", "10.0.0.112"} <= pair.one.addresses(), 10)


@pytest.mark.skipif(native(), reason="this kernel has IPVS")
def test_every_worker_runs_with_all_and_the_first_service_needs_ipvs(pair: Pair) -> None:
    """keepalived looks for IPVS when there is a virtual server."""
    daemon = master(pair, with_globals("lvs_flush", "lvs_timeouts tcp 5"), "--all")
    workers = [daemon.pid_of("checkers"), daemon.pid_of("vrrp")]
    daemon.signal(signal.SIGUSR1)
    pair.rig.wait((daemon.directory / "keepalived_check.data").exists, 10)
    service = "virtual_server 10.0.0.100 80 {\n lvs_sched rr\n lvs_method NAT\n protocol TCP\n"
    service += " real_server 10.0.0.2 80 {\n }\n}\n"
    daemon.rewrite(fast(150).replace(f"{VIP4}/24", f"{VIP4}/24\n        10.0.0.111/24") + service)
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: "Reload abandoned: checker: IPVS: the kernel has no IPVS" in daemon.log, 10)
    assert [daemon.pid_of("checkers"), daemon.pid_of("vrrp")] == workers
    assert daemon.log.count("Entering MASTER STATE") == 1
    assert daemon.stop() == 0
    assert "10.0.0.111" not in daemon.log  # not even for a moment


def test_addresses_that_come_and_go_are_logged(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def scenario() -> None:
        listening = AddressLog()
        for command in ("add", "del"):
            for address in ("10.0.0.77/32", "fd00::77/128"):
                sh("ip", "-n", pair.one.namespace, "addr", command, address, "dev", "eth0")
        await asyncio.sleep(0.2)
        listening.close()

    with inside(pair.one.namespace):
        asyncio.run(scenario())
    lines = [message for message in caplog.messages if "Netlink" in message]
    assert [line for line in lines if "10.0.0.77" in line] == [
        "Netlink reflector reports IP 10.0.0.77 added (/32 on eth0)",
        "Netlink reflector reports IP 10.0.0.77 removed (/32 on eth0)",
    ]
    assert "Netlink reflector reports IP fd00::77 removed (/128 on eth0)" in lines


def test_a_worker_without_scripts_keeps_what_it_needs_and_gains_nothing(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, shown = script(pair, monkeypatch)
    scripted = with_globals("enable_script_security", more=(f'notify_master "{path}" root',))
    daemon = master(pair, fast(150))
    vrrp = daemon.pid_of("vrrp")
    assert status(vrrp, "NoNewPrivs") == "1"
    have = int(status(vrrp, "CapEff"), 16)
    assert have & 1 << NUMBERS["CAP_NET_ADMIN"]
    assert not have & 1 << NUMBERS["CAP_SYS_ADMIN"]
    daemon.rewrite(scripted)
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: "Scripts are new: until the next start" in daemon.log, 10)
    daemon.stop()
    daemon = master(pair, scripted)
    vrrp = daemon.pid_of("vrrp")
    assert [status(vrrp, "NoNewPrivs"), status(vrrp, "CapEff")] == ["0", status(os.getpid(), "CapEff")]
    pair.rig.wait(lambda: shown.exists() and "NoNewPrivs:\t0" in shown.read_text(), 10)
    assert f"CapEff:\t{status(os.getpid(), 'CapEff')}" in shown.read_text()


def test_a_worker_imports_nothing_of_its_own(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """By then what stands on the disk may be of another version, or gone. A reload that brings something does."""
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    mail = "notification_email {\n a@example.com\n}\n smtp_server localhost\n smtp_connect_timeout 2"
    lines = "\n ".join(("use_vmac", "no_accept", "notify /bin/true", "smtp_alert"))
    text = with_globals("script_user root", "enable_script_security", more=(lines,))
    daemon = master(pair, text.replace("script_user", f"{mail}\n script_user"))
    daemon.said("to localhost:25 failed: Error connecting")
    os.kill(daemon.pid_of("vrrp"), signal.SIGKILL)
    daemon.said("Starting VRRP child", times=2)
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
        daemon.signal(number)
    daemon.said("Reload complete")
    assert daemon.stop() == 0
    assert "import time: " not in daemon.log.partition("Starting VRRP child")[2]
    daemon = master(pair, text)
    daemon.rewrite(text.replace("script_user", f"{mail}\n script_user"))
    daemon.signal(signal.SIGHUP)
    daemon.said("Reload complete")
    late = daemon.log.partition("Reloading")[2]
    assert "| aiosmtplib" in late
    assert daemon.stop() == 0
    assert "import time: " not in daemon.log.partition("Reload complete")[2]


def test_a_worker_that_does_not_answer_is_reported(pair: Pair) -> None:
    daemon = master(pair, fast(150))
    vrrp = daemon.pid_of("vrrp")
    os.kill(vrrp, signal.SIGSTOP)
    pair.rig.wait(lambda: f"VRRP child process({vrrp}) does not answer" in daemon.log, 9)
    os.kill(vrrp, signal.SIGCONT)
    pair.rig.wait(lambda: "VRRP child answers again" in daemon.log, 10)
    assert children_of(daemon.pid_of("parent")) == [vrrp]


def test_a_worker_that_does_not_answer_is_replaced_where_that_is_asked_for(pair: Pair) -> None:
    daemon = master(pair, with_globals("restart_stalled 2"))
    stopped = daemon.pid_of("vrrp")
    os.kill(stopped, signal.SIGSTOP)
    pair.rig.wait(lambda: f"VRRP child process({stopped}) said nothing for " in daemon.log, 10)
    pair.rig.wait(lambda: "taken over from the process that died" in daemon.log, 10)
    assert children_of(daemon.pid_of("parent")) == [daemon.pid_of("vrrp")] != [stopped]
    assert pair.one.has(VIP4)
    daemon.rewrite(fast(150))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: "Reload complete" in daemon.log, 10)
    vrrp = daemon.pid_of("vrrp")
    os.kill(vrrp, signal.SIGSTOP)
    pair.rig.holds(lambda: daemon.pid_of("vrrp") == vrrp, 4)
    os.kill(vrrp, signal.SIGCONT)


def test_a_parent_out_of_descriptors_tries_again(pair: Pair) -> None:
    daemon = master(pair, fast(150))
    parent, killed = daemon.pid_of("parent"), daemon.pid_of("vrrp")
    before = resource.prlimit(parent, resource.RLIMIT_NOFILE)
    resource.prlimit(parent, resource.RLIMIT_NOFILE, (4, before[1]))
    os.kill(killed, signal.SIGKILL)
    pair.rig.wait(lambda: "VRRP child process cannot be started: Too many open files - trying again" in daemon.log, 10)
    resource.prlimit(parent, resource.RLIMIT_NOFILE, before)
    pair.rig.wait(lambda: daemon.pid_of("vrrp") != killed, 10)
    pair.rig.wait(lambda: daemon.log.count("Entering MASTER STATE") == 2, 10)
    pair.rig.wait(lambda: pair.one.has(VIP4), 10)


def test_called_by_the_name_keepalived(pair: Pair) -> None:
    name = pair.rig.directory / "keepalived"
    name.symlink_to(Path(sys.executable).with_name(OURS))
    assert pair.one.run(str(name), "--signum=DATA") == "10\n"
    (pair.rig.directory / "k.conf").write_text(fast(150))
    pair.one.run(str(name), "-f", str(pair.rig.directory / "k.conf"), "-p", str(pair.rig.directory / "k.pid"))
    pair.rig.wait(lambda: pair.one.has(VIP4), 10)
    parent = int((pair.rig.directory / "k.pid").read_text())
    assert comm(parent) == "keepalived"
    os.kill(parent, signal.SIGTERM)
    pair.rig.wait(lambda: not Path(f"/proc/{parent}").exists(), 10)
    assert not pair.one.has(VIP4)


def test_growing_memory_is_told(pair: Pair) -> None:
    daemon = master(pair, fast(150), "-L")
    daemon.rewrite(fast(140))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: "Memory at reload 2: " in daemon.log, 10)
    daemon.stop()
    assert "Memory at the stop: " in daemon.log


def test_real_time_with_keepalived_s_limit_survives_long_work(pair: Pair) -> None:
    def many(priority: int) -> str:
        text = with_globals("vrrp_rt_priority 5")
        for number in range(60, 255):
            instance = fast(priority).replace("VI_1", f"VI_{number}").replace("router_id 51", f"router_id {number}")
            text += instance.replace(VIP4, f"10.0.1.{number}")
        return text

    daemon = master(pair, many(150))
    vrrp = daemon.pid_of("vrrp")
    pair.rig.wait(lambda: pair.one.has("10.0.1.254"), 10)
    for count, priority in ((1, 140), (2, 130)):
        daemon.rewrite(many(priority))
        daemon.signal(signal.SIGHUP)
        for number in (signal.SIGUSR1, signal.SIGRTMIN + 2, signal.SIGUSR2):
            daemon.signal(number)
        pair.rig.wait(partial(lambda count: daemon.log.count("Reload complete") == count, count), 10)
        time.sleep(0.5)
    assert daemon.pid_of("vrrp") == vrrp
    assert os.sched_getscheduler(vrrp) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR
    assert "died" not in daemon.log
    assert daemon.stop() == 0

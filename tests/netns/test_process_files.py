"""What the daemon tells and where: the service manager, the files around a reload, logs, dumps."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.netns.conftest import Pair
from tests.netns.rig import OURS, THEIRS, inside, patience
from tests.netns.test_daemon import fast
from tests.netns.test_processes import master, script, with_globals
from tests.netns.test_vrrp_takeover import VIP4, config

pytestmark = pytest.mark.netns

# the service manager --------------------------------------------------------------------------------------------------


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(path))
        self.sock.setblocking(False)
        self.heard: list[str] = []

    def told(self) -> list[str]:
        """Everything but signs of life and STATUS."""
        while True:
            try:
                self.heard.append(self.sock.recv(4096).decode())
            except BlockingIOError:
                return [text for text in self.heard if not text.startswith(("WATCHDOG", "STATUS"))]


@pytest.fixture
def manager(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    path = pair.rig.directory / "notify"
    made = Manager(path)
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    yield made
    made.sock.close()


def test_the_service_manager_hears_of_start_reload_and_stop(
    pair: Pair, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    path, shown = script(pair, monkeypatch)
    daemon = master(pair, fast(150, f'notify_master "{path}" root'))
    ready = f"READY=1\nMAINPID={daemon.pid_of('parent')}"
    assert manager.told() == [ready]
    assert f"STATUS=configuration 1, VRRP {daemon.pid_of('vrrp')}" in manager.heard
    pair.rig.wait(lambda: manager.told() and manager.heard.count("WATCHDOG=1") >= 5, 10)
    pair.rig.wait(lambda: shown.exists() and "socket" in shown.read_text(), 10)
    assert "socket \n" in shown.read_text()
    daemon.rewrite(fast(140))
    before = time.monotonic()
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: len(manager.told()) == 3, 10)
    kind, _, stamp = manager.told()[1].partition("\nMONOTONIC_USEC=")
    assert kind == "RELOADING=1"
    assert before <= int(stamp) / 1e6 <= time.monotonic()
    assert manager.told()[2] == ready
    daemon.rewrite("vrrp_instance {\n")
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: len(manager.told()) == 5, 10)
    assert manager.told()[4] == ready
    daemon.stop()
    assert manager.told()[5:] == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=34000000"]


def test_the_service_manager_hears_of_a_worker_that_cannot_run(pair: Pair, manager: Manager) -> None:
    daemon = pair.one.start(OURS, fast(150).replace("eth0", "nothere0"))
    assert daemon.process.wait(patience(5)) == 2
    assert manager.told() == ["ERRNO=22", "STOPPING=1", "EXTEND_TIMEOUT_USEC=34000000"]


# reload ---------------------------------------------------------------------------------------------------------------


def test_any_complaint_refuses_a_reload_with_reload_check_config(pair: Pair) -> None:
    log = pair.rig.directory / "check.log"
    daemon = master(pair, with_globals(f"reload_check_config {log}"))
    daemon.rewrite(with_globals(f"reload_check_config {log}", "nonsense 1", priority=140))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: f"New config failed validation, see {log} for details" in daemon.log, 10)
    assert "nonsense" in log.read_text()
    daemon.rewrite(with_globals(f"reload_check_config {log}", priority=140))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: "Reload complete" in daemon.log, 10)
    assert log.read_text() == ""
    assert daemon.log.count("Entering MASTER STATE") == 1
    daemon.stop()
    daemon = pair.one.start(OURS, with_globals(f"reload_check_config {log}", "nonsense 1"))
    assert daemon.process.wait(patience(5)) == 2


def test_a_reload_at_its_time(pair: Pair) -> None:
    plan, marker = pair.rig.directory / "when", pair.rig.directory / "reading"
    marker.touch()
    text = with_globals(f"reload_time_file {plan}", f"reload_file {marker}")
    daemon = master(pair, text)
    assert not marker.exists()
    plan.write_text("never\n")
    pair.rig.wait(lambda: "'never' is not [[YY]YY-MM-DD ]HH:MM:SS[Z]" in daemon.log, 10)
    plan.write_text("23:59:59Z\n")
    pair.rig.wait(lambda: "Reload is planned for" in daemon.log, 10)
    plan.unlink()
    pair.rig.wait(lambda: "Reload is no longer planned" in daemon.log, 10)
    plan.write_text(time.strftime("%Y-%m-%d %H:%M:%SZ\n", time.gmtime(time.time() + 2)))
    pair.rig.wait(lambda: "Reload complete" in daemon.log, 10)
    assert not plan.exists()
    assert not marker.exists()


def test_a_start_with_a_broken_file_takes_the_last_good_configuration(pair: Pair) -> None:
    kept = pair.rig.directory / "kept"
    option = f"--last-good={kept}"
    daemon = master(pair, fast(150), option)
    pair.rig.wait(kept.exists, 10)
    daemon.rewrite(fast(160))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: "priority 160" in kept.read_text(), 10)
    daemon.rewrite(fast(150).replace("priority 150", "priority none"))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: "the old configuration stays" in daemon.log, 10)
    daemon.stop()
    again = master(pair, fast(150).replace("priority 150", "priority none"), option)
    again.said("'none' is not a number")
    again.said(f"The configuration has errors: the last good one is taken, {kept}")
    assert "priority 160" in kept.read_text()
    again.rewrite(fast(140))
    again.signal(signal.SIGHUP)
    pair.rig.wait(lambda: "priority 140" in kept.read_text(), 10)
    again.said("Entering MASTER STATE", 1)


def test_config_save_dir(pair: Pair) -> None:
    saved = pair.rig.directory / "saved"
    daemon = master(pair, with_globals(f"config_save_dir {saved}"))
    daemon.rewrite(with_globals(f"config_save_dir {saved}", priority=140))
    daemon.signal(signal.SIGHUP)
    vrrp, parent = daemon.pid_of("vrrp"), daemon.pid_of("parent")
    names = {f"keepalived.conf.{parent}.{n}" for n in (1, 2)}
    names |= {f"keepalived_vrrp.{vrrp}.2.{when}" for when in ("pre", "post")}
    pair.rig.wait(lambda: saved.exists() and {each.name for each in saved.iterdir()} == names, 10)
    assert "priority 150" in (saved / f"keepalived.conf.{parent}.1").read_text()
    assert "priority 140" in (saved / f"keepalived.conf.{parent}.2").read_text()


def test_signals_before_the_parent_can_obey_do_not_kill_it(pair: Pair) -> None:
    daemon = pair.one.start(OURS, fast(150))
    pair.rig.wait(lambda: "Starting keepalived-py" in daemon.log, 10)
    while "Starting VRRP child" not in daemon.log:
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGRTMAX - 1, signal.SIGRTMIN + 2):
            daemon.signal(number)
        time.sleep(0.001)
        assert daemon.process.poll() is None
    pair.rig.wait(lambda: pair.one.has(VIP4), 10)


def test_a_reload_that_is_asked_for_before_the_parent_can_obey_is_made(pair: Pair) -> None:
    """The file was read already, and is another now."""
    daemon = pair.one.start(OURS, fast(150))
    pair.rig.wait((daemon.directory / "parent.pid").exists, 10, 0.0)
    daemon.rewrite(fast(140))
    daemon.signal(signal.SIGHUP)
    daemon.said("Reload complete")
    daemon.said("Reloading ...", 1)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_what_whoever_goes_into_the_background_was_told_is_passed_on(pair: Pair, number: int) -> None:
    directory = pair.rig.directory
    (directory / "conf").write_text(fast(150))
    log, pid_file = directory / "d.log", directory / "p.pid"
    command = [
        str(Path(sys.executable).with_name(OURS)),
        "-G",
        f"-g{log}",
        "-f",
        f"{directory}/conf",
        "-p",
        str(pid_file),
    ]
    with inside(pair.one.namespace):
        started = subprocess.Popen([*command, f"-r{directory}/r.pid", f"-c{directory}/c.pid"], stdin=subprocess.DEVNULL)
    pair.rig.wait(pid_file.exists, 10, 0.0)
    os.kill(started.pid, number)
    assert started.wait(patience(10)) == 0
    if number == signal.SIGHUP:
        pair.rig.wait(lambda: "Reload complete" in log.read_text(), 10)
        os.kill(int(pid_file.read_text()), signal.SIGTERM)
    pair.rig.wait(lambda: not pid_file.exists(), 10)


# logs and dumps -------------------------------------------------------------------------------------------------------


def test_json_lines_and_a_file_that_was_moved(pair: Pair) -> None:
    daemon = master(pair, with_globals("log_format json"), "-gown.log")
    old = daemon.directory / "own_vrrp.log"

    def entered() -> list[dict[str, Any]]:
        rows = [json.loads(line) for line in old.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [row for row in rows if "Entering MASTER STATE" in row["message"]]

    pair.rig.wait(lambda: bool(entered()), 10)  # the file is written beside the work
    (entering,) = entered()
    assert entering["process"] == "Keepalived_vrrp"
    assert entering["pid"] == daemon.pid_of("vrrp")
    moved = old.rename(daemon.directory / "own_vrrp.log.1")
    size = moved.stat().st_size
    pair.one.run("ip", "link", "set", "eth0", "down")
    pair.rig.wait(old.exists, 10)
    pair.rig.wait(lambda: any("FAULT" in json.loads(line)["message"] for line in old.read_text().splitlines()), 10)
    assert moved.stat().st_size == size
    assert old.stat().st_mode & 0o777 == 0o600


def test_every_line_is_json_and_without_secrets_the_dump_of_the_configuration_whole(pair: Pair) -> None:
    names = [f"s{number}" for number in range(30)]
    blocks = "".join(f"vrrp_script {name} {{\n script /bin/true\n}}\n" for name in names)
    more = ("authentication {\n auth_type PASS\n auth_pass 5ecret\n}", "track_script {\n" + "\n".join(names) + "\n}")
    text = blocks + with_globals("log_format json", more=more).replace("version 3", "version 2")
    daemon = master(pair, text.replace("advert_int 0.2", "advert_int 1"), "-d", "-gown")
    daemon.stop()
    console = [line for line in daemon.log.splitlines() if not line.startswith("{")]
    assert console == []
    rows = [json.loads(line) for line in (daemon.directory / "own").read_text().splitlines()]
    messages = [row["message"] for row in rows]
    assert messages[0].startswith("Starting keepalived-py")
    assert messages[-1] == "Stopped"
    assert messages.count("}") > 30
    assert "        auth_pass ****" in messages
    for path in daemon.directory.iterdir():
        assert path.name == "conf" or "5ecret" not in path.read_text()


DEVICES = "null zero full random urandom"


@pytest.mark.parametrize("program", [OURS, THEIRS])
def test_syslog_hears_each_process_by_its_name(pair: Pair, program: str) -> None:
    devices = pair.rig.directory / "dev"
    devices.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.setblocking(False)
        log.bind(str(devices / "log"))
        executable = str(Path(sys.executable).with_name(OURS)) if program == OURS else THEIRS
        prepare = f"for d in {DEVICES}; do touch {devices}/$d; mount --bind /dev/$d {devices}/$d; done; "
        prepare += f'mount --rbind {devices} /dev; for a do shift; [ "$a" = -G ] || set -- "$@" "$a"; done; exec "$@"'
        text = "instance here\n" + fast(150)
        daemon = pair.one.start(program, text, "-S", "3", command=("sh", "-c", prepare, "sh", executable))
        found: dict[tuple[str, int], list[str]] = {}

        def entered() -> bool:
            with suppress(BlockingIOError):
                while True:
                    record = log.recv(65536).decode().rstrip("\0\n")
                    parts = re.fullmatch(r"<(\d+)>\w{3} [ \d]\d \d\d:\d\d:\d\d (\w+)\[(\d+)\]: (.*)", record)
                    assert parts, record
                    assert int(parts[1]) // 8 == 19
                    found.setdefault((parts[2], int(parts[3])), []).append(parts[4])
            return any(
                line.startswith("(VI_1) Entering MASTER STATE")
                for (name, _), lines in found.items()
                if name == "Keepalived_vrrp_here"
                for line in lines
            )

        pair.rig.wait(entered, 10, every=0.1)
        of_parent, of_vrrp = (
            ("Keepalived_here", daemon.pid_of("parent")),
            ("Keepalived_vrrp_here", daemon.pid_of("vrrp")),
        )
        assert {of_parent, of_vrrp} <= found.keys()
        assert daemon.stop() == 0


WORDS = (
    "Startup complete",
    "(VI_1) Entering BACKUP STATE",
    "(VI_1) Entering MASTER STATE",
    "(VI_1) Entering FAULT STATE",
    "VRRP_Script(chk) succeeded",
    "VRRP_Script(chk) failed (exited with status 1)",
    "Script `chk` now returning 1",
    "Netlink reports eth0 down",
    "Netlink reports eth0 up",
    "Reloading ...",
    ": Line 12) Unknown keyword 'prioritty'",
    "Stopping",
    "Running on Linux",
    "Command line: ",
    "Configuration file /",
    # with -D
    "Opening file '/",
    "Assigned address 10.0.0.1 for interface eth0",
    "(VI_1) Receive advertisement timeout",
    "(VI_1) setting VIPs",
    "Sending gratuitous ARP on eth0 for 10.0.0.100",
    "(VI_6) setting VIPs",
    "Sending unsolicited Neighbour Advert on eth0 for fe80::100",
    "Master received advert from 10.0.0.2 with higher priority 200, ours 150",
    "(VI_1) removing VIPs",
    "received priority 0 advertisement",
    "(VI_6) sent 0 priority",
)
"""What operators and their alert rules look for."""
PRINTED = (
    (signal.SIGUSR1, "Printing VRRP data"),
    (signal.SIGUSR2, "Printing VRRP stats"),
    (signal.SIGRTMIN + 2, "Printing VRRP as json"),
    (signal.SIGRTMAX - 1, "Printing and clearing VRRP stats"),
)


@pytest.mark.parametrize("program", [OURS, THEIRS])
def test_the_words_of_the_log_are_keepalived_s(pair: Pair, program: str) -> None:
    flag, check = pair.rig.directory / "flag", pair.rig.directory / "check"
    flag.write_text("0")
    check.write_text(f"#!/bin/sh\nexit $(cat {flag})\n")
    check.chmod(0o755)
    script = f"vrrp_script chk {{\n script {check}\n interval 1\n user root\n}}\n"
    text = script + fast(150, "track_script {\n chk\n }")
    text += config(150, 3, 6, interval="0.2").replace("VI_1", "VI_6")
    daemon = pair.one.start(program, text)
    pair.rig.wait(lambda: pair.one.has(VIP4), 10)
    for word, broken in (("1", False), ("0", True)):
        flag.write_text(word)
        pair.rig.wait(lambda broken=broken: pair.one.has(VIP4) is broken, 10)  # type: ignore[misc]
    pair.one.cut("eth0")
    pair.rig.wait(lambda: not pair.one.has(VIP4), 10)
    pair.one.restore("eth0")
    pair.rig.wait(lambda: pair.one.has(VIP4), 10)
    other = pair.two.start(OURS, fast(200))
    pair.rig.wait(lambda: not pair.one.has(VIP4), 10)
    other.stop()
    pair.rig.wait(lambda: pair.one.has(VIP4), 10)
    daemon.rewrite(text.replace("priority", "prioritty"))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: "prioritty" in daemon.log, 10)
    worker = daemon.pid_of("vrrp")
    for asked, words in PRINTED:
        daemon.signal(asked)
        pair.rig.wait(lambda words=words: f"{words} for process({worker}) on signal" in daemon.log, 5)  # type: ignore[misc]
    os.kill(worker, signal.SIGKILL)
    pair.rig.wait(lambda: f"VRRP child process({worker}) died: Respawning" in daemon.log, 5)
    pair.rig.wait(lambda: daemon.log.count("Starting VRRP child process, pid=") == 2, 5)
    daemon.stop()
    assert [words for words in WORDS if words not in daemon.log] == []
    assert daemon.log.count("Opening file '/") == 2


def test_dump_files_where_they_are_wanted(pair: Pair) -> None:
    wanted = pair.rig.directory / "dumps"
    wanted.mkdir()
    daemon = master(
        pair,
        with_globals(
            f"state_dump_file {wanted}/state.txt", f"stats_dump_file {wanted}/s", f"json_dump_file {wanted}/j"
        ),
    )
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGRTMIN + 2):
        daemon.signal(number)
    names = {"state.txt", "state_parent.txt", "s", "j"}
    pair.rig.wait(lambda: {each.name for each in wanted.iterdir()} == names, 10)
    assert f"VRRP: process {daemon.pid_of('vrrp')}" in (wanted / "state_parent.txt").read_text()
    every = ("Memory", "Objects", "Collections", "Threads", "Descriptors", "Log records lost", "Lateness of the loop")
    worker = (*every, "Tasks", "Timers", "Lateness of adverts")
    for name, facts in (("state_parent.txt", every), ("state.txt", worker)):
        lines = (wanted / name).read_text().splitlines()
        assert [fact for fact in facts if not any(line.strip().startswith(f"{fact}: ") for line in lines)] == []
    assert isinstance(json.loads((wanted / "j").read_text()), list)
    daemon.rewrite(with_globals(f"json_dump_file {wanted}/two", "json_version 2"))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: "Reload complete" in daemon.log, 10)
    daemon.signal(signal.SIGRTMIN + 2)
    pair.rig.wait((wanted / "two").exists, 10)
    assert list(json.loads((wanted / "two").read_text())) == ["vrrp"]


def test_a_reload_that_adds_the_first_script_of_root_is_obeyed_with_a_warning(pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "told"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o700)
    daemon = master(pair, fast(150))
    daemon.rewrite(fast(150, f"notify_backup {path} root"))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: "Reload complete, configuration 2" in daemon.log, 5)
    daemon.said("scripts are run as root without enable_script_security")


def test_memory_is_traced_in_every_process_and_reloads_of_the_same_file_make_none_grow(pair: Pair) -> None:
    daemon = master(pair, fast(150), "-L")
    for number in range(2, 8):
        daemon.signal(signal.SIGHUP)
        daemon.said(f"Reload complete, configuration {number}")
        daemon.said(f"Memory at reload {number}: ", 2)
    daemon.stop()
    daemon.said("Memory at the stop: ", 2)
    grown = [int(each) for each in re.findall(r"Memory at reload [567]: (\S+) bytes", daemon.log)]
    assert len(grown) == 6
    assert max(grown) < 5000

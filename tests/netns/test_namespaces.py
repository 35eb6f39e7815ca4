"""net_namespace and -s: the daemon enters the namespace by itself, with pid files and names of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.conftest import Pair
from tests.netns.rig import Host, children_of, sh
from tests.netns.test_links import VIP, config

pytestmark = pytest.mark.netns

OURS = str(Path(sys.executable).with_name("keepalived-py"))
PID_DIRECTORY = Path("/run/keepalived")


class Outside:
    """A daemon started outside of the namespace it is to run in."""

    def __init__(self, program: str, text: str, *options: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="kp-outside-"))
        (self.directory / "conf").write_text(text)
        with open(self.directory / "log", "wb") as log:
            self.process = subprocess.Popen(
                [program, "-n", "-l", "-D", "-G", "-f", str(self.directory / "conf"), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "TMPDIR": str(self.directory)},
            )

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)


@pytest.fixture
def daemons() -> Iterator[list[Outside]]:
    made: list[Outside] = []
    yield made
    for daemon in made:
        daemon.stop()
        shutil.rmtree(daemon.directory)


def head(host: Host, *more: str) -> str:
    return "\n".join((f"net_namespace {host.namespace}", *more)) + "\n"


def pid_files(host: Host) -> set[str]:
    return {path.name for path in (PID_DIRECTORY / host.namespace).glob("*.pid")}


def net_of(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/net")


def test_two_daemons_in_two_namespaces(pair: Pair, daemons: list[Outside]) -> None:
    for host, priority in ((pair.one, 150), (pair.two, 100)):
        daemons.append(Outside(OURS, config(priority, head=head(host))))
    pair.rig.wait(lambda: pair.masters(VIP) == ["one"], 6)
    for host, daemon in zip((pair.one, pair.two), daemons, strict=True):
        pair.rig.wait(lambda host=host: pid_files(host) == {"keepalived.pid", "vrrp.pid"}, 3)
        (worker,) = children_of(daemon.process.pid)
        assert net_of(worker) != net_of(os.getpid())
        assert int((PID_DIRECTORY / host.namespace / "vrrp.pid").read_text()) == worker
    assert VIP not in sh("ip", "addr")
    daemons[0].process.kill()
    for pid in children_of(daemons[0].process.pid):
        os.kill(pid, signal.SIGKILL)
    pair.rig.wait(lambda: pair.two.has(VIP), 5)
    shutil.rmtree(PID_DIRECTORY / pair.one.namespace)  # a killed daemon leaves its files, the next has the same name


@pytest.mark.parametrize("program", [OURS, "keepalived"])
def test_the_option_beats_the_keyword(pair: Pair, daemons: list[Outside], program: str) -> None:
    text = config(150, head="net_namespace nowhere\nglobal_defs {\n data_use_instance\n}\n")
    daemon = Outside(program, text, "-s", pair.one.namespace)
    daemons.append(daemon)
    pair.rig.wait(lambda: pair.one.has(VIP), 5)
    assert pid_files(pair.one) == {"keepalived.pid", "vrrp.pid"}
    daemon.process.send_signal(signal.SIGUSR1)
    for name in ("keepalived", "keepalived_parent"):
        path = daemon.directory / f"{name}.{pair.one.namespace}.data"
        pair.rig.wait(lambda path=path: path.exists() and path.stat().st_size, 5)
        assert f" Network namespace = {pair.one.namespace}\n" in path.read_text()


def test_instance_log_file_and_the_end(pair: Pair, daemons: list[Outside]) -> None:
    daemon = Outside(OURS, config(150, head=head(pair.one, "instance left")), "-g")
    daemons.append(daemon)
    pair.rig.wait(lambda: pair.one.has(VIP), 5)
    assert pid_files(pair.one) == {"keepalived_left.pid", "vrrp_left.pid"}
    suffix = f"_{pair.one.namespace}_left.log"
    found = {path.name for path in daemon.directory.glob("*.log")}
    assert {f"keepalived{suffix}", f"keepalived_vrrp{suffix}"} <= found
    assert daemon.stop() == 0
    assert not (PID_DIRECTORY / pair.one.namespace).exists()
    assert not pair.one.has(VIP)


def test_a_reload_and_a_killed_worker_stay_inside(pair: Pair, daemons: list[Outside]) -> None:
    daemon = Outside(OURS, config(150, head=head(pair.one)))
    daemons.append(daemon)
    pair.rig.wait(lambda: pair.one.has(VIP) and "Entering MASTER STATE" in daemon.log, 5)  # the parent knows
    (worker,) = children_of(daemon.process.pid)
    os.kill(worker, signal.SIGKILL)
    pair.rig.wait(lambda: children_of(daemon.process.pid) not in ([], [worker]), 5)
    conf = daemon.directory / "conf"
    conf.write_text(config(150, head=head(pair.one), addresses=f"{VIP}/24\n 10.0.0.101/24"))
    pair.rig.wait(lambda: "taken over" in daemon.log, 3)
    daemon.process.send_signal(signal.SIGHUP)
    pair.rig.wait(lambda: pair.one.has("10.0.0.101") and "Reload complete" in daemon.log, 5)
    conf.write_text(config(150, head=head(pair.two)))
    daemon.process.send_signal(signal.SIGHUP)
    pair.rig.wait(lambda: "net_namespace" in daemon.log.split("Reload complete")[-1], 5)
    time.sleep(0.3)
    assert pair.one.has("10.0.0.101")
    assert not pair.two.has(VIP)


@pytest.mark.parametrize("program", [OURS, "keepalived"])
@pytest.mark.parametrize(("line", "options"), [("net_namespace nowhere\n", ()), ("", ("-s", "nowhere"))])
def test_a_namespace_that_is_not_there(
    daemons: list[Outside], program: str, line: str, options: tuple[str, ...]
) -> None:
    daemon = Outside(program, config(150, head=line), *options)
    daemons.append(daemon)
    assert daemon.process.wait(5) == 0
    assert "nowhere" in daemon.log
    assert "Starting VRRP" not in daemon.log


def test_a_namespace_that_may_not_be_entered_names_the_capability(pair: Pair) -> None:
    words = ["setpriv", "--bounding-set=-sys_admin", OURS, "-n", "-l", "-G", "-s", pair.one.namespace]
    words += ["-f", str(pair.rig.directory / "conf")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    why = f"cannot enter network namespace {pair.one.namespace}: Operation not permitted; CAP_SYS_ADMIN is missing"
    assert (done.returncode, done.stderr.splitlines()[-1].endswith(f"{why} - exiting")) == (0, True), done.stderr


@pytest.mark.parametrize("name", ["../../proc/1/ns/net", ".."])
def test_a_path_is_no_name(daemons: list[Outside], name: str) -> None:
    daemon = Outside(OURS, config(150), "-s", name)
    daemons.append(daemon)
    assert daemon.process.wait(5) == 0
    assert "cannot enter network namespace" in daemon.log


def test_findings_are_about_the_interfaces_inside(pair: Pair, daemons: list[Outside]) -> None:
    sh("ip", "-n", pair.one.namespace, "link", "add", "only0", "type", "veth", "peer", "name", "only1")
    sh("ip", "-n", pair.one.namespace, "addr", "add", "10.7.0.1/24", "dev", "only0")
    daemon = Outside(OURS, config(150, head=head(pair.one), interface="only0"))
    daemons.append(daemon)
    pair.rig.wait(lambda: "Entering FAULT STATE (interface only0 is down)" in daemon.log, 5)
    assert "does not exist" not in daemon.log
    found = json.loads(sh("ip", "-j", "link"))
    assert "only0" not in {link["ifname"] for link in found}

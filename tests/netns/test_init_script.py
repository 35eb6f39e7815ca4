"""The init script with the real daemon: LSB exit codes, pids that are not ours, broken files, a daemon that hangs.

And whether the capabilities of the systemd unit are enough for all that a configuration may ask for.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.netns.conftest import Pair
from tests.netns.rig import THEIRS, children_of
from tests.netns.test_vrrp_takeover import VIP4, config

pytestmark = pytest.mark.netns

SCRIPT = REPOSITORY / "conf.d/init.d/keepalived-py"
OK, FAILED, PID_FILE_LEFT, USAGE, NOT_RUNNING = 0, 1, 1, 2, 3
NOT_ALLOWED, NOT_INSTALLED, NOT_CONFIGURED, RELOAD_OF_STOPPED = 4, 5, 6, 7
GOOD = config(150, 3, 4, interval="0.2")
BROKEN = {
    "not a number": GOOD.replace("priority 150", "priority 300"),
    "no end": GOOD.rstrip().removesuffix("}"),
    "unknown word": GOOD + "no_such_keyword\n",
    "no file to include": GOOD + "includea /nowhere/at/all.conf\n",
    "broken below a warning": GOOD.replace("priority 150", "priority x") + "vrrp_script S {\n script /bin/true\n}\n",
}


class Service:
    """The script, its files in a directory of its own, run in a host."""

    def __init__(self, pair: Pair) -> None:
        self.pair, self.host = pair, pair.one
        self.directory = pair.rig.directory
        self.pid_file, self.conf = self.directory / "pid", self.directory / "conf"
        self.script = self.directory / "keepalived-py"
        text = SCRIPT.read_text().replace("@SBIN@", str(REPOSITORY / ".venv/bin"))
        assert "/etc/default/keepalived-py" in text
        self.script.write_text(text.replace("/etc/default/keepalived-py", str(self.directory / "default")))
        self.script.chmod(0o755)
        self.conf.write_text(GOOD)
        self.defaults()
        self.text = ""

    def defaults(self, *more: str) -> None:
        """/etc/default/keepalived-py with files below the directory, and `more` lines."""
        arguments = f"-G -D -g{self.directory}/log -r {self.directory}/vrrp.pid -c {self.directory}/checkers.pid"
        lines = (f"PIDFILE={self.pid_file}", f"CONFIG={self.conf}", f'DAEMON_ARGS="{arguments}"', *more)
        (self.directory / "default").write_text("\n".join(lines) + "\n")

    def __call__(self, *words: str, prefix: tuple[str, ...] = ()) -> int:
        """The exit code; what the script said is in `text`."""
        command = ["ip", "netns", "exec", self.host.namespace, *prefix, str(self.script), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        self.text = done.stdout + done.stderr
        return done.returncode

    @property
    def pid(self) -> int:
        return int(self.pid_file.read_text())

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def start(self) -> int:
        """Started and MASTER; the pid."""
        assert self("start") == OK, self.text
        self.pair.rig.wait(lambda: self.host.has(VIP4), 4)
        return self.pid

    def close(self) -> None:
        with suppress(FileNotFoundError, ValueError, ProcessLookupError):
            for pid in (self.pid, *children_of(self.pid)):
                if "keepalived" in Path(f"/proc/{pid}/cmdline").read_text():
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def service(pair: Pair) -> Iterator[Service]:
    made = Service(pair)
    yield made
    made.close()


def test_a_life(service: Service) -> None:
    assert service("status") == NOT_RUNNING
    assert service("stop") == OK
    first = service.start()
    assert service("status") == OK
    assert f"process {first}" in service.text
    assert service("start") == OK
    assert service.pid == first
    service.conf.write_text(GOOD.replace(f"{VIP4}/24", f"{VIP4}/24\n 10.0.0.101/24"))
    assert service("reload") == OK
    service.pair.rig.wait(lambda: service.host.has("10.0.0.101"), 3)
    service.conf.write_text(GOOD)
    assert service("force-reload") == OK
    service.pair.rig.wait(lambda: not service.host.has("10.0.0.101"), 3)
    assert service.pid == first
    assert service("try-restart") == OK
    second = service.pid
    assert second != first
    assert service("restart") == OK
    assert service.pid not in (first, second)
    service.pair.rig.wait(lambda: service.host.has(VIP4), 4)
    last = service.pid
    assert service("stop") == OK
    assert not service.host.has(VIP4)
    assert not Path(f"/proc/{last}/exe").exists()
    assert service("status") == NOT_RUNNING


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_touches_nothing(service: Service, text: str) -> None:
    pid = service.start()
    service.conf.write_text(text)
    before = service.log
    assert service("configtest") != OK
    assert "error: " in service.text
    for verb in ("reload", "force-reload", "restart", "try-restart"):
        assert service(verb) == NOT_CONFIGURED, verb
    assert service.pid == pid
    assert service.host.has(VIP4)
    assert service.log == before


def test_a_missing_file_touches_nothing(service: Service) -> None:
    pid = service.start()
    service.conf.unlink()
    assert service("restart") == NOT_CONFIGURED
    assert service("reload") == NOT_CONFIGURED
    assert service.pid == pid
    assert service.host.has(VIP4)


def test_warnings_are_shown_and_let_through(service: Service) -> None:
    pid = service.start()
    service.conf.write_text(GOOD + "vrrp_script S {\n script /bin/true\n}\n")
    assert service("configtest") == OK
    assert "script-security" in service.text
    assert service("restart") == OK
    assert service.pid != pid


def test_what_is_not_running_is_not_started_by_others(service: Service) -> None:
    assert service("reload") == RELOAD_OF_STOPPED
    assert service("force-reload") == RELOAD_OF_STOPPED
    assert service("try-restart") == OK
    assert not service.pid_file.exists()
    assert service("restart") == OK
    assert service("status") == OK


def test_a_stale_pid_file(service: Service) -> None:
    pid = service.start()
    for each in (pid, *children_of(pid)):
        os.kill(each, signal.SIGKILL)
    service.pair.rig.wait(lambda: not Path(f"/proc/{pid}/exe").exists(), 2)
    assert service("status") == PID_FILE_LEFT
    assert service("reload") == RELOAD_OF_STOPPED
    assert service("start") == OK
    assert service.pid != pid
    assert service("stop") == OK


@pytest.mark.parametrize("text", ["", "word\n", "-1\n", "0\n", "99999999\n"])
def test_a_pid_file_with_nonsense(service: Service, text: str) -> None:
    service.pid_file.write_text(text)
    assert service("status") == PID_FILE_LEFT
    assert service("stop") == OK
    assert not service.pid_file.exists()
    assert service("status") == NOT_RUNNING


def test_a_reused_pid_is_left_alone(service: Service) -> None:
    other = subprocess.Popen(["sleep", "60"])
    try:
        service.pid_file.write_text(f"{other.pid}\n")
        assert service("status") == PID_FILE_LEFT
        assert service("reload") == RELOAD_OF_STOPPED
        assert service("stop") == OK
        assert service.pid_file.exists()
        service.start()
        assert service.pid != other.pid
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_keepalived_itself_is_left_alone(service: Service) -> None:
    other = service.host.start(THEIRS, GOOD, "-p", str(service.pid_file))
    service.pair.rig.wait(service.pid_file.exists, 3)
    pid = service.pid
    assert service("status") == PID_FILE_LEFT
    assert service("start") == FAILED
    assert f"keepalived is running as process {pid}" in service.text
    assert service("stop") == OK
    assert service.pid == pid
    assert other.process.poll() is None


def test_a_daemon_that_hangs_is_killed_in_time(service: Service) -> None:
    pid = service.start()
    service.defaults("STOP_TIMEOUT=1")
    os.kill(pid, signal.SIGSTOP)
    started = time.monotonic()
    assert service("stop") == OK
    assert 1 <= time.monotonic() - started < 8
    assert "killed" in service.text
    service.pair.rig.wait(lambda: not Path(f"/proc/{pid}/exe").exists(), 1)
    service.pair.rig.wait(lambda: not service.host.has(VIP4), 3)
    assert service("status") == NOT_RUNNING


def test_a_start_that_fails_is_told(service: Service) -> None:
    service.conf.write_text(GOOD.replace("eth0", "nothere0"))
    assert service("start") == FAILED
    assert "see the log" in service.text
    service.conf.unlink()
    assert service("start") == NOT_CONFIGURED


def test_a_file_among_the_options_is_the_one_as_under_systemd(service: Service) -> None:
    """keepalived has no other place for it in /etc/default."""
    other = service.directory / "other.conf"
    service.conf.rename(other)
    service.defaults(f'DAEMON_ARGS="$DAEMON_ARGS -f {other}"')
    service.start()
    assert service("configtest") == OK
    other.write_text(BROKEN["not a number"])
    for verb in ("reload", "restart"):
        assert service(verb) == NOT_CONFIGURED, verb
        assert f"{other}:" in service.text
    assert service("stop") == OK
    other.unlink()
    assert service("start") == NOT_CONFIGURED
    assert str(other) in service.text


def test_a_pattern_among_the_options_is_the_daemon_s(service: Service) -> None:
    """Under systemd nobody else looks at it either; a shell would make words of it, of which -f takes the first."""
    second = "10.0.0.102"
    service.conf.write_text(GOOD)
    more = GOOD.replace("VI_1", "VI_2").replace("virtual_router_id 51", "virtual_router_id 52").replace(VIP4, second)
    (service.directory / "conf2").write_text(more)
    service.defaults(f'DAEMON_ARGS="$DAEMON_ARGS -f {service.directory}/conf*"')
    service.start()
    service.pair.rig.wait(lambda: service.host.has(second), 4)
    (service.directory / "conf2").write_text(BROKEN["not a number"])
    assert service("configtest") != OK
    assert f"{service.directory}/conf2:" in service.text


def test_usage_and_privileges(service: Service) -> None:
    assert service() == USAGE
    assert service("dance") == USAGE
    assert "Usage: " in service.text
    service.start()
    service.directory.chmod(0o755)
    nobody = ("setpriv", "--reuid", "65534", "--clear-groups")
    assert service("stop", prefix=nobody) == NOT_ALLOWED
    assert service("status", prefix=nobody) == NOT_ALLOWED, service.text  # 4 is also: the state is unknown
    assert service("status") == OK
    service.script.write_text(service.script.read_text().replace("/.venv/bin", "/.venv/nowhere"))
    assert service("start") == NOT_INSTALLED
    assert service("restart") == NOT_INSTALLED
    assert service("stop") == OK


def test_the_capabilities_of_the_unit_are_enough(service: Service) -> None:
    unit = (REPOSITORY / "conf.d/systemd/keepalived-py.service").read_text()
    names = " ".join(re.findall(r"^CapabilityBoundingSet=(.*)$", unit, re.MULTILINE)).split()
    bounds = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in names)])
    fifo, told, installed = (service.directory / name for name in ("fifo", "told", "installed"))
    service.directory.chmod(0o755)
    told.touch()
    os.chown(told, 65534, -1)
    defs = f"script_user nobody\n enable_script_security\n vrrp_notify_fifo {fifo}\n fifo_write_vrrp_states_on_reload"
    tuned = "vrrp_rt_priority 20\n vrrp_no_swap\n vrrp_rlimit_rttime 200000\n vrrp_priority -5"
    script = 'vrrp_script S {\n script "/bin/sleep 30"\n interval 1\n timeout 1\n weight 1\n}\n'
    extra = (
        "use_vmac\n",
        "no_accept\n",
        f"notify_master \"/bin/sh -c 'id -un >>{told}'\"\n",
        f'notify_backup "/usr/bin/install -o nobody -m 640 {SCRIPT} {installed}" root\n',
        "track_script {\n S\n }\n",
    )
    service.conf.write_text(
        f"global_defs {{\n {defs}\n {tuned}\n}}\n" + script + config(150, 3, 4, *extra, interval="0.2")
    )
    assert service("start", prefix=("setpriv", "--bounding-set", bounds)) == OK, service.text
    pid = service.pid
    assert "CapBnd:\t000001ffffffffff" not in Path(f"/proc/{pid}/status").read_text()
    service.pair.rig.wait(lambda: service.host.has(VIP4), 4)
    service.pair.rig.wait(lambda: told.read_text() == "nobody\n", 3)
    service.pair.rig.wait(lambda: installed.exists() and installed.stat().st_mode & 0o777 == 0o640, 3)
    vrrp = (service.directory / "log_vrrp").read_text
    service.pair.rig.wait(lambda: "timed out" in vrrp() or "timeout" in vrrp(), 4)
    for log in (service.log, vrrp()):
        assert not re.search(r"not permitted|denied|refused|CAP_", log), log
    assert service("stop") == OK
    assert not service.host.has(VIP4)

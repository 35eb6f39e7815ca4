"""What programs around keepalived do with it: find it by name, ask its version and signals, read its files.

The reader below takes the files as exporters for Prometheus do (by indentation, `=` and `:`), and must be able to read
those of Debian's keepalived and ours alike.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.netns.conftest import Pair
from tests.netns.rig import OURS, THEIRS, Daemon, patience
from tests.netns.test_daemon import fast
from tests.netns.test_vrrp_takeover import VIP4
from tests.torture.arena import executable

pytestmark = pytest.mark.netns

STATES = ("INIT", "BACKUP", "MASTER", "FAULT")
SCRIPT_STATES = ("idle", "running", "requested termination", "forcing termination")
COUNTERS = (
    "advert_rcvd",
    "advert_sent",
    "become_master",
    "release_master",
    "packet_len_err",
    "advert_interval_err",
    "ip_ttl_err",
    "invalid_type_rcvd",
    "addr_list_err",
    "invalid_authtype",
    "authtype_mismatch",
    "auth_failure",
    "pri_zero_rcvd",
    "pri_zero_sent",
)
SCRIPT = 'vrrp_script fine {\n script "/bin/true"\n interval 1\n user root\n}\n'
USED = "track_script {\n fine\n }\n virtual_ipaddress_excluded {\n 10.0.0.101/24\n }\n"


class Agent:
    """A program that knows keepalived by its name in the PATH, its pid file and the directory of its files."""

    def __init__(self, pair: Pair, program: str) -> None:
        directory = pair.rig.directory / "bin"
        directory.mkdir()
        path = executable(program)[0]
        (directory / "keepalived").symlink_to(path if program == OURS else "/usr/sbin/keepalived")
        self.name = str(directory / "keepalived")
        self.daemon: Daemon = pair.one.start(program, SCRIPT + fast(150, USED), command=(self.name,))
        pair.rig.wait(lambda: pair.one.has(VIP4), 10)
        self.rig = pair.rig

    def version(self) -> tuple[int, ...]:
        """The second word of the first of several lines on standard error, without its first letter."""
        done = subprocess.run([self.name, "-v"], capture_output=True, text=True, check=True)
        first, rest = done.stderr.split("\n", 1)
        assert rest
        return tuple(int(part) for part in first.split(" ")[1][1:].split("."))

    def signal(self, name: str) -> int:
        done = subprocess.run([self.name, f"--signum={name}"], capture_output=True, text=True, check=True)
        return int(done.stdout)

    def dump(self, signal: str, file: str) -> str:
        """Ask, and read what comes."""
        path = self.daemon.directory / file
        path.unlink(missing_ok=True)
        os.kill(int((self.daemon.directory / "parent.pid").read_text()), self.signal(signal))
        self.rig.wait(lambda: path.exists() and path.stat().st_size, 5, 0.001)
        return path.read_text()


def rows(text: str, head: str) -> dict[str, dict[str, list[str]]]:
    """Sections ` HEAD = NAME` with their values by key: 3 spaces `key = value` or `key (n):`, 5 for each value."""
    found: dict[str, dict[str, list[str]]] = {}
    section: dict[str, list[str]] | None = None
    key = ""
    for line in text.splitlines():
        if line.startswith(f" {head}") and "=" in line:
            section = found[line.partition("=")[2].strip()] = {}
        elif line.startswith("     ") and section is not None:
            section.setdefault(key, []).append(line.strip())
        elif line.startswith("   ") and section is not None:
            name, _, value = line.strip().partition("=" if "=" in line else ":")
            key = re.sub(r" \(\d+\)", "", name).strip()
            if value.strip():
                section.setdefault(key, []).append(value.strip())
        else:
            section = None
    return found


def statistics(text: str) -> dict[str, dict[str, int]]:
    """Instances with their counters, `section/name`."""
    found: dict[str, dict[str, int]] = {}
    counters: dict[str, int] = {}
    section = ""
    for line in text.splitlines():
        key, _, value = line.strip().partition(":")
        if line.startswith("VRRP Instance"):
            counters = found[value.strip()] = {}
        elif line.startswith("  ") and not value:
            section = key
        elif line.startswith("    "):
            counters[f"{section}/{key}"] = int(value)
        elif line.startswith("  "):
            counters[key] = int(value)
    return found


PROGRAMS = pytest.mark.parametrize("program", [OURS, THEIRS])


@PROGRAMS
def test_name_version_and_signals(pair: Pair, program: str) -> None:
    agent = Agent(pair, program)
    assert agent.version() >= (2, 2, 7)
    assert [agent.signal(name) for name in ("DATA", "STATS", "JSON", "RELOAD")] == [10, 12, 36, 1]


@PROGRAMS
def test_the_data_file_is_read_by_indentation(pair: Pair, program: str) -> None:
    agent = Agent(pair, program)
    time.sleep(0.5)
    text = agent.dump("DATA", "keepalived.data")
    instance = rows(text, "VRRP Instance")["VI_1"]
    assert instance["State"] == ["MASTER"]
    assert instance["Wantstate"][0] in STATES
    assert (instance.get("Interface") or instance["Listening device"]) == ["eth0"]
    assert int(instance["Virtual Router ID"][0]) == 51
    assert int(instance["Gratuitous ARP delay"][0]) == 5
    assert [line.split(" ")[:3] for line in instance["Virtual IP"]] == [[f"{VIP4}/24", "dev", "eth0"]]
    script = rows(text, "VRRP Script")["fine"]
    assert script["Status"] == ["GOOD"]
    assert script["State"][0] in SCRIPT_STATES


@PROGRAMS
def test_the_statistics_are_whole_numbers_in_sections(pair: Pair, program: str) -> None:
    found = statistics(Agent(pair, program).dump("STATS", "keepalived.stats"))["VI_1"]
    assert found["Advertisements/Sent"] >= 1
    assert found["Became master"] == 1
    assert found["Released master"] == 0
    for section, names in (
        ("Packet Errors", ("Length", "TTL", "Invalid Type", "Advertisement Interval", "Address List")),
        ("Authentication Errors", ("Invalid Type", "Type Mismatch", "Failure")),
        ("Priority Zero", ("Received", "Sent")),
    ):
        assert [found[f"{section}/{name}"] for name in names] == [0] * len(names)


@PROGRAMS
def test_the_json_file_has_the_members_that_are_read(pair: Pair, program: str) -> None:
    (instance,) = json.loads(Agent(pair, program).dump("JSON", "keepalived.json"))
    data: dict[str, Any] = instance["data"]
    assert (data["iname"], data["ifp_ifname"], data["vrid"], STATES[data["state"]]) == ("VI_1", "eth0", 51, "MASTER")
    assert data["garp_delay"] == 5
    assert [line.split(" ")[:3] for line in data["vips"]] == [[f"{VIP4}/24", "dev", "eth0"]]
    assert [line.split(" ")[0] for line in data["evips"]] == ["10.0.0.101/24"]
    assert all(isinstance(instance["stats"][name], int) for name in COUNTERS)


def test_files_are_there_as_soon_as_agents_look(pair: Pair) -> None:
    """They wait for ten milliseconds."""
    agent = Agent(pair, OURS)
    times = []

    def ask(path: Path) -> Callable[[], bool]:
        return lambda: path.exists() and path.stat().st_size > 0

    for signal, file in (("DATA", "keepalived.data"), ("STATS", "keepalived.stats"), ("JSON", "keepalived.json")) * 5:
        path = agent.daemon.directory / file
        path.unlink(missing_ok=True)
        number = agent.signal(signal)
        os.kill(agent.daemon.pid_of("parent"), number)
        times.append(agent.rig.wait(ask(path), 5, 0.0005))
    assert sorted(times)[len(times) // 2] < patience(0.01)

"""OpenStack Neutron's network agent: starts, reloads, watches and stops the daemon of a router (KeepalivedManager).

Its neutron-keepalived-state-change looks at the addresses, and tells the agent at an HTTP server on a Unix socket.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer
from typing import ClassVar

from neutron import privileged
from neutron.agent.linux import external_process, keepalived
from neutron.cmd import runtime_checks
from neutron.common import config as common
from neutron.conf.agent import common as agent
from oslo_config import cfg

from tests.agents.facts import Namespace, fact, tell, wait

ROUTER = "5f1a4e0c-7c1b-4a6f-9d0e-0f6f5a3b2c1d"
GATEWAY, GATEWAY6 = "10.1.0.1", "fe80::f816:1"


class Told(BaseHTTPRequestHandler):
    """The agent's end: the states of the router, in order."""

    states: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.states.append(self.headers["X-Neutron-State"])
        self.send_response(200)
        self.end_headers()

    def address_string(self) -> str:
        return "a Unix socket has none"

    def log_message(self, format: str, *args: object) -> None:
        pass


class Ear(UnixStreamServer):
    """Listens beside the story."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), Told)
        threading.Thread(target=self.serve_forever, daemon=True).start()


def state_change(space: Namespace, directory: Path) -> subprocess.Popen[bytes]:
    """The program that comes with the agent, started as the agent starts it."""
    words = [str(Path(sys.executable).with_name("neutron-keepalived-state-change"))]
    for option, value in (
        ("router_id", ROUTER),
        ("namespace", space.name),
        ("conf_dir", directory / ROUTER),
        ("log-file", directory / ROUTER / "log"),
        ("monitor_interface", "ha0"),
        ("monitor_cidr", "169.254.0.7/24"),
        ("pid_file", directory / ROUTER / "pid"),
        ("state_path", directory / ROUTER),
    ):
        words += [f"--{option}", str(value)]
    return subprocess.Popen(words)


def configuration(directory: Path, addresses: Sequence[str], extra: Sequence[str] = ()) -> keepalived.KeepalivedConf:
    """A router with addresses on the interface of its gateway, and extra routes without an interface."""
    instance = keepalived.KeepalivedInstance(
        "BACKUP",
        "ha0",
        7,
        ["169.254.192.0/18"],
        advert_int=1,
        nopreempt=True,
        vrrp_health_check_interval=1,
        ha_conf_dir=str(directory / ROUTER),
        vrrp_auth_type="PASS",
        vrrp_auth_password="secretly",
    )
    instance.track_interfaces.append("ha0")
    for address in addresses:
        instance.add_vip(address, "qg0", None)
    route = keepalived.KeepalivedVirtualRoute
    instance.virtual_routes.gateway_routes = [route("0.0.0.0/0", GATEWAY, "qg0"), route("::/0", GATEWAY6, "qg0")]
    instance.virtual_routes.extra_routes = [route(destination, "10.1.0.9") for destination in extra]
    found = keepalived.KeepalivedConf()
    found.add_instance(instance)
    return found


def main() -> None:
    space, directory = Namespace(sys.argv[1]), Path(sys.argv[2])
    privileged.default.set_client_mode(False)
    common.register_common_config_options()
    agent.register_root_helper(cfg.CONF)
    cfg.CONF([], project="neutron")
    cfg.CONF.set_override("root_helper", "", "AGENT")
    cfg.CONF.set_override("check_child_processes_interval", 1, "AGENT")
    (directory / ROUTER).mkdir()
    Ear(directory / ROUTER / "keepalived-state-change")
    watcher = state_change(space, directory)
    state = directory / ROUTER / "state"
    wait("the watcher begins with backup", lambda: state.exists() and state.read_text() == "backup", 5)
    fact("the version is read, and newer than 2.0.3", runtime_checks.keepalived_use_no_track_support())
    monitor = external_process.ProcessMonitor(cfg.CONF, "router")
    first = configuration(directory, ["10.1.0.5/24", "fd00:1::5/64"])
    manager = keepalived.KeepalivedManager(ROUTER, first, monitor, conf_path=str(directory), namespace=space.name)
    manager.spawn()
    process = manager.get_process()

    def daemons() -> list[int]:
        return [pid for pid in space.pids() if Path(f"/proc/{pid}/comm").read_text().strip() == "keepalived"]

    wait("the agent sees the daemon and its VRRP process", manager.check_processes, 5)
    wait("the addresses come", lambda: space.has("10.1.0.5") and space.has("fd00:1::5"))
    wait("and the routes", lambda: GATEWAY in space.ip("route") and GATEWAY6 in space.ip("-6", "route"), 3)
    wait("the watcher hears of the role", lambda: Told.states == ["backup", "primary"], 3)
    pid = process.pid

    manager.config = configuration(directory, ["10.1.0.5/24", "10.1.0.6/24"], ["10.66.0.0/16"])
    manager.spawn()
    wait("a change is a reload: the new address comes", lambda: space.has("10.1.0.6"), 5)
    wait("and the new route", lambda: "10.66.0.0/16" in space.ip("route"), 5)
    wait("what was taken out goes", lambda: not space.has("fd00:1::5"), 5)
    fact("the daemon is the same", process.pid == pid)

    os.kill(pid, signal.SIGKILL)
    wait("killed, it is started again", lambda: process.pid not in (None, pid) and manager.check_processes())
    wait("and serves again", lambda: space.has("10.1.0.6") and "10.66.0.0/16" in space.ip("route"))
    wait("nothing is left of the killed one", lambda: len(daemons()) == 2)

    manager.disable()
    monitor.stop()
    wait("a stop ends every process", lambda: not daemons(), 5)
    wait("the watcher hears of that too", lambda: Told.states[-1] == "backup", 3)
    watcher.terminate()
    watcher.wait(10)
    fact("and takes the addresses away", not space.has("10.1.0.5") and not space.has("10.1.0.6"))
    fact("no pid file is left", [each.name for each in directory.iterdir()] == [ROUTER])
    tell()


if __name__ == "__main__":
    main()

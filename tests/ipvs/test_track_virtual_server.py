"""track_virtual_server: what the checker says of a service decides over an instance, whoever of the two dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.ipvs.compare import OURS, Checker, running, wait
from tests.ipvs.test_ipvs_table import HEAD, Listener, server, tcp

pytestmark = pytest.mark.ipvs

SERVICE = "[10.0.0.1]:tcp:80"
DOWN = f"Entering FAULT STATE (tracked virtual_server {SERVICE} is down)"
VIP = "10.5.0.100"


@pytest.fixture
def _interface() -> Iterator[None]:
    """v0, up, with an address."""
    for command in (
        "link add v0 type veth peer name v1",
        "addr add 10.5.0.1/24 dev v0",
        "link set v0 up",
        "link set v1 up",
    ):
        subprocess.run(["ip", *command.split()], check=True)
    yield
    subprocess.run(["ip", "link", "del", "v0"], check=True)


def has_vip() -> bool:
    found = json.loads(subprocess.run(["ip", "-j", "addr"], capture_output=True, text=True, check=True).stdout)
    return VIP in {each["local"] for link in found for each in link["addr_info"]}


def config(entry: str, *reals: str, extra: str = "") -> str:
    track = f" track_virtual_server {{\n {entry}\n }}\n"
    instance = f"vrrp_instance VI_1 {{\n interface v0\n virtual_router_id 1\n advert_int 1\n{track}"
    instance += f" virtual_ipaddress {{\n {VIP}/24\n }}\n}}\n"
    return instance + server("10.0.0.1 80", HEAD + extra, *reals)


def vrrp_pid(daemon: Checker) -> int:
    return int((daemon.directory / "r.pid").read_text())


@pytest.mark.usefixtures("_interface")
def test_a_service_without_a_quorum_is_a_fault_and_the_last_word_stands() -> None:
    listener = Listener()
    with running(OURS, config(SERVICE, tcp(listener.port)), "--all") as daemon:
        wait(has_vip)
        listener.off()
        wait(lambda: DOWN in daemon.log and not has_vip())

        checker = daemon.worker
        os.kill(checker, signal.SIGKILL)
        wait(lambda: daemon.worker != checker)
        vrrp = vrrp_pid(daemon)
        os.kill(vrrp, signal.SIGKILL)
        wait(lambda: vrrp_pid(daemon) != vrrp)
        wait(lambda: daemon.log.count(DOWN) == 2)  # the successor knows
        assert daemon.log.count("Entering MASTER STATE") == 1

        listener.on()
        wait(has_vip)
        listener.off()
        wait(lambda: not has_vip())
    listener.off()


@pytest.mark.usefixtures("_interface")
def test_a_service_that_starts_without_a_quorum_and_a_weight() -> None:
    listener = Listener()
    listener.off()
    named = config("web weight -20", tcp(listener.port), extra=" alpha\n snmp_name web\n")
    with running(OURS, named, "--all") as daemon:
        wait(lambda: f"(100, virtual_server {SERVICE} -20 = 80)" in daemon.log)
        wait(has_vip)
        listener.on()
        wait(lambda: "Changing effective priority from 80 to 100" in daemon.log)
        daemon.reload(named.replace("weight -20", "weight 5"))
        wait(lambda: f"(100, virtual_server {SERVICE} +5 = 105)" in daemon.log)  # nothing new was told meanwhile
        assert has_vip()
        assert daemon.log.count("Entering MASTER STATE") == 1
    listener.off()

"""Figures that need a kernel with IPVS: this program runs where one is, and leaves its figures in a file."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from tests.bench.frame import Bench, Figures
from tests.ipvs import uml
from tests.netns.rig import Daemon, Host, Rig, children_of

CONFIG = """
vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    virtual_ipaddress {
        10.0.0.100/24
    }
}
virtual_server 10.0.0.100 80 {
    delay_loop 10
    lvs_sched rr
    lvs_method NAT
    protocol TCP
    real_server 10.0.0.11 80 {
        TCP_CHECK {
            connect_timeout 1
        }
    }
}
"""


INSTANCE = """
vrrp_instance VI_1 {
    interface eth0
    version 3
    advert_int 0.1
    virtual_router_id 51
    virtual_ipaddress {
        10.0.0.100/24
    }
}
"""
EVERY = 16
"""Real servers of one virtual server."""
CHANGED = "10.200.0.0"


def many_servers(count: int, weight: int = 1) -> str:
    """An instance and `count` real servers; `weight` is that of the first one."""
    out = [INSTANCE]
    for number in range(max(1, count // EVERY)):
        out.append(
            f"virtual_server 10.{200 + number // 65536}.{number // 256 % 256}.{number % 256} 80 {{\n"
            "    delay_loop 3600\n    lvs_sched rr\n    lvs_method NAT\n    protocol TCP\n"
        )
        for each in range(EVERY):
            own = weight if number == each == 0 else 1
            out.append(
                f"    real_server 172.16.{number % 256}.{each + 1} {1000 + number // 256} {{\n        weight {own}\n"
                "        TCP_CHECK {\n            connect_timeout 3\n        }\n    }\n"
            )
        out.append("}\n")
    return "".join(out)


def in_the_guest(name: str) -> Callable[[str, int], Figures]:
    """Measure function that runs this module's function of that name where there is IPVS."""

    def measure(program: str, size: int) -> Figures:
        reason = uml.why_not()
        if reason:
            raise RuntimeError(reason)
        keep = Path(tempfile.mkdtemp(prefix="bench-", dir="/var/tmp"))
        command = [sys.executable, "-m", "tests.bench.guest", name, program, str(size)]
        try:
            if uml.native():
                subprocess.run(["unshare", "-n", *command], env={**os.environ, "UML_KEEP": str(keep)}, check=True)
            else:
                uml.run(command, keep=keep, quiet=True)
            figures: Figures = json.loads((keep / "figures").read_text())
            return figures
        finally:
            shutil.rmtree(keep, ignore_errors=True)

    return measure


def _started(rig: Rig, program: str, text: str) -> tuple[Host, Daemon]:
    lan = rig.switch("lan")
    host = rig.host("router")
    host.plug(lan, "eth0", "10.0.0.1/24")
    daemon = host.start(program, text)
    rig.wait(lambda: len(children_of(daemon.process.pid)) == 2, 60)
    return host, daemon


def _memory(daemon: Daemon) -> Figures:
    from tests.bench.vrrp import pss

    pids = [daemon.process.pid, *children_of(daemon.process.pid)]
    assert len(pids) == 3, daemon.log
    return {"total": sum(map(pss, pids))}


def _settle(rig: Rig, host: Host, size: int) -> None:
    """All servers are in the table."""
    last = (max(1, size // EVERY)) - 1
    address = f"10.{200 + last // 65536}.{last // 256 % 256}.{last % 256}:80"
    rig.wait(lambda: host.run("ipvsadm", "-Ln", "-t", address, check=False).count("->") > EVERY, 600, 0.5)


def memory_three(program: str, size: int) -> Figures:
    """Proportional set size of parent, VRRP worker and checker, idle, in MB."""
    with Rig() as rig:
        _, daemon = _started(rig, program, CONFIG)
        time.sleep(8.0)
        return _memory(daemon)


def memory_servers(program: str, size: int) -> Figures:
    with Rig() as rig:
        host, daemon = _started(rig, program, many_servers(size))
        _settle(rig, host, size)
        time.sleep(5.0)
        return _memory(daemon)


def reload_one_weight(program: str, size: int) -> Figures:
    """Seconds from SIGHUP to the changed weight in the kernel, and the longest silence of the instance meanwhile."""
    with Rig() as rig:
        host, daemon = _started(rig, program, many_servers(size))
        _settle(rig, host, size)
        time.sleep(5.0)
        watch = host.capture("eth0")
        time.sleep(1.0)
        daemon.rewrite(many_servers(size, weight=7))
        began = time.monotonic()
        daemon.signal(signal.SIGHUP)
        one = ("ipvsadm", "-Ln", "-t", f"{CHANGED}:80")
        rig.wait(lambda: " 7 " in host.run(*one, check=False), 600, 0.02)
        took = time.monotonic() - began
        time.sleep(1.0)
        times = [frame.time for frame in watch.adverts()]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        return {"applied (s)": took, "longest silence (s)": max(gaps, default=float("nan"))}


GUEST_BENCHES = {each.__name__: each for each in (memory_three, memory_servers, reload_one_weight)}


def main(name: str, program: str, size: str) -> None:
    figures = GUEST_BENCHES[name](program, int(size))
    (Path(os.environ["UML_KEEP"]) / "figures").write_text(json.dumps(figures))


BENCHES = (
    Bench("memory-three", "MB", in_the_guest("memory_three"), runs=2, label="idle memory, all three processes"),
    Bench(
        "memory-servers",
        "MB",
        in_the_guest("memory_servers"),
        sizes=(160, 1600, 16000),
        runs=1,
        label="memory of all processes, {size} real servers",
    ),
    Bench(
        "reload-servers",
        "s",
        in_the_guest("reload_one_weight"),
        sizes=(160, 1600, 16000),
        runs=1,
        label="reload, one weight of {size} servers",
    ),
)

if __name__ == "__main__":
    main(*sys.argv[1:])

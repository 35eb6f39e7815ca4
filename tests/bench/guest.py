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
from pathlib import Path

from keepalived_py.plan.ipvs import ServiceId
from keepalived_py.values import Protocol, ip_address
from tests.bench.frame import Bench, Figures, brief
from tests.ipvs import uml
from tests.netns.rig import Daemon, Host, Rig, children_of, inside
from workers.checker.ipvs_kernel import IpvsKernel, resolve_family
from workers.checker.ipvs_messages import (
    CMD_DEST,
    CMD_SERVICE,
    GET_DEST,
    GET_SERVICE,
    decode_destination,
    service_id,
)
from workers.netlink import NESTED, attribute, attributes

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
        time.sleep(brief(8.0))
        return _memory(daemon)


def memory_servers(program: str, size: int) -> Figures:
    with Rig() as rig:
        host, daemon = _started(rig, program, many_servers(size))
        _settle(rig, host, size)
        time.sleep(brief(5.0))
        return _memory(daemon)


# IPVS -------------------------------------------------------------------------------------------------------------


def table(services: int, each: int, weight: int = 1) -> str:
    """`services` virtual servers with `each` real servers that nobody checks; `weight` is that of the very last one."""
    out = []
    for number in range(services):
        out.append(f"virtual_server {_service(number)} 80 {{\n lvs_sched rr\n lvs_method NAT\n protocol TCP\n")
        last = each - 1 if number == services - 1 else -1
        out += [
            f" real_server {_real(real)} 80 {{\n  weight {weight if real == last else 1}\n }}\n" for real in range(each)
        ]
        out.append("}\n")
    return "".join(out)


def _service(number: int) -> str:
    return f"10.{200 + number // 65536}.{number // 256 % 256}.{number % 256}"


def _id(number: int) -> ServiceId:
    return ServiceId(4, Protocol.TCP, ip_address(_service(number)), 80)


def _real(number: int) -> str:
    return f"172.{16 + number // 65536}.{number // 256 % 256}.{number % 256}"


class Table:
    """A host's table, looked at as cheaply as can be: reading thousands of rows takes as long as making them."""

    def __init__(self, host: Host) -> None:
        self._host, self._family = host, resolve_family()
        self._kernel = self._fresh()

    def _fresh(self) -> IpvsKernel:
        with inside(self._host.namespace):
            return IpvsKernel(self._family)

    def _first(self, command: int, body: bytes = b"") -> memoryview | None:
        """The first row of what `command` lists; the rest is not even made."""
        kernel = self._fresh()
        try:
            return next(kernel._dump(command, body), None)
        finally:
            kernel.close()

    def any(self) -> bool:
        """Whether there is a service."""
        return self._first(GET_SERVICE) is not None

    def newest_weight(self) -> int:
        """Of the first service: the weight of the server that was added last, which is listed first."""
        row = self._first(GET_DEST, attribute(CMD_SERVICE | NESTED, service_id(_id(0))))
        assert row is not None
        return decode_destination(attributes(row)[CMD_DEST], 4)[1].weight

    def rows(self) -> int:
        """Services and real servers."""
        with inside(self._host.namespace), open("/proc/thread-self/net/ip_vs") as file:
            return sum(1 for _ in file) - 3

    def has(self, number: int, servers: int) -> bool:
        """Whether service `number` is there with that many servers."""
        found = self._kernel.entry(_id(number))
        return found is not None and len(found.destinations) == servers


def programme(program: str, size: int) -> Figures:
    """`size` services that share 10,000 servers: from exec to the complete table, from SIGTERM to none."""
    each = 10000 // size
    with Rig() as rig:
        host = rig.host("balancer")
        seen = Table(host)
        began = time.monotonic()
        daemon = host.start(program, table(size, each), "-C")
        rig.wait(seen.any, 300, 0.005)
        first = time.monotonic()
        rig.wait(lambda: seen.has(size - 1, each), 300, 0.02)
        complete = time.monotonic()
        rig.wait(lambda: seen.rows() == size + 10000, 60, 0.1)
        missed = time.monotonic() - complete
        time.sleep(brief(3.0))
        asked = time.monotonic()
        daemon.signal(signal.SIGTERM)
        rig.wait(lambda: not seen.any(), 300, 0.005)
        gone = time.monotonic()
        daemon.stop(600)
        return {
            "exec to complete (s)": complete - began,
            "first row to complete (s)": complete - first,
            "the last service to all there (s)": missed,
            "SIGTERM to empty (s)": gone - asked,
            "SIGTERM to exit (s)": time.monotonic() - asked,
        }


def one_weight(program: str, size: int) -> Figures:
    """Seconds from SIGHUP to a changed weight in the kernel: one service with `size` servers."""
    with Rig() as rig:
        host = rig.host("balancer")
        seen = Table(host)
        daemon = host.start(program, table(1, size), "-C")
        rig.wait(lambda: seen.rows() == size + 1, 600, 1.0)
        time.sleep(brief(5.0))
        daemon.rewrite(table(1, size, weight=7))
        began = time.monotonic()
        daemon.signal(signal.SIGHUP)
        rig.wait(lambda: seen.newest_weight() == 7, 600, 0.005)
        return {"applied (s)": time.monotonic() - began}


GUEST_BENCHES = {each.__name__: each for each in (memory_three, memory_servers, programme, one_weight)}


def main(name: str, program: str, size: str) -> None:
    figures = GUEST_BENCHES[name](program, int(size))
    (Path(os.environ["UML_KEEP"]) / "figures").write_text(json.dumps(figures))


BENCHES = (
    Bench("memory-three", "MB", in_the_guest("memory_three"), runs=2, label="idle memory, all three processes"),
    Bench(
        "memory-servers",
        "MB",
        in_the_guest("memory_servers"),
        sizes=(160, 1600, 16000, 50000),
        runs=1,
        label="memory of all processes, {size} real servers",
    ),
    Bench(
        "ipvs-table",
        "s",
        in_the_guest("programme"),
        sizes=(10, 1000),
        runs=3,
        label="IPVS, {size} services that share 10,000 real servers",
    ),
    Bench(
        "ipvs-weight",
        "s",
        in_the_guest("one_weight"),
        sizes=(2000, 20000),
        runs=2,
        label="IPVS, one weight of 1 x {size}",
    ),
)

if __name__ == "__main__":
    main(*sys.argv[1:])

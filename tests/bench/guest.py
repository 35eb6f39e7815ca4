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
from tests.netns.rig import Daemon, Host, Rig, children_of, inside

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


# IPVS -------------------------------------------------------------------------------------------------------------


def table(services: int, each: int, weight: int = 1) -> str:
    """`services` virtual servers with `each` real servers that nobody checks; `weight` is that of the first one."""
    out = []
    for number in range(services):
        out.append(f"virtual_server {_service(number)} 80 {{\n lvs_sched rr\n lvs_method NAT\n protocol TCP\n")
        out += [
            f" real_server 172.{16 + real // 65536}.{real // 256 % 256}.{real % 256} 80 {{\n"
            f"  weight {weight if number == real == 0 else 1}\n }}\n"
            for real in range(each)
        ]
        out.append("}\n")
    return "".join(out)


def _service(number: int) -> str:
    return f"10.{200 + number // 65536}.{number // 256 % 256}.{number % 256}"


def _rows(host: Host) -> int:
    """Lines of the table: services and real servers."""
    with inside(host.namespace), open("/proc/thread-self/net/ip_vs") as file:
        return sum(line.startswith(("  -> ", "TCP ")) for line in file) - 1


def _wait_for(host: Host, daemon: Daemon, rows: int) -> tuple[float, float]:
    """Seconds until the table has `rows` lines, and those since it began to change."""
    began, before, changing = time.monotonic(), _rows(host), 0.0
    until = began + 300
    while (found := _rows(host)) != rows and daemon.process.poll() is None and time.monotonic() < until:
        if found == before:
            changing = time.monotonic()
        time.sleep(0.01)
    assert _rows(host) == rows, daemon.log
    return time.monotonic() - began, time.monotonic() - max(changing, began)


def programme(program: str, size: int) -> Figures:
    """`size` services that share 10,000 rows: from exec to the complete table, from SIGTERM to none."""
    full, rows = table(size, 10000 // size), size + 10000
    with Rig() as rig:
        host = rig.host("balancer")
        daemon = host.start(program, full, "-C")
        started, programmed = _wait_for(host, daemon, rows)
        time.sleep(3.0)
        began = time.monotonic()
        daemon.signal(signal.SIGTERM)
        gone, _ = _wait_for(host, daemon, 0)
        daemon.stop(600)
        return {
            "exec to complete (s)": started,
            "first row to complete (s)": programmed,
            "SIGTERM to empty (s)": gone,
            "SIGTERM to exit (s)": time.monotonic() - began,
        }


def one_weight(program: str, size: int) -> Figures:
    """Seconds from SIGHUP to a changed weight in the kernel: one service with `size` servers."""
    with Rig() as rig:
        host = rig.host("balancer")
        daemon = host.start(program, table(1, size), "-C")
        _wait_for(host, daemon, size + 1)
        time.sleep(5.0)
        daemon.rewrite(table(1, size, weight=7))
        began = time.monotonic()
        daemon.signal(signal.SIGHUP)
        rig.wait(lambda: " 7 " in host.run("ipvsadm", "-Ln", "-t", f"{_service(0)}:80"), 600, 0.05)
        return {"applied (s)": time.monotonic() - began}


# checks -----------------------------------------------------------------------------------------------------------

TCP_CHECK = "TCP_CHECK {\n   connect_timeout 2\n  }"
HTTP_CHECK = "HTTP_GET {\n   connect_timeout 2\n   url {\n    path /\n    status_code 200\n   }\n  }"
PERIOD = 10.0
"""Seconds that are counted."""
NGINX = """daemon off; worker_processes 1; pid {directory}/pid; error_log stderr;
events {{ worker_connections 4096; }}
http {{ access_log off; client_body_temp_path {directory}/1; proxy_temp_path {directory}/2;
 fastcgi_temp_path {directory}/3; uwsgi_temp_path {directory}/4; scgi_temp_path {directory}/5;
 server {{ listen 80 backlog=4096; return 200 "well"; }} }}
"""


def checked(count: int, check: str) -> str:
    """`count` real servers on the loopback addresses, each checked once a second."""
    out = []
    for number in range(0, count, EVERY):
        out.append(
            f"virtual_server {_service(number // EVERY)} 80 {{\n delay_loop 1\n lvs_sched rr\n"
            " lvs_method NAT\n protocol TCP\n"
        )
        for real in range(number, min(count, number + EVERY)):
            out.append(f" real_server 127.1.{real // 250}.{real % 250 + 1} 80 {{\n  {check}\n }}\n")
        out.append("}\n")
    return "".join(out)


def _ticks(pid: int) -> int:
    """Processor time of a process, user and system, in ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _accepted(host: Host) -> int:
    """TCP connections that were taken in this host so far."""
    rows = [line.split() for line in host.run("cat", "/proc/net/snmp").splitlines() if line.startswith("Tcp:")]
    return int(rows[1][rows[0].index("PassiveOpens")])


def _checks(program: str, size: int, check: str) -> Figures:
    with Rig() as rig:
        host = rig.host("balancer")
        directory = rig.directory / "nginx"
        directory.mkdir()
        (directory / "conf").write_text(NGINX.format(directory=directory))
        command = ["ip", "netns", "exec", host.namespace, "nginx", "-c", str(directory / "conf")]
        web = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            daemon = host.start(program, checked(size, check), "-C")
            rig.wait(lambda: _accepted(host) >= size, 120, 0.2)
            time.sleep(3.0)
            return _counted(host, daemon, size)
        finally:
            web.terminate()
            web.wait()


def _counted(host: Host, daemon: Daemon, size: int) -> Figures:
    from tests.bench.vrrp import pss

    pid = children_of(daemon.process.pid)[-1]
    began, ticks, seen = time.monotonic(), _ticks(pid), _accepted(host)
    time.sleep(PERIOD)
    took, ticks, seen = time.monotonic() - began, _ticks(pid) - ticks, _accepted(host) - seen
    return {
        "processor time of a check (us)": ticks / os.sysconf("SC_CLK_TCK") / max(seen, 1) * 1e6,
        "checks a second": seen / took,
        "memory of the checker for a server (kB)": pss(pid) * 1024 / size,
    }


def tcp_checks(program: str, size: int) -> Figures:
    """`size` TCP_CHECKs a second, to servers that differ."""
    return _checks(program, size, TCP_CHECK)


def http_checks(program: str, size: int) -> Figures:
    return _checks(program, size, HTTP_CHECK)


GUEST_BENCHES = {
    each.__name__: each
    for each in (memory_three, memory_servers, reload_one_weight, programme, one_weight, tcp_checks, http_checks)
}


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
    Bench(
        "checks-tcp",
        "",
        in_the_guest("tcp_checks"),
        sizes=(500, 2000),
        runs=2,
        label="TCP_CHECK, {size}/s",
    ),
    Bench(
        "checks-http",
        "",
        in_the_guest("http_checks"),
        sizes=(500, 1000),
        runs=2,
        label="HTTP_GET, {size}/s",
    ),
)

if __name__ == "__main__":
    main(*sys.argv[1:])

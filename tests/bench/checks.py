"""Figures of health checks. IPVS is left out (no_ipvs.py), so they are made at full speed, on whatever kernel runs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from tests.bench import no_ipvs
from tests.bench.frame import Bench, Figures, brief
from tests.netns.rig import Daemon, Host, Rig, children_of

TCP_CHECK = "TCP_CHECK {\n   connect_timeout 2\n  }"
HTTP_CHECK = "HTTP_GET {\n   connect_timeout 2\n   url {\n    path /\n    status_code 200\n   }\n  }"
MISC_CHECK = 'MISC_CHECK {\n   misc_path "/bin/true ADDRESS"\n   misc_timeout 5\n  }'
"""ADDRESS is that of the real server: equal scripts would be run once for all."""
PERIOD = 8.0
"""Seconds that are counted."""
SETTLED = 4.0
"""Seconds of checks before that."""
EVERY = 20
"""Real servers of one virtual server."""
NGINX = """daemon off; worker_processes 1; pid {directory}/pid; error_log stderr;
events {{ worker_connections 16384; }}
http {{ access_log off; client_body_temp_path {directory}/1; proxy_temp_path {directory}/2;
 fastcgi_temp_path {directory}/3; uwsgi_temp_path {directory}/4; scgi_temp_path {directory}/5;
 server {{ listen 80 backlog=16384; return 200 "well"; }} }}
"""


def virtual_server(number: int, reals: list[str], check: str, loop: float) -> str:
    """Number `number`, with a check of each address in `reals` every `loop` seconds."""
    text = (
        f"virtual_server 10.{200 + number // 65536}.{number // 256 % 256}.{number % 256} 80 {{\n"
        f" delay_loop {loop:g}\n warmup {loop:g}\n lvs_sched rr\n lvs_method NAT\n protocol TCP\n"
    )
    blocks = (f" real_server {each} 80 {{\n  {check.replace('ADDRESS', each)}\n }}\n" for each in reals)
    return text + "".join(blocks) + "}\n"


def address(number: int) -> str:
    """One of many on the loopback interface."""
    return f"127.{1 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}"


def different(count: int, check: str, loop: float = 1.0) -> str:
    """`count` real servers, all others, each checked every `loop` seconds."""
    groups = [range(start, min(count, start + EVERY)) for start in range(0, count, EVERY)]
    return "".join(
        virtual_server(number, [address(each) for each in group], check, loop) for number, group in enumerate(groups)
    )


@contextlib.contextmanager
def checking(program: str, text: str) -> Iterator[tuple[Host, Daemon]]:
    """`program` with that configuration, and nginx as every server."""
    with Rig() as rig:
        host = rig.host("balancer")
        host.run("sysctl", "-qw", "net.core.somaxconn=16384", "net.ipv4.tcp_max_syn_backlog=16384")
        directory = rig.directory / "nginx"
        directory.mkdir()
        (directory / "conf").write_text(NGINX.format(directory=directory))
        words = ["ip", "netns", "exec", host.namespace, "nginx", "-c", str(directory / "conf")]
        web = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        try:
            yield host, host.start(program, text, "-C", command=no_ipvs.command(program, rig.directory))
        finally:
            web.terminate()
            web.wait()


def checker_of(daemon: Daemon) -> int:
    """Pid of the process that checks."""
    return children_of(daemon.process.pid)[-1]


def processor_time(pid: int, children: bool = False) -> float:
    """Seconds, user and system, of a process; `children`: those of the children it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    first = 13 if children else 11
    return (int(fields[first]) + int(fields[first + 1])) / os.sysconf("SC_CLK_TCK")


def accepted(host: Host) -> int:
    """TCP connections that were taken in this host so far."""
    rows = [line.split() for line in host.run("cat", "/proc/net/snmp").splitlines() if line.startswith("Tcp:")]
    return int(rows[1][rows[0].index("PassiveOpens")])


# one worker -------------------------------------------------------------------------------------------------------


def steady(program: str, size: int, check: str) -> Figures:
    """`size` checks a second, to servers that differ: the checker's processor time for one, and its memory."""
    from tests.bench.vrrp import pss

    with checking(program, different(size, check)) as (host, daemon):
        host.rig.wait(lambda: accepted(host) >= size, 60, 0.2)
        time.sleep(brief(SETTLED))
        pid = checker_of(daemon)
        began, used, seen = time.monotonic(), processor_time(pid), accepted(host)
        time.sleep(brief(PERIOD))
        took, used, seen = time.monotonic() - began, processor_time(pid) - used, accepted(host) - seen
        return {
            "processor time of a check (us)": used / max(seen, 1) * 1e6,
            "checks a second": seen / took,
            "memory of the checker for a server (kB)": pss(pid) * 1024 / size,
        }


def most(program: str, size: int, check: str) -> Figures:
    """`size` servers, each to be checked ten times a second: how many checks are made."""
    with checking(program, different(size, check, 0.1)) as (host, _):
        host.rig.wait(lambda: accepted(host) >= size, 60, 0.2)
        time.sleep(brief(SETTLED))
        began, seen = time.monotonic(), accepted(host)
        time.sleep(brief(PERIOD))
        return {"checks a second": (accepted(host) - seen) / (time.monotonic() - began)}


def tcp_checks(program: str, size: int) -> Figures:
    return steady(program, size, TCP_CHECK)


def http_checks(program: str, size: int) -> Figures:
    return steady(program, size, HTTP_CHECK)


def most_tcp_checks(program: str, size: int) -> Figures:
    return most(program, size, TCP_CHECK)


def most_http_checks(program: str, size: int) -> Figures:
    return most(program, size, HTTP_CHECK)


# when -------------------------------------------------------------------------------------------------------------

SYN = "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn"


def lateness(program: str, size: int) -> Figures:
    """`size` TCP_CHECKs a second: how much more than the second is between two connections to one server."""
    with checking(program, different(size, TCP_CHECK)) as (host, _):
        host.rig.wait(lambda: accepted(host) >= size, 60, 0.2)
        time.sleep(brief(SETTLED))
        file = host.rig.directory / "syn.pcap"
        words = ["tcpdump", "-Z", "root", "-i", "lo", "-s", "60", "-B", "65536", "-w", str(file), SYN]
        watch = subprocess.Popen(["ip", "netns", "exec", host.namespace, *words], stderr=subprocess.PIPE)
        assert watch.stderr is not None
        watch.stderr.readline()  # it listens
        time.sleep(brief(PERIOD))
        watch.terminate()
        watch.communicate()
        times: dict[bytes, list[float]] = {}
        for moment, frame in frames(file.read_bytes()):
            times.setdefault(frame[30:34], []).append(moment)
    late = sorted(1000 * (later - earlier - 1.0) for each in times.values() for earlier, later in pairwise(each))
    return {
        "lateness, median (ms)": late[len(late) // 2],
        "lateness, p99 (ms)": late[len(late) * 99 // 100],
        "lateness, worst (ms)": late[-1],
    }


def frames(data: bytes) -> Iterator[tuple[float, bytes]]:
    """Times and frames of a pcap file of this machine's byte order, in microseconds (pcap-savefile(5))."""
    at = 24
    while at + 16 <= len(data):
        seconds, microseconds, size = (int.from_bytes(data[at + n : at + n + 4], "little") for n in (0, 4, 8))
        yield seconds + microseconds / 1e6, data[at + 16 : at + 16 + size]
        at += 16 + size


# equal checks, scripts --------------------------------------------------------------------------------------------


def sharing(program: str, size: int) -> Figures:
    """`size` virtual servers with the same ten real servers: probes in a period of two seconds."""
    reals = [address(each) for each in range(10)]
    text = "".join(virtual_server(number, reals, TCP_CHECK, 2.0) for number in range(size))
    with checking(program, text) as (host, _):
        host.rig.wait(lambda: accepted(host) >= 10, 60, 0.2)
        time.sleep(brief(SETTLED))
        began, seen = time.monotonic(), accepted(host)
        time.sleep(brief(PERIOD))
        return {"probes in a period": (accepted(host) - seen) / (time.monotonic() - began) * 2.0}


def made() -> int:
    """Processes that this machine has made so far: nearly all are scripts while these are counted."""
    rows = Path("/proc/stat").read_text().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("processes "))


def scripts(program: str, size: int) -> Figures:
    """`size` MISC_CHECKs a second: processor time for one, of the checker and of its child."""
    with checking(program, different(size, MISC_CHECK)) as (host, daemon):
        host.rig.wait(lambda: len(children_of(daemon.process.pid)) >= 1, 30)
        pid = checker_of(daemon)
        host.rig.wait(lambda: processor_time(pid, children=True) > 0, 30)
        time.sleep(brief(SETTLED))
        started, began, own, theirs = time.monotonic(), made(), processor_time(pid), processor_time(pid, children=True)
        time.sleep(brief(PERIOD))
        count = min(made() - began, round(size * (time.monotonic() - started)))  # others may make processes too
        return {
            "checks a second, nearly": count / brief(PERIOD),
            "processor time of the checker (ms)": 1000 * (processor_time(pid) - own) / count,
            "processor time of the child (ms)": 1000 * (processor_time(pid, children=True) - theirs) / count,
        }


BENCHES = (
    Bench("checks-tcp", "", tcp_checks, sizes=(500, 5000), runs=3, label="TCP_CHECK, {size}/s"),
    Bench("checks-http", "", http_checks, sizes=(500, 5000), runs=3, label="HTTP_GET, {size}/s"),
    Bench(
        "checks-most-tcp", "", most_tcp_checks, sizes=(500, 5000), runs=3, label="TCP_CHECK, {size} x 10/s asked for"
    ),
    Bench(
        "checks-most-http", "", most_http_checks, sizes=(500, 5000), runs=3, label="HTTP_GET, {size} x 10/s asked for"
    ),
    Bench("checks-late", "ms", lateness, sizes=(500, 5000), runs=3, label="start of a TCP_CHECK, {size}/s"),
    Bench(
        "checks-shared", "", sharing, sizes=(10, 1000), runs=2, label="{size} virtual servers, 10 equal real servers"
    ),
    Bench("checks-misc", "ms", scripts, sizes=(50, 300), runs=3, label="MISC_CHECK, {size}/s"),
)

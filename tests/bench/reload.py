"""Figures of a reload of many servers. IPVS is left out (no_ipvs.py): what is timed is all that comes before it."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Iterator
from itertools import pairwise

from tests.bench import no_ipvs
from tests.bench.frame import Bench, Figures, brief
from tests.bench.guest import EVERY, many_servers
from tests.netns.rig import Host, Rig, children_of, inside

INTERVAL = 0.1
QUIET = 3.0
"""Seconds without a request: everything that was to be put is put."""
PATIENCE = 900.0


def servers(count: int, weight: int = 1) -> str:
    """Real servers on loopback addresses."""
    return many_servers(count, weight).replace(" 172.16.", " 127.16.")


@contextlib.contextmanager
def well(host: Host, ports: range) -> Iterator[None]:
    """Whoever connects to one of `ports` of any loopback address is taken."""
    with inside(host.namespace):
        listening = [socket.create_server(("", port), backlog=4096) for port in ports]

    def serve(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock.accept()[0].close()

    for sock in listening:
        threading.Thread(target=serve, args=(sock,), daemon=True).start()
    try:
        yield
    finally:
        for sock in listening:
            sock.shutdown(socket.SHUT_RDWR)
            sock.close()


def one_weight(program: str, size: int) -> Figures:
    """Seconds from SIGHUP to the request for the one changed weight, requests, and how late an advert was meanwhile."""
    with Rig() as rig:
        lan = rig.switch("lan")
        host = rig.host("router")
        host.plug(lan, "eth0", "10.0.0.1/24")
        with well(host, range(1000, 1000 + size // EVERY // 256 + 1)):
            return _reloaded(program, size, rig, host)


def _reloaded(program: str, size: int, rig: Rig, host: Host) -> Figures:
    daemon = host.start(program, servers(size), command=no_ipvs.command(program, rig.directory))
    requests = no_ipvs.requests(rig.directory)
    rig.wait(lambda: "Entering MASTER" in daemon.log and len(children_of(daemon.process.pid)) == 2, PATIENCE, 0.1)
    rig.wait(lambda: requests.exists() and time.time() - requests.stat().st_mtime > brief(QUIET), PATIENCE, 0.1)
    watch = host.capture("eth0")
    time.sleep(1.0)
    daemon.rewrite(servers(size, 7))
    before, began = requests.stat().st_size, time.monotonic()
    daemon.signal(signal.SIGHUP)
    rig.wait(lambda: requests.stat().st_size > before, PATIENCE, 0.002)
    took = time.monotonic() - began
    time.sleep(brief(QUIET))
    late = [after.time - earlier.time - INTERVAL for earlier, after in pairwise(watch.adverts())]
    return {
        "applied (s)": took,
        "requests": requests.stat().st_size - before,
        "latest advert (ms)": max(late, default=float("nan")) * 1000,
    }


BENCHES = (
    Bench(
        "reload-weight",
        "",
        one_weight,
        sizes=(160, 1600, 16000, 36544),
        runs=2,
        label="reload, one weight of {size} servers in services of 16",
    ),
)

"""The IPVS table beside Debian's keepalived's: start, failure, recovery, sorry server, reload, stop, killed worker."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ipvs.compare import OURS, THEIRS, after_start, running, table, wait

pytestmark = pytest.mark.ipvs


def server(head: str, inner: str, *reals: str) -> str:
    return f"virtual_server {head} {{\n delay_loop 1\n {inner}\n" + "\n".join(reals) + "\n}\n"


def real(address: str, *lines: str) -> str:
    return f" real_server {address} {{\n  " + "\n  ".join(lines or ("weight 1",)) + "\n }"


SORRY = "sorry_server 10.1.0.9 80"
FILES = {
    "nat-and-weights": (
        server(
            "10.0.0.1 80",
            "lvs_sched wrr\n lvs_method NAT\n protocol TCP",
            real("10.1.0.1 8080", "weight 3"),
            real("10.1.0.2 80", "weight 0"),
        ),
        3,
    ),
    "direct-routing": (
        server(
            "10.0.0.1 80",
            "lb_algo wlc\n lb_kind DR\n protocol TCP",
            real("10.1.0.1 80"),
            real("10.1.0.2 80", "lvs_method NAT"),
        ),
        3,
    ),
    "schedulers": (
        "".join(
            server(f"10.0.0.1 {port}", f"lvs_sched {name}\n lvs_method NAT\n protocol TCP", real("10.1.0.1 80"))
            for port, name in enumerate(("rr", "wrr", "lc", "wlc", "sh", "mh", "dh", "sed", "nq", "fo", "ovf"), 1000)
        ),
        22,
    ),
    "persistence": (
        server(
            "10.0.0.1 80",
            "lvs_sched rr\n lvs_method NAT\n protocol TCP\n persistence_timeout 50\n"
            " persistence_granularity 255.255.255.0",
            real("10.1.0.1 80", "weight 1", "uthreshold 100", "lthreshold 50"),
        ),
        2,
    ),
    "firewall-mark": (server("fwmark 7", "lvs_sched rr\n lvs_method DR", real("10.1.0.1", "weight 2")), 2),
    "ipv6-and-udp": (
        server(
            "fd00::1 53", "lvs_sched rr\n lvs_method NAT\n protocol UDP\n ops", real("fd01::1 53"), real("fd01::2 5353")
        )
        + server(
            "fd00::1 443", "lvs_sched wlc\n lvs_method TUN\n protocol TCP\n persistence_timeout 9", real("fd01::1 443")
        ),
        5,
    ),
    "group-of-addresses": (
        "virtual_server_group addresses {\n 10.0.1.1 80\n 10.0.2.1-3 81\n 10.0.3.0/30 82\n}\n"
        + server("group addresses", "lvs_sched rr\n lvs_method NAT\n protocol TCP", real("10.1.0.1 8080")),
        16,
    ),
    "group-of-marks": (
        "virtual_server_group marks {\n fwmark 8\n fwmark 9\n}\n"
        + server("group marks", "lvs_sched rr\n lvs_method DR", real("10.1.0.1"), real("10.1.0.2")),
        6,
    ),
    "group-for-two-protocols": (
        "virtual_server_group both {\n 10.0.1.1 53\n}\n"
        + server("group both", "lvs_sched rr\n lvs_method DR\n protocol TCP", real("10.1.0.1 53"))
        + server("group both", "lvs_sched rr\n lvs_method DR\n protocol UDP", real("10.1.0.1 53")),
        4,
    ),
    "scheduler-flags": (
        "".join(
            server(
                f"10.0.0.1 {port}",
                f"lvs_sched {name}\n {name}-port\n {name}-fallback\n lvs_method NAT\n protocol TCP",
                real("10.1.0.1 80"),
            )
            for port, name in enumerate(("sh", "mh"), 1000)
        ),
        4,
    ),
    "tunnels": (
        server(
            "10.0.0.1 80",
            "lvs_sched rr\n lvs_method TUN\n protocol TCP",
            real("10.1.0.1 80", "lvs_method TUN type gue port 6080 csum"),
            real("10.1.0.2 80", "lvs_method TUN type gre"),
            real("10.1.0.3 80"),
        ),
        4,
    ),
    "sorry-server-waits": (
        server(
            "10.0.0.1 80",
            f"lvs_sched rr\n lvs_method NAT\n protocol TCP\n {SORRY}\n sorry_server_inhibit",
            real("10.1.0.1 80"),
        ),
        3,
    ),
}


def test_the_table_after_a_start_is_keepaliveds() -> None:
    """All at once, each with an address of its own."""
    texts = (text.replace("10.0.0.1 ", f"10.0.0.{number} ") for number, (text, _) in enumerate(FILES.values(), 1))
    config, count = "".join(texts), sum(rows for _, rows in FILES.values())
    ours = after_start(OURS, config, count)
    assert len(ours) == count
    assert ours == after_start(THEIRS, config, count)


def tcp(port: int, *lines: str) -> str:
    return real(
        f"127.0.0.1 {port}", *(lines or ("weight 1",)), "TCP_CHECK {", "connect_timeout 1", "retry 0", "warmup 0", "}"
    )


class Listener:
    """A real server that can be switched off and on."""

    def __init__(self) -> None:
        self.port = 0
        self.on()

    def on(self) -> None:
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind(("127.0.0.1", self.port))
        self.port = self.sock.getsockname()[1]
        self.sock.listen(100)

    def off(self) -> None:
        self.sock.close()


@pytest.fixture
def listeners() -> Iterator[tuple[Listener, Listener]]:
    both = Listener(), Listener()
    yield both
    for each in both:
        each.off()


def rows(*destinations: str) -> list[str]:
    return sorted(["-A -t 10.0.0.1:80 -s rr", *(f"-a -t 10.0.0.1:80 -r {each}" for each in destinations)])


HEAD = "lvs_sched rr\n lvs_method NAT\n protocol TCP\n"


@pytest.mark.parametrize("program", [OURS, THEIRS])
def test_failure_recovery_and_sorry_server(program: str, listeners: tuple[Listener, Listener]) -> None:
    one, two = listeners
    config = server("10.0.0.1 80", HEAD + SORRY, tcp(one.port), tcp(two.port, "weight 2", "inhibit_on_failure"))
    first, second = f"127.0.0.1:{one.port} -m -w 1", f"127.0.0.1:{two.port} -m -w 2"
    with running(program, config) as daemon:
        wait(lambda: table() == rows(first, second))
        one.off()
        wait(lambda: table() == rows(second))
        two.off()
        wait(lambda: table() == rows(second.replace("-w 2", "-w 0"), "10.1.0.9:80 -m -w 1"))
        one.on()
        wait(lambda: table() == rows(first, second.replace("-w 2", "-w 0")))
        two.on()
        wait(lambda: table() == rows(first, second))
        for line in (
            "Lost quorum 1-0=1 > 0 for VS [10.0.0.1]:tcp:80",
            "Gained quorum 1+0=1 <= 1 for VS [10.0.0.1]:tcp:80",
        ):
            daemon.said(line)
    assert table() == []


@pytest.mark.parametrize("program", [OURS, THEIRS])
def test_scripts_decide_and_set_weights(program: str, tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("0")
    check = ("MISC_CHECK {", f"misc_path \"/bin/sh -c 'exit $(cat {status})'\"", "misc_dynamic", "warmup 0", "}")
    config = server("10.0.0.1 80", HEAD, real("10.1.0.1 80", "weight 5", *check), real("10.1.0.2 80"))
    other = "10.1.0.2:80 -m -w 1"
    with running(program, config):
        for code, expected in (("0", "-w 5"), ("12", "-w 10"), ("1", ""), ("0", "-w 5")):
            status.write_text(code)
            wanted = rows(other, *([f"10.1.0.1:80 -m {expected}"] if expected else []))
            wait(lambda wanted=wanted: table() == wanted)


def test_http_decides() -> None:
    directory = Path("/tmp/www")
    (directory / "ok").mkdir(parents=True, exist_ok=True)
    (directory / "ok" / "index.html").write_text("hello\n")
    config_file = Path("/tmp/nginx.conf")
    config_file.write_text(
        "daemon off; pid /tmp/nginx.pid; error_log stderr; events {} http { access_log off;"
        " client_body_temp_path /tmp/n1;"
        " proxy_temp_path /tmp/n2; fastcgi_temp_path /tmp/n3; uwsgi_temp_path /tmp/n4; scgi_temp_path /tmp/n5;"
        f" server {{ listen 127.0.0.1:8080; root {directory}; }} }}"
    )
    url = "HTTP_GET {{\n url {{\n path /{}/\n {}\n }}\n connect_timeout 2\n retry 0\n warmup 0\n}}"
    good = real("127.0.0.1 8080", url.format("ok", "digest b1946ac92492d2347c6235b4d2611184"))
    bad = real("127.0.0.1 8081", "weight 1", "connect_timeout 2", url.format("ok", "status_code 200"))
    nginx = subprocess.Popen(["nginx", "-c", str(config_file)], stderr=subprocess.DEVNULL)
    try:
        wait(
            lambda: (
                subprocess.run(
                    ["curl", "-sf", "http://127.0.0.1:8080/ok/"], capture_output=True, check=False
                ).returncode
                == 0
            )
        )
        with running(OURS, server("10.0.0.1 80", HEAD, good, bad)) as daemon:
            wait(lambda: table() == rows("127.0.0.1:8080 -m -w 1"))
            wait(lambda: "HTTP_GET on service [127.0.0.1]:tcp:8081 failed: connect: Connection refused" in daemon.log)
            (directory / "ok" / "index.html").write_text("changed\n")
            wait(lambda: table() == rows())
            daemon.said("digest")
    finally:
        nginx.terminate()
        nginx.wait()


def test_a_reload_edits_in_place_and_leaves_strangers_alone() -> None:
    subprocess.run(["ipvsadm", "-A", "-t", "10.9.9.9:1", "-s", "rr"], check=True)
    before = server("10.0.0.1 80", HEAD, real("10.1.0.1 80"), real("10.1.0.2 80")) + server(
        "10.0.0.2 80", HEAD, real("10.1.0.1 80")
    )
    after = server("10.0.0.1 80", HEAD.replace("rr", "wrr"), real("10.1.0.1 80", "weight 7"), real("10.1.0.3 80"))
    stranger = "-A -t 10.9.9.9:1 -s rr"
    with running(OURS, before) as daemon:
        wait(lambda: len(table()) == 6)
        daemon.reload(after)
        expected = sorted([stranger, *rows("10.1.0.1:80 -m -w 7", "10.1.0.3:80 -m -w 1")])
        wait(lambda: table() == [line.replace("10.0.0.1:80 -s rr", "10.0.0.1:80 -s wrr") for line in expected])
        found = table()
        daemon.reload("virtual_server 10.0.0.1 {\n nonsense\n")
        wait(lambda: "the old configuration stays" in daemon.log)
        assert table() == found
    assert table() == [stranger]


def test_a_killed_checker_leaves_the_table_and_knows_who_was_down(listeners: tuple[Listener, Listener]) -> None:
    one, two = listeners
    config = server("10.0.0.1 80", HEAD, tcp(one.port), tcp(two.port))
    with running(OURS, config) as daemon:
        wait(lambda: len(table()) == 3)
        two.off()
        wait(lambda: table() == rows(f"127.0.0.1:{one.port} -m -w 1"))
        found, killed = table(), daemon.worker
        os.kill(killed, signal.SIGKILL)
        wait(lambda: daemon.worker != killed)
        for _ in range(40):
            assert table() == found
        two.on()
        wait(lambda: len(table()) == 3)


def test_a_start_adopts_what_stands_and_keep_leaves_it() -> None:
    config = server("10.0.0.1 80", HEAD, real("10.1.0.1 80", "weight 4"))
    with running(OURS, config, "-I"):
        wait(lambda: len(table()) == 2)
    kept = table()
    assert kept == rows("10.1.0.1:80 -m -w 4")
    with running(OURS, config) as daemon:
        wait(lambda: "Gained quorum" in daemon.log)
        assert table() == kept
    assert table() == []


def test_flush_and_timeouts_also_with_a_killed_checker() -> None:
    subprocess.run(["ipvsadm", "-A", "-t", "10.9.9.9:1", "-s", "rr"], check=True)
    before = subprocess.run(["ipvsadm", "-L", "--timeout"], capture_output=True, text=True, check=True).stdout
    head = "global_defs {\n lvs_flush\n lvs_timeouts tcp 100 udp 40\n}\n"
    with running(OURS, head + server("10.0.0.1 80", HEAD, real("10.1.0.1 80"))) as daemon:
        wait(lambda: table() == rows("10.1.0.1:80 -m -w 1"))
        during = subprocess.run(["ipvsadm", "-L", "--timeout"], capture_output=True, text=True, check=True).stdout
        assert during.split()[-3:] == ["100", before.split()[-2], "40"]
        killed = daemon.worker
        os.kill(killed, signal.SIGKILL)
        wait(lambda: daemon.worker != killed)
    assert subprocess.run(["ipvsadm", "-L", "--timeout"], capture_output=True, text=True, check=True).stdout == before

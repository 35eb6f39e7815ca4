"""Drift, first states, ha_suspend, shared probes, the sync daemon and nftables_ipvs, in a kernel with IPVS."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.ipvs.compare import OURS, Checker, running, table, wait
from tests.ipvs.test_ipvs_table import HEAD, SORRY, Listener, real, rows, server, tcp

pytestmark = pytest.mark.ipvs

STRANGER = "-A -t 10.9.9.9:1 -s rr"
IN_STRANGER = "-a -t 10.9.9.9:1 -r 10.9.9.1:1 -m -w 1"


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def ipvsadm(line: str) -> None:
    run("ipvsadm", *line.split())


# drift ------------------------------------------------------------------------------------------------------------


EDITS = (
    "-d -t {0} -r 10.1.0.1:80",
    "-e -t {0} -r 10.1.0.1:80 -m -w 99",
    "-e -t {0} -r 10.1.0.1:80 -g -w 1",
    "-a -t {0} -r 10.1.0.7:80 -m -w 1",
    "-E -t {0} -s wrr",
    "-E -t {0} -s rr -p 77",
    "-D -t {0}",
)


def test_what_others_change_is_put_back() -> None:
    """A service for each edit."""
    edits = {f"10.0.0.{number}": edit for number, edit in enumerate(EDITS, 1)}
    one = rows("10.1.0.1:80 -m -w 3", "10.1.0.2:80 -m -w 1")
    expected = {address: [row.replace("10.0.0.1:", f"{address}:") for row in one] for address in edits}
    everything = sorted([*(row for rows in expected.values() for row in rows), STRANGER, IN_STRANGER])
    ipvsadm(STRANGER)
    ipvsadm(IN_STRANGER)
    reals = real("10.1.0.1 80", "weight 3"), real("10.1.0.2 80")
    with running(OURS, "".join(server(f"{address} 80", HEAD, *reals) for address in edits)) as daemon:
        wait(lambda: table() == everything)
        for address, edit in edits.items():
            ipvsadm(edit.format(f"{address}:80"))
            assert [row for row in table() if f"{address}:80" in row] != expected[address]
        wait(lambda: table() == everything, 30)
        for address in edits:
            daemon.said(f"IPVS service [{address}]:tcp:80 was changed by others - put back")
    assert table() == sorted([STRANGER, IN_STRANGER])


def test_a_reload_looks_at_once_and_a_quiet_table_is_left_alone() -> None:
    config = server("10.0.0.1 80", HEAD, real("10.1.0.1 80")) + server("10.0.0.2 80", HEAD, real("10.1.0.1 80"))
    with running(OURS, config) as daemon:
        wait(lambda: len(table()) == 4)
        ipvsadm("-C")
        daemon.reload(config.replace("10.0.0.2", "10.0.0.3"))
        wait(lambda: len(table()) == 4 and "10.0.0.3" in str(table()) and "10.0.0.2" not in str(table()))
        daemon.said("put back", 1)


def test_a_reload_that_vrrp_refuses_takes_no_server_away(interface: str) -> None:
    """Not even for a moment: their connections would be gone, and people told."""

    def config(name: str, *addresses: str) -> str:
        lines = f"interface {name}\n virtual_router_id 51\n virtual_ipaddress {{\n 10.5.0.100\n }}"
        reals = [real(f"{each} 80") for each in addresses]
        return f"vrrp_instance VI_1 {{\n {lines}\n}}\n" + server("10.0.0.1 80", HEAD, *reals)

    with running(OURS, config(interface, "10.1.0.1", "10.1.0.2"), "--all") as daemon:
        daemon.said("Startup complete")
        before = table()
        daemon.reload(config("nothere0", "10.1.0.1"))
        daemon.said("Reload abandoned: vrrp: (VI_1) interface nothere0 does not exist")
        assert table() == before
        daemon.reload(config(interface, "10.1.0.1"))
        wait(lambda: len(table()) == 2)
        daemon.said("Removing service", 1)


# first states -----------------------------------------------------------------------------------------------------


def told(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def noting(path: Path, *lines: str) -> tuple[str, ...]:
    """Lines of a real server whose scripts write into `path`."""
    words = [f"notify_{word} \"/bin/sh -c 'echo {word} >> {path}'\"" for word in ("up", "down")]
    return (*words, *lines)


def test_the_first_failure_of_an_alpha_server_is_told_once(tmp_path: Path) -> None:
    listener, path = Listener(), tmp_path / "told"
    listener.off()
    check = tcp(listener.port, "alpha", *noting(path))
    with running(OURS, server("10.0.0.1 80", HEAD, check, real("10.1.0.1 80"))):
        wait(lambda: told(path) == ["down"])
        assert table() == rows("10.1.0.1:80 -m -w 1")
        listener.on()
        wait(lambda: told(path) == ["down", "up"])
        wait(lambda: len(table()) == 3)
    listener.off()


def test_a_killed_checker_knows_which_alpha_server_was_up() -> None:
    listener = Listener()
    with running(OURS, server("10.0.0.1 80", HEAD, tcp(listener.port, "alpha"))) as daemon:
        wait(lambda: len(table()) == 2)
        found, killed = table(), daemon.worker
        os.kill(killed, signal.SIGKILL)
        wait(lambda: daemon.worker != killed)
        for _ in range(40):
            assert table() == found
    listener.off()


def test_first_states_are_told_where_that_is_wanted(tmp_path: Path) -> None:
    silent, loud = tmp_path / "silent", tmp_path / "loud"
    config = server("10.0.0.1 80", HEAD, real("10.1.0.1 80", *noting(silent)))
    with running(OURS, config):
        wait(lambda: len(table()) == 2)
    assert told(silent) == []
    more = real("10.1.0.2 80", *noting(tmp_path / "more"))
    config = "global_defs {\n rs_init_notifies\n}\n" + config.replace(str(silent), str(loud))
    with running(OURS, config) as daemon:
        wait(lambda: told(loud) == ["up"])
        daemon.reload(config.removesuffix("}\n") + more + "\n}\n")
        wait(lambda: told(tmp_path / "more") == ["up"])
        assert told(loud) == ["up"]


def test_what_a_reload_removes_is_told_and_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "told"
    head = "global_defs {\n script_user root\n enable_script_security\n}\n"
    both = head + server("10.0.0.1 80", HEAD, real("10.1.0.1 80"), real("10.1.0.2 80", *noting(path)))
    with running(OURS, both) as daemon:
        wait(lambda: len(table()) == 3)
        daemon.reload(head + server("10.0.0.1 80", HEAD, real("10.1.0.1 80")))
        wait(lambda: len(table()) == 2)
        wait(lambda: told(path) == ["down"])
        daemon.reload(both)
        wait(lambda: len(table()) == 3)
        killed = daemon.worker
        os.kill(killed, signal.SIGKILL)
        wait(lambda: daemon.worker != killed)
        for _ in range(20):
            assert len(table()) == 3


# ha_suspend -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["address", "group"])
def test_servers_are_checked_only_while_the_address_is_here(kind: str) -> None:
    listener = Listener()
    listener.off()
    group = "virtual_server_group g {\n 10.0.0.1-2 80\n}\n" if kind == "group" else ""
    head = "group g" if kind == "group" else "10.0.0.1 80"
    config = group + server(head, HEAD + " ha_suspend\n" + SORRY, tcp(listener.port))
    count = 2 if kind == "group" else 1
    with running(OURS, config) as daemon:
        wait(lambda: len(table()) == 2 * count)
        wait(lambda: "Suspending healthchecker for service" in daemon.log)
        with suppress(AssertionError):
            wait(lambda: "10.1.0.9" in str(table()), 4)
        assert "10.1.0.9" not in str(table())
        run("ip", "addr", "add", "10.0.0.1/32", "dev", "lo")
        try:
            wait(lambda: str(table()).count("10.1.0.9") == count)
        finally:
            run("ip", "addr", "del", "10.0.0.1/32", "dev", "lo")
        wait(lambda: daemon.log.count("Suspending healthchecker for service") == 2)
        listener.on()
        with suppress(AssertionError):
            wait(lambda: "10.1.0.9" not in str(table()), 4)
        assert "10.1.0.9" in str(table())
    listener.off()


# shared probes ----------------------------------------------------------------------------------------------------


@contextmanager
def counting() -> Iterator[tuple[int, list[int]]]:
    """A port, and what came to it."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        seen: list[int] = []

        def accept() -> None:
            with suppress(OSError):
                while True:
                    sock.accept()[0].close()
                    seen.append(1)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield sock.getsockname()[1], seen
        sock.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(("keyword", "least", "most"), [("", 3, 8), ("checker_share_probes off", 20, 80)])
def test_equal_checks_are_made_once(keyword: str, least: int, most: int) -> None:
    with counting() as (port, seen):
        servers = [server(f"10.0.0.{number} 80", HEAD, tcp(port)) for number in range(1, 11)]
        config = f"global_defs {{\n {keyword}\n}}\n" + "".join(servers)
        with running(OURS, config) as daemon:
            wait(lambda: len(seen) >= least)
            del seen[:]
            with suppress(AssertionError):
                wait(lambda: len(seen) > most, 4)
            assert least <= len(seen) <= most
            assert "failed" not in daemon.log


def test_a_shared_failure_is_everybodys() -> None:
    listener = Listener()
    config = "".join(server(f"10.0.0.{number} 80", HEAD, tcp(listener.port)) for number in range(1, 6))
    with running(OURS, config) as daemon:
        wait(lambda: len(table()) == 10)
        listener.off()
        wait(lambda: len(table()) == 5)
        daemon.reload(server("10.0.0.3 80", HEAD, tcp(listener.port)))  # its leader is gone
        wait(lambda: len(table()) == 1)
        listener.on()
        wait(lambda: len(table()) == 2)
    listener.off()


# the sync daemon --------------------------------------------------------------------------------------------------


@pytest.fixture
def interface() -> Iterator[str]:
    for line in (
        "link add v0 type veth peer name v1",
        "addr add 10.5.0.1/24 dev v0",
        "link set v0 up",
        "link set v1 up",
    ):
        run("ip", *line.split())
    yield "v0"
    run("ip", "link", "del", "v0")


def sides() -> list[str]:
    """`master v0 1` and so on."""
    lines = run("ipvsadm", "-L", "--daemon").splitlines()
    return [f"{line.split()[0]} {line.partition('mcast=')[2].split(',')[0]} {_syncid(line)}" for line in lines]


def _syncid(line: str) -> str:
    return line.partition("syncid=")[2].split(",")[0].rstrip(")")


def test_both_sides_without_an_instance(interface: str) -> None:
    config = server("10.0.0.1 80", HEAD, real("10.1.0.1 80"))

    def head(more: str) -> str:
        return f"global_defs {{\n lvs_sync_daemon {interface} {more}\n}}\n"

    with running(OURS, head("id 7 maxlen 1000 port 9000 ttl 3 group 224.0.0.90") + config) as daemon:
        wait(lambda: sides() == ["master v0 7", "backup v0 7"])
        assert "maxlen=1000" in run("ipvsadm", "-L", "--daemon") or "9000" in run("ipvsadm", "-L", "--daemon")
        daemon.reload(head("") + config)
        wait(lambda: sides() == ["master v0 0", "backup v0 0"])
        killed = daemon.worker
        os.kill(killed, signal.SIGKILL)
        wait(lambda: daemon.worker != killed)
        wait(lambda: sides() == ["master v0 0", "backup v0 0"])
        daemon.reload(config)
        wait(lambda: sides() == [])
        daemon.reload(head("id 2") + config)
        wait(lambda: sides() == ["master v0 2", "backup v0 2"])
    assert sides() == []


def test_the_side_of_an_instance(interface: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("0")
    config = (
        f"global_defs {{\n lvs_sync_daemon {interface} VI_1\n}}\n"
        f"track_file f {{\n file {file}\n weight 0\n}}\n"
        f"vrrp_instance VI_1 {{\n interface {interface}\n virtual_router_id 51\n advert_int 1\n"
        " track_file {\n f\n }\n virtual_ipaddress {\n 10.5.0.100/24\n }\n}\n"
    )
    with running(OURS, config, "--all") as daemon:
        wait(lambda: sides() == ["backup v0 51"])
        wait(lambda: sides() == ["master v0 51"])
        file.write_text("1")
        wait(lambda: "FAULT STATE" in daemon.log)
        wait(lambda: sides() == ["backup v0 51"])
        file.write_text("0")
        wait(lambda: sides() == ["master v0 51"])
        daemon.reload(config.replace("VI_1\n}", "VI_1 id 9\n}", 1))
        wait(lambda: sides() == ["master v0 9"])
        daemon.reload(config.replace(f"lvs_sync_daemon {interface} VI_1", ""))
        wait(lambda: sides() == [])
    assert sides() == []


# nftables_ipvs ----------------------------------------------------------------------------------------------------

GROUP = "virtual_server_group g {\n 10.0.0.1-3 80\n 10.0.0.9 443\n fwmark 5\n}\n"


@pytest.fixture
def nft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A nft that keeps what it is told: the guest's kernel has no tables of IPv4. tests/netns has the real one."""
    program, kept = tmp_path / "bin" / "nft", tmp_path / "rules"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nset -e\ntest ! -e {tmp_path}/broken\ncat > {kept}.new\nmv {kept}.new {kept}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return kept


def test_one_mark_for_a_group_and_protocol(nft: Path) -> None:
    udp = HEAD.replace("TCP", "UDP")
    config = "global_defs {\n nftables_ipvs\n nftables_ipvs_start_fwmark 700\n}\n" + GROUP
    first, second = server("group g", HEAD, real("10.1.0.1 8080")), server("group g", udp, real("10.1.0.2 80"))
    tcp_rows = {"-A -f 700 -s rr", "-a -f 700 -r 10.1.0.1:8080 -m -w 1"}
    udp_rows = {"-A -f 701 -s rr", "-a -f 701 -r 10.1.0.2:80 -m -w 1"}
    with running(OURS, config + first + second) as daemon:
        wait(lambda: tcp_rows | udp_rows <= set(table()))
        assert "-A -f 5 -s rr" in table()
        assert "10.0.0" not in str(table())
        assert "10.0.0.1-10.0.0.3 . 80 : 700,\n  10.0.0.9 . 443 : 700" in nft.read_text()
        daemon.reload(config.replace("443", "444") + second)
        wait(lambda: udp_rows <= set(table()) and not tcp_rows & set(table()))
        assert "10.0.0.9 . 444 : 701" in nft.read_text()
        daemon.reload(config + first + second)
        wait(lambda: tcp_rows | udp_rows <= set(table()))
        assert "elements" in nft.read_text()
    assert table() == []
    assert "elements" not in nft.read_text()


def test_without_nft_every_address_is_a_service(nft: Path) -> None:
    (nft.parent / "broken").touch()
    config = "global_defs {\n nftables_ipvs\n}\n" + GROUP + server("group g", HEAD, real("10.1.0.1 80"))
    with running(OURS, config) as daemon:
        wait(lambda: {f"-A -t 10.0.0.{number}:80 -s rr" for number in (1, 2, 3)} <= set(table()))
        daemon.said("nft:")
        assert "-f 1000" not in str(table())


def test_many_services_go_whatever_their_number() -> None:
    config = "virtual_server_group g {\n 10.64.0.0/22 80\n}\n" + server(
        "group g", HEAD, real("10.1.0.1 80"), real("10.1.0.2 80")
    )
    with running(OURS, config) as daemon:
        wait(lambda: len(table()) == 3 * 1024, 60)
        assert isinstance(daemon, Checker)
    assert table() == []

"""Who is told: FIFO lines, script calls and mails of ours and of Debian's keepalived through the same story."""

from __future__ import annotations

import os
import signal
import socket
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.netns.conftest import Pair
from tests.netns.rig import OURS, THEIRS, Daemon, Host, Rig, inside, patience
from tests.netns.test_daemon import fast
from tests.netns.test_vrrp_takeover import VIP4

pytestmark = pytest.mark.netns


class MailSink:
    """A mail server that takes everything, on port 25 of a host's loopback."""

    def __init__(self, host: Host) -> None:
        self.mails: list[str] = []
        with inside(host.namespace):
            self._sock = socket.create_server(("127.0.0.1", 25), backlog=100)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._sock.accept()
                threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        lines: list[bytes] = []
        with suppress(OSError), client, client.makefile("rb") as file:
            client.sendall(b"220 sink\r\n")
            while line := file.readline():
                if line.startswith(b"DATA"):
                    client.sendall(b"354 go on\r\n")
                    lines = list(iter(file.readline, b".\r\n"))
                client.sendall(b"221 bye\r\n" if line.startswith(b"QUIT") else b"250 fine\r\n")
        if lines:
            self.mails.append(b"".join(each for each in lines if not each.startswith(b"Date:")).decode())

    def close(self) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()


class Watched:
    """A router that is watched, a peer that outranks it, and everything that the router tells."""

    def __init__(self, rig: Rig, program: str, *, mail: bool = True) -> None:
        self.rig, self.program = rig, program
        self.lan = rig.switch("lan")
        self.host, self.peer = rig.host(f"watched-{program}"), rig.host("peer")
        self.host.plug(self.lan, "eth0", "10.0.0.1/24")
        self.peer.plug(self.lan, "eth0", "10.0.0.9/24")
        self.directory = rig.directory / program
        self.directory.mkdir()
        self.fifo = self.directory / "fifo"
        os.mkfifo(self.fifo, 0o600)
        self._reader = os.open(self.fifo, os.O_RDWR | os.O_NONBLOCK)
        self._heard = b""
        self._calls = self.directory / "calls"
        self.script("record", f'echo "$@" >> {self._calls}')
        self.sink = MailSink(self.host) if mail else None
        self.daemon: Daemon | None = None

    def script(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    @property
    def lines(self) -> list[str]:
        with suppress(BlockingIOError):
            while data := os.read(self._reader, 65536):
                self._heard += data
        return self._heard.decode().splitlines()

    @property
    def calls(self) -> Counter[str]:
        return Counter(self._calls.read_text().splitlines() if self._calls.exists() else ())

    def start(self, text: str) -> None:
        self.daemon = self.host.start(self.program, text)

    def reload(self, text: str) -> None:
        assert self.daemon is not None
        self.daemon.rewrite(text)
        self.daemon.signal(signal.SIGHUP)

    def close(self) -> None:
        os.close(self._reader)
        if self.sink is not None:
            self.sink.close()


def story(lines: list[str]) -> list[list[str]]:
    """Lines of instances between lines of groups, each run sorted: instances come in no particular order."""
    found: list[list[str]] = [[]]
    for line in lines:
        if line.startswith("GROUP"):
            found += [[line], []]
        else:
            found[-1].append(line)
    return [sorted(part) for part in found if part]


def member(name: str, vrid: int, priority: int, directory: Path, *extra: str) -> str:
    record = directory / "record"
    lines = "\n".join(f'    notify_{what} "{record} {what} {name}"' for what in ("master", "backup", "fault", "stop"))
    return f"""
vrrp_instance {name} {{
    interface eth0
    version 3
    virtual_router_id {vrid}
    priority {priority}
    advert_int 0.2
{lines}
    notify {record}
    {" ".join(extra)}
    virtual_ipaddress {{
        10.0.0.{vrid}/24
    }}
}}
"""


def configuration(watched: Watched, *others: str) -> str:
    directory = watched.directory
    return f"""
global_defs {{
    script_user root
    router_id R
    smtp_server 127.0.0.1
    smtp_alert
    notification_email_from lb@example.org
    notification_email {{
        admin@example.org
    }}
    vrrp_notify_fifo {watched.fifo}
}}
vrrp_sync_group G {{
    group {{
        VI_1
        VI_2
    }}
    notify {directory}/record
    notify_master "{directory}/record group is master"
}}
{member("VI_1", 51, 150, directory)}
{member("VI_2", 52, 150, directory)}
{"".join(others)}
"""


def peer(*vrids: int, priority: int = 200) -> str:
    return "".join(
        f"vrrp_instance P_{vrid} {{\n interface eth0\n version 3\n virtual_router_id {vrid}\n priority {priority}\n"
        f" advert_int 0.2\n virtual_ipaddress {{\n 10.0.0.{vrid}/24\n }}\n}}\n"
        for vrid in vrids
    )


@pytest.fixture
def both(rig: Rig) -> Iterator[tuple[Watched, Watched]]:
    """The same surroundings twice: for ours and for Debian's keepalived."""
    made = Watched(rig, OURS), Watched(rig, THEIRS)
    yield made
    for each in made:
        each.close()


def every(both: tuple[Watched, Watched], do: Callable[[Watched], object]) -> None:
    for each in both:
        do(each)


def hear(both: tuple[Watched, Watched], *lines: str, times: int = 1, within: float = 8) -> None:
    """Wait until both have written all of `lines`, `times` times."""
    for each in both:

        def said(each: Watched = each) -> bool:
            return all(each.lines.count(line) >= times for line in lines)

        each.rig.wait(said, within)


def mailed(both: tuple[Watched, Watched]) -> None:
    """Wait until every line has its mail: Debian's keepalived drops those that are under way at a reload."""
    for each in both:
        each.rig.wait(lambda each=each: len(each.sink.mails) == len(each.lines), 3)  # type: ignore[misc]


def test_fifo_lines_script_calls_and_mails_are_keepalived_s(both: tuple[Watched, Watched]) -> None:
    ours, theirs = both

    def text(each: Watched, *others: str) -> str:
        return configuration(each, *others)

    def third(each: Watched, *extra: str) -> str:
        return member("VI_3", 53, 120, each.directory, *extra)

    peers = [each.peer.start(THEIRS, peer(51, 52, 53)) for each in both]
    every(both, lambda each: each.rig.wait(lambda: each.peer.has("10.0.0.53"), 5))
    every(both, lambda each: each.start(text(each, third(each))))
    hear(both, 'GROUP "G" BACKUP 0', 'INSTANCE "VI_3" BACKUP 120')
    for one in peers:
        one.stop()
    hear(both, 'GROUP "G" MASTER 0', 'INSTANCE "VI_3" MASTER 120')  # taken over
    every(both, lambda each: each.host.cut("eth0"))
    hear(both, 'GROUP "G" FAULT 0', 'INSTANCE "VI_3" FAULT 120')
    every(both, lambda each: each.host.restore("eth0"))
    hear(both, 'GROUP "G" MASTER 0', 'INSTANCE "VI_3" MASTER 120', times=2)
    mailed(both)
    every(both, lambda each: each.reload(text(each)))
    hear(both, 'INSTANCE "VI_3" FAULT 120', times=2)  # removed by a reload
    mailed(both)
    every(both, lambda each: each.reload(text(each, third(each, "notify_deleted"))))
    hear(both, 'INSTANCE "VI_3" MASTER 120', times=3)
    mailed(both)
    every(both, lambda each: each.reload(text(each)))
    hear(both, 'INSTANCE "VI_3" DELETED 120')
    mailed(both)
    for each in both:
        assert each.daemon is not None
        each.daemon.stop()
    hear(both, 'GROUP "G" STOP 0')

    alone = [[line for line in each.lines if '"VI_3"' in line] for each in both]
    assert alone[0] == alone[1]
    grouped = [story([line for line in each.lines if '"VI_3"' not in line]) for each in both]
    assert grouped[0] == grouped[1]
    states = ["BACKUP", "MASTER", "FAULT", "BACKUP", "MASTER", "STOP"]
    assert [part for part in grouped[0] if part[0].startswith("GROUP")] == [
        [f'GROUP "G" {state} 0'] for state in states
    ]
    assert grouped[0][0] == ['GROUP "G" BACKUP 0']  # at a start before its members
    with suppress(AssertionError):  # scripts of the stop may outlive Debian's keepalived
        ours.rig.wait(lambda: ours.calls == theirs.calls, 5)
    assert ours.calls == theirs.calls
    assert ours.calls["INSTANCE VI_1 STOP 150"] == 1
    assert ours.calls["group is master"] == 2
    _same_mails(ours, theirs)


def _same_mails(ours: Watched, theirs: Watched) -> None:
    """But for those of the stop, which Debian's keepalived begins and does not wait for."""
    assert ours.sink is not None
    assert theirs.sink is not None
    sink = ours.sink  # it may have a mail to end when the daemon has gone
    ours.rig.wait(lambda: sum("- Stopping" in mail for mail in sink.mails) == 3, 5)
    mails = [
        Counter(mail for mail in each.sink.mails if "- Stopping" not in mail) for each in (ours, theirs) if each.sink
    ]
    assert mails[0] == mails[1]
    assert sum(mails[0].values()) == sum("STOP" not in line for line in ours.lines)


def test_changes_of_priority_and_lower_priorities_are_written(both: tuple[Watched, Watched]) -> None:
    def text(each: Watched) -> str:
        directory = each.directory
        extra = f"track_file {{\n t\n }}\n notify_master_rx_lower_pri {directory}/lower"
        return f"""
global_defs {{
    script_user root
    vrrp_notify_fifo {each.fifo}
    vrrp_notify_priority_changes
}}
vrrp_track_file t {{
    file {directory}/value
    weight 1
}}
{member("VI_1", 51, 150, directory, extra)}
"""

    for each in both:
        each.script("lower", f'echo "lower $#" >> {each.directory}/calls')
        (each.directory / "value").write_text("0\n")
        each.start(text(each))
    hear(both, 'INSTANCE "VI_1" MASTER 150')
    for value, word in (("7", "157"), ("-20", "130")):
        every(both, lambda each, value=value: (each.directory / "value").write_text(f"{value}\n"))  # type: ignore[misc]
        hear(both, f'INSTANCE "VI_1" MASTER_PRIORITY {word}')
    for each in both:
        each.peer.deaf("eth0")
        each.peer.start(THEIRS, peer(51, priority=100))
    hear(both, 'INSTANCE "VI_1" MASTER_RX_LOWER_PRI 130')
    every(both, lambda each: each.rig.wait(lambda: each.calls["lower 0"], 3))
    every(both, lambda each: each.host.cut("eth0"))
    hear(both, 'INSTANCE "VI_1" FAULT 130')
    every(both, lambda each: (each.directory / "value").write_text("0\n"))
    hear(both, 'INSTANCE "VI_1" BACKUP_PRIORITY 150')
    seen = [[line for line in each.lines if "LOWER" not in line] for each in both]
    assert seen[0] == seen[1]


@pytest.mark.parametrize("program", [OURS, THEIRS])
def test_a_fifo_of_its_own_and_its_program(pair: Pair, program: str) -> None:
    directory = pair.rig.directory
    fifo, seen, script = directory / "made", directory / "seen", directory / "reader"
    script.write_text(f'#!/bin/sh\necho "start $#" >> {seen}\nexec cat "$1" >> {seen}\n')
    script.chmod(0o755)
    text = (
        f"global_defs {{\n script_user root\n notify_fifo {fifo} nobody\n notify_fifo_script {script}\n}}\n{fast(150)}"
    )
    daemon = pair.one.start(program, text)
    pair.rig.wait(lambda: seen.exists() and 'INSTANCE "VI_1" MASTER 150' in seen.read_text(), 5)
    assert seen.read_text().splitlines() == ["start 1", 'INSTANCE "VI_1" BACKUP 150', 'INSTANCE "VI_1" MASTER 150']
    found = fifo.stat()
    assert stat.filemode(found.st_mode) == "prw-------"
    assert found.st_uid == 65534
    held = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)  # so that its number is not used again
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: seen.read_text().count("start 1") == 2, 5)
    pair.rig.wait(lambda: fifo.exists() and fifo.stat().st_ino != found.st_ino, 3)
    os.close(held)
    pair.one.cut("eth0")
    pair.rig.wait(lambda: 'INSTANCE "VI_1" FAULT 150' in seen.read_text(), 5)
    daemon.stop()
    assert program == THEIRS or not fifo.exists()
    assert seen.read_text().count("INSTANCE") in (3, 4)  # the program of Debian's keepalived ends before STOP


def test_the_program_hears_the_stop_and_leaves_with_the_daemon(pair: Pair) -> None:
    directory = pair.rig.directory
    fifo, seen, script = directory / "made", directory / "seen", directory / "reader"
    script.write_text(f'#!/bin/sh\necho $$ > {directory}/pid\nexec cat "$1" >> {seen}\n')
    script.chmod(0o755)
    text = f"global_defs {{\n script_user root\n notify_fifo {fifo}\n notify_fifo_script {script}\n}}\n{fast(150)}"
    daemon = pair.one.start(OURS, text)
    pair.rig.wait(lambda: seen.exists() and "MASTER" in seen.read_text(), 5)
    started = time.monotonic()
    daemon.stop()
    assert time.monotonic() - started < patience(1)
    assert seen.read_text().splitlines()[-1] == 'INSTANCE "VI_1" STOP 150'
    assert not os.path.exists(f"/proc/{int((directory / 'pid').read_text())}")


def test_a_killed_program_is_started_again(pair: Pair) -> None:
    directory = pair.rig.directory
    fifo, seen, script = directory / "made", directory / "seen", directory / "reader"
    script.write_text(f'#!/bin/sh\necho $$ >> {directory}/pids\nexec cat "$1" >> {seen}\n')
    script.chmod(0o755)
    text = f"global_defs {{\n script_user root\n notify_fifo {fifo}\n notify_fifo_script {script}\n}}\n{fast(150)}"
    pair.one.start(OURS, text)
    pair.rig.wait(lambda: seen.exists() and "MASTER" in seen.read_text(), 5)
    os.kill(int((directory / "pids").read_text()), signal.SIGKILL)
    pair.one.cut("eth0")
    pair.rig.wait(lambda: "FAULT" in seen.read_text(), 5)
    assert len((directory / "pids").read_text().split()) == 2


def test_the_program_leaves_with_a_worker_that_is_killed(pair: Pair) -> None:
    directory = pair.rig.directory
    fifo, seen, script = directory / "made", directory / "seen", directory / "reader"
    script.write_text(
        f'#!/bin/sh\nexec 3<>"$1"\necho $$ >> {directory}/pids\nwhile read line <&3; do echo "$line" >> {seen}; done\n'
    )
    script.chmod(0o755)
    text = f"global_defs {{\n script_user root\n notify_fifo {fifo}\n notify_fifo_script {script}\n}}\n{fast(150)}"
    daemon = pair.one.start(OURS, text)
    pair.rig.wait(lambda: seen.exists() and "MASTER" in seen.read_text(), 5)
    first = int((directory / "pids").read_text())
    os.kill(daemon.pid_of("vrrp"), signal.SIGKILL)
    pair.rig.wait(lambda: not os.path.exists(f"/proc/{first}"), 2)
    pair.rig.wait(lambda: len((directory / "pids").read_text().split()) == 2, 5)
    pair.one.cut("eth0")
    pair.rig.wait(lambda: seen.read_text().count("FAULT") == 1, 5)


def test_all_states_are_written_after_a_reload(pair: Pair) -> None:
    fifo = pair.rig.directory / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    group = "vrrp_sync_group G {\n group {\n VI_1\n }\n}\n"
    text = f"global_defs {{\n vrrp_notify_fifo {fifo}\n fifo_write_vrrp_states_on_reload\n}}\n{fast(150)}{group}"
    daemon = pair.one.start(OURS, text)
    heard = b""

    def hears(line: bytes) -> bool:
        nonlocal heard
        with suppress(BlockingIOError):
            heard += os.read(reader, 65536)
        return line in heard

    pair.rig.wait(lambda: hears(b'GROUP "G" MASTER 0\n'), 5)
    heard = b""
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: hears(b"GROUP"), 5)
    assert heard == b'INSTANCE "VI_1" MASTER 150\nGROUP "G" MASTER 0\n'
    os.close(reader)


# startup_script and shutdown_script -------------------------------------------------------------------------------


@pytest.mark.parametrize("program", [OURS, THEIRS])
def test_the_workers_wait_for_the_startup_script(pair: Pair, program: str) -> None:
    directory = pair.rig.directory
    before, after = directory / "before", directory / "after"
    for path in (before, after):
        path.write_text(f"#!/bin/sh\nsleep 0.7\nip -o addr show dev eth0 > {path}.out\n")
        path.chmod(0o755)
    scripts = f"startup_script {before}\n shutdown_script {after}\n"
    daemon = pair.one.start(program, f"global_defs {{\n script_user root\n {scripts}}}\n{fast(150)}")
    pair.rig.holds(lambda: not (daemon.directory / "vrrp.pid").exists(), 0.5)
    pair.rig.wait(lambda: pair.one.has(VIP4), 5)
    assert VIP4 not in (directory / "before.out").read_text()
    daemon.stop()
    assert VIP4 not in (directory / "after.out").read_text()
    assert "10.0.0.1/" in (directory / "after.out").read_text()


def test_a_startup_script_that_hangs_is_ended_and_the_daemon_starts(pair: Pair) -> None:
    text = "global_defs {\n script_user root\n startup_script /bin/sleep 60\n startup_script_timeout 1\n}\n"
    text = text.replace("/bin/sleep 60", '"/bin/sleep 60"')
    daemon = pair.one.start(OURS, text + fast(150))
    assert pair.rig.wait(lambda: pair.one.has(VIP4), 5) >= 1
    daemon.said("startup_script /bin/sleep 60 runs longer than 1s")


def test_a_stop_does_not_wait_for_the_startup_script(pair: Pair) -> None:
    script = pair.rig.directory / "after"
    script.write_text(f"#!/bin/sh\ntouch {script}.out\n")
    script.chmod(0o755)
    scripts = f'startup_script "/bin/sleep 60"\n startup_script_timeout 50\n shutdown_script {script}\n'
    daemon = pair.one.start(OURS, f"global_defs {{\n script_user root\n {scripts}}}\n{fast(150)}")
    pair.rig.wait(lambda: "Running startup_script" in daemon.log, 3)
    started = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - started < patience(2)
    assert (pair.rig.directory / "after.out").exists()
    assert "Starting VRRP child" not in daemon.log


def test_a_reload_that_was_asked_for_during_the_startup_script_comes_after_it(pair: Pair) -> None:
    text = 'global_defs {\n script_user root\n startup_script "/bin/sleep 1"\n}\n' + fast(150)
    daemon = pair.one.start(OURS, text)
    pair.rig.wait(lambda: "Running startup_script" in daemon.log, 3)
    daemon.rewrite(text.replace(f"{VIP4}/24", f"{VIP4}/24\n        10.0.0.101/24"))
    daemon.signal(signal.SIGHUP)
    pair.rig.wait(lambda: pair.one.has("10.0.0.101"), 6)


def test_a_notify_script_that_hangs_is_ended(pair: Pair) -> None:
    extra = "notify \"/bin/sh -c 'echo run $3; sleep 60' sh\""
    text = "global_defs {\n script_user root\n notify_script_timeout 1\n}\n" + fast(150, extra)
    daemon = pair.one.start(OURS, text)
    pair.rig.wait(lambda: daemon.log.count("timed out") == 2, 6)
    daemon.said("run MASTER")

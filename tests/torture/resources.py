"""What the daemon speaks to does not take or answer: disk, log socket, log reader, name servers, netlink."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

from tests.netns.rig import OURS, sh
from tests.torture.arena import VIP, Arena
from tests.torture.story import story

DEVICES = "null zero full random urandom"


@story("disk full")
def disk_full(arena: Arena) -> None:
    """Log and dumps are on a file system without a free byte: nothing but records is lost."""
    full = arena.rig.directory / "full"
    full.mkdir()
    sh("mount", "-t", "tmpfs", "-o", "size=64k", "none", str(full))

    def start(name: str) -> None:
        options = (f"-g{full}/{name}.log",) if arena.program == OURS else ()  # Debian's has no -g
        arena.start(name, "", *options, before=("env", f"TMPDIR={full}"))

    def complains() -> bool:
        """A busy machine makes few reloads of many signals, and a page of the file may have room yet."""
        arena.signal("one", signal.SIGHUP)
        return f"{full}/one.log takes no log records: No space left on device" in arena.daemons["one"].log

    try:
        for name in arena.hosts:
            start(name)
        arena.settle("one")
        with open(full / "fill", "wb", 0) as file, Full():
            while True:
                file.write(bytes(4096))
        for number in (signal.SIGUSR1, signal.SIGUSR2, *(signal.SIGHUP,) * 30):
            arena.signal("one", number)
            time.sleep(0.1)
        if arena.program == OURS:
            arena.until(complains, 20, "the console says that the file takes nothing")
        arena.must(arena.transitions() == 0, "no change of state by a dump")
        with arena.dead("two"):
            time.sleep(0.5)
        start("two")
        arena.until(lambda: "Startup complete" in arena.daemons["two"].log, 20, "the other one starts again")
        arena.settle_later("one")
        (full / "fill").unlink()
        if arena.program == OURS:
            arena.signal("one", signal.SIGHUP)
            log = full / "one.log"
            arena.until(
                lambda: f"lost by {log}: No space left on device" in log.read_text(), 5, "the log says what it lost"
            )
    finally:
        sh("umount", "-l", str(full))


class Full:
    """ENOSPC ends the filling."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, value: object, trace: object) -> bool:
        return isinstance(value, OSError)


@story("disk that stands still", quick=True, programs=(OURS,))
def frozen_disk(arena: Arena) -> None:
    """The disk of log files and of a console is frozen (fsfreeze): take-overs, adverts and reloads are as ever.

    All is written later.
    """
    disk, image = arena.rig.directory / "disk", arena.rig.directory / "image"
    disk.mkdir()
    sh("truncate", "-s", "8M", str(image))
    sh("mkfs.ext4", "-q", str(image))
    sh("mount", "-o", "loop", str(image), str(disk))
    try:
        arena.start("one", "", f"-g{disk}/one.log")
        arena.start("two", before=("sh", "-c", f'exec 2>{disk}/console "$@"', "sh"))
        arena.settle("one")
        wire = arena.lan.capture()
        sh("fsfreeze", "-f", str(disk))
        try:
            for _ in range(10):
                arena.signal("one", signal.SIGHUP)
                time.sleep(0.2)
            arena.must(arena.transitions() == 0, "no change of state")
            arena.until(lambda: "Reload complete, configuration 4" in arena.daemons["one"].log, 5, "reloads are done")
            arena.say(f"{arena.latest_advert(wire):.0f} ms late at most")
            arena.must(arena.latest_advert(wire) < 100, "adverts in time")
            with arena.away("one"):
                arena.hosts["one"].cut("eth0")
                arena.until(lambda: "two" in arena.holders(), 5, "the other one takes over")
                arena.hosts["one"].restore("eth0")
            arena.settle_later("one")
            arena.must("Reload complete" not in (disk / "one.log").read_text(), "the disk did stand still")
        finally:
            sh("fsfreeze", "-u", str(disk))
        arena.causes += ("interface eth0 is down",)
        arena.until(lambda: "Entering FAULT" in (disk / "one_vrrp.log").read_text(), 5, "all is written later")
        arena.until(lambda: "Entering MASTER" in (disk / "console").read_text(), 5, "to the console too")
    finally:
        sh("umount", "-l", str(disk))


@story("log socket full")
def log_full(arena: Arena) -> None:
    """Syslog's socket is there and full, nobody reads it: no advert is late, takeovers happen."""
    devices = arena.rig.directory / "dev"
    devices.mkdir()
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    log.bind(str(devices / "log"))
    # the daemon's own /dev has the socket: ip netns exec has given it a mount namespace
    prepare = f"for d in {DEVICES}; do touch {devices}/$d; mount --bind /dev/$d {devices}/$d; done; "
    prepare += f'mount --rbind {devices} /dev; for a do shift; [ "$a" = -G ] || set -- "$@" "$a"; done; exec "$@"'
    for name in arena.hosts:
        arena.start(name, "", before=("sh", "-c", prepare, "sh"))
    arena.settle("one")
    wire = arena.lan.capture()
    for _ in range(40):
        arena.signal("one", signal.SIGHUP)
        time.sleep(0.05)
    arena.must(arena.transitions() == 0, "no change of state by lost records")
    wire.close()
    arena.say(f"{arena.latest_advert(wire):.0f} ms late at most")
    with arena.dead("one"):
        arena.until(lambda: "two" in arena.holders(), 5, "the other one takes over")
    arena.start("one")
    arena.settle_later("one")
    log.close()


@story("log reader stopped", quick=True)
def log_reader_stopped(arena: Arena) -> None:
    """The console is a pipe that nobody reads, and full: no advert is late, reloads are done, the stop is quick."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with Full():
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    os.set_inheritable(writer, True)
    prepare = f'exec 2>/proc/{os.getpid()}/fd/{writer} >&2; exec "$@"'
    for name in arena.hosts:
        arena.start(name, "", before=("sh", "-c", prepare, "sh"))
    arena.settle("one")
    wire = arena.lan.capture()
    for _ in range(20):
        arena.signal("one", signal.SIGHUP)
        time.sleep(0.1)
    arena.must(arena.transitions() == 0, "no change of state")
    wire.close()
    arena.say(f"{arena.latest_advert(wire):.0f} ms late at most")
    started = time.monotonic()
    arena.daemons["one"].stop()
    arena.say(f"stop in {1000 * (time.monotonic() - started):.0f} ms")
    arena.start("one")
    arena.settle_later("one")
    os.close(writer)
    os.close(reader)


@story("slow DNS")
def slow_dns(arena: Arena) -> None:
    """Name servers that answer nothing, and mails to send at each change: takeovers are not later."""
    mail = (
        "global_defs {\n notification_email {\n root@example.com\n }\n smtp_server mail.example.com\n smtp_alert\n}\n"
    )
    made = []
    for host in arena.hosts.values():
        directory = Path("/etc/netns") / host.namespace
        directory.mkdir(parents=True)
        (directory / "resolv.conf").write_text("nameserver 10.0.0.99\noptions timeout:30 attempts:3\n")
        made.append(directory)
    try:
        for name in arena.hosts:
            arena.start(name, mail + arena.config(name))
        arena.settle("one", 60)
        with arena.dead("one"):
            arena.until(lambda: "two" in arena.holders(), 5, "the other one takes over")
        arena.start("one", mail + arena.config("one"))
        arena.settle_later("one")
        started = time.monotonic()
        arena.daemons["two"].stop()
        arena.must(time.monotonic() - started < 3, "a stop that waits for no name")
        arena.start("two")
    finally:
        for directory in made:
            (directory / "resolv.conf").unlink()
            directory.rmdir()


@story("netlink overrun")
def overrun(arena: Arena) -> None:
    """Thousands of changes come while VRRP stands still, and its address goes among them: it is back when VRRP is."""
    small = "global_defs {\n vrrp_netlink_monitor_rcv_bufs 32768\n}\n"
    for name in arena.hosts:
        arena.start(name, small + arena.config(name))
    arena.settle("one")
    host, vrrp = arena.hosts["one"], arena.daemons["one"].pid_of("vrrp")
    host.run("ip", "link", "add", "dummy0", "type", "bridge")
    lines = [
        f"addr {verb} 10.77.{n // 250}.{n % 250 + 1}/32 dev dummy0" for verb in ("add", "del") for n in range(6000)
    ]
    batch = arena.rig.directory / "batch"
    batch.write_text("\n".join([*lines[:6000], f"addr del {VIP}/24 dev eth0", *lines[6000:]]) + "\n")
    os.kill(vrrp, signal.SIGSTOP)
    host.run("ip", "-batch", str(batch))
    os.kill(vrrp, signal.SIGCONT)
    arena.settle_later("one")
    if arena.program == OURS:
        arena.until(lambda: "netlink notices were lost" in arena.daemons["one"].log, 5, "the overrun is told")
    host.run("ip", "link", "del", "dummy0")

"""What happens to processes: stopped, killed at every stage, without processes, descriptors or room."""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from contextlib import suppress
from pathlib import Path

from tests.netns.rig import OURS, children_of
from tests.torture.arena import VIP, Arena
from tests.torture.story import story

PROCESSES = ("parent", "vrrp")


def kill(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def frozen_for(arena: Arena, name: str, process: str, seconds: float) -> None:
    """SIGSTOP a process for a while."""
    pid = arena.daemons[name].pid_of(process)
    with arena.frozen(name):
        kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        kill(pid, signal.SIGCONT)


@story("SIGSTOP, advert_int 1", interval=1.0)
def stopped(arena: Arena) -> None:
    """Parent and VRRP of the master and of the backup stand still for 0.5, 2.5 and 4 s, one after the other."""
    arena.begin()
    for name, process in (("one", "vrrp"), ("two", "vrrp"), ("one", "parent"), ("two", "parent")):
        for seconds in (0.5, 2.5, 4.0):
            since = arena.transitions()
            frozen_for(arena, name, process, seconds)
            arena.settle_later("one")
            if seconds < 3 or name == "two" or process == "parent":
                arena.must(arena.transitions() == since, f"no change of state for {seconds:g} s of {process} of {name}")


@story("SIGSTOP of a master that is replaced", quick=True)
def stopped_long(arena: Arena) -> None:
    """A master stands still until a higher one is back and master: awake, it gives in and sends no advert."""
    arena.begin()
    wire = arena.lan.capture()
    with arena.dead("one"):
        arena.until(lambda: "two" in arena.holders(), 5, "the lower one takes over")
        vrrp = arena.daemons["two"].pid_of("vrrp")
        kill(vrrp, signal.SIGSTOP)
    with arena.frozen("two"):
        arena.start("one")
        arena.until(lambda: "one" in arena.holders(), 5, "the higher one is master")
        time.sleep(1.0)
        awake = time.monotonic()
        kill(vrrp, signal.SIGCONT)
    arena.settle_later("one")
    late = [frame for frame in wire.adverts("10.0.0.2") if frame.time > awake]
    arena.must(not late, f"no advert of one that was replaced ({len(late)} were sent)")


def _recovers(arena: Arena, name: str) -> None:
    """A daemon whose parent is gone is started again, as init does; then the higher one must be master."""
    daemon = arena.daemons[name]
    if daemon.process.poll() is not None or not Path(f"/proc/{daemon.process.pid}").exists():
        arena.until(lambda: not _alive(arena, name), 8, f"workers of {name} end with their parent")
        arena.start(name)
    arena.until(lambda: arena.holders() == ["one"], 8, f"one is master after {name} was killed")


def _alive(arena: Arena, name: str) -> bool:
    """Whether any process of a daemon is left in the router."""
    directory = str(arena.daemons[name].directory)
    for entry in Path("/proc").glob("[0-9]*/cmdline"):  # which all processes of a daemon have; ours have no environ
        with suppress(OSError):
            if f"{directory}/" in entry.read_text(errors="replace"):
                return True
    return False


def _pid(arena: Arena, name: str, process: str) -> int:
    try:
        return arena.daemons[name].pid_of(process)
    except (OSError, ValueError):
        return 0


def _strike(arena: Arena, name: str, process: str) -> None:
    pid = _pid(arena, name, process)
    if pid:
        kill(pid, signal.SIGKILL)
        if process == "parent":
            arena.daemons[name].process.wait(5)


def _killed_at(arena: Arena, process: str, choice: random.Random) -> None:
    """One round of the stages: start, takeover, reload, stop."""
    with arena.away("two"):
        arena.daemons["two"].stop()
    arena.start("two")
    time.sleep(choice.uniform(0.15, 0.5))
    _strike(arena, "two", process)
    _recovers(arena, "two")
    with arena.dead("one"):
        time.sleep(choice.uniform(0.4, 0.8))
        _strike(arena, "two", process)
    arena.start("one")
    _recovers(arena, "two")
    arena.daemons["one"].rewrite(arena.config("one").replace(f"{VIP}/24", f"{VIP}/24\n        10.0.0.101/24"))
    arena.signal("one", signal.SIGHUP)
    time.sleep(choice.uniform(0.0, 0.3))
    _strike(arena, "one", process)
    _recovers(arena, "one")
    arena.signal("one", signal.SIGTERM)
    time.sleep(choice.uniform(0.0, 0.05))
    _strike(arena, "one", process)
    with suppress(Exception):
        arena.daemons["one"].process.wait(8)
    arena.until(lambda: not _alive(arena, "one"), 8, f"everything ends when {process} is killed in the stop")
    arena.start("one")
    arena.until(lambda: arena.holders() == ["one"], 8, f"one is master after {process} was killed in the stop")


@story("SIGKILL at each stage")
def killed(arena: Arena) -> None:
    """Parent and VRRP are killed at a start, a take-over, a reload and a stop, at chance moments, three times."""
    choice = random.Random(7)
    arena.begin()
    arena.must(_alive(arena, "one"), "processes of a router are known when they are there")
    arena.causes += ("interface eth0 is down",)
    arena.allowed_gap *= 4  # both routers die in the same stage, and one has to be started again
    for _ in range(3):
        for process in PROCESSES:
            _killed_at(arena, process, choice)


@story("SIGKILL of VRRP again and again", quick=True)
def killed_often(arena: Arena) -> None:
    """The master's VRRP is killed twice: the second time its successor comes late, and the addresses go before."""
    arena.begin()
    for _ in range(2):
        old = arena.daemons["one"].pid_of("vrrp")
        kill(old, signal.SIGKILL)
        arena.until(lambda old=old: _pid(arena, "one", "vrrp") not in (0, old), 5, "a new worker")  # type: ignore[misc]
        time.sleep(1.0)
    arena.settle_later("one")


@story("SIGKILL of VRRP in the stop", quick=True)
def killed_in_the_stop(arena: Arena) -> None:
    """The master's VRRP is killed and the daemon told to stop at the same time: all that was its goes."""
    arena.begin()
    daemon = arena.daemons["one"]
    kill(daemon.pid_of("vrrp"), signal.SIGSTOP)
    arena.signal("one", signal.SIGTERM)
    kill(daemon.pid_of("vrrp"), signal.SIGKILL)
    daemon.process.wait(8)
    arena.until(lambda: arena.holders() == ["two"], 3, "the other one is the only master")
    arena.start("one")
    arena.settle_later("one")


class Processes:
    """A limit on the number of processes of one daemon, in a control group of its own."""

    ROOT = Path("/sys/fs/cgroup/pids")

    def __init__(self, pids: list[int]) -> None:
        self.path = self.ROOT / f"torture{os.getpid()}"
        self.path.mkdir()
        for pid in pids:
            (self.path / "cgroup.procs").write_text(str(pid))

    def limit(self, number: str) -> None:
        (self.path / "pids.max").write_text(number)

    def refused(self) -> int:
        """How many processes and threads it could not have."""
        return int((self.path / "pids.events").read_text().split()[1])

    def close(self) -> None:
        for pid in (self.path / "cgroup.procs").read_text().split():
            with suppress(OSError):
                (self.ROOT / "cgroup.procs").write_text(pid)
        with suppress(OSError):
            self.path.rmdir()


@story("fork refused")
def no_fork(arena: Arena) -> None:
    """No further process for the master's daemon while it is told to reload and loses its VRRP."""
    arena.begin('notify "/bin/true" root')
    daemon = arena.daemons["one"]
    group = Processes([daemon.process.pid, *children_of(daemon.process.pid)])
    arena.allowed_gap += 3.0
    try:
        group.limit("1")
        arena.signal("one", signal.SIGHUP)
        time.sleep(1.5)
        arena.must(arena.transitions() == 0, "no change of state at the reload")
        kill(daemon.pid_of("vrrp"), signal.SIGKILL)
        time.sleep(2.0)
        group.limit("max")
        arena.settle_later("one")
    finally:
        group.close()
    if arena.program == OURS:
        why = "cannot be started: Resource temporarily unavailable"
        arena.until(lambda: why in daemon.log, 5, "the log says why")


def lowest_free(pid: int) -> int:
    """The number that the next open would give."""
    used = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
    return next(number for number in range(1024) if number not in used)


@story("out of file descriptors")
def no_descriptors(arena: Arena) -> None:
    """VRRP of the master may open nothing more while it is told to reload, dump and run scripts."""
    arena.begin('notify "/bin/true" root')
    daemon = arena.daemons["one"]
    vrrp = daemon.pid_of("vrrp")
    before = resource.prlimit(vrrp, resource.RLIMIT_NOFILE)
    resource.prlimit(vrrp, resource.RLIMIT_NOFILE, (lowest_free(vrrp), before[1]))
    daemon.rewrite(arena.config("one").replace("10.0.0.100/24", "10.0.0.100/24\n 10.0.0.101/24\n 10.0.0.102/24"))
    for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGUSR2):
        arena.signal("one", number)
        time.sleep(0.7)
    resource.prlimit(vrrp, resource.RLIMIT_NOFILE, before)
    arena.must(arena.transitions() == 0, "no change of state")
    arena.until(lambda: _pid(arena, "one", "vrrp") == vrrp, 3, "the worker lives on")


@story("parent out of file descriptors")
def parent_without_descriptors(arena: Arena) -> None:
    """The master's parent may open nothing more while VRRP dies: it tries again, the other one takes over."""
    arena.begin()
    arena.allowed_gap += 3.0
    daemon = arena.daemons["one"]
    before = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (lowest_free(daemon.process.pid), before[1]))
    arena.signal("one", signal.SIGHUP)
    time.sleep(0.5)
    kill(daemon.pid_of("vrrp"), signal.SIGKILL)
    time.sleep(1.5)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, before)
    arena.settle_later("one")

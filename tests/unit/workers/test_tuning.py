"""Scheduling and memory: what is refused, what scripts get back, what happens to a stretch that is too long."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from keepalived_py.config import model
from keepalived_py.config.model import CheckerSlice, Fifo, GlobalDefs, NotifyScripts, Script, VrrpConfig, VrrpSlice
from keepalived_py.values import ExitCode
from tests.unit.vrrp.builders import instance
from workers import privileges, tuning
from workers.vrrp.worker import VrrpWorker
from workers.worker import WorkerError

MODEL = [kind for kind in vars(model).values() if isinstance(kind, type) and is_dataclass(kind)]
START = """
import asyncio, logging, os, resource, signal, sys, time
logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stdout)
from keepalived_py.config.model import GlobalDefs, ProcessTuning, Script
from workers import scripts, tuning
NOFILE = resource.RLIMIT_NOFILE
def policy(): return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK
"""


def run(body: str) -> str:
    """Run `body` in a process of its own; what it printed."""
    done = subprocess.run([sys.executable, "-c", START + body], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def can_be_real_time() -> bool:
    return run("try:\n os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))\nexcept OSError: print('no')") == ""


real_time = pytest.mark.skipif(not can_be_real_time(), reason="real-time scheduling is not permitted")

TUNED = """
async def main():
    tuner = tuning.Tuner()
    tuner.configure(GlobalDefs(max_auto_priority=3, min_auto_priority_delay=1000), ProcessTuning(%s))
    tuner.start(asyncio.get_running_loop())
    print(policy() == os.SCHED_RR)
    %s
    sys.stdout.flush()
    os._exit(0)  # as workers do: an interpreter that takes itself apart has no signal handlers
asyncio.run(main())
"""


@real_time
def test_a_stretch_that_is_too_long_goes_on_without_real_time_and_returns_to_it() -> None:
    shown = run(
        TUNED
        % (
            "rt_priority=5, rlimit_rttime=40000",
            """
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        pass
    print(policy() == os.SCHED_RR)
    await asyncio.sleep(0.3)
    print(policy() == os.SCHED_RR, resource.getrlimit(resource.RLIMIT_RTTIME))""",
        )
    )
    warning = "More than 20000 us of computing at a stretch in real time"
    assert shown.splitlines() == ["True", "False", warning, "True (20000, 1000000)"]


@real_time
def test_long_work_is_done_at_ease_even_nested() -> None:
    shown = run(
        TUNED
        % (
            "rt_priority=5",
            """
    with tuner.at_ease():
        print(policy() == os.SCHED_RR)
        with tuner.at_ease():
            print(policy() == os.SCHED_RR)
        print(policy() == os.SCHED_RR)
    print(policy() == os.SCHED_RR)""",
        )
    )
    assert shown.split() == ["True", "False", "False", "False", "True"]


@real_time
def test_late_timers_raise_the_priority_up_to_the_limit() -> None:
    shown = run(
        TUNED
        % (
            "",
            """
    for late in (0.0009, 0.001, 1.0, 1.0, 1.0):
        tuner.late(late)
        print(policy() == os.SCHED_RR, os.sched_getparam(0).sched_priority)""",
        )
    )
    rows = [line for line in shown.splitlines() if not line.startswith("A timer")]
    assert rows == ["False", "False 0", "True 1", "True 2", "True 3", "True 3"]
    assert "A timer was 1000 us late: priority SCHED_RR 1 from now on" in shown


def test_what_is_refused_is_told_and_nothing_breaks() -> None:
    shown = run(
        """
def refuse(*args): raise PermissionError(1, "Operation not permitted")
os.sched_setscheduler = os.setpriority = os.sched_setaffinity = resource.setrlimit = refuse
tuning._LIBC = type("Libc", (), {"mlockall": lambda self, flags: -1})()
tuner = tuning.Tuner()
tuner.configure(GlobalDefs(), ProcessTuning(nice=3, rt_priority=5, cpu_affinity=(0,), no_swap=True))
tuner.start(None)
with tuner.at_ease():
    pass
tuning.raise_descriptors(10**9)
"""
    )
    lines = [line for line in shown.splitlines() if " is refused: " in line]
    assert [line.partition(" is refused")[0] for line in lines] == [
        "nice value 3",
        "CPU affinity 0",
        "locking the memory",
        "priority SCHED_RR 5",
    ]
    assert f"1000000200 open files may be needed, the limit is {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}" in shown


def test_what_is_refused_names_the_capability_and_the_limit_that_stand_against_it() -> None:
    shown = run(
        """
from workers import privileges, tuning
for name in ("MEMLOCK", "RTPRIO", "NICE"): resource.setrlimit(getattr(resource, "RLIMIT_" + name), (0, 0))
privileges.keep_only(())
tuner = tuning.Tuner()
tuner.configure(GlobalDefs(), ProcessTuning(nice=-7, rt_priority=5, no_swap=True))
tuner.start(None)
"""
    )
    lock, real = "locking the memory", "priority SCHED_RR 5"
    assert shown.splitlines() == [
        "nice value -7 is refused: Permission denied; CAP_SYS_NICE is missing, and RLIMIT_NICE is 0",
        f"{lock} is refused: Operation not permitted; CAP_IPC_LOCK is missing, and RLIMIT_MEMLOCK is 0",
        f"{real} is refused: Operation not permitted; CAP_SYS_NICE is missing, and RLIMIT_RTPRIO is 0",
    ]


def test_memory_to_come_is_locked_only_where_that_cannot_be_refused() -> None:
    """At RLIMIT_MEMLOCK the process would get none."""
    shown = run(
        """
from workers import privileges, tuning
tuning._LIBC = type("Libc", (), {"mlockall": lambda self, flags: print(flags) or 0})()
for given_up in (False, True):
    if given_up: privileges.keep_only(())
    tuning.Tuner().configure(GlobalDefs(), ProcessTuning(no_swap=True))
"""
    )
    unlimited = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY
    assert shown.splitlines() == ["3" if unlimited or may else "1" for may in (privileges.has("CAP_IPC_LOCK"), False)]


SCRIPT = """
tuning.remember()
{change}
script = Script(argv=("/bin/sh", "-c", {command!r}))
print(asyncio.run(scripts.run(script, limit=20, listen=True)).output)
"""


@pytest.mark.parametrize(
    ("change", "command"),
    [
        ("os.setpriority(os.PRIO_PROCESS, 0, 7)", "awk '{ print $19 }' /proc/self/stat"),
        ("os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})", "grep Cpus_allowed_list /proc/self/status"),
        ("resource.setrlimit(resource.RLIMIT_CORE, (4096, resource.getrlimit(resource.RLIMIT_CORE)[1]))", "ulimit -c"),
        (
            "resource.setrlimit(resource.RLIMIT_NOFILE, (77, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))",
            "ulimit -n",
        ),
        ("os.umask(0o135)", "umask"),
    ],
)
def test_scripts_have_what_the_daemon_was_started_with(change: str, command: str) -> None:
    untouched = run(SCRIPT.format(change="", command=command))
    assert untouched == run(f"import subprocess\nprint(subprocess.getoutput({command!r}))")
    assert run(SCRIPT.format(change=change, command=command)) == untouched
    ours = run(f"import subprocess\n{change}\nprint(subprocess.getoutput({command!r}))")
    if os.geteuid() == 0 and (os.cpu_count() or 1) > 1:
        assert ours != untouched  # so the test could fail


@pytest.mark.skipif(os.geteuid() != 0, reason="another user needs root")
def test_a_restored_script_is_still_its_user() -> None:
    body = "os.setpriority(os.PRIO_PROCESS, 0, 7)\nwho = dict(uid=65534, gid=65534, groups=(65534, 12))"
    shown = run(
        SCRIPT.format(change=body, command="id -u; id -g; id -G; awk '{ print $19 }' /proc/self/stat").replace(
            "Script(", "Script(**who, "
        )
    )
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    assert shown.split("\n") == ["65534", "65534", "65534 12", str(nice), ""]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs capabilities to lose")
@pytest.mark.parametrize("change", ["", "os.setpriority(os.PRIO_PROCESS, 0, 7)"], ids=["spawned", "restored"])
def test_a_script_that_cannot_become_its_user_says_why(change: str) -> None:
    shown = run(
        f"""
from workers import privileges
tuning.remember()
{change}
privileges.keep_only(())
script = Script(argv=("/bin/true",), uid=65534, gid=65534, groups=())
print(asyncio.run(scripts.run(script, limit=20)))
"""
    )
    assert shown == "cannot be run: [Errno 1] Operation not permitted\n"


def test_without_changes_no_script_costs_a_fork() -> None:
    asked = "with tuning.as_started(): print(tuning.restoring())\n"
    assert run(f"tuning.remember()\n{asked}") == "None\n"
    raised = "before = resource.getrlimit(NOFILE)\ntuning.raise_descriptors(before[0] - 1)\n"
    changed = "print(resource.getrlimit(NOFILE)[0] - before[0])"
    less = "resource.setrlimit(NOFILE, (1000, resource.getrlimit(NOFILE)[1]))\n"
    assert run(f"{less}tuning.remember()\n{raised}{asked}{changed}") == "None\n199\n"


def test_open_files_are_allowed_as_needed() -> None:
    body = "resource.setrlimit(resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n"
    assert run(f"{body}tuning.raise_descriptors(50)\nprint(resource.getrlimit(resource.RLIMIT_NOFILE)[0])") == "250\n"
    shown = run(
        """
from workers import privileges, tuning
resource.setrlimit(NOFILE, (50, 100))
privileges.keep_only(())
tuning.raise_descriptors(50)
print(resource.getrlimit(NOFILE))
"""
    )
    why = "250 open files may be needed, the limit is 100; CAP_SYS_RESOURCE is missing"
    assert shown.splitlines() == [why, "(100, 100)"]


def test_a_hard_limit_of_open_files_gives_way_to_who_may_raise_it(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = (50, 100)

    def grant(which: int, wanted: tuple[int, int]) -> None:
        nonlocal limits
        assert which == resource.RLIMIT_NOFILE
        limits = wanted

    monkeypatch.setattr(resource, "setrlimit", grant)
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits)
    tuning.raise_descriptors(50)
    assert limits == (250, 250)


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (WorkerError("no IPVS"), 1),
        (WorkerError("no interface", ExitCode.CONFIG), 2),
        (WorkerError("no permission", ExitCode.NO_PERMISSION), 4),
        (OSError(errno.EMFILE, "too many"), 70),
        (ValueError("a bug"), 70),
        (MemoryError(), 204),
    ],
)
def test_how_a_worker_ends(failure: Exception, code: int) -> None:
    """cli-and-signals.md 3; the supervisor decides by it whether there is another one."""
    assert VrrpWorker._failed(VrrpWorker.__new__(VrrpWorker), failure) == code


def test_missing_capabilities_are_named() -> None:
    needed = {"CAP_NET_RAW": "adverts", "CAP_NET_ADMIN": "addresses"}
    assert privileges.missing(needed, 1 << 12 | 1 << 13) == []
    assert privileges.missing(needed, 1 << 12) == ["CAP_NET_RAW (adverts)"]
    assert privileges.missing(needed, 0) == ["CAP_NET_RAW (adverts)", "CAP_NET_ADMIN (addresses)"]
    assert privileges.effective() == int(
        next(line for line in Path("/proc/self/status").read_text().splitlines() if "CapEff" in line).split()[1], 16
    )


def test_scripts_are_found_wherever_they_are() -> None:
    script, fifo = Script(argv=("/bin/true",), uid=7), Fifo(path="/x")
    notify = NotifyScripts(master=script)
    vrrp = VrrpSlice(vrrp=VrrpConfig(instances=(instance(), instance(notify=notify))))
    assert list(privileges.scripts_of(vrrp)) == [script]
    assert list(privileges.scripts_of(CheckerSlice(global_defs=GlobalDefs(lvs_notify_fifo=fifo)))) == [fifo]
    only_parents = GlobalDefs(startup_script=script, script_user=Script(argv=(), uid=7))
    assert list(privileges.scripts_of(VrrpSlice(global_defs=only_parents))) == []


@pytest.mark.parametrize(
    ("found", "names"),
    [
        (Script(argv=("x",), uid=7, gid=8), "KILL SETGID SETUID"),
        (Script(argv=("x",), uid=0, gid=8), "SETGID"),
        (Script(argv=("x",), uid=0, gid=0, groups=(8,)), "SETGID"),
        (Script(argv=("x",), uid=0, gid=0), ""),
        (Script(argv=("x",)), ""),
        (Fifo(path="f", uid=7, gid=0), "CHOWN"),
        (Fifo(path="f", uid=0, gid=8), "CHOWN"),
        (Fifo(path="f"), ""),
    ],
)
def test_what_others_need(found: Script | Fifo, names: str) -> None:
    needed = privileges.for_others([found], 0, 0)
    assert " ".join(sorted(name.removeprefix("CAP_") for name in needed)) == names


def classes_in(hint: Any) -> set[type]:
    """All classes of a type, without its containers."""
    inner = get_args(hint)
    return set().union(*map(classes_in, inner)) if inner else {hint} & set(MODEL)


@pytest.mark.parametrize("kind", MODEL, ids=lambda kind: kind.__name__)
def test_the_classes_that_a_field_names_are_those_of_its_type(kind: type) -> None:
    named = {name: kinds & set(MODEL) for name, kinds in privileges._fields(kind)}
    assert named == {name: classes_in(hint) for name, hint in get_type_hints(kind).items()}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs capabilities to lose")
def test_capabilities_that_are_given_up_come_back_for_what_root_executes() -> None:
    kept = run(
        "from workers import privileges\n"
        "privileges.keep_only({'CAP_NET_RAW', 'CAP_KILL'})\n"
        "print(hex(privileges.effective()))\n"
        "import subprocess; print(subprocess.getoutput('grep CapEff /proc/self/status').split()[1])"
    ).split()
    assert int(kept[0], 16) == (1 << 13 | 1 << 5) & privileges.effective()
    assert int(kept[1], 16) == privileges.effective()

"""A day in minutes: reloads, changes of state, results of checks and dumps in turn. What a process is made of stays."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from contextlib import ExitStack

from tests.bench import no_ipvs
from tests.netns.rig import OURS, Daemon, Host, inside
from tests.torture.arena import VIP, Arena
from tests.torture.story import story

ROUNDS = int(os.environ.get("ROUNDS", "3"))
FILES = {"parent": "keepalived_parent.data", "vrrp": "keepalived.data", "checkers": "keepalived_check.data"}
STAYS = ("Threads", "Descriptors", "Tasks", "Timers")
PORTS = (8001, 8002)
GROWTH = 2.0
"""KiB for each round, from the second third on, that a process may grow by; told of from a hundred rounds on."""


def configuration(arena: Arena, number: int) -> str:
    """Every second one has another address, script and virtual server."""
    tracked = f"track_file flag {{\n file {arena.rig.directory}/flag\n}}\n"
    tracked += "vrrp_script fine {\n script /bin/true\n interval 1\n}\n"
    extra = "track_file {\n flag weight 0\n }\n" + ("track_script {\n fine\n }\n" if number % 2 else "")
    text = arena.config("one", extra)
    if number % 2:
        text = text.replace(f"{VIP}/24", f"{VIP}/24\n 10.0.0.{120 + number % 50}/24")
    checks = "".join(f" real_server 127.0.0.1 {port} {{\n TCP_CHECK {{\n retry 1\n }}\n }}\n" for port in PORTS)
    services = "".join(
        f"virtual_server 10.9.9.9 {port} {{\n protocol TCP\n lvs_sched rr\n lvs_method NAT\n delay_loop 0.2\n"
        f" warmup 0\n{checks}}}\n"
        for port in range(80, 82 + number % 2)
    )
    return tracked + text + services


def vitals(arena: Arena, daemon: Daemon) -> dict[str, dict[str, int]]:
    """What each process says of itself, with the memory that is its own alone in KiB."""
    paths = {name: daemon.directory / file for name, file in FILES.items()}
    for path in paths.values():
        path.unlink(missing_ok=True)
    daemon.signal(signal.SIGUSR1)
    arena.rig.wait(lambda: all(path.exists() for path in paths.values()), 10)
    found = {}
    for name, path in paths.items():
        facts = dict(re.findall(r"^ *(\w+): (\d+)", path.read_text(), re.MULTILINE))
        found[name] = {fact: int(facts[fact]) for fact in STAYS if fact in facts}
        with open(f"/proc/{daemon.pid_of(name)}/smaps_rollup") as file:
            found[name]["own memory"] = int(re.findall(r"Private_Dirty: +(\d+)", file.read())[0])
    return found


def one_round(arena: Arena, host: Host, daemon: Daemon, number: int) -> None:
    """A reload, the way to FAULT and back, servers that come and go."""
    flag, seen = arena.rig.directory / "flag", len(daemon.log)
    wait = arena.rig.wait
    flag.write_text("-254\n")
    daemon.rewrite(configuration(arena, number))
    daemon.signal(signal.SIGHUP)
    wait(lambda: "Reload complete" in daemon.log[seen:] and not host.has(VIP), 15)
    with ExitStack() as listening:
        with inside(host.namespace):
            for port in PORTS:
                listening.enter_context(socket.create_server(("127.0.0.1", port)))
        flag.write_text("0\n")
        wait(lambda: host.has(VIP) and "Adding service" in daemon.log[seen:], 15)
        served = len(daemon.log)
    wait(lambda: "Removing service" in daemon.log[served:], 15)


@story("soak in small", routers=1, quick=True, programs=(OURS,))
def soak(arena: Arena) -> None:
    """Reloads, changes of state and results of checks, again and again (ROUNDS): nothing grows."""
    host, flag = arena.hosts["one"], arena.rig.directory / "flag"
    flag.write_text("0\n")
    command = no_ipvs.command(OURS, arena.rig.directory)
    daemon = host.start(OURS, configuration(arena, 0), command=command)
    arena.daemons["one"] = daemon
    arena.causes += ("tracked file flag", "faults are gone")
    arena.settle("one")
    for number in range(1, ROUNDS + 1):
        one_round(arena, host, daemon, 2 * number + 1)
        one_round(arena, host, daemon, 2 * number)
        if number == max(1, ROUNDS // 3):
            time.sleep(1.5)
            early = vitals(arena, daemon)
    time.sleep(1.5)
    late = vitals(arena, daemon)
    arena.since = time.monotonic()
    for name, facts in late.items():
        for fact in STAYS:
            before, after = early[name].get(fact), facts.get(fact)
            arena.must(before == after, f"{fact} of {name} stay ({before}, {after})")
        grown = (facts["own memory"] - early[name]["own memory"]) / (2 * (ROUNDS - max(1, ROUNDS // 3)))
        arena.say(f"{name} {grown:+.2f} KiB a round")
        arena.must(ROUNDS < 100 or grown < GROWTH, f"memory of {name} stays")

"""Our daemon and Debian's keepalived at work on one text, each in a network namespace of its own."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import closing

from tests.ipvs.compare import wait
from tests.netns.rig import OURS, THEIRS, Daemon, Host, Rig
from workers.checker.ipvs_kernel import IpvsKernel, resolve_family

Rows = list[str]


class Twins:
    """The two programs at work on one text."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.hosts: dict[str, Host] = {program: rig.host(program[-2:]) for program in (OURS, THEIRS)}
        self.daemons: dict[str, Daemon] = {}

    def start(self, text: str) -> None:
        self.daemons = {program: host.start(program, text, "-C") for program, host in self.hosts.items()}

    def reload(self, text: str) -> None:
        for daemon in self.daemons.values():
            daemon.rewrite(text)
            daemon.signal(signal.SIGHUP)

    def stop(self) -> None:
        for daemon in self.daemons.values():
            daemon.signal(signal.SIGTERM)
        for daemon in self.daemons.values():
            daemon.stop(30)

    def tables(self) -> tuple[Rows, Rows]:
        """What ipvsadm saves of both."""
        ours, theirs = (sorted(host.run("ipvsadm", "-Sn").splitlines()) for host in self.hosts.values())
        return ours, theirs

    def everything(self) -> tuple[Rows, Rows]:
        """The same with thresholds, and without a process: in a guest those take longer than the programs need."""
        ours, theirs = map(rows, self.hosts.values())
        return ours, theirs

    def agree(self, effect: Callable[[Rows], bool], within: float = 60, equal_within: float = 8) -> Rows:
        """Wait until the effect is there for both and the tables are equal; they must stay so."""
        found: tuple[Rows, Rows] = ([], [])

        def effective() -> bool:
            nonlocal found
            found = self.tables()
            return all(map(effect, found))

        def settled() -> bool:
            nonlocal found
            found = self.everything()
            if found[0] != found[1]:
                return False
            time.sleep(0.3)
            return found == self.everything()

        try:
            wait(effective, within, 0.3)
            wait(settled, equal_within)
            found = self.tables()
            assert found[0] == found[1]
        except AssertionError:
            ours, theirs = map(set, found)
            log = self.daemons[OURS].log[-1000:]
            only = f"ours only: {sorted(ours - theirs)[:20]}, theirs only: {sorted(theirs - ours)[:20]}"
            missing = [program for program, rows in zip(self.hosts, self.tables(), strict=True) if not effect(rows)]
            only += f", without the effect: {missing}"
            raise AssertionError(f"{only}; our log ends in {log}") from None
        return found[0]


def rows(host: Host) -> Rows:
    with closing(IpvsKernel(resolve_family(), host.namespace)) as kernel:
        table = kernel.table()
    found = [f"{id} {entry.service}" for id, entry in table.items()]
    for id, entry in table.items():
        found += [f"{id} {key} {row}" for key, row in entry.destinations.items()]
    return sorted(found)

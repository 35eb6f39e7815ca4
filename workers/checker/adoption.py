"""What a checker worker takes over from a predecessor that died: its last words, and weights that scripts had set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ipc.messages import (
    GroupMarked,
    RealServerStateChanged,
    StateMessage,
    TimeoutsReplaced,
    VirtualServerStateChanged,
)
from keepalived_py.checks.virtual_server import VirtualServerState
from keepalived_py.config.model import MiscCheck
from keepalived_py.plan import ipvs
from keepalived_py.values import Protocol, RealKey, ServiceKey

from .followed import FollowedCheck
from .task import CheckerTask

Tasks = Mapping[ServiceKey, Mapping[RealKey, list[CheckerTask]]]


def adopt_reports(states: Iterable[VirtualServerState], tasks: Tasks, reports: Iterable[StateMessage]) -> None:
    """What the predecessor said last holds until a check says otherwise.

    Within the hysteresis the quorum is what it was.
    """
    quorums, reals = dict[str, bool](), dict[tuple[str, str], bool]()
    for report in reports:
        if isinstance(report, VirtualServerStateChanged):
            quorums[report.service] = report.up
        elif isinstance(report, RealServerStateChanged):
            reals[report.service, report.real] = report.up
    for state in states:
        key = state.config.key
        name = key.unique
        state.had_quorum = quorums.get(name, False)
        for real_key, real in state.reals.items():
            up = reals.get((name, real_key.text(key.protocol)))
            if up is None:
                continue
            real.told = True
            for task in tasks[key][real_key]:
                if not isinstance(task.config, FollowedCheck):
                    task.state.up, task.state.has_run = up, True
                    (real.failed.discard if up else real.failed.add)(task.number)


def adopted_marks(reports: Iterable[StateMessage]) -> ipvs.Marks:
    """The marks that groups had."""
    said = (report for report in reports if isinstance(report, GroupMarked) and report.mark)
    return {(report.group, Protocol(report.protocol)): report.mark for report in said}


def adopted_timeouts(reports: Iterable[StateMessage]) -> dict[str, int]:
    """What was there before lvs_timeouts."""
    said = (report for report in reports if isinstance(report, TimeoutsReplaced) and report.tcp)
    return next(({"tcp": report.tcp, "tcpfin": report.tcpfin, "udp": report.udp} for report in said), {})


def adopt_weights(states: Iterable[VirtualServerState], tasks: Tasks, rows: ipvs.Table, marks: ipvs.Marks) -> None:
    """What misc_dynamic has made of a weight stays as the kernel has it until the script runs again."""
    for state in states:
        ours = tasks[state.config.key]
        if not any(_sets_weight(task) for found in ours.values() for task in found):
            continue
        if state.config.sorry_server is not None and not state.had_quorum:
            continue  # its rows, if there are any, have the weight 0
        for id, placed, key in ipvs.placements(state, marks):
            task = next((task for task in ours.get(key, ()) if _sets_weight(task)), None)
            entry, real = rows.get(id), state.reals.get(key)
            row = entry.destinations.get(placed) if entry is not None else None
            if task is None or row is None or real is None or not real.alive:
                continue
            if row.weight != real.weight:  # else it has the weight of the configuration, said or not
                task.points = real.points[task.number] = (task.points or 0) + row.weight - real.weight


def _sets_weight(task: CheckerTask) -> bool:
    return isinstance(task.config, MiscCheck) and task.config.dynamic

"""What a checker worker takes over from a predecessor that died: its last words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ipc.messages import (
    GroupMarked,
    RealServerStateChanged,
    ScriptWeightSet,
    StateMessage,
    TimeoutsReplaced,
    VirtualServerStateChanged,
)
from keepalived_py.checks.virtual_server import VirtualServerState
from keepalived_py.config.model import MiscCheck
from keepalived_py.plan.ipvs import Marks
from keepalived_py.values import Protocol, RealKey, ServiceKey

from .followed import FollowedCheck
from .task import CheckerTask

Tasks = Mapping[ServiceKey, Mapping[RealKey, list[CheckerTask]]]


def adopt_reports(states: Iterable[VirtualServerState], tasks: Tasks, reports: Iterable[StateMessage]) -> None:
    """What the predecessor said last holds until a check says otherwise.

    Within the hysteresis the quorum is what it was.
    """
    quorums, reals, weights = dict[str, bool](), dict[tuple[str, str], bool](), dict[tuple[str, str], int]()
    for report in reports:
        if isinstance(report, VirtualServerStateChanged):
            quorums[report.service] = report.up
        elif isinstance(report, RealServerStateChanged):
            reals[report.service, report.real] = report.up
        elif isinstance(report, ScriptWeightSet):
            weights[report.service, report.real] = report.weight
    for state in states:
        key = state.config.key
        name = key.unique
        state.had_quorum = quorums.get(name, False)
        for real_key, real in state.reals.items():
            subject = name, real_key.text(key.protocol)
            task = next(filter(sets_weight, tasks[key][real_key]), None)
            if task is not None and weights.get(subject, -1) >= 0:
                task.points = real.points[task.number] = weights[subject] - real.config.weight
            up = reals.get(subject)
            if up is None:
                continue
            real.told = True
            for task in tasks[key][real_key]:
                if not isinstance(task.config, FollowedCheck):
                    task.state.up, task.state.has_run = up, True
                    (real.failed.discard if up else real.failed.add)(task.number)


def adopted_marks(reports: Iterable[StateMessage]) -> Marks:
    """The marks that groups had."""
    said = (report for report in reports if isinstance(report, GroupMarked) and report.mark)
    return {(report.group, Protocol(report.protocol)): report.mark for report in said}


def adopted_timeouts(reports: Iterable[StateMessage]) -> dict[str, int]:
    """What was there before lvs_timeouts."""
    said = (report for report in reports if isinstance(report, TimeoutsReplaced) and report.tcp)
    return next(({"tcp": report.tcp, "tcpfin": report.tcpfin, "udp": report.udp} for report in said), {})


def sets_weight(task: CheckerTask) -> bool:
    """Whether its script may say what the weight is to be (misc_dynamic)."""
    return isinstance(task.config, MiscCheck) and task.config.dynamic

"""States of virtual and real servers with the last result of every checker, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from keepalived_py.checks.dump_text import CheckerSnapshot
from keepalived_py.checks.virtual_server import VirtualServerState
from keepalived_py.values import RealKey, ServiceKey

from .ipvs_statistics import Usage
from .task import CheckerTask
from .urls import standing


def snapshot(task: CheckerTask) -> CheckerSnapshot:
    """For keepalived's lines."""
    return CheckerSnapshot(
        service=task.service,
        real=task.real,
        config=task.config,
        state=task.state,
        suspended=task.suspended,
        points=task.points or 0,
    )


def servers(
    states: Mapping[ServiceKey, VirtualServerState],
    tasks: Mapping[ServiceKey, Mapping[RealKey, list[CheckerTask]]],
    usage: Mapping[ServiceKey, Usage],
) -> Iterator[str]:
    """Lines. What IPVS has counted is there for rows that it has."""
    for key, state in states.items():
        counted = usage.get(key, Usage())
        yield f"Virtual server {key}: quorum {'up' if state.had_quorum else 'down'}, weight {state.live_weight}"
        yield f"  IPVS: {counted.counters}"
        sorry = state.config.sorry_server
        if sorry is not None and sorry.key in counted.reals and sorry.key not in state.reals:
            yield f"  Sorry server {sorry.key}"
            yield f"    IPVS: {counted.reals[sorry.key]}"
        for real_key, real in state.reals.items():
            yield f"  Real server {real_key}: {'up' if real.alive else 'down'}, weight {real.weight}"
            if real_key in counted.reals:
                yield f"    IPVS: {counted.reals[real_key]}"
            for task in tasks[key][real_key]:
                last = "not checked yet" if task.last is None else task.last.failure or "well"
                suspended = ", suspended" if task.suspended else ""
                url = standing(task.config, task.state)
                yield f"    {task.checker.name}: {'up' if task.state.up else 'down'}, last: {last}{url}{suspended}"

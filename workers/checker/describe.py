"""States of virtual and real servers with the last result of every checker, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from keepalived_py.checks.virtual_server import VirtualServerState
from keepalived_py.values import RealKey, ServiceKey

from .task import CheckerTask


def servers(
    states: Mapping[ServiceKey, VirtualServerState], tasks: Mapping[ServiceKey, Mapping[RealKey, list[CheckerTask]]]
) -> Iterator[str]:
    """Lines."""
    for key, state in states.items():
        yield f"Virtual server {key}: quorum {'up' if state.had_quorum else 'down'}, weight {state.live_weight}"
        for real_key, real in state.reals.items():
            yield f"  Real server {real_key}: {'up' if real.alive else 'down'}, weight {real.weight}"
            for task in tasks[key][real_key]:
                last = "not checked yet" if task.last is None else task.last.failure or "well"
                suspended = ", suspended" if task.suspended else ""
                yield f"    {task.checker.name}: {'up' if task.state.up else 'down'}, last: {last}{suspended}"

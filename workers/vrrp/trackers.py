"""vrrp_script: runs the scripts that something tracks, each on its own schedule, and tells when one goes up or down."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from keepalived_py.clock import now
from keepalived_py.config.model import VrrpScript
from keepalived_py.vrrp.tracking import ScriptState
from workers import scripts

logger = logging.getLogger(__name__)


class ScriptTracker:
    """States of all tracked scripts; `changed` hears the name of one that went up or down."""

    def __init__(self, changed: Callable[[str], None]) -> None:
        self._changed = changed
        self._states: dict[str, ScriptState] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def good(self, name: str) -> bool | None:
        """Whether a script is up; None before its first result."""
        state = self._states.get(name)
        return state.up if state is not None else None

    def apply(self, wanted: Iterable[VrrpScript]) -> None:
        """Run exactly `wanted` from now on; unchanged commands keep their state."""
        by_name = {config.name: config for config in wanted}
        for name in set(self._states) - set(by_name):
            self._end(name)
        for name, config in by_name.items():
            state = self._states.get(name)
            if state is not None and state.config == config:
                continue
            if state is not None and state.config.script == config.script:
                self._tasks.pop(name).cancel()
                state.reconfigure(config)
            else:
                if state is not None:
                    self._end(name)
                state = self._states[name] = ScriptState(config)
            self._tasks[name] = asyncio.get_running_loop().create_task(self._run(state))

    def stop(self) -> None:
        for name in list(self._states):
            self._end(name)

    def _end(self, name: str) -> None:
        del self._states[name]
        self._tasks.pop(name).cancel()

    async def _run(self, state: ScriptState) -> None:
        """One start per interval; a run that takes longer makes the next one wait."""
        config = state.config
        due = now()
        while True:
            outcome = await scripts.run(config.script, limit=config.timeout)
            if outcome.status != state.last_status:
                logger.info("Script `%s` now %s", config.name, outcome)
                state.last_status = outcome.status
            if state.record(outcome.success):
                logger.info("VRRP_Script(%s) %s", config.name, "succeeded" if state.up else "failed")
                self._changed(config.name)
            due = max(due + config.interval, now())
            await asyncio.sleep(due - now())

"""What instances track: everything is looked at only while something tracks it (vrrp-behaviour.md 6)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from ipc.messages import BfdSessionChanged, ScriptStateChanged, VirtualServerStateChanged
from keepalived_py.clock import now
from keepalived_py.config.model import Track, VrrpInstance, VrrpScript, VrrpSlice
from keepalived_py.vrrp.tracking import (
    EffectivePriority,
    Observation,
    ScriptState,
    effective_priority,
    is_fault,
    next_run,
)
from workers import scripts
from workers.file_watch import FileWatcher
from workers.process_watch import ProcessWatcher

logger = logging.getLogger(__name__)

NO_RESULT = "without a result yet"


class Trackers:
    """All that instances and sync groups track. `changed` hears kind and name; `link_up` knows the interfaces.

    `report` is told what somebody else must remember in case this process dies.
    """

    def __init__(
        self,
        changed: Callable[[str, str], None],
        link_up: Callable[[str], bool],
        report: Callable[[ScriptStateChanged], None] = lambda report: None,
    ) -> None:
        self._changed, self._link_up = changed, link_up
        self.scripts = ScriptTracker(partial(changed, "script"), report)
        self.files = FileWatcher(partial(changed, "file"))
        self.processes = ProcessWatcher(partial(changed, "process"))
        self._services: dict[str, bool] = {}
        """Whether each virtual server has its quorum, as last heard, tracked or not: a reload may track it."""
        self._sessions: dict[str, bool] = {}
        """BFD sessions, as last heard; one that nobody has told of is down."""
        self._of_group: dict[str, tuple[Track, ...]] = {}
        """What the sync group of an instance tracks, by name of the instance."""

    def apply(self, config: VrrpSlice) -> None:
        """Look at what `config` tracks from now on; what it has in common with the one before keeps its state."""
        groups = config.vrrp.sync_groups
        self._of_group = {member: group.tracks for group in groups for member in group.members}
        tracked = [each.tracks for each in config.vrrp.instances] + [group.tracks for group in groups]
        wanted = {(track.kind, track.name) for tracks in tracked for track in tracks}
        self.scripts.apply(each for each in config.vrrp.scripts if ("script", each.name) in wanted)
        self.files.apply(each for each in config.track_files if ("file", each.name) in wanted)
        buffers = config.global_defs.buffers
        self.processes.room = buffers.process_monitor, buffers.process_monitor_force
        self.processes.apply(each for each in config.vrrp.processes if ("process", each.name) in wanted)

    def of(self, config: VrrpInstance) -> tuple[Track, ...]:
        """What counts for an instance: its own, and what its group tracks unless it tracks that itself."""
        own = {(track.kind, track.name) for track in config.tracks}
        shared = self._of_group.get(config.name, ())
        return (*config.tracks, *(track for track in shared if (track.kind, track.name) not in own))

    def seen(self, track: Track) -> Observation:
        """What is known of a tracked thing."""
        match track.kind:
            case "interface":
                return self._link_up(track.name)
            case "script":
                return self.scripts.good(track.name)
            case "file":
                return self.files.value(track.name)
            case "process":
                return self.processes.good(track.name)
            case "virtual_server":
                return self._services.get(track.name)
        return self._sessions.get(track.name, False)

    def priority(self, config: VrrpInstance) -> EffectivePriority:
        """The effective priority of an instance."""
        return effective_priority(config.priority, self.of(config), self.seen)

    def faults(self, config: VrrpInstance) -> Iterator[tuple[str, str]]:
        """Subject and reason of what holds an instance back."""
        for track in self.of(config):
            seen = self.seen(track)
            if is_fault(track, seen):
                yield f"{track.kind} {track.name}", f"tracked {track.kind} {track.name} is {_word(track, seen)}"

    def service_changed(self, report: VirtualServerStateChanged) -> None:
        """The checker told of a virtual server; if it dies its last word stands."""
        before, self._services[report.service] = self._services.get(report.service), report.up
        if before is not report.up:
            self._changed("virtual_server", report.service)

    def session_changed(self, report: BfdSessionChanged) -> None:
        """Somebody told of a BFD session."""
        before, self._sessions[report.name] = self._sessions.get(report.name, False), report.up
        if before is not report.up:
            self._changed("bfd", report.name)

    def stop(self) -> None:
        self.scripts.stop()
        self.files.stop()
        self.processes.stop()


def _word(track: Track, seen: Observation) -> str:
    if seen is None:
        return NO_RESULT
    return f"at {seen}" if track.kind == "file" else "up" if seen else "down"


class ScriptTracker:
    """vrrp_script: runs each on its own schedule; `changed` hears the name of one that went up or down."""

    def __init__(self, changed: Callable[[str], None], report: Callable[[ScriptStateChanged], None]) -> None:
        self._changed, self._report = changed, report
        self.running: set[str] = set()
        """Scripts of which a run has begun and not ended."""
        self.inherited: dict[str, ScriptStateChanged] = {}
        """By name: what a predecessor that died knew, for the first configuration."""
        self._states: dict[str, ScriptState] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def good(self, name: str) -> bool | None:
        """Whether a script is up; None before its first result."""
        state = self._states.get(name)
        return state.up if state is not None else None

    def states(self) -> Iterable[ScriptState]:
        """Of all scripts that run, for dumps."""
        return self._states.values()

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
                state = self._states[name] = ScriptState(config, self._known(config))
            self._tasks[name] = asyncio.get_running_loop().create_task(self._run(state))
        self.inherited.clear()

    def _known(self, config: VrrpScript) -> bool | None:
        report = self.inherited.get(config.name)
        return report.up if report is not None and report.command == config.script else None

    def stop(self) -> None:
        for name in list(self._states):
            self._end(name)

    def _end(self, name: str) -> None:
        del self._states[name]
        self._tasks.pop(name).cancel()

    async def _run(self, state: ScriptState) -> None:
        """One start per interval; starts that fall into a run are left out."""
        config = state.config
        due = now()
        while True:
            self.running.add(config.name)
            try:
                outcome = await scripts.run(config.script, limit=config.timeout)
            finally:
                self.running.discard(config.name)
            if outcome.status != state.last_status:
                code = outcome.status
                logger.info("Script `%s` now %s", config.name, f"returning {code}" if code is not None else outcome)
            state.last_status = outcome.status
            if not outcome.shortage and state.record(outcome.success):
                logger.info("VRRP_Script(%s) %s", config.name, "succeeded" if state.up else f"failed ({outcome})")
                self._report(ScriptStateChanged(name=config.name, command=config.script, up=bool(state.up)))
                self._changed(config.name)
            due, skipped = next_run(due, config.interval, now(), timed_out=outcome.timed_out)
            if skipped:
                logger.info("Script `%s` was still running: %d of its starts left out", config.name, skipped)
            await asyncio.sleep(due - now())

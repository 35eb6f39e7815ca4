"""Equal checks are made once: one task makes them, and others follow it (checker_share_probes)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .connections import AnyChecker
    from .task import CheckerTask


class Sharing:
    """Who leads each group of tasks with equal checkers: same kind, same target, same timing, same everything."""

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self._leaders: dict[tuple[AnyChecker, ...], CheckerTask] = {}

    def join(self, task: CheckerTask) -> CheckerTask:
        """The task that checks for `task` from now on, which may be itself."""
        if not self.enabled or not task.config.timing.share:
            return task
        leader = self._leaders.setdefault(task.checkers, task)
        if leader is not task:
            if leader.followers is None:
                leader.followers = {}
            leader.followers[task.number] = task
            task.leader = leader
        return leader

    def leave(self, task: CheckerTask) -> CheckerTask | None:
        """`task` goes; its heir when it led others."""
        leader, task.leader = task.leader, None
        if leader is not None and leader.followers is not None:
            leader.followers.pop(task.number, None)
            return None
        if self._leaders.get(task.checkers) is not task:
            return None
        followers, task.followers = task.followers, None
        if not followers:
            del self._leaders[task.checkers]
            return None
        _, heir = next(iter(followers.items()))
        del followers[heir.number]
        heir.leader, heir.followers = None, followers
        for each in followers.values():
            each.leader = heir
        self._leaders[task.checkers] = heir
        return heir

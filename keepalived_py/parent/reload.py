"""A reload is a transaction: read aside, compare, hand over, confirmed by all or taken back (config-language.md 10)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from ipc.messages import ConfigLoaded, Peer
from keepalived_py.config.delta import Digests, joined, rebuilt
from keepalived_py.config.diff import diff_config, unchangeable
from keepalived_py.config.model import Config
from keepalived_py.records import dataclass

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Applied:
    """A configuration that every worker holds, and the errors it was accepted with."""

    generation: int
    config: Config
    errors: tuple[str, ...] = ()
    digests: Digests | None = None
    abandoned: Config | None = None
    """One that a worker had begun to move to when it died."""


@dataclass(slots=True)
class _Pending:
    applied: Applied
    waiting: set[Peer]
    """Who has not confirmed."""
    undecided: set[Peer]
    """Who has not said whether it could: as long as there is one nobody moves."""


class ReloadCoordinator:
    """Keeps the generations. Decides; the supervisor forks the loader and talks to the workers."""

    def __init__(self, applied: Applied) -> None:
        self.current = applied
        self._newest = applied.generation
        self._loading = False
        self._again = False
        self._pending: _Pending | None = None
        self.refusal = ""
        """Why the last reload changed nothing; "" when it did."""

    @property
    def busy(self) -> bool:
        return self._loading or self._pending is not None

    @property
    def waits_for(self) -> set[Peer]:
        """Who has yet to answer: whether it could move, as long as somebody has not said that, else that it has."""
        pending = self._pending
        return set() if pending is None else pending.undecided or pending.waiting

    @property
    def target(self) -> Applied:
        """What a worker started now should hold: the configuration being moved to, else the current one."""
        return self.current if self._pending is None else self._pending.applied

    def request(self) -> bool:
        """A reload is wanted; True when the loader is to be started now. Any number while busy become one."""
        if self.busy:
            self.postpone()
            return False
        self._loading = True
        logger.info("Reloading ...")
        return True

    def postpone(self) -> None:
        """A reload is wanted, but not now."""
        self._again = True

    def loaded(self, found: ConfigLoaded) -> Applied | None:
        """What the loader found; the configuration to hand out, or None when the old one stays."""
        self._loading = False
        for path in found.files:
            logger.debug("Opening file '%s'", path)
        news = Counter(found.errors) - Counter(self.current.errors)
        level = logging.ERROR if found.config is None or news else logging.INFO
        for line in found.problems:
            logger.log(level, "%s", line)
        if found.config is None or news:
            self._refuse(self._why(news.total()))
            return None
        try:
            config = rebuilt(self.current.config, found.config)
            digests = None if found.digests is None else joined(self.current.digests, found.digests)
        except ValueError as exc:
            self.failed(str(exc))
            return None
        fixed = ", ".join(unchangeable(self.current.config, config))
        if fixed:
            self._refuse(f"{fixed} cannot change on a reload")
            return None
        logger.info("Configuration changes: %s", diff_config(self.current.config, config))
        self._newest += 1
        return Applied(self._newest, config, found.errors, digests)

    def failed(self, reason: str) -> None:
        """The loader died."""
        self._loading = False
        self._refuse(f"The configuration could not be read: {reason}")

    def unfit(self, reason: str) -> None:
        """What was `loaded` cannot be handed out."""
        self._refuse(f"The new configuration cannot be used: {reason}")

    def handed_out(self, applied: Applied, peers: Iterable[Peer]) -> None:
        """`applied` was sent to `peers`, or they were started with it; all must confirm."""
        waiting = set(peers)
        self._pending = _Pending(applied, waiting, set(waiting))
        self._settle()

    def is_undecided(self, applied: Applied) -> bool:
        """Whether somebody has yet to say that it could move to `applied`."""
        pending = self._pending
        return pending is not None and pending.applied is applied and bool(pending.undecided)

    def accepted(self, peer: Peer, generation: int) -> bool:
        """`peer` could move, or has; True when that was the last one, so that all shall."""
        pending = self._pending
        if pending is None or pending.applied.generation != generation or peer not in pending.undecided:
            return False
        pending.undecided.discard(peer)
        return not pending.undecided

    def confirmed(self, peer: Peer, generation: int) -> None:
        pending = self._pending
        if pending is not None and pending.applied.generation == generation:
            pending.waiting.discard(peer)
            self._settle()

    def refused(self, peer: Peer, reason: str, *, died: bool = False) -> Applied | None:
        """`peer` could not move, or died on the way: what all others must go back to.

        That has a new generation, unless nobody was told to move yet.
        """
        if self._pending is None:
            return None
        self._refuse(f"Reload abandoned: {peer.value}: {reason}")
        pending, self._pending = self._pending, None
        if pending.undecided:
            return self.current
        begun = pending.applied.config if died else None
        self._newest += 1
        self.current = replace(self.current, generation=self._newest, abandoned=begun)
        return self.current

    def take_queued(self) -> bool:
        """Whether a reload was asked for meanwhile, once nothing is under way."""
        if self.busy or not self._again:
            return False
        self._again = False
        return True

    def _why(self, errors: int) -> str:
        """What `errors` new ones mean; without any the file could not be read."""
        if not errors:
            return "The new configuration cannot be used"
        known = " that the old one does not have" if self.current.errors else ""
        return f"New configuration has {errors} error{'' if errors == 1 else 's'}{known}"

    def _refuse(self, why: str) -> None:
        logger.error("%s; the old configuration stays", why)
        self.refusal = why

    def _settle(self) -> None:
        if self._pending is not None and not self._pending.waiting:
            self.current = self._pending.applied
            self._pending = None
            self.refusal = ""
            logger.info("Reload complete, configuration %d", self.current.generation)

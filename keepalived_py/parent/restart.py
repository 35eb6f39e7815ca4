"""When a worker that died is started again (cli-and-signals.md 2). Decides; never sleeps, forks or logs."""

from __future__ import annotations

from dataclasses import field

from keepalived_py.records import dataclass
from keepalived_py.values import ExitCode

PERMANENT = {ExitCode.FATAL: "FATAL", ExitCode.CONFIG: "CONFIG", ExitCode.NO_PERMISSION: "missing permission"}
HEALTHY_AFTER = 60.0
MAX_DELAY = 60.0


@dataclass(frozen=True, slots=True)
class Restart:
    """Start it again after `delay` seconds."""

    delay: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Stop the daemon with exit code `code`; `reason` is what to say of the worker."""

    code: int
    reason: str


@dataclass(slots=True)
class RestartPolicy:
    """Delays 0, 1, 2, 4 and so on to 60 s; a worker that ran for a minute starts the row afresh."""

    respawn: bool = True
    _next: float = field(default=0.0, init=False)
    """Delay after the next death, in seconds."""

    def child_exited(self, code: int, ran_for: float) -> Restart | GiveUp:
        """`code` is the exit code, or minus the signal that ended the worker; `ran_for` in seconds."""
        if code in PERMANENT:
            return GiveUp(code, f"exited with permanent error {PERMANENT[ExitCode(code)]}. Terminating")
        if not self.respawn:
            return GiveUp(0, "died: Exiting")
        delay = 0.0 if ran_for >= HEALTHY_AFTER else self._next
        self._next = min(2 * delay or 1.0, MAX_DELAY)
        return Restart(delay)

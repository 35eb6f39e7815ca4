"""One checker's opinion of its real server: retries and the first run (checker-behaviour.md 2 and 3). Pure."""

from __future__ import annotations

from keepalived_py.config.model import CheckTiming


class CheckerState:
    """Up or down, and when to look next. An alpha checker starts down, any other starts up.

    `patient`: it makes all its retries even the first time and while it is down (SMTP_CHECK).
    """

    step = 0
    """Which of its steps it wants made next; most checkers have one only."""

    def __init__(self, timing: CheckTiming, *, patient: bool = False) -> None:
        self.timing, self.patient = timing, patient
        self.up = not timing.alpha
        self.has_run = False
        self.failures = 0
        """Failures in a row while up; of a patient one since an interval began."""
        self.successes = 0
        """Successes in a row while down."""

    def record(self, success: bool) -> bool:
        """Count one result; True when the checker went up or down by it."""
        first, self.has_run = not self.has_run, True
        if success:
            self.failures = 0
            if self.up:
                return False
            self.successes += 1
            self.up = self.successes >= self.timing.rise
            return self.up
        self.successes = 0
        if not self.up:
            if self.patient:
                self.failures = (self.failures + 1) % (self.timing.retry + 1)
                self.has_run = not first or not self.failures  # a run is over when its retries are
            return False
        self.failures += 1
        # a first run that fails is believed at once: the server was never seen well
        if self.failures <= self.timing.retry and (self.patient or not first):
            return False
        self.failures, self.up = 0, False
        return True

    @property
    def next_delay(self) -> float:
        """Seconds from the end of this run to the next."""
        retrying = self.failures and (self.up or self.patient)
        return self.timing.delay_before_retry if retrying else self.timing.delay_loop

    def adopt(self, other: CheckerState) -> None:
        """Carry on where an equal checker of the previous configuration stood. What only alpha held down is up."""
        self.up = other.up or (self.up and other.timing.alpha and not other.has_run)
        self.has_run = other.has_run
        self.failures = min(other.failures, self.timing.retry)
        self.successes = min(other.successes, self.timing.rise - 1)

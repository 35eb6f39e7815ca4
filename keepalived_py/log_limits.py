"""Of log records that come thick and fast a few pass, and the rest is counted; the newest are kept."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Hashable

from keepalived_py.records import dataclass

from .log_sinks import Aside, record_like

RING_SIZE = 500
EQUAL_RECORDS = 20
"""How many equal records pass in one window."""
VERBATIM = "verbatim"
"""What `extra` has for records that are lines of one text: equal ones count too."""
WINDOW = 1.0
"""Seconds."""
CROWD = "crowd"
"""What `extra` has for records of which others can cause any number that all are different: by what they are counted
together. Of those EQUAL_RECORDS pass in CROWD_WINDOW."""
CROWD_WINDOW = 10.0
"""Seconds."""
WINDOWS_KEPT = 256


class RingHandler(logging.Handler):
    """The newest records, for whoever asks later."""

    def __init__(self) -> None:
        super().__init__()
        self.records: deque[tuple[float, int, str]] = deque(maxlen=RING_SIZE)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append((record.created, record.levelno, record.getMessage()))


@dataclass(slots=True)
class _Window:
    ends: float
    record: logging.LogRecord
    text: str
    count: int = 0


class _Windows:
    """Records that are counted together, each kind for `length` seconds. `words` tell of those that were held back."""

    def __init__(self, length: float, words: str, tell: Callable[[logging.LogRecord], None]) -> None:
        self._length, self._words, self._tell = length, words, tell
        self.open: dict[Hashable, _Window] = {}

    def passes(self, key: Hashable, record: logging.LogRecord, text: str, moment: float) -> bool:
        """Count the record; whether it is one of the first."""
        window = self.open.get(key)
        if window is None:
            if len(self.open) >= WINDOWS_KEPT:
                self._close(next(iter(self.open)))
            window = self.open[key] = _Window(moment + self._length, record, text)
        window.count += 1
        return window.count <= EQUAL_RECORDS

    def tick(self, moment: float) -> None:
        """Tell of what was held back in windows that are over."""
        while self.open:
            key, window = next(iter(self.open.items()))
            if window.ends > moment:
                return
            self._close(key)

    def flush(self) -> None:
        for key in list(self.open):
            self._close(key)

    def _close(self, key: Hashable) -> None:
        window = self.open.pop(key)
        held = window.count - EQUAL_RECORDS
        if held > 0:
            self._tell(record_like(window.record, f"{window.text} ({held} more {self._words})"))


class Limiter(logging.Handler):
    """Passes records on to the sinks. Of equal ones EQUAL_RECORDS in a window; the rest is counted and told later."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.sinks: list[Aside] = []
        self.ring = RingHandler()
        self._clock = clock
        self._crowds = _Windows(CROWD_WINDOW, "of this kind", self._pass)
        self._equal = _Windows(WINDOW, "times", self._pass)
        self._kinds = self._crowds, self._equal
        self.goes_on = False
        """What is forked now takes the place of this process."""

    def emit(self, record: logging.LogRecord) -> None:
        self.tick()
        if not hasattr(record, VERBATIM):
            moment, text = self._clock(), record.getMessage()
            crowd = getattr(record, CROWD, None)
            if crowd is not None and not self._crowds.passes(crowd, record, text, moment):
                return
            if not self._equal.passes((record.levelno, text), record, text, moment):
                return
        self._pass(record)

    def tick(self) -> None:
        """Tell of what was held back in windows that are over."""
        moment = self._clock()
        for each in self._kinds:
            each.tick(moment)

    def flush(self) -> None:
        for each in self._kinds:
            each.flush()

    def forked(self) -> None:
        """In a forked process: what was counted and what is open belongs to the other one, see `going_on`."""
        for each in self._kinds:
            each.open.clear()
        for sink in self.sinks:
            sink.forked()
        if not self.goes_on:
            self.ring.records.clear()
            for sink in self.sinks:
                sink.forget()

    def _pass(self, record: logging.LogRecord) -> None:
        self.ring.handle(record)
        for sink in self.sinks:
            sink.handle(record)

"""Option -L: what grew is named, what did not is not."""

from __future__ import annotations

import gc
import logging
import re
import tracemalloc
from collections.abc import Iterator

import pytest

from keepalived_py import log, log_limits
from keepalived_py.memory_trace import MemoryTrace


@pytest.fixture
def trace(caplog: pytest.LogCaptureFixture) -> Iterator[MemoryTrace]:
    caplog.set_level(logging.INFO)
    made = MemoryTrace(True)
    made.start()
    yield made
    tracemalloc.stop()


def told(caplog: pytest.LogCaptureFixture, when: str) -> tuple[int, int]:
    """Bytes since the last report and since the start."""
    found = [match for text in caplog.messages if (match := re.match(rf"Memory at {when}: (\S+) bytes, (\S+) ", text))]
    assert len(found) == 1
    return int(found[0][1]), int(found[0][2])


def test_a_leak_is_named_and_stays_in_the_sum(trace: MemoryTrace, caplog: pytest.LogCaptureFixture) -> None:
    trace.report("a warm start")
    leak = [bytes(1000) for _ in range(1000)]
    trace.report("reload 2")
    grown, total = told(caplog, "reload 2")
    assert 1_000_000 < grown < 1_200_000
    line = next(text for text in caplog.messages[1:] if __file__ in text)
    assert re.fullmatch(rf"  \+1\d{{6}} bytes in \+100\d blocks: {re.escape(__file__)}:\d+", line)
    trace.report("reload 3")
    grown, total = told(caplog, "reload 3")
    assert abs(grown) < 20_000
    assert total > 1_000_000
    assert len(leak) == 1000


def test_garbage_and_log_records_are_no_growth(trace: MemoryTrace, caplog: pytest.LogCaptureFixture) -> None:
    trace.report("a warm start")
    gc.disable()
    try:
        for _ in range(1000):
            ring: list[object] = [bytes(1000)]
            ring.append(ring)
        for number in range(log_limits.RING_SIZE):
            log.ring.emit(logging.LogRecord("x", logging.INFO, "f", 1, "%1000d", (number,), None))
        trace.report("reload 2")
    finally:
        gc.enable()
        log.ring.records.clear()
    assert abs(told(caplog, "reload 2")[0]) < 20_000


def test_it_costs_nothing_where_nobody_asked(caplog: pytest.LogCaptureFixture) -> None:
    made = MemoryTrace(False)
    made.start()
    made.report("the stop")
    assert not tracemalloc.is_tracing()
    assert caplog.messages == []

"""A log never blocks: a reader that stopped costs records, which are counted."""

from __future__ import annotations

import logging
import os
import time

from keepalived_py.log import StreamHandler


def test_a_reader_that_stopped_costs_records_and_no_time() -> None:
    reading, writing = os.pipe()
    try:
        handler = StreamHandler(writing)
        record = logging.LogRecord("x", logging.INFO, "f", 1, "y" * 500, (), None)
        started = time.monotonic()
        for _ in range(1000):
            handler.emit(record)
        assert time.monotonic() - started < 2
        assert handler.lost > 500
        os.read(reading, 1 << 20)
        lost = handler.lost
        handler.emit(record)
        assert handler.lost == lost
    finally:
        os.close(reading)
        os.close(writing)


def test_a_very_long_record_is_cut() -> None:
    reading, writing = os.pipe()
    try:
        StreamHandler(writing).emit(logging.LogRecord("x", logging.INFO, "f", 1, "y" * 100000, (), None))
        data = os.read(reading, 1 << 20)
        assert len(data) <= 4096
        assert data.endswith(b"\n")
    finally:
        os.close(reading)
        os.close(writing)

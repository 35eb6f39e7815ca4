"""The clock that decides: CLOCK_MONOTONIC, in seconds."""

from __future__ import annotations

import time

now = time.monotonic

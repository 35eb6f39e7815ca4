"""States of a virtual router and the names of its timers."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """RFC 9568 section 6.4 (Initialize, Backup, Active), and keepalived's FAULT."""

    INIT = "INIT"
    BACKUP = "BACKUP"
    MASTER = "MASTER"
    FAULT = "FAULT"


class Timer(Enum):
    """What a deadline is for."""

    ADVERT = "advertisement"
    MASTER_DOWN = "master down"
    PREEMPT_DELAY = "preempt delay"
    SECOND_BURST = "second burst"
    REFRESH = "refresh"
    LOWER_PRIORITY_BURST = "lower priority burst"
    EXTRA = "extra interfaces"

"""While VRRP is dead its addresses stay: for its successor, but not longer than the other routers wait."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import replace
from typing import Any

from ipc.messages import VrrpStateChanged
from keepalived_py.config.model import Config

MASTER, BACKUP = "MASTER", "BACKUP"
PATIENCE = 3
"""Advertisement intervals after which a silent master is given up, without skew (RFC 9568 section 6.1)."""


def masters(reports: Mapping[Any, Any]) -> frozenset[str]:
    """Instances that were MASTER when VRRP died: only they have addresses."""
    return frozenset(
        report.name
        for report in reports.values()
        if isinstance(report, VrrpStateChanged) and report.kind == "INSTANCE" and report.new == MASTER
    )


def patience(config: Config, names: frozenset[str]) -> float:
    """Seconds until a router that hears nothing may be master in place of one of `names`."""
    return PATIENCE * min((each.advert_int for each in config.vrrp.instances if each.name in names), default=0) / 100


def give_up_mastership(reports: MutableMapping[Any, Any]) -> None:
    """The successor is to be told that no instance was MASTER in the end."""
    for key, report in reports.items():
        if isinstance(report, VrrpStateChanged) and report.new == MASTER:
            reports[key] = replace(report, old=MASTER, new=BACKUP, reason="the process died")

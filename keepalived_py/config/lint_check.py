"""Warnings beyond keepalived's about virtual servers."""

from __future__ import annotations

from .model import MiscCheck, RealServer, VirtualServer
from .problems import Severity
from .schema import Context, Draft


def lint_virtual_server(server: VirtualServer, draft: Draft, context: Context) -> None:
    """All warnings about one virtual server and what is below it."""
    total = sum(real.weight for real in server.real_servers)
    needed = server.quorum + server.hysteresis
    if needed > total:
        context.report(
            "quorum-unreachable",
            f"quorum and hysteresis need a weight of {needed}, all real servers together have {total}",
            draft.at("hysteresis" if server.hysteresis else "quorum"),
            0,
            Severity.LINT,
            "with a weight of 0 everywhere the quorum is never gained" if not total else "",
        )
    if server.persistence_timeout and "ops" in server.flags:
        context.report(
            "ops-with-persistence",
            "one-packet scheduling keeps no connections, so persistence has no effect",
            draft.at("persistence_timeout"),
            severity=Severity.LINT,
        )
    heads = {real.head.words[1:3]: real for real in draft.many("real_server")}
    for real in server.real_servers:
        found = heads.get((str(real.address), str(real.port))) or heads.get((str(real.address),))
        if found is not None:
            _lint_checks(real, found, context)


def _lint_checks(real: RealServer, draft: Draft, context: Context) -> None:
    """A check that may take longer than its interval notices a failure later than its interval promises."""
    for check, own in zip(real.checks, draft.many("checks"), strict=False):
        timing = check.timing
        longest = check.timeout if isinstance(check, MiscCheck) else timing.connect_timeout
        if longest > timing.delay_loop:
            context.report(
                "check-longer-than-interval",
                f"one check may take {longest:g} s, but is made every {timing.delay_loop:g} s",
                own.head,
                0,
                Severity.LINT,
            )

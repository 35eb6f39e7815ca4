"""The parts of a configuration that the workers get."""

from __future__ import annotations

from .model import CheckerSlice, Config, VrrpSlice


def vrrp_slice(config: Config, *, checker_runs: bool | None = None) -> VrrpSlice:
    """`checker_runs`: there is a checker worker, which then runs the program of notify_fifo; None: if it has work."""
    if checker_runs is None:
        checker_runs = config.checker.has_work
    return VrrpSlice(
        global_defs=config.global_defs,
        vrrp=config.vrrp,
        track_files=config.track_files,
        bfd_instances=config.bfd_instances,
        runs_notify_fifo_script=not checker_runs,
    )


def checker_slice(config: Config) -> CheckerSlice:
    return CheckerSlice(
        global_defs=config.global_defs,
        checker=config.checker,
        track_files=config.track_files,
        bfd_instances=config.bfd_instances,
    )

"""The parts of a configuration that the workers get."""

from __future__ import annotations

from .model import CheckerSlice, Config, VrrpSlice


def vrrp_slice(config: Config) -> VrrpSlice:
    return VrrpSlice(
        global_defs=config.global_defs,
        vrrp=config.vrrp,
        track_files=config.track_files,
        bfd_instances=config.bfd_instances,
        runs_notify_fifo_script=not config.checker.has_work,
    )


def checker_slice(config: Config) -> CheckerSlice:
    return CheckerSlice(
        global_defs=config.global_defs,
        checker=config.checker,
        track_files=config.track_files,
        bfd_instances=config.bfd_instances,
    )

"""TCP_CHECK: well means it accepts a connection (checker-behaviour.md 4)."""

from __future__ import annotations

from dataclasses import field

from keepalived_py.config.model import TcpCheck
from keepalived_py.records import dataclass

from .connections import ConnectionChecker, Target


@dataclass(frozen=True, slots=True)
class TcpChecker(ConnectionChecker):
    config: TcpCheck
    name: str = "TCP_CHECK"
    target: Target = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", Target(self.config.endpoint))

    @property
    def limit(self) -> float:
        return self.config.timing.connect_timeout

    def dialogue(self) -> None:
        return None

"""From a checker's configuration to the thing that checks."""

from __future__ import annotations

from keepalived_py.config.model import Check, HttpCheck, MiscCheck, RealServer, TcpCheck

from .http import HttpChecker, HttpClient
from .misc import MiscChecker
from .probe import Checker
from .tcp import TcpChecker


class UnknownCheck(Exception):
    """A kind of checker that this worker does not have."""


def make_checker(config: Check, real: RealServer, client: HttpClient) -> Checker:
    """The checker of `config`. Raises UnknownCheck."""
    match config:
        case TcpCheck():
            return TcpChecker(config)
        case HttpCheck():
            return HttpChecker(config, client)
        case MiscCheck():
            return MiscChecker(config, real.weight)
    raise UnknownCheck(type(config).__name__)

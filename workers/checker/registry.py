"""From a checker's configuration to the thing that checks."""

from __future__ import annotations

from dataclasses import dataclass

from keepalived_py.config.model import (
    BfdCheck,
    Check,
    DnsCheck,
    FileCheck,
    HttpCheck,
    MiscCheck,
    PingCheck,
    RealServer,
    SmtpCheck,
    TcpCheck,
    UdpCheck,
)

from .dns import DnsChecker
from .followed import Followed
from .http import HttpChecker, HttpClient
from .misc import MiscChecker
from .ping import PingChecker
from .probe import Checker, CheckNotMade
from .smtp import SmtpChecker
from .tcp import TcpChecker
from .udp import UdpChecker


@dataclass(frozen=True, slots=True)
class MissingChecker:
    """Stands for a kind that this version does not have: it never says anything about the server."""

    name: str
    limit: float = 1.0

    async def check(self) -> None:
        raise CheckNotMade("this version has no such checker")


def make_checker(config: Check, real: RealServer, client: HttpClient, followed: Followed) -> Checker:
    """The checker of `config`."""
    match config:
        case TcpCheck():
            return TcpChecker(config)
        case HttpCheck():
            return HttpChecker(config, client)
        case MiscCheck():
            return MiscChecker(config, real.weight)
        case UdpCheck():
            return UdpChecker(config)
        case DnsCheck():
            return DnsChecker(config)
        case SmtpCheck():
            return SmtpChecker(config)
        case PingCheck():
            return PingChecker(config)
        case FileCheck() | BfdCheck():
            return followed.checker(config)
    return MissingChecker(type(config).__name__)

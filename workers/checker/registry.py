"""From a checker's configuration to the thing that checks."""

from __future__ import annotations

from keepalived_py.config.model import (
    BfdCheck,
    Check,
    DnsCheck,
    FileCheck,
    GrpcCheck,
    HttpCheck,
    MiscCheck,
    PingCheck,
    RealServer,
    SmtpCheck,
    TcpCheck,
    UdpCheck,
)

from .connections import AnyChecker
from .followed import Followed
from .http import HttpChecker, HttpClient
from .http_plain import PlainHttpChecker, is_plain
from .misc import MiscChecker
from .ping import PingChecker
from .smtp import SmtpChecker
from .tcp import TcpChecker
from .udp import UdpChecker


def make_checker(config: Check, real: RealServer, client: HttpClient, followed: Followed) -> AnyChecker:
    """The checker of `config`."""
    match config:
        case TcpCheck():
            return TcpChecker(config)
        case HttpCheck():
            return PlainHttpChecker(config) if is_plain(config) else HttpChecker(config, client)
        case MiscCheck():
            return MiscChecker(config, real.weight)
        case UdpCheck():
            return UdpChecker(config)
        case DnsCheck():
            from .dns import DnsChecker  # dnspython is 3 MB in each process that loads it

            return DnsChecker(config)
        case SmtpCheck():
            return SmtpChecker(config)
        case PingCheck():
            return PingChecker(config)
        case FileCheck() | BfdCheck():
            return followed.checker(config)
        case GrpcCheck():
            from .grpc import GrpcChecker  # h2 is as large

            return GrpcChecker(config, client.tls)

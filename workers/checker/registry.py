"""From a checker's configuration to the thing that checks."""

from __future__ import annotations

from keepalived_py.config.model import (
    BfdCheck,
    Check,
    CheckerConfig,
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
from .http_request import keeps_connection
from .misc import MiscChecker
from .ping import PingChecker
from .smtp import SmtpChecker
from .tcp import TcpChecker
from .udp import UdpChecker

LATE = {DnsCheck: "workers.checker.dns", GrpcCheck: "workers.checker.grpc"}
"""Checkers that bring a library of some MB; HTTP over kept connections is one too."""
SingleCheck = TcpCheck | PingCheck | UdpCheck | SmtpCheck | DnsCheck | GrpcCheck | MiscCheck | FileCheck | BfdCheck


def modules(config: CheckerConfig) -> set[str]:
    """Those that the checkers of `config` are in, as far as they come late."""
    checks = [check for server in config.virtual_servers for real in server.real_servers for check in real.checks]
    found = {LATE[type(check)] for check in checks if type(check) in LATE}
    if any(isinstance(check, HttpCheck) and keeps_connection(check) for check in checks):
        found.add("workers.checker.http_kept")
    return found


def make_checkers(config: Check, real: RealServer, client: HttpClient, followed: Followed) -> tuple[AnyChecker, ...]:
    """The checkers of `config`: one, or one for each url."""
    if isinstance(config, HttpCheck):
        return tuple(_http(config, number, client) for number in range(len(config.urls)))
    return (_single(config, real, client, followed),)


def _http(config: HttpCheck, number: int, client: HttpClient) -> AnyChecker:
    if is_plain(config, number):
        return PlainHttpChecker(config, number)
    if not keeps_connection(config):
        return HttpChecker(config, client, number)
    from .http_kept import KeptHttpChecker  # aiohttp is 10 MB in each process that loads it

    return KeptHttpChecker(config, client, number)


def _single(config: SingleCheck, real: RealServer, client: HttpClient, followed: Followed) -> AnyChecker:
    match config:
        case TcpCheck():
            return TcpChecker(config)
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

            return GrpcChecker(config, client)

"""`genhash`: the digest that a url block wants (cli-and-signals.md 7), by the request and the hash of HTTP_GET itself.

Standard output carries the digest and nothing else; what goes wrong is on standard error and makes the exit code 1.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field
from ipaddress import ip_address
from typing import NoReturn

from keepalived_py.records import dataclass
from workers.checker.http import HttpChecker, HttpClient
from workers.checker.http_answer import HEAD_END, HEAD_LIMIT
from workers.checker.http_plain import Visit
from workers.checker.http_request import request
from workers.checker.probe import Result, probe

from .config.model import CheckTiming, Endpoint, HttpCheck, HttpUrl, TlsSettings

PROGRAM = "genhash"
PROTOCOLS = ("1.0", "1.0c", "1.1")
ANY_STATUS = ((0, 999),)
NO_LIMIT = (1 << 32) / 1e6
"""Seconds; keepalived's timer wraps there, at a little over 71 minutes."""


class BadUsage(Exception):
    """The text says what is wrong with the arguments."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadUsage(message)


def parser() -> argparse.ArgumentParser:
    """The options. `parse_args` raises BadUsage."""
    made = _Parser(prog=PROGRAM, add_help=False, description="Print the MD5 digest of what a web server answers.")
    add = made.add_argument
    add("-s", "--server", type=ip_address, metavar="ADDRESS", help="address of the server, a number", required=True)
    add("-p", "--port", type=_number(1, 65535), metavar="PORT", help="port of the server", required=True)
    add("-u", "--url", metavar="PATH", help="what to ask for, for example /index.html", required=True)
    add("-S", "--use-ssl", action="store_true", help="speak TLS; certificates are not verified")
    add("-I", "--use-sni", action="store_true", help="name the host of -V in the TLS handshake")
    add("-V", "--use-virtualhost", default="", metavar="NAME", help="Host header instead of address and port")
    add("-m", "--fwmark", type=_number(0, (1 << 32) - 1), default=0, metavar="N", help="mark of the packets")
    version = "HTTP version; 1.0c: with Connection: close"
    add("-P", "--protocol", type=str.lower, choices=PROTOCOLS, default="1.0", help=version)
    add("-t", "--timeout", type=_number(1, int(NO_LIMIT)), default=NO_LIMIT, metavar="SECONDS", help="for all of it")
    add("-v", "--verbose", action="store_true", help="show header, body and the time it took as well")
    add("-h", "--help", action="store_true", help="print this text")
    return made


def _number(low: int, high: int) -> Callable[[str], int]:
    """An argument type: a number in a range, in any base Python writes; decimal with leading zeros too."""

    def number(text: str) -> int:
        value = int(text, 10 if text.isdecimal() else 0)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"'{text}' is not from {low} to {high}")
        return value

    return number


class Everything(Visit):
    """Takes every answer and makes its digest; `keep`: all of the body is wanted as well."""

    __slots__ = ("md5", "raw")

    def __init__(self, config: HttpCheck, url: HttpUrl, request: bytes, keep: bool = False) -> None:
        super().__init__(config, url, request, keep)
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.raw = bytearray()
        """As far as it may have the head in it."""

    def hear(self, data: bytes) -> Result | None:
        self.raw += data[: HEAD_LIMIT - len(self.raw)]
        return super().hear(data)

    def take(self, body: bytes) -> None:
        self.md5.update(body)
        if self._keep:
            self.kept += body

    @property
    def head(self) -> list[str]:
        return bytes(self.raw).partition(HEAD_END)[0].decode("latin-1").split("\r\n")


@dataclass(frozen=True, slots=True)
class Fetcher(HttpChecker):
    """HTTP_GET that remembers its visit."""

    keep: bool = False
    visits: list[Everything] = field(default_factory=list)

    def _visit(self, url: HttpUrl, keep: bool) -> Everything:
        self.visits.append(Everything(self.config, url, request(self.config, url), self.keep))
        return self.visits[-1]


def check_of(args: argparse.Namespace) -> HttpCheck:
    """What the arguments ask for, as an HTTP_GET block."""
    sni = bool(args.use_sni and args.use_virtualhost)
    return HttpCheck(
        timing=CheckTiming(connect_timeout=args.timeout),
        endpoint=Endpoint(address=args.server, port=args.port, fwmark=args.fwmark),
        urls=(HttpUrl(path=args.url, virtualhost=args.use_virtualhost, statuses=ANY_STATUS),),
        tls=TlsSettings(sni=sni, sni_name=args.use_virtualhost if sni else "") if args.use_ssl else None,
        http_protocol=args.protocol.upper(),
    )


async def fetch(check: HttpCheck, keep: bool) -> tuple[Everything | None, str]:
    """One request: the answer, and why there is none ("" when there is)."""
    fetcher = Fetcher(check, HttpClient(), keep=keep)
    result = await probe(fetcher)
    return (fetcher.visits[0] if result.success else None), result.failure


def hex_lines(data: bytes) -> Iterator[str]:
    """A dump, sixteen bytes to a line."""
    for at in range(0, len(data), 16):
        part = data[at : at + 16]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        yield f"{at:04d}  {part[:8].hex(' '):<23} - {part[8:].hex(' '):<23}   {shown}"


def main(argv: Sequence[str]) -> int:
    """The exit code: 0, or 1 when there is no digest."""
    options = parser()
    if {"-h", "--help"}.intersection(argv):
        print(options.format_help(), end="")
        return 0
    try:
        args = options.parse_args(argv)
    except BadUsage as exc:
        print(f"{PROGRAM}: {exc}\n{options.format_help()}", end="", file=sys.stderr)
        return 1
    logging.basicConfig(level=logging.INFO, format=f"{PROGRAM}: %(message)s", stream=sys.stderr)
    started = time.perf_counter()
    answer, failure = asyncio.run(fetch(check_of(args), args.verbose))
    if answer is None:
        print(f"{PROGRAM}: {failure}", file=sys.stderr)
        return 1
    if args.verbose:
        print("header:", *answer.head, "", "body:", *hex_lines(bytes(answer.kept)), "", "digest:", sep="\n")
    print(answer.md5.hexdigest())
    if args.verbose:
        print(f"\n{args.url}: {(time.perf_counter() - started) * 1e6:.0f} microseconds")
    return 0

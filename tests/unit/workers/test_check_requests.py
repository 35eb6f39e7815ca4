"""What our own keywords add to the request of a url, and how it is read from the file."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keepalived_py.config.dump import dump
from keepalived_py.config.load import LoadOptions, load
from keepalived_py.config.model import HttpCheck
from tests.unit.workers.helpers_check import PATIENT, against, alone, endpoint
from workers.checker.http import HttpChecker, HttpClient
from workers.checker.http_kept import KeptHttpChecker
from workers.checker.http_plain import PlainHttpChecker
from workers.checker.http_request import SECRETS, host

AnyHttp = PlainHttpChecker | HttpChecker | KeptHttpChecker
KINDS: tuple[type[AnyHttp], ...] = (PlainHttpChecker, HttpChecker, KeptHttpChecker)
FILE = """
virtual_server 192.0.2.1 80 {{
    protocol TCP
    lvs_sched rr
    lvs_method NAT
    real_server 192.0.2.2 80 {{
        HTTP_GET {{
            rise 3
            {check}
            url {{
                path /
                {url}
            }}
        }}
    }}
}}
"""


def configured(tmp_path: Path, url: str = "", check: str = "") -> HttpCheck:
    path = tmp_path / "conf"
    path.write_text(FILE.format(url=url, check=check))
    result = load(str(path), LoadOptions(config_id="me"))
    assert result.config is not None
    assert [each.render() for each in result.problems if each.severity > 1] == []
    again = tmp_path / "dump"
    again.write_text(dump(result.config))
    assert load(str(again), LoadOptions(config_id="me")).config == result.config
    found = result.config.checker.virtual_servers[0].real_servers[0].checks[0]
    assert isinstance(found, HttpCheck)
    return found


def request_of(config: HttpCheck) -> str:
    """The whole request, as a server that answers 200 gets it; all ways of making it say the same.

    Where connections are kept Host is the first header.
    """
    plain, other = (_request_of(config, kind) for kind in KINDS[:2])
    assert plain == other
    newer = replace(config, http_protocol="1.1", keep_alive=True)
    plain, kept = (_request_of(newer, kind) for kind in KINDS[::2])
    assert plain.split("\r\n")[0] == kept.split("\r\n")[0]
    assert sorted(plain.split("\r\n")) == sorted(kept.split("\r\n"))
    return other


def checker(kind: type[AnyHttp], config: HttpCheck, client: HttpClient) -> AnyHttp:
    return PlainHttpChecker(config) if kind is PlainHttpChecker else kind(config, client)


def _request_of(config: HttpCheck, kind: type[AnyHttp]) -> str:
    seen: list[bytes] = []
    ports: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length")), 0)
        seen.append(head + await reader.readexactly(size))
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")

    def make(target: Any, client: Any) -> AnyHttp:
        ports.append(f":{target.port}")
        return checker(kind, replace(config, endpoint=target, timing=PATIENT), client)

    result, _ = against(serve, make)
    assert result.failure == ""
    return seen[0].decode().replace(ports[0], ":PORT")


def test_without_them_the_request_is_keepaliveds(tmp_path: Path) -> None:
    text = request_of(configured(tmp_path))
    assert text.startswith("GET / HTTP/1.0\r\n")
    assert {line.partition(":")[0] for line in text.strip().split("\r\n")[1:]} == {"User-Agent", "Host"}


def test_method_headers_and_body(tmp_path: Path) -> None:
    text = request_of(
        configured(tmp_path, 'method POST\nheader X-Check "a b"\nheader Accept text/plain\nbody "{ping}"')
    )
    assert text.startswith("POST / HTTP/1.0\r\n")
    assert "\r\nX-Check: a b\r\n" in text
    assert "\r\nAccept: text/plain\r\n" in text
    assert text.endswith("\r\n\r\n{ping}")


def test_secrets_come_from_files_read_each_time(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("user:pass\n")
    basic = configured(tmp_path, check=f"basic_auth_file {secret}")
    assert "\r\nAuthorization: Basic dXNlcjpwYXNz\r\n" in request_of(basic)
    secret.write_text("token\n")
    assert "\r\nAuthorization: Bearer token\r\n" in request_of(
        configured(tmp_path, check=f"bearer_token_file {secret}")
    )
    secret.unlink()
    with pytest.raises(AssertionError):
        request_of(basic)


@pytest.mark.parametrize("path", ["/a#b", "/x?", "/x?a#b?c", "/x/../y//z", '"/a\tb c"', "/%zz", "//other/x", "/\u00e9"])
def test_a_path_is_asked_for_as_it_stands(tmp_path: Path, path: str) -> None:
    config = configured(tmp_path)
    literal = path.strip('"')
    found = request_of(replace(config, urls=(replace(config.urls[0], path=literal),)))
    assert found.startswith(f"GET {literal} HTTP/1.0\r\n")


def test_headers_take_the_place_of_ours_and_may_come_twice(tmp_path: Path) -> None:
    text = request_of(configured(tmp_path, "header host other\nheader USER-AGENT me\nheader X 1\nheader X 2"))
    assert sorted(text.strip().split("\r\n")[1:]) == ["USER-AGENT: me", "X: 1", "X: 2", "host: other"]
    text = request_of(configured(tmp_path, "method POST\nbody x\nheader content-type text/plain"))
    assert text.lower().count("content-type") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_that_are_no_characters(tmp_path: Path, kind: type[AnyHttp]) -> None:
    """They are sent as they stand, but by aiohttp, which would leave them out."""
    url = configured(tmp_path, "method POST\nbody x").urls[0]
    for changes in (
        {"body": "\udcff"},
        {"path": "/\udcff"},
        {"virtualhost": "\udcff"},
        {"headers": (("X", "\udcff"),)},
    ):
        config = replace(configured(tmp_path), urls=(replace(url, **changes),))
        got: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, got: list[bytes] = got) -> None:
            got.append(await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(1))
            writer.write(b"HTTP/1.0 200 OK\r\n\r\n")

        def make(to: Any, client: Any, config: HttpCheck = config) -> AnyHttp:
            return checker(kind, replace(config, endpoint=to, timing=PATIENT), client)

        result, _ = against(serve, make)
        if kind is not KeptHttpChecker or "body" in changes:
            assert (result.failure, got[0].count(b"\xff")) == ("", 1)
        else:
            assert (result.made, got) == (False, [])


@pytest.mark.parametrize("auth", ["basic", "bearer"])
@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"user:pass\nX-Evil: 1\n", b"user:pa\0ss", b"user:pass\rx", b"\x7f:"],
    ids=["empty", "blank", "two-lines", "nul", "return", "delete"],
)
def test_a_secret_that_is_none_says_nothing_about_the_server(tmp_path: Path, auth: str, content: bytes) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(content)
    expect_not_made(tmp_path, auth, secret, f"{secret}: is not one line with {SECRETS[auth][0]}")


def test_a_user_without_a_password_is_no_secret(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("user")
    expect_not_made(tmp_path, "basic", secret, f"{secret}: is not one line with USER:PASSWORD")


def test_a_secret_that_is_a_fifo_holds_nobody_up(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    os.mkfifo(secret)
    expect_not_made(tmp_path, "bearer", secret, f"{secret}: is not one line with a token")


def expect_not_made(tmp_path: Path, auth: str, secret: Path, why: str) -> None:
    line = f"basic_auth_file {secret}" if auth == "basic" else f"bearer_token_file {secret}"
    config = configured(tmp_path, check=line)
    for kind in KINDS:
        result, _ = alone(lambda client, kind=kind: checker(kind, config, client))  # type: ignore[misc]
        assert (result.failure, result.made) == (why, False)


def test_the_scope_of_an_address_stays_here() -> None:
    """It may not be in a Host header (RFC 9110 7.2)."""
    assert host(endpoint(80, "fe80::1%eth0")) == "[fe80::1]:80"


def test_rise_is_kept(tmp_path: Path) -> None:
    assert configured(tmp_path).timing.rise == 3


@pytest.mark.parametrize("line", ["header 'a:b' x", "method BREW", "header X", 'header X "a\x01b"'])
def test_nonsense_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "conf"
    path.write_text(FILE.format(url=line, check=""))
    assert load(str(path), LoadOptions(config_id="me")).problems.exit_status()


@pytest.mark.parametrize(
    ("check", "kind", "connections", "header"),
    [
        ("http_protocol 1.1\nkeep_alive", KeptHttpChecker, 1, False),
        ("http_protocol 1.1", HttpChecker, 3, True),
        ("http_protocol 1.0C", HttpChecker, 3, True),
    ],
)
def test_a_connection_is_kept_where_that_is_asked_for(
    tmp_path: Path, check: str, kind: type[AnyHttp], connections: int, header: bool
) -> None:
    config = configured(tmp_path, check=check)
    opened: list[bytes] = []
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(b"")
        while head := await reader.readuntil(b"\r\n\r\n"):
            heads.append(head)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            if b"Connection: close" in head:
                return

    class Thrice:
        """Three runs of one checker."""

        limit = PATIENT.connect_timeout

        def __init__(self, target: Any, client: Any) -> None:
            self.checker = checker(kind, replace(config, endpoint=target, timing=PATIENT), client)

        async def check(self) -> None:
            assert not isinstance(self.checker, PlainHttpChecker)
            for _ in range(3):
                await self.checker.check()

    result, _ = against(serve, Thrice)
    assert result.failure == ""
    assert (len(opened), len(heads)) == (connections, 3)
    assert all((b"Connection: close" in head) is header for head in heads)


@pytest.mark.parametrize(
    ("check", "kind", "connections"),
    [("", HttpChecker, 1), ("http_protocol 1.1\nkeep_alive", KeptHttpChecker, 2)],
)
def test_one_that_hangs_up_has_failed_at_once(
    tmp_path: Path, check: str, kind: type[AnyHttp], connections: int
) -> None:
    """Only a connection that was kept may have gone meanwhile, for which a second one is made."""
    opened: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(await reader.readuntil(b"\r\n\r\n"))

    config = configured(tmp_path, check=check)
    result, _ = against(serve, lambda to, client: checker(kind, replace(config, endpoint=to, timing=PATIENT), client))
    assert result.failure == "/: the server closed the connection"
    assert len(opened) == connections


UNASKED = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" * 1000
INTERIM = b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000


@pytest.mark.parametrize("first", [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b""], ids=["kept", "interim"])
def test_a_connection_on_which_answers_pile_up_is_closed(tmp_path: Path, first: bytes) -> None:
    """Those of a kept one are read by nobody, so they would fill the memory."""
    config = configured(tmp_path, check="http_protocol 1.1\nkeep_alive")
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(first)
        await asyncio.sleep(0.05 if first else 0)
        try:
            for _ in range(500):
                writer.write(UNASKED if first else INTERIM)
                await writer.drain()
                await asyncio.sleep(0)
        except OSError:
            closed.set()

    class AndThen:
        limit = PATIENT.connect_timeout

        def __init__(self, target: Any, client: Any) -> None:
            self.checker = KeptHttpChecker(replace(config, endpoint=target, timing=PATIENT), client)

        async def check(self) -> None:
            try:
                await self.checker.check()
            finally:
                async with asyncio.timeout(4):
                    await closed.wait()

    assert against(serve, AndThen)[0].failure == ("" if first else "/: more answers than anybody asks for")


def test_keep_alive_needs_the_version_that_has_it(tmp_path: Path) -> None:
    path = tmp_path / "conf"
    path.write_text(FILE.format(url="", check="keep_alive"))
    found = load(str(path), LoadOptions(config_id="me"))
    assert ("keep-alive-unused", 9) in [(each.id, each.at and each.at.line) for each in found.problems]

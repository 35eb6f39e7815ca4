"""genhash beside Debian's against nginx on the loopback interface: HTTP, TLS, both families, every option."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from keepalived_py.cli import main
from keepalived_py.genhash import hex_lines

OURS = (str(Path(sys.executable).with_name("keepalived-py")), "-T")
BODIES = {"index.html": b"hello\n", "big": bytes(range(256)) * 2000, "empty": b"", "other/index.html": b"other host\n"}
Run = Callable[..., tuple[int, str, str]]


def free_ports(count: int) -> list[int]:
    socks = [socket.socket() for _ in range(count)]
    try:
        for sock in socks:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in socks]
    finally:
        for sock in socks:
            sock.close()


CONFIG = """
daemon off; pid {d}/pid; error_log {d}/error.log; worker_processes 1; user root;
events {{ worker_connections 64; }}
http {{
    access_log {d}/access.log combined;
    log_format asked '$server_protocol|$http_host|$http_connection|$http_user_agent|$ssl_server_name';
    client_body_temp_path {d}/t1; proxy_temp_path {d}/t2; fastcgi_temp_path {d}/t3; uwsgi_temp_path {d}/t4;
    scgi_temp_path {d}/t5; ssl_certificate {d}/cert.pem; ssl_certificate_key {d}/key.pem;
    server {{ listen 127.0.0.1:{http}; listen [::1]:{http}; listen 127.0.0.1:{https} ssl; listen [::1]:{https} ssl;
        server_name one; root {d}/www; access_log {d}/asked.log asked; }}
    server {{ listen 127.0.0.1:{http}; listen [::1]:{http}; listen 127.0.0.1:{https} ssl; listen [::1]:{https} ssl;
        server_name other; root {d}/www/other; access_log {d}/asked.log asked; }}
}}
"""


class Web:
    """A running nginx."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.http, self.https = free_ports(2)

    @property
    def asked(self) -> str:
        """The last request: protocol|Host|Connection|User-Agent|server name of TLS."""
        time.sleep(0.05)  # written after the answer
        return (self.directory / "asked.log").read_text().splitlines()[-1]


def missing() -> str:
    needed = [name for name in ("nginx", "genhash", "openssl") if shutil.which(name, path=PATH) is None]
    return f"needs {', '.join(needed)}" if needed else ""


PATH = os.environ.get("PATH", "") + ":/usr/sbin"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    if reason := missing():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    made = Web(tmp_path_factory.mktemp("web"))
    root = made.directory
    for name, body in BODIES.items():
        path = root / "www" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    key = ["-keyout", f"{root}/key.pem", "-out", f"{root}/cert.pem"]
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=one", "-days", "2"]
    subprocess.run([*new, *key], check=True, capture_output=True)
    text = CONFIG.format(d=root, http=made.http, https=made.https)
    (root / "conf").write_text(text if os.geteuid() == 0 else text.replace("user root;", ""))
    executable = shutil.which("nginx", path=PATH)
    assert executable
    process = subprocess.Popen([executable, "-c", f"{root}/conf", "-e", f"{root}/error.log"])
    try:
        until = time.monotonic() + 10
        while True:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", made.https), 1).close()
                break
            assert time.monotonic() < until, (root / "error.log").read_text()
            time.sleep(0.05)
        yield made
    finally:
        process.terminate()
        process.wait(10)


def run(command: tuple[str, ...], *words: object) -> tuple[int, str, str]:
    done = subprocess.run([*command, *map(str, words)], capture_output=True, text=True, timeout=20, check=False)
    return done.returncode, done.stdout, done.stderr


def ours(*words: object) -> tuple[int, str, str]:
    return run(OURS, *words)


def theirs(*words: object) -> tuple[int, str, str]:
    return run(("genhash",), *words)


def digest(name: str) -> str:
    return hashlib.md5(BODIES[name], usedforsecurity=False).hexdigest() + "\n"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("tls", [False, True], ids=["http", "tls"])
@pytest.mark.parametrize("name", ["index.html", "big", "empty"])
def test_the_digest_is_theirs(web: Web, address: str, tls: bool, name: str) -> None:
    words = ("-s", address, "-p", web.https if tls else web.http, "-u", f"/{name}", *(["-S"] if tls else []))
    assert ours(*words) == (0, digest(name), "")
    assert theirs(*words)[:2] == (0, digest(name))


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("-P", "1.0"),
        ("-P", "1.0c"),
        ("-P", "1.1"),
        ("-V", "other"),
        ("-V", "other", "-P", "1.1"),
        ("-V", "other", "-S"),
        ("-V", "other", "-S", "-I"),
        ("-S", "-I"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_request_is_theirs(web: Web, address: str, words: tuple[str, ...]) -> None:
    port = web.https if "-S" in words else web.http
    common = ("-s", address, "-p", port, "-u", "/index.html", *words)
    mine = ours(*common)
    asked = web.asked
    assert mine[:2] == theirs(*common)[:2] == (0, digest("other/index.html" if "-V" in words else "index.html"))
    assert asked == web.asked
    assert "KeepAliveClient" in asked
    if "-V" in words:
        assert "|other|" in asked
        assert asked.endswith("|other") == ("-I" in words)


def test_long_options(web: Web) -> None:
    words = ("--server=127.0.0.1", f"--port={web.https}", "--url", "/index.html", "--use-ssl", "--use-sni")
    more = ("--use-virtualhost", "other", "--protocol=1.1", "--timeout", "5", "--fwmark=0")
    assert ours(*words, *more) == (0, digest("other/index.html"), "")
    assert theirs(*words, *more)[1] == digest("other/index.html")


def test_a_page_that_is_not_there_has_a_digest_too(web: Web) -> None:
    words = ("-s", "127.0.0.1", "-p", web.http, "-u", "/nothing")
    assert ours(*words)[:2] == theirs(*words)[:2]
    assert ours(*words)[1] != digest("empty")


def test_verbose(web: Web) -> None:
    code, out, err = ours("-v", "-s", "127.0.0.1", "-p", web.http, "-u", "/index.html")
    assert (code, err) == (0, "")
    assert "HTTP/1.1 200 OK\n" in out
    assert "Content-Length: 6\n" in out
    assert "0000  68 65 6c 6c 6f 0a " in out
    assert digest("index.html") in out
    assert "/index.html: " in out.splitlines()[-1]


@pytest.mark.skipif(os.geteuid() != 0, reason="a mark needs CAP_NET_ADMIN or CAP_NET_RAW")
def test_a_mark(web: Web) -> None:
    words = ("-s", "127.0.0.1", "-p", web.http, "-u", "/index.html", "-m", "0x11")
    assert ours(*words) == (0, digest("index.html"), "")
    code, out, err = run(("setpriv", "--bounding-set=-net_admin,-net_raw", *OURS), *words)
    assert (code, out) == (1, "")
    assert "Operation not permitted" in err


def test_nobody_answers() -> None:
    (port,) = free_ports(1)
    code, out, err = ours("-s", "127.0.0.1", "-p", port, "-u", "/")
    assert (code, out) == (1, "")
    assert err == "genhash: connect: Connection refused\n"


def test_the_time_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        started = time.monotonic()
        code, out, err = ours("-s", "127.0.0.1", "-p", server.getsockname()[1], "-u", "/", "-t", "1")
        assert (code, out, err) == (1, "", "genhash: no answer within 1s\n")
        assert 1 <= time.monotonic() - started < 10


@pytest.mark.skipif(bool(missing()), reason=missing())
@pytest.mark.parametrize("protocol", ["1.0", "1.0C", "1.1"])
def test_a_body_that_is_too_short_has_a_digest(protocol: str) -> None:
    """As it is no failure of a check."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(2):
                client, _ = server.accept()
                with client:
                    client.recv(1000)
                    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\nhello\n")

        threading.Thread(target=serve).start()
        port = server.getsockname()[1]
        words = ("-s", "127.0.0.1", "-p", f"0{port}", "-u", "/", "-P", protocol)
        told = f"genhash: / of 127.0.0.1:{port}: 54 bytes of the Content-Length did not come\n"
        assert ours(*words) == (0, digest("index.html"), told)
        assert theirs(*words)[:2] == (0, digest("index.html"))


GOOD = ("-s", "127.0.0.1", "-p", "1", "-u", "/")


@pytest.mark.parametrize(
    "words",
    [
        (),
        GOOD[:4],
        GOOD[2:],
        (*GOOD[:2], *GOOD[4:]),
        ("-s", "localhost", *GOOD[2:]),
        (*GOOD, "-p", "0"),
        (*GOOD, "-p", "65536"),
        (*GOOD, "-p", "x"),
        (*GOOD, "-m", "-1"),
        (*GOOD, "-m", "4294967296"),
        (*GOOD, "-P", "2"),
        (*GOOD, "-t", "0"),
        (*GOOD, "-z"),
        (*GOOD, "extra"),
    ],
    ids=" ".join,
)
def test_bad_usage_prints_the_help(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-T", *words]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("genhash: ")
    assert "usage: genhash " in said.err
    assert "--use-virtualhost" in said.err


def test_the_ways_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["-T", "-h"], ["--genhash", "--help"], ["-DT", "-h"], ["--genh", "-h"]):
        assert main(words) == 0
        assert capsys.readouterr().out.startswith("usage: genhash ")
    (tmp_path / "genhash").symlink_to(OURS[0])
    code, out, _ = run((str(tmp_path / "genhash"),), "-h")
    assert code == 0
    assert out.startswith("usage: genhash ")


def test_hex_lines() -> None:
    assert list(hex_lines(b"")) == []
    first, second = hex_lines(bytes(range(60, 77)))
    assert first == "0000  3c 3d 3e 3f 40 41 42 43 - 44 45 46 47 48 49 4a 4b   <=>?@ABCDEFGHIJK"
    assert second.split() == ["0016", "4c", "-", "L"]

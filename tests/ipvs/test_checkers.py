"""Every kind of checker at work in one daemon: servers on loopback that are switched off and on again."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.flags
import dns.message
import pytest

from tests.ipvs.compare import OURS, THEIRS, running, table, wait

pytestmark = pytest.mark.ipvs

TIMES = "connect_timeout 2\n retry 0\n warmup 0"
BODY = b"HTTP/1.0 200 OK\r\n\r\nall is well"


class Service:
    """A port on loopback; `serve` answers one connection, or one datagram."""

    def __init__(self, kind: socket.SocketKind, serve: Callable[[socket.socket], None]) -> None:
        self.kind, self.serve, self.port = kind, serve, 0
        self.on()

    def on(self) -> None:
        self.sock = socket.socket(socket.AF_INET, self.kind)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind(("127.0.0.1", self.port))
        self.port = self.sock.getsockname()[1]
        self.sock.settimeout(0.1)
        if self.kind is socket.SOCK_STREAM:
            self.sock.listen(100)
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(self.sock, self.over))
        self.thread.start()

    def off(self) -> None:
        self.over.set()
        self.thread.join()
        self.sock.close()

    def _run(self, sock: socket.socket, over: threading.Event) -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):
                if self.kind is socket.SOCK_DGRAM:
                    self.serve(sock)
                    continue
                connection, _ = sock.accept()
                with connection:
                    connection.settimeout(2)
                    self.serve(connection)


def smtp(connection: socket.socket) -> None:
    connection.sendall(b"220 mx\r\n")
    for answer in (b"250 hello\r\n", b"221 bye\r\n"):
        connection.recv(100)
        connection.sendall(answer)


def http(connection: socket.socket) -> None:
    connection.recv(1000)
    connection.sendall(BODY)


def secure(pem: Path) -> Callable[[socket.socket], None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as wrapped:
            http(wrapped)

    return serve


def echo(sock: socket.socket) -> None:
    data, client = sock.recvfrom(2000)
    sock.sendto(b"\x12\x34" + data[:2], client)


def name_server(sock: socket.socket) -> None:
    data, client = sock.recvfrom(2000)
    answer = dns.message.from_wire(data)
    answer.flags |= dns.flags.QR
    sock.sendto(answer.to_wire(), client)


@pytest.fixture
def services(tmp_path: Path) -> Iterator[dict[str, Service]]:
    pem = tmp_path / "server.pem"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {pem}.key -out {pem}.crt -subj /CN=x -days 30"
    subprocess.run(command.split(), check=True, capture_output=True)
    pem.write_text(Path(f"{pem}.key").read_text() + Path(f"{pem}.crt").read_text())
    stream, datagram = socket.SOCK_STREAM, socket.SOCK_DGRAM
    found = {
        "TCP_CHECK": Service(stream, lambda connection: None),
        "HTTP_GET": Service(stream, http),
        "SSL_GET": Service(stream, secure(pem)),
        "SMTP_CHECK": Service(stream, smtp),
        "UDP_CHECK": Service(datagram, echo),
        "DNS_CHECK": Service(datagram, name_server),
    }
    yield found
    for each in found.values():
        each.off()


INNER = {
    "HTTP_GET": 'url {\n path /\n regex "is w.ll"\n}',
    "SSL_GET": "enable_sni\n virtualhost www.example.com\n url {\n path /\n regex well\n regex_min_offset 7\n}",
    "UDP_CHECK": "require_reply 12x4\n max_reply_length 4",
    "DNS_CHECK": "name example.com\n type A",
}


@pytest.mark.parametrize("program", [OURS, THEIRS])
def test_all_kinds_together(
    program: str, services: dict[str, Service], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    file = tmp_path / "file"
    file.write_text("1\n")
    config = f"track_file number {{\n file {file}\n}}\nvirtual_server 10.0.0.1 80 {{\n delay_loop 1\n lvs_sched rr\n"
    config += " lvs_method NAT\n protocol TCP\n"
    for kind, service in services.items():
        config += f" real_server 127.0.0.1 {service.port} {{\n {kind} {{\n {INNER.get(kind, '')}\n {TIMES}\n }}\n }}\n"
    config += f" real_server 127.0.0.5 1 {{\n PING_CHECK {{\n {TIMES}\n }}\n }}\n"
    config += f" real_server 240.0.0.1 1 {{\n PING_CHECK {{\n {TIMES}\n }}\n }}\n"  # a class that nobody answers for
    config += " real_server 127.0.0.6 1 {\n weight 2\n FILE_CHECK {\n track_file number\n weight 3\n }\n }\n"
    config += " real_server 127.0.0.7 1 {\n FILE_CHECK {\n track_file number\n weight 0\n }\n }\n}\n"
    ports = {f"127.0.0.1:{service.port}": 1 for service in services.values()}
    always = {"127.0.0.5:1": 1}

    def is_table(rows: dict[str, int]) -> bool:
        wanted = [f"-a -t 10.0.0.1:80 -r {row} -m -w {weight}" for row, weight in rows.items()]
        return table() == sorted(["-A -t 10.0.0.1:80 -s rr", *wanted])

    with running(program, config) as daemon:
        wait(lambda: is_table({**ports, **always, "127.0.0.6:1": 5}))
        for service in services.values():
            service.off()
        file.write_text("0\n")
        wait(lambda: is_table({**always, "127.0.0.6:1": 2, "127.0.0.7:1": 1}))
        for kind, service in services.items():
            if program == OURS:
                daemon.said(f"{kind} on service [127.0.0.1]:tcp:{service.port} failed: ")
        for service in services.values():
            service.on()
        file.write_text("-1\n")
        wait(lambda: is_table({**ports, **always, "127.0.0.6:1": 0}))
        assert "could not be made" not in daemon.log
        # the parent has loaded all: what stands on the disk by now may be of another version
        assert "import time: " not in daemon.log.partition("Starting Healthcheck child")[2]
    assert table() == []

"""What checkers say to real servers, and when: ours beside Debian's keepalived, byte for byte.

Both run at once, each with servers of its own that have the same script. What differs on purpose is in
docs/differences.md, and named here.
"""

from __future__ import annotations

import os
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import dns.flags
import dns.message
import pytest

from tests.bench import no_ipvs
from tests.netns.recorder import Datagrams, Echoes, Mail, Recorder, SecureWeb, Visit, Web, gaps
from tests.netns.rig import OURS, THEIRS, Rig, inside

pytestmark = pytest.mark.netns

INTERVAL, RETRY, LONGER = 1.0, 0.35, 1.9
LIMITS = RETRY / 2, (RETRY + INTERVAL) / 2, (INTERVAL + LONGER) / 2
"""Gaps: 0 at once, 1 a retry, 2 the interval, 3 the longer pause."""
BIND_PORT = 15551
Make = Callable[[int, Path], Recorder]


@dataclass(frozen=True)
class Subject:
    """One checker, and the server that it visits."""

    block: str
    make: Make
    real: str = ""
    """What else stands in its real_server."""
    service: str = "plain"
    """Its virtual server."""


# servers ----------------------------------------------------------------------------------------------------------


def web(script: str = "+", address: str = "127.0.0.1") -> Make:
    return lambda port, place: Web(port, address, script)


def secure(script: str = "+") -> Make:
    def make(port: int, place: Path) -> Recorder:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(place / "pem")
        context.load_verify_locations(place / "pem")
        context.verify_mode = ssl.CERT_OPTIONAL
        return SecureWeb(port, context, script)

    return make


def mail(script: str = "+") -> Make:
    return lambda port, place: Mail(port, script=script)


def tcp(script: str = "+") -> Make:
    return lambda port, place: Recorder(port, script=script)


def udp(script: str = "+") -> Make:
    return lambda port, place: Datagrams(port, lambda data, well: b"\x12\x34" if well else b"\xff\xff", script)


def name_server(script: str = "+") -> Make:
    def answer(data: bytes, well: bool) -> bytes:
        message = dns.message.from_wire(data)
        message.flags |= dns.flags.QR
        message.set_rcode(dns.rcode.NOERROR if well else dns.rcode.SERVFAIL)
        return message.to_wire()

    return lambda port, place: Datagrams(port, answer, script)


# checkers ---------------------------------------------------------------------------------------------------------


def url(path: str, *more: str) -> str:
    return "\n".join(("url {", f"path {path}", *more, "}\n"))


def host(level: str) -> str:
    return f"virtualhost {level}.example\n"


TIMES = f"connect_timeout 1\n delay_before_retry {RETRY}\n retry 2\n warmup 0\n"
PATIENT = TIMES.replace(str(RETRY), str(LONGER))
"""Retries take longer than the interval."""
LIFE = "+--+---" + "-" + "++"
"""Well, retries that help, failures that do not, one more while down, and up again."""
TWO = url("/1") + url("/2")
SUBJECTS = {
    "tcp": Subject("TCP_CHECK {\n", tcp("++")),
    "tcp bindto": Subject("TCP_CHECK {\n bindto 127.0.0.9\n", tcp()),
    "tcp bind_port": Subject("TCP_CHECK {\n bindto 127.0.0.9\n bind_port 15551\n", tcp()),
    "tcp bind_port alone": Subject("TCP_CHECK {\n bind_port 15551\n", tcp()),
    "tcp fwmark": Subject("TCP_CHECK {\n fwmark 7\n", tcp()),
    "http": Subject("HTTP_GET {\n" + url("/a?b=%20c"), web(LIFE)),
    "http first failure": Subject("HTTP_GET {\n" + url("/"), web("-++")),
    "http alpha": Subject("HTTP_GET {\n alpha\n" + url("/"), web("--++")),
    "http 1.0C": Subject("HTTP_GET {\n http_protocol 1.0C\n" + url("/"), web()),
    "http 1.1": Subject("HTTP_GET {\n http_protocol 1.1\n" + url("/", host("url")), web()),
    "http virtualhost everywhere": Subject(
        "HTTP_GET {\n" + host("checker") + url("/", host("url")), web(), host("real"), "named"
    ),
    "http virtualhost of checker": Subject("HTTP_GET {\n" + host("checker") + url("/"), web(), host("real"), "named"),
    "http virtualhost of real": Subject("HTTP_GET {\n" + url("/"), web(), host("real"), "named"),
    "http virtualhost of virtual": Subject("HTTP_GET {\n" + url("/"), web(), "", "named"),
    "http v6": Subject("HTTP_GET {\n" + url("/"), web(address="::1"), "", "v6"),
    "http fwmark": Subject("HTTP_GET {\n fwmark 8\n" + url("/"), web()),
    "http two": Subject("HTTP_GET {\n" + TWO, web("++-+---" + "+++")),
    "http two, second fails first": Subject("HTTP_GET {\n" + TWO, web("+-" + "+++")),
    "http two, fast": Subject("HTTP_GET {\n fast_recovery\n" + TWO, web("++-+---" + "+++")),
    "http two, fast, alpha": Subject("HTTP_GET {\n fast_recovery\n alpha\n" + TWO, web("+-+++++")),
    "http long pause": Subject("HTTP_GET {\n" + TWO + PATIENT, web("-+++")),
    "http connect_ip": Subject("HTTP_GET {\n connect_ip 127.0.0.1\n connect_port {port}\n" + url("/"), web()),
    "http pattern": Subject("HTTP_GET {\n http_protocol 1.0C\n" + url("/", "regex well"), web()),
    "https 1.1": Subject("SSL_GET {\n http_protocol 1.1\n" + url("/"), secure()),
    "https": Subject("SSL_GET {\n" + url("/"), secure("+-+")),
    "https sni of url": Subject("SSL_GET {\n enable_sni\n" + url("/", host("url")), secure(), "", "named"),
    "https sni of checker": Subject("SSL_GET {\n enable_sni\n" + host("checker") + url("/"), secure(), "", "named"),
    "https sni of virtual": Subject("SSL_GET {\n enable_sni\n" + url("/"), secure(), "", "named"),
    "https no sni": Subject("SSL_GET {\n" + host("checker") + url("/"), secure(), "", "named"),
    "smtp": Subject("SMTP_CHECK {\n helo_name balancer.example\n", mail(LIFE)),
    "smtp first failure": Subject("SMTP_CHECK {\n", mail("---++")),
    "smtp alpha": Subject("SMTP_CHECK {\n alpha\n", mail("----++")),
    "dns alpha": Subject("DNS_CHECK {\n alpha\n", name_server("--++")),
    "udp alpha": Subject("UDP_CHECK {\n alpha\n require_reply 1234\n", udp("--++")),
    "dns": Subject("DNS_CHECK {\n", name_server(LIFE)),
    "dns first failure": Subject("DNS_CHECK {\n", name_server("-++")),
    "udp": Subject("UDP_CHECK {\n require_reply 1xx4\n max_reply_length 4\n", udp(LIFE)),
    "udp payload": Subject("UDP_CHECK {\n payload 00ff10\n fwmark 9\n", udp()),
    **{
        f"dns {kind} {name}": Subject(f"DNS_CHECK {{\n type {kind}\n name {name}\n", name_server())
        for kind, name in (
            ("A", "www.example.com"),
            ("AAAA", "ns.example.org"),
            ("MX", "example.com."),
            ("TXT", "x" * 63),
        )
    },
    "ping": Subject("PING_CHECK {\n", lambda port, place: Echoes(port, "127.0.0.5")),
}
UNTOLD = "http alpha", "http two, fast, alpha"
"""Of their first failure keepalived 2.2.7 says nothing, though it does of those of other checkers."""
SSL = "SSL {{\n certificate {0}/pem\n key {0}/pem\n ca {0}/pem\n}}\n"
SERVICES = {"plain": "10.0.0.1", "named": "10.0.0.2", "v6": "fd00::1"}


@dataclass
class Seen:
    """What is compared: what was said and how it ended, the gaps between, and what was told after which visit."""

    visits: list[tuple[object, ...]]
    gaps: str
    told: list[str]


def masked(name: str, visit: Visit) -> tuple[object, ...]:
    """Without what is another each time: ports, and ids of DNS."""
    data = visit.data[2:] if name.startswith("dns") else visit.data
    address, port = visit.peer
    return data, visit.end, address, port if port == BIND_PORT else 0, visit.mark, visit.signs


def real_server(subject: Subject, server: Recorder) -> str:
    block, times = subject.block.replace("{port}", str(server.port)), "" if "retry" in subject.block else TIMES
    where = "192.0.2.1 80" if "connect_ip" in block else f"{server.address} {server.port}"
    return f"real_server {where} {{\n{subject.real}{block}\n{times}}}\n}}\n"


class Side:
    """One program with servers of its own; `lines` are those of its FIFO with their times."""

    def __init__(self, rig: Rig, program: str, stack: ExitStack) -> None:
        self.host, self.program, self.place = rig.host(program), program, rig.directory
        self.fifo = rig.directory / f"{program}.fifo"
        os.mkfifo(self.fifo, 0o600)
        self.lines: list[tuple[float, str]] = []
        self.host.run("sysctl", "-qw", "net.ipv4.tcp_fwmark_accept=1")
        with inside(self.host.namespace):
            self.servers = {
                name: subject.make(port, rig.directory) for port, (name, subject) in enumerate(SUBJECTS.items(), 20001)
            }
        for server in self.servers.values():
            stack.callback(server.close)
        for server in self.servers.values():
            stack.callback(server.stop)
        over = threading.Event()
        listener = threading.Thread(target=self._listen, args=(over,))
        listener.start()
        stack.callback(listener.join)
        stack.callback(over.set)

    def configuration(self) -> str:
        text = f"global_defs {{\n lvs_notify_fifo {self.fifo}\n}}\n" + SSL.format(self.place)
        for service, address in SERVICES.items():
            text += f"virtual_server {address} 80 {{\n delay_loop {INTERVAL}\n lvs_sched rr\n lvs_method NAT\n"
            text += f" protocol TCP\n{host('virtual') if service == 'named' else ''}"
            for name, subject in SUBJECTS.items():
                if subject.service == service:
                    text += real_server(subject, self.servers[name])
            text += "}\n"
        return text

    def seen(self, name: str) -> Seen:
        server = self.servers[name]
        visits = server.visits[: len(server.script)]
        events = [(at, line.split()[-1]) for at, line in self.lines if f"]:tcp:{server.port} " in line]
        told = [f"{word} after {sum(visit.at < at for visit in visits)}" for at, word in events]
        return Seen([masked(name, visit) for visit in visits], gaps(visits, LIMITS), told)

    def _listen(self, over: threading.Event) -> None:
        reader = os.open(self.fifo, os.O_RDWR | os.O_NONBLOCK)
        while not over.wait(0.01):
            with suppress(BlockingIOError):
                heard = os.read(reader, 65536).replace(b"\0", b"").decode()
                self.lines += [(time.monotonic(), line) for line in heard.splitlines()]
        os.close(reader)


@pytest.fixture(scope="module")
def sides() -> tuple[Side, Side]:
    """Ours and theirs, after the story."""
    with Rig() as rig, ExitStack() as stack:
        command = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=tester -days 30 -keyout {0}/key -out {0}/crt"
        subprocess.run(command.format(rig.directory).split(), check=True, capture_output=True)
        (rig.directory / "pem").write_text((rig.directory / "key").read_text() + (rig.directory / "crt").read_text())
        both = Side(rig, OURS, stack), Side(rig, THEIRS, stack)
        for side in both:
            words = no_ipvs.command(side.program, rig.directory)
            side.host.start(side.program, side.configuration(), "-C", command=words)
        servers = [server for side in both for server in side.servers.values()]
        rig.wait(lambda: all(server.enough for server in servers), 30, 0.1)
        time.sleep(RETRY)  # for what is told of the last ones
    return both


def test_the_same_is_said_at_the_same_pace_and_told_at_the_same_time(sides: tuple[Side, Side]) -> None:
    different = []
    for name in SUBJECTS:
        ours, theirs = (side.seen(name) for side in sides)
        theirs.told[:0] = ours.told[:1] if name in UNTOLD else []
        different += [f"{name}\n ours   {ours}\n theirs {theirs}"] if ours != theirs else []
    assert not different, "\n".join(different)

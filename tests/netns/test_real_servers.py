"""Checks of servers as they are: nginx with and without TLS, aiosmtpd, dnsmasq; the kernel answers pings.

The checker takes IPVS for granted (tests/bench/no_ipvs.py). Every real server has a checker with alpha, so its first
verdict is in the log, with its reason.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.bench import no_ipvs
from tests.netns.rig import OURS, Daemon, Host, Rig

pytestmark = pytest.mark.netns

NAME = "www.example.com"
NGINX = """daemon off; worker_processes 1; pid {0}/pid; error_log stderr; events {{ }}
http {{ access_log off; reset_timedout_connection on; client_body_temp_path {0}/1; proxy_temp_path {0}/2;
 fastcgi_temp_path {0}/3; uwsgi_temp_path {0}/4; scgi_temp_path {0}/5; root {0};
 server {{ listen 80; listen [::]:80;
  location /well {{ return 200 "all is well"; }}
  location /busy {{ return 503; }}
  location /moved {{ return 301 /well; }}
  location /slow {{ limit_rate 1; }}
  location /reset {{ return 444; }}
  location /packed {{ gzip on; gzip_min_length 1; gzip_types *; }}
 }}
{1}}}
"""
CERTIFICATES = {"good": 8441, "expired": 8442, "wrong-name": 8443, "self-signed": 8444}
DAYS = 30
MD5_OF_WELL = hashlib.md5(b"all is well").hexdigest()


def openssl(place: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=place, check=True, capture_output=True)


def certificates(place: Path) -> None:
    """ca.pem and, by name, the certificates that it signed, and one that nobody did."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    leaf = "basicConstraints=critical,CA:false"
    openssl(place, "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=CA", "-days", str(DAYS))
    for name, host in (("good", NAME), ("wrong-name", "mail.example.com")):
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-addext", f"subjectAltName=DNS:{host}", "-addext", leaf)
        files = ("-keyout", f"{name}.key", "-out", f"{name}.crt")
        openssl(place, "req", "-x509", *key, *files, "-subj", f"/CN={host}", "-days", str(DAYS), *signed)
    alone = ("-keyout", "self-signed.key", "-out", "self-signed.crt", "-addext", f"subjectAltName=DNS:{NAME}")
    openssl(place, "req", "-x509", *key, *alone, "-subj", f"/CN={NAME}", "-days", str(DAYS))
    openssl(place, "req", *key, "-keyout", "expired.key", "-out", "expired.csr", "-subj", f"/CN={NAME}")
    (place / "ca.conf").write_text(
        "[ca]\ndefault_ca = it\n[it]\ndatabase = index\nrand_serial = yes\nnew_certs_dir = .\ndefault_md = sha256\n"
        f"policy = any\nx509_extensions = leaf\n[any]\ncommonName = supplied\n[leaf]\nsubjectAltName = DNS:{NAME}\n"
    )
    (place / "index").touch()
    dates = ("-startdate", "20200101000000Z", "-enddate", "20200201000000Z")
    by = ("-config", "ca.conf", "-cert", "ca.pem", "-keyfile", "ca.key")
    openssl(place, "ca", "-batch", *by, "-in", "expired.csr", "-out", "expired.crt", *dates)


def nginx_config(place: Path) -> str:
    (place / "slow").write_text("x" * 100_000)
    (place / "packed").write_text("all is well\n" * 1000)
    secure = ""
    for name, port in CERTIFICATES.items():
        secure += f" server {{ listen {port} ssl; ssl_certificate {place}/{name}.crt;"
        secure += f" ssl_certificate_key {place}/{name}.key; return 200 well; }}\n"
    return NGINX.format(place, secure)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """A host on which all the servers run."""
    absent = [each for each in ("nginx", "dnsmasq", "openssl") if shutil.which(each) is None]
    if absent:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"needs {' and '.join(absent)}")
    with Rig() as rig, ExitStack() as stack:
        host, place = rig.host("servers"), rig.directory / "servers"
        place.mkdir()
        place.chmod(0o755)
        rig.directory.chmod(0o755)
        certificates(place)
        (place / "conf").write_text(nginx_config(place))
        for command in (
            ("nginx", "-c", str(place / "conf")),
            (sys.executable, "-m", "aiosmtpd", "-n", "-l", "127.0.0.1:25", "-c", "aiosmtpd.handlers.Sink"),
            ("dnsmasq", "-k", "-C", "/dev/null", "--no-resolv", "--no-hosts", "--port=53", "--user=root", "--pid-file=",
             f"--address=/{NAME}/192.0.2.1", "--listen-address=127.0.0.1", "--bind-interfaces"),
        ):  # fmt: skip
            process = subprocess.Popen(
                ["ip", "netns", "exec", host.namespace, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
        rig.wait(lambda: {"25", "53", "80", "8444"} <= listening(host), 20, 0.1)
        yield host


def listening(host: Host) -> set[str]:
    """Ports that somebody listens on."""
    return {line.split()[3].rpartition(":")[2] for line in host.run("ss", "-Hltn").splitlines()}


def url(path: str, *lines: str) -> str:
    return "\n".join(("url {", f"path {path}", *lines, "}"))


def tls(*lines: str) -> str:
    return "\n".join((*lines, url("/")))


VERIFY = ("enable_sni", f"virtualhost {NAME}", "verify", f"expected_name {NAME}", "ca {place}/ca.pem")
WELL = ""
"""No reason to fail."""
CHECKS: dict[str, tuple[str, int, str, str]] = {
    # kind, port, inner lines, pattern of the reason it fails for
    "http": ("HTTP_GET", 80, url("/well", "status_code 200"), WELL),
    "http 1.1": ("HTTP_GET", 80, "http_protocol 1.1\n" + url("/well", "regex ^all.is"), WELL),
    "http digest": ("HTTP_GET", 80, url("/well", f"digest {MD5_OF_WELL}"), WELL),
    "http wrong digest": ("HTTP_GET", 80, url("/well", "digest " + "0" * 32), f"digest {MD5_OF_WELL}"),
    "http several": ("HTTP_GET", 80, url("/well") + "\n" + url("/busy", "status_code 500-599"), WELL),
    "http status": ("HTTP_GET", 80, url("/busy"), "/busy: status 503"),
    "http moved": ("HTTP_GET", 80, url("/moved"), "/moved: status 301"),
    "http moved is fine": ("HTTP_GET", 80, url("/moved", "status_code 301"), WELL),
    "http missing": ("HTTP_GET", 80, url("/nothing"), "/nothing: status 404"),
    "http pattern": ("HTTP_GET", 80, url("/well", "regex sick"), "the pattern is not in"),
    "http large": ("HTTP_GET", 80, url("/packed", "regex well"), WELL),
    "http slow": ("HTTP_GET", 80, url("/slow"), "no answer within 2s"),
    "http reset": ("HTTP_GET", 80, url("/reset"), "Connection reset by peer"),
    "http to nobody": ("HTTP_GET", 81, url("/"), "connect: Connection refused"),
    "http to smtp": ("HTTP_GET", 25, url("/"), "no answer in HTTP|no answer within|closed"),
    "https": ("SSL_GET", 8441, tls(), WELL),
    "https verified": ("SSL_GET", 8441, tls(*VERIFY), WELL),
    "https soon over": ("SSL_GET", 8441, tls(*VERIFY, "warn_days 60"), WELL),
    "https expired": ("SSL_GET", 8442, tls(*VERIFY), "TLS: .*expired"),
    "https expired, unverified": ("SSL_GET", 8442, tls(), WELL),
    "https another name": ("SSL_GET", 8443, tls(*VERIFY), "TLS: .*(mismatch|match|not valid for)"),
    "https self-signed": ("SSL_GET", 8444, tls(*VERIFY), "TLS: .*self.signed"),
    "https self-signed, unverified": ("SSL_GET", 8444, tls(), WELL),
    "https to http": ("SSL_GET", 80, tls(), "TLS: "),
    "https to nobody": ("SSL_GET", 81, tls(), "connect: Connection refused"),
    "smtp": ("SMTP_CHECK", 25, "helo_name balancer.example.com", WELL),
    "smtp to http": ("SMTP_CHECK", 80, "", "greeting|no answer within"),
    "smtp to nobody": ("SMTP_CHECK", 81, "", "connect: Connection refused"),
    "dns": ("DNS_CHECK", 53, f"type A\n name {NAME}", WELL),
    "dns refused": ("DNS_CHECK", 53, "type A\n name other.example.org", "answer REFUSED"),
    "dns to nobody": ("DNS_CHECK", 54, "", "Connection refused"),
    "tcp": ("TCP_CHECK", 25, "", WELL),
    "tcp to nobody": ("TCP_CHECK", 81, "", "connect: Connection refused"),
    "udp": ("UDP_CHECK", 53, "", WELL),
    "udp to nobody": ("UDP_CHECK", 54, "", "Connection refused"),
    "ping": ("PING_CHECK", 0, "", WELL),
}


def configuration(place: Path) -> str:
    text = f"virtual_server 10.0.0.1 80 {{\n delay_loop 60\n warmup 0\n alpha\n retry 0\n {BALANCING}\n"
    for number, (kind, port, inner, _) in enumerate(CHECKS.values(), 1):
        port_line = f"connect_port {port}" if port else ""
        text += f" real_server 192.0.2.{number} 80 {{\n {kind} {{\n connect_ip 127.0.0.1\n {port_line}\n"
        text += f" connect_timeout 2\n log_all_failures\n {inner.replace('{place}', str(place))}\n }}\n }}\n"
    return text + "}\n"


BALANCING = "lvs_sched rr\n lvs_method NAT\n protocol TCP"
VERDICT = re.compile(r"(\w+) on service \[192\.0\.2\.(\d+)\]:tcp:80 (?:succeeded|failed: (.*))")


def verdicts(daemon: Daemon) -> dict[str, str]:
    """The first reason of each, "" for one that succeeded."""
    found: dict[str, str] = {}
    names = list(CHECKS)
    for _, number, reason in VERDICT.findall(daemon.log):
        found.setdefault(names[int(number) - 1], reason)
    return found


def test_every_server_gets_its_verdict(host: Host) -> None:
    place = host.rig.directory / "servers"
    command = no_ipvs.command(OURS, host.rig.directory)
    daemon = host.start(OURS, configuration(place), "-C", command=command)
    host.rig.wait(lambda: len(verdicts(daemon)) == len(CHECKS), 30, 0.1)
    found = verdicts(daemon)
    wrong = {
        name: found[name]
        for name, (_, _, _, reason) in CHECKS.items()
        if not (re.search(reason, found[name]) if reason else found[name] == "")
    }
    assert wrong == {}
    assert re.search(r"certificate .*(29|30) days", daemon.log)
    assert daemon.stop() == 0

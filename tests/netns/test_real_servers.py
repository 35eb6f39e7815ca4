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
{2} }}
{1}}}
"""
ONLY = {
    "host": ("host", NAME),
    "address": ("host", "127.0.0.1"),
    "from": ("remote_addr", "127.0.0.9"),
    "port": ("remote_port", "5555"),
    "1.0": ("server_protocol:$http_connection", "HTTP/1.0:"),
    "1.0C": ("server_protocol:$http_connection", "HTTP/1.0:close"),
    "1.1": ("server_protocol:$http_connection", "HTTP/1.1:close"),
    "agent": ("http_user_agent", "KeepAliveClient"),
    "post": ("request_method:$http_x_probe:$content_length", "POST:yes:4"),
    "basic": ("http_authorization", "Basic dXNlcjpwYXNz"),
    "bearer": ("http_authorization", "Bearer s3cret"),
    "second": ("connection_requests", "2"),
}
"""Paths below /only that answer 200 when a variable of nginx is that, and 403 else."""
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
    mutual = f"ssl_certificate {place}/good.crt; ssl_certificate_key {place}/good.key;"
    mutual += f" ssl_client_certificate {place}/ca.pem; ssl_verify_client optional;"
    secure += (
        f" server {{ listen 8445 ssl; {mutual} location /ours {{ {only('ssl_client_s_dn', 'CN=mail.example.com')} }}"
    )
    secure += f" location /sni {{ {only('ssl_server_name', NAME)} }}"
    secure += f" location /no-sni {{ {only('ssl_server_name', '')} }} }}\n"
    locations = (f"  location = /only/{path} {{ {only(*pair)} }}\n" for path, pair in ONLY.items())
    return NGINX.format(place, secure, "".join(locations))


def only(variable: str, value: str) -> str:
    return f'set $seen "${variable}"; if ($seen != "{value}") {{ return 403; }} return 200 "all is well";'


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """A host on which all the servers run."""
    absent = [each for each in ("nginx", "dnsmasq", "openssl", "nft") if shutil.which(each) is None]
    if absent:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"needs {' and '.join(absent)}")
    with Rig() as rig, ExitStack() as stack:
        host, place = rig.host("servers"), rig.directory / "servers"
        place.mkdir()
        place.chmod(0o755)
        rig.directory.chmod(0o755)
        certificates(place)
        (place / "basic").write_text("user:pass\n")
        (place / "bearer").write_text("s3cret\n")
        host.run("ip", "link", "add", "other", "type", "veth", "peer", "name", "another")
        host.run("ip", "link", "set", "other", "up")
        refusing = "table ip t { chain out { type filter hook output priority 0; meta mark 7 reject; }; }"
        host.run("nft", refusing)
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


def several(*urls: str) -> str:
    """Asked for one right after the other."""
    return "\n".join(("fast_recovery", *urls))


def visit(path: str, *lines: str) -> str:
    """A url below /only."""
    return url(f"/only/{path}", *lines)


VERIFY = ("enable_sni", f"virtualhost {NAME}", "verify", f"expected_name {NAME}", "ca {place}/ca.pem")
QUERY = "payload 0bad01000001000000000000" + "03777777076578616d706c6503636f6d00" + "00010001\n"
"""For the address of www.example.com."""
WELL = ""
"""No reason to fail."""
CHECKS: dict[str, tuple[str, int, str, str]] = {
    # kind, port, inner lines, pattern of the reason it fails for
    "http": ("HTTP_GET", 80, url("/well", "status_code 200"), WELL),
    "http 1.1": ("HTTP_GET", 80, "http_protocol 1.1\n" + url("/well", "regex ^all.is"), WELL),
    "http digest": ("HTTP_GET", 80, url("/well", f"digest {MD5_OF_WELL}"), WELL),
    "http wrong digest": ("HTTP_GET", 80, url("/well", "digest " + "0" * 32), f"digest {MD5_OF_WELL}"),
    "http several": ("HTTP_GET", 80, several(url("/well"), url("/busy", "status_code 500-599")), WELL),
    "http status": ("HTTP_GET", 80, url("/busy"), "/busy: status 503"),
    "http moved": ("HTTP_GET", 80, url("/moved"), "/moved: status 301"),
    "http moved is fine": ("HTTP_GET", 80, url("/moved", "status_code 301"), WELL),
    "http missing": ("HTTP_GET", 80, url("/nothing"), "/nothing: status 404"),
    "http pattern": ("HTTP_GET", 80, url("/well", "regex sick"), "the pattern is not in"),
    "http large": ("HTTP_GET", 80, url("/packed", "regex well"), WELL),
    "http virtualhost": ("HTTP_GET", 80, f"virtualhost other\n{visit('host', f'virtualhost {NAME}')}", WELL),
    "http virtualhost of the checker": ("HTTP_GET", 80, f"virtualhost {NAME}\n{visit('host')}", WELL),
    "http no virtualhost": ("HTTP_GET", 80, visit("address"), WELL),
    "http another virtualhost": ("HTTP_GET", 80, visit("host"), "/only/host: status 403"),
    "http bindto": ("HTTP_GET", 80, f"bindto 127.0.0.9\n{visit('from')}", WELL),
    "http bindto, patterns": ("HTTP_GET", 80, f"bindto 127.0.0.9\n{visit('from', 'regex well')}", WELL),
    "http no bindto": ("HTTP_GET", 80, visit("from"), "status 403"),
    "http bind_port": ("HTTP_GET", 80, f"bindto 127.0.0.8\nbind_port 5555\n{visit('port')}", WELL),
    "http bind_if": ("HTTP_GET", 80, f"bind_if lo\n{visit('address')}", WELL),
    "tcp bind_if": ("TCP_CHECK", 80, "bind_if other", "connect: |no answer within"),
    "tcp fwmark": ("TCP_CHECK", 80, "fwmark 7", "connect: Connection refused"),
    "tcp another fwmark": ("TCP_CHECK", 80, "fwmark 8", WELL),
    "http fwmark, patterns": ("HTTP_GET", 80, "fwmark 7\n" + url("/well", "regex well"), "Connection refused"),
    "http fwmark": ("HTTP_GET", 80, "fwmark 7\n" + url("/well"), "Connection refused"),
    "dns fwmark": ("DNS_CHECK", 53, "fwmark 7", "send: Operation not permitted"),
    "smtp fwmark": ("SMTP_CHECK", 25, "fwmark 7", "Connection refused"),
    "ping fwmark": ("PING_CHECK", 0, "fwmark 7", "."),
    "http over IPv6": ("HTTP_GET", 80, "connect_ip ::1\n" + url("/well", "regex well"), WELL),
    "tcp over IPv6": ("TCP_CHECK", 80, "connect_ip ::1", WELL),
    "ping over IPv6": ("PING_CHECK", 0, "connect_ip ::1", WELL),
    "http 1.0, the line": ("HTTP_GET", 80, "http_protocol 1.0\n" + visit("1.0"), WELL),
    "http 1.0C, the line": ("HTTP_GET", 80, "http_protocol 1.0C\n" + visit("1.0C"), WELL),
    "http 1.1, the line": ("HTTP_GET", 80, "http_protocol 1.1\n" + visit("1.1"), WELL),
    "http agent": ("HTTP_GET", 80, visit("agent"), WELL),
    "http method, header, body": (
        "HTTP_GET",
        80,
        visit("post", "method POST", "header X-Probe yes", "body ping"),
        WELL,
    ),
    "http method": ("HTTP_GET", 80, url("/well", "method HEAD", "status_code 200"), WELL),
    "http basic": ("HTTP_GET", 80, "basic_auth_file {place}/basic\n" + visit("basic"), WELL),
    "http bearer": ("HTTP_GET", 80, "bearer_token_file {place}/bearer\n" + visit("bearer"), WELL),
    "http no secret": ("HTTP_GET", 80, visit("bearer"), "status 403"),
    "http kept": ("HTTP_GET", 80, "http_protocol 1.1\nkeep_alive\n" + several(url("/well"), visit("second")), WELL),
    "http not kept": ("HTTP_GET", 80, "http_protocol 1.1\n" + several(url("/well"), visit("second")), "status 403"),
    "http statuses": ("HTTP_GET", 80, url("/busy", "status_code 200 301-302 500-503"), WELL),
    "http pattern, from": ("HTTP_GET", 80, url("/well", "regex l", "regex_min_offset 9"), WELL),
    "http pattern, not from": ("HTTP_GET", 80, url("/well", "regex all", "regex_min_offset 1"), "is not in the body"),
    "http pattern, up to": ("HTTP_GET", 80, url("/well", "regex is", "regex_max_offset 4"), WELL),
    "http pattern, not up to": ("HTTP_GET", 80, url("/well", "regex is", "regex_max_offset 3"), "is not in the body"),
    "http pattern inverted": ("HTTP_GET", 80, url("/well", "regex well", "regex_no_match"), "is in the body"),
    "http pattern, its options": ("HTTP_GET", 80, url("/well", "regex WELL", "regex_options caseless"), WELL),
    "http last of several": ("HTTP_GET", 80, several(url("/well"), url("/busy")), "/busy: status 503"),
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
    "https with our certificate": ("SSL_GET", 8445, url("/ours"), WELL),
    "https sni": ("SSL_GET", 8445, f"enable_sni\nvirtualhost {NAME}\n" + url("/sni"), WELL),
    "https sni_name": ("SSL_GET", 8445, f"enable_sni\nsni_name {NAME}\n" + url("/sni", "virtualhost other"), WELL),
    "https without sni": ("SSL_GET", 8445, f"virtualhost {NAME}\n" + url("/no-sni"), WELL),
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
    "udp answer": ("UDP_CHECK", 53, QUERY + "require_reply 0bad8xx00001xxxx\nmax_reply_length 100", WELL),
    "udp another answer": (
        "UDP_CHECK",
        53,
        QUERY + "require_reply 0bad0xx0\nmax_reply_length 100",
        "answer differs at byte 2",
    ),
    "udp long answer": (
        "UDP_CHECK",
        53,
        QUERY + "require_reply 0bad\nmax_reply_length 12",
        "answer of 13 or more bytes",
    ),
    "udp short answer": (
        "UDP_CHECK",
        53,
        QUERY + "require_reply 0bad\nmin_reply_length 90\nmax_reply_length 100",
        "answer of .. bytes",
    ),
    "udp no answer": ("UDP_CHECK", 53, "payload 00\nrequire_reply", "no answer within 2s"),
    "udp to nobody": ("UDP_CHECK", 54, "", "Connection refused"),
    "ping": ("PING_CHECK", 0, "", WELL),
}


def configuration(place: Path) -> str:
    text = f"SSL {{\n certificate {place}/wrong-name.crt\n key {place}/wrong-name.key\n}}\n"
    text += f"virtual_server 10.0.0.1 80 {{\n delay_loop 60\n warmup 0\n alpha\n retry 0\n {BALANCING}\n"
    for number, (kind, port, inner, _) in enumerate(CHECKS.values(), 1):
        ip_line = "" if "connect_ip" in inner else "connect_ip 127.0.0.1"
        port_line = f"connect_port {port}" if port else ""
        text += f" real_server 192.0.2.{number} 80 {{\n {kind} {{\n {ip_line}\n {port_line}\n"
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

"""Virtual servers and what belongs to them, as text that reads back as the same (see dump.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address
from typing import Any

from keepalived_py.values import Protocol

from .dump_words import block, escaped, line, number, script_lines, script_words
from .model import (
    BfdCheck,
    Check,
    CheckTiming,
    DnsCheck,
    Endpoint,
    FileCheck,
    Forwarding,
    GroupRange,
    GrpcCheck,
    HttpCheck,
    HttpUrl,
    MiscCheck,
    PingCheck,
    RealServer,
    Script,
    SmtpCheck,
    SslSettings,
    TcpCheck,
    TlsSettings,
    UdpCheck,
    VirtualServer,
    VirtualServerGroup,
)

Lines = Iterable[str]


def ssl_lines(ssl: SslSettings) -> Lines:
    names = ("password", "ca", "certificate", "key")
    return block("SSL", (line(name, getattr(ssl, name)) for name in names if getattr(ssl, name)))


def server_group_lines(group: VirtualServerGroup) -> Lines:
    return block(line("virtual_server_group", group.name), map(_range, group.entries))


def _range(entry: GroupRange) -> str:
    if entry.first is None:
        family = {4: ("inet",), 6: ("inet6",)}.get(entry.family, ())
        return line("fwmark", number(entry.fwmark), *family)
    text = str(entry.first) if entry.first == entry.last else f"{entry.first}-{entry.last}"
    return line(text, *((number(entry.port),) if entry.port else ()))


def virtual_server_lines(server: VirtualServer) -> Lines:
    return block(line("virtual_server", *_service(server)), _server(server))


def _service(server: VirtualServer) -> Iterator[str]:
    key = server.key
    if key.group:
        yield from ("group", key.group)
    elif key.address is None:
        yield from ("fwmark", number(key.fwmark))
    else:
        yield str(key.address)
        if key.port:
            yield number(key.port)


def _server(server: VirtualServer) -> Iterator[str]:
    key = server.key
    if key.address is None and key.family:
        yield line("ip_family", "inet" if key.family == 4 else "inet6")
    if key.protocol is not Protocol.NONE:
        yield line("protocol", key.protocol.value.upper())
    yield line("lvs_sched", server.scheduler)
    yield from server.flags
    yield line("lvs_method", *_forwarding(server.forwarding))
    if server.persistence_timeout:
        yield line("persistence_timeout", number(server.persistence_timeout))
    if server.persistence_granularity is not None:
        mask = server.persistence_granularity
        yield line("persistence_granularity", str(IPv4Address(mask)) if key.family == 4 else number(mask))
    if server.persistence_engine:
        yield line("persistence_engine", server.persistence_engine)
    yield line("quorum", number(server.quorum))
    yield line("hysteresis", number(server.hysteresis))
    yield from _scripts(server, "quorum_up", "quorum_down")
    yield from (name for name in ("alpha", "omega", "ha_suspend") if getattr(server, name))
    yield _alert(server)
    yield from _texts(server, "virtualhost", "snmp_name")
    yield from _odd_timeout(server)
    yield from _sorry(server)
    for real in server.real_servers:
        port = (number(real.port),) if real.port else ()
        yield from block(line("real_server", str(real.address), *port), _real(real))


def _odd_timeout(server: VirtualServer) -> Lines:
    """A MISC_CHECK without misc_timeout takes the virtual server's delay_loop, which may be no whole number."""
    for real in server.real_servers:
        for check in real.checks:
            if isinstance(check, MiscCheck) and not _is_misc_timeout(check.timeout):
                return [line("delay_loop", number(check.timeout))]
    return []


def _is_misc_timeout(seconds: float) -> bool:
    return seconds == int(seconds) and 1 <= seconds <= 4294


def _forwarding(found: Forwarding) -> Iterator[str]:
    yield found.method
    if found.method == "TUN":
        yield from ("type", found.tunnel_type)
        if found.tunnel_port:
            yield from ("port", number(found.tunnel_port))
        yield found.tunnel_csum


def _scripts(holder: Any, *names: str) -> Iterator[str]:
    for name in names:
        script: Script | None = getattr(holder, name)
        if script is not None:
            yield f"{name} {script_words(script)}"


def _texts(holder: Any, *names: str) -> Iterator[str]:
    for name in names:
        if getattr(holder, name):
            yield line(name, getattr(holder, name))


def _bool(name: str, value: bool) -> str:
    return line(name, "yes" if value else "no")


def _alert(holder: VirtualServer | RealServer) -> str:
    return _bool("smtp_alert", holder.smtp_alert)


def _sorry(server: VirtualServer) -> Iterator[str]:
    sorry = server.sorry_server
    if sorry is None:
        return
    yield line("sorry_server", str(sorry.address), *((number(sorry.port),) if sorry.port else ()))
    yield line("sorry_server_lvs_method", *_forwarding(sorry.forwarding))
    if sorry.inhibit:
        yield "sorry_server_inhibit"


def _real(real: RealServer) -> Iterator[str]:
    yield line("weight", number(real.weight))
    yield line("lvs_method", *_forwarding(real.forwarding))
    for name in ("uthreshold", "lthreshold"):
        if getattr(real, name):
            yield line(name, number(getattr(real, name)))
    yield _bool("inhibit_on_failure", real.inhibit_on_failure)
    yield from _scripts(real, "notify_up", "notify_down")
    yield _alert(real)
    yield from _texts(real, "virtualhost", "snmp_name")
    for check in real.checks:
        name, write = _NAMES[type(check)]
        yield from block(name if not _is_tls(check) else "SSL_GET", write(check, real))


def _is_tls(check: Check) -> bool:
    return isinstance(check, HttpCheck) and check.tls is not None


# checkers -----------------------------------------------------------------------------------------------------------


def _timing(timing: CheckTiming) -> Iterator[str]:
    for name in ("delay_loop", "warmup", "retry", "delay_before_retry"):
        yield line(name, number(getattr(timing, name)))
    yield _bool("alpha", timing.alpha)
    yield _bool("log_all_failures", timing.log_all_failures)
    if timing.rise != 1:
        yield line("rise", number(timing.rise))


def _network(check: Any, real: RealServer) -> Iterator[str]:
    endpoint: Endpoint = check.endpoint
    if endpoint.address != real.address:
        yield line("connect_ip", str(endpoint.address))
    if endpoint.port != real.port:
        yield line("connect_port", number(endpoint.port))
    if endpoint.bindto is not None:
        yield line("bindto", str(endpoint.bindto))
    for name in ("bind_port", "fwmark"):
        if getattr(endpoint, name):
            yield line(name, number(getattr(endpoint, name)))
    yield from _texts(endpoint, "bind_if")
    yield line("connect_timeout", number(check.timing.connect_timeout))
    yield from _timing(check.timing)


def _smtp(check: SmtpCheck, real: RealServer) -> Iterator[str]:
    yield from _network(check, real)
    yield line("helo_name", check.helo_name)


def _dns(check: DnsCheck, real: RealServer) -> Iterator[str]:
    yield from _network(check, real)
    yield line("type", check.type)
    yield line("name", check.name)


def _udp(check: UdpCheck, real: RealServer) -> Iterator[str]:
    yield from _network(check, real)
    if check.payload is not None:
        yield line("payload", check.payload.hex())
    if check.require_reply:
        yield line("require_reply", *_pattern(check.reply, check.reply_mask))
    yield line("min_reply_length", number(check.min_reply_length))
    yield line("max_reply_length", number(check.max_reply_length))


def _pattern(reply: bytes | None, mask: bytes | None) -> Iterator[str]:
    if reply is not None and mask is not None:
        yield "".join("x" if wild == "0" else digit for digit, wild in zip(reply.hex(), mask.hex(), strict=True))


def _http(check: HttpCheck, real: RealServer) -> Iterator[str]:
    yield from _network(check, real)
    yield line("http_protocol", check.http_protocol)
    if check.fast_recovery:
        yield "fast_recovery"
    if check.keep_alive:
        yield "keep_alive"
    if check.tls is not None:
        yield from _tls(check.tls)
    if check.auth_kind:
        yield line("basic_auth_file" if check.auth_kind == "basic" else "bearer_token_file", check.auth_file)
    for url in check.urls:
        yield from block("url", _url(url))


def _tls(tls: TlsSettings) -> Iterator[str]:
    if tls.sni:
        yield line("sni_name", *tls.sni_name.split()) if tls.sni_name else "enable_sni"
    yield from (["verify"] if tls.verify else [])
    yield from _texts(tls, "ca", "expected_name")
    yield from ([line("warn_days", number(tls.warn_days))] if tls.warn_days else [])


def _grpc(check: GrpcCheck, real: RealServer) -> Iterator[str]:
    yield from _network(check, real)
    yield from _texts(check, "service")
    if check.tls is not None:
        yield "tls"
        yield from _tls(check.tls)


def _url(url: HttpUrl) -> Iterator[str]:
    yield line("path", url.path)
    yield from _texts(url, "virtualhost", "digest")
    yield line("status_code", *(number(low) if low == high else f"{low}-{high}" for low, high in url.statuses))
    if url.regex:
        yield f'regex "{escaped(url.regex)}"'
    if url.regex_no_match:
        yield "regex_no_match"
    if url.regex_options:
        yield line("regex_options", *url.regex_options)
    if url.regex_min_offset:
        yield line("regex_min_offset", number(url.regex_min_offset))
    if url.regex_max_offset is not None:
        yield line("regex_max_offset", number(url.regex_max_offset))
    if url.regex_stack is not None:
        yield line("regex_stack", *map(number, url.regex_stack))
    if url.method != "GET":
        yield line("method", url.method)
    yield from (line("header", *each) for each in url.headers)
    yield from _texts(url, "body")
    if url.tls_compliant:
        yield "tls_compliant"


def _misc(check: MiscCheck, real: RealServer) -> Iterator[str]:
    yield from _timing(check.timing)
    yield from script_lines("misc_path", check.script)
    if _is_misc_timeout(check.timeout):
        yield line("misc_timeout", number(check.timeout))
    if check.dynamic:
        yield "misc_dynamic"


def _file(check: FileCheck, real: RealServer) -> Iterator[str]:
    yield line("track_file", check.track_file)
    yield line("weight", number(check.weight), "reverse" if check.reverse else "noreverse")


def _bfd(check: BfdCheck, real: RealServer) -> Iterator[str]:
    yield line("name", check.name)
    yield _bool("alpha", check.timing.alpha)


_NAMES: dict[type, tuple[str, Callable[[Any, RealServer], Iterator[str]]]] = {
    TcpCheck: ("TCP_CHECK", _network),
    PingCheck: ("PING_CHECK", _network),
    UdpCheck: ("UDP_CHECK", _udp),
    SmtpCheck: ("SMTP_CHECK", _smtp),
    DnsCheck: ("DNS_CHECK", _dns),
    HttpCheck: ("HTTP_GET", _http),
    MiscCheck: ("MISC_CHECK", _misc),
    FileCheck: ("FILE_CHECK", _file),
    BfdCheck: ("BFD_CHECK", _bfd),
    GrpcCheck: ("GRPC_CHECK", _grpc),
}

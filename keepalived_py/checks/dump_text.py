"""The sections of keepalived_check.data, in keepalived's lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from keepalived_py.config.model import (
    BfdCheck,
    Check,
    CheckerConfig,
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
    SmtpCheck,
    SorryServer,
    SslSettings,
    TcpCheck,
    TrackFile,
    UdpCheck,
    VirtualServer,
    VirtualServerGroup,
)
from keepalived_py.dump_globals import MASK, Section, sections_text
from keepalived_py.records import dataclass
from keepalived_py.values import Protocol, RealKey, ServiceKey

from .state import CheckerState
from .virtual_server import RealServerState, VirtualServerState

SCHEDULER_FLAGS = {
    "sh": (("flag-2", "sh-port"), ("flag-1", "sh-fallback")),
    "mh": (("flag-2", "mh-port"), ("flag-1", "mh-fallback")),
}
FLAGS = tuple((f"flag-{number}", f"flag-{number}") for number in (1, 2, 3))
NOTHING = CheckerConfig()
ON_OFF = {True: "ON", False: "OFF"}
YES_NO = {True: "yes", False: "no"}
SET_UNSET = {True: "set", False: "unset"}
ENABLED = {True: "enabled", False: "disabled"}
FAMILIES = {4: "inet", 6: "inet6", 0: "IPv4 & IPv6"}
TUNNELS = {"csum": ", checksum", "remcsum": ", remote checksum", "nocsum": ", no checksum"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckerSnapshot:
    """One checker of one real server."""

    service: ServiceKey
    real: RealKey
    config: Check
    state: CheckerState
    suspended: bool = False
    points: int = 0
    """What it adds to the weight of its real server."""


def data_text(
    states: Iterable[VirtualServerState],
    checkers: Iterable[CheckerSnapshot],
    *,
    before: Iterable[Section] = (),
    config: CheckerConfig = NOTHING,
    files: Iterable[tuple[TrackFile, int]] = (),
) -> str:
    """Sections from SSL definitions on, behind those of `before`; an empty one is left out.

    `files`: those that are followed, and the numbers in them.
    """
    known = list(states)
    topology = [*_groups(config.groups, known), *(line for state in known for line in _service_lines(state))]
    protocols = {state.config.key: state.config.protocol for state in known}
    last = sorted(checkers, key=lambda each: isinstance(each.config, FileCheck))  # as keepalived has them
    checks = [line for each in last for line in _checker_lines(each, protocols[each.service])]
    sections: tuple[Section, ...] = (
        *before,
        ("SSL definitions", [] if config.ssl is None else list(_ssl_lines(config.ssl))),
        ("LVS Topology", topology),
        ("Health checkers", checks),
        ("Checker track files", [line for each, value in files for line in _file_lines(each, value, known)]),
    )
    return sections_text(section for section in sections if section[1])


def _indented(lines: Iterable[str], depth: int = 2) -> Iterator[str]:
    return (" " * depth + line for line in lines)


def _forwarding(how: Forwarding) -> str:
    if how.method != "TUN":
        return how.method
    gue = f", port = {how.tunnel_port}" if how.tunnel_type == "gue" else ""
    checksum = "" if how.tunnel_type == "ipip" else TUNNELS[how.tunnel_csum]
    return f"TUN, type = {how.tunnel_type.upper()}{gue}{checksum}"


def _ssl_lines(ssl: SslSettings) -> Iterator[str]:
    if ssl.password:
        yield f"Password : {MASK}"
    named = (("CA-", ssl.ca), ("Certificate ", ssl.certificate), ("Key ", ssl.key))
    yield from (f"{what}file : {path}" for what, path in named if path)
    if ssl == SslSettings():
        yield "Using autogen SSL context"


# groups and virtual servers ---------------------------------------------------------------------------------------


def _groups(groups: Iterable[VirtualServerGroup], states: list[VirtualServerState]) -> Iterator[str]:
    users: dict[str, list[VirtualServerState]] = {}
    for state in states:
        users.setdefault(state.config.key.group, []).append(state)
    for group in groups:
        has = {family: any(entry.family == family for entry in group.entries) for family in (4, 6)}
        yield "------< Virtual server group >------"
        yield f"Virtual Server Group = {group.name}, IPv4 = {YES_NO[has[4]]}, IPv6 = {YES_NO[has[6]]}"
        for entry in group.entries:
            yield from _indented(_entry_lines(entry, users.get(group.name, [])))


def _entry_lines(entry: GroupRange, using: list[VirtualServerState]) -> Iterator[str]:
    """`Alive` counts real servers that have a row."""
    rows = [(state.config, sum(real.has_row for real in state.reals.values())) for state in using]
    if entry.first is None:
        yield f"FWMARK = {entry.fwmark}"
        alive = [sum(count for config, count in rows if config.key.family in families) for families in ((4, 0), (6,))]
        yield "  Alive: {} IPv4, {} IPv6".format(*alive)
        return
    if entry.last in (None, entry.first):
        yield f"VIP = {entry.first}, VPORT = {entry.port}"
    else:
        yield f"VIP Range = {entry.first}-{entry.last}, VPORT = {entry.port}"
    kinds = (Protocol.TCP, Protocol.UDP, Protocol.SCTP)
    alive = [sum(count for config, count in rows if config.protocol is kind) for kind in kinds]
    yield "  Alive: {} tcp, {} udp, {} sctp".format(*alive)


def _service_lines(state: VirtualServerState) -> Iterator[str]:
    config = state.config
    yield "------< Virtual server >------"
    if config.key.group:
        yield f"VS GROUP = {config.key}"
    elif config.key.address is None:
        yield f"VS FWMARK = {config.key.fwmark}"
    else:
        yield f"VS VIP = {config.key.address}, VPORT = {config.key.port}"
    yield from _indented(_setting_lines(config))
    if config.sorry_server is not None:
        yield from _indented(_sorry_lines(config.sorry_server, config.protocol))
    yield "  alive = 1"
    yield f"  quorum_state_up = {int(state.had_quorum)}"
    in_table = state.destinations()
    for key, real in state.reals.items():
        yield from _indented(_real_lines(real, key in in_table))


def _setting_lines(config: VirtualServer) -> Iterator[str]:
    if config.virtualhost:
        yield f"VirtualHost = {config.virtualhost}"
    yield f"Address family = {FAMILIES[config.key.family]}"
    yield f"lvs_sched = {config.scheduler}"
    for flag, name in SCHEDULER_FLAGS.get(config.scheduler, FLAGS):
        yield f"{name} = {ENABLED[flag in config.flags]}"
    yield f"One packet scheduling = {ENABLED['ops' in config.flags]}"
    if config.persistence_timeout:
        yield f"persistence timeout = {config.persistence_timeout}"
    if config.persistence_granularity is not None:
        yield f"persistence granularity = {_granularity(config)}"
    protocol = config.protocol
    yield f"protocol = {protocol.value if protocol is Protocol.NONE else protocol.value.upper()}"
    yield f"alpha is {ON_OFF[config.alpha]}"
    yield f"omega is {ON_OFF[config.omega]}"
    yield f"quorum = {config.quorum}, hysteresis = {config.hysteresis}"
    for word, script in (("up", config.quorum_up), ("down", config.quorum_down)):
        yield from [] if script is None else [f"Quorum {word} notify script = {script.quoted}, {script.owner}"]
    if config.ha_suspend:
        yield "Using HA suspend"
    yield f"Using smtp notification = {YES_NO[config.smtp_alert]}"
    yield f"default forwarding method = {_forwarding(config.forwarding)}"


def _granularity(config: VirtualServer) -> str:
    mask = config.persistence_granularity or 0
    return str(mask) if config.key.family == 6 else ".".join(map(str, mask.to_bytes(4)))


def _sorry_lines(sorry: SorryServer, protocol: Protocol) -> Iterator[str]:
    yield f"sorry server = {sorry.key.text(protocol)}"
    yield f"  forwarding method = {_forwarding(sorry.forwarding)}"
    yield f"  Inhibit on failure is {ON_OFF[sorry.inhibit]}"


def _real_lines(real: RealServerState, in_table: bool) -> Iterator[str]:
    config = real.config
    effective = config.weight + sum(real.points.values())
    yield "------< Real server >------"
    yield f"RIP = {config.address}, RPORT = {config.port}, WEIGHT = {real.weight} EFF WEIGHT = {effective}"
    yield f"forwarding method = {_forwarding(config.forwarding)}"
    yield f"connection limit range = {config.lthreshold} -> {config.uthreshold}"
    yield f"Inhibit on failure is {ON_OFF[config.inhibit_on_failure]}"
    for word, script in (("up", config.notify_up), ("down", config.notify_down)):
        yield from [] if script is None else [f"  RS {word} notify script = {script.quoted}, {script.owner}"]
    yield f"Using smtp notification = {YES_NO[config.smtp_alert]}"
    yield f"initial weight = {config.weight}"
    yield f"effective weight = {effective}"
    yield f"alive = {int(real.alive)}"
    yield f"num failed checkers = {len(real.failed)}"
    yield f"RS set = {int(in_table)}"
    yield from _tracked_files(config)


def _tracked_files(config: RealServer) -> Iterator[str]:
    files = [check for check in config.checks if isinstance(check, FileCheck)]
    if files:
        yield "Tracked Files"
        yield from (f"  {each.track_file}, {_weight(each)}" for each in files)


def _file_lines(file: TrackFile, value: int, states: Iterable[VirtualServerState]) -> Iterator[str]:
    """A file, and whose weight it counts for."""
    yield f"Track file = {file.name}"
    yield f"  File = {file.file}"
    yield f"  Status = {value}"
    yield f"  Weight = {file.weight}{' reverse' if file.reverse else ''}"
    yield "  Tracking instances :"
    for state in states:
        for key, real in state.reals.items():
            name = f"{state.config.key} -> {key.text(state.config.protocol)}"
            for check in real.config.checks:
                if isinstance(check, FileCheck) and check.track_file == file.name:
                    yield f"    {name}, {_weight(check)}"


def _weight(check: FileCheck) -> str:
    return f"weight {check.weight}{' reverse' if check.reverse else ''}"


# checkers ---------------------------------------------------------------------------------------------------------


def _checker_lines(found: CheckerSnapshot, protocol: Protocol) -> Iterator[str]:
    config = found.config
    yield f"{found.service} -> {found.real.text(protocol)}"
    yield from _indented(_state_lines(found))
    if not isinstance(config, FileCheck | BfdCheck):
        yield from _indented(_timing_lines(found.state))
    yield f"  Log all failures = {YES_NO[config.timing.log_all_failures]}"
    if not isinstance(config, FileCheck | BfdCheck | MiscCheck):
        yield from _indented(_connection_lines(config.endpoint, config.timing.connect_timeout))
    yield from _indented(_method_lines(config))


def _state_lines(found: CheckerSnapshot) -> Iterator[str]:
    yield f"Enabled = {YES_NO[not found.suspended]}"
    yield f"Up = {YES_NO[found.state.up]}"
    yield f"Has run = {YES_NO[found.state.has_run or isinstance(found.config, FileCheck)]}"
    yield f"Current weight = {found.points}"


def _timing_lines(state: CheckerState) -> Iterator[str]:
    timing = state.timing
    yield f"Alpha = {YES_NO[timing.alpha]}"
    yield f"Delay loop = {timing.delay_loop * 1e6:.0f} us"
    yield f"Warmup = {timing.warmup * 1e6:.0f} us"
    yield f"Retries = {timing.retry}"
    if timing.retry:
        yield f"Delay before retry = {timing.delay_before_retry * 1e6:.0f} us"
        yield f"Retries iterations = {state.failures}"


def _connection_lines(endpoint: Endpoint, timeout: float) -> Iterator[str]:
    yield "Connection"
    yield f"  Dest = [{endpoint.address}]:{endpoint.port}"
    if endpoint.bindto is not None:
        yield f"  Bind to = [{endpoint.bindto}]:{endpoint.bind_port}"
    if endpoint.bind_if:
        yield f"  Bind i/f = {endpoint.bind_if}"
    if endpoint.fwmark:
        yield f"  Mark = {endpoint.fwmark}"
    yield f"  Timeout = {timeout:.6f}"


def _method_lines(config: Check) -> Iterator[str]:
    match config:
        case TcpCheck():
            yield "Keepalive method = TCP_CHECK"
        case PingCheck():
            yield "Keepalive method = PING_CHECK"
        case SmtpCheck():
            yield "Keepalive method = SMTP_CHECK"
            yield f"helo = {config.helo_name}"
        case DnsCheck():
            yield "Keepalive method = DNS_CHECK"
            yield f"Type = {config.type}"
            yield f"Name = {config.name}"
        case MiscCheck():
            yield "Keepalive method = MISC_CHECK"
            yield f"script = {config.script.quoted}"
            yield f"timeout = {config.timeout:g}"
            yield f"dynamic = {YES_NO[config.dynamic].upper()}"
            yield f"uid:gid = {config.script.uid or 0}:{config.script.gid or 0}"
        case UdpCheck():
            yield from _udp_lines(config)
        case HttpCheck():
            yield from _http_lines(config)
        case FileCheck():
            yield "Keepalive method = FILE_CHECK"
            yield f"  Tracked file = {config.track_file}"
        case BfdCheck():
            yield "Keepalive method = BFD_CHECK"
            yield f"BFD instance = {config.name}"
        case GrpcCheck():
            yield "Keepalive method = GRPC_CHECK"


def _udp_lines(config: UdpCheck) -> Iterator[str]:
    yield "Keepalive method = UDP_CHECK"
    yield "Payload specified = no" if config.payload is None else f"Payload len = {len(config.payload)}"
    yield f"Require reply = {YES_NO[config.require_reply]}"
    if config.require_reply:
        yield f"  Min reply length = {config.min_reply_length}"
        yield f"  Max reply length = {config.max_reply_length}"
    if config.reply is not None:
        yield f"  Reply data len = {len(config.reply)}"
        yield f"  Reply data mask = {YES_NO[config.reply_mask is not None]}"


def _http_lines(config: HttpCheck) -> Iterator[str]:
    method = "HTTP_GET" if config.tls is None else "SSL_GET"
    yield f"Keepalive method = {method}, http protocol {config.http_protocol}"
    yield f"Enable SNI {SET_UNSET[config.tls is not None and config.tls.sni]}"
    yield f"Fast recovery {SET_UNSET[config.fast_recovery]}"
    for url in config.urls:
        yield f"Checked url = {url.path}"
        yield from _indented(_url_lines(url))


def _url_lines(url: HttpUrl) -> Iterator[str]:
    if url.digest:
        yield f"digest = {url.digest}"
    yield "HTTP Status Code(s)"
    for first, last in url.statuses:
        yield f"  {first}" if first == last else f"  {first}-{last}"
    if url.virtualhost:
        yield f"Virtual host = {url.virtualhost}"
    if url.regex:
        yield f'Regex = "{url.regex}"'
    if url.regex_no_match:
        yield "Regex no match"
    if url.regex_min_offset or url.regex_max_offset is not None:
        yield f"Regex min offset = {url.regex_min_offset}, max_offset = {url.regex_max_offset or 0}"

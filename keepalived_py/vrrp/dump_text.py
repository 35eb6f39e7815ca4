"""The statistics file and the sections of keepalived.data that VRRP owns, line for line as keepalived writes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from keepalived_py.config.model import NotifyScripts, Track, VrrpInstance
from keepalived_py.dump_globals import MASK, Section, sections_text

from .dump_interfaces import InterfaceSnapshot, interface_lines
from .dump_json import instance_statistics
from .dump_rows import address_text, route_text, rule_text, weight_text
from .dump_static import GARP_HEADING
from .snapshot import (
    FileSnapshot,
    GroupSnapshot,
    InstanceSnapshot,
    ProcessSnapshot,
    ScriptSnapshot,
    SocketSnapshot,
)
from .states import State

STATISTICS = """\
VRRP Instance: {name}
  Advertisements:
    Received: {advert_rcvd}
    Sent: {advert_sent}
  Became master: {become_master}
  Released master: {release_master}
  Packet Errors:
    Length: {packet_len_err}
    TTL: {ip_ttl_err}
    Invalid Type: {invalid_type_rcvd}
    Advertisement Interval: {advert_interval_err}
    Address List: {addr_list_err}
  Authentication Errors:
    Invalid Type: {invalid_authtype}
    Type Mismatch: {authtype_mismatch}
    Failure: {auth_failure}
"""
EXTENSION = """\
  Authentication Extension Errors:
    Missing: {auth_ext_missing}
    Malformed: {auth_ext_malformed}
    Unknown Key: {auth_ext_unknown_key}
    Invalid HMAC: {auth_ext_invalid_hmac}
    Stale: {auth_ext_stale}
    Replay: {auth_ext_replay}
"""
PRIORITY_ZERO = """\
  Priority Zero:
    Received: {pri_zero_rcvd}
    Sent: {pri_zero_sent}
"""


def statistics_text(instances: Iterable[InstanceSnapshot]) -> str:
    """keepalived.stats (cli-and-signals.md 5.1)."""
    text = ""
    for found in instances:
        extension = EXTENSION if found.config.auth_hmac is not None else ""
        template = STATISTICS + extension + PRIORITY_ZERO
        text += template.format(name=found.config.name, **instance_statistics(found))
    return text


# keepalived.data --------------------------------------------------------------------------------------------------


def data_text(
    instances: Sequence[InstanceSnapshot],
    sockets: Iterable[SocketSnapshot] = (),
    groups: Iterable[GroupSnapshot] = (),
    scripts: Iterable[ScriptSnapshot] = (),
    files: Iterable[FileSnapshot] = (),
    processes: Iterable[ProcessSnapshot] = (),
    before: Iterable[Section] = (),
    interfaces: Iterable[InterfaceSnapshot] = (),
) -> str:
    """Sections up to Interfaces; an empty one is left out. `before` are those before VRRP Topology."""
    sections: tuple[Section, ...] = (
        *before,
        ("VRRP Topology", [line for each in instances for line in instance_lines(each)]),
        ("VRRP Sockpool", [line for each in sockets for line in _socket_lines(each)]),
        ("VRRP Sync groups", [line for each in groups for line in _group_lines(each)]),
        ("VRRP Scripts", [line for each in scripts for line in _script_lines(each, instances)]),
        ("VRRP Track files", [line for each in files for line in _file_lines(each, instances)]),
        ("VRRP Track processes", [line for each in processes for line in _process_lines(each, instances)]),
        ("Interfaces", [line for each in interfaces for line in interface_lines(each)]),
    )
    return sections_text(section for section in sections if section[1] or section[0] == GARP_HEADING)


def instance_lines(found: InstanceSnapshot) -> list[str]:
    """One instance under VRRP Topology."""
    lines = [
        *_state_lines(found),
        *_path_lines(found),
        *_timing_lines(found),
        *_priority_lines(found),
        *_row_lines(found),
        *_telling_lines(found),
    ]
    return [f"VRRP Instance = {found.config.name}", *(f"  {line}" for line in lines)]


def _state_lines(found: InstanceSnapshot) -> list[str]:
    config = found.config
    return [
        f"VRRP Version = {config.version}",
        *([f"Sync group = {found.group}"] if found.group else []),
        *(["Using Native IPv6"] if config.family == 6 else []),
        f"State = {found.state.value}",
        *_flag_lines(config),
        f"Wantstate = {found.wants.value}",
        f"Number of config faults = {int(bool(config.config_fault))}",
        f"Number of interface and track script faults = {found.faults}",
        f"Number of track scripts init = {found.waiting}",
        f"Last transition = {moment(found.last_transition)}",
        f"Read timeout = {'DISABLED' if found.deadline is None else moment(found.deadline)}",
        f"Master down timer = {int(found.master_down_interval * 1e6 + 1e-3)} usecs",
    ]


def _flag_lines(config: VrrpInstance) -> list[str]:
    """Only one of the flags is ever named."""
    quiet = (
        not config.preempt,
        config.dont_track_primary,
        config.vmac is not None,
        config.vmac_addr,
        config.promote_secondaries,
        config.track_src_ip,
        config.skip_check_adv_addr,
        config.linkbeat_use_polling,
    )
    if config.unicast:
        return ["Flags:", "  Using unicast"]
    return ["Flags:" if any(quiet) else "Flags: none"]


def moment(wall: float) -> str:
    """Seconds since 1970 twice: as a number and as local time."""
    at = datetime.fromtimestamp(wall)
    return f"{wall:.6f} ({at:%a %b} {at.day:2d} {at:%H:%M:%S.%f %Y})"


def _path_lines(found: InstanceSnapshot) -> list[str]:
    config = found.config
    source = "(none)" if found.source is None else str(found.source)
    lines = [*_vmac_lines(found)] if config.interface else []
    lines += ["VRRP interface tracking disabled"] if config.dont_track_primary else []
    lines += ["Skip checking advert IP addresses"] if config.skip_check_adv_addr else []
    lines += ["Enforcing strict VRRP compliance"] if config.strict else []
    lines.append(f"Using src_ip = {source}" + (" (from configuration)" if config.source is not None else ""))
    if config.mcast_group is not None:
        lines.append(
            f"Multicast address {config.mcast_group}" + (f", ifindex {found.ifindex}" if config.family == 6 else "")
        )
    return lines


def _vmac_lines(found: InstanceSnapshot) -> Iterator[str]:
    """The interface that it lives on."""
    config, spec, name = found.config, found.config.vmac, found.own_link
    up = _truth(found.link_up)
    if spec is None:
        below = ""
    elif spec.kind == "macvlan":
        yield f"Use VMAC, i/f name {name}, is_up = {up}, xmit_base = {_truth(spec.xmit_base)}"
        below = f", vmac on {config.interface}" + (", xmit base i/f" if spec.xmit_base else "")
    else:
        yield f"Use IPVLAN, i/f {name}, is_up = {up}, type {spec.ipvlan_mode}"
        below = f", ipvlan on {config.interface}"
    if config.vmac_addr:
        yield "Use VMAC for VIPs on other interfaces"
    yield f"Interface = {name}{below}"


def _timing_lines(found: InstanceSnapshot) -> list[str]:
    config, garp = found.config, found.config.garp
    return [
        f"Gratuitous ARP delay = {garp.master_delay:g}",
        f"Gratuitous ARP repeat = {garp.master_repeat}",
        f"Gratuitous ARP refresh = {garp.master_refresh:g}",
        f"Gratuitous ARP refresh repeat = {garp.master_refresh_repeat}",
        f"Gratuitous ARP lower priority delay = {garp.lower_prio_delay:g}",
        f"Gratuitous ARP lower priority repeat = {garp.lower_prio_repeat}",
        f"Down timer adverts = {config.down_timer_adverts}",
        f"Send advert after receive lower priority advert = {_truth(not config.lower_prio_no_advert)}",
        f"Send advert after receive higher priority advert = {_truth(config.higher_prio_send_advert)}",
    ]


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _priority_lines(found: InstanceSnapshot) -> list[str]:
    config = found.config
    interval = f"{config.advert_int // 100} sec" if config.version == 2 else f"{config.advert_int * 10} milli-sec"
    return [
        f"Virtual Router ID = {config.vrid}",
        f"Priority = {config.priority}",
        f"Effective priority = {found.priority}",
        f"Total priority = {found.total_priority}",
        f"Advert interval = {interval}",
        f"Accept = {_ability(config.accept)}",
        f"Preempt = {_ability(config.preempt)}",
        *([f"Preempt delay = {config.preempt_delay:g} secs"] if config.preempt_delay else []),
        f"Promote_secondaries = {_ability(config.promote_secondaries)}",
        *_authentication_lines(found),
        *([f"Kernel rx buffer size = {config.rx_buf_size}"] if config.rx_buf_size else []),
        *([f"Debug level = {config.debug}"] if config.debug else []),
    ]


def _ability(value: bool) -> str:
    return "enabled" if value else "disabled"


def _authentication_lines(found: InstanceSnapshot) -> list[str]:
    own = found.config.authentication
    if found.config.version != 2:
        return []
    if own is None:
        return ["Authentication type = none"]
    if own.auth_type == "ah":
        return ["Authentication type = IPSEC_AH"]
    return ["Authentication type = SIMPLE_PASSWORD", f"Password = {MASK}"]


def _row_lines(found: InstanceSnapshot) -> list[str]:
    config, present = found.config, found.state is State.MASTER
    vips, excluded = (
        [address_text(each, found.device(each), present, filtered=found.filtered) for each in rows]
        for rows in (config.addresses, config.excluded)
    )
    return [
        *_block(f"Virtual IP ({len(vips)}):", vips),
        *_block("Virtual IP Excluded :", excluded),
        *_unicast_lines(found),
        f"fd_in {found.sockets[0]}, fd_out {found.sockets[1]}",
        *_block("Virtual Routes :", [route_text(each) for each in config.routes]),
        *_block("Virtual Rules :", [rule_text(each) for each in config.rules]),
    ]


def _block(title: str, lines: list[str]) -> list[str]:
    return [title, *(f"  {line}" for line in lines)] if lines else []


def _unicast_lines(found: InstanceSnapshot) -> list[str]:
    config = found.config
    if not config.unicast:
        return []
    peers = [f"{each.address} min_ttl {each.min_ttl} max_ttl {each.max_ttl}" for each in config.unicast_peers]
    ttl = 255 if config.unicast_ttl is None and config.family == 4 else config.unicast_ttl
    asked = config.old_unicast_checksum
    heard = "auto" if found.old_checksum else "no"
    compatible = heard if asked is None else "config" if asked else "never"
    return [
        *([f"Unicast TTL = {ttl}"] if ttl is not None else []),
        f"Check unicast src : {'yes' if config.check_unicast_src else 'no'}",
        *_block("Unicast Peer :", peers),
        f"Unicast checksum compatibility = {compatible}",
    ]


def _telling_lines(found: InstanceSnapshot) -> list[str]:
    config = found.config
    deleted = config.notify.report_deleted or config.notify.deleted is not None
    return [
        *_track_lines(config.tracks),
        f"Using smtp notification = {'yes' if config.smtp_alert else 'no'}",
        f"Notify deleted = {'Deleted' if deleted else 'Fault'}",
        *_notify_lines(config.notify),
        f"Notify priority changes = {_truth(config.notify_priority_changes)}",
    ]


def _track_lines(tracks: Iterable[Track], processes: str = "processes") -> Iterator[str]:
    named = (
        ("interface", "interfaces", ""),
        ("script", "scripts", ""),
        ("file", "files", ","),
        ("process", processes, ","),
        ("bfd", "BFDs", ","),
        ("virtual_server", "virtual servers", ","),
    )
    for kind, title, comma in named:
        found = [f"{track.name}{comma} {weight_text(track)}" for track in tracks if track.kind == kind]
        yield from _block(f"Tracked {title} :", found)


def _notify_lines(notify: NotifyScripts) -> list[str]:
    named = (
        ("Backup state transition", notify.backup),
        ("Master state transition", notify.master),
        ("Fault state transition", notify.fault),
        ("Stop state transition", notify.stop),
        ("Deleted state transition", notify.deleted),
        ("Generic state transition", notify.any),
        ("Master rx lower pri state transition", notify.master_rx_lower_pri),
    )
    return [f"{name} script = {script.quoted}, {script.owner}" for name, script in named if script is not None]


def _socket_lines(found: SocketSnapshot) -> list[str]:
    lines = [f"Interface = {found.interface}"] if found.interface else []
    lines += [
        f"Family = IPv{found.family}",
        f"Protocol = {'AH' if found.authentication_header else 'VRRP'}",
        f"Type = {'Multicast' if found.unicast_source is None else 'Unicast'}",
        *([f"Address = {found.unicast_source}"] if found.unicast_source is not None else []),
        f"Rx buf size = {found.rx_buf_size}",
        "VRRP instances",
        *(f"  {name} vrid {vrid}" for name, vrid in found.instances),
    ]
    return [f"fd_in {found.sockets[0]} fd_out = {found.sockets[1]}", *(f"  {line}" for line in lines)]


def _group_lines(found: GroupSnapshot) -> list[str]:
    lines = [
        f"Num member fault {found.faulty}, num member init {found.waiting}",
        *_block("VRRP member instances :", list(found.config.members)),
        *(["sync group tracking weight set"] if found.config.sync_group_tracking_weight else []),
        f"Using smtp notification = {'yes' if found.config.smtp_alert else 'no'}",
        *_track_lines(found.config.tracks, "process"),
        *_notify_lines(found.config.notify),
    ]
    return [f"VRRP Sync Group = {found.config.name}, {found.state.value}", *(f"  {line}" for line in lines)]


def _trackers(kind: str, name: str, instances: Iterable[InstanceSnapshot]) -> list[str]:
    """Who tracks a thing, and with which weight."""
    found = [
        f"{each.config.name}, {weight_text(track)}"
        for each in instances
        for track in each.tracks
        if (track.kind, track.name) == (kind, name)
    ]
    return _block("Tracking instances :", found)


def _script_lines(found: ScriptSnapshot, instances: Iterable[InstanceSnapshot]) -> list[str]:
    config = found.config
    lines = [
        f"Command = {config.script.quoted}",
        f"Interval = {config.interval:g} sec",
        f"Timeout = {0 if config.timeout == config.interval else config.timeout:g} sec",
        f"Weight = {config.weight}" + (" reverse" if config.reverse else ""),
        f"Rise = {config.rise}",
        f"Fall = {config.fall}",
        f"Result = {found.count}",
        "Insecure = no",
        f"Init state = {'INIT' if found.up is None else 'unknown'}",
        f"Status = {'GOOD' if found.up else 'BAD'}",
        f"Script uid:gid = {config.script.uid or 0}:{config.script.gid or 0}",
        "VRRP instances :",
        *_trackers("script", config.name, instances),
        f"State = {'running' if found.running else 'idle'}",
    ]
    return [f"VRRP Script = {config.name}", *(f"  {line}" for line in lines)]


def _file_lines(found: FileSnapshot, instances: Iterable[InstanceSnapshot]) -> list[str]:
    config = found.config
    lines = [
        f"File = {config.file}",
        f"Status = {found.value}",
        f"Weight = {config.weight}" + (" reverse" if config.reverse else ""),
        *_trackers("file", config.name, instances),
    ]
    return [f"Track file = {config.name}", *(f"  {line}" for line in lines)]


def _process_lines(found: ProcessSnapshot, instances: Iterable[InstanceSnapshot]) -> list[str]:
    config = found.config
    lines = [
        f"Process = {config.command[0] if config.command else ''}",
        *(
            [f"Parameters = {' '.join(config.command[1:])}", f"Param match{_match(config.param_match)}"]
            if config.command[1:]
            else []
        ),
        f"Min processes = {config.quorum}",
        *([f"Max processes = {config.quorum_max}"] if config.quorum_max is not None else []),
        f"Current processes = {found.current}",
        f"Have quorum = {_truth(found.have_quorum)}",
        f"Weight = {config.weight}" + (" reverse" if config.reverse else ""),
        f"Terminate delay = {config.terminate_delay:.6f}s",
        f"Fork delay = {config.fork_delay:.6f}s",
        f"Fork delay timer {'' if found.fork_delay_running else 'not '}running",
        f"Terminate delay timer {'' if found.terminate_delay_running else 'not '}running",
        f"Full command = {_truth(config.full_command)}",
        *_trackers("process", config.name, instances),
    ]
    return [f"VRRP Track process = {config.name}", *(f"  {line}" for line in lines)]


def _match(kind: str) -> str:
    """keepalived shows an exact match as nothing at all."""
    return f" = {kind}" if kind in ("initial", "partial") else ""

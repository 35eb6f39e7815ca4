"""A configuration as text that reads back as an equal configuration.

Every value is written that is not its keyword's own default, inherited ones where they ended up, so the text also
shows what each object works with. Scalars are written by the tables of keywords; the rest is spelled out here and in
dump_check.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from .dump_check import server_group_lines, ssl_lines, virtual_server_lines
from .dump_words import block, line, number, quoted, script_lines, script_words
from .keywords_bfd import BFD_INSTANCE
from .keywords_global import GLOBAL_DEFS, ROOT_SCALARS
from .keywords_vrrp import VRRP_INSTANCE
from .links import address_words
from .model import (
    Authentication,
    AuthHmac,
    BfdInstance,
    Config,
    Fifo,
    GarpGroup,
    GlobalDefs,
    NotifyScripts,
    SyncDaemon,
    SyncGroup,
    Track,
    TrackFile,
    TrackProcess,
    VmacSpec,
    VrrpInstance,
    VrrpScript,
)
from .routes import route_words
from .rules import rule_words
from .schema import Keyword

Lines = Iterable[str]
_SECRET = re.compile(r"^(\s*(?:auth_pass|password|key \d+)) .*")


def dump(config: Config) -> str:
    """The whole configuration, a keepalived.conf of its own."""
    return "".join(f"{text}\n" for text in dump_lines(config))


def masked(lines: Iterable[str]) -> Iterator[str]:
    """The same without passwords and keys."""
    return (_SECRET.sub(r"\1 ****", text) for text in lines)


def dump_lines(config: Config) -> Iterator[str]:
    vrrp, checker = config.vrrp, config.checker
    yield from _root(config.global_defs)
    yield from block("global_defs", _globals(config.global_defs))
    for script in vrrp.scripts:
        yield from block(line("vrrp_script", script.name), _script(script))
    for process in vrrp.processes:
        yield from block(line("vrrp_track_process", process.name), _process(process))
    for file in config.track_files:
        yield from block(line("track_file", file.name), _file(file))
    for session in config.bfd_instances:
        yield from block(line("bfd_instance", session.name), _bfd(session))
    for instance in vrrp.instances:
        yield from block(line("vrrp_instance", instance.name), _instance(instance))
    for group in vrrp.sync_groups:
        yield from block(line("vrrp_sync_group", group.name), _group(group))
    for tracked in vrrp.track_groups:
        yield from block(line("track_group", tracked.name), block("group", map(quoted, tracked.members)))
    yield from _static(config)
    for gaps in vrrp.garp_groups:
        yield from block("garp_group", _garp_group(gaps))
    delays = [line(each.interface, number(each.down), number(each.up)) for each in vrrp.interface_delays]
    yield from _some("interface_up_down_delays", delays)
    polled = [line(each.interface, *each.method.split()) for each in vrrp.linkbeat_interfaces]
    yield from _some("linkbeat_interfaces", polled)
    if checker.ssl is not None:
        yield from ssl_lines(checker.ssl)
    for servers in checker.groups:
        yield from server_group_lines(servers)
    for server in checker.virtual_servers:
        yield from virtual_server_lines(server)
    yield from _some("global_defs", list(_late_globals(config.global_defs)))


def _some(head: str, inner: list[str]) -> Lines:
    return block(head, inner) if inner else ()


# scalars by table ---------------------------------------------------------------------------------------------------


def value_of(holder: Any, target: str) -> tuple[Any, Any]:
    """The value at a dotted path, and what it is when nothing is said."""
    *path, name = target.split(".")
    for part in path:
        holder = getattr(holder, part)
    return getattr(holder, name), _default(type(holder), name)


def _default(kind: type, name: str) -> Any:
    assert is_dataclass(kind)
    for each in fields(kind):
        if each.name == name:
            return each.default
    raise AttributeError(name)


def scalar(keyword: Keyword, value: Any, default: Any, always: bool) -> Lines:
    """The line of a keyword whose value is a bool, a number, a text, an address or a tuple of those."""
    if value is None or (value == default and not always):
        return
    if isinstance(value, bool):
        if keyword.arguments == "[BOOL]":
            yield line(keyword.name, "yes" if value else "no")
        elif value:
            yield keyword.name
    elif isinstance(value, tuple):
        yield line(keyword.name, *map(str, value))
    else:
        yield line(keyword.name, number(value) if isinstance(value, int | float) else str(value))


def _by_table(
    keywords: Iterable[Keyword],
    holder: Any,
    special: dict[str, Callable[[Any], Lines]],
    always: frozenset[str] = frozenset(),
) -> Iterator[str]:
    for keyword in keywords:
        if keyword.name in special:
            yield from special[keyword.name](holder)
        elif not keyword.alias_of:
            yield from scalar(keyword, *value_of(holder, keyword.target), keyword.name in always)


def _nothing(holder: Any) -> Lines:
    return ()


# global_defs --------------------------------------------------------------------------------------------------------

LATE = ("script_user", "enable_script_security", "set_supplementary_groups")
"""Written last: scripts carry their own identity, and these would change that of the ones without."""


_SET_BY_MIN_GARP = frozenset(("vrrp_garp_master_delay", "vrrp_garp_master_repeat", "vrrp_garp_master_refresh"))
"""Written even when they are as usual: vrrp_min_garp changes what they are when nothing is said."""


def _root(defaults: GlobalDefs) -> Lines:
    return _by_table(ROOT_SCALARS, defaults, {"net_namespace_ipvs": _ipvs_namespace})


def _ipvs_namespace(defaults: GlobalDefs) -> Lines:
    name = defaults.root.net_namespace_ipvs
    if name is not None:
        yield line("net_namespace_ipvs", *name.split())


def _globals(defaults: GlobalDefs) -> Lines:
    always = _SET_BY_MIN_GARP if defaults.garp.min_garp else frozenset()
    return _by_table(GLOBAL_DEFS.keywords, defaults, _GLOBAL_SPECIAL, always)


def _late_globals(defaults: GlobalDefs) -> Iterator[str]:
    who = defaults.script_user
    if who is not None:
        yield line("script_user", who.user, *who.group.split())
    if defaults.enable_script_security:
        yield "enable_script_security"
    if defaults.set_supplementary_groups:
        yield "set_supplementary_groups"


def _recipients(defaults: GlobalDefs) -> Lines:
    return _some("notification_email", [quoted(each) for each in defaults.mail.notification_email])


def _mail_server(defaults: GlobalDefs) -> Lines:
    if defaults.mail.smtp_server:
        yield line("smtp_server", defaults.mail.smtp_server, number(defaults.mail.smtp_port))


def _extra_if(period: float, everywhere: bool, name: str) -> Lines:
    yield line(name, *(("all",) if everywhere else ()), number(period))


def _global_extra_if(defaults: GlobalDefs) -> Lines:
    garp = defaults.garp
    return _extra_if(garp.extra_if, garp.extra_if_all, "vrrp_garp_extra_if") if garp.extra_if else ()


def _real_server_interval(defaults: GlobalDefs) -> Lines:
    """That of virtual servers when nothing is said."""
    snmp = defaults.snmp_dbus
    if snmp.rs_stats_update_interval != snmp.vs_stats_update_interval:
        yield line("snmp_rs_stats_update_interval", number(snmp.rs_stats_update_interval))


def _umask(defaults: GlobalDefs) -> Lines:
    yield line("umask", f"0{defaults.umask:o}")


def _iptables(defaults: GlobalDefs) -> Lines:
    firewall = defaults.firewall
    if firewall.iptables:
        yield line("vrrp_iptables", firewall.iptables_in, *firewall.iptables_out.split())


def _ipsets(defaults: GlobalDefs) -> Lines:
    if not defaults.firewall.ipsets:
        yield "vrrp_ipsets"
    elif defaults.firewall.ipset_names:
        yield line("vrrp_ipsets", *defaults.firewall.ipset_names)


def _nftables(defaults: GlobalDefs) -> Lines:
    if defaults.firewall.nftables:
        yield line("nftables", defaults.firewall.nftables_table)


def _timeouts(defaults: GlobalDefs) -> Lines:
    ipvs = defaults.ipvs
    names = ("tcp", "tcpfin", "udp")
    given = [(name, getattr(ipvs, f"timeout_{name}")) for name in names if getattr(ipvs, f"timeout_{name}")]
    if given:
        yield line("lvs_timeouts", *(text for name, value in given for text in (name, number(value))))


def _flush_on_stop(defaults: GlobalDefs) -> Lines:
    how = defaults.ipvs.flush_on_stop
    if how != "no":
        yield line("lvs_flush_on_stop", *(("VS",) if how == "vs" else ()))


def _dynamic_interfaces(defaults: GlobalDefs) -> Lines:
    if defaults.dynamic_interfaces != "no":
        yield line("dynamic_interfaces", *defaults.dynamic_interfaces.replace("yes", "").split())


def _reload_file(defaults: GlobalDefs) -> Lines:
    if defaults.reload.file is not None:
        yield line("reload_file", *((defaults.reload.file,) if defaults.reload.file else ()))


def _log_format(defaults: GlobalDefs) -> Lines:
    if defaults.log_json:
        yield "log_format json"


def _sync_daemon(defaults: GlobalDefs) -> Lines:
    daemon: SyncDaemon | None = defaults.lvs_sync_daemon
    if daemon is None:
        return
    words = [daemon.interface]
    words += ["inst", daemon.instance] if daemon.instance else []
    words += ["id", number(daemon.syncid)] if daemon.syncid is not None else []
    for name in ("maxlen", "port", "ttl", "group"):
        value = getattr(daemon, name)
        words += [name, str(value)] if value else []
    yield line("lvs_sync_daemon", *words)


def _fifo(name: str) -> Callable[[GlobalDefs], Lines]:
    def write(defaults: GlobalDefs) -> Lines:
        fifo: Fifo | None = getattr(defaults, name)
        if fifo is not None:
            owner = (number(fifo.uid), number(fifo.gid)) if fifo.uid is not None and fifo.gid is not None else ()
            yield line(name, fifo.path, *owner)

    return write


def _fifo_script(name: str) -> Callable[[GlobalDefs], Lines]:
    def write(defaults: GlobalDefs) -> Lines:
        fifo: Fifo | None = getattr(defaults, name)
        if fifo is not None and fifo.script is not None:
            yield f"{name}_script {script_words(fifo.script)}"

    return write


def _global_script(name: str) -> Callable[[GlobalDefs], Lines]:
    def write(defaults: GlobalDefs) -> Lines:
        script = getattr(defaults, name)
        if script is not None:
            yield f"{name} {script_words(script)}"

    return write


_GLOBAL_SPECIAL: dict[str, Callable[[Any], Lines]] = {
    **dict.fromkeys(LATE, _nothing),
    "include_check": _nothing,
    "enable_snmp_rfc": _nothing,
    "notification_email": _recipients,
    "smtp_server": _mail_server,
    "vrrp_garp_extra_if": _global_extra_if,
    "umask": _umask,
    "snmp_rs_stats_update_interval": _real_server_interval,
    "vrrp_iptables": _iptables,
    "vrrp_ipsets": _ipsets,
    "nftables": _nftables,
    "lvs_timeouts": _timeouts,
    "lvs_flush_on_stop": _flush_on_stop,
    "dynamic_interfaces": _dynamic_interfaces,
    "reload_file": _reload_file,
    "log_format": _log_format,
    "lvs_sync_daemon": _sync_daemon,
    "startup_script": _global_script("startup_script"),
    "shutdown_script": _global_script("shutdown_script"),
    **{name: _fifo(name) for name in ("notify_fifo", "vrrp_notify_fifo", "lvs_notify_fifo")},
    **{f"{name}_script": _fifo_script(name) for name in ("notify_fifo", "vrrp_notify_fifo", "lvs_notify_fifo")},
}


# tracked things -----------------------------------------------------------------------------------------------------


def _weight(weight: int, reverse: bool) -> str:
    return line("weight", number(weight), *(("reverse",) if reverse else ()))


def _script(script: VrrpScript) -> Lines:
    yield from script_lines("script", script.script)
    yield line("interval", number(script.interval))
    yield line("timeout", number(script.timeout))
    yield _weight(script.weight, script.reverse)
    yield line("rise", number(script.rise))
    yield line("fall", number(script.fall))
    if script.init_fail:
        yield "init_fail"


def _process(process: TrackProcess) -> Lines:
    # a bare param_match allows no parameters: there it can only stand for itself
    if process.param_match == "exact" and len(process.command) == 1:
        yield "param_match"
    elif process.param_match in ("initial", "partial"):
        yield line("param_match", process.param_match)
    yield f"process {' '.join(shell_quoted(word) for word in process.command)}"
    if process.full_command:
        yield "full_command"
    yield _weight(process.weight, process.reverse)
    if process.quorum:
        yield line("quorum", number(process.quorum))
    if process.quorum_max is not None:
        yield line("quorum_max", number(process.quorum_max))
    for name in ("fork_delay", "terminate_delay"):
        if getattr(process, name):
            yield line(name, number(getattr(process, name)))


def shell_quoted(word: str) -> str:
    """A word of `process`, where quotes join but escapes stay as they are."""
    return f'"{word}"' if '"' not in word else f"'{word}'"


def _file(file: TrackFile) -> Lines:
    yield line("file", file.file)
    yield _weight(file.weight, file.reverse)
    if file.init_value is not None:
        yield line("init_file", number(file.init_value), *(("overwrite",) if file.init_overwrite else ()))


def _bfd(session: BfdInstance) -> Lines:
    def to(one: bool, other: bool, name: str) -> Callable[[Any], Lines]:
        return lambda holder: [name] if one and not other else []

    special: dict[str, Callable[[Any], Lines]] = {
        "weight": lambda holder: [_weight(session.weight, session.reverse)],
        "vrrp": to(session.to_vrrp, session.to_checker, "vrrp"),
        "checker": to(session.to_checker, session.to_vrrp, "checker"),
    }
    return _by_table(BFD_INSTANCE.keywords, session, special, frozenset(("ttl",)))


# instances ----------------------------------------------------------------------------------------------------------

_INHERITED = frozenset(
    (
        "version",
        "priority",
        "strict_mode",
        "down_timer_adverts",
        "lower_prio_no_advert",
        "higher_prio_send_advert",
        "owner_ignore_adverts",
        "strict_address_list",
        "skip_check_adv_addr",
        "v3_checksum_as_v2",
        "garp_master_delay",
        "garp_master_repeat",
        "garp_master_refresh",
        "garp_master_refresh_repeat",
        "garp_lower_prio_delay",
        "garp_lower_prio_repeat",
        "smtp_alert",
        "notify_priority_changes",
        "mcast_dst_ip",
    )
)
"""Written even when they are what a fresh model has: their default may come from global_defs."""


def _instance(instance: VrrpInstance) -> Lines:
    return _by_table(VRRP_INSTANCE.keywords, instance, _INSTANCE_SPECIAL, _INHERITED)


def _state(instance: VrrpInstance) -> Lines:
    yield "state MASTER" if instance.wants_master else "state BACKUP"


def _native(instance: VrrpInstance) -> Lines:
    """Only where nothing else tells the family."""
    if instance.family == 6 and not (instance.addresses or instance.source or instance.unicast_peers):
        yield "native_ipv6"


def _interface(instance: VrrpInstance) -> Lines:
    if instance.interface:
        yield line("interface", instance.interface)


def _interval(instance: VrrpInstance) -> Lines:
    yield line("advert_int", number(instance.advert_int / 100))


def _preempt(instance: VrrpInstance) -> Lines:
    if not instance.preempt:
        yield "nopreempt"


def _accept(instance: VrrpInstance) -> Lines:
    yield "accept" if instance.accept else "no_accept"


def _old_checksum(instance: VrrpInstance) -> Lines:
    if instance.old_unicast_checksum is not None:
        yield line("old_unicast_checksum", *(() if instance.old_unicast_checksum else ("never",)))


def _peers(instance: VrrpInstance) -> Lines:
    lines = []
    for peer in instance.unicast_peers:
        words = [str(peer.address)]
        words += ["min_ttl", number(peer.min_ttl)] if peer.min_ttl else []
        words += ["max_ttl", number(peer.max_ttl)] if peer.max_ttl != 255 else []
        lines.append(line(*words))
    return _some("unicast_peer", lines)


def _vmac(kind: str) -> Callable[[VrrpInstance], Lines]:
    def write(instance: VrrpInstance) -> Lines:
        spec = instance.vmac
        if spec is not None and spec.kind == kind:
            yield line("use_vmac" if kind == "macvlan" else "use_ipvlan", *_vmac_words(spec))

    return write


RESERVED = frozenset(("name", "group", "netlink_notify_msg", "bridge", "private", "vepa"))
"""Words of use_vmac and use_ipvlan that are no names unless they are said to be."""


def _vmac_words(spec: VmacSpec) -> Iterator[str]:
    if spec.name:
        yield from (("name", spec.name) if spec.name in RESERVED else (spec.name,))
    if spec.mac is not None:
        yield str(spec.mac)
    if spec.ipvlan_address is not None:
        yield f"{spec.ipvlan_address}/{spec.ipvlan_prefixlen}"
    if spec.kind == "ipvlan":
        yield spec.ipvlan_mode
    if spec.netlink_notify_msg:
        yield "netlink_notify_msg"
    if spec.group is not None:
        yield from ("group", number(spec.group))


def _xmit_base(instance: VrrpInstance) -> Lines:
    if instance.vmac is not None and instance.vmac.xmit_base:
        yield "vmac_xmit_base"


def _authentication(instance: VrrpInstance) -> Lines:
    found: Authentication | None = instance.authentication
    if found is not None:
        password = found.password.decode("utf-8", "surrogateescape")
        yield from block("authentication", (line("auth_type", found.auth_type.upper()), line("auth_pass", password)))


def _hmac(instance: VrrpInstance) -> Lines:
    found: AuthHmac | None = instance.auth_hmac
    if found is None:
        return
    inner = [line("key", number(key.id), f"hex:{key.secret.hex()}") for key in found.keys]
    inner += [
        line("active_key", number(found.active_key)),
        line("time_window", number(found.time_window)),
        line("anti_replay", found.anti_replay),
        line("mode", found.mode),
    ]
    yield from block("auth_hmac", inner)


def _addresses(name: str, field: str) -> Callable[[VrrpInstance], Lines]:
    def write(instance: VrrpInstance) -> Lines:
        return _some(name, [line(*address_words(each)) for each in getattr(instance, field)])

    return write


def _routes(instance: VrrpInstance) -> Lines:
    return _some("virtual_routes", [line(*route_words(each)) for each in instance.routes])


def _rules(instance: VrrpInstance) -> Lines:
    return _some("virtual_rules", [line(*rule_words(each)) for each in instance.rules])


def _tracked(kind: str) -> Callable[[Any], Lines]:
    def write(holder: VrrpInstance | SyncGroup) -> Lines:
        return _some(f"track_{kind}", [_track_line(each) for each in holder.tracks if each.kind == kind])

    return write


def _track_line(track: Track) -> str:
    plain = () if track.kind in ("interface", "virtual_server") else ("noreverse",)
    return line(track.name, "weight", number(track.weight), *(("reverse",) if track.reverse else plain))


def _instance_extra_if(instance: VrrpInstance) -> Lines:
    return _extra_if(instance.garp.extra_if, instance.garp.extra_if_all, "garp_extra_if")


def _notify(name: str, field: str) -> Callable[[Any], Lines]:
    def write(holder: VrrpInstance | SyncGroup) -> Lines:
        script = getattr(holder.notify, field)
        if script is not None:
            yield f"{name} {script_words(script)}"

    return write


def _notify_deleted(instance: VrrpInstance) -> Lines:
    notify: NotifyScripts = instance.notify
    if notify.deleted is not None:
        yield f"notify_deleted {script_words(notify.deleted)}"
    elif notify.report_deleted:
        yield "notify_deleted"


_TRACKS: dict[str, Callable[[Any], Lines]] = {
    f"track_{kind}": _tracked(kind) for kind in ("interface", "script", "file", "process", "bfd", "virtual_server")
}
_NOTIFY: dict[str, Callable[[Any], Lines]] = {
    **{f"notify_{name}": _notify(f"notify_{name}", name) for name in ("master", "backup", "fault", "stop")},
    "notify": _notify("notify", "any"),
}
_INSTANCE_SPECIAL: dict[str, Callable[[Any], Lines]] = {
    **_TRACKS,
    **_NOTIFY,
    "interface": _interface,
    "virtual_router_id": lambda instance: [line("virtual_router_id", number(instance.vrid))],
    "native_ipv6": _native,
    "unicast_src_ip": _nothing,
    "unicast_peer": _peers,
    "old_unicast_checksum": _old_checksum,
    "use_vmac": _vmac("macvlan"),
    "use_ipvlan": _vmac("ipvlan"),
    "vmac_xmit_base": _xmit_base,
    "authentication": _authentication,
    "auth_hmac": _hmac,
    "state": _state,
    "advert_int": _interval,
    "preempt": _preempt,
    "nopreempt": _nothing,
    "accept": _accept,
    "no_accept": _nothing,
    "virtual_ipaddress": _addresses("virtual_ipaddress", "addresses"),
    "virtual_ipaddress_excluded": _addresses("virtual_ipaddress_excluded", "excluded"),
    "virtual_routes": _routes,
    "virtual_rules": _rules,
    "garp_extra_if": _instance_extra_if,
    "lvs_sync_daemon_interface": _nothing,
    "linkbeat_use_polling": lambda instance: ["linkbeat_use_polling"] if instance.linkbeat_use_polling else [],
    "notify_deleted": _notify_deleted,
    "notify_master_rx_lower_pri": _notify("notify_master_rx_lower_pri", "master_rx_lower_pri"),
}


def _group(group: SyncGroup) -> Iterator[str]:
    yield from block("group", map(quoted, group.members))
    for write in (*_TRACKS.values(), *_NOTIFY.values()):
        yield from write(group)
    if group.sync_group_tracking_weight:
        yield "sync_group_tracking_weight"
    yield line("smtp_alert", "yes" if group.smtp_alert else "no")


# the rest -----------------------------------------------------------------------------------------------------------


def _static(config: Config) -> Iterator[str]:
    vrrp = config.vrrp
    yield from _some("static_ipaddress", [line(*address_words(each)) for each in vrrp.static_addresses])
    yield from _some("static_routes", [line(*route_words(each, static=True)) for each in vrrp.static_routes])
    yield from _some("static_rules", [line(*rule_words(each, static=True)) for each in vrrp.static_rules])


def _garp_group(group: GarpGroup) -> Lines:
    for name in ("garp_interval", "gna_interval"):
        if getattr(group, name) is not None:
            yield line(name, number(getattr(group, name)))
    yield from block("interfaces", map(quoted, group.interfaces))

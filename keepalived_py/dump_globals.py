"""What the dumps of all processes have in common: sections, the first of which are the global definitions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from keepalived_py.config.model import Fifo, GlobalDefs, ProcessTuning

Section = tuple[str, list[str]]
"""Title and lines."""
MASK = "********"
"""Secrets are never shown, nor how long they are."""
FLUSH_ON_STOP = {"no": "disabled", "all": "enabled", "vs": "VS"}
YES_NO = {True: "yes", False: "no"}
ON_OFF = {True: "on", False: "off", None: "unset"}


def sections_text(sections: Iterable[Section]) -> str:
    """Sections as keepalived's dump files have them."""
    return "".join(f"------< {title} >------\n" + "".join(f" {line}\n" for line in lines) for title, lines in sections)


def global_section(defs: GlobalDefs, host: str, *, filtered: bool = False, hooks: bool = False) -> Section:
    """Global definitions, line for line as keepalived writes them.

    `host` is the name of this machine, `filtered`: accept mode or VMACs need filters, `hooks`: the scripts of the
    parent are shown too.
    """
    lines = [
        *_process_names(defs),
        *_mail_lines(defs, host),
        *_reload_lines(defs),
        *(_hook_lines(defs) if hooks else ()),
        *_interface_lines(defs),
        *_fifo_lines(defs),
        *_vrrp_lines(defs),
        *_firewall_lines(defs, filtered),
        f"VRRP check unicast_src = {_truth(defs.check_unicast_src)}",
        f"VRRP skip check advert addresses = {_truth(defs.skip_check_adv_addr)}",
        f"VRRP strict mode = {_truth(defs.vrrp_strict)}",
        *_scheduling_lines(defs),
        *_snmp_dbus_lines(defs),
        f"Script security {'enabled' if defs.enable_script_security else 'disabled'}",
        f"Default script uid:gid {_owner(defs)}",
        *_buffer_lines(defs),
    ]
    return "Global definitions", lines


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _owner(defs: GlobalDefs) -> str:
    user = defs.script_user
    return "0:0" if user is None else f"{user.uid or 0}:{user.gid or 0}"


def _process_names(defs: GlobalDefs) -> Iterator[str]:
    root = defs.root
    yield f"Network namespace = {root.net_namespace or '(default)'}"
    yield f"Network namespace ipvs = {root.net_namespace_ipvs or '(main namespace)'}"
    if root.instance:
        yield f"Instance name = {root.instance}"
    if root.use_pid_dir:
        yield "Use pid directory"
    for title, tuning, usual in (
        ("VRRP", defs.vrrp_process, "keepalived_vrrp"),
        ("LVS", defs.checker_process, "keepalived_lvs"),
        ("BFD", defs.bfd_process, "keepalived_bfd"),
    ):
        name = tuning.name or (usual if defs.process_names else "")
        yield from [f"{title} process name = {name}"] if name else []


def _mail_lines(defs: GlobalDefs, host: str) -> Iterator[str]:
    mail = defs.mail
    yield f"Router ID = {mail.router_id or host}"
    if mail.smtp_server:
        yield f"Smtp server = {mail.smtp_server}"
        yield f"Smtp server port = {mail.smtp_port}"
        yield f"Smtp HELO name = {mail.smtp_helo_name or host}"
        yield f"Smtp server connection timeout = {mail.smtp_connect_timeout}"
        yield f"Email notification from = {mail.notification_email_from or f'root@{host}'}"
    if mail.notification_email:
        yield "Email notification to:"
        yield from (f"  {each}" for each in mail.notification_email)
    yield f"Default smtp_alert = {ON_OFF[mail.smtp_alert]}"
    yield f"Default smtp_alert_vrrp = {ON_OFF[mail.smtp_alert_vrrp]}"
    yield f"Default smtp_alert_checker = {ON_OFF[mail.smtp_alert_checker]}"
    yield f"Checkers log all failures = {_truth(defs.checker_log_all_failures)}"


def _reload_lines(defs: GlobalDefs) -> Iterator[str]:
    settings = defs.reload
    if settings.check_config is None:
        yield "No test config before reload"
    else:
        yield f"Test config before reload, log to {settings.check_config}"
    if settings.time_file:
        yield f"Reload time file = {settings.time_file}{' (repeat)' if settings.repeat else ''}"
        yield "No reload scheduled"


def _hook_lines(defs: GlobalDefs) -> Iterator[str]:
    """The comma is keepalived's."""
    for title, script, timeout in (
        ("Startup", defs.startup_script, f", timeout {defs.startup_script_timeout}"),
        ("Shutdown", defs.shutdown_script, f" timeout {defs.shutdown_script_timeout}"),
    ):
        yield from [] if script is None else [f"{title} script = {script.quoted}, {script.owner}{timeout}"]


def _interface_lines(defs: GlobalDefs) -> Iterator[str]:
    yield f"Dynamic interfaces = {_truth(defs.dynamic_interfaces != 'no')}"
    if defs.dynamic_interfaces == "allow_if_changes":
        yield "Allow interface changes = true"
    if defs.mail.no_email_faults:
        yield "Send emails for fault transitions = off"
    ipvs = defs.ipvs
    for title, seconds in (("TCP", ipvs.timeout_tcp), ("TCP FIN", ipvs.timeout_tcpfin), ("TCP", ipvs.timeout_udp)):
        yield from [f"LVS {title} timeout = {seconds}"] if seconds else []  # keepalived calls that of UDP TCP, too
    yield f"Default interface = {defs.default_interface}"
    yield f"Disable local IGMP = {YES_NO[defs.disable_local_igmp]}"
    yield f"LVS flush = {_truth(ipvs.flush)}"
    yield f"LVS flush on stop = {FLUSH_ON_STOP[ipvs.flush_on_stop]}"


def _fifo_lines(defs: GlobalDefs) -> Iterator[str]:
    for title, fifo in (
        ("Global", defs.notify_fifo),
        ("VRRP", defs.vrrp_notify_fifo),
        ("LVS", defs.lvs_notify_fifo),
    ):
        if fifo is not None:
            yield f"{title} notify fifo = {fifo.path}, uid:gid {fifo.uid or 0}:{fifo.gid or 0}"
            yield from _fifo_script(title, fifo)
    yield f"FIFO write vrrp states on reload = {_truth(defs.fifo_write_vrrp_states_on_reload)}"
    yield f"VRRP notify priority changes = {_truth(defs.vrrp_notify_priority_changes)}"


def _fifo_script(title: str, fifo: Fifo) -> Iterator[str]:
    """The name of the FIFO is the last word of the command."""
    script = fifo.script
    if script is not None:
        yield f"{title} notify fifo script = {script.quoted} '{fifo.path}', {script.owner}"


def _vrrp_lines(defs: GlobalDefs) -> Iterator[str]:
    garp = defs.garp
    lower_delay = garp.master_delay if garp.lower_prio_delay is None else garp.lower_prio_delay
    lower_repeat = garp.master_repeat if garp.lower_prio_repeat is None else garp.lower_prio_repeat
    yield f"VRRP IPv4 mcast group = {defs.mcast_group4}"
    yield f"VRRP IPv6 mcast group = {defs.mcast_group6}"
    yield f"Gratuitous ARP delay = {garp.master_delay:g}"
    yield f"Gratuitous ARP repeat = {garp.master_repeat}"
    yield f"Gratuitous ARP refresh timer = {garp.master_refresh:g}"
    yield f"Gratuitous ARP refresh repeat = {garp.master_refresh_repeat}"
    yield f"Gratuitous ARP lower priority delay = {lower_delay:g}"
    yield f"Gratuitous ARP lower priority repeat = {lower_repeat}"
    yield f"Num adverts before down = {defs.down_timer_adverts}"
    yield f"Gratuitous ARP for each secondary {'i/f' if garp.extra_if_all else 'VMAC'} = {garp.extra_if:g}s"
    yield f"Send advert after receive lower priority advert = {_truth(not defs.lower_prio_no_advert)}"
    yield f"Send advert after receive higher priority advert = {_truth(bool(defs.higher_prio_send_advert))}"
    yield f"Gratuitous ARP interval = {garp.interval:.6f}"
    yield f"Gratuitous NA interval = {garp.gna_interval:.6f}"
    yield f"VRRP default protocol version = {defs.vrrp_version}"


def _firewall_lines(defs: GlobalDefs, filtered: bool) -> Iterator[str]:
    """The table of accept mode shows where it is asked for or needed; that of IPVS where it is asked for."""
    firewall, ipvs = defs.firewall, defs.ipvs
    if firewall.iptables:
        yield f"Iptables input chain = {firewall.iptables_in}"
        yield from [f"Iptables output chain = {firewall.iptables_out}"] if firewall.iptables_out else []
        yield f"Using ipsets = {_truth(firewall.ipsets)}"
    if firewall.nftables or (filtered and not firewall.iptables):
        yield f"nftables table name = {firewall.nftables_table}"
        yield f"nftables base chain priority = {firewall.nftables_priority}"
        force = "force" if firewall.nftables_ifindex else "don't force"
        yield f"nftables {force} use ifindex for link local IPv6"
    if ipvs.nftables_table:
        yield f"ipvs nftables table name = {ipvs.nftables_table}"
        yield f"ipvs nftables base chain priority = {ipvs.nftables_priority}"
        yield f"ipvs nftables start fwmark = {ipvs.nftables_start_fwmark}"
    yield f"nftables {'with' if firewall.nftables_counters else 'without'} counters"


def _scheduling_lines(defs: GlobalDefs) -> Iterator[str]:
    yield f"Max auto priority = {defs.max_auto_priority}"
    yield f"Min auto priority delay = {defs.min_auto_priority_delay} usecs"
    for title, tuning in (("VRRP", defs.vrrp_process), ("Checker", defs.checker_process), ("BFD", defs.bfd_process)):
        yield from _tuning_lines(title, tuning)


def _tuning_lines(title: str, tuning: ProcessTuning) -> Iterator[str]:
    yield f"{title} process priority = {tuning.nice}"
    yield f"{title} don't swap = {_truth(tuning.no_swap)}"
    yield f"{title} realtime priority = {tuning.rt_priority}"
    if tuning.cpu_affinity:
        yield f"{title} CPU Affinity = {' '.join(map(str, tuning.cpu_affinity))}"
    yield f"{title} realtime limit = {tuning.rlimit_rttime}"


def _snmp_dbus_lines(defs: GlobalDefs) -> Iterator[str]:
    """What is not here yet is off."""
    yield from (f"SNMP {what} disabled" for what in ("vrrp", "checker", "RFCv2", "RFCv3", "traps"))
    yield f"SNMP socket = {defs.snmp_dbus.snmp_socket or 'default (unix:/var/agentx/master)'}"
    yield "DBus disabled"
    yield "DBus service name = "


def _buffer_lines(defs: GlobalDefs) -> Iterator[str]:
    buffers = defs.buffers
    for name, size, force in (
        ("vrrp_netlink_cmd", buffers.vrrp_netlink_cmd, buffers.vrrp_netlink_cmd_force),
        ("vrrp_netlink_monitor", buffers.vrrp_netlink_monitor, buffers.vrrp_netlink_monitor_force),
        ("process_monitor", buffers.process_monitor, buffers.process_monitor_force),
        ("lvs_netlink_cmd", buffers.lvs_netlink_cmd, buffers.lvs_netlink_cmd_force),
        ("lvs_netlink_monitor", buffers.lvs_netlink_monitor, buffers.lvs_netlink_monitor_force),
    ):
        yield f"{name}_rcv_bufs = {size}"
        yield f"{name}_rcv_bufs_force = {int(force)}"
    yield f"rs_init_notifies = {int(defs.rs_init_notifies)}"
    yield f"no_checker_emails = {int(defs.mail.no_checker_emails)}"
    if buffers.vrrp_rx_policy.isdecimal():
        yield f"rx_bufs_size = {buffers.vrrp_rx_policy}"
    elif buffers.vrrp_rx_policy:
        yield f"rx_bufs_policy = {buffers.vrrp_rx_policy}"
    yield f"rx_bufs_multiples = {buffers.vrrp_rx_multiplier}"
    yield f"umask = 0{defs.umask:o}"
    if defs.startup_delay:
        yield f"vrrp_startup_delay = {defs.startup_delay:g}"
    if defs.log_unknown_vrids:
        yield "log_unknown_vrids"

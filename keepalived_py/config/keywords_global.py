"""The tables of the root scalars and of global_defs. A dotted field is the place in the frozen GlobalDefs."""

from __future__ import annotations

import os
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from .converters import (
    INT32,
    TIMER_MAX,
    UINT32,
    absolute_path,
    address,
    affinity,
    at_least_one,
    boolean,
    choice,
    clamped,
    cut,
    extra_interface,
    flag,
    integer,
    interface,
    mapped,
    need,
    optional_word,
    parse_address,
    parse_integer,
    parse_interface,
    seconds,
    word,
    words_of_block,
)
from .model import Fifo, FirewallSettings, SyncDaemon
from .problems import Severity
from .schema import Bad, Context, Keyword, MissingParameter, Section
from .scripts import SCRIPT, resolve_identity, script_user
from .tree import Statement

PROCESS_NAME = 15
MAX_CHAIN = 27
MAX_SET = 30
UMASK_BITS = {
    f"I{what}{who}": bits << shift
    for who, shift in (("USR", 6), ("GRP", 3), ("OTH", 0))
    for what, bits in (("R", 4), ("W", 2), ("X", 1))
} | {"IRWXU": 0o700, "IRWXG": 0o070, "IRWXO": 0o007}
IPSETS = (
    "keepalived",
    "keepalived6",
    "keepalived_if6",
    "keepalived_igmp",
    "keepalived_mld",
    "keepalived_nd",
)


def is_link_local_group(found: IPv4Address | IPv6Address) -> bool:
    """Whether an IPv6 group is of link-local scope (RFC 4291 2.7)."""
    return found.packed[1] & 0x0F == 2


def _multicast(version: int) -> Any:
    def convert(statement: Statement, context: Context) -> IPv4Address | IPv6Address:
        found = address(statement, context)
        if found.version != version or not found.is_multicast:
            raise Bad("not-multicast", f"'{statement.words[1]}' is not an IPv{version} multicast address")
        if version == 6 and not is_link_local_group(found):
            context.report(
                "group-not-link-local",
                f"'{found}' is not of link-local scope, so adverts may leave the link",
                statement,
                1,
                Severity.LINT,
            )
        return found

    return convert


def _fact(name: str, convert: Any) -> Any:
    """A converter whose value later scripts depend on."""

    def both(statement: Statement, context: Context) -> Any:
        context.facts[name] = value = convert(statement, context)
        return value

    return both


def _timeouts(statement: Statement, context: Context) -> tuple[int, int, int]:
    """lvs_timeouts: tcp, tcpfin and udp in seconds, at most 31 days; 0 leaves the kernel's."""
    names = ("tcp", "tcpfin", "udp")
    found = [0, 0, 0]
    words = statement.words
    need(statement)
    for index in range(1, len(words), 2):
        if words[index] not in names:
            raise Bad("unknown-option", f"'{words[index]}' is not one of {', '.join(names)}", index)
        if index + 1 == len(words):
            raise Bad("missing-value", f"'{words[index]}' needs a number of seconds", index + 1)
        found[names.index(words[index])] = parse_integer(words[index + 1], 0, 2678400, index + 1)
    return found[0], found[1], found[2]


def _mail_server(statement: Statement, context: Context) -> tuple[str, int]:
    server = need(statement)
    return server, parse_integer(statement.words[2], 1, 65535, 2) if len(statement.words) > 2 else 25


def _recipients(statement: Statement, context: Context) -> tuple[str, ...]:
    found = words_of_block(statement, context)
    if not found:
        context.report("no-recipient", "notification_email is empty", statement, 0, Severity.WARNING)
    return found


def _mail_timeout(statement: Statement, context: Context) -> int:
    return max(1, parse_integer(need(statement), 0, 4294))


def _flush_on_stop(statement: Statement, context: Context) -> str:
    if len(statement.words) == 1:
        return "all"
    if statement.words[1] != "VS":
        raise Bad("not-a-choice", f"'{statement.words[1]}' is not VS")
    return "vs"


def _own_check(convert: Any) -> Any:
    """Converter of keywords that look for their words themselves: a missing one is no reason to stop."""

    def check(statement: Statement, context: Context) -> Any:
        try:
            return convert(statement, context)
        except MissingParameter as bad:
            raise Bad("missing-value", bad.message, bad.index) from None

    return check


def _fifo(statement: Statement, context: Context) -> Fifo:
    """`FIFO [user [group]]`."""
    path, words = need(statement), statement.words
    if len(words) < 3:
        return Fifo(path=path)
    who = resolve_identity(words[2], words[3] if len(words) > 3 else "", 2, False)
    return Fifo(path=path, uid=who.uid, gid=who.gid)


def _umask(statement: Statement, context: Context) -> int:
    """A number in any C base, or permission bits joined by `|`."""
    text = "".join(statement.args) or need(statement)
    if text[:1].isdigit():
        return parse_integer(text, 0, 0o777, c_base=True)
    mask = 0
    for name in text.split("|"):
        bits = UMASK_BITS.get(name.removeprefix("S_"))
        if bits is None:
            raise Bad("unknown-option", f"'{name}' is not a permission bit such as IRUSR")
        mask |= bits
    return mask


def _auto_priority(statement: Statement, context: Context) -> int:
    return parse_integer(statement.words[1], -1, 99) if len(statement.words) > 1 else 99


def _at_least_two(statement: Statement, context: Context) -> int:
    """A real-time limit in microseconds: the soft limit is half of it and must not be 0."""
    return max(2, parse_integer(need(statement), 1, UINT32))


def _rx_policy(statement: Statement, context: Context) -> str:
    """MTU, ADVERT or a number of bytes: a number beats a word, MTU beats ADVERT."""
    need(statement)
    best = ""
    for index, text in enumerate(statement.args, 1):
        if text.upper() in ("MTU", "ADVERT"):
            best = best if best.isdecimal() or best == "MTU" else text.upper()
        else:
            best = str(parse_integer(text, 0, UINT32, index))
    return best


def _iptables(statement: Statement, context: Context) -> tuple[str, str]:
    """Names of the input and output chain."""
    names = [*statement.args[:2], "INPUT", "OUTPUT"]
    chains = names[0], names[1] if len(statement.args) != 1 else ""
    for index, name in enumerate(statement.args[:2], 1):
        if len(name) > MAX_CHAIN:
            raise Bad("name-too-long", f"'{name}' is longer than {MAX_CHAIN} characters", index)
    if chains[0] == chains[1]:
        raise Bad("same-name", "both chains have the same name", 2)
    return chains


def _ipsets(statement: Statement, context: Context) -> tuple[str, ...]:
    """Six names of sets; () when sets are switched off by the bare keyword."""
    if len(statement.words) == 1:
        return ()
    given = statement.args[: len(IPSETS)]
    first = given[0]
    derived = (first, f"{first}6", f"{first}_if6", f"{first}_igmp", f"{first}_mld", f"{first}_nd")
    names = (*given, *derived[len(given) :])
    for index, name in enumerate(given, 1):
        if len(name) > MAX_SET:
            raise Bad("name-too-long", f"'{name}' is longer than {MAX_SET} characters", index)
    if len(set(names)) != len(names):
        raise Bad("same-name", "the names of the sets must differ", len(given))
    return names


def _sync_daemon(statement: Statement, context: Context) -> SyncDaemon:
    """`IFNAME [[inst] INSTANCE] [id N] [maxlen N] [port N] [ttl N] [group ADDR]`."""
    words = statement.words
    values: dict[str, Any] = {"interface": parse_interface(need(statement))}
    ranges = {"id": (0, 255), "maxlen": (1, 65507), "port": (1, 65535), "ttl": (1, 255)}
    index = 2
    while index < len(words):
        name = words[index]
        if name not in ranges and name not in ("group", "inst"):
            if index != 2:
                raise Bad("unknown-option", f"'{name}' is not one of inst, id, maxlen, port, ttl, group", index)
            values["instance"] = name
            index += 1
            continue
        if index + 1 == len(words):
            raise Bad("missing-value", f"'{name}' needs a value", index + 1)
        text = words[index + 1]
        if name in ranges:
            values["syncid" if name == "id" else name] = parse_integer(text, *ranges[name], index + 1)
        elif name == "inst":
            values["instance"] = text
        else:
            values["group"] = group = parse_address(text, index + 1)
            if not group.is_multicast:
                raise Bad("not-multicast", f"'{text}' is not a multicast address", index + 1)
        index += 2
    return SyncDaemon(**values)


def _dynamic(statement: Statement, context: Context) -> str:
    return str(choice("allow_if_changes")(statement, context)) if len(statement.words) > 1 else "yes"


def _include_check(statement: Statement, context: Context) -> None:
    """Only looked at: what it does is done where lines are read."""
    for index, text in enumerate(statement.args, 1):
        if text.lstrip("+-") not in ("read", "readable", "match", "wildcard_match", "brace_match"):
            raise Bad("not-a-choice", f"'{text}' is not one of readable, match, wildcard_match, brace_match", index)


ROOT_SCALARS = (
    Keyword(
        "instance",
        word,
        "NAME",
        "Name added to pid files and log identifiers; implies use_pid_dir.",
        field="root.instance",
        once=True,
    ),
    Keyword(
        "use_pid_dir",
        flag(True),
        "",
        "Put pid files in the keepalived run-state directory.",
        default="off",
        field="root.use_pid_dir",
    ),
    Keyword(
        "child_wait_time",
        integer(0, UINT32),
        "SECS",
        "How long a stop waits for the workers before it kills them.",
        default="5",
        field="root.child_wait_time",
    ),
    Keyword(
        "net_namespace",
        word,
        "NAME",
        "Network namespace to run in; switches pid files to the pid directory.",
        field="root.net_namespace",
        once=True,
    ),
    Keyword(
        "net_namespace_ipvs",
        optional_word(""),
        "[NAME]",
        "Namespace of the IPVS tables; bare: the first one of the system.",
        default="that of the daemon",
        field="root.net_namespace_ipvs",
        once=True,
    ),
    Keyword(
        "namespace_with_ipsets",
        flag(True),
        "",
        "Permit ipsets inside a namespace on kernels before 3.13.",
        default="off",
        field="root.namespace_with_ipsets",
    ),
    Keyword(
        "linkbeat_use_polling",
        flag(True),
        "",
        "Watch the link of every VRRP interface by polling.",
        default="off",
        field="root.linkbeat_use_polling",
    ),
)

_MAIL = (
    Keyword(
        "router_id",
        word,
        "STRING",
        "Identity used in mail and SNMP.",
        default="host name",
        field="mail.router_id",
    ),
    Keyword(
        "notification_email",
        _recipients,
        "{ ADDRESS ... }",
        "Recipients of alert mail.",
        field="mail.notification_email",
        raw_block=True,
    ),
    Keyword(
        "notification_email_from",
        word,
        "ADDRESS",
        "Sender of alert mail.",
        default="user@host of the process",
        field="mail.notification_email_from",
    ),
    Keyword(
        "smtp_server",
        _mail_server,
        "HOST_OR_IP [PORT]",
        "Mail server; without one no mail is sent.",
        field="mail.smtp_server",
        range="port 1..65535, 25 when not given",
    ),
    Keyword(
        "smtp_helo_name",
        word,
        "NAME",
        "Name given in HELO.",
        default="host name",
        field="mail.smtp_helo_name",
    ),
    Keyword(
        "smtp_connect_timeout",
        _mail_timeout,
        "SECS",
        "Limit for connecting and for each reply.",
        default="30",
        range="0..4294, 0 becomes 1",
        field="mail.smtp_connect_timeout",
    ),
    Keyword(
        "smtp_alert",
        boolean,
        "[BOOL]",
        "Default of all smtp_alert settings.",
        default="unset",
        field="mail.smtp_alert",
    ),
    Keyword(
        "smtp_alert_vrrp",
        boolean,
        "[BOOL]",
        "Default of smtp_alert for instances and sync groups.",
        default="smtp_alert",
        field="mail.smtp_alert_vrrp",
    ),
    Keyword(
        "smtp_alert_checker",
        boolean,
        "[BOOL]",
        "Default of smtp_alert for virtual and real servers.",
        default="smtp_alert",
        field="mail.smtp_alert_checker",
    ),
    Keyword(
        "no_email_faults",
        flag(True),
        "",
        "No mail for FAULT.",
        default="off",
        field="mail.no_email_faults",
    ),
    Keyword(
        "no_checker_emails",
        boolean,
        "[BOOL]",
        "No mail for a checker's change that leaves its real server as it was.",
        default="off",
        field="mail.no_checker_emails",
    ),
    Keyword(
        "smtp_tls",
        choice("none", "starttls", "tls"),
        "none|starttls|tls",
        "Encryption towards the mail server.",
        default="none",
        field="mail.smtp_tls",
        ours=True,
    ),
    Keyword(
        "smtp_user",
        word,
        "NAME",
        "Login at the mail server; needs smtp_password_file.",
        field="mail.smtp_user",
        ours=True,
    ),
    Keyword(
        "smtp_password_file",
        absolute_path,
        "PATH",
        "File that holds the password of smtp_user.",
        field="mail.smtp_password_file",
        ours=True,
    ),
)


def _process(prefix: str, who: str) -> tuple[Keyword, ...]:
    """Scheduling keywords of one process."""
    field = f"{prefix}_process"
    return (
        Keyword(
            f"{prefix}_process_name",
            cut(PROCESS_NAME),
            "NAME",
            f"Name of the {who} process.",
            range=f"cut to {PROCESS_NAME} characters",
            field=f"{field}.name",
            pending=prefix == "bfd",
        ),
        Keyword(
            f"{prefix}_priority",
            integer(-20, 19),
            "N",
            f"Nice value of the {who} process.",
            default="0",
            range="-20..19",
            field=f"{field}.nice",
            pending=prefix == "bfd",
        ),
        Keyword(
            f"{prefix}_no_swap",
            flag(True),
            "",
            f"Lock the memory of the {who} process.",
            default="off",
            field=f"{field}.no_swap",
            pending=prefix == "bfd",
        ),
        Keyword(
            f"{prefix}_rt_priority",
            clamped(1, 99),
            "N",
            f"Real-time priority (SCHED_RR) of the {who} process.",
            default="none",
            range="1..99",
            field=f"{field}.rt_priority",
            pending=prefix == "bfd",
        ),
        Keyword(
            f"{prefix}_cpu_affinity",
            affinity(os.cpu_count() or 1),
            "CPU [CPU ...]",
            f"Processors of the {who} process; one bad number discards all.",
            default="all",
            field=f"{field}.cpu_affinity",
            pending=prefix == "bfd",
        ),
        Keyword(
            f"{prefix}_rlimit_rttime",
            _at_least_two,
            "USECS",
            f"RLIMIT_RTTIME of the {who} process; the soft limit is half of it.",
            default="10000",
            range="1..4294967295, 1 becomes 2",
            field=f"{field}.rlimit_rttime",
            pending=prefix == "bfd",
        ),
        Keyword(
            f"{prefix}_rlimit_rtime",
            _at_least_two,
            "USECS",
            "Old spelling.",
            field=f"{field}.rlimit_rttime",
            alias_of=f"{prefix}_rlimit_rttime",
            deprecated=Severity.LINT,
            pending=prefix == "bfd",
        ),
    )


_PROCESSES = (
    Keyword(
        "restart_stalled",
        seconds(2, 3600),
        "SECS",
        "A worker that says nothing for so long is killed and started again.",
        default="off: it is reported after 5 s",
        range="2..3600",
        ours=True,
    ),
    Keyword(
        "process_names",
        flag(True),
        "",
        "Name the workers keepalived_vrrp, keepalived_lvs and keepalived_bfd.",
        default="off",
    ),
    Keyword(
        "process_name",
        cut(PROCESS_NAME),
        "NAME",
        "Name of the parent process.",
        range=f"cut to {PROCESS_NAME} characters",
        field="parent_process_name",
    ),
    *_process("vrrp", "VRRP"),
    *_process("checker", "checker"),
    *_process("bfd", "BFD"),
    Keyword(
        "lvs_process_name",
        cut(PROCESS_NAME),
        "NAME",
        "Old spelling.",
        field="checker_process.name",
        alias_of="checker_process_name",
        deprecated=Severity.LINT,
    ),
    Keyword(
        "max_auto_priority",
        _auto_priority,
        "[N]",
        "Highest real-time priority reached by itself when timers run late; bare: 99.",
        default="0 (off)",
        range="-1..99",
    ),
    Keyword(
        "min_auto_priority_delay",
        integer(1, 10000000),
        "USECS",
        "Lateness of a timer that raises the priority.",
        default="1000000",
        range="1..10000000",
    ),
    Keyword(
        "umask",
        _umask,
        "NUMBER | BIT[|BIT...]",
        "File creation mask; option -u beats it.",
        default="0177",
        range="0..0777",
    ),
    Keyword(
        "random_seed",
        integer(0, UINT32),
        "N",
        "Accepted; keepalived gives it no effect either.",
    ),
)

_SCRIPTS = (
    Keyword(
        "script_user",
        script_user,
        "USER [[:]GROUP]",
        "Default identity of scripts from here on.",
        default="see SCRIPTS",
    ),
    Keyword(
        "enable_script_security",
        _fact("enable_script_security", flag(True)),
        "",
        "Refuse scripts run as root that another user could change.",
        default="off",
    ),
    Keyword(
        "use_symlink_paths",
        boolean,
        "[BOOL]",
        "Keep symbolic links in the paths of scripts.",
        default="off",
    ),
    Keyword(
        "set_supplementary_groups",
        _fact("set_supplementary_groups", boolean),
        "[BOOL]",
        "Give every script its user's supplementary groups.",
        default="off",
    ),
    Keyword(
        "startup_script",
        _own_check(SCRIPT),
        "SCRIPT [user [[:]group]]",
        "Run once before the workers start.",
        once=True,
    ),
    Keyword(
        "startup_script_timeout",
        integer(1, 1000),
        "SECS",
        "Limit of startup_script.",
        default="10",
        range="1..1000",
    ),
    Keyword(
        "shutdown_script",
        _own_check(SCRIPT),
        "SCRIPT [user [[:]group]]",
        "Run once after the workers ended.",
        once=True,
    ),
    Keyword(
        "shutdown_script_timeout",
        integer(1, 1000),
        "SECS",
        "Limit of shutdown_script.",
        default="10",
        range="1..1000",
    ),
    Keyword(
        "notify_script_timeout",
        seconds(1, 86400),
        "SECS",
        "How long a notify script may run.",
        default="60",
        range="1..86400",
        field="script_time_limit",
        ours=True,
    ),
    *(
        row
        for prefix, text in (("", "VRRP and checker"), ("vrrp_", "VRRP"), ("lvs_", "checker"))
        for row in (
            Keyword(
                f"{prefix}notify_fifo",
                _own_check(_fifo),
                "FIFO [user [group]]",
                f"FIFO that gets the {text} events.",
                once=True,
            ),
            Keyword(
                f"{prefix}notify_fifo_script",
                _own_check(SCRIPT),
                "SCRIPT [user [[:]group]]",
                f"Program started with the path of {prefix}notify_fifo as last argument.",
                field=f"{prefix}notify_fifo.script",
                once=True,
            ),
        )
    ),
    Keyword(
        "vrrp_notify_priority_changes",
        boolean,
        "[BOOL]",
        "Write changes of priority to the FIFOs.",
        default="off",
    ),
    Keyword(
        "fifo_write_vrrp_states_on_reload",
        flag(True),
        "",
        "Write all states to the FIFOs after a reload.",
        default="off",
    ),
)

_RELOAD = (
    Keyword(
        "reload_check_config",
        optional_word("/dev/null"),
        "[LOG_FILE]",
        "Refuse a reload, and a start, whose file has any error; its messages go to LOG_FILE.",
        default="off",
        field="reload.check_config",
    ),
    Keyword(
        "reload_time_file",
        absolute_path,
        "PATH",
        "File that holds the time of a scheduled reload.",
        field="reload.time_file",
    ),
    Keyword(
        "reload_repeat",
        flag(True),
        "",
        "Reload daily at a time without date.",
        default="off",
        field="reload.repeat",
    ),
    Keyword(
        "reload_file",
        optional_word(""),
        "[PATH]",
        "File that exists while the configuration is read.",
        default="off",
        field="reload.file",
    ),
    Keyword(
        "include_check",
        _include_check,
        "[[+|-]readable|match|wildcard_match|brace_match ...]",
        "Which problems of include count as errors; bare: all.",
        default="none",
        field="(reader)",
    ),
    Keyword(
        "config_save_dir",
        word,
        "DIR",
        "Save configuration and state around each reload.",
        default="off",
        field="reload.config_save_dir",
    ),
    Keyword(
        "tmp_config_directory",
        word,
        "DIR",
        "Accepted; here no copy of the configuration is written.",
        field="reload.tmp_config_directory",
        once=True,
    ),
)

_DUMPS = (
    Keyword(
        "data_use_instance",
        boolean,
        "[BOOL]",
        "Add namespace and instance to the names of dump files.",
        default="off",
    ),
    Keyword(
        "state_dump_file",
        word,
        "PATH",
        "Where SIGUSR1 dumps to; a trailing / is a directory.",
        default="/tmp/keepalived.data",
    ),
    Keyword(
        "stats_dump_file",
        word,
        "PATH",
        "Where SIGUSR2 dumps to.",
        default="/tmp/keepalived.stats",
    ),
    Keyword(
        "json_dump_file",
        word,
        "PATH",
        "Where the JSON signal dumps to.",
        default="/tmp/keepalived.json",
    ),
    Keyword(
        "json_version",
        mapped(choice("1", "2"), int),
        "1|2",
        "Layout of the JSON dump.",
        default="1",
    ),
    Keyword(
        "log_format",
        mapped(choice("text", "json"), "json".__eq__),
        "text|json",
        "Layout of log records on console and in files.",
        default="text",
        field="log_json",
        ours=True,
    ),
)

_SNMP_DBUS = (
    Keyword(
        "snmp_socket",
        word,
        "ADDRESS",
        "AgentX master.",
        default="unix:/var/agentx/master",
        field="snmp_dbus.snmp_socket",
        once=True,
        pending=True,
    ),
    *(
        Keyword(name, flag(True), "", text, default="off", field=f"snmp_dbus.{name}", pending=True)
        for name, text in (
            ("enable_traps", "Send SNMP traps."),
            ("enable_snmp_vrrp", "Serve the VRRP part of KEEPALIVED-MIB."),
            ("enable_snmp_checker", "Serve the checker part of KEEPALIVED-MIB."),
            ("enable_snmp_rfcv2", "Serve VRRP-MIB (RFC 2787)."),
            ("enable_snmp_rfcv3", "Serve VRRPV3-MIB (RFC 6527)."),
            ("enable_dbus", "Serve the D-Bus interface."),
        )
    ),
    Keyword(
        "enable_snmp_rfc",
        flag(True),
        "",
        "Both RFC MIBs.",
        default="off",
        field="(both)",
        pending=True,
    ),
    Keyword(
        "enable_snmp_keepalived",
        flag(True),
        "",
        "Old spelling.",
        field="snmp_dbus.enable_snmp_vrrp",
        alias_of="enable_snmp_vrrp",
        pending=True,
    ),
    Keyword(
        "snmp_vs_stats_update_interval",
        seconds(0.001, 30),
        "SECS",
        "How long statistics of virtual servers are kept.",
        default="5",
        range="0.001..30 s",
        field="snmp_dbus.vs_stats_update_interval",
        pending=True,
    ),
    Keyword(
        "snmp_rs_stats_update_interval",
        seconds(0.001, 30),
        "SECS",
        "How long statistics of real servers are kept.",
        default="snmp_vs_stats_update_interval",
        range="0.001..30 s",
        field="snmp_dbus.rs_stats_update_interval",
        pending=True,
    ),
    Keyword(
        "dbus_service_name",
        word,
        "NAME",
        "Well-known D-Bus name.",
        default="org.keepalived.Vrrp1",
        field="snmp_dbus.dbus_service_name",
        pending=True,
    ),
    Keyword(
        "dbus_no_interface_name",
        word,
        "NAME",
        "Path element of an instance without interface.",
        default="none",
        field="snmp_dbus.dbus_no_interface_name",
        pending=True,
    ),
)

_BUFFERS = (
    *(
        row
        for name, target, text in (
            ("vrrp_netlink_cmd_rcv_bufs", "vrrp_netlink_cmd", "the VRRP worker's netlink command socket"),
            ("vrrp_netlink_monitor_rcv_bufs", "vrrp_netlink_monitor", "the VRRP worker's netlink monitor"),
            ("lvs_netlink_cmd_rcv_bufs", "lvs_netlink_cmd", "the checker's netlink command socket"),
            ("lvs_netlink_monitor_rcv_bufs", "lvs_netlink_monitor", "the checker's netlink monitor"),
            ("process_monitor_rcv_bufs", "process_monitor", "the process monitor"),
        )
        for row in (
            Keyword(
                name,
                integer(0, UINT32),
                "BYTES",
                f"Receive buffer of {text}; 0: the kernel's default.",
                default="kernel default",
                field=f"buffers.{target}",
            ),
            Keyword(
                f"{name}_force",
                boolean,
                "[BOOL]",
                "Beyond the limit of the system (SO_RCVBUFFORCE).",
                default="off",
                field=f"buffers.{target}_force",
            ),
        )
    ),
    Keyword(
        "vrrp_rx_bufs_policy",
        _rx_policy,
        "MTU|ADVERT|NUMBER",
        "Receive buffers of the VRRP sockets; ours are never smaller than adverts need.",
        default="kernel default",
        field="buffers.vrrp_rx_policy",
    ),
    Keyword(
        "vrrp_rx_bufs_multiplier",
        integer(1, UINT32),
        "N",
        "Factor for the policies MTU and ADVERT.",
        default="3",
        field="buffers.vrrp_rx_multiplier",
    ),
)

_GARP = (
    Keyword(
        "vrrp_garp_master_delay",
        integer(0, 4294),
        "SECS",
        "Delay before the second burst of announcements, 0 for none.",
        default="5",
        range="0..4294",
        field="garp.master_delay",
    ),
    Keyword(
        "vrrp_garp_master_repeat",
        at_least_one,
        "N",
        "Announcements per burst.",
        default="5",
        field="garp.master_repeat",
    ),
    Keyword(
        "vrrp_garp_master_refresh",
        integer(0, UINT32),
        "SECS",
        "Period of announcements while MASTER, 0 for none.",
        default="0",
        field="garp.master_refresh",
    ),
    Keyword(
        "vrrp_garp_master_refresh_repeat",
        at_least_one,
        "N",
        "Announcements per refresh.",
        default="1",
        field="garp.master_refresh_repeat",
    ),
    Keyword(
        "vrrp_garp_lower_prio_delay",
        integer(0, 4294),
        "SECS",
        "Second burst after a lower-priority advert.",
        default="vrrp_garp_master_delay",
        range="0..4294",
        field="garp.lower_prio_delay",
    ),
    Keyword(
        "vrrp_garp_lower_prio_repeat",
        integer(0, INT32),
        "N",
        "Announcements after a lower-priority advert.",
        default="vrrp_garp_master_repeat",
        field="garp.lower_prio_repeat",
    ),
    Keyword(
        "vrrp_garp_interval",
        seconds(0.000001, TIMER_MAX),
        "SECS",
        "Least gap between gratuitous ARPs on an interface.",
        default="0",
        field="garp.interval",
    ),
    Keyword(
        "vrrp_gna_interval",
        seconds(0.000001, TIMER_MAX),
        "SECS",
        "Least gap between unsolicited neighbour advertisements on an interface.",
        default="0",
        field="garp.gna_interval",
    ),
    Keyword(
        "vrrp_min_garp",
        boolean,
        "[BOOL]",
        "One announcement, no second burst and no refresh, where nothing else is set.",
        default="off",
        field="garp.min_garp",
    ),
    Keyword(
        "vrrp_garp_extra_if",
        extra_interface(1),
        "[all] SECS",
        "Period of announcements on interfaces that hold addresses but send no adverts.",
        default="off",
        range="1..86400 s",
        field="garp.extra_if",
    ),
    Keyword(
        "vrrp_vmac_garp_intvl",
        extra_interface(1),
        "[all] SECS",
        "Old spelling.",
        field="garp.extra_if",
        alias_of="vrrp_garp_extra_if",
    ),
)

_FIREWALL = (
    Keyword(
        "vrrp_iptables",
        _iptables,
        "[IN_CHAIN [OUT_CHAIN]]",
        "Use iptables for accept mode and VMAC filters, unless it writes to nftables itself.",
        default="off; bare: INPUT OUTPUT",
        field="firewall.iptables",
        once=True,
    ),
    Keyword(
        "vrrp_ipsets",
        _ipsets,
        "[SET [SET6 [SET_IF6 [SET_IGMP [SET_MLD [SET_ND]]]]]]",
        "Names of the sets that go with vrrp_iptables; bare: rules do without sets.",
        default=" ".join(IPSETS),
        field="firewall.ipset_names",
    ),
    Keyword(
        "nftables",
        optional_word(FirewallSettings().nftables_table),
        "[TABLE]",
        "Use nftables for accept mode and VMAC filters.",
        default="used when needed; table keepalived",
        field="firewall.nftables_table",
        once=True,
    ),
    Keyword(
        "nftables_priority",
        integer(-(2**31), INT32),
        "N",
        "Priority of the base chains.",
        default="-1",
        field="firewall.nftables_priority",
    ),
    Keyword(
        "nftables_ifindex",
        flag(True),
        "",
        "Know link-local addresses by the index of their interface, also where `dont_track_primary` means its name.",
        default="off",
        field="firewall.nftables_ifindex",
    ),
    Keyword(
        "nftables_counters",
        flag(True),
        "",
        "Add counters to the rules.",
        default="off",
        field="firewall.nftables_counters",
    ),
    Keyword(
        "disable_local_igmp",
        flag(True),
        "",
        "Switch off IGMP reports for link-local groups while running.",
        default="off",
    ),
)

_VRRP = (
    Keyword(
        "vrrp_version",
        mapped(choice("2", "3"), int),
        "2|3",
        "Default VRRP version of IPv4 instances.",
        default="2",
    ),
    Keyword("vrrp_strict", boolean, "[BOOL]", "Default of strict_mode.", default="off"),
    Keyword(
        "vrrp_mcast_group4",
        _multicast(4),
        "ADDR",
        "IPv4 group for adverts.",
        default="224.0.0.18",
        field="mcast_group4",
    ),
    Keyword(
        "vrrp_mcast_group6",
        _multicast(6),
        "ADDR",
        "IPv6 group for adverts.",
        default="ff02::12",
        field="mcast_group6",
    ),
    *_GARP,
    Keyword(
        "vrrp_down_timer_adverts",
        integer(1, 100),
        "N",
        "Advert intervals of silence before a backup takes over.",
        default="3",
        range="1..100",
        field="down_timer_adverts",
    ),
    Keyword(
        "vrrp_lower_prio_no_advert",
        boolean,
        "[BOOL]",
        "A master does not answer a lower-priority advert.",
        default="off; on in strict mode",
        field="lower_prio_no_advert",
    ),
    Keyword(
        "vrrp_higher_prio_send_advert",
        boolean,
        "[BOOL]",
        "A master answers a higher-priority advert once before it yields.",
        default="off",
        field="higher_prio_send_advert",
    ),
    Keyword(
        "vrrp_owner_ignore_adverts",
        boolean,
        "[BOOL]",
        "Default of owner_ignore_adverts.",
        default="off; on in strict mode",
        field="owner_ignore_adverts",
    ),
    Keyword(
        "v3_checksum_as_v2",
        flag(True),
        "",
        "Default of v3_checksum_as_v2.",
        default="off",
    ),
    Keyword(
        "vrrp_check_unicast_src",
        flag(True),
        "",
        "Default of check_unicast_src.",
        default="off",
        field="check_unicast_src",
    ),
    Keyword(
        "vrrp_skip_check_adv_addr",
        boolean,
        "[BOOL]",
        "Default of skip_check_adv_addr.",
        default="off",
        field="skip_check_adv_addr",
    ),
    Keyword(
        "vrrp_strict_address_list",
        boolean,
        "[BOOL]",
        "Reject adverts with another address list instead of logging them.",
        default="off",
        field="strict_address_list",
        ours=True,
    ),
    Keyword(
        "vrrp_startup_delay",
        seconds(0.001, TIMER_MAX),
        "SECS",
        "Wait after a start before VRRP begins.",
        default="0",
        field="startup_delay",
    ),
    Keyword(
        "vrrp_delay_after_boot",
        seconds(0.001, TIMER_MAX),
        "SECS",
        "The same, counted from boot; the longer of both counts.",
        default="0",
        field="delay_after_boot",
    ),
    Keyword("log_unknown_vrids", flag(True), "", "Log adverts for VRIDs that are not configured.", default="off"),
    Keyword(
        "vmac_prefix",
        word,
        "STRING",
        "Beginning of the names made for VMACs.",
        default="vrrp",
        once=True,
    ),
    Keyword(
        "vmac_addr_prefix",
        word,
        "STRING",
        "Beginning of the names made for VMACs of single addresses.",
        default="vmac_prefix",
        once=True,
    ),
    Keyword(
        "vrrp_hand_over",
        choice("auto", "always", "never"),
        "auto|always|never",
        "At a stop a master says farewell at once and keeps its addresses until another router has taken over, at most"
        " as long as the lowest priority takes for that. auto: where another router was heard, says that it listens"
        " (IGMP, MLD), or is a unicast peer.",
        default="auto",
        field="hand_over",
        ours=True,
    ),
    Keyword(
        "vrrp_restore_lost",
        integer(0, 1000),
        "N",
        "Losses of an address, route or rule in a row that are put back before the master role is given up; 0: from the"
        " first.",
        default="5",
        field="restore_lost",
        ours=True,
    ),
    Keyword(
        "dynamic_interfaces",
        _dynamic,
        "[allow_if_changes]",
        "Accept interfaces that do not exist yet; with the word also other ones of the same name.",
        default="off",
    ),
    Keyword(
        "default_interface",
        interface,
        "IFNAME",
        "Interface of static addresses without dev.",
        default="eth0",
    ),
    Keyword(
        "iproute_usr_dir",
        absolute_path,
        "PATH",
        "Where iproute2's own name tables are.",
        default="/usr/share/iproute2",
    ),
    Keyword(
        "iproute_etc_dir",
        absolute_path,
        "PATH",
        "Where the name tables of this machine are; they win.",
        default="/etc/iproute2",
    ),
)

_IPVS = (
    Keyword(
        "lvs_sync_daemon",
        _sync_daemon,
        "IFNAME [[inst] INSTANCE] [id N] [maxlen N] [port N] [ttl N] [group ADDR]",
        "Run the kernel's connection synchronisation; with an instance following its state.",
        range="id 0..255, maxlen 1..65507, port 1..65535, ttl 1..255, group multicast",
    ),
    Keyword(
        "lvs_timeouts",
        _timeouts,
        "[tcp SECS] [tcpfin SECS] [udp SECS]",
        "IPVS timeouts; 0 leaves one alone.",
        default="unchanged",
        range="0..2678400 s",
        field="ipvs.timeouts",
    ),
    Keyword("lvs_flush", flag(True), "", "Clear all IPVS services at start.", default="off", field="ipvs.flush"),
    Keyword(
        "lvs_flush_on_stop",
        _flush_on_stop,
        "[VS]",
        "Remove IPVS services faster at stop; VS: only our own.",
        default="off",
        field="ipvs.flush_on_stop",
    ),
    Keyword(
        "lvs_flush_onstop",
        _flush_on_stop,
        "[VS]",
        "Old spelling.",
        field="ipvs.flush_on_stop",
        alias_of="lvs_flush_on_stop",
        deprecated=Severity.LINT,
    ),
    Keyword(
        "nftables_ipvs",
        optional_word("keepalived_ipvs"),
        "[TABLE]",
        "One firewall mark for each virtual server group, set by nftables.",
        default="off; bare: keepalived_ipvs",
        field="ipvs.nftables_table",
        once=True,
    ),
    Keyword(
        "nftables_ipvs_priority",
        integer(-(2**31), INT32),
        "N",
        "Priority of its chain.",
        default="-1",
        field="ipvs.nftables_priority",
    ),
    Keyword(
        "nftables_ipvs_start_fwmark",
        integer(1, UINT32),
        "N",
        "First mark.",
        default="1000",
        field="ipvs.nftables_start_fwmark",
    ),
    Keyword(
        "checker_log_all_failures",
        boolean,
        "[BOOL]",
        "Log every failed check, also those that will be retried.",
        default="off",
    ),
    Keyword(
        "checker_share_probes",
        boolean,
        "[BOOL]",
        "Make equal checks once and share the result.",
        default="on",
        ours=True,
    ),
    Keyword(
        "rs_init_notifies",
        boolean,
        "[BOOL]",
        "Run notify scripts of real servers for their first state too.",
        default="off",
    ),
)

GLOBAL_DEFS = Section(
    "global_defs",
    (
        *_MAIL,
        *_SCRIPTS,
        *_RELOAD,
        *_PROCESSES,
        *_DUMPS,
        *_SNMP_DBUS,
        *_VRRP,
        *_FIREWALL,
        *_BUFFERS,
        *_IPVS,
    ),
)

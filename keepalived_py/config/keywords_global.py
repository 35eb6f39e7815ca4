"""The tables of the root scalars and of global_defs. A dotted field is the place in the frozen GlobalDefs."""

from __future__ import annotations

from .converters import (
    UINT32,
    absolute_path,
    boolean,
    choice,
    flag,
    integer,
    mapped,
    need,
    optional_word,
    parse_integer,
    seconds,
    word,
    words_of_block,
)
from .keywords_global_ipvs import IPVS
from .keywords_global_process import PROCESSES, SCRIPTS
from .keywords_global_vrrp import FIREWALL, VRRP
from .problems import Severity
from .schema import Bad, Context, Keyword, Section
from .tree import Statement


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


GLOBAL_DEFS = Section(
    "global_defs",
    (
        *_MAIL,
        *SCRIPTS,
        *_RELOAD,
        *PROCESSES,
        *_DUMPS,
        *_SNMP_DBUS,
        *VRRP,
        *FIREWALL,
        *_BUFFERS,
        *IPVS,
    ),
)

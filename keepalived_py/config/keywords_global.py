"""The tables of the root scalars and of global_defs, and what is made of them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

from .converters import (
    INT32,
    UINT32,
    address,
    at_least_one,
    boolean,
    choice,
    flag,
    integer,
    mapped,
    parse_integer,
    word,
    words_of_block,
)
from .model import GarpDefaults, GlobalDefs, IpvsSettings, MailSettings, RootSettings, Script
from .schema import Bad, Context, Draft, Keyword, Section
from .scripts import script_user
from .tree import Statement


def _multicast(version: int) -> Any:
    def convert(statement: Statement, context: Context) -> IPv4Address | IPv6Address:
        found = address(statement, context)
        if found.version != version or not found.is_multicast:
            raise Bad("not-multicast", f"'{statement.words[1]}' is not an IPv{version} multicast address")
        return found

    return convert


def _script_security(statement: Statement, context: Context) -> bool:
    context.facts["enable_script_security"] = True
    return True


def _timeouts(statement: Statement, context: Context) -> dict[str, int]:
    """lvs_timeouts: pairs of name and seconds, at most 31 days."""
    found: dict[str, int] = {}
    words = statement.words
    for index in range(1, len(words), 2):
        if words[index] not in ("tcp", "tcpfin", "udp"):
            raise Bad("unknown-option", f"'{words[index]}' is not one of tcp, tcpfin, udp", index)
        if index + 1 == len(words):
            raise Bad("missing-value", f"'{words[index]}' needs a number of seconds", index + 1)
        found[words[index]] = parse_integer(words[index + 1], 0, 2678400, index + 1)
    if not found:
        raise Bad("missing-value", "names no timeout")
    return found


def _mail_server(statement: Statement, context: Context) -> tuple[str, int]:
    server = word(statement, context)
    return server, parse_integer(statement.words[2], 1, 65535, 2) if len(statement.words) > 2 else 25


def _flush_on_stop(statement: Statement, context: Context) -> str:
    if len(statement.words) == 1:
        return "all"
    if statement.words[1] != "VS":
        raise Bad("not-a-choice", f"'{statement.words[1]}' is not VS")
    return "vs"


ROOT_SCALARS = (
    Keyword("instance", word, "NAME", "Name added to pid files and log identifiers; implies use_pid_dir."),
    Keyword("use_pid_dir", flag(True), "", "Put pid files in the keepalived run-state directory.", default="off"),
    Keyword(
        "child_wait_time",
        integer(0, UINT32),
        "SECS",
        "How long a stop waits for the workers before it kills them.",
        default="5",
    ),
)

GLOBAL_DEFS = Section(
    "global_defs",
    (
        Keyword("router_id", word, "STRING", "Identity used in mail and logs.", default="host name"),
        Keyword(
            "notification_email",
            words_of_block,
            "{ ADDRESS ... }",
            "Recipients of alert mail.",
            raw_block=True,
            pending=True,
        ),
        Keyword("notification_email_from", word, "ADDRESS", "Sender of alert mail.", pending=True),
        Keyword("smtp_server", _mail_server, "HOST_OR_IP [PORT]", "Mail server.", default="none", pending=True),
        Keyword(
            "smtp_connect_timeout",
            integer(0, 4294),
            "SECS",
            "Limit for connecting and each reply.",
            default="30",
            pending=True,
        ),
        Keyword("smtp_alert", boolean, "[BOOL]", "Default for all smtp_alert settings.", default="unset", pending=True),
        Keyword("script_user", script_user, "USER [[:]GROUP]", "Default identity of scripts."),
        Keyword(
            "enable_script_security",
            _script_security,
            "",
            "Refuse scripts run as root that another user could change.",
            default="off",
            pending=True,
        ),
        Keyword(
            "vrrp_version",
            mapped(choice("2", "3"), int),
            "2|3",
            "Default VRRP version of IPv4 instances.",
            default="2",
        ),
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
        Keyword(
            "vrrp_garp_master_delay",
            integer(0, 4294),
            "SECS",
            "Delay before the second burst of announcements.",
            default="5",
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
            "vrrp_down_timer_adverts",
            integer(1, 100),
            "N",
            "Advert intervals of silence before a backup takes over.",
            default="3",
            field="down_timer_adverts",
        ),
        Keyword(
            "vrrp_lower_prio_no_advert",
            boolean,
            "[BOOL]",
            "A master does not answer a lower-priority advert.",
            default="off",
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
            "vrrp_strict_address_list",
            boolean,
            "[BOOL]",
            "Reject adverts with another address list instead of logging them.",
            default="off",
            field="strict_address_list",
            ours=True,
        ),
        Keyword("log_unknown_vrids", flag(True), "", "Log adverts for VRIDs that are not configured.", default="off"),
        Keyword(
            "checker_log_all_failures",
            boolean,
            "[BOOL]",
            "Log every failed check, also those that will be retried.",
            default="off",
        ),
        Keyword(
            "lvs_timeouts", _timeouts, "[tcp SECS] [tcpfin SECS] [udp SECS]", "IPVS timeouts.", default="unchanged"
        ),
        Keyword("lvs_flush", flag(True), "", "Clear all IPVS services at start.", default="off"),
        Keyword("lvs_flush_on_stop", _flush_on_stop, "[VS]", "Remove IPVS services faster at stop.", default="off"),
    ),
)


def build_global_defs(root: Draft, draft: Draft, context: Context) -> GlobalDefs:
    """The frozen GlobalDefs out of what root and global_defs said."""
    garp = {name.removeprefix("garp."): value for name, value in draft.values.items() if name.startswith("garp.")}
    timeouts = draft.get("lvs_timeouts", {})
    server = draft.get("smtp_server", ("", 25))
    return GlobalDefs(
        root=RootSettings(**root.pick("instance", "use_pid_dir", "child_wait_time")),
        mail=MailSettings(
            **draft.pick(
                "router_id", "notification_email", "notification_email_from", "smtp_connect_timeout", "smtp_alert"
            ),
            smtp_server=server[0],
            smtp_port=server[1],
        ),
        garp=GarpDefaults(**garp),
        ipvs=IpvsSettings(
            timeout_tcp=timeouts.get("tcp", 0),
            timeout_tcpfin=timeouts.get("tcpfin", 0),
            timeout_udp=timeouts.get("udp", 0),
            flush=draft.get("lvs_flush", False),
            flush_on_stop=draft.get("lvs_flush_on_stop", "no"),
        ),
        script_user=_named(draft.get("script_user")),
        **draft.pick(
            "enable_script_security",
            "vrrp_version",
            "mcast_group4",
            "mcast_group6",
            "down_timer_adverts",
            "lower_prio_no_advert",
            "higher_prio_send_advert",
            "strict_address_list",
            "log_unknown_vrids",
            "checker_log_all_failures",
        ),
    )


def _named(found: Any) -> Script | None:
    return found if isinstance(found, Script) else None

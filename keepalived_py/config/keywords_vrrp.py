"""The tables of vrrp_instance, vrrp_sync_group and vrrp_script."""

from __future__ import annotations

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
    interface,
    mapped,
    need,
    parse_address,
    parse_integer,
    parse_interface,
    seconds,
    word,
    words_of_block,
)
from .links import addresses
from .model import Track, UnicastPeer
from .problems import Severity
from .schema import Bad, Context, Keyword, Section, lines_of
from .scripts import SCRIPT
from .tree import Statement


def _state(statement: Statement, context: Context) -> str:
    text = need(statement)
    if text in ("MASTER", "BACKUP"):
        return text
    raise Bad("bad-state", f"unknown state '{text}', taken as BACKUP", 1, value="BACKUP", use_value=True)


def _priority(statement: Statement, context: Context) -> int:
    try:
        return parse_integer(need(statement), 1, 255)
    except Bad as bad:
        bad.value, bad.use_value = 100, True
        raise


def _reported(read: Any) -> Any:
    """A value block whose bad lines are reported one by one; the good ones count."""

    def convert(statement: Statement, context: Context) -> tuple[Any, ...]:
        found = []
        for line in lines_of(statement):
            try:
                found.append((read(line, context), line))
            except Bad as bad:
                context.problems.add(bad.id, bad.severity, bad.message, line.at(bad.index))
        return tuple(found)

    return convert


def _weight(line: Statement, limit: int, default: int | None) -> tuple[int | None, bool]:
    """`[weight N [reverse|noreverse]]` behind a name; `default` when not given."""
    words = line.words
    if len(words) == 1:
        return default, False
    if words[1] != "weight":
        raise Bad("unknown-option", f"'{words[1]}' is not weight", 1)
    if len(words) == 2:
        raise Bad("missing-value", "'weight' needs a number", 2)
    weight = parse_integer(words[2], -limit - 1, limit + 1, 2)
    if len(words) > 3 and words[3] not in ("reverse", "noreverse"):
        raise Bad("unknown-option", f"'{words[3]}' is not reverse", 3)
    return max(-limit, min(limit, weight)), len(words) > 3 and words[3] == "reverse"


def _track_interface(line: Statement, context: Context) -> Track:
    name = parse_interface(line.words[0], 0)
    weight, reverse = _weight(line, 253, 0)
    return Track(kind="interface", name=name, weight=weight or 0, reverse=reverse)


def _track_script(line: Statement, context: Context) -> Track:
    name = line.words[0]
    scripts = context.facts.setdefault("vrrp_scripts", {})
    if name not in scripts:
        raise Bad("unknown-script", f"script '{name}' is not defined above", 0)
    weight, reverse = _weight(line, 253, None)
    own = scripts[name]
    if weight is None:
        return Track(kind="script", name=name, weight=own.weight, reverse=own.reverse)
    return Track(kind="script", name=name, weight=weight, reverse=reverse)


def _peer(line: Statement, context: Context) -> UnicastPeer:
    found = parse_address(line.words[0], 0)
    ttls = {"min_ttl": 0, "max_ttl": 255}
    for index in range(1, len(line.words), 2):
        name = line.words[index]
        if name not in ttls:
            raise Bad("unknown-option", f"'{name}' is not min_ttl or max_ttl", index)
        if index + 1 == len(line.words):
            raise Bad("missing-value", f"'{name}' needs a number", index + 1)
        ttls[name] = parse_integer(line.words[index + 1], 0, 255, index + 1)
    return UnicastPeer(address=found, **ttls)


def _advert_int(statement: Statement, context: Context) -> float:
    return float(seconds(0.01, 255)(statement, context))


def _password(statement: Statement, context: Context) -> bytes:
    password = need(statement).encode("utf-8", "surrogateescape")
    if len(password) > 8:
        context.report(
            "password-cut", "auth_pass is longer than 8 characters and cut there", statement, 1, Severity.LINT
        )
    return password[:8]


AUTHENTICATION = Section(
    "authentication",
    (
        Keyword("auth_type", choice("PASS", "AH"), "PASS|AH", "Simple password, or the authentication header."),
        Keyword("auth_pass", _password, "STRING", "Password; only the first 8 bytes count."),
    ),
)

_NOTIFY = (
    Keyword("notify_master", SCRIPT, "SCRIPT [user [group]]", "Run on entry to MASTER.", once=True),
    Keyword("notify_backup", SCRIPT, "SCRIPT [user [group]]", "Run on entry to BACKUP.", once=True),
    Keyword("notify_fault", SCRIPT, "SCRIPT [user [group]]", "Run on entry to FAULT.", once=True),
    Keyword("notify_stop", SCRIPT, "SCRIPT [user [group]]", "Run when the daemon stops.", once=True),
    Keyword(
        "notify",
        SCRIPT,
        "SCRIPT [user [group]]",
        "Run on every change, with type, name, state and priority.",
        once=True,
    ),
)

VRRP_INSTANCE = Section(
    "vrrp_instance",
    (
        Keyword(
            "state", _state, "MASTER|BACKUP", "Wanted state at start.", default="MASTER for priority 255, else BACKUP"
        ),
        Keyword("interface", interface, "IFNAME", "Interface the instance runs on."),
        Keyword("virtual_router_id", integer(1, 255), "N", "VRID.", range="1..255"),
        Keyword(
            "version", mapped(choice("2", "3"), int), "2|3", "Protocol version.", default="vrrp_version; 3 for IPv6"
        ),
        Keyword("priority", _priority, "N", "Base priority.", default="100", range="1..255"),
        Keyword("advert_int", _advert_int, "SECS", "Interval of the adverts.", default="1", range="0.01..255 s"),
        Keyword("preempt", flag(True), "", "Take over from a lower-priority master.", default="on"),
        Keyword("nopreempt", flag(False), "", "Do not take over from a lower-priority master.", field="preempt"),
        Keyword("preempt_delay", seconds(0, 1000), "SECS", "Wait before taking over.", default="0"),
        Keyword(
            "dont_track_primary", flag(True), "", "Ignore the state of the instance's own interface.", default="off"
        ),
        Keyword(
            "track_interface",
            _reported(_track_interface),
            "{ IFNAME [weight N [reverse]] ... }",
            "Interfaces whose state counts.",
            raw_block=True,
            many=True,
        ),
        Keyword(
            "track_script",
            _reported(_track_script),
            "{ SCRIPT [weight N [reverse|noreverse]] ... }",
            "Scripts whose result counts.",
            raw_block=True,
            many=True,
        ),
        Keyword("mcast_src_ip", address, "ADDR", "Source address of adverts.", field="source"),
        Keyword("unicast_src_ip", address, "ADDR", "Source address of unicast adverts.", field="unicast_source"),
        Keyword(
            "unicast_peer",
            _reported(_peer),
            "{ ADDR [min_ttl N] [max_ttl N] ... }",
            "Send adverts to these routers instead of the group.",
            raw_block=True,
            many=True,
        ),
        Keyword("check_unicast_src", flag(True), "", "Accept unicast adverts from peers only.", default="off"),
        Keyword("unicast_ttl", integer(0, 255), "N", "TTL of unicast adverts.", default="255 for IPv4"),
        Keyword("authentication", None, "{ block }", "VRRPv2 authentication.", block=AUTHENTICATION),
        Keyword(
            "virtual_ipaddress",
            addresses,
            "{ ADDRESS line ... }",
            "Addresses that the master holds and advertises.",
            raw_block=True,
            many=True,
        ),
        Keyword(
            "virtual_ipaddress_excluded",
            addresses,
            "{ ADDRESS line ... }",
            "Addresses that the master holds without advertising them.",
            raw_block=True,
            many=True,
        ),
        Keyword(
            "garp_master_delay", integer(0, 4294), "SECS", "See vrrp_garp_master_delay.", field="garp.master_delay"
        ),
        Keyword("garp_master_repeat", at_least_one, "N", "See vrrp_garp_master_repeat.", field="garp.master_repeat"),
        Keyword(
            "garp_master_refresh",
            integer(0, UINT32),
            "SECS",
            "See vrrp_garp_master_refresh.",
            field="garp.master_refresh",
        ),
        Keyword(
            "garp_master_refresh_repeat",
            at_least_one,
            "N",
            "See vrrp_garp_master_refresh_repeat.",
            field="garp.master_refresh_repeat",
        ),
        Keyword(
            "garp_lower_prio_delay",
            integer(0, 4294),
            "SECS",
            "See vrrp_garp_lower_prio_delay.",
            field="garp.lower_prio_delay",
        ),
        Keyword(
            "garp_lower_prio_repeat",
            integer(0, INT32),
            "N",
            "See vrrp_garp_lower_prio_repeat.",
            field="garp.lower_prio_repeat",
        ),
        Keyword("down_timer_adverts", integer(1, 100), "N", "See vrrp_down_timer_adverts."),
        Keyword("lower_prio_no_advert", boolean, "[BOOL]", "See vrrp_lower_prio_no_advert."),
        Keyword("higher_prio_send_advert", boolean, "[BOOL]", "See vrrp_higher_prio_send_advert."),
        Keyword("strict_address_list", boolean, "[BOOL]", "See vrrp_strict_address_list.", ours=True),
        Keyword("debug", integer(0, 4), "N", "Accepted; keepalived gives it no effect either."),
        Keyword("smtp_alert", boolean, "[BOOL]", "Mail on a change of state.", pending=True),
        *_NOTIFY,
    ),
)

VRRP_SYNC_GROUP = Section(
    "vrrp_sync_group",
    (
        Keyword("group", words_of_block, "{ INSTANCE ... }", "Members.", raw_block=True, once=True),
        Keyword("smtp_alert", boolean, "[BOOL]", "Mail on a change of state.", pending=True),
        *_NOTIFY,
    ),
)


def _zero_is_one(low: float, high: float) -> Any:
    def convert(statement: Statement, context: Context) -> float:
        return float(seconds(low, high)(statement, context)) if need(statement) != "0" else 1.0

    return convert


def _script_weight(statement: Statement, context: Context) -> tuple[int, bool]:
    weight = parse_integer(need(statement), -253, 253)
    return weight, len(statement.words) > 2 and statement.words[2] == "reverse"


VRRP_SCRIPT = Section(
    "vrrp_script",
    (
        Keyword("script", SCRIPT, "COMMAND", "What to run; exit status 0 is good.", once=True),
        Keyword("interval", _zero_is_one(0.001, 4294), "SECS", "Time between starts.", default="1"),
        Keyword("timeout", _zero_is_one(0.001, 4294), "SECS", "Limit of one run.", default="interval"),
        Keyword("weight", _script_weight, "N [reverse]", "Default weight where it is tracked.", default="0"),
        Keyword("rise", integer(1, INT32), "N", "Successes to become up.", default="1"),
        Keyword("fall", integer(1, INT32), "N", "Failures to become down.", default="1"),
        Keyword("user", word, "USER [[:]GROUP]", "Identity."),
        Keyword("init_fail", flag(True), "", "Start as failed.", default="off"),
    ),
)

"""The tables of virtual_server, real_server and the checkers."""

from __future__ import annotations

import re
from typing import Any

from keepalived_py.values import IPAddress, Protocol

from .converters import (
    INT32,
    UINT32,
    address,
    boolean,
    choice,
    flag,
    integer,
    interface,
    mapped,
    need,
    parse_address,
    parse_integer,
    port,
    seconds,
    word,
)
from .lexer import split_shell_words
from .model import Forwarding
from .schema import Bad, Context, Keyword, Section
from .scripts import SCRIPT
from .tree import Statement

SCHEDULERS = ("rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "mh", "dh", "fo", "ovf", "sed", "nq", "twos")
MAX_PERSISTENCE = 2678400
TIMER_MAX = 4294.967295


def _forwarding(statement: Statement, context: Context) -> Forwarding:
    """NAT, DR or TUN [type ipip|gue|gre] [port N] [nocsum|csum|remcsum]."""
    method = need(statement)
    if method not in ("NAT", "DR", "TUN"):
        raise Bad("not-a-choice", f"'{method}' is not one of NAT, DR, TUN")
    kind, tunnel_port, csum = "ipip", 0, "nocsum"
    index, words = 2, statement.words
    while index < len(words) and method == "TUN":
        if words[index] in ("nocsum", "csum", "remcsum"):
            csum = words[index]
            index += 1
        elif words[index] in ("type", "port") and index + 1 < len(words):
            if words[index] == "port":
                tunnel_port = parse_integer(words[index + 1], 1, 65535, index + 1)
            elif words[index + 1] in ("ipip", "gue", "gre"):
                kind = words[index + 1]
            else:
                raise Bad("not-a-choice", f"'{words[index + 1]}' is not one of ipip, gue, gre", index + 1)
            index += 2
        else:
            raise Bad("unknown-option", f"'{words[index]}' is not an option of TUN", index)
    if (kind == "gue") != bool(tunnel_port):
        raise Bad("tunnel-port", "a tunnel of type gue needs a port, the other types take none", 1)
    if (kind == "ipip" and csum != "nocsum") or (kind == "gre" and csum == "remcsum"):
        raise Bad("tunnel-checksum", f"a tunnel of type {kind} does not take {csum}", 1)
    return context.share(Forwarding(method=method, tunnel_type=kind, tunnel_port=tunnel_port, tunnel_csum=csum))


def _persistence(statement: Statement, context: Context) -> int:
    if len(statement.words) == 1:
        return 360
    return parse_integer(statement.words[1], 1, MAX_PERSISTENCE)


def _granularity(statement: Statement, context: Context) -> tuple[int, int]:
    """Family and mask: IPv4 a dotted mask as a number, IPv6 a prefix length."""
    text = need(statement)
    if "." in text:
        return 4, int(parse_address(text))
    return 6, parse_integer(text, 1, 128)


def _target(statement: Statement, context: Context) -> tuple[IPAddress, int]:
    """`IPADDR [PORT]`; port 0 when it is missing."""
    found = parse_address(need(statement))
    return found, parse_integer(statement.words[2], 0, 65535, 2) if len(statement.words) > 2 else 0


def _statuses(statement: Statement, context: Context) -> tuple[tuple[int, int], ...]:
    need(statement)
    ranges = []
    for index, text in enumerate(statement.args, 1):
        low, dash, high = text.partition("-")
        first = parse_integer(low, 100, 599, index)
        last = parse_integer(high, 100, 599, index) if dash else first
        if last < first:
            raise Bad("bad-range", f"'{text}' ends before it begins", index)
        ranges.append((first, last))
    return tuple(ranges)


def _digest(statement: Statement, context: Context) -> str:
    text = need(statement)
    if not re.fullmatch(r"[0-9a-fA-F]{32}", text):
        raise Bad("bad-digest", f"'{text}' is not an MD5 of 32 hexadecimal digits")
    return text.lower()


def _quorum(statement: Statement, context: Context) -> int:
    try:
        return parse_integer(need(statement), 1, UINT32)
    except Bad as bad:
        bad.value, bad.use_value = 1, True
        raise


def _misc_user(statement: Statement, context: Context) -> tuple[str, ...]:
    need(statement)
    return split_shell_words(statement.text, undo_escapes=False)[1:3]


def _inherited(name: str, convert: Any, arguments: str, text: str, default: str) -> Keyword:
    return Keyword(name, convert, arguments, text, default=default)


_DELAY = seconds(0, UINT32)
_LOOP = seconds(0.000001, UINT32)
_TIMING_VS = (
    _inherited("delay_loop", _LOOP, "SECS", "Interval between checks.", "60"),
    _inherited("connect_timeout", seconds(0.000001, TIMER_MAX), "SECS", "Limit of one check.", "5"),
    _inherited("retry", integer(1, UINT32), "N", "Retries after the first failure.", "by checker"),
    _inherited("delay_before_retry", _DELAY, "SECS", "Pause before a retry.", "by checker"),
    _inherited("warmup", _DELAY, "SECS", "Upper bound of the random start delay.", "delay_loop"),
)
_TIMING_CHECK = (
    _inherited("delay_loop", _LOOP, "SECS", "Interval between checks.", "real_server"),
    _inherited("retry", integer(0, UINT32), "N", "Retries after the first failure.", "real_server, else by checker"),
    _inherited("delay_before_retry", _DELAY, "SECS", "Pause before a retry.", "real_server, else by checker"),
    _inherited("warmup", _DELAY, "SECS", "Upper bound of the random start delay.", "real_server"),
    _inherited("alpha", boolean, "[BOOL]", "Start as failed.", "real_server"),
    _inherited("log_all_failures", boolean, "[BOOL]", "Log failures that will be retried.", "checker_log_all_failures"),
)
_ENDPOINT = (
    Keyword("connect_ip", address, "IPADDR", "Where to connect.", default="real server's address"),
    Keyword("connect_port", port, "PORT", "Port to connect to.", default="real server's port"),
    Keyword("bindto", address, "IPADDR", "Source address."),
    Keyword("bind_port", port, "PORT", "Source port; needs bindto."),
    Keyword("bind_if", interface, "IFNAME", "Interface to bind the socket to."),
    Keyword("connect_timeout", seconds(0.000001, TIMER_MAX), "SECS", "Limit of one check.", default="real_server"),
    Keyword("fwmark", integer(0, UINT32, c_base=True), "N", "Mark of the socket.", default="0"),
)

TCP_CHECK = Section("TCP_CHECK", (*_ENDPOINT, *_TIMING_CHECK))

URL = Section(
    "url",
    (
        Keyword("path", word, "PATH", "Request target."),
        Keyword("digest", _digest, "MD5", "What the body must hash to.", once=True),
        Keyword(
            "status_code", _statuses, "CODE|MIN-MAX ...", "Accepted status codes.", default="200-299", field="statuses"
        ),
        Keyword("virtualhost", word, "NAME", "Host header.", default="HTTP_GET"),
    ),
)

HTTP_GET = Section(
    "HTTP_GET",
    (
        *_ENDPOINT,
        *_TIMING_CHECK,
        Keyword("nb_get_retry", integer(0, UINT32), "N", "Retries.", field="retry", alias_of="retry"),
        Keyword("virtualhost", word, "NAME", "Host header.", default="real_server"),
        Keyword(
            "http_protocol",
            mapped(choice("1.0", "1.0C", "1.0c", "1.1"), str.upper),
            "1.0|1.0C|1.1",
            "HTTP version; 1.0C and 1.1 also send Connection: close.",
            default="1.0",
        ),
        Keyword("fast_recovery", boolean, "[BOOL]", "While not proven up, check the urls back to back.", default="off"),
        Keyword("url", None, "{ block }", "One request and what must come back.", block=URL, many=True),
    ),
)

MISC_CHECK = Section(
    "MISC_CHECK",
    (
        *_TIMING_CHECK,
        Keyword("misc_path", SCRIPT, "SCRIPT", "Command to run; exit status 0 passes."),
        Keyword("misc_timeout", integer(0, 4294), "SECS", "Limit of one run.", default="delay_loop"),
        Keyword(
            "misc_dynamic",
            flag(True),
            "",
            "Exit status 2 to 255 passes and sets the weight to status - 2.",
            default="off",
        ),
        Keyword("user", _misc_user, "USER [GROUP]", "Identity.", default="script_user"),
    ),
)

REAL_SERVER = Section(
    "real_server",
    (
        *_TIMING_VS,
        Keyword("weight", integer(0, INT32), "N", "Weight in IPVS.", default="virtual_server"),
        Keyword(
            "lvs_method",
            _forwarding,
            "NAT|DR|TUN [options]",
            "Forwarding.",
            default="virtual_server",
            field="forwarding",
        ),
        Keyword("uthreshold", integer(0, UINT32), "N", "Upper connection threshold.", default="0"),
        Keyword("lthreshold", integer(0, UINT32), "N", "Lower connection threshold.", default="0"),
        Keyword("inhibit_on_failure", boolean, "[BOOL]", "Weight 0 instead of removal.", default="virtual_server"),
        Keyword("alpha", boolean, "[BOOL]", "Checkers start as failed.", default="virtual_server"),
        Keyword("notify_up", SCRIPT, "SCRIPT [USER [GROUP]]", "Run when the server comes up.", once=True),
        Keyword("notify_down", SCRIPT, "SCRIPT [USER [GROUP]]", "Run when the server goes down.", once=True),
        Keyword("smtp_alert", boolean, "[BOOL]", "Mail on a change of state.", pending=True),
        Keyword("virtualhost", word, "NAME", "Host header of its checkers.", default="virtual_server"),
        Keyword(
            "TCP_CHECK",
            None,
            "{ block }",
            "Passes when a connection opens.",
            block=TCP_CHECK,
            many=True,
            field="checks",
        ),
        Keyword(
            "HTTP_GET",
            None,
            "{ block }",
            "Passes when every url answers as it must.",
            block=HTTP_GET,
            many=True,
            field="checks",
        ),
        Keyword(
            "MISC_CHECK",
            None,
            "{ block }",
            "Passes when a script says so.",
            block=MISC_CHECK,
            many=True,
            field="checks",
        ),
    ),
)


def _weight_one(statement: Statement, context: Context) -> int:
    return parse_integer(need(statement), 1, INT32)


VIRTUAL_SERVER = Section(
    "virtual_server",
    (
        *_TIMING_VS,
        Keyword("lvs_sched", choice(*SCHEDULERS), "SCHEDULER", "IPVS scheduler.", default="wlc", field="scheduler"),
        Keyword("lb_algo", choice(*SCHEDULERS), "SCHEDULER", "The same as lvs_sched.", field="scheduler"),
        Keyword("lvs_method", _forwarding, "NAT|DR|TUN [options]", "Forwarding.", default="NAT", field="forwarding"),
        Keyword("lb_kind", _forwarding, "NAT|DR|TUN [options]", "The same as lvs_method.", field="forwarding"),
        Keyword("flag-1", flag("flag-1"), "", "Scheduler flag 1.", many=True, field="flags"),
        Keyword("flag-2", flag("flag-2"), "", "Scheduler flag 2.", many=True, field="flags"),
        Keyword("flag-3", flag("flag-3"), "", "Scheduler flag 3.", many=True, field="flags"),
        Keyword("ops", flag("ops"), "", "One-packet scheduling; UDP only.", many=True, field="flags"),
        Keyword(
            "persistence_timeout", _persistence, "[SECS]", "Keep a client on its server.", default="off; bare: 360"
        ),
        Keyword("persistence_granularity", _granularity, "NETMASK|PREFIXLEN", "Grouping of clients."),
        Keyword("persistence_engine", word, "NAME", "IPVS persistence engine."),
        Keyword(
            "protocol",
            mapped(choice("TCP", "UDP", "SCTP", fold=True), lambda name: Protocol(name.lower())),
            "TCP|UDP|SCTP",
            "Transport protocol.",
        ),
        Keyword(
            "ip_family", mapped(choice("inet", "inet6"), {"inet": 4, "inet6": 6}.get), "inet|inet6", "Address family."
        ),
        Keyword("weight", _weight_one, "N", "Default weight of real servers.", default="1"),
        Keyword("inhibit_on_failure", flag(True), "", "Default of its real servers.", default="off"),
        Keyword("alpha", flag(True), "", "Real servers start down until their checkers pass.", default="off"),
        Keyword("omega", flag(True), "", "At stop run the scripts of servers that go down.", default="off"),
        Keyword("quorum", _quorum, "N", "Live weight needed.", default="1"),
        Keyword("hysteresis", integer(0, UINT32), "N", "Distance of both thresholds from the quorum.", default="0"),
        Keyword("quorum_up", SCRIPT, "SCRIPT [USER [GROUP]]", "Run when the quorum is gained.", once=True),
        Keyword("quorum_down", SCRIPT, "SCRIPT [USER [GROUP]]", "Run when the quorum is lost.", once=True),
        Keyword("virtualhost", word, "NAME", "Host header of its checkers."),
        Keyword("smtp_alert", boolean, "[BOOL]", "Mail on quorum changes.", pending=True),
        Keyword("sorry_server", _target, "IPADDR [PORT]", "Server used while the quorum is lost."),
        Keyword("sorry_server_inhibit", flag(True), "", "Keep the sorry server with weight 0 while it is not needed."),
        Keyword("sorry_server_lvs_method", _forwarding, "NAT|DR|TUN [options]", "Forwarding of the sorry server."),
        Keyword("real_server", None, "IPADDR [PORT] { block }", "One back end.", block=REAL_SERVER, many=True),
    ),
)

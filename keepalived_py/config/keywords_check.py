"""The tables of virtual_server, real_server and the checkers."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Any

from keepalived_py.values import IPAddress, Protocol

from .converters import (
    INT32,
    TIMER_MAX,
    UINT32,
    absolute_path,
    boolean,
    choice,
    flag,
    integer,
    interface,
    mapped,
    need,
    optional_word,
    parse_address,
    parse_integer,
    port,
    seconds,
    server_address,
    shell_words,
    word,
)
from .lexer import EscapeError, split_shell_words
from .links import reported
from .model import Forwarding, GroupRange, Script
from .problems import Severity
from .schema import Bad, Context, Converter, Keyword, MissingParameter, Section
from .scripts import SCRIPT, make_script, remembered
from .tree import Statement

SCHEDULERS = ("rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "mh", "dh", "fo", "ovf", "sed", "nq", "twos")
MAX_PERSISTENCE = 2678400


def _forwarding(statement: Statement, context: Context) -> Forwarding:
    """NAT, DR or TUN [type ipip|gue|gre] [port N] [nocsum|csum|remcsum]."""
    method = need(statement)
    if method not in ("NAT", "DR", "TUN"):
        raise Bad("not-a-choice", f"'{method}' is not one of NAT, DR, TUN")
    kind, tunnel_port, csum = "ipip", 0, "nocsum"
    index, words = 2, statement.words
    while index < len(words):
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
            raise Bad("unknown-option", f"'{words[index]}' is not an option of a tunnel", index)
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
    found = server_address(statement, context)
    return found, parse_integer(statement.words[2], 0, 65535, 2) if len(statement.words) > 2 else 0


def _statuses(statement: Statement, context: Context) -> tuple[tuple[int, int], ...]:
    if len(statement.words) == 1:
        raise Bad("missing-value", "names no status code", severity=Severity.LINT)
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


def _misc_path(statement: Statement, context: Context) -> Script:
    """The command alone: its identity is a keyword of its own, and keepalived ignores further words."""
    words = shell_words(statement)
    if len(words) > 2:
        context.report("extra-words", f"'{words[2]}' is one word too many", statement, 2, Severity.LINT)
    return remembered(make_script(words[:2], context), statement, context)


def _misc_user(statement: Statement, context: Context) -> tuple[str, ...]:
    need(statement)
    return shell_words(statement)[1:3]


def _inherited(name: str, convert: Any, arguments: str, text: str, default: str) -> Keyword:
    return Keyword(name, convert, arguments, text, default=default)


LONGEST = 2.0**53
"""No bound but that of the number: keepalived has none."""
_DELAY = seconds(0, LONGEST)
_LOOP = seconds(0.000001, LONGEST)
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
    Keyword(
        "rise",
        integer(1, INT32),
        "N",
        "Successes in a row that bring a failed checker up; with urls each is a pass of all.",
        default="1",
        ours=True,
    ),
)
_ENDPOINT = (
    Keyword("connect_ip", server_address, "IPADDR", "Where to connect.", default="real server's address"),
    Keyword("connect_port", port, "PORT", "Port to connect to.", default="real server's port"),
    Keyword("bindto", server_address, "IPADDR", "Source address."),
    Keyword("bind_port", port, "PORT", "Source port; needs bindto."),
    Keyword("bind_if", interface, "IFNAME", "Interface to bind the socket to."),
    Keyword(
        "connect_timeout",
        seconds(0.000001, TIMER_MAX),
        "SECS",
        "Limit of one check.",
        default="real_server",
        range="0.000001..4294.967295 s",
    ),
    Keyword("fwmark", integer(0, UINT32, c_base=True), "N", "Mark of the socket.", default="0"),
)

TCP_CHECK = Section("TCP_CHECK", (*_ENDPOINT, *_TIMING_CHECK))


def _regex(statement: Statement, context: Context) -> str:
    """Exactly one word after quotes and escapes."""
    try:
        words = split_shell_words(statement.text, undo_escapes=True)
    except EscapeError as exc:
        raise Bad("bad-quoting", str(exc)) from None
    if len(words) == 1:
        raise MissingParameter(words[0])
    if len(words) > 2:
        raise Bad("extra-words", "the pattern must be one word; put it in quotes", 2)
    return words[1]


REGEX_OPTIONS = (
    "allow_empty_class",
    "alt_bsux",
    "auto_callout",
    "caseless",
    "dollar_endonly",
    "dotall",
    "dupnames",
    "extended",
    "firstline",
    "match_unset_backref",
    "multiline",
    "never_ucp",
    "never_utf",
    "no_auto_capture",
    "no_auto_possess",
    "no_dotstar_anchor",
    "no_start_optimize",
    "ucp",
    "ungreedy",
    "utf",
    "never_backslash_c",
    "alt_circumflex",
    "alt_verbnames",
    "use_offset_limit",
)


def _regex_options(statement: Statement, context: Context) -> tuple[str, ...]:
    need(statement)
    known = []
    for index, text in enumerate(statement.args, 1):
        if text in REGEX_OPTIONS:
            known.append(text)
        else:
            context.report(
                "unknown-option", f"'{text}' is no option of PCRE2 and ignored", statement, index, Severity.LINT
            )
    return tuple(known)


def _stack(statement: Statement, context: Context) -> tuple[int, int]:
    start, most = (parse_integer(need(statement, index), 1, UINT32, index) for index in (1, 2))
    if start > most:
        raise Bad("bad-range", f"the first size {start} is above the greatest {most}", 1)
    return start, most


def _only_told(convert: Converter) -> Converter:
    """keepalived logs what is wrong about a pattern, but finds no fault with the file (checker-behaviour.md 4)."""

    def told(statement: Statement, context: Context) -> Any:
        try:
            return convert(statement, context)
        except Bad as bad:
            bad.severity = Severity.LINT
            raise

    return told


_URL = (
    Keyword("path", word, "PATH", "Request target."),
    Keyword("digest", _digest, "MD5", "What the body must hash to.", range="32 hexadecimal digits", once=True),
    Keyword(
        "status_code",
        _statuses,
        "CODE|MIN-MAX ...",
        "Accepted status codes.",
        default="200-299",
        range="100..599",
        field="statuses",
    ),
    Keyword("virtualhost", word, "NAME", "Host header.", default="checker's"),
    Keyword("regex", _only_told(_regex), "PATTERN", "What must be found in the body."),
    Keyword("regex_no_match", flag(True), "", "It must not be found.", default="off"),
    Keyword("regex_options", _only_told(_regex_options), "OPTION ...", "How the pattern is compiled."),
    Keyword(
        "regex_min_offset",
        _only_told(integer(0, UINT32)),
        "N",
        "A match must not begin before this byte.",
        default="0",
    ),
    Keyword(
        "regex_max_offset",
        _only_told(integer(0, UINT32)),
        "N",
        "A match must begin at or before this byte.",
        default="none",
    ),
    Keyword(
        "regex_stack",
        _only_told(_stack),
        "START MAX",
        "Accepted; here patterns are bounded by time.",
        default="library's",
    ),
)


def _header(statement: Statement, context: Context) -> tuple[str, str]:
    """`header NAME VALUE`."""
    name, value = need(statement), need(statement, 2)
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        raise Bad("bad-header", f"'{name}' is not the name of a header (RFC 9110 5.1)")
    if re.search(r"[\0-\x08\x0a-\x1f\x7f]", value):
        raise Bad("bad-header", f"the value of '{name}' has a control character (RFC 9110 5.5)", 2)
    return name, value


_REQUEST = (
    Keyword(
        "method",
        choice("GET", "HEAD", "POST", "PUT", "OPTIONS"),
        "GET|HEAD|POST|PUT|OPTIONS",
        "What is asked.",
        default="GET",
        ours=True,
    ),
    Keyword("header", _header, "NAME VALUE", "One more header.", field="headers", many=True, ours=True),
    Keyword("body", word, "TEXT", "What is sent behind the headers.", ours=True),
)
_TLS_COMPLIANT = Keyword(
    "tls_compliant", boolean, "[BOOL]", "Accepted; TLS connections are always closed properly.", default="off"
)
URL = Section("url", (*_URL, *_REQUEST))
TLS_URL = Section("url", (*_URL, *_REQUEST, _TLS_COMPLIANT))


_SNI = (
    Keyword("enable_sni", boolean, "[BOOL]", "Send the host name in TLS.", default="off"),
    Keyword("sni_name", optional_word(""), "[NAME]", "Host name sent in TLS; bare: the virtualhost."),
)
_VERIFY = (
    Keyword(
        "verify",
        boolean,
        "[BOOL]",
        "The certificate must be valid, and for expected_name where that is given.",
        default="off",
        ours=True,
    ),
    Keyword("ca", absolute_path, "FILE", "Authorities to trust.", default="SSL block, else the system's", ours=True),
    Keyword("expected_name", word, "NAME", "Name that the certificate must be for; needs verify.", ours=True),
    Keyword(
        "warn_days",
        integer(1, 3650),
        "N",
        "Log a warning when the certificate ends within so many days.",
        default="never",
        ours=True,
    ),
)


def _http(url: Section) -> tuple[Keyword, ...]:
    return (
        *_ENDPOINT,
        *_TIMING_CHECK,
        Keyword("nb_get_retry", integer(0, UINT32), "N", "Old spelling.", field="retry", alias_of="retry"),
        Keyword("virtualhost", word, "NAME", "Host header.", default="real_server"),
        Keyword(
            "http_protocol",
            mapped(choice("1.0", "1.0C", "1.0c", "1.1"), str.upper),
            "1.0|1.0C|1.0c|1.1",
            "HTTP version; 1.0C and 1.1 also send Connection: close.",
            default="1.0",
        ),
        *_SNI,
        Keyword(
            "keep_alive",
            boolean,
            "[BOOL]",
            "Keep the connection for the next run; needs http_protocol 1.1.",
            default="off",
            ours=True,
        ),
        Keyword("fast_recovery", boolean, "[BOOL]", "While not proven up, check the urls back to back.", default="off"),
        Keyword(
            "basic_auth_file",
            absolute_path,
            "PATH",
            "File that holds USER:PASSWORD.",
            ours=True,
        ),
        Keyword(
            "bearer_token_file",
            absolute_path,
            "PATH",
            "File that holds a bearer token.",
            ours=True,
        ),
        Keyword("url", None, "{ block }", "One request and what must come back.", block=url, many=True),
    )


HTTP_GET = Section("HTTP_GET", _http(URL))
SSL_GET = Section(
    "SSL_GET",
    (
        *_http(TLS_URL),
        _TLS_COMPLIANT,
        *_VERIFY,
    ),
)

GRPC_CHECK = Section(
    "GRPC_CHECK",
    (
        *_ENDPOINT,
        *_TIMING_CHECK,
        Keyword("service", word, "NAME", "Service that is asked about.", default="the whole server"),
        Keyword("tls", boolean, "[BOOL]", "Ask over TLS.", default="off"),
        *_SNI,
        *_VERIFY,
    ),
)

_HOST = Section("host", (*_ENDPOINT, *_TIMING_CHECK))
SMTP_CHECK = Section(
    "SMTP_CHECK",
    (
        *_ENDPOINT,
        *_TIMING_CHECK,
        Keyword("helo_name", word, "NAME", "Name given in HELO.", default="smtpchecker.keepalived.org"),
        Keyword(
            "host",
            None,
            "{ block }",
            "One more target.",
            block=_HOST,
            many=True,
            alias_of="further SMTP_CHECK blocks",
        ),
    ),
)
PING_CHECK = Section("PING_CHECK", (*_ENDPOINT, *_TIMING_CHECK))


def _hex_digits(statement: Statement) -> str:
    text = "".join(statement.args)
    if len(text) % 2:
        raise Bad("bad-hex", "an odd number of hexadecimal digits")
    return text


def _payload(statement: Statement, context: Context) -> bytes:
    need(statement)
    text = _hex_digits(statement)
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise Bad("bad-hex", f"'{text}' is not hexadecimal") from None


def _reply(statement: Statement, context: Context) -> tuple[bytes, bytes] | None:
    """The wanted beginning and its mask, with zero nibbles where x stands; None: any answer."""
    text = _hex_digits(statement)
    if not text:
        return None
    if not re.fullmatch(r"[0-9a-fA-FxX]+", text):
        raise Bad("bad-hex", f"'{text}' is not hexadecimal with x for any digit")
    value = re.sub("[xX]", "0", text)
    mask = re.sub("[^xX]", "f", text).lower().replace("x", "0")
    return bytes.fromhex(value), bytes.fromhex(mask)


UDP_CHECK = Section(
    "UDP_CHECK",
    (
        *_ENDPOINT,
        *_TIMING_CHECK,
        Keyword("payload", _payload, "HEX ...", "What is sent.", default="32 bytes of filler"),
        Keyword(
            "require_reply",
            _reply,
            "[HEX ...]",
            "An answer must come, and begin so; x stands for any digit.",
            default="off",
        ),
        Keyword(
            "min_reply_length", integer(0, 65535), "N", "Least length of the answer.", default="0", range="0..65535"
        ),
        Keyword(
            "max_reply_length",
            integer(0, 65535),
            "N",
            "Greatest length of the answer.",
            default="255",
            range="0..65535",
        ),
    ),
)


def _domain(statement: Statement, context: Context) -> str:
    text = need(statement)
    if text != "." and ".." in f".{text.removesuffix('.')}":
        raise Bad("bad-domain", f"'{text}' has an empty label")
    return text


DNS_CHECK = Section(
    "DNS_CHECK",
    (
        *_ENDPOINT,
        *_TIMING_CHECK,
        Keyword(
            "type",
            choice("A", "NS", "CNAME", "SOA", "MX", "TXT", "AAAA", "RRSIG", "DNSKEY", fold=True),
            "A|NS|CNAME|SOA|MX|TXT|AAAA|RRSIG|DNSKEY",
            "What is asked for.",
            default="SOA",
        ),
        Keyword("name", _domain, "DOMAIN", "Name that is asked for.", default="the root", once=True),
    ),
)


def _track_file(statement: Statement, context: Context) -> str:
    name = need(statement)
    if name not in context.facts.get("track_files", {}):
        raise Bad("unknown-file", f"track_file '{name}' is not defined above")
    context.facts.setdefault("tracked", set()).add(("file", name))
    return name


def _file_weight(statement: Statement, context: Context) -> tuple[int, bool | None]:
    """`N [reverse|noreverse]`; the direction None when it is not given."""
    weight = parse_integer(need(statement), -INT32, INT32)
    if len(statement.words) == 2:
        return weight, None
    if statement.words[2] not in ("reverse", "noreverse"):
        raise Bad("unknown-option", f"'{statement.words[2]}' is not reverse or noreverse", 2)
    return weight, statement.words[2] == "reverse"


FILE_CHECK = Section(
    "FILE_CHECK",
    (
        Keyword("track_file", _track_file, "NAME", "File that is followed, defined above."),
        Keyword(
            "weight",
            _file_weight,
            "N [reverse|noreverse]",
            "Factor of the file's number, added to the weight; 0: up or down.",
            default="track_file's",
            range="-2147483647..2147483647",
        ),
    ),
)


def _session(statement: Statement, context: Context) -> str:
    name = need(statement)
    known = context.facts.get("bfd_instances", {})
    if name not in known or not known[name].to_checker:
        raise Bad("unknown-bfd", f"bfd_instance '{name}' is not defined above, or tells the checker nothing")
    return name


BFD_CHECK = Section(
    "BFD_CHECK",
    (
        Keyword("name", _session, "NAME", "Session that is followed, defined above."),
        Keyword("alpha", boolean, "[BOOL]", "Failed until the session is told to be up.", default="real_server"),
    ),
)

MISC_CHECK = Section(
    "MISC_CHECK",
    (
        *_TIMING_CHECK,
        Keyword("misc_path", _misc_path, "SCRIPT", "Command to run; exit status 0 passes."),
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
        Keyword("smtp_alert", boolean, "[BOOL]", "Mail on a change of state."),
        Keyword("virtualhost", word, "NAME", "Host header of its checkers.", default="virtual_server"),
        Keyword("snmp_name", word, "NAME", "Label in SNMP.", pending=True),
        *(
            Keyword(section.name, None, "{ block }", text, block=section, many=True, field="checks", pending=pending)
            for section, text, pending in (
                (TCP_CHECK, "Passes when a connection opens.", False),
                (HTTP_GET, "Passes when every url answers as it must.", False),
                (SSL_GET, "The same over TLS.", False),
                (MISC_CHECK, "Passes when a script says so.", False),
                (SMTP_CHECK, "Passes when a mail server greets.", False),
                (DNS_CHECK, "Passes when a name server answers.", False),
                (PING_CHECK, "Passes when an echo comes back.", False),
                (UDP_CHECK, "Passes when no error, or the wanted answer, comes back.", False),
                (FILE_CHECK, "Weight or state by the number in a track_file.", False),
                (BFD_CHECK, "State of a bfd_instance.", True),
            )
        ),
        Keyword(
            "GRPC_CHECK",
            None,
            "{ block }",
            "Passes when grpc.health.v1.Health says SERVING.",
            block=GRPC_CHECK,
            many=True,
            field="checks",
            ours=True,
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
        *(
            Keyword(name, flag(name), "", text, default="off", many=True, field="flags")
            for name, text in (
                ("flag-1", "Scheduler flag 1."),
                ("flag-2", "Scheduler flag 2."),
                ("flag-3", "Scheduler flag 3."),
                ("sh-port", "Scheduler sh: hash the port too."),
                ("sh-fallback", "Scheduler sh: take another server where the chosen one has weight 0."),
                ("mh-port", "Scheduler mh: hash the port too."),
                ("mh-fallback", "Scheduler mh: take another server where the chosen one has weight 0."),
                ("hashed", "Accepted without effect; for the schedulers sh and mh."),
            )
        ),
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
        Keyword(
            "ha_suspend",
            flag(True),
            "",
            "Check only while the address is on this machine.",
            default="off",
        ),
        Keyword("snmp_name", word, "NAME", "Label in SNMP.", pending=True),
        Keyword("omega", flag(True), "", "At stop run the scripts of servers that go down.", default="off"),
        Keyword("quorum", _quorum, "N", "Live weight needed.", default="1"),
        Keyword("hysteresis", integer(0, UINT32), "N", "Distance of both thresholds from the quorum.", default="0"),
        Keyword("quorum_up", SCRIPT, "SCRIPT [USER [GROUP]]", "Run when the quorum is gained.", once=True),
        Keyword("quorum_down", SCRIPT, "SCRIPT [USER [GROUP]]", "Run when the quorum is lost.", once=True),
        Keyword("virtualhost", word, "NAME", "Host header of its checkers."),
        Keyword("smtp_alert", boolean, "[BOOL]", "Mail on quorum changes."),
        Keyword("sorry_server", _target, "IPADDR [PORT]", "Server used while the quorum is lost."),
        Keyword("sorry_server_inhibit", flag(True), "", "Keep the sorry server with weight 0 while it is not needed."),
        Keyword("sorry_server_lvs_method", _forwarding, "NAT|DR|TUN [options]", "Forwarding of the sorry server."),
        Keyword("real_server", None, "IPADDR [PORT] { block }", "One back end.", block=REAL_SERVER, many=True),
    ),
)


def group_entries(statement: Statement, context: Context) -> tuple[tuple[GroupRange, Statement], ...]:
    """Lines of a virtual_server_group (checker-behaviour.md 1.3)."""
    found: tuple[tuple[GroupRange, Statement], ...] = reported(_group_entry)(statement, context)
    return found


def _group_entry(line: Statement, context: Context) -> GroupRange:
    """`IP[-END|/MASK] [PORT]` or `fwmark N [inet|inet6]`."""
    words = line.words
    if words[0] == "fwmark":
        if len(words) == 1:
            raise Bad("missing-value", "'fwmark' needs a number", 1)
        family = 0
        if len(words) > 2:
            if words[2] not in ("inet", "inet6"):
                raise Bad("not-a-choice", f"'{words[2]}' is not inet or inet6", 2)
            family = 4 if words[2] == "inet" else 6
        return GroupRange(fwmark=parse_integer(words[1], 0, UINT32, 1), family=family)
    first, last = _range(words[0])
    service = parse_integer(words[1], 1, 65535, 1) if len(words) > 1 else 0
    return GroupRange(first=first, last=last, port=service, family=first.version)


def _range(text: str) -> tuple[IPAddress, IPAddress]:
    """First and last address of one, a range or a network. Raises Bad."""
    if "/" in text:
        try:
            network = ip_network(text)
        except ValueError as exc:
            raise Bad("bad-network", str(exc), 0) from None
        return network[0], network[-1]
    start, dash, end = text.partition("-")
    first = parse_address(start, 0)
    if not dash:
        return first, first
    if "." in end or ":" in end:
        last = parse_address(end, 0)
        if last.version != first.version or int(last) < int(first):
            raise Bad("bad-range", f"'{text}' ends before it begins", 0)
        return first, last
    bits, base = (8, 10) if first.version == 4 else (16, 16)
    try:
        low = int(end if end.isascii() and end.isalnum() else "", base)
    except ValueError:
        raise Bad("not-a-number", f"'{end}' is not the last part of an address", 0) from None
    last = parse_address(str(type(first)((int(first) >> bits << bits) + (low & (1 << bits) - 1))), 0)
    if not 0 <= low < 1 << bits or int(last) <= int(first):
        raise Bad("bad-range", f"'{text}' ends before it begins", 0)
    return first, last


SSL = Section(
    "SSL",
    (
        Keyword("password", word, "STRING", "Password of the key."),
        Keyword("ca", word, "FILE", "Certificates of authorities."),
        Keyword("certificate", word, "FILE", "Our certificate."),
        Keyword("key", word, "FILE", "Our private key."),
    ),
)

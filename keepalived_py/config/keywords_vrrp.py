"""The tables of the VRRP blocks: instances, groups, tracked things, announcements. Fields are those of the model."""

from __future__ import annotations

from typing import Any

from .converters import (
    INT32,
    TIMER_MAX,
    UINT32,
    address,
    at_least_one,
    boolean,
    choice,
    extra_interface,
    flag,
    integer,
    interface,
    mapped,
    need,
    parse_address,
    parse_integer,
    parse_seconds,
    seconds,
    shell_words,
    word,
    words_of_block,
)
from .links import addresses, reported, routes, rules
from .model import HmacKey, InterfaceDelay, LinkbeatInterface, UnicastPeer
from .problems import Severity
from .schema import Bad, Context, Keyword, Section
from .scripts import SCRIPT
from .tracks import TRACK_VIRTUAL_SERVER, TRACKS, weight_of_item
from .tree import Statement
from .vmac import use_ipvlan, use_vmac


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
    if ttls["min_ttl"] > ttls["max_ttl"]:
        raise Bad("bad-range", "min_ttl is above max_ttl, so no advert of this peer would be accepted", 1)
    return UnicastPeer(address=found, **ttls)


def _advert_int(statement: Statement, context: Context) -> float:
    return float(seconds(0.01, 255)(statement, context))


def _password(statement: Statement, context: Context) -> bytes:
    password = need(statement).encode("utf-8", "surrogateescape")
    if len(password) > MAX_PASSWORD:
        context.report(
            "password-cut",
            f"auth_pass is longer than {MAX_PASSWORD} characters and cut there",
            statement,
            1,
            Severity.WARNING,
        )
    return password[:MAX_PASSWORD]


def _hmac_key(statement: Statement, context: Context) -> HmacKey:
    """`key ID VALUE`: text, hex:DIGITS or file:PATH, whose text may itself start with hex:."""
    number = parse_integer(need(statement), 1, 255)
    text = need(statement, 2)
    if text.startswith("file:"):
        try:
            with open(text.removeprefix("file:"), encoding="utf-8", errors="surrogateescape") as file:
                text = file.read(MAX_KEY_TEXT).strip()
        except OSError as exc:
            raise Bad("key-file", f"'{text}': {exc.strerror}", 2) from None
    if text.startswith("hex:"):
        try:
            secret = bytes.fromhex(text.removeprefix("hex:"))
        except ValueError:
            raise Bad("bad-key", "the key is not an even number of hexadecimal digits", 2) from None
    else:
        secret = text.encode("utf-8", "surrogateescape")
    if not 32 <= len(secret) <= 64:
        raise Bad("bad-key", f"a key has 32 to 64 bytes, this one {len(secret)}", 2)
    return HmacKey(id=number, secret=secret)


def _old_checksum(statement: Statement, context: Context) -> bool:
    """False for `never`."""
    return len(statement.words) == 1 or choice("never")(statement, context) != "never"


def _timer_expired(statement: Statement, context: Context) -> int:
    return parse_integer(statement.words[1], 1, 254) if len(statement.words) > 1 else 254


def _notify_deleted(statement: Statement, context: Context) -> Any:
    """True for the bare keyword, else the script."""
    if len(shell_words(statement)) == 1:
        return True
    return SCRIPT(statement, context)


MAX_PASSWORD = 8
MAX_KEY_TEXT = 4096

AUTHENTICATION = Section(
    "authentication",
    (
        Keyword("auth_type", choice("PASS", "AH"), "PASS|AH", "Simple password, or the authentication header."),
        Keyword("auth_pass", _password, "STRING", "Password; only the first 8 bytes count."),
    ),
)

AUTH_HMAC = Section(
    "auth_hmac",
    (
        Keyword(
            "key",
            _hmac_key,
            "ID TEXT|hex:DIGITS|file:PATH",
            "A key of 32 to 64 bytes.",
            range="id 1..255, unique",
            field="keys",
            many=True,
        ),
        Keyword("active_key", integer(1, 255), "ID", "Key used for sending.", range="1..255"),
        Keyword(
            "time_window",
            integer(1, 300),
            "SECS",
            "How old an advert may be.",
            default="3 intervals, at least 5, at most 300",
            range="1..300",
        ),
        Keyword(
            "anti_replay",
            choice("time", "monotonic"),
            "time|monotonic",
            "How repeated adverts are recognised.",
            default="time",
        ),
        Keyword(
            "mode",
            choice("enforce", "permissive", "receive-only"),
            "enforce|permissive|receive-only",
            "What is sent, and what is accepted, while routers change over.",
            default="enforce",
        ),
    ),
)

_NOTIFY = (
    Keyword(
        "notify_master",
        SCRIPT,
        "SCRIPT [user [[:]group]]",
        "Run on entry to MASTER.",
        field="notify.master",
        once=True,
    ),
    Keyword(
        "notify_backup",
        SCRIPT,
        "SCRIPT [user [[:]group]]",
        "Run on entry to BACKUP.",
        field="notify.backup",
        once=True,
    ),
    Keyword(
        "notify_fault",
        SCRIPT,
        "SCRIPT [user [[:]group]]",
        "Run on entry to FAULT.",
        field="notify.fault",
        once=True,
    ),
    Keyword(
        "notify_stop",
        SCRIPT,
        "SCRIPT [user [[:]group]]",
        "Run when the daemon stops.",
        field="notify.stop",
        once=True,
    ),
    Keyword(
        "notify",
        SCRIPT,
        "SCRIPT [user [[:]group]]",
        "Run on every change, with type, name, state and priority.",
        field="notify.any",
        once=True,
    ),
    Keyword(
        "smtp_alert",
        boolean,
        "[BOOL]",
        "Mail on a change of state.",
        default="smtp_alert_vrrp, else smtp_alert, else off",
    ),
    Keyword(
        "notify_priority_changes",
        boolean,
        "[BOOL]",
        "Write changes of priority to the FIFOs.",
        default="sync group's, else vrrp_notify_priority_changes",
    ),
)

_GARP = (
    Keyword(
        "garp_master_delay",
        integer(0, 4294),
        "SECS",
        "See vrrp_garp_master_delay.",
        default="global",
        range="0..4294",
        field="garp.master_delay",
    ),
    Keyword(
        "garp_master_repeat",
        at_least_one,
        "N",
        "See vrrp_garp_master_repeat.",
        default="global",
        field="garp.master_repeat",
    ),
    Keyword(
        "garp_master_refresh",
        integer(0, UINT32),
        "SECS",
        "See vrrp_garp_master_refresh.",
        default="global",
        field="garp.master_refresh",
    ),
    Keyword(
        "garp_master_refresh_repeat",
        at_least_one,
        "N",
        "See vrrp_garp_master_refresh_repeat.",
        default="global",
        field="garp.master_refresh_repeat",
    ),
    Keyword(
        "garp_lower_prio_delay",
        integer(0, 4294),
        "SECS",
        "See vrrp_garp_lower_prio_delay.",
        default="global; 0 in strict mode",
        range="0..4294",
        field="garp.lower_prio_delay",
    ),
    Keyword(
        "garp_lower_prio_repeat",
        integer(0, INT32),
        "N",
        "See vrrp_garp_lower_prio_repeat.",
        default="global; 0 in strict mode",
        field="garp.lower_prio_repeat",
    ),
    Keyword(
        "garp_extra_if",
        extra_interface(0),
        "[all] SECS",
        "See vrrp_garp_extra_if; 0 switches it off.",
        default="global",
        range="0..86400 s",
        field="garp.extra_if",
    ),
    Keyword(
        "vmac_garp_intvl",
        extra_interface(0),
        "[all] SECS",
        "Old spelling.",
        field="garp.extra_if",
        alias_of="garp_extra_if",
    ),
)

_PATH = (
    Keyword("interface", interface, "IFNAME", "Interface the instance runs on."),
    Keyword("virtual_router_id", integer(1, 255), "N", "VRID.", range="1..255", field="vrid"),
    Keyword("version", mapped(choice("2", "3"), int), "2|3", "Protocol version.", default="vrrp_version; 3 for IPv6"),
    Keyword(
        "native_ipv6",
        flag(True),
        "",
        "Make the instance IPv6 and version 3, whatever its addresses.",
        deprecated=Severity.ERROR,
        alias_of="version 3 and IPv6 addresses",
    ),
    Keyword("mcast_src_ip", address, "ADDR", "Source address of adverts.", field="source"),
    Keyword(
        "unicast_src_ip",
        address,
        "ADDR",
        "Source address of unicast adverts; the same setting as mcast_src_ip.",
        field="unicast_source",
    ),
    Keyword(
        "mcast_dst_ip",
        address,
        "ADDR",
        "Group of this instance's adverts.",
        default="vrrp_mcast_group4, vrrp_mcast_group6",
        field="mcast_group",
    ),
    Keyword(
        "track_src_ip",
        flag(True),
        "",
        "FAULT while the configured source address is absent.",
        default="off",
    ),
    Keyword(
        "unicast_peer",
        reported(_peer),
        "{ ADDR [min_ttl N] [max_ttl N] ... }",
        "Send adverts to these routers instead of the group.",
        raw_block=True,
        many=True,
    ),
    Keyword(
        "unicast_fault_no_peer",
        flag(True),
        "",
        "FAULT instead of multicast when a unicast keyword but no peer is given.",
        default="off",
    ),
    Keyword(
        "check_unicast_src",
        flag(True),
        "",
        "Accept unicast adverts from peers only.",
        default="vrrp_check_unicast_src",
    ),
    Keyword(
        "unicast_ttl",
        integer(0, 255),
        "N",
        "TTL of unicast adverts.",
        default="255 for IPv4, the kernel's for IPv6",
        range="0..255",
    ),
    Keyword(
        "old_unicast_checksum",
        _old_checksum,
        "[never]",
        "Checksum of unicast adverts as before keepalived 1.3.7, or never that.",
        default="as the peer does",
    ),
    Keyword("vrf", interface, "IFNAME", "VRF of a unicast instance without interface."),
    Keyword(
        "use_vmac",
        use_vmac,
        "[[name] IFNAME] [MAC] [netlink_notify_msg] [group GROUP]",
        "Run on a macvlan with the virtual MAC address.",
        default="off; name vrrp.VRID",
        many=True,
    ),
    Keyword(
        "use_vmac_addr",
        flag(True),
        "",
        "A VMAC for every interface that holds addresses.",
        default="off",
        field="vmac_addr",
    ),
    Keyword(
        "vmac_xmit_base",
        flag(True),
        "",
        "Send and receive adverts on the interface below the VMAC.",
        default="off",
    ),
    Keyword(
        "use_ipvlan",
        use_ipvlan,
        "[[name] IFNAME] [ADDR] [bridge|private|vepa] [group GROUP]",
        "Run on an ipvlan.",
        default="off; bridge",
        once=True,
    ),
    Keyword(
        "kernel_rx_buf_size",
        integer(0, UINT32),
        "BYTES",
        "This instance's part of the receive buffer.",
        default="vrrp_rx_bufs_policy",
        field="rx_buf_size",
    ),
    Keyword(
        "v3_checksum_as_v2",
        boolean,
        "[BOOL]",
        "Compute the VRRPv3 IPv4 checksum without pseudo header.",
        default="global",
    ),
    Keyword(
        "skip_check_adv_addr",
        boolean,
        "[BOOL]",
        "Skip the check of the address list while the sender stays the same.",
        default="vrrp_skip_check_adv_addr",
    ),
    Keyword("authentication", None, "{ block }", "VRRPv2 authentication.", block=AUTHENTICATION),
    Keyword("auth_hmac", None, "{ block }", "HMAC-SHA-256 behind every advert.", block=AUTH_HMAC),
)

_ELECTION = (
    Keyword(
        "state",
        _state,
        "MASTER|BACKUP",
        "Wanted state at start; MASTER is not undone by a later BACKUP.",
        default="MASTER for priority 255, else BACKUP",
        many=True,
    ),
    Keyword("priority", _priority, "N", "Base priority.", default="100; 255 for state MASTER", range="1..255"),
    Keyword(
        "advert_int",
        _advert_int,
        "SECS",
        "Interval of the adverts.",
        default="1",
        range="0.01..255 s; whole seconds in version 2, at most 40.95 s in version 3",
    ),
    Keyword("preempt", flag(True), "", "Take over from a lower-priority master.", default="on"),
    Keyword("nopreempt", flag(False), "", "Do not take over from a lower-priority master.", field="preempt"),
    Keyword("preempt_delay", seconds(0, 1000), "SECS", "Wait before taking over.", default="0", range="0..1000"),
    Keyword("strict_mode", boolean, "[BOOL]", "Nothing beyond the RFC.", default="vrrp_strict", field="strict"),
    Keyword(
        "down_timer_adverts", integer(1, 100), "N", "See vrrp_down_timer_adverts.", default="global", range="1..100"
    ),
    Keyword(
        "timer_expired_backup",
        _timer_expired,
        "[HIGHEST_OTHER_PRIORITY]",
        "Give up MASTER after having been stopped so long that another router must have taken over; needs nopreempt.",
        default="off; bare: 254",
        range="1..254",
    ),
    Keyword(
        "thread_timer_expired",
        _timer_expired,
        "[HIGHEST_OTHER_PRIORITY]",
        "Wrong spelling.",
        field="timer_expired_backup",
        alias_of="timer_expired_backup",
        deprecated=Severity.ERROR,
    ),
    Keyword(
        "lower_prio_no_advert",
        boolean,
        "[BOOL]",
        "See vrrp_lower_prio_no_advert.",
        default="global; on in strict mode",
    ),
    Keyword(
        "higher_prio_send_advert",
        boolean,
        "[BOOL]",
        "See vrrp_higher_prio_send_advert.",
        default="global; off in strict mode",
    ),
    Keyword(
        "owner_ignore_adverts",
        boolean,
        "[BOOL]",
        "With priority 255: discard all adverts received.",
        default="vrrp_owner_ignore_adverts; on in strict mode",
    ),
    Keyword("strict_address_list", boolean, "[BOOL]", "See vrrp_strict_address_list.", default="global", ours=True),
)

_HOLDINGS = (
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
    Keyword("no_virtual_ipaddress", flag(True), "", "Allow an instance without addresses.", default="off"),
    Keyword(
        "virtual_routes",
        routes,
        "{ ROUTE line ... }",
        "Routes that the master holds.",
        raw_block=True,
        many=True,
    ),
    Keyword(
        "virtual_rules",
        rules,
        "{ RULE line ... }",
        "Routing rules that the master holds.",
        raw_block=True,
        many=True,
    ),
    Keyword("accept", flag(True), "", "Accept packets to the addresses without owning them.", default="on"),
    Keyword(
        "no_accept",
        flag(False),
        "",
        "Drop packets to the addresses, unless priority is 255.",
        default="off; on in strict mode",
        field="accept",
    ),
    Keyword(
        "promote_secondaries",
        flag(True),
        "",
        "Set that sysctl on the interface.",
        default="off; on with a VMAC",
    ),
)

_WATCHING = (
    Keyword("dont_track_primary", flag(True), "", "Ignore the state of the instance's own interface.", default="off"),
    *TRACKS,
    TRACK_VIRTUAL_SERVER,
    Keyword(
        "linkbeat_use_polling",
        flag(True),
        "",
        "Watch the link by polling.",
        default="off",
        alias_of="linkbeat_interfaces",
        deprecated=Severity.ERROR,
    ),
    Keyword(
        "lvs_sync_daemon_interface",
        interface,
        "IFNAME",
        "Run the connection synchronisation with this instance.",
        alias_of="lvs_sync_daemon",
        deprecated=Severity.ERROR,
    ),
    Keyword("debug", integer(0, 4), "N", "Accepted; keepalived gives it no effect either.", range="0..4"),
)

VRRP_INSTANCE = Section(
    "vrrp_instance",
    (
        *_PATH,
        *_ELECTION,
        *_HOLDINGS,
        *_WATCHING,
        *_GARP,
        *_NOTIFY,
        Keyword(
            "notify_deleted",
            _notify_deleted,
            "[SCRIPT [user [[:]group]]]",
            "Tell DELETED instead of FAULT when a reload removes the instance.",
            default="off",
            field="notify.deleted",
            once=True,
        ),
        Keyword(
            "notify_master_rx_lower_pri",
            SCRIPT,
            "SCRIPT [user [[:]group]]",
            "Run when a MASTER hears an advert of lower priority.",
            field="notify.master_rx_lower_pri",
            once=True,
        ),
    ),
)

VRRP_SYNC_GROUP = Section(
    "vrrp_sync_group",
    (
        Keyword("group", words_of_block, "{ INSTANCE ... }", "Members.", raw_block=True, once=True),
        *TRACKS,
        Keyword(
            "sync_group_tracking_weight",
            flag(True),
            "",
            "Allow trackers with weights on the members.",
            default="off",
        ),
        Keyword(
            "global_tracking",
            flag(True),
            "",
            "Old spelling.",
            field="sync_group_tracking_weight",
            alias_of="sync_group_tracking_weight",
            deprecated=Severity.ERROR,
        ),
        *_NOTIFY,
    ),
)


def _zero_is_one(low: float, high: float) -> Any:
    def convert(statement: Statement, context: Context) -> float:
        return float(seconds(low, high)(statement, context)) if need(statement) != "0" else 1.0

    return convert


VRRP_SCRIPT = Section(
    "vrrp_script",
    (
        Keyword("script", SCRIPT, "COMMAND [user [[:]group]]", "What to run; exit status 0 is good.", once=True),
        Keyword(
            "interval",
            _zero_is_one(0.001, 4294),
            "SECS",
            "Time between starts.",
            default="1",
            range="0.001..4294 s; 0 becomes 1",
        ),
        Keyword(
            "timeout",
            _zero_is_one(0.001, 4294),
            "SECS",
            "Limit of one run.",
            default="interval",
            range="0.001..4294 s; 0 becomes 1",
        ),
        Keyword(
            "weight",
            weight_of_item(253),
            "N [reverse]",
            "Default weight where it is tracked.",
            default="0",
            range="-253..253",
        ),
        Keyword("rise", integer(1, INT32), "N", "Successes to become up.", default="1"),
        Keyword("fall", integer(1, INT32), "N", "Failures to become down.", default="1"),
        Keyword("user", word, "USER [[:]GROUP]", "Identity.", default="script_user"),
        Keyword("init_fail", flag(True), "", "Start as failed.", default="off"),
    ),
)


def _process(statement: Statement, context: Context) -> tuple[str, ...]:
    """Command and parameters; a quoted word is one element."""
    words = shell_words(statement)[1:]
    if not words:
        need(statement)
    return words


def _param_match(statement: Statement, context: Context) -> str:
    return str(choice("initial", "partial")(statement, context)) if len(statement.words) > 1 else "exact"


_PROCESS_DELAY = seconds(0.000001, 3600)

VRRP_TRACK_PROCESS = Section(
    "vrrp_track_process",
    (
        Keyword(
            "process",
            _process,
            "COMMAND [PARAM ...]",
            "Process to count; with parameters its whole command line must be equal.",
            field="command",
            once=True,
        ),
        Keyword(
            "param_match",
            _param_match,
            "[initial|partial]",
            "How parameters are compared; bare: exactly.",
            default="exact with parameters",
        ),
        Keyword(
            "weight",
            weight_of_item(254),
            "N [reverse]",
            "Default weight where it is tracked.",
            default="0",
            range="-254..254",
        ),
        Keyword("quorum", integer(1, 65535), "N", "Least number of processes.", default="1", range="1..65535"),
        Keyword(
            "quorum_max",
            integer(0, 65535),
            "N",
            "Greatest number of processes; 0: must not run.",
            default="unlimited",
            range="0..65535",
        ),
        Keyword("delay", _PROCESS_DELAY, "SECS", "Both delays.", default="0", range="0.000001..3600 s"),
        Keyword(
            "terminate_delay",
            _PROCESS_DELAY,
            "SECS",
            "Wait before losing the quorum counts.",
            default="0",
            range="0.000001..3600 s",
        ),
        Keyword(
            "fork_delay",
            _PROCESS_DELAY,
            "SECS",
            "Wait before gaining the quorum counts.",
            default="0",
            range="0.000001..3600 s",
        ),
        Keyword("full_command", flag(True), "", "Compare the whole command line.", default="off"),
    ),
)


def _init_file(statement: Statement, context: Context) -> tuple[int, bool]:
    """`[VALUE] [overwrite]`: the value to write, and whether over an existing file."""
    value, overwrite = 0, False
    for index, text in enumerate(statement.args, 1):
        if text == "overwrite":
            overwrite = True
        else:
            value = parse_integer(text, -INT32 - 1, INT32, index)
            if not -254 <= value <= 254:
                context.report("unusual-value", f"{value} is outside -254..254", statement, index, Severity.WARNING)
    return value, overwrite


TRACK_FILE = Section(
    "track_file",
    (
        Keyword("file", word, "PATH", "File whose first number is followed.", once=True),
        Keyword(
            "weight",
            weight_of_item(254),
            "N [reverse]",
            "Default weight where it is tracked.",
            default="1",
            range="-254..254",
            once=True,
        ),
        Keyword(
            "init_file",
            _init_file,
            "[VALUE] [overwrite]",
            "Create the file at start, or write over it.",
            default="not created; VALUE 0",
        ),
    ),
)


def _one_interface(statement: Statement, context: Context) -> tuple[str, ...]:
    return (interface(statement, context),)


GARP_GROUP = Section(
    "garp_group",
    (
        Keyword(
            "garp_interval",
            seconds(0, TIMER_MAX),
            "SECS",
            "Least gap between gratuitous ARPs.",
            range="0..4294.967295 s",
        ),
        Keyword(
            "gna_interval",
            seconds(0, TIMER_MAX),
            "SECS",
            "Least gap between unsolicited neighbour advertisements.",
            range="0..4294.967295 s",
        ),
        Keyword("interface", _one_interface, "IFNAME", "Interface the gaps apply to.", field="interfaces", many=True),
        Keyword(
            "interfaces",
            words_of_block,
            "{ IFNAME ... }",
            "Interfaces that share the gaps.",
            raw_block=True,
            many=True,
        ),
    ),
)

TRACK_GROUP = Section(
    "track_group",
    (
        Keyword(
            "group",
            words_of_block,
            "{ INSTANCE ... }",
            "Instances that the static entries of this group concern.",
            raw_block=True,
            once=True,
        ),
    ),
)


def _delays(line: Statement, context: Context) -> InterfaceDelay:
    """`IFNAME DOWN [UP]`; without UP both are equal, as the manual promises."""
    if len(line.words) == 1:
        raise Bad("missing-value", f"'{line.words[0]}' needs a delay in seconds", 1)
    down = parse_seconds(line.words[1], 0, 255)
    up = parse_seconds(line.words[2], 0, 255, 2) if len(line.words) > 2 else down
    return InterfaceDelay(interface=line.words[0], down=down, up=up)


def _linkbeat(line: Statement, context: Context) -> LinkbeatInterface:
    method = line.words[1] if len(line.words) > 1 else ""
    if method not in ("", "MII", "ETHTOOL", "IOCTL"):
        raise Bad("not-a-choice", f"'{method}' is not one of MII, ETHTOOL, IOCTL", 1)
    return LinkbeatInterface(interface=line.words[0], method=method)


INTERFACE_DELAYS = reported(_delays)
LINKBEAT_INTERFACES = reported(_linkbeat)

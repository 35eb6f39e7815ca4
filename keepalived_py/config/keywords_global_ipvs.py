"""Tables of global_defs: IPVS and health checking."""

from __future__ import annotations

from typing import Any

from .converters import (
    INT32,
    UINT32,
    boolean,
    flag,
    integer,
    need,
    optional_word,
    parse_address,
    parse_integer,
    parse_interface,
)
from .model import SyncDaemon
from .problems import Severity
from .schema import Bad, Context, Keyword
from .tree import Statement


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


def _flush_on_stop(statement: Statement, context: Context) -> str:
    if len(statement.words) == 1:
        return "all"
    if statement.words[1] != "VS":
        raise Bad("not-a-choice", f"'{statement.words[1]}' is not VS")
    return "vs"


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


IPVS = (
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

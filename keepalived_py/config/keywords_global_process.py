"""Tables of global_defs: processes, their scheduling, and the scripts they run."""

from __future__ import annotations

import os
from typing import Any

from .converters import UINT32, affinity, boolean, clamped, cut, flag, integer, need, parse_integer, seconds
from .model import Fifo
from .problems import Severity
from .schema import Bad, Context, Keyword, MissingParameter
from .scripts import SCRIPT, resolve_identity, script_user
from .tree import Statement

PROCESS_NAME = 15


UMASK_BITS = {
    f"I{what}{who}": bits << shift
    for who, shift in (("USR", 6), ("GRP", 3), ("OTH", 0))
    for what, bits in (("R", 4), ("W", 2), ("X", 1))
} | {"IRWXU": 0o700, "IRWXG": 0o070, "IRWXO": 0o007}


def _fact(name: str, convert: Any) -> Any:
    """A converter whose value later scripts depend on."""

    def both(statement: Statement, context: Context) -> Any:
        context.facts[name] = value = convert(statement, context)
        return value

    return both


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


PROCESSES = (
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


SCRIPTS = (
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

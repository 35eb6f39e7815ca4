"""Commands in the configuration: their words and the identity they run under (config-language.md 4.2 and 11)."""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import replace

from keepalived_py.records import dataclass

from .converters import command_words, shell_words
from .model import Script
from .problems import Severity
from .schema import Bad, Context, Converter, MissingParameter
from .tree import Statement

MAX_ID = 2**32 - 2
DEFAULT_USER = "keepalived_script"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a script runs as; uid None: the daemon's own."""

    user: str = ""
    group: str = ""
    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None


def _gid(name: str) -> int:
    """A group's number; a number need not have a name. Raises KeyError for an unknown name or an impossible number."""
    if not (name.isascii() and name.isdecimal()):
        return grp.getgrnam(name).gr_gid
    if int(name) > MAX_ID:
        raise KeyError(name)
    return int(name)


def resolve_identity(user: str, group: str, index: int, supplementary: bool) -> Identity:
    """`user` and `group` (`:GROUP` asks for supplementary groups) as numbers. Raises Bad for unknown names."""
    try:
        entry = pwd.getpwuid(int(user)) if user.isascii() and user.isdecimal() else pwd.getpwnam(user)
    except KeyError:
        raise Bad("unknown-user", f"unknown user '{user}'", index, hint="the script is left out") from None
    wants_groups = supplementary or group.startswith(":")
    name = group.removeprefix(":")
    gid = entry.pw_gid
    if name:
        try:
            gid = _gid(name)
        except KeyError:
            raise Bad("unknown-group", f"unknown group '{name}'", index + 1, hint="the script is left out") from None
    groups = tuple(sorted(os.getgrouplist(entry.pw_name, gid))) if wants_groups else None
    return Identity(user, f":{name}" if wants_groups else name, entry.pw_uid, gid, groups)


def default_identity(context: Context) -> Identity:
    """script_user, else the user keepalived_script, else the daemon's own. Raises Bad under script security."""
    known: Identity | None = context.facts.get("script_user")
    if known is not None:
        return known
    try:
        identity = resolve_identity(DEFAULT_USER, "", 1, context.facts.get("set_supplementary_groups", False))
    except Bad:
        if context.facts.get("enable_script_security"):
            raise Bad(
                "no-script-user",
                f"no script_user is set and user '{DEFAULT_USER}' does not exist, so the script is left out",
                0,
                hint="set script_user in global_defs before the first script",
            ) from None
        identity = Identity()
    context.facts["script_user"] = identity
    return identity


def make_script(words: tuple[str, ...], context: Context) -> Script:
    """A script from its keyword's words: command, user, group. Raises Bad."""
    if len(words) < 2 or not words[1]:
        raise MissingParameter(words[0])
    command = words[1]
    readable = command.startswith("<") and command[1:].lstrip().startswith("/")
    argv = command_words(command[1:].lstrip() if readable else command)
    if not argv:
        raise Bad("empty-script", "the command is empty")
    if len(words) > 2:
        group = words[3] if len(words) > 3 else ""
        try:
            who = resolve_identity(words[2], group, 2, context.facts.get("set_supplementary_groups", False))
        except Bad as bad:
            bad.severity = Severity.LINT  # keepalived leaves the script out and finds nothing wrong with the file
            raise
    else:
        who = default_identity(context)
    return Script(
        argv=argv,
        user=who.user,
        group=who.group,
        uid=who.uid,
        gid=who.gid,
        groups=who.groups,
        readable_only=readable,
    )


def run_as(command: Script, words: tuple[str, ...], context: Context) -> Script:
    """`command` under the identity of a separate `user USER [GROUP]` line. Raises Bad."""
    group = words[1] if len(words) > 1 else ""
    who = resolve_identity(words[0], group, 1, context.facts.get("set_supplementary_groups", False))
    return replace(command, user=who.user, group=who.group, uid=who.uid, gid=who.gid, groups=who.groups)


def script(statement: Statement, context: Context) -> Script:
    """Converter of notify_*, script, misc_path and their likes. Whether it can run is looked at in the end."""
    return remembered(make_script(shell_words(statement), context), statement, context)


def remembered(made: Script, statement: Statement, context: Context) -> Script:
    """`made`, and where it stands, for what is found out about it in the end."""
    context.facts.setdefault("script_lines", {}).setdefault(made.argv, statement)
    return context.share(made)


def script_user(statement: Statement, context: Context) -> Script:
    """`script_user USER [[:]GROUP]`: the default identity from here on."""
    words = statement.words
    if len(words) < 2:
        raise MissingParameter(words[0])
    who = resolve_identity(words[1], words[2] if len(words) > 2 else "", 1, False)
    context.facts["script_user"] = who
    return Script(argv=(), user=who.user, group=who.group, uid=who.uid, gid=who.gid, groups=who.groups)


SCRIPT: Converter = script

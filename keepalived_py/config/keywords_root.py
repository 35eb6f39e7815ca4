"""The table of the root: its scalars, and the keywords that open a block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

from .keywords_bfd import BFD_INSTANCE
from .keywords_check import SSL, VIRTUAL_SERVER
from .keywords_global import GLOBAL_DEFS, ROOT_SCALARS
from .keywords_vrrp import (
    GARP_GROUP,
    TRACK_FILE,
    TRACK_GROUP,
    VRRP_INSTANCE,
    VRRP_SCRIPT,
    VRRP_SYNC_GROUP,
    VRRP_TRACK_PROCESS,
)
from .problems import Severity
from .schema import ROOT_NAME, Context, Converter, Keyword, Section
from .tree import Statement


def _nothing(statement: Statement, context: Context) -> None:
    """Read in another pass over the root."""


def _row(
    name: str,
    arguments: str,
    text: str,
    section: Section | None = None,
    *,
    many: bool = False,
    pending: bool = False,
    alias_of: str = "",
) -> Keyword:
    """A keyword that opens a block; `section` tells the manual what may stand in it."""
    return Keyword(
        name,
        _nothing,
        arguments,
        text,
        raw_block=True,
        optional_block=True,
        contents=section,
        many=many,
        pending=pending,
        alias_of=alias_of,
        deprecated=Severity.LINT,
    )


ROOT = Section(
    ROOT_NAME,
    (
        *ROOT_SCALARS,
        _row("global_defs", "{ block }", "Settings of the daemon; may be repeated.", GLOBAL_DEFS),
        _row("vrrp_instance", "NAME { block }", "One virtual router.", VRRP_INSTANCE),
        _row("vrrp_sync_group", "NAME { block }", "Instances that change their state together.", VRRP_SYNC_GROUP),
        _row("vrrp_script", "NAME { block }", "A script whose result counts where it is tracked.", VRRP_SCRIPT),
        _row(
            "vrrp_track_process",
            "NAME { block }",
            "Processes whose number counts where they are tracked.",
            VRRP_TRACK_PROCESS,
        ),
        _row(
            "track_file",
            "NAME { block }",
            "A file whose number counts where it is tracked.",
            TRACK_FILE,
        ),
        _row(
            "vrrp_track_file",
            "NAME { block }",
            "Old spelling.",
            TRACK_FILE,
            alias_of="track_file",
        ),
        _row("bfd_instance", "NAME { block }", "One BFD session (RFC 5880).", BFD_INSTANCE, pending=True),
        _row(
            "track_group",
            "NAME { group { INSTANCE ... } }",
            "Instances that static addresses, routes and rules concern.",
            TRACK_GROUP,
        ),
        _row("garp_group", "{ block }", "Least gaps between announcements on interfaces.", GARP_GROUP),
        _row("static_ipaddress", "{ ADDRESS line ... }", "Addresses that always stay.", many=True),
        _row("static_routes", "{ ROUTE line ... }", "Routes that always stay.", many=True),
        _row("static_rules", "{ RULE line ... }", "Routing rules that always stay.", many=True),
        _row(
            "interface_up_down_delays",
            "{ IFNAME DOWN_DELAY [UP_DELAY] ... }",
            "How long an interface must be down or up before it counts; without UP_DELAY both are equal.",
            many=True,
        ),
        _row(
            "linkbeat_interfaces",
            "{ IFNAME [MII|ETHTOOL|IOCTL] ... }",
            "Interfaces whose link is polled.",
            many=True,
        ),
        _row(
            "virtual_server_group",
            "NAME { IP[-END|/MASK] [PORT] | fwmark N [inet|inet6] ... }",
            "Addresses, ranges and marks that share a virtual server.",
        ),
        _row(
            "virtual_server",
            "IPADDR [PORT] | fwmark N | group NAME { block }",
            "One IPVS service.",
            VIRTUAL_SERVER,
        ),
        _row("SSL", "{ block }", "What SSL_GET presents and trusts.", SSL),
    ),
)


def root_section(readers: Mapping[str, Converter | None]) -> Section:
    """The root for one pass: only what is in `readers` is read, and nothing else is said about the rest."""
    rows = []
    for keyword in ROOT.keywords:
        if keyword.name in readers:
            rows.append(replace(keyword, convert=readers[keyword.name]))
        else:
            rows.append(Keyword(keyword.name, _nothing, raw_block=True, optional_block=True))
    return Section(ROOT_NAME, tuple(rows))


@cache
def keyword_places() -> Mapping[str, tuple[str, ...]]:
    """The names of all blocks that each keyword may stand in."""
    found: dict[str, dict[str, None]] = {}
    waiting, done = [ROOT], {ROOT_NAME}
    while waiting:
        section = waiting.pop(0)
        for keyword in section.keywords:
            found.setdefault(keyword.name, {})[section.name] = None
            inner = keyword.block or keyword.contents
            if inner is not None and inner.name not in done:
                done.add(inner.name)
                waiting.append(inner)
    return {name: tuple(names) for name, names in found.items()}

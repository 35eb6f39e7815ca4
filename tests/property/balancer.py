"""Configurations of a load balancer, and small changes of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from keepalived_py.config.model import (
    Check,
    CheckerConfig,
    CheckerSlice,
    CheckTiming,
    Endpoint,
    FileCheck,
    Forwarding,
    GlobalDefs,
    GroupRange,
    HttpCheck,
    HttpUrl,
    IpvsSettings,
    MiscCheck,
    RealServer,
    Script,
    SorryServer,
    TcpCheck,
    VirtualServer,
)
from keepalived_py.values import Protocol, ServiceKey, ip_address

LIMIT = 2**31 - 1
NEVER = 1e6
FILES = ("a", "b")
HOME = ip_address("10.0.0.2")
"""The address of a virtual server that comes and goes."""

# configurations -------------------------------------------------------------------------------------------------------


def timing(draw: st.DrawFn, **changes: Any) -> CheckTiming:
    return CheckTiming(
        alpha=draw(st.booleans()),
        retry=draw(st.integers(0, 1)),
        rise=draw(st.integers(1, 2)),
        delay_loop=NEVER,
        delay_before_retry=NEVER,
        share=False,
        **changes,
    )


@st.composite
def checks(draw: st.DrawFn) -> tuple[Check, ...]:
    """One of a kind at most: two equal ones could not be told apart in a reload."""
    found: list[Check] = []
    for kind in sorted(draw(st.sets(st.sampled_from(["tcp", "http", "misc", "file"]), min_size=1, max_size=2))):
        endpoint = Endpoint(address=ip_address("127.0.0.1"), port=1)
        match kind:
            case "tcp":
                found.append(TcpCheck(timing=timing(draw), endpoint=endpoint))
            case "http":
                urls = (HttpUrl(path="/a"), HttpUrl(path="/b"))
                found.append(HttpCheck(timing=timing(draw), endpoint=endpoint, urls=urls))
            case "misc":
                dynamic = draw(st.booleans())
                script = Script(argv=("true",))
                found.append(MiscCheck(timing=timing(draw), script=script, timeout=1, dynamic=dynamic))
            case "file":
                weight, reverse = draw(st.sampled_from([0, 1, -1, 253, LIMIT])), draw(st.booleans())
                file = draw(st.sampled_from(FILES))
                found.append(FileCheck(timing=CheckTiming(), track_file=file, weight=weight, reverse=reverse))
    return tuple(found)


@st.composite
def real_servers(draw: st.DrawFn) -> tuple[RealServer, ...]:
    return tuple(
        RealServer(
            address=ip_address(f"10.1.0.{number}"),
            port=80,
            weight=draw(st.sampled_from([0, 1, 3, LIMIT])),
            inhibit_on_failure=draw(st.booleans()),
            uthreshold=draw(st.sampled_from([0, 5])),
            checks=draw(checks()),
        )
        for number in sorted(draw(st.sets(st.integers(1, 4), max_size=4)))
    )


KEYS = (
    ServiceKey(protocol=Protocol.TCP, address=ip_address("10.0.0.1"), port=80, family=4),
    ServiceKey(protocol=Protocol.TCP, address=HOME, port=80, family=4),
    ServiceKey(protocol=Protocol.TCP, group="g", family=4),
    ServiceKey(protocol=Protocol.TCP, group="g", family=4, ordinal=1),
    ServiceKey(fwmark=5, family=4),
)


@st.composite
def virtual_servers(draw: st.DrawFn) -> tuple[VirtualServer, ...]:
    """In any order: an address, one with ha_suspend, a group twice, which may be the first address too, and a mark.

    With DR all real servers of one address are one row of a group, whatever their ports.
    """
    chosen = draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=3, unique=True))
    start = ip_address(draw(st.sampled_from(["10.0.1.1", "10.0.0.1"])))
    entries = (
        GroupRange(first=start, last=start + draw(st.integers(0, 1)), port=80),
        GroupRange(first=start, last=start, port=80),
        GroupRange(fwmark=draw(st.integers(5, 6)), family=4),
    )
    found = []
    for key in chosen:
        reals, sorry = draw(real_servers()), None
        if draw(st.booleans()):
            address = ip_address(f"10.1.0.{draw(st.sampled_from([1, 9]))}")  # 1: a real server too
            sorry = SorryServer(address=address, port=80, inhibit=draw(st.booleans()))
        if key.group and draw(st.booleans()):
            direct = [replace(real, forwarding=Forwarding(method="DR")) for real in reals]
            reals = (*direct, *(replace(real, port=81) for real in direct[:2]))
        quorum, hysteresis = draw(st.sampled_from([(1, 0), (3, 2), (4, 1), (LIMIT, 0)]))
        found.append(
            VirtualServer(
                key=key,
                real_servers=reals,
                sorry_server=sorry,
                scheduler=draw(st.sampled_from(["rr", "wlc"])),
                persistence_timeout=draw(st.sampled_from([0, 50])),
                quorum=quorum,
                hysteresis=hysteresis,
                ha_suspend=key.address == HOME,
                group_entries=entries if key.group else (),
            )
        )
    return tuple(found)


class Plan:
    """A configuration that is short to read where a story has failed."""

    def __init__(self, config: CheckerSlice) -> None:
        self.config = config

    def __repr__(self) -> str:
        servers = self.config.checker.virtual_servers
        lines = (f"nftables {self.config.global_defs.ipvs.nftables_table!r}", *map(_in_short, servers))
        return "Plan(" + "; ".join(lines) + ")"


def _in_short(config: VirtualServer) -> str:
    sorry = config.sorry_server
    spare = f", sorry {sorry.address}{' inhibit' * sorry.inhibit}" if sorry is not None else ""
    reals = [
        f"{real.address}:{real.port} {real.forwarding.method} {real.weight}{' inhibit' * real.inhibit_on_failure} "
        + " ".join(map(_check_in_short, real.checks))
        for real in config.real_servers
    ]
    how = f"{config.scheduler} {config.persistence_timeout}"
    entries = [f"{entry.first}-{entry.last} {entry.fwmark}" for entry in config.group_entries]
    return f"{config.key} {entries} {how} quorum {config.quorum}+-{config.hysteresis}{spare}, {reals}"


def _check_in_short(check: Check) -> str:
    alpha = " alpha" * check.timing.alpha
    match check:
        case FileCheck():
            return f"[file {check.track_file} * {check.weight}{' reverse' * check.reverse}]"
        case MiscCheck():
            return f"[misc{' dynamic' * check.dynamic}{alpha}]"
    return f"[{type(check).__name__}{alpha}]"


@st.composite
def configurations(draw: st.DrawFn) -> Plan:
    """Marks of nftables_ipvs begin with one that may stand in the file."""
    table = draw(st.sampled_from(["", "", "mine"]))
    settings = IpvsSettings(nftables_table=table, nftables_start_fwmark=5)
    checker = CheckerConfig(virtual_servers=draw(virtual_servers()))
    return Plan(CheckerSlice(global_defs=GlobalDefs(ipvs=settings), checker=checker))


TWEAKS = (
    "weight",
    "inhibit",
    "checks",
    "alpha",
    "drop",
    "quorum",
    "sorry",
    "scheduler",
    "order",
    "threshold",
    "nftables",
)


def tweaked(config: CheckerSlice, kind: str, number: int) -> CheckerSlice:
    """The same but for one thing, of one virtual server and one of its real servers."""
    if kind == "nftables":
        defs = config.global_defs
        table = "" if defs.ipvs.nftables_table else "mine"
        return replace(config, global_defs=replace(defs, ipvs=replace(defs.ipvs, nftables_table=table)))
    servers = list(config.checker.virtual_servers)
    at = number % len(servers)
    server = servers[at]
    reals = list(server.real_servers)
    if reals:
        index = number // len(servers) % len(reals)
        real = reals.pop(index)
        if kind != "drop":
            reals.insert(index, _tweaked_real(real, kind, number))
    match kind:
        case "quorum":
            server = replace(server, quorum=1 + number % 4, hysteresis=0)
        case "sorry":
            server = replace(server, sorry_server=None)
        case "scheduler":
            server = replace(server, scheduler="sh")
    servers[at] = replace(server, real_servers=tuple(reals))
    if kind == "order":
        servers.reverse()
    return replace(config, checker=replace(config.checker, virtual_servers=tuple(servers)))


def _tweaked_real(real: RealServer, kind: str, number: int) -> RealServer:
    match kind:
        case "weight":
            return replace(real, weight=number % 5)
        case "inhibit":
            return replace(real, inhibit_on_failure=not real.inhibit_on_failure)
        case "threshold":
            return replace(real, uthreshold=number % 3)
        case "checks":
            return replace(real, checks=real.checks[1:])
        case "alpha":
            timings = (replace(check.timing, alpha=not check.timing.alpha) for check in real.checks)
            return replace(
                real,
                checks=tuple(replace(check, timing=each) for check, each in zip(real.checks, timings, strict=True)),
            )
    return real

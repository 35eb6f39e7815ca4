"""Drafts of VRRP blocks to frozen instances: defaults, inheritance and corrections (vrrp-behaviour.md 1, 5, 8, 11)."""

from __future__ import annotations

from itertools import chain
from typing import Any

from keepalived_py.values import OWNER, Centiseconds, IPAddress

from .model import (
    Address,
    Authentication,
    GarpSettings,
    GlobalDefs,
    NotifyScripts,
    SyncGroup,
    Track,
    VrrpInstance,
    VrrpScript,
)
from .problems import Severity
from .schema import Context, Draft
from .scripts import run_as

MAX_ADVERTISED = 255
CONFIG_EXIT = 2


def build_script(name: str, draft: Draft, context: Context) -> VrrpScript | None:
    """A vrrp_script; None without a command."""
    command = draft.get("script")
    if command is None:
        context.report("script-without-command", f"vrrp_script '{name}' has no script and is left out", draft.head)
        return None
    if draft.has("user"):
        command = run_as(command, draft.at("user").words[1:3], context)
    interval = draft.get("interval", 1.0)
    weight, reverse = draft.get("weight", (0, False))
    return VrrpScript(
        name=name,
        script=command,
        interval=interval,
        timeout=draft.get("timeout", interval),
        weight=weight,
        reverse=reverse,
        **draft.pick("rise", "fall", "init_fail"),
    )


def build_instance(name: str, draft: Draft, defaults: GlobalDefs, context: Context) -> VrrpInstance | None:
    """A vrrp_instance; None when it is left out, with the reason reported."""
    vips = _pairs(draft, "virtual_ipaddress")
    family = _family(draft, vips)
    version = _version(draft, family, defaults, context)
    priority, wants_master = _standing(draft, context)
    peers = tuple(peer for peer, _ in _pairs(draft, "unicast_peer"))
    source = draft.get("source") or draft.get("unicast_source")
    if not _essentials(name, draft, bool(peers and source), context):
        return None
    addresses, excluded = _addresses(draft, vips, family, context)
    if version == 3 and not addresses:
        context.report(
            "no-virtual-address",
            f"({name}) VRRPv3 needs at least one virtual address",
            draft.head,
            1,
            stops=CONFIG_EXIT,
        )
    group = defaults.mcast_group4 if family == 4 else defaults.mcast_group6
    for peer in peers:
        if peer.address.version != family:
            context.report("wrong-family", f"({name}) peer {peer.address} is not IPv{family}", draft.at("unicast_peer"))
    peers = tuple(peer for peer in peers if peer.address.version == family)
    preempt = _preempt(draft, wants_master, priority, context)
    return VrrpInstance(
        name=name,
        interface=draft.get("interface", ""),
        family=family,
        vrid=draft.get("virtual_router_id"),
        version=version,
        wants_master=wants_master,
        priority=priority,
        advert_int=_interval(draft, version, context),
        preempt=preempt,
        preempt_delay=draft.get("preempt_delay", 0.0) if preempt and not wants_master else 0.0,
        down_timer_adverts=draft.get("down_timer_adverts", defaults.down_timer_adverts),
        lower_prio_no_advert=draft.get("lower_prio_no_advert", bool(defaults.lower_prio_no_advert)),
        higher_prio_send_advert=draft.get("higher_prio_send_advert", bool(defaults.higher_prio_send_advert)),
        strict_address_list=draft.get("strict_address_list", defaults.strict_address_list),
        unicast_peers=peers,
        unicast=bool(peers),
        check_unicast_src=draft.get("check_unicast_src", False)
        or any((peer.min_ttl, peer.max_ttl) != (0, 255) for peer in peers),
        unicast_ttl=draft.get("unicast_ttl"),
        source=_source(name, source, family, draft, context),
        mcast_group=None if peers else group,
        addresses=addresses,
        excluded=excluded,
        tracks=_tracks(draft, context),
        garp=_garp(draft, defaults),
        notify=_notify(draft),
        authentication=_authentication(name, draft, version, family, wants_master, context),
        **draft.pick("dont_track_primary", "debug"),
    )


def _pairs(draft: Draft, name: str) -> list[Any]:
    return list(chain.from_iterable(draft.many(name)))


def _family(draft: Draft, vips: list[Any]) -> int:
    """That of the first virtual address, else of a source or peer, else IPv4."""
    peers = _pairs(draft, "unicast_peer")
    for found in (
        vips[0][0].address if vips else None,
        draft.get("source"),
        draft.get("unicast_source"),
        peers[0][0].address if peers else None,
    ):
        if found is not None:
            return int(found.version)
    return 4


def _version(draft: Draft, family: int, defaults: GlobalDefs, context: Context) -> int:
    if family == 6:
        if draft.get("version") == 2:
            context.report(
                "v2-with-ipv6",
                "VRRPv2 is for IPv4; IPv6 runs version 3 as every other router expects",
                draft.at("version"),
                1,
                Severity.LINT,
            )
        return 3
    return int(draft.get("version", defaults.vrrp_version))


def _standing(draft: Draft, context: Context) -> tuple[int, bool]:
    """Priority and whether MASTER is wanted at start (vrrp-behaviour.md 1)."""
    state = draft.get("state")
    priority = draft.get("priority", OWNER if state == "MASTER" else 100)
    return priority, state == "MASTER" or (state is None and priority == OWNER)


def _essentials(name: str, draft: Draft, unicast_with_source: bool, context: Context) -> bool:
    """VRID and interface, without which keepalived does not start."""
    complete = True
    if not draft.has("virtual_router_id"):
        context.report(
            "no-virtual-router-id", f"({name}) the virtual_router_id is missing", draft.head, 1, stops=CONFIG_EXIT
        )
        complete = False
    if not draft.has("interface") and not unicast_with_source:
        context.report("no-interface", f"({name}) the interface is missing", draft.head, 1, stops=CONFIG_EXIT)
        complete = False
    interface = draft.get("interface", "")
    if interface and context.interfaces is not None and interface not in context.interfaces:
        context.report(
            "interface-not-found",
            f"interface '{interface}' does not exist on this machine",
            draft.at("interface"),
            1,
            Severity.LINT,
        )
    return complete


def _addresses(
    draft: Draft, vips: list[Any], family: int, context: Context
) -> tuple[tuple[Address, ...], tuple[Address, ...]]:
    """Advertised and excluded addresses: one family, no duplicates, at most 255 advertised."""
    seen: set[IPAddress] = set()
    advertised: list[Address] = []
    excluded: list[Address] = []
    tagged = [(pair, advertised) for pair in vips]
    tagged += [(pair, excluded) for pair in _pairs(draft, "virtual_ipaddress_excluded")]
    for (found, line), into in tagged:
        if into is advertised and found.family != family:
            context.report("wrong-family", f"{found} is not IPv{family}; the address is left out", line)
        elif found.address in seen:
            context.report("duplicate-address", f"{found.address} stands twice; the second is left out", line)
        elif into is advertised and len(advertised) == MAX_ADVERTISED:
            excluded.append(found)
        else:
            into.append(found)
        seen.add(found.address)
    return tuple(advertised), tuple(excluded)


def _interval(draft: Draft, version: int, context: Context) -> Centiseconds:
    """advert_int as the version carries it: whole seconds in v2, centiseconds up to 40.95 s in v3."""
    asked = draft.get("advert_int", 1.0)
    if version == 2:
        whole = max(1, round(asked))
        if whole != asked:
            context.report(
                "interval-rounded",
                f"VRRPv2 counts whole seconds: advert_int {asked:g} becomes {whole}",
                draft.at("advert_int"),
                1,
            )
        return Centiseconds(whole * 100)
    if asked > 40.95:
        context.report("interval-too-long", f"advert_int {asked:g} is longer than 40.95 s", draft.at("advert_int"), 1)
        return Centiseconds(4095)
    return Centiseconds(max(1, round(asked * 100)))


def _preempt(draft: Draft, wants_master: bool, priority: int, context: Context) -> bool:
    preempt = bool(draft.get("preempt", True))
    if not preempt and (wants_master or priority == OWNER):
        context.report(
            "nopreempt-of-master",
            "nopreempt has no effect with state MASTER or priority 255 and is dropped",
            draft.at("preempt"),
            hint="write state BACKUP on every router of this VRID",
        )
        return True
    return preempt


def _source(name: str, source: Any, family: int, draft: Draft, context: Context) -> Any:
    if source is not None and source.version != family:
        where = draft.at("source" if draft.has("source") else "unicast_source")
        context.report("wrong-family", f"({name}) source address {source} is not IPv{family}", where, 1)
        return None
    return source


def _tracks(draft: Draft, context: Context) -> tuple[Track, ...]:
    found: dict[tuple[str, str], Track] = {}
    own = draft.get("interface")
    for track, line in (*_pairs(draft, "track_interface"), *_pairs(draft, "track_script")):
        if track.kind == "interface" and track.name == own and not draft.get("dont_track_primary"):
            context.report("tracks-own-interface", f"'{own}' is the instance's own interface and tracked anyway", line)
        elif (track.kind, track.name) in found:
            context.report("duplicate-track", f"'{track.name}' is tracked already", line)
        else:
            found[track.kind, track.name] = track
    return tuple(found.values())


def _garp(draft: Draft, defaults: GlobalDefs) -> GarpSettings:
    """The instance's values, else the global ones; the lower-priority ones default to the master ones."""
    names = ("master_delay", "master_repeat", "master_refresh", "master_refresh_repeat")
    values = {name: draft.get(f"garp.{name}", getattr(defaults.garp, name)) for name in names}
    for name in ("delay", "repeat"):
        inherited = getattr(defaults.garp, f"lower_prio_{name}")
        values[f"lower_prio_{name}"] = draft.get(
            f"garp.lower_prio_{name}", values[f"master_{name}"] if inherited is None else inherited
        )
    return GarpSettings(**values)


def _notify(draft: Draft) -> NotifyScripts:
    names = ("master", "backup", "fault", "stop")
    return NotifyScripts(**{name: draft.get(f"notify_{name}") for name in names}, any=draft.get("notify"))


def _authentication(
    name: str, draft: Draft, version: int, family: int, wants_master: bool, context: Context
) -> Authentication | None:
    block: Draft | None = draft.get("authentication")
    if block is None:
        return None
    if version == 3:
        context.report("auth-in-v3", f"({name}) VRRPv3 has no authentication; it is dropped", block.head)
        return None
    if not block.has("auth_type") or not block.has("auth_pass"):
        context.report("incomplete-auth", f"({name}) authentication needs auth_type and auth_pass", block.head)
        return None
    return Authentication(auth_type=block.get("auth_type").lower(), password=block.get("auth_pass"))


def build_group(
    name: str, draft: Draft, instances: dict[str, VrrpInstance], grouped: set[str], context: Context
) -> SyncGroup | None:
    """A sync group of the members that exist; None when none is left (vrrp-behaviour.md 8)."""
    members = []
    for member in draft.get("group", ()):
        if member not in instances or member in grouped:
            why = "is in another group" if member in grouped else "does not exist"
            context.report("bad-member", f"({name}) member '{member}' {why} and is left out", draft.at("group"))
        else:
            members.append(member)
            grouped.add(member)
    if not members:
        context.report("empty-group", f"({name}) the group has no member and is left out", draft.head)
        return None
    if len(members) == 1:
        context.report("group-of-one", f"({name}) the group has one member only", draft.head, 1)
    return SyncGroup(name=name, members=tuple(members), notify=_notify(draft))


def check_unique(instances: list[tuple[VrrpInstance, Draft]], context: Context) -> None:
    """No VRID twice on one interface, family and destination."""
    seen: dict[Any, str] = {}
    for instance, draft in instances:
        other = seen.setdefault(instance.key, instance.name)
        if other != instance.name and not instance.unicast:
            context.report(
                "duplicate-vrid",
                f"({instance.name}) VRID {instance.vrid} is used on {instance.interface} by {other} already",
                draft.at("virtual_router_id"),
                1,
                stops=CONFIG_EXIT,
            )

"""What instances track, the groups they form, and settings of interfaces: drafts to frozen objects."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from keepalived_py.values import OWNER, VirtualRouterKey

from .build_vrrp import mail_wanted, notify_of, tracks_of
from .model import (
    GarpGroup,
    GlobalDefs,
    SyncGroup,
    Track,
    TrackFile,
    TrackGroup,
    TrackProcess,
    VrrpInstance,
    VrrpScript,
)
from .problems import Severity
from .schema import Bad, Context, Draft
from .scripts import run_as


def build_script(name: str, draft: Draft, context: Context) -> VrrpScript | None:
    """A vrrp_script; None without a command or with an unknown user."""
    command = draft.get("script")
    if command is None:
        context.report("script-without-command", f"vrrp_script '{name}' has no script and is left out", draft.head, 1)
        return None
    if draft.has("user"):
        try:
            command = run_as(command, draft.at("user").words[1:3], context)
        except Bad as bad:
            context.refuse(bad, draft.at("user"), f"vrrp_script '{name}' is left out")
            return None
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


def build_process(name: str, draft: Draft, context: Context) -> TrackProcess | None:
    """A vrrp_track_process; None without a command."""
    command = draft.get("command")
    if command is None:
        context.report(
            "process-without-command", f"vrrp_track_process '{name}' has no process and is left out", draft.head, 1
        )
        return None
    match = draft.get("param_match", "exact" if len(command) > 1 else "")
    if draft.get("param_match") == "exact" and len(command) > 1:
        match = "exact"
    most = draft.get("quorum_max")
    quorum = 0 if most == 0 else draft.get("quorum", 1)
    if most is not None and quorum > most:
        context.report(
            "quorum-above-maximum", f"quorum {quorum} is above quorum_max {most}; it is lowered", draft.at("quorum"), 1
        )
        quorum = most
    both = draft.get("delay", 0.0)
    weight, reverse = draft.get("weight", (0, False))
    return TrackProcess(
        name=name,
        command=command,
        param_match=match,
        full_command=bool(match) or draft.get("full_command", False),
        weight=weight,
        reverse=reverse,
        quorum=quorum,
        quorum_max=most,
        fork_delay=draft.get("fork_delay", both),
        terminate_delay=draft.get("terminate_delay", both),
    )


def build_file(name: str, draft: Draft, context: Context) -> TrackFile | None:
    """A track_file; None without a path."""
    if not draft.has("file"):
        context.report("file-without-path", f"track_file '{name}' has no file and is left out", draft.head, 1)
        return None
    weight, reverse = draft.get("weight", (1, False))
    value, overwrite = draft.get("init_file", (None, False))
    return TrackFile(
        name=name,
        file=draft.get("file"),
        weight=weight,
        reverse=reverse,
        init_value=value,
        init_overwrite=overwrite,
    )


def build_garp_group(draft: Draft, taken: set[str], context: Context) -> GarpGroup | None:
    """A garp_group; None when it limits nothing. `taken` are interfaces of other groups."""
    names = []
    for name in dict.fromkeys(name for part in draft.many("interfaces") for name in part):
        if name in taken:
            context.report(
                "interface-in-two-groups",
                f"'{name}' is in another garp_group and left out here",
                draft.at("interfaces"),
            )
        else:
            context.need_interface(name, draft.at("interfaces"), 1)
            names.append(name)
    if not draft.has("garp_interval") and not draft.has("gna_interval"):
        context.report("garp-group-without-gap", "garp_group sets no interval and is left out", draft.head)
        return None
    if not names:
        context.report("garp-group-without-interface", "garp_group names no interface and is left out", draft.head)
        return None
    taken.update(names)
    return GarpGroup(interfaces=tuple(names), **draft.pick("garp_interval", "gna_interval"))


def build_track_group(
    name: str, draft: Draft, instances: dict[str, VrrpInstance], context: Context
) -> TrackGroup | None:
    """A track_group of the instances that exist; None when none is left."""
    members = []
    for member in dict.fromkeys(draft.get("group", ())):
        if member in instances:
            members.append(member)
        else:
            context.report(
                "bad-member", f"track_group '{name}': '{member}' does not exist and is left out", draft.at("group")
            )
    if not members:
        context.report("empty-group", f"track_group '{name}' has no member and is left out", draft.head, 1)
        return None
    return TrackGroup(name=name, members=tuple(members))


# sync groups --------------------------------------------------------------------------------------------------------


def build_group(
    name: str,
    draft: Draft,
    instances: dict[str, VrrpInstance],
    grouped: set[str],
    defaults: GlobalDefs,
    context: Context,
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
        context.report("empty-group", f"({name}) the group has no member and is left out", draft.head, 1)
        return None
    if len(members) == 1:
        # a warning, since nothing is lost by it: a reload that takes out the other member is no mistake
        context.report("group-of-one", f"({name}) the group has one member only", draft.head, 1, Severity.WARNING)
    owners = [instances[member].wants_master and instances[member].is_owner for member in members]
    if any(owners) and not all(owners):
        context.report(
            "mixed-group",
            f"({name}) some members are MASTER with priority 255 and some are not; all start as BACKUP",
            draft.head,
            1,
        )
    return SyncGroup(
        name=name,
        members=tuple(members),
        tracks=_group_tracks(name, draft, any(instances[member].priority == OWNER for member in members), context),
        sync_group_tracking_weight=draft.get("sync_group_tracking_weight", False),
        notify=notify_of(draft),
        smtp_alert=mail_wanted(draft, defaults.mail.smtp_alert_vrrp, defaults.mail.smtp_alert, False),
    )


def _group_tracks(name: str, draft: Draft, with_owner: bool, context: Context) -> tuple[Track, ...]:
    found: dict[tuple[str, str], Track] = {}
    for track, line in tracks_of(draft):
        if (track.kind, track.name) in found:
            context.report("duplicate-track", f"({name}) '{track.name}' is tracked already", line)
            continue
        if with_owner and track.weight:
            context.report(
                "weight-of-owner", f"({name}) a member has priority 255: '{track.name}' loses its weight", line
            )
            track = replace(track, weight=0)
        found[track.kind, track.name] = track
    return tuple(found.values())


def grouped_instance(
    instance: VrrpInstance, draft: Draft, group: SyncGroup, group_draft: Draft, context: Context
) -> VrrpInstance:
    """`instance` as a member of `group`: its trackers lose what a group does not allow (vrrp-behaviour.md 8)."""
    lines = {(track.kind, track.name): line for track, line in tracks_of(draft)}
    of_group = {(track.kind, track.name) for track in group.tracks}
    kept = []
    for track in instance.tracks:
        line = lines[track.kind, track.name]
        if (track.kind, track.name) in of_group:
            context.report(
                "tracked-twice",
                f"({instance.name}) '{track.name}' is tracked by sync group {group.name} too",
                line,
                hint="remove one of both",
            )
            if track.weight:
                continue
        if track.weight and not group.sync_group_tracking_weight:
            changed = _without_weight(track)
            if changed is not track:
                what = "loses its weight" if changed else "is left out"
                context.report(
                    "weight-in-group",
                    f"({instance.name}) '{track.name}' has a weight in sync group {group.name}; it {what}",
                    line,
                    hint="set sync_group_tracking_weight in the group to keep it",
                )
            if changed is None:
                continue
            track = changed
        kept.append(track)
    changes: dict[str, Any] = {}
    if tuple(kept) != instance.tracks:
        changes["tracks"] = tuple(kept)
    if not draft.has("notify_priority_changes") and group_draft.has("notify_priority_changes"):
        changes["notify_priority_changes"] = group_draft.get("notify_priority_changes")
    return replace(instance, **changes) if changes else instance


def _without_weight(track: Track) -> Track | None:
    """What is left of a weighted tracker of a member; None: nothing."""
    match track.kind:
        case "interface":
            return replace(track, weight=0)
        case "file" if abs(track.weight) == 1:
            return replace(track, weight=0)
        case "process":
            return track
    return None


def report_unused(kind: str, known: dict[str, Any], drafts: dict[str, Draft], context: Context) -> None:
    """Say which things of `kind` nothing tracks."""
    tracked = context.facts.get("tracked", set())
    for name in known:
        if (kind, name) not in tracked:
            context.report(
                f"unused-{kind}", f"{kind} '{name}' is tracked by nothing", drafts[name].head, 1, Severity.LINT
            )


def numbered(instances: dict[str, tuple[VrrpInstance, Draft]]) -> dict[str, tuple[VrrpInstance, Draft]]:
    """Unicast instances that only their peers keep apart get numbers (vrrp-behaviour.md 3)."""
    seen: Counter[VirtualRouterKey] = Counter()
    found = {}
    for name, (instance, draft) in instances.items():
        number = seen[instance.key]
        seen[instance.key] += 1
        found[name] = (replace(instance, ordinal=number) if number and instance.unicast else instance), draft
    return found


def check_unique(instances: list[tuple[VrrpInstance, Draft]], context: Context) -> None:
    """No VRID twice on one interface, family and destination, VMAC or not; unicast ones may have other peers."""
    seen: dict[Any, list[VrrpInstance]] = {}
    for instance, draft in instances:
        way = (instance.source, "unicast") if instance.unicast else (instance.mcast_group, "multicast")
        others = seen.setdefault((instance.interface, instance.family, instance.vrid, way), [])
        peers = {peer.address for peer in instance.unicast_peers}
        for other in others:
            if not instance.unicast or peers & {peer.address for peer in other.unicast_peers}:
                context.report(
                    "duplicate-vrid",
                    f"({instance.name}) VRID {instance.vrid} is used on {instance.interface} by {other.name} already",
                    draft.at("vrid"),
                    1,
                    stops=2,
                )
                break
        others.append(instance)


def check_vmac_names(instances: list[tuple[VrrpInstance, Draft]], context: Context) -> None:
    """No name of a VMAC twice."""
    seen: dict[str, str] = {}
    for instance, draft in instances:
        name = instance.vmac.name if instance.vmac else ""
        if name and seen.setdefault(name, instance.name) != instance.name:
            context.report(
                "duplicate-vmac-name",
                f"({instance.name}) {seen[name]} uses the interface name {name} already",
                draft.at("use_vmac"),
                0,
            )

"""What keepalived.data says before VRRP Topology and of interfaces: settings, static entries, what the kernel has."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from keepalived_py.config.model import VrrpSlice
from keepalived_py.dump_globals import Section, global_section
from keepalived_py.vrrp.dump_interfaces import InterfaceSnapshot, state_words
from keepalived_py.vrrp.dump_static import garp_sections, static_sections

from .firewall_rules import needs
from .instance import Instance
from .link_monitor import LinkMonitor
from .link_state import limited_delays
from .rtnetlink import Link
from .static_entries import StaticEntries
from .sysctl import Sysctls

SETTINGS = ("arp_ignore", "arp_filter", "rp_filter", "promote_secondaries")
MODES = {1: "private", 2: "vepa", 4: "bridge", 8: "passthru"}


def sections_before(config: VrrpSlice, static: StaticEntries, monitor: LinkMonitor) -> list[Section]:
    """Global definitions, garp_groups, static entries."""
    vrrp = config.vrrp
    rows = [row for key, row in static.rows.items() if key in monitor.addresses]
    filtered = bool(needs(vrrp.instances, config.global_defs.disable_local_igmp, config.global_defs.firewall))
    return [
        global_section(config.global_defs, os.uname().nodename, filtered=filtered),
        *garp_sections(vrrp.garp_groups),
        *static_sections(vrrp, rows),
    ]


def interfaces(
    config: VrrpSlice, instances: Iterable[Instance], monitor: LinkMonitor, sysctls: Sysctls
) -> Iterator[InterfaceSnapshot]:
    """All that there are, in the kernel's order."""
    users = list(instances)
    delays, _ = limited_delays(config.vrrp.interface_delays, config.vrrp.instances)
    gaps = {name: (number, group) for number, group in enumerate(config.vrrp.garp_groups) for name in group.interfaces}
    ours = [row for each in config.vrrp.instances for row in (*each.addresses, *each.excluded)]
    virtual = frozenset(row.address for row in (*ours, *config.vrrp.static_addresses))
    changeable = config.global_defs.dynamic_interfaces == "allow_if_changes"
    made = {each.ifindex for each in users if each.config.vmac is not None} | {
        index for each in users for index in each.extra.values()
    }
    for link in monitor.links.values():
        number, group = gaps.get(link.name, (None, None))
        below = monitor.links.get(link.parent)
        yield InterfaceSnapshot(
            name=link.name,
            index=link.index,
            addresses=tuple(
                address for family in (4, 6) for address in monitor.own_addresses(link.index, family, virtual)
            ),
            mac=link.mac,
            broadcast=link.broadcast,
            flags=link.flags,
            mtu=link.mtu,
            hardware=link.hardware,
            delays=delays.get(link.name, (0.0, 0.0)),
            vmac=MODES.get(link.mode, "") if link.kind == "macvlan" else "",
            below="" if below is None else f"{below.name}, state = {state_words(below.flags)}",
            created=link.index in made,
            changeable=changeable and any(each.base_index == link.index for each in users),
            garp_interval=(group.garp_interval or 0.0) if group is not None else 0.0,
            gna_interval=(group.gna_interval or 0.0) if group is not None else 0.0,
            garp_group=number,
            vmacs=sum(
                each.base_index == link.index and each.config.vmac is not None and each.config.family == 4
                for each in users
            ),
            settings={each: sysctls.original(f"ipv4/conf/{link.name}/{each}") for each in SETTINGS},
            promoting=sum(each.base_index == link.index and each.config.promote_secondaries for each in users),
            tracking=tuple(_tracking(link, users)),
        )


def _tracking(link: Link, instances: Iterable[Instance]) -> Iterator[tuple[str, int]]:
    """Instances that the interface matters to: their own with weight 0 (255: not at all), others as they track it."""
    for each in instances:
        if link.index in (each.base_index, each.ifindex):
            yield each.name, 255 if each.config.dont_track_primary else 0
        else:
            yield from (
                (each.name, track.weight)
                for track in each.config.tracks
                if (track.kind, track.name) == ("interface", link.name)
            )

"""The sections of keepalived.data between the global definitions and VRRP Topology, as keepalived writes them."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from keepalived_py.config.model import Address, GarpGroup, VrrpConfig
from keepalived_py.dump_globals import Section

from .dump_rows import address_text, route_text, rule_text

GARP_HEADING = "Gratuitous ARP delays"


def garp_sections(groups: Iterable[GarpGroup]) -> list[Section]:
    """A heading of its own and one section for each garp_group."""
    found: list[Section] = []
    for number, group in enumerate(groups):
        lines = []
        if group.garp_interval is not None:
            lines.append(f"GARP interval = {group.garp_interval:g}")
        if group.gna_interval is not None:
            lines.append(f"GNA interval = {group.gna_interval:g}")
        lines += ["Interfaces", *(f" {name}" for name in group.interfaces)]
        found.append((f"GARP delay group {number}", lines))
    return [(GARP_HEADING, []), *found] if found else []


def static_sections(config: VrrpConfig, addresses: Collection[Address]) -> list[Section]:
    """Static entries. `addresses` are those in place."""
    return [
        (
            "Static Addresses",
            [f"    {address_text(row, '', row in addresses)}" for row in config.static_addresses],
        ),
        ("Static Routes", [f"    {route_text(row)}" for row in config.static_routes]),
        ("Static Rules", [f"    {rule_text(row)}" for row in config.static_rules]),
    ]

"""What holds an instance in FAULT (vrrp-behaviour.md 7)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from keepalived_py.values import IPAddress
from keepalived_py.vrrp.events import FaultRaised

from .instance import Instance
from .link_monitor import LinkMonitor
from .relations import Relations
from .rtnetlink import IFF_MULTICAST
from .static_entries import StaticEntries
from .trackers import NO_RESULT, Trackers


class Conditions:
    """Reads what the monitors know; `link_up` knows which interfaces count as up."""

    def __init__(
        self,
        monitor: LinkMonitor,
        link_up: Callable[[str], bool],
        relations: Relations,
        static: StaticEntries,
        trackers: Trackers,
    ) -> None:
        self._monitor, self._link_up, self._relations = monitor, link_up, relations
        self._static, self._trackers = static, trackers

    def faults(self, instance: Instance) -> Iterator[FaultRaised]:
        """All that hold at this moment."""
        for subject, reason in self._found(instance):
            yield FaultRaised(subject, reason, waiting=reason.endswith(NO_RESULT))

    def _found(self, instance: Instance) -> Iterator[tuple[str, str]]:
        """Subject and reason."""
        config = instance.config
        if config.config_fault:
            yield "configuration", config.config_fault
        yield from self._of_own_links(instance)
        if instance.source is None and (instance.base_index or not (config.interface or config.vrf)):
            yield "source address", f"no IPv{config.family} address on interface {config.interface}"
        if config.track_src_ip and config.source is not None and not self._has_source(instance, config.source):
            yield "source address", f"the source address {config.source} is missing"
        if instance.deaf:
            yield "sockets", instance.deaf
        first = self._relations.namesakes().first(instance)
        if first is not None:
            yield "VRID", f"{first.name} uses VRID {config.vrid} on the link of interface {config.interface} already"
        for name in instance.held_interfaces:
            if not self._link_up(name):
                yield f"interface {name}", f"interface {name} of what it holds is down"
        yield from self._static.faults(config.name)
        yield from self._trackers.faults(config)

    def _of_own_links(self, instance: Instance) -> Iterator[tuple[str, str]]:
        config = instance.config
        name = config.interface or config.vrf
        if name and self._monitor.by_name(name) is None:
            yield f"interface {name}", f"interface {name} does not exist"
        elif name and not config.dont_track_primary and not self._link_up(name):
            yield f"interface {name}", f"interface {name} is down"
        if config.vmac is not None and instance.base_index and not instance.ifindex:
            yield "VMAC", f"there is no VMAC on interface {config.interface}"
        for name, family in instance.extra_places:
            if (name, family) not in instance.extra and self._monitor.by_name(name) is not None:
                yield f"VMAC {name} {family}", f"there is no VMAC for IPv{family} addresses on interface {name}"
        base = self._monitor.links.get(instance.base_index)
        if base is not None and config.mcast_group is not None and not base.flags & IFF_MULTICAST:
            yield "multicast", f"interface {base.name} cannot multicast"

    def _has_source(self, instance: Instance, source: IPAddress) -> bool:
        """track_src_ip: a link-local address counts on the own interface only, others wherever they are."""
        indices = (instance.base_index, instance.ifindex)
        return any(
            key.address == source and not tentative and (not source.is_link_local or key.ifindex in indices)
            for key, tentative in self._monitor.addresses.items()
        )

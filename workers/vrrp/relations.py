"""Which instances a change concerns, and which of them would be one and the same virtual router."""

from __future__ import annotations

from collections.abc import Mapping

from keepalived_py.values import IPAddress, VirtualRouterKey

from .instance import Instance
from .namesakes import Namesakes
from .static_entries import StaticEntries
from .trackers import Trackers
from .vmac import Vmacs

What = str | int | IPAddress
"""An interface by its name or index (one that was renamed is known by that), or a source address."""


class Relations:
    """Worked out when asked for, and again after `forget`."""

    def __init__(
        self, instances: Mapping[VirtualRouterKey, Instance], vmacs: Vmacs, trackers: Trackers, static: StaticEntries
    ) -> None:
        self._instances, self._vmacs, self._trackers, self._static = instances, vmacs, trackers, static
        self._by_link: dict[What, list[Instance]] | None = None
        self._namesakes: Namesakes | None = None

    def forget(self) -> None:
        """Instances, or what they have to do with, changed."""
        self._by_link = self._namesakes = None

    def namesakes(self) -> Namesakes:
        if self._namesakes is None:
            self._namesakes = Namesakes(self._instances.values())
        return self._namesakes

    def concerned(self, *whats: What) -> list[Instance]:
        """Instances that have to do with any of `whats`."""
        if self._by_link is None:
            self._by_link = {}
            for instance in self._instances.values():
                for what in self._interests(instance):
                    self._by_link.setdefault(what, []).append(instance)
        found = {each.key: each for what in whats for each in self._by_link.get(what, ())}
        return [each for key, each in found.items() if self._instances.get(key) is each]

    def _interests(self, instance: Instance) -> set[What]:
        config = instance.config
        names = {config.interface, config.vrf} | self._vmacs.names_of(instance.key)
        names |= {track.name for track in self._trackers.of(config)}
        names |= instance.held_interfaces | instance.named_interfaces | self._static.interfaces(instance.name)
        indices = {instance.base_index, instance.ifindex, instance.advert_index, *instance.extra.values()}
        sources = {config.source} if config.track_src_ip and config.source is not None else set()
        return (names | indices | sources) - {"", 0}

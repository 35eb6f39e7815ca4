"""Instances that would be one and the same virtual router if their interfaces came to lie on one link.

The configuration lets no VRID be used twice on one interface. Two interfaces may still turn out to be one link: a
macvlan is made anew above another one, or a name is given to another interface (vrrp-behaviour.md 7).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .instance import Instance
from .rtnetlink import Link


def wire(links: Mapping[int, Link], index: int) -> int:
    """Index of the interface whose link an interface uses: that below a macvlan or ipvlan, else its own."""
    link = links.get(index)
    return link.parent if link is not None and link.is_vmac and link.parent else index


class Namesakes:
    """Who shares VRID, family, destination and link, first come first."""

    def __init__(self, instances: Iterable[Instance] = ()) -> None:
        self._alike: dict[object, list[Instance]] = {}
        for instance in instances:
            if instance.wire:
                self._alike.setdefault(_identity(instance), []).append(instance)

    def first(self, instance: Instance) -> Instance | None:
        """The one that an instance has to yield to, None for none."""
        for other in self._alike.get(_identity(instance), ()):
            if other is instance:
                return None
            if _collide(instance, other):
                return other
        return None

    def others(self, instance: Instance) -> list[Instance]:
        """All that may have to yield to it, or it to them."""
        return [each for each in self._alike.get(_identity(instance), ()) if each is not instance]


def _identity(instance: Instance) -> object:
    config = instance.config
    way = config.source if config.unicast else config.mcast_group
    return instance.wire, config.family, config.vrid, config.unicast, way


def _collide(one: Instance, other: Instance) -> bool:
    """Unicast instances may share all if their peers differ (section 3)."""
    mine, theirs = ({peer.address for peer in each.config.unicast_peers} for each in (one, other))
    return not one.config.unicast or bool(mine & theirs)

"""Puts back what others remove from a MASTER, and gives the role up where that never ends (vrrp-behaviour.md 1.2)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Container, Iterable, Iterator, Mapping

from keepalived_py.clock import now
from keepalived_py.plan.links import AddressKey
from keepalived_py.plan.routes import Entry, RouteKey, RuleKey
from keepalived_py.values import IPAddress, VirtualRouterKey
from keepalived_py.vrrp.events import AddressesLost
from keepalived_py.vrrp.states import State
from workers.losses import Culprits, count_loss

from .effect_runner import EffectRunner
from .instance import Instance
from .link_monitor import LinkMonitor

logger = logging.getLogger(__name__)

SETTLE = 0.05
"""Seconds that links and addresses get to settle before routes that need them are put again."""
SHOWN = 3


class Keeper:
    """Losses are gathered and looked at when all that is known by now has been read."""

    def __init__(
        self,
        instances: Mapping[VirtualRouterKey, Instance],
        runner: EffectRunner,
        monitor: LinkMonitor,
        give_up: Callable[[Instance, AddressesLost], None],
    ) -> None:
        self.limit = 0
        """How many losses in a row are put up with."""
        self.holders: Mapping[IPAddress, list[VirtualRouterKey]] = {}
        """Instances by the addresses of their configuration."""
        self._instances, self._runner, self._monitor, self._give_up = instances, runner, monitor, give_up
        self.restored = 0
        """How many addresses, routes and rules were put back."""
        self._lost: dict[AddressKey | RouteKey | RuleKey, str] = {}
        """With who took it."""
        self._culprits = Culprits()
        self._stirred = False

    # what may be lost ---------------------------------------------------------------------------------------------

    def removed(self, key: AddressKey | RouteKey | RuleKey, port: int = 0) -> None:
        """By somebody else (`port`), or so it seems. Addresses that we remove ourselves come by here in thousands."""
        if isinstance(key, AddressKey) and not self._is_held(key):
            return
        if not self._lost:
            asyncio.get_running_loop().call_soon(self._restore_lost)
        self._lost[key] = self._culprits[port]

    def _is_held(self, key: AddressKey) -> bool:
        instances = map(self._instances.get, self.holders.get(key.address, ()))
        return any(instance is not None and key in instance.rows for instance in instances)

    def reread(self) -> None:
        """All links and addresses were read again."""
        for instance in self._instances.values():
            for key in [key for key in instance.rows if key not in self._monitor.addresses]:
                self.removed(key)
        self.stir()

    def stir(self) -> None:
        """Links or addresses changed: the kernel may have dropped routes silently, or takes now what it refused."""
        if not self._stirred:
            self._stirred = True
            asyncio.get_running_loop().call_later(SETTLE, self._settle)

    def _settle(self) -> None:
        self._stirred = False
        for instance in self._instances.values():
            if instance.router.state is State.MASTER and (instance.config.routes or instance.config.rules):
                self._runner.renew_entries(instance)

    # what is lost -------------------------------------------------------------------------------------------------

    def _restore_lost(self) -> None:
        """Put back what is really gone, all at once, unless that never ends."""
        self._monitor.read_waiting()
        lost, self._lost = self._lost, {}
        self._culprits.clear()
        for instance in list(self._instances.values()):
            if instance.router.state is State.MASTER:
                self._restore(instance, list(gone(self._monitor, lost, instance.rows, instance.entries)), lost)

    def _restore(
        self, instance: Instance, missing: list[AddressKey | Entry], lost: Mapping[AddressKey | RouteKey | RuleKey, str]
    ) -> None:
        if not missing:
            return
        times = max(count_loss(instance.losses, what, now()) for what in missing)
        shown = shown_losses(missing)
        if times > self.limit:
            self._give_up(instance, AddressesLost(f"{shown} was removed {times} times in a row"))
            return
        self.restored += len(missing)
        logger.warning("(%s) %s was removed by %s and is put back", instance.name, shown, takers(missing, lost))
        without = set(missing)
        instance.rows = {key: row for key, row in instance.rows.items() if key not in without}
        instance.entries = tuple(entry for entry in instance.entries if entry not in without)
        self._runner.announce(instance, self._runner.set_addresses(instance, True), 1)


def gone(
    monitor: LinkMonitor,
    lost: Container[AddressKey | RouteKey | RuleKey],
    rows: Iterable[AddressKey],
    entries: Iterable[Entry],
) -> Iterator[AddressKey | Entry]:
    """What of `rows` and `entries` is `lost` although its interface would carry it: one that went down is no theft.

    Routes share keys; one that is still there does not mind being put again.
    """

    def runs(ifindex: int) -> bool:
        link = monitor.links.get(ifindex)
        return link is not None and link.running

    for key in rows:
        if key in lost and key not in monitor.addresses and runs(key.ifindex):
            yield key
    for entry in entries:
        if entry.tracked and not entry.transient and entry.key in lost and all(map(runs, entry.indices)):
            yield entry


def shown_losses(missing: list[AddressKey | Entry]) -> str:
    return ", ".join(map(shown_loss, missing[:SHOWN])) + (", ..." if len(missing) > SHOWN else "")


def takers(missing: list[AddressKey | Entry], lost: Mapping[AddressKey | RouteKey | RuleKey, str]) -> str:
    """Who took that."""
    return " and ".join(sorted({lost[what if isinstance(what, AddressKey) else what.key] for what in missing}))


def shown_loss(what: AddressKey | Entry) -> str:
    return f"address {what.address}" if isinstance(what, AddressKey) else str(what)

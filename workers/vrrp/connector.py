"""Connects instances to the links of this host: VMAC, source address, sockets, and addresses that a link lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from keepalived_py.values import ExitCode, IPAddress
from keepalived_py.vrrp.states import State
from workers.worker import WorkerError

from . import detail
from .effect_runner import EffectRunner
from .hearing import Hearing
from .instance import Instance
from .link_monitor import LinkMonitor
from .namesakes import wire
from .relations import Relations
from .rtnetlink import Link
from .sockets import Sender
from .sysctl import Sysctls
from .vmac import Vmacs
from .vmac_wish import sends_below

logger = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds until sockets are asked for again."""


class Connector:
    """`again` is asked to connect an instance anew, and to judge it, when its sockets are to be tried again."""

    def __init__(
        self,
        monitor: LinkMonitor,
        vmacs: Vmacs,
        sysctls: Sysctls,
        runner: EffectRunner,
        hearing: Hearing,
        relations: Relations,
        again: Callable[[Instance], None],
    ) -> None:
        self._monitor, self._vmacs, self._sysctls = monitor, vmacs, sysctls
        self._runner, self._hearing, self._relations, self._again = runner, hearing, relations, again
        self.virtual: frozenset[IPAddress] = frozenset()
        """All virtual addresses: they are never a source."""

    def connect(self, instance: Instance) -> None:
        """Sockets and source address of an instance, as its interface allows at the moment."""
        config = instance.config
        before = instance.ifindex
        name = self._place(instance)
        self._runner.prepare(instance)
        if config.vmac is not None and before and before != instance.ifindex and instance.ifindex:
            self._move_addresses(instance, before)
        self._open(instance, config.source or self._interface_address(instance), name)

    def disconnect(self, instance: Instance) -> None:
        """It goes: its sockets are closed."""
        self._hearing.stop(instance)
        self._stop_sending(instance)

    # links --------------------------------------------------------------------------------------------------------

    def _place(self, instance: Instance) -> str:
        """Find, or make, the links of an instance; the name of the one for its adverts, "" for none."""
        config = instance.config
        link = self._monitor.by_name(config.interface)
        if config.promote_secondaries and link is not None:
            self._sysctls.set(f"ipv4/conf/{link.name}/promote_secondaries", "1")
        own = self._own_link(instance, link)
        advert = link if config.vmac is not None and sends_below(config, config.vmac) else own
        if config.vrf:
            advert = self._monitor.by_name(config.vrf)
        instance.base_index = link.index if link is not None else 0
        instance.ifindex = own.index if own is not None else 0
        instance.advert_index = advert.index if advert is not None else 0
        if instance.extra_places or instance.extra:
            instance.extra = self._vmacs.ensure_extra(config)
        indices = (instance.base_index, instance.ifindex, instance.advert_index, *instance.extra.values())
        instance.wire = wire(self._monitor.links, instance.base_index)
        if instance.links != (config, instance.wire, indices):
            instance.links = config, instance.wire, indices
            self._relations.forget()
        return advert.name if advert is not None else ""

    def _own_link(self, instance: Instance, link: Link | None) -> Link | None:
        """The VMAC of an instance, else its interface."""
        if instance.config.vmac is None:
            return link
        if link is None:
            self._vmacs.forget_own(instance.key)
            return None
        return self._vmacs.ensure(instance.config, link)

    def _interface_address(self, instance: Instance) -> IPAddress | None:
        spec = instance.config.vmac
        if spec is not None and spec.ipvlan_address is not None:
            return spec.ipvlan_address
        index = instance.ifindex if spec is not None and spec.kind == "ipvlan" else instance.base_index
        found = self._monitor.own_addresses(index, instance.config.family, self.virtual)
        return found[0] if found else None

    # sockets ------------------------------------------------------------------------------------------------------

    def _open(self, instance: Instance, source: IPAddress | None, name: str) -> None:
        """Sockets for adverts from `source` on interface `name`; those that fit already are kept."""
        config, sender = instance.config, instance.sender
        if sender is not None and (sender.config, sender.source, sender.ifindex) == (
            config,
            source,
            instance.advert_index,
        ):
            return
        self._stop_sending(instance)
        instance.router.source = source
        if source is None or (not name and (config.interface or config.vrf)):
            self._hearing.stop(instance)
            instance.deaf = ""
            return
        try:
            instance.sender = Sender(config, instance.advert_index, name, source, instance.examiner)
            self._hearing.listen(instance, name)
            self._runner.lines.add(partial(detail.source, instance.name, source, name))
        except PermissionError as exc:
            raise WorkerError("raw sockets need CAP_NET_RAW", ExitCode.NO_PERMISSION) from exc
        except OSError as exc:
            self._deafened(instance, f"sockets on {name or 'any interface'}: {exc.strerror}")
        else:
            instance.deaf = ""

    def _stop_sending(self, instance: Instance) -> None:
        if instance.sender is not None:
            instance.sender.close()
            instance.sender = None

    def _deafened(self, instance: Instance, why: str) -> None:
        """Without its sockets a router would hear nobody and think itself alone; they are tried again in a while."""
        self._stop_sending(instance)
        if instance.deaf != why:
            logger.error("(%s) %s", instance.name, why)
        instance.deaf = why
        if not instance.retrying:
            instance.retrying = True
            asyncio.get_running_loop().call_later(RETRY, self._try_sockets, instance)

    def _try_sockets(self, instance: Instance) -> None:
        instance.retrying = False
        if instance.deaf:
            self._again(instance)

    # addresses ----------------------------------------------------------------------------------------------------

    def _move_addresses(self, instance: Instance, before: int) -> None:
        """The VMAC was removed and made anew: what was on it comes back, and is announced."""
        instance.rows = {key: row for key, row in instance.rows.items() if key.ifindex != before}
        if instance.router.state is State.MASTER:
            logger.warning("(%s) its VMAC was removed by somebody else and is put back", instance.name)
            self._put_back(instance)

    def refill(self, instance: Instance, lost: int = 0) -> None:
        """Interfaces are there anew, or `lost` its addresses when it was down: they come back, and are announced."""
        rows, addresses, prepared = instance.rows, self._monitor.addresses, instance.prepared
        if instance.router.state is not State.MASTER or prepared is None:
            return
        kept = {
            key: row
            for key, row in rows.items()
            if key.ifindex in self._monitor.links and (key.ifindex != lost or key in addresses)
        }
        if kept.keys() == rows.keys() == prepared.desired.keys():
            return
        instance.rows = kept
        self._put_back(instance)

    def _put_back(self, instance: Instance) -> None:
        added = self._runner.set_addresses(instance, True)
        self._runner.announce(instance, added, instance.config.garp.master_repeat)

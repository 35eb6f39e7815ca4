"""Our part of the kernel's IPVS table: what we put there, and the watch over it. Rows of others are never touched."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress

from keepalived_py.checks.virtual_server import VirtualServerState
from keepalived_py.clock import now
from keepalived_py.config.model import IpvsSettings
from keepalived_py.plan import ipvs
from keepalived_py.values import RealKey, ServiceKey

from .ipvs_kernel import IpvsError, IpvsKernel
from .ipvs_statistics import Counters, RealUsage, Usage

logger = logging.getLogger(__name__)

WATCH_PAUSE = 5.0
"""Least seconds between two looks at the whole table."""
WATCH_SHARE = 50
"""The watch rests this many times as long as it worked: it takes 2 % of a processor at most."""
SLICE = 20
"""Services that are compared in one go."""

Pairs = list[tuple[VirtualServerState, ipvs.ServiceId]]


class ServiceTable:
    """`rows` are our services as the kernel has them. Raises IpvsError and OSError when there is no IPVS."""

    def __init__(self, family: int, namespace: str | None = None) -> None:
        self.kernel = IpvsKernel(family, namespace)
        self.rows: ipvs.Table = {}
        self.marks = ipvs.NO_MARKS
        self.shared: dict[ipvs.ServiceId, list[VirtualServerState]] = {}
        """Services that are those of several virtual servers."""
        self.repaired = 0
        """Operations that put back what others had changed."""
        self.old_timeouts: dict[str, int] = {}
        """Those of before lvs_timeouts, {} where it is not set."""
        self._refused: set[str] = set()
        self._again = asyncio.Event()
        self._epoch = 0
        self._resting = False

    def know(self, states: Iterable[VirtualServerState]) -> Collection[ipvs.ServiceId]:
        """The services of all virtual servers there are, and which of them are those of several."""
        first: dict[ipvs.ServiceId, VirtualServerState] = {}
        self.shared = {}
        for state in states:
            ids = ipvs.service_ids(state.config, self.marks)
            if not ids:
                logger.error("VS %s has too many addresses for a service each: it has none", state.config.key)
            for id in ids:
                other = first.setdefault(id, state)
                if other is not state:
                    self.shared.setdefault(id, [other]).append(state)
        for names in dict.fromkeys(" and ".join(str(one.config.key) for one in each) for each in self.shared.values()):
            logger.warning("VS %s share services of IPVS, which get the real servers of all", names)
        return first.keys()

    def adopt(
        self, states: Iterable[VirtualServerState], left: Collection[ipvs.ServiceId] = ()
    ) -> list[ipvs.ServiceId]:
        """What stands from before and is of our services is ours. Raises IpvsError.

        So are those that a predecessor may have `left`; which of them have to go.
        """
        ours = self.know(states)
        self.rows = {id: entry for id, entry in self.kernel.table().items() if id in ours or id in left}
        return [id for id in self.rows if id not in ours]

    def sync(
        self,
        states: Iterable[VirtualServerState],
        gone: Iterable[ipvs.ServiceId] = (),
        rows: Iterable[tuple[VirtualServerState, Collection[RealKey]]] = (),
    ) -> None:
        """Bring the services of `states` to what they should be, of others some `rows`, and take `gone` away."""
        self._refused.clear()
        whole, some = list(states), list(rows)
        if self.shared:  # with those of others, which are looked at as a whole
            whole, some = [*whole, *(state for state, _ in some)], []
        desired = self._with_those_of_others(ipvs.desired_table(whole, self.marks))
        ops = list(ipvs.reconcile(desired, self.rows, gone))
        for state, keys in some:
            ops += ipvs.reconcile_rows(state, keys, self.rows, self.marks)
        if not self._perform(ops):
            self.look_again()  # the rows may be others than we think

    def _with_those_of_others(self, desired: ipvs.Table) -> ipvs.Table:
        """`desired` with all real servers of services that several virtual servers share."""
        shared = ((state, id) for id, states in self.shared.items() if id in desired for state in states)
        return desired | ipvs.desired_entries(shared) if self.shared else desired

    def clear(self, flush: bool) -> None:
        """Take all our services away; `flush`: those of others with them."""
        self.rest()
        try:
            if flush:
                self.kernel.flush()
                self.rows.clear()
            else:
                self._perform([ipvs.DeleteService(id) for id in self.rows])
            if self.old_timeouts:
                self.kernel.set_timeouts(self.old_timeouts)
        except IpvsError as exc:
            logger.error("%s", exc)

    def usage(self, states: Iterable[VirtualServerState]) -> dict[ServiceKey, Usage]:
        """What IPVS has counted, by the names of the configuration."""
        states = list(states)
        found = self.kernel.usage({id for state in states for id in ipvs.service_ids(state.config, self.marks)})
        return {state.config.key: self._usage_of(state, found) for state in states}

    def _usage_of(self, state: VirtualServerState, found: Mapping[ipvs.ServiceId, Usage]) -> Usage:
        reals: dict[RealKey, RealUsage] = {}
        for id, placed, key in ipvs.placements(state, self.marks):
            reals[key] = reals.get(key, RealUsage()) + found.get(id, Usage()).reals.get(placed, RealUsage())
        counters = (found[id].counters for id in ipvs.service_ids(state.config, self.marks) if id in found)
        return Usage(sum(counters, Counters()), reals)

    def _perform(self, ops: list[ipvs.Op]) -> bool:
        """Whether all was done."""
        if not ops:
            return True
        failed = self.kernel.apply(ops)
        refused = {id(op) for op, _ in failed}
        for _, error in failed:
            if str(error) not in self._refused:
                self._refused.add(str(error))
                logger.error("%s", error)
        for op in ops:
            if id(op) not in refused:
                ipvs.apply(op, self.rows)
        return not failed

    # the watch ----------------------------------------------------------------------------------------------------

    async def watch(self, states: Callable[[], Iterable[VirtualServerState]]) -> None:
        """Compare for ever: what the configuration and the health of the servers mean, what we put, and the kernel."""
        while not self._resting:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._again.wait(), WATCH_PAUSE)
            self._again.clear()
            if not self._resting:
                await self._look(states())

    def look_again(self) -> None:
        """The configuration is another now: begin anew, soon."""
        self._epoch += 1
        self._again.set()

    def rest(self) -> None:
        """No more comparisons."""
        self._resting = True
        self._epoch += 1

    async def _look(self, states: Iterable[VirtualServerState]) -> None:
        epoch = self._epoch
        pairs = [(state, id) for state in states for id in ipvs.service_ids(state.config, self.marks)]
        for start in range(0, len(pairs), SLICE):
            began = now()
            try:
                self.mend(pairs[start : start + SLICE])
            except IpvsError as exc:
                logger.error("%s", exc)
                return
            await asyncio.sleep(WATCH_SHARE * (now() - began))
            if self._epoch != epoch:
                return

    def mend(self, pairs: Pairs) -> None:
        """Put back what others changed in these services, try again what was refused. Raises IpvsError."""
        desired = self._with_those_of_others(ipvs.desired_entries(pairs))
        actual = {id: entry for id in desired if (entry := self.kernel.entry(id)) is not None}
        put = {id: self.rows[id] for id in desired if id in self.rows}
        ops, drift = ipvs.compare(desired, put, actual)
        if not ops:
            return
        for id in desired:
            self.rows.pop(id, None)
        self.rows.update(actual)
        for service in dict.fromkeys(op.id for op in drift):
            logger.warning("IPVS service %s was changed by others - put back", service)
        self.repaired += len(drift)
        self._perform(ops)

    # settings -----------------------------------------------------------------------------------------------------

    def set_timeouts(self, settings: IpvsSettings) -> None:
        """lvs_timeouts; without them what the kernel had is put back."""
        wanted = {"tcp": settings.timeout_tcp, "tcpfin": settings.timeout_tcpfin, "udp": settings.timeout_udp}
        try:
            if any(wanted.values()):
                self.old_timeouts = self.old_timeouts or self.kernel.timeouts()
                self.kernel.set_timeouts({name: value or self.old_timeouts[name] for name, value in wanted.items()})
            elif self.old_timeouts:
                self.kernel.set_timeouts(self.old_timeouts)
                self.old_timeouts = {}
        except IpvsError as exc:
            logger.error("%s", exc)

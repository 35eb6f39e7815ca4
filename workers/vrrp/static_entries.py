"""Addresses, routes and rules that stay while the daemon runs (vrrp-behaviour.md 11, 15, 16)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Container, Iterable, Iterator

from keepalived_py.clock import now
from keepalived_py.config.model import Address, VrrpConfig
from keepalived_py.plan.links import AddAddress, AddressKey, reconcile
from keepalived_py.plan.routes import (
    AddEntry,
    Entry,
    RouteKey,
    Row,
    RuleKey,
    desired_entries,
    insertions,
    interfaces_of,
    reconcile_entries,
)
from workers.losses import HELD_FOR, Culprits, Losses, count_loss

from .keeper import SETTLE, gone, shown_loss, shown_losses, takers
from .link_monitor import LinkMonitor
from .route_netlink import encode_entry
from .rtnetlink import Batch, RequestSocket, batches
from .slices import SIZE

logger = logging.getLogger(__name__)


class StaticEntries:
    """`judge` hears that instances may have come into or out of FAULT because of a track_group."""

    def __init__(self, requests: RequestSocket, monitor: LinkMonitor, judge: Callable[[], None]) -> None:
        self.limit = 0
        """How many losses in a row are put up with before the entry gets a pause."""
        self._requests, self._monitor, self._judge = requests, monitor, judge
        self._config = VrrpConfig()
        self._members: dict[str, tuple[str, ...]] = {}
        self.rows: dict[AddressKey, Address] = {}
        self.entries: tuple[Entry, ...] = ()
        self._refused: dict[AddressKey | Entry, int] = {}
        """What the kernel does not take, and the error."""
        self._resting: set[AddressKey | Entry] = set()
        """What others remove too often: it is tried again after a while."""
        self._losses: Losses = {}
        self.restored = 0
        self._lost: dict[AddressKey | RouteKey | RuleKey, str] = {}
        """With who took it."""
        self._culprits = Culprits()
        self._stirred = False

    # what should be there -----------------------------------------------------------------------------------------

    def apply(self, config: VrrpConfig) -> None:
        """Move to `config`; what did not change is not touched."""
        self._config = config
        self._members = {group.name: group.members for group in config.track_groups}
        rows, entries = self._desired()
        gone, missing = reconcile_entries(entries, self.entries)
        self._submit(batches(gone, SIZE, encode_entry))
        self._submit(batches(reconcile(rows, self.rows, self.rows), SIZE))
        self._submit(batches(insertions(op.entry for op in missing), SIZE, encode_entry))
        self._adopt(rows, entries)

    def _desired(self) -> tuple[dict[AddressKey, Address], tuple[Entry, ...]]:
        config, index_of = self._config, self._monitor.index_of()
        rows: dict[AddressKey, Address] = {}
        for row in config.static_addresses:
            index = index_of.get(row.dev)
            if index:
                rows[AddressKey(index, row.address, row.prefixlen)] = row
        return rows, desired_entries(config.static_routes, config.static_rules, index_of, self._monitor.tables())

    def _adopt(self, rows: dict[AddressKey, Address], entries: tuple[Entry, ...]) -> None:
        self.rows, self.entries = rows, entries
        held: set[AddressKey | Entry] = {*rows, *entries}
        self._refused = {what: code for what, code in self._refused.items() if what in held}
        self._resting &= held

    def stop(self) -> None:
        """Take everything away."""
        self._config = VrrpConfig()
        rows, entries, self.rows, self.entries = self.rows, self.entries, {}, ()
        self._submit(batches(reconcile_entries((), entries)[0], SIZE, encode_entry))
        self._submit(batches(reconcile({}, rows, rows), SIZE))

    # what happens to it -------------------------------------------------------------------------------------------

    def stir(self) -> None:
        """Links or addresses changed: what was dropped or refused may be possible now."""
        if not self._stirred and self._has_work:
            self._stirred = True
            asyncio.get_running_loop().call_later(SETTLE, self._renew)

    @property
    def _has_work(self) -> bool:
        config = self._config
        return bool(config.static_addresses or config.static_routes or config.static_rules)

    def _renew(self) -> None:
        self._stirred = False
        rows, entries = self._desired()
        present = {key: row for key, row in rows.items() if self._is_kept(key, not row.no_track, self.rows)}
        self._submit(batches(reconcile(present, self._monitor.addresses, {}), SIZE))
        held = frozenset(self.entries)
        again = [each for each in entries if self._is_kept(each, each.tracked and not each.transient, held)]
        self._submit(batches(insertions(again), SIZE, encode_entry))
        self._adopt(rows, entries)
        if self._members:
            self._judge()

    def _is_kept(self, what: AddressKey | Entry, tracked: bool, held: Container[object]) -> bool:
        """Whether it is put again; what is not tracked, only until it was there once."""
        return what not in self._resting and (tracked or what in self._refused or what not in held)

    def removed(self, key: AddressKey | RouteKey | RuleKey, port: int = 0) -> None:
        """By somebody else (`port`), or so it seems by now."""
        if isinstance(key, AddressKey) and key not in self.rows:
            return
        if not self._lost:
            asyncio.get_running_loop().call_soon(self._restore_lost)
        self._lost[key] = self._culprits[port]

    def _restore_lost(self) -> None:
        self._monitor.read_waiting()
        lost, self._lost = self._lost, {}
        self._culprits.clear()
        rows = [key for key, row in self.rows.items() if not row.no_track]
        missing = list(gone(self._monitor, lost, rows, self.entries))
        back = [what for what in missing if self._may_return(what)]
        if back:
            self.restored += len(back)
            logger.warning("static %s was removed by %s and is put back", shown_losses(back), takers(back, lost))
            self._submit(batches([AddAddress(each, self.rows[each]) for each in back if each in self.rows], SIZE))
            entries = [each for each in back if not isinstance(each, AddressKey)]
            self._submit(batches(insertions(entries), SIZE, encode_entry))
        if missing and self._members:
            self._judge()

    def _may_return(self, what: AddressKey | Entry) -> bool:
        times = count_loss(self._losses, what, now())
        if times <= self.limit:
            return True
        if what not in self._resting:
            logger.error("static %s was removed %d times in a row; it is left out for a while", shown_loss(what), times)
            self._resting.add(what)
            asyncio.get_running_loop().call_later(HELD_FOR, self._try_again, what)
        return False

    def _try_again(self, what: AddressKey | Entry) -> None:
        self._resting.discard(what)
        self.stir()

    def _submit(self, steps: Iterable[Batch]) -> None:
        """Send and remember what was refused; each refusal is told once."""
        for batch in steps:
            failed = {error.op: error for error in self._requests.submit(batch) if error.op is not None}
            for op in batch.ops:
                if isinstance(op, AddAddress | AddEntry):
                    what = op.key if isinstance(op, AddAddress) else op.entry
                    error = failed.get(op)
                    if error is None:
                        self._refused.pop(what, None)
                    elif self._refused.get(what) != error.code:
                        self._refused[what] = error.code
                        logger.error("static entry: %s", error)
                elif op in failed:
                    logger.error("static entry: %s", failed[op])

    # who depends on it --------------------------------------------------------------------------------------------

    def interfaces(self, instance: str) -> set[str]:
        """Interfaces that an instance must not be without, because of a track_group."""
        return {name for row in self._tracked_by(instance) for name in interfaces_of(row)}

    def faults(self, instance: str) -> Iterator[tuple[str, str]]:
        """Subjects and reasons for which an instance must be in FAULT, because of a track_group (section 7)."""
        for name in self.interfaces(instance):
            link = self._monitor.by_name(name)
            if link is None or not link.running:
                yield f"static interface {name}", f"interface {name} of a static entry is down"
        for what in (*self._refused, *self._resting):
            group = self.rows[what].track_group if isinstance(what, AddressKey) else what.track_group
            if instance in self._members.get(group, ()):
                yield f"static {shown_loss(what)}", f"static {shown_loss(what)} cannot be kept"

    def _tracked_by(self, instance: str) -> Iterator[Row]:
        config = self._config
        rows: tuple[Row, ...] = (*config.static_addresses, *config.static_routes, *config.static_rules)
        return (row for row in rows if row.track_group and instance in self._members.get(row.track_group, ()))

"""nftables_ipvs at work: tables for nft that give the packets to a group its firewall mark."""

from __future__ import annotations

from collections.abc import Sequence

from keepalived_py.config.model import IpvsSettings, VirtualServer
from keepalived_py.plan import marks as plan
from keepalived_py.plan.ipvs import NO_MARKS, Marks
from workers.nftables_keeper import TableKeeper
from workers.restorer import Restorer

WITHOUT = "groups become one service for each address"


class GroupMarks:
    """`marks` are those in force; without nft there are none."""

    def __init__(self, namespace: str | None = None) -> None:
        self.restorer = Restorer(self._load)
        self.tables = TableKeeper(self.restorer, WITHOUT, namespace)
        self.marks: Marks = NO_MARKS
        self._text = ""
        self._table = ""

    async def apply(self, settings: IpvsSettings, servers: Sequence[VirtualServer]) -> Marks:
        """Give every group its mark, or none."""
        table = settings.nftables_table
        if self._table and self._table != table:
            await self.close()
        if not table:
            return self.marks
        marks = plan.assign(servers, settings.nftables_start_fwmark, self.marks)
        text = plan.ruleset(table, settings.nftables_priority, servers, marks)
        if text != self._text and (marks or self._table):
            done = await self.tables.load(table, lambda: text)
            self._text, self._table = (text, table) if done else ("", self._table)
            self.marks = marks if done else NO_MARKS
        return self.marks

    async def close(self) -> None:
        """Take the tables away."""
        if self._table:
            table, self._table, self._text = self._table, "", ""
            await self.tables.remove(plan.ruleset(table, 0, (), {}))
        self.marks = NO_MARKS

    async def _load(self) -> bool:
        """What somebody else changed, as it was."""
        return not self._table or await self.tables.load(self._table, lambda: self._text)

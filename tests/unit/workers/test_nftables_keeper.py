"""What the kernel tells of changes of nftables, and what follows from it."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepalived_py.config.model import FirewallSettings
from workers import nftables
from workers.netlink import NLMSG, attribute
from workers.nftables_keeper import NFGENMSG, TableKeeper, notices
from workers.restorer import Restorer
from workers.vrrp.firewall import Firewall
from workers.vrrp.firewall_rules import Element, Needs, Standing

NEWTABLE, DELTABLE, NEWGEN = 0xA00, 0xA02, 0xA0F
NFT, OTHER = 77, 88
"""Ports of the process that loads our tables, and of somebody else's."""


def notice(kind: int, port: int, *attributes: tuple[int, bytes], family: int = socket.AF_INET) -> bytes:
    body = NFGENMSG.pack(family, 0, 0) + b"".join(attribute(*each) for each in attributes)
    return NLMSG.pack(NLMSG.size + len(body), kind, 0, 0, port) + body


def table(kind: int, port: int, name: str = "mine", family: int = socket.AF_INET) -> bytes:
    return notice(kind, port, (1, name.encode() + b"\0"), family=family)


def generation(port: int, name: str = "vi", number: int = 9) -> bytes:
    return notice(NEWGEN, port, (2, struct.pack("!I", number)), (3, name.encode() + b"\0"))


def test_notices_say_which_table_and_who() -> None:
    data = table(DELTABLE, OTHER) + table(NEWTABLE, OTHER, family=1) + generation(OTHER) + notice(0x10, 1) + b"\1\2"
    assert list(notices(data)) == [(OTHER, "ip mine", ""), (OTHER, "", "vi (process 9)")]
    assert list(notices(notice(NEWGEN, 3))) == [(3, "", "somebody else")]


@given(st.binary(max_size=200))
def test_notices_never_fail(data: bytes) -> None:
    list(notices(NLMSG.pack(NLMSG.size + len(data), DELTABLE, 0, 0, 0) + data))
    list(notices(NLMSG.pack(NLMSG.size + len(data), NEWGEN, 0, 0, 0) + data))
    list(notices(data))


class Kernel(socket.socket):
    """A socket with notices of the test's own, or errors."""

    queue: list[bytes | int]

    def recvmsg(self, *_: int) -> tuple[bytes, list[object], int, tuple[int, int]]:  # type: ignore[override]
        if not self.queue:
            raise BlockingIOError
        found = self.queue.pop(0)
        if isinstance(found, int):
            raise OSError(found, "")
        return found, [], 0, (0, 0)


class Lab:
    """A keeper that is told of changes, and what it loaded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loaded = 0
        self.kernel = Kernel(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.kernel.queue = []
        self.on_load: list[bytes] = []
        self.restorer = Restorer(self.again)
        self.restorer.limit = 2
        self.keeper = TableKeeper(self.restorer, "nothing works")
        self.keeper.port = 55
        self.keeper._sock = self.kernel
        monkeypatch.setattr(nftables, "load", self.load)

    async def again(self) -> bool:
        return await self.keeper.load("mine", lambda: "text")

    async def load(self, text: str, without: str, namespace: object, started: object) -> bool:
        assert callable(started)
        started(NFT)
        self.loaded += 1
        self.kernel.queue += self.on_load or [table(DELTABLE, NFT) + table(NEWTABLE, NFT), generation(NFT)]
        return True

    async def told(self, *notices: bytes | int) -> int:
        """How often the tables were loaded because of these."""
        before = self.loaded
        self.kernel.queue += notices
        self.keeper._take()
        for _ in range(5):
            await asyncio.sleep(0)
        return self.loaded - before


def test_only_changes_of_others_count(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        lab = Lab(monkeypatch)
        await lab.again()
        assert await lab.told(table(DELTABLE, 55), generation(55)) == 0  # elements that we change ourselves
        assert await lab.told(table(DELTABLE, OTHER, "theirs"), generation(OTHER)) == 0
        assert await lab.told(table(DELTABLE, OTHER, "mine2"), generation(OTHER)) == 0
        assert await lab.told(table(DELTABLE, OTHER, family=1), generation(OTHER)) == 0
        assert await lab.told(table(DELTABLE, OTHER), table(DELTABLE, OTHER, family=10), generation(OTHER)) == 1
        assert lab.restorer.restored == 1
        lab.keeper.close()

    asyncio.run(story())
    shown = "nftables table ip mine, nftables table ip6 mine was changed by vi (process 9)"
    assert caplog.messages == [f"{shown} and is put back"]


def test_what_came_before_our_own_load_is_repaired_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        lab = Lab(monkeypatch)
        own, theirs = table(DELTABLE, NFT), table(DELTABLE, OTHER)
        lab.on_load = [theirs, generation(OTHER), own, generation(NFT)]
        await lab.again()
        assert await lab.told() == 0
        lab.on_load = [own, generation(NFT), theirs, generation(OTHER)]
        await lab.again()
        lab.on_load = []
        assert await lab.told() == 1
        lab.keeper.close()

    asyncio.run(story())


def test_lost_notices_mean_loading_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        lab = Lab(monkeypatch)
        await lab.again()
        assert await lab.told(errno.ENOBUFS) == 1
        assert lab.restorer.restored == 0
        lab.keeper.close()

    asyncio.run(story())
    assert caplog.messages == ["notices about nftables were lost - the tables are made again"]


def test_too_many_changes_in_a_row_get_a_pause(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        lab = Lab(monkeypatch)
        await lab.again()
        change = table(DELTABLE, OTHER)
        assert [await lab.told(change) for _ in range(4)] == [1, 1, 0, 0]
        lab.keeper.close()

    asyncio.run(story())
    assert "somebody else, 3 times in a row" in caplog.messages[-1]


def test_an_element_that_cannot_be_set_for_want_of_a_descriptor_has_the_tables_made_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """This comes when an instance becomes MASTER."""
    made: list[bool] = []

    def refuse(_: Firewall) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    async def load(keeper: TableKeeper, table: str, text: Callable[[], str]) -> bool:
        made.append("elements = " in text())
        return True

    async def main() -> None:
        monkeypatch.setattr(TableKeeper, "load", load)
        await firewall.configure(Needs(closed=frozenset((4,))), FirewallSettings(), Standing())
        firewall.set("VI_1", frozenset((Element(4, "vips", bytes(4)),)))
        await asyncio.sleep(0)

    monkeypatch.setattr(Firewall, "_open", refuse)
    firewall = Firewall()
    asyncio.run(main())
    assert made == [False, True]
    assert caplog.messages == ["nftables table keepalived: Too many open files"]

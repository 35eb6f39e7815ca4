"""Kernel settings are put back, restored at the end, and not fought over for ever (on files of the test's own)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from workers.vrrp.setting_keeper import SettingKeeper
from workers.vrrp.sysctl import Sysctls

NAME = "ipv4/conf/eth0/arp_ignore"


def kept(root: Path, limit: int, body: Callable[[Sysctls, SettingKeeper], Awaitable[None]]) -> None:
    path = root / NAME
    path.parent.mkdir(parents=True)
    path.write_text("0\n")

    async def main() -> None:
        sysctls = Sysctls(root)
        keeper = SettingKeeper(sysctls)
        keeper.limit = limit
        await body(sysctls, keeper)
        keeper.stop()

    asyncio.run(main())


async def rest() -> None:
    """Let the loop see what was written."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_what_somebody_else_writes_is_put_back_so_many_times(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body(sysctls: Sysctls, keeper: SettingKeeper) -> None:
        assert sysctls.set(NAME, "1")
        for expected in ("1", "1", "5"):
            (tmp_path / NAME).write_text("5")
            await rest()
            assert sysctls.get(NAME) == expected

    kept(tmp_path, 2, body)
    assert caplog.messages[0] == "net.ipv4.conf.eth0.arp_ignore was set to 5 by somebody else and is put back to 1"
    assert caplog.messages[-1] == "net.ipv4.conf.eth0.arp_ignore was set to 5 by somebody else and stays so"


def test_the_way_back_is_nobody_elses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body(sysctls: Sysctls, keeper: SettingKeeper) -> None:
        sysctls.set(NAME, "1")
        sysctls.set(NAME, "2")
        sysctls.restore("ipv4/conf/eth0/")
        await rest()
        assert sysctls.get(NAME) == "0"
        (tmp_path / NAME).write_text("7")
        await rest()
        assert sysctls.get(NAME) == "7"

    kept(tmp_path, 5, body)
    assert not caplog.messages


def test_what_others_changed_for_good_is_not_restored(tmp_path: Path) -> None:
    async def body(sysctls: Sysctls, keeper: SettingKeeper) -> None:
        sysctls.set(NAME, "1")
        (tmp_path / NAME).write_text("7")
        await rest()
        sysctls.restore()
        assert sysctls.get(NAME) == "7"

    kept(tmp_path, 0, body)


def test_a_setting_that_was_made_again_is_followed_anew(tmp_path: Path) -> None:
    async def body(sysctls: Sysctls, keeper: SettingKeeper) -> None:
        sysctls.set(NAME, "1")
        (tmp_path / NAME).unlink()
        (tmp_path / NAME).write_text("0")
        await rest()
        sysctls.set(NAME, "1")
        (tmp_path / NAME).write_text("0")
        await rest()
        assert sysctls.get(NAME) == "1"

    kept(tmp_path, 5, body)


def test_an_interface_that_is_renamed_keeps_its_settings(tmp_path: Path) -> None:
    async def body(sysctls: Sysctls, keeper: SettingKeeper) -> None:
        sysctls.set(NAME, "1")
        (tmp_path / "ipv4/conf/eth0").rename(tmp_path / "ipv4/conf/lan0")
        sysctls.renamed("eth0", "lan0")
        (tmp_path / "ipv4/conf/lan0/arp_ignore").write_text("4")
        await rest()
        assert sysctls.get("ipv4/conf/lan0/arp_ignore") == "1"
        sysctls.restore()
        assert sysctls.get("ipv4/conf/lan0/arp_ignore") == "0"

    kept(tmp_path, 5, body)

"""Kernel settings are put back, restored at the end, and not fought over for ever (on files of the test's own)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from workers.vrrp import setting_record
from workers.vrrp.setting_keeper import SettingKeeper
from workers.vrrp.setting_record import SettingRecord
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


# what a killed process leaves -------------------------------------------------------------------------------------

OTHER = "ipv4/conf/all/rp_filter"


class Record:
    """Settings in files, and the record that one process leaves to the next."""

    def __init__(self, root: Path) -> None:
        self.root, self.path = root / "net", root / "vrrp.sysctl"
        for name in (NAME, OTHER):
            (self.root / name).parent.mkdir(parents=True)
            (self.root / name).write_text("0\n")

    def process(self) -> Sysctls:
        sysctls = Sysctls(self.root, record=SettingRecord(str(self.path)))
        sysctls.adopt()
        return sysctls

    def __getitem__(self, name: str) -> str:
        return (self.root / name).read_text().strip()


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(tmp_path)


def test_the_next_process_puts_back_what_a_killed_one_changed(record: Record) -> None:
    record.process().set_all({NAME: "1", OTHER: "2"})
    assert record.path.stat().st_mode & 0o777 == 0o600
    second = record.process()
    second.set(NAME, "1")
    second.disown()
    assert (record[NAME], record[OTHER]) == ("1", "0")
    third = record.process()
    third.claim("ipv4/conf/eth0/", "/arp_ignore")
    third.disown()
    assert record[NAME] == "1"
    third.restore()
    assert record[NAME] == "0"
    assert not record.path.exists()


def test_what_is_to_be_changed_is_on_record_before_it_is(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(Sysctls, "write", lambda self, name, value: seen.append(record.path.exists()) or True)
    record.process().set(NAME, "1")
    assert seen == [True]


def test_a_refused_change_leaves_no_record(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sysctls, "write", lambda self, name, value: False)
    assert not record.process().set(NAME, "1")
    assert not record.path.exists()


def test_what_somebody_else_changed_since_is_not_taken_over(record: Record) -> None:
    record.process().set(NAME, "1")
    (record.root / NAME).write_text("5")
    second = record.process()
    second.set(NAME, "1")
    second.restore()
    assert record[NAME] == "5"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"boot": "', '"boot": "x'),
        ('"namespace": ', '"namespace": 1'),
        (NAME, f"../net/{NAME}"),
        ('{"ipv4', '[{"ipv4'),
        ('["0", "1"]', "0"),
        ('{"boot"', '[{"boot"'),
    ],
)
def test_records_of_others_and_broken_ones_count_for_nothing(record: Record, old: str, new: str) -> None:
    record.process().set(NAME, "1")
    text = record.path.read_text()
    assert old in text
    record.path.write_text(text.replace(old, new))
    assert SettingRecord(str(record.path)).load() == {}
    record.process().disown()
    assert record[NAME] == "1"


def test_a_record_that_others_may_write_or_that_is_a_link_is_not_believed(record: Record, tmp_path: Path) -> None:
    record.process().set(NAME, "1")
    record.path.chmod(0o620)
    assert SettingRecord(str(record.path)).load() == {}
    record.path.chmod(0o600)
    assert SettingRecord(str(record.path)).load() == {NAME: ("0", "1")}
    link = tmp_path / "link"
    link.symlink_to(record.path)
    assert SettingRecord(str(link)).load() == {}


def test_a_record_of_an_earlier_boot_counts_for_nothing(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record.process().set(NAME, "1")
    (tmp_path / "boot").write_text("another")
    monkeypatch.setattr(setting_record, "BOOT", tmp_path / "boot")
    assert SettingRecord(str(record.path)).load() == {}

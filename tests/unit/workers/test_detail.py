"""What -D adds to the log of VRRP."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from ipaddress import ip_address

import pytest

from keepalived_py.config.model import Address
from keepalived_py.plan.links import AddAddress, AddressKey, DeleteAddress
from keepalived_py.values import ip_address as checked
from workers.vrrp import detail
from workers.vrrp.announce import announced, gratuitous_arp, unsolicited_na
from workers.vrrp.rtnetlink import Batch

MAC = bytes(6)


def test_the_address_of_a_frame() -> None:
    four, six = checked("192.0.2.7"), checked("fe80::7")
    assert ip_address(announced(gratuitous_arp(four, MAC))) == four
    assert ip_address(announced(unsolicited_na(six, MAC, router=False))) == six


def test_a_burst_is_a_line_for_each_interface_and_protocol(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    one = [("eth0", gratuitous_arp(checked(f"10.0.0.{number}"), MAC)) for number in range(1, 8)]
    two = [("eth0", gratuitous_arp(checked(f"10.0.0.{number}"), MAC)) for number in range(8, 14)]
    six = [("eth1", unsolicited_na(checked("fd00::1"), MAC, router=False))]
    detail.announcements("VI_1", [one, two, six], 5)
    detail.announcements("VI_1", [one[:1]], 1)
    first = ", ".join(f"10.0.0.{number}" for number in range(1, 11))
    assert caplog.messages == [
        f"(VI_1) Sending gratuitous ARP on eth0 for {first} and 3 more (5 times)",
        "(VI_1) Sending unsolicited Neighbour Advert on eth1 for fd00::1 (5 times)",
        "(VI_1) Sending gratuitous ARP on eth0 for 10.0.0.1",
    ]


def test_lines_wait_for_a_quiet_moment(caplog: pytest.LogCaptureFixture) -> None:
    """In order, no more at a time than a loop can bear, all of them at the end, and none without -D."""
    written: list[int] = []

    async def scenario() -> None:
        lines = detail.Lines()
        lines.add(partial(written.append, -1))
        caplog.set_level("DEBUG")
        for number in range(4):
            lines.add(partial(written.append, number))
        lines.add(partial(time.sleep, 2 * detail.BUDGET))
        lines.add(partial(written.append, 4))
        assert written == []
        await asyncio.sleep(1.5 * detail.PAUSE)
        assert written == [0, 1, 2, 3]
        lines.finish()
        assert written == [0, 1, 2, 3, 4]

    caplog.set_level("INFO")
    asyncio.run(scenario())


def test_addresses_that_come_and_go(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    rows = [Address(address=checked(f"10.0.0.{number}"), prefixlen=24) for number in range(12)]
    keys = [AddressKey(2, row.address, row.prefixlen) for row in rows]
    come = [AddAddress(key, row) for key, row in zip(keys, rows, strict=True)]
    detail.addresses("VI_1", [Batch(tuple(come[:8]), b""), Batch(tuple(come[8:]), b"")])
    detail.addresses("VI_1", [Batch((DeleteAddress(keys[0], rows[0]),), b"")])
    detail.addresses("VI_1", [Batch((), b"")])
    first = ", ".join(f"10.0.0.{number}/24" for number in range(10))
    assert caplog.messages == [
        f"(VI_1) setting VIPs: {first} and 2 more",
        "(VI_1) removing VIPs: 10.0.0.0/24",
    ]

"""Reports of group membership: hand-made messages of each version, and any bytes at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepalived_py.values import ip_address
from keepalived_py.vrrp.membership import igmp_reports, mld_reports

VRRP4, VRRP6 = ip_address("224.0.0.18"), ip_address("ff02::12")
OTHER4 = ip_address("224.0.0.251")


def records(kind: int, *groups: bytes) -> bytes:
    return bytes([kind, 0, 0, 0, 0, 0]) + len(groups).to_bytes(2) + b"".join(groups)


def record(kind: int, group: str, sources: int = 0, auxiliary: int = 0) -> bytes:
    packed = ip_address(group).packed
    return bytes([kind, auxiliary]) + sources.to_bytes(2) + packed + bytes(sources * len(packed) + 4 * auxiliary)


@pytest.mark.parametrize(
    ("message", "found"),
    [
        (bytes([0x16, 0, 0, 0]) + VRRP4.packed, [(VRRP4, True)]),
        (bytes([0x12, 0, 0, 0]) + VRRP4.packed, [(VRRP4, True)]),
        (bytes([0x17, 0, 0, 0]) + VRRP4.packed, [(VRRP4, False)]),
        (bytes([0x11, 0, 0, 0]) + VRRP4.packed, []),  # a query
        (records(0x22, record(4, "224.0.0.18")), [(VRRP4, True)]),
        (records(0x22, record(3, "224.0.0.18")), [(VRRP4, False)]),
        (records(0x22, record(1, "224.0.0.18", sources=2)), [(VRRP4, True)]),
        (records(0x22, record(6, "224.0.0.18", sources=1)), []),
        (records(0x22, record(2, "224.0.0.251", 3, 2), record(2, "224.0.0.18")), [(OTHER4, True), (VRRP4, True)]),
        (records(0x22, record(4, "224.0.0.18"))[:-1], []),
    ],
)
def test_igmp(message: bytes, found: object) -> None:
    assert list(igmp_reports(message)) == found


@pytest.mark.parametrize(
    ("message", "found"),
    [
        (bytes([131]) + bytes(7) + VRRP6.packed, [(VRRP6, True)]),
        (bytes([132]) + bytes(7) + VRRP6.packed, [(VRRP6, False)]),
        (records(143, record(4, "ff02::12", 0, 1), record(3, "ff02::12")), [(VRRP6, True), (VRRP6, False)]),
        (bytes([130]) + bytes(7) + VRRP6.packed, []),
    ],
)
def test_mld(message: bytes, found: object) -> None:
    assert list(mld_reports(message)) == found


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x22", b"\x16", b"\x8f", b"\x83"]))
def test_any_bytes_end(data: bytes, kind: bytes) -> None:
    for read in (igmp_reports, mld_reports):
        assert len(list(read(kind + data))) <= 200 // 8

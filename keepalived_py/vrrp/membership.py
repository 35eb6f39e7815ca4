"""Reports of group membership: hosts that say which multicast groups they listen to (RFC 2236, 3376, 2710, 3810).

Routers that are BACKUP send no adverts; their reports for the group of VRRP are all that tells of them.
"""

from __future__ import annotations

from collections.abc import Iterator

from keepalived_py.values import IPAddress, IPv4Address, IPv6Address

IGMP_V1_REPORT, IGMP_V2_REPORT, IGMP_V2_LEAVE, IGMP_V3_REPORT = 0x12, 0x16, 0x17, 0x22
MLD_V1_REPORT, MLD_V1_DONE, MLD_V2_REPORT = 131, 132, 143
MODE_IS_INCLUDE, CHANGE_TO_INCLUDE, BLOCK_OLD_SOURCES = 1, 3, 6
V3_HEADER = 8


def igmp_reports(message: bytes) -> Iterator[tuple[IPAddress, bool]]:
    """Groups that the sender of an IGMP message says it listens to (True) or left (False); a malformed rest is none."""
    return _reports(message, 4, IGMP_V3_REPORT, {IGMP_V1_REPORT, IGMP_V2_REPORT}, IGMP_V2_LEAVE, 4)


def mld_reports(message: bytes) -> Iterator[tuple[IPAddress, bool]]:
    """The same of an ICMPv6 message."""
    return _reports(message, 16, MLD_V2_REPORT, {MLD_V1_REPORT}, MLD_V1_DONE, 8)


def _reports(
    message: bytes, size: int, records: int, joins: set[int], leave: int, offset: int
) -> Iterator[tuple[IPAddress, bool]]:
    """`size` of an address; `offset` of the only one in messages of the older version."""
    kind = message[0] if message else 0
    if kind == records:
        yield from _records(message, size)
    elif kind in joins or kind == leave:
        group = message[offset : offset + size]
        if len(group) == size:
            yield _address(group), kind != leave


def _records(message: bytes, size: int) -> Iterator[tuple[IPAddress, bool]]:
    """Group records are alike in both families (RFC 3376 4.2.4, RFC 3810 5.2.5)."""
    at = V3_HEADER
    for _ in range(int.from_bytes(message[6:8])):
        group = message[at + 4 : at + 4 + size]
        if len(group) < size:
            return
        kind, auxiliary, sources = message[at], message[at + 1], int.from_bytes(message[at + 2 : at + 4])
        if kind in (MODE_IS_INCLUDE, CHANGE_TO_INCLUDE):
            yield _address(group), sources > 0
        elif 0 < kind < BLOCK_OLD_SOURCES:
            yield _address(group), True
        at += 4 + size + sources * size + 4 * auxiliary


def _address(packed: bytes) -> IPAddress:
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)

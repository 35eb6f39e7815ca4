"""The checks of vrrp-behaviour.md 3 are made in their order: of two flaws the earlier one is counted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import pytest

from keepalived_py.config.model import Authentication, AuthHmac, HmacKey, UnicastPeer, VrrpInstance
from keepalived_py.values import Centiseconds, ip_address
from keepalived_py.vrrp.auth_hmac import HmacState
from keepalived_py.vrrp.packet import Datagram, PacketError, Reason, encode, examine, internet_checksum
from tests.unit.vrrp.builders import ME, instance

GROUP, HERE = ip_address("224.0.0.18"), ip_address("192.0.2.2")
SECRET = Authentication(auth_type="pass", password=b"secret")


@dataclass(frozen=True)
class Advert:
    """A good advert of version 2 or 3, one flaw after the other."""

    data: bytes
    version: int
    ttl: int = 255
    source: str = str(ME)
    destination: str = str(GROUP)
    protocol: int = 112
    sums_up: bool = True

    def put(self, at: int, value: int) -> Advert:
        return replace(self, data=self.data[:at] + bytes((value,)) + self.data[at + 1 :])

    @property
    def datagram(self) -> Datagram:
        data, source, destination = self.data, ip_address(self.source), ip_address(self.destination)
        if self.sums_up and len(data) >= 8:
            bare = data[:6] + b"\0\0" + data[8:]
            data = bare[:6] + internet_checksum(bare).to_bytes(2) + bare[8:]
        return Datagram(source, destination, self.ttl, data, self.protocol)


def reason(advert: Advert, config: VrrpInstance) -> Reason | None:
    hmac = HmacState(config.auth_hmac) if config.auth_hmac else None
    try:
        examine(advert.datagram, config, hmac=hmac, wall=1e9)
    except PacketError as error:
        return error.reason
    return None


V2 = [
    (Reason.AUTH_HEADER, lambda advert: replace(advert, protocol=51)),
    (Reason.LENGTH, lambda advert: replace(advert, data=advert.data[:-1])),
    (Reason.TTL, lambda advert: replace(advert, ttl=64)),
    (Reason.INVALID_AUTH_TYPE, lambda advert: advert.put(4, 7)),
    (Reason.AUTH_FAILURE, lambda advert: replace(advert, data=advert.data[:-8] + b"guessed\0")),
    (Reason.INTERVAL, lambda advert: advert.put(5, 9)),
    (Reason.INVALID_TYPE, lambda advert: advert.put(0, 0x22)),
    (Reason.CHECKSUM, lambda advert: replace(advert, sums_up=False).put(6, advert.data[6] ^ 1)),
    (Reason.DESTINATION, lambda advert: replace(advert, destination=str(HERE))),
]
V3 = [
    (Reason.LENGTH, lambda advert: replace(advert, data=advert.data + b"\0")),
    (Reason.TTL, lambda advert: replace(advert, ttl=64)),
    (Reason.VERSION, lambda advert: advert.put(0, 0x41)),
    (Reason.HMAC_MISSING, lambda advert: advert),
    (Reason.INTERVAL, lambda advert: advert.put(4, 0).put(5, 0)),
    (Reason.INVALID_TYPE, lambda advert: advert.put(0, advert.data[0] & 0xF0 | 2)),
    (Reason.CHECKSUM, lambda advert: replace(advert, sums_up=False).put(6, advert.data[6] ^ 1)),
    (Reason.DESTINATION, lambda advert: replace(advert, destination=str(HERE))),
    (Reason.OWNER, lambda advert: advert),
    (Reason.ADDRESS_LIST, lambda advert: advert.put(11, 99)),
]


def configured(version: int, reasons: set[Reason]) -> VrrpInstance:
    """What some of the flaws are flaws of."""
    config = instance(version=version, authentication=SECRET if version == 2 else None)
    if Reason.HMAC_MISSING in reasons:
        key = HmacKey(id=1, secret=b"x" * 16)
        config = replace(config, auth_hmac=AuthHmac(keys=(key,), active_key=1, time_window=30))
    if Reason.OWNER in reasons:
        config = replace(config, priority=255, owner_ignore_adverts=True)
    return replace(config, strict_address_list=Reason.ADDRESS_LIST in reasons)


def good(version: int) -> Advert:
    return Advert(encode(configured(version, set()), 100, ME, GROUP), version)


@pytest.mark.parametrize("version", [2, 3])
def test_the_earlier_of_two_flaws_is_counted(version: int) -> None:
    flaws = V2 if version == 2 else V3
    assert reason(good(version), configured(version, set())) is None
    for (first, spoil), (second, spoil_too) in combinations(flaws, 2):
        config = configured(version, {first, second})
        # the later one first: what it changes may lie within what the other leaves
        assert reason(spoil(spoil_too(good(version))), config) is first, (first, second)
        assert reason(spoil_too(good(version)), configured(version, {second})) is second


def test_unicast_senders_are_looked_at_last() -> None:
    config = instance(
        "192.0.2.55",
        unicast=True,
        check_unicast_src=True,
        mcast_group=None,
        strict_address_list=True,
        unicast_peers=(UnicastPeer(address=ip_address("192.0.2.77"), min_ttl=250),),
    )
    stranger = Advert(encode(instance(), 100, ME, HERE), 3, ttl=1, destination=str(HERE))
    assert reason(stranger, config) is Reason.ADDRESS_LIST
    stranger = Advert(encode(config, 100, ME, HERE), 3, ttl=1, destination=str(HERE))
    assert reason(stranger, config) is Reason.NOT_A_PEER
    assert reason(replace(stranger, source="192.0.2.77"), config) is Reason.PEER_TTL
    assert reason(replace(stranger, source="192.0.2.77", ttl=250), config) is None


def test_an_interval_of_another_router_is_no_flaw_in_version_3() -> None:
    config = instance()
    advert = Advert(encode(replace(config, advert_int=Centiseconds(7)), 100, ME, GROUP), 3)
    assert examine(advert.datagram, config).interval_differs

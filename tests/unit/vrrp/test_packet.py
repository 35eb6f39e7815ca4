"""Adverts on the wire: our encoding against scapy's, every check with its reason, junk, other people's packets."""

from __future__ import annotations

import contextlib
import json
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepalived_py.config.model import UnicastPeer, VrrpInstance
from keepalived_py.values import Centiseconds
from keepalived_py.vrrp import auth
from keepalived_py.vrrp.packet import (
    IPPROTO_AH,
    Datagram,
    PacketError,
    Reason,
    encode,
    examine,
    internet_checksum,
    ipv4_header,
    ones_complement_sum,
    parse_ipv4,
)
from tests.unit.vrrp.builders import ME, instance, password

GROUP = ip_address("224.0.0.18")
ME6, GROUP6 = ip_address("fe80::1"), ip_address("ff02::12")


def heard(config: VrrpInstance, priority: int = 100, payload: bytes | None = None, **changes: Any) -> Datagram:
    """What another router with `config` would send."""
    source, group = (ME, GROUP) if config.family == 4 else (ME6, GROUP6)
    message = payload if payload is not None else encode(config, priority, source, group)
    return Datagram(**{"source": source, "destination": group, "ttl": 255, "payload": message, **changes})


def reason(datagram: Datagram, config: VrrpInstance) -> Reason:
    with pytest.raises(PacketError) as caught:
        examine(datagram, config)
    return caught.value.reason


@pytest.mark.parametrize(("version", "family"), [(2, 4), (3, 4), (3, 6)])
def test_round_trip(version: int, family: int) -> None:
    addresses = ("192.0.2.100", "192.0.2.7") if family == 4 else ("fe80::100", "2001:db8::7")
    config = instance(*addresses, family=family, version=version, advert_int=Centiseconds(300))
    found = examine(heard(config, 77), config)
    assert (found.priority, found.adver_int, found.vrid) == (77, 300, 51)
    assert found.addresses == tuple(row.address for row in config.addresses)
    assert found.differs == ""


@pytest.mark.parametrize("version", [2, 3])
def test_scapy_reads_and_writes_the_same(version: int) -> None:
    from scapy.layers.inet import IP
    from scapy.layers.vrrp import VRRP, VRRPv3

    config = instance(
        "192.0.2.100", "192.0.2.101", version=version, authentication=password() if version == 2 else None
    )
    ours = encode(config, 150, ME, GROUP)
    packet = IP(ipv4_header(ME, GROUP, len(ours), 255, 1, 112) + ours)
    layer = packet[VRRP if version == 2 else VRRPv3]
    assert (layer.version, layer.vrid, layer.priority, layer.ipcount) == (version, 51, 150, 2)
    assert layer.addrlist == ["192.0.2.100", "192.0.2.101"]
    fields: dict[str, Any] = {"vrid": 51, "priority": 150, "addrlist": ["192.0.2.100", "192.0.2.101"]}
    if version == 2:
        fields |= {"authtype": 1, "adv": 1, "auth1": int.from_bytes(b"secr"), "auth2": int.from_bytes(b"et\0\0")}
        theirs = IP(src=str(ME), dst=str(GROUP), ttl=255, proto=112) / VRRP(**fields)
    else:
        theirs = IP(src=str(ME), dst=str(GROUP), ttl=255, proto=112) / VRRPv3(adv=100, **fields)
    assert bytes(theirs)[20:] == ours
    assert examine(parse_ipv4(bytes(theirs)), config).priority == 150


def test_scapy_agrees_on_ipv6() -> None:
    from scapy.layers.inet6 import IPv6
    from scapy.layers.vrrp import VRRPv3

    config = instance("fe80::100", family=6)
    ours = encode(config, 150, ME6, GROUP6)
    theirs = IPv6(src=str(ME6), dst=str(GROUP6), hlim=255, nh=112) / VRRPv3(
        vrid=51, priority=150, adv=100, addrlist=["fe80::100"]
    )
    raw = bytes(theirs)[40:]
    if raw[:6] == ours[:6] and raw[8:] == ours[8:]:  # scapy leaves the checksum over IPv6 to others
        assert len(raw) == len(ours)
    assert examine(heard(config), config).priority == 100


V2, V3 = instance(version=2), instance(version=3)
GOOD2, GOOD3 = heard(V2).payload, heard(V3).payload


def with_checksum(payload: bytes) -> bytes:
    """A version 2 message with its checksum put right."""
    bare = payload[:6] + b"\0\0" + payload[8:]
    return bare[:6] + internet_checksum(bare).to_bytes(2) + bare[8:]


@pytest.mark.parametrize(
    ("config", "datagram", "expected"),
    [
        (V3, heard(V3, payload=b""), Reason.LENGTH),
        (V3, heard(V3, payload=GOOD3 + b"\0"), Reason.LENGTH),
        (V3, heard(V3, payload=GOOD3[:-1]), Reason.LENGTH),
        (V3, heard(V3, ttl=254), Reason.TTL),
        (V3, heard(V2), Reason.VERSION),
        (V2, heard(V2, payload=with_checksum(GOOD2[:4] + b"\x07" + GOOD2[5:])), Reason.INVALID_AUTH_TYPE),
        (V2, heard(instance(version=2, authentication=password())), Reason.AUTH_TYPE_MISMATCH),
        (
            instance(version=2, authentication=password("right")),
            heard(instance(version=2, authentication=password("wrong"))),
            Reason.AUTH_FAILURE,
        ),
        (instance(version=2, authentication=password(kind="ah")), heard(V2), Reason.AUTH_HEADER),
        (V2, heard(instance(version=2, advert_int=Centiseconds(200))), Reason.INTERVAL),
        (V3, heard(instance(advert_int=Centiseconds(0))), Reason.INTERVAL),
        (V3, heard(V3, payload=b"\x32" + GOOD3[1:]), Reason.INVALID_TYPE),
        (V3, heard(V3, payload=GOOD3[:2] + b"\x01" + GOOD3[3:]), Reason.CHECKSUM),
        (V2, heard(V2, payload=GOOD2[:2] + b"\x01" + GOOD2[3:]), Reason.CHECKSUM),
        (
            V3,
            heard(V3, destination=ip_address("192.0.2.9"), payload=encode(V3, 1, ME, ip_address("192.0.2.9"))),
            Reason.DESTINATION,
        ),
        (instance(unicast=True), heard(V3), Reason.DESTINATION),
        (instance(priority=255, owner_ignore_adverts=True), heard(V3), Reason.OWNER),
        (V3, heard(V3, payload=encode(instance(addresses=()), 1, ME, GROUP)), Reason.NO_ADDRESS),
        (instance("192.0.2.1", strict_address_list=True), heard(V3), Reason.ADDRESS_LIST),
    ],
)
def test_every_check_has_its_reason(config: VrrpInstance, datagram: Datagram, expected: Reason) -> None:
    assert reason(datagram, config) is expected


@pytest.mark.parametrize(
    ("peer", "ttl", "expected"),
    [("192.0.2.77", 255, Reason.NOT_A_PEER), (str(ME), 100, Reason.PEER_TTL), (str(ME), 254, None)],
)
def test_unicast_senders(peer: str, ttl: int, expected: Reason | None) -> None:
    there = ip_address("192.0.2.2")
    config = instance(
        unicast=True,
        check_unicast_src=True,
        mcast_group=None,
        unicast_peers=(UnicastPeer(address=ip_address(peer), min_ttl=250),),
    )
    datagram = Datagram(ME, there, ttl, encode(config, 100, ME, there))
    if expected is None:
        assert examine(datagram, config).priority == 100
    else:
        assert reason(datagram, config) is expected


def test_another_address_list_is_told_and_taken_as_a_sign_of_life() -> None:
    found = examine(heard(V3), instance("192.0.2.100", "192.0.2.101"))
    assert found.differs == "it lacks 192.0.2.101"


def test_how_an_address_list_differs() -> None:
    assert examine(heard(instance("192.0.2.100", "192.0.2.9")), V3).differs == "it has 192.0.2.9"
    found = examine(heard(instance("192.0.2.9")), V3)
    assert (found.differs, found.foreign) == ("it lacks 192.0.2.100 and it has 192.0.2.9", True)
    assert not examine(heard(V3), instance("192.0.2.100", "192.0.2.101")).foreign


def test_both_forms_of_the_version_3_checksum_are_taken() -> None:
    bare = instance(v3_checksum_as_v2=True)
    assert examine(heard(bare), V3).bare_checksum
    assert not examine(heard(V3), bare).bare_checksum


@pytest.mark.parametrize(("ttl", "checked", "text"), [(255, False, ""), (64, False, "TTL 64"), (64, True, "")])
def test_a_unicast_ttl_is_told_where_nothing_limits_it(ttl: int, checked: bool, text: str) -> None:
    there, peer = ip_address("192.0.2.2"), UnicastPeer(address=ME, min_ttl=1)
    config = instance(unicast=True, mcast_group=None, unicast_peers=(peer,), check_unicast_src=checked)
    found = examine(Datagram(ME, there, ttl, encode(config, 100, ME, there)), config)
    assert found.remark.startswith(text)
    assert bool(found.remark) is bool(text)


@pytest.mark.parametrize(("addresses", "told"), [(("fe80::1", "fd00::1"), False), (("fd00::1", "fe80::1"), True)])
def test_a_first_address_that_is_not_link_local_is_told(addresses: tuple[str, ...], told: bool) -> None:
    config = instance(*addresses, family=6)
    assert bool(examine(heard(config), config).remark) is told


def test_a_different_interval_is_told_in_version_3() -> None:
    assert examine(heard(instance(advert_int=Centiseconds(50))), V3).interval_differs


def sealed(sequence: int = 1, key: str = "secret", source: Any = ME) -> Datagram:
    config = instance(version=2, authentication=password(key, "ah"))
    message = encode(config, 100, ME, GROUP)
    header = ipv4_header(source, GROUP, auth.AH_SIZE + len(message), 255, 1, IPPROTO_AH)
    return parse_ipv4(header + auth.seal(header, sequence, message, key.encode(), False) + message)


def test_authentication_header() -> None:
    config = instance(version=2, authentication=password(kind="ah"))
    found = examine(sealed(5), config, last_sequence=4)
    assert (found.sequence, found.priority) == (5, 100)
    assert sealed().vrid == 51
    for datagram, last in ((sealed(5), 5), (sealed(key="guess"), 0)):
        with pytest.raises(PacketError) as caught:
            examine(datagram, config, last)
        assert caught.value.reason is Reason.AUTH_FAILURE
    assert reason(Datagram(ME, GROUP, 255, b"\x70", IPPROTO_AH), config) is Reason.LENGTH


@pytest.mark.parametrize("spoil", ["next header", "spi"])
def test_authentication_header_of_somebody_else(spoil: str) -> None:
    config = instance(version=2, authentication=password(kind="ah"))
    found = sealed(5)
    payload, header = found.payload, found.ip_header
    if spoil == "next header":
        payload = b"\x06" + payload[1:]
    else:
        message = payload[auth.AH_SIZE :]
        spi = int(ip_address("192.0.2.99"))
        payload = auth.HEADER.pack(112, 4, 0, spi, 5, auth._code(header, 5, spi, message, b"secret", False)) + message
    assert reason(Datagram(ME, GROUP, 255, payload, IPPROTO_AH, header), config) is Reason.AUTH_FAILURE


@pytest.mark.parametrize("cut", [0, 10, 19])
def test_short_ip_packets(cut: int) -> None:
    packet = ipv4_header(ME, GROUP, len(GOOD3), 255, 1, 112) + GOOD3
    with pytest.raises(PacketError):
        parse_ipv4(packet[:cut])


def test_padding_of_short_frames_is_cut_off() -> None:
    packet = ipv4_header(ME, GROUP, len(GOOD3), 255, 1, 112) + GOOD3
    assert parse_ipv4(packet + bytes(46 - len(packet))).payload == GOOD3
    with pytest.raises(PacketError):
        parse_ipv4(packet + bytes(60))


@given(st.binary(max_size=80), st.sampled_from([V2, V3, instance("fe80::1", family=6)]))
def test_any_bytes_give_an_advert_or_the_one_error(data: bytes, config: VrrpInstance) -> None:
    source = ME if config.family == 4 else ME6
    destination = GROUP if config.family == 4 else GROUP6
    with contextlib.suppress(PacketError):
        examine(Datagram(source, destination, 255, data), config)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_datagram_or_the_one_error(data: bytes) -> None:
    with contextlib.suppress(PacketError):
        parse_ipv4(data)


@given(st.binary(max_size=40))
def test_the_sum_is_that_of_rfc_1071(data: bytes) -> None:
    padded = data + b"\0" * (len(data) % 2)
    total = sum(int.from_bytes(padded[at : at + 2]) for at in range(0, len(padded), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert ones_complement_sum(data) == total


def test_packets_of_other_programs(shared: Path) -> None:
    """Other people's packets decode to what other people's decoders say."""
    checked = 0
    for vector in json.loads((shared / "vectors" / "vrrp-packets.json").read_text()):
        payload = bytes.fromhex(vector["vrrp_hex"])
        known = vector.get("version") in (2, 3) and vector.get("auth_type") != 2 and vector.get("addresses")
        if not known or not vector.get("src"):
            continue
        ours = vector["cksum_ok_plain"] or (vector["version"] == 3 and vector["cksum_ok_pseudo"])
        interval = round(float(vector.get("adver_int_s") or 0) * 100) or vector.get("max_adver_int_cs") or 100
        config = instance(
            *vector["addresses"],
            family=vector["af"],
            vrid=vector["vrid"],
            version=vector["version"],
            advert_int=Centiseconds(interval),
            authentication=None
            if not vector.get("auth_type")
            else password(bytes.fromhex(vector["auth_data"]).rstrip(b"\0").decode("latin-1")),
        )
        datagram = Datagram(ip_address(vector["src"]), ip_address(vector["dst"]), vector["ttl"] or 255, payload)
        if not ours:
            continue
        try:
            found = examine(datagram, config)
        except PacketError as error:
            assert error.reason in (Reason.TTL, Reason.DESTINATION, Reason.LENGTH, Reason.INTERVAL), vector  # noqa: PT017
            continue
        checked += 1
        assert [str(each) for each in found.addresses] == [str(ip_address(each)) for each in vector["addresses"]]
        assert found.priority == vector["priority"]
    assert checked >= 10

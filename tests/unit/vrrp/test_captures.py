"""Captures of other programs: every packet is an advert or has its one reason; damaged ones never do more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from keepalived_py.config.model import Address
from keepalived_py.values import Centiseconds, ip_address
from keepalived_py.vrrp.packet import Advertisement, Datagram, PacketError, Reason, examine, parse_ipv4
from tests.unit.vrrp.builders import instance

CAPTURES = ["tcpdump-vrrp.pcap", "tcpdump-vrrp-vrrp_print-oobr.pcap", "tcpdump-vrrp-vrrp_print-oobr-2.pcap"]


def datagrams(path: Path) -> list[Datagram | Reason]:
    """All VRRP packets of a capture, taken apart by our code where IPv4, by scapy where IPv6."""
    from scapy.layers.inet6 import IPv6
    from scapy.utils import rdpcap

    found: list[Datagram | Reason] = []
    for packet in rdpcap(str(path)):
        frame = bytes(packet)
        if IPv6 in packet:
            layer = packet[IPv6]
            found.append(Datagram(ip_address(layer.src), ip_address(layer.dst), layer.hlim, bytes(layer.payload)))
            continue
        start = frame.find(b"\x45")
        try:
            found.append(parse_ipv4(frame[start:] if start >= 0 else frame))
        except PacketError as error:
            found.append(error.reason)
    return found


def verdict(datagram: Datagram) -> Advertisement | Reason:
    """What an instance of the packet's own version, VRID and interval says."""
    head = datagram.payload[:8].ljust(8, b"\0")
    version = 2 if head[0] >> 4 == 2 else 3
    interval = head[5] * 100 if version == 2 else int.from_bytes(head[4:6]) & 0xFFF
    config = instance(
        family=datagram.source.version, version=version, vrid=head[1] or 1, advert_int=Centiseconds(interval)
    )
    try:
        return examine(datagram, config)
    except PacketError as error:
        return error.reason


@pytest.mark.parametrize("name", CAPTURES)
def test_every_packet_has_a_verdict(shared: Path, name: str) -> None:
    found = datagrams(shared / "vectors" / "pcap" / name)
    assert found
    verdicts = [each if isinstance(each, Reason) else verdict(each) for each in found]
    assert all(isinstance(each, Advertisement | Reason) for each in verdicts)
    if name == "tcpdump-vrrp.pcap":
        assert sum(isinstance(each, Advertisement) for each in verdicts) >= 4


def altered(payload: bytes) -> list[bytes]:
    return [
        payload[:at] + bytes([payload[at] ^ bit]) + payload[at + 1 :] for at in range(len(payload)) for bit in (1, 128)
    ]


def test_no_single_wrong_bit_is_accepted(shared: Path) -> None:
    """The checksum covers everything; a bit of it cannot change without being noticed."""
    tried = 0
    for vector in json.loads((shared / "vectors" / "vrrp-packets.json").read_text()):
        if vector.get("version") != 3 or not vector.get("cksum_ok_pseudo") or not vector.get("src"):
            continue
        fields: dict[str, Any] = {
            "addresses": tuple(
                Address(address=ip_address(each), prefixlen=ip_address(each).max_prefixlen)
                for each in vector["addresses"]
            ),
            "family": vector["af"],
            "vrid": vector["vrid"],
            "advert_int": Centiseconds(vector["max_adver_int_cs"]),
        }
        config = instance(**fields)
        source, destination = ip_address(vector["src"]), ip_address(vector["dst"])
        for payload in altered(bytes.fromhex(vector["vrrp_hex"])):
            tried += 1
            with pytest.raises(PacketError):
                examine(Datagram(source, destination, 255, payload), config)
    assert tried > 100

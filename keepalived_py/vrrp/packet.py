"""Adverts on the wire: versions 2 (RFC 3768, authentication of RFC 2338) and 3 (RFC 5798, 9568), IPv4 and IPv6.

`examine` makes the checks of vrrp-behaviour.md 3 in their order and gives an Advertisement or raises PacketError, whose
Reason is what statistics count. Where that document and the RFCs part, rfc-deviations.md says which side is taken: a v3
checksum over the message alone is accepted beside the usual one with the pseudo header, a wrong one never; an interval
or an address count of 0 is discarded; another address list is only reported, unless the configuration is strict.
"""

from __future__ import annotations

import struct
from dataclasses import field
from enum import Enum

from keepalived_py.config.model import VrrpInstance
from keepalived_py.records import dataclass
from keepalived_py.values import Centiseconds, IPAddress, IPv4Address, IPv6Address

from .auth import AH_SIZE, AuthenticationHeader
from .auth_hmac import TRAILER_SIZE, Covered, Flaw, HmacState

#  0               1               2               3
#  |Version| Type  | Virtual Rtr ID|   Priority    |  Addr Count   |
#  | v2: Auth Type |   Adver Int   |           Checksum            |
#  | v3: Rsvd |  Max Advertise Int |           Checksum            |
HEADER = struct.Struct("!BBBBHH")
ADVERTISEMENT = 1
AUTH_DATA_SIZE = 8
AUTH_NONE, AUTH_PASS, AUTH_AH = 0, 1, 2
IPPROTO_VRRP, IPPROTO_AH = 112, 51
TTL = 255
TOS_INTERNETWORK_CONTROL = 0xC0
"""What releases before 1.3.7 summed as destination of unicast adverts (old_unicast_checksum)."""
MAX_PADDING = 46
"""A frame shorter than this payload is padded by Ethernet, and the padding may be delivered."""


class Reason(Enum):
    """Why a packet is discarded; each has its own counter."""

    LENGTH = "packet length"
    AUTH_HEADER = "authentication header where none, or none where one, is configured"
    TTL = "TTL is not 255"
    VERSION = "version"
    INVALID_AUTH_TYPE = "invalid authentication type"
    AUTH_TYPE_MISMATCH = "authentication type is not ours"
    AUTH_FAILURE = "authentication failed"
    INTERVAL = "advertisement interval"
    INVALID_TYPE = "type is not advertisement"
    CHECKSUM = "checksum"
    DESTINATION = "destination"
    NO_ADDRESS = "no address"
    ADDRESS_LIST = "address list"
    NOT_A_PEER = "sender is not a configured peer"
    PEER_TTL = "TTL outside the peer's limits"
    OWNER = "we are the address owner"
    HMAC_MISSING = "no authentication trailer"
    HMAC_MALFORMED = "malformed authentication trailer"
    HMAC_UNKNOWN_KEY = "unknown key"
    HMAC_INVALID = "wrong HMAC"
    HMAC_STALE = "trailer outside the time window"
    HMAC_REPLAY = "replayed trailer"


_OF_FLAW = {
    Flaw.MISSING: Reason.HMAC_MISSING,
    Flaw.MALFORMED: Reason.HMAC_MALFORMED,
    Flaw.UNKNOWN_KEY: Reason.HMAC_UNKNOWN_KEY,
    Flaw.INVALID_HMAC: Reason.HMAC_INVALID,
    Flaw.STALE: Reason.HMAC_STALE,
    Flaw.REPLAY: Reason.HMAC_REPLAY,
}


class PacketError(Exception):
    """The one failure of decoding and checking. `reason` is counted, the text is logged once, in keepalived's words."""

    def __init__(self, reason: Reason, text: str = "") -> None:
        super().__init__(text or reason.value)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Datagram:
    """What a socket delivered, IP header taken apart. `ip_header` is kept for the authentication header (IPv4); it has
    another identification each time, so it does not count when two are compared."""

    source: IPAddress
    destination: IPAddress
    ttl: int
    payload: bytes
    protocol: int = IPPROTO_VRRP
    ip_header: bytes = field(default=b"", compare=False)

    @property
    def vrid(self) -> int:
        """The VRID the packet is for, 0 when it is too short to have one."""
        start = AH_SIZE if self.protocol == IPPROTO_AH else 0
        return self.payload[start + 1] if len(self.payload) > start + 1 else 0


@dataclass(frozen=True, slots=True)
class Advertisement:
    """A packet that passed. `differs` says how its address list differs from ours, "" when it does not."""

    version: int
    vrid: int
    priority: int
    adver_int: Centiseconds
    addresses: tuple[IPAddress, ...]
    source: IPAddress
    differs: str = ""
    foreign: bool = False
    """No address in common with ours."""
    interval_differs: bool = False
    bare_checksum: bool = False
    """v3 over IPv4: the checksum covers the message alone (RFC 9568 section 5.2.8)."""
    old_checksum: bool = False
    """v3 unicast over IPv4: the checksum has the multicast group as destination."""
    sequence: int | None = None
    """Of the authentication header."""
    remark: str = ""
    """What the RFC does not allow and is put up with (rfc-deviations.md 14, 15)."""


# encoding ---------------------------------------------------------------------------------------------------------


def ones_complement_sum(data: bytes) -> int:
    """The 16 bit one's complement sum (RFC 1071): one's complement addition is arithmetic modulo 65535."""
    if len(data) % 2:
        data += b"\0"
    number = int.from_bytes(data)
    return 0 if not number else number % 65535 or 65535


def internet_checksum(data: bytes) -> int:
    """RFC 1071. Over data that holds its own right checksum it is 0."""
    return ~ones_complement_sum(data) & 0xFFFF


def pseudo_header(source: IPAddress, destination: IPAddress, length: int) -> bytes:
    """What the v3 checksum covers beside the message (RFC 5798 section 5.2.8, RFC 8200 section 8.1)."""
    if source.version == 4:
        return source.packed + destination.packed + struct.pack("!BBH", 0, IPPROTO_VRRP, length)
    return source.packed + destination.packed + struct.pack("!IxxxB", length, IPPROTO_VRRP)


def encode(
    config: VrrpInstance, priority: int, source: IPAddress, destination: IPAddress, *, old_checksum: bool = False
) -> bytes:
    """The VRRP message of `config` from `source` to `destination`, checksum included.

    `old_checksum`: sum a version 3 unicast advert as old releases did.
    """
    if old_checksum and source.version == 4:
        destination = config.old_checksum_group
    addresses = b"".join(each.address.packed for each in config.addresses)
    count = len(config.addresses)
    if config.version == 2:
        kind, password = AUTH_NONE, b""
        if config.authentication is not None:
            kind = AUTH_PASS if config.authentication.auth_type == "pass" else AUTH_AH
            password = config.authentication.password if kind == AUTH_PASS else b""
        middle = kind << 8 | min(config.advert_int // 100, 255)
        tail = addresses
        if source.version == 4:
            tail += password.ljust(AUTH_DATA_SIZE, b"\0")
        covered = b"" if source.version == 4 else pseudo_header(source, destination, HEADER.size + len(tail))
    else:
        middle, tail = config.advert_int & 0x0FFF, addresses
        bare = config.v3_checksum_as_v2 and source.version == 4
        covered = b"" if bare else pseudo_header(source, destination, HEADER.size + len(tail))
    head = HEADER.pack(config.version << 4 | ADVERTISEMENT, config.vrid, priority, count, middle, 0)
    checksum = internet_checksum(covered + head + tail)
    return head[:6] + checksum.to_bytes(2) + tail


def ipv4_header(
    source: IPAddress, destination: IPAddress, length: int, ttl: int, identification: int, proto: int
) -> bytes:
    """An IPv4 header for a raw socket; the kernel fills in the checksum."""
    return struct.pack(
        "!BBHHHBBH4s4s",
        0x45,
        TOS_INTERNETWORK_CONTROL,
        20 + length,
        identification,
        0,
        ttl,
        proto,
        0,
        source.packed,
        destination.packed,
    )


# decoding ---------------------------------------------------------------------------------------------------------


def parse_ipv4(packet: bytes) -> Datagram:
    """Take the IP header of a raw socket's datagram apart. Raises PacketError."""
    if len(packet) < 20 or packet[0] >> 4 != 4:
        raise PacketError(Reason.LENGTH, "shorter than an IP header")
    size = (packet[0] & 0x0F) * 4
    total = int.from_bytes(packet[2:4])
    padding = len(packet) - total
    if size < 20 or total < size or not (padding == 0 or (padding > 0 and len(packet) <= MAX_PADDING)):
        raise PacketError(Reason.LENGTH, f"IP says {total} bytes, {len(packet)} came")
    return Datagram(
        source=IPv4Address(packet[12:16]),
        destination=IPv4Address(packet[16:20]),
        ttl=packet[8],
        payload=packet[size:total],
        protocol=packet[9],
        ip_header=packet[:size],
    )


def examine(
    datagram: Datagram,
    config: VrrpInstance,
    last_sequence: int = 0,
    *,
    hmac: HmacState | None = None,
    wall: float = 0.0,
    check_list: bool = True,
) -> Advertisement:
    """The checks of vrrp-behaviour.md 3, in their order. Raises PacketError.

    `last_sequence` is the highest sequence number known for the authentication header; `hmac` and `wall` (seconds of
    the real-time clock) serve the auth_hmac trailer; without `check_list` the address list is not compared.
    """
    payload, header = _strip_authentication_header(datagram, config)
    if len(payload) < HEADER.size:
        raise PacketError(Reason.LENGTH, f"{len(payload)} bytes are shorter than a VRRP header")
    version_type, vrid, priority, count, middle, _ = HEADER.unpack_from(payload)
    size = 4 if config.family == 4 else 16
    length = HEADER.size + count * size + (AUTH_DATA_SIZE if version_type >> 4 == 2 and config.family == 4 else 0)
    payload, trailer = _split_trailer(payload, length, hmac)
    if len(payload) != length:
        raise PacketError(Reason.LENGTH, f"{len(payload)} bytes, {count} addresses make {length}")
    if not config.unicast and datagram.ttl != TTL:
        raise PacketError(Reason.TTL, f"invalid TTL/HL. Received {datagram.ttl} and expect {TTL}")
    if version_type >> 4 != config.version:
        raise PacketError(Reason.VERSION, f"wrong version. Received {version_type >> 4} and expect {config.version}")
    if hmac is not None:
        flaw = hmac.verify(Covered(config.version, vrid, datagram.source, payload), trailer, wall)
        if flaw is not None:
            raise PacketError(_OF_FLAW[flaw])
    sequence = None
    if config.version == 2:
        sequence = _authenticate(datagram, payload, header, middle >> 8, config, last_sequence)
    interval = Centiseconds((middle & 0xFF) * 100 if config.version == 2 else middle & 0x0FFF)
    _check_interval(interval, config)
    if version_type & 0x0F != ADVERTISEMENT:
        raise PacketError(Reason.INVALID_TYPE, f"type {version_type & 0x0F}")
    form = _check_sum(datagram, payload, config)
    if datagram.destination.is_multicast == config.unicast:
        raise PacketError(Reason.DESTINATION, _casting(config.unicast))
    if config.owner_ignore_adverts and config.is_owner:
        raise PacketError(Reason.OWNER)
    if not count:
        raise PacketError(Reason.NO_ADDRESS)
    raw = [payload[at : at + size] for at in range(HEADER.size, HEADER.size + count * size, size)]
    addresses = tuple(IPv4Address(each) if size == 4 else IPv6Address(each) for each in raw)
    differs = _compare_addresses(addresses, config) if check_list else ""
    if differs and config.strict_address_list:
        raise PacketError(Reason.ADDRESS_LIST, differs)
    _check_peer(datagram, config)
    return Advertisement(
        version=config.version,
        vrid=vrid,
        priority=priority,
        adver_int=interval,
        addresses=addresses,
        source=datagram.source,
        differs=differs,
        foreign=bool(differs) and not any(each.address in addresses for each in config.addresses),
        interval_differs=interval != config.advert_int,
        bare_checksum=form == "bare",
        old_checksum=form == "old",
        sequence=sequence,
        remark=_remark(datagram, config, addresses),
    )


def _casting(unicast: bool) -> str:
    """What came where `unicast` tells what the instance is."""
    expected, received = ("uni", "multi") if unicast else ("multi", "uni")
    return f"Expected {expected}cast packet but received {received}cast packet"


def _remark(datagram: Datagram, config: VrrpInstance, addresses: tuple[IPAddress, ...]) -> str:
    """RFC 9568 sections 7.1 and 5.2.9."""
    if config.unicast and datagram.ttl != TTL and not config.check_unicast_src:
        return f"TTL {datagram.ttl}, not 255: it has come through a router, or its sender does not say otherwise"
    if config.family == 6 and not addresses[0].is_link_local:
        return f"its first address {addresses[0]} is not link-local"
    return ""


def _strip_authentication_header(datagram: Datagram, config: VrrpInstance) -> tuple[bytes, AuthenticationHeader | None]:
    wanted = config.authentication is not None and config.authentication.auth_type == "ah"
    if wanted != (datagram.protocol == IPPROTO_AH):
        text = "No AH header but auth type is AH" if wanted else "Received AH header but auth type not AH"
        raise PacketError(Reason.AUTH_HEADER, text)
    if not wanted:
        return datagram.payload, None
    if len(datagram.payload) < AH_SIZE:
        raise PacketError(Reason.LENGTH, "shorter than an authentication header")
    return datagram.payload[AH_SIZE:], AuthenticationHeader.parse(datagram.payload)


def _split_trailer(payload: bytes, length: int, hmac: HmacState | None) -> tuple[bytes, bytes]:
    """A trailer is there when it fits exactly."""
    if hmac is None or len(payload) != length + TRAILER_SIZE:
        return payload, b""
    return payload[:length], payload[length:]


def _authenticate(
    datagram: Datagram,
    payload: bytes,
    header: AuthenticationHeader | None,
    kind: int,
    config: VrrpInstance,
    last_sequence: int,
) -> int | None:
    """Checks 7 to 10. The sequence number of an authentication header, else None."""
    if kind not in (AUTH_NONE, AUTH_PASS, AUTH_AH):
        raise PacketError(Reason.INVALID_AUTH_TYPE, f"Invalid auth type: {kind}")
    own = config.authentication
    wanted = AUTH_NONE if own is None else AUTH_PASS if own.auth_type == "pass" else AUTH_AH
    if kind != wanted:
        raise PacketError(Reason.AUTH_TYPE_MISMATCH, f"received a {kind} auth, expecting {wanted}!")
    if own is None:
        return None
    if header is None:
        # over IPv6 there is no authentication data: keepalived says the type and no more
        if datagram.source.version == 4 and payload[-AUTH_DATA_SIZE:] != own.password.ljust(AUTH_DATA_SIZE, b"\0"):
            raise PacketError(Reason.AUTH_FAILURE, "received an invalid passwd!")
        return None
    why = header.verify(datagram.ip_header, payload, own.password, config.unicast, last_sequence)
    if why:
        raise PacketError(Reason.AUTH_FAILURE, why)
    return header.sequence


def _check_interval(interval: Centiseconds, config: VrrpInstance) -> None:
    """v2 demands our interval; v3 takes any but 0, which would make a backup time out at once (erratum 8301)."""
    if not interval:
        raise PacketError(Reason.INTERVAL, "advertisement interval 0")
    if config.version == 2 and interval != config.advert_int:
        text = f"advertisement interval mismatch mine={config.advert_int / 100:g} sec rcv'd={interval / 100:g} sec"
        raise PacketError(Reason.INTERVAL, text)


def _check_sum(datagram: Datagram, payload: bytes, config: VrrpInstance) -> str:
    """Raises PacketError; "" or which other right form it has: bare (no pseudo header), old (with the group)."""
    total = ones_complement_sum(payload)
    if config.version == 2:
        # over IPv6 keepalived lets the kernel sum, and that takes the pseudo header in
        if config.family == 6 and _sums_up(datagram.source, datagram.destination, payload):
            return ""
        if total != 0xFFFF:
            raise PacketError(Reason.CHECKSUM, "Invalid VRRPv2 checksum")
        return ""
    if _sums_up(datagram.source, datagram.destination, payload):
        return ""
    if config.family == 4 and total == 0xFFFF:
        return "bare"
    old = config.family == 4 and config.unicast and config.old_unicast_checksum is not False
    if old and _sums_up(datagram.source, config.old_checksum_group, payload):
        return "old"
    raise PacketError(Reason.CHECKSUM, "Invalid VRRPv3 checksum")


def _sums_up(source: IPAddress, destination: IPAddress, payload: bytes) -> bool:
    return ones_complement_sum(pseudo_header(source, destination, len(payload)) + payload) == 0xFFFF


def _compare_addresses(addresses: tuple[IPAddress, ...], config: VrrpInstance) -> str:
    """How the list differs from ours irrespective of order, "" when it does not."""
    own = {each.address for each in config.addresses}
    theirs = set(addresses)
    if own == theirs:
        return ""
    parts = []
    if own - theirs:
        parts.append(f"it lacks {', '.join(map(str, sorted(own - theirs, key=int)))}")
    if theirs - own:
        parts.append(f"it has {', '.join(map(str, sorted(theirs - own, key=int)))}")
    return " and ".join(parts)


def _check_peer(datagram: Datagram, config: VrrpInstance) -> None:
    """Checks 19 and 20: unicast senders."""
    if not config.unicast or not config.check_unicast_src:
        return
    peer = next((each for each in config.unicast_peers if each.address == datagram.source), None)
    if peer is None:
        raise PacketError(Reason.NOT_A_PEER, f"unicast source address {datagram.source} not a unicast peer")
    if not peer.min_ttl <= datagram.ttl <= peer.max_ttl:
        raise PacketError(Reason.PEER_TTL, f"TTL/HL {datagram.ttl} not in range {peer.min_ttl} - {peer.max_ttl}")

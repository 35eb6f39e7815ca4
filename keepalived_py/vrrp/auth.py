"""The IP authentication header of VRRPv2 (RFC 2338 section 5.3.6.3, RFC 2402, HMAC-MD5-96 of RFC 2403).

What the code covers, and that the TTL counts for multicast only, follows vrrp-behaviour.md 4.2.
"""

from __future__ import annotations

import hmac
import struct

from keepalived_py.records import dataclass

#  | Next Header   | Payload Len   |           Reserved            |
#  |               Security Parameters Index (SPI)                 |
#  |                      Sequence Number                          |
#  |                      ICV, 96 bits                             |
HEADER = struct.Struct("!BBHII12s")
AH_SIZE = HEADER.size
NEXT_HEADER_VRRP = 112
PAYLOAD_LENGTH = 4
LAST_SEQUENCE = 0xFFFFFFFD


def next_sequence(sequence: int) -> int:
    """Of the next advert. Counting stops at the end (vrrp-behaviour.md 4.2)."""
    return min(sequence + 1, LAST_SEQUENCE)


def sequence_after(sequence: int, elapsed: float) -> int:
    """More than a master has reached `elapsed` seconds after `sequence`: an advert each second, and answers to others.

    For the successor of one that died: peers discard what does not exceed the last number they know.
    """
    return min(sequence + 100 + int(4 * elapsed), LAST_SEQUENCE)


def _code(ip_header: bytes, sequence: int, spi: int, message: bytes, password: bytes, unicast: bool) -> bytes:
    """The integrity check value: first 96 bits of HMAC-MD5 with mutable IP fields zeroed."""
    head = bytearray(ip_header[:20])
    head[1] = head[6] = head[7] = head[10] = head[11] = 0
    if unicast:
        head[8] = 0
    header = HEADER.pack(NEXT_HEADER_VRRP, PAYLOAD_LENGTH, 0, spi, sequence, bytes(12))
    return hmac.digest(password.ljust(8, b"\0"), bytes(head) + header + message, "md5")[:12]


@dataclass(frozen=True, slots=True)
class AuthenticationHeader:
    """One header as it came."""

    next_header: int
    spi: int
    sequence: int
    icv: bytes

    @classmethod
    def parse(cls, data: bytes) -> AuthenticationHeader:
        """`data` holds at least AH_SIZE bytes."""
        next_header, _, _, spi, sequence, icv = HEADER.unpack_from(data)
        return cls(next_header, spi, sequence, icv)

    def verify(self, ip_header: bytes, message: bytes, password: bytes, unicast: bool, last_sequence: int) -> str:
        """Why the packet is refused, "" when it is authentic and new."""
        if self.next_header != NEXT_HEADER_VRRP:
            return f"next header {self.next_header}"
        expected = _code(ip_header, self.sequence, self.spi, message, password, unicast)
        if not hmac.compare_digest(expected, self.icv):
            return "integrity check failed"
        if self.spi != int.from_bytes(ip_header[12:16]):
            return "SPI is not the source address"
        if self.sequence <= last_sequence:
            return f"sequence {self.sequence} is not above {last_sequence}"
        return ""


def seal(ip_header: bytes, sequence: int, message: bytes, password: bytes, unicast: bool) -> bytes:
    """The authentication header to put between `ip_header` (total length set) and `message`."""
    spi = int.from_bytes(ip_header[12:16])
    icv = _code(ip_header, sequence, spi, message, password, unicast)
    return HEADER.pack(NEXT_HEADER_VRRP, PAYLOAD_LENGTH, 0, spi, sequence, icv)

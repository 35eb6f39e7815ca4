"""The auth_hmac trailer: HMAC-SHA-256 behind a VRRP message, with a sequence number against replay.

Layout and rules follow vrrp-behaviour.md 4.3. `wall` is the real-time clock in seconds: the one place where it decides
something, because two routers share no other.
"""

from __future__ import annotations

import hmac
import struct
from collections import OrderedDict
from enum import Enum

from keepalived_py.config.model import AuthHmac
from keepalived_py.records import dataclass
from keepalived_py.values import IPAddress

#  |     Type      |    Key id     |           Reserved            |
#  |                            Seconds                            |
#  |       Seconds / 65536         |            Counter            |
#  |                   MAC, 128 bits of HMAC-SHA-256               |
TRAILER = struct.Struct("!BBHQ16s")
TRAILER_SIZE = TRAILER.size
TYPE = 1
MAC_SIZE = 16
SENDERS_REMEMBERED = 4
"""Marks kept of multicast senders; the least recently heard makes room."""
HALF = 1 << 63


class Flaw(Enum):
    """Why a trailer is refused; each has its own counter (cli-and-signals.md 5.1)."""

    MISSING = "no authentication trailer"
    MALFORMED = "malformed authentication trailer"
    UNKNOWN_KEY = "unknown key"
    INVALID_HMAC = "wrong HMAC"
    STALE = "outside the time window"
    REPLAY = "sequence did not grow"


@dataclass(frozen=True, slots=True)
class Covered:
    """What the MAC covers beside the trailer. `message` is the VRRP message; its checksum counts as zero."""

    version: int
    vrid: int
    source: IPAddress
    message: bytes

    def mac(self, trailer_head: bytes, secret: bytes) -> bytes:
        pseudo = struct.pack("!BBBB16s", self.source.version, self.version, self.vrid, 0, self.source.packed)
        bare = self.message[:6] + b"\0\0" + self.message[8:]
        return hmac.digest(secret, pseudo + bare + trailer_head + bytes(MAC_SIZE), "sha256")[:MAC_SIZE]


def sequence_at(wall: float) -> int:
    """32 bit seconds, 16 bit fraction, 16 bit counter at zero."""
    return (int(wall * 65536) << 16) & 0xFFFFFFFFFFFFFFFF


class HmacState:
    """Sequence numbers of one instance: the own one, and the highest heard from each sender."""

    def __init__(self, config: AuthHmac, *, unicast: bool = False) -> None:
        self.config = config
        self._sequence = 0
        self._unicast = unicast
        self._marks: OrderedDict[IPAddress, int] = OrderedDict()

    @property
    def sends(self) -> bool:
        return self.config.mode != "receive-only"

    def seal(self, covered: Covered, wall: float) -> bytes:
        """The trailer of one message; every call takes a new sequence number."""
        clock = sequence_at(wall)
        ahead = (self._sequence >> 32) - (clock >> 32) > self.config.time_window
        if self.config.anti_replay == "time" and ahead:
            self._sequence = clock  # the real-time clock was put back: peers would call what follows stale
        else:
            self._sequence = max(clock, self._sequence + 1)
        head = struct.pack("!BBHQ", TYPE, self.config.active_key, 0, self._sequence)
        return head + covered.mac(head, self._secret(self.config.active_key) or b"")

    def verify(self, covered: Covered, trailer: bytes, wall: float) -> Flaw | None:
        """What is wrong with the trailer of a message, None when it is authentic and new. "" means it is missing."""
        if not trailer:
            return Flaw.MISSING if self.config.mode == "enforce" else None
        if len(trailer) != TRAILER_SIZE:
            return Flaw.MALFORMED
        kind, key, reserved, sequence, mac = TRAILER.unpack(trailer)
        if kind != TYPE or reserved:
            return Flaw.MALFORMED
        if self._timed and abs(int(wall) - (sequence >> 32)) > self.config.time_window:
            return Flaw.STALE
        secret = self._secret(key)
        if secret is None:
            return Flaw.UNKNOWN_KEY
        if not hmac.compare_digest(covered.mac(trailer[:-MAC_SIZE], secret), mac):
            return Flaw.INVALID_HMAC
        return self._advance(covered.source, sequence, wall)

    @property
    def _timed(self) -> bool:
        return self.config.anti_replay == "time"

    def _secret(self, key: int) -> bytes | None:
        return next((each.secret for each in self.config.keys if each.id == key), None)

    def _advance(self, source: IPAddress, sequence: int, wall: float) -> Flaw | None:
        """Serial number arithmetic (RFC 1982) against the last number of this sender."""
        last = self._marks.get(source)
        if last is not None and self._timed and int(wall) - (last >> 32) > self.config.time_window:
            last = None
        if last is not None and not 0 < (sequence - last) % (2 * HALF) < HALF:
            return Flaw.REPLAY
        self._marks[source] = sequence
        self._marks.move_to_end(source)
        if not self._unicast and len(self._marks) > SENDERS_REMEMBERED:
            self._marks.popitem(last=False)
        return None

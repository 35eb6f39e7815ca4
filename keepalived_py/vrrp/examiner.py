"""The receiving side of an instance: the checks, what they must remember, what is counted (vrrp-behaviour.md 3)."""

from __future__ import annotations

from collections import Counter
from dataclasses import field

from keepalived_py.config.model import VrrpInstance
from keepalived_py.records import dataclass
from keepalived_py.values import IPAddress

from .auth import LAST_SEQUENCE
from .auth_hmac import Covered, HmacState
from .packet import Advertisement, Datagram, PacketError, Reason, encode, examine


@dataclass(slots=True)
class Counters:
    """What SIGUSR2 writes (cli-and-signals.md 5.1). A reload keeps them."""

    received: int = 0
    sent: int = 0
    became_master: int = 0
    released_master: int = 0
    zero_received: int = 0
    zero_sent: int = 0
    list_differs: int = 0
    discarded: Counter[Reason] = field(default_factory=Counter)
    discarded_by_source: Counter[tuple[Reason, IPAddress]] = field(default_factory=Counter)


SOURCES_COUNTED = 256
"""Further senders of refused packets are counted by reason only, so that forged ones cannot fill the memory."""


class Examiner:
    """Checks what arrives for one instance and seals what it sends. Holds all that outlives a packet."""

    def __init__(self, config: VrrpInstance) -> None:
        self.counters = Counters()
        self.sequence = 0
        """Of the authentication header: the highest sent or heard."""
        self.old_checksum = False
        """A peer sums unicast adverts as old releases did, and so do we from then on (old_unicast_checksum)."""
        self._config = config
        self._hmac = _hmac_state(config)
        self._last: tuple[Datagram, Advertisement] | None = None
        self._last_source: IPAddress | None = None

    @property
    def config(self) -> VrrpInstance:
        return self._config

    def reconfigure(self, config: VrrpInstance) -> None:
        """Sequence numbers and counters stay; marks of an unchanged auth_hmac too."""
        if config.auth_hmac != self._config.auth_hmac or config.unicast != self._config.unicast:
            self._hmac = _hmac_state(config)
        self._config, self._last = config, None

    def examine(self, datagram: Datagram, *, master: bool, wall: float = 0.0) -> Advertisement:
        """The advert of a datagram. Raises PacketError. Everything is counted; `wall` serves auth_hmac.

        The same datagram as last time, byte for byte, has the same result: that makes the usual case cheap.
        """
        if self._last is not None and (self._last[0] is datagram or self._last[0] == datagram):
            self.counters.received += 1
            return self._last[1]
        try:
            advert = self._examine(datagram, master, wall)
        except PacketError as error:
            self._count(error.reason, datagram.source)
            raise
        self._accept(datagram, advert)
        return advert

    def _examine(self, datagram: Datagram, master: bool, wall: float) -> Advertisement:
        config = self._config
        known = config.skip_check_adv_addr and not master and datagram.source == self._last_source
        return examine(
            datagram,
            config,
            self.sequence,
            hmac=self._hmac,
            wall=wall,
            check_list=config.strict_address_list or not known,
        )

    def _accept(self, datagram: Datagram, advert: Advertisement) -> None:
        self.counters.received += 1
        self.counters.zero_received += advert.priority == 0
        self.counters.list_differs += bool(advert.differs)
        self._last_source = advert.source
        if advert.sequence is not None:
            self.sequence = advert.sequence
        if advert.old_checksum and self._config.old_unicast_checksum is None:
            self.old_checksum = True
        repeatable = advert.sequence is None and self._hmac is None and advert.priority and not advert.differs
        self._last = (datagram, advert) if repeatable else None

    def _count(self, reason: Reason, source: IPAddress) -> None:
        counters = self.counters
        counters.discarded[reason] += 1
        by_source = counters.discarded_by_source
        if (reason, source) in by_source or len(by_source) < SOURCES_COUNTED:
            by_source[reason, source] += 1

    # sending ------------------------------------------------------------------------------------------------------

    def message(self, priority: int, source: IPAddress, destination: IPAddress) -> bytes:
        """The VRRP message without a trailer; the same arguments give the same bytes until the next reload."""
        wanted = self._config.old_unicast_checksum
        old = self._config.unicast and (self.old_checksum if wanted is None else wanted)
        return encode(self._config, priority, source, destination, old_checksum=old)

    def became_master(self) -> None:
        """A sequence that has come to its end begins again with a new master (vrrp-behaviour.md 4.2)."""
        if self.sequence >= LAST_SEQUENCE:
            self.sequence = 0

    def trailer(self, message: bytes, source: IPAddress, wall: float) -> bytes:
        """The auth_hmac trailer of one transmission, b"" where none is sent."""
        if self._hmac is None or not self._hmac.sends:
            return b""
        return self._hmac.seal(Covered(self._config.version, self._config.vrid, source, message), wall)


def _hmac_state(config: VrrpInstance) -> HmacState | None:
    return None if config.auth_hmac is None else HmacState(config.auth_hmac, unicast=config.unicast)

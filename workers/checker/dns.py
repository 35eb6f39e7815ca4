"""DNS_CHECK: a name server answers without error (checker-behaviour.md 4)."""

from __future__ import annotations

import socket

import dns.exception
import dns.flags
import dns.message
import dns.rcode

from keepalived_py.config.model import DnsCheck
from keepalived_py.records import dataclass

from .probe import CheckFailed, CheckNotMade, connect, open_socket, receive, send

HEADER = 12
RCODE = 0x0F


@dataclass(frozen=True, slots=True)
class DnsChecker:
    config: DnsCheck
    name: str = "DNS_CHECK"

    @property
    def limit(self) -> float:
        return self.config.timing.connect_timeout

    async def check(self) -> None:
        config = self.config
        try:
            query = dns.message.make_query(config.name, config.type).to_wire()
        except (dns.exception.DNSException, UnicodeError) as exc:
            raise CheckNotMade(f"cannot ask for '{config.name}': {exc}") from exc
        with open_socket(config.endpoint, socket.SOCK_DGRAM) as sock:
            await connect(sock, config.endpoint)
            await send(sock, query)
            while not self._answers(query, await receive(sock, HEADER)):
                pass  # somebody's old answer, or nonsense

    def _answers(self, query: bytes, packet: bytes) -> bool:
        """Whether a packet, cut to its header, is the answer to the query. Raises CheckFailed when it is an error."""
        if len(packet) < HEADER or packet[:2] != query[:2]:
            return False
        flags = int.from_bytes(packet[2:4])
        if not flags & dns.flags.QR:
            return False
        if flags & RCODE:
            raise CheckFailed(f"answer {dns.rcode.to_text(dns.rcode.from_flags(flags, 0))}")
        return True

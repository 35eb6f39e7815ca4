"""Values shared by all packages: units, addresses, the keys that identify things across a reload, and text for people.

Nothing here reads a clock, a file or the configuration.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple, NewType

from keepalived_py.records import dataclass

IPAddress = IPv4Address | IPv6Address

Centiseconds = NewType("Centiseconds", int)
"""Advertisement intervals, as VRRPv3 carries them (RFC 9568 section 5.2.7)."""

Seconds = float
"""Every other duration; resolution is a microsecond."""

OWNER = 255
"""Priority of the address owner (RFC 9568 section 5.2.4)."""


def seconds(interval: Centiseconds) -> Seconds:
    """The one place where wire time becomes clock time."""
    return interval / 100


class ExitCode(IntEnum):
    """keepalived's exit codes (cli-and-signals.md 3); the first three of a child are not worth a restart."""

    OK = 0
    FATAL = 1
    CONFIG = 2
    NO_PERMISSION = 4
    CONFIG_TEST_FAILED = 5
    NO_CONFIG = 6
    PROGRAM_ERROR = 70
    NO_MEMORY = 204


@lru_cache(maxsize=4096)
def ip_address(text: str) -> IPAddress:
    """`text` as an address. Raises ValueError; equal texts give the same object."""
    return IPv6Address(text) if ":" in text else IPv4Address(text)


def family_of(address: IPAddress) -> int:
    """4 or 6."""
    return address.version


@dataclass(frozen=True, slots=True, order=True)
class MacAddress:
    """Six octets. The virtual router's are 00-00-5E-00-01-{VRID} and 00-00-5E-00-02-{VRID} (RFC 9568 7.3)."""

    octets: bytes

    def __post_init__(self) -> None:
        if len(self.octets) != 6:
            raise ValueError(f"a MAC address has 6 octets, not {len(self.octets)}")

    @classmethod
    def parse(cls, text: str) -> MacAddress:
        """Six hexadecimal octets with colons. Raises ValueError."""
        return cls(bytes(int(part, 16) for part in text.split(":")))

    @classmethod
    def virtual_router(cls, vrid: int, family: int) -> MacAddress:
        """The virtual router MAC address of RFC 9568 section 7.3."""
        return cls(bytes((0x00, 0x00, 0x5E, 0x00, 0x01 if family == 4 else 0x02, vrid)))

    def __str__(self) -> str:
        return self.octets.hex(":")


class Protocol(Enum):
    """Transport protocol of a virtual server; NONE for firewall marks."""

    NONE = "none"
    TCP = "tcp"
    UDP = "udp"
    SCTP = "sctp"


class VirtualRouterKey(NamedTuple):
    """What makes two instances the same instance across a reload (vrrp-behaviour.md 15). A tuple: it is hashed a lot.

    `interface` is the configured one, "" without; `route` tells unicast (source address) from multicast (group,
    VMAC flags), so that instances which may share a VRID stay apart.
    """

    interface: str
    family: int
    vrid: int
    route: str = ""

    def __str__(self) -> str:
        return f"{self.interface}/v{self.family}/{self.vrid}" + (f"/{self.route}" if self.route else "")


@dataclass(frozen=True, slots=True, order=True)
class ServiceKey:
    """One virtual server as configured: an address, a firewall mark or a group (checker-behaviour.md 6).

    Exactly one of `address`, `fwmark` and `group` is set; `ordinal` counts the virtual servers of one group.
    """

    protocol: Protocol = Protocol.NONE
    address: IPAddress | None = None
    port: int = 0
    fwmark: int = 0
    family: int = 0
    group: str = ""
    ordinal: int = 0

    def __str__(self) -> str:
        if self.group:
            return f"[{self.group}]:{self.ordinal}"
        if self.address is None:
            return f"FWM {self.fwmark}"
        return f"[{self.address}]:{self.protocol.value}:{self.port}"

    @property
    def unique(self) -> str:
        """The same for programs: a firewall mark may be that of two virtual servers, one of each family."""
        return f"{self} inet6" if self.address is None and not self.group and self.family == 6 else str(self)


@dataclass(frozen=True, slots=True, order=True)
class RealKey:
    """One real server within its virtual server."""

    address: IPAddress
    port: int

    def __hash__(self) -> int:
        return hash((int(self.address), self.port))  # an address makes text of itself to be hashed

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}"

    def text(self, protocol: Protocol) -> str:
        """As logs, FIFOs and mails name it (checker-behaviour.md 1.1)."""
        return f"[{self.address}]:{protocol.value}:{self.port}"


def visible(text: str) -> str:
    """With escapes for what cannot be seen: a byte order mark, a blank that is none, bytes that are no UTF-8."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else character.encode("unicode_escape").decode()


__all__ = [
    "OWNER",
    "Centiseconds",
    "ExitCode",
    "IPAddress",
    "IPv4Address",
    "IPv6Address",
    "MacAddress",
    "Protocol",
    "RealKey",
    "Seconds",
    "ServiceKey",
    "VirtualRouterKey",
    "family_of",
    "ip_address",
    "seconds",
    "visible",
]

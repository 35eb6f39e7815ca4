"""The section of keepalived.data on interfaces, line for line as keepalived writes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field

from keepalived_py.records import dataclass
from keepalived_py.values import IPAddress

FLAGS = (
    (0x2, False, "no broadcast"),
    (0x8, True, "loopback"),
    (0x10, True, "point to point"),
    (0x80, True, "no arp"),
    (0x1000, False, "no multicast"),
)
"""Bits of interface flags, and what is said where they are so."""
UP, RUNNING = 0x1, 0x40
KINDS = {1: "ETHERNET", 32: "INFINIBAND", 772: "LOOPBACK"}
LOOPBACK = 772


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceSnapshot:
    """One interface. Delays and gaps in seconds."""

    name: str
    index: int = 0
    """0: it does not exist."""
    addresses: tuple[IPAddress, ...] = ()
    mac: bytes = b""
    broadcast: bytes = b""
    flags: int = 0
    mtu: int = 0
    hardware: int = 0
    """ARPHRD number."""
    delaying: bool = False
    delays: tuple[float, float] = (0.0, 0.0)
    """Down and up."""
    vmac: str = ""
    """What kind of VMAC it is."""
    below: str = ""
    """The interface that it is on, and its state."""
    created: bool = False
    changeable: bool = False
    polled: str = ""
    """Method by which the link is polled."""
    garp_interval: float = 0.0
    gna_interval: float = 0.0
    garp_group: int | None = None
    vmacs: int = 0
    """How many VMACs of ours need its settings."""
    settings: dict[str, str] = field(default_factory=dict)
    """arp_ignore and its likes, as they were before us."""
    promoting: int = 0
    tracking: tuple[tuple[str, int], ...] = ()
    """Instances with their weights."""


def state_words(flags: int) -> str:
    """`UP, RUNNING` and what is unusual."""
    words = [("" if flags & bit else "not ") + name for bit, name in ((UP, "UP"), (RUNNING, "RUNNING"))]
    return ", ".join([*words, *(text for bit, when, text in FLAGS if bool(flags & bit) is when)])


def interface_lines(found: InterfaceSnapshot) -> list[str]:
    return [
        f"Name = {found.name}",
        *(f"  {line}" for line in (*_address_lines(found), *_state_lines(found), *_use_lines(found))),
    ]


def _address_lines(found: InterfaceSnapshot) -> Iterator[str]:
    yield f"index = {found.index}" + ("" if found.index else " (deleted)")
    for family in (4, 6):
        own = [each for each in found.addresses if each.version == family]
        yield f"IPv{family} address = {own[0] if own else '(none)'}"
        if own[1:]:
            yield f"Additional IPv{family} addresses :"
            yield from (f"  {each}" for each in own[1:])
    if any(found.mac) or (found.mac and found.hardware != LOOPBACK):
        yield f"MAC = {found.mac.hex(':')}"
        yield f"MAC broadcast = {found.broadcast.hex(':')}"


def _state_lines(found: InterfaceSnapshot) -> Iterator[str]:
    down, up = found.delays
    yield f"State = {state_words(found.flags)}"
    yield f"Seen up = {int(bool(found.flags & UP and found.flags & RUNNING))}"
    yield f"Delayed state change running = {'true' if found.delaying else 'false'}"
    yield f"Up debounce timer = {int(up * 1e6 + 0.5)}us"
    yield f"Down debounce timer = {int(down * 1e6 + 0.5)}us"
    if found.vmac:
        yield f"VMAC type {found.vmac}, underlying interface = {found.below}"
    if found.created:
        yield "I/f created by keepalived"
    if found.changeable:
        yield "Interface type/base can be changed"
    yield f"MTU = {found.mtu}"
    yield f"HW Type = {KINDS.get(found.hardware, f'UNKNOWN ({found.hardware})')}"
    yield f"NIC support {found.polled} interface" if found.polled else "NIC netlink status update"


def _use_lines(found: InterfaceSnapshot) -> Iterator[str]:
    if found.garp_interval:
        yield f"Gratuitous ARP interval {found.garp_interval * 1000:g}ms"
    if found.gna_interval:
        yield f"Gratuitous NA interval {found.gna_interval * 1000:g}ms"
    if found.garp_group:
        yield f"Gratuitous ARP aggregation group {found.garp_group}"
    settings = found.settings
    yield f"Reset ARP config counter {found.vmacs}"
    yield f"Original arp_ignore {settings.get('arp_ignore', '0')}"
    yield f"Original arp_filter {settings.get('arp_filter', '0')}"
    if found.hardware != LOOPBACK:
        yield f"rp_filter {settings.get('rp_filter', '0')}"
    yield f"Original promote_secondaries {settings.get('promote_secondaries', '0')}"
    yield f"Reset promote_secondaries counter {found.promoting}"
    if found.tracking:
        yield "Tracking VRRP instances :"
        yield from (f"  {name}, weight {weight}" for name, weight in found.tracking)

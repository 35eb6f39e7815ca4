"""The VMACs and ipvlans that a configuration asks for: whose, of which name and MAC address (vrrp-behaviour.md 13)."""

from __future__ import annotations

from keepalived_py.config.model import VmacSpec, VrrpInstance
from keepalived_py.records import dataclass
from keepalived_py.values import IPAddress, IPv6Address, MacAddress, VirtualRouterKey

MAX_NAME = 15
NUMBERS = tuple(map(str, range(1, 1000)))

Owner = tuple[VirtualRouterKey, str, int]
"""Whose interface it is, and the interface and family of the addresses it is for; "" and 0: the instance's own."""


@dataclass(frozen=True, slots=True)
class Wish:
    """An interface that is to be there."""

    owner: Owner
    title: str
    """Name of the instance, for the log."""
    spec: VmacSpec
    family: int
    vrid: int
    mac: MacAddress
    prefix: str
    families: frozenset[int]
    """What it speaks."""
    source: IPAddress | None = None
    """Configured source of adverts."""

    @property
    def names(self) -> list[str]:
        """The name asked for, else PREFIX.VRID; when that is taken a number goes behind the prefix."""
        numbers = ("", *(("6",) if self.family == 6 else ()), *NUMBERS)
        own = [self.spec.name] if self.spec.name else []
        return own + [f"{self.prefix}{number}.{self.vrid}"[:MAX_NAME] for number in numbers]


def families(config: VrrpInstance) -> frozenset[int]:
    """What the VMAC of an instance speaks: its own family, and IPv6 where any of the addresses is one."""
    rows = (*config.addresses, *config.excluded)
    return frozenset({config.family, *(row.family for row in rows if row.family == 6)})


def own_wish(config: VrrpInstance, prefix: str) -> Wish:
    """The interface of an instance that has one."""
    spec = config.vmac
    assert spec is not None
    return Wish(
        owner=(config.key, "", 0),
        title=config.name,
        spec=spec,
        family=config.family,
        vrid=config.vrid,
        mac=spec.mac or MacAddress.virtual_router(config.vrid, config.family),
        prefix=prefix,
        families=families(config),
        source=config.source,
    )


def extra_wish(config: VrrpInstance, dev: str, family: int, prefix: str) -> Wish:
    """That of addresses of one family on the interface `dev`; with the MAC address of the instance's own VMAC."""
    given = config.vmac.mac if config.vmac is not None and family == config.family else None
    return Wish(
        owner=(config.key, dev, family),
        title=config.name,
        spec=VmacSpec(),
        family=family,
        vrid=config.vrid,
        mac=given or MacAddress.virtual_router(config.vrid, family),
        prefix=prefix,
        families=frozenset({family}),
    )


def link_local(mac: bytes) -> IPv6Address | None:
    """EUI-64 (RFC 4291 appendix A); None without an Ethernet address."""
    if len(mac) != 6:
        return None
    return IPv6Address(bytes((0xFE, 0x80, *bytes(6), mac[0] ^ 2, *mac[1:3], 0xFF, 0xFE, *mac[3:])))


def sends_below(config: VrrpInstance, spec: VmacSpec) -> bool:
    """Whether adverts come and go on the interface below: vmac_xmit_base, but what is sent to the address of an ipvlan
    arrives there only."""
    return spec.xmit_base and not (spec.kind == "ipvlan" and config.source in (None, spec.ipvlan_address))

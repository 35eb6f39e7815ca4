"""Small builders for tests of the engine."""

from __future__ import annotations

from typing import Any

from keepalived_py.config.model import Address, Authentication, GarpSettings, VrrpInstance
from keepalived_py.values import Centiseconds, IPAddress, ip_address
from keepalived_py.vrrp.events import AdvertReceived

ME, LOWER, HIGHER = (ip_address(f"192.0.2.{last}") for last in (10, 5, 20))
NO_SECOND_BURST = GarpSettings(master_delay=0, lower_prio_delay=0)


def instance(*addresses: str, family: int = 4, **changes: Any) -> VrrpInstance:
    """An instance with one address, or those given."""
    rows = tuple(
        Address(address=ip_address(each), prefixlen=ip_address(each).max_prefixlen)
        for each in addresses or ("192.0.2.100",)
    )
    values: dict[str, Any] = {
        "name": "VI_1",
        "interface": "eth0",
        "family": family,
        "vrid": 51,
        "version": 3,
        "mcast_group": ip_address("224.0.0.18" if family == 4 else "ff02::12"),
        "addresses": rows,
        "garp": NO_SECOND_BURST,
    }
    return VrrpInstance(**{**values, **changes})


def advert(priority: int, source: IPAddress = LOWER, interval: int = 100) -> AdvertReceived:
    return AdvertReceived(priority, Centiseconds(interval), source)


def password(text: str = "secret", kind: str = "pass") -> Authentication:
    return Authentication(auth_type=kind, password=text.encode())

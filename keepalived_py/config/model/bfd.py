"""BFD sessions (RFC 5880). Intervals in milliseconds, as the keywords give them."""

from __future__ import annotations

from keepalived_py.records import dataclass
from keepalived_py.values import IPAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class BfdInstance:
    name: str
    neighbor: IPAddress
    source: IPAddress | None = None
    min_rx: float = 10.0
    min_tx: float = 10.0
    idle_tx: float = 1000.0
    multiplier: int = 5
    passive: bool = False
    ttl: int = 255
    max_hops: int = 0
    multihop: bool = False
    weight: int = 0
    reverse: bool = False
    to_vrrp: bool = True
    to_checker: bool = True

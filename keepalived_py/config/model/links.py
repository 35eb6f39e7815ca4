"""Addresses, routes and rules, virtual or static, as the file asks for them (vrrp-behaviour.md 11).

Names of tables, scopes, protocols and realms are already numbers. An empty `dev` means: the instance's VMAC or
interface; static addresses have the default interface filled in.
"""

from __future__ import annotations

from keepalived_py.records import dataclass
from keepalived_py.values import IPAddress, MacAddress

FOREVER = 0xFFFFFFFF
"""Lifetime without end."""
ROUTE_TYPES = {
    "unicast": 1,
    "local": 2,
    "broadcast": 3,
    "anycast": 4,
    "multicast": 5,
    "blackhole": 6,
    "unreachable": 7,
    "prohibit": 8,
    "throw": 9,
    "nat": 10,
    "xresolve": 11,
}
"""Codes of rtnetlink (RTN_UNICAST and so on)."""
NAMES_OF_ROUTE_TYPES = {code: name for name, code in ROUTE_TYPES.items() if name != "unicast"}
"""As iproute2 shows them: the usual one has none."""
RULE_ACTIONS = {2: "goto", 3: "nop", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
"""Codes of rtnetlink (FR_ACT_GOTO and so on), but for the look-up of a table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One line of virtual_ipaddress, virtual_ipaddress_excluded or static_ipaddress."""

    address: IPAddress
    prefixlen: int
    dev: str = ""
    scope: int = 0
    broadcast: IPAddress | None = None
    label: str = ""
    peer: IPAddress | None = None
    home: bool = False
    dad: bool = False
    """IPv6: let the kernel run duplicate address detection (`-nodad`)."""
    mngtmpaddr: bool = False
    noprefixroute: bool = False
    autojoin: bool = False
    no_track: bool = False
    preferred_lft: int | None = None
    """Seconds; None: 0 for IPv6 /128, else for ever."""
    use_vmac: bool = False
    track_group: str = ""

    @property
    def family(self) -> int:
        return self.address.version

    def __str__(self) -> str:
        return f"{self.address}/{self.prefixlen}" + (f" dev {self.dev}" if self.dev else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Encap:
    """Lightweight tunnel of a route or next hop. `kind` is ip, ip6, mpls or ila."""

    kind: str
    id: int | None = None
    dst: IPAddress | None = None
    src: IPAddress | None = None
    tos: int | None = None
    """tos (ip) or tc (ip6)."""
    ttl: int | None = None
    """ttl (ip) or hoplimit (ip6)."""
    flags: int | None = None
    labels: tuple[int, ...] = ()
    """MPLS label stack."""
    locator: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NextHop:
    """One next hop of a multipath route."""

    via: IPAddress | None = None
    dev: str = ""
    weight: int = 1
    onlink: bool = False
    encap: Encap | None = None
    realms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One line of virtual_routes or static_routes.

    `metrics` holds (name, value, locked) with names mtu hoplimit advmss rtt rttvar reordering window cwnd ssthresh
    rto_min initcwnd initrwnd features quickack congctl fastopen_no_cookie; rtt in 1/8 ms, rttvar in 1/4 ms, rto_min
    in ms; congctl's value is in `congctl`.
    """

    family: int
    destination: IPAddress | None
    """None: default."""
    prefixlen: int = 0
    type: int = 1
    """RTN_*; 1 is unicast."""
    source: IPAddress | None = None
    source_prefixlen: int = 0
    prefsrc: IPAddress | None = None
    via: IPAddress | None = None
    dev: str = ""
    tos: int = 0
    table: int = 254
    protocol: int = 18
    scope: int | None = None
    """None: global, but host for local routes and link for broadcast and multicast ones, as the kernel asks."""
    metric: int | None = None
    onlink: bool = False
    encap: Encap | None = None
    expires: int | None = None
    metrics: tuple[tuple[str, int, bool], ...] = ()
    congctl: str = ""
    congctl_lock: bool = False
    realms: int | None = None
    pref: int | None = None
    ttl_propagate: bool | None = None
    create: str = "prepend"
    """add, prepend or append."""
    nexthops: tuple[NextHop, ...] = ()
    vrf: str = ""
    no_track: bool = False
    track_group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One line of virtual_rules or static_rules.

    `action` is FR_ACT_*: 1 to table, 2 goto, 3 nop, 6 blackhole, 7 unreachable, 8 prohibit.
    """

    family: int
    preference: int
    action: int = 1
    table: int = 0
    goto: int = 0
    l3mdev: bool = False
    invert: bool = False
    source: IPAddress | None = None
    source_prefixlen: int = 0
    destination: IPAddress | None = None
    destination_prefixlen: int = 0
    tos: int = 0
    fwmark: int | None = None
    fwmask: int | None = None
    realms: int | None = None
    suppress_prefixlength: int | None = None
    suppress_ifgroup: int | None = None
    iif: str = ""
    oif: str = ""
    tunnel_id: int | None = None
    uidrange: tuple[int, int] | None = None
    protocol: int = 18
    ipproto: int | None = None
    sport: tuple[int, int] | None = None
    dport: tuple[int, int] | None = None
    no_track: bool = False
    track_group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VmacSpec:
    """use_vmac or use_ipvlan of an instance (vrrp-behaviour.md 13)."""

    kind: str = "macvlan"
    """macvlan or ipvlan."""
    name: str = ""
    """"": PREFIX.VRID, made unique."""
    mac: MacAddress | None = None
    """None: the virtual router's of RFC 9568 7.3."""
    netlink_notify_msg: bool = False
    group: int | None = None
    xmit_base: bool = False
    ipvlan_mode: str = "bridge"
    ipvlan_address: IPAddress | None = None
    ipvlan_prefixlen: int = 32

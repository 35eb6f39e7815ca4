"""VRRP instances, sync groups and what they track. Everything inherited is already in place: a worker never asks
global_defs for a default of an instance."""

from __future__ import annotations

from dataclasses import field

from keepalived_py.records import dataclass
from keepalived_py.values import OWNER, Centiseconds, IPAddress, IPv4Address, VirtualRouterKey

from .common import Script
from .links import Address, Route, Rule, VmacSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class GarpSettings:
    """Announcements of one instance (vrrp-behaviour.md 10); durations in seconds, 0 is never."""

    master_delay: float = 5.0
    master_repeat: int = 5
    master_refresh: float = 0.0
    master_refresh_repeat: int = 1
    lower_prio_delay: float = 5.0
    lower_prio_repeat: int = 5
    extra_if: float = 0.0
    extra_if_all: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Authentication:
    """VRRPv2 authentication (RFC 2338). `auth_type` is pass or ah; `password` at most 8 bytes, not padded."""

    auth_type: str
    password: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class HmacKey:
    id: int
    secret: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthHmac:
    """The HMAC-SHA-256 trailer (vrrp-behaviour.md 4.3). `time_window` in seconds."""

    keys: tuple[HmacKey, ...]
    active_key: int
    time_window: int
    anti_replay: str = "time"
    """time or monotonic."""
    mode: str = "enforce"
    """enforce, permissive or receive-only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnicastPeer:
    address: IPAddress
    min_ttl: int = 0
    max_ttl: int = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One entry of a track_* block: final weight and direction (vrrp-behaviour.md 6). Weight 0 means FAULT when bad.

    `kind` is interface, script, file, process, bfd or virtual_server.
    """

    kind: str
    name: str
    weight: int = 0
    reverse: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyScripts:
    """Scripts of an instance or a sync group."""

    master: Script | None = None
    backup: Script | None = None
    fault: Script | None = None
    stop: Script | None = None
    deleted: Script | None = None
    any: Script | None = None
    """`notify`: called with four more arguments."""
    master_rx_lower_pri: Script | None = None
    report_deleted: bool = False
    """notify_deleted was given: removal is DELETED, not FAULT."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VrrpInstance:
    """One virtual router as configured, after inheritance and correction."""

    name: str
    interface: str
    family: int
    vrid: int
    version: int = 2
    wants_master: bool = False
    """`state MASTER`."""
    priority: int = 100
    advert_int: Centiseconds = Centiseconds(100)
    preempt: bool = True
    preempt_delay: float = 0.0
    strict: bool = False
    accept: bool = True
    down_timer_adverts: int = 3
    lower_prio_no_advert: bool = False
    higher_prio_send_advert: bool = False
    owner_ignore_adverts: bool = False
    skip_check_adv_addr: bool = False
    timer_expired_backup: int = 0
    """0: off; else the highest priority of another router."""
    v3_checksum_as_v2: bool = False
    old_unicast_checksum: bool | None = None
    """True: use the old form; False: never; None: follow what is heard."""
    strict_address_list: bool = False

    # path of the adverts
    unicast_peers: tuple[UnicastPeer, ...] = ()
    unicast: bool = False
    unicast_fault_no_peer: bool = False
    """Configured as unicast, without peers, and to stay in FAULT because of it."""
    check_unicast_src: bool = False
    unicast_ttl: int | None = None
    """None: 255 for IPv4, the kernel's for IPv6."""
    source: IPAddress | None = None
    """mcast_src_ip / unicast_src_ip."""
    track_src_ip: bool = False
    mcast_group: IPAddress | None = None
    """Where multicast adverts go; filled in unless unicast."""
    old_checksum_group: IPv4Address = IPv4Address("224.0.0.18")
    """vrrp_mcast_group4: the destination that the old checksum of unicast adverts is made with."""
    vrf: str = ""
    vmac: VmacSpec | None = None
    vmac_addr: bool = False
    """use_vmac_addr."""
    ordinal: int = 0
    """Among unicast instances that share VRID, interface and source and differ in their peers."""
    rx_buf_size: int = 0

    # what it owns
    addresses: tuple[Address, ...] = ()
    excluded: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    rules: tuple[Rule, ...] = ()
    no_virtual_ipaddress: bool = False
    promote_secondaries: bool = False

    # tracking and telling
    dont_track_primary: bool = False
    tracks: tuple[Track, ...] = ()
    linkbeat_use_polling: bool = False
    garp: GarpSettings = field(default_factory=GarpSettings)
    notify: NotifyScripts = field(default_factory=NotifyScripts)
    smtp_alert: bool = False
    notify_priority_changes: bool = False
    authentication: Authentication | None = None
    auth_hmac: AuthHmac | None = None
    config_fault: str = ""
    """A fault of the configuration that is not fatal: the instance stays in FAULT and this says why."""
    debug: int = 0

    @property
    def is_owner(self) -> bool:
        return self.priority == OWNER

    @property
    def key(self) -> VirtualRouterKey:
        """Identity across a reload (vrrp-behaviour.md 15); the name is no part of it."""
        if self.unicast:
            route = f"unicast {self.source or ''}" + (f" {self.ordinal}" if self.ordinal else "")
        else:
            flags = ("+vmac" if self.vmac else "") + ("+vmac_addr" if self.vmac_addr else "")
            route = f"{self.mcast_group or ''}{flags}"
        return VirtualRouterKey(self.interface, self.family, self.vrid, route)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncGroup:
    """vrrp_sync_group; `members` are instance names that exist."""

    name: str
    members: tuple[str, ...]
    tracks: tuple[Track, ...] = ()
    sync_group_tracking_weight: bool = False
    notify: NotifyScripts = field(default_factory=NotifyScripts)
    smtp_alert: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VrrpScript:
    """vrrp_script; seconds."""

    name: str
    script: Script
    interval: float = 1.0
    timeout: float = 1.0
    weight: int = 0
    reverse: bool = False
    rise: int = 1
    fall: int = 1
    init_fail: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackProcess:
    """vrrp_track_process; delays in seconds."""

    name: str
    command: tuple[str, ...]
    param_match: str = ""
    """"": name only; exact, initial or partial."""
    full_command: bool = False
    weight: int = 0
    reverse: bool = False
    quorum: int = 1
    quorum_max: int | None = None
    fork_delay: float = 0.0
    terminate_delay: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackFile:
    """track_file."""

    name: str
    file: str
    weight: int = 1
    reverse: bool = False
    init_value: int | None = None
    """None: not created."""
    init_overwrite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GarpGroup:
    """garp_group: gaps in seconds shared by the interfaces; None: unset."""

    interfaces: tuple[str, ...]
    garp_interval: float | None = None
    gna_interval: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceDelay:
    """interface_up_down_delays; seconds."""

    interface: str
    down: float
    up: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkbeatInterface:
    """linkbeat_interfaces; `method` is "", MII, ETHTOOL or IOCTL."""

    interface: str
    method: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackGroup:
    """track_group; `members` are instance names."""

    name: str
    members: tuple[str, ...]

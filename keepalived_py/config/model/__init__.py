"""The finished configuration: frozen, whole, free of defaults still to be looked up.

`Config` is what loading a file gives. `VrrpSlice` and `CheckerSlice` are the parts that the workers get.
"""

from __future__ import annotations

from dataclasses import field

from keepalived_py.records import dataclass

from .bfd import BfdInstance
from .check import (
    MOST_SERVICES,
    BfdCheck,
    Check,
    CheckTiming,
    DnsCheck,
    Endpoint,
    FileCheck,
    Forwarding,
    GroupRange,
    GrpcCheck,
    HttpCheck,
    HttpUrl,
    MiscCheck,
    PingCheck,
    RealServer,
    SmtpCheck,
    SorryServer,
    SslSettings,
    TcpCheck,
    TlsSettings,
    UdpCheck,
    VirtualServer,
    VirtualServerGroup,
)
from .common import Fifo, ProcessTuning, Script
from .globals import (
    BufferSettings,
    FirewallSettings,
    GarpDefaults,
    GlobalDefs,
    IpvsSettings,
    MailSettings,
    ReloadSettings,
    RootSettings,
    SnmpDbusSettings,
    SyncDaemon,
)
from .links import FOREVER, Address, Encap, NextHop, Route, Rule, VmacSpec
from .vrrp import (
    Authentication,
    AuthHmac,
    GarpGroup,
    GarpSettings,
    HmacKey,
    InterfaceDelay,
    LinkbeatInterface,
    NotifyScripts,
    SyncGroup,
    Track,
    TrackFile,
    TrackGroup,
    TrackProcess,
    UnicastPeer,
    VrrpInstance,
    VrrpScript,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VrrpConfig:
    """All that only the VRRP worker needs, in the order of the file."""

    instances: tuple[VrrpInstance, ...] = ()
    sync_groups: tuple[SyncGroup, ...] = ()
    scripts: tuple[VrrpScript, ...] = ()
    processes: tuple[TrackProcess, ...] = ()
    garp_groups: tuple[GarpGroup, ...] = ()
    interface_delays: tuple[InterfaceDelay, ...] = ()
    linkbeat_interfaces: tuple[LinkbeatInterface, ...] = ()
    track_groups: tuple[TrackGroup, ...] = ()
    static_addresses: tuple[Address, ...] = ()
    static_routes: tuple[Route, ...] = ()
    static_rules: tuple[Rule, ...] = ()

    @property
    def has_work(self) -> bool:
        """Whether a VRRP worker is needed (config-language.md 1)."""
        return bool(self.instances or self.static_addresses or self.static_routes or self.static_rules)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckerConfig:
    """All that only the checker worker needs, in the order of the file."""

    virtual_servers: tuple[VirtualServer, ...] = ()
    groups: tuple[VirtualServerGroup, ...] = ()
    ssl: SslSettings | None = None

    @property
    def has_work(self) -> bool:
        return bool(self.virtual_servers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One whole configuration."""

    global_defs: GlobalDefs = field(default_factory=GlobalDefs)
    vrrp: VrrpConfig = field(default_factory=VrrpConfig)
    checker: CheckerConfig = field(default_factory=CheckerConfig)
    track_files: tuple[TrackFile, ...] = ()
    bfd_instances: tuple[BfdInstance, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VrrpSlice:
    """What the VRRP worker gets."""

    global_defs: GlobalDefs = field(default_factory=GlobalDefs)
    vrrp: VrrpConfig = field(default_factory=VrrpConfig)
    track_files: tuple[TrackFile, ...] = ()
    bfd_instances: tuple[BfdInstance, ...] = ()
    runs_notify_fifo_script: bool = True
    """The checker runs the global notify_fifo_script where both run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckerSlice:
    """What the checker worker gets."""

    global_defs: GlobalDefs = field(default_factory=GlobalDefs)
    checker: CheckerConfig = field(default_factory=CheckerConfig)
    track_files: tuple[TrackFile, ...] = ()
    bfd_instances: tuple[BfdInstance, ...] = ()


__all__ = [
    "FOREVER",
    "MOST_SERVICES",
    "Address",
    "AuthHmac",
    "Authentication",
    "BfdCheck",
    "BfdInstance",
    "BufferSettings",
    "Check",
    "CheckTiming",
    "CheckerConfig",
    "CheckerSlice",
    "Config",
    "DnsCheck",
    "Encap",
    "Endpoint",
    "Fifo",
    "FileCheck",
    "FirewallSettings",
    "Forwarding",
    "GarpDefaults",
    "GarpGroup",
    "GarpSettings",
    "GlobalDefs",
    "GroupRange",
    "GrpcCheck",
    "HmacKey",
    "HttpCheck",
    "HttpUrl",
    "InterfaceDelay",
    "IpvsSettings",
    "LinkbeatInterface",
    "MailSettings",
    "MiscCheck",
    "NextHop",
    "NotifyScripts",
    "PingCheck",
    "ProcessTuning",
    "RealServer",
    "ReloadSettings",
    "RootSettings",
    "Route",
    "Rule",
    "Script",
    "SmtpCheck",
    "SnmpDbusSettings",
    "SorryServer",
    "SslSettings",
    "SyncDaemon",
    "SyncGroup",
    "TcpCheck",
    "TlsSettings",
    "Track",
    "TrackFile",
    "TrackGroup",
    "TrackProcess",
    "UdpCheck",
    "UnicastPeer",
    "VirtualServer",
    "VirtualServerGroup",
    "VmacSpec",
    "VrrpConfig",
    "VrrpInstance",
    "VrrpScript",
    "VrrpSlice",
]

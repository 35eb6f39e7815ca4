"""Virtual servers, real servers and their checkers (checker-behaviour.md). Seconds; everything inherited is in place.

Equal checkers of different real servers are equal objects but for their target, so that big configurations stay small.
"""

from __future__ import annotations

from dataclasses import field

from keepalived_py.records import dataclass
from keepalived_py.values import IPAddress, Protocol, RealKey, ServiceKey

from .common import Script

MOST_SERVICES = 1 << 20
"""Of one group: a service takes half a kilobyte in the kernel, and more here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarding:
    """lvs_method: NAT, DR or TUN. `tunnel_type` ipip, gue or gre; `tunnel_csum` nocsum, csum or remcsum."""

    method: str = "NAT"
    tunnel_type: str = "ipip"
    tunnel_port: int = 0
    tunnel_csum: str = "nocsum"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckTiming:
    """When and how often a checker runs; seconds. Shared by all checkers that agree."""

    delay_loop: float = 60.0
    warmup: float = 60.0
    retry: int = 1
    """Further tries after the first failure. `fall` of ours is retry + 1."""
    delay_before_retry: float = 1.0
    connect_timeout: float = 5.0
    alpha: bool = False
    log_all_failures: bool = False
    rise: int = 1
    """Ours: successes in a row that bring a failed checker up."""
    share: bool = True
    """Ours: equal checks may be made once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a network checker connects to and from."""

    address: IPAddress
    port: int
    bindto: IPAddress | None = None
    bind_port: int = 0
    bind_if: str = ""
    fwmark: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpCheck:
    timing: CheckTiming
    endpoint: Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class PingCheck:
    timing: CheckTiming
    endpoint: Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class UdpCheck:
    """`payload` None: the default filler. `reply` None: any; `reply_mask` has a zero nibble where `reply` is wild."""

    timing: CheckTiming
    endpoint: Endpoint
    payload: bytes | None = None
    require_reply: bool = False
    reply: bytes | None = None
    reply_mask: bytes | None = None
    min_reply_length: int = 0
    max_reply_length: int = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpCheck:
    timing: CheckTiming
    endpoint: Endpoint
    helo_name: str = "smtpchecker.keepalived.org"


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsCheck:
    timing: CheckTiming
    endpoint: Endpoint
    type: str = "SOA"
    name: str = "."


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpUrl:
    """One url block. `statuses` are inclusive ranges."""

    path: str
    virtualhost: str = ""
    """Host header as it is sent; "": address:port."""
    digest: str = ""
    statuses: tuple[tuple[int, int], ...] = ((200, 299),)
    regex: str = ""
    regex_no_match: bool = False
    regex_options: tuple[str, ...] = ()
    regex_min_offset: int = 0
    regex_max_offset: int | None = None
    regex_stack: tuple[int, int] | None = None
    tls_compliant: bool = False
    # ours
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """How SSL_GET speaks TLS. `verify`, `ca`, `expected_name`, `warn_days` are ours."""

    sni: bool = False
    sni_name: str = ""
    verify: bool = False
    ca: str = ""
    expected_name: str = ""
    warn_days: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCheck:
    """HTTP_GET, or SSL_GET when `tls` is set."""

    timing: CheckTiming
    endpoint: Endpoint
    urls: tuple[HttpUrl, ...]
    tls: TlsSettings | None = None
    http_protocol: str = "1.0"
    """1.0, 1.0C or 1.1."""
    fast_recovery: bool = False
    # ours
    keep_alive: bool = False
    auth_file: str = ""
    """File holding `user:password`, or a bearer token when auth_kind is bearer."""
    auth_kind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcCheck:
    """Ours: grpc.health.v1.Health/Check of `service`."""

    timing: CheckTiming
    endpoint: Endpoint
    service: str = ""
    tls: TlsSettings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MiscCheck:
    timing: CheckTiming
    script: Script
    timeout: float
    dynamic: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCheck:
    timing: CheckTiming
    track_file: str
    weight: int = 1
    reverse: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BfdCheck:
    timing: CheckTiming
    name: str


Check = (
    TcpCheck | PingCheck | UdpCheck | SmtpCheck | DnsCheck | HttpCheck | GrpcCheck | MiscCheck | FileCheck | BfdCheck
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RealServer:
    address: IPAddress
    port: int
    weight: int = 1
    forwarding: Forwarding = field(default_factory=Forwarding)
    uthreshold: int = 0
    lthreshold: int = 0
    inhibit_on_failure: bool = False
    notify_up: Script | None = None
    notify_down: Script | None = None
    smtp_alert: bool = True
    virtualhost: str = ""
    snmp_name: str = ""
    checks: tuple[Check, ...] = ()

    @property
    def key(self) -> RealKey:
        return RealKey(self.address, self.port)


@dataclass(frozen=True, slots=True, kw_only=True)
class SorryServer:
    address: IPAddress
    port: int
    inhibit: bool = False
    forwarding: Forwarding = field(default_factory=Forwarding)

    @property
    def key(self) -> RealKey:
        return RealKey(self.address, self.port)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRange:
    """Addresses `first` to `last`, each a service of its own; or one firewall mark when `first` is None."""

    first: IPAddress | None = None
    last: IPAddress | None = None
    port: int = 0
    fwmark: int = 0
    family: int = 0
    """Of a firewall mark: 4, 6 or 0 for that of the real servers."""

    @property
    def size(self) -> int:
        """How many services it is."""
        return 1 if self.first is None or self.last is None else int(self.last) - int(self.first) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualServerGroup:
    name: str
    entries: tuple[GroupRange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualServer:
    key: ServiceKey
    """Protocol, address and port, mark or group; `key.family` is set for all kinds (0: mixed group)."""
    group_entries: tuple[GroupRange, ...] = ()
    """What its virtual_server_group stands for."""
    scheduler: str = "wlc"
    flags: tuple[str, ...] = ()
    """flag-1..3 and ops; sh-port, mh-fallback and the like are already flag-1 or flag-2."""
    persistence_timeout: int = 0
    """Seconds; 0: not persistent."""
    persistence_granularity: int | None = None
    """IPv4: the mask as a number in host order; IPv6: prefix length; None: whole address."""
    persistence_engine: str = ""
    forwarding: Forwarding = field(default_factory=Forwarding)
    """Default of its real servers; they carry their own."""
    quorum: int = 1
    hysteresis: int = 0
    quorum_up: Script | None = None
    quorum_down: Script | None = None
    alpha: bool = False
    omega: bool = False
    ha_suspend: bool = False
    smtp_alert: bool = False
    virtualhost: str = ""
    snmp_name: str = ""
    sorry_server: SorryServer | None = None
    real_servers: tuple[RealServer, ...] = ()

    @property
    def protocol(self) -> Protocol:
        return self.key.protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class SslSettings:
    """The SSL block: client material of SSL_GET."""

    password: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""

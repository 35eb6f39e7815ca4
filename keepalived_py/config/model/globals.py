"""global_defs and the root-level scalars (keywords.tsv, blocks `(root)` and `global_defs`).

Defaults here are keepalived's. Values that other blocks inherit (vrrp_garp_master_delay and the like) are kept for
dumps; the objects that inherit carry their final value themselves.
"""

from __future__ import annotations

from dataclasses import field
from ipaddress import IPv4Address, IPv6Address

from keepalived_py.records import dataclass
from keepalived_py.values import IPAddress

from .common import Fifo, ProcessTuning, Script


@dataclass(frozen=True, slots=True, kw_only=True)
class MailSettings:
    """Who gets alert mail and how (checker-behaviour.md 9). `smtp_tls`, `smtp_user`, `smtp_password_file` are ours."""

    router_id: str = ""
    notification_email: tuple[str, ...] = ()
    notification_email_from: str = ""
    smtp_server: str = ""
    smtp_port: int = 25
    smtp_helo_name: str = ""
    smtp_connect_timeout: int = 30
    smtp_tls: str = "none"
    """none, starttls or tls."""
    smtp_user: str = ""
    smtp_password_file: str = ""
    no_email_faults: bool = False
    no_checker_emails: bool = False
    smtp_alert: bool | None = None
    smtp_alert_vrrp: bool | None = None
    smtp_alert_checker: bool | None = None

    @property
    def is_complete(self) -> bool:
        """Whether there is a server, and somebody to write to."""
        return bool(self.smtp_server and self.notification_email)


@dataclass(frozen=True, slots=True, kw_only=True)
class GarpDefaults:
    """The vrrp_garp_* and vrrp_gna_* keywords; durations in seconds."""

    master_delay: float = 5.0
    master_repeat: int = 5
    master_refresh: float = 0.0
    master_refresh_repeat: int = 1
    lower_prio_delay: float | None = None
    lower_prio_repeat: int | None = None
    interval: float = 0.0
    gna_interval: float = 0.0
    min_garp: bool = False
    extra_if: float = 0.0
    extra_if_all: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncDaemon:
    """lvs_sync_daemon (vrrp-behaviour.md 17). `instance` "" runs master and backup in the checker process."""

    interface: str
    instance: str = ""
    syncid: int | None = None
    """None: the instance's VRID, or 0 without an instance."""
    maxlen: int = 0
    port: int = 0
    ttl: int = 0
    group: IPAddress | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FirewallSettings:
    """Back end for accept mode and VMAC filters (vrrp-behaviour.md 12)."""

    iptables: bool = False
    iptables_in: str = "INPUT"
    iptables_out: str = "OUTPUT"
    ipsets: bool = True
    ipset_names: tuple[str, ...] = ()
    nftables: bool = False
    nftables_table: str = "keepalived"
    nftables_priority: int = -1
    nftables_ifindex: bool = False
    nftables_counters: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class IpvsSettings:
    """Settings of the IPVS tables as a whole. Timeouts in seconds, 0 leaves the kernel's."""

    timeout_tcp: int = 0
    timeout_tcpfin: int = 0
    timeout_udp: int = 0
    flush: bool = False
    flush_on_stop: str = "no"
    """no, all or vs."""
    nftables_table: str = ""
    """Name of the nftables_ipvs table, "" when off."""
    nftables_priority: int = -1
    nftables_start_fwmark: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadSettings:
    """config-language.md 10."""

    check_config: str | None = None
    """Log file of the validating run; None: off."""
    time_file: str = ""
    repeat: bool = False
    file: str | None = None
    """None: off; "": the default path."""
    config_save_dir: str = ""
    tmp_config_directory: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnmpDbusSettings:
    """Switches of the SNMP and D-Bus parts. Intervals in seconds."""

    snmp_socket: str = ""
    enable_traps: bool = False
    enable_snmp_vrrp: bool = False
    enable_snmp_checker: bool = False
    enable_snmp_rfcv2: bool = False
    enable_snmp_rfcv3: bool = False
    vs_stats_update_interval: float = 5.0
    rs_stats_update_interval: float = 5.0
    enable_dbus: bool = False
    dbus_service_name: str = "org.keepalived.Vrrp1"
    dbus_no_interface_name: str = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferSettings:
    """Socket receive buffers in bytes; 0 leaves the kernel's default."""

    vrrp_netlink_cmd: int = 0
    vrrp_netlink_cmd_force: bool = False
    vrrp_netlink_monitor: int = 0
    vrrp_netlink_monitor_force: bool = False
    lvs_netlink_cmd: int = 0
    lvs_netlink_cmd_force: bool = False
    lvs_netlink_monitor: int = 0
    lvs_netlink_monitor_force: bool = False
    process_monitor: int = 0
    process_monitor_force: bool = False
    vrrp_rx_policy: str = ""
    """"", MTU, ADVERT or a number of bytes."""
    vrrp_rx_multiplier: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RootSettings:
    """Root-level scalars that act before the children (config-language.md 9)."""

    net_namespace: str = ""
    net_namespace_ipvs: str | None = None
    """None: that of the daemon; "": the initial namespace."""
    namespace_with_ipsets: bool = False
    instance: str = ""
    use_pid_dir: bool = False
    child_wait_time: int = 5
    linkbeat_use_polling: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalDefs:
    """Everything of global_defs, and the root scalars."""

    root: RootSettings = field(default_factory=RootSettings)
    mail: MailSettings = field(default_factory=MailSettings)
    garp: GarpDefaults = field(default_factory=GarpDefaults)
    firewall: FirewallSettings = field(default_factory=FirewallSettings)
    ipvs: IpvsSettings = field(default_factory=IpvsSettings)
    reload: ReloadSettings = field(default_factory=ReloadSettings)
    snmp_dbus: SnmpDbusSettings = field(default_factory=SnmpDbusSettings)
    buffers: BufferSettings = field(default_factory=BufferSettings)

    # processes
    process_names: bool = False
    parent_process_name: str = ""
    vrrp_process: ProcessTuning = field(default_factory=ProcessTuning)
    checker_process: ProcessTuning = field(default_factory=ProcessTuning)
    bfd_process: ProcessTuning = field(default_factory=ProcessTuning)
    max_auto_priority: int = 0
    min_auto_priority_delay: int = 1000000
    """Microseconds."""
    umask: int = 0o177
    random_seed: int | None = None
    data_use_instance: bool = False
    state_dump_file: str = ""
    stats_dump_file: str = ""
    json_dump_file: str = ""
    json_version: int = 1
    iproute_usr_dir: str = ""
    iproute_etc_dir: str = ""

    # scripts and FIFOs
    script_user: Script | None = None
    """Only its identity fields count."""
    enable_script_security: bool = False
    use_symlink_paths: bool = False
    set_supplementary_groups: bool = False
    startup_script: Script | None = None
    startup_script_timeout: int = 10
    shutdown_script: Script | None = None
    shutdown_script_timeout: int = 10
    notify_fifo: Fifo | None = None
    vrrp_notify_fifo: Fifo | None = None
    lvs_notify_fifo: Fifo | None = None
    vrrp_notify_priority_changes: bool = False
    fifo_write_vrrp_states_on_reload: bool = False

    # VRRP
    vrrp_version: int = 2
    vrrp_strict: bool = False
    mcast_group4: IPv4Address = IPv4Address("224.0.0.18")
    mcast_group6: IPv6Address = IPv6Address("ff02::12")
    down_timer_adverts: int = 3
    lower_prio_no_advert: bool | None = None
    higher_prio_send_advert: bool | None = None
    owner_ignore_adverts: bool | None = None
    v3_checksum_as_v2: bool = False
    check_unicast_src: bool = False
    skip_check_adv_addr: bool = False
    startup_delay: float = 0.0
    delay_after_boot: float = 0.0
    log_unknown_vrids: bool = False
    vmac_prefix: str = "vrrp"
    vmac_addr_prefix: str = ""
    dynamic_interfaces: str = "no"
    """no, yes or allow_if_changes."""
    default_interface: str = "eth0"
    disable_local_igmp: bool = False
    lvs_sync_daemon: SyncDaemon | None = None

    # checker
    checker_log_all_failures: bool = False
    rs_init_notifies: bool = False

    # ours
    strict_address_list: bool = False
    """vrrp_strict_address_list: an advert with another address list is rejected, not only logged."""
    hand_over: str = "auto"
    """vrrp_hand_over: whether a master that is stopped keeps its addresses until another router has them."""
    restore_lost: int = 5
    """vrrp_restore_lost N: losses in a row that are put back before keepalived's behaviour; 0: from the first."""
    script_time_limit: float = 60.0
    """notify_script_timeout: seconds a notify script may run."""
    log_json: bool = False
    """log_format json."""
    restart_stalled: float = 0.0
    """Seconds without a word after which a worker is killed and started again; 0: never."""
    checker_share_probes: bool = True
    """checker_share_probes: equal checks are made once and their result shared."""

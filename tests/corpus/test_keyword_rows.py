"""Every row of the reference's table of keywords: accepted with legal arguments, refused with illegal ones."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import pytest

from keepalived_py.config.load import LoadOptions, load
from keepalived_py.config.problems import Severity
from tests.conftest import SHARED

TABLE = SHARED / "reference" / "keywords.tsv"


@dataclass(frozen=True)
class Row:
    block: str
    keyword: str
    arguments: str
    alias_of: str

    def __str__(self) -> str:
        return f"{self.block}/{self.keyword}"


def rows() -> list[Row]:
    if not TABLE.is_file():
        return []
    with open(TABLE, newline="") as lines:
        found = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [
            Row(row["block_path"], row["keyword"], row["arguments"], row["deprecated_alias_of"])
            for row in found
            if row["block_path"] != "(preprocessor)"
        ]


# where a statement stands -------------------------------------------------------------------------------------------

HOLE = "@@"


def fill(template: str, text: str) -> str:
    return template.replace(HOLE, text)


DEFINITIONS = """
global_defs {
    script_user nobody
}
vrrp_script S {
    script /bin/true
}
track_file F {
    file /run/f
}
vrrp_track_process P {
    process p
}
bfd_instance B {
    neighbor_ip 192.0.2.9
}
track_group T {
    group {
        I
    }
}
@@
vrrp_instance I {
    interface eth0
    virtual_router_id 1
    virtual_ipaddress {
        192.0.2.1
    }
}
vrrp_instance J {
    interface eth0
    virtual_router_id 2
    virtual_ipaddress {
        192.0.2.2
    }
}
"""
INSTANCE = """
vrrp_instance X {
    interface eth1
    virtual_router_id 7
    state BACKUP
    virtual_ipaddress {
        192.0.2.7
    }
    @@
}
"""
SERVER = """
virtual_server 192.0.2.80 80 {
    protocol UDP
    lvs_sched rr
    lvs_method NAT
    @@
    real_server 192.0.2.81 80 {
        TCP_CHECK {
        }
    }
}
"""
REAL = """
virtual_server 192.0.2.80 80 {
    protocol TCP
    lvs_sched rr
    lvs_method NAT
    real_server 192.0.2.81 80 {
        @@
    }
}
"""
GROUP = "vrrp_sync_group G {\ngroup {\nI J\n}\n@@\n}"
TRACKED = (("interface", "eth5"), ("script", "S"), ("file", "F"), ("process", "P"), ("bfd", "B"))
ROUTE, RULE = "192.0.2.0/24 dev eth0 @@", "from 192.0.2.0/24 preference 100 @@"
KEY = "0123456789012345678901234567890123456789"


def block(name: str, *lines: str) -> str:
    """A block with these lines and a hole."""
    return "\n".join((f"{name} {{", *lines, HOLE, "}"))


def of_instance(name: str, *lines: str) -> str:
    return fill(INSTANCE, block(name, *lines))


def checker(name: str, *lines: str) -> str:
    return fill(REAL, block(name, *lines))


WRAP = {
    "(root)": HOLE,
    **{name: block(name) for name in ("global_defs", "SSL", "linkbeat_interfaces", "interface_up_down_delays")},
    "track_group": block("track_group G"),
    "vrrp_sync_group": GROUP,
    "garp_group": block("garp_group", "garp_interval 1", "interface eth0"),
    "vrrp_instance": INSTANCE,
    "vrrp_instance/authentication": of_instance("authentication", "auth_type PASS", "auth_pass x"),
    "vrrp_instance/auth_hmac": of_instance("auth_hmac", f"key 1 {KEY}", "active_key 1"),
    "vrrp_instance/unicast_peer": of_instance("unicast_peer"),
    "vrrp_script": block("vrrp_script X", "script /bin/true"),
    "vrrp_track_process": block("vrrp_track_process X", "process x"),
    "bfd_instance": block("bfd_instance X", "neighbor_ip 192.0.2.10"),
    "track_file": block("track_file X", "file /run/x"),
    "vrrp_track_file": block("vrrp_track_file X", "file /run/x"),
    "virtual_server": SERVER,
    "virtual_server_group": block("virtual_server_group G"),
    "virtual_server/real_server": REAL,
    **{
        f"virtual_server/real_server/{name}": checker(name, *lines)
        for name, lines in {
            "TCP_CHECK": (),
            "PING_CHECK": (),
            "UDP_CHECK": (),
            "DNS_CHECK": (),
            "SMTP_CHECK": (),
            "MISC_CHECK": ("misc_path /bin/true",),
            "HTTP_GET": ("url {", "path /", "}"),
            "SSL_GET": ("url {", "path /", "}"),
            "FILE_CHECK": ("track_file F",),
            "BFD_CHECK": ("name B",),
        }.items()
    },
    **{
        f"virtual_server/real_server/{name}/url": fill(checker(name), block("url", "path /x"))
        for name in ("HTTP_GET", "SSL_GET")
    },
    "virtual_server/real_server/SMTP_CHECK/host": fill(checker("SMTP_CHECK"), block("host")),
    **{
        f"{holder}/track_{kind}": fill(outer, f"track_{kind} {{\n{name} @@\n}}")
        for holder, outer in (("vrrp_instance", INSTANCE), ("vrrp_sync_group", GROUP))
        for kind, name in TRACKED
    },
}

# what is written ----------------------------------------------------------------------------------------------------

LEGAL: dict[str, list[str]] = {
    "(none)": [""],
    "(none; after weight N)": [""],
    "N": ["1"],
    "ID": ["1"],
    "SECS": ["1"],
    "MS": ["1000"],
    "USECS": ["2"],
    "BYTES": ["1", "4294967295"],
    "[BOOL]": ["", "on", "true", "yes", "off", "false", "no"],
    "IFNAME": ["eth3"],
    "NAME": ["x"],
    "[NAME]": ["", "x"],
    "STRING": ["x"],
    "LABEL": ["eth0:1"],
    "ADDRESS": ["a@example.com"],
    "ADDR": ["192.0.2.44"],
    "IPADDR": ["192.0.2.44"],
    "ADDR|+|-": ["192.0.2.255"],
    "PORT": ["1", "65535"],
    "PATH": ["/run/x"],
    "[PATH]": ["", "/run/x"],
    "FILE": ["/run/x"],
    "DIR": ["/run"],
    "[LOG_FILE]": ["", "/run/x"],
    "SCRIPT": ["/bin/true", '"/bin/true a"'],
    "SCRIPT [user [[:]group]]": ["/bin/true", '"/bin/true a" nobody', "/bin/true nobody :nogroup"],
    "SCRIPT [USER [GROUP]]": ["/bin/true", '"/bin/true a" nobody nogroup'],
    "[SCRIPT [user [[:]group]]]": ["", "/bin/true"],
    "FIFO [user [group]]": ["/run/x", "/run/x nobody nogroup"],
    "USER [[:]GROUP]": ["nobody", "nobody nogroup", "nobody :nogroup", "nobody :"],
    "USER [GROUP]": ["nobody", "nobody nogroup"],
    "CPU [CPU...]": ["0"],
    "N [reverse]": ["5", "-5", "5 reverse"],
    "N [reverse|noreverse]": ["5", "-5 noreverse", "5 reverse"],
    "2|3": ["2", "3"],
    "[all] SECS": ["5", "all 5"],
    "GROUP": ["7"],
    "TABLE": ["main", "100"],
    "TOS": ["0x10"],
    "SCOPE": ["link", "253"],
    "PROTO": ["4"],
    "[FROM/]TO": ["5", "4/5"],
    "[lock] N": ["5", "lock 5"],
    "[lock] TIME": ["5", "5ms", "lock 1.5s"],
    "[lock] NAME": ["reno", "lock reno"],
    "0|1": ["0", "1"],
    "A-B": ["1-2"],
    "START MAX": ["1 2"],
    "PREFIX|all|any|default": ["all"],
}
"""Legal arguments by how the table writes them."""
SPECIAL: dict[str, list[str]] = {
    "global_defs/notification_email": ["{\na@example.com b@example.com\n}"],
    "global_defs/umask": ["022", "0x1f", "IRUSR | IWUSR", "IRWXO|IXGRP"],
    "global_defs/smtp_server": ["127.0.0.1", "127.0.0.1 587"],
    "global_defs/lvs_sync_daemon": ["eth0", "eth0 I id 5 maxlen 1 port 1 ttl 1 group 224.0.0.81", "eth0 inst I"],
    "global_defs/lvs_timeouts": ["tcp 1", "tcp 1 tcpfin 2 udp 2678400"],
    "global_defs/lvs_flush_on_stop": ["", "VS"],
    "global_defs/lvs_flush_onstop": ["", "VS"],
    "global_defs/vrrp_mcast_group4": ["224.0.0.18"],
    "global_defs/vrrp_mcast_group6": ["ff02::12"],
    "global_defs/vrrp_iptables": ["", "IN", "IN OUT"],
    "global_defs/vrrp_ipsets": ["", "a", "a b c d e f"],
    "global_defs/nftables": ["", "table"],
    "global_defs/nftables_ipvs": ["", "table"],
    "global_defs/dynamic_interfaces": ["", "allow_if_changes"],
    "global_defs/include_check": ["", "readable", "+match -wildcard_match", "read brace_match"],
    "global_defs/max_auto_priority": ["", "-1", "99"],
    "global_defs/vrrp_rx_bufs_policy": ["MTU", "advert", "NUMBER".replace("NUMBER", "4096")],
    "global_defs/json_version": ["1", "2"],
    "global_defs/v3_checksum_as_v2": [""],
    "global_defs/iproute_usr_dir": ["/usr/share/iproute2"],
    "(root)/net_namespace_ipvs": ["", "x"],
    "(root)/global_defs": ["{\n}"],
    "(root)/SSL": ["{\n}"],
    "(root)/track_group": ["G {\ngroup {\nI\n}\n}"],
    "(root)/static_ipaddress": ["{\n192.0.2.44/24 dev eth0\n}"],
    "(root)/static_routes": ["{\n192.0.2.0/24 dev eth0\n}"],
    "(root)/static_rules": ["{\nfrom 192.0.2.0/24 table 5 preference 7\n}"],
    "(root)/vrrp_sync_group": ["G {\ngroup {\nI J\n}\nsync_group_tracking_weight\n}"],
    "(root)/garp_group": ["{\ngarp_interval 1\ninterface eth0\n}"],
    "(root)/linkbeat_interfaces": ["{\neth0\neth1 MII\n}"],
    "(root)/vrrp_instance": ["N {\ninterface eth2\nvirtual_router_id 3\nvirtual_ipaddress {\n192.0.2.3\n}\n}"],
    "(root)/vrrp_script": ["N {\nscript /bin/true\n}"],
    "(root)/vrrp_track_process": ["N {\nprocess x\n}"],
    "(root)/interface_up_down_delays": ["{\neth0 1\neth1 1 0.5\n}"],
    "(root)/track_file": ["N {\nfile /run/x\n}"],
    "(root)/vrrp_track_file": ["N {\nfile /run/x\n}"],
    "(root)/virtual_server_group": ["G {\n192.0.2.5 80\n}"],
    "(root)/virtual_server": [
        f"{key} {{\nlvs_sched rr\nlvs_method NAT\n{more}real_server 192.0.2.6 80 {{\n}}\n}}"
        for key, more in (("192.0.2.5 80", "protocol TCP\n"), ("fwmark 5", ""))
    ],
    "(root)/bfd_instance": ["N {\nneighbor_ip 192.0.2.66\n}"],
    "track_group/group": ["{\nI\n}"],
    "vrrp_sync_group/group": [],
    "garp_group/interfaces": ["{\neth1 eth2\n}"],
    "vrrp_instance/use_vmac": [
        "",
        "vr7",
        "name vr7",
        "02:00:00:00:00:07",
        "02:00:00:00:07",
        "vr7 02:00:00:00:00:07 netlink_notify_msg group 5",
    ],
    "vrrp_instance/use_ipvlan": ["192.0.2.77/24", "iv7 192.0.2.77 bridge", "name iv7 192.0.2.77 private group 5"],
    "vrrp_instance/vmac_xmit_base": ["\nuse_vmac"],
    "vrrp_instance/unicast_peer": ["{\n192.0.2.50\n192.0.2.51 min_ttl 1 max_ttl 254\n}"],
    "vrrp_instance/unicast_fault_no_peer": ["\nunicast_peer {\n192.0.2.50\n}"],
    "vrrp_instance/check_unicast_src": ["\nunicast_peer {\n192.0.2.50\n}"],
    "vrrp_instance/unicast_ttl": ["64\nunicast_peer {\n192.0.2.50\n}"],
    "vrrp_instance/old_unicast_checksum": ["never\nunicast_peer {\n192.0.2.50\n}", "\nunicast_peer {\n192.0.2.50\n}"],
    "vrrp_instance/unicast_src_ip": ["192.0.2.49\nunicast_peer {\n192.0.2.50\n}"],
    "vrrp_instance/native_ipv6": [],
    "vrrp_instance/vrf": [],
    "vrrp_instance/mcast_dst_ip": ["224.0.0.19"],
    "vrrp_instance/track_src_ip": ["\nmcast_src_ip 192.0.2.49"],
    "vrrp_instance/state": ["MASTER", "BACKUP"],
    "vrrp_instance/virtual_ipaddress": ["{\n192.0.2.78\n}"],
    "vrrp_instance/virtual_ipaddress_excluded": ["{\n192.0.2.78\n2001:db8::78\n}"],
    "vrrp_instance/virtual_routes": ["{\n192.0.2.0/24 via 192.0.2.1 dev eth0\n}"],
    "vrrp_instance/virtual_rules": ["{\nfrom 192.0.2.0/24 table 5 preference 7\n}"],
    "vrrp_instance/timer_expired_backup": ["\nnopreempt", "200\nnopreempt"],
    "vrrp_instance/thread_timer_expired": ["\nnopreempt"],
    "vrrp_instance/owner_ignore_adverts": ["\npriority 255", "off"],
    "vrrp_instance/auth_hmac": ["{\nkey 1 0123456789012345678901234567890123456789\nactive_key 1\n}"],
    "vrrp_instance/authentication": ["{\nauth_type PASS\nauth_pass x\n}"],
    "vrrp_instance/lvs_sync_daemon_interface": ["eth0"],
    "vrrp_instance/garp_extra_if": ["0", "5", "all 5"],
    "vrrp_instance/authentication/auth_type": ["PASS", "AH"],
    "vrrp_instance/auth_hmac/key": ["2 hex:" + "ab" * 32, "2 " + "x" * 64],
    "vrrp_instance/auth_hmac/anti_replay": ["time", "monotonic"],
    "vrrp_instance/auth_hmac/mode": ["enforce", "permissive", "receive-only"],
    "track_file/file": [],
    "vrrp_track_file/file": [],
    "vrrp_script/script": [],
    "vrrp_track_process/process": [],
    "vrrp_track_process/param_match": ["", "initial", "partial"],
    "track_file/init_file": ["", "5", "5 overwrite", "overwrite"],
    "vrrp_track_file/init_file": ["", "5 overwrite"],
    "bfd_instance/neighbor_ip": ["192.0.2.11"],
    "bfd_instance/neighbour_ip": ["192.0.2.11"],
    "virtual_server/ip_family": ["inet"],
    "virtual_server/hysteresis": ["0"],
    "virtual_server/hashed": [],
    "virtual_server/sh-port": [],
    "virtual_server/sh-fallback": [],
    "virtual_server/mh-port": [],
    "virtual_server/mh-fallback": [],
    "virtual_server/lb_algo": [
        *["rr", "wrr", "lc", "wlc", "lblc", "sh", "mh", "dh", "fo", "ovf", "lblcr", "sed", "nq", "twos"]
    ],
    "virtual_server/lvs_sched": [
        *["rr", "wrr", "lc", "wlc", "lblc", "sh", "mh", "dh", "fo", "ovf", "lblcr", "sed", "nq", "twos"]
    ],
    **{
        f"{block}/{name}": [
            "NAT",
            "DR",
            "TUN",
            "TUN type ipip",
            "TUN type gue port 5555",
            "TUN type gre csum",
            "TUN type gue port 5555 remcsum",
        ]
        for block, name in (
            ("virtual_server", "lb_kind"),
            ("virtual_server", "lvs_method"),
            ("virtual_server/real_server", "lvs_method"),
        )
    },
    "virtual_server/persistence_timeout": ["", "1", "2678400"],
    "virtual_server/persistence_granularity": ["255.255.255.0"],
    "virtual_server/protocol": ["TCP", "udp", "Sctp"],
    "virtual_server/sorry_server": ["192.0.2.90 80", "192.0.2.90"],
    "virtual_server/sorry_server_inhibit": ["\nsorry_server 192.0.2.90 80"],
    "virtual_server/sorry_server_lvs_method": ["DR\nsorry_server 192.0.2.90 80"],
    "virtual_server/real_server": ["192.0.2.82 80 {\n}", "192.0.2.82 {\n}"],
    "virtual_server/real_server/MISC_CHECK": ["{\nmisc_path /bin/true\n}"],
    "virtual_server/real_server/FILE_CHECK": ["{\ntrack_file F\n}"],
    "virtual_server/real_server/BFD_CHECK": ["{\nname B\n}"],
    "virtual_server/real_server/HTTP_GET": ["{\nurl {\npath /\n}\n}"],
    "virtual_server/real_server/SSL_GET": ["{\nurl {\npath /\n}\n}"],
    **{
        f"virtual_server/real_server/{name}": ["{\n}"]
        for name in ("TCP_CHECK", "PING_CHECK", "UDP_CHECK", "DNS_CHECK", "SMTP_CHECK")
    },
    **{
        f"virtual_server/real_server/{name}/http_protocol": ["1.0", "1.0C", "1.0c", "1.1"]
        for name in ("HTTP_GET", "SSL_GET")
    },
    **{f"virtual_server/real_server/{name}/url": ["{\npath /x\n}"] for name in ("HTTP_GET", "SSL_GET")},
    **{
        f"virtual_server/real_server/{name}/url/{keyword}": legal
        for name in ("HTTP_GET", "SSL_GET")
        for keyword, legal in (
            ("path", ["/y", '"/y z"']),
            ("digest", ["0123456789abcdef0123456789ABCDEF"]),
            ("status_code", ["200", "200-299 404"]),
            ("regex", ['"a b"', r"'^x\.y$'"]),
            ("regex_options", ["caseless multiline"]),
            ("regex_max_offset", ["5"]),
        )
    },
    "virtual_server/real_server/UDP_CHECK/payload": ["00ff", "00 ff"],
    "virtual_server/real_server/UDP_CHECK/require_reply": ["", "00xX", "00 fX"],
    "virtual_server/real_server/DNS_CHECK/type": [
        *["A", "NS", "CNAME", "SOA", "MX", "TXT", "AAAA", "RRSIG", "DNSKEY", "a"]
    ],
    "virtual_server/real_server/DNS_CHECK/name": ["example.com", ".", "example.com."],
    "virtual_server/real_server/FILE_CHECK/track_file": ["F"],
    "virtual_server/real_server/BFD_CHECK/name": ["B"],
    "virtual_server/real_server/SMTP_CHECK/host": ["{\n}"],
    "virtual_server_group/(address)": [
        "192.0.2.5",
        "192.0.2.5 80",
        "192.0.2.5-9 80",
        "192.0.2.8/29 80",
        "2001:db8::1-f 80",
    ],
    "virtual_server_group/fwmark": ["5", "5 inet", "5 inet6"],
    "linkbeat_interfaces/(interface)": [],
    "interface_up_down_delays/(interface)": ["eth0 1", "eth0 0.5 255"],
    "vrrp_instance/unicast_peer/(address)": ["192.0.2.50"],
    "vrrp_instance/unicast_peer/min_ttl": [],
    "vrrp_instance/unicast_peer/max_ttl": [],
    **{
        f"{holder}/track_{kind}": [f"{{\n{name} weight 5\n}}"]
        for holder in ("vrrp_instance", "vrrp_sync_group")
        for kind, name in TRACKED
    },
    **{f"virtual_server/real_server/{name}/connect_ip": ["192.0.2.44", "2001:db8::1"] for name in ("TCP_CHECK",)},
}
"""Legal arguments of one row."""
WHOLE_LINES: dict[str, list[str]] = {
    "track_file/file": ["track_file X {\nfile /run/x\n}"],
    "vrrp_track_file/file": ["vrrp_track_file X {\nfile /run/x\n}"],
    "virtual_server/hashed": [fill(SERVER.replace("sched rr", "sched sh"), "hashed")],
    **{
        f"virtual_server/{name}": [fill(SERVER.replace("sched rr", f"sched {name[:2]}"), name)]
        for name in ("sh-port", "sh-fallback", "mh-port", "mh-fallback")
    },
    "vrrp_instance/vrf": [
        block("vrrp_instance X", "virtual_router_id 7", "vrf v", "unicast_src_ip 192.0.2.4", "unicast_peer {").replace(
            HOLE, "192.0.2.5\n}\nvirtual_ipaddress {\n192.0.2.7 dev eth0\n}"
        )
    ],
    "vrrp_script/script": ["vrrp_script X {\nscript /bin/true\n}", 'vrrp_script X {\nscript "/bin/true a" nobody\n}'],
    "vrrp_track_process/process": ['vrrp_track_process X {\nprocess x "a b" c\n}'],
    "vrrp_sync_group/group": ["vrrp_sync_group G {\ngroup {\nI J\n}\n}"],
    "linkbeat_interfaces/(interface)": ["linkbeat_interfaces {\neth0\n}"],
}
"""Rows that need another block than the usual one: its whole text."""
REPORTED = {
    # deprecated, so the statement itself is reported
    "vrrp_instance/thread_timer_expired",
    "vrrp_instance/linkbeat_use_polling",
    "vrrp_instance/lvs_sync_daemon_interface",
    "vrrp_instance/vmac_garp_intvl",
    "vrrp_sync_group/global_tracking",
    "global_defs/vrrp_vmac_garp_intvl",
    "global_defs/lvs_flush_onstop",
    "global_defs/enable_snmp_keepalived",
    "virtual_server/real_server/SMTP_CHECK/host",
    *(f"virtual_server/real_server/{name}/nb_get_retry" for name in ("HTTP_GET", "SSL_GET")),
}
LINE_BLOCKS = {
    "static_ipaddress",
    "static_routes",
    "static_rules",
    "vrrp_instance/virtual_ipaddress",
    "vrrp_instance/virtual_ipaddress_excluded",
    "vrrp_instance/virtual_routes",
    "vrrp_instance/virtual_rules",
    "vrrp_instance/virtual_routes/nexthop",
    "static_routes/nexthop",
}
"""Options of one line: tried word by word in the tests of addresses, routes and rules."""


def legal_texts(row: Row) -> list[str]:
    """Whole configurations in which the row's keyword is used as it may be."""
    name = str(row)
    if name in WHOLE_LINES:
        return [fill(DEFINITIONS, text) for text in WHOLE_LINES[name]]
    arguments = SPECIAL.get(name, LEGAL.get(row.arguments))
    if arguments is None:
        raise KeyError(f"{name}: nothing is known about '{row.arguments}'")
    keyword = "" if row.keyword.startswith("(") else row.keyword
    prefix = "weight 5 " if row.arguments.startswith("(none; after weight") else ""
    statements = [f"{prefix}{keyword} {text}".strip() for text in arguments]
    return [fill(DEFINITIONS, fill(WRAP[row.block], statement)) for statement in statements]


NUMBERS = ("N", "SECS", "MS", "USECS", "PORT", "BYTES", "[lock] N", "N [reverse]", "[all] SECS")
WORDLESS = ("(none)", "(none; after weight N)")
NEEDS_WORD = ("NAME", "STRING", "ADDRESS", "FILE", "DIR", "SCRIPT [user [[:]group]]", "SCRIPT [USER [GROUP]]", "SCRIPT")


def illegal_statement(row: Row) -> str | None:
    """The keyword used as it may not be; None: every use is legal."""
    keyword, arguments = row.keyword, row.arguments
    if arguments in NUMBERS:
        return f"{keyword} nonsense"
    if arguments == "[BOOL]":
        return f"{keyword} maybe"
    if arguments in WORDLESS:
        return f"{keyword} {{\n}}"
    if arguments in NEEDS_WORD or arguments == "USER [[:]GROUP]":
        return keyword
    if arguments in ("ADDR", "IPADDR"):
        return f"{keyword} 300.0.0.1"
    if arguments == "IFNAME":
        return f"{keyword} a-name-longer-than-15"
    if arguments.endswith("{ block }"):
        return f"{keyword} a b c"
    if arguments.startswith("{"):
        return f"{keyword} a {{\n}}"
    if "|" in arguments and "{" not in arguments:
        return f"{keyword} nonsense"
    return f"{keyword} {{\n}}"


ONLY_TOLD = ("regex_min_offset", "regex_max_offset")
"""What is wrong about them weighs nothing, as with keepalived."""


def problems_of(text: str, directory: Path, above: Severity = Severity.LINT) -> list[tuple[str, int, int]]:
    """Identifier, severity and line of everything that weighs something, or more than `above`."""
    path = directory / "row.conf"
    path.write_text(text)
    found = load(str(path), LoadOptions(config_id="rows")).problems
    weighty = [each for each in found if each.severity > above or each.stops]
    return [(each.id, int(each.severity), each.at.line if each.at else 0) for each in weighty]


def ids_of(rows: list[Row]) -> list[str]:
    return [str(row) for row in rows]


ROWS = rows()
KEYWORDS = [row for row in ROWS if row.block not in LINE_BLOCKS]


def test_the_table_is_read(shared: Path) -> None:
    assert len(ROWS) > 780


@pytest.mark.parametrize("row", KEYWORDS, ids=ids_of(KEYWORDS))
def test_a_row_is_accepted_with_legal_arguments(row: Row, tmp_path: Path) -> None:
    for text in legal_texts(row):
        weighty = [found for found in problems_of(text, tmp_path) if found[0] not in ("script-security",)]
        if str(row) in REPORTED or row.block.endswith("/host"):
            weighty = [found for found in weighty if found[0] != "deprecated-keyword"]
        assert weighty == [], text


@pytest.mark.parametrize("row", KEYWORDS, ids=ids_of(KEYWORDS))
def test_a_row_is_refused_with_illegal_arguments(row: Row, tmp_path: Path) -> None:
    if (row.keyword.startswith("(") and row.block != "linkbeat_interfaces") or row.block in (
        "virtual_server_group",
        "vrrp_instance/unicast_peer",
    ):
        statement = "nonsense"
    elif row.block == "linkbeat_interfaces":
        statement = "eth0 nonsense"
    else:
        statement = illegal_statement(row) or ""
    if row.block == "vrrp_instance/unicast_peer" and not row.keyword.startswith("("):
        statement = f"192.0.2.50 {row.keyword} nonsense"
    text = fill(DEFINITIONS, fill(WRAP[row.block], statement))
    above = Severity.NOTE if row.keyword in ONLY_TOLD else Severity.LINT
    clean = problems_of(fill(DEFINITIONS, fill(WRAP[row.block], "")), tmp_path, above)
    assert set(problems_of(text, tmp_path, above)) - set(clean), statement

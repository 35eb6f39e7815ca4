"""One-line mistakes in otherwise fine files: each found, by its identifier, at its line and column."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path

import pytest

from keepalived_py.config.findings import FINDINGS
from keepalived_py.config.load import LoadOptions, LoadResult, load
from keepalived_py.config.problems import Problem, Severity
from keepalived_py.config.system import Machine
from tests.conftest import REPOSITORY

BASE = """\
global_defs {
    script_user nobody
    enable_script_security
    {global}
}
vrrp_script check {
    script "/bin/true"
    {script}
}
track_file file {
    file /run/file
    {file}
}
vrrp_track_process process {
    process sshd
    {process}
}
bfd_instance session {
    neighbor_ip 192.0.2.200
    {bfd}
}
{root}
vrrp_instance one {
    interface eth0
    virtual_router_id 51
    state BACKUP
    priority 150
    virtual_ipaddress {
        192.0.2.100/24
        {address}
    }
    track_script {
        check
    }
    track_process {
        process
    }
    virtual_routes {
        198.51.100.0/24 via 192.0.2.1 dev eth0
        {route}
    }
    virtual_rules {
        from 198.51.100.0/24 table 100 preference 100
        {rule}
    }
    {instance}
}
vrrp_instance two {
    interface eth1
    virtual_router_id 52
    state BACKUP
    priority 150
    virtual_ipaddress {
        198.51.100.100/24
    }
    {second}
}
vrrp_sync_group group {
    group {
        one
        two
    }
    {group}
}
virtual_server 192.0.2.80 80 {
    protocol TCP
    lvs_sched rr
    lvs_method NAT
    {server}
    real_server 10.0.0.1 80 {
        TCP_CHECK {
            {check}
        }
        {real}
    }
    real_server 10.0.0.2 80 {
        HTTP_GET {
            url {
                path /
                {url}
            }
        }
        FILE_CHECK {
            track_file file
        }
    }
}
"""
INSTANCE = "vrrp_instance three {\ninterface eth2\n%s\nvirtual_ipaddress {\n203.0.113.1\n}\n}"
SERVER = "virtual_server %s {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 10.0.0.9 80 {\n}\n}"
ELSEWHERE = -1
"""The finding stands at what the text contradicts."""
MISTAKES: list[tuple[str, str, str, int]] = [
    # where, text, identifier, column within the text (1: its first character; 0: in one of its further lines)
    ("root", "globaldefs {\n}", "unknown-keyword", 1),
    ("root", "vrrp_instance {\n}", "missing-parameter", 16),
    ("root", "vrrp_instance a b {\n}", "extra-words", 17),
    ("root", "vrrp_script check {\nscript /bin/true\n}", "duplicate-name", 13),
    ("root", "vrrp_script empty {\n}", "script-without-command", 13),
    ("root", "track_file empty {\n}", "file-without-path", 12),
    ("root", "vrrp_track_process empty {\n}", "process-without-command", 20),
    ("root", "bfd_instance empty {\n}", "no-neighbor", 14),
    ("root", "bfd_instance twin {\nneighbor_ip 192.0.2.200\n}", "duplicate-neighbor", 0),
    ("root", "garp_group {\ninterface eth0\n}", "garp-group-without-gap", 1),
    ("root", "garp_group {\ngarp_interval 1\n}", "garp-group-without-interface", 1),
    ("root", "track_group nobody {\ngroup {\nnobody\n}\n}", "empty-group", 13),
    ("root", "static_ipaddress {\n192.0.2.300\n}", "not-an-address", 0),
    ("root", "interface_up_down_delays {\neth0\n}", "missing-value", 0),
    ("root", "linkbeat_interfaces {\neth0 SNMP\n}", "not-a-choice", 0),
    ("root", INSTANCE % "", "no-virtual-router-id", 15),
    ("root", (INSTANCE % "virtual_router_id 53").replace("interface eth2", ""), "no-interface", 15),
    ("root", (INSTANCE % "virtual_router_id 53").replace("eth2", "lo"), "loopback", 0),
    ("root", (INSTANCE % "virtual_router_id 51").replace("eth2", "eth0"), "duplicate-vrid", ELSEWHERE),
    ("root", "vrrp_sync_group lone {\ngroup {\nnobody\n}\n}", "empty-group", 17),
    ("root", SERVER % "192.0.2.80", "no-port", 1),
    ("root", SERVER % "fwmark 5", "protocol-of-fwmark", 0),
    ("root", SERVER % "group nowhere", "unknown-server-group", 22),
    ("root", "virtual_server_group wide {\n10.0.0.0/8 80\n}\n" + SERVER % "group wide", "too-many-addresses", 0),
    ("root", (SERVER % "192.0.2.81 80").replace("protocol TCP\n", ""), "no-protocol", 1),
    ("root", (SERVER % "192.0.2.81 80").replace("lvs_sched rr\n", ""), "no-scheduler", 1),
    ("root", (SERVER % "192.0.2.81 80").replace("lvs_method NAT\n", ""), "no-forwarding", 1),
    ("root", "virtual_server 192.0.2.81 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\n}", "no-real-server", 1),
    ("root", SERVER % "192.0.2.80 80", "duplicate-virtual-server", ELSEWHERE),
    ("root", "virtual_server_group empty {\n}", "empty-server-group", 22),
    ("root", "child_wait_time 5 }", "surplus-brace", 19),
    ("root", '"abc', "unterminated-quote", 1),
    ("root", "~SEQ(a) x", "bad-repetition", 1),
    ("root", "child_wait_time soon", "not-a-number", 17),
    ("global", "vrrp_version 4", "not-a-choice", 14),
    ("global", "vrrp_mcast_group4 192.0.2.1", "not-multicast", 19),
    ("global", "vrrp_mcast_group6 ff05::12", "group-not-link-local", 19),
    ("global", "smtp_server localhost 70000", "out-of-range", 23),
    ("global", "lvs_timeouts tcp", "missing-value", 17),
    ("global", "lvs_timeouts sctp 5", "unknown-option", 14),
    ("global", "reload_time_file time", "relative-path", 18),
    ("global", "umask 0888", "junk-after-number", 7),
    ("global", "umask IXXX", "unknown-option", 7),
    ("global", "vrrp_rt_priority 100", "out-of-range", 18),
    ("global", "vrrp_iptables A A", "same-name", 17),
    ("global", "lvs_sync_daemon eth0 id 256", "out-of-range", 25),
    ("global", "process_name a-name-of-more-than-15", "name-cut", 14),
    ("global", "vrrp_notify_fifo_script /bin/true", "fifo-script-without-fifo", 1),
    ("global", "startup_script /bin/true nobody-at-all", "unknown-user", 26),
    ("global", "notification_email {\n}", "no-recipient", 1),
    ("script", "interval 0.0001", "out-of-range", 10),
    ("script", "weight 5 backwards", "unknown-option", 10),
    ("script", "weight 300", "out-of-range", 8),
    ("script", "rise 1 2", "extra-words", 8),
    ("script", "user nobody-at-all", "unknown-user", 6),
    ("file", "weight 255", "out-of-range", 8),
    ("file", "init_file 5000", "unusual-value", 11),
    ("process", "quorum_max 0\nquorum 5\nquorum_max 3", "quorum-above-maximum", 0),
    ("process", "param_match exactly", "not-a-choice", 13),
    ("bfd", "min_rx 20000", "long-interval", 8),
    ("bfd", "source_ip 2001:db8::1", "wrong-family", 11),
    ("bfd", "max_hops 255\nttl 5\nmax_hops 6", "hops-above-ttl", 0),
    ("address", "192.0.2.100", "duplicate-address", 1),
    ("address", "2001:db8::1", "wrong-family", 1),
    ("address", "192.0.2.101/33", "out-of-range", 1),
    ("address", "192.0.2.101/24 dev", "missing-value", 19),
    ("address", "192.0.2.101/24 lable x", "unknown-option", 16),
    ("address", "192.0.2.101/24 dev eth0 dev eth1", "repeated-option", 25),
    ("address", "192.0.2.101/24 peer 192.0.2.1", "peer-with-prefix", 1),
    ("address", "192.0.2.101 brd +", "no-broadcast", 17),
    ("route", "198.51.100.0/24 via", "missing-value", 20),
    ("route", "198.51.100.0/24 via 2001:db8::1", "wrong-family", 21),
    ("route", "198.51.100.0/24 gw 192.0.2.1 dev eth0", "deprecated-option", 17),
    ("route", "198.51.100.1/24 dev eth0", "host-bits", 1),
    ("route", "198.51.100.0/24", "untracked-route", 1),
    ("route", "198.51.100.0/24 dev eth0 table nowhere", "unknown-name", 32),
    ("rule", "from 198.51.100.0/24 table 100", "no-preference", 1),
    ("rule", "from 198.51.100.0/24 table 0 preference 5", "table-zero", 28),
    ("rule", "from 198.51.100.0/24 goto 5 preference 10", "bad-goto", 27),
    ("instance", "use_vmac 03:00:00:00:00:01", "multicast-mac", 10),
    ("instance", "use_vmac 00:00:5e:00:01:33", "rfc-mac", 10),
    ("instance", "use_vmac a-name-of-more-than-15", "interface-name-too-long", 10),
    ("instance", "use_ipvlan", "ipvlan-address", 1),
    ("instance", "vmac_xmit_base", "xmit-base-unused", 1),
    ("instance", "unicast_ttl 64", "ttl-without-peers", 1),
    ("instance", "unicast_src_ip 192.0.2.1", "unicast-without-peers", 1),
    ("instance", "unicast_fault_no_peer", "no-peer", 1),
    ("instance", "unicast_peer {\n2001:db8::1\n}", "bad-peer", 0),
    ("instance", "unicast_peer {\n192.0.2.2 min_ttl 9 max_ttl 3\n}", "bad-range", 0),
    ("instance", "track_src_ip", "track-source", 1),
    ("instance", "mcast_dst_ip 192.0.2.1", "not-multicast", 14),
    ("instance", "mcast_src_ip 2001:db8::1", "wrong-family", 14),
    ("instance", "vrf red", "vrf-unused", 1),
    ("instance", "native_ipv6", "native-ipv6", 1),
    ("instance", "advert_int 1.5", "interval-rounded", 12),
    ("instance", "version 3\nadvert_int 0.015", "interval-rounded", 0),
    ("instance", "version 3\nadvert_int 50", "interval-too-long", 0),
    ("instance", "state MASTRE", "bad-state", 7),
    ("instance", "nopreempt\nstate MASTER", "nopreempt-of-master", 1),
    ("instance", "nopreempt\npreempt_delay 5", "preempt-delay-unused", 0),
    ("instance", "timer_expired_backup", "timer-expired-needs-nopreempt", 1),
    ("instance", "owner_ignore_adverts", "not-owner", 1),
    ("instance", "authentication {\nauth_type PASS\n}", "incomplete-auth", 1),
    ("instance", "authentication {\nauth_type PASS\nauth_pass nine-chars\n}", "password-cut", 0),
    ("instance", "version 3\nauthentication {\nauth_type PASS\nauth_pass x\n}", "auth-in-v3", 0),
    ("instance", "auth_hmac {\nkey 1 short\n}", "bad-key", 0),
    ("instance", "auth_hmac {\nkey 1 file:/nowhere\n}", "key-file", 0),
    ("instance", "strict_mode\ndown_timer_adverts 5", "strict-setting", 0),
    ("instance", "strict_mode\nstate MASTER", "strict-state", 0),
    ("instance", "strict_mode\naccept", "strict-accept", 0),
    ("instance", "track_interface {\neth0\n}", "tracks-own-interface", 0),
    ("instance", "track_script {\nnothing\n}", "unknown-script", 0),
    ("instance", "track_file {\nnothing\n}", "unknown-file", 0),
    ("instance", "track_process {\nnothing\n}", "unknown-process", 0),
    ("instance", "track_bfd {\nnothing\n}", "unknown-bfd", 0),
    ("instance", "track_virtual_server {\nnothing\n}", "unknown-virtual-server", 0),
    ("instance", "track_script {\ncheck\n}", "duplicate-track", 0),
    ("instance", "track_interface {\neth5 weight -20\n}", "weight-in-group", 0),
    ("instance", "track_interface {\neth5 weight\n}", "missing-value", 0),
    ("instance", 'notify_master "/bin/true \'x"', "bad-quoting", 15),
    ("instance", "notify /bin/true\nnotify /bin/false", "repeated-keyword", 0),
    ("instance", "garp_extra_if 100000", "out-of-range", 15),
    ("second", "priority 255\nstate MASTER", "mixed-group", ELSEWHERE),
    ("second", "linkbeat_use_polling", "deprecated-keyword", 1),
    ("group", "group {\none\n}", "repeated-keyword", 1),
    ("group", "track_script {\ncheck\n}", "tracked-twice", ELSEWHERE),
    ("group", "smtp_alert maybe", "not-a-boolean", 12),
    ("server", "quorum 5", "quorum-too-high", 8),
    ("server", "quorum 2\nhysteresis 2", "hysteresis-too-high", 0),
    ("server", "ops", "ops-without-udp", 1),
    ("server", "sh-port", "flag-of-scheduler", 1),
    ("server", "sorry_server_inhibit", "no-sorry-server", 1),
    ("server", "sorry_server 10.0.0.1 80\nsorry_server_inhibit", "sorry-inhibit", 1),
    ("server", "persistence_granularity 64", "wrong-family", 25),
    ("server", "persistence_engine a-name-of-more-than-15", "name-cut", 20),
    ("server", "lvs_method TUN type gue", "tunnel-port", 12),
    ("server", "lvs_method TUN csum", "tunnel-checksum", 12),
    ("server", "real_server 10.0.0.1 80 {\n}", "duplicate-real-server", ELSEWHERE),
    ("server", "real_server 2001:db8::1 80 {\n}", "wrong-family", 13),
    ("root", (SERVER % "192.0.2.81 81").replace("NAT", "DR"), "port-differs", 0),
    ("real", "lthreshold 5", "lthreshold-too-high", 12),
    ("real", "uthreshold 9\nlthreshold 10", "lthreshold-too-high", 0),
    ("real", "MISC_CHECK {\n}", "no-misc-path", 1),
    ("real", "FILE_CHECK {\n}", "no-track-file", 1),
    ("real", "BFD_CHECK {\n}", "no-bfd-name", 1),
    ("real", "BFD_CHECK {\nname session\n}\nBFD_CHECK {\nname session\n}", "duplicate-bfd-check", ELSEWHERE),
    ("real", "HTTP_GET {\n}", "no-url", 1),
    ("real", "HTTP_GET {\nurl {\n}\n}", "url-without-path", 0),
    ("real", "DNS_CHECK {\nname a..b\n}", "bad-domain", 0),
    ("real", "UDP_CHECK {\npayload abc\n}", "bad-hex", 0),
    ("check", "bind_port 99", "bind-port-unused", 1),
    ("check", "bindto 2001:db8::1", "wrong-family", 8),
    ("check", "connect_ip fe80::1", "link-local-without-interface", ELSEWHERE),
    ("check", "retry -1", "out-of-range", 7),
    ("url", "digest 12", "bad-digest", 8),
    ("url", "status_code 299-200", "bad-range", 13),
    ("url", "regex_min_offset 9\nregex_max_offset 3", "bad-range", 0),
    ("url", "regex a b", "extra-words", 9),
    ("url", "regex a(b", "bad-pattern", 7),
    ("url", "regex_max_offset abc", "not-a-number", 18),
    ("url", "regex_stack 2 1", "bad-range", 13),
    ("real", "UDP_CHECK {\nrequire_reply\nmin_reply_length 9\nmax_reply_length 8\n}", "bad-range", 0),
]


def place(where: str, text: str) -> tuple[str, int, int]:
    """The file with `text` at `where`, the number of its first line, and how far that is indented."""
    lines = BASE.splitlines()
    index = next(number for number, line in enumerate(lines) if line.strip() == f"{{{where}}}")
    indent = len(lines[index]) - len(lines[index].lstrip())
    lines[index] = lines[index].replace(f"{{{where}}}", text)
    kept = [line for line in lines if not re.fullmatch(r"\s*\{[a-z]+\}", line)]
    first = kept.index(lines[index])
    return "\n".join(kept) + "\n", first + 1, indent


def findings(tmp_path: Path, text: str, machine: Machine | None = None) -> LoadResult:
    path = tmp_path / "keepalived.conf"
    path.write_text(text)
    return load(str(path), LoadOptions(config_id="me", lint=machine is not None, machine=machine or Machine()))


def weighty(result: LoadResult) -> list[Problem]:
    return [problem for problem in result.problems if problem.severity > Severity.NOTE]


def test_the_file_without_a_mistake_is_fine(tmp_path: Path) -> None:
    text, _, _ = place("root", "")
    assert [problem.render() for problem in weighty(findings(tmp_path, text, Machine()))] == []


@pytest.mark.parametrize(("where", "text", "id", "column"), MISTAKES, ids=[f"{each[2]}:{each[1]}" for each in MISTAKES])
def test_a_mistake_is_found_at_its_place(tmp_path: Path, where: str, text: str, id: str, column: int) -> None:
    whole, first, indent = place(where, text)
    found = [problem for problem in weighty(findings(tmp_path, whole)) if problem.id == id]
    assert found, [problem.render() for problem in findings(tmp_path, whole).problems]
    assert found[0].at is not None
    if column > 0:
        assert (found[0].at.line, found[0].at.column) == (first, indent + column), found[0].render()
    elif column == 0:
        assert found[0].at.line in range(first, first + text.count("\n") + 1), found[0].render()
    assert found[0].at.text == whole.splitlines()[found[0].at.line - 1]


SUFFIXED = """
virtual_server 10.0.0.1{0} 80 {{
    delay_loop 5
    lvs_sched rr
    lvs_method NAT
    protocol TCP
    sorry_server 10.0.0.3{0} 80
    real_server 10.0.0.2{0} 80 {{
        TCP_CHECK {{
            connect_ip 10.0.0.4{0}
            bindto 10.0.0.5{0}
        }}
    }}
}}
virtual_server fwmark 7 {{
    lvs_sched rr
    lvs_method NAT
    real_server 2001:db8::2{0} 80 {{
    }}
}}
"""


@pytest.mark.parametrize("suffix", ["/32", "/abc", "/", "-9"])
def test_what_stands_behind_an_address_of_the_checker_is_ignored(tmp_path: Path, suffix: str) -> None:
    """As by keepalived 2.2.7; without its virtual server the file would serve nobody."""
    plain, suffixed = (findings(tmp_path, SUFFIXED.format(each)) for each in ("", suffix))
    assert suffixed.config == plain.config
    assert suffixed.problems.exit_status() == 0
    told = sorted(each.at.line for each in weighty(suffixed) if each.id == "extra-words" and each.at is not None)
    assert told == [number for number, line in enumerate(SUFFIXED.splitlines(), 1) if "{0}" in line]


@pytest.mark.parametrize(
    ("where", "text", "status"),
    [
        ("url", "regex", 0),
        ("url", "regex a b", 0),
        ("url", "regex a(b", 0),
        ("url", "regex a\nregex_options", 0),
        ("url", "regex_min_offset 9\nregex_max_offset 3", 0),
        ("url", "regex_min_offset -1", 0),
        ("url", "regex_max_offset abc", 0),
        ("url", "regex_stack 2 1", 0),
        ("url", "digest 12", 5),
        ("real", "UDP_CHECK {\nrequire_reply\nmin_reply_length 9\nmax_reply_length 8\n}", 5),
    ],
)
def test_what_is_wrong_about_a_pattern_weighs_nothing(tmp_path: Path, where: str, text: str, status: int) -> None:
    """As with keepalived 2.2.7; other mistakes do, and a reload with them is refused."""
    assert findings(tmp_path, place(where, text)[0]).problems.exit_status() == status


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("192.0.2.101/24 lable x no_track", "192.0.2.101/24 no_track"),
        ("192.0.2.101/24 peer 192.0.2.1", "192.0.2.101 peer 192.0.2.1"),
        ("192.0.2.101/24 peer 2001:db8::1", "192.0.2.101/24"),
        ("192.0.2.101/33", "192.0.2.101/32"),
        ("192.0.2.101/31 brd -", "192.0.2.101/31"),
        ("192.0.2.101/24 scope somewhere brd +", "192.0.2.101/24 brd +"),
        ("192.0.2.101/24 scope", None),
        ("192.0.2.101/24 brd 2001:db8::1", None),
    ],
)
def test_an_address_outlives_a_mistake_in_its_options(tmp_path: Path, text: str, kept: str | None) -> None:
    """As seen with keepalived 2.2.7: a file that served an address must not cost it."""
    rows = []
    for line in filter(None, (text, kept)):
        found = findings(tmp_path, place("address", line)[0])
        assert found.config is not None
        rows.append([row for row in found.config.vrrp.instances[0].addresses if "101" in str(row.address)])
    assert rows[0] == (rows[1] if kept else [])


def test_every_finding_is_explained() -> None:
    said = set()
    pattern = re.compile(r'(?:report|fatal|warn|Bad|Ignored|add|_split|_include_problem)\(\s*"([a-z0-9-]+)"')
    other = re.compile(r'"((?:pair|unused|unknown|script|strict|states|preemption|priorities)-[a-z-]+)"')
    for path in (REPOSITORY / "keepalived_py" / "config").glob("*.py"):
        if path.name != "findings.py":
            said.update(pattern.findall(path.read_text()))
            said.update(other.findall(path.read_text()))
    said = {id for id in said if "-" in id or id in FINDINGS}
    assert said - set(FINDINGS) == set()
    made = {f"{what}-{kind}" for what in ("unknown", "unused") for kind in ("script", "file", "process", "bfd")}
    assert set(FINDINGS) - said - made == {"missing-parameter"}


# beyond keepalived ----------------------------------------------------------------------------------------------------

MACHINE = Machine(
    interfaces=frozenset(("eth0", "eth1", "eth2", "eth5")),
    networks={"eth0": (ip_network("192.0.2.0/24"),)},
)
HEAVY = INSTANCE % "virtual_router_id 9\ntrack_interface {\neth5 weight 200\n}"
LINT: list[tuple[str, str, str]] = [
    ("instance", "state MASTER\npriority 50", "master-with-low-priority"),
    ("second", "state BACKUP\npriority 255", "owner-as-backup"),
    ("instance", "strict_mode", "strict-without-accept"),
    ("instance", "virtual_ipaddress_excluded {\n203.0.113.9\n}", "address-outside-subnet"),
    ("instance", "mcast_src_ip 192.0.2.100", "address-in-use"),
    ("second", "nopreempt", "preemption-differs-in-group"),
    ("second", "priority 149", "priorities-differ-in-group"),
    ("second", "state MASTER", "states-differ-in-group"),
    ("script", "timeout 5", "check-longer-than-interval"),
    ("server", "hysteresis 1\nquorum 2", "quorum-unreachable"),
    ("server", "protocol UDP\nops\npersistence_timeout 50", "ops-with-persistence"),
    ("check", "connect_timeout 10\ndelay_loop 5", "check-longer-than-interval"),
    ("root", "vrrp_script idle {\nscript /bin/true\n}", "unused-script"),
    ("root", "track_file idle {\nfile /run/x\n}", "unused-file"),
    ("root", "vrrp_track_process idle {\nprocess x\n}", "unused-process"),
    ("root", HEAVY, "weight-beyond-limits"),
    ("root", INSTANCE.replace("eth2", "eth9") % "virtual_router_id 9", "interface-not-found"),
]


@pytest.mark.parametrize(("where", "text", "id"), LINT, ids=[each[2] for each in LINT])
def test_what_is_hardly_ever_meant_is_a_warning(tmp_path: Path, where: str, text: str, id: str) -> None:
    whole, _, _ = place(where, text)
    result = findings(tmp_path, whole, MACHINE)
    found = [problem for problem in result.problems if problem.id == id]
    assert found, [problem.render() for problem in result.problems]
    assert found[0].severity is Severity.LINT
    assert found[0].at is not None


def test_warnings_count_only_when_asked_for(tmp_path: Path) -> None:
    whole, _, _ = place("second", "nopreempt")
    problems = findings(tmp_path, whole, MACHINE).problems
    assert (problems.exit_status(), problems.exit_status(strict=True)) == (0, 5)


@pytest.mark.parametrize(
    ("line", "id", "column"),
    [
        ("track_group x { group { one two } } }", "surplus-brace", 37),
        ("track_group x { group { one } } track_group y { gruop { one } }", "unknown-keyword", 49),
        ("garp_group { garp_interval x } ", "not-a-number", 28),
        ("static_rules { from 192.0.2.0/24 table 5 preference x }", "not-a-number", 53),
        ("track_group x { group { one } { } }", "unexpected-brace", 31),
    ],
)
def test_places_in_lines_of_several_pieces(tmp_path: Path, line: str, id: str, column: int) -> None:
    whole, first, _ = place("root", line)
    found = [problem for problem in weighty(findings(tmp_path, whole)) if problem.id == id]
    assert found[0].at is not None
    assert (found[0].at.line, found[0].at.column) == (first, column), found[0].render()

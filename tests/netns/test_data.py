"""keepalived.data, JSON and statistics: line for line and member for member those of Debian's keepalived."""

from __future__ import annotations

import difflib
import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.bench import no_ipvs
from tests.netns.conftest import Pair
from tests.netns.rig import OURS, THEIRS, Daemon, Host, Rig

pytestmark = pytest.mark.netns

INSTANCE = """
vrrp_instance VI_1 {
    state BACKUP
    interface eth0
    virtual_router_id 51
    priority 150
    advert_int 0.3
    version 3
    use_vmac
    virtual_ipaddress {
        10.0.0.100/24
    }
}
"""
FULL = """
child_wait_time 7
global_defs {
    router_id lab
    notification_email {
        a@b.c
    }
    notification_email_from me@b.c
    smtp_server 127.0.0.1 2525
    smtp_alert on
    smtp_alert_vrrp off
    no_email_faults
    checker_log_all_failures on
    dynamic_interfaces allow_if_changes
    disable_local_igmp
    vrrp_notify_fifo FILE1
    vrrp_notify_fifo_script /usr/bin/true
    fifo_write_vrrp_states_on_reload
    vrrp_notify_priority_changes true
    vrrp_mcast_group4 224.0.0.19
    lvs_timeouts tcp 900 tcpfin 120 udp 300
    lvs_flush
    lvs_flush_on_stop VS
    lvs_notify_fifo FILE2
    vrrp_garp_master_refresh 60
    checker_priority 3
    default_interface eth0
    startup_script /usr/bin/true
    shutdown_script "/usr/bin/true a"
    startup_script_timeout 5
    vrrp_garp_lower_prio_delay 7
    vrrp_garp_extra_if all 20
    vrrp_garp_interval 0.001
    vrrp_lower_prio_no_advert true
    vrrp_version 3
    nftables_counters
    nftables tabby
    max_auto_priority 50
    vrrp_priority -5
    process_names
    enable_script_security
    script_user root
    vrrp_netlink_monitor_rcv_bufs 200000
    vrrp_rx_bufs_policy 5000
    rs_init_notifies
    umask 022
    vrrp_startup_delay 0.5
}
static_ipaddress {
    10.9.0.1/24 dev eth0
    fd09::1/64 dev eth0
}
garp_group {
    garp_interval 0.01
    gna_interval 0.02
    interface eth0
}
"""
NOT_COMPARED = re.compile(
    r" (libnftnl version| GA?RP next time|G(ARP|NA) next time|current realtime)|Original|rp_filter|NIC |Seen up"
    r"|IPv6 address|    fe80|MAC = |Additional|debounce| - |Reset ARP| link/"
)
"""Of theirs: versions, times, what depends on the order in which settings are made, addresses of hosts."""
OF_VRRP = re.compile(
    r"^ (Default interface|Gratuitous ARP lower priority \w+) = .*\n|(?<=fifo script = '/usr/bin/true') '.*'(?=,)",
    re.MULTILINE,
)
"""Outside of VRRP keepalived shows these as they are before VRRP has completed them, we as they count."""


def sections(text: str, *titles: str) -> list[str]:
    """Lines of the sections that are called so."""
    found, wanted = [], False
    for line in text.splitlines():
        if line.startswith("------<"):
            wanted = line.strip("-<> ").startswith(titles)
        if wanted and line.strip() and not NOT_COMPARED.search(line):
            found.append(line)
    return found


@pytest.mark.parametrize("text", [INSTANCE, FULL + INSTANCE], ids=["defaults", "full"])
def test_sections_are_keepaliveds(pair: Pair, tmp_path: Path, text: str) -> None:
    text = text.replace("FILE1", str(tmp_path / "fifo")).replace("FILE2", str(tmp_path / "fifo2"))
    found, outside = [], []
    for host, program in ((pair.one, OURS), (pair.two, THEIRS)):
        daemon = host.start(program, text)
        pair.rig.wait(lambda host=host: host.has("10.0.0.100"), 15)
        daemon.signal(signal.SIGUSR1)
        path, of_parent = (daemon.directory / name for name in ("keepalived.data", "keepalived_parent.data"))
        pair.rig.wait(lambda path=path: path.exists() and "------< Interfaces" in path.read_text(), 10)
        pair.rig.wait(lambda path=of_parent: path.exists() and "umask" in path.read_text(), 10)
        found.append(sections(path.read_text(), "Global", "Gratuitous", "GARP", "Static", "Interfaces"))
        outside.append(sections(OF_VRRP.sub("", of_parent.read_text()), "Global"))
        daemon.stop()
        pair.rig.wait(lambda host=host: not host.has("10.0.0.100"), 10)
    found[0] = [line.replace("address = 10.0.0.1", "address = 10.0.0.2") for line in found[0]]
    for ours, theirs in (found, outside):
        different = "\n".join(difflib.unified_diff(theirs, ours, "keepalived", "ours", n=0, lineterm=""))
        assert not different, different


RICH = """
global_defs {
    enable_script_security
    script_user root
    vrrp_notify_fifo FILE0
}
vrrp_script fine {
    script "/bin/true"
    interval 1
    weight 5
}
vrrp_script bad {
    script "/bin/false x 'y z'"
    interval 2
    timeout 1
    rise 2
    fall 3
    weight -7 reverse
    init_fail
}
vrrp_script slow {
    script "/bin/sleep 60"
    interval 90
    weight 1
}
vrrp_script group {
    script "/bin/true"
    interval 1
    user nobody
}
track_file counted {
    file FILE1
    weight 2
}
track_file fault {
    file FILE2
}
vrrp_track_process sleeping {
    process sleep 77
    param_match initial
    weight 3
    quorum 1
    quorum_max 5
    delay 1
}
vrrp_track_process none {
    process nosuchprocess
    full_command
    weight -3
    fork_delay 1
    terminate_delay 2
}
vrrp_sync_group G1 {
    group {
        VI_A
        VI_B
    }
    track_interface {
        eth0
    }
    track_script {
        group
    }
    track_file {
        counted weight 3
    }
    track_process {
        none
    }
    notify_master "/bin/true gm"
    notify "/bin/true any"
    smtp_alert
    sync_group_tracking_weight
}
vrrp_sync_group G2 {
    group {
        VI_C
        VI_D
    }
}
vrrp_instance VI_A {
    state BACKUP
    interface eth0
    virtual_router_id 51
    priority 150
    advert_int 1
    version 2
    authentication {
        auth_type PASS
        auth_pass secret12
    }
    garp_master_delay 3
    garp_master_refresh 60
    garp_master_refresh_repeat 2
    garp_master_repeat 4
    garp_lower_prio_delay 2
    garp_lower_prio_repeat 2
    preempt_delay 2.5
    kernel_rx_buf_size 5000
    debug 2
    track_script {
        fine
        bad weight -9
        slow
    }
    track_file {
        fault
    }
    track_process {
        sleeping
    }
    track_interface {
        eth0
        lo weight -2 reverse
    }
    notify_master "/bin/true m"
    notify_backup "/bin/true b"
    notify_fault "/bin/true f"
    notify_stop "/bin/true s"
    notify "/bin/true any"
    notify_master_rx_lower_pri "/bin/true lp"
    notify_deleted "/bin/true d"
    notify_priority_changes
    smtp_alert
    virtual_ipaddress {
        10.0.0.100/24 dev eth0 label eth0:1
        10.0.0.101/32 scope link
        10.0.0.102/24 brd 10.0.0.255
        10.0.0.103 use_vmac
        10.0.0.104 peer 10.0.0.105 label eth0:q home noprefixroute no_track
    }
    virtual_ipaddress_excluded {
        fd00::50/64
    }
    virtual_routes {
        src 10.0.0.1 to 10.20.1.0/24 via 10.0.0.9 dev eth0
        10.20.4.0/24 via 10.0.0.9 dev eth0 table 100 metric 7 src 10.0.0.1
        10.20.5.0/24 via 10.0.0.9 dev eth0 mtu 1400 advmss lock 1300 hoplimit 7
        10.20.6.0/24 via 10.0.0.9 dev eth0 tos 0x10 realms 3/4 preference 30 scope global
        10.20.7.0/24 via 10.0.0.9 dev eth0 onlink protocol 33 no_track
        10.20.8.0/24 via 10.0.0.9 dev eth0 initcwnd 5 window 1000 quickack 1 features ecn congctl cubic
        10.20.9.0/24 no_track nexthop via 10.0.0.9 dev eth0 weight 3 onlink nexthop via 10.0.0.8 dev eth0
        unreachable 10.21.1.0/24 no_track
        throw 10.21.3.0/24 table 5 no_track
        append 10.21.4.0/24 dev eth0
        add default via 10.0.0.9 dev eth0 metric 50
        10.20.10.0/24 via 10.0.0.9 dev eth0 ssthresh 9 cwnd 8 reordering 6 initrwnd 4
        local 10.21.6.0/24 dev eth0
        fd78::/64 via fd00::9 dev eth0 metric 9 pref high expires 100
        10.20.12.0/24 via 10.0.0.9 dev eth0 fastopen_no_cookie 1 ttl-propagate enabled
    }
    virtual_rules {
        not from 10.8.0.0/24 to 10.9.0.0/16 table 80 priority 301 tos 0x4 iif eth0
        to 10.9.0.0/16 oif eth0 table 90 priority 302 fwmark 4/7
        fwmark 5 table main priority 303 no_track
        to 10.1.0.0/16 goto 400 priority 304
        from 10.4.0.0/16 nop priority 305
        from 10.4.0.0/16 blackhole priority 306
        from 10.4.0.0/16 realms 3/4 table 7 priority 309
        from 10.4.0.0/16 suppress_prefixlength 5 suppress_ifgroup 6 table 8 priority 310
        l3mdev priority 312
        ipproto tcp dport 80-81 sport 1-9 table 9 priority 313
        from fd77::/64 table 80 priority 320
    }
}
vrrp_instance VI_B {
    interface eth0
    use_vmac
    vmac_xmit_base
    virtual_router_id 52
    priority 140
    advert_int 0.5
    version 3
    no_accept
    native_ipv6
    nopreempt
    state BACKUP
    virtual_ipaddress {
        fe80::52
        fd00::52/64
        fd00::53/64 -nodad home mngtmpaddr noprefixroute no_track preferred_lft 100
        fd00::54 peer fd00::55
        fd00::56/64 preferred_lft 0
    }
}
vrrp_instance VI_C {
    interface eth0
    virtual_router_id 53
    priority 130
    version 3
    advert_int 0.5
    unicast_src_ip 10.0.0.1
    unicast_ttl 200
    old_unicast_checksum never
    check_unicast_src
    unicast_peer {
        10.0.0.77 min_ttl 10 max_ttl 255
        10.0.0.78
    }
    track_src_ip
    lower_prio_no_advert
    higher_prio_send_advert
    virtual_ipaddress {
        10.0.0.110/24
    }
}
vrrp_instance VI_D {
    interface eth0
    use_vmac vm54
    use_vmac_addr
    virtual_router_id 54
    version 3
    advert_int 0.5
    priority 200
    skip_check_adv_addr
    down_timer_adverts 4
    virtual_ipaddress {
        10.0.0.111/24
    }
}
vrrp_instance VI_E {
    interface eth0
    virtual_router_id 55
    version 2
    advert_int 1
    priority 120
    authentication {
        auth_type AH
        auth_pass secret12
    }
    dont_track_primary
    mcast_src_ip 10.0.0.1
    virtual_ipaddress {
        10.0.0.112/24
    }
}
vrrp_instance VI_F {
    interface eth0
    virtual_router_id 56
    version 3
    strict_mode on
    virtual_ipaddress {
        10.0.0.113/24
    }
}
"""
CHANGING = re.compile(r"Last transition|Read timeout|fd_in|Password|Rx buf size|Using src_ip = fe80")
MOMENTS = ("last_transition", "auth_data")
"""Of JSON: times, and what we mask."""


def alone(rig: Rig, program: str, tmp_path: Path) -> tuple[Host, Daemon]:
    """A daemon alone on a switch of its own."""
    host = rig.host("alone")
    host.plug(rig.switch("lan"), "eth0", "10.0.0.1/24", "fd00::1/64", "fe80::1/64")
    text = RICH
    for number, content in ((0, ""), (1, "4"), (2, "0")):
        path = tmp_path / f"{program}{number}"
        text = text.replace(f"FILE{number}", str(path))
        if content:
            path.write_text(content)
    return host, host.start(program, text)


def dumps(rig: Rig, host: Host, daemon: Daemon, tmp_path: Path) -> tuple[list[str], list[Any], list[str]]:
    """What it writes: keepalived.data from VRRP Topology on, JSON, statistics."""
    rig.wait(lambda: all(host.has(f"10.0.0.{last}") for last in (100, 111, 112, 113)), 20)
    rig.wait(lambda: host.has("fd00::52"), 10)
    time.sleep(1.0)

    def written(number: int, name: str) -> str:
        path = daemon.directory / f"keepalived.{name}"
        path.unlink(missing_ok=True)
        daemon.signal(number)
        rig.wait(lambda: path.exists() and path.stat().st_size, 10)
        time.sleep(0.3)
        return path.read_text().replace(str(tmp_path / daemon.program), "FILE")

    state = written(signal.SIGUSR1, "data")
    for _ in range(10):
        if state.count("State = running") > 1:  # others than the slow script, by chance
            state = written(signal.SIGUSR1, "data")
    counters, members = written(signal.SIGUSR2, "stats"), written(signal.SIGRTMIN + 2, "json")
    daemon.stop()
    data = state[state.index("------< VRRP Topology") : state.index("------< Interfaces")].splitlines()
    if daemon.program == OURS:
        assert "secret12" not in state + members
        assert "------< keepalived-py >------" in state
    statistics = [line for line in counters.splitlines() if "Sent" not in line]
    rows = [{**row["data"], **row["stats"]} for row in json.loads(members)]
    kept = [
        [(name, value) for name, value in row.items() if name not in (*MOMENTS, "track_process", "advert_sent")]
        for row in rows
    ]
    return [line for line in data if not CHANGING.search(line)], kept, statistics


CHECKED = """
global_defs {
    enable_script_security
    script_user root
}
track_file counted {
    file FILE
    weight 2
}
track_file of_vrrp {
    file /nowhere
}
SSL {
    password SECRET
}
virtual_server_group nobodys {
    10.0.2.1 80
}
virtual_server_group G4 {
    10.0.0.50 80
    10.0.1.1-3 80
    fwmark 7
}
virtual_server_group G6 {
    fd00::50 80
    fd00::1:1-3 81
}
virtual_server 10.0.0.1 80 {
    delay_loop 1
    lvs_sched sh
    sh-port
    sh-fallback
    ops
    lvs_method NAT
    persistence_timeout 50
    persistence_granularity 255.255.255.0
    protocol UDP
    alpha
    omega
    quorum 3
    hysteresis 1
    quorum_up "/bin/true up"
    quorum_down "/bin/true down"
    ha_suspend
    smtp_alert
    virtualhost www.example.com
    sorry_server 127.0.0.9 80
    sorry_server_inhibit
    sorry_server_lvs_method DR
    retry 5
    delay_before_retry 2
    warmup 3
    real_server 127.0.0.1 80 {
        weight 3
        lvs_method TUN
        inhibit_on_failure
        uthreshold 100
        lthreshold 10
        notify_up "/bin/true up"
        notify_down "/bin/true down"
        TCP_CHECK {
            connect_timeout 2
            connect_port 91
            bindto 127.0.0.1
            bind_port 5000
            fwmark 5
        }
    }
    real_server 127.0.0.1 91 {
        smtp_alert off
        MISC_CHECK {
            misc_path "/bin/false a 'b c'"
            misc_timeout 5
            user nobody
        }
    }
}
virtual_server fwmark 9 {
    delay_loop 2.5
    lvs_sched mh
    mh-fallback
    lvs_method DR
    ip_family inet6
    real_server fd00::9 0 {
        HTTP_GET {
            http_protocol 1.1
            url {
                path /a
                digest 00112233445566778899aabbccddeeff
                status_code 200 300-310
                virtualhost other
            }
            url {
                path /b
                regex "a b"
                regex_min_offset 3
                regex_max_offset 9
            }
            connect_port 80
            fast_recovery
        }
        SSL_GET {
            enable_sni
            url {
                path /
                regex x
                regex_no_match
            }
            connect_ip fd00::8
            connect_port 443
        }
    }
    real_server fd00::a 0 {
        SMTP_CHECK {
            helo_name me
            connect_port 25
        }
        PING_CHECK {
        }
    }
}
virtual_server group G4 {
    delay_loop 60
    lvs_sched wrr
    lvs_method TUN
    protocol TCP
    warmup 0
    retry 0
    real_server 127.0.0.1 80 {
        inhibit_on_failure
        TCP_CHECK {
        }
    }
    real_server 127.0.0.2 80 {
        MISC_CHECK {
            misc_path SCRIPT
            misc_dynamic
            misc_timeout 4
        }
        lvs_method TUN type gue port 5555 csum
    }
    real_server 127.0.0.3 80 {
        MISC_CHECK {
            misc_path /bin/false
            misc_timeout 5
        }
    }
    real_server 127.0.0.4 80 {
        smtp_alert off
        FILE_CHECK {
            track_file counted
            weight 3 reverse
        }
    }
}
virtual_server_group mixed {
    10.0.3.1 80
    fd00::3:1 80
}
virtual_server group mixed {
    lvs_method TUN
    protocol TCP
    real_server 127.0.0.5 80 {
        FILE_CHECK {
            track_file counted
        }
    }
}
virtual_server group G6 {
    lvs_sched lc
    lvs_method NAT
    protocol TCP
    persistence_timeout 10
    persistence_granularity 64
    real_server fd00::9 80 {
        UDP_CHECK {
            payload 00FF10
            require_reply 12xx
            min_reply_length 1
            max_reply_length 9
        }
        UDP_CHECK {
        }
        DNS_CHECK {
            name example.com
            type AAAA
        }
    }
}
"""
LEFT_OUT = re.compile(
    r"^   Inhibit on failure is O\w+\n(?=   quorum)"
    r"|^ System is compiled.*\n|^ *(reloaded|previous effective_weight|Hashed|Default delay before retry) = .*\n"
    r"|^   Last \w+ = .*\n"
    r"|^   (connection timeout|delay_loop|Delay loop|Warmup|Retry count|Retry delay) = [\d.]+\n|^   Alpha is .*\n"
    r"|^     (Regex (options|ref count)|Reloaded).*\n|^   (Retries iterations|Failed URL) = .*\n",
    re.MULTILINE,
)
"""Of theirs: what belongs to checkers, or to nobody here."""


@pytest.mark.skipif(bool(no_ipvs.why_not(THEIRS)), reason=no_ipvs.why_not(THEIRS))
def test_services_and_checkers_are_keepaliveds(rig: Rig, tmp_path: Path) -> None:
    """Up, down, suspended, with another weight, not checked yet."""
    counted = tmp_path / "counted"
    counted.write_text("4")
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\nexit 9\n")
    script.chmod(0o755)
    config = CHECKED.replace("FILE", str(counted), 1).replace("SCRIPT", str(script))
    found = []
    for program in (THEIRS, OURS):
        host = rig.host(program)
        command = no_ipvs.command(program, tmp_path)
        daemon = host.start(program, config, "-C", command=command)
        for words in (
            "Disabling service [127.0.0.1]",
            "7 for active service [127.0.0.2]",
            "Removing service [127.0.0.3]",
        ):
            rig.wait(lambda words=words, daemon=daemon: words in daemon.log, 15)
        daemon.signal(signal.SIGUSR1)
        path = daemon.directory / "keepalived_check.data"
        rig.wait(lambda path=path: path.exists() and path.stat().st_size, 10)
        daemon.stop()
        text = LEFT_OUT.sub("", OF_VRRP.sub("", path.read_text()))
        assert "SECRET" not in text or program == THEIRS
        known = ("Global", "SSL", "LVS", "Health", "Checker track files")
        found.append(sections(text.replace("SECRET", "********"), *known))
    different = "\n".join(difflib.unified_diff(*found, "keepalived", "ours", n=0, lineterm=""))
    assert not different, different


def test_instances_groups_and_trackers_are_keepaliveds(rig: Rig, tmp_path: Path) -> None:
    """Routes and rules are shown as 2.2.7 does; track_process came to JSON later."""
    both = [alone(rig, program, tmp_path) for program in (THEIRS, OURS)]
    theirs, ours = (dumps(rig, host, daemon, tmp_path) for host, daemon in both)
    different = "\n".join(difflib.unified_diff(theirs[0], ours[0], "keepalived", "ours", n=0, lineterm=""))
    assert not different, different
    assert ours[1] == theirs[1]
    assert ours[2] == theirs[2]

"""The sections of keepalived.data beside VRRP Topology, line for line those of Debian's keepalived."""

from __future__ import annotations

import difflib
import re
import signal
from pathlib import Path

import pytest

from tests.netns.conftest import Pair
from tests.netns.rig import OURS, THEIRS

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
    vrrp_garp_master_refresh 60
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
    text = text.replace("FILE1", str(tmp_path / "fifo"))
    found = []
    for host, program in ((pair.one, OURS), (pair.two, THEIRS)):
        daemon = host.start(program, text)
        pair.rig.wait(lambda host=host: host.has("10.0.0.100"), 15)
        daemon.signal(signal.SIGUSR1)
        path = daemon.directory / "keepalived.data"
        pair.rig.wait(lambda path=path: path.exists() and "------< Interfaces" in path.read_text(), 10)
        found.append(sections(path.read_text(), "Global", "Gratuitous", "GARP", "Static", "Interfaces"))
        daemon.stop()
        pair.rig.wait(lambda host=host: not host.has("10.0.0.100"), 10)
    ours = [line.replace("address = 10.0.0.1", "address = 10.0.0.2") for line in found[0]]
    different = "\n".join(difflib.unified_diff(found[1], ours, "keepalived", "ours", n=0, lineterm=""))
    assert not different, different

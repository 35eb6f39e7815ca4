"""OpenStack Octavia's amphora: its agent writes the file and the unit for VRRP, starts, reloads and stops it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from octavia.amphorae.backends.agent.api_server import server, util
from octavia.amphorae.drivers.keepalived.jinja import jinja_cfg
from octavia.common import constants

from tests.agents import units
from tests.agents.facts import Namespace, fact, tell, wait

VIP, VIP6, OTHER6 = "10.9.0.5", "fd00:9::15", "fd00:9::16"


def rendered() -> str:
    """The configuration of a load balancer in the topology of two, with an address of each family."""
    pair = [
        SimpleNamespace(
            status=constants.AMPHORA_ALLOCATED, vrrp_ip=ip, vrrp_interface="eth1", vrrp_id=1, vrrp_priority=priority
        )
        for ip, priority in (("10.9.0.1", 100), ("10.9.0.2", 90))
    ]
    group = SimpleNamespace(vrrp_group_name="GROUP", vrrp_auth_type="PASS", vrrp_auth_pass="secretly", advert_int=1)
    balancer = SimpleNamespace(amphorae=pair, vrrp_group=group, vip=SimpleNamespace(ip_address=VIP))
    subnet = {"cidr": "10.9.0.0/24", "gateway_ip": "10.9.0.254", "host_routes": []}
    subnet6 = {"cidr": "fd00:9::/64", "gateway_ip": "fd00:9::ff", "host_routes": []}
    network = {"vip_subnet": subnet, "additional_vip_data": [{"ip_address": VIP6, "subnet": subnet6}]}
    return str(jinja_cfg.KeepalivedJinjaTemplater().build_keepalived_config(balancer, pair[0], network))


def main() -> None:
    space, base = Namespace(sys.argv[1]), Path(sys.argv[2])
    units.use(space.name, base)
    with mock.patch("octavia.amphorae.backends.agent.api_server.plug.Plug.plug_lo"):
        agent = server.Server(mock.MagicMock()).app.test_client()

    def ask(what: str, data: str = "") -> bool:
        return bool(agent.put(f"/1.0/vrrp/{what}", data=data).status_code in (200, 202))

    check = base / "vrrp/check_scripts/haproxy_check_script.sh"
    text = rendered()
    fact("the agent takes the configuration", ask("upload", text))
    check.write_text("exit 0")
    fact("starts the unit", ask("start"))
    file = Path(util.keepalived_pid_path())
    wait("whose pid file names a process", lambda: file.read_text().strip(), 5)
    pid = int(file.read_text())
    os.kill(pid, 0)  # as its health daemon does
    wait("the addresses come", lambda: space.has(VIP) and space.has(VIP6))
    for family in ("-4", "-6"):
        rules, routes = space.ip(family, "rule"), space.ip(family, "route", "show", "table", "1")
        fact(f"the rule and both routes of the table too ({family})", "lookup 1" in rules and routes.count("eth1") == 2)

    fact("another file is taken", ask("upload", text.replace(VIP6, OTHER6)))
    check.write_text("exit 0")
    fact("a start of what runs is a reload", ask("start"))
    wait("that changes the addresses", lambda: space.has(OTHER6) and not space.has(VIP6), 5)
    fact("and leaves the others and the daemon", space.has(VIP) and int(file.read_text()) == pid)

    check.write_text("exit 1")
    wait("a load balancer that fails its check loses the address", lambda: not space.has(VIP), 20)
    check.write_text("exit 0")
    wait("and gets it back", lambda: space.has(VIP), 25)

    fact("the unit is stopped", ask("stop"))
    wait("nothing of it is left", lambda: not space.pids() and not space.has(VIP), 5)
    fact("no rule, no route, no pid file", "lookup 1" not in space.ip("rule") and not file.exists())
    tell()


if __name__ == "__main__":
    main()

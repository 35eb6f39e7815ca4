"""OpenStack Octavia's UDP listeners: the agent starts health checking, and reads the states of members from IPVS."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from octavia.amphorae.backends.agent.api_server import server, util
from octavia.amphorae.backends.utils import keepalivedlvs_query
from octavia.common.jinja.lvs import jinja_cfg
from octavia.tests.unit.common.sample_configs import sample_configs_combined as samples
from oslo_config import cfg

from tests.agents import units
from tests.agents.facts import Namespace, fact, tell, wait

MEMBERS = ("10.0.0.99", "10.0.0.98")
SERVE = "import socket; s = socket.create_server(('{}', 82))\nwhile True: s.accept()[0].close()"


def rendered() -> tuple[str, str]:
    """Octavia's own sample with TCP checks that are quick, and the identifier of the listener."""
    text = jinja_cfg.LvsJinjaTemplater().render_loadbalancer_obj(
        samples.sample_listener_tuple(proto="UDP", monitor_proto="TCP")
    )
    known: dict[str, str] = {}

    def identifier(match: re.Match[str]) -> str:
        return known.setdefault(match[0], f"0000000{len(known)}-0000-4000-8000-000000000000")

    text = re.sub(r"sample_\w+_id_\d", identifier, text)
    for option, seconds in (("delay_loop", 2), ("delay_before_retry", 1), ("retry", 1), ("connect_timeout", 2)):
        text = re.sub(rf"\b{option} \d+", f"{option} {seconds}", text)
    return text, known["sample_listener_id_1"]


def main() -> None:
    space, base = Namespace(sys.argv[1]), Path(sys.argv[2])
    others = sys.argv[3]
    units.use(space.name, base)
    cfg.CONF.set_override("loadbalancer_topology", "SINGLE", "controller_worker")
    util.send_vip_advertisements = lambda **asked: None
    with mock.patch("octavia.amphorae.backends.agent.api_server.plug.Plug.plug_lo"):
        agent = server.Server(mock.MagicMock()).app.test_client()

    def serve(address: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["ip", "netns", "exec", others, sys.executable, "-c", SERVE.format(address)])

    servers = {address: serve(address) for address in MEMBERS}
    text, listener = rendered()

    def ask(method: Any, path: str, data: str = "") -> bool:
        return bool(method(f"/1.0/{path}", data=data).status_code in (200, 202))

    def states() -> list[str]:
        try:
            return sorted(keepalivedlvs_query.get_lvs_listener_pool_status(listener)["lvs"]["members"].values())
        except FileNotFoundError:  # the pid file of a checker that is still starting
            return []

    try:
        fact("the agent takes the configuration", ask(agent.put, f"listeners/a/{listener}/udp_listener", text))
        fact("starts the unit", ask(agent.put, f"loadbalancer/{listener}/start"))
        wait("both members are up", lambda: states() == ["UP", "UP"], 30)
        (shown,) = agent.get("/1.0/listeners").get_json()
        fact("the listener is active", shown["status"] == "ACTIVE" and shown["uuid"] == listener)
        fact("its statistics are read", keepalivedlvs_query.get_lvs_listeners_stats()[listener]["status"] == "OPEN")
        servers[MEMBERS[1]].kill()
        wait("a member without its server is down", lambda: states() == ["DOWN", "UP"], 30)
        servers[MEMBERS[1]] = serve(MEMBERS[1])
        wait("and up again with it", lambda: states() == ["UP", "UP"], 30)
        fact("a reload restarts the unit", ask(agent.put, f"loadbalancer/{listener}/reload"))
        wait("after which both are up", lambda: states() == ["UP", "UP"], 30)
        fact("the listener is deleted", ask(agent.delete, f"listeners/{listener}"))
        fact("no file is left", [each.name for each in (base / "lvs").iterdir()] == ["check"])
        left = subprocess.run(["ip", "netns", "exec", space.name, "ipvsadm", "-Sn"], capture_output=True, check=True)
        fact("no service is left", not left.stdout.strip())
    finally:
        for each in servers.values():
            each.kill()
    tell()


if __name__ == "__main__":
    main()

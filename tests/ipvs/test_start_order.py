"""A router that comes back takes its addresses only when its services stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ipvs.compare import OURS, running, wait
from tests.ipvs.test_ipvs_table import HEAD, server
from tests.ipvs.test_track_virtual_server import VIP, _interface

pytestmark = pytest.mark.ipvs
__all__ = ["_interface"]

OWNER = f"""
vrrp_instance VI_1 {{
    interface v0
    state MASTER
    priority 255
    virtual_router_id 1
    virtual_ipaddress {{
        {VIP}/24
    }}
}}
"""


SERVICES = 500
"""So many that it takes a while."""


@pytest.mark.usefixtures("_interface")
def test_addresses_come_after_the_services() -> None:
    many = "".join(
        server(f"{VIP} {port}", HEAD, "real_server 10.5.0.9 80 {\n }") for port in range(1000, 1000 + SERVICES)
    )
    seen: list[int] = []

    def look() -> bool:
        """Without a process: all of them could come while it starts."""
        seen.append(Path("/proc/net/ip_vs").read_text().count("TCP "))  # before the address
        return VIP in Path("/proc/net/fib_trie").read_text()

    with running(OURS, OWNER + many, "--all"):
        wait(look)
    assert seen[-1] == SERVICES

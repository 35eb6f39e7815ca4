"""Others change what is ours: network managers that flush, interfaces that are deleted, renamed and made again."""

from __future__ import annotations

import random
import time

from tests.torture.arena import VIP, Arena
from tests.torture.story import story

FLUSHES = (
    "ip addr flush dev eth0 scope global",
    f"ip addr del {VIP}/24 dev eth0",
    "ip route flush table 100",
    "ip route del 10.61.0.0/16",
    "ip rule del preference 700",
)
ROUTES = (
    "virtual_routes {\n 10.60.0.0/16 via 10.0.0.9 table 100\n 10.61.0.0/16 via 10.0.0.9\n }",
    "virtual_rules {\n from 10.60.0.0/16 table 100 preference 700\n }",
    "mcast_src_ip 10.0.0.1",
)


@story("network managers that flush")
def flushing(arena: Arena) -> None:
    """Addresses, routes and rules are flushed again and again, the host's own addresses too: all of ours comes back."""
    text = "global_defs {\n vrrp_restore_lost 1000\n}\n" if arena.program == "keepalived-py" else ""
    arena.start("one", text + arena.config("one", *ROUTES))
    arena.start("two", text + arena.config("two", *ROUTES[:2]))
    arena.settle("one")
    host, choice = arena.hosts["one"], random.Random(3)
    for _ in range(30):
        command = choice.choice(FLUSHES)
        host.run(*command.split(), check=False)
        if "flush dev" in command:
            host.run("ip", "addr", "add", "10.0.0.1/24", "dev", "eth0")
            host.run("ip", "addr", "add", "10.0.0.77/24", "dev", "eth0")
            host.run("ip", "route", "add", "10.66.0.0/16", "via", "10.0.0.9")
        time.sleep(choice.uniform(0.0, 0.3))
    arena.settle_later("one")
    arena.until(
        lambda: "10.60.0.0/16" in host.run("ip", "route", "show", "table", "100"), 2, "the route in table 100 is back"
    )
    arena.until(lambda: "10.61.0.0/16" in host.run("ip", "route", "show"), 2, "the route is back")
    arena.until(lambda: "700:" in host.run("ip", "rule"), 2, "the rule is back")


@story("interfaces that go and come", quick=True)
def interfaces(arena: Arena) -> None:
    """The master's interface is deleted and made anew, renamed and renamed back: the other one serves meanwhile."""
    arena.causes += ("interface eth0 is down", "interface eth0 is missing")
    arena.begin()
    host = arena.hosts["one"]
    with arena.away("one"):
        host.run("ip", "link", "del", "eth0")
        arena.until(lambda: arena.holders() == ["two"], 5, "the other one takes over")
        host.plug(arena.lan, "eth0", "10.0.0.1/24")
    host.run("ip", "addr", "add", "10.0.0.77/24", "dev", "eth0")
    host.run("ip", "route", "add", "10.66.0.0/16", "via", "10.0.0.9")
    arena.settle_later("one")
    with arena.away("one"):
        for old, new in (("eth0", "eth7"), ("eth7", "eth0")):
            host.run("ip", "link", "set", old, "down")
            host.run("ip", "link", "set", old, "name", new)
            host.run("ip", "link", "set", new, "up")
            arena.until(lambda: "two" in arena.holders(), 5, "the other one takes over")
    host.run("ip", "route", "add", "10.66.0.0/16", "via", "10.0.0.9", check=False)
    arena.settle_later("one")

"""Thousands of addresses come and go: the router that handles them keeps speaking, and keeps listening."""

from __future__ import annotations

from collections import Counter

from tests.netns.rig import OURS
from tests.torture.arena import Arena
from tests.torture.story import story

COUNT = 4000


def addresses() -> str:
    """Beside the one of the instance, so that the other routers need not have them."""
    rows = (f"10.{100 + number // 250}.{number // 250}.{number % 250 + 1}/32" for number in range(COUNT))
    return "virtual_ipaddress_excluded {\n" + "\n".join(rows) + "\n }\n"


def masters(arena: Arena) -> Counter[str]:
    """How often each router thought itself master."""
    return Counter({name: daemon.log.count("Entering MASTER STATE") for name, daemon in arena.daemons.items()})


def take_over(arena: Arena, settings: str = "") -> None:
    """The first router takes the role from the second, then loses it: nobody else ever thinks itself master."""
    value = arena.rig.directory / "value"
    value.write_text("0\n")
    tracked = f"vrrp_track_file lower {{\n file {value}\n weight 1\n}}\n"
    for name in ("two", "three"):
        arena.start(name, settings + arena.config(name))
    arena.settle("two")
    arena.daemons["two"].said("Entering MASTER STATE")
    before = masters(arena)
    arena.start("one", settings + tracked + arena.config("one", "track_file {\n lower\n }\n", addresses()))
    host = arena.hosts["one"]

    def present() -> int:
        return host.run("ip", "-4", "-o", "addr").count("/32")

    arena.until(lambda: present() == COUNT, 60, "all addresses come")
    value.write_text("-75\n")  # below the second router, above the third
    arena.until(lambda: present() == 0, 60, "all addresses go")
    arena.settle_later("two")
    arena.until(lambda: masters(arena) - before == {"one": 1, "two": 1}, 5, "no master but the one that is due")
    arena.say(f"became master: {dict(masters(arena) - before)}")


@story("4,000 addresses, advert_int 0.1", routers=3, interval=0.1, quick=True)
def many(arena: Arena) -> None:
    """The first router takes the role with 4,000 addresses and loses it: nobody else ever thinks itself master."""
    take_over(arena)


@story("4,000 addresses, advert_int 0.01", routers=3, interval=0.01, programs=(OURS,))
def many_quickly(arena: Arena) -> None:
    """The same with an interval of ten milliseconds, where nobody else may keep the routers from running."""
    take_over(arena, "global_defs {\n vrrp_rt_priority 50\n}\n")

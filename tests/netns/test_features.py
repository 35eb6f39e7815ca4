"""Every feature of the protocol beside Debian's keepalived, both ways round: an instance of each, all at once."""

from __future__ import annotations

import pytest

from tests.netns.conftest import Pair
from tests.netns.rig import OURS, THEIRS

pytestmark = pytest.mark.netns

PASSWORD, HEADER = (f"authentication {{\n auth_type {each}\n auth_pass secret\n }}" for each in ("PASS", "AH"))
UNICAST = "unicast_src_ip 10.0.0.OWN\n unicast_peer {\n 10.0.0.PEER\n }"
FEATURES: dict[str, tuple[int, int, str]] = {
    # version, family, lines
    "plain": (2, 4, ""),
    "password": (2, 4, PASSWORD),
    "authentication header": (2, 4, HEADER),
    "version 3": (3, 4, ""),
    "IPv6": (3, 6, ""),
    "version 2 over IPv6": (2, 6, ""),  # no RFC has it, keepalived does
    "strict version 2": (2, 4, "strict_mode on"),
    "strict version 3": (3, 4, "strict_mode on"),
    "unicast": (3, 4, UNICAST),
    "unicast with a password": (2, 4, UNICAST + "\n" + PASSWORD),
    "unicast with a header": (2, 4, UNICAST + "\n" + HEADER),
    "unicast over IPv6": (3, 6, UNICAST.replace("10.0.0.", "fd00::")),
    "limits of the TTL": (3, 4, UNICAST.replace("PEER", "PEER min_ttl 60 max_ttl 64") + "\n unicast_ttl 64"),
    "old checksum": (3, 4, UNICAST + "\n old_unicast_checksum"),
    "known peers only": (3, 4, UNICAST + "\n check_unicast_src"),
    "source address": (3, 4, "mcast_src_ip 10.0.0.OWN"),
    "addresses not compared": (3, 4, "skip_check_adv_addr on"),
    "short interval": (3, 4, "advert_int 0.05"),
    "no preemption": (3, 4, "nopreempt"),
    "virtual MAC": (3, 4, "use_vmac"),
    "virtual MAC, sent below": (3, 4, "use_vmac\n vmac_xmit_base"),
    "virtual MAC over IPv6": (3, 6, "use_vmac"),
    "many addresses": (3, 4, "MANY"),
}
GROUPS = "vrrp_mcast_group4 224.0.0.99\n vrrp_mcast_group6 ff02::99"


def address(number: int, family: int) -> str:
    return f"10.0.1.{number}" if family == 4 else f"fd00::1:{number}"


def instance(number: int, own: int, priority: int, version: int, family: int, lines: str) -> str:
    lines = lines.replace("OWN", str(own)).replace("PEER", str(3 - own))
    interval = "" if "advert_int" in lines else "advert_int 1"
    more = [f"10.0.2.{each}" for each in range(1, 101)] if "MANY" in lines else []
    first = [f"fe80::1:{number}"] if family == 6 else []
    held = "\n  ".join([*first, address(number, family), *more])
    return f"""
vrrp_instance VI_{number} {{
 state BACKUP
 interface eth0
 version {version}
 virtual_router_id {number}
 priority {priority}
 {interval}
 {lines.replace("MANY", "")}
 virtual_ipaddress {{
  {held}
 }}
}}
"""


def config(own: int, priority: int, defaults: str) -> str:
    rows = enumerate(FEATURES.values(), 1)
    return f"global_defs {{\n {defaults}\n}}\n" + "".join(instance(n, own, priority, *row) for n, row in rows)


@pytest.mark.parametrize("defaults", ["", GROUPS], ids=["usual groups", "other groups"])
@pytest.mark.parametrize(("first", "second"), [(OURS, THEIRS), (THEIRS, OURS)])
def test_there_is_one_master_and_the_other_one_follows(pair: Pair, first: str, second: str, defaults: str) -> None:
    names = {address(number, row[1]): name for number, (name, row) in enumerate(FEATURES.items(), 1)}
    master = pair.one.start(first, config(1, 150, defaults))

    def split() -> tuple[set[str], set[str]]:
        """Features whose address is on the first router, and on the second one."""
        held = pair.one.addresses(), pair.two.addresses()
        return {names[each] for each in held[0] & names.keys()}, {names[each] for each in held[1] & names.keys()}

    everything = set(names.values())
    pair.rig.wait(lambda: split()[0] == everything, 20)
    backup = pair.two.start(second, config(2, 100, defaults))
    pair.rig.wait(lambda: backup.log.count("BACKUP STATE") == len(FEATURES), 20)
    pair.rig.holds(lambda: split() == (everything, set()), 4.5)  # longer than anybody waits
    master.kill()
    pair.rig.wait(lambda: split()[1] == everything, 20)
    assert backup.process.poll() is None

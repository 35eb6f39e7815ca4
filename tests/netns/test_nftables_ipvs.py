"""nftables_ipvs: the rule set in the real nft, and the marks that packets get from it."""

from __future__ import annotations

import asyncio
import json

import pytest

from keepalived_py.config.model import GroupRange, IpvsSettings, VirtualServer
from keepalived_py.plan.marks import assign, ruleset
from keepalived_py.values import Protocol, ServiceKey, ip_address
from tests.netns.conftest import Pair
from tests.netns.rig import Host
from workers.checker.marks import GroupMarks

pytestmark = pytest.mark.netns

SEND = """
import socket, sys
address, port, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
with socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as sock:
    sock.settimeout(1)
    try:
        sock.connect((address, port))
        sock.send(b"x")
    except OSError:
        pass
"""
COUNT = """
table {family} seen {{
 chain in {{ type filter hook input priority 50;
  meta mark 1000 counter
  meta mark 1001 counter
  meta mark 1002 counter
 }}
}}
"""


def entry(first: str, last: str = "", port: int = 80) -> GroupRange:
    return GroupRange(first=ip_address(first), last=ip_address(last or first), port=port)


def group(name: str, protocol: Protocol, *entries: GroupRange) -> VirtualServer:
    return VirtualServer(key=ServiceKey(protocol=protocol, group=name, family=4), group_entries=entries)


SERVERS = (
    group("one", Protocol.TCP, entry("10.0.0.1", "10.0.0.2"), entry("fd00::1")),
    group("one", Protocol.UDP, entry("10.0.0.1", port=0)),
    group("two", Protocol.TCP, entry("10.0.0.1", port=443)),
    group("sctp", Protocol.SCTP, entry("10.0.0.1")),
)


def load(host: Host, text: str) -> None:
    path = host.rig.directory / "rules"
    path.write_text(text)
    host.run("nft", "-f", str(path))


def counted(host: Host, family: str) -> dict[int, int]:
    """Packets by mark."""
    found: dict[int, int] = {}
    for item in json.loads(host.run("nft", "-j", "list", "table", family, "seen"))["nftables"]:
        expressions = item.get("rule", {}).get("expr", [])
        if expressions:
            found[expressions[0]["match"]["right"]] = expressions[1]["counter"]["packets"]
    return {mark: packets for mark, packets in found.items() if packets}


@pytest.mark.parametrize(
    ("family", "address", "port", "kind", "mark"),
    [
        ("ip", "10.0.0.1", 80, "tcp", 1000),
        ("ip", "10.0.0.1", 81, "tcp", None),
        ("ip", "10.0.0.1", 443, "tcp", 1002),
        ("ip", "10.0.0.1", 80, "udp", 1001),
        ("ip", "10.0.0.1", 5353, "udp", 1001),
        ("ip6", "fd00::1", 80, "tcp", 1000),
        ("ip6", "fd00::1", 80, "udp", None),
    ],
)
def test_packets_get_the_mark_of_their_group(
    pair: Pair, family: str, address: str, port: int, kind: str, mark: int | None
) -> None:
    load(pair.one, ruleset("keepalived_ipvs", -1, SERVERS, assign(SERVERS, 1000, {})))
    load(pair.one, COUNT.format(family=family))
    pair.client.run("python3", "-c", SEND, address, str(port), kind)
    assert list(counted(pair.one, family)) == ([] if mark is None else [mark])


def test_a_rule_set_replaces_the_last_and_an_empty_one_removes_it(pair: Pair) -> None:
    marks = assign(SERVERS, 1000, {})
    for _ in range(2):
        load(pair.one, ruleset("keepalived_ipvs", -1, SERVERS, marks))
    assert pair.one.run("nft", "list", "tables").split("\n")[:2] == [
        "table ip keepalived_ipvs",
        "table ip6 keepalived_ipvs",
    ]
    load(pair.one, ruleset("keepalived_ipvs", -1, SERVERS[1:3], marks))
    assert "ip6" not in pair.one.run("nft", "list", "tables")
    load(pair.one, ruleset("keepalived_ipvs", -1, (), {}))
    assert pair.one.run("nft", "list", "tables") == ""


def test_what_others_change_is_put_back_in_the_namespace_of_ipvs(pair: Pair) -> None:
    host = pair.one

    async def story() -> None:
        marks = GroupMarks(host.namespace)
        marks.restorer.limit = 5
        await marks.apply(IpvsSettings(nftables_table="keepalived_ipvs"), SERVERS)
        before = host.run("nft", "list", "ruleset")
        for change in ("flush ruleset", "flush chain ip6 keepalived_ipvs in"):
            host.run("nft", change)
            for _ in range(200):
                if host.run("nft", "list", "ruleset") == before:
                    break
                await asyncio.sleep(0.01)
            assert host.run("nft", "list", "ruleset") == before
        assert marks.restorer.restored == 2
        await marks.close()
        assert host.run("nft", "list", "ruleset") == ""

    asyncio.run(story())

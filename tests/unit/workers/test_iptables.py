"""What follows from what others do to chains and sets of ours, beside what tests/netns/test_iptables.py shows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from keepalived_py.config.model import FirewallSettings
from keepalived_py.values import IPv4Address
from workers.restorer import Restorer
from workers.vrrp import iptables
from workers.vrrp.firewall_rules import Element, Needs, Standing
from workers.vrrp.iptables import Chains

VIP = Element(4, "vips", bytes((10, 0, 0, 1)))
SETTINGS = FirewallSettings(iptables_in="INPUT", ipsets=True)


class Kernel:
    """Takes texts of iptables-restore and ipset, and lists them; sizes never change."""

    def __init__(self) -> None:
        self.rules: list[str] = []
        self.members: list[str] = []
        self.size_of_tables = b""
        self.meanwhile: Callable[[], object] = lambda: None
        """Happens before a list of IPv4 is made."""
        self.afterwards: Callable[[], object] = lambda: None
        """Happens before one of IPv6 is made, which comes next."""

    async def run(self, *command: str, text: str = "") -> tuple[str, str]:
        lines = text.splitlines()
        match command[0], command[-1]:
            case "iptables-restore", _:
                kept = [line for line in self.rules if line.startswith(("-A INPUT", "-A OUTPUT"))]
                self.rules = kept + [f"-N {line.split()[0][1:]}" for line in lines if line.startswith(":")]
                self.rules += [line.replace("-I ", "-A ") for line in lines if line.startswith("-")]
            case "iptables", "-S":
                self.meanwhile()
                return "\n".join(self.rules), ""
            case "ip6tables", "-S":
                self.afterwards()
            case "ipset", "restore":
                self.members = [line.replace("_ ", " ") for line in lines if line.startswith("add ")]
            case "ipset", name:
                return "\n".join(line for line in self.members if f"add {name} " in line), ""
        return "", ""

    def sizes(self) -> list[bytes]:
        return [self.size_of_tables, b""]

    def size(self, name: str) -> int:
        return sum(f"add {name} " in line for line in self.members)

    def change(self, names: tuple[str, ...], content: list[object], *, present: bool) -> None:
        self.members += [f"add {names[0]} {each}" for each in content]


class Lab:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kernel = Kernel()
        monkeypatch.setattr(iptables, "_run", self.kernel.run)
        monkeypatch.setattr(iptables, "Xtables", lambda: self.kernel)
        self.restorer = Restorer(self.load)
        self.restorer.limit = 9
        self.chains = Chains(self.restorer)

    async def load(self) -> bool:
        wanted = Needs(closed=frozenset({4}))
        return await self.chains.load(wanted, SETTINGS, [VIP], Standing(frozenset({(IPv4Address("10.0.0.1"), "")})))

    async def look(self, *, at_all: bool) -> int:
        """How often chains and sets were put back because of a look at sizes, or rule by rule."""
        before = self.restorer.restored
        if at_all:
            self.chains._compared = -iptables.COMPARE
        self.chains._look()
        for _ in range(20):
            await asyncio.sleep(0)
        return self.restorer.restored - before


def test_what_keeps_its_size_is_found_rule_by_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        lab = Lab(monkeypatch)
        await lab.load()
        whole = set(lab.kernel.rules)
        assert await lab.look(at_all=True) == 0
        lab.kernel.rules[-1] = "-A keepalived_out -j ACCEPT"
        assert await lab.look(at_all=False) == 0
        assert await lab.look(at_all=True) == 1
        assert set(lab.kernel.rules) == whole
        lab.kernel.members = ["add keepalived 10.0.0.2"]
        assert await lab.look(at_all=True) == 1
        assert lab.kernel.members == ["add keepalived 10.0.0.1"]
        lab.kernel.rules.append("-A INPUT -s 192.0.2.1/32 -j DROP")
        assert await lab.look(at_all=True) == 0

    asyncio.run(story())


def test_what_changes_while_it_is_compared_is_compared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        lab = Lab(monkeypatch)
        await lab.load()
        other = Element(4, "vips", bytes((10, 0, 0, 3)))
        lab.kernel.meanwhile = lambda: lab.chains.change([other], present=True)
        assert await lab.look(at_all=True) == 0
        lab.kernel.meanwhile = lambda: None
        lab.kernel.rules.pop()
        assert await lab.look(at_all=False) == 1

    asyncio.run(story())


def test_what_others_do_right_after_the_list_was_made_is_found_by_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        lab = Lab(monkeypatch)
        lists = 0

        def flush() -> None:
            nonlocal lists
            lists += 1
            if lists == 2:
                lab.kernel.rules.pop()
                lab.kernel.size_of_tables = b"less"

        lab.kernel.afterwards = flush
        await lab.load()
        lab.kernel.afterwards = lambda: None
        assert await lab.look(at_all=False) == 1

    asyncio.run(story())


def test_what_others_did_before_the_list_was_made_is_not_taken_for_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        lab = Lab(monkeypatch)
        lab.kernel.meanwhile = lambda: lab.kernel.rules and lab.kernel.rules.pop()
        await lab.load()
        lab.kernel.meanwhile = lambda: None
        assert await lab.look(at_all=False) == 1

    asyncio.run(story())

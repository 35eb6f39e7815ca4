"""Accept mode and the filters of VMACs by iptables and ipset, for hosts whose iptables is not that of nftables.

Rules are in two chains of ours, to which the chains of vrrp_iptables jump; they are replaced as a whole. With sets,
becoming and leaving master only changes members, by netlink. Without, addresses have rules all the time: nothing of
what is not held comes by the input and output chains anyway. Reports of group membership are dropped and not sent
below, which iptables cannot. Layouts: linux/netfilter/ipset/ip_set.h.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from asyncio.subprocess import PIPE
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address

from keepalived_py.config.model import FirewallSettings
from keepalived_py.values import IPAddress
from workers.nftables_keeper import NETLINK_NETFILTER, NFGENMSG

from .firewall_rules import Element, Needs
from .rtnetlink import NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR, attribute, message, messages

logger = logging.getLogger(__name__)

LIMIT = 10.0
"""Seconds that a command may take."""
COMMANDS = {4: "iptables", 6: "ip6tables"}
WAIT = ("-w", "5")
"""Seconds that others may hold the lock of iptables."""
IN, OUT = "keepalived_in", "keepalived_out"
SETS = {
    "keepalived": "hash:ip family inet",
    "keepalived6": "hash:ip family inet6",
    "keepalived_if6": "hash:net,iface family inet6",
    "keepalived_igmp": "hash:net,iface family inet",
    "keepalived_mld": "hash:net,iface family inet6",
}
ADDRESS_SET, LINK_LOCAL_SET, VMAC_SET = {4: 0, 6: 1}, 2, {4: 3, 6: 4}
"""Places in SETS by family."""
GROUPS = {4: ip_address("224.0.0.0"), 6: ip_address("ff00::")}
GROUP_PREFIX = {4: 4, 6: 8}
NEIGHBOUR_TYPES, REPORT, ROUTER_SOLICITATION = (135, 136), 143, 133
SUBSYSTEM, ADD, DELETE = 6, 9, 10
PROTOCOL, SET_NAME, DATA = 1, 2, 7
ADDRESS, PREFIX, INTERFACE = 1, 3, 23
PROTOCOL_VERSION = 6
NESTED, NETWORK_ORDER = 0x8000, 0x4000
MANY = 500
"""Messages in one datagram."""


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """Of a set: `set` is the place of its name in SETS."""

    set: int
    address: IPAddress
    prefix: int
    interface: str = ""

    def __str__(self) -> str:
        net = f"{self.address}/{self.prefix}" if self.prefix < self.address.max_prefixlen else str(self.address)
        return ",".join(filter(None, (net, self.interface)))


class Interfaces(dict[int, str]):
    """Names by index, also of those that went."""

    def __missing__(self, index: int) -> str:
        with suppress(OSError):
            self[index] = socket.if_indextoname(index)
            return self[index]
        return ""


def members(elements: Iterable[Element], names: Interfaces) -> set[Member]:
    """The elements of our tables as members of sets."""
    found = set()
    for element in elements:
        family = element.family
        if element.set == "vips":
            found.add(Member(ADDRESS_SET[family], ip_address(element.key), len(element.key) * 8))
        elif element.set == "vips_link_local":
            name = names[struct.unpack("=I", element.key[16:])[0]]
            found.add(Member(LINK_LOCAL_SET, ip_address(element.key[:16]), 128, name))
        elif element.set == "vmac_map":
            name = names[struct.unpack("=I", element.key)[0]]
            found.add(Member(VMAC_SET[family], GROUPS[family], GROUP_PREFIX[family], name))
    return {each for each in found if each.set < LINK_LOCAL_SET or each.interface}


def set_names(settings: FirewallSettings) -> tuple[str, ...]:
    return settings.ipset_names or tuple(SETS)


def sets_text(names: Iterable[str], content: Iterable[Member]) -> str:
    """For `ipset restore`: every set is filled aside and put in place at once."""
    filled = sorted(content)
    lines = []
    for number, (name, type_of) in enumerate(zip(names, SETS.values(), strict=False)):
        aside = f"{name}_"
        lines += [f"create {name} {type_of} -exist", f"create {aside} {type_of} -exist", f"flush {aside}"]
        lines += [f"add {aside} {each}" for each in filled if each.set == number]
        lines += [f"swap {aside} {name}", f"destroy {aside}"]
    return "\n".join(lines) + "\n"


def filters(
    family: int, wanted: Needs, names: Sequence[str], content: Collection[Member], closed: Iterable[IPAddress]
) -> Iterator[str]:
    """Rules of our chains. `names` are those of the sets; without them each address and interface has rules."""
    own = sorted(each for each in closed if each.version == family)
    if family in wanted.vmacs:
        devices = sorted(each.interface for each in content if each.set == VMAC_SET[family])
        places = [f"-o {name}" for name in devices]
        if names:
            places = [f"-m set --match-set {names[VMAC_SET[family]]} dst,dst"]
        kinds = (
            ["-p igmp"] if family == 4 else [f"-p ipv6-icmp --icmpv6-type {n}" for n in (REPORT, ROUTER_SOLICITATION)]
        )
        yield from (f"-A {OUT} {kind} {place} -j DROP" for place in places for kind in kinds)
    if family not in wanted.closed:
        return
    for chain, flag, to, through in ((IN, "-d", "dst", "src"), (OUT, "-s", "src", "dst")):
        if family == 6:
            yield from (f"-A {chain} -p ipv6-icmp --icmpv6-type {each} -j RETURN" for each in NEIGHBOUR_TYPES)
        if not names:
            yield from (f"-A {chain} {flag} {each} -j DROP" for each in own)
            continue
        if family == 6:
            yield f"-A {chain} -m set --match-set {names[LINK_LOCAL_SET]} {to},{through} -j DROP"
        yield f"-A {chain} -m set --match-set {names[ADDRESS_SET[family]]} {to} -j DROP"


def jumps(settings: FirewallSettings) -> dict[str, str]:
    """Our chains by the rule that leads there."""
    return {f"{at} -j {chain}": chain for at, chain in ((settings.iptables_in, IN), (settings.iptables_out, OUT)) if at}


def jumps_in(listed: str) -> list[str]:
    """The rules that lead to our chains."""
    ends = f" -j {IN}", f" -j {OUT}"
    return [line.removeprefix("-A ") for line in listed.splitlines() if line.startswith("-A ") and line.endswith(ends)]


async def _run(*command: str, text: str = "") -> tuple[str, str]:
    """What a command said, and why it failed, "" when it did not."""
    process = None
    try:
        async with asyncio.timeout(LIMIT):
            process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=PIPE)
            said, wrong = await process.communicate(text.encode())
    except (OSError, TimeoutError) as exc:
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()
        return "", f"{command[0]} cannot be run ({exc or 'no answer'})"
    first = wrong.decode(errors="replace").strip().partition("\n")[0]
    return said.decode(errors="replace"), f"{command[0]}: {first}" if process.returncode else ""


async def is_wanted(settings: FirewallSettings) -> bool:
    """vrrp_iptables, without nftables, where iptables is not another way to write to nftables."""
    if not settings.iptables or settings.nftables:
        return False
    said, wrong = await _run(COMMANDS[4], "-V")
    if wrong:
        logger.error("%s: nftables is used", wrong)
    elif "nf_tables" in said:
        logger.info("iptables writes to nftables here: nftables is used")
    return not wrong and "nf_tables" not in said


class Chains:
    """Our chains and sets."""

    def __init__(self) -> None:
        self._sets: tuple[str, ...] = ()
        """Names of the sets; none: rules do without."""
        self._settings = FirewallSettings()
        self._names = Interfaces()
        self._basis: tuple[Needs, frozenset[IPAddress]] = Needs(), frozenset()
        self._elements: set[Element] = set()
        self._sock: socket.socket | None = None
        self._loading = asyncio.Lock()
        self._task: asyncio.Task[bool] | None = None

    async def load(
        self, wanted: Needs, settings: FirewallSettings, elements: Iterable[Element], closed: frozenset[IPAddress]
    ) -> bool:
        """Make chains and sets, or replace what is in them."""
        self._settings, self._basis, self._elements = settings, (wanted, closed), set(elements)
        async with self._loading:
            content, before = members(self._elements, self._names), self._sets
            self._sets = set_names(settings)[: len(SETS)] if settings.ipsets else ()
            if self._sets:
                _, wrong = await _run("ipset", "restore", text=sets_text(self._sets, content))
                if wrong:
                    logger.warning("%s: every address has rules of its own", wrong)
                    self._sets = ()
            done = await self._fill()
            await self._destroy(set(before) - set(self._sets))
            return done

    async def _destroy(self, names: Iterable[str]) -> None:
        text = "".join(f"destroy {name}\n" for name in names)
        _, wrong = await _run("ipset", "restore", text=text) if text else ("", "")
        if wrong:
            logger.warning("%s", wrong)

    async def _fill(self) -> bool:
        """Replace the rules."""
        wanted, closed = self._basis
        done = True
        for family, command in COMMANDS.items():
            content = members(self._elements, self._names)
            rules = list(filters(family, wanted, self._sets, content, closed))
            present, _ = await _run(command, *WAIT, "-S")
            if rules or f"-N {IN}" in present.splitlines():
                done &= await self._restore(command, [*self._missing(present), *rules])
        return done

    def _missing(self, present: str) -> list[str]:
        """Jumps that are not there yet go to the beginning of their chains, others go."""
        wanted, there = jumps(self._settings), jumps_in(present)
        return [f"-D {each}" for each in there if each not in wanted] + [
            f"-I {each}" for each in wanted if each not in there
        ]

    async def _restore(self, command: str, rules: Iterable[str]) -> bool:
        text = "\n".join(("*filter", f":{IN} - [0:0]", f":{OUT} - [0:0]", *rules, "COMMIT", ""))
        _, wrong = await _run(f"{command}-restore", *WAIT, "-n", text=text)
        if wrong:
            logger.error("%s: accept mode and VMAC filters are without effect", wrong)
        return not wrong

    def change(self, elements: Collection[Element], *, present: bool) -> None:
        """Put elements in or take them out; with sets, before this returns."""
        self._elements = self._elements | set(elements) if present else self._elements - set(elements)
        content = sorted(members(elements, self._names))
        if not self._sets:
            if any(each.set > LINK_LOCAL_SET for each in content):
                self._task = asyncio.get_running_loop().create_task(self._fill_later())
            return
        if self._sock is None:
            self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
            self._sock.setblocking(False)
        try:
            for start in range(0, len(content), MANY):
                chunk = content[start : start + MANY]
                self._sock.send(b"".join(encode(each, self._sets[each.set], present) for each in chunk))
                for code in set(self._answers()):
                    logger.error("ipset: %s", os.strerror(code) if code < 4096 else f"error {code}")
        except OSError as exc:
            logger.error("ipset: %s", exc.strerror)

    async def _fill_later(self) -> bool:
        async with self._loading:
            return await self._fill()

    def _answers(self) -> Iterator[int]:
        """The kernel answers before send returns."""
        assert self._sock is not None
        with suppress(BlockingIOError):
            while True:
                for kind, _, _, body in messages(self._sock.recv(1 << 16)):
                    if kind == NLMSG_ERROR and (code := struct.unpack_from("=i", body)[0]):
                        yield -code

    async def remove(self) -> None:
        """Take chains and sets away."""
        async with self._loading:
            for command in COMMANDS.values():
                present, _ = await _run(command, *WAIT, "-S")
                if f"-N {IN}" in present.splitlines():
                    gone = [f"-D {each}" for each in jumps_in(present)]
                    await self._restore(command, [*gone, f"-X {IN}", f"-X {OUT}"])
            await self._destroy(self._sets)
        if self._sock is not None:
            self._sock.close()
            self._sock = None


def encode(member: Member, name: str, present: bool) -> bytes:
    """Put a member into a set, or take it out; what is so already is no error."""
    family = socket.AF_INET if member.address.version == 4 else socket.AF_INET6
    kind = 1 if member.address.version == 4 else 2
    data = attribute(ADDRESS | NESTED, attribute(kind | NETWORK_ORDER, member.address.packed))
    if member.interface:
        data += attribute(PREFIX, bytes((member.prefix,))) + attribute(INTERFACE, member.interface.encode() + b"\0")
    body = NFGENMSG.pack(family, 0, 0) + attribute(PROTOCOL, bytes((PROTOCOL_VERSION,)))
    body += attribute(SET_NAME, name.encode() + b"\0") + attribute(DATA | NESTED, data)
    return message(SUBSYSTEM << 8 | (ADD if present else DELETE), NLM_F_REQUEST | NLM_F_ACK, body)

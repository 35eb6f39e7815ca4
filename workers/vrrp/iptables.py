"""Accept mode and the filters of VMACs by iptables and ipset, for hosts whose iptables is not that of nftables.

Rules are in chains of ours, to which the chains of vrrp_iptables jump; they are replaced as a whole. With sets,
becoming and leaving master only changes members, by netlink. Without, addresses have rules all the time: nothing of
what is not held comes by the input and output chains anyway.

Nobody tells of changes by others. Sizes of tables and sets are compared ten times a second, which takes a few system
calls, rules and members when a size differs and every ten seconds.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import Collection, Iterable

from keepalived_py.config.model import FirewallSettings
from workers.restorer import Restorer

from .firewall_rules import Element, Needs, Standing
from .iptables_rules import (
    CHAINS,
    IN,
    Interfaces,
    Member,
    below,
    filters,
    jumps,
    jumps_in,
    members,
    ours_in,
    set_names,
    sets_text,
)
from .xtables import Xtables

logger = logging.getLogger(__name__)

LIMIT = 10.0
"""Seconds that a command may take."""
LOOK, COMPARE = 0.1, 10.0
"""Seconds between two looks at sizes, and between two at everything."""
COMMANDS = {4: "iptables", 6: "ip6tables"}
WAIT = ("-w", "5")
"""Seconds that others may hold the lock of iptables."""


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
    """Our chains and sets. `restorer` hears of changes by others, and loads them again."""

    def __init__(self, restorer: Restorer) -> None:
        self._restorer = restorer
        self._sets: tuple[str, ...] = ()
        """Names of the sets; none: rules do without."""
        self._settings = FirewallSettings()
        self._names = Interfaces()
        self._wanted, self._standing = Needs(), Standing()
        self._elements: set[Element] = set()
        self._content: set[Member] = set()
        self._kernel: Xtables | None = None
        self._loading = asyncio.Lock()
        self._stale = False
        """Whether rules follow a change that is not in them yet."""
        self._task: asyncio.Task[None] | None = None
        # what the kernel had after the last load, to be compared
        self._rules: dict[int, list[str]] = {}
        self._sizes: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._compared = 0.0
        self._comparison: asyncio.Task[None] | None = None

    async def load(
        self, wanted: Needs, settings: FirewallSettings, elements: Iterable[Element], standing: Standing
    ) -> bool:
        """Make chains and sets, or replace what is in them."""
        self._unwatch()
        if self._kernel is None:
            self._kernel = Xtables()
        self._settings, self._wanted = settings, wanted
        self._standing = Standing(standing.closed, standing.vmacs | below(elements, self._names))
        self._hold(set(elements))
        async with self._loading:
            before, self._sets = self._sets, set_names(settings)
            if self._sets:
                _, wrong = await _run("ipset", "restore", text=sets_text(self._sets, self._content))
                if wrong:
                    logger.warning("%s: every address has rules of its own", wrong)
                    self._sets = ()
            done = await self._fill()
            await self._destroy(set(before) - set(self._sets))
        self._watch()
        return done

    def _hold(self, elements: set[Element]) -> None:
        self._elements, self._content = elements, members(elements, self._names)

    async def _destroy(self, names: Iterable[str]) -> None:
        text = "".join(f"destroy {name}\n" for name in names)
        _, wrong = await _run("ipset", "restore", text=text) if text else ("", "")
        if wrong:
            logger.warning("%s", wrong)

    async def _fill(self) -> bool:
        """Replace the rules."""
        self._stale, self._sizes = False, []
        placed: dict[int, int | None] = {}
        for family, command in COMMANDS.items():
            rules = list(filters(family, self._wanted, self._sets, self._content, self._standing))
            listed, _ = await _run(command, *WAIT, "-S")
            if rules or f"-N {IN}" in listed.splitlines():
                placed[family] = await self._replace(command, self._missing(listed), rules)
        # sizes first: whoever is quicker than the lists is found by the one or the other
        sizes = self._kernel.sizes() if self._kernel is not None else []
        for family, command in COMMANDS.items():
            listed, _ = await _run(command, *WAIT, "-S")
            self._rules[family] = ours_in(listed)
        whole = len(CHAINS) + len(jumps(self._settings))
        if all(count is None or len(set(self._rules[of])) == whole + count for of, count in placed.items()):
            self._sizes = sizes
        else:
            self._rules = {family: [] for family in COMMANDS}  # it is compared again, and differs
        return None not in placed.values()

    def _missing(self, present: str) -> list[str]:
        """Jumps that are not there yet go to the beginning of their chains, others go."""
        wanted, there = jumps(self._settings), jumps_in(present)
        return [f"-D {each}" for each in there if each not in wanted] + [
            f"-I {each}" for each in wanted if each not in there
        ]

    async def _replace(self, command: str, first: list[str], rules: list[str]) -> int | None:
        """How many rules are in our chains now, without copies where the kernel has none; None: it refused."""
        wrong = await self._restore(command, [*first, *rules])
        without = [each for each in rules if " -j TEE " not in each]
        if wrong and without != rules and not await self._restore(command, [*first, *without]):
            logger.warning("%s: reports of group membership from VMACs are dropped, not sent below", wrong)
            return len(without)
        if wrong:
            logger.error("%s: accept mode and VMAC filters are without effect", wrong)
        return None if wrong else len(rules)

    async def _restore(self, command: str, rules: Iterable[str]) -> str:
        """Why it failed, "" when it did not."""
        text = "\n".join(("*filter", *(f":{chain} - [0:0]" for chain in CHAINS), *rules, "COMMIT", ""))
        _, wrong = await _run(f"{command}-restore", *WAIT, "-n", text=text)
        return wrong

    def change(self, elements: Collection[Element], *, present: bool) -> None:
        """Put elements in or take them out; with sets, before this returns."""
        changed = sorted(members(elements, self._names))
        self._elements = self._elements | set(elements) if present else self._elements - set(elements)
        self._content = self._content | set(changed) if present else self._content - set(changed)
        vmacs = below(elements, self._names) if present else set()
        if vmacs - self._standing.vmacs:
            self._standing = Standing(self._standing.closed, self._standing.vmacs | vmacs)
            self._stale = True
            if self._task is None or self._task.done():
                self._task = asyncio.get_running_loop().create_task(self._refill())
        if self._sets and changed and self._kernel is not None:
            self._kernel.change(self._sets, changed, present=present)

    async def _refill(self) -> None:
        async with self._loading:
            while self._stale:
                await self._fill()

    async def remove(self) -> None:
        """Take chains and sets away."""
        self._unwatch()
        self._restorer.close()
        async with self._loading:
            for command in COMMANDS.values():
                present, _ = await _run(command, *WAIT, "-S")
                if f"-N {IN}" in present.splitlines():
                    gone = [f"-D {each}" for each in jumps_in(present)]
                    wrong = await self._restore(command, [*gone, *(f"-X {chain}" for chain in CHAINS)])
                    if wrong:
                        logger.warning("%s", wrong)
            await self._destroy(self._sets)
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None

    # what others change -------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Look from now on."""
        loop = asyncio.get_running_loop()
        self._compared = loop.time()
        self._timer = loop.call_later(LOOK, self._look)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._comparison is not None:
            self._comparison.cancel()
            self._comparison = None

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(LOOK, self._look)
        if self._loading.locked() or self._comparison is not None or self._kernel is None:
            return
        counts = Counter(each.set for each in self._content)
        hurt = [name for number, name in enumerate(self._sets) if self._kernel.size(name) != counts[number]]
        if hurt:
            self._hurt([f"set {name}" for name in hurt])
            return
        sizes = self._kernel.sizes()
        if sizes != self._sizes or loop.time() - self._compared >= COMPARE:
            self._sizes, self._compared = sizes, loop.time()
            self._comparison = loop.create_task(self._compare())

    async def _compare(self) -> None:
        """Rules and members with what they have to be, unless that changes meanwhile."""
        hurt, content = [], self._content
        async with self._loading:
            for family, command in COMMANDS.items():
                listed, wrong = await _run(command, *WAIT, "-S")
                if not wrong and ours_in(listed) != self._rules[family]:
                    hurt.append(f"chains of {command}")
            for number, name in enumerate(self._sets):
                saved, _ = await _run("ipset", "save", name)
                found = {line for line in saved.splitlines() if line.startswith("add ")}
                if found != {f"add {name} {each}" for each in content if each.set == number}:
                    hurt.append(f"set {name}")
        self._comparison = None
        if content is not self._content:
            self._compared = 0.0  # once more
        elif hurt:
            self._hurt(hurt)

    def _hurt(self, what: list[str]) -> None:
        """Looked for no more until it is loaded again."""
        self._unwatch()
        self._restorer.hurt.update(dict.fromkeys(what))
        self._restorer.start()

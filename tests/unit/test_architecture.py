"""The dependency rule of docs/architecture.md, checked on every import of the source."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

K = "keepalived_py"
MODEL, DELTA, DIFF, VALUES = (f"{K}.{name}" for name in ("config.model", "config.delta", "config.diff", "values"))
RECORDS = f"{K}.records"
"""Classes as everybody may define them."""
SECTIONS = f"{K}.dump_globals"
DUMPS = ("dumpfile", "dump_process", "dump_globals", "vitals")
HELPERS = (*DUMPS, "clock", "log", "netns", "pattern", "inotify", "signal_watch", "memory_trace")
RULES: dict[str, tuple[set[str], set[str]]] = {
    # package: (what it may import of ours beside itself, third parties)
    RECORDS: (set(), set()),
    VALUES: (set(), set()),
    f"{K}.clock": (set(), set()),
    f"{K}.pattern": (set(), set()),
    f"{K}.inotify": (set(), set()),
    f"{K}.dumpfile": ({MODEL}, set()),
    f"{K}.dump_process": ({f"{K}.dumpfile"}, set()),
    f"{K}.log": ({f"{K}.log_limits", f"{K}.log_sinks"}, set()),
    f"{K}.log_limits": ({f"{K}.log_sinks"}, set()),
    f"{K}.log_sinks": ({VALUES, f"{K}.dumpfile"}, set()),
    f"{K}.signal_watch": (set(), set()),
    f"{K}.vitals": (set(), set()),
    f"{K}.memory_trace": ({f"{K}.log", f"{K}.log_limits", f"{K}.log_sinks"}, set()),
    f"{K}.netns": (set(), set()),
    f"{K}.options": (set(), set()),
    f"{K}.stdio": (set(), set()),
    f"{K}.config": ({VALUES, f"{K}.pattern"}, set()),
    SECTIONS: ({MODEL}, set()),
    f"{K}.vrrp": ({VALUES, MODEL, SECTIONS}, set()),
    f"{K}.checks": ({VALUES, MODEL, SECTIONS}, set()),
    f"{K}.plan": ({VALUES, MODEL, f"{K}.checks"}, set()),
    "ipc": ({VALUES, MODEL, DELTA}, {"msgpack"}),
    f"{K}.parent": (
        {
            *(VALUES, "ipc"),
            *(f"{K}.{name}" for name in (*DUMPS, "config", "clock", "log", "inotify", "signal_watch", "memory_trace")),
        },
        {"setproctitle"},
    ),
    f"{K}.ctl": ({VALUES, f"{K}.config", "ipc"}, {"rich"}),
    "workers": (
        {
            *(VALUES, MODEL, DELTA, DIFF, "ipc"),
            *(f"{K}.{name}" for name in (*HELPERS, "vrrp", "checks", "plan")),
        },
        {"pyroute2", "aiohttp", "dns", "aiosmtplib", "setproctitle", "yarl", "h2"},
    ),
    "workers.vrrp": (
        {
            "workers.worker",
            "workers.scripts",
            "workers.notify",
            "workers.file_watch",
            "workers.process_watch",
            "workers.netlink",
            "workers.nftables",
            "workers.nftables_keeper",
            "workers.restorer",
            "workers.losses",
            "workers.sync_daemon",
        },
        set(),
    ),
    "workers.checker": (
        {
            "workers.worker",
            "workers.scripts",
            "workers.notify",
            "workers.file_watch",
            "workers.small_file",
            "workers.shortages",
            "workers.netlink",
            "workers.nftables_keeper",
            "workers.restorer",
            "workers.sync_daemon",
        },
        set(),
    ),
}
PURE = (RECORDS, VALUES, SECTIONS, f"{K}.vrrp", f"{K}.checks", f"{K}.plan")
IMPURE = {"asyncio", "logging", "random", "socket", "subprocess", "threading", "time"}
OURS = (K, "ipc", "workers")


def modules() -> Iterator[tuple[str, Path]]:
    for top in OURS:
        for path in sorted((REPOSITORY / top).rglob("*.py")):
            parts = path.relative_to(REPOSITORY).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(module: str, path: Path) -> Iterator[str]:
    """Absolute names of everything a module imports."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def within(name: str, packages: set[str] | tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def breaches(module: str, names: Iterator[str]) -> list[str]:
    """Imports of `module` that the rule does not allow."""
    rules = [rule for package, rule in RULES.items() if within(module, (package,))]
    if not rules:
        return []  # cli.py, daemon.py and their kind put the program together
    own = max((package for package in RULES if within(module, (package,))), key=len)
    allowed = {own, RECORDS}.union(*(rule[0] for rule in rules))
    third = set(sys.stdlib_module_names).union(*(rule[1] for rule in rules))
    found = []
    for name in names:
        if name.split(".")[0] in OURS:
            if not within(name, allowed) and not any(each.startswith(name + ".") and name == K for each in allowed):
                found.append(name)
        elif name.split(".")[0] not in third or (within(module, PURE) and name.split(".")[0] in IMPURE):
            found.append(name)
    return found


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_follow_the_rule(module: str, path: Path) -> None:
    assert breaches(module, imports(module, path)) == []


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (f"{K}.vrrp.machine", "time"),
        (f"{K}.vrrp.machine", f"{K}.config.load"),
        (f"{K}.config.load", f"{K}.vrrp.machine"),
        (f"{K}.parent.supervisor", "workers.vrrp.worker"),
        ("workers.vrrp.worker", "workers.checker.worker"),
        ("ipc.codec", "aiohttp"),
    ],
)
def test_a_breach_is_noticed(module: str, name: str) -> None:
    assert breaches(module, iter([name])) == [name]

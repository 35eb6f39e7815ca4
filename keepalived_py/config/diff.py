"""What changes between two configurations: whole values compared by key, no list of fields."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from .model import Config, RealServer, SyncGroup, VirtualServer, VrrpInstance, VrrpScript

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Diff(Generic[T]):
    """Objects by what happens to them; `changed` holds pairs of old and new."""

    removed: tuple[T, ...]
    added: tuple[T, ...]
    changed: tuple[tuple[T, T], ...]
    kept: tuple[T, ...]

    def __str__(self) -> str:
        return f"-{len(self.removed)} +{len(self.added)} ~{len(self.changed)} ={len(self.kept)}"

    def __bool__(self) -> bool:
        return bool(self.removed or self.added or self.changed)


def diff_by_key(old: Iterable[T], new: Iterable[T], key: Callable[[T], K]) -> Diff[T]:
    """Same key and equal: kept. Same key, not equal: changed."""
    before = {key(item): item for item in old}
    after = {key(item): item for item in new}
    both = [(before[k], after[k]) for k in after if k in before]
    return Diff(
        removed=tuple(item for k, item in before.items() if k not in after),
        added=tuple(item for k, item in after.items() if k not in before),
        changed=tuple((a, b) for a, b in both if a != b),
        kept=tuple(b for a, b in both if a == b),
    )


@dataclass(frozen=True, slots=True)
class ConfigDiff:
    """The difference of two configurations, section by section."""

    global_defs: bool
    instances: Diff[VrrpInstance]
    sync_groups: Diff[SyncGroup]
    scripts: Diff[VrrpScript]
    virtual_servers: Diff[VirtualServer]

    def __str__(self) -> str:
        parts = (
            ("instances", self.instances),
            ("sync groups", self.sync_groups),
            ("scripts", self.scripts),
            ("virtual servers", self.virtual_servers),
        )
        shown = [f"{name} {diff}" for name, diff in parts if diff or diff.kept]
        if self.global_defs:
            shown.insert(0, "global_defs changed")
        return ", ".join(shown) or "nothing configured"


def diff_real_servers(old: VirtualServer, new: VirtualServer) -> Diff[RealServer]:
    return diff_by_key(old.real_servers, new.real_servers, lambda real: real.key)


def diff_config(old: Config, new: Config) -> ConfigDiff:
    return ConfigDiff(
        global_defs=old.global_defs != new.global_defs,
        instances=diff_by_key(old.vrrp.instances, new.vrrp.instances, lambda instance: instance.key),
        sync_groups=diff_by_key(old.vrrp.sync_groups, new.vrrp.sync_groups, lambda group: group.name),
        scripts=diff_by_key(old.vrrp.scripts, new.vrrp.scripts, lambda script: script.name),
        virtual_servers=diff_by_key(
            old.checker.virtual_servers, new.checker.virtual_servers, lambda server: server.key
        ),
    )

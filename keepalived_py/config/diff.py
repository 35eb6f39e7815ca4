"""What changes between two configurations: whole values compared by key, no list of fields."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from operator import attrgetter
from typing import Any, Generic, TypeVar

from keepalived_py.records import dataclass
from keepalived_py.values import Protocol, ServiceKey

from .model import Config, RealServer, VirtualServer

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
    equal = [a is b or a == b for a, b in both]
    return Diff(
        removed=tuple(item for k, item in before.items() if k not in after),
        added=tuple(item for k, item in after.items() if k not in before),
        changed=tuple(pair for pair, same in zip(both, equal, strict=True) if not same),
        kept=tuple(b for (_, b), same in zip(both, equal, strict=True) if same),
    )


def moved(old: Iterable[VirtualServer], new: Iterable[VirtualServer]) -> dict[ServiceKey, ServiceKey]:
    """Virtual servers of groups that have another key in `new`: another number, or a group of other families."""
    before, after = _places(old), _places(new)
    return {key: after[place] for place, key in before.items() if after.get(place, key) != key}


def _places(servers: Iterable[VirtualServer]) -> dict[tuple[str, Protocol, int], ServiceKey]:
    """The keys of groups' virtual servers, counted for each protocol."""
    counts: Counter[tuple[str, Protocol]] = Counter()
    found = {}
    for key in (server.key for server in servers if server.key.group):
        kind = key.group, key.protocol
        found[*kind, counts[kind]] = key
        counts[kind] += 1
    return found


def _itself(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Kind:
    """One sort of object: its keyword, its plural for the log, where it is, and what makes two of them the same."""

    keyword: str
    plural: str
    find: Callable[[Config], Iterable[Any]]
    key: Callable[[Any], Hashable]
    name: Callable[[Any], str]


KINDS = (
    Kind("vrrp_instance", "instances", attrgetter("vrrp.instances"), attrgetter("key"), attrgetter("name")),
    Kind("vrrp_sync_group", "sync groups", attrgetter("vrrp.sync_groups"), attrgetter("name"), attrgetter("name")),
    Kind("vrrp_script", "scripts", attrgetter("vrrp.scripts"), attrgetter("name"), attrgetter("name")),
    Kind("vrrp_track_process", "processes", attrgetter("vrrp.processes"), attrgetter("name"), attrgetter("name")),
    Kind("track_file", "files", attrgetter("track_files"), attrgetter("name"), attrgetter("name")),
    Kind("bfd_instance", "BFD sessions", attrgetter("bfd_instances"), attrgetter("name"), attrgetter("name")),
    Kind("track_group", "track groups", attrgetter("vrrp.track_groups"), attrgetter("name"), attrgetter("name")),
    Kind("static_ipaddress", "static addresses", attrgetter("vrrp.static_addresses"), _itself, str),
    Kind("static_routes", "static routes", attrgetter("vrrp.static_routes"), _itself, str),
    Kind("static_rules", "static rules", attrgetter("vrrp.static_rules"), _itself, str),
    Kind(
        "garp_group",
        "garp groups",
        attrgetter("vrrp.garp_groups"),
        attrgetter("interfaces"),
        lambda group: " ".join(group.interfaces),
    ),
    Kind(
        "interface_up_down_delays",
        "interface delays",
        attrgetter("vrrp.interface_delays"),
        attrgetter("interface"),
        attrgetter("interface"),
    ),
    Kind(
        "linkbeat_interfaces",
        "polled interfaces",
        attrgetter("vrrp.linkbeat_interfaces"),
        attrgetter("interface"),
        attrgetter("interface"),
    ),
    Kind("virtual_server_group", "server groups", attrgetter("checker.groups"), attrgetter("name"), attrgetter("name")),
    Kind(
        "virtual_server",
        "virtual servers",
        attrgetter("checker.virtual_servers"),
        attrgetter("key"),
        lambda server: str(server.key),
    ),
)
"""All objects of a configuration but global_defs and the SSL block, which exist once."""


@dataclass(frozen=True, slots=True)
class ConfigDiff:
    """The difference of two configurations, sort by sort."""

    global_defs: bool
    ssl: bool
    kinds: tuple[tuple[Kind, Diff[Any]], ...]

    def __str__(self) -> str:
        single = (("global_defs changed", self.global_defs), ("SSL changed", self.ssl))
        shown = [name for name, changed in single if changed]
        shown += [f"{kind.plural} {diff}" for kind, diff in self.kinds if diff or diff.kept]
        return ", ".join(shown) or "nothing configured"


def diff_real_servers(old: VirtualServer, new: VirtualServer) -> Diff[RealServer]:
    return diff_by_key(old.real_servers, new.real_servers, lambda real: real.key)


def diff_config(old: Config, new: Config) -> ConfigDiff:
    return ConfigDiff(
        global_defs=old.global_defs != new.global_defs,
        ssl=old.checker.ssl != new.checker.ssl,
        kinds=tuple((kind, diff_by_key(kind.find(old), kind.find(new), kind.key)) for kind in KINDS),
    )


UNCHANGEABLE = {
    "net_namespace": "root.net_namespace",
    "net_namespace_ipvs": "root.net_namespace_ipvs",
    "instance": "root.instance",
    "nftables": "firewall.nftables_table",
    "nftables_ipvs": "ipvs.nftables_table",
    "tmp_config_directory": "reload.tmp_config_directory",
    "disable_local_igmp": "disable_local_igmp",
}
"""Keywords that no reload may change (config-language.md 10), and where their values are in GlobalDefs."""


def unchangeable(old: Config, new: Config) -> Iterator[str]:
    """Keywords that differ between the two and must not."""
    for keyword, path in UNCHANGEABLE.items():
        value = attrgetter(path)
        if value(old.global_defs) != value(new.global_defs):
            yield keyword

"""The front door of the package: a file name goes in, a finished configuration and all problems come out."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import field, replace
from functools import partial
from pathlib import Path
from typing import Any

from keepalived_py.records import dataclass
from keepalived_py.values import ServiceKey

from .build_check import build_server_group, build_virtual_server
from .build_global import build_global_defs
from .build_tracked import (
    build_file,
    build_garp_group,
    build_group,
    build_process,
    build_script,
    build_track_group,
    check_unique,
    check_vmac_names,
    grouped_instance,
    numbered,
    report_unused,
)
from .build_vrrp import InstanceBuilder, pairs_of
from .chapters import Long, Revision
from .check_scripts import check_scripts
from .delta import Digest, Digests
from .iproute_names import ETC_DIR, USR_DIRS, Names
from .keywords_bfd import BFD_INSTANCE, build_bfd
from .keywords_check import SSL, VIRTUAL_SERVER, group_entries
from .keywords_global import GLOBAL_DEFS, ROOT_SCALARS
from .keywords_root import ROOT, keyword_places, root_section
from .keywords_vrrp import (
    GARP_GROUP,
    INTERFACE_DELAYS,
    LINKBEAT_INTERFACES,
    TRACK_FILE,
    TRACK_GROUP,
    VRRP_INSTANCE,
    VRRP_SCRIPT,
    VRRP_SYNC_GROUP,
    VRRP_TRACK_PROCESS,
)
from .lexer import SourceLine
from .links import static_addresses, static_routes, static_rules
from .lint_check import lint_virtual_server
from .lint_vrrp import lint_group, lint_instance, lint_script
from .model import (
    Address,
    CheckerConfig,
    Config,
    GarpGroup,
    GlobalDefs,
    SslSettings,
    SyncDaemon,
    SyncGroup,
    VirtualServer,
    VirtualServerGroup,
    VrrpConfig,
    VrrpInstance,
)
from .preprocess import Preprocessor, ReadOptions
from .problems import Location, Problems
from .schema import Bad, Context, Converter, Draft, MissingParameter, Section, read_section, read_statements
from .system import Machine
from .tree import Folded, Mark, Statement, build

_NOWHERE = SourceLine("", 0, "")
DEFAULT_FILE = "/etc/keepalived/keepalived.conf"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What loading depends on beside the files."""

    config_id: str = ""
    check_all_includes: bool = False
    machine: Machine = field(default_factory=Machine)
    lint: bool = False
    """Also say what is allowed but hardly ever meant."""
    namespace: str = ""
    """That of option -s, which beats net_namespace; "" without one."""
    own_uid: int = 0
    """Who the daemon runs as; a test of a configuration takes it to be root."""
    before: Config | None = None
    digests: Digests | None = None
    """Of the load that gave `before`, joined: what did not change since is the same object again. Not with `lint`."""
    fold: bool = True


@dataclass(slots=True, kw_only=True)
class LoadResult:
    """`config` is whole and usable unless `problems.stops`; then it is None."""

    config: Config | None
    problems: Problems
    files: list[str] = field(default_factory=list)
    places: dict[str, Location] = field(default_factory=dict)
    """Where each VRRP instance begins."""
    digests: Digests | None = None
    """For somebody who has those in the options, see delta.joined."""


def known_blocks(before: Config | None, digests: Digests | None) -> dict[str, tuple[int, Long]]:
    """The long blocks of an earlier load in which every real server is a chapter: numbers and texts by first lines."""
    if before is None or digests is None:
        return {}
    pairs = zip(digests.of_servers, before.checker.virtual_servers, strict=True)
    return {
        digest.first_line: (number, digest)
        for number, (digest, server) in enumerate(pairs)
        if isinstance(digest, Long) and digest.count == len(server.real_servers)
    }


def default_config_id() -> str:
    """The node name up to the first dot (config-language.md 7.1)."""
    return socket.gethostname().partition(".")[0]


@contextmanager
def _collector_off() -> Iterator[None]:
    """A growing tree makes every collection longer; loading makes hardly any cycles."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def load(pattern: str = DEFAULT_FILE, options: LoadOptions | None = None) -> LoadResult:
    """Read `pattern` and all it includes. Raises nothing for whatever the text holds."""
    options = options or LoadOptions()
    problems = Problems()
    with _collector_off():
        reading = ReadOptions(
            config_id=options.config_id or default_config_id(),
            environ=os.environ,
            check_all_includes=options.check_all_includes,
            fold=options.fold,
            known=known_blocks(options.before, options.digests),
        )
        preprocessor = Preprocessor(reading, problems)
        statements = build(preprocessor.read(pattern), problems)
        machine = options.machine
        context = Context(problems, interfaces=machine.interfaces, mtus=machine.mtus, places=keyword_places)
        reader = _Reader(context, machine if options.lint else None, options.namespace)
        if options.before is not None and options.digests is not None:
            reader.remember(options.before, options.digests)
        config = without_idle(check_scripts(reader.read(statements), context, options.own_uid))
    usable = not problems.stops
    places = {name: draft.head.at(1) for name, (_, draft) in reader.instances.items()}
    return LoadResult(
        config=config if usable else None,
        problems=problems,
        files=preprocessor.files,
        places=places,
        digests=Digests(defaults=reader.first_defaults, of_servers=reader.digests_of(config)),
    )


class Facts(dict[str, Any]):
    """Context.facts, and how often something was looked up or noted in them."""

    looked_at = 0

    def get(self, key: str, default: Any = None) -> Any:
        self.looked_at += 1
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self.looked_at += 1
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.looked_at += 1
        return super().__contains__(key)

    def setdefault(self, key: str, default: Any = None) -> Any:
        self.looked_at += 1
        return super().setdefault(key, default)


class _Reader:
    """The root level, read twice: first what later blocks take their defaults from, then those blocks in order.

    Names of scripts, files and sessions must be defined before they are used; groups may follow (config-language.md 1).
    """

    def __init__(self, context: Context, machine: Machine | None = None, namespace: str = "") -> None:
        """`machine`: where what is read is to be linted for, `namespace`: what net_namespace is whatever it says."""
        self.context, self.machine, self.namespace = context, machine, namespace
        head = Statement((), "", _NOWHERE)
        self.root, self.globals, self.body = Draft(head), Draft(head), Draft(head)
        self.defaults = self.first_defaults = GlobalDefs()
        self.facts = Facts()
        self.facts_after: dict[int, dict[str, Any]] = {}
        """What later scripts depend on, after each global_defs block."""
        self.named: dict[str, dict[str, Any]] = {kind: {} for kind in ("script", "process", "file", "bfd")}
        self.instances: dict[str, tuple[VrrpInstance, Draft]] = {}
        self.drafts: dict[str, dict[str, Draft]] = {
            kind: {} for kind in ("script", "process", "file", "bfd", "sync_group", "track_group")
        }
        self.server_groups: dict[str, VirtualServerGroup] = {}
        self.servers: dict[ServiceKey, VirtualServer] = {}
        self.marks: dict[ServiceKey, Mark] = {}
        self.before: tuple[VirtualServer, ...] = ()
        self.known: dict[bytes, VirtualServer] = {}
        """Of `before`, by the digests of their texts."""
        self.known_with: GlobalDefs | None = None
        self.ordinals: dict[str, int] = {}
        self.garp_groups: list[GarpGroup] = []
        self.garp_interfaces: set[str] = set()
        self.ssl: SslSettings | None = None

    def read(self, statements: list[Statement]) -> Config:
        context = self.context
        context.facts["script_lines"] = {}
        initial = dict(context.facts)
        read_statements(self._first_pass(), statements, self.root, context)
        if self.namespace:
            self.root.values["root.net_namespace"] = self.namespace
        context.facts = self.facts = Facts(initial)
        self.defaults = self.first_defaults = build_global_defs(self.root, self.globals, context)
        if self.known_with != self.defaults:
            self.before, self.known = (), {}
        context.facts["names"] = iproute_names(self.defaults)
        for kind, table in (
            ("script", "vrrp_scripts"),
            ("process", "track_processes"),
            ("file", "track_files"),
            ("bfd", "bfd_instances"),
        ):
            context.facts[table] = self.named[kind]
        context.facts["track_groups"] = self.drafts["track_group"]
        known = [statement for statement in statements if statement.words[0] in ROOT.table]
        read_statements(self._second_pass(), known, self.body, context)
        return self._finish()

    # the tables of the root ---------------------------------------------------------------------------------------

    def _first_pass(self) -> Section:
        readers = {"global_defs": self._global_defs, "virtual_server_group": self._server_group}
        return root_section({keyword.name: keyword.convert for keyword in ROOT_SCALARS} | readers)

    def _second_pass(self) -> Section:
        def block(section: Section, use: Callable[[str, Draft], None]) -> Converter:
            return lambda statement, context: use(_name(statement), read_section(section, statement, context))

        return root_section(
            {
                "global_defs": self._facts_of_globals,
                "vrrp_script": block(VRRP_SCRIPT, self._definer("script", build_script)),
                "vrrp_track_process": block(VRRP_TRACK_PROCESS, self._definer("process", build_process)),
                "track_file": block(TRACK_FILE, self._definer("file", build_file)),
                "vrrp_track_file": block(TRACK_FILE, self._definer("file", build_file)),
                "bfd_instance": block(BFD_INSTANCE, self._bfd),
                "vrrp_instance": block(VRRP_INSTANCE, self._instance),
                "vrrp_sync_group": block(VRRP_SYNC_GROUP, self._remember("sync_group")),
                "track_group": block(TRACK_GROUP, self._remember("track_group")),
                "garp_group": self._garp_group,
                "static_ipaddress": static_addresses,
                "static_routes": static_routes,
                "static_rules": static_rules,
                "interface_up_down_delays": INTERFACE_DELAYS,
                "linkbeat_interfaces": LINKBEAT_INTERFACES,
                "virtual_server": self._virtual_server,
                "SSL": self._ssl,
            }
        )

    # first pass ---------------------------------------------------------------------------------------------------

    def _global_defs(self, statement: Statement, context: Context) -> None:
        if statement.block is None:
            read_section(GLOBAL_DEFS, statement, context)
        else:
            read_statements(GLOBAL_DEFS, statement.block, self.globals, context)
        self.facts_after[id(statement)] = dict(context.facts)

    def _server_group(self, statement: Statement, context: Context) -> None:
        name = _name(statement)
        if name in self.server_groups:
            raise Bad("duplicate-name", f"'{name}' is defined already; this block is left out", 1)
        built = build_server_group(name, group_entries(statement, context), statement, context)
        if built is not None:
            self.server_groups[name] = built

    # second pass --------------------------------------------------------------------------------------------------

    def _facts_of_globals(self, statement: Statement, context: Context) -> None:
        """script_user and its likes count for the scripts that follow them."""
        after = self.facts_after[id(statement)]
        context.facts.update({name: after[name] for name in SCRIPT_FACTS if name in after})

    def _definer(self, kind: str, build: Callable[[str, Draft, Context], Any]) -> Callable[[str, Draft], None]:
        def use(name: str, draft: Draft) -> None:
            known = self.named[kind]
            if name in known:
                raise Bad("duplicate-name", f"'{name}' is defined already; this block is left out", 1)
            built = build(name, draft, self.context)
            if built is not None:
                known[name] = built
                self.drafts[kind][name] = draft

        return use

    def _bfd(self, name: str, draft: Draft) -> None:
        if len(name) > MAX_BFD_NAME:
            raise Bad("name-too-long", f"'{name}' is longer than {MAX_BFD_NAME} characters", 1)
        known = self.named["bfd"]
        self._definer("bfd", lambda name, draft, context: build_bfd(name, draft, known, context))(name, draft)

    def _remember(self, kind: str) -> Callable[[str, Draft], None]:
        """Resolved when the whole file has been read."""

        def use(name: str, draft: Draft) -> None:
            if name in self.drafts[kind]:
                raise Bad("duplicate-name", f"'{name}' is defined already; this block is left out", 1)
            self.drafts[kind][name] = draft

        return use

    def _instance(self, name: str, draft: Draft) -> None:
        if name in self.instances:
            raise Bad("duplicate-name", f"'{name}' is defined already; this block is left out", 1)
        built = InstanceBuilder(name, draft, self.defaults, self.context).build()
        if built is None:
            return
        self.instances[name] = (built, draft)
        interface = draft.get("lvs_sync_daemon_interface")
        if interface is not None and self.defaults.lvs_sync_daemon is None:
            self.defaults = replace(self.defaults, lvs_sync_daemon=SyncDaemon(interface=interface, instance=name))

    def _garp_group(self, statement: Statement, context: Context) -> None:
        built = build_garp_group(read_section(GARP_GROUP, statement, context), self.garp_interfaces, context)
        if built is not None:
            self.garp_groups.append(built)

    def _ssl(self, statement: Statement, context: Context) -> None:
        if self.ssl is not None:
            context.report("repeated-keyword", "SSL was given before; this one counts", statement)
        self.ssl = SslSettings(**read_section(SSL, statement, context).values)

    def _virtual_server(self, statement: Statement, context: Context) -> None:
        folded = statement.folded
        before = self.facts.looked_at, context.problems.count
        draft = Draft(statement)
        built = None if folded is None else self._known(statement, folded)
        if built is None:
            statement.unfold(context.problems)
            draft = read_section(VIRTUAL_SERVER, statement, context)
            built = build_virtual_server(draft, self.defaults, context, self.server_groups, self.ordinals)
        if built is None:
            return
        clean = before == (self.facts.looked_at, context.problems.count)
        if built.key in self.servers:
            context.report(
                "duplicate-virtual-server",
                f"virtual server {built.key} stands twice; the second is left out",
                statement,
                1,
            )
            return
        self.servers[built.key] = built
        if folded is not None and clean and not built.key.group:
            self.marks[built.key] = folded.mark
        if self.machine is not None:
            lint_virtual_server(built, draft, context)
        if folded is not None:
            statement.block = []  # its memory is for the next one

    def _known(self, statement: Statement, folded: Folded) -> VirtualServer | None:
        """The virtual server of a block that is known, or of which some real servers are; None: it must be read."""
        mark = folded.mark
        if isinstance(mark, bytes):
            return self.known.get(mark)
        if isinstance(mark, Long) or not self.before:
            return None
        former = self.before[mark.splice.number]
        return former if mark.unchanged else self._revised(statement, folded, mark, former)

    def _revised(
        self, statement: Statement, folded: Folded, revision: Revision, former: VirtualServer
    ) -> VirtualServer | None:
        """`former` with other real servers; None: it must be read as a whole.

        That is so for a mark, whose family may be that of its real servers, and where anything is to be said about it:
        places in what is left of the text are not those of the file.
        """
        if statement.words[1] == "fwmark":
            return None
        context, looked_at = replace(self.context, problems=Problems()), self.facts.looked_at
        block = build(folded.read(revision.text), context.problems)
        draft = read_section(VIRTUAL_SERVER, replace(statement, block=block, folded=None), context)
        complete = partial(revision.completed, former.real_servers)
        built = build_virtual_server(draft, self.defaults, context, self.server_groups, self.ordinals, complete)
        return built if (context.problems.count, self.facts.looked_at) == (0, looked_at) else None

    def remember(self, before: Config, digests: Digests) -> None:
        """What an earlier load read need not be read again."""
        self.before, self.known_with = before.checker.virtual_servers, digests.defaults
        self.known = {
            digest: server
            for digest, server in zip(digests.of_servers, self.before, strict=True)
            if digest and isinstance(digest, bytes)
        }

    def digests_of(self, config: Config) -> tuple[Digest, ...]:
        """Of what was read without a finding, and depends on nothing but its text and the defaults."""
        marks = (self.marks.get(server.key, b"") for server in config.checker.virtual_servers)
        return tuple(mark.splice if isinstance(mark, Revision) else mark for mark in marks)

    # the whole ----------------------------------------------------------------------------------------------------

    def _finish(self) -> Config:
        context = self.context
        self.instances = numbered(self.instances)
        check_unique(list(self.instances.values()), context)
        check_vmac_names(list(self.instances.values()), context)
        groups = self._sync_groups()
        self._resolve_servers()
        instances = {name: instance for name, (instance, _) in self.instances.items()}
        track_groups = (
            build_track_group(name, draft, instances, context) for name, draft in self.drafts["track_group"].items()
        )
        for kind in ("script", "process", "file"):
            report_unused(kind, self.named[kind], self.drafts[kind], context)
        if self.machine is not None:
            self._lint(groups, self.machine)
        return Config(
            global_defs=self.defaults,
            vrrp=VrrpConfig(
                instances=tuple(instances.values()),
                sync_groups=groups,
                scripts=tuple(self.named["script"].values()),
                processes=tuple(self.named["process"].values()),
                garp_groups=tuple(self.garp_groups),
                interface_delays=self._lines("interface_up_down_delays"),
                linkbeat_interfaces=self._lines("linkbeat_interfaces"),
                track_groups=tuple(group for group in track_groups if group is not None),
                static_addresses=self._static_addresses(),
                static_routes=self._lines("static_routes"),
                static_rules=self._lines("static_rules"),
            ),
            checker=CheckerConfig(
                virtual_servers=tuple(self.servers.values()),
                groups=tuple(self.server_groups.values()),
                ssl=self.ssl,
            ),
            track_files=tuple(self.named["file"].values()),
            bfd_instances=tuple(self.named["bfd"].values()),
        )

    def _lint(self, groups: tuple[SyncGroup, ...], machine: Machine) -> None:
        for instance, draft in self.instances.values():
            lint_instance(instance, draft, machine.networks, self.context)
        for group in groups:
            lint_group(group, self.drafts["sync_group"][group.name], self.instances, self.context)
        for name, script in self.named["script"].items():
            lint_script(script, self.drafts["script"][name], self.context)

    def _lines(self, name: str) -> tuple[Any, ...]:
        return tuple(entry for entry, _ in pairs_of(self.body, name))

    def _static_addresses(self) -> tuple[Address, ...]:
        """Those without dev go to the default interface."""
        default = self.defaults.default_interface
        return tuple(found if found.dev else replace(found, dev=default) for found in self._lines("static_ipaddress"))

    def _sync_groups(self) -> tuple[SyncGroup, ...]:
        grouped: set[str] = set()
        found = []
        for name, draft in self.drafts["sync_group"].items():
            known = {member: instance for member, (instance, _) in self.instances.items()}
            group = build_group(name, draft, known, grouped, self.defaults, self.context)
            if group is None:
                continue
            found.append(group)
            for member in group.members:
                instance, own = self.instances[member]
                self.instances[member] = (grouped_instance(instance, own, group, draft, self.context), own)
        return tuple(found)

    def _resolve_servers(self) -> None:
        """track_virtual_server: the name becomes the unique one of a virtual server that exists."""
        known = {str(key): key.unique for key in self.servers}
        known |= {key.unique: key.unique for key in self.servers}
        known |= {server.snmp_name: key.unique for key, server in self.servers.items() if server.snmp_name}
        for name, (instance, draft) in self.instances.items():
            if not draft.has("track_virtual_server"):
                continue
            lines = {track.name: line for track, line in pairs_of(draft, "track_virtual_server")}
            kept = []
            for track in instance.tracks:
                if track.kind != "virtual_server":
                    kept.append(track)
                elif track.name in known:
                    kept.append(replace(track, name=known[track.name]))
                else:
                    self.context.report(
                        "unknown-virtual-server",
                        f"({name}) there is no virtual server '{track.name}'; it is not tracked",
                        lines[track.name],
                    )
            self.instances[name] = (replace(instance, tracks=tuple(kept)), draft)


SCRIPT_FACTS = ("script_user", "set_supplementary_groups", "enable_script_security")
MAX_BFD_NAME = 31


def without_idle(config: Config) -> Config:
    """Without the scripts that nothing tracks: they are looked at but never run."""
    tracks = [track for instance in config.vrrp.instances for track in instance.tracks]
    tracks += [track for group in config.vrrp.sync_groups for track in group.tracks]
    tracked = {track.name for track in tracks if track.kind == "script"}
    kept = tuple(script for script in config.vrrp.scripts if script.name in tracked)
    return config if kept == config.vrrp.scripts else replace(config, vrrp=replace(config.vrrp, scripts=kept))


def _name(statement: Statement) -> str:
    """The name of a block. Raises Bad when there is none or more than one word."""
    if len(statement.words) < 2:
        raise MissingParameter(statement.keyword)
    if len(statement.words) > 2:
        raise Bad("extra-words", "takes exactly one name", 2)
    return statement.words[1]


def iproute_names(defaults: GlobalDefs) -> Names:
    """Names of tables, protocols and so on, from the directories that global_defs names."""
    usr = (Path(defaults.iproute_usr_dir),) if defaults.iproute_usr_dir else USR_DIRS
    return Names(usr, Path(defaults.iproute_etc_dir) if defaults.iproute_etc_dir else ETC_DIR)

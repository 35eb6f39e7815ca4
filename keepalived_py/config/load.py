"""The front door of the package: a file name goes in, a finished configuration and all problems come out."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .build_check import build_virtual_server
from .build_vrrp import build_group, build_instance, build_script, check_unique
from .keywords_check import VIRTUAL_SERVER
from .keywords_global import GLOBAL_DEFS, ROOT_SCALARS, build_global_defs
from .keywords_vrrp import VRRP_INSTANCE, VRRP_SCRIPT, VRRP_SYNC_GROUP
from .lexer import SourceLine
from .model import CheckerConfig, Config, GlobalDefs, SyncGroup, VirtualServer, VrrpConfig, VrrpInstance, VrrpScript
from .preprocess import Preprocessor, ReadOptions
from .problems import Problems
from .schema import Bad, Context, Draft, Keyword, MissingParameter, Section, read_section, read_statements
from .tree import Statement, build

_NOWHERE = SourceLine("", 0, "")
DEFAULT_FILE = "/etc/keepalived/keepalived.conf"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What loading depends on beside the files. `interfaces` None: not looked at."""

    config_id: str = ""
    check_all_includes: bool = False
    interfaces: frozenset[str] | None = None


@dataclass(slots=True, kw_only=True)
class LoadResult:
    """`config` is whole and usable unless `problems.stops`; then it is None."""

    config: Config | None
    problems: Problems
    files: list[str] = field(default_factory=list)


def default_config_id() -> str:
    """The node name up to the first dot (config-language.md 7.1)."""
    return socket.gethostname().partition(".")[0]


def system_interfaces() -> frozenset[str]:
    """Names of the interfaces of this network namespace."""
    return frozenset(name for _, name in socket.if_nameindex())


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
        )
        preprocessor = Preprocessor(reading, problems)
        statements = build(preprocessor.read(pattern), problems)
        context = Context(problems, interfaces=options.interfaces)
        config = _Reader(context).read(statements)
    usable = not problems.stops
    return LoadResult(config=config if usable else None, problems=problems, files=preprocessor.files)


class _Reader:
    """The root level: every block keyword, its table, and what is built from it."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.root: Draft | None = None
        self.globals: Draft | None = None
        self.defaults = GlobalDefs()
        self.scripts: dict[str, VrrpScript] = {}
        self.instances: dict[str, tuple[VrrpInstance, Draft]] = {}
        self.groups: dict[str, Draft] = {}
        self.servers: dict[Any, VirtualServer] = {}

    def read(self, statements: list[Statement]) -> Config:
        head = Statement((), "", statements[0].line) if statements else Statement((), "", _NOWHERE)
        self.root, self.globals = Draft(head), Draft(head)
        self.context.facts["vrrp_scripts"] = self.scripts
        read_statements(self._root_section(), statements, self.root, self.context)
        self.defaults = build_global_defs(self.root, self.globals, self.context)
        check_unique(list(self.instances.values()), self.context)
        instances = {name: instance for name, (instance, _) in self.instances.items()}
        return Config(
            global_defs=self.defaults,
            vrrp=VrrpConfig(
                instances=tuple(instances.values()),
                sync_groups=self._sync_groups(instances),
                scripts=tuple(self.scripts.values()),
            ),
            checker=CheckerConfig(virtual_servers=tuple(self.servers.values())),
        )

    def _root_section(self) -> Section:
        """Blocks are built while the root is read, since order matters (config-language.md 1)."""

        def block(
            section: Section, build_it: Callable[[Statement, Draft], None]
        ) -> Callable[[Statement, Context], None]:
            def convert(statement: Statement, context: Context) -> None:
                build_it(statement, read_section(section, statement, context))

            return convert

        def row(name: str, convert: Callable[[Statement, Context], None]) -> Keyword:
            return Keyword(name, convert, raw_block=True, optional_block=True)

        return Section(
            "(root)",
            (
                *ROOT_SCALARS,
                row("global_defs", self._global_defs),
                row("vrrp_script", block(VRRP_SCRIPT, self._script)),
                row("vrrp_instance", block(VRRP_INSTANCE, self._instance)),
                row("vrrp_sync_group", block(VRRP_SYNC_GROUP, self._group)),
                row("virtual_server", block(VIRTUAL_SERVER, self._virtual_server)),
            ),
        )

    def _global_defs(self, statement: Statement, context: Context) -> None:
        assert self.globals is not None
        assert self.root is not None
        if statement.block is None:
            read_section(GLOBAL_DEFS, statement, context)
            return
        read_statements(GLOBAL_DEFS, statement.block, self.globals, context)
        self.defaults = build_global_defs(self.root, self.globals, context)

    def _name(self, statement: Statement, known: Any) -> str | None:
        """The name of a block; None when it is missing or taken."""
        if len(statement.words) < 2:
            raise MissingParameter(statement.keyword)
        name = statement.words[1]
        if len(statement.words) > 2:
            raise Bad("extra-words", "takes exactly one name", 2)
        if name in known:
            raise Bad("duplicate-name", f"'{name}' is defined already; this block is left out", 1)
        return name

    def _script(self, statement: Statement, draft: Draft) -> None:
        name = self._name(statement, self.scripts)
        built = build_script(name, draft, self.context) if name else None
        if name and built:
            self.scripts[name] = built

    def _instance(self, statement: Statement, draft: Draft) -> None:
        name = self._name(statement, self.instances)
        built = build_instance(name, draft, self.defaults, self.context) if name else None
        if name and built:
            self.instances[name] = (built, draft)

    def _group(self, statement: Statement, draft: Draft) -> None:
        name = self._name(statement, self.groups)
        if name:
            self.groups[name] = draft

    def _sync_groups(self, instances: dict[str, VrrpInstance]) -> tuple[SyncGroup, ...]:
        grouped: set[str] = set()
        built = (build_group(name, draft, instances, grouped, self.context) for name, draft in self.groups.items())
        return tuple(group for group in built if group is not None)

    def _virtual_server(self, statement: Statement, draft: Draft) -> None:
        built = build_virtual_server(draft, self.defaults, self.context)
        if built is None:
            return
        if self.servers.setdefault(built.key, built) is not built:
            self.context.report(
                "duplicate-virtual-server",
                f"virtual server {built.key} stands twice; the second is left out",
                statement,
                1,
            )

"""What is read of the configuration file: for a test, at a start, for a reload."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator

from ipc.messages import ConfigLoaded

from . import netns
from .config.delta import difference
from .config.load import DEFAULT_FILE, LoadOptions, LoadResult, load
from .config.problems import Severity
from .config.system import this_machine
from .options import Options
from .parent.last_good import LastGood, Reading
from .parent.pidfile import DIRECTORY
from .parent.reload import Applied

logger = logging.getLogger(__name__)

CORRECTED = (Severity.WARNING, Severity.MULTIPLE_FILES)
TOLD_ONLY = ("script-security", "untracked-route")
"""They weigh in a configuration test, but a daemon starts with it and does all that the file says."""


def config_file(options: Options) -> str:
    """The file as an absolute pattern: the daemon changes its directory."""
    return absolute(options.text("use-file", DEFAULT_FILE))


def absolute(path: str) -> str:
    """The path from anywhere; where the current directory is gone there is no such file."""
    try:
        return os.path.abspath(path)
    except FileNotFoundError:
        return path


def read(options: Options, lint: bool = False, current: Applied | None = None, file: str | None = None) -> LoadResult:
    return load(
        file or config_file(options),
        LoadOptions(
            config_id=options.text("config-id"),
            check_all_includes=options.has("all-config"),
            machine=this_machine(),
            lint=lint,
            namespace=options.text("namespace"),
            own_uid=0 if lint else os.getuid(),
            before=current.config if current else None,
            digests=current.digests if current else None,
        ),
    )


class NoNamespace(Exception):
    """There is no network namespace of that name, or this process may not enter it."""


def read_at_start(options: Options) -> LoadResult:
    """Enter the namespace of option -s or of net_namespace, and read the file in it. Raises NoNamespace."""
    named = options.text("namespace")
    if options.has("namespace"):
        if not named:
            raise NoNamespace("the network namespace of -s has no name")
        _enter(named)
    result = _read_or_last_good(options)
    if not named and result.config is not None and result.config.global_defs.root.net_namespace:
        _enter(result.config.global_defs.root.net_namespace)
        result = _read_or_last_good(options)  # again: what is said about interfaces is meant for those in there
    return result


def _enter(name: str) -> None:
    """Raises NoNamespace."""
    try:
        netns.enter(name, DIRECTORY)
    except OSError as exc:
        from workers import privileges

        refused = exc.errno == errno.EPERM and not privileges.has(privileges.NAMESPACES)
        missing = f"; {privileges.NAMESPACES} is missing" if refused else ""
        raise NoNamespace(f"cannot enter network namespace {name}: {exc.strerror or 'no such name'}{missing}") from exc


def _read_or_last_good(options: Options) -> LoadResult:
    """What is read at a start: the file, or when that is broken what was in force before."""
    result, kept = read(options), last_good(options)
    broken = result.config is None or errors(result)
    kept.stage(None if broken else result.config, Reading.START)
    if broken and kept.path and os.path.exists(kept.path):
        last = read(options, file=kept.path)
        if last.config is not None:
            for line in log_lines(result):
                logger.error("%s", line)
            logger.error("The configuration has errors: the last good one is taken, %s", kept.path)
            return last
    return result


def read_for_reload(options: Options, current: Applied) -> ConfigLoaded:
    result = read(options, current=current)
    last_good(options).stage(None if errors(result) else result.config, Reading.RELOAD)
    check_log = current.config.global_defs.reload.check_config
    if check_log is not None and not acceptable(result, check_log):
        refused = f"New config failed validation, see {check_log} for details"
        return ConfigLoaded(config=None, problems=(refused,), errors=("validation",), files=tuple(result.files))
    return ConfigLoaded(
        config=None if result.config is None else difference(current.config, result.config),
        problems=tuple(log_lines(result)),
        errors=errors(result),
        digests=result.digests,
        files=tuple(result.files),
    )


def last_good(options: Options) -> LastGood:
    named = options.text("last-good")
    return LastGood(absolute(named) if named else "")


def log_lines(result: LoadResult) -> Iterator[str]:
    """Every problem for the log."""
    yield from (problem.log_line() for problem in result.problems)
    if result.problems.left_out:
        yield f"... and {result.problems.left_out} more"


def errors(result: LoadResult) -> tuple[str, ...]:
    """What a reload must not take over unless it ran with it before; wherever it stands in the file."""
    return tuple(
        f"{problem.id}: {problem.subject}"
        for problem in result.problems
        if problem.severity > Severity.LINT and problem.severity not in CORRECTED and problem.id not in TOLD_ONLY
    )


def acceptable(result: LoadResult, check_log: str) -> bool:
    """reload_check_config: whether `-t` would say 0; what it would print goes to `check_log`."""
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with open(os.open(check_log, flags, 0o644), "w", errors="surrogateescape") as file:
            file.write("".join(problem.render() + "\n" for problem in result.problems))
    except OSError as exc:
        logger.error("reload_check_config %s: %s", check_log, exc.strerror)
    return not result.problems.exit_status()

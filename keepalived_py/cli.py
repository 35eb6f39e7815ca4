"""The command line: keepalived's options, and the one place where parent and workers are put together."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from ipc.messages import ConfigLoaded, Peer

from . import __version__, log, netns
from .config.delta import difference
from .config.dump import dump, dump_lines, masked
from .config.load import DEFAULT_FILE, LoadOptions, LoadResult, load
from .config.model import Config
from .config.problems import Severity
from .config.slices import checker_slice, vrrp_slice
from .config.system import this_machine
from .dumpfile import temporary_directory
from .options import Options, parse, usage
from .parent.daemonize import daemonize
from .parent.last_good import LastGood, Reading
from .parent.pidfile import DIRECTORY, AlreadyRunning, PidFile, default_path
from .parent.reload import Applied
from .parent.roles import Plan, has_work
from .parent.signals import begin, keep_stops, pass_on
from .parent.supervisor import Supervisor
from .parent.systemd import Systemd
from .process_options import command_line, core_files, facility_of, tell_no_effect, tell_start, umask_of
from .stdio import provide, say
from .values import ExitCode

logger = logging.getLogger(__name__)

PROGRAM = "keepalived-py"
KEEPALIVED, LIKE = "keepalived", "2.3.0"
"""The program that this one stands in for, and the version whose options and files it has."""
SIGNALS = {
    "STOP": signal.SIGTERM,
    "RELOAD": signal.SIGHUP,
    "DATA": signal.SIGUSR1,
    "STATS": signal.SIGUSR2,
    "STATS_CLEAR": signal.SIGRTMAX - 1,
    "JSON": signal.SIGRTMIN + 2,
}
DEFAULT_UMASK = 0o177
PROC = "/proc/self"
CORRECTED = (Severity.WARNING, Severity.MULTIPLE_FILES)
TOLD_ONLY = ("script-security", "untracked-route")
"""They weigh in a configuration test, but a daemon starts with it and does all that the file says."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `keepalived-py`; the exit code. Called through the name `genhash` it is that program."""
    provide()
    if argv is None and os.path.basename(sys.argv[0]) == "genhash":
        return _genhash(Options(rest=sys.argv[1:]))
    options = parse(sys.argv[1:] if argv is None else argv)
    for error in options.errors:
        say(f"{PROGRAM}: {error}")
    for name, answer in (("genhash", _genhash), ("help", _help), ("version", _version), ("signum", _signum)):
        if options.ending == name:
            return answer(options)
    if options.rest:
        say(f"Unexpected argument(s): {' '.join(options.rest)}", error=False)
        if options.has("config-test") and not options.has("use-file"):
            say(f"{PROGRAM}: nothing was checked: the file is named by -f")
            return ExitCode.FATAL
    if options.errors:
        return ExitCode.FATAL
    if options.has("config-test"):
        return _config_test(options)
    try:
        return _run(options)
    finally:
        log.finish()


def _genhash(options: Options) -> int:
    from .genhash import main as genhash  # the checkers' imports, which nothing else here needs

    if len(options.values) > 1:
        say(f"{PROGRAM}: options before -T count for nothing")
    return genhash(options.rest)


def _help(options: Options) -> int:
    say(usage(PROGRAM))
    return ExitCode.OK


def _version(options: Options) -> int:
    """Programs that know keepalived by its name look for its version in the first of several lines."""
    if os.path.basename(sys.argv[0]) == KEEPALIVED:
        say(f"Keepalived v{LIKE} ({PROGRAM} {__version__})\n")
    say(f"{PROGRAM} {__version__}, Python {sys.version.split()[0]}")
    return ExitCode.OK


def _signum(options: Options) -> int:
    name = options.text("signum")
    if name not in SIGNALS:
        say(f"{PROGRAM}: unknown signal '{name}', known: {', '.join(SIGNALS)}")
        return ExitCode.FATAL
    return ExitCode.OK if say(str(int(SIGNALS[name])), error=False) else ExitCode.FATAL


# configuration ----------------------------------------------------------------------------------------------------


def _config_file(options: Options) -> str:
    """The file as an absolute pattern: the daemon changes its directory."""
    return _absolute(options.text("use-file", DEFAULT_FILE))


def _absolute(path: str) -> str:
    """The path from anywhere; where the current directory is gone there is no such file."""
    try:
        return os.path.abspath(path)
    except FileNotFoundError:
        return path


def _load(options: Options, lint: bool = False, current: Applied | None = None, file: str | None = None) -> LoadResult:
    return load(
        file or _config_file(options),
        LoadOptions(
            config_id=options.text("config-id"),
            check_all_includes=options.has("all-config"),
            machine=this_machine(),
            lint=lint,
            own_uid=0 if lint else os.getuid(),
            before=current.config if current else None,
            digests=current.digests if current else None,
        ),
    )


def _config_test(options: Options) -> int:
    """`-t`: every problem, and keepalived's exit status (config-language.md 8.1); with -d the configuration too."""
    umask_of(options), facility_of(options)  # what is wrong with them is told here too
    result = _load(options, lint=True)
    wanted = dump(result.config).removesuffix("\n") if options.has("dump-conf") and result.config is not None else ""
    if wanted and not say(wanted, error=False):
        say(f"{PROGRAM}: the configuration cannot be written to standard output")
        return ExitCode.FATAL
    text = "".join(problem.render() + "\n" for problem in result.problems)
    if result.problems.left_out:
        text += f"... and {result.problems.left_out} more\n"
    target = options.text("config-test")
    if target:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        try:
            with open(os.open(target, flags, 0o644), "a", errors="surrogateescape") as file:
                file.write(text)
        except OSError as exc:
            say(f"{PROGRAM}: {target}: {exc.strerror}")
            return ExitCode.FATAL
    elif text:
        say(text.removesuffix("\n"))
    return result.problems.exit_status(strict=options.has("strict"))


def _log_lines(result: LoadResult) -> Iterator[str]:
    """Every problem for the log."""
    yield from (problem.log_line() for problem in result.problems)
    if result.problems.left_out:
        yield f"... and {result.problems.left_out} more"


def _errors(result: LoadResult) -> tuple[str, ...]:
    """What a reload must not take over unless it ran with it before; wherever it stands in the file."""
    return tuple(
        f"{problem.id}: {problem.subject}"
        for problem in result.problems
        if problem.severity > Severity.LINT and problem.severity not in CORRECTED and problem.id not in TOLD_ONLY
    )


def _acceptable(result: LoadResult, check_log: str) -> bool:
    """reload_check_config: whether `-t` would say 0; what it would print goes to `check_log`."""
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with open(os.open(check_log, flags, 0o644), "w", errors="surrogateescape") as file:
            file.write("".join(problem.render() + "\n" for problem in result.problems))
    except OSError as exc:
        logger.error("reload_check_config %s: %s", check_log, exc.strerror)
    return not result.problems.exit_status()


def _last_good(options: Options) -> LastGood:
    named = options.text("last-good")
    return LastGood(_absolute(named) if named else "")


def _load_or_last_good(options: Options) -> LoadResult:
    """What is read at a start: the file, or when that is broken what was in force before."""
    result, kept = _load(options), _last_good(options)
    broken = result.config is None or _errors(result)
    kept.stage(None if broken else result.config, Reading.START)
    if broken and kept.path and os.path.exists(kept.path):
        last = _load(options, file=kept.path)
        if last.config is not None:
            for line in _log_lines(result):
                logger.error("%s", line)
            logger.error("The configuration has errors: the last good one is taken, %s", kept.path)
            return last
    return result


def _load_for_reload(options: Options, current: Applied) -> ConfigLoaded:
    result = _load(options, current=current)
    _last_good(options).stage(None if _errors(result) else result.config, Reading.RELOAD)
    check_log = current.config.global_defs.reload.check_config
    if check_log is not None and not _acceptable(result, check_log):
        refused = f"New config failed validation, see {check_log} for details"
        return ConfigLoaded(config=None, problems=(refused,), errors=("validation",), files=tuple(result.files))
    return ConfigLoaded(
        config=None if result.config is None else difference(current.config, result.config),
        problems=tuple(_log_lines(result)),
        errors=_errors(result),
        digests=result.digests,
        files=tuple(result.files),
    )


# running ----------------------------------------------------------------------------------------------------------


def _run(options: Options) -> int:
    from workers.tuning import PARENT_DESCRIPTORS, keep_descriptors, provide_descriptors, remember

    if not os.path.isdir(PROC):
        say(f"{PROGRAM}: there is no {PROC}, without which nothing runs here")
        return ExitCode.FATAL
    foreground = options.has("dont-fork")
    begin(options.has("ignore-sigint"))
    remember()
    try:
        provide_descriptors()
    except OSError as exc:
        say(f"{PROGRAM}: {exc.strerror}: {PARENT_DESCRIPTORS} more are needed")
        return ExitCode.PROGRAM_ERROR
    systemd, umask, facility = Systemd(), umask_of(options), facility_of(options)
    keep_descriptors()
    os.umask(DEFAULT_UMASK if umask is None else umask)
    settings = _log_settings(options, facility, foreground, None, options.text("namespace"))

    def tell(text: str) -> None:
        """To whoever starts the daemon, unless the log is seen there anyway."""
        if text and not settings.console:
            say(f"{PROGRAM}: {text}")

    def refuse(text: str, code: ExitCode) -> ExitCode:
        logger.error("%s", text)
        tell(text)
        return code

    tell(log.set_up(settings, "Keepalived", ""))
    tell_start(f"{PROGRAM} {__version__}", _config_file(options))
    try:
        result = _load_inside(options)
    except NoNamespace as exc:
        return refuse(f"{exc} - exiting", ExitCode.OK)
    if result.config is not None:
        log.use_json(result.config.global_defs.log_json)
    for path in result.files:
        logger.debug("Opening file '%s'", path)
    for line in _log_lines(result):
        logger.info("%s", line)
    if result.config is None:
        code = result.problems.stops
        if not settings.console:
            say("\n".join(problem.render() for problem in result.problems if problem.stops))
        logger.error("The configuration cannot be used - exiting with %d", code)
        return code
    check_log = result.config.global_defs.reload.check_config
    if check_log is not None and not _acceptable(result, check_log):
        text = (
            f"The configuration has errors, which reload_check_config does not allow, see {check_log} - exiting with 2"
        )
        return refuse(text, ExitCode.CONFIG)
    if options.has("dump-conf"):
        for number, text in enumerate(masked(dump_lines(result.config)), 1):
            logger.info("%s", text, extra={log.VERBATIM: True})
            if number % log.WAITING_LIMIT == 0:
                log.finish()  # a start may wait until all of it is written
    root = result.config.global_defs.root
    namespace = options.text("namespace", root.net_namespace)
    json = result.config.global_defs.log_json
    settings = _log_settings(options, facility, foreground, json, namespace, root.instance)
    pid_files = _pid_files(options, root.instance, root.use_pid_dir or bool(namespace))
    keep_stops()
    wanted = [peer for peer in _workers(options) if options.has("all") or has_work(peer, result.config)]
    try:
        if any(pid_files[peer].held_by_another for peer in wanted):
            raise AlreadyRunning
        pid_files[Peer.PARENT].write(os.getpid())  # which programs may read from now on
    except AlreadyRunning:
        return refuse("daemon is already running", ExitCode.OK)
    except OSError as exc:
        return refuse(f"pid file {pid_files[Peer.PARENT].path}: {exc.strerror}", ExitCode.OK)
    from workers.file_watch import create_files
    from workers.scripts import start
    from workers.vrrp.withdraw import withdraw

    vrrp_record = os.path.splitext(pid_files[Peer.VRRP].path)[0] + ".sysctl"
    # imported before the fork, so that every process shares the pages
    mains = _worker_mains(options, settings, umask, vrrp_record)
    log.finish()
    try:
        if not foreground and (daemon := daemonize()):
            pid_files[Peer.PARENT].write(daemon)
            pass_on(daemon)
            return ExitCode.OK
    except OSError as exc:
        pid_files[Peer.PARENT].remove()
        return refuse(f"no process in the background: {exc.strerror}", ExitCode.FATAL)
    log.set_up(settings, "Keepalived", "")
    log.start_threads()
    create_files(result.config.track_files)
    core_pattern = core_files(options)

    def adopt(config: Config) -> None:
        os.umask(config.global_defs.umask if umask is None else umask)
        log.use_json(config.global_defs.log_json)

    adopt(result.config)
    tell_no_effect(options)
    plan = Plan(
        mains=mains,
        warm={Peer.CHECKER: _warm_checker},
        load=partial(_load_for_reload, options),
        start_script=start,
        withdraw=withdraw,
        pid_files=pid_files,
        adopt=adopt,
        last_good=_last_good(options),
        systemd=systemd,
        command_line=partial(command_line, sys.argv[0], options.words),
        respawn=not options.has("dont-respawn"),
        ignore_sigint=options.has("ignore-sigint"),
        run_all=options.has("all"),
    )
    try:
        return Supervisor(plan, Applied(1, result.config, _errors(result), result.digests)).run()
    finally:
        core_pattern.restore()
        if namespace:
            netns.leave(namespace, DIRECTORY)


class NoNamespace(Exception):
    """There is no network namespace of that name, or this process may not enter it."""


def _load_inside(options: Options) -> LoadResult:
    """Enter the namespace of option -s or of net_namespace, and read the file in it. Raises NoNamespace."""
    named = options.text("namespace")
    if options.has("namespace"):
        if not named:
            raise NoNamespace("the network namespace of -s has no name")
        _enter(named)
    result = _load_or_last_good(options)
    if not named and result.config is not None and result.config.global_defs.root.net_namespace:
        _enter(result.config.global_defs.root.net_namespace)
        result = _load_or_last_good(options)  # again: what is said about interfaces is meant for those in there
    return result


def _enter(name: str) -> None:
    """Raises NoNamespace."""
    try:
        netns.enter(name, DIRECTORY)
    except OSError as exc:
        raise NoNamespace(f"cannot enter network namespace {name}: {exc.strerror or 'no such name'}") from exc


def _log_settings(options: Options, facility: int, foreground: bool, json: bool | None, *names: str) -> log.LogSettings:
    file = options.text("log-file", "keepalived.log") if options.has("log-file") else ""
    return log.LogSettings(
        syslog=not options.has("no-syslog"),
        facility=facility,
        console=foreground and options.has("log-console"),
        detail=options.has("log-detail"),
        file=os.path.join(temporary_directory(), file) if file else "",
        suffix="".join(f"_{name}" for name in names if name),
        json=json,
    )


def _pid_files(options: Options, instance: str, use_directory: bool) -> dict[Peer, PidFile]:
    names = {
        Peer.PARENT: ("pid", "keepalived"),
        Peer.VRRP: ("vrrp_pid", "vrrp"),
        Peer.CHECKER: ("checkers_pid", "checkers"),
    }
    return {
        peer: PidFile(_absolute(options.text(option)) if options.has(option) else default)
        for peer, (option, name) in names.items()
        for default in (default_path(name, instance, use_directory),)
    }


WorkerMain = Callable[[socket.socket, Applied, tuple[Any, ...], int], int]


def _worker_mains(
    options: Options, settings: log.LogSettings, umask: int | None, vrrp_record: str
) -> dict[Peer, WorkerMain]:
    """Main functions of the workers that -C and -P leave. The imports are here so that -t does not pay for them."""
    from workers.vrrp.worker import run_vrrp
    from workers.worker import WorkerContext, WorkerOptions

    told = WorkerOptions(
        keep_vrrp=options.has("dont-release-vrrp"),
        keep_ipvs=options.has("dont-release-ipvs"),
        umask=umask,
        trace_memory=(options.has("mem-check") or options.has("mem-check-log")) and not options.has("no-mem-check"),
        watch_addresses=options.has("address-monitoring"),
        ignore_sigint=options.has("ignore-sigint"),
        command_line=partial(command_line, sys.argv[0], options.words),
        setting_record=vrrp_record,
        log=settings,
    )

    def vrrp(sock: socket.socket, applied: Applied, reported: tuple[Any, ...], parent: int) -> int:
        both = Peer.CHECKER in workers and (everything or applied.config.checker.has_work)
        return run_vrrp(
            WorkerContext(
                sock=sock,
                generation=applied.generation,
                config=vrrp_slice(applied.config, checker_runs=both),
                options=told,
                parent_pid=parent,
                reported=reported,
            )
        )

    def checker(sock: socket.socket, applied: Applied, reported: tuple[Any, ...], parent: int) -> int:
        from workers.checker.worker import run_checker

        return run_checker(
            WorkerContext(
                sock=sock,
                generation=applied.generation,
                config=checker_slice(applied.config),
                options=told,
                parent_pid=parent,
                reported=reported,
                abandoned=checker_slice(applied.abandoned) if applied.abandoned is not None else None,
            )
        )

    everything, workers = options.has("all"), _workers(options)
    mains: dict[Peer, WorkerMain] = {Peer.VRRP: vrrp, Peer.CHECKER: checker}
    return {peer: mains[peer] for peer in workers}


def _workers(options: Options) -> list[Peer]:
    """What -C and -P leave."""
    without = {Peer.VRRP: "check", Peer.CHECKER: "vrrp"}
    return [peer for peer, name in without.items() if not options.has(name) or options.follows("all", name)]


def _warm_checker() -> None:
    """The heaviest imports: made in the parent, for every checker it forks, but only once there is one."""
    from workers.checker.worker import warm

    warm()


def console_main() -> None:
    """`python -m keepalived_py`."""
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())

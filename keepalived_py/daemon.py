"""From the options to a daemon: what a start does, step by step, and what parent and workers are made of.

It is the one place that knows both.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from ipc.messages import Peer

from . import __version__, log, netns
from .config.dump import dump_lines, masked
from .config.load import LoadResult
from .config.model import Config
from .config.slices import checker_slice, vrrp_slice
from .dumpfile import temporary_directory
from .options import PROGRAM, Options
from .parent.daemonize import daemonize
from .parent.pidfile import DIRECTORY, AlreadyRunning, PidFile, default_path
from .parent.reload import Applied
from .parent.roles import Plan, has_work
from .parent.signals import begin, keep_stops, pass_on
from .parent.supervisor import Supervisor
from .parent.systemd import Systemd
from .process_options import command_line, core_files, facility_of, tell_no_effect, tell_start, umask_of
from .reading import (
    NoNamespace,
    absolute,
    acceptable,
    config_file,
    errors,
    last_good,
    log_lines,
    read_at_start,
    read_for_reload,
)
from .stdio import say
from .values import ExitCode

logger = logging.getLogger(__name__)

IDENT = "Keepalived"
DEFAULT_UMASK = 0o177
PROC = "/proc/self"


class Refused(Exception):
    """The daemon does not start, and exits with `code`. The text is for the log and for whoever starts it."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


def run(options: Options) -> int:
    """The whole life of the daemon, or of the process that puts it into the background; the exit code."""
    from workers.tuning import PARENT_DESCRIPTORS, provide_descriptors, remember

    if not os.path.isdir(PROC):
        say(f"{PROGRAM}: there is no {PROC}, without which nothing runs here")
        return ExitCode.FATAL
    begin(options.has("ignore-sigint"))
    remember()
    try:
        provide_descriptors()
    except OSError as exc:
        say(f"{PROGRAM}: {exc.strerror}: {PARENT_DESCRIPTORS} more are needed")
        return ExitCode.PROGRAM_ERROR
    start = _Start(options)
    try:
        return start.run()
    except Refused as refused:
        logger.error("%s", refused)
        start.tell(str(refused))
        return refused.code
    except Exception as exc:
        return _failed(exc)


def _failed(exc: Exception) -> ExitCode:
    """The parent cannot go on, but another one may. In the background nobody sees a traceback that is not logged."""
    if isinstance(exc, MemoryError):
        logger.critical("Out of memory")
        return ExitCode.NO_MEMORY
    logger.critical("Keepalived: internal error", exc_info=exc)
    return ExitCode.PROGRAM_ERROR


class _Start:
    """Each step may be the last: it raises Refused."""

    def __init__(self, options: Options) -> None:
        from workers.tuning import keep_descriptors

        self.options, self.foreground = options, options.has("dont-fork")
        self.systemd, self.umask, self.facility = Systemd(), umask_of(options), facility_of(options)
        keep_descriptors()
        os.umask(DEFAULT_UMASK if self.umask is None else self.umask)
        self.settings = _log_settings(options, self.facility, self.foreground, None, options.text("namespace"))

    def tell(self, text: str) -> None:
        """To whoever starts the daemon, unless the log is seen there anyway."""
        if text and not self.settings.console:
            say(f"{PROGRAM}: {text}")

    def run(self) -> int:
        from workers.file_watch import create_files

        log.set_up(self.settings, IDENT, "")
        self.tell(log.refused_file())
        tell_start(f"{PROGRAM} {__version__}", config_file(self.options))
        result = self._read()
        if result.config is None:
            return self._unusable(result)
        config, root = result.config, result.config.global_defs.root
        self._check(result, config)
        namespace, names = root.net_namespace, (root.net_namespace, root.instance)
        json = config.global_defs.log_json
        self.settings = _log_settings(self.options, self.facility, self.foreground, json, *names)
        pid_files = _pid_files(self.options, root.instance, root.use_pid_dir or bool(namespace))
        keep_stops()
        self._claim(pid_files, config)
        plan = self._plan(pid_files)  # imports what workers need: before the fork, so that processes share the pages
        try:
            plan.load_modules(config)
        except ImportError as exc:
            pid_files[Peer.PARENT].remove()
            raise Refused(f"{exc}: is the installation whole?", ExitCode.FATAL) from None
        log.finish()
        if not self.foreground and self._in_background(pid_files[Peer.PARENT]):
            return ExitCode.OK
        log.set_up(self.settings, IDENT, "")
        log.start_threads()
        create_files(config.track_files)
        core_pattern = core_files(self.options)
        self._adopt(config)
        tell_no_effect(self.options)
        try:
            return Supervisor(plan, Applied(1, config, errors(result), result.digests)).run()
        finally:
            core_pattern.restore()
            if namespace:
                netns.leave(namespace, DIRECTORY)

    def _read(self) -> LoadResult:
        """The file, and in the log what is to be said about it."""
        try:
            result = read_at_start(self.options)
        except NoNamespace as exc:
            raise Refused(f"{exc} - exiting", ExitCode.OK) from None
        if result.config is not None:
            log.use_json(result.config.global_defs.log_json)
        for path in result.files:
            logger.debug("Opening file '%s'", path)
        for line in log_lines(result):
            logger.info("%s", line)
        return result

    def _unusable(self, result: LoadResult) -> int:
        code = result.problems.stops
        if not self.settings.console:
            say("\n".join(problem.render() for problem in result.problems if problem.stops))
        logger.error("The configuration cannot be used - exiting with %d", code)
        return code

    def _check(self, result: LoadResult, config: Config) -> None:
        """reload_check_config, and option -d."""
        check_log = config.global_defs.reload.check_config
        if check_log is not None and not acceptable(result, check_log):
            raise Refused(
                "The configuration has errors, which reload_check_config does not allow, "
                f"see {check_log} - exiting with 2",
                ExitCode.CONFIG,
            )
        if self.options.has("dump-conf"):
            for number, text in enumerate(masked(dump_lines(config)), 1):
                logger.info("%s", text, extra={log.VERBATIM: True})
                if number % log.WAITING_LIMIT == 0:
                    log.finish()  # a start may wait until all of it is written

    def _claim(self, pid_files: Mapping[Peer, PidFile], config: Config) -> None:
        """Only one daemon may have these pid files."""
        wanted = [peer for peer in _workers(self.options) if self.options.has("all") or has_work(peer, config)]
        try:
            if any(pid_files[peer].held_by_another for peer in wanted):
                raise AlreadyRunning
            pid_files[Peer.PARENT].write(os.getpid())  # which programs may read from now on
        except AlreadyRunning:
            raise Refused("daemon is already running", ExitCode.OK) from None
        except OSError as exc:
            raise Refused(f"pid file {pid_files[Peer.PARENT].path}: {exc.strerror}", ExitCode.OK) from None

    def _in_background(self, pid_file: PidFile) -> bool:
        """Whether the daemon is another process from now on."""
        try:
            with log.going_on():
                daemon = daemonize()
            if daemon:
                pid_file.write(daemon)
                pass_on(daemon)
        except OSError as exc:
            pid_file.remove()
            raise Refused(f"no process in the background: {exc.strerror}", ExitCode.FATAL) from None
        return bool(daemon)

    def _adopt(self, config: Config) -> None:
        """What the parent itself has from a configuration."""
        os.umask(config.global_defs.umask if self.umask is None else self.umask)
        log.use_json(config.global_defs.log_json)

    def _plan(self, pid_files: Mapping[Peer, PidFile]) -> Plan:
        from workers.scripts import start
        from workers.vrrp.withdraw import withdraw

        options = self.options
        vrrp_record = os.path.splitext(pid_files[Peer.VRRP].path)[0] + ".sysctl"
        mains = _worker_mains(options, self.settings, self.umask, vrrp_record)
        return Plan(
            mains=mains,
            warm={Peer.CHECKER: _warm_checker},
            load=partial(read_for_reload, options),
            start_script=start,
            withdraw=withdraw,
            load_modules=partial(_load_modules, mains),
            pid_files=pid_files,
            adopt=self._adopt,
            last_good=last_good(options),
            systemd=self.systemd,
            command_line=partial(command_line, sys.argv[0], options.words),
            respawn=not options.has("dont-respawn"),
            ignore_sigint=options.has("ignore-sigint"),
            run_all=options.has("all"),
            trace_memory=_trace_memory(options),
        )


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


def _trace_memory(options: Options) -> bool:
    return (options.has("mem-check") or options.has("mem-check-log")) and not options.has("no-mem-check")


def _pid_files(options: Options, instance: str, use_directory: bool) -> dict[Peer, PidFile]:
    names = {
        Peer.PARENT: ("pid", "keepalived"),
        Peer.VRRP: ("vrrp_pid", "vrrp"),
        Peer.CHECKER: ("checkers_pid", "checkers"),
    }
    return {
        peer: PidFile(absolute(options.text(option)) if options.has(option) else default)
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
        trace_memory=_trace_memory(options),
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


def _load_modules(peers: Collection[Peer], config: Config) -> None:
    """What `peers` come to need for `config`. Raises ImportError."""
    from workers import late

    late.load(late.of_all(config.global_defs))
    if Peer.CHECKER in peers and config.checker.virtual_servers:
        from workers.checker.registry import modules

        late.load(modules(config.checker))


def _warm_checker() -> None:
    """The heaviest imports: made in the parent, for every checker it forks, but only once there is one."""
    from workers.checker.worker import warm

    warm()

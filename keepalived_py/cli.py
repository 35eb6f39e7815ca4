"""The command line: keepalived's options, and what they ask for."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence

from . import __version__, log
from .config.dump import dump
from .daemon import run
from .options import PROGRAM, Options, parse, usage
from .process_options import facility_of, umask_of
from .reading import read
from .stdio import provide, say
from .values import ExitCode

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


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `keepalived-py`; the exit code. Called through the name `genhash` it is that program."""
    provide()
    if argv is None and os.path.basename(sys.argv[0]) == "genhash":
        return _genhash(Options(rest=sys.argv[1:]))
    options = parse(sys.argv[1:] if argv is None else argv)
    if options.ending or options.errors or options.has("config-test"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS.values())  # see __main__: this is no daemon
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
        return run(options)
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


def _config_test(options: Options) -> int:
    """`-t`: every problem, and keepalived's exit status (config-language.md 8.1); with -d the configuration too."""
    umask_of(options), facility_of(options)  # what is wrong with them is told here too
    result = read(options, lint=True)
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


def console_main() -> None:
    """`python -m keepalived_py`."""
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())

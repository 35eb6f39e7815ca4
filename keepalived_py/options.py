"""keepalived's command line (cli-and-signals.md 1): one table of options, and what was said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from enum import Enum

from keepalived_py.records import dataclass

PROGRAM = "keepalived-py"


class Arg(Enum):
    """Whether an option takes a value; an optional one must be attached."""

    NONE = 0
    REQUIRED = 1
    OPTIONAL = 2


@dataclass(frozen=True, slots=True)
class Option:
    short: str
    long: str
    arg: Arg = Arg.NONE
    value: str = ""
    text: str = ""


OPTIONS = (
    Option("f", "use-file", Arg.REQUIRED, "FILE", "use this configuration file (a pattern is allowed)"),
    Option("P", "vrrp", text="run VRRP only: no health checking"),
    Option("C", "check", text="run health checking only: no VRRP"),
    Option("", "all", text="start every worker even without configuration for it; undoes -P and -C before it"),
    Option("l", "log-console", text="log to the console as well, together with -n"),
    Option("D", "log-detail", text="log in more detail: addresses set and removed, announcements, farewells"),
    Option("S", "log-facility", Arg.REQUIRED, "FACILITY", "syslog facility: 0-7, local0-local7, user or daemon"),
    Option("g", "log-file", Arg.OPTIONAL, "FILE", "log to a file per process as well"),
    Option("G", "no-syslog", text="do not log to syslog"),
    Option("", "flush-log-file", text="accepted: every record is written at once"),
    Option("u", "umask", Arg.REQUIRED, "NUMBER", "mode mask for new files, beats the keyword umask"),
    Option("X", "release-vips", text="accepted: addresses that were there before are always removed"),
    Option("s", "namespace", Arg.REQUIRED, "NAME", "run in this network namespace, beats net_namespace"),
    Option("V", "dont-release-vrrp", text="on stop keep virtual addresses"),
    Option("I", "dont-release-ipvs", text="on stop keep the IPVS configuration"),
    Option("d", "dump-conf", text="log the configuration as understood, without passwords; with -t print all of it"),
    Option("R", "dont-respawn", text="stop when a worker dies"),
    Option("n", "dont-fork", text="stay in the foreground"),
    Option("p", "pid", Arg.REQUIRED, "FILE", "pid file of the parent"),
    Option("r", "vrrp_pid", Arg.REQUIRED, "FILE", "pid file of the VRRP worker"),
    Option("c", "checkers_pid", Arg.REQUIRED, "FILE", "pid file of the checker worker"),
    Option("B", "no_bfd", text="accepted: there is no BFD process"),
    Option("b", "bfd_pid", Arg.REQUIRED, "FILE", "accepted: there is no BFD process"),
    Option("a", "address-monitoring", text="the checker worker logs every address that comes or goes"),
    Option("x", "snmp", text="accepted: there is no SNMP"),
    Option("A", "snmp-agent-socket", Arg.REQUIRED, "ADDRESS", "accepted: there is no SNMP"),
    Option("m", "core-dump", text="core files of any size (of scripts: as before)"),
    Option("M", "core-dump-pattern", Arg.OPTIONAL, "PATTERN", "as -m, with another kernel.core_pattern meanwhile"),
    Option("T", "genhash", text="print the digest of a web page; all further words are genhash's (-T -h lists them)"),
    Option("e", "all-config", text="every problem with an include is an error"),
    Option("i", "config-id", Arg.REQUIRED, "ID", "what @ID lines of the configuration are compared with"),
    Option("", "signum", Arg.REQUIRED, "NAME", "print the number of STOP, RELOAD, DATA, STATS, STATS_CLEAR or JSON"),
    Option("t", "config-test", Arg.OPTIONAL, "FILE", "check the configuration and exit; messages to stderr or FILE"),
    Option(
        "", "last-good", Arg.REQUIRED, "FILE", "keep what is in force in FILE; start with it when -f is broken (ours)"
    ),
    Option("", "strict", text="with -t: warnings count as failure (not in keepalived)"),
    Option("", "ignore-sigint", text="ignore SIGINT in every process"),
    Option("", "mem-check", text="at each reload and at the stop log where memory grew"),
    Option("L", "mem-check-log", text="the same"),
    Option("", "no-mem-check", text="not --mem-check"),
    Option("O", "openssl-mem-check", text="accepted: OpenSSL belongs to Python"),
    Option("", "perf", Arg.OPTIONAL, "WHEN", "accepted: perf can be run on any process from outside"),
    Option("", "debug", Arg.OPTIONAL, "LETTERS", "accepted: -D shows all there is"),
    Option("", "config-fd", Arg.REQUIRED, "N", "accepted: a reload is checked without a second program"),
    Option("v", "version", text="print the version"),
    Option("h", "help", text="print this text"),
)
ENDING = ("genhash", "help", "version", "signum")
"""Nothing behind them is read as an option, as in keepalived."""
BY_SHORT = {option.short: option for option in OPTIONS if option.short}
BY_LONG = {option.long: option for option in OPTIONS}


@dataclass(slots=True)
class Options:
    """What the command line said: values by long name (True for options without), times given, complaints."""

    words: Sequence[str] = ()
    """All of it, without the program's name."""
    values: dict[str, str | bool] = field(default_factory=dict)
    count: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)

    def has(self, name: str) -> bool:
        return name in self.values

    def text(self, name: str, default: str = "") -> str:
        """The value of an option, `default` when it is missing or came without one."""
        value = self.values.get(name)
        return value if isinstance(value, str) else default

    @property
    def ending(self) -> str:
        """Which of ENDING was said, "" for none."""
        return next((name for name in ENDING if name in self.values), "")

    def follows(self, name: str, other: str) -> bool:
        """Whether both were said, `name` after `other`."""
        said = list(self.values)
        return name in said and other in said and said.index(name) > said.index(other)

    def _set(self, option: Option, value: str | bool) -> None:
        self.values.pop(option.long, None)  # the last time counts, for the order too
        self.values[option.long] = value
        self.count[option.long] = self.count.get(option.long, 0) + 1


def parse(argv: Sequence[str]) -> Options:
    """Read `argv` (without the program's name). Complaints are collected; reading goes on, as keepalived's does."""
    options = Options(words=argv)
    waiting = list(argv)
    while waiting:
        word = waiting.pop(0)
        if word == "--":
            options.rest += waiting
            break
        if word.startswith("--"):
            _long(word[2:], waiting, options)
        elif word.startswith("-") and len(word) > 1:
            _short(word[1:], waiting, options)
        else:
            options.rest.append(word)
        if options.ending:
            options.rest += waiting
            break
    return options


def _long(text: str, waiting: list[str], options: Options) -> None:
    name, equals, value = text.partition("=")
    near = [option for option in OPTIONS if option.long.startswith(name)]
    option = BY_LONG.get(name) or (near[0] if len(near) == 1 else None)
    if option is None:
        options.errors.append(f"unrecognized option '--{name}'")
    elif option.arg is Arg.NONE:
        if equals:
            options.errors.append(f"option '--{option.long}' takes no value")
        else:
            options._set(option, True)
    elif not value and option.arg is Arg.OPTIONAL:
        options._set(option, True)
    elif value := value or (waiting.pop(0) if waiting and not equals else ""):
        options._set(option, value)
    else:  # an empty one, as a variable that is not set makes it, is none
        options.errors.append(f"option '--{option.long}' requires a value")


def _short(letters: str, waiting: list[str], options: Options) -> None:
    while letters and not options.ending:
        letter, letters = letters[0], letters[1:]
        option = BY_SHORT.get(letter)
        if option is None:
            options.errors.append(f"invalid option -- '{letter}'")
        elif option.arg is Arg.NONE:
            options._set(option, True)
        elif letters:
            options._set(option, letters)
            return
        elif option.arg is Arg.OPTIONAL:
            options._set(option, True)
        elif waiting:
            options._set(option, waiting.pop(0))
        else:
            options.errors.append(f"option requires a value -- '{letter}'")


def usage(program: str) -> str:
    """The text of --help."""
    lines = [f"Usage: {program} [OPTION...]"]
    for option in OPTIONS:
        value = {Arg.NONE: "", Arg.REQUIRED: f"={option.value}", Arg.OPTIONAL: f"[={option.value}]"}[option.arg]
        short = f"-{option.short}, " if option.short else "    "
        lines.append(f"  {short}--{option.long}{value}".ljust(34) + option.text)
    return "\n".join(lines)

"""Options, exit codes, the configuration test, keepalivedctl."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc.messages import Peer
from keepalived_py import daemon
from keepalived_py.cli import SIGNALS, main
from keepalived_py.config.load import LoadResult
from keepalived_py.config.problems import MAX_PROBLEMS
from keepalived_py.config.system import Machine
from keepalived_py.ctl.main import main as ctl
from keepalived_py.daemon import _log_settings, _pid_files, _worker_mains
from keepalived_py.log import LogSettings
from keepalived_py.options import OPTIONS, Options, parse
from keepalived_py.parent.pidfile import AlreadyRunning, PidFile
from keepalived_py.parent.reload import Applied, ReloadCoordinator
from keepalived_py.process_options import command_line, core_files, facility_of, umask_of
from keepalived_py.reading import errors, read, read_for_reload
from tests.conftest import REPOSITORY
from tests.unit.config.helpers_config import INSTANCE


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file whose interface exists."""
    monkeypatch.setattr("keepalived_py.reading.this_machine", lambda: Machine(interfaces=frozenset(("eth0",))))
    path = tmp_path / "keepalived.conf"
    path.write_text(INSTANCE)
    return path


def test_the_command_line_is_kept_as_it_was_said() -> None:
    words = parse(["-nP", "-f", "a b", "--use-pid=x", "rest"]).words
    assert command_line("/sbin/keepalived", words, "keepalived") == "/sbin/keepalived -nP -f a b --use-pid=x rest"
    assert command_line("/bin/keepalived-py", (), "keepalived_vrrp") == "keepalived_vrrp"
    assert command_line("keepalived", [os.fsdecode(b"-f/x/\xff")], "keepalived") == "keepalived -f/x/\ufffd"


def test_options_in_every_form() -> None:
    options = parse(["-nlD", "-f", "a", "--use-file=b", "-g/x", "-g", "--log-file", "--config-te=c", "-DD", "rest"])
    assert options.text("use-file") == "b"
    assert options.has("dont-fork")
    assert options.has("log-console")
    assert options.count["log-detail"] == 3
    assert options.text("config-test") == "c"
    assert options.values["log-file"] is True
    assert options.rest == ["rest"]
    assert options.errors == []


@pytest.mark.parametrize(
    ("argv", "values", "rest"),
    [
        (["-Dfx"], {"log-detail": True, "use-file": "x"}, []),
        (["-Df", "-t"], {"log-detail": True, "use-file": "-t"}, []),
        (["-f", "--", "-D"], {"use-file": "--", "log-detail": True}, []),
        (["-f", "", "-D"], {"use-file": "", "log-detail": True}, []),
        (["-D", "--", "-n", "--"], {"log-detail": True}, ["-n", "--"]),
        (["-", "", "-D", "x"], {"log-detail": True}, ["-", "", "x"]),
        (["--config-test", "x", "--config-t=y"], {"config-test": "y"}, ["x"]),
        (["--config-test="], {"config-test": True}, []),
        (["--check", "--vrrp", "--pid", "-p"], {"check": True, "vrrp": True, "pid": "-p"}, []),
        (["--du", "--use=a=b", "--umas", "=1"], {"dump-conf": True, "use-file": "a=b", "umask": "=1"}, []),
        (["-u-1", "-i=", "-ré"], {"umask": "-1", "config-id": "=", "vrrp_pid": "é"}, []),
    ],
)
def test_words_mean_what_they_mean_to_keepalived(
    argv: list[str], values: dict[str, str | bool], rest: list[str]
) -> None:
    """As far as thousands of chance command lines for both programs have shown."""
    options = parse(argv)
    assert (options.values, options.rest, options.errors) == (values, rest, [])


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        (["--nonsense"], "unrecognized option '--nonsense'"),
        (["-Z"], "invalid option -- 'Z'"),
        (["-f"], "option requires a value -- 'f'"),
        (["--use-file"], "option '--use-file' requires a value"),
        (["--use-file="], "option '--use-file' requires a value"),
        (["--use-file", ""], "option '--use-file' requires a value"),
        (["--conf", ""], "unrecognized option '--conf'"),
        (["--chec"], "unrecognized option '--chec'"),
        (["-n-"], "invalid option -- '-'"),
        (["-S"], "option requires a value -- 'S'"),
        (["--="], "unrecognized option '--'"),
        (["--dont-fork=1"], "option '--dont-fork' takes no value"),
    ],
)
def test_bad_options_end_with_1(argv: list[str], error: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(argv).errors == [error]
    assert main(["-t", *argv]) == 1
    assert error in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "status", "out", "err"),
    [
        ("-v -Z", 0, "", "keepalived-py 0.1.0"),
        ("-Z -v", 0, "", "invalid option -- 'Z'\nkeepalived-py 0.1.0"),
        ("-vZ extra", 0, "", "keepalived-py 0.1.0"),
        ("extra --version -f", 0, "", "keepalived-py 0.1.0"),
        ("-t -v -f /none", 0, "", "keepalived-py 0.1.0"),
        ("-h --nonsense", 0, "", "Usage: "),
        ("--nonsense -h -v", 0, "", "unrecognized option '--nonsense'\nUsage: "),
        ("-v -h", 0, "", "keepalived-py 0.1.0"),
        ("--signum=DATA -Z", 0, "10\n", ""),
        ("-Z --signum DATA -h", 0, "10\n", "invalid option -- 'Z'\n"),
        ("--signum=FOO -v", 1, "", "unknown signal 'FOO'"),
        ("--signum= -v", 0, "", "option '--signum' requires a value\nkeepalived-py 0.1.0"),
        ("-Z -T -h", 0, "usage: genhash ", "invalid option -- 'Z'\n"),
        ("-n -T -h", 0, "usage: genhash ", "options before -T count for nothing\n"),
    ],
)
def test_what_only_tells_something_ends_the_options(
    words: str, status: int, out: str, err: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with keepalived 2.2.7; what was wrong before is told and costs nothing."""
    assert main(words.split()) == status
    said = capsys.readouterr()
    assert said.out.startswith(out)
    assert said.err.removeprefix("keepalived-py: ").startswith(err)
    assert (bool(said.out), bool(said.err)) == (bool(out), bool(err))


@pytest.mark.parametrize(
    ("words", "workers"),
    [
        ("", {"vrrp", "check"}),
        ("-P", {"vrrp"}),
        ("-C", {"check"}),
        ("-P -C", set()),
        ("--all", {"vrrp", "check"}),
        ("-C --all", {"vrrp", "check"}),
        ("--all -C", {"check"}),
        ("-C --all -C", {"check"}),
        ("-P -C --all -P", {"vrrp"}),
    ],
)
def test_which_workers_there_may_be(words: str, workers: set[str]) -> None:
    mains = _worker_mains(parse(words.split()), LogSettings(), None, "")
    assert {{Peer.VRRP: "vrrp", Peer.CHECKER: "check"}[peer] for peer in mains} == workers


def test_a_bad_facility_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert [facility_of(parse(["-S", name])) for name in ("3", "local3", "user", "daemon", "mail")] == [19, 19, 1, 3, 3]
    assert facility_of(parse([])) == 3
    assert capsys.readouterr().err == "'mail' is not a syslog facility, daemon is taken\n"


@pytest.mark.parametrize(
    ("text", "mask"),
    [("022", 0o22), ("18", 18), ("0x1f", 0x1F), ("0X1F", 0x1F), ("0", 0), ("0777", 0o777)]
    + [(text, None) for text in ("01000", "512", "089", "7x", "-1", "=022", "0o17", "0b1", "1_0")],
)
def test_a_umask_in_any_c_base(text: str, mask: int | None, capsys: pytest.CaptureFixture[str]) -> None:
    assert umask_of(parse(["-u", text])) == mask
    told = capsys.readouterr().err
    assert told == ("" if mask is not None else f"'{text}' is not a umask, a number from 0 to 0777\n")


def test_a_config_test_tells_of_bad_values_too(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are only reported."""
    assert main(["-t", "-u", "9x", "-S", "mail", "-f", str(conf), "left", "over"]) == 0
    said = capsys.readouterr()
    assert "'9x' is not a umask" in said.err
    assert "'mail' is not a syslog facility" in said.err
    assert said.out == "Unexpected argument(s): left over\n"


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-h"]) == 0
    text = capsys.readouterr().err
    assert all(f"--{option.long}" in text for option in OPTIONS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert "keepalived-py 0.1.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "status", "number"), [("RELOAD", 0, "1"), ("STATS_CLEAR", 0, "63"), ("JSON", 0, "36"), ("reload", 1, "")]
)
def test_signal_numbers(name: str, status: int, number: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"--signum={name}"]) == status
    assert capsys.readouterr().out.strip() == number


def test_config_test(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-t", "-f", str(conf)]) == 0
    assert capsys.readouterr().err == ""
    conf.write_text(conf.read_text().replace("virtual_router_id", "virtual_router"))
    assert main(["-t", "-f", str(conf)]) == 5
    text = capsys.readouterr().err
    assert f"{conf}:4:5: error: Unknown keyword 'virtual_router' [unknown-keyword]" in text
    assert "did you mean 'virtual_router_id'?" in text


def test_strict_config_test(conf: Path) -> None:
    conf.write_text(conf.read_text().replace("eth0\n", "nothere0\n"))
    assert main(["-t", "-f", str(conf)]) == 0
    assert main(["-t", "--strict", "-f", str(conf)]) == 5


def test_config_test_into_a_file(conf: Path, tmp_path: Path) -> None:
    conf.write_text("nonsense\n")
    log = tmp_path / "log"
    assert main([f"-t{log}", "-f", str(conf)]) == 5
    assert "Unknown keyword 'nonsense'" in log.read_text()
    (tmp_path / "link").symlink_to(log)
    assert main([f"--config-test={tmp_path / 'link'}", "-f", str(conf)]) == 1


@pytest.fixture
def _process() -> Iterator[None]:
    """A start changes signals, the umask and the log of its process."""
    handlers = {number: signal.getsignal(number) for number in (*SIGNALS.values(), signal.SIGINT)}
    mask, root = os.umask(0o022), logging.getLogger()
    os.umask(mask)
    sinks, level, raising = list(root.handlers), root.level, logging.raiseExceptions
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    os.umask(mask)
    root.handlers, logging.raiseExceptions = sinks, raising
    root.setLevel(level)


@pytest.mark.usefixtures("_process")
def test_an_unusable_configuration_ends_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-n", "-G", "-f", str(tmp_path / "none.conf")]) == 6
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.usefixtures("_process")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_the_configuration_is_read_is_a_stop(
    number: int, conf: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("keepalived_py.daemon.read_at_start", lambda options: os.kill(os.getpid(), number))
    with pytest.raises(SystemExit) as ended:
        main(["-n", "-l", "-G", "-f", str(conf)])
    assert ended.value.code == 0
    assert capfd.readouterr().err.endswith(": Stopping\n")


SIGNALLED = """
import builtins, os, sys
def signalled(name, *rest, _import=builtins.__import__):
    if name == "cli":
        for number in (1, 10, 12):
            os.kill(os.getpid(), number)
    return _import(name, *rest)
builtins.__import__ = signalled
from keepalived_py.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(("options", "status"), [("-nG", 6), ("-t", -signal.SIGHUP)])
def test_signals_that_come_before_anything_is_imported_do_not_end_a_daemon(options: str, status: int) -> None:
    words = [sys.executable, "-c", SIGNALLED, options, "-f", "/none"]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, check=False)
    assert done.returncode == status, done.stderr


@pytest.mark.usefixtures("_process")
def test_an_interrupt_in_the_start_is_ignored_too(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = daemon.read_at_start

    def interrupted(options: Options) -> LoadResult:
        os.kill(os.getpid(), signal.SIGINT)
        return load(options)

    monkeypatch.setattr(daemon, "read_at_start", interrupted)
    assert main(["-n", "-G", "--ignore-sigint", "-f", str(conf.parent / "none")]) == 6


@pytest.mark.usefixtures("_process")
@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (RuntimeError("odd"), 70, "Keepalived: internal error\nTraceback "),
        (MemoryError(), 204, "Out of memory\n"),
    ],
)
def test_a_mistake_of_the_parent_is_logged_and_worth_another_start(
    error: Exception,
    status: int,
    said: str,
    conf: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Status 1, which Python ends with, is one that the unit does not start again after."""

    def fail(options: Options) -> LoadResult:
        raise error

    monkeypatch.setattr(daemon, "read_at_start", fail)
    assert main(["-n", "-l", "-G", "-f", str(conf)]) == status
    assert said in capfd.readouterr().err


NO_FORK = """
import errno, os, sys
def refuse():
    raise BlockingIOError(errno.EAGAIN, "no more processes")
os.fork = refuse
from keepalived_py.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("pid_file", "options", "status", "told"),
    [
        ("k.pid", (), 1, "keepalived-py: no process in the background: no more processes\n"),
        ("file/k.pid", (), 0, "/file/k.pid: Not a directory\n"),
        ("locked", (), 0, "keepalived-py: daemon is already running\n"),
        ("file/k.pid", ("-n", "-l"), 0, "Not a directory\n"),
        ("link", ("-n", "-l"), 0, "Too many levels of symbolic links\n"),
        ("k.pid", ("-n", "-l", "-r", "{tmp}/locked"), 0, "daemon is already running\n"),
    ],
)
def test_a_start_that_cannot_be(
    tmp_path: Path, pid_file: str, options: tuple[str, ...], status: int, told: str
) -> None:
    """One that does not get its pid file ends with 0, as keepalived's does."""
    (tmp_path / "conf").write_text(INSTANCE)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    locked = PidFile(str(tmp_path / "locked"))
    locked.acquire()
    words = ["-G", "-f", str(tmp_path / "conf"), "-p", str(tmp_path / pid_file)]
    words += [word.format(tmp=tmp_path) for word in options]
    done = subprocess.run(
        [sys.executable, "-c", NO_FORK, *words], cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=20
    )
    assert (done.returncode, done.stderr.endswith(told)) == (status, True), done.stderr
    locked.remove()
    assert {each.name for each in tmp_path.iterdir()} == {"conf", "file", "link"}


def test_a_start_from_an_installation_that_is_not_whole_says_so(conf: Path) -> None:
    conf.write_text("global_defs {\n smtp_server 127.0.0.1\n notification_email {\n a@example.com\n }\n}\n" + INSTANCE)
    code = (
        "import sys; sys.modules['aiosmtplib'] = None\nfrom keepalived_py.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["-n", "-G", "-f", str(conf), "-p", str(conf.with_name("k.pid"))]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.startswith("keepalived-py: aiosmtplib cannot be loaded: ")
    assert not conf.with_name("k.pid").exists()


CLOSED = "0<&- 1>&- 2>&-"
FULL = "1>/dev/full 2>/dev/full"


@pytest.mark.parametrize("streams", [CLOSED, FULL])
@pytest.mark.parametrize(("words", "status"), [("-t -u 9x -f {file} stray", 5), ("-v", 0)])
def test_what_nobody_reads_is_not_how_it_ends(tmp_path: Path, words: str, status: int, streams: str) -> None:
    (tmp_path / "conf").write_text("nonsense\n")
    command = f"{sys.executable} -m keepalived_py {words.format(file=tmp_path / 'conf')} {streams}"
    done = subprocess.run(["sh", "-c", command], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


def test_words_that_are_no_text(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, "utf-8"))
    assert main(["-t", "-f", str(conf), os.fsdecode(b"a\xff")]) == 0
    assert output.getvalue() == b"Unexpected argument(s): a\xff\n"


def test_a_number_that_cannot_be_printed_is_a_failure() -> None:
    command = f"{sys.executable} -m keepalived_py --signum=JSON >/dev/full"
    done = subprocess.run(["sh", "-c", command], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_configuration_that_cannot_be_printed_is_a_failure(conf: Path) -> None:
    command = f"{sys.executable} -m keepalived_py -t -d -f {conf} >/dev/full"
    done = subprocess.run(["sh", "-c", command], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "keepalived-py: the configuration cannot be written to standard output\n",
    )


def test_a_daemon_that_is_started_without_descriptors(tmp_path: Path) -> None:
    """What it opens would be its standard output, and closed in the background: the lock of the pid file too."""
    (tmp_path / "conf").touch()
    pid_file = tmp_path / "k.pid"
    words = f"-m keepalived_py -G -P -f {tmp_path / 'conf'} -p {pid_file} -r {tmp_path / 'v.pid'} {CLOSED}"
    assert subprocess.run(["sh", "-c", f"{sys.executable} {words}"], cwd=REPOSITORY, check=False).returncode == 0
    pid = int(pid_file.read_text())
    try:
        assert [os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)] == ["/dev/null"] * 3
        with pytest.raises(AlreadyRunning):
            PidFile(str(pid_file)).acquire()
    finally:
        os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + 10
    while pid_file.exists():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("limit", [6, 9, 11])
def test_a_start_with_fewer_descriptors_than_the_parent_needs_says_so(conf: Path, limit: int) -> None:
    words = f"-m keepalived_py -n -G -C -f {conf} -p {conf.with_name('k.pid')}"
    done = subprocess.run(
        ["sh", "-c", f"ulimit -n {limit}; exec {sys.executable} {words}"],
        cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (70, "keepalived-py: Too many open files: 9 more are needed\n")


STOPPED_AT_ONCE = """
import os, signal, sys
from keepalived_py.parent.supervisor import Supervisor
def run(self, _run=Supervisor.run):
    os.kill(os.getpid(), signal.SIGTERM)
    remove = self._loop.remove_signal_handler
    self._loop.remove_signal_handler = lambda number: (os.kill(os.getpid(), signal.SIGCHLD), remove(number))
    code = _run(self)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        os.kill(os.getpid(), number)
    print(self._loop.is_closed())
    return code
Supervisor.run = run
from keepalived_py.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_at_its_end_the_parent_leaves_no_loop_and_late_signals_are_not_how_it_ends(conf: Path) -> None:
    words = [sys.executable, "-c", STOPPED_AT_ONCE, "-nGC", "-f", str(conf), "-p", str(conf.with_name("k.pid"))]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_a_start_with_few_descriptors_takes_as_many_as_it_may(conf: Path) -> None:
    words = f"-m keepalived_py -n -l -G -C -f {conf} -p {conf.with_name('k.pid')}"
    started = f"{sys.executable} {words} & until grep -q Warning {conf.with_name('log')}; do sleep 0.1; done"
    command = f"exec 2>{conf.with_name('log')}; ulimit -Sn 6; {started}; kill $!; wait $!"
    done = subprocess.run(
        ["sh", "-c", command], cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.returncode, conf.with_name("log").read_text().count(": Stopped\n")) == (0, 1)


def test_a_log_file_that_cannot_be_opened_is_told_where_the_daemon_is_started(conf: Path) -> None:
    words = ["-G", f"-g{conf}/no.log", "-f", f"{conf}/none"]
    done = subprocess.run(
        [sys.executable, "-m", "keepalived_py", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.stderr.startswith(f"keepalived-py: log file {conf}/no.log: Not a directory\n")
    assert done.returncode == 6


def test_a_file_behind_t_is_not_taken_for_checked(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The default file would be, and all be well."""
    conf.write_text("nonsense\n")
    assert main(["-t", str(conf)]) == 1
    said = capsys.readouterr()
    assert said.out == f"Unexpected argument(s): {conf}\n"
    assert said.err == "keepalived-py: nothing was checked: the file is named by -f\n"


def test_what_keeps_the_daemon_from_running_is_called_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-t", "-f", str(tmp_path / "none")]) == 6
    assert capsys.readouterr().err.startswith("error: ")
    assert ctl(["lint", "--json", str(tmp_path / "none")]) == 6
    assert [found["severity"] for found in json.loads(capsys.readouterr().out)] == ["fatal"]


def test_a_pager_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "conf"
    path.write_text("bogus\n" * 900)
    script = "import sys; from keepalived_py.ctl.main import main; sys.exit(main())"
    command = ["sh", "-c", '"$@" | head -1', "sh", sys.executable, "-c", script, "lint", str(path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


def test_an_empty_name_is_no_network_namespace(conf: Path) -> None:
    """As a variable that is not set has it: the daemon would run in that of whoever starts it."""
    words = ["-n", "-G", "-f", str(conf), "-p", f"{conf}/k.pid", "-s", ""]
    done = subprocess.run(
        [sys.executable, "-m", "keepalived_py", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.stderr == "keepalived-py: the network namespace of -s has no name - exiting\n"


def test_a_start_without_proc_says_so(
    conf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(daemon, "PROC", str(conf / "self"))
    assert main(["-n", "-G", "-f", str(conf)]) == 1
    assert f"there is no {conf}/self" in capsys.readouterr().err


PROVIDED = """
import os, sys
from keepalived_py.stdio import provide
provide()
held = [os.readlink(f"/proc/self/fd/{number}") for number in (0, 1, 2)]
print("nobody hears this", file=sys.stderr, flush=True)
with open(sys.argv[1], "w") as file:
    print(file.fileno() > 2, *held, file=file)
"""


@pytest.mark.parametrize(("closed", "which"), [("<&- >&- 2>&-", (0, 1, 2)), ("2>&-", (2,)), ("<&-", (0,)), ("", ())])
def test_closed_standard_descriptors_are_not_those_of_files(
    tmp_path: Path, closed: str, which: tuple[int, ...]
) -> None:
    """What a library writes to standard error would get into a log or pid file of that number."""
    said = tmp_path / "said"
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", PROVIDED, str(said)]
    with open(tmp_path / "open", "w+") as file:
        subprocess.run(command, cwd=REPOSITORY, stdin=file, stdout=file, stderr=file, check=True)
    expected = ["/dev/null" if number in which else file.name for number in (0, 1, 2)]
    assert said.read_text().split() == ["True", *expected]


def test_a_relative_file_is_one_of_the_current_directory(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(conf.parent)
    assert main(["-t", "-f", conf.name]) == 0
    assert main(["-t", "-f", "none.conf"]) == 6
    (conf.parent / "keepalived2.conf").write_text("nonsense\n")
    assert main(["-t", "-f", "keepalived*.conf"]) == 5


def test_a_current_directory_that_is_gone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def gone() -> str:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(os, "getcwd", gone)
    assert main(["-t", "-f", "k.conf"]) == 6
    assert "'k.conf' cannot be read" in capsys.readouterr().err
    assert _pid_files(parse(["-p", "k.pid"]), "", False)[Peer.PARENT].path == "k.pid"


def test_lines_for_others_and_includes_that_count(conf: Path) -> None:
    conf.write_text(conf.read_text() + "@one nonsense\ninclude nothere/*.conf\n")
    assert main(["-t", "-f", str(conf), "-i", "one"]) == 5
    assert main(["-t", "-f", str(conf), "--config-id=two"]) == 0
    assert main(["-t", "-f", str(conf), "-i", "two", "-e"]) == 6


@pytest.mark.parametrize(
    ("words", "console", "file"),
    [
        ("-l", False, ""),
        ("-l -n", True, ""),
        ("-n", False, ""),
        ("-g", False, "{tmp}/keepalived.log"),
        ("-gown.log", False, "{tmp}/own.log"),
        ("--log-file=/var/log/k", False, "/var/log/k"),
    ],
)
def test_where_the_log_goes(
    words: str, console: bool, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    options = parse(words.split())
    found = _log_settings(options, 3, options.has("dont-fork"), None)
    assert (found.console, found.file, found.syslog) == (console, file.format(tmp=tmp_path), True)
    assert not _log_settings(parse(["-G"]), 3, True, None).syslog


def test_core_files_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("keepalived_py.process_options.allow", lambda: asked.append("size"))
    monkeypatch.setattr("keepalived_py.process_options.CorePattern.set", lambda self, text: asked.append(text))
    for words in ((), ("-m",), ("-M",), ("--core-dump-pattern=core.%p",)):
        core_files(parse(words))
    assert asked == ["size", "size", "core", "size", "core.%p"]


def test_lint(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf.write_text("nonsense\n")
    assert ctl(["lint", str(conf)]) == 5
    assert ":1:1: error" in capsys.readouterr().out
    assert ctl(["lint", "--json", str(conf)]) == 5
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["id"], found["line"], found["column"]) == ("unknown-keyword", 1, 1)


def test_plan(conf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = tmp_path / "new.conf"
    text = conf.read_text()
    new.write_text(text.replace("10.0.0.100", "10.0.0.101") + text.replace("VI_1", "VI_2").replace("51", "52"))
    assert ctl(["plan", str(conf), str(new)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "+ vrrp_instance VI_2",
        "~ vrrp_instance VI_1: addresses -10.0.0.100/32 +10.0.0.101/32",
    ]
    assert ctl(["plan", str(conf), str(conf)]) == 0
    assert capsys.readouterr().out.splitlines() == ["= 1 vrrp_instance untouched"]
    assert ctl(["plan", str(conf), str(tmp_path / "none")]) == 6


TOO_HIGH = """
virtual_server 10.0.0.1 80 {
    protocol TCP
    lb_algo rr
    lb_kind NAT
    quorum 5
    real_server 10.1.0.1 80 { weight 2 }
    real_server 10.1.0.2 80 {
        weight 2
    }
}
"""


@pytest.mark.parametrize(
    ("old", "new", "accepted"),
    [
        ("real_server 10.1.0.1 80 { weight 2 }", "", True),  # the sum in the message is another one
        ("quorum 5", "! moved\n  quorum   5", True),
        ("quorum 5", "quorum 4\n bogus", False),
        ("weight 2\n", "weight no\n", False),
        ("}\n}\n", "}\n}\n" + TOO_HIGH.replace("10.0.0.1", "10.0.0.2"), False),
    ],
)
def test_a_reload_tells_known_errors_from_new_ones(tmp_path: Path, old: str, new: str, accepted: bool) -> None:
    path = tmp_path / "keepalived.conf"
    options = parse(["-f", str(path)])
    path.write_text(TOO_HIGH)
    first = read(options)
    assert first.config is not None
    before = Applied(1, first.config, errors(first), first.digests)
    assert before.errors
    assert old in TOO_HIGH
    path.write_text(TOO_HIGH.replace(old, new))
    coordinator = ReloadCoordinator(before)
    coordinator.request()
    assert (coordinator.loaded(read_for_reload(options, before)) is not None) is accepted


def test_a_reload_tells_of_files_that_are_not_read_and_of_what_there_are_too_many_of(tmp_path: Path) -> None:
    path, included = tmp_path / "keepalived.conf", tmp_path / "one.conf"
    options = parse(["-f", str(path)])
    path.write_text("include one.conf\n")
    included.write_text(INSTANCE)
    first = read(options)
    assert first.config is not None
    before = Applied(1, first.config, errors(first), first.digests)
    assert read_for_reload(options, before).problems == ()
    included.chmod(0o755)  # which takes every instance away, so that somebody should know why
    (told,) = read_for_reload(options, before).problems
    assert told.startswith(f"({path}: Line 1)")
    assert "is executable" in told
    path.write_text("bogus\n" * (MAX_PROBLEMS + 5))
    assert read_for_reload(options, before).problems[-1] == "... and 5 more"


def test_an_error_behind_ever_so_many_warnings_refuses_a_reload_and_fails_the_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "keepalived.conf"
    options = parse(["-f", str(path)])
    path.write_text(INSTANCE)
    first = read(options)
    assert first.config is not None
    before = Applied(1, first.config, errors(first), first.digests)
    warnings = "".join(f"  nothere{number}\n" for number in range(MAX_PROBLEMS + 5))
    path.write_text(f" track_interface {{\n{warnings} }}\n}}".join(INSTANCE.rsplit("}", 1)))
    assert read_for_reload(options, before).errors == ()
    assert main(["-f", str(path), "-t"]) == 0
    path.write_text(path.read_text() + "track_file f {\n file /nowhere\n bogus\n}\n")
    found = read_for_reload(options, before)
    assert found.errors == ("unknown-keyword: bogus",)
    assert [line for line in found.problems if "Unknown keyword 'bogus'" in line]
    assert main(["-f", str(path), "-t"]) == 5
    assert "Unknown keyword 'bogus'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("route", "status"),
    [
        ("198.51.100.0/24 via 192.0.2.1", 5),  # without an interface: put there and kept all the same
        ("2001:db8::/64 dev eth0 src 2001:db8::5 scope link table 1", 0),  # of Octavia: IPv6 has no scopes
    ],
)
def test_a_reload_may_add_what_is_only_told_of(tmp_path: Path, route: str, status: int) -> None:
    path, text = tmp_path / "keepalived.conf", INSTANCE
    options = parse(["-f", str(path)])
    path.write_text(text)
    first = read(options)
    assert first.config is not None
    coordinator = ReloadCoordinator(Applied(1, first.config, errors(first), first.digests))
    path.write_text(f" virtual_routes {{\n  {route}\n }}\n}}".join(text.rsplit("}", 1)))
    result = read(options)
    assert result.config is not None
    assert len(result.config.vrrp.instances[0].routes) == 1
    assert result.problems.exit_status() == status
    coordinator.request()
    assert coordinator.loaded(read_for_reload(options, coordinator.current)) is not None


def test_the_readme_names_every_option_that_exists_and_no_other() -> None:
    known = {f"-{option.short}" for option in OPTIONS if option.short} | {f"--{option.long}" for option in OPTIONS}
    section = (REPOSITORY / "README.md").read_text().split("## Options")[1].split("## Signals")[0]
    named = set(re.findall(r"`(-[a-zA-Z]|--[a-z_-]+)", section))
    assert named == known

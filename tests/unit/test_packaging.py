"""What an administrator installs: scripts, unit, rotation, completion, manual pages, beside the program's tables."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from keepalived_py.cli import SIGNALS
from keepalived_py.ctl.main import main as ctl
from keepalived_py.genhash import parser
from keepalived_py.manual import completion, page
from keepalived_py.options import OPTIONS, Arg
from keepalived_py.process_options import FACILITIES
from tests.conftest import REPOSITORY

CONF = REPOSITORY / "conf.d"
INIT, UNIT = CONF / "init.d/keepalived-py", CONF / "systemd/keepalived-py.service"
SH = [INIT, CONF / "make-venv", *(CONF / "debian" / name for name in ("build", "postinst", "prerm", "postrm"))]
BASH = [CONF / "bash-completion/keepalived-py", CONF / "bash-completion/keepalivedctl"]
PAGES = [REPOSITORY / "docs" / name for name in ("keepalived-py.8.md", "keepalived-py.conf.5.md", "keepalivedctl.1.md")]


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}")
    return found


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=30, check=False)


# scripts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SH, ids=lambda path: path.name)
def test_shell_scripts_are_portable(path: Path) -> None:
    assert path.read_text().startswith("#!/bin/sh\n")
    assert run("sh", "-n", path).stderr == ""
    assert run(tool("shellcheck"), "-s", "sh", path).stdout == ""


def test_shellcheck_sees_faults(tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("#!/bin/sh\n[ $1 == x ] && cat $2\n")
    assert run(tool("shellcheck"), tmp_path / "bad").returncode


def test_an_installation_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    """No network for the libraries, a full disk, a Python without venv: the daemon that runs has its files still."""
    (tmp_path / "usr/lib/k").mkdir(parents=True)
    (tmp_path / "usr/lib/k/before").touch()
    assert run(CONF / "make-venv", "/bin/false", tmp_path, "/usr/lib/k").returncode
    assert [path.name for path in tmp_path.rglob("*") if not path.is_dir()] == ["before"]
    assert [path.name for path in (tmp_path / "usr/lib").iterdir()] == ["k"]


def test_the_manual_names_what_scripts_find_in_their_environment() -> None:
    set_by_us = {
        name
        for path in (REPOSITORY / "workers").rglob("*.py")
        for name in re.findall(r'"(KEEPALIVED_[A-Z_]+)"', path.read_text())
    }
    assert len(set_by_us) >= 8
    named = set(re.findall(r"KEEPALIVED_[A-Z_]+", (REPOSITORY / "docs/keepalived-py.conf.5.md").read_text()))
    assert named == set_by_us


def test_the_lsb_header() -> None:
    text = INIT.read_text()
    header = text[text.index("### BEGIN INIT INFO\n") : text.index("### END INIT INFO\n")]
    fields = dict(re.findall(r"^# ([A-Z][A-Za-z-]+): +(.+)$", header, re.MULTILINE))
    assert fields["Provides"] == "keepalived-py"
    assert {"$network", "$syslog", "$remote_fs"} == set(fields["Required-Start"].split())
    assert fields["Default-Start"] == "2 3 4 5"
    assert fields["Default-Stop"] == "0 1 6"
    assert {"Short-Description", "Description", "Required-Stop"} <= fields.keys()


def test_options_that_scripts_use_exist() -> None:
    known = {f"--{option.long}" for option in OPTIONS} | {f"-{option.short}" for option in OPTIONS if option.short}
    (start,) = re.findall(r"^ExecStart=\S+ (.*)$", UNIT.read_text(), re.MULTILINE)
    used = [word.partition("=")[0] for word in start.split() if word.startswith("-")]
    used += re.findall(r" (-\w) ", " ".join(re.findall(r'(?:"\$DAEMON"|\bdaemon) (.*)', INIT.read_text())))
    assert len(used) >= 4
    assert set(used) <= known


# unit -------------------------------------------------------------------------------------------------------------


def verify(text: str, directory: Path) -> list[str]:
    """Complaints of systemd-analyze, but for manual pages that are not installed."""
    path = directory / "keepalived-py.service"
    path.write_text(text.replace("@SBIN@/keepalived-py", "/bin/true"))
    done = run(tool("systemd-analyze"), "verify", path)
    return [line for line in done.stderr.splitlines() if "Command 'man " not in line and line.strip()]


def test_the_unit_is_valid(tmp_path: Path) -> None:
    assert verify(UNIT.read_text(), tmp_path) == []


def test_a_wrong_unit_is_noticed(tmp_path: Path) -> None:
    assert verify(UNIT.read_text().replace("Type=notify", "Type=telepathy"), tmp_path)
    assert verify(UNIT.read_text().replace("ProtectClock=yes", "ProtectClock=maybe"), tmp_path)


def test_the_unit_lets_the_daemon_do_its_work() -> None:
    text = UNIT.read_text()
    assert "\nType=notify\nNotifyAccess=main\n" in text
    allowed = " ".join(re.findall(r"^CapabilityBoundingSet=(.*)$", text, re.MULTILINE)).split()
    network = {"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_NET_BIND_SERVICE"}
    scripts = {"CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_AUDIT_WRITE"}
    assert network | scripts | {"CAP_SYS_NICE", "CAP_IPC_LOCK", "CAP_SYS_RESOURCE"} <= set(allowed)
    (families,) = re.findall(r"^RestrictAddressFamilies=(.*)$", text, re.MULTILINE)
    assert set(families.split()) == {"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET"}
    assert "ProtectKernelTunables" not in text  # /proc/sys/net is written for VMACs


# log rotation -----------------------------------------------------------------------------------------------------


def test_log_rotation(tmp_path: Path) -> None:
    text = (CONF / "logrotate.d/keepalived-py").read_text()
    logs = tmp_path / "logs"
    logs.mkdir(mode=0o750)
    for name in ("keepalived.log", "keepalived_vrrp.log", "keepalived_check.log"):
        (logs / name).write_text("a line\n")
    (tmp_path / "rotate").write_text(text.replace("/var/log/keepalived-py", str(logs)))
    (tmp_path / "rotate").chmod(0o644)
    done = run(tool("logrotate"), "-f", "-s", tmp_path / "state", tmp_path / "rotate")
    assert done.stderr == ""
    assert sorted(path.name for path in logs.iterdir()) == [
        "keepalived.log.1",
        "keepalived_check.log.1",
        "keepalived_vrrp.log.1",
    ]


# completion -------------------------------------------------------------------------------------------------------


def complete(program: str, *words: str) -> list[str]:
    """What the completion offers for the last word; bash splits words at `=`."""
    quoted = " ".join(f"'{word}'" for word in (program, *words))
    text = f"""
        source {CONF}/bash-completion/{program}
        [[ $(complete -p {program}) == *_{program.replace("-", "_")}* ]] || exit 9
        COMP_WORDS=({quoted}); COMP_CWORD={len(words)}
        _{program.replace("-", "_")}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = run(tool("bash"), "--norc", "-c", text)
    assert (done.returncode, done.stderr) == (0, "")
    return [line for line in done.stdout.split("\n") if line]


@pytest.mark.parametrize("path", BASH, ids=lambda path: path.name)
def test_completions_are_clean(path: Path) -> None:
    assert run(tool("shellcheck"), "-s", "bash", path).stdout == ""


def test_every_option_is_completed() -> None:
    expected = {f"--{option.long} " for option in OPTIONS if option.arg is not Arg.REQUIRED}
    expected |= {f"--{option.long}=" for option in OPTIONS if option.arg is not Arg.NONE}
    assert set(complete("keepalived-py", "--")) == expected
    assert complete("keepalived-py", "-n", "--use") == ["--use-file="]
    assert complete("keepalived-py", "--nothing-like-it") == []


def test_every_value_is_completed(tmp_path: Path) -> None:
    for words in (["--signum", ""], ["--signum", "="], ["--signum", "=", ""]):
        assert set(complete("keepalived-py", *words)) == set(SIGNALS)
    assert complete("keepalived-py", "--signum", "=", "STATS_") == ["STATS_CLEAR"]
    assert set(complete("keepalived-py", "-S", "")) <= FACILITIES.keys()
    assert len(complete("keepalived-py", "-DS", "local")) == 8
    (tmp_path / "a file.conf").touch()
    expected = [f"{tmp_path}/a file.conf"]
    for option in OPTIONS:
        if option.value != "FILE":
            continue
        assert complete("keepalived-py", f"--{option.long}", "=", f"{tmp_path}/a") == expected, option.long
        if option.arg is Arg.REQUIRED:
            assert complete("keepalived-py", f"--{option.long}", f"{tmp_path}/a") == expected
            assert not option.short or complete("keepalived-py", f"-n{option.short}", f"{tmp_path}/a") == expected
    assert complete("keepalived-py", "-i", "") == []
    assert complete("keepalived-py", "--config-id", "=", "") == []


def ctl_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> set[str]:
    """Every option that --help names."""
    with pytest.raises(SystemExit):
        ctl([*words, "--help"])
    return set(re.findall(r"--[a-z-]+", capsys.readouterr().out))


VERBS = ("lint", "plan", "dump")


def test_keepalivedctl_is_completed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ctl(["--help"])
    verbs = set(re.findall(r"^    ([a-z]+) ", capsys.readouterr().out, re.MULTILINE))
    assert verbs == set(VERBS)
    assert set(complete("keepalivedctl", "")) == verbs | {"--help"}
    for verb in VERBS:
        assert set(complete("keepalivedctl", verb, "-")) == ctl_help([verb], capsys)
    (tmp_path / "one").touch()
    assert complete("keepalivedctl", "lint", "--pair", f"{tmp_path}/o") == [f"{tmp_path}/one"]


# manual pages -----------------------------------------------------------------------------------------------------


def test_what_make_docs_writes_is_up_to_date() -> None:
    prose = (REPOSITORY / "docs/keepalived-py.8.prose.md").read_text()
    assert PAGES[0].read_text() == page(prose, parser())
    written = BASH[0].read_text()
    assert written == completion(written)


def test_the_page_names_every_option_signal_and_file() -> None:
    text = PAGES[0].read_text()
    options = text[text.index("# OPTIONS") : text.index("# GENHASH")]
    for option in OPTIONS:
        assert f"**--{option.long}**" in options
        assert not option.short or f"**-{option.short}**" in options
        assert option.text
    for action in parser()._actions:
        assert all(f"**{name}**" in text for name in action.option_strings)
    for name, number in SIGNALS.items():
        assert name in text or number.name in text
    for code in (0, 1, 2, 4, 6, 70, 204):
        assert f"**{code}**\n" in text


def test_the_page_of_keepalivedctl_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    text = PAGES[2].read_text()
    for verb in VERBS:
        assert f"**keepalivedctl {verb}**" in text
        assert f"\n**{verb}**\n" in text
        for option in ctl_help([verb], capsys):
            assert f"**{option}**" in text


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_are_troff_without_faults(path: Path, tmp_path: Path) -> None:
    target = tmp_path / path.stem
    assert run(tool("go-md2man"), "-in", path, "-out", target).stderr == ""
    name, section = path.name.removesuffix(".md").rsplit(".", 1)
    first = next(line for line in target.read_text().splitlines() if line.startswith(".TH"))
    assert first.replace('"', "").replace("\\-", "-").split()[1:3] == [name.upper(), section]
    if shutil.which("man"):
        done = run("man", "--warnings=w", "-l", target)
        assert done.stderr == ""
        assert "SYNOPSIS" in done.stdout or "DESCRIPTION" in done.stdout


# the package ------------------------------------------------------------------------------------------------------


def test_the_default_file_changes_nothing() -> None:
    text = (CONF / "default/keepalived-py").read_text()
    set_ones = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert set_ones == ['DAEMON_ARGS=""']
    for name, value in re.findall(r"^#(\w+)=(.*)$", text, re.MULTILINE):
        assert f"\n{name}={value}\n" in INIT.read_text()


def test_every_mark_of_the_package_is_filled() -> None:
    text = (CONF / "debian/build").read_text()
    for name in ("control", "postinst", "prerm", "postrm"):
        for mark in re.findall(r"@[A-Z0-9_]+@", (CONF / "debian" / name).read_text()):
            assert mark in text

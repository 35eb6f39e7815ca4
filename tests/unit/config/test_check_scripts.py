"""What becomes of scripts that cannot or must not run, and what the machine is asked."""

from __future__ import annotations

import os
from ipaddress import ip_network
from pathlib import Path

import pytest

from keepalived_py.config.load import LoadOptions, LoadResult, load
from keepalived_py.config.model import Config, MiscCheck
from keepalived_py.config.problems import Severity
from keepalived_py.config.system import this_machine

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="changing owners needs root")


def read(tmp_path: Path, text: str, own_uid: int = 0) -> LoadResult:
    path = tmp_path / "keepalived.conf"
    path.write_text(text)
    return load(str(path), LoadOptions(config_id="me", own_uid=own_uid))


def config(result: LoadResult) -> Config:
    assert result.config is not None, [problem.render() for problem in result.problems]
    return result.config


def script(tmp_path: Path, mode: int = 0o755) -> Path:
    """A script below a directory that everybody may write: insecure for root."""
    path = tmp_path / "check"
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


def tracked(command: str, secure: bool, user: str = "") -> str:
    identity = f"user {user}" if user else ""
    security = "enable_script_security\nscript_user root" if secure else ""
    return (
        f"global_defs {{\n{security}\n}}\n"
        f'vrrp_script check {{\nscript "{command}" {user}\n}}\n'
        "vrrp_instance VI {\ninterface eth0\nvirtual_router_id 1\ntrack_script {\ncheck\n}\n"
        f'notify_master "{command}" {user}\nvirtual_ipaddress {{\n192.0.2.1\n}}\n}}\n'
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\n"
        f'quorum_up "{command}" {user}\n'
        f'real_server 192.0.2.2 80 {{\nMISC_CHECK {{\nmisc_path "{command}"\n{identity}\n}}\n}}\n}}\n'
    )


def found(result: LoadResult, id: str) -> list[Severity]:
    return [problem.severity for problem in result.problems if problem.id == id]


def uses(result: LoadResult) -> tuple[bool, bool, bool, bool]:
    """Whether the script is tracked, told about, run for the quorum, and checks a real server."""
    made = config(result)
    instance, server = made.vrrp.instances[0], made.checker.virtual_servers[0]
    return (
        bool(instance.tracks and made.vrrp.scripts),
        instance.notify.master is not None,
        server.quorum_up is not None,
        bool(server.real_servers[0].checks),
    )


def test_a_secure_script_is_used(tmp_path: Path) -> None:
    result = read(tmp_path, tracked("/bin/true", secure=True))
    assert uses(result) == (True, True, True, True)
    assert result.problems.exit_status() == 0


def test_scripts_run_as_root_without_security_are_one_finding(tmp_path: Path) -> None:
    result = read(tmp_path, tracked("/bin/true", secure=False))
    assert uses(result) == (True, True, True, True)
    assert found(result, "script-security") == [Severity.SECURITY]
    assert result.problems.exit_status() == 6
    (problem,) = (problem for problem in result.problems if problem.id == "script-security")
    assert problem.at is not None
    assert problem.at.line == 5


def test_a_user_who_is_not_root_needs_no_security(tmp_path: Path) -> None:
    assert read(tmp_path, tracked("/bin/true", secure=False, user="nobody")).problems.exit_status() == 0
    assert read(tmp_path, tracked("/bin/true", secure=False), own_uid=65534).problems.exit_status() == 0


def test_what_others_can_change_is_not_run_under_security(tmp_path: Path) -> None:
    path = script(tmp_path, 0o777)
    result = read(tmp_path, tracked(str(path), secure=True))
    assert uses(result) == (False, False, False, False)
    assert found(result, "script-insecure") == [Severity.SECURITY]
    assert result.problems.exit_status() == 6
    (problem,) = (problem for problem in result.problems if problem.id == "script-insecure")
    assert "check" in problem.message
    assert "0777" in problem.message
    assert problem.message.endswith(" - disabling")  # alert rules look for that


def test_what_others_can_change_is_run_and_named_without_security(tmp_path: Path) -> None:
    result = read(tmp_path, tracked(str(script(tmp_path, 0o777)), secure=False))
    assert uses(result) == (True, True, True, True)
    assert found(result, "script-insecure") == [Severity.LINT]
    assert not any(" - disabling" in problem.message for problem in result.problems)
    assert found(result, "script-security") == [Severity.SECURITY]


def test_a_missing_check_decides_nothing_and_a_missing_notify_script_may_still_come(tmp_path: Path) -> None:
    result = read(tmp_path, tracked("/nowhere/at-all", secure=True))
    assert uses(result) == (False, True, True, False)
    assert found(result, "script-not-found") == [Severity.LINT]
    assert result.problems.exit_status() == 0
    assert result.problems.exit_status(strict=True) == 5


def test_a_script_that_cannot_be_executed_is_like_a_missing_one(tmp_path: Path) -> None:
    result = read(tmp_path, tracked(str(script(tmp_path, 0o600)), secure=True))
    assert uses(result)[0] is False
    assert found(result, "script-not-found") == [Severity.LINT]


def test_a_readable_file_as_a_question_is_no_script(tmp_path: Path) -> None:
    text = tracked("/bin/true", secure=False, user="nobody")
    text = text.replace('script "/bin/true" nobody', 'script "</etc/hostname"')
    result = read(tmp_path, text)
    assert config(result).vrrp.scripts[0].script.readable_only
    assert found(result, "script-security") == []


def test_scripts_of_the_daemon_itself(tmp_path: Path) -> None:
    path = script(tmp_path, 0o777)
    text = (
        f"global_defs {{\nenable_script_security\nscript_user root\nstartup_script {path}\nshutdown_script /bin/true\n"
        f"notify_fifo /run/fifo\nnotify_fifo_script {path}\n}}\n"
    )
    made = config(read(tmp_path, text)).global_defs
    assert made.startup_script is None
    assert made.shutdown_script is not None
    assert made.notify_fifo is not None
    assert made.notify_fifo.script is None


def test_script_user_counts_for_what_follows_it(tmp_path: Path) -> None:
    one, other = (f"vrrp_script {name} {{\nscript /bin/true\n}}\n" for name in ("before", "after"))
    use = "vrrp_instance VI {\ninterface eth0\nvirtual_router_id 1\ntrack_script {\nbefore\nafter\n}\n"
    use += "virtual_ipaddress {\n192.0.2.1\n}\n}\n"
    made = config(read(tmp_path, f"{one}global_defs {{\nscript_user nobody\n}}\n{other}{use}"))
    assert [each.script.user for each in made.vrrp.scripts] == ["", "nobody"]


def test_the_machine_is_read_without_privileges(tmp_path: Path) -> None:
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/route").write_text(
        "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
        "eth0 00000000 010200C0 0003 0 0 0 00000000 0 0 0\n"
        "eth0 000200C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n"
        "odd\udce9 000300C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n",
        errors="surrogateescape",
    )
    (tmp_path / "proc/net/ipv6_route").write_text(
        "20010db8000000000000000000000000 40 00000000000000000000000000000000 00 "
        "00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth0\n"
    )
    found = this_machine(tmp_path)
    assert found.networks == {
        "eth0": (ip_network("192.0.2.0/24"), ip_network("2001:db8::/64")),
        "odd\udce9": (ip_network("192.0.3.0/24"),),
    }
    assert found.mtus == {}
    here = this_machine()
    assert here.interfaces is not None
    assert "lo" in here.interfaces
    assert here.mtus["lo"] >= 1500
    assert this_machine(tmp_path / "nothing").networks == {}


def test_the_file_that_was_looked_at_is_the_one_to_run(tmp_path: Path) -> None:
    """By links and PATH; the command keeps its name. With use_symlink_paths links are kept."""
    (tmp_path / "real").mkdir()
    path = script(tmp_path / "real")
    given = str(tmp_path / "link")
    os.symlink(path, given)
    for option, expected in (("", str(path)), ("use_symlink_paths", "")):
        made = config(read(tmp_path, f"global_defs {{\nstartup_script {given}\n{option}\n}}\n" + tracked(given, False)))
        instance, server = made.vrrp.instances[0], made.checker.virtual_servers[0]
        (check,) = server.real_servers[0].checks
        assert isinstance(check, MiscCheck)
        for found in (
            made.vrrp.scripts[0].script,
            instance.notify.master,
            server.quorum_up,
            check.script,
            made.global_defs.startup_script,
        ):
            assert found is not None
            assert (found.argv, found.path) == ((given,), expected)
            assert found.executed == (expected or given)

"""When checkers run by what a file says: defaults of each type, which level counts (checker-behaviour.md 3 and 4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from keepalived_py.config.model import BfdCheck, Check, CheckTiming, FileCheck, MiscCheck, SmtpCheck
from tests.unit.config.helpers_config import load_text

SESSION = "bfd_instance s {\n neighbor_ip 10.0.0.5\n}\n"
URL = "url {\n path /\n}"
BLOCKS = {
    "TCP_CHECK": "",
    "HTTP_GET": URL,
    "SSL_GET": URL,
    "SMTP_CHECK": "",
    "DNS_CHECK": "",
    "UDP_CHECK": "",
    "PING_CHECK": "",
    "MISC_CHECK": "misc_path /bin/true",
}


def checks(
    directory: Path, kind: str, inner: str = "", real: str = "", virtual: str = "", head: str = ""
) -> tuple[Check, ...]:
    text = f"{head}track_file f {{\n file {directory}/f\n weight 7\n}}\ntrack_file g {{\n file {directory}/g\n}}\n"
    text += "virtual_server 10.0.0.1 80 {\n lvs_sched rr\n lvs_method NAT\n protocol TCP\n"
    text += f"{virtual}\n real_server 10.1.0.1 80 {{\n{real}\n{kind} {{\n{BLOCKS.get(kind, '')}\n{inner}\n}}\n}}\n}}\n"
    found = load_text(directory, text)
    assert found.config is not None, [problem.render() for problem in found.problems]
    return found.config.checker.virtual_servers[0].real_servers[0].checks


def timing(directory: Path, kind: str, **levels: str) -> CheckTiming:
    (check,) = checks(directory, kind, **levels)
    return check.timing


@pytest.mark.parametrize(
    ("kind", "retry", "delay"),
    [
        ("TCP_CHECK", 1, 1),
        ("SMTP_CHECK", 1, 1),
        ("UDP_CHECK", 1, 1),
        ("PING_CHECK", 1, 1),
        ("HTTP_GET", 1, 3),
        ("SSL_GET", 1, 3),
        ("DNS_CHECK", 3, 45),
        ("MISC_CHECK", 0, 1),
    ],
)
def test_defaults_of_each_type(kind: str, retry: int, delay: float, tmp_path: Path) -> None:
    found = timing(tmp_path, kind, virtual="delay_loop 45")
    assert (found.retry, found.delay_before_retry) == (retry, delay)
    assert (found.delay_loop, found.warmup, found.connect_timeout) == (45, 45, 5)
    assert not found.alpha
    assert not found.log_all_failures
    assert timing(tmp_path, kind).delay_loop == 60


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("word", ["delay_loop", "warmup", "retry", "delay_before_retry", "connect_timeout"])
def test_the_innermost_level_counts(kind: str, word: str, tmp_path: Path) -> None:
    if kind == "MISC_CHECK" and word == "connect_timeout":
        return  # there is nothing to connect to

    def value(**levels: str) -> float:
        return float(getattr(timing(tmp_path, kind, **levels), word))

    virtual, real, inner = (f"{word} {number}" for number in (11, 12, 13))
    assert value(virtual=virtual) == 11
    assert value(virtual=virtual, real=real) == 12
    assert value(virtual=virtual, real=real, inner=inner) == 13
    assert value(real=real) == 12


@pytest.mark.parametrize("level", ["virtual", "real", "inner"])
def test_alpha_on_any_level(level: str, tmp_path: Path) -> None:
    assert timing(tmp_path, "TCP_CHECK", **{level: "alpha"}).alpha


def test_failures_that_are_retried_are_logged_where_that_is_wanted(tmp_path: Path) -> None:
    assert timing(tmp_path, "TCP_CHECK", inner="log_all_failures").log_all_failures
    assert not timing(tmp_path, "TCP_CHECK").log_all_failures
    assert timing(tmp_path, "TCP_CHECK", head="global_defs {\n checker_log_all_failures\n}\n").log_all_failures


def test_a_script_may_take_as_long_as_the_interval_of_its_virtual_server(tmp_path: Path) -> None:
    def limit(**levels: str) -> Any:
        (check,) = checks(tmp_path, "MISC_CHECK", **levels)
        assert isinstance(check, MiscCheck)
        return check.timeout

    assert limit(virtual="delay_loop 9", inner="delay_loop 4") == 9
    assert limit(virtual="delay_loop 9", inner="misc_timeout 2") == 2


def test_a_file_counts_as_its_track_file_says(tmp_path: Path) -> None:
    def found(inner: str) -> FileCheck:
        (check,) = checks(tmp_path, "FILE_CHECK", inner)
        assert isinstance(check, FileCheck)
        return check

    assert (found("track_file f").weight, found("track_file g").weight) == (7, 1)
    assert (found("track_file f\n weight 2").weight, found("track_file f\n weight 2 reverse").reverse) == (2, True)
    assert not found("track_file f\n alpha").timing.alpha


def test_each_host_of_smtp_is_a_checker(tmp_path: Path) -> None:
    found = checks(tmp_path, "SMTP_CHECK", "host {\n connect_ip 10.1.0.7\n}\nhost {\n connect_port 26\n}\nhelo_name x")
    places = [(str(each.endpoint.address), each.endpoint.port) for each in found if isinstance(each, SmtpCheck)]
    assert places == [("10.1.0.7", 80), ("10.1.0.1", 26)]


def test_a_session_has_no_times(tmp_path: Path) -> None:
    (check,) = checks(tmp_path, "BFD_CHECK", "name s\n alpha", virtual="retry 4", head=SESSION)
    assert isinstance(check, BfdCheck)
    assert check.timing == CheckTiming(alpha=True)

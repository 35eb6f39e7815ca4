"""Two routers' files: who wins, and what would split them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from keepalived_py.config.lint_pair import lint_pair
from keepalived_py.config.load import LoadOptions, load
from keepalived_py.config.problems import Problem, Severity
from keepalived_py.ctl.main import main as ctl

FILE = """\
vrrp_script check {
    script "/bin/true"
    weight -30
}
vrrp_instance VI {
    interface eth0
    virtual_router_id 51
    priority PRIORITY
    SETTING
    virtual_ipaddress {
        192.0.2.100/24
        ADDRESS
    }
    track_script {
        check
    }
}
"""


def written(path: Path, priority: int, setting: str = "", address: str = "") -> Path:
    text = FILE.replace("PRIORITY", str(priority)).replace("SETTING", setting).replace("ADDRESS", address)
    path.write_text(text)
    return path


def compared(tmp_path: Path, first: tuple[object, ...], second: tuple[object, ...]) -> list[Problem]:
    results = []
    for name, values in (("a", first), ("b", second)):
        result = load(str(written(tmp_path / f"{name}.conf", *values)), LoadOptions(config_id="me"))  # type: ignore[arg-type]
        assert result.config is not None
        results.append(result)
    return lint_pair(*results)


def test_a_fine_pair_says_who_wins_and_nothing_else(tmp_path: Path) -> None:
    (found,) = compared(tmp_path, (150,), (130,))
    assert (found.id, found.severity) == ("pair-winner", Severity.NOTE)
    assert "the first router wins with priority 150 against 130" in found.message
    assert found.at is not None
    assert (Path(found.at.file).name, found.at.line) == ("a.conf", 5)
    (other,) = compared(tmp_path, (130,), (150, "nopreempt"))[:1]
    assert "second router wins" in other.message
    assert "does not take over" in other.message


PASSWORD = "authentication {\nauth_type PASS\nauth_pass %s\n}"
PEER = "unicast_src_ip 192.0.2.%d\nunicast_peer {\n192.0.2.%d\n}"
GROUP = "}\nvrrp_sync_group G {\ngroup {\nVI\n}\n}\nvrrp_instance W {\nvirtual_router_id 9\ninterface eth1"
SPLITS = [
    ("pair-version", "", "version 3"),
    ("pair-interval", "advert_int 1", "advert_int 2"),
    ("pair-authentication", "", PASSWORD % "x"),
    ("pair-authentication", PASSWORD % "y", PASSWORD % "x"),
    ("pair-authentication", "", f"auth_hmac {{\nkey 1 {'k' * 32}\nactive_key 1\n}}"),
    ("pair-unicast", "", "unicast_peer {\n192.0.2.9\n}"),
    ("pair-group", "mcast_dst_ip 224.0.0.19", ""),
    ("pair-peers", PEER % (1, 3), PEER % (2, 1)),
]


@pytest.mark.parametrize(("id", "first", "second"), SPLITS, ids=[f"{i}-{each[0]}" for i, each in enumerate(SPLITS)])
def test_what_splits_a_virtual_router_is_an_error(tmp_path: Path, id: str, first: str, second: str) -> None:
    found = [problem for problem in compared(tmp_path, (150, first), (130, second)) if problem.id == id]
    assert [problem.severity for problem in found] == [Severity.ERROR]


WARNINGS = [
    ("pair-equal-priority", (150,), (150,)),
    ("pair-two-owners", (255,), (255,)),
    ("pair-preemption", (150, "nopreempt"), (130,)),
    ("pair-down-timer", (150, "down_timer_adverts 5"), (130,)),
    ("pair-addresses", (150, "", "192.0.2.101"), (130,)),
    ("pair-addresses", (150, "virtual_ipaddress_excluded {\n192.0.2.102\n}"), (130,)),
    ("pair-weight-too-small", (150,), (110,)),
    ("pair-interval", (150, "version 3\nadvert_int 2"), (130, "version 3")),
    ("pair-missing", (150,), (130, "virtual_router_id 52")),
    ("pair-sync-group", (150, GROUP), (130,)),
]


@pytest.mark.parametrize(("id", "first", "second"), WARNINGS, ids=[f"{i}-{each[0]}" for i, each in enumerate(WARNINGS)])
def test_other_differences_are_warnings(
    tmp_path: Path, id: str, first: tuple[object, ...], second: tuple[object, ...]
) -> None:
    found = [problem for problem in compared(tmp_path, first, second) if problem.id == id]
    assert {problem.severity for problem in found} == {Severity.LINT}


def test_a_weight_that_does_its_work_is_no_finding(tmp_path: Path) -> None:
    assert not [problem for problem in compared(tmp_path, (150,), (121,)) if problem.id == "pair-weight-too-small"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = written(tmp_path / "a.conf", 150), written(tmp_path / "b.conf", 130, "advert_int 3")
    assert ctl(["lint", "--pair", str(one), str(other)]) == 5
    assert "[pair-interval]" in capsys.readouterr().out
    assert ctl(["lint", "--pair", str(one), str(one), "--json"]) == 0
    assert [each["id"] for each in json.loads(capsys.readouterr().out)] == ["pair-equal-priority"]
    assert ctl(["lint", "--strict", "--pair", str(one), str(one)]) == 5
    assert ctl(["lint", "--pair", str(one), str(tmp_path / "none")]) == 6
    for wrong in (["lint"], ["lint", str(one), "--pair", str(one), str(other)]):
        with pytest.raises(SystemExit):
            ctl(wrong)

"""keepalivedctl plan: object by object, with what changes and what is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepalived_py.config.load import LoadOptions, load
from keepalived_py.ctl.main import main as ctl
from keepalived_py.ctl.plan import plan_lines

BASE = """
global_defs {
    vrrp_garp_master_repeat 3
    lvs_timeouts tcp 10
}
vrrp_script check {
    script "/bin/true" nobody
}
track_file file {
    file /run/x
}
vrrp_instance one {
    interface eth0
    virtual_router_id 51
    priority 100
    track_script {
        check
    }
    virtual_ipaddress {
        192.0.2.1
        192.0.2.2
    }
}
vrrp_instance two {
    interface eth0
    virtual_router_id 52
    virtual_ipaddress {
        192.0.2.3
    }
}
static_routes {
    198.51.100.0/24 via 192.0.2.254 dev eth0
}
virtual_server 192.0.2.80 80 {
    protocol TCP
    lvs_sched rr
    lvs_method NAT
    real_server 10.0.0.1 80 {
        weight 1
    }
    real_server 10.0.0.2 80 {
        weight 1
    }
}
"""


def plan(tmp_path: Path, old: str, new: str) -> list[str]:
    configs = []
    for name, text in (("old", old), ("new", new)):
        path = tmp_path / name
        path.write_text(text)
        config = load(str(path), LoadOptions(config_id="me")).config
        assert config is not None
        configs.append(config)
    return plan_lines(*configs)


KEPT = [
    "= 2 vrrp_instance untouched",
    "= 1 vrrp_script untouched",
    "= 1 track_file untouched",
    "= 1 static_routes untouched",
    "= 1 virtual_server untouched",
]


def test_nothing_changes(tmp_path: Path) -> None:
    assert plan(tmp_path, BASE, BASE) == KEPT
    assert plan(tmp_path, "", "") == ["nothing changes"]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("priority 100", "priority 150", "~ vrrp_instance one: priority 100 -> 150"),
        ("        192.0.2.2\n", "        192.0.2.9\n", "~ vrrp_instance one: addresses -192.0.2.2/32 +192.0.2.9/32"),
        ("    priority 100\n", "    nopreempt\n", "~ vrrp_instance one: preempt yes -> no"),
        ("vrrp_instance two", "vrrp_instance three", "~ vrrp_instance three: name two -> three"),
        ("virtual_router_id 52", "virtual_router_id 53", "- vrrp_instance two"),
        ("virtual_router_id 52", "virtual_router_id 53", "+ vrrp_instance two"),
        ("tcp 10", "tcp 20", "~ global_defs: ipvs.timeout_tcp 10 -> 20"),
        ("weight 1", "weight 5", "  ~ real_server [10.0.0.1]:80: weight 1 -> 5"),
        ("lvs_sched rr", "lvs_sched wlc", "~ virtual_server [192.0.2.80]:tcp:80: scheduler rr -> wlc"),
        ("/run/x", "/run/y", "~ track_file file: file /run/x -> /run/y"),
        ("    lvs_timeouts tcp 10\n", "", "~ global_defs: ipvs.timeout_tcp 10 -> 0"),
    ],
)  # fmt: skip
def test_what_changes_is_named(tmp_path: Path, old: str, new: str, line: str) -> None:
    assert line in plan(tmp_path, BASE, BASE.replace(old, new, 1))


def test_a_real_server_that_goes_and_one_that_comes(tmp_path: Path) -> None:
    lines = plan(tmp_path, BASE, BASE.replace("10.0.0.2", "10.0.0.3"))
    at = lines.index("~ virtual_server [192.0.2.80]:tcp:80")
    assert lines[at + 1 : at + 4] == [
        "  - real_server [10.0.0.2]:80",
        "  + real_server [10.0.0.3]:80",
        "  = 1 real_server untouched",
    ]


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    secret = "    authentication {\n auth_type PASS\n auth_pass %s\n }\n    priority 100\n"
    old, new = (BASE.replace("    priority 100\n", secret % word) for word in ("secret1", "secret2"))
    lines = plan(tmp_path, old, new)
    assert "~ vrrp_instance one: authentication.password (secret) -> (secret)" in lines


def test_a_reload_that_would_be_refused(tmp_path: Path) -> None:
    assert plan(tmp_path, BASE, "instance other\n" + BASE) == [
        "! instance cannot change on a reload: it would be refused"
    ]


def test_dump_and_plan_agree(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    path = tmp_path / "conf"
    path.write_text(BASE)
    assert ctl(["dump", str(path)]) == 0
    (tmp_path / "dumped").write_bytes(capsysbinary.readouterr().out)
    assert ctl(["plan", str(path), str(tmp_path / "dumped")]) == 0
    assert capsysbinary.readouterr().out.decode().splitlines() == KEPT
    assert ctl(["dump", str(tmp_path / "none")]) == 6

"""From text to the model: defaults, inheritance, corrections, and mistakes at their exact place."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from keepalived_py.config.load import LoadOptions, LoadResult, load
from keepalived_py.config.model import Config, HttpCheck, MiscCheck, TcpCheck, VirtualServer, VrrpInstance
from keepalived_py.config.problems import Severity
from keepalived_py.values import Protocol
from tests.conftest import REPOSITORY
from tests.unit.config.helpers_config import INSTANCE, load_text


def config(result: LoadResult) -> Config:
    assert result.config is not None, [problem.render() for problem in result.problems]
    return result.config


def instance(tmp_path: Path, *lines: str) -> VrrpInstance:
    text = INSTANCE.replace("virtual_router_id", "\n".join((*lines, "virtual_router_id")))
    return config(load_text(tmp_path, text)).vrrp.instances[0]


def server(tmp_path: Path, inner: str, head: str = "virtual_server 10.0.0.1 80") -> VirtualServer:
    text = f"{head} {{\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\n{inner}\n}}\n"
    return config(load_text(tmp_path, text)).checker.virtual_servers[0]


def test_defaults_of_an_instance(tmp_path: Path) -> None:
    found = instance(tmp_path)
    assert (found.priority, found.advert_int, found.version, found.family) == (100, 100, 2, 4)
    assert found.preempt
    assert not found.wants_master
    assert found.mcast_group == ip_address("224.0.0.18")
    assert found.addresses[0].prefixlen == 32
    assert found.garp.master_repeat == found.garp.lower_prio_repeat == 5


@pytest.mark.parametrize(
    ("lines", "priority", "wants_master"),
    [
        (("state MASTER",), 255, True),
        (("state MASTER", "priority 150"), 150, True),
        (("priority 255",), 255, True),
        (("state BACKUP", "priority 255"), 255, False),
        (("state BACKUP",), 100, False),
    ],
)
def test_state_and_priority(tmp_path: Path, lines: tuple[str, ...], priority: int, wants_master: bool) -> None:
    found = instance(tmp_path, *lines)
    assert (found.priority, found.wants_master) == (priority, wants_master)


@pytest.mark.parametrize(
    ("lines", "centiseconds"),
    [
        (("advert_int 2",), 200),
        (("version 2", "advert_int 0.3"), 100),
        (("version 3", "advert_int 0.01"), 1),
        (("version 3", "advert_int 0.125"), 12),
        (("version 3", "advert_int 200"), 4095),
    ],
)
def test_intervals_are_what_the_version_can_carry(tmp_path: Path, lines: tuple[str, ...], centiseconds: int) -> None:
    assert instance(tmp_path, *lines).advert_int == centiseconds


def test_ipv6_runs_version_3_on_its_group(tmp_path: Path) -> None:
    found = config(load_text(tmp_path, INSTANCE.replace("10.0.0.100", "fe80::1"))).vrrp.instances[0]
    assert (found.family, found.version, found.mcast_group) == (6, 3, ip_address("ff02::12"))
    assert found.addresses[0].prefixlen == 128


def test_global_defaults_reach_instances_that_follow(tmp_path: Path) -> None:
    text = "global_defs {\n vrrp_version 3\n vrrp_garp_master_repeat 2\n vrrp_garp_master_delay 1\n}\n" + INSTANCE
    found = config(load_text(tmp_path, text)).vrrp.instances[0]
    assert (found.version, found.garp.master_repeat, found.garp.lower_prio_delay) == (3, 2, 1)


def test_unicast(tmp_path: Path) -> None:
    found = instance(tmp_path, "unicast_src_ip 10.0.0.1", "unicast_peer {\n10.0.0.2 min_ttl 250\n10.0.0.3\n}")
    assert found.unicast
    assert found.mcast_group is None
    assert [str(peer.address) for peer in found.unicast_peers] == ["10.0.0.2", "10.0.0.3"]
    assert found.check_unicast_src


def test_unicast_without_a_usable_peer_is_multicast(tmp_path: Path) -> None:
    found = instance(tmp_path, "unicast_peer {\nfd00::1\n}")
    assert not found.unicast
    assert found.mcast_group == ip_address("224.0.0.18")


def test_address_options(tmp_path: Path) -> None:
    text = INSTANCE.replace("10.0.0.100", "10.0.0.100/24 dev eth1 brd + label eth1:v scope link noprefixroute")
    row = config(load_text(tmp_path, text)).vrrp.instances[0].addresses[0]
    assert (row.dev, str(row.broadcast), row.label, row.scope) == ("eth1", "10.0.0.255", "eth1:v", 253)
    assert row.noprefixroute


def test_sync_groups_keep_members_that_exist(tmp_path: Path) -> None:
    text = INSTANCE + "vrrp_sync_group G {\n group {\n VI_1\n VI_2\n }\n}\n"
    result = load_text(tmp_path, text)
    assert config(result).vrrp.sync_groups[0].members == ("VI_1",)
    assert "bad-member" in [problem.id for problem in result.problems]


def test_a_second_block_of_the_same_name_is_left_out(tmp_path: Path) -> None:
    result = load_text(tmp_path, INSTANCE + INSTANCE.replace("51", "52"))
    assert [each.vrid for each in config(result).vrrp.instances] == [51]
    assert [problem.id for problem in result.problems] == ["duplicate-name"]


def test_inheritance_down_to_the_checker(tmp_path: Path) -> None:
    inner = """delay_loop 7
    retry 4
    real_server 10.1.0.1 80 {
        connect_timeout 2
        TCP_CHECK { retry 0
        }
        HTTP_GET { url { path /x
        } }
        MISC_CHECK { misc_path "/bin/true 'a b'"
        }
    }"""
    tcp, http, misc = server(tmp_path, inner).real_servers[0].checks
    assert isinstance(tcp, TcpCheck)
    assert isinstance(http, HttpCheck)
    assert isinstance(misc, MiscCheck)
    assert (tcp.timing.delay_loop, tcp.timing.connect_timeout, tcp.timing.retry) == (7, 2, 0)
    assert (http.timing.retry, http.timing.delay_before_retry, http.urls[0].path) == (4, 3, "/x")
    assert misc.script.argv == ("/bin/true", "a b")
    assert misc.timeout == 7
    assert str(tcp.endpoint.address) == "10.1.0.1"


@pytest.mark.parametrize(
    ("inner", "problem"),
    [
        ("real_server 10.1.0.1 80 {\n}\nreal_server 10.1.0.1 80 {\n}", "duplicate-real-server"),
        ("quorum 9\nreal_server 10.1.0.1 80 {\n}", "quorum-too-high"),
        ("quorum 1\nhysteresis 1\nreal_server 10.1.0.1 80 {\n}", "hysteresis-too-high"),
        ("ops\nreal_server 10.1.0.1 80 {\n}", "ops-without-udp"),
        ("real_server fd00::1 80 {\n}\nreal_server 10.1.0.1 80 {\n}", "wrong-family"),
        ("", "no-real-server"),
    ],
)
def test_corrections_of_virtual_servers(tmp_path: Path, inner: str, problem: str) -> None:
    text = f"virtual_server 10.0.0.1 80 {{\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\n{inner}\n}}\n"
    assert problem in [each.id for each in load_text(tmp_path, text).problems]


@pytest.mark.parametrize(("method", "port", "inhibit"), [("DR", 80, False), ("NAT", 8080, True)])
def test_a_sorry_server_is_the_real_server_whose_row_it_would_get(
    tmp_path: Path, method: str, port: int, inhibit: bool
) -> None:
    """With DR there is one port only, so that it is a second row, of weight 0, for the same server."""
    inner = f"""sorry_server 10.1.0.1 8080
    sorry_server_lvs_method {method}
    sorry_server_inhibit
    real_server 10.1.0.1 80 {{
        lvs_method {method}
    }}"""
    found = server(tmp_path, inner).sorry_server
    assert found is not None
    assert (found.port, found.inhibit) == (port, inhibit)


def test_ports_follow_the_forwarding_method(tmp_path: Path) -> None:
    reals = """real_server 10.1.0.1 {
    }
    real_server 10.1.0.2 8080 {
    }
    real_server 10.1.0.3 8080 {
        lvs_method DR
    }"""
    assert [real.port for real in server(tmp_path, reals).real_servers] == [80, 8080, 80]


def test_firewall_marks(tmp_path: Path) -> None:
    text = "virtual_server fwmark 7 {\nlvs_sched rr\nlvs_method DR\nreal_server 10.1.0.1 80 {\n}\n}\n"
    result = load_text(tmp_path, text)
    found = config(result).checker.virtual_servers[0]
    assert (found.key.fwmark, found.key.family, found.protocol) == (7, 4, Protocol.NONE)
    assert found.real_servers[0].port == 0


MISTAKES = [
    ("    prioritee 100", "unknown-keyword", 5, 'did you mean "priority"?'.replace('"', "'")),
    ("    net_namespace x", "unknown-keyword", 5, "it stands outside of all blocks"),
    ("    script_user x", "unknown-keyword", 5, "it belongs into global_defs"),
    ("    connect_port 80", "unknown-keyword", 5, "it belongs into TCP_CHECK or "),
    ("    priority 300", "out-of-range", 14, ""),
    ("    priority abc", "not-a-number", 14, ""),
    ("    priority 100x", "junk-after-number", 14, ""),
    ("    state MASTR", "bad-state", 11, ""),
    ("    advert_int 1s", "not-a-number", 16, ""),
    ("    interface averylonginterface", "interface-name-too-long", 15, ""),
    ("    mcast_src_ip 10.0.0.300", "not-an-address", 18, ""),
    ("    lower_prio_no_advert maybe", "not-a-boolean", 26, ""),
    ("    version 4", "not-a-choice", 13, ""),
    ("    track_script { none }", "unknown-script", 20, ""),
    ("    track_interface { eth1 weight }", "missing-value", 36, ""),
    ("    track_interface { eth1 wait 5 }", "unknown-option", 28, ""),
    ('    notify_master "/bin/x \'y"', "bad-quoting", 19, ""),
    ("    nopreempt { }", "unexpected-brace", 5, ""),
    ("    virtual_router_id", "missing-parameter", 22, ""),
]


@pytest.mark.parametrize(("line", "problem", "column", "hint"), MISTAKES, ids=[each[1] + each[0] for each in MISTAKES])
def test_mistakes_are_found_at_their_place(tmp_path: Path, line: str, problem: str, column: int, hint: str) -> None:
    text = INSTANCE.replace("    interface eth0\n", f"    interface eth0\n{line}\n", 1)
    found = [each for each in load_text(tmp_path, text).problems if each.id == problem]
    assert found, [each.render() for each in load_text(tmp_path, text).problems]
    at = found[0].at
    assert at is not None
    assert (at.line, at.column) == (4, column), found[0].render()
    assert hint in found[0].hint


@pytest.mark.parametrize(
    ("wrong", "shown"),
    [
        ("\ufeffpriority", "\\ufeffpriority"),  # of an editor
        ("priority\u00a0100", "priority\\xa0100"),  # of a web page
        ("prio\x1b[31mrity", "prio\\x1b[31mrity"),
        ("prio\udce9rity", "prio\\xe9rity"),  # a byte that is no UTF-8
        ("priorit\u00e9", "priorit\u00e9"),
    ],
)
def test_what_cannot_be_seen_is_shown(tmp_path: Path, wrong: str, shown: str) -> None:
    path = tmp_path / "keepalived.conf"
    path.write_text(INSTANCE + f"\t{wrong} 150\n", errors="surrogateescape")
    (problem,) = (each for each in load(str(path), LoadOptions()).problems if each.id == "unknown-keyword")
    assert f"Unknown keyword '{shown}'" in problem.log_line()
    first, line, caret, *_ = problem.render().splitlines()
    assert f"Unknown keyword '{shown}'" in first
    assert line.index(shown) == caret.index("^")
    assert len(shown) == caret.count("^") + caret.count("~")


def test_a_problem_shows_line_and_caret(tmp_path: Path) -> None:
    result = load_text(tmp_path, INSTANCE.replace("51", "512"))
    text = next(problem for problem in result.problems if problem.id == "out-of-range").render()
    path = tmp_path / "keepalived.conf"
    assert text.splitlines()[:3] == [
        f"{path}:4:23: error: virtual_router_id: '512' is not a number from 1 to 255 [out-of-range]",
        "        virtual_router_id 512",
        "                          ^~~",
    ]


@pytest.mark.parametrize(
    ("text", "status", "strict"),
    [
        (INSTANCE, 0, 0),
        (INSTANCE.replace("51", "512"), 5, 5),
        (INSTANCE.replace("virtual_router_id 51", "virtual_router_id"), 2, 2),
        (INSTANCE.replace("virtual_router_id 51", ""), 5, 5),
        ("includea /none/such\n", 6, 6),
        (INSTANCE.replace("interface eth0", 'interface eth0\nnotify "/none/such"'), 0, 5),
    ],
)
def test_exit_status_of_a_config_test(tmp_path: Path, text: str, status: int, strict: int) -> None:
    problems = load_text(tmp_path, text).problems
    assert (problems.exit_status(), problems.exit_status(strict=True)) == (status, strict)


def test_what_must_not_run_gives_no_config(tmp_path: Path) -> None:
    result = load_text(tmp_path, INSTANCE.replace("    interface eth0\n", ""))
    assert result.config is None
    assert result.problems.stops == 2


def test_unknown_users_leave_the_script_out(tmp_path: Path) -> None:
    text = INSTANCE.replace("interface eth0", 'interface eth0\nnotify_master "/bin/true" nobody-of-that-name')
    result = load_text(tmp_path, text)
    assert config(result).vrrp.instances[0].notify.master is None
    assert [problem.id for problem in result.problems] == ["unknown-user"]


@pytest.mark.parametrize("group", [":99999999999", "99999999999"])
def test_a_group_number_beyond_32_bits_leaves_the_script_out(tmp_path: Path, group: str) -> None:
    text = INSTANCE.replace("interface eth0", f'interface eth0\nnotify "/bin/true" root {group}')
    result = load_text(tmp_path, text)
    assert config(result).vrrp.instances[0].notify.any is None
    assert [problem.id for problem in result.problems] == ["unknown-group"]


def test_mail_is_understood(tmp_path: Path) -> None:
    result = load_text(tmp_path, "global_defs {\n notification_email {\n a@example.com\n }\n}\n" + INSTANCE)
    assert config(result).global_defs.mail.notification_email == ("a@example.com",)
    assert not list(result.problems)


def test_what_has_no_effect_yet_is_said(tmp_path: Path) -> None:
    result = load_text(tmp_path, "global_defs {\n enable_dbus\n}\n" + INSTANCE)
    assert config(result).global_defs.snmp_dbus.enable_dbus
    assert [(problem.id, problem.severity) for problem in result.problems] == [("no-effect-yet", Severity.NOTE)]


@pytest.mark.parametrize("path", sorted((REPOSITORY / "conf.d" / "samples").glob("*.conf")), ids=lambda path: path.name)
def test_samples_load_without_a_complaint(path: Path) -> None:
    from keepalived_py.config.load import load

    result = load(str(path))
    bad = [problem.render() for problem in result.problems if problem.severity > Severity.LINT]
    assert bad == []
    assert config(result).vrrp.has_work or config(result).checker.has_work


@pytest.mark.parametrize(
    ("upper", "lower", "kept"), [(10, 20, 10), (10, 11, 10), (10, 10, 10), (10, 9, 9), (0, 5, 0), (0, 0, 0)]
)
def test_a_lower_threshold_above_the_upper_one_is_lowered(tmp_path: Path, upper: int, lower: int, kept: int) -> None:
    """IPVS refuses such a server; no upper one is 0."""
    inner = f"real_server 10.1.0.1 80 {{\nuthreshold {upper}\nlthreshold {lower}\n}}"
    (real,) = server(tmp_path, inner).real_servers
    assert (real.uthreshold, real.lthreshold) == (upper, kept)

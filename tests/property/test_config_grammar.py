"""A grammar of whole configurations: valid ones come back from their dump; broken ones are only reported."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from keepalived_py.config.dump import dump
from keepalived_py.config.load import LoadOptions, LoadResult, load
from keepalived_py.config.problems import Severity

SEVERITIES_OF_NOTHING = (Severity.NOTE, Severity.LINT)

Lines = list[str]


def read(text: str) -> LoadResult:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "keepalived.conf"
        path.write_text(text)
        return load(str(path), LoadOptions(config_id="me"))


def some(*statements: st.SearchStrategy[str]) -> st.SearchStrategy[Lines]:
    """Any of the statements, each at most once, in their order."""
    return st.tuples(*(st.one_of(st.just(""), statement) for statement in statements)).map(
        lambda found: [each for each in found if each]
    )


def numbered(keyword: str, low: int, high: int) -> st.SearchStrategy[str]:
    return st.integers(low, high).map(lambda number: f"{keyword} {number}")


def timed(keyword: str, low: float, high: float, places: int = 3) -> st.SearchStrategy[str]:
    return st.floats(low, high).map(lambda seconds: f"{keyword} {max(low, round(seconds, places)):.{places}f}")


def flagged(*keywords: str) -> list[st.SearchStrategy[str]]:
    return [st.just(keyword) for keyword in keywords]


def switched(*keywords: str) -> list[st.SearchStrategy[str]]:
    return [
        st.sampled_from(["", " on", " true", " yes", " off", " false", " no"]).map(lambda value, k=keyword: k + value)  # type: ignore[misc]
        for keyword in keywords
    ]


def block(head: str, lines: Lines) -> str:
    return "\n".join((f"{head} {{", *lines, "}"))


commands = st.sampled_from(
    ['"/bin/true"', "\"/bin/true 'a b' c\"", '"/bin/echo x" nobody', "/bin/true nobody :nogroup"]
)
weights = st.tuples(st.integers(-253, 253), st.sampled_from(["", " reverse", " noreverse"])).map(
    lambda found: f" weight {found[0]}{found[1]}"
)
globals_block = some(
    *switched("vrrp_lower_prio_no_advert", "vrrp_higher_prio_send_advert", "vrrp_min_garp", "smtp_alert"),
    *switched("vrrp_skip_check_adv_addr", "checker_log_all_failures", "smtp_alert_vrrp", "smtp_alert_checker"),
    *flagged("vrrp_check_unicast_src", "lvs_flush", "process_names", "log_unknown_vrids", "vrrp_no_swap"),
    numbered("vrrp_version", 2, 3),
    numbered("vrrp_garp_master_delay", 0, 4294),
    numbered("vrrp_garp_master_repeat", 0, 50),
    numbered("vrrp_garp_lower_prio_repeat", 0, 50),
    numbered("vrrp_down_timer_adverts", 1, 100),
    timed("vrrp_garp_interval", 0.000001, 10, 6),
    st.sampled_from(["notify_fifo /run/f nobody", "umask 022", "router_id a#b".replace("#b", ""), "vmac_prefix vr"]),
    st.sampled_from(["lvs_flush_on_stop", "lvs_flush_on_stop VS", "vrrp_iptables", "nftables t", "vrrp_ipsets a"]),
)


@st.composite
def addresses(draw: st.DrawFn, family: int, number: int) -> Lines:
    found = []
    for each in range(draw(st.integers(1, 4))):
        if family == 4:
            line = f"10.{number}.0.{each + 1}/{draw(st.integers(8, 32))}"
            options = some(*flagged("dev eth9", "label eth9:1", "scope link", "no_track", "home", "noprefixroute"))
        else:
            line = f"2001:db8:{number:x}::{each + 1:x}/{draw(st.integers(16, 128))}"
            options = some(*flagged("dev eth9", "-nodad", "preferred_lft forever", "no_track", "mngtmpaddr"))
        found.append(" ".join((line, *draw(options))))
    return found


@st.composite
def instances(draw: st.DrawFn, number: int) -> str:
    family = draw(st.sampled_from([4, 4, 6]))
    version = 3 if family == 6 else draw(st.integers(2, 3))
    lines = [f"interface eth{number}", f"virtual_router_id {number}", f"version {version}"]
    lines += draw(
        some(
            st.sampled_from(["state BACKUP", "state BACKUP\nnopreempt", "state BACKUP\npreempt_delay 5"]),
            numbered("priority", 1, 254),
            numbered("advert_int", 1, 40),
            *switched("lower_prio_no_advert", "higher_prio_send_advert", "skip_check_adv_addr", "smtp_alert"),
            *switched("notify_priority_changes", "v3_checksum_as_v2"),
            *flagged("accept", "no_accept", "dont_track_primary", "vmac_xmit_base\nuse_vmac"),
            numbered("garp_master_repeat", 1, 9),
            numbered("garp_master_refresh", 0, 99),
            numbered("garp_extra_if", 0, 86400),
            numbered("down_timer_adverts", 1, 100),
            commands.map(lambda command: f"notify_master {command}"),
            commands.map(lambda command: f"notify {command}"),
            weights.map(lambda weight: block("track_interface", [f"eth99{weight}"])),
            weights.map(lambda weight: block("track_script", [f"script{weight}"])),
            weights.map(lambda weight: block("track_file", [f"file{weight}"])),
        )
    )
    if version == 2 and draw(st.booleans()):
        lines.append(block("authentication", ["auth_type PASS", "auth_pass secret"]))
    if family == 4 and draw(st.booleans()):
        lines.append(block("unicast_peer", [f"192.0.2.{each} max_ttl {200 + each}" for each in (1, 2)]))
        lines += draw(some(numbered("unicast_ttl", 1, 255), st.just("unicast_src_ip 192.0.2.9")))
    lines.append(block("virtual_ipaddress", draw(addresses(family, number))))
    lines.append(block("virtual_ipaddress_excluded", draw(addresses(10 - family, number + 100))))
    return block(f"vrrp_instance VI_{number}", lines)


timing = (
    timed("delay_loop", 0.5, 100),
    timed("warmup", 0, 100),
    numbered("retry", 1, 9),
    timed("delay_before_retry", 0, 9),
)
endpoint = (
    timed("connect_timeout", 0.1, 30),
    numbered("connect_port", 1, 65535),
    numbered("fwmark", 0, 2**32 - 1),
    *switched("alpha", "log_all_failures"),
)


@st.composite
def checkers(draw: st.DrawFn) -> str:
    kind = draw(st.sampled_from(["TCP", "PING", "UDP", "DNS", "SMTP", "MISC", "HTTP", "SSL", "FILE"]))
    lines = draw(some(*timing, *(() if kind == "MISC" else endpoint)))
    match kind:
        case "UDP":
            lines += draw(some(*flagged("payload 00ff", "require_reply 0x1X", "min_reply_length 3")))
        case "DNS":
            lines += draw(some(*flagged("type A", "name example.com")))
        case "MISC":
            lines += [f"misc_path {draw(commands)}", *draw(some(numbered("misc_timeout", 0, 99)))]
        case "HTTP" | "SSL":
            url = some(
                *flagged("status_code 200-299 404", "virtualhost example.com", 'regex "a b{2}$"', "regex_no_match")
            )
            lines.append(block("url", ["path /x?y=1", *draw(url)]))
        case "FILE":
            lines = ["track_file file", *draw(some(numbered("weight", -999, 999)))]
    return block(f"{kind}_GET" if kind in ("HTTP", "SSL") else f"{kind}_CHECK", lines)


@st.composite
def servers(draw: st.DrawFn, number: int) -> str:
    method = draw(st.sampled_from(["NAT", "DR", "TUN", "TUN type gue port 6080 csum"]))
    lines = [f"lvs_sched {draw(st.sampled_from(['rr', 'wlc', 'sh', 'mh']))}", f"lvs_method {method}"]
    lines += draw(
        some(
            *timing,
            *flagged("alpha", "omega", "ha_suspend", "inhibit_on_failure", "flag-1", "virtualhost example.com"),
            numbered("persistence_timeout", 1, 2678400),
            st.just("persistence_granularity 255.255.0.0"),
            commands.map(lambda command: f"quorum_up {command}"),
            st.just("sorry_server 192.0.2.99 80"),
        )
    )
    for each in range(draw(st.integers(1, 3))):
        inner = draw(
            some(
                numbered("weight", 1, 99),
                numbered("uthreshold", 0, 99),
                *switched("inhibit_on_failure", "smtp_alert", "alpha"),
                commands.map(lambda command: f"notify_down {command}"),
            )
        )
        inner += draw(st.lists(checkers(), max_size=2))
        lines.append(block(f"real_server 192.0.2.{each + 1} 80", inner))
    return block(f"virtual_server 10.9.{number}.1 80", ["protocol TCP", *lines])


@st.composite
def configurations(draw: st.DrawFn) -> str:
    parts = [block("global_defs", ["script_user nobody", "enable_script_security", *draw(globals_block)])]
    parts.append(
        block("vrrp_script script", ['script "/bin/true"', *draw(some(numbered("fall", 1, 9), numbered("rise", 1, 9)))])
    )
    parts.append(block("track_file file", ["file /run/file"]))
    count = draw(st.integers(1, 3))
    parts += [draw(instances(number)) for number in range(1, count + 1)]
    if count > 1 and draw(st.booleans()):
        members = block("group", [f"VI_{number}" for number in range(1, count + 1)])
        parts.append(block("vrrp_sync_group G", [members, "sync_group_tracking_weight"]))
    parts += [draw(servers(number)) for number in range(draw(st.integers(0, 2)))]
    return "\n".join(parts) + "\n"


@given(configurations())
def test_a_valid_configuration_has_no_finding_of_weight_and_comes_back_from_its_dump(text: str) -> None:
    result = read(text)
    weighty = [each.render() for each in result.problems if each.severity not in SEVERITIES_OF_NOTHING]
    assert weighty == []
    assert result.config is not None
    again = read(dump(result.config))
    assert again.config == result.config
    assert [each.render() for each in again.problems if each.severity not in SEVERITIES_OF_NOTHING] == []


junk = st.text(st.characters(codec="ascii", exclude_characters="\n\r"), max_size=20)


@given(st.data(), configurations())
def test_a_broken_configuration_is_reported_and_what_is_left_of_it_comes_back(data: st.DataObject, text: str) -> None:
    lines = text.splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(lines) - 1))
        match data.draw(st.sampled_from(["drop", "double", "cut", "swap", "junk"])):
            case "drop":
                del lines[at]
            case "double":
                lines.insert(at, lines[at])
            case "cut":
                lines[at] = lines[at].rpartition(" ")[0]
            case "swap":
                lines[at], lines[0] = lines[0], lines[at]
            case "junk":
                lines.insert(
                    at, data.draw(st.text(st.characters(codec="ascii", exclude_characters="\n\r"), max_size=20))
                )
        if not lines:
            return
    result = read("\n".join(lines) + "\n")
    for problem in result.problems:
        assert problem.at is None or problem.at.line <= len(lines)
    if result.config is not None:
        assert read(dump(result.config)).config == result.config

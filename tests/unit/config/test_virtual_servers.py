"""What becomes of virtual servers and their groups when they are read (checker-behaviour.md 1 and 10)."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepalived_py.config.diff import moved
from keepalived_py.config.model import GroupRange, VirtualServer
from keepalived_py.values import Protocol, ServiceKey, ip_address

from .helpers_config import load_text

HOW = "lvs_sched rr\nlvs_method NAT\n"
SCHEDULERS = ("rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "mh", "dh", "fo", "ovf", "sed", "nq", "twos")
V4, V6 = "real_server 10.1.0.1 80 {\n}", "real_server fd01::1 80 {\n}"


def read(directory: Path, text: str) -> tuple[tuple[VirtualServer, ...], set[str]]:
    """The virtual servers of `text` and the names of its problems."""
    result = load_text(directory, text)
    servers = result.config.checker.virtual_servers if result.config is not None else ()
    return servers, {each.id for each in result.problems}


def one(directory: Path, head: str, *lines: str, before: str = "") -> tuple[VirtualServer, set[str]]:
    inner = "\n".join(lines)
    (found,), problems = read(directory, f"{before}\nvirtual_server {head} {{\n{inner}\n}}\n")
    return found, problems


# who they are ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "inner", "text", "real"),
    [
        ("10.0.0.1 80", f"{HOW}protocol TCP\n{V4}", "[10.0.0.1]:tcp:80", "[10.1.0.1]:tcp:80"),
        ("10.0.0.1 53", f"{HOW}protocol UDP\n{V4}", "[10.0.0.1]:udp:53", "[10.1.0.1]:udp:80"),
        ("fd00::1 80", f"{HOW}protocol SCTP\n{V6}", "[fd00::1]:sctp:80", "[fd01::1]:sctp:80"),
        ("fwmark 5", f"{HOW}{V4}", "FWM 5", "[10.1.0.1]:none:80"),
    ],
)
def test_names(tmp_path: Path, head: str, inner: str, text: str, real: str) -> None:
    found, problems = one(tmp_path, head, inner)
    assert (str(found.key), found.real_servers[0].key.text(found.protocol), problems) == (text, real, set())


def test_the_virtual_servers_of_a_group_are_counted_from_0(tmp_path: Path) -> None:
    one = f"virtual_server group g {{\n{HOW}protocol %s\n{V4}\n}}\n"
    text = "virtual_server_group g {\n10.0.0.1 80\n}\n" + one % "TCP" + one % "UDP"
    found, _ = read(tmp_path, text)
    assert [(str(each.key), each.protocol) for each in found] == [("[g]:0", Protocol.TCP), ("[g]:1", Protocol.UDP)]


@pytest.mark.parametrize("head", ["10.0.0.1", "10.0.0.1 0"])
@pytest.mark.parametrize(("line", "timeout"), [("", 360), ("persistence_timeout 9", 9)])
def test_without_a_port_it_is_persistent(tmp_path: Path, head: str, line: str, timeout: int) -> None:
    found, problems = one(tmp_path, head, HOW, "protocol TCP", V4, line)
    assert (found.key.port, found.persistence_timeout, problems) == (0, timeout, set() if line else {"no-port"})


@pytest.mark.parametrize(
    ("entries", "line", "timeout", "problems"),
    [
        ("10.0.0.1 80\n10.0.0.2-3", "", 360, {"no-port"}),
        ("10.0.0.0/31", "persistence_timeout 9", 9, set()),
        ("10.0.0.1 80\nfwmark 5", "", 0, set()),
    ],
)
def test_nor_does_a_group_with_an_address_without_a_port(
    entries: str, line: str, timeout: int, problems: set[str], tmp_path: Path
) -> None:
    """Connections to it would be refused otherwise."""
    group = f"virtual_server_group g {{\n{entries}\n}}\n"
    found, seen = one(tmp_path, "group g", HOW, "protocol TCP", line, V4, before=group)
    assert (found.persistence_timeout, seen) == (timeout, problems)


@pytest.mark.parametrize(
    ("lines", "family"),
    [
        (["ip_family inet6", "real_server 10.1.0.1 80 {\nlvs_method TUN\n}"], 6),
        (["persistence_granularity 64", "real_server 10.1.0.1 80 {\nlvs_method TUN\n}"], 6),
        (["persistence_granularity 255.255.0.0", "real_server fd01::1 80 {\nlvs_method TUN\n}"], 4),
        (["real_server 10.1.0.1 80 {\nlvs_method TUN\n}", V6], 6),
        (["sorry_server fd01::9", "real_server 10.1.0.1 80 {\nlvs_method TUN\n}"], 6),
        (["lvs_method TUN", V6, "real_server fd01::2 {\n}"], 6),
        (["lvs_method TUN", V6, V4], 4),
        (["lvs_method TUN", V6, "sorry_server fd01::9"], 6),
        (["lvs_method TUN", V6, "sorry_server 10.1.0.9"], 4),
        ([V6], 6),
    ],
)
def test_the_family_of_a_mark(tmp_path: Path, lines: list[str], family: int) -> None:
    """ip_family, else that of the granularity, else of a server that is not tunnelled, else of all, else IPv4."""
    found, _ = one(tmp_path, "fwmark 5", "lvs_sched rr", *lines)
    assert found.key.family == family


@pytest.mark.parametrize("method", ["NAT", "DR", "TUN"])
def test_only_who_is_tunnelled_may_be_of_the_other_family(tmp_path: Path, method: str) -> None:
    found, problems = one(tmp_path, "10.0.0.1 80", f"lvs_sched rr\nprotocol TCP\nlvs_method {method}", V4, V6)
    assert (len(found.real_servers), problems) == ((2, set()) if method == "TUN" else (1, {"wrong-family"}))


# groups ---------------------------------------------------------------------------------------------------------------


def group(directory: Path, entries: str, inner: str = f"{HOW}protocol TCP\n{V4}") -> tuple[object, set[str]]:
    servers, problems = read(
        directory, f"virtual_server_group g {{\n{entries}\n}}\nvirtual_server group g {{\n{inner}\n}}\n"
    )
    return (servers[0].group_entries if servers else None), problems


@pytest.mark.parametrize(
    ("entry", "first", "last", "port"),
    [
        ("10.0.0.1 80", "10.0.0.1", "10.0.0.1", 80),
        ("10.0.0.1", "10.0.0.1", "10.0.0.1", 0),
        ("10.0.0.1-9 80", "10.0.0.1", "10.0.0.9", 80),
        ("10.0.0.1-255 80", "10.0.0.1", "10.0.0.255", 80),
        ("10.0.0.1-10.0.1.2 80", "10.0.0.1", "10.0.1.2", 80),
        ("10.0.0.1-10.0.0.1 80", "10.0.0.1", "10.0.0.1", 80),
        ("10.0.0.8/30 80", "10.0.0.8", "10.0.0.11", 80),
    ],
)
def test_ranges(tmp_path: Path, entry: str, first: str, last: str, port: int) -> None:
    found, problems = group(tmp_path, entry)
    assert found == (GroupRange(first=ip_address(first), last=ip_address(last), port=port, family=4),)
    assert problems <= {"no-port"}


@pytest.mark.parametrize(
    ("entry", "last"),
    [("fd00::1-1f 80", "fd00::1f"), ("fd00::1-fd00::2:1 80", "fd00::2:1"), ("fd00::/126 80", "fd00::3")],
)
def test_ranges_of_ipv6_end_in_hex(tmp_path: Path, entry: str, last: str) -> None:
    found, _ = group(tmp_path, entry, f"{HOW}protocol TCP\n{V6}")
    first = ip_address("fd00::" if "/" in entry else "fd00::1")
    assert found == (GroupRange(first=first, last=ip_address(last), port=80, family=6),)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("10.0.0.9-9 80", "bad-range"),
        ("10.0.0.9-1 80", "bad-range"),
        ("10.0.0.9-256 80", "bad-range"),
        ("10.0.0.9-10.0.0.8 80", "bad-range"),
        ("10.0.0.1-x 80", "not-a-number"),
        ("10.0.0.1-1_0 80", "not-a-number"),
        ("10.0.0.1-+9 80", "not-a-number"),
        ("10.0.0.1/30 80", "bad-network"),
        ("10.0.0.1 65536", "out-of-range"),
    ],
)
def test_an_entry_that_is_none_leaves_an_empty_group(tmp_path: Path, entry: str, problem: str) -> None:
    """And no virtual server."""
    assert group(tmp_path, entry) == (None, {problem, "empty-server-group", "unknown-server-group"})


@pytest.mark.parametrize(
    ("mark", "method", "problems"),
    [
        ("fwmark 5 inet", "TUN", set()),
        ("fwmark 5", "TUN", {"mark-without-family", "unknown-server-group"}),
        ("fwmark 5 inet", "NAT", {"not-tunnelled", "no-real-server"}),
    ],
)
def test_a_group_of_both_families(tmp_path: Path, mark: str, method: str, problems: set[str]) -> None:
    inner = f"lvs_sched rr\nlvs_method {method}\nprotocol TCP\n{V4}"
    found, said = group(tmp_path, f"10.0.0.1 80\nfd00::1 80\n{mark}", inner)
    assert (found is None, said) == (bool(problems), problems)


def test_a_group_of_both_families_has_none_of_its_own(tmp_path: Path) -> None:
    inner = f"lvs_sched rr\nlvs_method TUN\nprotocol TCP\nip_family inet6\n{V4}"
    found, problems = group(tmp_path, "10.0.0.1 80\nfd00::1 80", inner)
    assert (found is not None, problems) == (True, {"family-of-mixed-group"})


# what is corrected ----------------------------------------------------------------------------------------------------


def test_what_is_taken_where_nothing_is_said(tmp_path: Path) -> None:
    found, problems = one(tmp_path, "10.0.0.1 80", V4)
    assert (found.protocol, found.scheduler, found.real_servers[0].forwarding.method) == (Protocol.UDP, "wlc", "NAT")
    assert problems == {"no-protocol", "no-scheduler", "no-forwarding"}


@pytest.mark.parametrize(
    ("inner", "quorum", "hysteresis", "problem"),
    [
        ("quorum 9\nhysteresis 2", 4, 2, "quorum-too-high"),
        ("quorum 4\nhysteresis 3", 4, 3, ""),
        ("quorum 3\nhysteresis 3", 3, 2, "hysteresis-too-high"),
        ("quorum 9\nhysteresis 8", 4, 3, "hysteresis-too-high"),
    ],
)
def test_the_quorum_is_one_that_can_be_had(
    tmp_path: Path, inner: str, quorum: int, hysteresis: int, problem: str
) -> None:
    reals = ("real_server 10.1.0.1 80 {\nweight 3\n}", "real_server 10.1.0.2 80 {\n}")
    found, problems = one(tmp_path, "10.0.0.1 80", HOW, "protocol TCP", inner, *reals)
    assert (found.quorum, found.hysteresis) == (quorum, hysteresis)
    assert {problem} - {""} <= problems


@pytest.mark.parametrize("real", ["", "inhibit_on_failure"])
@pytest.mark.parametrize("sorry", ["", "sorry_server_inhibit"])
def test_a_sorry_server_that_is_a_real_server_inhibits_as_that_does(tmp_path: Path, real: str, sorry: str) -> None:
    reals = f"real_server 10.1.0.1 80 {{\n{real}\n}}"
    found, problems = one(tmp_path, "10.0.0.1 80", HOW, "protocol TCP", "sorry_server 10.1.0.1 80", sorry, reals)
    assert found.sorry_server is not None
    assert found.sorry_server.inhibit is bool(real)
    assert ("sorry-inhibit" in problems) is (bool(real) is not bool(sorry))


@pytest.mark.parametrize(
    ("head", "method", "given", "port", "problems"),
    [
        ("10.0.0.1 80", "NAT", "", 80, set()),
        ("10.0.0.1 80", "NAT", "81", 81, set()),
        ("10.0.0.1 80", "DR", "81", 80, {"port-differs"}),
        ("10.0.0.1 80", "TUN", "81", 80, {"port-differs"}),
        ("10.0.0.1 80", "TUN", "", 80, set()),
        ("fwmark 5", "NAT", "81", 81, set()),
        ("fwmark 5", "DR", "81", 0, {"port-of-fwmark"}),
        ("fwmark 5", "TUN", "", 0, set()),
        ("group g", "DR", "81", 81, {"port-differs"}),
        ("group g", "DR", "80", 80, set()),
    ],
)
def test_ports_of_real_servers(
    tmp_path: Path, head: str, method: str, given: str, port: int, problems: set[str]
) -> None:
    before = "virtual_server_group g {\n10.0.0.1 80\n}\n" if head == "group g" else ""
    protocol = "" if head.startswith("fwmark") else "protocol TCP"
    real = f"real_server 10.1.0.1 {given} {{\n}}"
    found, said = one(tmp_path, head, "lvs_sched rr", f"lvs_method {method}", protocol, real, before=before)
    assert (found.real_servers[0].port, said) == (port, problems)


@pytest.mark.parametrize(
    ("head", "line", "problem"),
    [("fwmark 5", "protocol TCP", "protocol-of-fwmark"), ("fwmark 5", "ha_suspend", "suspend-of-fwmark")],
)
def test_what_marks_do_not_have(tmp_path: Path, head: str, line: str, problem: str) -> None:
    found, problems = one(tmp_path, head, HOW, line, V4)
    assert (found.protocol, found.ha_suspend, problems) == (Protocol.NONE, False, {problem})


# schedulers and flags -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "mh", "dh", "fo", "ovf", "sed", "nq", "twos"]
)
def test_schedulers(tmp_path: Path, name: str) -> None:
    found, problems = one(tmp_path, "10.0.0.1 80", f"lvs_sched {name}\nlvs_method NAT\nprotocol TCP", V4)
    assert (found.scheduler, problems) == (name, set())


@pytest.mark.parametrize(
    ("scheduler", "flag", "kept"),
    [
        ("rr", "flag-1", "flag-1"),
        ("rr", "flag-2", "flag-2"),
        ("rr", "flag-3", "flag-3"),
        ("sh", "sh-fallback", "flag-1"),
        ("sh", "sh-port", "flag-2"),
        ("mh", "mh-fallback", "flag-1"),
        ("mh", "mh-port", "flag-2"),
        ("mh", "sh-port", ""),
        ("rr", "sh-port", ""),
        ("sh", "hashed", ""),
    ],
)
def test_flags(tmp_path: Path, scheduler: str, flag: str, kept: str) -> None:
    found, problems = one(tmp_path, "10.0.0.1 80", f"lvs_sched {scheduler}\nlvs_method NAT\nprotocol TCP", flag, V4)
    assert found.flags == ((kept,) if kept else ())
    assert problems == ({"flag-of-scheduler"} if not kept and flag != "hashed" else set())


def test_a_flag_may_stand_before_its_scheduler(tmp_path: Path) -> None:
    found, problems = one(tmp_path, "10.0.0.1 80", "sh-port\nlvs_sched sh\nlvs_method NAT\nprotocol TCP", V4)
    assert (found.flags, problems) == (("flag-2",), set())


@pytest.mark.parametrize(
    ("families", "name", "tracked"),
    [
        ((4, 6), "FWM 5", "FWM 5"),
        ((6, 4), "FWM 5", "FWM 5"),
        ((4, 6), "FWM 5 inet6", "FWM 5 inet6"),
        ((6,), "FWM 5", "FWM 5 inet6"),
    ],
)
def test_a_mark_of_both_families_can_be_tracked_by_its_name(
    families: tuple[int, ...], name: str, tracked: str, tmp_path: Path
) -> None:
    text = f'vrrp_instance a {{\ninterface eth0\nvirtual_router_id 1\ntrack_virtual_server {{\n"{name}"\n}}\n}}\n'
    for family in families:
        text += f"virtual_server fwmark 5 {{\n{HOW}{V4 if family == 4 else V6}\n}}\n"
    result = load_text(tmp_path, text)
    assert result.config is not None
    assert [track.name for track in result.config.vrrp.instances[0].tracks] == [tracked]
    assert {server.key.unique for server in result.config.checker.virtual_servers} >= {tracked}


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("t4.0 u4.1", "u4.0", {"u4.1": "u4.0"}),
        ("t4.0 u4.1", "u4.0 t4.1", {"t4.0": "t4.1", "u4.1": "u4.0"}),
        ("t4.0 u4.1", "t4.0 s4.1 u4.2", {"u4.1": "u4.2"}),
        ("t4.0 t4.1", "u4.0 t4.1", {"t4.0": "t4.1"}),
        ("t4.0", "t0.0", {"t4.0": "t0.0"}),
        ("t4.0 u4.1", "t4.0 u4.1", {}),
        ("t4.0", "u4.0", {}),
    ],
)
def test_virtual_servers_of_a_group_are_known_by_their_protocol(old: str, new: str, names: dict[str, str]) -> None:
    """Protocol, family and number of each."""

    def key(text: str) -> ServiceKey:
        protocol = next(each for each in Protocol if each.value[0] == text[0])
        return ServiceKey(protocol, group="g", family=int(text[1]), ordinal=int(text[3]))

    def servers(text: str) -> list[VirtualServer]:
        alone = ServiceKey(Protocol.TCP, ip_address("10.0.0.1"), 80, family=4)
        return [VirtualServer(key=each) for each in (alone, *map(key, text.split()))]

    assert moved(servers(old), servers(new)) == {key(before): key(after) for before, after in names.items()}

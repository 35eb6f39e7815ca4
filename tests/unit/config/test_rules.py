"""Lines of virtual_rules and static_rules: every option once right and once wrong, and the way back."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepalived_py.config.iproute_names import Names
from keepalived_py.config.model.links import Rule
from keepalived_py.config.rules import ACTIONS, IP_PROTOCOLS, NO_PREFERENCE, parse_rule_line, rule_words
from keepalived_py.config.schema import Bad

NOWHERE = Path("/nonexistent")
NAMES = Names((NOWHERE,), NOWHERE)
PLAIN = Rule(family=4, preference=5, table=100)
"""What `preference 5 table 100` gives."""
MAX = 2**32 - 1


def read(line: str, static: bool = False) -> tuple[Rule, list[tuple[str, int]]]:
    """The rule, and what was reported: id and index of the word."""
    reports: list[tuple[str, int]] = []
    rule = parse_rule_line(tuple(line.split()), NAMES, lambda bad: reports.append((bad.id, bad.index)), static)
    return rule, reports


def never(bad: Bad) -> None:
    raise bad


def refused(line: str, static: bool = False) -> tuple[str, int]:
    with pytest.raises(Bad) as caught:
        read(line, static)
    return caught.value.id, caught.value.index


SELECTORS: dict[str, tuple[str, dict[str, Any], str, str, int]] = {
    "inet": ("inet", {}, "inet from ::1", "wrong-family", 6),
    "inet6": ("inet6", {"family": 6}, "inet6 inet", "repeated-option", 5),
    "from": (
        "from 192.0.2.0/24",
        {"source": IPv4Address("192.0.2.0"), "source_prefixlen": 24},
        "from 192.0.2.0/33",
        "out-of-range",
        5,
    ),
    "to": (
        "to ::1",
        {"family": 6, "destination": IPv6Address("::1"), "destination_prefixlen": 128},
        "to nowhere",
        "not-an-address",
        5,
    ),
    "not": ("not", {"invert": True}, "not not", "repeated-option", 5),
    "tos": ("tos EF", {"tos": 0xB8}, "tos 256", "out-of-range", 5),
    "dsfield": ("dsfield 0x10", {"tos": 16}, "tos 1 dsfield 2", "repeated-option", 6),
    "fwmark": ("fwmark 0x10/0xff", {"fwmark": 16, "fwmask": 255}, "fwmark 1/", "not-a-number", 5),
    "realms": ("realms 1/2", {"realms": 1 << 16 | 2}, "realms x", "unknown-name", 5),
    "suppress_prefixlength": (
        "suppress_prefixlength 2147483647",
        {"suppress_prefixlength": 2**31 - 1},
        "suppress_prefixlength 2147483648",
        "out-of-range",
        5,
    ),
    "sup_pl": ("sup_pl 0", {"suppress_prefixlength": 0}, "sup_pl", "missing-value", 5),
    "suppress_ifgroup": (
        "suppress_ifgroup default",
        {"suppress_ifgroup": 0},
        "suppress_ifgroup office",
        "unknown-name",
        5,
    ),
    "sup_group": ("sup_group 7", {"suppress_ifgroup": 7}, "sup_group 1 suppress_ifgroup 1", "repeated-option", 6),
    "iif": ("iif eth0", {"iif": "eth0"}, "iif 0123456789abcdef", "interface-name-too-long", 5),
    "dev": ("dev eth0", {"iif": "eth0"}, "iif eth0 dev eth0", "repeated-option", 6),
    "oif": ("oif eth0", {"oif": "eth0"}, "oif", "missing-value", 5),
    "tunnel-id": (
        "tunnel-id 18446744073709551615",
        {"tunnel_id": 2**64 - 1},
        "tunnel-id 18446744073709551616",
        "out-of-range",
        5,
    ),
    "uidrange": ("uidrange 0-4294967295", {"uidrange": (0, MAX)}, "uidrange 5", "not-a-range", 5),
    "protocol": ("protocol 4 no_track", {"protocol": 4, "no_track": True}, "protocol static", "not-a-number", 5),
    "ipproto": ("ipproto vrrp", {"ipproto": 112}, "ipproto 256", "out-of-range", 5),
    "sport": ("sport 0-65535", {"sport": (0, 65535)}, "sport 2-1", "out-of-range", 5),
    "dport": ("dport 53", {"dport": (53, 53)}, "dport 1-65536", "out-of-range", 5),
    "no_track": ("no_track", {"no_track": True}, "no_track no_track", "repeated-option", 5),
}
"""Words put behind `preference 5 table 100`: legal ones and the fields they change; illegal ones, the id and the index
of the word at fault."""

ACTION_LINES: dict[str, tuple[str, Rule, str, str, int]] = {
    "table": ("preference 5 table main", replace(PLAIN, table=254), "table 0", "table-zero", 1),
    "lookup": ("preference 5 lookup 100", PLAIN, "lookup office", "unknown-name", 1),
    "preference": (
        "preference 4294967295 table 100",
        replace(PLAIN, preference=MAX),
        "preference -1",
        "out-of-range",
        1,
    ),
    "order": ("order 0x5 table 100", PLAIN, "order 5 preference 5", "repeated-option", 2),
    "priority": ("priority 05 table 100", PLAIN, "priority high", "not-a-number", 1),
    "l3mdev": ("preference 5 l3mdev", replace(PLAIN, table=0, l3mdev=True), "table 5 l3mdev", "l3mdev-and-table", 2),
    "type": ("preference 5 type table 100", PLAIN, "type unicast", "not-an-action", 1),
    "goto": ("goto 6 preference 5", replace(PLAIN, table=0, action=2, goto=6), "preference 5 goto 5", "bad-goto", 3),
    "nop": ("preference 5 type nop", replace(PLAIN, table=0, action=3), "nop nop", "repeated-option", 1),
    "blackhole": ("preference 5 blackhole", replace(PLAIN, table=0, action=6), "table 5 blackhole", "two-actions", 2),
    "unreachable": ("unreachable order 5", replace(PLAIN, table=0, action=7), "nop unreachable", "two-actions", 1),
    "prohibit": ("preference 5 prohibit", replace(PLAIN, table=0, action=8), "prohibit realms 5", "needs-table", 1),
}
"""Whole lines: a legal one and its rule; an illegal one, the id and the index of the word at fault."""


@pytest.mark.parametrize("option", SELECTORS)
@pytest.mark.parametrize("static", [False, True])
def test_each_selector(option: str, static: bool) -> None:
    legal, fields, illegal, id, index = SELECTORS[option]
    assert read(f"preference 5 table 100 {legal}", static) == (replace(PLAIN, **fields), [])
    assert refused(f"preference 5 table 100 {illegal}", static) == (id, index)


@pytest.mark.parametrize("option", ACTION_LINES)
@pytest.mark.parametrize("static", [False, True])
def test_each_action(option: str, static: bool) -> None:
    legal, rule, illegal, id, index = ACTION_LINES[option]
    assert read(legal, static) == (rule, [])
    assert refused(illegal, static) == (id, index)


def test_each_row_of_the_reference_is_in_a_table() -> None:
    words = """inet inet6 from to table lookup not preference order priority tos dsfield fwmark realms
        suppress_prefixlength sup_pl suppress_ifgroup sup_group iif dev oif tunnel-id uidrange l3mdev protocol ipproto
        sport dport no_track type goto nop blackhole unreachable prohibit"""
    assert {*SELECTORS, *ACTION_LINES} == set(words.split())


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("from any to all table 100 order 5", PLAIN),
        ("from 0.0.0.0/0 table 100 order 5", PLAIN),
        ("to ::/0 table 100 order 5", replace(PLAIN, family=6)),
        ("from default inet6 table 100 order 5", replace(PLAIN, family=6)),
        ("table 100", replace(PLAIN, preference=NO_PREFERENCE)),
        ("order 5 table 100 fwmark 010", replace(PLAIN, fwmark=8)),
        ("order 5 table 0xffffffff", replace(PLAIN, table=MAX)),
        ("order 5 l3mdev sup_pl 0", replace(PLAIN, table=0, l3mdev=True, suppress_prefixlength=0)),
    ],
)
def test_lines(line: str, rule: Rule) -> None:
    assert read(line) == (rule, [])


@pytest.mark.parametrize(
    ("line", "id", "index"),
    [
        ("from", "missing-value", 1),
        ("from any from 10.0.0.1", "repeated-option", 2),
        ("from 10.0.0.1 to ::1 table 5", "wrong-family", 3),
        ("inet6 from 10.0.0.1 table 5", "wrong-family", 2),
        ("from ::1 table 5 realms 1", "wrong-family", 4),
        ("table 5 lookup 6", "repeated-option", 2),
        ("l3mdev lookup 6", "l3mdev-and-table", 1),
        ("l3mdev goto 6", "two-actions", 1),
        ("type", "missing-value", 1),
        ("type type nop", "not-an-action", 1),
        ("goto", "missing-value", 1),
        ("goto 6", "bad-goto", 0),
        ("goto 6 order 7", "bad-goto", 1),
        ("type goto 6 order 6", "bad-goto", 2),
        ("nop sup_pl 0", "needs-table", 1),
        ("goto 6 order 5 suppress_ifgroup 1", "needs-table", 4),
        ("realms 5", "needs-table", 0),
        ("fwmark 4294967296", "out-of-range", 1),
        ("fwmark 1/4294967296", "out-of-range", 1),
        ("fwmark 1 fwmark 2", "repeated-option", 2),
        ("fwmark", "missing-value", 1),
        ("uidrange 5-4", "out-of-range", 1),
        ("uidrange 5-4294967296", "out-of-range", 1),
        ("uidrange 5-", "not-a-number", 1),
        ("sport -", "not-a-number", 1),
        ("dport 65536", "out-of-range", 1),
        ("ipproto smtp", "unknown-name", 1),
        ("ip_proto tcp", "unknown-option", 0),
        ("table 5 track_group G", "unknown-option", 2),
    ],
)
def test_lines_that_are_refused(line: str, id: str, index: int) -> None:
    assert refused(line) == (id, index)


def test_unknown_options_get_a_proposal() -> None:
    with pytest.raises(Bad) as caught:
        read("tabel 5")
    assert "'table'" in caught.value.hint


def test_a_tracked_rule_has_our_protocol() -> None:
    assert read("order 5 table 100 protocol 4") == (PLAIN, [("protocol-forced", 5)])
    assert read("order 5 table 100 protocol 18") == (PLAIN, [])


def test_without_action_the_main_table_is_looked_up() -> None:
    assert read("order 5") == (replace(PLAIN, table=254), [("missing-action", 2)])


def test_track_groups_of_static_rules() -> None:
    rule = replace(PLAIN, iif="eth0")
    assert read("order 5 table 100 track_group G dev eth0", True) == (replace(rule, track_group="G"), [])
    assert read("order 5 table 100 track_group G", True) == (PLAIN, [("track-group-needs-dev", 4)])
    assert refused("order 5 table 100 track_group", True) == ("missing-value", 5)


@pytest.mark.parametrize("name", IP_PROTOCOLS)
def test_ip_protocols(name: str) -> None:
    assert read(f"order 5 table 100 ipproto {name}") == (replace(PLAIN, ipproto=IP_PROTOCOLS[name]), [])


# The way back.

addresses = {4: st.ip_addresses(v=4), 6: st.ip_addresses(v=6)}
interfaces = st.sampled_from(["eth0", "not", "table", "inet6"])
uint32 = st.sampled_from([0, 1, 1400, MAX])
octet = st.sampled_from([0, 1, 18, 254, 255])


def maybe(strategy: st.SearchStrategy[Any], nothing: Any = None) -> st.SearchStrategy[Any]:
    return st.just(nothing) | strategy


def ranges(high: int) -> st.SearchStrategy[tuple[int, int]]:
    ends = st.sampled_from([0, 1, high - 1, high])
    return st.tuples(ends, ends).map(lambda pair: (min(pair), max(pair)))


@st.composite
def selectors(draw: st.DrawFn, family: int) -> tuple[Any, int]:
    if draw(st.booleans()):
        return None, 0
    return draw(addresses[family]), draw(st.sampled_from([1, 8, 32] if family == 4 else [1, 64, 128]))


@st.composite
def actions(draw: st.DrawFn, family: int) -> dict[str, Any]:
    """The fields that depend on the action."""
    kind = draw(st.sampled_from(["table", "l3mdev", "goto", *ACTIONS]))
    preference = draw(st.sampled_from([NO_PREFERENCE, 0, 1, 16384, MAX]))
    if kind == "goto":
        preference = draw(st.sampled_from([0, 1, MAX - 1]))
        return {"action": 2, "goto": draw(st.integers(preference + 1, MAX)), "preference": preference}
    if kind in ACTIONS:
        return {"action": ACTIONS[kind], "preference": preference}
    return {
        "preference": preference,
        "table": draw(st.sampled_from([1, 254, MAX])) if kind == "table" else 0,
        "l3mdev": kind == "l3mdev",
        "realms": draw(maybe(uint32)) if family == 4 else None,
        "suppress_prefixlength": draw(maybe(st.sampled_from([0, 32, 2**31 - 1]))),
        "suppress_ifgroup": draw(maybe(uint32)),
    }


@st.composite
def rules(draw: st.DrawFn, static: bool) -> Rule:
    family = draw(st.sampled_from([4, 6]))
    source, source_prefixlen = draw(selectors(family))
    destination, destination_prefixlen = draw(selectors(family))
    fwmark = draw(maybe(uint32))
    iif = draw(maybe(interfaces, ""))
    no_track = draw(st.booleans())
    return Rule(
        family=family,
        invert=draw(st.booleans()),
        source=source,
        source_prefixlen=source_prefixlen,
        destination=destination,
        destination_prefixlen=destination_prefixlen,
        tos=draw(octet),
        fwmark=fwmark,
        fwmask=None if fwmark is None else draw(maybe(uint32)),
        iif=iif,
        oif=draw(maybe(interfaces, "")),
        tunnel_id=draw(maybe(st.sampled_from([0, 1, 2**64 - 1]))),
        uidrange=draw(maybe(ranges(MAX))),
        protocol=draw(octet) if no_track else 18,
        ipproto=draw(maybe(octet)),
        sport=draw(maybe(ranges(65535))),
        dport=draw(maybe(ranges(65535))),
        no_track=no_track,
        track_group=draw(maybe(st.sampled_from(["G", "table"]), "")) if static and iif else "",
        **draw(actions(family)),
    )


@pytest.mark.parametrize("static", [False, True])
@given(data=st.data())
def test_words_of_a_rule_give_it_again(static: bool, data: st.DataObject) -> None:
    rule = data.draw(rules(static))
    assert parse_rule_line(rule_words(rule, static), NAMES, never, static) == rule


WORDS = [*SELECTORS, *ACTION_LINES, "track_group", "10.0.0.0/8", "::1", "0x10", "5-6", "1/2", "any", ""]


@given(words=st.lists(st.sampled_from(WORDS) | st.text(max_size=5), max_size=12))
def test_any_words_give_a_rule_or_a_place_in_the_line(words: list[str]) -> None:
    assert 0 <= place_of_mistake(words) <= len(words)


def place_of_mistake(words: list[str]) -> int:
    try:
        parse_rule_line(tuple(words), NAMES, lambda bad: None, static=True)
    except Bad as bad:
        return bad.index
    return 0

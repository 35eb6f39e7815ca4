"""nftables_ipvs, ha_suspend and the three-way comparison, as far as they are pure."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepalived_py.checks.presence import is_suspended
from keepalived_py.checks.virtual_server import Destination, VirtualServerState
from keepalived_py.config.model import Forwarding, GroupRange, RealServer, VirtualServer
from keepalived_py.plan.disjoint import disjoint
from keepalived_py.plan.ipvs import (
    AddDestination,
    AddService,
    DeleteDestination,
    EditDestination,
    EditService,
    Entry,
    Marks,
    Service,
    ServiceId,
    Table,
    apply,
    compare,
    desired_entries,
    desired_table,
    reconcile,
    reconcile_rows,
    rows_that_changed,
    service_ids,
)
from keepalived_py.plan.marks import assign, ruleset
from keepalived_py.values import Protocol, RealKey, ServiceKey, ip_address

TCP, UDP = Protocol.TCP, Protocol.UDP


def entry(first: str, last: str = "", port: int = 80) -> GroupRange:
    return GroupRange(first=ip_address(first), last=ip_address(last or first), port=port)


RANGE, ONE, SIX, MARK = entry("10.0.0.1", "10.0.0.3"), entry("10.0.0.9", port=0), entry("fd00::1"), GroupRange(fwmark=5)


def group(name: str, protocol: Protocol, *entries: GroupRange, method: str = "NAT", port: int = 8080) -> VirtualServer:
    real = RealServer(address=ip_address("10.1.0.1"), port=port, forwarding=Forwarding(method=method))
    key = ServiceKey(protocol=protocol, group=name, family=4)
    return VirtualServer(key=key, group_entries=entries, real_servers=(real,))


PLAIN = VirtualServer(key=ServiceKey(protocol=TCP, address=ip_address("10.0.0.1"), port=80, family=4))


# marks ------------------------------------------------------------------------------------------------------------


def test_marks_go_upward_and_stay() -> None:
    one, two, three = group("a", TCP, RANGE), group("a", UDP, RANGE), group("b", TCP, ONE)
    only_marks = group("c", TCP, MARK)
    marks = assign((one, only_marks, two, PLAIN), 1000, {})
    assert marks == {("a", TCP): 1000, ("a", UDP): 1001}
    assert assign((three, two), 1000, marks) == {("b", TCP): 1000, ("a", UDP): 1001}
    assert assign((one, two), 2000, marks) == {("a", TCP): 2000, ("a", UDP): 2001}
    assert assign((), 1000, marks) == {}


def test_a_mark_stands_for_all_addresses_of_a_family() -> None:
    config = group("a", TCP, RANGE, ONE, SIX, MARK)
    ids = service_ids(config, {("a", TCP): 1000})
    assert ids == (ServiceId(4, fwmark=1000), ServiceId(6, fwmark=1000), ServiceId(4, fwmark=5))
    assert len(service_ids(config)) == len(service_ids(config, {("a", UDP): 1000})) == 6


def test_a_network_is_one_service_with_a_mark_and_none_without() -> None:
    """Where nft has failed nobody has memory for 2^64 services."""
    wide = group("a", TCP, entry("fd00::", "fd00::ffff:ffff:ffff:ffff"))
    assert service_ids(wide, {("a", TCP): 1000}) == (ServiceId(6, fwmark=1000),)
    assert service_ids(wide) == ()


@pytest.mark.parametrize(("method", "port"), [("NAT", 8080), ("DR", 0)])
def test_ports_behind_a_mark(method: str, port: int) -> None:
    state = VirtualServerState(group("a", TCP, RANGE, method=method, port=80 if method == "DR" else 8080))
    (found,) = desired_table([state], {("a", TCP): 1000}).values()
    assert [key.port for key in found.destinations] == [port]


def test_the_rule_set() -> None:
    servers = (group("a", TCP, RANGE, ONE, SIX), group("b", UDP, ONE, MARK), PLAIN)
    text = ruleset("mine", -5, servers, assign(servers, 1000, {}))
    for name in ("ip mine", "ip6 mine"):
        assert text.index(f"add table {name}") < text.index(f"delete table {name}") < text.index(f"\ntable {name} {{")
    assert "elements = { 10.0.0.1-10.0.0.3 . 80 : 1000,\n  10.0.0.9 . 0-65535 : 1000 }" in text
    assert "map tcp_map { type ipv6_addr . inet_service : mark;\n  elements = { fd00::1 . 80 : 1000 }" in text
    assert "map udp_map { type ipv4_addr . inet_service : mark; flags interval;" in text
    assert "type filter hook input priority -5; policy accept;" in text
    assert "meta mark set ip daddr . udp dport map @udp_map" in text
    assert "meta mark set ip6 daddr . tcp dport map @tcp_map" in text
    assert "fwmark" not in text


RANGES = st.tuples(st.integers(0, 9), st.integers(0, 5)).map(lambda each: (each[0], each[0] + each[1]))


@given(st.lists(st.tuples(RANGES, st.sampled_from([0, 0, 1, 80, 81, 65535]), st.integers(1, 3)), max_size=8))
def test_parts_do_not_overlap_and_mean_what_the_entries_mean(entries: list[tuple[tuple[int, int], int, int]]) -> None:
    parts = list(disjoint(entries))
    in_order = [each for each in entries if each[1]] + [each for each in entries if not each[1]]
    for address in range(16):
        for port in (0, 1, 2, 79, 80, 81, 82, 65534, 65535):
            found = [mark for (a, b), (c, d), mark in parts if a <= address <= b and c <= port <= d]
            meant = [mark for (a, b), own, mark in in_order if a <= address <= b and own in (0, port)]
            assert found == meant[:1]


def test_ranges_of_groups_that_overlap() -> None:
    """nft would refuse all tables for it, and every address would become a service."""
    servers = (group("a", TCP, RANGE, entry("10.0.0.2")), group("b", TCP, entry("10.0.0.3", "10.0.0.5")))
    text = ruleset("mine", -5, servers, assign(servers, 1000, {}))
    assert "elements = { 10.0.0.1-10.0.0.3 . 80 : 1000,\n  10.0.0.4-10.0.0.5 . 80 : 1001 }" in text


def test_marks_of_others_are_left_to_them() -> None:
    """A service of a mark that stands in the file, alone or in a group, is another one; there are 32 bits."""
    one, two = group("a", TCP, RANGE, MARK), group("b", TCP, ONE)
    five, six = (VirtualServer(key=ServiceKey(fwmark=mark, family=4), real_servers=one.real_servers) for mark in (5, 6))
    assert assign((one, two, six), 4, {}) == {("a", TCP): 4, ("b", TCP): 7}
    assert assign((one, two, five), 4, {("a", TCP): 5, ("b", TCP): 8}) == {("a", TCP): 4, ("b", TCP): 8}
    assert assign((one, two), 4, {("a", TCP): 8, ("b", TCP): 8}) == {("a", TCP): 8, ("b", TCP): 4}
    assert assign((one, two), 2**32 - 1, {}) == {("a", TCP): 2**32 - 1}


def test_without_marks_the_tables_only_go() -> None:
    assert ruleset("mine", -1, (PLAIN,), {}).split("\n") == [
        "add table ip mine",
        "delete table ip mine",
        "add table ip6 mine",
        "delete table ip6 mine",
        "",
    ]


@pytest.mark.parametrize("marks", [{}, {("a", TCP): 1000}])
@pytest.mark.parametrize("method", ["NAT", "DR"])
@pytest.mark.parametrize("weight", [1, 7])
@pytest.mark.parametrize("scheduler", ["wlc", "rr"])
def test_what_changed_in_some_rows_is_what_changed(marks: Marks, method: str, weight: int, scheduler: str) -> None:
    """A destination may have another port than its real server, and then moves when it is reached in another way."""
    old = group("a", TCP, RANGE, ONE)
    (real,) = old.real_servers
    changed = replace(real, weight=weight, forwarding=Forwarding(method=method))
    new = replace(old, scheduler=scheduler, real_servers=(changed,))
    state = VirtualServerState(old)
    before = desired_table([state], marks)
    keys = rows_that_changed(old, new)
    state.reconfigure(new, {}, {})
    assert (keys is None) is (method == "DR" or scheduler == "rr")
    if keys is not None:
        ops = list(reconcile_rows(state, keys, before, marks))
        assert ops == list(reconcile(desired_table([state], marks), before, ()))
        assert len(ops) == (weight == 7) * len(before)
    first, *others = before
    refused = {id: before[id] for id in others}
    assert next(reconcile_rows(state, {real.key}, refused, marks)) == AddService(first, Service(scheduler))


# ha_suspend -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "present", "suspended"),
    [
        (PLAIN, (), False),
        (replace(PLAIN, ha_suspend=True), (), True),
        (replace(PLAIN, ha_suspend=True), ("10.0.0.2",), True),
        (replace(PLAIN, ha_suspend=True), ("10.0.0.2", "10.0.0.1"), False),
        (replace(group("a", TCP, RANGE, SIX), ha_suspend=True), ("10.0.0.4", "fd00::2"), True),
        (replace(group("a", TCP, RANGE, SIX), ha_suspend=True), ("10.0.0.3",), False),
        (replace(group("a", TCP, RANGE, SIX), ha_suspend=True), ("fd00::1",), False),
        (replace(group("a", TCP, RANGE, SIX), ha_suspend=True), ("::10.0.0.2",), True),
        (replace(group("a", TCP, MARK), ha_suspend=True), (), False),
    ],
)
def test_who_is_suspended(config: VirtualServer, present: tuple[str, ...], suspended: bool) -> None:
    assert is_suspended(config, frozenset(map(ip_address, present))) is suspended


# comparison -------------------------------------------------------------------------------------------------------

ID = ServiceId(4, TCP, ip_address("10.0.0.1"), 80)
KEYS = [RealKey(ip_address(f"10.1.0.{number}"), 80) for number in range(1, 4)]


def rows(**weights: int) -> Table:
    """Keys a, b and c."""
    destinations = {KEYS["abc".index(name)]: Destination(weight, Forwarding()) for name, weight in weights.items()}
    return {ID: Entry(Service("rr"), destinations)}


def test_what_others_did_is_drift() -> None:
    put = rows(a=1, b=2)
    ops, drift = compare(put, put, rows(a=1, b=9, c=1))
    assert ops == drift == [EditDestination(ID, KEYS[1], put[ID].destinations[KEYS[1]]), DeleteDestination(ID, KEYS[2])]
    ops, drift = compare(put, put, {})
    assert ops == drift
    assert [type(op) for op in ops] == [AddService, AddDestination, AddDestination]
    other = {ID: Entry(Service("wrr"), dict(put[ID].destinations))}
    assert compare(put, put, other)[1] == [EditService(ID, Service("rr"))]
    assert compare(put, put, put) == ([], [])


def test_what_was_refused_is_due_and_no_drift() -> None:
    desired, put = rows(a=1, b=2), rows(a=1)
    ops, drift = compare(desired, put, rows(a=1))
    assert (len(ops), drift) == (1, [])
    ops, drift = compare(desired, put, rows(a=5))
    assert len(ops) == 2
    assert drift == [EditDestination(ID, KEYS[0], desired[ID].destinations[KEYS[0]])]


tables = st.dictionaries(
    st.sampled_from([ID, replace(ID, port=81), ServiceId(4, fwmark=1)]),
    st.builds(
        Entry,
        st.sampled_from([Service("rr"), Service("wrr"), Service("rr", 1, 60)]),
        st.dictionaries(
            st.sampled_from(KEYS),
            st.builds(
                Destination,
                st.sampled_from([0, 1, 2**31 - 1]),
                st.sampled_from([Forwarding(), Forwarding(method="DR")]),
            ),
        ),
    ),
)


def copied(table: Table) -> Table:
    return {id: Entry(entry.service, dict(entry.destinations)) for id, entry in table.items()}


@given(tables, tables, tables)
def test_a_comparison_reaches_the_intent_and_then_rests(desired: Table, put: Table, actual: Table) -> None:
    put = {id: found for id, found in put.items() if id in desired}
    ops, drift = compare(desired, put, {id: found for id, found in actual.items() if id in desired})
    after = copied(actual)
    for op in ops:
        apply(op, after)
    assert {id: found for id, found in after.items() if id in desired} == desired
    assert {id: found for id, found in after.items() if id not in desired} == {
        id: found for id, found in actual.items() if id not in desired
    }
    assert compare(desired, desired, {id: after[id] for id in desired}) == ([], [])
    assert set(drift) <= set(ops)
    if put == desired:
        assert drift == ops


def test_entries_are_those_of_the_table() -> None:
    state = VirtualServerState(group("a", TCP, RANGE, ONE))
    whole = desired_table([state])
    assert desired_entries((state, id) for id in list(whole)[:2]) == dict(list(whole.items())[:2])
    assert list(reconcile(whole, whole, ())) == []

"""Retries, quorum, virtual servers (checker-behaviour.md 2 and 3), the desired table and the way there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepalived_py.checks.quorum import has_quorum
from keepalived_py.checks.state import CheckerState
from keepalived_py.checks.virtual_server import (
    Destination,
    QuorumChanged,
    RealServerChanged,
    VirtualServerState,
    WeightChanged,
)
from keepalived_py.config.model import CheckTiming, Forwarding, RealServer, SorryServer, VirtualServer
from keepalived_py.plan.ipvs import (
    AddDestination,
    AddService,
    DeleteDestination,
    DeleteService,
    EditDestination,
    EditService,
    Entry,
    Service,
    ServiceId,
    Table,
    apply,
    desired_table,
    reconcile,
    service_of,
)
from keepalived_py.values import Protocol, RealKey, ServiceKey, ip_address


def run(timing: CheckTiming, results: str) -> str:
    """Opinions after each result: U or D; lower case where it did not change."""
    state = CheckerState(timing)
    out = []
    for result in results:
        changed = state.record(result == "+")
        letter = "U" if state.up else "D"
        out.append(letter if changed else letter.lower())
    return "".join(out)


@pytest.mark.parametrize(
    ("timing", "results", "opinions"),
    [
        (CheckTiming(retry=1), "+--", "uuD"),
        (CheckTiming(retry=1), "-", "D"),  # the first run is believed at once
        (CheckTiming(retry=2), "+-+---", "uuuuuD"),
        (CheckTiming(retry=0), "+-+-", "uDUD"),
        (CheckTiming(retry=1, alpha=True), "+--+", "UuDU"),
        (CheckTiming(retry=1, alpha=True), "--+", "ddU"),
        (CheckTiming(retry=0, rise=2), "-+-++", "DdddU"),
    ],
)
def test_retries(timing: CheckTiming, results: str, opinions: str) -> None:
    assert run(timing, results) == opinions


def test_the_pause_before_a_retry_is_shorter() -> None:
    state = CheckerState(CheckTiming(delay_loop=60, delay_before_retry=3, retry=1))
    state.record(True)
    assert state.next_delay == 60
    state.record(False)
    assert state.next_delay == 3
    state.record(False)
    assert state.next_delay == 60


@pytest.mark.parametrize(
    ("alpha", "results", "pauses"),
    [
        # retries from the first run on, and in each run while down
        (False, "---" + "---" + "-+" + "-+", "1 1 D10 1 1 10 1 U10 1 10"),
        (True, "---" + "-+", "1 1 10 1 U10"),
    ],
)
def test_smtp_makes_its_retries_in_every_run(alpha: bool, results: str, pauses: str) -> None:
    """SMTP_CHECK (checker-behaviour.md 4); seen of keepalived 2.2.7."""
    state, out = CheckerState(CheckTiming(delay_loop=10, retry=2, alpha=alpha), patient=True), []
    for result in results:
        changed = state.record(result == "+")
        out.append(f"{('U' if state.up else 'D') if changed else ''}{state.next_delay:g}")
    assert " ".join(out) == pauses


def test_the_first_run_of_smtp_is_over_after_its_retries() -> None:
    state = CheckerState(CheckTiming(retry=1, alpha=True), patient=True)
    runs = []
    for _ in range(3):
        state.record(False)
        runs.append(state.has_run)
    assert runs == [False, True, True]


def test_an_equal_checker_carries_on() -> None:
    old = CheckerState(CheckTiming(retry=5))
    for result in (True, False, False, False):
        old.record(result)
    new = CheckerState(CheckTiming(retry=2))
    new.adopt(old)
    assert (new.up, new.has_run, new.failures) == (True, True, 2)


@pytest.mark.parametrize(("before", "after", "up"), [(True, False, True), (False, True, True), (True, True, False)])
def test_a_checker_that_has_not_run_has_no_opinion(before: bool, after: bool, up: bool) -> None:
    """Without alpha it begins as up; what is up stays up."""
    old, new = (CheckerState(CheckTiming(alpha=alpha)) for alpha in (before, after))
    new.adopt(old)
    assert (new.up, new.has_run) == (up, False)


def test_a_checker_that_began_as_down_with_its_server_stays_so() -> None:
    old, new = CheckerState(CheckTiming()), CheckerState(CheckTiming())
    old.up = False
    new.adopt(old)
    assert not new.up


@pytest.mark.parametrize(
    ("weight", "had", "has"),
    [(5, False, False), (6, False, True), (4, True, True), (3, True, False), (0, True, False)],
)
def test_quorum_has_a_memory(weight: int, had: bool, has: bool) -> None:
    assert has_quorum(weight, quorum=5, hysteresis=1, had_quorum=had) is has


KEYS = [RealKey(ip_address(f"10.1.0.{n}"), 80) for n in range(1, 4)]
SORRY = SorryServer(address=ip_address("10.1.0.9"), port=80)


def server(*weights: int, **changes: Any) -> VirtualServer:
    reals = tuple(
        RealServer(address=key.address, port=80, weight=weight, inhibit_on_failure=changes.get("inhibit", False))
        for key, weight in zip(KEYS, weights, strict=False)
    )
    changes.pop("inhibit", None)
    key = ServiceKey(protocol=Protocol.TCP, address=ip_address("10.0.0.1"), port=80, family=4)
    return VirtualServer(**{"key": key, "scheduler": "rr", "real_servers": reals, **changes})


def weights(state: VirtualServerState) -> dict[str, int]:
    return {str(key.address): row.weight for key, row in state.destinations().items()}


def started(config: VirtualServer) -> VirtualServerState:
    state = VirtualServerState(config)
    state.start()
    return state


def test_a_server_that_fails_leaves_and_returns() -> None:
    state = started(server(3, 2))
    assert state.checker_changed(KEYS[0], "a", False, "refused") == [RealServerChanged(KEYS[0], False, "refused")]
    assert weights(state) == {"10.1.0.2": 2}
    assert state.checker_changed(KEYS[0], "b", False, "also") == []
    assert state.checker_changed(KEYS[0], "a", True, "well") == []
    assert state.checker_changed(KEYS[0], "b", True, "well") == [RealServerChanged(KEYS[0], True, "well")]
    assert weights(state) == {"10.1.0.1": 3, "10.1.0.2": 2}


def test_inhibit_keeps_the_row_with_weight_0() -> None:
    state = started(server(3, 2, inhibit=True))
    state.checker_changed(KEYS[0], "a", False, "x")
    assert weights(state) == {"10.1.0.1": 0, "10.1.0.2": 2}


def test_the_sorry_server_takes_over_while_the_quorum_is_lost() -> None:
    state = started(server(1, 1, sorry_server=SORRY, quorum=2))
    assert weights(state) == {"10.1.0.1": 1, "10.1.0.2": 1}
    effects = state.checker_changed(KEYS[0], "a", False, "x")
    assert effects == [RealServerChanged(KEYS[0], False, "x"), QuorumChanged(False, 1)]
    assert weights(state) == {"10.1.0.9": 1}
    assert state.checker_changed(KEYS[0], "a", True, "y")[1] == QuorumChanged(True, 2)
    assert weights(state) == {"10.1.0.1": 1, "10.1.0.2": 1}


def test_without_a_sorry_server_the_rest_stays() -> None:
    state = started(server(1, 1, quorum=2))
    state.checker_changed(KEYS[0], "a", False, "x")
    assert not state.had_quorum
    assert weights(state) == {"10.1.0.2": 1}


def test_an_inhibited_sorry_server_waits_with_weight_0() -> None:
    config = server(1, inhibit=True, sorry_server=replace(SORRY, inhibit=True))
    state = started(config)
    assert weights(state) == {"10.1.0.1": 1, "10.1.0.9": 0}
    state.checker_changed(KEYS[0], "a", False, "x")
    assert weights(state) == {"10.1.0.1": 0, "10.1.0.9": 1}


def test_a_sorry_server_that_is_a_real_server_stands_once() -> None:
    twin = SorryServer(address=KEYS[0].address, port=80)
    state = started(server(5, 5, sorry_server=twin, quorum=8))
    state.checker_changed(KEYS[1], "a", False, "x")
    assert weights(state) == {"10.1.0.1": 1}


def test_the_start_tells_what_is_up_and_a_sorry_server_that_takes_over() -> None:
    assert VirtualServerState(server(1)).start() == [QuorumChanged(True, 1, starting=True)]
    down = VirtualServerState(server(1))
    down.reals[KEYS[0]].failed.add("alpha")
    assert down.start() == []
    down = VirtualServerState(server(1, sorry_server=SORRY))
    down.reals[KEYS[0]].failed.add("alpha")
    assert down.start() == [QuorumChanged(False, 0, starting=True)]


def test_points_move_the_weight_within_its_limits() -> None:
    state = started(server(10, quorum=5))
    assert state.weight_changed(KEYS[0], "m", -7) == [WeightChanged(KEYS[0], 10, 3, True), QuorumChanged(False, 3)]
    assert state.weight_changed(KEYS[0], "m", -20) == [WeightChanged(KEYS[0], 3, 0, True)]
    assert state.weight_changed(KEYS[0], "m", -30) == []
    assert weights(state) == {"10.1.0.1": 0}
    state.weight_changed(KEYS[0], "m", 2**31)
    assert weights(state) == {"10.1.0.1": 2**31 - 1}


def test_a_reload_keeps_what_is_known() -> None:
    state = started(server(1, 1))
    state.checker_changed(KEYS[1], "a", False, "x")
    assert state.reconfigure(server(4, 2, 1), {KEYS[1]: {"a"}}, {}) == [
        WeightChanged(KEYS[0], 1, 4, True),
        WeightChanged(KEYS[1], 1, 2, False),
    ]
    assert weights(state) == {"10.1.0.1": 4, "10.1.0.3": 1}
    told = RealServerChanged(KEYS[1], True, "checkers changed by the reload")
    assert state.reconfigure(server(4, 2, 1), {}, {}) == [told]
    assert state.reconfigure(server(4, 2, 1), {}, {}) == []
    assert state.reconfigure(server(4), {}, {}) == []
    assert state.checker_changed(KEYS[2], "a", False, "late news") == []
    assert state.weight_changed(KEYS[2], "a", 1) == []


def test_a_reload_counts_once_and_tells_nothing_of_a_new_server_that_starts_down() -> None:
    state = started(server(1, 1, quorum=2))
    assert state.reconfigure(server(1, 1, 9, quorum=2), {KEYS[2]: {"alpha"}}, {}) == []
    state = started(server(1, quorum=1))
    assert state.reconfigure(server(1, 9, quorum=5), {KEYS[1]: {"alpha"}}, {}) == [QuorumChanged(False, 1)]


def test_points_of_a_checker_that_is_gone_do_not_stay() -> None:
    state = started(server(10))
    state.weight_changed(KEYS[0], "old", -5)
    state.reconfigure(server(20), {}, {KEYS[0]: {"new": -15}})
    assert weights(state) == {"10.1.0.1": 5}


ID = ServiceId(4, Protocol.TCP, ip_address("10.0.0.1"), 80)
NAT = Forwarding()


def test_the_shortest_way() -> None:
    desired = desired_table([started(server(3, 2))])
    assert list(reconcile(desired, {}, ())) == [
        AddService(ID, Service("rr")),
        AddDestination(ID, KEYS[0], Destination(3, NAT)),
        AddDestination(ID, KEYS[1], Destination(2, NAT)),
    ]
    actual = desired_table([started(server(3, 1, scheduler="wrr"))])
    assert list(reconcile(desired, actual, ())) == [
        EditService(ID, Service("rr")),
        EditDestination(ID, KEYS[1], Destination(2, NAT)),
    ]
    smaller = desired_table([started(server(3))])
    assert list(reconcile(smaller, desired, ())) == [DeleteDestination(ID, KEYS[1])]
    assert list(reconcile({}, desired, (ID,))) == [DeleteService(ID)]
    assert list(reconcile({}, desired, ())) == []  # not ours


def test_a_destination_on_this_host_is_local_and_no_difference() -> None:
    desired = desired_table([started(server(3))])
    actual = {ID: Entry(Service("rr"), {KEYS[0]: Destination(3, Forwarding(method="LOCAL"))})}
    assert list(reconcile(desired, actual, ())) == []
    actual[ID].destinations[KEYS[0]] = Destination(2, Forwarding(method="LOCAL"))
    assert list(reconcile(desired, actual, ())) == [EditDestination(ID, KEYS[0], Destination(3, NAT))]


def test_settings_of_a_service() -> None:
    config = server(1, flags=("flag-1", "flag-2"), persistence_timeout=60, persistence_granularity=0xFFFFFF00)
    assert service_of(config, 4) == Service("rr", 0x1 | 0x8 | 0x10, 60, 0xFFFFFF00)


services = st.builds(Service, scheduler=st.sampled_from(["rr", "wlc"]), timeout=st.sampled_from([0, 60]))
destinations = st.builds(Destination, weight=st.integers(0, 3), forwarding=st.just(NAT))
tables: st.SearchStrategy[Table] = st.dictionaries(
    st.builds(ServiceId, family=st.just(4), fwmark=st.integers(1, 4)),
    st.builds(Entry, service=services, destinations=st.dictionaries(st.sampled_from(KEYS), destinations)),
)


class FakeIpvs:
    """A kernel that complains about doubled adds and missing rows."""

    def __init__(self, table: Table) -> None:
        self.table = {id: Entry(entry.service, dict(entry.destinations)) for id, entry in table.items()}

    def apply(self, op: Any) -> None:
        rows = self.table[op.id].destinations if op.id in self.table else {}
        match op:
            case AddService():
                assert op.id not in self.table
            case AddDestination():
                assert op.id in self.table
                assert op.key not in rows
            case EditDestination() | DeleteDestination():
                assert op.key in rows
            case _:
                assert op.id in self.table
        apply(op, self.table)


@given(tables, tables)
def test_reconcile_reaches_the_desired_table_and_then_rests(desired: Table, actual: Table) -> None:
    kernel = FakeIpvs(actual)
    for op in list(reconcile(desired, kernel.table, frozenset(actual))):
        kernel.apply(op)
    assert kernel.table == desired
    assert list(reconcile(desired, kernel.table, frozenset(actual))) == []


@given(tables, tables)
def test_reconcile_never_touches_what_is_not_ours(desired: Table, actual: Table) -> None:
    kernel = FakeIpvs(actual)
    for op in list(reconcile(desired, kernel.table, ())):
        kernel.apply(op)
    assert {id: entry for id, entry in kernel.table.items() if id not in desired} == {
        id: entry for id, entry in actual.items() if id not in desired
    }


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from("ab"), st.booleans()), max_size=60))
def test_the_table_follows_from_what_is_known_whatever_came_before(results: list[tuple[RealKey, str, bool]]) -> None:
    config = server(3, 2, 1, quorum=3, hysteresis=1, sorry_server=SORRY)
    state = started(config)
    for key, checker, up in results:
        state.checker_changed(key, checker, up, "x")
        alive = [real for real in state.reals.values() if real.alive]
        live = sum(real.weight for real in alive)
        assert live >= 2 or not state.had_quorum
        assert live < 4 or state.had_quorum
        expected = {str(real.config.address): real.weight for real in alive} if state.had_quorum else {"10.1.0.9": 1}
        assert weights(state) == expected

"""Gaps between announcements, the kernel's filter of VRIDs, and the start-up delay."""

from __future__ import annotations

import os
import time
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepalived_py.config.model import GarpDefaults, GarpGroup, GlobalDefs
from workers.vrrp.announce import Frames, gratuitous_arp, unsolicited_na
from workers.vrrp.pacing import QUEUE_FULL_PAUSE, Frame, Pacer
from workers.vrrp.sockets import BPF_JUMP_EQUAL, BPF_LOAD_BYTE, BPF_LOAD_BYTE_BEHIND, BPF_LOAD_HEADER_SIZE, vrid_filter
from workers.vrrp.startup import StartupDelay, started_at

MAC = bytes(6)


def frame(number: int, interface: str = "eth0") -> Frame:
    return interface, gratuitous_arp(ip_address(f"10.0.0.{number}"), MAC)  # type: ignore[arg-type]


def neighbour(number: int, interface: str = "eth0") -> Frame:
    return interface, unsolicited_na(ip_address(f"fe80::{number}"), MAC, False)  # type: ignore[arg-type]


class Wire:
    """A clock that is moved by hand, and what was sent when."""

    def __init__(self, defaults: GarpDefaults, *groups: GarpGroup, bases: dict[str, str] | None = None) -> None:
        self.now, self.wake, self.full = 100.0, 0.0, False
        self.sent: list[tuple[float, Frame]] = []
        self.calls = 0
        names = bases or {}
        self.pacer = Pacer(self._send, lambda name: names.get(name, name), self._set, lambda: self.now)
        self.pacer.configure(defaults, groups)

    def _send(self, frames: Frames) -> Frames:
        self.calls += 1
        if self.full:
            return frames
        self.sent += [(self.now, each) for each in frames]
        return []

    def _set(self, at: float) -> None:
        self.wake = at

    def run(self, until: float = 1e9) -> None:
        """Let time pass, from one wake-up to the next."""
        for _ in range(10_000):
            if not self.wake or self.wake > until:
                self.now = max(self.now, min(until, self.now))
                return
            self.now = max(self.now, self.wake)
            self.pacer.serve()
        raise AssertionError("it wakes up for nothing")

    def times(self) -> list[float]:
        return [at - 100.0 for at, _ in self.sent]

    def frames(self) -> Frames:
        return [each for _, each in self.sent]


def test_without_a_gap_all_goes_in_one_call() -> None:
    wire = Wire(GarpDefaults())
    frames = [frame(number) for number in range(1, 101)]
    assert wire.pacer.send("a", frames, 5) == []
    assert (wire.calls, wire.frames(), wire.wake) == (1, frames, 0.0)
    wire.full = True
    assert wire.pacer.send("a", frames, 5) == frames


def test_the_first_goes_at_once_and_the_others_in_order() -> None:
    wire = Wire(GarpDefaults(interval=0.5))
    frames = [frame(1), frame(2), frame(3)]
    assert wire.pacer.send("a", frames, 5) == []
    wire.run()
    assert wire.frames() == frames
    assert wire.times() == [0.0, 0.5, 1.0]
    assert wire.wake == 0.0


def test_no_more_than_repeat_wait_for_an_address() -> None:
    wire = Wire(GarpDefaults(interval=1))
    for _ in range(10):
        wire.pacer.send("a", [frame(1)], 3)
    assert wire.pacer.waiting() == 3
    wire.run()
    assert len(wire.sent) == 4  # the first did not wait
    wire.pacer.send("a", [frame(1)], 3)
    assert wire.pacer.waiting() == 1  # what was sent counts no more


def test_what_waits_is_dropped_with_its_owner_only() -> None:
    wire = Wire(GarpDefaults(interval=1))
    wire.pacer.send("a", [frame(1), frame(2)], 1)
    wire.pacer.send("b", [frame(3)], 1)
    wire.pacer.drop("a")
    wire.run()
    assert wire.frames() == [frame(1), frame(3)]
    assert wire.times() == [0.0, 1.0]


def test_one_that_comes_back_waits_again() -> None:
    wire = Wire(GarpDefaults(interval=1))
    wire.pacer.send("a", [frame(1), frame(2)], 1)
    wire.pacer.drop("a")
    wire.pacer.send("a", [frame(2)], 1)
    wire.run()
    assert wire.frames() == [frame(1), frame(2)]


def test_addresses_that_are_given_up_are_not_announced() -> None:
    wire = Wire(GarpDefaults(interval=1))
    wire.pacer.send("a", [frame(1), frame(2), frame(3)], 1)
    wire.pacer.retain("a", [frame(1), frame(3)])
    wire.run()
    assert wire.frames() == [frame(1), frame(3)]


def test_arp_and_neighbour_advertisements_have_gaps_of_their_own() -> None:
    wire = Wire(GarpDefaults(interval=1, gna_interval=3))
    wire.pacer.send("a", [frame(1), neighbour(1), frame(2), neighbour(2)], 1)
    wire.run()
    assert [(at, each) for at, (_, each) in zip(wire.times(), wire.sent, strict=True)] == [
        (0.0, frame(1)),
        (0.0, neighbour(1)),
        (1.0, frame(2)),
        (3.0, neighbour(2)),
    ]


def test_only_one_kind_may_have_a_gap() -> None:
    wire = Wire(GarpDefaults(gna_interval=3))
    wire.pacer.send("a", [frame(1), frame(2), neighbour(1), neighbour(2)], 1)
    wire.run()
    assert wire.times() == [0.0, 0.0, 0.0, 3.0]


def test_interfaces_do_not_wait_for_each_other() -> None:
    wire = Wire(GarpDefaults(interval=1))
    wire.pacer.send("a", [frame(1), frame(2), frame(1, "eth1"), frame(2, "eth1")], 1)
    wire.run()
    assert wire.times() == [0.0, 0.0, 1.0, 1.0]


def test_those_of_a_group_do() -> None:
    group = GarpGroup(interfaces=("eth0", "eth1"), garp_interval=2)
    wire = Wire(GarpDefaults(interval=1), group)
    wire.pacer.send("a", [frame(1), frame(1, "eth1"), frame(1, "eth2"), frame(2, "eth2")], 1)
    wire.run()
    assert sorted(zip(wire.times(), wire.frames(), strict=True)) == sorted(
        [(0.0, frame(1)), (2.0, frame(1, "eth1")), (0.0, frame(1, "eth2")), (1.0, frame(2, "eth2"))]
    )


def test_a_group_may_be_without_a_gap() -> None:
    wire = Wire(GarpDefaults(interval=1), GarpGroup(interfaces=("eth0",), garp_interval=0.0))
    wire.pacer.send("a", [frame(1), frame(2)], 1)
    assert wire.times() == [0.0, 0.0]


def test_a_vmac_counts_for_the_interface_below_it() -> None:
    wire = Wire(GarpDefaults(interval=1), bases={"vrrp.51": "eth0"})
    wire.pacer.send("a", [frame(1), frame(2, "vrrp.51")], 1)
    wire.run()
    assert wire.times() == [0.0, 1.0]


def test_a_full_interface_is_tried_again() -> None:
    wire = Wire(GarpDefaults(interval=1))
    wire.full = True
    assert wire.pacer.send("a", [frame(1)], 1) == []
    assert wire.wake == pytest.approx(100 + QUEUE_FULL_PAUSE)
    wire.now = wire.wake
    wire.pacer.serve()
    wire.full = False
    wire.run()
    assert wire.times() == [pytest.approx(2 * QUEUE_FULL_PAUSE)]


def test_a_reload_shortens_the_gap_of_what_waits() -> None:
    wire = Wire(GarpDefaults(interval=100))
    wire.pacer.send("a", [frame(1), frame(2), frame(3)], 1)
    wire.pacer.configure(GarpDefaults(interval=1), ())
    wire.run()
    assert wire.times() == [0.0, 1.0, 2.0]


def test_a_reload_without_gaps_sends_what_waits() -> None:
    wire = Wire(GarpDefaults(interval=100))
    wire.pacer.send("a", [frame(1), frame(2), frame(3)], 1)
    wire.pacer.configure(GarpDefaults(), ())
    assert wire.times() == [0.0, 0.0, 0.0]
    assert (wire.pacer.waiting(), wire.wake) == (0, 0.0)


def test_a_reload_that_changes_no_gap_keeps_what_waits() -> None:
    wire = Wire(GarpDefaults(interval=1))
    wire.pacer.send("a", [frame(1), frame(2)], 1)
    wire.pacer.configure(GarpDefaults(interval=1), ())
    wire.run()
    assert wire.times() == [0.0, 1.0]


MOVES = st.one_of(
    st.tuples(st.just("send"), st.sampled_from("ab"), st.lists(st.integers(1, 4), max_size=4), st.integers(1, 3)),
    st.tuples(st.just("drop"), st.sampled_from("ab"), st.just([]), st.just(0)),
    st.tuples(st.just("wait"), st.just(""), st.just([]), st.integers(1, 4)),
)


@given(st.lists(MOVES, max_size=30))
def test_the_gap_is_kept_and_nothing_of_a_dropped_owner_is_sent(moves: list[tuple[str, str, list[int], int]]) -> None:
    wire = Wire(GarpDefaults(interval=1))
    allowed = {"a": 0, "b": 0}
    interface = {"a": 0, "b": 100}
    for what, owner, numbers, count in moves:
        if what == "send":
            wire.pacer.send(owner, [frame(number + interface[owner]) for number in numbers], count)
            allowed[owner] += len(numbers)
        elif what == "drop":
            wire.pacer.drop(owner)
            first = 100 if owner == "b" else 0
            done = sum(first < int(each[1][31]) <= first + 100 for each in wire.frames())
            allowed[owner] = done
        else:
            wire.run(wire.now + count)
            wire.now += count
            wire.pacer.serve()
    wire.run()
    assert all(later - earlier >= 1 for earlier, later in zip(wire.times(), wire.times()[1:], strict=False))
    for owner, first in (("a", 0), ("b", 100)):
        assert sum(first < int(each[1][31]) <= first + 100 for each in wire.frames()) <= allowed[owner]
    assert (wire.pacer.waiting(), wire.wake) == (0, 0.0)


# filter -----------------------------------------------------------------------------------------------------------


def passes(program: bytes, packet: bytes) -> bool:
    """Run a classic BPF program of the few instructions that we use."""
    at, accumulator, index = 0, 0, 0
    while True:
        code = int.from_bytes(program[at * 8 : at * 8 + 2], "little")
        jump_true, jump_false = program[at * 8 + 2], program[at * 8 + 3]
        value = int.from_bytes(program[at * 8 + 4 : at * 8 + 8], "little")
        at += 1
        if code == BPF_LOAD_HEADER_SIZE:
            index = 4 * (packet[value] & 0xF)
        elif code in (BPF_LOAD_BYTE, BPF_LOAD_BYTE_BEHIND):
            offset = value + (index if code == BPF_LOAD_BYTE_BEHIND else 0)
            if offset >= len(packet):
                return False
            accumulator = packet[offset]
        elif code == BPF_JUMP_EQUAL:
            at += jump_true if accumulator == value else jump_false
        else:
            return bool(value)


@given(st.sets(st.integers(1, 255), min_size=1), st.integers(0, 255), st.sampled_from([5, 6, 15]))
def test_the_filter_passes_the_wanted_vrids(wanted: set[int], vrid: int, words: int) -> None:
    header = bytes([0x40 | words]) + bytes(words * 4 - 1)
    assert passes(vrid_filter(wanted, 4, 112), header + bytes([0x31, vrid])) == (vrid in wanted)
    assert passes(vrid_filter(wanted, 4, 51), header + bytes(24) + bytes([0x21, vrid])) == (vrid in wanted)
    assert passes(vrid_filter(wanted, 6, 112), bytes([0x31, vrid])) == (vrid in wanted)


def test_what_has_no_vrid_does_not_pass() -> None:
    assert not passes(vrid_filter([0, 49], 4, 112), b"\x45" + bytes(19) + b"\x31")


# start-up delay ---------------------------------------------------------------------------------------------------


def test_the_longer_delay_counts_and_a_change_moves_the_end() -> None:
    delay = StartupDelay()
    begun, booted = time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME)
    assert delay.ends(GlobalDefs()) == 0.0
    assert delay.ends(GlobalDefs(startup_delay=20)) == pytest.approx(begun + 20, abs=0.2)
    assert delay.ends(GlobalDefs(startup_delay=30)) == pytest.approx(begun + 30, abs=0.2)
    later = GlobalDefs(startup_delay=20, delay_after_boot=booted + 50)
    assert delay.ends(later) == pytest.approx(begun + 50, abs=0.2)
    assert delay.ends(GlobalDefs(delay_after_boot=0.001)) == pytest.approx(begun, abs=0.2)  # from the start at least


def test_one_that_takes_over_counts_from_the_start_of_the_daemon() -> None:
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - started_at(os.getppid())
    assert age > 0
    delay = StartupDelay(os.getppid())
    assert delay.ends(GlobalDefs(startup_delay=20)) == pytest.approx(time.monotonic() + 20 - age, abs=0.3)
    with pytest.raises(OSError, match="No such file"):
        started_at(4_194_305)

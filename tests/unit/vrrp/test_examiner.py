"""What an instance remembers of the adverts it heard: counters, sequence numbers, forms of the checksum."""

from __future__ import annotations

from typing import Any

import pytest

from keepalived_py.config.model import UnicastPeer, VrrpInstance
from keepalived_py.values import IPAddress, ip_address
from keepalived_py.vrrp import auth
from keepalived_py.vrrp.census import SOURCES_REMEMBERED, LinkCensus, free
from keepalived_py.vrrp.examiner import SOURCES_COUNTED, Examiner
from keepalived_py.vrrp.packet import (
    IPPROTO_AH,
    Advertisement,
    Datagram,
    PacketError,
    Reason,
    encode,
    ipv4_header,
    parse_ipv4,
)
from tests.unit.vrrp.builders import HIGHER, LOWER, ME, instance, password

GROUP = ip_address("224.0.0.18")


def heard(config: VrrpInstance, priority: int = 100, source: IPAddress = LOWER, **changes: Any) -> Datagram:
    return Datagram(
        **{"source": source, "destination": GROUP, "ttl": 255, **changes},
        payload=encode(config, priority, source, GROUP),
    )


def unicast(**changes: Any) -> VrrpInstance:
    peers = (UnicastPeer(address=LOWER),)
    return instance(unicast=True, mcast_group=None, unicast_peers=peers, source=ME, **changes)


def test_what_is_accepted_is_counted_and_repeated_cheaply() -> None:
    examiner = Examiner(instance())
    first = examiner.examine(heard(instance()), master=False)
    assert examiner.examine(heard(instance()), master=False) is first
    examiner.examine(heard(instance(), 0), master=False)
    assert (examiner.counters.received, examiner.counters.zero_received) == (3, 1)


def test_a_reload_forgets_the_last_verdict() -> None:
    examiner = Examiner(instance())
    examiner.examine(heard(instance()), master=False)
    examiner.reconfigure(instance(version=2))
    with pytest.raises(PacketError):
        examiner.examine(heard(instance()), master=False)
    assert examiner.config.version == 2


def test_discards_are_counted_by_reason_and_source() -> None:
    examiner = Examiner(instance())
    for _ in range(2):
        with pytest.raises(PacketError):
            examiner.examine(heard(instance(), ttl=1), master=True)
    assert examiner.counters.discarded == {Reason.TTL: 2}
    assert examiner.counters.discarded_by_source == {(Reason.TTL, LOWER): 2}
    assert examiner.counters.received == 0


def test_forged_sources_do_not_fill_the_memory() -> None:
    examiner = Examiner(instance())
    for number in range(SOURCES_COUNTED + 10):
        with pytest.raises(PacketError):
            examiner.examine(
                heard(instance(), source=ip_address(f"10.0.{number // 250}.{number % 250}"), ttl=1), master=True
            )
    assert len(examiner.counters.discarded_by_source) == SOURCES_COUNTED
    assert examiner.counters.discarded[Reason.TTL] == SOURCES_COUNTED + 10


@pytest.mark.parametrize(
    ("skip", "master", "source", "told"),
    [(True, False, LOWER, False), (True, True, LOWER, True), (True, False, HIGHER, True), (False, False, LOWER, True)],
)
def test_the_list_of_a_known_sender_may_go_unchecked(skip: bool, master: bool, source: IPAddress, told: bool) -> None:
    examiner = Examiner(instance("192.0.2.1", skip_check_adv_addr=skip))
    examiner.examine(heard(instance("192.0.2.2")), master=False)
    found = examiner.examine(heard(instance("192.0.2.2"), 99, source), master=master)
    assert bool(found.differs) is told
    assert examiner.counters.list_differs == 1 + told


def old_form(priority: int = 100) -> Datagram:
    return Datagram(LOWER, ME, 64, encode(unicast(), priority, LOWER, ME, old_checksum=True))


def test_the_old_checksum_of_unicast_is_followed_once_heard() -> None:
    examiner = Examiner(unicast())
    usual = examiner.message(100, ME, LOWER)
    assert examiner.examine(old_form(), master=False).old_checksum
    assert examiner.message(100, ME, LOWER) != usual
    assert examiner.message(100, ME, LOWER) == encode(unicast(), 100, ME, LOWER, old_checksum=True)


def test_the_old_checksum_may_be_forced_or_forbidden() -> None:
    forced = Examiner(unicast(old_unicast_checksum=True))
    assert forced.message(100, ME, LOWER) == encode(unicast(), 100, ME, LOWER, old_checksum=True)
    with pytest.raises(PacketError) as caught:
        Examiner(unicast(old_unicast_checksum=False)).examine(old_form(), master=False)
    assert caught.value.reason is Reason.CHECKSUM


def test_version_2_over_ipv6_sums_the_pseudo_header() -> None:
    config = instance("fe80::100", family=6, version=2)
    source, group = ip_address("fe80::1"), ip_address("ff02::12")
    message = encode(config, 100, source, group)
    assert len(message) == 24
    assert Examiner(config).examine(Datagram(source, group, 255, message), master=False).priority == 100
    with_type = instance("fe80::100", family=6, version=2, authentication=password())
    message = encode(with_type, 100, source, group)
    assert len(message) == 24  # a password is named, and not sent
    assert Examiner(with_type).examine(Datagram(source, group, 255, message), master=False).priority == 100


@pytest.mark.parametrize(
    ("sequence", "new_master", "following"),
    [(0, False, 1), (7, True, 8), (auth.LAST_SEQUENCE, False, auth.LAST_SEQUENCE), (auth.LAST_SEQUENCE, True, 1)],
)
def test_sequence_numbers_stop_at_the_end_until_a_new_master(sequence: int, new_master: bool, following: int) -> None:
    examiner = Examiner(instance(version=2, authentication=password(kind="ah")))
    examiner.sequence = sequence
    if new_master:
        examiner.became_master()
    assert auth.next_sequence(examiner.sequence) == following


@pytest.mark.parametrize(
    ("sequence", "elapsed", "sent"), [(0, 0.0, 1), (7, 3600.0, 3601), (auth.LAST_SEQUENCE, 9.0, 0)]
)
def test_a_successor_goes_on_behind_what_was_sent(sequence: int, elapsed: float, sent: int) -> None:
    assert sequence + sent <= auth.sequence_after(sequence, elapsed) <= auth.LAST_SEQUENCE


def test_a_sealed_advert_moves_the_sequence() -> None:
    config = instance(version=2, authentication=password(kind="ah"))
    message = encode(config, 100, LOWER, GROUP)
    header = ipv4_header(LOWER, GROUP, auth.AH_SIZE + len(message), 255, 1, IPPROTO_AH)
    datagram = parse_ipv4(header + auth.seal(header, 7, message, b"secret", False) + message)
    examiner = Examiner(config)
    examiner.examine(datagram, master=False)
    assert examiner.sequence == 7
    with pytest.raises(PacketError):
        examiner.examine(datagram, master=False)


def test_the_identification_does_not_make_a_packet_new() -> None:
    config = instance()
    message = encode(config, 100, LOWER, GROUP)
    examiner = Examiner(config)
    first, again = (
        examiner.examine(parse_ipv4(ipv4_header(LOWER, GROUP, len(message), 255, number, 112) + message), master=False)
        for number in (1, 2)
    )
    assert again is first
    with pytest.raises(PacketError):
        examiner.examine(parse_ipv4(ipv4_header(LOWER, GROUP, len(message), 254, 3, 112) + message), master=False)
    assert examiner.counters.received == 2


def advertised(*addresses: str, source: IPAddress = LOWER) -> Advertisement:
    return Examiner(instance()).examine(heard(instance(*addresses), source=source), master=False)


def test_another_cluster_on_our_vrid_is_told_once_per_source() -> None:
    census = LinkCensus({51})
    census.heard(52)
    said = census.stranger(advertised("192.0.2.9"))
    assert said.startswith("192.0.2.5 uses VRID 51 for other addresses (192.0.2.9)")
    assert said.endswith("VRIDs not seen here: 1-50, 53-255")
    assert census.stranger(advertised("192.0.2.9")) == ""
    assert census.stranger(advertised("192.0.2.100", source=HIGHER)) == ""


@pytest.mark.parametrize(
    ("seen", "text"), [(set(), "1-255"), (set(range(1, 256)) - {7}, "7"), (set(range(1, 256)), "none")]
)
def test_free_vrids(seen: set[int], text: str) -> None:
    assert free(seen) == text


def test_other_vrids_are_new_once_for_each_sender() -> None:
    census = LinkCensus({51})
    assert [census.heard(60, LOWER), census.heard(60, LOWER), census.heard(60, HIGHER)] == [True, False, True]
    census.stranger(advertised("192.0.2.9"))
    lines = census.lines()
    assert lines[0] == f"VRID 60 of others: {LOWER}, {HIGHER}"
    assert lines[1].startswith("192.0.2.5 uses VRID 51")
    assert lines[2] == "VRIDs not seen here: 1-50, 52-59, 61-255"
    census.complete = False
    assert "log_unknown_vrids" in census.lines()[2]


def test_only_so_many_strangers_are_told_of() -> None:
    census = LinkCensus()
    said = [
        census.stranger(advertised("192.0.2.9", source=ip_address(f"10.0.0.{last}")))
        for last in range(1, SOURCES_REMEMBERED + 3)
    ]
    assert said[-1] == ""
    assert said[0]

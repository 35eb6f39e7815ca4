"""The auth_hmac trailer (vrrp-behaviour.md 4.3): vectors of another implementation, every flaw, every mode."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepalived_py.config.model import AuthHmac, HmacKey
from keepalived_py.values import ip_address
from keepalived_py.vrrp.auth_hmac import TRAILER_SIZE, Covered, Flaw, HmacState, sequence_at
from keepalived_py.vrrp.examiner import Examiner
from keepalived_py.vrrp.packet import Datagram, PacketError, Reason, examine
from tests.unit.vrrp.builders import HIGHER, ME, instance

GROUP = ip_address("224.0.0.18")
WALL = 1_700_000_000.5
KEY = HmacKey(id=1, secret=b"sixteen byte key")


def settings(mode: str = "enforce", anti_replay: str = "time", *keys: HmacKey, window: int = 5) -> AuthHmac:
    return AuthHmac(keys=keys or (KEY,), active_key=1, time_window=window, anti_replay=anti_replay, mode=mode)


def covered(source: str = "192.0.2.10") -> Covered:
    return Covered(3, 51, ip_address(source), bytes(range(12)))


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_vectors_of_another_implementation(shared: Path, family: str) -> None:
    vectors = json.loads((shared / "vectors" / "auth-hmac.json").read_text())
    vector, secret = vectors[family], bytes.fromhex(vectors["key_hex"])
    packet, size = bytes.fromhex(vector["hex"]), vector["message_len"]
    state = HmacState(settings("enforce", "monotonic", HmacKey(id=vectors["key_id"], secret=secret)))
    what = Covered(3, vector["vrid"], ip_address(vector["src"]), packet[:size])
    assert state.verify(what, packet[size:], 0.0) is None
    assert state.verify(what, packet[size:], 0.0) is Flaw.REPLAY
    assert state.verify(what, packet[size:-1] + b"\0", 0.0) is Flaw.INVALID_HMAC


def test_what_one_seals_the_other_takes() -> None:
    ours, theirs = HmacState(settings()), HmacState(settings())
    trailers = [ours.seal(covered(), WALL) for _ in range(3)]
    assert [theirs.verify(covered(), trailer, WALL) for trailer in trailers] == [None] * 3
    assert theirs.verify(covered(), trailers[1], WALL) is Flaw.REPLAY


@pytest.mark.parametrize(
    ("spoil", "flaw"),
    [
        (lambda good: b"", Flaw.MISSING),
        (lambda good: good[:-1], Flaw.MALFORMED),
        (lambda good: b"\2" + good[1:], Flaw.MALFORMED),
        (lambda good: good[:2] + b"\1" + good[3:], Flaw.MALFORMED),
        (lambda good: good[:1] + b"\7" + good[2:], Flaw.UNKNOWN_KEY),
        (lambda good: good[:-1] + bytes([good[-1] ^ 1]), Flaw.INVALID_HMAC),
        (lambda good: good[:4] + bytes(4) + good[8:], Flaw.STALE),
    ],
)
def test_every_flaw(spoil: object, flaw: Flaw) -> None:
    good = HmacState(settings()).seal(covered(), WALL)
    assert callable(spoil)
    assert HmacState(settings()).verify(covered(), spoil(good), WALL) is flaw


@pytest.mark.parametrize(("mode", "flaw"), [("enforce", Flaw.MISSING), ("permissive", None), ("receive-only", None)])
def test_only_enforce_wants_a_trailer(mode: str, flaw: Flaw | None) -> None:
    assert HmacState(settings(mode)).verify(covered(), b"", WALL) is flaw
    assert HmacState(settings(mode)).sends is (mode != "receive-only")


@pytest.mark.parametrize(("late", "flaw"), [(5, None), (-5, None), (6, Flaw.STALE), (-6, Flaw.STALE)])
def test_the_window_of_time(late: int, flaw: Flaw | None) -> None:
    trailer = HmacState(settings()).seal(covered(), WALL)
    assert HmacState(settings()).verify(covered(), trailer, WALL + late) is flaw


def test_a_clock_put_back_starts_the_sequence_afresh_in_time_mode_only() -> None:
    for mode, restarts in (("time", True), ("monotonic", False)):
        state = HmacState(settings("enforce", mode))
        state.seal(covered(), WALL)
        sequence = int.from_bytes(state.seal(covered(), WALL - 3600)[4:12])
        assert (sequence == sequence_at(WALL - 3600)) is restarts


def test_a_mark_older_than_the_window_is_forgotten_in_time_mode() -> None:
    theirs = HmacState(settings())
    theirs.verify(covered(), HmacState(settings()).seal(covered(), WALL), WALL)
    back = HmacState(settings()).seal(covered(), WALL + 2)
    assert theirs.verify(covered(), back, WALL + 7) is None


def test_only_four_multicast_senders_are_remembered() -> None:
    for unicast, forgotten in ((False, True), (True, False)):
        state = HmacState(settings("enforce", "monotonic"), unicast=unicast)
        sources = [f"192.0.2.{last}" for last in range(1, 6)]
        trailers = {source: HmacState(settings()).seal(covered(source), WALL) for source in sources}
        for source, trailer in trailers.items():
            assert state.verify(covered(source), trailer, WALL) is None
        again = state.verify(covered(sources[0]), trailers[sources[0]], WALL)
        assert (again is None) is forgotten


def test_a_whole_advert_with_its_trailer() -> None:
    config = instance(auth_hmac=settings())
    ours, theirs = Examiner(config), Examiner(config)
    message = ours.message(120, ME, GROUP)
    datagram = Datagram(ME, GROUP, 255, message + ours.trailer(message, ME, WALL))
    assert theirs.examine(datagram, master=False, wall=WALL).priority == 120
    with pytest.raises(PacketError) as caught:
        theirs.examine(datagram, master=False, wall=WALL)
    assert caught.value.reason is Reason.HMAC_REPLAY
    with pytest.raises(PacketError) as caught:
        theirs.examine(Datagram(ME, GROUP, 255, message), master=False, wall=WALL)
    assert caught.value.reason is Reason.HMAC_MISSING
    assert theirs.counters.discarded == {Reason.HMAC_REPLAY: 1, Reason.HMAC_MISSING: 1}
    with pytest.raises(PacketError) as caught:
        examine(datagram, instance())
    assert caught.value.reason is Reason.LENGTH


def test_no_trailer_without_the_keyword_and_in_receive_only() -> None:
    for config in (instance(), instance(auth_hmac=settings("receive-only"))):
        examiner = Examiner(config)
        assert examiner.trailer(examiner.message(1, ME, GROUP), ME, WALL) == b""


def test_a_reload_keeps_marks_of_equal_settings() -> None:
    config = instance(auth_hmac=settings("enforce", "monotonic"))
    ours, theirs = Examiner(config), Examiner(config)
    message = ours.message(120, ME, GROUP)
    datagram = Datagram(ME, GROUP, 255, message + ours.trailer(message, ME, WALL))
    theirs.examine(datagram, master=False)
    theirs.reconfigure(instance(auth_hmac=settings("enforce", "monotonic"), preempt=False))
    with pytest.raises(PacketError):
        theirs.examine(datagram, master=False)
    theirs.reconfigure(instance(auth_hmac=settings("permissive", "monotonic")))
    assert theirs.examine(datagram, master=False).priority == 120


@given(st.binary(max_size=TRAILER_SIZE + 2))
def test_any_trailer_has_a_verdict(trailer: bytes) -> None:
    assert HmacState(settings()).verify(Covered(3, 1, HIGHER, bytes(12)), trailer, WALL) in Flaw

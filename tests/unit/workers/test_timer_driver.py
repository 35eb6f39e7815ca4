"""Which timers fire together, and which of them may be early."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from keepalived_py.values import VirtualRouterKey
from keepalived_py.vrrp.states import Timer
from workers.vrrp import timer_driver
from workers.vrrp.timer_driver import EARLY, TimerDriver


@dataclass
class Machine:
    deadlines: dict[Timer, float] = field(default_factory=dict)

    @property
    def deadline(self) -> float | None:
        return min(self.deadlines.values(), default=None)

    def due(self, now: float) -> Timer | None:
        late = [timer for timer, at in self.deadlines.items() if at <= now]
        return min(late, key=lambda timer: self.deadlines[timer]) if late else None


def key(number: int) -> VirtualRouterKey:
    return VirtualRouterKey("eth0", 4, number)


def fired(monkeypatch: pytest.MonkeyPatch, moment: float, *machines: Machine) -> list[tuple[int, Timer]]:
    """What leaves when the timer fires at `moment`: the number of the machine, and its timer."""
    monkeypatch.setattr(timer_driver, "now", lambda: moment)
    known = {key(number): machine for number, machine in enumerate(machines, 1)}
    out: list[tuple[int, Timer]] = []

    def expired(of: VirtualRouterKey, timer: Timer) -> None:
        out.append((of.vrid, timer))
        del known[of].deadlines[timer]
        driver.rearm(of)

    driver = TimerDriver(known.get, lambda: None, expired, lambda key: None)
    for each in known:
        driver.rearm(each)
    driver.fire()
    assert sorted(at for machine in machines for at in machine.deadlines.values()) == sorted(driver._armed.values())
    return out


def test_adverts_that_are_nearly_due_leave_with_one_that_is(monkeypatch: pytest.MonkeyPatch) -> None:
    late, soon = Machine({Timer.ADVERT: 9.99}), Machine({Timer.ADVERT: 10.0 + EARLY * 0.9})
    later = Machine({Timer.ADVERT: 10.0 + EARLY * 1.1})
    assert fired(monkeypatch, 10.0, soon, later, late) == [(3, Timer.ADVERT), (1, Timer.ADVERT)]


def test_no_take_over_is_early(monkeypatch: pytest.MonkeyPatch) -> None:
    due, down = Machine({Timer.ADVERT: 10.0}), Machine({Timer.MASTER_DOWN: 10.0 + EARLY / 2})
    assert fired(monkeypatch, 10.0, due, down) == [(1, Timer.ADVERT)]
    down = Machine({Timer.MASTER_DOWN: 10.0})
    assert fired(monkeypatch, 10.0, down, Machine({Timer.ADVERT: 10.0})) == [(2, Timer.ADVERT), (1, Timer.MASTER_DOWN)]


def test_one_timer_of_a_machine_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    both = Machine({Timer.ADVERT: 10.0 + EARLY / 2, Timer.REFRESH: 10.0})
    assert fired(monkeypatch, 10.0, both) == [(1, Timer.REFRESH)]

"""Which interfaces count as up: delays, their limit, polling."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, cast

import pytest

from keepalived_py.config.model import (
    Config,
    GlobalDefs,
    InterfaceDelay,
    LinkbeatInterface,
    RootSettings,
    Track,
    VrrpConfig,
    VrrpInstance,
    VrrpSlice,
)
from keepalived_py.config.slices import vrrp_slice
from keepalived_py.values import Centiseconds
from workers.vrrp import link_state
from workers.vrrp.link_monitor import LinkMonitor
from workers.vrrp.link_poll import Poll, choose
from workers.vrrp.link_state import LinkStates, limited_delays, polled_interfaces
from workers.vrrp.rtnetlink import IFF_RUNNING, IFF_UP, Link

UP = IFF_UP | IFF_RUNNING


class Links:
    """What LinkStates needs of a monitor."""

    def __init__(self) -> None:
        self.links: dict[int, Link] = {}

    def by_name(self, name: str) -> Link | None:
        return next((link for link in self.links.values() if link.name == name), None)

    def set(self, name: str, flags: int = UP, index: int = 2, kind: str = "") -> None:
        self.links[index] = Link(index, name, flags, bytes(6), kind=kind)


def instance(**more: Any) -> VrrpInstance:
    return VrrpInstance(**{"name": "VI", "interface": "eth0", "family": 4, "vrid": 1, **more})


def config(*delays: InterfaceDelay, root: RootSettings | None = None, **vrrp: Any) -> VrrpSlice:
    known = {"instances": (instance(),), "interface_delays": delays, **vrrp}
    return vrrp_slice(Config(global_defs=GlobalDefs(root=root or RootSettings()), vrrp=VrrpConfig(**known)))


def delay(down: float, up: float, name: str = "eth0") -> InterfaceDelay:
    return InterfaceDelay(interface=name, down=down, up=up)


@pytest.mark.parametrize(
    ("adverts", "interval", "asked", "expected"),
    [
        (3, 100, (5.0, 3.0), {"eth0": (2 - 1 / 256, 3.0)}),
        (3, 100, (1.5, 3.0), {"eth0": (1.5, 3.0)}),
        (2, 10, (1.0, 0.0), {"eth0": (0.1 - 0.1 / 256, 0.0)}),
        (1, 100, (1.0, 1.0), {}),
        (3, 100, (0.0, 0.0), {}),
    ],
)
def test_no_delay_outlasts_the_patience_of_peers(
    adverts: int, interval: int, asked: tuple[float, float], expected: dict[str, tuple[float, float]]
) -> None:
    user = instance(down_timer_adverts=adverts, advert_int=Centiseconds(interval))
    found, notes = limited_delays([delay(*asked)], [user])
    assert {name: pytest.approx(value) for name, value in found.items()} == expected
    assert bool(notes) == (found.get("eth0") != asked and asked != (0.0, 0.0))


def test_the_most_impatient_user_counts_and_strangers_do_not() -> None:
    tracks = (Track(kind="interface", name="eth0"), Track(kind="file", name="eth1"))
    users = [
        instance(),
        instance(interface="eth2", tracks=tracks, advert_int=Centiseconds(10)),
    ]
    found, _ = limited_delays([delay(9, 0), delay(9, 0, "eth1")], users)
    assert found["eth0"][0] == pytest.approx(0.2 - 0.1 / 256)
    assert found["eth1"] == (9, 0)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (config(), {}),
        (config(root=RootSettings(linkbeat_use_polling=True)), {"eth0": ""}),
        (config(instances=(instance(linkbeat_use_polling=True), instance(interface="eth1"))), {"eth0": ""}),
        (config(linkbeat_interfaces=(LinkbeatInterface(interface="eth3", method="MII"),)), {"eth3": "MII"}),
        (
            config(
                root=RootSettings(linkbeat_use_polling=True),
                linkbeat_interfaces=(LinkbeatInterface(interface="eth0", method="IOCTL"),),
            ),
            {"eth0": "IOCTL"},
        ),
    ],
)
def test_what_is_polled(found: VrrpSlice, expected: dict[str, str]) -> None:
    assert polled_interfaces(found) == expected


class Bench:
    """LinkStates with links of its own, and what they told."""

    def __init__(self, methods: Mapping[str, Poll] | None = None) -> None:
        self.links, self.told = Links(), list[str]()
        self.links.set("eth0")
        self.states = LinkStates(cast(LinkMonitor, self.links), self.told.append, methods or {})

    def hear(self, flags: int) -> None:
        self.links.set("eth0", flags)
        self.states.refresh("eth0")


def in_loop(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 5))


def test_only_what_lasts_counts() -> None:
    async def story() -> None:
        bench = Bench()
        bench.states.apply(config(delay(0.05, 0.05)))
        bench.hear(IFF_UP)
        assert bench.states.running("eth0")
        assert not bench.states.seen("eth0")
        bench.hear(UP)
        await asyncio.sleep(0.1)
        assert bench.states.running("eth0")
        assert bench.told == []
        bench.hear(IFF_UP)
        bench.hear(0)  # the first notice counts
        await asyncio.sleep(0.1)
        assert not bench.states.running("eth0")
        assert bench.told == ["eth0"]
        bench.hear(UP)
        assert not bench.states.running("eth0")
        await asyncio.sleep(0.1)
        assert bench.states.running("eth0")

    in_loop(story)


def test_one_direction_may_have_no_delay_and_a_deleted_interface_has_none() -> None:
    async def story() -> None:
        bench = Bench()
        bench.states.apply(config(delay(1, 0)))
        bench.hear(0)
        assert bench.states.running("eth0")
        bench.links.links.clear()
        bench.states.refresh_all()
        assert not bench.states.running("eth0")
        bench.hear(UP)
        assert bench.states.running("eth0")
        bench.states.stop()

    in_loop(story)


def test_a_reload_that_ends_a_delay_ends_its_waiting() -> None:
    async def story() -> None:
        bench = Bench()
        bench.states.apply(config(delay(0.05, 0)))
        bench.hear(0)
        bench.states.apply(config())
        assert not bench.states.running("eth0")
        await asyncio.sleep(0.1)
        assert bench.told == []

    in_loop(story)


def test_a_poll_is_believed_more_than_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_state, "POLL_INTERVAL", 0.01)
    answers = {"eth0": True}

    async def story() -> None:
        bench = Bench({"MII": lambda name: None, "ETHTOOL": answers.get})
        bench.states.apply(config(root=RootSettings(linkbeat_use_polling=True)))
        assert bench.states.running("eth0")
        answers["eth0"] = False
        await asyncio.sleep(0.1)
        assert not bench.states.running("eth0")
        assert bench.told == ["eth0"]
        answers["eth0"] = True
        await asyncio.sleep(0.1)
        assert bench.states.running("eth0")
        bench.hear(IFF_UP)  # no carrier, says the kernel
        assert bench.states.running("eth0")
        bench.hear(0)
        assert not bench.states.running("eth0")
        bench.states.stop()

    in_loop(story)


def test_polling_goes_on_when_a_thread_can_be_had_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_state, "POLL_INTERVAL", 0.01)

    def refuse(thread: threading.Thread) -> None:
        refused.append(thread)
        raise RuntimeError("can't start new thread")

    refused: list[threading.Thread] = []
    answers = {"eth0": True}

    async def story() -> None:
        bench = Bench({"MII": lambda name: None, "ETHTOOL": answers.get})
        bench.states.apply(config(root=RootSettings(linkbeat_use_polling=True)))
        assert bench.states.running("eth0")
        answers["eth0"] = False
        with monkeypatch.context() as short:
            short.setattr(threading.Thread, "start", refuse)
            await asyncio.sleep(0.1)
            assert refused
            assert bench.states.running("eth0")
        await asyncio.sleep(0.1)
        assert not bench.states.running("eth0")
        bench.states.stop()

    in_loop(story)


@pytest.mark.parametrize(("kind", "supported"), [("macvlan", True), ("ipvlan", True), ("", False)])
def test_what_cannot_be_polled(kind: str, supported: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        bench = Bench({"MII": lambda name: False if supported else None})
        bench.links.set("eth0", UP, kind=kind)
        bench.states.apply(config(root=RootSettings(linkbeat_use_polling=True)))
        assert bench.states.running("eth0")
        bench.hear(IFF_UP)
        assert not bench.states.running("eth0")
        bench.states.stop()

    in_loop(story)
    assert len(caplog.records) == 1


def test_the_choice_of_a_method() -> None:
    methods: dict[str, Poll] = {"MII": lambda name: None, "ETHTOOL": lambda name: False, "IOCTL": lambda name: True}
    assert choose(methods, "eth0", "") == ("ETHTOOL", False)
    assert choose(methods, "eth0", "IOCTL") == ("IOCTL", True)
    assert choose(methods, "eth0", "MII") == ("", None)


def test_the_real_methods_say_no_to_what_is_not_there() -> None:
    assert choose(link_state.METHODS, "nothere0", "") == ("", None)
    assert link_state.METHODS["MII"]("lo") is None
    assert link_state.METHODS["IOCTL"]("lo") in (True, False)
    assert link_state.METHODS["ETHTOOL"]("lo") in (True, False, None)

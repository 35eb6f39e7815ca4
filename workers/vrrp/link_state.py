"""Which interfaces count as up: what the kernel says, or a poll does, once it has lasted (vrrp-behaviour.md 7)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial

from keepalived_py.config.model import InterfaceDelay, VrrpInstance, VrrpSlice

from .link_monitor import LinkMonitor
from .link_poll import METHODS, Poll, choose
from .rtnetlink import IFF_UP

logger = logging.getLogger(__name__)

POLL_INTERVAL = 1.0
NOT_POLLED = ("macvlan", "ipvlan")


def limited_delays(
    delays: Iterable[InterfaceDelay], instances: Iterable[VrrpInstance]
) -> tuple[dict[str, tuple[float, float]], list[str]]:
    """Seconds down and up by interface, none longer than its instances allow; what was changed, for the log.

    An instance must leave before its peers take over: the delay of a link that goes down ends with the last advert
    they may miss. Where they may miss none there is no delay at all.
    """
    found: dict[str, tuple[float, float]] = {}
    notes: list[str] = []
    users = list(instances)
    for delay in delays:
        down, up = delay.down, delay.up
        for instance in users:
            names = {instance.interface, *(track.name for track in instance.tracks if track.kind == "interface")}
            if delay.interface not in names:
                continue
            interval = instance.advert_int / 100
            limit = (instance.down_timer_adverts - 1) * interval - interval / 256
            if instance.down_timer_adverts == 1:
                down, up = 0.0, 0.0
                notes.append(f"({instance.name}) down_timer_adverts 1: changes of {delay.interface} are not delayed")
            elif down > limit:
                down = limit
                notes.append(f"({instance.name}) the down delay of {delay.interface} is limited to {limit:.6g} s")
        if down or up:
            found[delay.interface] = down, up
    return found, notes


def polled_interfaces(config: VrrpSlice) -> dict[str, str]:
    """Method ("": the first that works) by name of the interfaces whose link is to be polled."""
    everywhere = config.global_defs.root.linkbeat_use_polling
    wanted = {each.interface: "" for each in config.vrrp.instances if everywhere or each.linkbeat_use_polling}
    wanted |= {each.interface: each.method for each in config.vrrp.linkbeat_interfaces}
    wanted.pop("", None)
    return wanted


class LinkStates:
    """`changed` hears the name of an interface that began or ceased to count as up for another reason than a notice."""

    def __init__(
        self, monitor: LinkMonitor, changed: Callable[[str], None], methods: Mapping[str, Poll] = METHODS
    ) -> None:
        self._monitor, self._changed, self._methods = monitor, changed, methods
        self._delays: dict[str, tuple[float, float]] = {}
        self._counted: dict[str, bool] = {}
        """What delayed interfaces count as."""
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._wanted: dict[str, str] = {}
        self._chosen: dict[int, str] = {}
        """Method by index; "" where none works."""
        self._polled: dict[int, bool] = {}
        self._task: asyncio.Task[None] | None = None

    def apply(self, config: VrrpSlice) -> None:
        """Delay and poll what `config` asks for from now on. What is up at this moment counts at once."""
        self._delays, notes = limited_delays(config.vrrp.interface_delays, config.vrrp.instances)
        for note in notes:
            logger.info("%s", note)
        for name in [name for name in self._counted if name not in self._delays]:
            del self._counted[name]
            self._end_timer(name)
        wanted = polled_interfaces(config)
        if wanted != self._wanted:
            self._wanted = wanted
            self._chosen.clear()
            self._polled.clear()
        self._run_polls(bool(wanted))
        for name in self._delays:
            self._counted.setdefault(name, self.seen(name))

    def stop(self) -> None:
        self._run_polls(False)
        for name in list(self._timers):
            self._end_timer(name)

    def running(self, name: str) -> bool:
        """Whether the interface of that name counts as up."""
        return self._counted[name] if name in self._counted else self.seen(name)

    def seen(self, name: str) -> bool:
        """Whether it is up at this moment."""
        link = self._monitor.by_name(name)
        if link is None:
            return False
        if name in self._wanted and self._method(name):
            return bool(link.flags & IFF_UP) and self._polled[link.index]
        return link.running

    def refresh(self, name: str) -> None:
        """To be called when something was heard of an interface: starts and ends delays.

        One that is gone is down at once: nothing can be sent any more.
        """
        if name not in self._delays:
            return
        seen = self.seen(name)
        if seen == self._counted.get(name):
            self._end_timer(name)
            return
        delay = self._delays[name][1 if seen else 0] if self._monitor.by_name(name) is not None else 0.0
        if not delay:
            self._end_timer(name)
            self._counted[name] = seen
        elif name not in self._timers:
            logger.debug("interface %s is %s, which counts in %g s", name, "up" if seen else "down", delay)
            self._timers[name] = asyncio.get_running_loop().call_later(delay, self._settle, name)

    def refresh_all(self) -> None:
        for name in self._delays:
            self.refresh(name)

    def _settle(self, name: str) -> None:
        del self._timers[name]
        self._counted[name] = self.seen(name)
        self._changed(name)

    def _end_timer(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    # polling ------------------------------------------------------------------------------------------------------

    def _method(self, name: str) -> str:
        """How an interface is polled, "" when it cannot be; found out, and polled, when it is first asked for."""
        link = self._monitor.by_name(name)
        if link is None:
            return ""
        if link.index not in self._chosen:
            method, up = "", None
            if link.kind in NOT_POLLED:
                logger.warning("interface %s is a %s, whose link is not polled", name, link.kind)
            else:
                method, up = choose(self._methods, name, self._wanted[name])
                if up is None:
                    asked = self._wanted[name] or "polling"
                    logger.warning("interface %s does not support %s, the kernel's notices count", name, asked)
            self._chosen[link.index] = method
            self._polled[link.index] = bool(up)
        return self._chosen[link.index]

    def _run_polls(self, wanted: bool) -> None:
        if not wanted and self._task is not None:
            self._task.cancel()
            self._task = None
        if wanted and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._poll_for_ever())

    async def _poll_for_ever(self) -> None:
        while True:
            await asyncio.sleep(POLL_INTERVAL)
            for name in list(self._wanted):
                method = self._method(name)
                link = self._monitor.by_name(name)
                if link is None or not method:
                    continue
                # in a thread: a slow driver must not make an advert late
                with suppress(OSError, RuntimeError):  # no descriptor or thread to be had: the next poll tries again
                    up = await asyncio.to_thread(partial(self._methods[method], name))
                    self._take_poll(name, link.index, bool(up))
            present = self._monitor.links
            self._chosen = {index: method for index, method in self._chosen.items() if index in present}
            self._polled = {index: up for index, up in self._polled.items() if index in present}

    def _take_poll(self, name: str, index: int, up: bool) -> None:
        before = self._polled.get(index)
        if before is None or before == up:
            return
        self._polled[index] = up
        logger.info("polling: link of interface %s is %s", name, "up" if up else "down")
        self.refresh(name)
        self._changed(name)

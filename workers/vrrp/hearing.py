"""Everything that is heard: receivers shared by instances, who a datagram is for, and what nobody here is meant by."""

from __future__ import annotations

import asyncio
import logging
import select
from collections.abc import Callable
from pathlib import Path

from keepalived_py import log
from keepalived_py.config.model import BufferSettings, VrrpInstance
from keepalived_py.vrrp.census import LinkCensus
from keepalived_py.vrrp.packet import Datagram, PacketError, Reason

from .audience import Audience
from .instance import Instance
from .sockets import Receiver, ReceiverKey

logger = logging.getLogger(__name__)

ETHERNET_MTU = 1500
IPV4_HEADER, IPV6_HEADER, VRRP_HEADER = 20, 40, 8
MALFORMED_REMEMBERED = 256
"""Further reasons and senders of packets that are none are counted only."""


def room(config: VrrpInstance, buffers: BufferSettings, interface: str) -> int:
    """Bytes of receive buffer that are wanted for one instance (kernel_rx_buf_size, vrrp_rx_bufs_policy)."""
    if config.rx_buf_size:
        return config.rx_buf_size
    policy, times = buffers.vrrp_rx_policy, buffers.vrrp_rx_multiplier
    if policy == "MTU":
        try:
            return int(Path(f"/sys/class/net/{interface}/mtu").read_text()) * times
        except (OSError, ValueError):
            return ETHERNET_MTU * times
    if policy == "ADVERT":
        header, address = (IPV4_HEADER, 4) if config.family == 4 else (IPV6_HEADER, 16)
        return (header + VRRP_HEADER + len(config.addresses) * address) * times
    return int(policy or 0)


class Hearing:
    """One per worker. `deliver` gets the datagrams for an instance. One descriptor wakes the loop for all sockets."""

    def __init__(self, deliver: Callable[[Instance, Datagram], None]) -> None:
        self._deliver_to = deliver
        self._receivers: dict[ReceiverKey, Receiver] = {}
        self._by_descriptor: dict[int, Receiver] = {}
        self._targets: dict[ReceiverKey, dict[int, list[Instance]]] = {}
        self._censuses: dict[int, LinkCensus] = {}
        self._names: dict[int, str] = {}
        self._told: set[tuple[Reason, str]] = set()
        self._stale: set[ReceiverKey] = set()
        """Receivers whose filter does not fit their VRIDs."""
        self.audience = Audience()
        self._poll = select.epoll()
        self.everything = False
        """log_unknown_vrids: hear adverts for VRIDs that are not ours."""
        self._buffers = BufferSettings()
        self.unknown_vrids = 0
        self.malformed = 0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_reader(self._poll.fileno(), self.drain)

    def configure(self, everything: bool, buffers: BufferSettings) -> None:
        """log_unknown_vrids, and the receive buffers."""
        if (everything, buffers) != (self.everything, self._buffers):
            self.everything, self._buffers = everything, buffers
            for census in self._censuses.values():
                census.complete = everything
            for key in self._receivers:
                self._filter_soon(key)

    # who listens --------------------------------------------------------------------------------------------------

    def listen(self, instance: Instance, interface: str) -> None:
        """Raises OSError and PermissionError."""
        config = instance.config
        source = instance.source if config.unicast else None
        key = ReceiverKey(instance.advert_index, config.family, instance.protocol, config.mcast_group, source)
        if instance.receiver == key:
            return
        self.stop(instance)
        if key not in self._receivers:
            receiver = Receiver(key, interface, self._deliver, self._malformed)
            self._receivers[key] = self._by_descriptor[receiver.sock.fileno()] = receiver
            self._targets[key] = {}
            self._poll.register(receiver.sock, select.EPOLLIN)
            self.audience.attend(key, interface)
        instance.receiver = key
        self._targets[key].setdefault(config.vrid, []).append(instance)
        self._names[key.ifindex] = interface
        self.census(key.ifindex).own.add(config.vrid)
        self._filter_soon(key)

    def stop(self, instance: Instance) -> None:
        """The instance hears nothing any more; a socket that nobody needs is closed."""
        key, instance.receiver = instance.receiver, None
        if key is None:
            return
        targets = self._targets[key]
        sharing = targets[instance.config.vrid]
        sharing.remove(instance)
        if sharing:
            return
        del targets[instance.config.vrid]
        if targets:
            self._filter_soon(key)
            return
        del self._targets[key]
        receiver = self._receivers.pop(key)
        del self._by_descriptor[receiver.sock.fileno()]
        self._poll.unregister(receiver.sock)
        self.audience.ignore(key)
        receiver.close()

    def descriptor(self, instance: Instance) -> int:
        """Of the socket that it hears with, -1 for none."""
        return -1 if instance.receiver is None else self._receivers[instance.receiver].sock.fileno()

    def interface(self, key: ReceiverKey) -> str:
        """Where a receiver listens, "" for everywhere."""
        return self._names.get(key.ifindex, "")

    def census(self, ifindex: int) -> LinkCensus:
        """Who is heard on an interface."""
        found = self._censuses.get(ifindex)
        if found is None:
            found = self._censuses[ifindex] = LinkCensus(complete=self.everything)
        return found

    def forget(self, ifindex: int) -> None:
        """That interface is no more, and its number is not given again."""
        if not any(key.ifindex == ifindex for key in self._receivers):
            self._censuses.pop(ifindex, None)
            self._names.pop(ifindex, None)

    def _filter_soon(self, key: ReceiverKey) -> None:
        """Once for all instances that are being connected now."""
        if not self._stale:
            asyncio.get_running_loop().call_soon(self._filter)
        self._stale.add(key)

    def _filter(self) -> None:
        stale, self._stale = self._stale, set()
        for key in stale:
            receiver = self._receivers.get(key)
            if receiver is not None:
                users = (instance.config for same in self._targets[key].values() for instance in same)
                asked = sum(room(config, self._buffers, self._names[key.ifindex]) for config in users)
                receiver.make_room(len(self._targets[key]), asked)
                receiver.hear_only(None if self.everything else self._targets[key])
        own: dict[int, set[int]] = {}
        for key, targets in self._targets.items():
            own.setdefault(key.ifindex, set()).update(targets)
        for ifindex, census in self._censuses.items():
            census.own = own.get(ifindex, set())

    # what arrives -------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Read every socket that has something, within reason."""
        for descriptor, _ in self._poll.poll(0):
            receiver = self._by_descriptor.get(descriptor)
            if receiver is not None:
                receiver.drain()

    def _deliver(self, key: ReceiverKey, datagram: Datagram) -> None:
        instance = self._instance_for(key, datagram)
        if instance is not None:
            self._deliver_to(instance, datagram)
            return
        if not datagram.vrid:
            self._malformed(key, str(datagram.source), PacketError(Reason.LENGTH, "no VRID"))
            return
        self.unknown_vrids += 1
        if self.everything and self.census(key.ifindex).heard(datagram.vrid, datagram.source):
            logger.info(
                "Unknown VRID(%d) received on %s from %s - ignoring",
                datagram.vrid,
                self._names.get(key.ifindex, "any interface"),
                datagram.source,
                extra={log.CROWD: (key, "VRID")},
            )

    def _instance_for(self, key: ReceiverKey, datagram: Datagram) -> Instance | None:
        """The instance of a VRID; among unicast ones that share it, the one with that peer."""
        targets = self._targets.get(key, {}).get(datagram.vrid)
        if not targets:
            return None
        if len(targets) > 1:
            for instance in targets:
                if any(peer.address == datagram.source for peer in instance.config.unicast_peers):
                    return instance
        return targets[0]

    def _malformed(self, key: ReceiverKey, sender: str, error: PacketError) -> None:
        self.malformed += 1
        what = error.reason, sender
        if what not in self._told and len(self._told) < MALFORMED_REMEMBERED:
            self._told.add(what)
            logger.info("malformed packet on %s from %s: %s", self._names.get(key.ifindex, "any"), sender, error)

    def lines(self) -> list[str]:
        """For dumps."""
        found = [f"Unknown VRIDs heard: {self.unknown_vrids}", f"Malformed packets: {self.malformed}"]
        for ifindex, census in self._censuses.items():
            found += [f"Link {self._names.get(ifindex, ifindex)}", *(f"  {line}" for line in census.lines())]
        return found

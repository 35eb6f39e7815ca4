"""The interfaces of use_vmac and use_ipvlan: made, reused, repaired, removed, with the settings they need.

Source: vrrp-behaviour.md 13, RFC 9568 section 7.3. An interface of ours is known by its parent and its MAC address, so
that one left by a killed process is taken over under whatever name it has.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from keepalived_py.config.model import Address, VrrpInstance
from keepalived_py.plan.links import AddAddress, AddressKey, DeleteAddress, Op, extra_vmacs
from keepalived_py.records import dataclass
from keepalived_py.values import IPAddress, VirtualRouterKey

from .link_monitor import LinkMonitor
from .network_manager import NetworkManager
from .rtnetlink import (
    IFF_UP,
    IFINFOMSG,
    IFLA_ADDRESS,
    IFLA_GROUP,
    IFLA_IFNAME,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_LINK,
    IFLA_LINKINFO,
    IFLA_MASTER,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REQUEST,
    RTM_DELLINK,
    RTM_NEWLINK,
    KernelError,
    Link,
    RequestSocket,
    attribute,
    batches,
    message,
)
from .sysctl import Sysctls
from .vmac_wish import Owner, Wish, extra_wish, link_local, own_wish

logger = logging.getLogger(__name__)

ETHERNET = 1
"""ARPHRD_ETHER."""
IFLA_AF_SPEC = 26
IFLA_INET6_ADDR_GEN_MODE, ADDR_GEN_NONE = 8, 1
MACVLAN_MODE, MACVLAN_PRIVATE = 1, 1
IPVLAN_MODE, IPVLAN_L2, IPVLAN_FLAGS = 1, 0, 2
IPVLAN_FLAG = {"bridge": 0, "private": 1, "vepa": 2}
RETRY = 1.0
"""Seconds until the kernel is asked again for what it refused."""
ON_VMAC = {
    4: (("arp_ignore", "1"), ("accept_local", "1"), ("rp_filter", "0"), ("promote_secondaries", "1")),
    6: (("arp_ignore", "1"),),
}
ON_PARENT = (("arp_ignore", "1"), ("arp_filter", "1"))


@dataclass(slots=True)
class _Made:
    """An interface of ours, and what it was made for."""

    index: int
    name: str
    parent: str
    parent_index: int
    family: int
    own: AddressKey | None = None
    """Its own address, if we gave it one."""


class Vmacs:
    """All VMACs of this worker. Links are asked for when an instance is connected, and are there when that returns."""

    def __init__(self, requests: RequestSocket, monitor: LinkMonitor, sysctls: Sysctls) -> None:
        self._requests, self._monitor, self._sysctls = requests, monitor, sysctls
        self._made: dict[Owner, _Made] = {}
        self._names: dict[VirtualRouterKey, set[str]] | None = None
        """Names by instance; None: to be worked out again."""
        self._told: dict[Owner, str] = {}
        """The last refusal of each, so that it is logged once."""
        self.prefix = self.address_prefix = "vrrp"
        self.may_share: Callable[[VirtualRouterKey, VirtualRouterKey], bool] = lambda one, other: False
        """Whether two instances may have addresses on one interface: members of a sync group."""
        self.again: Callable[[VirtualRouterKey], None] = lambda key: None
        """Asks for an interface again that the kernel refused a while ago."""
        self.filter: Callable[[Owner, frozenset[int], Link | None], None] = lambda owner, families, link: None
        """Hears of an interface before it is up, and of what it will speak; None: it is no more."""
        self._resting: set[Owner] = set()
        self.restored = 0
        """How many that somebody deleted were made again."""
        self._manager = NetworkManager()

    def names_of(self, key: VirtualRouterKey) -> set[str]:
        """The interfaces of an instance."""
        if self._names is None:
            self._names = {}
            for owner, made in self._made.items():
                self._names.setdefault(owner[0], set()).add(made.name)
        return self._names.get(key, set())

    def ensure(self, config: VrrpInstance, parent: Link) -> Link | None:
        """The interface of `config` above `parent`, made or repaired; None with a log when the kernel refuses."""
        return self._ensure(own_wish(config, self.prefix), parent)

    def ensure_extra(self, config: VrrpInstance) -> dict[tuple[str, int], int]:
        """Indices of the interfaces that addresses of `config` ask for, by interface below and family."""
        wanted = extra_vmacs(config)
        for owner in [o for o in self._made if o[0] == config.key and o[1] and (o[1], o[2]) not in wanted]:
            self._forget(owner)
        found: dict[tuple[str, int], int] = {}
        for dev, family in wanted:
            parent, owner = self._monitor.by_name(dev), (config.key, dev, family)
            if parent is None:
                self._forget(owner)
                continue
            link = self._ensure(extra_wish(config, dev, family, self.address_prefix), parent)
            if link is not None:
                found[dev, family] = link.index
        return found

    def _ensure(self, wish: Wish, parent: Link) -> Link | None:
        parent = self._monitor.links.get(parent.parent, parent) if parent.kind == wish.spec.kind else parent
        made = self._made.get(wish.owner)
        if made is not None and made.parent_index != parent.index:
            self._forget(wish.owner)  # what was below it is called otherwise now, or is another interface
            made = None
        found = self._existing(wish, parent, made)
        if made is not None and found is not None and made.index == found.index:
            made.name = found.name
            if self._repair(wish, parent, found, made):
                self._filter(wish, found)
                return self._monitor.links.get(found.index)
            made = found = None
        if wish.owner in self._resting:
            return None  # what we try causes notices, which must not make us try for ever
        created = False
        try:
            if wish.spec.kind == "macvlan" and parent.hardware != ETHERNET:
                raise KernelError("an interface that is not Ethernet cannot have one", errno.EOPNOTSUPP)
            if found is None:
                found, created = self._create(wish, parent), True
            own = self._set_up(wish, parent, found)
        except KernelError as exc:
            self._refused(wish, parent, exc)
            if created and found is not None:
                self._delete(found.index)
            return None
        self._told.pop(wish.owner, None)
        self._names = None
        self.restored += wish.owner in self._made
        self._made[wish.owner] = _Made(found.index, found.name, parent.name, parent.index, wish.family, own)
        return self._monitor.links.get(found.index)

    def _refused(self, wish: Wish, parent: Link, exc: KernelError) -> None:
        if exc.code == errno.ENODEV:
            return  # just deleted, which the next notice tells
        text = f"VMAC on {parent.name}: {exc}"
        if wish.owner not in self._resting:
            self._resting.add(wish.owner)
            asyncio.get_running_loop().call_later(RETRY, self._try_again, wish.owner)
        if self._told.get(wish.owner) != text:
            self._told[wish.owner] = text
            logger.error("(%s) %s", wish.title, text)

    def _try_again(self, owner: Owner) -> None:
        self._resting.discard(owner)
        self.again(owner[0])

    def _repair(self, wish: Wish, parent: Link, link: Link, made: _Made) -> bool:
        """Up again and with its address when somebody has been at it, and in the VRF of the interface below.

        False when it is no more: the kernel tells that a link is down before it tells that it is gone.
        """
        try:
            master = parent.master if self._is_vrf(parent.master) else 0
            if link.master != master and (master or self._is_vrf(link.master)):
                self._join(link, master)
            if parent.flags & IFF_UP and not link.flags & IFF_UP:
                self._bring_up(link)
                made.own = self._own_address(wish, parent, link, made.own)
            elif made.own is not None and link.flags & IFF_UP:
                made.own = self._own_address(wish, parent, link, made.own)
        except KernelError as exc:
            if exc.code == errno.ENODEV:
                self._monitor.forget(link)
                return False
            self._refused(wish, parent, exc)
        return True

    def _existing(self, wish: Wish, parent: Link, made: _Made | None) -> Link | None:
        """One that already is what is wanted: ours, or left by another process."""
        spec = wish.spec
        taken = {
            each.index
            for owner, each in self._made.items()
            if owner != wish.owner and (owner[0] == wish.owner[0] or not self.may_share(owner[0], wish.owner[0]))
        }
        for link in self._monitor.links.values():
            if link.parent != parent.index or link.kind != spec.kind or link.index in taken:
                continue
            if spec.kind == "macvlan" and (link.mac != wish.mac.octets or link.mode != MACVLAN_PRIVATE):
                continue
            if made is not None and made.index != link.index:
                continue
            if spec.kind == "ipvlan" and made is None and link.name != wish.names[0]:
                continue
            return link
        return None

    def _create(self, wish: Wish, parent: Link) -> Link:
        """Raises KernelError."""
        spec = wish.spec
        for link in self._monitor.links.values():
            taken = spec.kind == link.kind == "macvlan" and link.parent == parent.index and link.name != spec.name
            if taken and link.mac == wish.mac.octets:
                raise KernelError(f"{link.name} has MAC address {wish.mac}", errno.EADDRINUSE)
        stale = self._monitor.by_name(spec.name) if spec.name else None
        if stale is not None and stale.kind == spec.kind and stale.mode in (0, MACVLAN_PRIVATE):
            self._delete(stale.index)  # of that name, but above another interface or with another address
        used = {link.name for link in self._monitor.links.values()}
        name = next(name for name in wish.names if name not in used)
        body = IFINFOMSG.pack(0, 0, 0, 0, 0) + attribute(IFLA_IFNAME, name.encode() + b"\0")
        body += attribute(IFLA_LINK, struct.pack("=I", parent.index))
        body += attribute(IFLA_GROUP, struct.pack("=I", parent.group if spec.group is None else spec.group))
        if spec.kind == "macvlan":
            body += attribute(IFLA_ADDRESS, wish.mac.octets)
            data = attribute(MACVLAN_MODE, struct.pack("=I", MACVLAN_PRIVATE))
        else:
            data = attribute(IPVLAN_MODE, struct.pack("=H", IPVLAN_L2))
            data += attribute(IPVLAN_FLAGS, struct.pack("=H", IPVLAN_FLAG[spec.ipvlan_mode]))
        info = attribute(IFLA_INFO_KIND, spec.kind.encode()) + attribute(IFLA_INFO_DATA, data)
        body += attribute(IFLA_LINKINFO, info)
        self._ask(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"create {spec.kind} {name}")
        found = self._monitor.by_name(name)
        if found is None:
            raise KernelError(f"create {spec.kind} {name}", errno.ENODEV)
        logger.info("(%s) created %s %s on %s", wish.title, spec.kind, name, parent.name)
        self._manager.leave(name)
        return found

    def _set_up(self, wish: Wish, parent: Link, link: Link) -> AddressKey | None:
        """Settings first, then up, so that it never answers for what it must not. Its own address. Raises
        KernelError."""
        self._settings(wish, parent.name, link.name)
        body = IFINFOMSG.pack(0, 0, link.index, 0, 0)
        generation = attribute(socket.AF_INET6, attribute(IFLA_INET6_ADDR_GEN_MODE, bytes((ADDR_GEN_NONE,))))
        if wish.spec.kind == "macvlan" and Path(f"/proc/sys/net/ipv6/conf/{link.name}").is_dir():
            self._ask(RTM_NEWLINK, 0, body + attribute(IFLA_AF_SPEC, generation), f"address generation of {link.name}")
        if self._is_vrf(parent.master):
            self._join(link, parent.master)
        self._filter(wish, link)
        if not parent.flags & IFF_UP:
            return None
        self._bring_up(link)
        if wish.spec.netlink_notify_msg:
            self._tell_of(parent)
        return self._own_address(wish, parent, link)

    def _filter(self, wish: Wish, link: Link) -> None:
        self.filter(wish.owner, wish.families if wish.spec.kind == "macvlan" else frozenset(), link)

    def _tell_of(self, link: Link) -> None:
        """Have the kernel tell everybody of a link: where it filters no addresses, as a bridge, others do not hear that
        it is promiscuous now. Setting the group that it has does no more than that. Raises KernelError."""
        body = IFINFOMSG.pack(0, 0, link.index, 0, 0) + attribute(IFLA_GROUP, struct.pack("=I", link.group))
        self._ask(RTM_NEWLINK, 0, body, f"notice of {link.name}")

    def _join(self, link: Link, master: int) -> None:
        """Into a VRF, or out of it with 0. Raises KernelError."""
        body = IFINFOMSG.pack(0, 0, link.index, 0, 0) + attribute(IFLA_MASTER, struct.pack("=I", master))
        self._ask(RTM_NEWLINK, 0, body, f"VRF of {link.name}")

    def _bring_up(self, link: Link) -> None:
        """Raises KernelError."""
        self._ask(RTM_NEWLINK, 0, IFINFOMSG.pack(0, 0, link.index, IFF_UP, IFF_UP), f"bring up {link.name}")

    def _is_vrf(self, index: int) -> bool:
        master = self._monitor.links.get(index)
        return master is not None and bool(master.table)

    def _settings(self, wish: Wish, parent: str, name: str) -> None:
        set_one = self._sysctls.set
        if wish.family == 4 and wish.spec.kind == "macvlan":
            for setting, value in ON_PARENT:
                set_one(f"ipv4/conf/{parent}/{setting}", value)
            self._loosen_rp_filter(name)
        for setting, value in ON_VMAC[wish.family] if wish.spec.kind == "macvlan" else ():
            # written even when it is so already: what was never written follows the default when that changes
            set_one(f"ipv4/conf/{name}/{setting}", value, remember=False, always=True)
        if 6 not in wish.families:
            set_one(f"ipv6/conf/{name}/disable_ipv6", "1", remember=False)

    def _loosen_rp_filter(self, name: str) -> None:
        """The greater of `all` and the interface counts: `all` goes to each interface, so that a VMAC can have 0."""
        everywhere = self._sysctls.get("ipv4/conf/all/rp_filter")
        if everywhere in (None, "0"):
            self._sysctls.claim("ipv4/conf/", "/rp_filter")
            return
        changes: dict[str, str] = {}
        for link in ("default", *(each.name for each in self._monitor.links.values() if each.name != name)):
            setting = f"ipv4/conf/{link}/rp_filter"
            own = self._sysctls.get(setting)
            if own is not None and own < str(everywhere):
                changes[setting] = str(everywhere)
        self._sysctls.set_all({**changes, "ipv4/conf/all/rp_filter": "0"})

    def _own_address(self, wish: Wish, parent: Link, link: Link, before: AddressKey | None = None) -> AddressKey | None:
        """What the interface needs to send: a link-local address for IPv6, its own for an ipvlan, whose link-local one
        the kernel makes. Raises KernelError."""
        address: IPAddress | None = wish.spec.ipvlan_address
        prefixlen, preferred = wish.spec.ipvlan_prefixlen, None
        if wish.family == 6 and wish.spec.kind == "macvlan" and not wish.spec.xmit_base:
            own = self._monitor.own_addresses(parent.index, 6, frozenset())
            derived = before.address if before is not None else link_local(parent.mac)
            address, prefixlen = wish.source or (own[0] if own else derived), 64
            preferred = 0  # it is for adverts only
        if address is None:
            return None
        key = AddressKey(link.index, address, prefixlen)
        if key == before and key in self._monitor.addresses:
            return key
        row = Address(address=address, prefixlen=prefixlen, noprefixroute=False, preferred_lft=preferred)
        ops: list[Op] = [AddAddress(key, row)]
        if before is not None and before != key:
            ops.append(DeleteAddress(before, row))
        for batch in batches(ops, len(ops)):
            for error in self._requests.submit(batch):
                raise error
        self._monitor.absorb()
        return key

    def forget(self, key: VirtualRouterKey) -> None:
        """Remove the interfaces of an instance that is no more."""
        for owner in [owner for owner in self._made if owner[0] == key]:
            self._forget(owner)

    def forget_own(self, key: VirtualRouterKey) -> None:
        """Remove the interface of an instance whose interface below is gone."""
        self._forget((key, "", 0))

    def _forget(self, owner: Owner) -> None:
        self._names = None
        made = self._made.pop(owner, None)
        self._told.pop(owner, None)
        self.filter(owner, frozenset(), None)
        if made is None:
            return
        if not any(other.index == made.index for other in self._made.values()):
            self._delete(made.index)
        below = self._monitor.links.get(made.parent_index)
        if below is not None and below.name != made.parent:
            self._sysctls.renamed(made.parent, below.name)
            made.parent = below.name
        if not any(other.parent_index == made.parent_index and other.family == 4 for other in self._made.values()):
            self._sysctls.restore(f"ipv4/conf/{made.parent}/arp_")
        if not any(other.family == 4 for other in self._made.values()):
            self._sysctls.restore("ipv4/conf/", "/rp_filter")

    def forget_all(self) -> None:
        for owner in list(self._made):
            self._forget(owner)

    def _delete(self, index: int) -> None:
        try:
            self._ask(RTM_DELLINK, 0, IFINFOMSG.pack(0, 0, index, 0, 0), f"delete interface {index}")
        except KernelError as exc:
            if exc.code not in (errno.ENODEV, errno.EINVAL):
                logger.warning("%s", exc)

    def _ask(self, kind: int, flags: int, body: bytes, what: str) -> None:
        """One request, and its notices taken. Raises KernelError."""
        self._requests.ask(message(kind, NLM_F_REQUEST | NLM_F_ACK | flags, body), what)
        self._monitor.absorb()

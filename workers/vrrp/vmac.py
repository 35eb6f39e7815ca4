"""The interfaces of use_vmac and use_ipvlan: made, reused, repaired, removed, with the settings they need.

Source: vrrp-behaviour.md 13, RFC 9568 section 7.3. An interface of ours is known by its parent and its MAC address, so
that one left by a killed process is taken over under whatever name it has.
"""

from __future__ import annotations

import errno
import logging
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

from keepalived_py.config.model import Address, VmacSpec, VrrpInstance
from keepalived_py.plan.links import AddAddress, AddressKey
from keepalived_py.values import IPAddress, MacAddress, VirtualRouterKey

from .link_monitor import LinkMonitor
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

logger = logging.getLogger(__name__)

IFLA_AF_SPEC = 26
IFLA_INET6_ADDR_GEN_MODE, ADDR_GEN_NONE = 8, 1
MACVLAN_MODE, MACVLAN_PRIVATE = 1, 1
IPVLAN_MODE, IPVLAN_L2, IPVLAN_FLAGS = 1, 0, 2
IPVLAN_FLAG = {"bridge": 0, "private": 1, "vepa": 2}
MAX_NAME = 15
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
    family: int


class Vmacs:
    """All VMACs of this worker. Links are asked for when an instance is connected, and are there when that returns."""

    def __init__(self, requests: RequestSocket, monitor: LinkMonitor, sysctls: Sysctls) -> None:
        self._requests, self._monitor, self._sysctls = requests, monitor, sysctls
        self._made: dict[VirtualRouterKey, _Made] = {}
        self.prefix = "vrrp"

    def name_of(self, key: VirtualRouterKey) -> str:
        """The interface of an instance, "" when it has none."""
        made = self._made.get(key)
        return made.name if made is not None else ""

    def ensure(self, config: VrrpInstance, parent: Link) -> Link | None:
        """The interface of `config` above `parent`, made or repaired; None with a log when the kernel refuses."""
        spec = config.vmac
        assert spec is not None
        parent = self._monitor.links.get(parent.parent, parent) if parent.kind == spec.kind else parent
        made = self._made.get(config.key)
        found = self._existing(spec, config, parent, made)
        if made is not None and found is not None and made.index == found.index:
            return found
        try:
            if found is None:
                found = self._create(spec, config, parent)
            self._set_up(config, parent, found)
        except KernelError as exc:
            logger.error("(%s) VMAC on %s: %s", config.name, parent.name, exc)
            return None
        self._made[config.key] = _Made(found.index, found.name, parent.name, config.family)
        return self._monitor.links.get(found.index)

    def _existing(self, spec: VmacSpec, config: VrrpInstance, parent: Link, made: _Made | None) -> Link | None:
        """One that already is what is wanted: ours, or left by another process."""
        mac = _mac(spec, config)
        taken = {each.index for key, each in self._made.items() if key != config.key}
        for link in self._monitor.links.values():
            if link.parent != parent.index or link.kind != spec.kind or link.index in taken:
                continue
            if spec.kind == "macvlan" and (link.mac != mac.octets or link.mode != MACVLAN_PRIVATE):
                continue
            if made is not None and made.index != link.index:
                continue
            if spec.kind == "ipvlan" and made is None and link.name != self._name(spec, config, free=False):
                continue
            return link
        return None

    def _name(self, spec: VmacSpec, config: VrrpInstance, free: bool = True) -> str:
        """The name asked for, else PREFIX.VRID; one that is taken gets a number behind the prefix."""
        numbers = ["", *(["6"] if config.family == 6 else []), *map(str, range(1, 1000))]
        names = ([spec.name] if spec.name else []) + [f"{self.prefix}{n}.{config.vrid}"[:MAX_NAME] for n in numbers]
        if not free:
            return names[0]
        used = {link.name for link in self._monitor.links.values()}
        return next(name for name in names if name not in used)

    def _create(self, spec: VmacSpec, config: VrrpInstance, parent: Link) -> Link:
        """Raises KernelError."""
        stale = self._monitor.by_name(spec.name) if spec.name else None
        if stale is not None and stale.kind == spec.kind:
            self._delete(stale.index)  # of that name, but above another interface or with another address
        name = self._name(spec, config)
        body = IFINFOMSG.pack(0, 0, 0, 0, 0) + attribute(IFLA_IFNAME, name.encode() + b"\0")
        body += attribute(IFLA_LINK, struct.pack("=I", parent.index))
        body += attribute(IFLA_GROUP, struct.pack("=I", parent.group if spec.group is None else spec.group))
        if spec.kind == "macvlan":
            body += attribute(IFLA_ADDRESS, _mac(spec, config).octets)
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
        logger.info("(%s) created %s %s on %s", config.name, spec.kind, name, parent.name)
        return found

    def _set_up(self, config: VrrpInstance, parent: Link, link: Link) -> None:
        """Settings first, then up, so that it never answers for what it must not. Raises KernelError."""
        spec = config.vmac
        assert spec is not None
        self._settings(config, parent.name, link.name)
        body = IFINFOMSG.pack(0, 0, link.index, 0, 0)
        generation = attribute(socket.AF_INET6, attribute(IFLA_INET6_ADDR_GEN_MODE, bytes((ADDR_GEN_NONE,))))
        if Path(f"/proc/sys/net/ipv6/conf/{link.name}").is_dir():
            self._ask(RTM_NEWLINK, 0, body + attribute(IFLA_AF_SPEC, generation), f"address generation of {link.name}")
        if parent.master and self._is_vrf(parent.master):
            master = attribute(IFLA_MASTER, struct.pack("=I", parent.master))
            self._ask(RTM_NEWLINK, 0, body + master, f"VRF of {link.name}")
        self._ask(RTM_NEWLINK, 0, IFINFOMSG.pack(0, 0, link.index, IFF_UP, IFF_UP), f"bring up {link.name}")
        self._own_address(config, parent, link)

    def _is_vrf(self, index: int) -> bool:
        master = self._monitor.links.get(index)
        return master is not None and bool(master.table)

    def _settings(self, config: VrrpInstance, parent: str, name: str) -> None:
        set_one = self._sysctls.set
        if config.family == 4 and config.vmac is not None and config.vmac.kind == "macvlan":
            for setting, value in ON_PARENT:
                set_one(f"ipv4/conf/{parent}/{setting}", value)
            self._loosen_rp_filter(name)
        for setting, value in ON_VMAC[config.family]:
            # written even when it is so already: what was never written follows the default when that changes
            set_one(f"ipv4/conf/{name}/{setting}", value, remember=False, always=True)
        needs_ipv6 = config.family == 6 or any(row.family == 6 for row in (*config.addresses, *config.excluded))
        if not needs_ipv6:
            set_one(f"ipv6/conf/{name}/disable_ipv6", "1", remember=False)

    def _loosen_rp_filter(self, name: str) -> None:
        """The greater of `all` and the interface counts: `all` goes to each interface, so that a VMAC can have 0."""
        everywhere = self._sysctls.get("ipv4/conf/all/rp_filter")
        if everywhere in (None, "0"):
            return
        for link in ("default", *(each.name for each in self._monitor.links.values() if each.name != name)):
            own = self._sysctls.get(f"ipv4/conf/{link}/rp_filter")
            if own is not None and own < str(everywhere):
                self._sysctls.set(f"ipv4/conf/{link}/rp_filter", str(everywhere))
        self._sysctls.set("ipv4/conf/all/rp_filter", "0")

    def _own_address(self, config: VrrpInstance, parent: Link, link: Link) -> None:
        """What the interface needs to send: a link-local address for IPv6, its own for an ipvlan."""
        spec = config.vmac
        assert spec is not None
        address: IPAddress | None = spec.ipvlan_address
        prefixlen = spec.ipvlan_prefixlen
        if config.family == 6 and address is None and not spec.xmit_base:
            own = self._monitor.own_addresses(parent.index, 6, frozenset())
            address, prefixlen = config.source or (own[0] if own else None), 64
        if address is None:
            return
        key = AddressKey(link.index, address, prefixlen)
        row = Address(address=address, prefixlen=prefixlen, noprefixroute=False)
        for batch in batches([AddAddress(key, row)], 1):
            for error in self._requests.submit(batch):
                raise error
        self._monitor.absorb()

    def forget(self, key: VirtualRouterKey) -> None:
        """Remove the interface of an instance that is no more."""
        made = self._made.pop(key, None)
        if made is None:
            return
        self._delete(made.index)
        if not any(other.parent == made.parent and other.family == 4 for other in self._made.values()):
            self._sysctls.restore(f"ipv4/conf/{made.parent}/arp_")
        if not any(other.family == 4 for other in self._made.values()):
            self._sysctls.restore("ipv4/conf/", "/rp_filter")

    def forget_all(self) -> None:
        for key in list(self._made):
            self.forget(key)

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


def _mac(spec: VmacSpec, config: VrrpInstance) -> MacAddress:
    return spec.mac or MacAddress.virtual_router(config.vrid, config.family)

"""Bytes for the kernel and for the wire, held against decoders that others wrote."""

from __future__ import annotations

import contextlib
import errno
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.generic.ipvs import ipvsmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from scapy.layers.inet6 import ICMPv6ND_NA
from scapy.layers.l2 import Ether

from keepalived_py.checks.virtual_server import Destination
from keepalived_py.config.model import Address, Forwarding
from keepalived_py.plan.ipvs import (
    AddDestination,
    AddService,
    DeleteDestination,
    DeleteService,
    EditDestination,
    EditService,
    Service,
    ServiceId,
)
from keepalived_py.plan.links import AddAddress, AddressKey, DeleteAddress, desired_addresses, reconcile
from keepalived_py.values import Protocol, RealKey, ip_address
from tests.unit.vrrp.builders import instance
from workers import netlink
from workers.checker import ipvs_kernel, ipvs_messages, ipvs_statistics
from workers.vrrp import rtnetlink
from workers.vrrp.announce import gratuitous_arp, unsolicited_na

MAC = bytes.fromhex("020000000001")


def decoded(message: bytes) -> Any:
    found = ifaddrmsg(message)
    found.decode()
    return found


def test_addresses_for_rtnetlink() -> None:
    row = Address(
        address=ip_address("10.0.0.100"),
        prefixlen=24,
        scope=253,
        broadcast=ip_address("10.0.0.255"),
        label="eth0:1",
        noprefixroute=True,
    )
    found = decoded(rtnetlink.encode(AddAddress(AddressKey(7, row.address, 24), row)))
    assert (found["family"], found["prefixlen"], found["scope"], found["index"]) == (2, 24, 253, 7)
    assert found.get("local") == found.get("address") == "10.0.0.100"
    assert found.get("broadcast") == "10.0.0.255"
    assert found.get("label") == "eth0:1"
    assert found.get("flags") == rtnetlink.IFA_F_NOPREFIXROUTE
    assert found["header"]["type"] == rtnetlink.RTM_NEWADDR
    gone = decoded(rtnetlink.encode(DeleteAddress(AddressKey(7, row.address, 24), row)))
    assert gone["header"]["type"] == rtnetlink.RTM_DELADDR
    assert gone.get("local") == "10.0.0.100"


@pytest.mark.parametrize(("prefixlen", "preferred", "lifetime"), [(128, None, 0), (64, None, 0xFFFFFFFF), (64, 30, 30)])
def test_an_ipv6_host_address_is_never_a_source(prefixlen: int, preferred: int | None, lifetime: int) -> None:
    row = Address(address=ip_address("2001:db8::1"), prefixlen=prefixlen, preferred_lft=preferred)
    found = decoded(rtnetlink.encode(AddAddress(AddressKey(7, row.address, prefixlen), row)))
    assert found.get("cacheinfo")["ifa_preferred"] == lifetime
    assert found.get("flags") & rtnetlink.IFA_F_NODAD


@given(st.binary(max_size=200))
def test_any_bytes_from_netlink_do_no_harm(data: bytes) -> None:
    for kind, _, _, body in rtnetlink.messages(data):
        with contextlib.suppress(struct.error):
            rtnetlink.notice(kind, body)
    for kind in (rtnetlink.RTM_NEWLINK, rtnetlink.RTM_NEWADDR):
        with contextlib.suppress(struct.error):
            rtnetlink.notice(kind, memoryview(data))


def test_desired_addresses_and_the_way_there() -> None:
    config = instance("192.0.2.100", "192.0.2.101")
    other = Address(address=ip_address("192.0.2.102"), prefixlen=24, dev="eth1")
    lost = Address(address=ip_address("192.0.2.103"), prefixlen=24, dev="nothere")
    config = instance("192.0.2.100", excluded=(other, lost))
    desired = desired_addresses(config, 5, {"eth1": 6})
    assert [key.ifindex for key in desired] == [5, 6]
    first, second = desired
    ops = list(reconcile(desired, [first], {first: desired[first]}))
    assert ops == [AddAddress(second, desired[second])]
    assert list(reconcile({}, desired, {first: desired[first]})) == [DeleteAddress(first, desired[first])]


def test_changed_attributes_replace_the_row() -> None:
    old = Address(address=ip_address("192.0.2.102"), prefixlen=24)
    new = Address(address=ip_address("192.0.2.102"), prefixlen=24, label="eth0:1")
    key = AddressKey(5, old.address, 24)
    assert list(reconcile({key: new}, [key], {key: old})) == [DeleteAddress(key, old), AddAddress(key, new)]


def test_an_ipv6_address_of_another_prefix_goes_before_the_new_one_comes() -> None:
    """The kernel has one of an interface."""
    wide, narrow = (Address(address=ip_address("2001:db8::1"), prefixlen=prefix) for prefix in (64, 65))
    old, new = AddressKey(5, wide.address, 64), AddressKey(5, wide.address, 65)
    assert list(reconcile({new: narrow}, [old], {old: wide})) == [DeleteAddress(old, wide), AddAddress(new, narrow)]
    elsewhere = AddressKey(6, wide.address, 65)
    there = list(reconcile({elsewhere: narrow}, [old], {old: wide}))
    assert there == [AddAddress(elsewhere, narrow), DeleteAddress(old, wide)]


def test_gratuitous_arp() -> None:
    frame = Ether(gratuitous_arp(ip_address("10.0.0.100"), MAC))
    assert (frame.dst, frame.src) == ("ff:ff:ff:ff:ff:ff", "02:00:00:00:00:01")
    arp = frame.payload
    assert (arp.op, arp.psrc, arp.pdst, arp.hwsrc) == (1, "10.0.0.100", "10.0.0.100", "02:00:00:00:00:01")


@pytest.mark.parametrize("router", [True, False])
def test_unsolicited_neighbour_advertisement(router: bool) -> None:
    raw = unsolicited_na(ip_address("fe80::100"), MAC, router)
    frame = Ether(raw)
    na = frame[ICMPv6ND_NA]
    assert (frame.dst, frame.payload.dst, frame.payload.hlim) == ("33:33:00:00:00:01", "ff02::1", 255)
    assert (na.R, na.S, na.O, na.tgt) == (router, 0, 1, "fe80::100")
    checksum = na.cksum
    del na.cksum
    assert Ether(bytes(frame))[ICMPv6ND_NA].cksum == checksum


V4 = ServiceId(4, Protocol.TCP, ip_address("10.0.0.1"), 80)
V6 = ServiceId(6, Protocol.UDP, ip_address("fd00::1"), 53)
MARK = ServiceId(4, fwmark=7)
REAL = RealKey(ip_address("10.1.0.1"), 8080)


def attributes(op: Any) -> tuple[int, dict[str, dict[str, Any]]]:
    """Command and attributes as pyroute2 reads them."""
    command, body = ipvs_messages.encode(op)
    header = struct.pack("=IHHII", 20 + len(body), 30, 1, 1, 0) + struct.pack("=BBH", command, 1, 0)
    message = ipvsmsg(header + body)
    message.decode()
    return command, {name: dict(nested["attrs"]) for name, nested in message["attrs"]}


def test_services_for_ipvs() -> None:
    command, found = attributes(AddService(V4, Service("wrr", 0x1 | 0x8, 60, 0xFFFFFF00, "sip")))
    service = found["IPVS_CMD_ATTR_SERVICE"]
    assert command == ipvs_messages.NEW_SERVICE
    assert service["IPVS_SVC_ATTR_ADDR"] == "10.0.0.1"
    assert service["IPVS_SVC_ATTR_PORT"] == 80
    assert service["IPVS_SVC_ATTR_PROTOCOL"] == 6
    assert service["IPVS_SVC_ATTR_SCHED_NAME"] == "wrr"
    assert service["IPVS_SVC_ATTR_TIMEOUT"] == 60
    assert service["IPVS_SVC_ATTR_NETMASK"] == "255.255.255.0"
    assert service["IPVS_SVC_ATTR_FLAGS"]["flags"] == 9
    command, found = attributes(EditService(MARK, Service("rr")))
    assert command == ipvs_messages.SET_SERVICE
    assert found["IPVS_CMD_ATTR_SERVICE"]["IPVS_SVC_ATTR_FWMARK"] == 7
    assert attributes(DeleteService(V6))[0] == ipvs_messages.DEL_SERVICE


@pytest.mark.parametrize(("kind", "command"), [(AddDestination, 5), (EditDestination, 6)])
def test_destinations_for_ipvs(kind: Any, command: int) -> None:
    gue = Forwarding(method="TUN", tunnel_type="gue", tunnel_port=6080, tunnel_csum="csum")
    found_command, found = attributes(kind(V4, REAL, Destination(5, gue, 20, 10)))
    real = found["IPVS_CMD_ATTR_DEST"]
    assert found_command == command
    assert (real["IPVS_DEST_ATTR_ADDR"], real["IPVS_DEST_ATTR_PORT"]) == ("10.1.0.1", 8080)
    assert (real["IPVS_DEST_ATTR_WEIGHT"], real["IPVS_DEST_ATTR_FWD_METHOD"]) == (5, 2)
    assert (real["IPVS_DEST_ATTR_U_THRESH"], real["IPVS_DEST_ATTR_L_THRESH"]) == (20, 10)
    assert attributes(DeleteDestination(V4, REAL))[0] == 7


@pytest.mark.parametrize(
    ("id", "service"),
    [
        (V4, Service("wrr", 0x9, 60, 0xFFFFFF00, "sip")),
        (V6, Service("rr", 0, 0, 128)),
        (ServiceId(6, fwmark=9), Service("lc", 1, 300, 64)),
        (MARK, Service("mh", 0x18, 0)),
    ],
)
def test_a_service_reads_back_as_it_was_written(id: ServiceId, service: Service) -> None:
    _, body = ipvs_messages.encode(AddService(id, service))
    inner = netlink.attributes(memoryview(body))[ipvs_messages.CMD_SERVICE]
    assert ipvs_messages.decode_service(inner) == (id, service)


@pytest.mark.parametrize(
    "forwarding",
    [
        Forwarding(),
        Forwarding(method="DR"),
        Forwarding(method="TUN"),
        Forwarding(method="TUN", tunnel_type="gue", tunnel_port=1, tunnel_csum="remcsum"),
    ],
)
def test_a_destination_reads_back_as_it_was_written(forwarding: Forwarding) -> None:
    row = Destination(7, forwarding, 3, 2)
    _, body = ipvs_messages.encode(AddDestination(V4, REAL, row))
    inner = netlink.attributes(memoryview(body))[ipvs_messages.CMD_DEST]
    assert ipvs_messages.decode_destination(inner, 4) == (REAL, row)


def test_counters_are_read_in_64_bits() -> None:
    def u64(*values: int) -> bytes:
        parts = enumerate(values, 1)
        return b"".join(netlink.attribute(kind, struct.pack("=Q", value)) for kind, value in parts)

    body = b"".join(ipvs_messages.u32(kind, value) for kind, value in ((7, 4), (8, 5), (9, 6)))
    body += netlink.attribute(12, u64(2**40, 2**33, 3, 2**63, 5, 100, 100))
    found = netlink.attributes(memoryview(body))
    counters = ipvs_statistics.Counters(2**40, 2**33, 3, 2**63, 5)
    assert ipvs_statistics.decode_usage(found) == ipvs_statistics.RealUsage(4, 5, 6, counters)
    assert ipvs_statistics.decode_usage({}) == ipvs_statistics.RealUsage()


def test_what_is_there_or_gone_already_is_no_failure() -> None:
    assert ipvs_kernel._harmless(AddService(V4, Service("rr")), errno.EEXIST)
    assert ipvs_kernel._harmless(DeleteDestination(V4, REAL), errno.ENOENT)
    assert not ipvs_kernel._harmless(EditService(V4, Service("rr")), errno.EEXIST)

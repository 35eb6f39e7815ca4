"""IPVS requests and answers as bytes (linux/ip_vs.h)."""

from __future__ import annotations

import socket
import struct
import sys

from keepalived_py.checks.virtual_server import Destination
from keepalived_py.config.model import Forwarding
from keepalived_py.plan.ipvs import (
    FLAG_MASK,
    LOCAL,
    AddDestination,
    AddService,
    DeleteDestination,
    DeleteService,
    EditDestination,
    EditService,
    Op,
    Service,
    ServiceId,
)
from keepalived_py.values import IPAddress, IPv4Address, IPv6Address, Protocol, RealKey
from workers.netlink import NESTED, attribute, attributes

NEW_SERVICE, SET_SERVICE, DEL_SERVICE, GET_SERVICE, NEW_DEST, SET_DEST, DEL_DEST, GET_DEST = range(1, 9)
SET_CONFIG, GET_CONFIG = 12, 13
FLUSH = 17
CMD_SERVICE, CMD_DEST = 1, 2
CMD_TIMEOUTS = {"tcp": 4, "tcpfin": 5, "udp": 6}
SVC_AF, SVC_PROTOCOL, SVC_ADDR, SVC_PORT, SVC_FWMARK, SVC_SCHED, SVC_FLAGS, SVC_TIMEOUT, SVC_NETMASK = range(1, 10)
SVC_PE = 11
DEST_ADDR, DEST_PORT, DEST_FWD, DEST_WEIGHT, DEST_UTHRESH, DEST_LTHRESH = range(1, 7)
DEST_FAMILY, DEST_TUN_TYPE, DEST_TUN_PORT, DEST_TUN_FLAGS = 11, 13, 14, 15
FORWARDING = {"NAT": 0, "TUN": 2, "DR": 3}
FORWARDING_MASK = 0x7
TUNNELS = ("ipip", "gue", "gre")
CHECKSUMS = {"nocsum": 0, "csum": 1, "remcsum": 2}
PROTOCOLS = {Protocol.TCP: socket.IPPROTO_TCP, Protocol.UDP: socket.IPPROTO_UDP, Protocol.SCTP: 132, Protocol.NONE: 0}
PROTOCOL_OF = {number: protocol for protocol, number in PROTOCOLS.items()}


# encoding ---------------------------------------------------------------------------------------------------------


def _u16(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=H", value))


def u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def _af(family: int) -> int:
    return int(socket.AF_INET if family == 4 else socket.AF_INET6)


def service_id(id: ServiceId) -> bytes:
    body = _u16(SVC_AF, _af(id.family))
    if id.address is None:
        return body + u32(SVC_FWMARK, id.fwmark)
    return (
        body
        + _u16(SVC_PROTOCOL, PROTOCOLS[id.protocol])
        + attribute(SVC_ADDR, id.address.packed)
        + attribute(SVC_PORT, id.port.to_bytes(2))
    )


def _service(id: ServiceId, service: Service) -> bytes:
    # IPv4 wants the mask in network order, IPv6 a prefix length in host order
    netmask = service.netmask.to_bytes(4) if id.family == 4 else struct.pack("=I", service.netmask)
    body = (
        service_id(id)
        + attribute(SVC_SCHED, service.scheduler.encode() + b"\0")
        + attribute(SVC_FLAGS, struct.pack("=II", service.flags, 0xFFFFFFFF))
        + u32(SVC_TIMEOUT, service.timeout)
        + attribute(SVC_NETMASK, netmask)
    )
    if service.engine:
        body += attribute(SVC_PE, service.engine.encode() + b"\0")
    return body


def _real(key: RealKey) -> bytes:
    return (
        attribute(DEST_ADDR, key.address.packed)
        + attribute(DEST_PORT, key.port.to_bytes(2))
        + _u16(DEST_FAMILY, _af(key.address.version))
    )


def _destination(key: RealKey, destination: Destination) -> bytes:
    forwarding = destination.forwarding
    body = (
        _real(key)
        + u32(DEST_FWD, FORWARDING[forwarding.method])
        + u32(DEST_WEIGHT, destination.weight)
        + u32(DEST_UTHRESH, destination.uthreshold)
        + u32(DEST_LTHRESH, destination.lthreshold)
    )
    if forwarding.method == "TUN" and forwarding.tunnel_type != "ipip":
        body += attribute(DEST_TUN_TYPE, bytes((TUNNELS.index(forwarding.tunnel_type),)))
        body += attribute(DEST_TUN_PORT, forwarding.tunnel_port.to_bytes(2))
        body += _u16(DEST_TUN_FLAGS, CHECKSUMS[forwarding.tunnel_csum])
    return body


def encode(op: Op) -> tuple[int, bytes]:
    """Command and attributes of one operation."""
    match op:
        case AddService():
            return NEW_SERVICE, attribute(CMD_SERVICE | NESTED, _service(op.id, op.service))
        case EditService():
            return SET_SERVICE, attribute(CMD_SERVICE | NESTED, _service(op.id, op.service))
        case DeleteService():
            return DEL_SERVICE, attribute(CMD_SERVICE | NESTED, service_id(op.id))
        case AddDestination():
            command, body = NEW_DEST, _destination(op.key, op.destination)
        case EditDestination():
            command, body = SET_DEST, _destination(op.key, op.destination)
        case DeleteDestination():
            command, body = DEL_DEST, _real(op.key)
    return command, attribute(CMD_SERVICE | NESTED, service_id(op.id)) + attribute(CMD_DEST | NESTED, body)


# decoding ---------------------------------------------------------------------------------------------------------


def number(value: memoryview | None) -> int:
    return int.from_bytes(value or b"", sys.byteorder)


def _address(value: memoryview, family: int) -> IPAddress:
    return IPv4Address(bytes(value[:4])) if family == 4 else IPv6Address(bytes(value[:16]))


def _text(value: memoryview | None) -> str:
    return bytes(value or b"").rstrip(b"\0").decode()


def decode_service(body: memoryview) -> tuple[ServiceId, Service]:
    found = attributes(body)
    family = 4 if number(found.get(SVC_AF)) == socket.AF_INET else 6
    if SVC_FWMARK in found:
        id = ServiceId(family=family, fwmark=number(found[SVC_FWMARK]))
    else:
        id = ServiceId(
            family=family,
            protocol=PROTOCOL_OF.get(number(found.get(SVC_PROTOCOL)), Protocol.NONE),
            address=_address(found[SVC_ADDR], family),
            port=int.from_bytes(found[SVC_PORT]),
        )
    raw = found.get(SVC_NETMASK, memoryview(b"\xff\xff\xff\xff"))
    flags = number(found[SVC_FLAGS][:4]) & FLAG_MASK if SVC_FLAGS in found else 0
    return id, Service(
        scheduler=_text(found.get(SVC_SCHED)),
        flags=flags,
        timeout=number(found.get(SVC_TIMEOUT)) if flags & 1 else 0,
        netmask=int.from_bytes(raw) if family == 4 else number(raw),
        engine=_text(found.get(SVC_PE)),
    )


def decode_destination(body: memoryview, family: int) -> tuple[RealKey, Destination]:
    found = attributes(body)
    if DEST_FAMILY in found:
        family = 4 if number(found[DEST_FAMILY]) == socket.AF_INET else 6
    method = number(found.get(DEST_FWD)) & FORWARDING_MASK
    name = next((name for name, number in FORWARDING.items() if number == method), LOCAL)
    if name == "TUN":
        csum = next((name for name, bit in CHECKSUMS.items() if bit == number(found.get(DEST_TUN_FLAGS))), "nocsum")
        forwarding = Forwarding(
            method="TUN",
            tunnel_type=TUNNELS[min(number(found.get(DEST_TUN_TYPE)), 2)],
            tunnel_port=int.from_bytes(found.get(DEST_TUN_PORT, b"")),
            tunnel_csum=csum,
        )
    else:
        forwarding = Forwarding(method=name)
    return RealKey(_address(found[DEST_ADDR], family), int.from_bytes(found[DEST_PORT])), Destination(
        weight=number(found.get(DEST_WEIGHT)),
        forwarding=forwarding,
        uthreshold=number(found.get(DEST_UTHRESH)),
        lthreshold=number(found.get(DEST_LTHRESH)),
    )

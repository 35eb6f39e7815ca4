"""Routes and rules as rtnetlink bytes, and notices about removed ones as keys.

Layouts: linux/rtnetlink.h, linux/fib_rules.h, linux/lwtunnel.h, linux/mpls_iptunnel.h, linux/ila.h.
"""

from __future__ import annotations

import socket
import struct

from keepalived_py.config.model import Encap, NextHop, Route, Rule
from keepalived_py.plan.routes import AddEntry, EntryOp, RouteEntry, RouteKey, RuleEntry, RuleKey
from keepalived_py.values import IPAddress, IPv4Address, IPv6Address

from .rtnetlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REQUEST,
    attribute,
    attributes,
    message,
)

RTM_NEWROUTE, RTM_DELROUTE = 24, 25
RTM_NEWRULE, RTM_DELRULE = 32, 33
NLM_F_APPEND = 0x800
RTMSG = struct.Struct("=BBBBBBBBI")
RULE_HEADER = struct.Struct("=BBBBBxxBI")
NEXTHOP = struct.Struct("=HBBi")
U8, U32 = struct.Struct("=B"), struct.Struct("=I")

RTA_DST, RTA_SRC, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC = 1, 2, 4, 5, 6, 7
RTA_METRICS, RTA_MULTIPATH, RTA_FLOW, RTA_TABLE, RTA_VIA, RTA_PREF = 8, 9, 11, 15, 18, 20
RTA_ENCAP_TYPE, RTA_ENCAP, RTA_EXPIRES, RTA_TTL_PROPAGATE = 21, 22, 23, 26
RTAX_LOCK, RTAX_CC_ALGO = 1, 16
METRICS = {
    "mtu": 2,
    "window": 3,
    "rtt": 4,
    "rttvar": 5,
    "ssthresh": 6,
    "cwnd": 7,
    "advmss": 8,
    "reordering": 9,
    "hoplimit": 10,
    "initcwnd": 11,
    "features": 12,
    "rto_min": 13,
    "initrwnd": 14,
    "quickack": 15,
    "fastopen_no_cookie": 17,
}
"""RTAX_* by the names of Route.metrics."""
RTNH_F_ONLINK = 4
ENCAP_TYPES = {"mpls": 1, "ip": 2, "ila": 3, "ip6": 4}
TUNNEL_ID, TUNNEL_DST, TUNNEL_SRC, TUNNEL_TTL, TUNNEL_TOS, TUNNEL_FLAGS = 1, 2, 3, 4, 5, 6
MPLS_BOTTOM = 1 << 8
LOCAL, BROADCAST, ANYCAST, NAT = 2, 3, 4, 10
SCOPES = {LOCAL: 254, NAT: 254, BROADCAST: 253, ANYCAST: 253}
"""Scope of an IPv4 route that gives none: the kernel takes these types with no wider one; all others are global."""

FRA_DST, FRA_SRC, FRA_IIFNAME, FRA_GOTO, FRA_PRIORITY, FRA_FWMARK, FRA_FLOW, FRA_TUN_ID = 1, 2, 3, 4, 6, 10, 11, 12
FRA_SUPPRESS_IFGROUP, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, FRA_FWMASK, FRA_OIFNAME, FRA_L3MDEV = 13, 14, 15, 16, 17, 19
FRA_UID_RANGE, FRA_PROTOCOL, FRA_IP_PROTO, FRA_SPORT_RANGE, FRA_DPORT_RANGE = 20, 21, 22, 23, 24
FIB_RULE_INVERT = 2


def encode_entry(op: EntryOp) -> bytes:
    """One operation as a message; sequence number and flags are completed when it is sent."""
    adds = isinstance(op, AddEntry)
    if isinstance(op.entry, RuleEntry):
        return _rule_message(op.entry.rule, adds)
    return _route_message(op.entry, adds)


def _family(version: int) -> int:
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _u8(kind: int, value: int | None) -> bytes:
    return b"" if value is None else attribute(kind, U8.pack(value))


def _u32(kind: int, value: int | None) -> bytes:
    return b"" if value is None else attribute(kind, U32.pack(value))


def _address(kind: int, address: IPAddress | None) -> bytes:
    return b"" if address is None else attribute(kind, address.packed)


# routes ---------------------------------------------------------------------------------------------------------------

CREATE = {"add": NLM_F_EXCL, "append": NLM_F_APPEND, "prepend": 0}


def _route_message(entry: RouteEntry, adds: bool) -> bytes:
    """A removal says all that tells a route from its siblings, but no metrics: the kernel may have changed those."""
    route = entry.route
    scope = 0 if route.family == 6 else SCOPES.get(route.type, 0) if route.scope is None else route.scope
    table = entry.table if entry.table < 256 else 0
    flags = RTNH_F_ONLINK if route.onlink else 0
    body = RTMSG.pack(
        _family(route.family),
        route.prefixlen,
        route.source_prefixlen,
        route.tos,
        table,
        route.protocol,
        scope,
        route.type,
        flags,
    )
    body += _u32(RTA_TABLE, entry.table)
    body += _address(RTA_DST, route.destination) + _address(RTA_SRC, route.source)
    body += _address(RTA_PREFSRC, route.prefsrc)
    body += _u32(RTA_PRIORITY, route.metric)
    body += _gateway(route.family, route.via) + _u32(RTA_OIF, entry.ifindex or None)
    body += _encap(route.encap) + _u32(RTA_FLOW, route.realms)
    if route.nexthops:
        hops = zip(route.nexthops, entry.hop_indices, strict=True)
        body += attribute(RTA_MULTIPATH, b"".join(_nexthop(route.family, hop, index) for hop, index in hops))
    if not adds:
        return message(RTM_DELROUTE, NLM_F_REQUEST, body)
    body += _metrics(route) + _u8(RTA_PREF, route.pref) + _u32(RTA_EXPIRES, route.expires)
    body += _u8(RTA_TTL_PROPAGATE, route.ttl_propagate)
    return message(RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_CREATE | CREATE[entry.create], body)


def _gateway(family: int, via: IPAddress | None) -> bytes:
    """A gateway of the other family says which it is."""
    if via is None or via.version == family:
        return _address(RTA_GATEWAY, via)
    return attribute(RTA_VIA, struct.pack("=H", _family(via.version)) + via.packed)


def _nexthop(family: int, hop: NextHop, index: int) -> bytes:
    inner = _gateway(family, hop.via) + _encap(hop.encap) + _u32(RTA_FLOW, hop.realms)
    flags = RTNH_F_ONLINK if hop.onlink else 0
    return NEXTHOP.pack(NEXTHOP.size + len(inner), flags, hop.weight - 1, index) + inner


def _metrics(route: Route) -> bytes:
    inner, locks = b"", 0
    for name, value, locked in route.metrics:
        inner += _u32(METRICS[name], value)
        locks |= 1 << METRICS[name] if locked else 0
    if route.congctl:
        inner += attribute(RTAX_CC_ALGO, route.congctl.encode() + b"\0")
        locks |= 1 << RTAX_CC_ALGO if route.congctl_lock else 0
    if locks:
        inner = _u32(RTAX_LOCK, locks) + inner
    return attribute(RTA_METRICS, inner) if inner else b""


def _encap(encap: Encap | None) -> bytes:
    if encap is None:
        return b""
    inner = {"mpls": _mpls, "ila": _ila}.get(encap.kind, _tunnel)(encap)
    return attribute(RTA_ENCAP_TYPE, struct.pack("=H", ENCAP_TYPES[encap.kind])) + attribute(RTA_ENCAP, inner)


def _mpls(encap: Encap) -> bytes:
    last = len(encap.labels) - 1
    stack = [label << 12 | (MPLS_BOTTOM if place == last else 0) for place, label in enumerate(encap.labels)]
    return attribute(1, struct.pack(f"!{len(stack)}I", *stack))


def _ila(encap: Encap) -> bytes:
    return attribute(1, struct.pack("!Q", encap.locator))


def _tunnel(encap: Encap) -> bytes:
    """ip and ip6 differ in the size of the addresses only."""
    inner = b"" if encap.id is None else attribute(TUNNEL_ID, struct.pack("!Q", encap.id))
    inner += _address(TUNNEL_DST, encap.dst) + _address(TUNNEL_SRC, encap.src)
    inner += _u8(TUNNEL_TTL, encap.ttl) + _u8(TUNNEL_TOS, encap.tos)
    return inner + (b"" if encap.flags is None else attribute(TUNNEL_FLAGS, struct.pack("!H", encap.flags)))


# rules ----------------------------------------------------------------------------------------------------------------


def _rule_message(rule: Rule, adds: bool) -> bytes:
    body = RULE_HEADER.pack(
        _family(rule.family),
        rule.destination_prefixlen,
        rule.source_prefixlen,
        rule.tos,
        rule.table if rule.table < 256 else 0,
        rule.action,
        FIB_RULE_INVERT if rule.invert else 0,
    )
    body += _u32(FRA_PRIORITY, rule.preference) + _u8(FRA_PROTOCOL, rule.protocol)
    body += _address(FRA_SRC, rule.source) + _address(FRA_DST, rule.destination)
    body += _u32(FRA_TABLE, rule.table or None) + _u32(FRA_GOTO, rule.goto or None)
    body += _name(FRA_IIFNAME, rule.iif) + _name(FRA_OIFNAME, rule.oif)
    body += _u32(FRA_FWMARK, rule.fwmark) + _u32(FRA_FWMASK, rule.fwmask) + _u32(FRA_FLOW, rule.realms)
    body += _u32(FRA_SUPPRESS_PREFIXLEN, rule.suppress_prefixlength)
    body += _u32(FRA_SUPPRESS_IFGROUP, rule.suppress_ifgroup)
    body += _u8(FRA_L3MDEV, 1 if rule.l3mdev else None) + _u8(FRA_IP_PROTO, rule.ipproto)
    if rule.tunnel_id is not None:
        body += attribute(FRA_TUN_ID, struct.pack("!Q", rule.tunnel_id))
    for kind, form, pair in (
        (FRA_UID_RANGE, "=II", rule.uidrange),
        (FRA_SPORT_RANGE, "=HH", rule.sport),
        (FRA_DPORT_RANGE, "=HH", rule.dport),
    ):
        body += attribute(kind, struct.pack(form, *pair)) if pair else b""
    if not adds:
        return message(RTM_DELRULE, NLM_F_REQUEST, body)
    return message(RTM_NEWRULE, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL, body)


def _name(kind: int, name: str) -> bytes:
    return attribute(kind, name.encode() + b"\0") if name else b""


# notices --------------------------------------------------------------------------------------------------------------


def removed(kind: int, body: memoryview) -> RouteKey | RuleKey | None:
    """The route or rule whose removal a message tells; None for anything else. Raises struct.error for a torn one."""
    if kind == RTM_DELROUTE and len(body) >= RTMSG.size:
        return _route_key(body)
    if kind == RTM_DELRULE and len(body) >= RULE_HEADER.size:
        return _rule_key(body)
    return None


def _route_key(body: memoryview) -> RouteKey | None:
    family, prefixlen, _, tos, table, _, _, type_, _ = RTMSG.unpack_from(body)
    version = {socket.AF_INET: 4, socket.AF_INET6: 6}.get(family)
    if version is None:
        return None
    found = attributes(body[RTMSG.size :])
    metric = _number(found.get(RTA_PRIORITY), 0)
    table = _number(found.get(RTA_TABLE), table)
    return RouteKey(version, table, _read_address(found.get(RTA_DST)), prefixlen, tos, metric, type_)


def _rule_key(body: memoryview) -> RuleKey | None:
    family, destination_prefixlen, source_prefixlen, _, _, action, _ = RULE_HEADER.unpack_from(body)
    version = {socket.AF_INET: 4, socket.AF_INET6: 6}.get(family)
    if version is None:
        return None
    found = attributes(body[RULE_HEADER.size :])
    return RuleKey(
        version,
        _number(found.get(FRA_PRIORITY), 0),
        action,
        _read_address(found.get(FRA_SRC)),
        source_prefixlen,
        _read_address(found.get(FRA_DST)),
        destination_prefixlen,
        _text(found.get(FRA_IIFNAME)),
        _text(found.get(FRA_OIFNAME)),
    )


def _number(value: memoryview | None, default: int) -> int:
    return default if value is None else int(U32.unpack_from(value)[0])


def _text(value: memoryview | None) -> str:
    return "" if value is None else bytes(value).rstrip(b"\0").decode("utf-8", "replace")


def _read_address(value: memoryview | None) -> IPAddress | None:
    packed = b"" if value is None else bytes(value)
    if len(packed) == 4:
        return IPv4Address(packed)
    return IPv6Address(packed) if len(packed) == 16 else None

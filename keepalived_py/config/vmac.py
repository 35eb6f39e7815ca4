"""use_vmac and use_ipvlan (vrrp-behaviour.md 13)."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from keepalived_py.records import dataclass
from keepalived_py.values import MacAddress

from .converters import parse_interface, parse_mac, parse_prefix
from .model import VmacSpec
from .schema import Bad, Context
from .tree import Statement

RFC_MACS = (bytes((0, 0, 0x5E, 0, 1)), bytes((0, 0, 0x5E, 0, 2)))
_MAC = re.compile(r"[0-9a-fA-F]{1,2}(:[0-9a-fA-F]{1,2}){4,5}")


@dataclass(frozen=True, slots=True)
class VmacRequest:
    """What use_vmac or use_ipvlan asked for; `short` is a MAC address to which the VRID is still to be added."""

    spec: VmacSpec
    short: bytes = b""

    def joined(self, other: VmacRequest) -> VmacRequest:
        """Both together; what this one says counts."""
        mine, more = self.spec, other.spec
        has_mac = mine.mac is not None or bool(self.short)
        spec = replace(
            mine,
            name=mine.name or more.name,
            mac=mine.mac if has_mac else more.mac,
            netlink_notify_msg=mine.netlink_notify_msg or more.netlink_notify_msg,
            group=more.group if mine.group is None else mine.group,
        )
        return VmacRequest(spec, self.short if has_mac else other.short)

    def finish(self, vrid: int, **changes: Any) -> VmacSpec:
        mac = MacAddress(self.short + bytes((vrid,))) if self.short else self.spec.mac
        return replace(self.spec, mac=mac, **changes)


class _Words:
    """The words of one of the two keywords, one option after the other."""

    def __init__(self, statement: Statement, context: Context) -> None:
        self.words, self.context = statement.words, context
        self.index = 1
        self.values: dict[str, Any] = {}

    def set(self, name: str, value: Any) -> None:
        if name in self.values:
            raise Bad("repeated-option", f"the {name} was given before", self.index)
        self.values[name] = value
        self.index += 1

    def common(self) -> bool:
        """`name IFNAME`, `group GROUP` and the bare name; False when the word is none of them."""
        text = self.words[self.index]
        if text in ("name", "group"):
            self.index += 1
            if self.index == len(self.words):
                raise Bad("missing-value", f"'{text}' needs a value", self.index)
            following = self.words[self.index]
            if text == "name":
                self.set("name", parse_interface(following, self.index))
            else:
                self.set("group", self.context.facts["names"].number("group", following, self.index))
            return True
        return False


def _mac(text: str, index: int) -> tuple[bytes, MacAddress | None]:
    """Five octets, or the whole address. Raises Bad for multicast and for the range of the RFC."""
    octets = parse_mac(text + ":0" if text.count(":") == 4 else text, index).octets
    if octets[0] & 1:
        raise Bad("multicast-mac", f"'{text}' is a multicast address", index)
    if octets[:5] in RFC_MACS:
        raise Bad("rfc-mac", f"'{text}' is in the range of the RFC, which is used by itself", index)
    return (octets[:5], None) if text.count(":") == 4 else (b"", MacAddress(octets))


def use_vmac(statement: Statement, context: Context) -> VmacRequest:
    """`[[name] IFNAME] [MAC] [netlink_notify_msg] [group GROUP]`."""
    words = _Words(statement, context)
    short = b""
    while words.index < len(words.words):
        index, text = words.index, words.words[words.index]
        if words.common():
            continue
        if text == "netlink_notify_msg":
            words.set("netlink_notify_msg", True)
        elif _MAC.fullmatch(text) or text.count(":") > 3:
            short, mac = _mac(text, index)
            words.set("mac", mac)
        else:
            words.set("name", parse_interface(text, index))
    return VmacRequest(VmacSpec(kind="macvlan", **words.values), short)


def use_ipvlan(statement: Statement, context: Context) -> VmacRequest:
    """`[[name] IFNAME] [ADDR] [bridge|private|vepa] [group GROUP]`."""
    words = _Words(statement, context)
    while words.index < len(words.words):
        index, text = words.index, words.words[words.index]
        if words.common():
            continue
        if text in ("bridge", "private", "vepa"):
            words.set("ipvlan_mode", text)
        elif ("." in text.partition("/")[0] and text[0].isdigit()) or ":" in text:
            address, length = parse_prefix(text, index)
            words.values["ipvlan_prefixlen"] = address.max_prefixlen if length is None else length
            words.set("ipvlan_address", address)
        else:
            words.set("name", parse_interface(text, index))
    return VmacRequest(VmacSpec(kind="ipvlan", **words.values))

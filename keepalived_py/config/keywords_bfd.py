"""The table of bfd_instance, and what is made of it (vrrp-behaviour.md 19). Intervals in milliseconds."""

from __future__ import annotations

from keepalived_py.values import IPAddress

from .converters import address, boolean, flag, integer, need, parse_seconds
from .model import BfdInstance
from .problems import Severity
from .schema import Context, Converter, Draft, Keyword, Section
from .tracks import weight_of_item
from .tree import Statement

MAX_NAME = 31
LONG = 10000
"""Milliseconds above which an interval is unusual."""


def _milliseconds(low: int) -> Converter:
    """Milliseconds with up to three decimals."""

    def convert(statement: Statement, context: Context) -> float:
        value = round(parse_seconds(need(statement), low, 4294967), 3)
        if value > LONG:
            context.report("long-interval", f"{value:g} ms is longer than {LONG} ms", statement, 1, Severity.WARNING)
        return value

    return convert


BFD_INSTANCE = Section(
    "bfd_instance",
    (
        Keyword("source_ip", address, "ADDR", "Local address.", default="the kernel's choice", field="source"),
        Keyword("neighbor_ip", address, "ADDR", "The other router.", field="neighbor"),
        Keyword(
            "neighbour_ip",
            address,
            "ADDR",
            "The same as neighbor_ip.",
            field="neighbor",
            alias_of="neighbor_ip",
            deprecated=None,
        ),
        Keyword(
            "min_rx",
            _milliseconds(1),
            "MS",
            "Least interval at which packets can be received.",
            default="10",
            range="1..4294967 ms",
        ),
        Keyword(
            "min_tx",
            _milliseconds(1),
            "MS",
            "Least interval at which packets are sent.",
            default="10",
            range="1..4294967 ms",
        ),
        Keyword(
            "idle_tx",
            _milliseconds(1000),
            "MS",
            "Interval of sending while not up.",
            default="1000",
            range="1000..4294967 ms",
        ),
        Keyword("multiplier", integer(1, 255), "N", "Packets missed before it is down.", default="5", range="1..255"),
        Keyword("passive", flag(True), "", "Do not send before the other router does.", default="off"),
        Keyword("ttl", integer(1, 255), "N", "TTL of packets.", default="255 for IPv4, 64 for IPv6", range="1..255"),
        Keyword("hoplimit", integer(1, 255), "N", "The same as ttl.", field="ttl", alias_of="ttl", deprecated=None),
        Keyword(
            "max_hops",
            integer(-1, 255),
            "N",
            "Hops that a packet may have lost; 255: not checked.",
            default="0",
            range="-1..255",
        ),
        Keyword("multihop", boolean, "[BOOL]", "Use port 4784 instead of 3784.", default="off"),
        Keyword(
            "weight",
            weight_of_item(253),
            "N [reverse]",
            "Default weight where it is tracked.",
            default="0",
            range="-253..253",
        ),
        Keyword("vrrp", flag(True), "", "Tell the VRRP worker only, or both with checker.", default="both"),
        Keyword("checker", flag(True), "", "Tell the checker only, or both with vrrp.", default="both"),
    ),
)


def build_bfd(name: str, draft: Draft, known: dict[str, BfdInstance], context: Context) -> BfdInstance | None:
    """A BFD session; None when it is left out, with the reason reported."""
    neighbor: IPAddress | None = draft.get("neighbor")
    if neighbor is None:
        context.report("no-neighbor", f"bfd_instance '{name}' has no neighbor_ip and is left out", draft.head, 1)
        return None
    source: IPAddress | None = draft.get("source")
    if source is not None and source.version != neighbor.version:
        context.report(
            "wrong-family", "source_ip is of another family than neighbor_ip and dropped", draft.at("source"), 1
        )
        source = None
    ttl = draft.get("ttl", 255 if neighbor.version == 4 else 64)
    hops = draft.get("max_hops", 0)
    if hops != 255 and hops > ttl:
        context.report("hops-above-ttl", f"max_hops {hops} is above ttl {ttl}", draft.at("max_hops"), 1)
        hops = ttl
    weight, reverse = draft.get("weight", (0, False))
    both = draft.has("vrrp") == draft.has("checker")
    made = BfdInstance(
        name=name,
        neighbor=neighbor,
        source=source,
        ttl=ttl,
        max_hops=hops,
        weight=weight,
        reverse=reverse,
        to_vrrp=both or draft.has("vrrp"),
        to_checker=both or draft.has("checker"),
        **draft.pick("min_rx", "min_tx", "idle_tx", "multiplier", "passive", "multihop"),
    )
    for other in known.values():
        if (other.neighbor, other.source, other.multihop) == (neighbor, source, made.multihop):
            context.report(
                "duplicate-neighbor",
                f"bfd_instance '{other.name}' has the same neighbor_ip; '{name}' is left out",
                draft.at("neighbor"),
                1,
            )
            return None
    return made

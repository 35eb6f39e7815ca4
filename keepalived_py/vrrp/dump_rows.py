"""Addresses, routes, rules and commands as keepalived's dumps spell them."""

from __future__ import annotations

from keepalived_py.config.model import FOREVER, Address, Encap, Route, Rule, Track
from keepalived_py.config.model.links import NAMES_OF_ROUTE_TYPES, RULE_ACTIONS
from keepalived_py.values import IPAddress, ip_address

MAIN_TABLE, PROTOCOL_KEEPALIVED = 254, 18
SCOPES = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}
PREFERENCES = {0: "medium", 1: "high", 3: "low"}
"""Of router advertisements (RFC 4191)."""
METRICS = (
    "rtt",
    "rttvar",
    "rto_min",
    "features",
    "mtu",
    "window",
    "ssthresh",
    "cwnd",
    "advmss",
    "reordering",
    "hoplimit",
    "initcwnd",
    "initrwnd",
    "quickack",
    "fastopen_no_cookie",
)
ANY = {4: ip_address("0.0.0.0"), 6: ip_address("::")}


def address_text(row: Address, device: str, present: bool, *, filtered: bool = False) -> str:
    """One virtual address; `present`: it is on the interface, `filtered`: and packets to it are dropped."""
    words = [_prefix(row.address, row.prefixlen)]
    if row.broadcast is not None:
        words += ["brd", str(row.broadcast)]
    words += ["dev", device or row.dev, *(["use_vmac"] if row.use_vmac else [])]
    words += ["scope", SCOPES.get(row.scope, str(row.scope))]
    if row.label:
        words += ["label", row.label]
    if row.peer is not None:
        words += ["peer", f"{row.peer}/{row.peer.max_prefixlen}"]
    flags = (
        ("home", row.home),
        ("-nodad", row.dad),
        ("mngtmpaddr", row.mngtmpaddr),
        ("noprefixroute", row.noprefixroute),
        ("autojoin", row.autojoin),
        ("no_track", row.no_track),
    )
    words += [name for name, on in flags if on]
    if row.family == 6:
        words += _lifetime(row)
    return " ".join([*words, *(["set", *(["nftable_set"] if filtered else [])] if present else [])])


def _lifetime(row: Address) -> list[str]:
    """A /128 is deprecated unless told otherwise, so that it is not chosen as a source address."""
    default = 0 if row.prefixlen == 128 else FOREVER
    lifetime = default if row.preferred_lft is None else row.preferred_lft
    if lifetime == 0:
        return ["deprecated"]
    return ["preferred_lft", "forever" if lifetime == FOREVER else str(lifetime)]


def _prefix(address: object, length: int) -> str:
    full = getattr(address, "max_prefixlen", None)
    return str(address) if length == full else f"{address}/{length}"


def route_text(row: Route) -> str:
    """One virtual route, nearly in the words of iproute2."""
    kind = NAMES_OF_ROUTE_TYPES.get(row.type)
    words = ["add", kind] if kind else [row.create]
    words.append(_prefix(row.destination or ANY[row.family], row.prefixlen))
    if row.source is not None:
        words += ["from", _prefix(row.source, row.source_prefixlen)]
    words += _named(("src", row.prefsrc), ("tos", row.tos or None))
    words += [*_encap(row.encap), *_via(row.via, row.dev)]
    words += _named(("table", None if row.table == MAIN_TABLE else row.table), ("proto", _protocol(row)))
    words += _named(("scope", row.scope), ("metric", row.metric))
    words += [] if row.expires is None else ["expires", f"{row.expires}sec"]
    words += ["onlink"] if row.onlink else []
    words += [*_realms(row.realms), *_metrics(row)]
    if row.ttl_propagate is not None:
        words += ["ttl-propagate", "enabled" if row.ttl_propagate else "disabled"]
    words += [] if row.pref is None else ["pref", PREFERENCES.get(row.pref, str(row.pref))]
    for hop in row.nexthops:
        words += ["nexthop", *_encap(hop.encap), *_via(hop.via, hop.dev)]
        words += _named(("weight", hop.weight if hop.weight > 1 else None))
        words += [*(["onlink"] if hop.onlink else []), *_realms(hop.realms)]
    return " ".join([*words, *(["no_track"] if row.no_track else [])])


def _named(*values: tuple[str, object]) -> list[str]:
    """Names with their values, where there are any."""
    return [word for name, value in values if value is not None for word in (name, str(value))]


def _via(gateway: IPAddress | None, dev: str) -> list[str]:
    words = [] if gateway is None else ["via", "inet" if gateway.version == 4 else "inet6", str(gateway)]
    return words + (["dev", dev] if dev else [])


def _realms(realms: int | None) -> list[str]:
    if realms is None:
        return []
    return ["realms", f"{realms >> 16}/{realms & 0xFFFF}"] if realms >> 16 else ["realm", str(realms)]


def _encap(encap: Encap | None) -> list[str]:
    if encap is None:
        return []
    words = ["encap", encap.kind]
    words += ["/".join(map(str, encap.labels))] if encap.labels else []
    words += [] if encap.locator is None else [f"{encap.locator:x}"]
    return words + _named(
        ("id", encap.id), ("dst", encap.dst), ("src", encap.src), ("tos", encap.tos), ("ttl", encap.ttl)
    )


def _metrics(row: Route) -> list[str]:
    given = {name: (value, locked) for name, value, locked in row.metrics}
    words = ["congctl", *(["lock"] if row.congctl_lock else []), row.congctl] if row.congctl else []
    for name in METRICS:
        if name in given:
            value, locked = given[name]
            words += [name, *(["lock"] if locked else []), _metric(name, value)]
    return words


def _metric(name: str, value: int) -> str:
    match name:
        case "rtt" | "rttvar":
            return f"{value // (8 if name == 'rtt' else 4)}ms"
        case "rto_min":
            return f"{value}ms"
        case "features":
            return "ecn"
    return str(value)


def rule_text(row: Rule) -> str:
    """One virtual rule, nearly in the words of iproute2."""
    words = ["not"] if row.invert else []
    words += ["from", "all" if row.source is None else _prefix(row.source, row.source_prefixlen)]
    if row.destination is not None:
        words += ["to", _prefix(row.destination, row.destination_prefixlen)]
    words += ["priority", str(row.preference), "tos", hex(row.tos)]
    if row.fwmark is not None:
        words += ["fwmark", hex(row.fwmark) + ("" if row.fwmask is None else f"/{row.fwmask:#x}")]
    words += _named(
        ("iif", row.iif or None),
        ("oif", row.oif or None),
        ("suppress_prefixlen", row.suppress_prefixlength),
        ("suppress_ifgroup", row.suppress_ifgroup),
        ("tunnel-id", row.tunnel_id),
    )
    words += ["l3mdev"] if row.l3mdev else []
    words += _named(
        ("uidrange", _range(row.uidrange)),
        ("protocol", _protocol(row)),
        ("ipproto", row.ipproto),
        ("sport", _range(row.sport)),
        ("dport", _range(row.dport)),
    )
    return " ".join([*words, *_realms(row.realms), *_action(row), *(["no_track"] if row.no_track else [])])


def _protocol(row: Route | Rule) -> int | None:
    """What is not tracked has the usual one without being told."""
    return None if row.no_track and row.protocol == PROTOCOL_KEEPALIVED else row.protocol


def _range(bounds: tuple[int, int] | None) -> str | None:
    return None if bounds is None else f"{bounds[0]}-{bounds[1]}"


def _action(row: Rule) -> list[str]:
    match RULE_ACTIONS.get(row.action):
        case "goto":
            return ["goto", str(row.goto)]
        case "nop":
            return ["nop"]
        case None:
            return ["lookup", str(row.table)]
        case other:
            return ["type", other]


def weight_text(track: Track) -> str:
    return f"weight {track.weight}" + (" reverse" if track.reverse else "")

"""Drafts of vrrp_instance to frozen ones: defaults, inheritance, corrections (vrrp-behaviour.md 1, 5, 11, 14)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

from keepalived_py.values import OWNER, Centiseconds, IPAddress

from .build_auth import build_authentication, build_hmac
from .keywords_global_vrrp import is_link_local_group
from .model import (
    Address,
    GarpSettings,
    GlobalDefs,
    NotifyScripts,
    Route,
    Track,
    UnicastPeer,
    VmacSpec,
    VrrpInstance,
)
from .problems import Severity
from .schema import Context, Draft
from .vmac import VmacRequest

MAX_ADVERTISED = 255
CONFIG_EXIT = 2
ETHERNET_MTU = 1500
HEADERS = {4: 20 + 8 + 8, 6: 40 + 8}
"""Octets of an advert before and behind its addresses."""
ADDRESS_SIZE = {4: 4, 6: 16}
MAX_V3_INTERVAL = 40.95
UNICAST_KEYWORDS = ("unicast_source", "check_unicast_src", "unicast_ttl", "old_unicast_checksum")


def pairs_of(draft: Draft, name: str) -> list[Any]:
    """Entries of all blocks of that name, each with its line."""
    return list(chain.from_iterable(draft.many(name)))


NO_IPVLAN_ADDRESS = "an IPv4 instance on an ipvlan needs an address for it"


class InstanceBuilder:
    """Builds one instance. Every correction is reported where its cause stands."""

    def __init__(self, name: str, draft: Draft, defaults: GlobalDefs, context: Context) -> None:
        self.name, self.draft, self.defaults, self.context = name, draft, defaults, context
        self.vips = pairs_of(draft, "virtual_ipaddress")
        self.strict = bool(draft.get("strict", defaults.vrrp_strict))
        self.family = self._family()
        self.version = self._version()
        self.priority, self.wants_master = self._standing()
        self.owner = self.priority == OWNER

    def report(self, id: str, message: str, at: str = "", index: int = 0, **more: Any) -> None:
        """A finding at the statement that gave `at`, or at the head of the block."""
        where = self.draft.at(at) if at else self.draft.head
        self.context.report(id, f"({self.name}) {message}", where, index, **more)

    def fatal(self, id: str, message: str, at: str = "", index: int = 1) -> None:
        self.report(id, message, at, index, stops=CONFIG_EXIT)

    def build(self) -> VrrpInstance | None:
        """The instance; None when it is left out, with the reason reported."""
        draft = self.draft
        peers = self._peers()
        source = self._source()
        if not self._essentials(peers, source):
            return None
        addresses, excluded = self._addresses()
        preempt = self._preempt()
        vmac = self._vmac(peers)
        return VrrpInstance(
            name=self.name,
            interface=draft.get("interface", ""),
            family=self.family,
            vrid=draft.get("vrid"),
            version=self.version,
            wants_master=self._wants_master(),
            priority=self.priority,
            advert_int=self._interval(),
            preempt=preempt,
            preempt_delay=self._preempt_delay(preempt),
            strict=self.strict,
            accept=self._accept(),
            timer_expired_backup=self._timer_expired(preempt),
            unicast_peers=peers,
            unicast=bool(peers),
            check_unicast_src=self._checks_source(peers),
            unicast_ttl=self._unicast_ttl(peers),
            source=source,
            track_src_ip=self._track_source(source),
            mcast_group=None if peers else self._group(),
            old_checksum_group=self.defaults.mcast_group4,
            vrf=self._vrf(peers),
            vmac=vmac,
            addresses=addresses,
            excluded=excluded,
            routes=self._routes(),
            rules=tuple(rule for rule, _ in pairs_of(draft, "virtual_rules")),
            promote_secondaries=self._promote(vmac),
            tracks=self._tracks(),
            garp=self._garp(),
            notify=notify_of(draft),
            authentication=build_authentication(self),
            auth_hmac=build_hmac(self),
            config_fault=self._fault(peers),
            smtp_alert=mail_wanted(draft, self.defaults.mail.smtp_alert_vrrp, self.defaults.mail.smtp_alert, False),
            notify_priority_changes=draft.get("notify_priority_changes", self.defaults.vrrp_notify_priority_changes),
            unicast_fault_no_peer=draft.has("unicast_fault_no_peer") and not peers,
            **self._conduct(),
            **draft.pick(
                "dont_track_primary",
                "debug",
                "old_unicast_checksum",
                "vmac_addr",
                "rx_buf_size",
                "linkbeat_use_polling",
                "no_virtual_ipaddress",
            ),
        )

    # who it is ----------------------------------------------------------------------------------------------------

    def _family(self) -> int:
        """That of the first virtual address, else of a source or peer, else IPv4."""
        draft = self.draft
        peers = pairs_of(draft, "unicast_peer")
        for found in (
            self.vips[0][0].address if self.vips else None,
            draft.get("source"),
            draft.get("unicast_source"),
            peers[0][0].address if peers else None,
        ):
            if found is not None:
                return int(found.version)
        return 6 if draft.has("native_ipv6") else 4

    def _version(self) -> int:
        draft = self.draft
        if draft.has("native_ipv6") and self.family == 4:
            self.report("native-ipv6", "native_ipv6 with IPv4 addresses is ignored", "native_ipv6")
        if self.family == 4:
            return int(draft.get("version", self.defaults.vrrp_version))
        if draft.get("version") != 2 or draft.has("native_ipv6"):
            return 3
        if self.strict:
            self.report("v2-with-ipv6", "VRRPv2 is for IPv4; strict mode runs version 3", "version", 1)
            return 3
        text = "VRRPv2 is for IPv4; over IPv6 only keepalived understands it"
        self.report("v2-with-ipv6", text, "version", 1, severity=Severity.LINT, hint="version 3")
        return 2

    def _standing(self) -> tuple[int, bool]:
        """Priority and whether MASTER is wanted at start (vrrp-behaviour.md 1)."""
        states = self.draft.many("state")
        state = "MASTER" if "MASTER" in states else "BACKUP" if states else None
        priority = self.draft.get("priority", OWNER if state == "MASTER" else 100)
        return priority, state == "MASTER" or (state is None and priority == OWNER)

    def _wants_master(self) -> bool:
        if self.strict and self.wants_master != self.owner:
            wanted = "MASTER" if self.owner else "BACKUP"
            self.report(
                "strict-state", f"strict mode: priority {self.priority} needs state {wanted}; taken", "state", 1
            )
            self.wants_master = self.owner
        block = self.draft.get("authentication")
        if self.wants_master and not self.owner and block is not None and block.get("auth_type") == "AH":
            self.report("ah-with-master", "state MASTER does not go with AH and becomes BACKUP", "state", 1)
            self.wants_master = False
        return self.wants_master

    def _essentials(self, peers: tuple[UnicastPeer, ...], source: IPAddress | None) -> bool:
        """VRID and interface, without which keepalived does not start."""
        draft = self.draft
        complete = True
        if not draft.has("vrid"):
            self.fatal("no-virtual-router-id", "the virtual_router_id is missing")
            complete = False
        interface = draft.get("interface", "")
        if not interface and not (peers and source):
            self.fatal("no-interface", "the interface is missing")
            complete = False
        if not interface and source is not None and source.is_link_local:
            self.fatal("link-local-without-interface", f"the link-local source {source} needs an interface")
        if interface == "lo":
            self.fatal("loopback", "an instance cannot run on the loopback interface", "interface")
        if interface:
            self.context.need_interface(interface, draft.at("interface"), 1)
        if self.strict and peers:
            self.fatal("strict-unicast", "strict mode does not allow unicast peers", "unicast_peer", 0)
        return complete

    # times and election -------------------------------------------------------------------------------------------

    def _interval(self) -> Centiseconds:
        """advert_int as the version carries it: whole seconds in v2, centiseconds up to 40.95 s in v3."""
        asked = self.draft.get("advert_int", 1.0)
        if self.version == 2:
            whole = max(1, round(asked))
            if whole != asked:
                self.report(
                    "interval-rounded",
                    f"VRRPv2 counts whole seconds: advert_int {asked:g} becomes {whole}",
                    "advert_int",
                    1,
                )
            return Centiseconds(whole * 100)
        if asked > MAX_V3_INTERVAL:
            self.report(
                "interval-too-long", f"advert_int {asked:g} is longer than {MAX_V3_INTERVAL} s", "advert_int", 1
            )
            return Centiseconds(4095)
        centiseconds = max(1, round(asked * 100))
        if abs(centiseconds - asked * 100) > 1e-6:
            self.report(
                "interval-rounded",
                f"VRRPv3 counts 10 ms: advert_int {asked:g} becomes {centiseconds / 100:g}",
                "advert_int",
                1,
            )
        return Centiseconds(centiseconds)

    def _preempt(self) -> bool:
        preempt = bool(self.draft.get("preempt", True))
        if not preempt and (self.wants_master or self.owner):
            self.report(
                "nopreempt-of-master",
                "nopreempt has no effect with state MASTER or priority 255 and is dropped",
                "preempt",
                hint="write state BACKUP on every router of this VRID",
            )
            return True
        return preempt

    def _preempt_delay(self, preempt: bool) -> float:
        delay = float(self.draft.get("preempt_delay", 0.0))
        why = "state MASTER" if self.wants_master else "nopreempt" if not preempt else "strict mode" * self.strict
        if delay and why:
            self.report("preempt-delay-unused", f"preempt_delay does not go with {why} and is dropped", "preempt_delay")
            return 0.0
        return delay

    def _timer_expired(self, preempt: bool) -> int:
        found = int(self.draft.get("timer_expired_backup", 0))
        if found and preempt:
            self.report("timer-expired-needs-nopreempt", "timer_expired_backup needs nopreempt", "timer_expired_backup")
            return 0
        return found

    def _accept(self) -> bool:
        accept = bool(self.draft.get("accept", not self.strict or self.owner))
        if self.strict and accept and not self.owner and self.version == 2:
            self.report("strict-accept", "strict mode: accept is not part of VRRPv2 and dropped", "accept")
            return False
        return accept

    def _conduct(self) -> dict[str, Any]:
        """Settings that strict mode overrules (vrrp-behaviour.md 14)."""
        draft, defaults = self.draft, self.defaults
        values = {
            "down_timer_adverts": draft.get("down_timer_adverts", defaults.down_timer_adverts),
            "lower_prio_no_advert": draft.get("lower_prio_no_advert", defaults.lower_prio_no_advert),
            "higher_prio_send_advert": draft.get("higher_prio_send_advert", defaults.higher_prio_send_advert),
            "owner_ignore_adverts": draft.get("owner_ignore_adverts", defaults.owner_ignore_adverts),
        }
        if self.strict:
            for name, forced in (
                ("down_timer_adverts", 3),
                ("lower_prio_no_advert", True),
                ("higher_prio_send_advert", False),
                ("owner_ignore_adverts", self.owner),
            ):
                if draft.has(name) and values[name] != forced:
                    self.report("strict-setting", f"strict mode: {name} cannot be changed", name, 1)
                values[name] = forced
        if draft.get("owner_ignore_adverts") and not self.owner:
            self.report("not-owner", "owner_ignore_adverts needs priority 255", "owner_ignore_adverts")
        values["owner_ignore_adverts"] = bool(values["owner_ignore_adverts"]) and self.owner
        for name in ("lower_prio_no_advert", "higher_prio_send_advert"):
            values[name] = bool(values[name])
        return values | {
            "strict_address_list": draft.get("strict_address_list", defaults.strict_address_list),
            "skip_check_adv_addr": draft.get("skip_check_adv_addr", defaults.skip_check_adv_addr),
            "v3_checksum_as_v2": draft.get("v3_checksum_as_v2", defaults.v3_checksum_as_v2),
        }

    def _garp(self) -> GarpSettings:
        """The instance's values, else the global ones; there the lower-priority ones default to the master ones."""
        draft, defaults = self.draft, self.defaults.garp
        names = ("master_delay", "master_repeat", "master_refresh", "master_refresh_repeat")
        values = {name: draft.get(f"garp.{name}", getattr(defaults, name)) for name in names}
        for name in ("delay", "repeat"):
            inherited = getattr(defaults, f"lower_prio_{name}")
            values[f"lower_prio_{name}"] = draft.get(
                f"garp.lower_prio_{name}", getattr(defaults, f"master_{name}") if inherited is None else inherited
            )
        if self.strict:
            for name in ("lower_prio_delay", "lower_prio_repeat"):
                if draft.get(f"garp.{name}"):
                    self.report("strict-setting", f"strict mode: garp_{name} cannot be changed", f"garp.{name}", 1)
                values[name] = 0
        extra, everywhere = draft.get("garp.extra_if", (defaults.extra_if, defaults.extra_if_all))
        return self.context.share(
            GarpSettings(
                **{name: type(getattr(GarpSettings(), name))(value) for name, value in values.items()},
                extra_if=float(extra),
                extra_if_all=everywhere,
            )
        )

    # the way of the adverts ---------------------------------------------------------------------------------------

    def _peers(self) -> tuple[UnicastPeer, ...]:
        found: dict[IPAddress, UnicastPeer] = {}
        own = self.draft.get("source") or self.draft.get("unicast_source")
        for peer, line in pairs_of(self.draft, "unicast_peer"):
            severity = Severity.ERROR
            if peer.address.version != self.family:
                why = f"is not IPv{self.family}"
            elif peer.address in found:
                why, severity = "stands twice", Severity.LINT
            elif peer.address == own:
                why, severity = "is this router's own source address", Severity.LINT
            else:
                found[peer.address] = peer
                continue
            self.context.report(
                "bad-peer", f"({self.name}) peer {peer.address} {why} and is left out", line, 0, severity
            )
        return tuple(found.values())

    def _source(self) -> IPAddress | None:
        draft = self.draft
        name = "source" if draft.has("source") else "unicast_source"
        source: IPAddress | None = draft.get(name)
        if source is not None and source.version != self.family:
            self.report("wrong-family", f"source address {source} is not IPv{self.family}", name, 1)
            return None
        return source

    def _track_source(self, source: IPAddress | None) -> bool:
        wanted = self.draft.has("track_src_ip")
        if wanted and source is None:
            self.report(
                "track-source",
                "track_src_ip needs mcast_src_ip or unicast_src_ip",
                "track_src_ip",
                severity=Severity.LINT,
            )
        return wanted and source is not None

    def _group(self) -> IPAddress:
        """Where multicast adverts go."""
        default: IPAddress = self.defaults.mcast_group4 if self.family == 4 else self.defaults.mcast_group6
        group: IPAddress | None = self.draft.get("mcast_group")
        if group is None:
            return default
        if group.version != self.family or not group.is_multicast:
            self.report("not-multicast", f"mcast_dst_ip {group} is not an IPv{self.family} group", "mcast_group", 1)
            return default
        if self.family == 6 and not is_link_local_group(group):
            self.report("group-not-link-local", f"mcast_dst_ip {group} is not of link-local scope", "mcast_group", 1)
            return default
        return group

    def _unicast_ttl(self, peers: tuple[UnicastPeer, ...]) -> int | None:
        ttl: int | None = self.draft.get("unicast_ttl")
        if ttl is not None and not peers:
            self.report("ttl-without-peers", "unicast_ttl needs unicast peers and is dropped", "unicast_ttl")
            return None
        return ttl

    def _checks_source(self, peers: tuple[UnicastPeer, ...]) -> bool:
        """Limits on the TTL need to know whose packet it is."""
        wanted = self.draft.get("check_unicast_src", self.defaults.check_unicast_src)
        return bool(peers) and (wanted or any((peer.min_ttl, peer.max_ttl) != (0, 255) for peer in peers))

    def _fault(self, peers: tuple[UnicastPeer, ...]) -> str:
        """Unicast was meant but no peer is left, or an ipvlan without the address that it needs."""
        draft = self.draft
        ipvlan: VmacRequest | None = draft.get("use_ipvlan")
        if ipvlan is not None and self._lacks_address(ipvlan):
            return NO_IPVLAN_ADDRESS
        used = next((name for name in (*UNICAST_KEYWORDS, "unicast_peer") if draft.has(name)), None)
        if peers:
            return ""
        if draft.has("unicast_fault_no_peer"):
            self.report("no-peer", "the instance has no unicast peer and stays in FAULT", "unicast_fault_no_peer")
            return "no unicast peer is configured"
        if used:
            self.report(
                "unicast-without-peers",
                "a unicast keyword is given without any unicast peer; adverts go to the group",
                used,
                hint="add unicast_peer, or unicast_fault_no_peer to stay in FAULT instead",
            )
        return ""

    def _vrf(self, peers: tuple[UnicastPeer, ...]) -> str:
        vrf = str(self.draft.get("vrf", ""))
        if vrf and (not peers or self.draft.has("interface")):
            self.report("vrf-unused", "vrf is for unicast instances without interface and dropped", "vrf")
            return ""
        return vrf

    def _lacks_address(self, ipvlan: VmacRequest) -> bool:
        return self.family == 4 and ipvlan.spec.ipvlan_address is None

    def _vmac(self, peers: tuple[UnicastPeer, ...]) -> VmacSpec | None:
        draft = self.draft
        base = draft.has("vmac_xmit_base")
        vmac = self._vmac_request()
        ipvlan: VmacRequest | None = draft.get("use_ipvlan")
        if vmac is not None and ipvlan is not None:
            self.report("vmac-and-ipvlan", "use_vmac and use_ipvlan exclude each other; use_vmac counts", "use_ipvlan")
        keyword, asked = ("use_vmac", vmac) if vmac is not None else ("use_ipvlan", ipvlan)
        if asked is None:
            if base:
                self.report("xmit-base-unused", "vmac_xmit_base needs use_vmac", "vmac_xmit_base")
            return None
        if peers and not draft.has("interface"):
            self.report("vmac-without-interface", f"{keyword} needs an interface and is dropped", keyword)
            return None
        if keyword == "use_ipvlan" and self._lacks_address(asked):
            self.report("ipvlan-address", NO_IPVLAN_ADDRESS, keyword, hint="it stays in FAULT")
            return None
        if self.strict and base:
            self.report("strict-setting", "strict mode: vmac_xmit_base cannot be used", "vmac_xmit_base")
            base = False
        if peers and not base:
            self.report("unicast-vmac", "unicast with a VMAC needs vmac_xmit_base; it is set", keyword)
            base = True
        spec = asked.finish(draft.get("vrid", 0), xmit_base=base)
        if self.strict and spec.mac is not None:
            self.report("strict-setting", "strict mode: the VMAC has the MAC address of the RFC", keyword)
            spec = asked.finish(draft.get("vrid", 0), xmit_base=base, mac=None)
        return spec

    def _vmac_request(self) -> VmacRequest | None:
        """What all use_vmac lines ask for together; a name may be given once."""
        asked: list[VmacRequest] = self.draft.many("use_vmac")
        if not asked:
            return None
        together = asked[0]
        for request in asked[1:]:
            if together.spec.name and request.spec.name:
                self.report("repeated-keyword", "use_vmac names an interface twice; the first name counts", "use_vmac")
            together = together.joined(request)
        return together

    # what it holds ------------------------------------------------------------------------------------------------

    def _addresses(self) -> tuple[tuple[Address, ...], tuple[Address, ...]]:
        """Advertised and excluded addresses: one family, no duplicates, as many as an advert can carry."""
        seen: set[IPAddress] = set()
        advertised: list[Address] = []
        excluded: list[Address] = []
        limit = self._advertised_limit()
        tagged = [(pair, advertised) for pair in self.vips]
        tagged += [(pair, excluded) for pair in pairs_of(self.draft, "virtual_ipaddress_excluded")]
        for (found, line), into in tagged:
            if into is advertised and found.family != self.family:
                self.context.report("wrong-family", f"{found} is not IPv{self.family}; the address is left out", line)
            elif found.address in seen:
                self.context.report(
                    "duplicate-address",
                    f"{found.address} stands twice; the second is left out",
                    line,
                    severity=Severity.LINT,
                )
            elif into is advertised and len(advertised) >= limit:
                excluded.append(found)
            else:
                into.append(found)
            seen.add(found.address)
        self._few_addresses(advertised)
        return tuple(map(self._placed, advertised)), tuple(map(self._placed, excluded))

    def _advertised_limit(self) -> int:
        """Addresses that fit into one advert (vrrp-behaviour.md 2)."""
        mtu = self.context.mtus.get(self.draft.get("interface", ""), ETHERNET_MTU)
        return min(MAX_ADVERTISED, max(1, (mtu - HEADERS[self.family]) // ADDRESS_SIZE[self.family]))

    def _few_addresses(self, advertised: list[Address]) -> None:
        none_wanted = self.draft.has("no_virtual_ipaddress")
        if none_wanted and self.strict:
            self.report("strict-setting", "strict mode: no_virtual_ipaddress cannot be used", "no_virtual_ipaddress")
            none_wanted = False
        if advertised:
            if self.family == 6 and not advertised[0].address.is_link_local:
                weight = Severity.ERROR if self.strict else Severity.LINT
                self.report(
                    "first-not-link-local",
                    "the first IPv6 virtual address should be a link-local one (RFC 9568 5.2.9)",
                    "virtual_ipaddress",
                    severity=weight,
                )
        elif not none_wanted and (self.version == 3 or self.strict):
            self.fatal("no-virtual-address", f"VRRPv{self.version} needs at least one virtual address")
        elif not none_wanted:
            self.report("no-virtual-address", "there is no virtual address; at least one is sensible", "", 1)

    def _placed(self, found: Address) -> Address:
        return self.context.share(found)

    def _routes(self) -> tuple[Route, ...]:
        found = []
        for route, line in pairs_of(self.draft, "virtual_routes"):
            if not (route.dev or route.no_track or any(hop.dev for hop in route.nexthops)) and _needs_device(route):
                self.context.report(
                    "untracked-route",
                    f"({self.name}) the route has no dev, so no interface is watched for it",
                    line,
                    hint="add dev IFNAME, or no_track",
                )
            found.append(route)
        return tuple(found)

    def _promote(self, vmac: VmacSpec | None) -> bool:
        wanted = self.draft.has("promote_secondaries")
        if wanted and vmac is not None:
            self.report("promote-with-vmac", "promote_secondaries is set by itself for VMACs", "promote_secondaries")
            return False
        return wanted

    # what it watches ----------------------------------------------------------------------------------------------

    def _tracks(self) -> tuple[Track, ...]:
        own = self.draft.get("interface")
        found: dict[tuple[str, str], Track] = {}
        for track, line in tracks_of(self.draft):
            if track.kind == "interface" and track.name == own and not self.draft.get("dont_track_primary"):
                self.context.report(
                    "tracks-own-interface", f"({self.name}) '{own}' is its own interface and tracked anyway", line
                )
            elif (track.kind, track.name) in found:
                self.context.report("duplicate-track", f"({self.name}) '{track.name}' is tracked already", line)
            elif self.owner and track.weight:
                self.context.report(
                    "weight-of-owner",
                    f"({self.name}) priority 255 never changes, so '{track.name}' cannot have a weight; it is left out",
                    line,
                )
            else:
                found[track.kind, track.name] = track
        return tuple(found.values())


def _needs_device(route: Route) -> bool:
    """Blackholes and their likes are on no interface."""
    return route.type == 1


def tracks_of(draft: Draft) -> Iterable[tuple[Track, Any]]:
    """All entries of the track_* blocks, with their lines."""
    for kind in ("interface", "script", "file", "process", "bfd", "virtual_server"):
        yield from pairs_of(draft, f"track_{kind}")


def notify_of(draft: Draft) -> NotifyScripts:
    values = {name: draft.get(f"notify.{name}") for name in ("master", "backup", "fault", "stop", "any")}
    deleted = draft.get("notify.deleted")
    return NotifyScripts(
        **values,
        master_rx_lower_pri=draft.get("notify.master_rx_lower_pri"),
        deleted=deleted if deleted is not True else None,
        report_deleted=deleted is not None,
    )


def mail_wanted(draft: Draft, *inherited: bool | None) -> bool:
    """smtp_alert of a block: its own, else the first of `inherited` that is set."""
    return bool(next(value for value in (draft.get("smtp_alert"), *inherited) if value is not None))

"""Drafts of virtual servers to frozen ones: family, ports, inheritance and corrections (checker-behaviour.md 1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from keepalived_py.values import IPAddress, Protocol, RealKey, ServiceKey

from .build_checkers import CheckBuilder
from .converters import parse_integer, parse_server_address, server_address
from .model import (
    MOST_SERVICES,
    BfdCheck,
    Forwarding,
    GlobalDefs,
    GroupRange,
    RealServer,
    SorryServer,
    VirtualServer,
    VirtualServerGroup,
)
from .problems import Severity
from .schema import Bad, Context, Draft, MissingParameter
from .tree import Statement

Completer = Callable[[tuple[RealServer, ...]], tuple[RealServer, ...] | None]
NAT = Forwarding()
PERSISTENCE = 360
ENGINE_NAME = 15
SCHEDULER_FLAGS = {"port": "flag-2", "fallback": "flag-1"}
"""What sh-port and its likes are to the kernel (IP_VS_SVC_F_SCHED2 and SCHED1)."""


def build_server_group(
    name: str, entries: tuple[tuple[GroupRange, Statement], ...], statement: Statement, context: Context
) -> VirtualServerGroup | None:
    """A virtual_server_group; None when nothing is left of it (checker-behaviour.md 1.3)."""
    ranges = tuple(entry for entry, _ in entries)
    if not ranges:
        context.report(
            "empty-server-group", f"virtual_server_group '{name}' has no entry and is left out", statement, 1
        )
        return None
    families = {entry.family for entry in ranges if entry.first is not None}
    if len(families) == 2:
        for entry, line in entries:
            if entry.first is None and not entry.family:
                context.report(
                    "mark-without-family",
                    f"virtual_server_group '{name}' has both families, so its marks need inet or inet6; it is left out",
                    line,
                )
                return None
    return VirtualServerGroup(name=name, entries=ranges)


def build_virtual_server(
    draft: Draft,
    defaults: GlobalDefs,
    context: Context,
    groups: Mapping[str, VirtualServerGroup] | None = None,
    ordinals: dict[str, int] | None = None,
    complete: Completer | None = None,
) -> VirtualServer | None:
    """A virtual server; None when it is left out, with the reason reported.

    `complete` adds real servers that are not in `draft`, and gives None where that cannot be.
    """
    return ServerBuilder(draft, defaults, context, groups or {}, {} if ordinals is None else ordinals, complete).build()


class ServerBuilder:
    """Builds one virtual server."""

    def __init__(
        self,
        draft: Draft,
        defaults: GlobalDefs,
        context: Context,
        groups: Mapping[str, VirtualServerGroup],
        ordinals: dict[str, int],
        complete: Completer | None,
    ) -> None:
        self.draft, self.defaults, self.context = draft, defaults, context
        self.groups, self.ordinals, self.complete = groups, ordinals, complete
        self.address: IPAddress | None = None
        self.port = self.fwmark = self.family = 0
        self.group: VirtualServerGroup | None = None
        self.forwarding = NAT

    @property
    def marks_only(self) -> bool:
        """Nothing but firewall marks: no protocol and no port."""
        if self.group is not None:
            return all(entry.first is None for entry in self.group.entries)
        return self.address is None

    def report(self, id: str, message: str, at: str = "", index: int = 0, **more: Any) -> None:
        self.context.report(id, message, self.draft.at(at) if at else self.draft.head, index, **more)

    def build(self) -> VirtualServer | None:
        try:
            self._identify()
        except Bad as bad:
            self.context.refuse(bad, self.draft.head, "the virtual server is left out")
            return None
        draft = self.draft
        protocol = self._protocol()
        self.forwarding = self._forwarding()
        mixed = self._family()
        reals = self._real_servers(mixed)
        if self.complete is not None:
            completed = self.complete(reals)
            if completed is None:
                return None
            reals = completed
        if not reals:
            self.report("no-real-server", "virtual server has no real server and is left out")
            return None
        quorum, hysteresis = self._quorum(reals)
        timeout, granularity = self._persistence()
        mail = self.defaults.mail
        alert = (draft.get("smtp_alert"), mail.smtp_alert_checker, mail.smtp_alert, False)
        return VirtualServer(
            key=self._key(protocol),
            group_entries=self.group.entries if self.group else (),
            scheduler=self._scheduler(),
            flags=self._flags(protocol),
            persistence_timeout=timeout,
            persistence_granularity=granularity,
            persistence_engine=self._engine(),
            forwarding=self.forwarding,
            quorum=quorum,
            hysteresis=hysteresis,
            sorry_server=self._sorry(reals),
            real_servers=reals,
            ha_suspend=self._ha_suspend(),
            smtp_alert=bool(next(value for value in alert if value is not None)),
            **draft.pick("quorum_up", "quorum_down", "alpha", "omega", "virtualhost", "snmp_name"),
        )

    # who it is ----------------------------------------------------------------------------------------------------

    def _identify(self) -> None:
        """`virtual_server IP [PORT] | fwmark N | group NAME`. Raises Bad."""
        words = self.draft.head.words
        if len(words) < 2:
            raise MissingParameter(words[0])
        if words[1] in ("group", "fwmark") and len(words) < 3:
            raise MissingParameter(words[0], 2)
        if words[1] == "group":
            self.group = self.groups.get(words[2])
            if self.group is None:
                raise Bad("unknown-server-group", f"virtual_server_group '{words[2]}' does not exist", 2)
            size = sum(entry.size for entry in self.group.entries)
            if size > MOST_SERVICES and not self.defaults.ipvs.nftables_table:
                raise Bad("too-many-addresses", f"{size} addresses are too many without nftables_ipvs", 2)
        elif words[1] == "fwmark":
            self.fwmark = parse_integer(words[2], 0, 2**32 - 1, 2)
        else:
            self.address = server_address(self.draft.head, self.context)
            self.port = parse_integer(words[2], 0, 65535, 2) if len(words) > 2 else 0

    def _key(self, protocol: Protocol) -> ServiceKey:
        if self.group is None:
            return ServiceKey(
                protocol=protocol, address=self.address, port=self.port, fwmark=self.fwmark, family=self.family
            )
        name = self.group.name
        ordinal = self.ordinals.get(name, 0)
        self.ordinals[name] = ordinal + 1
        return ServiceKey(protocol=protocol, family=self.family, group=name, ordinal=ordinal)

    def _protocol(self) -> Protocol:
        if self.marks_only:
            if self.draft.has("protocol"):
                self.report("protocol-of-fwmark", "a fwmark service has no protocol; it is dropped", "protocol")
            return Protocol.NONE
        if not self.draft.has("protocol"):
            self.report("no-protocol", "virtual server has no protocol; UDP is taken", hint="protocol TCP")
            return Protocol.UDP
        found: Protocol = self.draft.get("protocol")
        return found

    def _family(self) -> bool:
        """Set the family (checker-behaviour.md 1.2); True for a group of both, where it stays 0."""
        draft = self.draft
        known: set[int] = set() if self.address is None else {int(self.address.version)}
        if self.group is not None:
            known = {entry.family for entry in self.group.entries if entry.family}
            if len(known) == 2:
                if draft.has("ip_family"):
                    self.report("family-of-mixed-group", "a group of both families has no ip_family", "ip_family")
                return True
        asked = draft.get("ip_family")
        if known:
            self.family = next(iter(known))
            if asked and asked != self.family:
                self.report("wrong-family", "ip_family is not that of the virtual server and ignored", "ip_family", 1)
            return False
        granularity = draft.get("persistence_granularity")
        self.family = asked or (granularity[0] if granularity else 0) or self._family_of_servers()
        return False

    def _family_of_servers(self) -> int:
        """That of the first server which is not tunnelled, else the one all have, else IPv4."""
        families = []
        for real in self.draft.many("real_server"):
            try:
                address, _ = parse_server_address(real.head.words[1])
            except (Bad, IndexError):
                continue
            if real.get("forwarding", self.forwarding).method != "TUN":
                return address.version
            families.append(address.version)
        if self.draft.has("sorry_server"):
            method = self.draft.get("sorry_server_lvs_method", self.forwarding).method
            address, _ = self.draft.get("sorry_server")
            if method != "TUN":
                return int(address.version)
            families.append(address.version)
        return families[0] if len(set(families)) == 1 else 4

    # how it works -------------------------------------------------------------------------------------------------

    def _scheduler(self) -> str:
        if not self.draft.has("scheduler"):
            self.report("no-scheduler", "virtual server has no lvs_sched; wlc is taken")
        return str(self.draft.get("scheduler", "wlc"))

    def _forwarding(self) -> Forwarding:
        own: Forwarding | None = self.draft.get("forwarding")
        if own is None and any(not real.has("forwarding") for real in self.draft.many("real_server")):
            self.report("no-forwarding", "virtual server has no lvs_method; NAT is taken")
        return own or NAT

    def _flags(self, protocol: Protocol) -> tuple[str, ...]:
        flags = set()
        scheduler = self.draft.get("scheduler", "wlc")
        for name in sorted(set(self.draft.many("flags"))):
            if name == "ops" and protocol is not Protocol.UDP and not self.marks_only:
                self.report("ops-without-udp", "ops is for UDP only and dropped", "flags")
            elif name == "hashed":
                if scheduler not in ("sh", "mh"):
                    self.report("flag-of-scheduler", "hashed is for the schedulers sh and mh", "flags")
            elif name[:3] in ("sh-", "mh-"):
                if scheduler == name[:2]:
                    flags.add(SCHEDULER_FLAGS[name[3:]])
                else:
                    self.report("flag-of-scheduler", f"{name} is for the scheduler {name[:2]} and dropped", "flags")
            else:
                flags.add(name)
        return tuple(sorted(flags))

    def _persistence(self) -> tuple[int, int | None]:
        timeout = int(self.draft.get("persistence_timeout", 0))
        granularity = self.draft.get("persistence_granularity")
        if granularity is not None and granularity[0] != self.family:
            self.report("wrong-family", "persistence_granularity is of another family", "persistence_granularity", 1)
            granularity = None
        if not timeout and granularity is not None:
            timeout = PERSISTENCE
        if not timeout and self._any_port():
            self.report("no-port", f"a virtual server without a port must be persistent; {PERSISTENCE} s are taken")
            timeout = PERSISTENCE
        return timeout, granularity[1] if granularity else None

    def _any_port(self) -> bool:
        """Whether an address is served whatever the port is."""
        if self.group is None:
            return self.address is not None and not self.port
        return any(entry.first is not None and not entry.port for entry in self.group.entries)

    def _engine(self) -> str:
        name = str(self.draft.get("persistence_engine", ""))
        if len(name) > ENGINE_NAME:
            self.report("name-cut", f"persistence_engine is cut to {ENGINE_NAME} characters", "persistence_engine", 1)
        return name[:ENGINE_NAME]

    def _ha_suspend(self) -> bool:
        wanted = self.draft.has("ha_suspend")
        if wanted and self.marks_only:
            self.report("suspend-of-fwmark", "a fwmark service has no address for ha_suspend", "ha_suspend")
            return False
        return wanted

    def _quorum(self, reals: tuple[RealServer, ...]) -> tuple[int, int]:
        quorum, hysteresis = self.draft.get("quorum", 1), self.draft.get("hysteresis", 0)
        total = 0 if quorum <= 1 else sum(real.weight for real in reals)
        if quorum > total > 0:
            self.report("quorum-too-high", f"quorum {quorum} is above the sum of weights {total}", "quorum", 1)
            quorum = total
        if hysteresis and hysteresis >= quorum:
            self.report(
                "hysteresis-too-high", f"hysteresis {hysteresis} must be below the quorum {quorum}", "hysteresis", 1
            )
            hysteresis = quorum - 1
        return quorum, hysteresis

    def _sorry(self, reals: tuple[RealServer, ...]) -> SorryServer | None:
        draft = self.draft
        if not draft.has("sorry_server"):
            for name in ("sorry_server_inhibit", "sorry_server_lvs_method"):
                if draft.has(name):
                    self.report("no-sorry-server", f"{name} needs a sorry_server", name)
            return None
        address, own_port = draft.get("sorry_server")
        method = draft.get("sorry_server_lvs_method", self.forwarding)
        if self.family and address.version != self.family and method.method != "TUN":
            self.report("wrong-family", f"sorry server {address} is of another family", "sorry_server", 1)
            return None
        inhibit = draft.get("sorry_server_inhibit", False)
        # DR and TUN: that of the service, and none for marks; with a group each service has its own
        fixed = method.method != "NAT" and (self.group is None or self.marks_only)
        key = RealKey(address, self.port if fixed else own_port or self.port)
        twin = next((real for real in reals if real.key == key), None)
        if twin is not None and twin.inhibit_on_failure != inhibit:
            self.report(
                "sorry-inhibit", "the sorry server equals a real server and takes its inhibit setting", "sorry_server"
            )
            inhibit = twin.inhibit_on_failure
        return SorryServer(address=address, port=key.port, inhibit=inhibit, forwarding=method)

    # its real servers ---------------------------------------------------------------------------------------------

    def _real_servers(self, mixed: bool) -> tuple[RealServer, ...]:
        found: dict[RealKey, RealServer] = {}
        for real in self.draft.many("real_server"):
            try:
                built = self._real_server(real, mixed)
            except Bad as bad:
                self.context.refuse(bad, real.head, "the real server is left out")
                continue
            if found.setdefault(built.key, built) is not built:
                self.context.report(
                    "duplicate-real-server",
                    f"real server {built.key} stands twice; the second is left out",
                    real.head,
                    1,
                )
        return tuple(found.values())

    def _real_server(self, real: Draft, mixed: bool) -> RealServer:
        """One real server. Raises Bad when it has to be left out."""
        words = real.head.words
        if len(words) < 2:
            raise MissingParameter(words[0])
        address = server_address(real.head, self.context)
        port = parse_integer(words[2], 0, 65535, 2) if len(words) > 2 else 0  # 0 is as good as none
        values, server = real.values, self.draft
        forwarding = values.get("forwarding", self.forwarding)
        if forwarding.method != "TUN":
            if mixed:
                raise Bad("not-tunnelled", "the servers of a group of both families must be tunnelled", 1)
            if address.version != self.family:
                raise Bad("wrong-family", f"'{words[1]}' is of another family than its virtual server", 1)
        port = self._real_port(port, forwarding, real)
        checks = CheckBuilder(server, real, address, port, self.defaults, self.context).build(values.get("checks", []))
        mail = self.defaults.mail
        alert = (values.get("smtp_alert"), mail.smtp_alert_checker, mail.smtp_alert, True)
        return RealServer(
            address=address,
            port=port,
            weight=values.get("weight", server.get("weight", 1)),
            forwarding=forwarding,
            inhibit_on_failure=values.get("inhibit_on_failure", server.get("inhibit_on_failure", False)),
            virtualhost=values.get("virtualhost", server.get("virtualhost", "")),
            smtp_alert=bool(next(value for value in alert if value is not None)),
            checks=self._one_session(checks, real),
            uthreshold=values.get("uthreshold", 0),
            lthreshold=self._lower_threshold(real),
            **real.pick("notify_up", "notify_down", "snmp_name"),
        )

    def _lower_threshold(self, real: Draft) -> int:
        """IPVS refuses a server whose lower threshold is above the upper one, and takes none for 0."""
        upper, lower = int(real.get("uthreshold", 0)), int(real.get("lthreshold", 0))
        if lower > upper:
            self.context.report(
                "lthreshold-too-high",
                f"lthreshold {lower} is above the uthreshold, {upper or 'which is not set'}; IPVS would refuse that",
                real.at("lthreshold"),
                1,
                Severity.LINT,
                hint=f"lthreshold {upper} is taken" if upper else "it is dropped; add a uthreshold",
            )
        return min(lower, upper)

    def _one_session(self, checks: tuple[Any, ...], real: Draft) -> tuple[Any, ...]:
        """No BFD session twice in one real server."""
        seen: set[str] = set()
        kept = []
        for check in checks:
            if isinstance(check, BfdCheck):
                if check.name in seen:
                    self.context.report(
                        "duplicate-bfd-check", f"BFD session '{check.name}' is followed already", real.head, 1
                    )
                    continue
                seen.add(check.name)
            kept.append(check)
        return tuple(kept)

    def _real_port(self, port: int, forwarding: Forwarding, real: Draft) -> int:
        """NAT: the service's port unless given; DR and TUN: always the service's, none for marks."""
        if forwarding.method == "NAT":
            return port or self.port
        if self.group is not None and not self.marks_only:
            if port and any(entry.first is not None and entry.port != port for entry in self.group.entries):
                self.context.report(
                    "port-differs",
                    "with DR and TUN the port must be that of every address of the group",
                    real.head,
                    2,
                    Severity.WARNING,
                )
            return port
        if self.address is None:
            if port:
                self.context.report(
                    "port-of-fwmark",
                    "a DR or TUN server of a fwmark service has no port",
                    real.head,
                    2,
                    Severity.WARNING,
                )
            return 0
        if port and port != self.port:
            self.context.report(
                "port-differs",
                f"with DR and TUN the port must be the virtual server's, {self.port}",
                real.head,
                2,
                Severity.WARNING,
            )
        return self.port

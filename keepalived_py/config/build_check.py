"""Drafts of virtual servers to frozen ones: inheritance to the checkers, corrections (checker-behaviour.md 1.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keepalived_py.values import IPAddress, Protocol, RealKey, ServiceKey

from .converters import parse_address, parse_integer
from .model import (
    Check,
    CheckTiming,
    Endpoint,
    Forwarding,
    GlobalDefs,
    HttpCheck,
    HttpUrl,
    MiscCheck,
    RealServer,
    SorryServer,
    TcpCheck,
    VirtualServer,
)
from .problems import Severity
from .schema import Bad, Context, Draft, MissingParameter
from .scripts import run_as
from .tree import Statement

NAT = Forwarding()


def service_key(statement: Statement) -> tuple[IPAddress | None, int, int]:
    """Address, port and mark of `virtual_server IP [PORT] | fwmark N`. Raises Bad."""
    words = statement.words
    if len(words) < 2:
        raise MissingParameter(words[0])
    if words[1] == "group":
        raise Bad("no-group", "virtual server groups are not part of this version", 1)
    if words[1] == "fwmark":
        if len(words) < 3:
            raise MissingParameter(words[0], 2)
        return None, 0, parse_integer(words[2], 0, 2**32 - 1, 2)
    return parse_address(words[1]), parse_integer(words[2], 0, 65535, 2) if len(words) > 2 else 0, 0


def build_virtual_server(draft: Draft, defaults: GlobalDefs, context: Context) -> VirtualServer | None:
    """A virtual server; None when it is left out, with the reason reported."""
    head = draft.head
    try:
        address, port, fwmark = service_key(head)
    except Bad as bad:
        stops = 2 if isinstance(bad, MissingParameter) else 0
        context.problems.add(
            bad.id, bad.severity, f"virtual_server: {bad.message}", head.at(bad.index), bad.hint, stops
        )
        return None
    protocol = _protocol(draft, address, context)
    family = address.version if address else draft.get("ip_family", 0)
    forwarding = _forwarding(draft, context)
    reals = _real_servers(draft, address, port, family, forwarding, defaults, context)
    if not reals:
        context.report("no-real-server", "virtual server has no real server and is left out", head)
        return None
    family = family or reals[0].address.version
    key = ServiceKey(protocol=protocol, address=address, port=port, fwmark=fwmark, family=family)
    quorum, hysteresis = _quorum(draft, reals, context)
    timeout, granularity = _persistence(draft, address, port, family, context)
    return VirtualServer(
        key=key,
        scheduler=_scheduler(draft, context),
        flags=_flags(draft, protocol, context),
        persistence_timeout=timeout,
        persistence_granularity=granularity,
        forwarding=forwarding,
        quorum=quorum,
        hysteresis=hysteresis,
        sorry_server=_sorry(draft, port, family, forwarding, reals, context),
        real_servers=reals,
        **draft.pick("persistence_engine", "quorum_up", "quorum_down", "alpha", "omega", "virtualhost"),
    )


def _protocol(draft: Draft, address: IPAddress | None, context: Context) -> Protocol:
    if address is None:
        if draft.has("protocol"):
            context.report(
                "protocol-of-fwmark", "a fwmark service has no protocol; it is dropped", draft.at("protocol")
            )
        return Protocol.NONE
    if not draft.has("protocol"):
        context.report("no-protocol", "virtual server has no protocol; UDP is taken", draft.head, hint="protocol TCP")
        return Protocol.UDP
    found: Protocol = draft.get("protocol")
    return found


def _scheduler(draft: Draft, context: Context) -> str:
    if not draft.has("scheduler"):
        context.report("no-scheduler", "virtual server has no lvs_sched; wlc is taken", draft.head)
    return str(draft.get("scheduler", "wlc"))


def _forwarding(draft: Draft, context: Context) -> Forwarding:
    own = draft.get("forwarding")
    if own is None and any(not real.has("forwarding") for real in draft.many("real_server")):
        context.report("no-forwarding", "virtual server has no lvs_method; NAT is taken", draft.head)
    return own or NAT


def _flags(draft: Draft, protocol: Protocol, context: Context) -> tuple[str, ...]:
    flags = sorted(set(draft.many("flags")))
    if "ops" in flags and protocol is not Protocol.UDP:
        context.report("ops-without-udp", "ops is for UDP only and dropped", draft.at("flags"))
        flags.remove("ops")
    return tuple(flags)


def _persistence(
    draft: Draft, address: IPAddress | None, port: int, family: int, context: Context
) -> tuple[int, int | None]:
    timeout = draft.get("persistence_timeout", 0)
    granularity = draft.get("persistence_granularity")
    if granularity is not None and granularity[0] != family:
        context.report(
            "wrong-family", "persistence_granularity is of another family", draft.at("persistence_granularity")
        )
        granularity = None
    if (granularity is not None or (address is not None and not port)) and not timeout:
        if granularity is None:
            context.report("no-port", "a virtual server without a port must be persistent; 360 s are taken", draft.head)
        timeout = 360
    return timeout, granularity[1] if granularity else None


def _quorum(draft: Draft, reals: tuple[RealServer, ...], context: Context) -> tuple[int, int]:
    quorum, hysteresis = draft.get("quorum", 1), draft.get("hysteresis", 0)
    total = sum(real.weight for real in reals)
    if quorum > total > 0:
        context.report("quorum-too-high", f"quorum {quorum} is above the sum of weights {total}", draft.at("quorum"), 1)
        quorum = total
    if hysteresis and hysteresis >= quorum:
        context.report(
            "hysteresis-too-high",
            f"hysteresis {hysteresis} must be below the quorum {quorum}",
            draft.at("hysteresis"),
            1,
        )
        hysteresis = quorum - 1
    return quorum, hysteresis


def _sorry(
    draft: Draft, port: int, family: int, forwarding: Forwarding, reals: tuple[RealServer, ...], context: Context
) -> SorryServer | None:
    if not draft.has("sorry_server"):
        return None
    address, own_port = draft.get("sorry_server")
    method = draft.get("sorry_server_lvs_method", forwarding)
    if address.version != family and method.method != "TUN":
        context.report("wrong-family", f"sorry server {address} is of another family", draft.at("sorry_server"), 1)
        return None
    inhibit = draft.get("sorry_server_inhibit", False)
    key = RealKey(address, own_port or port)
    twin = next((real for real in reals if real.key == key), None)
    if twin is not None and twin.inhibit_on_failure != inhibit:
        context.report(
            "sorry-inhibit",
            "the sorry server equals a real server and takes its inhibit setting",
            draft.at("sorry_server"),
        )
        inhibit = twin.inhibit_on_failure
    return SorryServer(address=address, port=key.port, inhibit=inhibit, forwarding=method)


def _real_servers(
    draft: Draft,
    address: IPAddress | None,
    port: int,
    family: int,
    forwarding: Forwarding,
    defaults: GlobalDefs,
    context: Context,
) -> tuple[RealServer, ...]:
    found: dict[RealKey, RealServer] = {}
    for real in draft.many("real_server"):
        try:
            built = _real_server(real, draft, address, port, family, forwarding, defaults, context)
        except Bad as bad:
            stops = 2 if isinstance(bad, MissingParameter) else 0
            context.problems.add(
                bad.id, bad.severity, f"real_server: {bad.message}", real.head.at(bad.index), bad.hint, stops
            )
            continue
        family = family or built.address.version
        if found.setdefault(built.key, built) is not built:
            context.report(
                "duplicate-real-server", f"real server {built.key} stands twice; the second is left out", real.head, 1
            )
    return tuple(found.values())


def _real_server(
    real: Draft,
    server: Draft,
    service: IPAddress | None,
    service_port: int,
    family: int,
    inherited: Forwarding,
    defaults: GlobalDefs,
    context: Context,
) -> RealServer:
    """One real server. Raises Bad when it has to be left out."""
    words = real.head.words
    if len(words) < 2:
        raise MissingParameter(words[0])
    address = parse_address(words[1])
    port = parse_integer(words[2], 0, 65535, 2) if len(words) > 2 else 0  # 0 is as good as none
    values = real.values
    forwarding = values.get("forwarding", inherited)
    if family and address.version != family and forwarding.method != "TUN":
        raise Bad("wrong-family", f"'{words[1]}' is of another family than its virtual server", 1)
    port = _real_port(port, service, service_port, forwarding, real, context)
    build = _CheckBuilder(server, real, address, port, defaults, context)
    checks = tuple(check for check in map(build.check, values.get("checks", ())) if check is not None)
    return RealServer(
        address=address,
        port=port,
        weight=values.get("weight", server.get("weight", 1)),
        forwarding=forwarding,
        inhibit_on_failure=values.get("inhibit_on_failure", server.get("inhibit_on_failure", False)),
        virtualhost=values.get("virtualhost", server.get("virtualhost", "")),
        checks=checks,
        **real.pick("uthreshold", "lthreshold", "notify_up", "notify_down"),
    )


def _real_port(
    port: int, service: IPAddress | None, service_port: int, forwarding: Forwarding, real: Draft, context: Context
) -> int:
    """NAT: the service's port unless given; DR and TUN: always the service's, none for marks."""
    if forwarding.method == "NAT":
        return port or service_port
    if service is None and port:
        context.report(
            "port-of-fwmark", "a DR or TUN server of a fwmark service has no port", real.head, 2, Severity.WARNING
        )
        return 0
    if service is not None and port and port != service_port:
        context.report(
            "port-differs",
            f"with DR and TUN the port must be the virtual server's, {service_port}",
            real.head,
            2,
            Severity.WARNING,
        )
    return service_port


class _CheckBuilder:
    """Builds the checkers of one real server."""

    def __init__(
        self, server: Draft, real: Draft, address: IPAddress, port: int, defaults: GlobalDefs, context: Context
    ) -> None:
        self.server, self.real, self.address, self.port = server, real, address, port
        self.defaults, self.context = defaults, context

    def check(self, draft: Draft) -> Check | None:
        return _BUILDERS[draft.head.keyword](self, draft)

    def inherited(self, draft: Draft, name: str, default: Any) -> Any:
        for level in (draft.values, self.real.values, self.server.values):
            if name in level:
                return level[name]
        return default

    def timing(self, draft: Draft, retry: int, delay: float) -> CheckTiming:
        loop = self.inherited(draft, "delay_loop", 60.0)
        return self.context.share(
            CheckTiming(
                delay_loop=loop,
                warmup=self.inherited(draft, "warmup", loop),
                retry=self.inherited(draft, "retry", retry),
                delay_before_retry=self.inherited(draft, "delay_before_retry", delay),
                connect_timeout=self.inherited(draft, "connect_timeout", 5.0),
                alpha=self.inherited(draft, "alpha", False),
                log_all_failures=draft.get("log_all_failures", self.defaults.checker_log_all_failures),
            )
        )

    def endpoint(self, draft: Draft) -> Endpoint:
        values = draft.values
        return Endpoint(
            address=values.get("connect_ip", self.address),
            port=values.get("connect_port", self.port),
            **draft.pick("bindto", "bind_port", "bind_if", "fwmark"),
        )

    def tcp(self, draft: Draft) -> Check:
        return TcpCheck(timing=self.timing(draft, 1, 1.0), endpoint=self.endpoint(draft))

    def http(self, draft: Draft) -> Check | None:
        host = self.inherited(draft, "virtualhost", "")
        urls = []
        for url in draft.many("url"):
            if not url.has("path"):
                self.context.report("url-without-path", "url has no path and is left out", url.head)
                continue
            urls.append(HttpUrl(virtualhost=url.get("virtualhost", host), **url.pick("path", "digest", "statuses")))
        if not urls:
            self.context.report("no-url", "HTTP_GET has no url and is left out", draft.head)
            return None
        return HttpCheck(
            timing=self.timing(draft, 1, 3.0),
            endpoint=self.endpoint(draft),
            urls=tuple(urls),
            **draft.pick("http_protocol", "fast_recovery"),
        )

    def misc(self, draft: Draft) -> Check | None:
        script = draft.get("misc_path")
        if script is None:
            self.context.report("no-misc-path", "MISC_CHECK has no misc_path and is left out", draft.head)
            return None
        if draft.has("user"):
            try:
                script = run_as(script, draft.get("user"), self.context)
            except Bad as bad:
                self.context.report(bad.id, f"user: {bad.message}", draft.at("user"), 1)
                return None
        timing = self.timing(draft, 0, 1.0)
        limit = draft.get("misc_timeout", 0) or self.server.get("delay_loop", 60.0)
        return MiscCheck(timing=timing, script=script, timeout=float(limit), dynamic=draft.get("misc_dynamic", False))


_BUILDERS: dict[str, Callable[[_CheckBuilder, Draft], Check | None]] = {
    "TCP_CHECK": _CheckBuilder.tcp,
    "HTTP_GET": _CheckBuilder.http,
    "MISC_CHECK": _CheckBuilder.misc,
}

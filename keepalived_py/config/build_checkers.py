"""Drafts of checkers to frozen ones; what they do not say comes from real server, virtual server and the type."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from keepalived_py.pattern import PatternError, compiled
from keepalived_py.values import IPAddress

from .model import (
    BfdCheck,
    Check,
    CheckTiming,
    DnsCheck,
    Endpoint,
    FileCheck,
    GlobalDefs,
    GrpcCheck,
    HttpCheck,
    HttpUrl,
    MiscCheck,
    PingCheck,
    SmtpCheck,
    TcpCheck,
    TlsSettings,
    UdpCheck,
)
from .problems import Severity
from .schema import Bad, Context, Draft
from .scripts import run_as

RETRY, DELAY = 1, 1.0
HTTP_DELAY = 3.0
DNS_RETRY = 3


class CheckBuilder:
    """Builds the checkers of one real server."""

    def __init__(
        self, server: Draft, real: Draft, address: IPAddress, port: int, defaults: GlobalDefs, context: Context
    ) -> None:
        self.server, self.real, self.address, self.port = server, real, address, port
        self.defaults, self.context = defaults, context

    def build(self, drafts: list[Draft]) -> tuple[Check, ...]:
        """All checkers in the order of the file; what cannot be built is reported and left out."""
        found: list[Check] = []
        for draft in drafts:
            found.extend(_BUILDERS[draft.head.keyword](self, draft))
        return tuple(found)

    # pieces -------------------------------------------------------------------------------------------------------

    def inherited(self, draft: Draft, name: str, default: Any) -> Any:
        for level in (draft.values, self.real.values, self.server.values):
            if name in level:
                return level[name]
        return default

    def timing(
        self, draft: Draft, retry: int = RETRY, delay: float | None = DELAY, connects: bool = True
    ) -> CheckTiming:
        """`delay` None: as long as delay_loop."""
        loop = self.inherited(draft, "delay_loop", 60.0)
        limit = self.inherited(draft, "connect_timeout", 5.0) if connects else 5.0
        return self.context.share(
            CheckTiming(
                delay_loop=loop,
                warmup=self.inherited(draft, "warmup", loop),
                retry=self.inherited(draft, "retry", retry),
                delay_before_retry=self.inherited(draft, "delay_before_retry", loop if delay is None else delay),
                connect_timeout=limit,
                alpha=self.inherited(draft, "alpha", False),
                log_all_failures=draft.get("log_all_failures", self.defaults.checker_log_all_failures),
                **draft.pick("rise"),
            )
        )

    def endpoint(self, draft: Draft) -> Endpoint | None:
        """Where to connect; None when that cannot work, with the reason reported."""
        values = draft.values
        address = values.get("connect_ip", self.address)
        bindto = values.get("bindto")
        if bindto is not None and bindto.version != address.version:
            self.context.report("wrong-family", f"bindto {bindto} is of another family", draft.at("bindto"), 1)
            return None
        if address.version == 6 and address.is_link_local and "bind_if" not in values:
            self.context.report(
                "link-local-without-interface",
                f"the link-local address {address} needs bind_if; the checker is left out",
                draft.head,
            )
            return None
        if "bind_port" in values and bindto is None:
            self.context.report(
                "bind-port-unused", "bind_port has no effect without bindto", draft.at("bind_port"), 0, Severity.LINT
            )
        return Endpoint(
            address=address,
            port=values.get("connect_port", self.port),
            **draft.pick("bindto", "bind_port", "bind_if", "fwmark"),
        )

    def plain(self, make: Callable[..., Check], draft: Draft, timing: CheckTiming, *names: str) -> Iterator[Check]:
        """A checker that is timing, endpoint and a few values."""
        endpoint = self.endpoint(draft)
        if endpoint is not None:
            yield make(timing=timing, endpoint=endpoint, **draft.pick(*names))

    # types --------------------------------------------------------------------------------------------------------

    def tcp(self, draft: Draft) -> Iterator[Check]:
        return self.plain(TcpCheck, draft, self.timing(draft))

    def ping(self, draft: Draft) -> Iterator[Check]:
        return self.plain(PingCheck, draft, self.timing(draft))

    def dns(self, draft: Draft) -> Iterator[Check]:
        return self.plain(DnsCheck, draft, self.timing(draft, DNS_RETRY, None), "type", "name")

    def smtp(self, draft: Draft) -> Iterator[Check]:
        """One checker, and one more for each deprecated host block, which says what differs."""
        hosts = draft.many("host")
        for host in hosts or [draft]:
            merged = Draft(host.head, {**draft.values, **host.values}, {**draft.where, **host.where})
            yield from self.plain(SmtpCheck, merged, self.timing(merged), "helo_name")

    def udp(self, draft: Draft) -> Iterator[Check]:
        reply = draft.get("require_reply") or (None, None)
        endpoint = self.endpoint(draft)
        if endpoint is None:
            return
        least, most = draft.get("min_reply_length", 0), draft.get("max_reply_length", 255)
        if least > most:
            self.context.report(
                "bad-range",
                f"min_reply_length {least} is above max_reply_length {most}, so the check always fails",
                draft.at("min_reply_length"),
                1,
            )
        yield UdpCheck(
            timing=self.timing(draft),
            endpoint=endpoint,
            require_reply=draft.has("require_reply"),
            reply=reply[0],
            reply_mask=reply[1],
            **draft.pick("payload", "min_reply_length", "max_reply_length"),
        )

    def http(self, draft: Draft, secure: bool = False) -> Iterator[Check]:
        endpoint = self.endpoint(draft)
        if endpoint is None:
            return
        urls = tuple(self._urls(draft))
        if not urls:
            self.context.report("no-url", f"{draft.head.keyword} has no url and is left out", draft.head)
            return
        if draft.get("keep_alive") and draft.get("http_protocol") != "1.1":
            self.context.report(
                "keep-alive-unused", "keep_alive needs http_protocol 1.1", draft.at("keep_alive"), 0, Severity.LINT
            )
        yield HttpCheck(
            timing=self.timing(draft, RETRY, HTTP_DELAY),
            endpoint=endpoint,
            urls=urls,
            tls=self._tls(draft) if secure else None,
            auth_kind="basic" if draft.has("basic_auth_file") else "bearer" if draft.has("bearer_token_file") else "",
            auth_file=draft.get("basic_auth_file", draft.get("bearer_token_file", "")),
            **draft.pick("http_protocol", "fast_recovery", "keep_alive"),
        )

    def https(self, draft: Draft) -> Iterator[Check]:
        return self.http(draft, secure=True)

    def grpc(self, draft: Draft) -> Iterator[Check]:
        endpoint = self.endpoint(draft)
        if endpoint is not None:
            tls = self._tls(draft) if draft.get("tls") else None
            yield GrpcCheck(timing=self.timing(draft), endpoint=endpoint, tls=tls, **draft.pick("service"))

    def _tls(self, draft: Draft) -> TlsSettings:
        name = draft.get("sni_name", "")
        if draft.has("expected_name") and not draft.get("verify"):
            self.context.report(
                "name-without-verify", "expected_name needs verify", draft.at("expected_name"), 0, Severity.LINT
            )
        return TlsSettings(
            sni=draft.get("enable_sni", False) or draft.has("sni_name"),
            sni_name=name,
            **draft.pick("verify", "ca", "expected_name", "warn_days"),
        )

    def _urls(self, draft: Draft) -> Iterator[HttpUrl]:
        host = self.inherited(draft, "virtualhost", "")
        for url in draft.many("url"):
            if not url.has("path"):
                self.context.report("url-without-path", "url has no path and is left out", url.head)
                continue
            least, most = url.get("regex_min_offset", 0), url.get("regex_max_offset")
            if most is not None and most < least:
                self.context.report(
                    "bad-range",
                    f"regex_max_offset {most} is below regex_min_offset {least}; both are dropped",
                    url.at("regex_max_offset"),
                    1,
                    Severity.LINT,
                )
                least, most = 0, None
            self._try_pattern(url)
            yield self.context.share(
                HttpUrl(
                    virtualhost=url.get("virtualhost", host),
                    headers=tuple(url.many("headers")),
                    regex_min_offset=least,
                    regex_max_offset=most,
                    tls_compliant=url.get("tls_compliant", draft.get("tls_compliant", False)),
                    **url.pick(
                        "path",
                        "digest",
                        "statuses",
                        "regex",
                        "regex_no_match",
                        "regex_options",
                        "regex_stack",
                        "method",
                        "body",
                    ),
                )
            )

    def _try_pattern(self, url: Draft) -> None:
        """keepalived only logs a pattern that cannot be compiled, and then goes without."""
        if not url.has("regex"):
            return
        try:
            compiled(url.get("regex"), url.get("regex_options", ()))
        except PatternError as exc:
            self.context.report("bad-pattern", f"{exc}; the body is not looked at", url.at("regex"), 1, Severity.LINT)

    def misc(self, draft: Draft) -> Iterator[Check]:
        script = draft.get("misc_path")
        if script is None:
            self.context.report("no-misc-path", "MISC_CHECK has no misc_path and is left out", draft.head)
            return
        if draft.has("user"):
            try:
                script = run_as(script, draft.get("user"), self.context)
            except Bad as bad:
                self.context.refuse(bad, draft.at("user"), "the checker is left out")
                return
        limit = draft.get("misc_timeout", 0) or self.server.get("delay_loop", 60.0)
        yield MiscCheck(
            timing=self.timing(draft, 0, connects=False),
            script=script,
            timeout=float(limit),
            dynamic=draft.get("misc_dynamic", False),
        )

    def file(self, draft: Draft) -> Iterator[Check]:
        name = draft.get("track_file")
        if name is None:
            self.context.report("no-track-file", "FILE_CHECK has no track_file and is left out", draft.head)
            return
        file = self.context.facts["track_files"][name]
        weight, reverse = draft.get("weight", (file.weight, None))
        yield FileCheck(
            timing=self.context.share(CheckTiming()),
            track_file=name,
            weight=weight,
            reverse=file.reverse if reverse is None else reverse,
        )

    def bfd(self, draft: Draft) -> Iterator[Check]:
        name = draft.get("name")
        if name is None:
            self.context.report("no-bfd-name", "BFD_CHECK has no name and is left out", draft.head)
            return
        timing = CheckTiming(alpha=self.inherited(draft, "alpha", False))
        yield BfdCheck(timing=self.context.share(timing), name=name)


_BUILDERS: dict[str, Callable[[CheckBuilder, Draft], Iterator[Check]]] = {
    "TCP_CHECK": CheckBuilder.tcp,
    "HTTP_GET": CheckBuilder.http,
    "SSL_GET": CheckBuilder.https,
    "MISC_CHECK": CheckBuilder.misc,
    "SMTP_CHECK": CheckBuilder.smtp,
    "DNS_CHECK": CheckBuilder.dns,
    "PING_CHECK": CheckBuilder.ping,
    "UDP_CHECK": CheckBuilder.udp,
    "FILE_CHECK": CheckBuilder.file,
    "BFD_CHECK": CheckBuilder.bfd,
    "GRPC_CHECK": CheckBuilder.grpc,
}

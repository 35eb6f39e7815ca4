"""Tells people and the parent what became of servers: log, scripts, FIFOs, mail (checker-behaviour.md 2.2 and 9)."""

from __future__ import annotations

import logging

from ipc.channel import Channel
from ipc.messages import RealServerStateChanged, ScriptWeightSet, VirtualServerStateChanged
from keepalived_py.checks.virtual_server import (
    Effect,
    QuorumChanged,
    RealServerChanged,
    RealServerState,
    VirtualServerState,
    WeightChanged,
)
from keepalived_py.clock import now
from keepalived_py.config.model import (
    BfdCheck,
    Check,
    CheckerSlice,
    DnsCheck,
    FileCheck,
    GrpcCheck,
    HttpCheck,
    MiscCheck,
    PingCheck,
    RealServer,
    Script,
    SmtpCheck,
    TcpCheck,
    UdpCheck,
    VirtualServer,
)
from workers.notify import Notifier

logger = logging.getLogger(__name__)

REMOVING, SHUTTING_DOWN = "Removing", "Shutting down"
WORDS = {True: "UP", False: "DOWN"}


def mail_body(check: Check, up: bool, failure: str) -> str:
    """What a mail says of one checker's change; "" for FILE_CHECK, which sends none."""
    word = "succeed" if up else "failed"
    match check:
        case TcpCheck():
            text = f"TCP CHECK {word} on service"
        case UdpCheck():
            text = f"UDP CHECK {word} on service"
        case PingCheck():
            text = f"ICMP CHECK {word} on service"
        case DnsCheck():
            text = f"DNS_CHECK: {word} on service"
        case HttpCheck():
            text = f"CHECK {word} on service" + ("" if up else " : HTTP/SSL request failed")
        case SmtpCheck():
            text = f"CHECK {word} on service" + ("" if up else f" : {failure}")
        case MiscCheck():
            text = f"MISC CHECK {'succeeded' if up else 'timed out' if 'timed out' in failure else 'failed'} on service"
        case BfdCheck():
            text = f"BFD CHECK {check.name} {'succeeded' if up else 'failed'} on service"
        case FileCheck():
            return ""
        case GrpcCheck():
            text = f"GRPC CHECK {word} on service"
    return f"=> {text} <="


class Teller:
    """One per worker."""

    def __init__(self, notifier: Notifier, channel: Channel) -> None:
        self._notifier, self._channel = notifier, channel
        self._no_checker_mail = False

    def configure(self, config: CheckerSlice) -> None:
        """FIFOs, mail and limits of `config`."""
        defs = config.global_defs
        self._no_checker_mail = defs.mail.no_checker_emails
        self._notifier.configure(defs, (defs.notify_fifo, defs.lvs_notify_fifo))

    # what happened ------------------------------------------------------------------------------------------------

    def tell(self, state: VirtualServerState, effect: Effect) -> None:
        match effect:
            case RealServerChanged():
                self._real(state, effect)
            case QuorumChanged():
                self._quorum(state.config, effect)
            case WeightChanged():
                name = effect.key.text(state.config.protocol)
                logger.info(
                    "Changing weight from %d to %d for %s service %s of VS %s",
                    effect.before,
                    effect.weight,
                    "active" if effect.active else "inactive",
                    name,
                    state.config.key,
                )

    def checked(
        self, state: VirtualServerState, real: RealServer, check: Check, up: bool, failure: str, *, moved: bool
    ) -> None:
        """A checker changed its opinion; `moved`: its real server changed with it. Mail only."""
        body = mail_body(check, up, failure)
        if body and real.smtp_alert and (moved or not self._no_checker_mail):
            self._mail_real(state.config, real, state.reals[real.key].alive, body)

    def leaves(self, service: VirtualServer, real: RealServerState, why: str) -> None:
        """The row of a real server goes, if it has one: `why` is REMOVING by a reload, or SHUTTING_DOWN. Log only."""
        if real.has_row:
            inhibited = "" if real.alive else "(inhibited) "
            name = real.config.key.text(service.protocol)
            logger.info("%s %sservice %s from VS %s", why, inhibited, name, service.key)

    def gone(self, service: VirtualServer, real: RealServer, why: str) -> None:
        """An alive real server is taken away: `why` is REMOVING by a reload, or SHUTTING_DOWN."""
        self.report_real(service, real, False, why.lower())
        self._run(service, real, real.notify_down, why.lower())
        self._line_real(service, real, False)
        if real.smtp_alert:
            self._mail_real(service, real, False, f"=> {why} <=")

    def removed(self, service: VirtualServer) -> None:
        """A reload takes away a virtual server that had its quorum."""
        self._end(service, f"Lost quorum {_weighed(service, 0, False)}")

    def stopped(self, service: VirtualServer) -> None:
        """A virtual server with omega goes with the daemon, whether it had its quorum or not."""
        self._end(service, SHUTTING_DOWN)

    def _end(self, service: VirtualServer, why: str) -> None:
        self._notifier.run(f"VS {service.key}", service.quorum_down, (), {"KEEPALIVED_VS": str(service.key)})
        self._line_service(service, False)
        if service.smtp_alert:
            self._mail_service(service, False, f"=> {why} <=")

    # real servers -------------------------------------------------------------------------------------------------

    def _real(self, state: VirtualServerState, effect: RealServerChanged) -> None:
        service, name = state.config.key, effect.key.text(state.config.protocol)
        known = state.reals.get(effect.key)
        verb = ("Adding", "to") if effect.up else ("Removing", "from")
        if known is not None and known.config.inhibit_on_failure:
            verb = ("Enabling", "of") if effect.up else ("Disabling", "of")
        logger.info("%s service %s %s VS %s (%s)", verb[0], name, verb[1], service, effect.reason)
        if known is not None:
            real = known.config
            self.report_real(state.config, real, effect.up, effect.reason)
            self._run(state.config, real, real.notify_up if effect.up else real.notify_down, effect.reason)
            self._line_real(state.config, real, effect.up)

    def report_real(self, service: VirtualServer, real: RealServer, up: bool, reason: str) -> None:
        """To the parent, which tells a successor of this process."""
        name = real.key.text(service.protocol)
        self._channel.send(
            RealServerStateChanged(service=service.key.unique, real=name, up=up, reason=reason, time=now())
        )

    def report_weight(self, service: VirtualServer, real: RealServer, weight: int) -> None:
        """What scripts want it to be, -1 for nothing."""
        name = real.key.text(service.protocol)
        self._channel.send(ScriptWeightSet(service=service.key.unique, real=name, weight=weight))

    def _run(self, service: VirtualServer, real: RealServer, script: Script | None, reason: str) -> None:
        name = real.key.text(service.protocol)
        environment = {"KEEPALIVED_VS": str(service.key), "KEEPALIVED_RS": name, "KEEPALIVED_REASON": reason}
        self._notifier.run(f"RS {name} {service.key}", script, (), environment)

    def _line_real(self, service: VirtualServer, real: RealServer, up: bool) -> None:
        self._line(f"RS {real.key.text(service.protocol)} {service.key} {WORDS[up]}")

    def _mail_real(self, service: VirtualServer, real: RealServer, up: bool, body: str) -> None:
        name = real.key.text(service.protocol)
        self._notifier.mailer.send(f"Realserver {name} of virtual server {service.key} - {WORDS[up]}", body)

    # virtual servers ----------------------------------------------------------------------------------------------

    def _quorum(self, service: VirtualServer, effect: QuorumChanged) -> None:
        sign, compare = ("+", "<=") if effect.up else ("-", ">")
        threshold = _threshold(service, effect.up)
        logger.info(
            "%s quorum %d%s%d=%d %s %d for VS %s",
            "Gained" if effect.up else "Lost",
            service.quorum,
            sign,
            service.hysteresis,
            threshold,
            compare,
            effect.live_weight,
            service.key,
        )
        if service.sorry_server is not None:
            verb = "Removing sorry server %s from VS %s" if effect.up else "Adding sorry server %s to VS %s"
            if not (effect.up and effect.starting):
                logger.info(verb, service.sorry_server.key.text(service.protocol), service.key)
        script = service.quorum_up if effect.up else service.quorum_down
        self._notifier.run(f"VS {service.key}", script, (), {"KEEPALIVED_VS": str(service.key)})
        self._line_service(service, effect.up)
        if service.smtp_alert:
            what = "Gained quorum" if effect.up else "Lost quorum"
            if effect.starting:
                what = f"Starting with quorum {WORDS[effect.up].lower()}"
            self._mail_service(service, effect.up, f"=> {what} {_weighed(service, effect.live_weight, effect.up)} <=")
        self.report(service, effect.up, effect.live_weight)

    def report(self, service: VirtualServer, up: bool, live_weight: int) -> None:
        """To VRRP, which may track the service."""
        reason = f"live weight {live_weight}"
        self._channel.send(VirtualServerStateChanged(service=service.key.unique, up=up, reason=reason, time=now()))

    def _line_service(self, service: VirtualServer, up: bool) -> None:
        self._line(f"VS {service.key} {WORDS[up]}")

    def _mail_service(self, service: VirtualServer, up: bool, body: str) -> None:
        self._notifier.mailer.send(f"Virtualserver {service.key} - {WORDS[up]}", body)

    def _line(self, text: str) -> None:
        """With the NUL byte that keepalived ends these lines with, after the newline; readers may count on it."""
        self._notifier.fifos.write(text.encode("utf-8", "surrogateescape") + b"\n\0")


def _threshold(service: VirtualServer, up: bool) -> int:
    """What live weight is held against."""
    return service.quorum + service.hysteresis if up else service.quorum - service.hysteresis


def _weighed(service: VirtualServer, live_weight: int, up: bool) -> str:
    """As mails have it, always with these signs."""
    return f"{service.quorum}+{service.hysteresis}={_threshold(service, up)} <= {live_weight}"

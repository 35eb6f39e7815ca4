"""What becomes of the scripts of a configuration before anything runs (vrrp-behaviour.md 9.2, config-language.md 11).

Scripts that can never run are taken out of what they would decide, so that a missing check does not bring a router
down; scripts run as root that others could change are taken out under enable_script_security.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from typing import Any, TypeVar

from keepalived_py.records import dataclass

from .model import (
    Check,
    CheckerConfig,
    Config,
    Fifo,
    GlobalDefs,
    MiscCheck,
    NotifyScripts,
    RealServer,
    Script,
    SyncGroup,
    VirtualServer,
    VrrpConfig,
    VrrpInstance,
)
from .problems import Severity
from .schema import Context
from .script_security import Examiner, Kind, Verdict
from .tree import Statement

Holder = TypeVar("Holder", VirtualServer, RealServer, GlobalDefs, NotifyScripts, Fifo, MiscCheck)
_NOTIFY = ("master", "backup", "fault", "stop", "deleted", "any", "master_rx_lower_pri")
_GLOBAL = ("startup_script", "shutdown_script")
_FIFOS = ("notify_fifo", "vrrp_notify_fifo", "lvs_notify_fifo")


def check_scripts(config: Config, context: Context, own_uid: int) -> Config:
    """`config` without the scripts that must not or cannot run; each is reported where it stands."""
    defaults = config.global_defs
    judge = _Judge(
        context=context,
        examiner=Examiner(
            use_symlink_paths=defaults.use_symlink_paths,
            own_uid=own_uid,
            own_gid=own_uid,
            search_path=os.environ.get("PATH"),
        ),
        secure=defaults.enable_script_security,
        own_uid=own_uid,
        lines=context.facts.get("script_lines", {}),
    )
    changed = replace(
        config,
        global_defs=judge.globals(defaults),
        vrrp=judge.vrrp(config.vrrp),
        checker=judge.checker(config.checker),
    )
    judge.say_once()
    return changed


@dataclass(slots=True, kw_only=True)
class _Judge:
    """The verdicts of one load, and what follows from them."""

    context: Context
    examiner: Examiner
    secure: bool
    own_uid: int
    lines: Mapping[tuple[str, ...], Statement]
    verdicts: dict[Script, Verdict] = field(default_factory=dict)
    first_as_root: Script | None = None

    def verdict(self, script: Script) -> Verdict:
        found = self.verdicts.get(script)
        if found is None:
            found = self.verdicts[script] = self.examiner.examine(script)
            self._report(script, found)
        return found

    def _report(self, script: Script, verdict: Verdict) -> None:
        runs = verdict.kind in (Kind.OK, Kind.INSECURE) and not script.readable_only
        if runs and (self.own_uid if script.uid is None else script.uid) == 0:
            self.first_as_root = self.first_as_root or script
        if verdict.kind is Kind.OK:
            return
        insecure = verdict.kind is Kind.INSECURE
        self.context.report(
            "script-insecure" if insecure else "script-not-found",
            f"script '{script}': {verdict.why}" + (" - disabling" if insecure and self.secure else ""),
            self.lines.get(script.argv),
            1,
            Severity.SECURITY if insecure and self.secure else Severity.LINT,
        )

    def say_once(self) -> None:
        """Scripts run as root, and nothing keeps others from changing them."""
        if self.first_as_root is None or self.secure:
            return
        self.context.report(
            "script-security",
            "scripts are run as root without enable_script_security",
            self.lines.get(self.first_as_root.argv),
            1,
            Severity.SECURITY,
            "set enable_script_security, and script_user, in global_defs",
        )

    def may_run(self, script: Script) -> bool:
        """False for what security forbids and for what is no file to run; a missing file may still come."""
        kind = self.verdict(script).kind
        return kind is not Kind.WRONG_TYPE and not (kind is Kind.INSECURE and self.secure)

    def can_decide(self, script: Script) -> bool:
        """Whether the result of a script may count."""
        return self.verdict(script).kind is Kind.OK or (self.verdict(script).kind is Kind.INSECURE and not self.secure)

    def located(self, script: Script) -> Script:
        """`script` with the file that was looked at, so that no other one is run where a link changes later."""
        path = self.verdict(script).path
        return script if path in ("", script.argv[0]) else replace(script, path=path)

    def without(self, holder: Holder, names: Iterable[str]) -> Holder:
        """`holder` without those of the scripts in its fields `names` that must not run; the others located."""
        changed: dict[str, Any] = {}
        for name in names:
            script: Script | None = getattr(holder, name)
            if script is not None:
                kept = self.located(script) if self.may_run(script) else None
                if kept is not script:
                    changed[name] = kept
        return replace(holder, **changed) if changed else holder

    # sections -----------------------------------------------------------------------------------------------------

    def globals(self, defaults: GlobalDefs) -> GlobalDefs:
        defaults = self.without(defaults, _GLOBAL)
        for name in _FIFOS:
            fifo: Fifo | None = getattr(defaults, name)
            if fifo is not None:
                changed: dict[str, Any] = {name: self.without(fifo, ("script",))}
                defaults = replace(defaults, **changed)
        return defaults

    def vrrp(self, config: VrrpConfig) -> VrrpConfig:
        lost = {script.name for script in config.scripts if not self.can_decide(script.script)}
        return replace(
            config,
            scripts=tuple(
                replace(each, script=self.located(each.script)) for each in config.scripts if each.name not in lost
            ),
            instances=tuple(self._member(instance, lost) for instance in config.instances),
            sync_groups=tuple(self._member(group, lost) for group in config.sync_groups),
        )

    def _member(self, holder: _Tracking, lost: set[str]) -> _Tracking:
        notify = self.without(holder.notify, _NOTIFY)
        tracks = tuple(track for track in holder.tracks if track.kind != "script" or track.name not in lost)
        if notify is holder.notify and tracks == holder.tracks:
            return holder
        return replace(holder, notify=notify, tracks=tracks)

    def checker(self, config: CheckerConfig) -> CheckerConfig:
        if not self.lines:
            return config  # there is not one script in the file
        return replace(config, virtual_servers=tuple(map(self._server, config.virtual_servers)))

    def _server(self, server: VirtualServer) -> VirtualServer:
        server = self.without(server, ("quorum_up", "quorum_down"))
        reals = tuple(map(self._real, server.real_servers))
        return server if all(map(_same, reals, server.real_servers)) else replace(server, real_servers=reals)

    def _real(self, real: RealServer) -> RealServer:
        real = self.without(real, ("notify_up", "notify_down"))
        kept = tuple(map(self._check, filter(self._can_check, real.checks)))
        same = len(kept) == len(real.checks) and all(map(_same, kept, real.checks))
        return real if same else replace(real, checks=kept)

    def _can_check(self, check: Check) -> bool:
        return not isinstance(check, MiscCheck) or self.can_decide(check.script)

    def _check(self, check: Check) -> Check:
        return self.without(check, ("script",)) if isinstance(check, MiscCheck) else check


_Tracking = TypeVar("_Tracking", VrrpInstance, SyncGroup)


def _same(one: object, other: object) -> bool:
    return one is other

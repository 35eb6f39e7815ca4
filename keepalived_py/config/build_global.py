"""The frozen GlobalDefs out of what the root and global_defs said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .keywords_global import GLOBAL_DEFS, ROOT_SCALARS
from .model import (
    BufferSettings,
    Fifo,
    FirewallSettings,
    GarpDefaults,
    GlobalDefs,
    IpvsSettings,
    MailSettings,
    ProcessTuning,
    ReloadSettings,
    RootSettings,
    Script,
    SnmpDbusSettings,
)
from .problems import Severity
from .schema import Context, Draft

GROUPS: dict[str, Any] = {
    "root": RootSettings,
    "mail": MailSettings,
    "garp": GarpDefaults,
    "firewall": FirewallSettings,
    "ipvs": IpvsSettings,
    "reload": ReloadSettings,
    "snmp_dbus": SnmpDbusSettings,
    "buffers": BufferSettings,
    "vrrp_process": ProcessTuning,
    "checker_process": ProcessTuning,
    "bfd_process": ProcessTuning,
}
"""Parts of GlobalDefs by the first word of a dotted field."""
FIFOS = ("notify_fifo", "vrrp_notify_fifo", "lvs_notify_fifo")
_HANDLED = {"(reader)", "(both)", *FIFOS, *(f"{name}.script" for name in FIFOS)}
FIELDS = {keyword.target for keyword in (*ROOT_SCALARS, *GLOBAL_DEFS.keywords)}
DIRECT = tuple(sorted(name for name in FIELDS - _HANDLED if "." not in name))


def build_global_defs(root: Draft, draft: Draft, context: Context) -> GlobalDefs:
    """Defaults filled in, and what depends on one another put right."""
    values: dict[str, dict[str, Any]] = {name: {} for name in GROUPS}
    for target, value in (*root.values.items(), *draft.values.items()):
        group, dot, name = target.partition(".")
        if dot and group in values:
            values[group][name] = value
    _spread(values)
    if draft.has("(both)"):
        values["snmp_dbus"].update(enable_snmp_rfcv2=True, enable_snmp_rfcv3=True)
    interval = values["snmp_dbus"].get("vs_stats_update_interval")
    if interval is not None:
        values["snmp_dbus"].setdefault("rs_stats_update_interval", interval)
    direct = draft.pick(*DIRECT)
    direct["script_user"] = _named(direct.get("script_user"))
    parts: dict[str, Any] = {name: make(**values[name]) for name, make in GROUPS.items()}
    return GlobalDefs(**parts, **_fifos(draft, context), **direct)


def _spread(values: dict[str, dict[str, Any]]) -> None:
    """Keywords that set several fields at once."""
    mail, garp, firewall, ipvs = (values[name] for name in ("mail", "garp", "firewall", "ipvs"))
    if "smtp_server" in mail:
        mail["smtp_server"], mail["smtp_port"] = mail["smtp_server"]
    if "extra_if" in garp:
        garp["extra_if"], garp["extra_if_all"] = garp["extra_if"]
    if garp.get("min_garp"):
        for name, value in (("master_repeat", 1), ("master_delay", 0), ("master_refresh", 0)):
            garp.setdefault(name, value)
    if "iptables" in firewall:
        firewall["iptables_in"], firewall["iptables_out"] = firewall["iptables"]
        firewall["iptables"] = True
    if "nftables_table" in firewall:
        firewall["nftables"] = True
    if firewall.get("ipset_names") == ():
        firewall["ipsets"] = False
    if "timeouts" in ipvs:
        ipvs["timeout_tcp"], ipvs["timeout_tcpfin"], ipvs["timeout_udp"] = ipvs.pop("timeouts")


def _fifos(draft: Draft, context: Context) -> dict[str, Any]:
    """The FIFOs with the programs that read them."""
    found: dict[str, Fifo] = {}
    for name in FIFOS:
        fifo, script = draft.get(name), draft.get(f"{name}.script")
        if fifo is None:
            if script is not None:
                context.report(
                    "fifo-script-without-fifo",
                    f"{name}_script has no {name} to read and is left out",
                    draft.at(f"{name}.script"),
                    severity=Severity.LINT,
                )
            continue
        if name != "notify_fifo" and "notify_fifo" in found and found["notify_fifo"].path == fifo.path:
            context.report("same-fifo", f"{name} is the same FIFO as notify_fifo and left out", draft.at(name), 1)
            continue
        found[name] = replace(fifo, script=script)
    return found


def _named(found: Any) -> Script | None:
    return found if isinstance(found, Script) else None

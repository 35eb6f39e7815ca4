"""The JSON dump, versions 1 and 2, member for member as keepalived writes it (cli-and-signals.md 5.2)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from keepalived_py.config.model import NotifyScripts
from keepalived_py.dump_globals import MASK
from keepalived_py.values import seconds

from .dump_rows import address_text, route_text, rule_text
from .packet import AUTH_AH, AUTH_NONE, AUTH_PASS, Reason
from .snapshot import InstanceSnapshot, ProcessSnapshot
from .states import State

STATE_NUMBERS = {State.INIT: 0, State.BACKUP: 1, State.MASTER: 2, State.FAULT: 3}


def json_text(
    instances: Iterable[InstanceSnapshot], version: int = 1, processes: Sequence[ProcessSnapshot] = ()
) -> str:
    """The whole file. Version 1 is the array of instances alone."""
    rows = [{"data": instance_data(each), "stats": instance_statistics(each)} for each in instances]
    whole: Any = rows
    if version == 2:
        whole = {"vrrp": rows}
        if processes:
            whole["track_process"] = [_process(each) for each in processes]
    # keepalived's writer escapes the slash
    return json.dumps(whole, separators=(",", ":"), ensure_ascii=False).replace("/", "\\/") + "\n"


def instance_data(found: InstanceSnapshot) -> dict[str, Any]:
    """The member `data` of one instance."""
    config, garp = found.config, found.config.garp
    data: dict[str, Any] = {
        "iname": config.name,
        "dont_track_primary": int(config.dont_track_primary),
        "skip_check_adv_addr": int(config.skip_check_adv_addr),
        "strict_mode": int(config.strict),
        "vmac_ifname": found.vmac_name,
    }
    if config.interface:
        data["ifp_ifname"] = found.own_link
    return data | {
        "master_priority": found.master_priority,
        "last_transition": _number(found.last_transition),
        "garp_delay": _number(garp.master_delay),
        "garp_refresh": _number(garp.master_refresh),
        "garp_rep": garp.master_repeat,
        "garp_refresh_rep": garp.master_refresh_repeat,
        "garp_lower_prio_delay": _number(garp.lower_prio_delay),
        "garp_lower_prio_rep": garp.lower_prio_repeat,
        "lower_prio_no_advert": int(config.lower_prio_no_advert),
        "higher_prio_send_advert": int(config.higher_prio_send_advert),
        "vrid": config.vrid,
        "base_priority": config.priority,
        "effective_priority": found.priority,
        "vipset": found.state is State.MASTER,
        "promote_secondaries": config.promote_secondaries,
        "adver_int": _number(seconds(config.advert_int)),
        "master_adver_int": _number(seconds(found.master_adver_int)),
        "accept": int(config.accept),
        "nopreempt": not config.preempt,
        "preempt_delay": int(config.preempt_delay),
        "state": STATE_NUMBERS[found.state],
        "wantstate": STATE_NUMBERS[found.wants],
        "version": config.version,
        "smtp_alert": config.smtp_alert,
        "notify_deleted": config.notify.report_deleted or config.notify.deleted is not None,
        **_scripts(config.notify),
        **_rows(found),
        **_authentication(found),
    }


def _scripts(notify: NotifyScripts) -> dict[str, str]:
    named = {
        "script_backup": notify.backup,
        "script_master": notify.master,
        "script_fault": notify.fault,
        "script_stop": notify.stop,
        "script_deleted": notify.deleted,
        "script": notify.any,
        "script_master_rx_lower_pri": notify.master_rx_lower_pri,
    }
    return {name: script.quoted for name, script in named.items() if script is not None}


def _rows(found: InstanceSnapshot) -> dict[str, list[str]]:
    """Arrays that are left out when empty."""
    config, present = found.config, found.state is State.MASTER
    rows = {
        "vips": [address_text(each, found.device(each), present, filtered=found.filtered) for each in config.addresses],
        "evips": [address_text(each, found.device(each), present, filtered=found.filtered) for each in config.excluded],
        "vroutes": [route_text(each) for each in config.routes],
        "vrules": [rule_text(each) for each in config.rules],
        "track_ifp": [each.name for each in config.tracks if each.kind == "interface"],
        "track_script": [
            found.scripts[each.name].quoted
            for each in config.tracks
            if each.kind == "script" and each.name in found.scripts
        ],
        "track_process": [each.name for each in config.tracks if each.kind == "process"],
    }
    return {name: values for name, values in rows.items() if values}


def _authentication(found: InstanceSnapshot) -> dict[str, Any]:
    own = found.config.authentication
    if own is None:
        return {"auth_type": AUTH_NONE}
    return {"auth_type": AUTH_PASS if own.auth_type == "pass" else AUTH_AH, "auth_data": MASK}


def instance_statistics(found: InstanceSnapshot) -> dict[str, int]:
    """The member `stats` of one instance."""
    count, bad = found.counters, found.counters.discarded
    statistics = {
        "advert_rcvd": count.received,
        "advert_sent": count.sent,
        "become_master": count.became_master,
        "release_master": count.released_master,
        "packet_len_err": bad[Reason.LENGTH],
        "advert_interval_err": bad[Reason.INTERVAL],
        "ip_ttl_err": bad[Reason.TTL] + bad[Reason.PEER_TTL],
        "invalid_type_rcvd": bad[Reason.INVALID_TYPE],
        "addr_list_err": count.list_differs
        + bad[Reason.ADDRESS_LIST]
        + bad[Reason.NO_ADDRESS]
        + bad[Reason.DESTINATION],
        "invalid_authtype": bad[Reason.INVALID_AUTH_TYPE],
        "authtype_mismatch": bad[Reason.AUTH_TYPE_MISMATCH] + bad[Reason.AUTH_HEADER],
        "auth_failure": bad[Reason.AUTH_FAILURE],
    }
    if found.config.auth_hmac is not None:
        statistics |= {
            "auth_ext_missing": bad[Reason.HMAC_MISSING],
            "auth_ext_malformed": bad[Reason.HMAC_MALFORMED],
            "auth_ext_unknown_key": bad[Reason.HMAC_UNKNOWN_KEY],
            "auth_ext_invalid_hmac": bad[Reason.HMAC_INVALID],
            "auth_ext_stale": bad[Reason.HMAC_STALE],
            "auth_ext_replay": bad[Reason.HMAC_REPLAY],
        }
    return statistics | {"pri_zero_rcvd": count.zero_received, "pri_zero_sent": count.zero_sent}


def _process(found: ProcessSnapshot) -> dict[str, Any]:
    config = found.config
    data: dict[str, Any] = {
        "process": config.command[0] if config.command else "",
        "parameters": " ".join(config.command[1:]),
        "param_match": config.param_match,
        "min_processes": config.quorum,
    }
    if config.quorum_max is not None:
        data["max_processes"] = config.quorum_max
    return data | {
        "current_processes": found.current,
        "have_quorum": found.have_quorum,
        "weight": config.weight,
        "terminate_delay": _number(config.terminate_delay),
        "fork_delay": _number(config.fork_delay),
        "fork_delay_timer_running": found.fork_delay_running,
        "terminate_delay_timer_running": found.terminate_delay_running,
        "full_command": config.full_command,
    }


def _number(value: float) -> int | float:
    """Microseconds at most, and no point where none is needed."""
    rounded = round(value, 6)
    return int(rounded) if rounded == int(rounded) else rounded

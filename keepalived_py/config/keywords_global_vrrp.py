"""Tables of global_defs: what instances share, announcements, the firewall."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

from .converters import (
    INT32,
    TIMER_MAX,
    UINT32,
    absolute_path,
    address,
    at_least_one,
    boolean,
    choice,
    extra_interface,
    flag,
    integer,
    interface,
    mapped,
    optional_word,
    seconds,
    word,
)
from .model import FirewallSettings
from .problems import Severity
from .schema import Bad, Context, Keyword
from .tree import Statement

MAX_CHAIN = 27


MAX_SET = 30


IPSETS = (
    "keepalived",
    "keepalived6",
    "keepalived_if6",
    "keepalived_igmp",
    "keepalived_mld",
    "keepalived_nd",
)


def is_link_local_group(found: IPv4Address | IPv6Address) -> bool:
    """Whether an IPv6 group is of link-local scope (RFC 4291 2.7)."""
    return found.packed[1] & 0x0F == 2


def _multicast(version: int) -> Any:
    def convert(statement: Statement, context: Context) -> IPv4Address | IPv6Address:
        found = address(statement, context)
        if found.version != version or not found.is_multicast:
            raise Bad("not-multicast", f"'{statement.words[1]}' is not an IPv{version} multicast address")
        if version == 6 and not is_link_local_group(found):
            context.report(
                "group-not-link-local",
                f"'{found}' is not of link-local scope, so adverts may leave the link",
                statement,
                1,
                Severity.LINT,
            )
        return found

    return convert


def _iptables(statement: Statement, context: Context) -> tuple[str, str]:
    """Names of the input and output chain."""
    names = [*statement.args[:2], "INPUT", "OUTPUT"]
    chains = names[0], names[1] if len(statement.args) != 1 else ""
    for index, name in enumerate(statement.args[:2], 1):
        if len(name) > MAX_CHAIN:
            raise Bad("name-too-long", f"'{name}' is longer than {MAX_CHAIN} characters", index)
    if chains[0] == chains[1]:
        raise Bad("same-name", "both chains have the same name", 2)
    return chains


def _ipsets(statement: Statement, context: Context) -> tuple[str, ...]:
    """Six names of sets; () when sets are switched off by the bare keyword."""
    if len(statement.words) == 1:
        return ()
    given = statement.args[: len(IPSETS)]
    first = given[0]
    derived = (first, f"{first}6", f"{first}_if6", f"{first}_igmp", f"{first}_mld", f"{first}_nd")
    names = (*given, *derived[len(given) :])
    for index, name in enumerate(given, 1):
        if len(name) > MAX_SET:
            raise Bad("name-too-long", f"'{name}' is longer than {MAX_SET} characters", index)
    if len(set(names)) != len(names):
        raise Bad("same-name", "the names of the sets must differ", len(given))
    return names


def _dynamic(statement: Statement, context: Context) -> str:
    return str(choice("allow_if_changes")(statement, context)) if len(statement.words) > 1 else "yes"


_GARP = (
    Keyword(
        "vrrp_garp_master_delay",
        integer(0, 4294),
        "SECS",
        "Delay before the second burst of announcements, 0 for none.",
        default="5",
        range="0..4294",
        field="garp.master_delay",
    ),
    Keyword(
        "vrrp_garp_master_repeat",
        at_least_one,
        "N",
        "Announcements per burst.",
        default="5",
        field="garp.master_repeat",
    ),
    Keyword(
        "vrrp_garp_master_refresh",
        integer(0, UINT32),
        "SECS",
        "Period of announcements while MASTER, 0 for none.",
        default="0",
        field="garp.master_refresh",
    ),
    Keyword(
        "vrrp_garp_master_refresh_repeat",
        at_least_one,
        "N",
        "Announcements per refresh.",
        default="1",
        field="garp.master_refresh_repeat",
    ),
    Keyword(
        "vrrp_garp_lower_prio_delay",
        integer(0, 4294),
        "SECS",
        "Second burst after a lower-priority advert.",
        default="vrrp_garp_master_delay",
        range="0..4294",
        field="garp.lower_prio_delay",
    ),
    Keyword(
        "vrrp_garp_lower_prio_repeat",
        integer(0, INT32),
        "N",
        "Announcements after a lower-priority advert.",
        default="vrrp_garp_master_repeat",
        field="garp.lower_prio_repeat",
    ),
    Keyword(
        "vrrp_garp_interval",
        seconds(0.000001, TIMER_MAX),
        "SECS",
        "Least gap between gratuitous ARPs on an interface.",
        default="0",
        field="garp.interval",
    ),
    Keyword(
        "vrrp_gna_interval",
        seconds(0.000001, TIMER_MAX),
        "SECS",
        "Least gap between unsolicited neighbour advertisements on an interface.",
        default="0",
        field="garp.gna_interval",
    ),
    Keyword(
        "vrrp_min_garp",
        boolean,
        "[BOOL]",
        "One announcement, no second burst and no refresh, where nothing else is set.",
        default="off",
        field="garp.min_garp",
    ),
    Keyword(
        "vrrp_garp_extra_if",
        extra_interface(1),
        "[all] SECS",
        "Period of announcements on interfaces that hold addresses but send no adverts.",
        default="off",
        range="1..86400 s",
        field="garp.extra_if",
    ),
    Keyword(
        "vrrp_vmac_garp_intvl",
        extra_interface(1),
        "[all] SECS",
        "Old spelling.",
        field="garp.extra_if",
        alias_of="vrrp_garp_extra_if",
    ),
)


FIREWALL = (
    Keyword(
        "vrrp_iptables",
        _iptables,
        "[IN_CHAIN [OUT_CHAIN]]",
        "Use iptables for accept mode and VMAC filters, unless it writes to nftables itself.",
        default="off; bare: INPUT OUTPUT",
        field="firewall.iptables",
        once=True,
    ),
    Keyword(
        "vrrp_ipsets",
        _ipsets,
        "[SET [SET6 [SET_IF6 [SET_IGMP [SET_MLD [SET_ND]]]]]]",
        "Names of the sets that go with vrrp_iptables; bare: rules do without sets.",
        default=" ".join(IPSETS),
        field="firewall.ipset_names",
    ),
    Keyword(
        "nftables",
        optional_word(FirewallSettings().nftables_table),
        "[TABLE]",
        "Use nftables for accept mode and VMAC filters.",
        default="used when needed; table keepalived",
        field="firewall.nftables_table",
        once=True,
    ),
    Keyword(
        "nftables_priority",
        integer(-(2**31), INT32),
        "N",
        "Priority of the base chains.",
        default="-1",
        field="firewall.nftables_priority",
    ),
    Keyword(
        "nftables_ifindex",
        flag(True),
        "",
        "Know link-local addresses by the index of their interface, also where `dont_track_primary` means its name.",
        default="off",
        field="firewall.nftables_ifindex",
    ),
    Keyword(
        "nftables_counters",
        flag(True),
        "",
        "Add counters to the rules.",
        default="off",
        field="firewall.nftables_counters",
    ),
    Keyword(
        "disable_local_igmp",
        flag(True),
        "",
        "Switch off IGMP reports for link-local groups while running.",
        default="off",
    ),
)


VRRP = (
    Keyword(
        "vrrp_version",
        mapped(choice("2", "3"), int),
        "2|3",
        "Default VRRP version of IPv4 instances.",
        default="2",
    ),
    Keyword("vrrp_strict", boolean, "[BOOL]", "Default of strict_mode.", default="off"),
    Keyword(
        "vrrp_mcast_group4",
        _multicast(4),
        "ADDR",
        "IPv4 group for adverts.",
        default="224.0.0.18",
        field="mcast_group4",
    ),
    Keyword(
        "vrrp_mcast_group6",
        _multicast(6),
        "ADDR",
        "IPv6 group for adverts.",
        default="ff02::12",
        field="mcast_group6",
    ),
    *_GARP,
    Keyword(
        "vrrp_down_timer_adverts",
        integer(1, 100),
        "N",
        "Advert intervals of silence before a backup takes over.",
        default="3",
        range="1..100",
        field="down_timer_adverts",
    ),
    Keyword(
        "vrrp_lower_prio_no_advert",
        boolean,
        "[BOOL]",
        "A master does not answer a lower-priority advert.",
        default="off; on in strict mode",
        field="lower_prio_no_advert",
    ),
    Keyword(
        "vrrp_higher_prio_send_advert",
        boolean,
        "[BOOL]",
        "A master answers a higher-priority advert once before it yields.",
        default="off",
        field="higher_prio_send_advert",
    ),
    Keyword(
        "vrrp_owner_ignore_adverts",
        boolean,
        "[BOOL]",
        "Default of owner_ignore_adverts.",
        default="off; on in strict mode",
        field="owner_ignore_adverts",
    ),
    Keyword(
        "v3_checksum_as_v2",
        flag(True),
        "",
        "Default of v3_checksum_as_v2.",
        default="off",
    ),
    Keyword(
        "vrrp_check_unicast_src",
        flag(True),
        "",
        "Default of check_unicast_src.",
        default="off",
        field="check_unicast_src",
    ),
    Keyword(
        "vrrp_skip_check_adv_addr",
        boolean,
        "[BOOL]",
        "Default of skip_check_adv_addr.",
        default="off",
        field="skip_check_adv_addr",
    ),
    Keyword(
        "vrrp_strict_address_list",
        boolean,
        "[BOOL]",
        "Reject adverts with another address list instead of logging them.",
        default="off",
        field="strict_address_list",
        ours=True,
    ),
    Keyword(
        "vrrp_startup_delay",
        seconds(0.001, TIMER_MAX),
        "SECS",
        "Wait after a start before VRRP begins.",
        default="0",
        field="startup_delay",
    ),
    Keyword(
        "vrrp_delay_after_boot",
        seconds(0.001, TIMER_MAX),
        "SECS",
        "The same, counted from boot; the longer of both counts.",
        default="0",
        field="delay_after_boot",
    ),
    Keyword("log_unknown_vrids", flag(True), "", "Log adverts for VRIDs that are not configured.", default="off"),
    Keyword(
        "vmac_prefix",
        word,
        "STRING",
        "Beginning of the names made for VMACs.",
        default="vrrp",
        once=True,
    ),
    Keyword(
        "vmac_addr_prefix",
        word,
        "STRING",
        "Beginning of the names made for VMACs of single addresses.",
        default="vmac_prefix",
        once=True,
    ),
    Keyword(
        "vrrp_hand_over",
        choice("auto", "always", "never"),
        "auto|always|never",
        "At a stop a master says farewell at once and keeps its addresses until another router has taken over, at most"
        " as long as the lowest priority takes for that. auto: where another router was heard, says that it listens"
        " (IGMP, MLD), or is a unicast peer.",
        default="auto",
        field="hand_over",
        ours=True,
    ),
    Keyword(
        "vrrp_restore_lost",
        integer(0, 1000),
        "N",
        "Losses of an address, route or rule in a row that are put back before the master role is given up; 0: from the"
        " first.",
        default="5",
        field="restore_lost",
        ours=True,
    ),
    Keyword(
        "dynamic_interfaces",
        _dynamic,
        "[allow_if_changes]",
        "Accept interfaces that do not exist yet; with the word also other ones of the same name.",
        default="off",
    ),
    Keyword(
        "default_interface",
        interface,
        "IFNAME",
        "Interface of static addresses without dev.",
        default="eth0",
    ),
    Keyword(
        "iproute_usr_dir",
        absolute_path,
        "PATH",
        "Where iproute2's own name tables are.",
        default="/usr/share/iproute2",
    ),
    Keyword(
        "iproute_etc_dir",
        absolute_path,
        "PATH",
        "Where the name tables of this machine are; they win.",
        default="/etc/iproute2",
    ),
)

"""What route and rule lines share with iproute2's commands: option words, and names that stand for numbers.

Built-in names come first, then those of /usr, then those of /etc, which overrides (vrrp-behaviour.md 11).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal

from keepalived_py.values import IPAddress

from .converters import UINT32, parse_address, parse_integer, parse_interface, parse_prefix
from .problems import Severity
from .schema import Bad, like

USR_DIRS = (Path("/usr/lib/iproute2"), Path("/usr/share/iproute2"))
ETC_DIR = Path("/etc/iproute2")
FAMILIES = {"inet": 4, "inet6": 6}
ANY = frozenset(("default", "any", "all"))
KEEPALIVED = 18
"""Route protocol of everything that is tracked."""

Report = Callable[[Bad], None]
"""Gets what is wrong with a line that is used all the same."""

Kind = Literal["table", "scope", "protocol", "realm", "dsfield", "group"]

_SCOPES = {"global": 0, "universe": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}
_PROTOCOLS = {
    "unspec": 0,
    "redirect": 1,
    "kernel": 2,
    "boot": 3,
    "static": 4,
    "gated": 8,
    "ra": 9,
    "mrt": 10,
    "zebra": 11,
    "bird": 12,
    "dnrouted": 13,
    "xorp": 14,
    "ntk": 15,
    "dhcp": 16,
    "keepalived": KEEPALIVED,
    "babel": 42,
    "openr": 99,
    "bgp": 186,
    "isis": 187,
    "ospf": 188,
    "rip": 189,
    "eigrp": 192,
}
_DSFIELDS = {
    "default": 0,
    **{f"CS{number}": number << 5 for number in range(1, 8)},
    **{f"AF{group}{drop}": group << 5 | drop << 3 for group in range(1, 5) for drop in range(1, 4)},
    "EF": 0xB8,
}
_KINDS: dict[Kind, tuple[str, int, dict[str, int]]] = {
    "table": ("rt_tables", UINT32, {"unspec": 0, "default": 253, "main": 254, "local": 255}),
    "scope": ("rt_scopes", 255, _SCOPES),
    "protocol": ("rt_protos", 255, _PROTOCOLS),
    "realm": ("rt_realms", 65535, {"cosmos": 0}),
    "dsfield": ("rt_dsfield", 255, _DSFIELDS),
    "group": ("group", UINT32, {"default": 0}),
}
"""File name, largest number and built-in names of each kind."""


class Names:
    """Numbers by name. Each file is read when a name of its kind is first asked for, and never again."""

    def __init__(self, usr_dirs: Iterable[Path] = USR_DIRS, etc_dir: Path = ETC_DIR) -> None:
        self._directories = (*usr_dirs, etc_dir)
        self._known: dict[Kind, dict[str, int]] = {}

    def number(self, kind: Kind, text: str, index: int) -> int:
        """The number that `text` names or is, in any C base. Raises Bad for word `index`."""
        known = self._names(kind)
        if text in known:
            return known[text]
        if not text[:1].isdigit():
            raise Bad(
                "unknown-name", f"'{text}' is not a name of {_KINDS[kind][0]}", index, hint=partial(_near, text, known)
            )
        return parse_integer(text, 0, _KINDS[kind][1], index, c_base=True)

    def realms(self, text: str, index: int) -> int:
        """`[FROM/]TO` as the kernel has it: FROM in the upper 16 bits. Raises Bad."""
        first, slash, second = text.partition("/")
        found = self.number("realm", first, index)
        return found << 16 | self.number("realm", second, index) if slash else found

    def _names(self, kind: Kind) -> dict[str, int]:
        if kind not in self._known:
            file, high, builtin = _KINDS[kind]
            found = dict(builtin)
            for directory in self._directories:
                for path in (directory / file, *sorted(directory.glob(f"{file}.d/*.conf"))):
                    found.update(_read(path, kind, high))
            self._known[kind] = found
        return self._known[kind]


def _read(path: Path, kind: Kind, high: int) -> dict[str, int]:
    """Lines `NUMBER NAME`. What cannot be read or is no such line is passed over: the file is not ours to judge."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    found = {}
    for line in lines:
        fields = line.partition("#")[0].split()
        if len(fields) != 2:
            continue
        try:
            found[fields[1]] = parse_integer(fields[0], 0, high, c_base=True)
        except Bad:
            continue
    return found


class OptionWords:
    """One line, read from left to right. Refusals name the word at fault, counting from 0."""

    def __init__(self, words: tuple[str, ...], index: int = 0) -> None:
        self.words = words
        self.index = index
        self.seen: dict[str, int] = {}
        """Where each field was first set."""

    def more(self) -> bool:
        return self.index < len(self.words)

    def peek(self) -> str:
        """The next word; "" at the end."""
        return self.words[self.index] if self.more() else ""

    def take(self) -> tuple[str, int]:
        """The next word and its index."""
        self.index += 1
        return self.words[self.index - 1], self.index - 1

    def skip(self, word: str) -> bool:
        """Whether the next word is `word`, which is then taken."""
        found = self.peek() == word
        self.index += found
        return found

    def value(self, option: str) -> tuple[str, int]:
        """The word that `option` needs. Raises Bad."""
        if not self.more():
            raise Bad("missing-value", f"'{option}' needs a value", len(self.words))
        return self.take()

    def once(self, field: str, option: str, index: int) -> None:
        """`option`, at `index`, sets `field`. Raises Bad the second time."""
        if field in self.seen:
            raise Bad("repeated-option", f"'{option}': already given by '{self.words[self.seen[field]]}'", index)
        self.seen[field] = index


Convert = Callable[[str, int, Names], Any]
"""Word, its index and names to the value of an option. Raises Bad."""


def named(kind: Kind) -> Convert:
    return lambda text, index, names: names.number(kind, text, index)


def number(low: int, high: int) -> Convert:
    return lambda text, index, names: parse_integer(text, low, high, index, c_base=True)


def interface(text: str, index: int, names: Names) -> str:
    return parse_interface(text, index)


def realms(text: str, index: int, names: Names) -> int:
    return names.realms(text, index)


def group(text: str, index: int, names: Names) -> str:
    """Name of a track group; whether there is one is seen later."""
    return text


def choice(choices: Mapping[str, Any]) -> Convert:
    def convert(text: str, index: int, names: Names) -> Any:
        if text not in choices:
            raise Bad("not-a-choice", f"'{text}' is not one of {', '.join(choices)}", index)
        return choices[text]

    return convert


def unknown_option(option: str, index: int, subject: str, allowed: Iterable[str]) -> Bad:
    hint = partial(_near, option, allowed)
    return Bad("unknown-option", f"'{option}' is not an option of a {subject}", index, hint=hint)


def _near(word: str, known: Iterable[str]) -> str:
    near = like(word, known)
    return f"did you mean '{near[0]}'?" if near else ""


def gateway(line: OptionWords, option: str) -> tuple[IPAddress, int, bool]:
    """`[inet|inet6] ADDR` behind `option`: address, its index, and whether the family was written. Raises Bad."""
    text, index = line.value(option)
    family = FAMILIES.get(text)
    if family is not None:
        text, index = line.value(option)
    address = parse_address(text, index)
    if family not in (None, address.version):
        raise Bad("wrong-family", f"'{text}' is not an {'IPv4' if family == 4 else 'IPv6'} address", index)
    return address, index, family is not None


def network(text: str, index: int, report: Report) -> tuple[IPAddress, int]:
    """`ADDRESS[/LENGTH]` with the bits behind the prefix cleared, as the kernel stores it. Raises Bad."""
    address, length = parse_prefix(text, index)
    if length is None:
        return address, address.max_prefixlen
    first = _first_address(address, length)
    if first != address:
        message = f"'{text}' has bits behind the prefix; {first}/{length} is used"
        report(Bad("host-bits", message, index, Severity.WARNING))
    return first, length


@lru_cache(maxsize=1024)
def _first_address(address: IPAddress, length: int) -> IPAddress:
    return ip_network((address, length), strict=False).network_address


def check_families(wanted: int, addresses: Iterable[tuple[int, int]], words: tuple[str, ...]) -> None:
    """Families and indexes of addresses. Raises Bad for the first that is not of family `wanted`."""
    for family, index in addresses:
        if family != wanted:
            raise Bad("wrong-family", f"'{words[index]}' does not fit an IPv{wanted} line", index)


def keep_protocol(values: dict[str, Any], line: OptionWords, report: Report) -> None:
    """What is tracked has keepalived's protocol, whatever the line says (vrrp-behaviour.md 11)."""
    if not values.get("no_track") and values.get("protocol", KEEPALIVED) != KEEPALIVED:
        message = f"what is tracked has protocol {KEEPALIVED} (keepalived)"
        hint = "add 'no_track' to have another one"
        report(Bad("protocol-forced", message, line.seen["protocol"] + 1, Severity.WARNING, hint))
        values["protocol"] = KEEPALIVED


def keep_track_group(values: dict[str, Any], has_interface: bool, line: OptionWords, report: Report) -> None:
    """A track group follows an interface; without one it is dropped."""
    if "track_group" in values and not has_interface:
        report(Bad("track-group-needs-dev", "'track_group' needs an interface", line.seen["track_group"]))
        del values["track_group"]


def prefix_text(address: IPAddress | None, length: int) -> str:
    return "default" if address is None else f"{address}/{length}"


def realms_text(pair: int | None) -> str | None:
    """`FROM/TO`; None for none."""
    return None if pair is None else f"{pair >> 16}/{pair & 0xFFFF}"

"""Stories of reloads for our program alone: after each the table must be that of one that has just read the same files.

Nothing is avoided that keepalived 2.2.7 makes a mistake of: groups lose and gain addresses and marks, servers are down
while it reloads, whatever can be written may be another after it. Only hysteresis is left out: it remembers. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from tests.ipvs.story import (
    EXTREMES,
    GROUPS,
    NETS,
    STATUSES,
    TRACKED,
    VALUES,
    WELL,
    Author,
    Change,
    File,
    Group,
    Kind,
    Real,
    Story,
    Virtual,
)


@dataclass(slots=True)
class Free(Author):
    """Draws what the others must not."""

    def real(
        self, kind: Kind, address: str, *, scripted: bool = False, least: int = 0, names: Sequence[str] = TRACKED
    ) -> Real:
        found = Author.real(self, kind, address, scripted=scripted, least=least, names=names)
        lines = [line for line in found.lines if "threshold" not in line]
        if self.often(0.4):
            lines[:0] = [f"uthreshold {self.chance.choice((10, 100))}", f"lthreshold {self.chance.randint(1, 9)}"]
        return replace(found, lines=tuple(lines))

    def reverses(self, weight: str) -> bool:
        return bool(weight) and self.often(0.3)

    def method(self, kind: Kind) -> str:
        return Author.method(self, kind) if kind.tunnelled else self.chance.choice(("NAT", "DR"))

    def port_of(self, kind: Kind) -> str:
        return self.chance.choice(("", "8080", kind.port)) if kind.port else ""

    def settings_of(self, kind: Kind, reals: tuple[Real, ...]) -> Iterator[str]:
        # a group may be one of marks alone, or of addresses, from one reload to the next
        kind = replace(kind, engine="sip" if kind.protocol == "UDP" and self.often(0.3) else "")
        yield from (line for line in Author.settings_of(self, kind, reals) if not line.startswith("hysteresis"))

    def persistence(self, kind: Kind) -> Iterator[str]:
        yield from Author.persistence(self, kind if kind.mixed else replace(kind, head=""))

    def sorry_server(self, kind: Kind, reals: dict[str, Real]) -> Iterator[str]:
        address = self.chance.choice((f"{NETS[kind.family]}9", f"{NETS[kind.family]}8", *reals))
        yield f"sorry_server {address} {self.port_of(kind)}"
        if everyone := self.often(0.3):
            yield "inhibit_on_failure"
        # as the real server that it is as well: all else is an error
        if everyone or reals[address].inhibit if address in reals else self.often(0.3):
            yield "sorry_server_inhibit"
        if self.often(0.3):
            yield f"sorry_server_lvs_method {self.method(kind)}"

    def waiting(self, kind: Kind) -> Iterator[str]:
        yield from ()

    # files --------------------------------------------------------------------------------------------------------

    def group(self, name: str) -> Group:
        """Its virtual server has a protocol, which marks alone do not."""
        found = Author.group(self, name)
        if name == "addresses" and all("fwmark" in entry for entry in found.entries):
            return Group(name, (self.entries(name)[0], *found.entries))
        return found

    def kinds_of(self, group: Group) -> Iterator[Kind]:
        """A mark is one service, and any of these may get one: only the group without marks is for two protocols."""
        kinds = list(Author.kinds_of(self, group))
        yield from kinds if group.name == "six" else kinds[:1]

    def mutated(self, file: File) -> File:
        """Any number of virtual servers are others, gone or new, of the same name or not."""
        groups = {group.name: self.mutated_group(group) for group in file.groups if self.often(0.85)}
        kept = [each for each in file.virtuals if self.often(0.85) and _group_of(each) in ("", *groups)]
        virtuals = list(map(self.mutated_virtual, kept))
        virtuals += [self.virtual(self.new_kind(200 + number)) for number in range(self.chance.randint(0, 2))]
        for name in GROUPS:
            if name not in {group.name for group in file.groups} and self.often(0.3):
                groups[name] = self.group(name)
                virtuals += map(self.virtual, self.kinds_of(groups[name]))
        settings = self.settings() if self.often(0.3) else file.settings
        heads: dict[tuple[str, str], Virtual] = {(each.kind.head, each.kind.protocol): each for each in virtuals}
        found = list(heads.values())
        if self.often(0.3):
            self.chance.shuffle(found)
        files = tuple(self.chance.sample(TRACKED, len(TRACKED))) if self.often(0.2) else file.files
        return File(settings, tuple(groups.values()), tuple(found), files)

    def new_kind(self, number: int) -> Kind:
        """Maybe for what a group is for as well."""
        if self.often(0.3):
            head, protocol, port = self.chance.choice((("10.2.1.1 80", "TCP", "80"), ("fwmark 101", "", "")))
            return Kind(head, 4, protocol, self.often(0.3), False, port)
        return self.kind(number)

    def mutated_group(self, group: Group) -> Group:
        return self.group(group.name) if self.often(0.6) else group

    def mutated_virtual(self, virtual: Virtual) -> Virtual:
        kind = virtual.kind
        if self.often(0.3):
            return virtual
        if self.often(0.2):
            if kind.head.partition(" ")[0] not in ("group", "fwmark"):
                protocol = self.chance.choice(("TCP", "UDP", "SCTP" if kind.port else kind.protocol))
                return self.virtual(replace(kind, protocol=protocol))
            return self.virtual(kind)
        reals = tuple(self.mutated_real(kind, each) for each in virtual.reals)
        if self.often(0.5):
            have = {each.address for each in reals}
            more = (self.real(kind, each, least=1) for each in self.addresses(kind, 2) if each not in have)
            reals = (*(each for each in reals[1:] if self.often(0.85)), *more, *reals[:1])
        # these are valid for the servers they were made for
        tied = any(line.startswith(("quorum ", "sorry_server ")) for line in virtual.lines)
        return Virtual(kind, tuple(self.settings_of(kind, reals)) if tied or self.often(0.5) else virtual.lines, reals)

    def mutated_real(self, kind: Kind, real: Real) -> Real:
        match self.chance.randrange(7):
            case 0:
                return replace(real, weight=self.chance.choice((1, 4, 20)))
            case 1:
                return replace(real, inhibit=not real.inhibit)
            case 2:
                scripted = any(line.startswith("MISC_CHECK") for line in real.lines)
                return self.real(kind, real.address, scripted=scripted != self.often(0.3), least=1)
            case 3:
                other = self.real(kind, real.address, least=1)
                return replace(real, port=other.port, lines=(*_settings(other), *_checks(real)))
            case 4:
                others = (line for line in real.lines if not line.startswith("lvs_method"))
                return replace(real, lines=(f"lvs_method {self.method(kind)}", *others))
        return real

    # the story ----------------------------------------------------------------------------------------------------

    def changes(self, file: File, steps: int) -> Iterator[Change]:
        for _ in range(steps):
            values = self.values() if self.often(0.7) else {}
            if self.often(0.8):
                file = self.mutated(file)
            yield Change(values, file)

    def values(self) -> dict[str, int]:
        names = self.chance.sample(TRACKED, self.chance.randint(1, 3))
        found = {name: self.chance.choice((*VALUES, *EXTREMES)) for name in names}
        if self.often(0.5):
            found |= {name: self.chance.choice(each) for name, each in STATUSES.items()}
        return found


def _group_of(virtual: Virtual) -> str:
    kind, _, name = virtual.kind.head.partition(" ")
    return name if kind == "group" else ""


def _settings(real: Real) -> list[str]:
    return [line for line in real.lines if "CHECK" not in line]


def _checks(real: Real) -> list[str]:
    return [line for line in real.lines if "CHECK" in line]


def reload_story(seed: int, steps: int = 6) -> Story:
    author = Free(Random(seed), sorry=True)
    file = author.file()
    return Story(file, WELL | author.values(), tuple(author.changes(file, steps)))

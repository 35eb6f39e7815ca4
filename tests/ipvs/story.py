"""Stories of a load balancer: a random valid file, what its track files and scripts say, and other files for reloads.

Pure: the same seed is the same story. Everything that decides about a server is a number in a file, so two programs
that read the same files must come to the same table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

SCHEDULERS = ("rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "mh", "dh", "fo", "ovf", "sed", "nq")
TUNNELS = (
    "",
    " type ipip",
    " type gue port 6080",
    " type gre",
    *(
        f" type {kind} {checksum}"
        for kind in ("gue port 6081", "gre")
        for checksum in ("nocsum", "csum", "remcsum")
        if (kind, checksum) != ("gre", "remcsum")
    ),
)
NETS = {4: "10.1.0.", 6: "fd01::"}
GRANULARITIES = {4: ("255.255.255.0", "255.0.0.0", "255.255.255.255"), 6: ("64", "128", "1")}
GROUPS = ("addresses", "marks", "six", "both")
TRACKED = ("a", "b", "c", "d")
PLAIN, DYNAMIC = "m", "n"
"""What scripts end with: 0 is well for both, but 2.2.7 makes the weight of a misc_dynamic one 0 at a reload then."""
WELL = dict.fromkeys((*TRACKED, PLAIN), 0) | {DYNAMIC: 12}
VALUES = (0, 0, 0, 0, 1, 1, 2, 3, -1, -2, 7)
EXTREMES = (2**31 - 1, -(2**31))
"""Not where a reload may find them: sums that 2.2.7 makes then are cut to 32 bits."""
STATUSES = {PLAIN: (0, 0, 1, 2), DYNAMIC: (1, 1, 2, 5, 12, 255)}
HARMS = ("", "", "kill", "refuse", "again")
"""Its checker is killed, a file with an error is to be loaded, the same file is loaded again: nothing must be seen."""
CLOCK = "10.0.9.9:9"
"""The service that tells how far a program is: its servers' weights say the same as the number of the step."""


@dataclass(frozen=True, slots=True)
class Real:
    address: str
    port: str
    weight: int
    inhibit: bool
    lines: tuple[str, ...]

    @property
    def dynamic(self) -> bool:
        """Whether a script says its weight."""
        return any("misc_dynamic" in line for line in self.lines)

    def __str__(self) -> str:
        lines = (f"weight {self.weight}", *(["inhibit_on_failure"] if self.inhibit else []), *self.lines)
        return f" real_server {self.address} {self.port} {{\n  " + "\n  ".join(lines) + "\n }\n"


@dataclass(frozen=True, slots=True)
class Kind:
    """What stays the same in the life of a virtual server, and what its servers must fit."""

    head: str
    family: int
    protocol: str
    tunnelled: bool
    mixed: bool
    """Servers of both families: tunnels only."""
    port: str
    """"" where any port is served."""
    marked: bool = False
    """A group with a mark."""
    engine: str = ""
    """Stays: where the kernel does not have it there is no service, and 2.2.7 makes none when a reload takes it out."""
    waiting: tuple[str, ...] = ()
    """A sorry server with inhibit: 2.2.7 leaves it as it was, whatever a reload makes of it."""


@dataclass(frozen=True, slots=True)
class Virtual:
    kind: Kind
    lines: tuple[str, ...]
    reals: tuple[Real, ...]

    def __str__(self) -> str:
        body = "\n ".join(self.lines)
        return f"virtual_server {self.kind.head} {{\n delay_loop 1\n {body}\n{''.join(map(str, self.reals))}}}\n"


@dataclass(frozen=True, slots=True)
class Group:
    name: str
    entries: tuple[str, ...]

    def __str__(self) -> str:
        return f"virtual_server_group {self.name} {{\n " + "\n ".join(self.entries) + "\n}\n"


@dataclass(frozen=True, slots=True)
class File:
    settings: tuple[str, ...]
    groups: tuple[Group, ...]
    virtuals: tuple[Virtual, ...]
    files: tuple[str, ...] = TRACKED
    """Where the track files are."""

    def text(self, directory: Path, loads: int) -> str:
        """Its text as the start (`loads` 1) or a reload (2, 3, ...); the track files are in `directory`."""
        paths = dict(zip(TRACKED, self.files, strict=True)) | {"clock": "clock"}
        files = "".join(f"track_file {name} {{\n file {directory}/{path}\n}}\n" for name, path in paths.items())
        settings = "\n ".join(("global_defs {", "script_user root", "enable_script_security", *self.settings)) + "\n}\n"
        parts = "".join(map(str, (*self.groups, *self.virtuals, _clock(loads))))
        return (settings + files + parts).replace("DIRECTORY", str(directory))


def _script(name: str, *lines: str) -> str:
    return "\n  ".join(
        (
            f"MISC_CHECK {{\n  misc_path \"/bin/sh -c 'read status < DIRECTORY/{name}; exit $status'\"",
            "misc_timeout 30",
            *lines,
            "}",
        )
    )


def _clock(loads: int) -> Virtual:
    kind = Kind(CLOCK.replace(":", " "), 4, "TCP", False, False, "9")
    reals = (
        Real("10.1.9.1", "9", loads, False, ()),
        Real("10.1.9.2", "9", 0, False, ("FILE_CHECK {\n  track_file clock\n  weight 1\n  }",)),
        Real("10.1.9.3", "9", 1, False, (_script("tick", "misc_dynamic", "warmup 0"),)),
    )
    return Virtual(kind, ("lvs_sched rr", "lvs_method NAT", "protocol TCP"), reals)


@dataclass(frozen=True, slots=True)
class Change:
    """A step of a story: new contents of some files, or another configuration."""

    values: dict[str, int]
    file: File | None = None
    harm: str = ""
    """What befalls our program alone before: one of HARMS."""


@dataclass(slots=True)
class Author:
    """Draws everything from one source of chance.

    `sorry`: with sorry servers. keepalived 2.2.7 puts a failed server into the table when a reload finds its sorry
    server at work, so that all are well before each reload; without sorry servers they are as they are.
    """

    chance: Random
    sorry: bool
    numbers: int = 50
    """What virtual servers of reloads were named by so far: two of a name are an error."""

    def often(self, share: float) -> bool:
        return self.chance.random() < share

    # real servers -------------------------------------------------------------------------------------------------

    def _file_check(self, names: Sequence[str]) -> str:
        weight = self.chance.choice(("", "weight 0", "weight 1", "weight 2", "weight -3", "weight 254"))
        reverse = " reverse" if self.reverses(weight) else ""
        return "\n  ".join(("FILE_CHECK {", f"track_file {self.chance.choice(names)}", weight + reverse, "}"))

    def reverses(self, weight: str) -> bool:
        """Not with weight 0: 2.2.7 does not obey it at the start."""
        return weight[-1:] not in ("", "0") and self.often(0.3)

    def _misc_check(self) -> str:
        dynamic = self.often(0.5)
        return _script(DYNAMIC if dynamic else PLAIN, "warmup 0", *(["misc_dynamic"] if dynamic else []))

    def real(
        self, kind: Kind, address: str, *, scripted: bool = False, least: int = 0, names: Sequence[str] = TRACKED
    ) -> Real:
        lines = ["alpha"] if self.often(0.15) else []
        if address[-1] in "14":
            # not by chance: 2.2.7 does not send what a reload changes of them alone
            lines += ["uthreshold 100", f"lthreshold {address[-1]}"]
        if self.often(0.2):
            lines.append(f"lvs_method {self.method(kind)}")
        checks = [self._file_check(names) for _ in range(self.chance.choice((0, 1, 1, 1, 2)))]
        if scripted:
            checks.append(self._misc_check())
        weight = max(least, self.chance.choice((0, 1, 1, 2, 3, 5, 10, 253)))
        return Real(address, self.port_of(kind), weight, self.inhibits(), (*lines, *checks))

    def inhibits(self) -> bool:
        """Where all is well before a reload: 2.2.7 gives failed ones of changed groups or checks their weight back."""
        return self.sorry and self.often(0.3)

    def method(self, kind: Kind) -> str:
        if kind.tunnelled:
            # where servers may be down at a reload it stays: 2.2.7 puts those into the table whose method is another
            return "TUN" + (self.chance if self.sorry else Random(kind.head)).choice(TUNNELS)
        return "NAT" if kind.port and kind.port != "80" else "DR"

    def port_of(self, kind: Kind) -> str:
        """Only NAT may have another than that of the service; the kinds with port 80 mix the methods."""
        return self.chance.choice(("", "8080", kind.port)) if kind.port and kind.port != "80" else kind.port

    def addresses(self, kind: Kind, most: int = 4) -> list[str]:
        families = (4, 6) if kind.mixed else (kind.family,)
        pool = [f"{NETS[family]}{number}" for family in families for number in range(1, 6)]
        return sorted(self.chance.sample(pool, self.chance.randint(1, most)))

    # virtual servers ----------------------------------------------------------------------------------------------

    def settings_of(self, kind: Kind, reals: tuple[Real, ...]) -> Iterator[str]:
        scheduler = self.chance.choice(SCHEDULERS)
        yield f"lvs_sched {scheduler}"
        if scheduler in ("sh", "mh"):
            for flag in ("port", "fallback"):
                if self.often(0.4):
                    yield f"{scheduler}-{flag}"
        elif self.often(0.15):
            yield from self.chance.sample(("flag-1", "flag-2", "flag-3"), self.chance.randint(1, 3))
        yield f"lvs_method {self.method(kind)}"
        if kind.protocol:
            yield f"protocol {kind.protocol}"
        if kind.protocol == "UDP" and self.often(0.3):
            yield "ops"
        yield from self.persistence(kind)
        if self.often(0.6):
            # more than there can be is an error, for which we would refuse a reload; when all are well there is one:
            # a reload of 2.2.7 leaves a sorry server that is at work as it was
            most = sum(min(real.weight, WELL[DYNAMIC] - 2) if real.dynamic else real.weight for real in reals)
            quorum = min(self.chance.choice((1, 2, 3, 5, 8, 40)), max(1, most))
            yield f"quorum {quorum}"
            within = max(0, min(quorum - 1, most - quorum))
            yield f"hysteresis {min(self.chance.choice((0, 0, 1, 2, 4, 39)), within)}"
        yield from (word for word in ("alpha", "omega") if self.often(0.1))
        if kind.waiting:
            yield from kind.waiting
        elif self.sorry and self.often(0.7):
            yield from self.sorry_server(kind, {real.address: real for real in reals})
        elif self.inhibits():
            yield "inhibit_on_failure"

    def persistence(self, kind: Kind) -> Iterator[str]:
        if not kind.port or kind.engine or self.often(0.25):
            yield f"persistence_timeout {self.chance.choice((1, 50, 360, 86400))}"
            # of groups 2.2.7 does not send it
            if self.often(0.5) and "group" not in kind.head:
                yield f"persistence_granularity {self.chance.choice(GRANULARITIES[kind.family])}"
            if kind.engine:
                yield f"persistence_engine {kind.engine}"

    def sorry_server(self, kind: Kind, reals: dict[str, Real]) -> Iterator[str]:
        """It may be a real server too, one without inhibit: 2.2.7 leaves it at weight 0 where it is to serve.

        It has a port: without one 2.2.7 tells the kernel 0, with NAT too.
        """
        both = [address for address, real in reals.items() if not real.inhibit]
        address = self.chance.choice((f"{NETS[kind.family]}9", *both[:1]))
        port = reals[address].port if address in reals else ""
        yield f"sorry_server {address} {port or kind.port}"
        if self.often(0.2):
            yield f"sorry_server_lvs_method {self.method(kind)}"

    def virtual(self, kind: Kind) -> Virtual:
        addresses = self.addresses(kind)
        # one script in each: two would come to their ends in another order in every program
        scripted = self.chance.choice(addresses) if self.often(0.3) else ""
        reals = tuple(self.real(kind, address, scripted=address == scripted, least=1) for address in addresses)
        return Virtual(kind, tuple(self.settings_of(kind, reals)), reals)

    def kind(self, number: int) -> Kind:
        family = self.chance.choice((4, 4, 6))
        tunnelled = self.often(0.3)
        mixed = tunnelled and self.often(0.3)
        if self.often(0.2):
            return Kind(f"fwmark {number}", family, "", tunnelled, mixed, "")
        protocol = self.chance.choice(("TCP", "TCP", "UDP", "SCTP"))
        port = self.chance.choice(("80", "81", "82", "" if protocol != "SCTP" else "83"))
        if tunnelled and port:
            port = "80"
        address = f"10.0.0.{number}" if family == 4 else f"fd00::{number}"
        engine = "sip" if protocol == "UDP" and self.often(0.4) else ""
        kind = Kind(f"{address} {port}", family, protocol, tunnelled, mixed, port, engine=engine)
        return replace(kind, waiting=tuple(self.waiting(kind))) if self.inhibits() else kind

    def waiting(self, kind: Kind) -> Iterator[str]:
        yield f"sorry_server {NETS[kind.family]}8 {kind.port}"
        yield "sorry_server_inhibit"
        yield f"sorry_server_lvs_method {self.method(kind)}"

    # files --------------------------------------------------------------------------------------------------------

    def file(self) -> File:
        settings = self.settings()
        groups = tuple(self.group(name) for name in GROUPS if self.often(0.5))
        kinds = [self.kind(number) for number in range(1, self.chance.randint(4, 9))]
        kinds += [kind for group in groups for kind in self.kinds_of(group)]
        return File(settings, groups, tuple(map(self.virtual, kinds)))

    def settings(self) -> tuple[str, ...]:
        return tuple(word for word in ("lvs_flush", "lvs_flush_on_stop", "lvs_flush_on_stop VS") if self.often(0.1))

    def entries(self, name: str) -> list[str]:
        match name:
            case "addresses":
                return ["10.2.1.1 80", "10.2.1.5-7 80", "10.2.2.0/30 81", "10.2.3.4-10.2.3.5 82", "fwmark 101 inet"]
            case "marks":
                return ["fwmark 111", "fwmark 112", "fwmark 113"]
            case "six":
                return ["fd02::1 80", "fd02:1::fe-101 80", "fd02:2::/127 81"]
        return ["10.3.1.1 80", "fd03::1 80", "fwmark 121 inet", "fwmark 122 inet6"]

    def group(self, name: str) -> Group:
        entries = self.entries(name)
        least = 2 if name == "both" else 1
        chosen = self.chance.sample(entries, self.chance.randint(least, len(entries)))
        if name == "both":
            chosen = entries[:2] + [each for each in chosen if each not in entries[:2]]
        return Group(name, tuple(chosen))

    def kinds_of(self, group: Group) -> Iterator[Kind]:
        head = f"group {group.name}"
        if group.name == "marks":
            yield Kind(head, 4, "", self.often(0.3), False, "", True)
            return
        family, both = 6 if group.name == "six" else 4, group.name == "both"
        # a mark is one service, whatever the protocol
        most = 1 if "fwmark" in str(group) else 2
        for protocol in self.chance.sample(("TCP", "UDP"), self.chance.randint(1, most)):
            yield Kind(head, family, protocol, both or self.often(0.3), both, "80", most == 1)

    # reloads ------------------------------------------------------------------------------------------------------

    def mutated(self, file: File) -> File:
        virtuals = [
            self.mutated_virtual(each) for each in file.virtuals if self.often(0.9) or "group" in each.kind.head
        ]
        self.numbers += 2
        virtuals += [self.virtual(self.kind(self.numbers - number)) for number in range(self.chance.randint(0, 2))]
        groups = tuple(self.mutated_group(each) for each in file.groups)
        return replace(file, groups=groups, virtuals=tuple(virtuals))

    def mutated_group(self, group: Group) -> Group:
        """More addresses only: 2.2.7 leaves services of what a reload takes away, and adds no new mark.

        Those of port 80 and where all is well: DR to another port than that of the service, and the weight of failed
        servers are wrong in 2.2.7.
        """
        if not self.sorry:
            return group
        addresses = [each for each in self.entries(group.name) if each.endswith(" 80")]
        more = [each for each in addresses if each not in group.entries and self.often(0.3)]
        return Group(group.name, (*group.entries, *more))

    def mutated_virtual(self, virtual: Virtual) -> Virtual:
        kind = virtual.kind
        if self.often(0.3):
            return virtual
        kept = [self.mutated_real(kind, each) for each in virtual.reals if self.often(0.85)] or virtual.reals
        have = {each.address for each in virtual.reals}
        more = [self.real(kind, each) for each in self.addresses(kind, 2) if each not in have]
        if kind.marked:
            # settings of the mark of a group that lost its persistence were left as they are by 2.2.7
            return replace(virtual, reals=(*virtual.reals, *more))
        reals = (*kept, *more)
        return Virtual(kind, tuple(self.settings_of(kind, reals)), reals)

    def mutated_real(self, kind: Kind, real: Real) -> Real:
        if self.often(0.6):
            return real
        if self.often(0.5):
            return replace(real, weight=self.chance.choice((1, 4, 20)))
        scripted = any(line.startswith("MISC_CHECK") for line in real.lines)
        # 2.2.7 goes by the old weight of a check of the same file
        spare = [name for name in TRACKED if f"track_file {name}" not in "".join(real.lines)]
        return replace(self.real(kind, real.address, scripted=scripted, least=1, names=spare), port=real.port)

    # the story ----------------------------------------------------------------------------------------------------

    def changes(self, file: File, steps: int) -> Iterator[Change]:
        """Track files and scripts change in steps of their own: who comes first must not be left to chance."""
        for _ in range(steps):
            if self.often(0.25):
                if self.sorry:
                    yield Change(WELL)
                file = self.mutated(file)
                yield Change({}, file)
            elif self.often(0.7):
                names = self.chance.sample(TRACKED, self.chance.randint(1, 2))
                values = (*VALUES, *EXTREMES) if self.sorry else VALUES
                yield Change({name: self.chance.choice(values) for name in names})
            else:
                yield Change({name: self.chance.choice(each) for name, each in STATUSES.items()})


@dataclass(frozen=True, slots=True)
class Story:
    first: File
    values: dict[str, int]
    changes: tuple[Change, ...]


def story(seed: int, steps: int = 8) -> Story:
    author = Author(Random(seed), sorry=seed % 2 == 0)
    file = author.file()
    values = WELL | {name: author.chance.choice((0, 0, 0, 1)) for name in TRACKED}
    values |= {name: author.chance.choice(each) for name, each in STATUSES.items() if author.often(0.4)}
    harms = Random(f"harms of {seed}")
    return Story(file, values, tuple(replace(each, harm=harms.choice(HARMS)) for each in author.changes(file, steps)))

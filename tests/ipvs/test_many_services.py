"""Very many virtual servers, of every option and of other people's files: ours and Debian's keepalived side by side.

Each runs in a network namespace of its own, both read the same files and follow the same track files, so that a server
fails and recovers for both at once. After the start, each failure and recovery, a reload and the stop `ipvsadm -Sn`
says the same.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import SHARED
from tests.ipvs.twins import Rows, Twins
from tests.netns.rig import Rig

pytestmark = pytest.mark.ipvs

SCHEDULERS = ("rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "mh", "dh", "fo", "ovf", "sed", "nq")
TUNNELS = (
    "TUN",
    "TUN type ipip",
    "TUN type gue port 6080",
    "TUN type gue port 6080 nocsum",
    "TUN type gue port 6080 csum",
    "TUN type gue port 6080 remcsum",
    "TUN type gre",
    "TUN type gre csum",
)
SORRY = "sorry_server 10.1.0.9 80"
QUORUMS = (
    f"quorum 6\n hysteresis 2\n {SORRY}",
    f"quorum 8\n hysteresis 1\n {SORRY}\n sorry_server_inhibit",
    "quorum 5\n hysteresis 3",
    f"quorum 100\n {SORRY}",
    f"alpha\n omega\n {SORRY}",
    f"{SORRY}\n sorry_server_lvs_method DR",
    f"{SORRY}\n sorry_server_inhibit\n inhibit_on_failure",
    "quorum 9\n sorry_server 10.1.0.2 80",
)
PERSISTENCE = (
    "persistence_timeout 1",
    "persistence_timeout 86400\n persistence_granularity 255.255.0.0",
    "persistence_timeout 50\n persistence_granularity 255.255.255.255",
    "persistence_timeout",
)
GROUPS = """
virtual_server_group range { 10.2.1.1-5 80 }
virtual_server_group mask { 10.2.2.0/29 80 }
virtual_server_group marks {
 fwmark 21
 fwmark 22
}
virtual_server_group mixture {
 10.2.3.1 80
 10.2.3.5-10.2.3.7 81
 fwmark 23
}
virtual_server_group six {
 fd02::1 80
 fd02:1::fe-101 80
}
virtual_server_group anyport { 10.2.4.1-2 }
"""


def real(address: str, *lines: str) -> str:
    return f" real_server {address} {{\n  " + "\n  ".join(lines) + "\n }\n"


def follows(name: str, weight: int = 0) -> str:
    return f"FILE_CHECK {{\n track_file {name}\n weight {weight}\n }}"


def servers(net: str = "10.1.0.", port: str = "80", *more: str) -> str:
    """The first two fail with their files, the third changes its weight with its own, the fourth is never checked."""
    return (
        real(f"{net}1 {port}", "weight 3", follows("a"), *more)
        + real(f"{net}2 {port}", "weight 2", follows("b"), "inhibit_on_failure", *more)
        + real(f"{net}3 {port}", "weight 1", follows("c", 2), *more)
        + real(f"{net}4 {port}", "weight 0", *more)
    )


def virtual(head: str, inner: str, reals: str) -> str:
    return f"virtual_server {head} {{\n delay_loop 1\n {inner}\n{reals}}}\n"


def every_option() -> Iterator[str]:
    """Virtual servers, each with something of its own."""
    ports = iter(range(1000, 2000))
    tcp = "lvs_method NAT\n protocol TCP\n"

    def here(inner: str, reals: str = servers(), address: str = "10.0.0.1") -> str:
        return virtual(f"{address} {next(ports)}", inner, reals)

    for name in SCHEDULERS:
        yield here(f"lvs_sched {name}\n {tcp}")
    for name in ("sh-port", "sh-fallback", "mh-port", "mh-fallback"):
        yield here(f"lvs_sched {name[:2]}\n {name}\n {tcp}")
    yield here(f"lvs_sched wlc\n flag-1\n flag-3\n {tcp}")
    yield here(f"lvs_sched rr\n flag-2\n {tcp}")
    for each in QUORUMS:
        yield here(f"lvs_sched rr\n {tcp} {each}")
        yield here(f"lvs_sched rr\n lvs_method DR\n protocol TCP\n {each}".replace(" 80", ""), servers(port=""))
    for each in PERSISTENCE:
        yield here(f"lvs_sched wrr\n {tcp} {each}")
    for protocol in ("UDP", "SCTP"):
        for method in ("NAT", "DR"):
            yield here(f"lvs_sched rr\n lvs_method {method}\n protocol {protocol}", servers(port=""))
    yield here("lvs_sched rr\n lvs_method NAT\n protocol UDP\n ops")
    yield here("lvs_sched rr\n lvs_method NAT\n protocol UDP\n persistence_engine sip\n persistence_timeout 30")
    for tunnel in TUNNELS:
        yield here(f"lvs_sched rr\n lvs_method {tunnel}\n protocol TCP", servers(port=""))
    yield here(f"lvs_sched rr\n {tcp}", servers("10.1.0.", "80", "uthreshold 100", "lthreshold 20"))
    yield here(
        f"lvs_sched rr\n {tcp}", servers("10.1.0.", "80", "uthreshold 7", "lvs_method DR").replace(" 80 {", " {")
    )
    six = "lvs_sched rr\n lvs_method NAT\n protocol TCP\n"
    yield here(six, servers("fd01::"), "fd00::1")
    yield here(f"{six} persistence_timeout 9\n persistence_granularity 48", servers("fd01::"), "fd00::1")
    yield here("lvs_sched rr\n lvs_method TUN\n protocol TCP", servers("fd01::", ""), "10.0.0.2")
    yield here("lvs_sched rr\n lvs_method TUN\n protocol TCP", servers(port=""), "fd00::2")
    yield virtual("10.0.0.3", f"lvs_sched rr\n {tcp} persistence_timeout 20", servers(port=""))
    yield virtual("fwmark 11", "lvs_sched rr\n lvs_method NAT", servers())
    yield virtual("fwmark 12", "lvs_sched rr\n lvs_method DR\n persistence_timeout 5", servers(port=""))
    yield virtual("fwmark 13", "lvs_sched rr\n lvs_method DR\n ip_family inet6", servers("fd01::", ""))
    yield GROUPS
    for name in ("range", "mask", "mixture"):
        yield virtual(f"group {name}", f"lvs_sched rr\n {tcp} {SORRY}", servers())
    yield virtual("group range", "lvs_sched wlc\n lvs_method DR\n protocol UDP", servers())
    yield virtual("group marks", "lvs_sched rr\n lvs_method DR", servers(port=""))
    yield virtual("group six", "lvs_sched rr\n lvs_method NAT\n protocol TCP", servers("fd01::"))
    yield virtual("group anyport", f"lvs_sched rr\n {tcp} persistence_timeout 77", servers(port=""))


def changed(text: str) -> str:
    """Another configuration: schedulers, methods, weights, quorums, persistence; servers and services gone and new.

    Not the groups: keepalived 2.2.7 leaves services of addresses that a reload takes away, and adds no new mark.
    """
    edits = {
        "lvs_sched wrr": "lvs_sched wlc",
        "lvs_sched rr": "lvs_sched wrr",
        "\n  weight 0\n": "\n  weight 5\n",
        "quorum 6": "quorum 4",
        "quorum 100": "quorum 11",
        "persistence_timeout 50": "persistence_timeout 51",
        "lvs_method TUN type gre\n": "lvs_method TUN type ipip\n",
        "virtual_server 10.0.0.1 1005": "virtual_server 10.0.0.1 2005",
        "real_server fd01::4": "real_server fd01::5",
        "sorry_server 10.1.0.9 80\n sorry_server_lvs_method DR": "sorry_server 10.1.0.8 80",
    }
    for old, new in edits.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


@pytest.fixture
def twins() -> Iterator[Twins]:
    with Rig() as rig:
        yield Twins(rig)


def serves(*numbers: int) -> Callable[[Rows], bool]:
    """Of servers 1 and 2 just these have a weight of their own; a sorry server's is 1."""

    def effect(table: Rows) -> bool:
        found = {int(each) for row in table for each in re.findall(r"(?:10\.1\.0\.|fd01::)([12])\b.* -w [2-9]", row)}
        return found == set(numbers)

    return effect


def test_every_option_through_failures_recoveries_and_a_reload(twins: Twins, tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in "abc"}
    for path in files.values():
        path.write_text("0\n")
    head = "".join(f"track_file {name} {{\n file {path}\n}}\n" for name, path in files.items())
    text = head + "".join(every_option())
    twins.start(text)
    count = 80
    twins.agree(lambda table: sum(row.startswith("-A") for row in table) >= count)
    for name, value, effect in (
        ("a", 1, serves(2)),
        ("b", 1, serves()),
        ("c", 4, lambda table: any(" -w 9" in row for row in table)),
        ("b", 0, serves(2)),
        ("a", 0, serves(1, 2)),
        ("c", 0, lambda table: not any(" -w 9" in row for row in table)),
    ):
        files[name].write_text(f"{value}\n")
        twins.agree(effect)
    # with everything up: 2.2.7 puts a failed server into the table when a reload lets its sorry server go
    twins.reload(changed(text))
    twins.agree(lambda table: any("-w 5" in row for row in table) and serves(1, 2)(table))
    files["a"].write_text("1\n")
    twins.agree(serves(2))
    twins.stop()
    assert twins.tables() == ([], [])


# other people's files -----------------------------------------------------------------------------------------------

CHECK = re.compile(r"\s*(\w+_CHECK|HTTP_GET|SSL_GET)\b")
OUTSIDE = re.compile(r"\s*(notify|quorum_up|quorum_down|smtp_alert|virtualhost|ha_suspend)\b")
"""What has nothing to do with the table, and runs programs that are not there."""


def blocks(text: str) -> Iterator[list[str]]:
    """The lines of each top-level block of virtual servers and groups, without checkers."""
    depth, inside_check, block = 0, 0, list[str]()
    for line in text.splitlines():
        line = re.sub(r"[!#].*", "", line)
        if not block and not line.startswith("virtual_server"):
            continue
        depth += line.count("{") - line.count("}")
        if not inside_check and CHECK.match(line):
            inside_check = depth or 1
        if inside_check:
            if depth < inside_check:
                inside_check = 0
        elif line.strip() and not OUTSIDE.match(line):
            block.append(line)
        if block and depth <= 0 and "{" in "".join(block):
            yield block
            depth, inside_check, block = 0, 0, []


def found_files() -> list[Path]:
    """Valid files with virtual servers whose text needs no reading of other files, definitions or conditions."""
    found = []
    for name in ("public", "regression"):
        with open(SHARED / "corpus" / f"{name}.tsv", newline="") as lines:
            for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
                path = SHARED / "corpus" / name / row["file"]
                if row["expected"] == "valid" and path.is_file():
                    text = path.read_text(errors="replace")
                    if "virtual_server" in text and not re.search(r"^\s*[@~]|\$|\\$|^include", text, re.MULTILINE):
                        found.append(path)
    return found


def collected() -> str:
    """The blocks of all of them, each virtual server and each group once."""
    kept: dict[str, list[str]] = {}
    for path in found_files():
        for block in blocks(path.read_text(errors="replace")):
            name = " ".join(block[0].replace("{", " ").split()).lower()
            if not name.startswith("virtual_server group "):
                kept.setdefault(name, block)
    return "\n".join("\n".join(block) for block in kept.values()) + "\n"


def test_the_services_of_other_peoples_files(twins: Twins) -> None:
    if not SHARED.is_dir():
        pytest.skip("the files are not here")
    text = collected()
    assert len(found_files()) >= 40
    twins.start(text)
    twins.agree(lambda table: len(table) > 100)
    twins.stop()
    assert twins.tables() == ([], [])

"""One mistake in a fine file: our verdict beside that of Debian's keepalived, which reads the same text.

The files are the project's samples and what is typical beside them; the mistakes are made at random from a fixed seed.
"""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from keepalived_py.config.dump import dump
from keepalived_py.config.load import LoadOptions, LoadResult, load
from tests.conftest import REPOSITORY
from tests.netns.rig import Host, Rig, sh

pytestmark = pytest.mark.netns

SAMPLES = sorted((REPOSITORY / "conf.d" / "samples").glob("*.conf"))
OF_THE_MACHINE = re.compile(
    r"doesn't exist|not found/accessible|Non-existent interface|nknown interface|Invalid smtp server|SECURITY|Disabling"
    r"|either an interface"
)
"""What keepalived says about the machine, not about the file."""
NEWER = re.compile(r"Unknown keyword '(v3_checksum_as_v2|owner_ignore_adverts|strict_address_list|multihop)'")
"""Keywords that 2.2.7 does not have yet, and ours."""


def _deleted(line: str) -> list[str]:
    return []


MISTAKES: dict[str, Callable[[str], list[str]]] = {
    "deleted": _deleted,
    "doubled": lambda line: [line, line],
    "no number": lambda line: [re.sub(r"\b\d+\b", "abc", line, count=1)],
    "negative": lambda line: [re.sub(r"\b(\d+)\b", r"-\1", line, count=1)],
    "huge": lambda line: [re.sub(r"\b\d+\b", "99999999999", line, count=1)],
    "misspelt": lambda line: [line.replace(line.split()[0], line.split()[0] + "x", 1)],
    "without words": lambda line: [line.split()[0]],
    "another word": lambda line: [line.rsplit(None, 1)[0] + " bogus" if len(line.split()) > 1 else line],
}


@pytest.fixture(scope="module")
def host() -> Host:
    with Rig() as rig:
        host = rig.host("one")
        for number in range(4):
            sh("ip", "-n", host.namespace, "link", "add", f"eth{number}", "type", "veth", "peer", "name", f"p{number}")
            sh("ip", "-n", host.namespace, "link", "set", f"eth{number}", "up")
        yield host  # type: ignore[misc]


def theirs(host: Host, path: Path) -> tuple[bool, list[str]]:
    """Whether keepalived finds the text wrong, and what it says of it."""
    command = ["ip", "netns", "exec", host.namespace, "keepalived", "-t", "-f", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, errors="replace")
    said = [line for line in done.stderr.splitlines() if line.strip()]
    about = [line for line in said if not OF_THE_MACHINE.search(line) and not NEWER.search(line)]
    # it sometimes ends itself with SIGTERM when it is through; then only what it says counts
    return bool(about) or (done.returncode in (2, 4, 5, 6) and not said), about


def ours(path: Path) -> LoadResult:
    return load(str(path), LoadOptions(config_id="verdicts"))


def wrong(result: LoadResult) -> bool:
    """What only the security of scripts is about is left out: that depends on the machine."""
    return any(
        (problem.severity > 1 or problem.stops) and not problem.id.startswith("script-") for problem in result.problems
    )


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_mistakes_in_a_sample(host: Host, sample: Path, tmp_path: Path) -> None:
    lines = sample.read_text().splitlines()
    places = [number for number, line in enumerate(lines) if line.strip() and line.strip()[0] not in "#!"]
    chosen = random.Random(sample.name)
    path = tmp_path / "keepalived.conf"
    different = []
    for _ in range(25):
        at, name = chosen.choice(places), chosen.choice(list(MISTAKES))
        path.write_text("\n".join([*lines[:at], *MISTAKES[name](lines[at]), *lines[at + 1 :]]) + "\n")
        found, said = theirs(host, path)
        result = ours(path)
        if found != wrong(result):
            different.append((name, at + 1, lines[at].strip(), found, said[:2], [each.id for each in result.problems]))
    assert different == []


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_keepalived_reads_a_dump_of_a_sample(host: Host, sample: Path, tmp_path: Path) -> None:
    config = ours(sample).config
    assert config is not None
    path = tmp_path / "keepalived.conf"
    path.write_text(dump(config))
    _, said = theirs(host, path)
    assert said == []

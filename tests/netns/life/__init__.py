"""Lives of the daemon on whole machines: copies of this system with a SysV init or with systemd (copy.sh)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from tests.netns.rig import patience

HERE = Path(__file__).parent
TIME_LIMIT = 240
"""Seconds for a life; a guest is slow."""
APART = ("unshare", "-m", "-n", "-p", "--fork", "--kill-child", "--propagation", "private")


def give_up(reason: str) -> NoReturn:
    """Skip, or fail where everything must be there."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def run(*command: object) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, timeout=patience(TIME_LIMIT), check=False)


def live(life: str, directory: Path, *files: Path) -> None:
    """Run life/LIFE.sh, with `files` beside it, in a copy of this system; the life named init has no systemd."""
    area, output = directory / "area", directory / "output"
    area.mkdir()
    output.touch()
    over = f"mount -t overlay none -o lowerdir=/,upperdir={area}/u,workdir={area}/w {area}/r"
    attempt = f"mount -t tmpfs none {area} && mkdir {area}/u {area}/w {area}/r && {over}"
    possible = run(*APART, "sh", "-c", attempt)
    if possible.returncode:
        give_up(f"needs namespaces and overlays: {possible.stderr.strip()}")
    command = (HERE / "copy.sh", life, area, output, *files)
    if life == "init":
        done = run(*APART, *command)
    else:
        if not Path("/lib/systemd/systemd").exists():
            give_up("needs systemd")
        with _control_group(directory) as group:
            into = ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh")
            done = run(*into, *APART, "-C", "-u", "-i", *command)
    text = output.read_text()
    assert done.returncode == 0, text[-6000:] + done.stderr[-2000:]
    assert text.endswith("== all is well\n")


@contextmanager
def _control_group(directory: Path) -> Iterator[Path]:
    """A control group (version 2) of our own, which an init may divide."""
    groups = directory / "groups"
    groups.mkdir()
    mounted = run("mount", "-t", "cgroup2", "none", groups)
    if mounted.returncode:
        give_up(f"needs control groups, version 2: {mounted.stderr.strip()}")
    try:
        made = groups / f"life-{os.getpid()}"
        made.mkdir()
        yield made
        for each, _, _ in os.walk(made, topdown=False):
            os.rmdir(each)
    finally:
        run("umount", "-l", groups)

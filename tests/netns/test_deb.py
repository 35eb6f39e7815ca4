"""The Debian package and `make install`: built, and lived through in copies of this system (life/copy.sh)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from tests.conftest import REPOSITORY

pytestmark = [pytest.mark.netns, pytest.mark.slow]

COPY = REPOSITORY / "tests/netns/life/copy.sh"
TIME_LIMIT = 120
"""Seconds for each of: building, a life of the package."""


def give_up(reason: str) -> NoReturn:
    """Skip, or fail where everything must be there."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def run(*command: object, within: float = TIME_LIMIT) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, timeout=within, check=False)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for needed in ("dpkg-deb", "go-md2man", "make"):
        if shutil.which(needed) is None:
            give_up(f"needs {needed}")
    if run("/usr/bin/python3", "-c", "import ensurepip").returncode:
        give_up("needs python3-venv")
    directory = tmp_path_factory.mktemp("package")
    done = run("conf.d/debian/build", directory)
    if done.returncode and "No matching distribution" in done.stderr + done.stdout:
        give_up("the libraries cannot be fetched")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (built,) = directory.glob("*.deb")
    return built


def test_what_is_in_it(package: Path) -> None:
    listed = run("dpkg-deb", "-c", package).stdout.splitlines()
    names = {line.split()[5]: line for line in listed}
    for name in (
        "./etc/init.d/keepalived-py",
        "./etc/default/keepalived-py",
        "./etc/logrotate.d/keepalived-py",
        "./usr/lib/systemd/system/keepalived-py.service",
        "./usr/share/bash-completion/completions/keepalived-py",
        "./usr/share/bash-completion/completions/keepalivedctl",
        "./usr/share/man/man8/keepalived-py.8.gz",
        "./usr/share/man/man5/keepalived-py.conf.5.gz",
        "./usr/share/man/man1/keepalivedctl.1.gz",
        "./usr/share/doc/keepalived-py/copyright",
        "./usr/sbin/keepalived-py",
    ):
        assert name in names
        assert " root/root " in names[name]
    assert "./usr/bin/genhash" not in names  # a file of Debian's keepalived
    writable = [line for line in listed if line[0] != "l" and ("w" in line[4:7] or "w" in line[7:10])]
    assert writable == []
    conffiles = run("dpkg-deb", "-I", package, "conffiles").stdout.split()
    assert conffiles == [f"/etc/{name}/keepalived-py" for name in ("default", "init.d", "logrotate.d")]


def test_no_path_of_the_build_is_left(package: Path, tmp_path: Path) -> None:
    assert run("dpkg-deb", "-x", package, tmp_path).returncode == 0
    found = run("grep", "-rlE", f"/root/usr/lib/keepalived-py|{REPOSITORY}/", tmp_path / "usr", tmp_path / "etc").stdout
    assert found == ""
    script = (tmp_path / "usr/lib/keepalived-py/bin/keepalived-py").read_text()
    assert script.startswith("#!/usr/lib/keepalived-py/bin/python3\n")


@contextmanager
def control_group() -> Iterator[Path]:
    """A control group (version 2) of our own, which an init may divide."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    group = next((Path(words[1]) for words in mounts if words[2] == "cgroup2"), None)
    if group is None:
        give_up("needs control groups, version 2")
    made = group / f"life-{os.getpid()}"
    made.mkdir()
    try:
        yield made
    finally:
        for directory, _, _ in os.walk(made, topdown=False):
            os.rmdir(directory)


def live(init: str, package: Path, directory: Path, *namespaces: str, before: tuple[str, ...] = ()) -> None:
    area, output = directory / "area", directory / "output"
    area.mkdir()
    output.touch()
    over = f"mount -t overlay none -o lowerdir=/,upperdir={area}/u,workdir={area}/w {area}/r"
    attempt = f"mount -t tmpfs none {area} && mkdir {area}/u {area}/w {area}/r && {over}"
    apart = ("unshare", "-m", "-n", "-p", "--fork", "--kill-child", "--propagation", "private", *namespaces)
    possible = run(*apart, "sh", "-c", attempt)
    if possible.returncode:
        give_up(f"needs namespaces and overlays: {possible.stderr.strip()}")
    done = run(*before, *apart, COPY, init, package, area, output)
    text = output.read_text()
    assert done.returncode == 0, text[-6000:] + done.stderr[-2000:]
    assert text.endswith("== all is well\n")


def test_its_life(package: Path, tmp_path: Path) -> None:
    live("init", package, tmp_path)


def test_its_life_with_systemd(package: Path, tmp_path: Path) -> None:
    if not Path("/lib/systemd/systemd").exists():
        give_up("needs systemd")
    with control_group() as group:
        into = ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh")
        live("systemd", package, tmp_path, "-C", "-u", "-i", before=into)


def test_uninstall_removes_what_install_put_there(tmp_path: Path) -> None:
    where = ("PYTHON=/usr/bin/python3", f"DESTDIR={tmp_path}", "PREFIX=/opt/k")
    conf = tmp_path / "etc/keepalived/keepalived.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text("# changed\n")
    done = run("make", "install", *where)
    if done.returncode and "No matching distribution" in done.stderr + done.stdout:
        give_up("the libraries cannot be fetched")
    assert done.returncode == 0, done.stderr[-2000:]
    for name in ("sbin/keepalived-py", "bin/keepalivedctl", "bin/genhash"):
        assert (tmp_path / "opt/k" / name).is_symlink()
    assert "/opt/k/sbin/keepalived-py" in (tmp_path / "etc/init.d/keepalived-py").read_text()
    assert "/opt/k/sbin/keepalived-py" in (tmp_path / "opt/k/lib/systemd/system/keepalived-py.service").read_text()
    assert conf.read_text() == "# changed\n"
    assert run("make", "uninstall", *where).returncode == 0
    left = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if not path.is_dir()]
    assert left == [Path("etc/keepalived/keepalived.conf")]

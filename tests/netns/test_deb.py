"""The Debian package and `make install`: built, and lived through in copies of this system (life/copy.sh)."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.netns.life import give_up, live
from tests.netns.rig import patience

pytestmark = [pytest.mark.netns, pytest.mark.slow]

TIME_LIMIT = 120
"""Seconds for one command."""


def run(*command: object, within: float = TIME_LIMIT) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, timeout=patience(within), check=False)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once, by the first of the processes that run tests."""
    base = tmp_path_factory.getbasetemp()
    common = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with open(common / "package.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return next(common.glob("package/*.deb"), None) or build(common / "package")


def build(directory: Path) -> Path:
    for needed in ("dpkg-deb", "go-md2man", "make"):
        if shutil.which(needed) is None:
            give_up(f"needs {needed}")
    if run("/usr/bin/python3", "-c", "import ensurepip").returncode:
        give_up("needs python3-venv")
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
    assert script.startswith("#!/usr/lib/keepalived-py/bin/python3 -I\n")


def test_its_life(package: Path, tmp_path: Path) -> None:
    live("init", tmp_path, package)


def test_its_life_with_systemd(package: Path, tmp_path: Path) -> None:
    live("systemd", tmp_path, package)


def test_uninstall_removes_what_install_put_there(tmp_path: Path) -> None:
    tmp_path /= "longer than the first line of a script may be ".replace(" ", "-") * 3  # execve(2): 256 bytes
    tmp_path.mkdir()
    where = ("PYTHON=/usr/bin/python3", f"DESTDIR={os.path.relpath(tmp_path, REPOSITORY)}", "PREFIX=/opt/k")
    conf = tmp_path / "etc/keepalived/keepalived.conf"
    (conf.parent / "conf.d").mkdir(parents=True)
    (conf.parent / "conf.d").chmod(0o700)
    conf.write_text("# changed\n")
    done = run("sh", "-c", 'umask 077; make install "$@"', "sh", *where)
    if done.returncode and "No matching distribution" in done.stderr + done.stdout:
        give_up("the libraries cannot be fetched")
    assert done.returncode == 0, done.stderr[-2000:]
    for name in ("sbin/keepalived-py", "bin/keepalivedctl", "bin/genhash"):
        assert (tmp_path / "opt/k" / name).is_symlink()
    for name in ("keepalived-py", "keepalivedctl"):
        script = (tmp_path / "opt/k/lib/keepalived-py/bin" / name).read_text()
        assert script.startswith("#!/opt/k/lib/keepalived-py/bin/python3 -I\n")
        assert "exec" not in script
        compile(script, name, "exec")
    assert "/opt/k/sbin/keepalived-py" in (tmp_path / "etc/init.d/keepalived-py").read_text()
    assert "/opt/k/sbin/keepalived-py" in (tmp_path / "opt/k/lib/systemd/system/keepalived-py.service").read_text()
    assert conf.read_text() == "# changed\n"
    library = tmp_path / "opt/k/lib/keepalived-py"
    unreadable = run("find", tmp_path, "-mindepth", "1", "-not", "-type", "l", "-not", "-perm", "-o=r").stdout
    assert unreadable.split() == [str(conf.parent / "conf.d")]  # an administrator made it so; keepalivedctl is for all
    assert [path.name for path in library.parent.iterdir() if path.name.startswith(".")] == []
    assert run("make", "uninstall", *where).returncode == 0
    left = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if not path.is_dir()]
    assert left == [Path("etc/keepalived/keepalived.conf")]

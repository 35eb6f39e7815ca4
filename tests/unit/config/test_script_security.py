"""Which scripts may run: each rule of vrrp-behaviour.md 9.2 on trees of which one keeps the rule and one breaks it.

Owners and modes are mostly made up, so that any user can run these tests; where the kernel is asked, root is needed.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from keepalived_py.config.model import Script
from keepalived_py.config.script_security import MAX_LINKS, Examiner, Files, Kind, Verdict

USER, GROUP, MEMBER, STRANGER = 54321, 54322, 54323, 54324
"""Numbers that no account has, so that they are shown as they are. MEMBER is a supplementary group of USER."""
NUMBERS = {"": 0, "u": USER, "g": GROUP, "m": MEMBER, "s": STRANGER}

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes owners: needs root")

CASES = """
# entries (`dir/`, `file`, `link>target`, each with =MODE:OWNER:GROUP) | as whom | command | kind and place

# there, and of the right type
bin/run                                     | root | bin/run             | OK bin/run
bin/run                                     | user | bin/run             | OK bin/run
bin/run                                     | root | bin//./../bin/run   | OK bin/run
bin/                                        | root | bin/gone            | MISSING bin/gone
bin/                                        | root | gone/run            | MISSING gone
link>gone                                   | root | ./link              | MISSING gone
bin/run                                     | root | bin/run/more        | WRONG_TYPE bin/run
bin/run                                     | root | bin/run/            | WRONG_TYPE bin/run
bin/run                                     | root | bin/run/../run      | WRONG_TYPE bin/run
run link>run/                               | root | ./link              | WRONG_TYPE run
bin/                                        | user | ./bin               | WRONG_TYPE bin
loop>loop                                   | root | ./loop              | WRONG_TYPE loop
a>b b>a                                     | root | a/run               | WRONG_TYPE a

# executable for the user: the first class that fits decides
run=100:u                                   | user | ./run               | OK run
run=677:u                                   | user | ./run               | NOT_EXECUTABLE run
run=677:u:g                                 | user | ./run               | NOT_EXECUTABLE run
run=010::g                                  | user | ./run               | OK run
run=767::g                                  | user | ./run               | NOT_EXECUTABLE run
run=010::m                                  | user | ./run               | OK run
run=767::m                                  | user | ./run               | NOT_EXECUTABLE run
run=001::s                                  | user | ./run               | OK run
run=776::s                                  | user | ./run               | NOT_EXECUTABLE run
run=644                                     | root | ./run               | NOT_EXECUTABLE run
run=645                                     | root | ./run               | OK run
run=654                                     | root | ./run               | OK run
run=744                                     | root | ./run               | OK run
dir/=100:u dir/run                          | user | dir/run             | OK dir/run
dir/=677:u dir/run                          | user | dir/run             | NOT_EXECUTABLE dir
dir/=010::m dir/run                         | user | dir/run             | OK dir/run
dir/=767::g dir/run                         | user | dir/run             | NOT_EXECUTABLE dir
dir/=711 dir/sub/=700 dir/sub/low/=600 dir/sub/low/run | user | dir/sub/low/run | NOT_EXECUTABLE dir/sub
dir/=700 dir/run=644                        | user | dir/run             | NOT_EXECUTABLE dir
dir/=700                                    | user | dir/gone            | MISSING dir/gone
dir/=700 run                                | user | dir/../run          | NOT_EXECUTABLE dir
dir/=700 dir/run link>dir/run               | user | ./link              | NOT_EXECUTABLE dir
dir/=600 dir/run                            | root | dir/run             | OK dir/run

# </path: readable, and nothing else
flag=400:u                                  | read | ./flag              | OK flag
flag=377:u                                  | read | ./flag              | NOT_EXECUTABLE flag
flag=040::g                                 | read | ./flag              | OK flag
flag=004                                    | read | ./flag              | OK flag
flag=773                                    | read | ./flag              | NOT_EXECUTABLE flag
dir/=744 dir/flag=644                       | read | dir/flag            | NOT_EXECUTABLE dir
dir/                                        | read | ./dir               | OK dir
dir/                                        | read | dir/gone            | MISSING dir/gone
flag=000                                    | root-reads | ./flag        | OK ./flag
a/=777 link>a a/flag=666:s                  | root-reads | link/flag     | OK link/flag

# root's scripts: owners
a/ a/b/ a/b/run                             | root | a/b/run             | OK a/b/run
a/=755:s a/b/ a/b/run                       | root | a/b/run             | INSECURE a
a/ a/b/=755:s a/b/run                       | root | a/b/run             | INSECURE a/b
a/ a/b/ a/b/run=755:s                       | root | a/b/run             | INSECURE a/b/run
a/=757 a/b/=755:s a/b/run=777               | root | a/b/run             | INSECURE a
a/=755:s a/b/ a/b/run=755:s                 | user | a/b/run             | OK a/b/run
a/=777 b/run                                | root | a/../b/run          | INSECURE a

# root's scripts: who may write
run=775                                     | root | ./run               | OK run
run=775::g                                  | root | ./run               | INSECURE run
run=755::g                                  | root | ./run               | OK run
run=757                                     | root | ./run               | INSECURE run
run=1757                                    | root | ./run               | INSECURE run
dir/=775 dir/run                            | root | dir/run             | OK dir/run
dir/=775::g dir/run                         | root | dir/run             | INSECURE dir
dir/=755::g dir/run                         | root | dir/run             | OK dir/run
dir/=757 dir/run                            | root | dir/run             | INSECURE dir
dir/=1777::g dir/run                        | root | dir/run             | OK dir/run
dir/=1777:s dir/run                         | root | dir/run             | INSECURE dir
dir/=1777 dir/run=755:s                     | root | dir/run             | INSECURE dir/run
dir/=1777 dir/link>../run=777:s run         | root | dir/link            | INSECURE dir/link
dir/=777                                    | root | dir/gone            | MISSING dir/gone
dir/=777 dir/run=644                        | root | dir/run             | NOT_EXECUTABLE dir/run

# set-id files of root
run=4757::s                                 | user | ./run               | INSECURE run
run=2757:s                                  | user | ./run               | INSECURE run
run=4757:s                                  | user | ./run               | OK run
run=2757::s                                 | user | ./run               | OK run
run=757                                     | user | ./run               | OK run

# links, resolved (root) or kept (keep)
real/run link>real/run                      | root | ./link              | OK real/run
real/run link>real/run                      | keep | ./link              | OK ./link
real/run dir>real                           | root | dir/run             | OK real/run
real/run dir>real                           | keep | dir/run             | WRONG_TYPE dir
real/run dir>real                           | keep | dir/./run           | WRONG_TYPE dir
real/run real/link>run dir>real             | keep | real/../dir/link    | WRONG_TYPE dir
real/run dir>real                           | user-keeps | dir/run       | OK dir/run
real/run dir>real link>dir/run              | keep | ./link              | OK ./link
a/=777 a/dir>../real real/run               | root | a/dir/run           | INSECURE a
a/=777 a/dir>../real real/run               | keep | a/dir/run           | WRONG_TYPE a/dir
real/sub/ real/run dir>real/sub             | root | dir/../run          | OK real/run
run link>/../BASE/run                       | root | ./link              | OK run
in/run>../way/run way/run>../out/run out/run                  | root | in/run | OK out/run
in/=777 in/run>../way/run way/run>../out/run out/run          | root | in/run | INSECURE in
in/run>../way/run way/=777 way/run>../out/run out/run         | root | in/run | INSECURE way
in/run>../way/run way/run>../out/run=777:s out/run            | root | in/run | INSECURE way/run
in/run>../way/run way/run>../out/run out/=777 out/run         | root | in/run | INSECURE out
in/run>../way/run way/=777 way/run>../out/run out/run         | keep | in/run | INSECURE way
in/run>../way/run way/run>../out/run out/run=757              | keep | in/run | INSECURE out/run
in/run>/BASE/way/run way/run>/BASE/out/run out/run            | root | in/run | OK out/run
in/run>/BASE/way/run way/=777 way/run>/BASE/out/run out/run   | root | in/run | INSECURE way

# PATH
a/run b/run                                 | root | run @a:b            | OK a/run
a/run b/run                                 | root | run @gone:b:a       | OK b/run
a/run=644 b/run                             | root | run @a:b            | OK b/run
a/run/ b/run                                | root | run @a:b            | OK b/run
a/=700 a/run b/run                          | user | run @a:b            | OK b/run
a/=700 a/run b/run                          | root | run @a:b            | OK a/run
a/run=757 b/run                             | root | run @a:b            | INSECURE a/run
a/run/ b/run=644                            | root | run @gone:a:b       | WRONG_TYPE a/run
a/run=644 b/run/                            | root | run @gone:a:b       | NOT_EXECUTABLE a/run
a/=700 a/run                                | user | run @a              | NOT_EXECUTABLE a
real/run a>real                             | keep | run @a:real         | OK real/run
a/run/run                                   | root | run/run @a          | MISSING run
a/sub/run                                   | root | a/sub/run @b        | OK a/sub/run
run                                         | root | run @               | OK run
run                                         | root | run @:/gone         | OK run
run                                         | root | run @/gone:         | OK run
run                                         | root | run @/gone::/lost   | OK run
"""


class Tree:
    """A directory whose entries show the owners and modes given here; all above it looks like root's own."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.shown: dict[str, tuple[int, int, int]] = {}
        self.errors: dict[str, Exception] = {}
        self.asked: list[str] = []

    def at(self, name: str) -> str:
        return str(self.base / name)

    def add(self, entries: str) -> Tree:
        for entry in entries.replace("/BASE", str(self.base)).split():
            found = re.fullmatch(r"([^>=]+)(?:>([^=]+))?(?:=(\d+))?(?::(\w*))?(?::(\w*))?", entry)
            assert found is not None, entry
            name, target, mode, uid, gid = found.groups("")
            path = self.base / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if target:
                path.symlink_to(target)
            elif name.endswith("/"):
                path.mkdir()
            else:
                path.touch()
            self.shown[str(path)] = (int(mode or ("777" if target else "755"), 8), NUMBERS[uid], NUMBERS[gid])
        return self

    def lstat(self, path: str) -> os.stat_result:
        self.asked.append(path)
        if path in self.errors:
            raise self.errors[path]
        found = os.lstat(path)
        mode, uid, gid = self.shown.get(path, (0o755, 0, 0))
        return os.stat_result((stat.S_IFMT(found.st_mode) | mode, *found[1:4], uid, gid, *found[6:10]))

    def readlink(self, path: str) -> str:
        self.asked.append(f"link {path}")
        if f"link {path}" in self.errors:
            raise self.errors[f"link {path}"]
        return os.readlink(path)

    def examiner(
        self, own: int = 0, groups: tuple[int, ...] = (), *, links: bool = False, search: str | None = None
    ) -> Examiner:
        return Examiner(
            use_symlink_paths=links,
            own_uid=own,
            own_gid=own,
            own_groups=groups,
            search_path=search,
            directory=str(self.base),
            files=Files(self.lstat, self.readlink),
        )

    def examine(self, command: str, who: str = "root", search: str | None = None) -> Verdict:
        uid, gid, groups = (USER, GROUP, (1, MEMBER)) if who in ("user", "read", "user-keeps") else (0, 0, None)
        reads = who in ("read", "root-reads")
        asked = Script(argv=(command, "argument"), uid=uid, gid=gid, groups=groups, readable_only=reads)
        return self.examiner(links=who in ("keep", "user-keeps", "root-reads"), search=search).examine(asked)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def script(command: str, uid: int | None = None, gid: int | None = None) -> Script:
    return Script(argv=(command,), uid=uid, gid=gid)


@pytest.mark.parametrize("case", [line for line in CASES.splitlines() if line and not line.startswith("#")])
def test_verdict(tree: Tree, case: str) -> None:
    entries, who, call, outcome = (column.strip() for column in case.split("|"))
    kind, place = outcome.split()
    command, at, search = call.partition("@")
    verdict = tree.add(entries).examine(command.strip(), who, search if at else None)
    usable = kind in ("OK", "INSECURE")
    assert (verdict.kind.name, verdict.component or verdict.path) == (kind, f"{tree.base}/{place}")
    assert (verdict.path != "") == usable
    assert (verdict.why == "") == (kind == "OK")
    assert verdict.component in verdict.why


@pytest.mark.parametrize(
    ("entry", "who", "owner", "mode", "why"),
    [
        ("run=640", "user", "root", "0640", f"cannot be executed by user {USER} (owner root, mode 0640)"),
        ("run=640:s", "read", f"{STRANGER}", "0640", f"cannot be read by user {USER} (owner {STRANGER}, mode 0640)"),
        ("run=755:s", "root", f"{STRANGER}", "0755", f"is not owned by root (owner {STRANGER}, mode 0755)"),
        ("run=4757", "root", "root", "4757", "can be written by everybody (owner root, mode 4757)"),
        ("run=070::s", "root", "root", "0070", f"can be written by group {STRANGER} (owner root, mode 0070)"),
        ("run/=700", "root", "root", "0700", "is not a regular file (owner root, mode 0700)"),
        ("run>run", "root", "root", "0777", "is a symbolic link in a loop or a chain too long (owner root, mode 0777)"),
        ("other", "root", "", "", "does not exist"),
    ],
)
def test_owner_mode_and_reason(tree: Tree, entry: str, who: str, owner: str, mode: str, why: str) -> None:
    verdict = tree.add(entry).examine("./run", who)
    assert (verdict.owner, verdict.mode, verdict.why) == (owner, mode, f"'{tree.at('run')}' {why}")


def test_reasons_about_what_is_on_the_way(tree: Tree) -> None:
    tree.add("closed/=700 closed/run link>closed")
    closed, link = tree.at("closed"), tree.at("link")
    verdict = tree.examine("closed/run", "user")
    assert verdict.why == f"'{closed}' cannot be entered by user {USER} (owner root, mode 0700)"
    verdict = tree.examine("link/run", "keep")
    assert verdict.why == f"'{link}' is a symbolic link, not a directory (owner root, mode 0777)"
    assert tree.examine("closed/run/").why.startswith(f"'{closed}/run' is not a directory (owner root")


def test_group_is_shown_by_name(tree: Tree) -> None:
    grp = pytest.importorskip("grp")
    group = next(each for each in grp.getgrall() if each.gr_gid)
    tree.add("run").shown[tree.at("run")] = (0o775, 0, group.gr_gid)
    assert f"written by group {group.gr_name} (owner" in tree.examine("./run").why


@pytest.mark.parametrize("name", ["run\0", "\udfff", "\x1b[2J\n", "x" * 300, "./" + "x/" * 5000, "y/" * 5000 + "\0"])
def test_names_that_no_file_can_have(tree: Tree, name: str) -> None:
    verdict = tree.examine("./" + name)
    assert verdict.kind is Kind.MISSING
    assert verdict.why.isprintable()


@pytest.mark.parametrize("fifo", ["fifo", "/dev/null"])
def test_other_types_can_only_be_read(tree: Tree, fifo: str) -> None:
    os.mkfifo(tree.at("fifo"))
    assert tree.examine(tree.at(fifo)).kind is Kind.WRONG_TYPE
    assert tree.examine(tree.at(fifo), "read").kind is Kind.OK


@pytest.mark.parametrize("count", [MAX_LINKS, MAX_LINKS + 1])
def test_as_many_links_as_the_kernel_follows(tree: Tree, count: int) -> None:
    tree.add("0 " + " ".join(f"{number + 1}>{number}" for number in range(count)))
    start = tree.at(str(count))
    assert (tree.examine(start).kind is Kind.OK) == os.path.exists(start) == (count == MAX_LINKS)


def test_the_root_directory_is_its_own_parent(tree: Tree) -> None:
    assert tree.add("run").examine("/../.." + tree.at("run")).path == tree.at("run")
    assert tree.examine("/").component == "/"


@pytest.mark.parametrize("argv", [(), ("",), ("no-such-command",)])
def test_command_found_nowhere(tree: Tree, argv: tuple[str, ...]) -> None:
    name = argv[0] if argv else ""
    why = f"'{name}' is in no directory of {os.defpath!r}"
    assert tree.examiner().examine(Script(argv=argv)) == Verdict(Kind.MISSING, name, why=why)


def test_search_without_path_is_that_of_execvp(tree: Tree) -> None:
    assert tree.examine("sh").path in {os.path.realpath(f"{each}/sh") for each in ("/bin", "/usr/bin")}


# Identities


@pytest.mark.parametrize(
    ("own", "uid", "gid", "kind"),
    [
        (0, None, None, Kind.INSECURE),
        (0, 0, 0, Kind.INSECURE),
        (0, USER, 0, Kind.INSECURE),
        (0, 0, GROUP, Kind.INSECURE),
        (0, USER, None, Kind.INSECURE),
        (0, None, GROUP, Kind.INSECURE),
        (0, USER, GROUP, Kind.OK),
        (USER, None, None, Kind.OK),
        (USER, 0, None, Kind.INSECURE),
        (USER, None, 0, Kind.INSECURE),
    ],
)
def test_identities_with_roots_power(tree: Tree, own: int, uid: int | None, gid: int | None, kind: Kind) -> None:
    path = tree.add("run=777").at("run")
    assert tree.examiner(own).examine(script(path, uid, gid)).kind is kind


def test_groups_of_the_daemon_stay_only_with_its_identity(tree: Tree) -> None:
    path = tree.add("run=010::s").at("run")
    examiner = tree.examiner(USER, (STRANGER,))
    none = Script(argv=(path,), uid=USER, gid=USER, groups=())
    scripts = (script(path), script(path, USER), script(path, USER, USER), script(path, USER, GROUP), none)
    expected = [Kind.OK] * 3 + [Kind.NOT_EXECUTABLE] * 2
    assert [examiner.examine(each).kind for each in scripts] == expected


# What is asked of the kernel, and what it answers


@pytest.mark.parametrize(
    ("error", "kind"),
    [(errno.ENOTDIR, "WRONG_TYPE"), (errno.ELOOP, "WRONG_TYPE"), (errno.ESTALE, "MISSING"), (None, "MISSING")],
)
@pytest.mark.parametrize("call", ["", "link "])
def test_errors_of_the_file_system(tree: Tree, call: str, error: int | None, kind: str) -> None:
    path = tree.add("run>other other").at("run")
    tree.errors[call + path] = OSError(error, "text") if error else OSError("without a number")
    verdict = tree.examine(path)
    assert (verdict.kind.name, verdict.component) == (kind, path)
    assert verdict.why == f"'{path}' cannot be looked at: {os.strerror(error or errno.EIO)}"


def test_directory_that_this_process_may_not_search(tree: Tree) -> None:
    path = tree.add("closed/=711 closed/run").at("closed/run")
    tree.errors[path] = PermissionError(errno.EACCES, "no")
    verdict = tree.examine(path, "user")
    why = f"'{tree.at('closed')}' cannot be searched by this process (owner root, mode 0711)"
    assert verdict == Verdict(Kind.NOT_EXECUTABLE, tree.at("closed"), "root", "0711", why)
    tree.errors["/"] = PermissionError(errno.EACCES, "no")
    verdict = tree.examine(path, "user")
    assert (verdict.kind, verdict.component, verdict.owner) == (Kind.NOT_EXECUTABLE, "/", "")


def test_nothing_is_asked_twice(tree: Tree) -> None:
    tree.add("inner>dir " + " ".join(f"dir/run{number}" for number in range(50)))
    examiner = tree.examiner(search=f"/gone:{tree.at('inner')}")
    assert {examiner.examine(script(f"run{number % 50}")).kind for number in range(100)} == {Kind.OK}
    assert len(tree.asked) == len(set(tree.asked))


def test_this_system_as_it_is() -> None:
    own = Examiner(use_symlink_paths=False, own_uid=os.geteuid(), own_gid=os.getegid())
    assert own.examine(script("sh", USER, GROUP)) == Verdict(Kind.OK, path=os.path.realpath("/bin/sh"))
    below_root = Examiner(use_symlink_paths=False, own_uid=USER, own_gid=GROUP, directory="")
    assert below_root.examine(script("bin/sh")) == Verdict(Kind.OK, path=os.path.realpath("/bin/sh"))


def as_it_is(base: Path) -> Examiner:
    """Sees the real `base` and what is in it, and nothing but the root directory above."""
    files = Files(lambda name: os.lstat(name if name.startswith(str(base)) else "/"))
    return Examiner(use_symlink_paths=False, own_uid=0, own_gid=0, files=files)


@needs_root
@pytest.mark.parametrize("groups", [(), (STRANGER,)])
@pytest.mark.parametrize("uid", [0, USER])
@pytest.mark.parametrize("changed", ["way", "way/run"])
@pytest.mark.parametrize("owner", [(0, 0), (USER, 0), (0, GROUP), (0, STRANGER)])
def test_kernel_agrees_on_modes(
    tmp_path: Path, owner: tuple[int, int], changed: str, uid: int, groups: tuple[int, ...]
) -> None:
    """test(1) under the same identity; its directory is entered before root's power is given up."""
    tmp_path.chmod(0o755)
    (tmp_path / "way").mkdir(0o755)
    path = tmp_path / "way/run"
    path.touch(0o755)
    os.chown(tmp_path / changed, *owner)
    gid = GROUP if uid else 0
    asked = Script(argv=(str(path),), uid=uid, gid=gid, groups=groups)
    for mode in (0o755, 0o700, 0o070, 0o007, 0o677, 0o644):
        (tmp_path / changed).chmod(mode)
        kind = as_it_is(tmp_path).examine(asked).kind
        command = ["test", "-x", "way/run"]
        run = subprocess.run(command, cwd=tmp_path, user=uid, group=gid, extra_groups=groups, check=False, timeout=10)
        assert (kind in (Kind.OK, Kind.INSECURE)) == (run.returncode == 0), oct(mode)


@needs_root
def test_real_owners(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.touch(0o755)
    steps = [(0, 0, 0o755, Kind.OK), (STRANGER, 0, 0o755, Kind.INSECURE), (0, GROUP, 0o775, Kind.INSECURE)]
    for uid, gid, mode, kind in steps:
        os.chown(path, uid, gid)
        path.chmod(mode)
        verdict = as_it_is(tmp_path).examine(script(str(path)))
        assert (verdict.kind, verdict.path) == (kind, str(path))

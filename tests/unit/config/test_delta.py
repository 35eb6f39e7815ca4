"""A reload tells differences, and reads only what changed: the outcome must be that of reading everything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keepalived_py.config import delta as delta_module
from keepalived_py.config import load as load_module
from keepalived_py.config import preprocess
from keepalived_py.config.chapters import Long, Splice
from keepalived_py.config.delta import Part, Run, difference, joined, rebuilt
from keepalived_py.config.load import LoadOptions, LoadResult, load
from keepalived_py.config.model import CheckerSlice, Config, VrrpSlice
from keepalived_py.config.slices import checker_slice, vrrp_slice

REAL = " real_server 10.1.0.{n} 80 {{\n  weight {weight}\n  {check}\n }}\n"
CHECKS = (
    "TCP_CHECK {\n connect_timeout 3\n }",
    "HTTP_GET {\n url {\n path /\n status_code 200\n }\n }",
    "MISC_CHECK {\n misc_path /bin/true\n }",
    "FILE_CHECK {\n track_file T\n }",
    "TCP_CHECK { # all on one line\n }",
    'SMTP_CHECK {\n helo_name "a b"\n }',
    "TCP_CHECK {\n nonsense 3\n }",
    "weigth 3",
    "$CHECK",
    "@other nonsense",
    "include nothing.conf",
    "TCP_CHECK {",
    "TCP_CHECK { } {",
    "TCP_CHECK\n {\n }",
    "TCP_CHECK { TCP_CHECK { {",
    "{",
    "}",
    "} {",
    "} virtual_server 10.0.0.3 80 {",
    "",
)
HEADS = (
    "virtual_server 10.0.0.{n} 80 {{",
    "virtual_server 10.0.0.{n} 80 {{ # why",
    "virtual_server  10.0.0.{n} 80{{",
    " virtual_server 10.0.0.{n} 80 {{",
    "virtual_server fwmark {n} {{",
    "virtual_server group G {{",
    "virtual_server 10.0.0.{n} {{",
    "virtual_server 10.0.0.{n} 80",
)


PLAIN = """virtual_server 10.0.0.1 80 {{
 protocol TCP
 lvs_sched rr
 lvs_method {method}
{inside} quorum 1
}}
"""


OTHERS = (" weight 3\n", " retry 2\n", " delay_loop 9\n", " sorry_server 10.1.0.1 80\n", "# why\n")


@st.composite
def plain_files(draw: st.DrawFn) -> str:
    """One virtual server about which there is nothing to say; what is inside may come in any order."""
    row = st.builds(REAL.format, n=st.just("{n}"), weight=st.sampled_from((1, 5)), check=st.sampled_from(CHECKS[:2]))
    rows = [text.replace("{n}", str(n)) for n, text in enumerate(draw(st.lists(row, min_size=2, max_size=5)), 1)]
    pieces = draw(st.permutations(rows + draw(st.lists(st.sampled_from(OTHERS), max_size=2, unique=True))))
    return PLAIN.format(method=draw(st.sampled_from(("NAT", "DR"))), inside="".join(pieces))


@st.composite
def blocks(draw: st.DrawFn) -> str:
    number = draw(st.integers(1, 3))
    head = draw(st.sampled_from(HEADS)).format(n=number)
    rows = draw(
        st.lists(st.tuples(st.integers(1, 3), st.sampled_from((1, 5)), st.sampled_from(CHECKS)), min_size=1, max_size=2)
    )
    inside = "".join(REAL.format(n=n, weight=weight, check=check) for n, weight, check in rows)
    lines = draw(
        st.sampled_from((" protocol TCP\n lvs_sched rr\n lvs_method NAT\n", " # only this\n", ' quorum_up "/x y"\n'))
    )
    return f"{head}\n{lines}{inside}}}\n"


@st.composite
def files(draw: st.DrawFn) -> str:
    start = draw(
        st.sampled_from(
            (
                "",
                "global_defs {\n lvs_sched wrr\n smtp_alert\n}\n",
                "$CHECK=TCP_CHECK { }\n",
                "foo {\n",
                "$CHECK=a \\\n",
                "track_file T {\n file /t\n}\n",
                "virtual_server_group G {\n 10.0.0.9 80\n}\n",
                "global_defs {\n script_user nobody\n}\n",
            )
        )
    )
    return start + "".join(draw(st.lists(blocks(), max_size=4)))


def read(path: Path, text: str, **options: Any) -> LoadResult:
    path.write_text(text)
    return load(str(path), LoadOptions(**options))


def seen(result: LoadResult) -> tuple[Config | None, list[str]]:
    return result.config, [problem.render() for problem in result.problems]


@pytest.fixture(params=["as it is", "everything is long"])
def long(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param != "as it is":
            patch.setattr(preprocess, "LONG", 0)
            patch.setattr(delta_module, "LONG", 0)
        yield


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=files(), second=files(), same=st.booleans(), shuffled=st.integers(0, 9999).map(Random))
def test_nothing_is_other_because_something_was_left_unread(
    tmp_path_factory: pytest.TempPathFactory, long: None, first: str, second: str, same: bool, shuffled: Random
) -> None:
    path = tmp_path_factory.mktemp("delta") / "conf"
    before = read(path, first)
    assert seen(before) == seen(read(path, first, fold=False))
    text = edited(first, shuffled) if same else second
    whole = read(path, text, fold=False)
    again = read(path, text, before=before.config, digests=before.digests if before.config else None)
    assert seen(again) == seen(whole)
    if before.config is not None and again.config is not None:
        assert rebuilt(before.config, difference(before.config, again.config)) == whole.config
        assert again.digests is not None
        assert joined(before.digests, again.digests) == read(path, text).digests
        for cut in (checker_slice, vrrp_slice):
            parts: list[Any] = [cut(before.config), cut(again.config)]
            assert rebuilt(parts[0], difference(*parts)) == parts[1]
            assert rebuilt(None, difference(None, parts[1])) == parts[1]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=plain_files(), random=st.integers(0, 9999).map(Random))
def test_chapters_that_move_come_twice_or_go(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, first: str, random: Random
) -> None:
    monkeypatch.setattr(preprocess, "LONG", 0)
    path = tmp_path_factory.mktemp("chapters") / "conf"
    before, text = read(path, first), first
    for _ in range(2):
        held, text = before.digests, edited(text, random)
        again = read(path, text, before=before.config, digests=held if before.config else None)
        assert seen(again) == seen(read(path, text, fold=False))
        assert again.digests is not None
        before = replace(again, digests=joined(held if before.config else None, again.digests))
        assert before.digests == read(path, text).digests


def edited(text: str, random: Random) -> str:
    """Some lines or real servers less, twice, or in another place."""
    pieces = re.split(r"(?m)^(?= real_server| quorum|virtual_server|\}$)" if random.random() < 0.9 else r"(?m)^", text)
    for _ in range(random.randint(1, 3)):
        at, to = random.randrange(len(pieces)), random.randrange(len(pieces))
        piece = pieces.pop(at) if random.random() < 0.7 else pieces[at]
        if random.random() < 0.7:
            pieces.insert(to, piece.replace("weight 1", "weight 5") if random.random() < 0.5 else piece)
        pieces = pieces or [""]
    lines = "".join(pieces).split("\n")
    if random.random() < 0.4:
        lines.insert(random.randrange(len(lines)), random.choice(ODD))
    return "\n".join(lines)


ODD = (
    "{",
    "}",
    "} {",
    "include none",
    "$CHECK",
    "@other weight 3",
    ' quorum_up "x',
    "# real_server 1 {",
    "\t",
    " real_server x",
)


SERVER = (
    "virtual_server 10.0.0.{n} 80 {{\n protocol TCP\n lvs_sched rr\n lvs_method NAT\n"
    " real_server 10.1.0.1 80 {{\n  weight {weight}\n }}\n}}\n"
)


def servers(count: int, weight: int = 1, before: str = "") -> str:
    return before + "".join(SERVER.format(n=n, weight=weight if n == 2 else 1) for n in range(1, count + 1))


def test_only_what_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read(tmp_path / "c", servers(5))
    assert first.config is not None
    built: list[Any] = []
    build = load_module.build_virtual_server
    monkeypatch.setattr(
        load_module, "build_virtual_server", lambda *args: built.append(args[0].head.words) or build(*args)
    )
    second = read(tmp_path / "c", servers(5, 7), before=first.config, digests=first.digests)
    assert built == [("virtual_server", "10.0.0.2", "80")]
    assert second.config is not None
    old, new = first.config.checker.virtual_servers, second.config.checker.virtual_servers
    assert [a is b for a, b in zip(old, new, strict=True)] == [True, False, True, True, True]
    delta = difference(checker_slice(first.config), checker_slice(second.config))
    assert delta.servers == (0, new[1], 2, 3, 4)
    assert rebuilt(checker_slice(first.config), delta).checker.virtual_servers[4] is old[4]


def test_other_defaults_make_everything_read_again(tmp_path: Path) -> None:
    first = read(tmp_path / "c", servers(2))
    assert first.config is not None
    text = servers(2, before="global_defs {\n smtp_alert\n}\n")
    second = read(tmp_path / "c", text, before=first.config, digests=first.digests)
    assert second.config is not None
    assert all(server.smtp_alert for server in second.config.checker.virtual_servers)


def test_numbers_of_rows_that_are_not_there_are_refused(tmp_path: Path) -> None:
    config = read(tmp_path / "c", servers(2)).config
    assert config is not None
    delta = difference(config, config)
    assert delta.servers == (0, 1)
    for number in (-1, 2):
        with pytest.raises(ValueError, match=f"row {number} of 2"):
            rebuilt(config, replace(delta, servers=(number,)))
    assert isinstance(delta.rest, Config)
    assert isinstance(difference(None, CheckerSlice()).rest, CheckerSlice)
    assert isinstance(difference(None, VrrpSlice()).rest, VrrpSlice)


def test_of_a_long_server_only_what_changed_is_read_and_told(tmp_path: Path) -> None:
    def text(weight: int, quorum: int = 1) -> str:
        reals = "".join(
            f" real_server 10.1.{n // 200}.{n % 200 + 1} 80 {{\n  weight {weight if n == 300 else 1}\n }}\n"
            for n in range(800)
        )
        head = "virtual_server 10.0.0.1 80 {\n protocol TCP\n lvs_sched rr\n lvs_method NAT\n"
        return f"{head} quorum {quorum}\n{reals}}}\n"

    first = read(tmp_path / "c", text(1))
    assert first.config is not None
    second = read(tmp_path / "c", text(7), before=first.config, digests=first.digests)
    assert second.config is not None
    old, new = first.config.checker.virtual_servers[0], second.config.checker.virtual_servers[0]
    same = [a is b for a, b in zip(old.real_servers, new.real_servers, strict=True)]
    assert same == [n != 300 for n in range(800)]
    delta = difference(first.config, second.config)
    (part,) = delta.servers
    assert isinstance(part, Part)
    assert part.reals == (Run(first=0, count=300), new.real_servers[300], Run(first=301, count=499))
    assert rebuilt(first.config, delta) == second.config
    for run in (Run(first=400, count=401), Run(first=-1, count=1), Run(first=3, count=-1)):
        with pytest.raises(ValueError, match="rows"):
            rebuilt(first.config, replace(delta, servers=(replace(part, reals=(run,)),)))
    told = second.digests
    assert told is not None
    (splice,) = told.of_servers
    assert isinstance(splice, Splice)
    assert splice.middle.count("real_server") == 1
    held = joined(first.digests, told)
    assert held == read(tmp_path / "c", text(7)).digests
    assert joined(None, held) == held
    for wrong in (replace(splice, number=1), replace(splice, tail=10**6), replace(splice, head=-1)):
        with pytest.raises(ValueError, match=r" of 1| characters"):
            joined(first.digests, replace(told, of_servers=(wrong,)))
    third = read(tmp_path / "c", text(7, quorum=2), before=second.config, digests=held)
    assert third.config is not None
    assert third.config.checker.virtual_servers[0].quorum == 2
    assert third.digests is not None
    assert isinstance(third.digests.of_servers[0], Long)
    again = read(tmp_path / "c", text(7, quorum=2), before=third.config, digests=third.digests)
    assert again.config is not None
    assert again.config.checker.virtual_servers[0] is third.config.checker.virtual_servers[0]

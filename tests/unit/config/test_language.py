"""Comments, quotes, braces, includes, conditions, definitions, repetition (config-language.md 2 to 7)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from keepalived_py.config.include_paths import expand_braces
from keepalived_py.config.lexer import (
    EscapeError,
    QuoteError,
    split_braces,
    split_shell_words,
    split_words,
    strip_comment,
)
from keepalived_py.config.preprocess import Preprocessor, ReadOptions
from keepalived_py.config.problems import Problems
from keepalived_py.config.tree import Statement, build


def read(tmp_path: Path, text: str, **files: str) -> tuple[list[object], list[str]]:
    """Statements as nested lists, and identifiers of the problems."""
    for name, content in files.items():
        (tmp_path / name.replace("_", ".")).write_text(content)
    main = tmp_path / "main.conf"
    main.write_text(text)
    problems = Problems()
    options = ReadOptions(config_id="me", environ={"HOME": "/root"}, random_seed=1)
    statements = build(Preprocessor(options, problems).read(str(main)), problems)

    def plain(each: Statement) -> object:
        words = " ".join(each.words)
        return words if each.block is None else [words, *map(plain, each.block)]

    return [plain(each) for each in statements], [problem.id for problem in problems]


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("a b # c", "a b"),
        ("a b ! c", "a b"),
        ("a#b", "a"),
        (r"a \# b \! c", "a # b ! c"),
        ('a "b # c" # d', 'a "b # c"'),
        (r"a \n b", r"a \n b"),
        ("  a  ", "a"),
        ("a \\", "a \\"),
        (r'"\#"', r'"\#"'),
    ],
)
def test_comments(line: str, left: str) -> None:
    assert strip_comment(line) == left


def test_an_odd_quote_is_an_error() -> None:
    with pytest.raises(QuoteError):
        strip_comment('a "b')


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('a"b c"d', ("a", "b c", "d")),
        ('a "" b', ("a", "", "b")),
        ("a 'b c'", ("a", "'b", "c'")),
        ("a\tb\vc\fd", ("a", "b", "c", "d")),
        ('a "b', ("a",)),
    ],
)
def test_words(line: str, words: tuple[str, ...]) -> None:
    assert split_words(line) == words


@pytest.mark.parametrize(
    ("line", "undone", "kept"),
    [
        ("a 'b c'd", ("a", "b cd"), ("a", "b cd")),
        (r"a\ b", ("a b",), (r"a\ b",)),
        (r'"a\"b"', ('a"b',), ('a\\"b',)),
        (r"\x41\x4 \101 \cA", ("A\x04", "A", "\x01"), (r"\x41\x4", r"\101", r"\cA")),
        (r"\a\b\E\f\n\r\t\v\\", ("\a\b\x1b\f\n\r\t\v\\",), (r"\a\b\E\f\n\r\t\v\\",)),
    ],
)
def test_shell_words(line: str, undone: tuple[str, ...], kept: tuple[str, ...]) -> None:
    assert split_shell_words(line, undo_escapes=True) == undone
    assert split_shell_words(line, undo_escapes=False) == kept


@pytest.mark.parametrize("line", ["a\\", "'a", '"a'])
def test_shell_words_refuse_what_never_ends(line: str) -> None:
    with pytest.raises(EscapeError):
        split_shell_words(line, undo_escapes=True)


@pytest.mark.parametrize(
    ("line", "pieces"),
    [
        ("foo{", ["foo", "{"]),
        ("group { A B }", ["group", "{", "A B", "}"]),
        ('a "{" b', ['a "{" b']),
        ("a '{' b", ["a '", "{", "' b"]),
        ("", []),
    ],
)
def test_braces(line: str, pieces: list[str]) -> None:
    assert split_braces(line) == pieces


def test_blocks_however_they_are_written(tmp_path: Path) -> None:
    text = "a {\n b\n}\nc\n{\n d }\ne { f { g } }\n"
    assert read(tmp_path, text)[0] == [["a", "b"], ["c", "d"], ["e", ["f", "g"]]]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a {\n b\n", "missing-close-brace"),
        ("}\n", "surplus-brace"),
        ("{\n}\n", "unexpected-brace"),
        ('a "b\n', "unterminated-quote"),
        ("a\0b\n", "nul-byte"),
        ("a " + "b" * 1100 + "\n", "line-too-long"),
        ("~SEQ(1, 2) a\n", "bad-repetition"),
        ("~SEQ(i, 1, 0, 5) a\n", "bad-repetition"),
        ("~SEQ(i, 1, -1, 5) a\n", "bad-repetition"),
        ("~SEQ(i, 99999999) a\n", "bad-repetition"),
        ("~LST(i) a\n", "bad-repetition"),
        ("~LST({a,b}, {1,2,3}) a\n", "bad-repetition"),
        ("a ${_RANDOM 5 1}\n", "bad-random"),
    ],
)
def test_bad_text_is_reported(tmp_path: Path, text: str, problem: str) -> None:
    assert problem in read(tmp_path, text)[1]


def test_conditions(tmp_path: Path) -> None:
    text = "@me a\n@you b\n@^you c\n@^me d\n@me\n  @me\te\n"
    assert read(tmp_path, text)[0] == ["a", "c", "e"]


def test_definitions(tmp_path: Path) -> None:
    text = "$A=1 2\n$B=${A}0\na $A\nb ${B}x\nc $UNKNOWN\n$A=3\nd $A,\n"
    assert read(tmp_path, text)[0] == ["a 1 2", "b 1 20x", "c $UNKNOWN", "d 3,"]


def test_multi_line_definitions(tmp_path: Path) -> None:
    text = "$M= \\\n a { \\\n  \\\n @me b \\\n @you c \\\n }\nx\n$M\ny $M z\n"
    assert read(tmp_path, text)[0] == ["x", ["a", "b"], "y $M z"]


def test_predefined_parameters(tmp_path: Path) -> None:
    text = 'a ${_PWD}\nb ${_INSTANCE}\nc ${_ENV HOME} ${_ENV NONE}\nd "${_HASH}${_BANG}"\n'
    found = read(tmp_path, text)[0]
    assert found == [f"a {tmp_path}", "b me", "c /root", "d #!"]


def test_random_numbers_keep_their_limits(tmp_path: Path) -> None:
    found = read(tmp_path, "~SEQ(i, 1, 50) a ${_RANDOM 3 5}\n")[0]
    assert {str(each) for each in found} == {"a 3", "a 4", "a 5"}


@pytest.mark.parametrize(
    ("directive", "values"),
    [
        ("~SEQ(i, 3)", "1 2 3"),
        ("~SEQ(i, 0)", "1 0"),
        ("~SEQ(i, -2)", "-1 -2"),
        ("~SEQ(i, 2, 4)", "2 3 4"),
        ("~SEQ(i, 4, 2)", "4 3 2"),
        ("~SEQ(i, 1, 3, 8)", "1 4 7"),
        ("~SEQ( i , 0x9 , 012 )", "9 10"),
        ("~SEQx(i, 9, 11)", "9 a b"),
        ("~LST(i, x, y,z)", "x y z"),
    ],
)
def test_repetition(tmp_path: Path, directive: str, values: str) -> None:
    assert read(tmp_path, f"{directive} v $i\n")[0] == [f"v {each}" for each in values.split()]


def test_repetition_nests_and_takes_sets(tmp_path: Path) -> None:
    text = "~SEQ(i, 2) ~LST({a,b}, {p,q}, {r}) v $i ${a}-${b}\n"
    assert read(tmp_path, text)[0] == ["v 1 p-q", "v 1 r-", "v 2 p-q", "v 2 r-"]


def test_include_forms(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.conf").write_text("in sub\ninclude y.conf\n")
    (tmp_path / "sub" / "y.conf").write_text("beside it\n")
    (tmp_path / "run.sh").write_text("executable\n")
    os.chmod(tmp_path / "run.sh", 0o755)
    text = (
        "a {\ninclude sub/x.conf\n}\n@me include sub/y.conf\ninclude run.sh\ninclude none-*\ninclude sub/{x,y}.conf\n"
    )
    found, problems = read(tmp_path, text)
    assert found == [["a", "in sub", "beside it"], "beside it", "in sub", "beside it", "beside it"]
    assert set(problems) == {"include-unreadable", "include-no-match"}


@pytest.mark.parametrize(
    ("line", "fatal"),
    [
        ("include none.conf", False),
        ("includer none.conf", False),
        ("includem none.conf", True),
        ("includem none-*.conf", False),
        ("includew none-*.conf", True),
        ("includeb {none,main}.conf", True),
        ("includea none-*.conf", True),
        ("includer .", True),
        ("include_check match\ninclude none.conf", True),
        ("include_check\ninclude none-*.conf", True),
        ("include_check -match\ninclude none.conf", False),
    ],
)
def test_which_include_problems_are_errors(tmp_path: Path, line: str, fatal: bool) -> None:
    main = tmp_path / "main.conf"
    main.write_text("# nothing\n" if "main" in line else f"{line}\n")
    if "main" in line:
        main.write_text("@me " + line.replace("main", "other") + "\n")
        (tmp_path / "other.conf").write_text("x\n")
    problems = Problems()
    list(Preprocessor(ReadOptions(config_id="me"), problems).read(str(main)))
    assert (problems.stops == 6) is fatal


def test_files_that_include_each_other_end_in_a_problem(tmp_path: Path) -> None:
    assert "too-much-text" in read(tmp_path, "include main.conf\n")[1]


def test_a_definition_that_names_itself_ends(tmp_path: Path) -> None:
    assert "definition-too-long" in read(tmp_path, "$A=x$B \n$B=y$A \na $A\n")[1]


def test_brace_patterns() -> None:
    assert expand_braces("a{b,c{d,e}}f") == ("abf", "acdf", "acef")


def test_a_missing_main_file_stops_with_6(tmp_path: Path) -> None:
    problems = Problems()
    assert list(Preprocessor(ReadOptions(), problems).read(str(tmp_path / "none.conf"))) == []
    assert problems.stops == 6

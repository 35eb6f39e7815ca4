"""Patterns: PCRE2's meaning, bounds on where a match begins, limits on what one may cost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from keepalived_py import pattern
from keepalived_py.config.keywords_check import REGEX_OPTIONS
from keepalived_py.pattern import OPTIONS, Pattern, PatternError, SearchGivenUp
from tests.unit.config.helpers_config import load_text


@pytest.mark.parametrize(
    ("text", "options", "body", "found"),
    [
        ("a+b", (), b"xxaab", True),
        ("a+b", (), b"xxaac", False),
        ("A+B", (), b"aab", False),
        ("A+B", ("caseless",), b"aab", True),
        ("a.b", (), b"a\nb", False),
        ("a.b", ("dotall",), b"a\nb", True),
        ("^b", (), b"a\nb", False),
        ("^b", ("multiline",), b"a\nb", True),
        ("a b", ("extended",), b"ab", True),
        ("b", ("firstline",), b"a\nb", False),
        ("b", ("firstline",), b"ab\n", True),
        ("^b", (), b"a" * 64 + b"b", False),  # every window's start is not the text's
        ("b$", (), b"a" * 1000 + b"b", True),
        ("(?<=aa)b", (), b"a" * 64 + b"b", True),
        (r"\Qa.b\E\h+(?>c+)", (), b"a.b  ccc", True),  # not in Python's own
        ("", (), b"", True),
        ("$", (), b"a" * 64, True),
        ("\u00e9.$", ("utf", "caseless"), ("x" * 63 + "\u00c9\u00f6").encode(), True),
        (".", ("utf",), b"ok \xff", False),  # not UTF-8
        ("\udcff", (), b"\xff", True),  # a byte that the file had
        (r"\xff", (), b"\xff", True),
        ("a\0b", (), b"a\0b", True),
    ],
)
def test_what_is_found(text: str, options: tuple[str, ...], body: bytes, found: bool) -> None:
    assert Pattern(text, options).search(body) is found


@pytest.mark.parametrize(
    ("least", "most", "found"),
    [(0, None, True), (200, None, True), (201, None, False), (0, 200, True), (0, 199, False), (300, 400, False)],
)
def test_where_a_match_may_begin(least: int, most: int | None, found: bool) -> None:
    assert Pattern("needle").search(b"." * 200 + b"needle", least, most) is found


@pytest.mark.parametrize("text", ["a(b", "[", "*", "(?<n", "\\"])
def test_what_cannot_be_compiled(text: str) -> None:
    with pytest.raises(PatternError, match="at its byte"):
        Pattern(text)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pattern, "LIBRARY", "libnone.so")
    pattern._library.cache_clear()
    try:
        with pytest.raises(PatternError, match=r"libnone\.so"):
            Pattern("a")
    finally:
        monkeypatch.undo()
        pattern._library.cache_clear()


def test_a_pattern_that_backtracks_without_end_is_given_up() -> None:
    started = time.monotonic()
    with pytest.raises(SearchGivenUp, match="too many steps"):
        Pattern("(a+)+$").search(b"a" * 60 + b"b")
    assert time.monotonic() - started < 5


def test_a_search_that_takes_too_long_is_given_up() -> None:
    started = time.monotonic()
    with pytest.raises(SearchGivenUp, match="too long"):
        Pattern("(?s).{1,3000}[xy]").search(b"a" * 1_000_000, until=started + 0.1)
    assert time.monotonic() - started < 5


def test_a_whole_body_is_searched_in_little_time() -> None:
    started = time.monotonic()
    assert not Pattern("needle").search(b"hay " * (1 << 18))
    assert time.monotonic() - started < 5


def test_every_option_of_the_language_is_known() -> None:
    assert set(REGEX_OPTIONS) == set(OPTIONS)


def test_loading_says_that_a_pattern_cannot_be_compiled(tmp_path: Path) -> None:
    text = """virtual_server 10.0.0.1 80 {{
      protocol TCP
      real_server 10.1.0.1 80 {{
        HTTP_GET {{
          url {{
            path /
            regex "{}"
          }}
        }}
      }}
    }}"""
    good, bad = load_text(tmp_path, text.format("a+b")), load_text(tmp_path, text.format("a(b"))
    assert "bad-pattern" not in {each.id for each in good.problems}
    found = next(each for each in bad.problems if each.id == "bad-pattern")
    assert found.message == "missing closing parenthesis at its byte 3; the body is not looked at"
    assert bad.config is not None

"""Laws of the lexer and the preprocessor against plain models (config-language.md 2 to 7)."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from keepalived_py.config.lexer import (
    QuoteError,
    split_braces,
    split_shell_words,
    split_words,
    strip_comment,
    word_spans,
)
from keepalived_py.config.preprocess import Preprocessor, ReadOptions
from keepalived_py.config.problems import Problems
from keepalived_py.config.tree import MAX_DEPTH, Statement, build

SEPARATORS = " \t\f\n\r\v"
FOREIGN_BLANKS = "\x1c\x85\xa0\u2028\u3000"
"""What Unicode calls a blank and this language does not."""

Tree = list[tuple[tuple[str, ...], "Tree | None"]]


def read(text: str, config_id: str = "me") -> tuple[Tree, Problems]:
    """The tree of `text`, and its problems."""
    problems = Problems()
    with tempfile.TemporaryDirectory() as directory:
        main = write(Path(directory), {"main": text})
        options = ReadOptions(config_id=config_id, random_seed=1)
        statements = build(Preprocessor(options, problems).read(main), problems)
    return plain(statements), problems


def write(directory: Path, files: dict[str, str]) -> str:
    """Name of the main file."""
    for name, content in files.items():
        (directory / f"{name}.conf").write_text(content, "utf-8", newline="")
    return str(directory / "main.conf")


def plain(statements: list[Statement]) -> Tree:
    return [(each.words, None if each.block is None else plain(each.block)) for each in statements]


def ids(problems: Problems) -> list[str]:
    return [problem.id for problem in problems]


# words ------------------------------------------------------------------------------------------------------------

blanks = st.text(" \t", min_size=1, max_size=3)
letters = st.sampled_from([*"abz019._-/:'%", "é", "\u0663", *FOREIGN_BLANKS])
plain_words = st.text(letters, min_size=1, max_size=6).filter(lambda word: not word.startswith("include"))
any_character = st.one_of(
    st.sampled_from(["{", "}", "#", "!", "@", "~", "\\", *SEPARATORS]), st.characters(codec="utf-8")
)
quotable = st.one_of(
    st.sampled_from(["", "{", "}", "include", "@me a"]),
    st.text(any_character.filter(lambda one: one not in '"\n\0$'), max_size=6),
)


@st.composite
def written(draw: st.DrawFn, words: tuple[str, ...]) -> str:
    """`words` on a line: quoted where they must be or by chance, blanks or touching quotes between them."""
    line = ""
    for word in words:
        directive = word.startswith("include")
        bare = bool(word) and not directive and not set(word) & set(SEPARATORS + '{}#!"\\@~$') and draw(st.booleans())
        touching = not line or (line.endswith('"') or not bare)
        line += draw(st.sampled_from(["", " "])) if touching else draw(blanks)
        line += word if bare else f'"{word}"'
    return line


words_of_line = st.lists(st.one_of(plain_words, quotable), min_size=1, max_size=4).map(tuple)


@given(st.lists(st.text(any_character.filter(lambda one: one != '"')), max_size=5))
@example(["", " ", "{", "# !", "\\"])
def test_quoted_words_come_back(words: list[str]) -> None:
    assert split_words(" ".join(f'"{word}"' for word in words)) == tuple(words)


@given(st.data(), words_of_line)
def test_a_line_gives_its_words(data: st.DataObject, words: tuple[str, ...]) -> None:
    line = data.draw(written(words))
    assert split_braces(strip_comment(line)) == [line.strip(" \t")]
    assert split_words(line) == words


@given(st.lists(st.text(max_size=6), max_size=4), st.sampled_from("\"'"))
def test_shell_quoted_words_come_back(words: list[str], quote: str) -> None:
    escaped = [word.replace("\\", "\\\\").replace(quote, f"\\{quote}") for word in words]
    assert split_shell_words(" ".join(f"{quote}{word}{quote}" for word in escaped), undo_escapes=True) == tuple(words)
    apart = "".join(f"{quote}{character}{quote}" for word in words for character in word if character not in "\\\"'")
    joined = "".join(character for word in words for character in word if character not in "\\\"'")
    assert split_shell_words(apart, undo_escapes=True) == ((joined,) if joined else ())


@given(st.data(), words_of_line, st.text(any_character.filter(lambda one: one not in "\n")), st.sampled_from("#!"))
def test_a_comment_leaves_the_words_before_it(
    data: st.DataObject, words: tuple[str, ...], comment: str, mark: str
) -> None:
    line = data.draw(written(words))
    for gap in ("", " ", "\t "):
        assert strip_comment(line + gap + mark + comment) == strip_comment(line)


PIECES = {
    "a": "a",
    " b": " b",
    '"c # !"': '"c # !"',
    r'"\#"': r'"\#"',
    r"\#": "#",
    r"\!": "!",
    r"\n": r"\n",
    r"\\": r"\\",
}
"""Text, and what is left of it."""


@given(st.lists(st.sampled_from(sorted(PIECES))), st.sampled_from(["", "# c", '!"', '# "a" "']))
def test_marks_count_outside_quotes_and_without_backslash(pieces: list[str], comment: str) -> None:
    line = "".join(pieces) + comment
    assert strip_comment(line) == "".join(PIECES[piece] for piece in pieces).strip(" ")
    with pytest.raises(QuoteError):
        strip_comment("".join(pieces) + '"' + comment.replace('"', ""))


@given(
    st.sampled_from([0, 1, 1021, 1022, 1023, 1024, 2045, 2046, 2047, 3070]),
    st.sampled_from(["", "é", "\u20ac"]),
    st.booleans(),
)
@example(600, "é", False)
@example(3070, "", True)
def test_lines_are_at_most_1022_bytes(length: int, letter: str, known: bool) -> None:
    """Of a longer one the first 1023 bytes are dropped and the rest is a line."""
    text = "$A=b\n" * known + letter * (length // 2) + "x" * (length - length // 2)
    rest = text.removeprefix("$A=b\n").encode()
    cuts = 0
    while len(rest) > 1022:
        rest, cuts = rest[1023:], cuts + 1
    found, problems = read(text + "\n")
    assert found == ([((rest.decode("utf-8", "surrogateescape"),), None)] if rest else [])
    assert ids(problems) == ["line-too-long"] * cuts


# braces -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.one_of(st.sampled_from("{}"), plain_words, quotable.map('"{}"'.format), blanks), max_size=12))
def test_cutting_at_braces_loses_nothing(parts: list[str]) -> None:
    pieces = split_braces("".join(parts))
    assert squeezed("".join(pieces)) == squeezed("".join(parts))
    assert [piece for piece in pieces if piece in "{}"] == [part for part in parts if part in "{}"]
    for piece in pieces:
        outside = "".join(piece.split('"')[::2])
        assert piece in "{}" or not set(outside) & set("{}")


def squeezed(text: str) -> str:
    return "".join(character for character in text if character not in SEPARATORS)


@given(st.text(any_character, max_size=30))
def test_spans_are_in_order_and_hold_every_word(text: str) -> None:
    spans = word_spans(text)
    ends = [0, *(end for _, end in spans)]
    assert all(end <= start < stop <= len(text) for end, (start, stop) in zip(ends, spans, strict=False))
    assert squeezed("".join(text[start:stop] for start, stop in spans)) == squeezed(text)


# trees ------------------------------------------------------------------------------------------------------------

statements: st.SearchStrategy[Tree] = st.recursive(
    st.lists(st.tuples(words_of_line, st.none()), max_size=3),
    lambda inner: st.lists(st.tuples(words_of_line, st.one_of(st.none(), inner)), max_size=3),
    max_leaves=8,
)
line_ends = st.sampled_from(["\n", "\n\n", "\r\n", " \n\t", " # }{\n", "!x\n"])


@st.composite
def laid_out(draw: st.DrawFn, tree: Tree) -> str:
    """`tree` as text: blocks on one line or many, braces glued or apart, comments, blank lines."""
    text = ""
    for index, (words, block) in enumerate(tree):
        if index and tree[index - 1][1] is None:
            text += draw(line_ends)
        text += draw(written(words))
        if block is not None:
            text += (
                draw(st.sampled_from(["", " ", "\t"]) | line_ends) + "{" + draw(st.sampled_from(["", " "]) | line_ends)
            )
            text += draw(laid_out(block)) + draw(st.sampled_from(["", " "]) | line_ends) + "}"
            text += draw(st.sampled_from(["", " "]) | line_ends)
    return text


@given(st.data(), statements)
def test_a_tree_comes_back_from_any_layout(data: st.DataObject, tree: Tree) -> None:
    text = data.draw(laid_out(tree))
    assume(all(len(line) <= 1000 for line in text.split("\n")))
    found, problems = read(text)
    assert found == tree
    assert ids(problems) == []


@given(st.integers(1, MAX_DEPTH), st.sampled_from(["\n", " "]))
@example(MAX_DEPTH, "\n")
def test_blocks_nest(depth: int, end: str) -> None:
    tree: Tree = [(("leaf",), None)]
    for level in range(depth):
        tree = [((f"before{level}",), None), (("x",), tree), ((f"after{level}",), None)]
    inner = "".join(f"before{level}\nx{{{end}" for level in reversed(range(depth)))
    assert read(inner + "leaf" + "".join(f"{end}}}{end}after{level}" for level in range(depth)))[0] == tree
    assert ids(read("x{" * (MAX_DEPTH + 1) + "}" * (MAX_DEPTH + 1))[1]) == ["unexpected-brace"]


@pytest.mark.parametrize("brace", ["{", "}"])
def test_a_quoted_brace_is_a_word(brace: str) -> None:
    found, problems = read(f'a {{\n"{brace}"\n}}\n')
    assert found == [(("a",), [((brace,), None)])]
    assert ids(problems) == []


# conditions -------------------------------------------------------------------------------------------------------

names = st.sampled_from(["me", "you", "Me", "me2", "m.e", "é"])
conditions = st.one_of(st.none(), st.tuples(st.booleans(), names))


@given(names, st.lists(st.tuples(conditions, plain_words, st.sampled_from(["", " ", "\t"])), max_size=8))
def test_conditions_select_lines(me: str, lines: list[tuple[tuple[bool, str] | None, str, str]]) -> None:
    text, expected = "", []
    for condition, word, blank in lines:
        mark = "" if condition is None else f"@{'^' if condition[0] else ''}{condition[1]} {blank}"
        text += f"{blank}{mark}{word}\n"
        if condition is None or (condition[1] == me) != condition[0]:
            expected.append(((word,), None))
    assert read(text, me)[0] == expected


@given(names, st.booleans(), plain_words)
def test_one_condition_in_a_line(me: str, negated: bool, word: str) -> None:
    second = f"@{'^' if negated else ''}{me}"
    assert read(f"@{me} {second} {word}\n@{me}\n@^{me} \n", me)[0] == [((second, word), None)]


# definitions ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """`${NAME}`, or `$NAME` and what ends it."""

    name: str
    ending: str | None

    @property
    def text(self) -> str:
        return f"${{{self.name}}}" if self.ending is None else f"${self.name}{self.ending}"


Text = list[str | Reference]
NAMES = ("A", "_b", "C1", "D_d")


def spelled(parts: Text) -> str:
    return "".join(part if isinstance(part, str) else part.text for part in parts)


def expanded(parts: Text, values: dict[str, Text]) -> str:
    """The model: a known name is its value expanded now, an unknown one stays."""
    text = ""
    for part in parts:
        if isinstance(part, str):
            text += part
        elif part.name in values:
            text += expanded(values[part.name], values) + (part.ending or "")
        else:
            text += part.text
    return text


def texts(known: tuple[str, ...]) -> st.SearchStrategy[Text]:
    references = st.builds(
        Reference, st.sampled_from((*known, "UNKNOWN")), st.sampled_from([None, ",", ")", " x", "\tx"])
    )
    return st.lists(st.one_of(st.sampled_from(["a", "Z9", ".", "=", "é"]), references), max_size=3)


# a value names earlier names only, so that it ends
definitions = st.integers(0, len(NAMES) - 1).flatmap(lambda i: st.tuples(st.just(NAMES[i]), texts(NAMES[:i])))
uses = st.tuples(st.none(), texts(NAMES))


@given(st.lists(st.one_of(definitions, uses), max_size=10))
def test_references_are_replaced(lines: list[tuple[str | None, Text]]) -> None:
    text, expected, values = "", [], dict[str, Text]()
    for name, parts in lines:
        if name is not None:
            values[name] = parts
            text += f"${name}={spelled(parts)}\n"
        else:
            text += f'use "{spelled(parts)}"\n'
            expected.append((("use", expanded(parts, values)), None))
    assert read(text)[0] == expected


@pytest.mark.parametrize("name", ["Aé", "A\u0663", "1A", "é"])
def test_names_are_letters_digits_and_underscores(name: str) -> None:
    assert read(f"${name}=1\n")[0] == [((f"${name}=1",), None)]
    assert read(f'~SEQ({name}, 2) x\n~LST({name}, a) x\nx "${{{name}}}"\n')[0] == [(("x", f"${{{name}}}"), None)]


@given(st.lists(plain_words, min_size=2, max_size=5), plain_words)
def test_lines_of_a_definition_are_lines_of_the_text(lines: list[str], before: str) -> None:
    found, _ = read("$M=" + " \\\n".join(lines) + f"\n{before} $M\n")
    assert found == [((before, lines[0]), None), *(((line,), None) for line in lines[1:])]


# repetition -------------------------------------------------------------------------------------------------------

small = st.integers(-60, 60)


def counted(numbers: list[int]) -> list[int] | None:
    """The model of ~SEQ: its values, None when it is refused."""
    match numbers:
        case [end]:
            start, step = (1, -1 if end == 0 else 1) if end >= 0 else (-1, -1)
        case [start, end]:
            step = 1 if end >= start else -1
        case [start, step, end]:
            if step == 0 or (end > start and step < 0) or (end < start and step > 0):
                return None
    values, value = [], start
    while (value <= end) if step > 0 else (value >= end):
        values.append(value)
        value += step
    return values


def in_base(number: int, base: str) -> str:
    return ("-" if number < 0 else "") + {"d": "", "x": "0x", "o": "0"}[base] + format(abs(number), base)


@given(st.lists(small, min_size=1, max_size=3), st.sampled_from("dxo"), st.booleans())
@example([0], "d", False)
@example([5, -3, -4], "d", False)
def test_sequences_count(numbers: list[int], base: str, hexadecimal: bool) -> None:
    written_numbers = ", ".join(in_base(number, base) for number in numbers)
    found, problems = read(f"~SEQ{'x' if hexadecimal else ''}(i, {written_numbers}) v $i\n")
    values = counted(numbers)
    if values is None or (hexadecimal and min(numbers[0], numbers[-1]) < 0):
        assert (found, ids(problems)) == ([], ["bad-repetition"])
    else:
        assert found == [(("v", format(value, "x" if hexadecimal else "d")), None) for value in values]
        assert ids(problems) == []


items = st.text("abz019._-", max_size=4)


@given(st.integers(1, 3).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.lists(items, min_size=1, max_size=4)))))
def test_lists_give_their_sets(case: tuple[int, list[list[str]]]) -> None:
    width, rounds = case
    assume(len(rounds) > 0)
    variables = ["p", "q", "r"][:width]
    sets = ", ".join("{" + ",".join(values) + "}" for values in rounds)
    used = " ".join(f'"${{{name}}}"' for name in variables)
    found, problems = read(f"~LST({{{','.join(variables)}}}, {sets}) v {used}\n")
    if any(len(values) > width for values in rounds):
        assert (found, ids(problems)) == ([], ["bad-repetition"])
    else:
        assert found == [(("v", *values, *[""] * (width - len(values))), None) for values in rounds]

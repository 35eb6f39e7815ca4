"""Names of iproute2's files: built in, from /usr, from /etc."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepalived_py.config.iproute_names import Kind, Names, OptionWords
from keepalived_py.config.schema import Bad


@pytest.fixture
def usr(tmp_path: Path) -> Path:
    (tmp_path / "usr").mkdir()
    return tmp_path / "usr"


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    return tmp_path / "etc"


@pytest.fixture
def names(usr: Path, etc: Path) -> Names:
    return Names((usr,), etc)


def refusal(names: Names, kind: Kind, text: str) -> tuple[str, int]:
    with pytest.raises(Bad) as caught:
        names.number(kind, text, 7)
    return caught.value.id, caught.value.index


@pytest.mark.parametrize(
    ("kind", "text", "number"),
    [
        ("table", "main", 254),
        ("table", "local", 255),
        ("table", "default", 253),
        ("scope", "global", 0),
        ("scope", "link", 253),
        ("scope", "host", 254),
        ("protocol", "keepalived", 18),
        ("protocol", "static", 4),
        ("protocol", "bgp", 186),
        ("realm", "cosmos", 0),
        ("dsfield", "default", 0),
        ("dsfield", "AF11", 0x28),
        ("dsfield", "AF43", 0x98),
        ("dsfield", "CS7", 0xE0),
        ("dsfield", "EF", 0xB8),
        ("group", "default", 0),
    ],
)
def test_built_in_names(names: Names, kind: Kind, text: str, number: int) -> None:
    assert names.number(kind, text, 1) == number


@pytest.mark.parametrize(
    ("kind", "largest"),
    [
        ("table", 2**32 - 1),
        ("scope", 255),
        ("protocol", 255),
        ("realm", 65535),
        ("dsfield", 255),
        ("group", 2**32 - 1),
    ],
)
def test_numbers_of_any_base_up_to_the_largest(names: Names, kind: Kind, largest: int) -> None:
    assert names.number(kind, "0", 1) == 0
    assert names.number(kind, "010", 1) == 8
    assert names.number(kind, str(largest), 1) == largest
    assert names.number(kind, hex(largest), 1) == largest
    assert refusal(names, kind, str(largest + 1)) == ("out-of-range", 7)


def test_other_words_are_unknown(names: Names) -> None:
    assert refusal(names, "table", "office") == ("unknown-name", 7)
    assert refusal(names, "table", "-1") == ("unknown-name", 7)
    assert refusal(names, "table", "") == ("unknown-name", 7)
    assert refusal(names, "table", "12x") == ("junk-after-number", 7)


def test_a_near_name_is_proposed(names: Names) -> None:
    with pytest.raises(Bad) as caught:
        names.number("protocol", "keepalive", 1)
    assert "'keepalived'" in caught.value.hint


def test_etc_overrides_usr_and_usr_what_is_built_in(names: Names, usr: Path, etc: Path) -> None:
    (usr / "rt_tables").write_text("100 office\n101 lab\n1254 main\n")
    (etc / "rt_tables").write_text("# ours\n0xc8\toffice # moved\n")
    assert [names.number("table", name, 1) for name in ("office", "lab", "main", "local")] == [200, 101, 1254, 255]


def test_files_of_the_directory_beside(names: Names, usr: Path, etc: Path) -> None:
    for directory, number in ((usr, 10), (etc, 20)):
        (directory / "rt_protos.d").mkdir()
        (directory / "rt_protos.d" / "a.conf").write_text(f"{number} mine\n")
    (etc / "rt_protos.d" / "README").write_text("30 mine\n")
    assert names.number("protocol", "mine", 1) == 20


def test_malformed_lines_are_passed_over(names: Names, etc: Path) -> None:
    (etc / "rt_scopes").write_bytes(b"\xff\xfe\n10\nx y\n300 far\n1 2 3\n11 near\n")
    assert names.number("scope", "near", 1) == 11
    assert refusal(names, "scope", "far") == ("unknown-name", 7)
    assert refusal(names, "scope", "y") == ("unknown-name", 7)


def test_directories_in_place_of_files_are_no_error(names: Names, etc: Path) -> None:
    (etc / "group").mkdir()
    assert names.number("group", "default", 1) == 0


def test_missing_directories_are_no_error(tmp_path: Path) -> None:
    assert Names((tmp_path / "none",), tmp_path / "neither").number("table", "main", 1) == 254


def test_a_file_is_read_when_first_needed_and_only_once(usr: Path, etc: Path) -> None:
    names = Names((usr,), etc)
    (etc / "rt_tables").write_text("100 office\n")
    assert names.number("table", "office", 1) == 100
    (etc / "rt_tables").write_text("200 office\n")
    (etc / "rt_realms").write_text("5 campus\n")
    assert names.number("table", "office", 1) == 100
    assert names.number("realm", "campus", 1) == 5


def test_realms(names: Names, etc: Path) -> None:
    (etc / "rt_realms").write_text("5 campus\n6 world\n")
    assert names.realms("campus", 1) == 5
    assert names.realms("campus/world", 1) == 5 << 16 | 6
    assert names.realms("1/0x10", 1) == 1 << 16 | 16
    for text in ("campus/", "/campus", "mars", "1/65536"):
        with pytest.raises(Bad):
            names.realms(text, 1)


def test_option_words_name_what_is_missing_or_repeated() -> None:
    line = OptionWords(("dev", "a", "oif"))
    assert line.take() == ("dev", 0)
    line.once("dev", "dev", 0)
    assert line.value("dev") == ("a", 1)
    assert not line.skip("lock")
    assert line.take() == ("oif", 2)
    with pytest.raises(Bad, match="already given by 'dev'") as repeated:
        line.once("dev", "oif", 2)
    assert (repeated.value.id, repeated.value.index) == ("repeated-option", 2)
    with pytest.raises(Bad) as missing:
        line.value("oif")
    assert (missing.value.id, missing.value.index) == ("missing-value", 3)
    assert line.peek() == ""

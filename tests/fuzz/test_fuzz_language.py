"""The reading chain keeps its promises for many texts, and the fuzzer would notice if it did not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from keepalived_py.config.load import LoadOptions, LoadResult, load
from keepalived_py.config.problems import Location, Problems, Severity
from tests.fuzz import fuzz_language
from tests.fuzz.fuzz_language import PACKAGE, SAMPLES, Coverage, Fuzzer
from tests.fuzz.oracles import Examiner, Loader
from tests.fuzz.seeds import NASTY, SEEDS, filled, sections, seeds

RUNS, SECONDS = 2000, 60.0
MARK = "planted"


def test_no_text_breaks_a_promise(tmp_path: Path) -> None:
    fuzzer = Fuzzer(Examiner(tmp_path), Coverage(PACKAGE), Random(1))
    fuzzer.seed(seeds(SAMPLES))
    fuzzer.run(RUNS, SECONDS)
    told = [f"{each.finding.key}\n{each.finding.detail}\n{each.data[:300]!r}" for each in fuzzer.found.values()]
    assert not told, "\n\n".join([f"{len(told)} findings; seed 1, {fuzzer.done} runs", *told])
    assert len(fuzzer.kept) > len(SEEDS) + 20, "inputs that reach more are kept"


@pytest.mark.parametrize("words", NASTY)
def test_every_keyword_takes_any_words(tmp_path: Path, words: str) -> None:
    examiner = Examiner(tmp_path)
    texts = [filled(section, words).encode("utf-8", "surrogateescape") for section in sections()]
    found = [finding for finding in map(examiner.examine, texts) if finding is not None]
    assert not found, "\n".join(f"{each.key}\n{each.detail}" for each in found)


# planted defects --------------------------------------------------------------------------------------------------


def marked(name: str) -> bool:
    return MARK in Path(name).read_text("utf-8", "surrogateescape")


def raising(name: str, options: LoadOptions) -> LoadResult:
    if marked(name):
        raise LookupError(MARK)
    return load(name, options)


def hanging(name: str, options: LoadOptions) -> LoadResult:
    planted = marked(name)
    while planted:
        pass
    return load(name, options)


def stubborn(name: str, options: LoadOptions) -> LoadResult:
    """Hangs and swallows every exception but TooSlow."""
    planted = marked(name)
    while planted:
        try:
            raise LookupError(MARK)
        except Exception:
            continue
    return load(name, options)


def greedy(name: str, options: LoadOptions) -> LoadResult:
    if marked(name):
        bytearray(300 << 20)
    return load(name, options)


def escaping(name: str, options: LoadOptions) -> LoadResult:
    result = load(name, options)
    return replace(result, files=[*result.files, "/etc/hostname"]) if marked(name) else result


def misplacing(name: str, options: LoadOptions) -> LoadResult:
    result = load(name, options)
    return replace(result, places={MARK: Location(name, 99)}) if marked(name) else result


def changing() -> Loader:
    """A loader that tells how often it ran."""
    count = 0

    def loader(name: str, options: LoadOptions) -> LoadResult:
        nonlocal count
        count += 1
        result = load(name, options)
        if marked(name):
            result.problems.add(MARK, Severity.NOTE, str(count), Location(name, 2, 1, LINE))
        return result

    return loader


def reporting(at: Callable[[str], Location | None], hint: str = "") -> Loader:
    """A loader whose problem is at the given place."""

    def loader(name: str, options: LoadOptions) -> LoadResult:
        result = load(name, options)
        if marked(name):
            result.problems.add(MARK, Severity.NOTE, MARK, at(name), hint)
        return result

    return loader


LINE = f"# {MARK}"
PLANTED: dict[str, tuple[Loader, str]] = {
    "raises": (raising, "raised LookupError in"),
    "hangs": (hanging, "slow"),
    "hangs and catches": (stubborn, "slow"),
    "takes memory": (greedy, "memory"),
    "reads elsewhere": (escaping, "escaped"),
    "tells its runs": (changing(), "two loads differ"),
    "instance elsewhere": (misplacing, "line outside the file"),
    "no place": (reporting(lambda name: None), "no place"),
    "other file": (reporting(lambda name: Location("/etc/hostname", 1)), "place in a file that was not read"),
    "line 0": (reporting(lambda name: Location(name, 0)), "line outside the file"),
    "line behind": (reporting(lambda name: Location(name, 4)), "line outside the file"),
    "other line": (reporting(lambda name: Location(name, 1, 1, "b")), "text of another line"),
    "column behind": (reporting(lambda name: Location(name, 2, len(LINE) + 2, LINE)), "column outside the line"),
    "column below": (reporting(lambda name: Location(name, 2, -1, LINE)), "column outside the line"),
    "width behind": (reporting(lambda name: Location(name, 2, 3, LINE, len(LINE))), "width outside the line"),
    "no width": (reporting(lambda name: Location(name, 2, 3, LINE, 0)), "width outside the line"),
    "lone surrogate": (
        reporting(lambda name: Location(name, 2, 3, LINE), "\ud800"),
        "output raised UnicodeEncodeError",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_defect_is_found(tmp_path: Path, name: str) -> None:
    loader, key = PLANTED[name]
    examiner = Examiner(tmp_path, loader, cpu=0.3)
    assert examiner.examine(b"global_defs {\n# fine\n}\n") is None
    finding = examiner.examine(f"global_defs {{\n{LINE}\n}}\n".encode())
    assert finding is not None
    assert finding.key.startswith(key)


@pytest.mark.parametrize("column", [0, 1, len(LINE) + 1])
def test_places_in_the_line_and_just_behind_it_are_fine(tmp_path: Path, column: int) -> None:
    examiner = Examiner(tmp_path, reporting(lambda name: Location(name, 2, column, LINE)))
    assert examiner.examine(f"global_defs {{\n{LINE}\n}}\n".encode()) is None


# guidance ---------------------------------------------------------------------------------------------------------


def rare(name: str, options: LoadOptions) -> LoadResult:
    """Raises for four tokens in one text: hopeless to meet at once, easy one after the other."""
    text = Path(name).read_bytes()
    if b"~LST(" in text:
        text += b"1"
        if b"vrrp_script" in text:
            text += b"2"
            if b"@^me" in text:
                text += b"3"
                if b"fe80::1" in text:
                    raise LookupError(MARK)
    return LoadResult(config=None, problems=Problems(), files=[name])


def campaign(directory: Path, seed: int, *, guided: bool, runs: int = 20_000) -> Fuzzer:
    fuzzer = Fuzzer(Examiner(directory, rare), Coverage(__file__), Random(seed), guided)
    fuzzer.seed([b"x\n"])
    while fuzzer.done < runs and not fuzzer.found:
        fuzzer.run(fuzzer.done + 100)
    return fuzzer


@pytest.mark.parametrize("seed", [1, 2])
def test_guidance_leads_to_a_rare_token(tmp_path: Path, seed: int) -> None:
    guided = campaign(tmp_path, seed, guided=True)
    assert [key.split(" in ")[0] for key in guided.found] == ["raised LookupError"]
    assert not campaign(tmp_path, seed, guided=False, runs=2 * guided.done).found, "guidance makes the difference"


# the program ------------------------------------------------------------------------------------------------------


def test_same_seed_same_inputs(tmp_path: Path) -> None:
    def kept(seed: int) -> list[bytes]:
        fuzzer = Fuzzer(Examiner(tmp_path), Coverage(PACKAGE), Random(seed))
        fuzzer.seed([b"global_defs {\n}\n"])
        fuzzer.run(60)
        return fuzzer.kept

    assert kept(1) == kept(1)
    assert kept(1) != kept(2)


def test_a_long_run_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_language, "MAX_EVENTS", 50)
    coverage = Coverage(PACKAGE)
    assert Examiner(tmp_path).examine(b"x\n" * 100, coverage.tracing()) is None
    assert coverage.arcs
    assert not coverage.grown


def test_the_program_names_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(fuzz_language, "seeds", lambda folder: [b"a\n" * 9 + MARK.encode() + b"\nb\n"])
    monkeypatch.setattr(fuzz_language, "Examiner", lambda directory: Examiner(directory, raising))
    assert fuzz_language.main(["--runs", "0", "--seed", "7"]) == 1
    output = capsys.readouterr().out
    (file,) = tmp_path.glob("fuzz-findings-*/*")
    assert file.read_bytes() == MARK.encode() + b"\n", "only the line at fault is left"
    assert str(file) in output
    assert "--seed 7" in output
    monkeypatch.setattr(fuzz_language, "seeds", lambda folder: [])
    assert fuzz_language.main(["--runs", "0", "--corpus", str(file.parent)]) == 1, "the directory repeats it"
    assert fuzz_language.main(["--runs", "0"]) == 0


def test_the_program_adds_to_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_language, "seeds", lambda folder: [b"x\n"])
    monkeypatch.setattr(fuzz_language, "Examiner", lambda directory: Examiner(directory, rare))
    monkeypatch.setattr(fuzz_language, "PACKAGE", __file__)
    corpus = tmp_path / "corpus"
    assert fuzz_language.main(["--runs", "300", "--seconds", "30", "--corpus", str(corpus)]) == 0
    assert any(b"~LST(" in path.read_bytes() for path in corpus.iterdir())


@pytest.mark.parametrize("pattern", ["{0}/*.conf", "../outside/*.conf", "sub/../../outside/[b].conf", "${{X}}/b.conf"])
def test_includes_stay_inside(tmp_path: Path, pattern: str) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    (inside / "sub").mkdir(parents=True)
    (outside / "b.conf").write_text("x\n")
    text = f"$X={outside}\ninclude {pattern.format(outside)}\n".encode()
    (inside / "main.conf").write_bytes(text)
    read = [Path(name).resolve() for name in load(str(inside / "main.conf")).files]
    assert outside / "b.conf" in read, "the daemon itself reads it"
    assert Examiner(inside).examine(text) is None

"""The manual page: made from the tables, so it names every keyword and every finding."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from keepalived_py.config.findings import FINDINGS
from keepalived_py.config.keywords_root import ROOT
from keepalived_py.config.manual import page
from keepalived_py.config.schema import Section
from tests.conftest import REPOSITORY

DOCS = REPOSITORY / "docs"


def names(section: Section) -> set[str]:
    found = {keyword.name for keyword in section.keywords}
    for keyword in section.keywords:
        inner = keyword.block or keyword.contents
        found |= names(inner) if inner is not None else set()
    return found


def test_the_page_is_what_the_tables_say() -> None:
    made = page((DOCS / "keepalived-py.conf.5.prose.md").read_text())
    assert (DOCS / "keepalived-py.conf.5.md").read_text() == made, "run: make docs"


def test_every_keyword_and_finding_is_in_the_page() -> None:
    text = (DOCS / "keepalived-py.conf.5.md").read_text()
    assert {name for name in names(ROOT) if f"**{name}**" not in text} == set()
    assert {id for id in FINDINGS if f"**{id}**" not in text} == set()


def test_the_page_can_be_rendered() -> None:
    if shutil.which("go-md2man") is None:
        pytest.skip("go-md2man is not installed")
    source = (DOCS / "keepalived-py.conf.5.md").read_bytes()
    made = subprocess.run(["go-md2man"], input=source, capture_output=True, check=True).stdout.decode()
    assert '.TH "KEEPALIVED-PY.CONF" "5"' in made or ".TH KEEPALIVED-PY.CONF 5" in made
    assert made.count(".TP") > 700

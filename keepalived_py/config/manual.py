"""The manual page of the configuration: hand-written prose, and the tables that the reader itself works by.

`python -m keepalived_py.config.manual PROSE` writes the page. A line `@@keywords@@` of the prose becomes all blocks
with their keywords, `@@findings@@` all identifiers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from .findings import GROUPS
from .keywords_root import ROOT
from .schema import Keyword, Section


def page(prose: str) -> str:
    """Markdown: `prose` with its marks replaced."""
    parts = {"@@keywords@@": keywords, "@@findings@@": findings}
    lines: list[str] = []
    for text in prose.splitlines():
        lines.extend(parts[text]() if text in parts else (text,))
    return "\n".join(lines) + "\n"


def keywords() -> Iterator[str]:
    """Every block once, in the order of the root's table; blocks below a block follow it."""
    done: set[str] = set()
    yield from _section("Root level", ROOT, done)


def _section(title: str, section: Section, done: set[str]) -> Iterator[str]:
    done.add(title)
    yield from (f"## {title}", "")
    for keyword in section.keywords:
        yield from _keyword(keyword)
    for keyword in section.keywords:
        inner = keyword.block or keyword.contents
        name = keyword.name if title == "Root level" else f"{title} / {keyword.name}"
        if inner is not None and not keyword.alias_of and name not in done:
            yield from _section(name, inner, done)


def _keyword(keyword: Keyword) -> Iterator[str]:
    """A definition list entry: how it is written, and what it does."""
    usage = f"**{keyword.name}**" + (f" `{keyword.arguments}`" if keyword.arguments else "")
    facts = []
    if keyword.alias_of:
        facts.append(f"deprecated, write {keyword.alias_of}" if keyword.deprecated is not None else "")
    facts.append(f"default: {keyword.default}" if keyword.default else "")
    facts.append(f"range: {keyword.range}" if keyword.range else "")
    facts.append("only the first one counts" if keyword.once else "")
    facts.append("not a keyword of keepalived" if keyword.ours else "")
    facts.append("no effect yet" if keyword.pending else "")
    shown = "; ".join(fact for fact in facts if fact)
    yield usage
    yield f": {keyword.text}" + (f" ({shown})" if shown else "")
    yield ""


def findings() -> Iterator[str]:
    for title, group in GROUPS:
        yield from (f"## {title}", "")
        for id, text in group.items():
            yield from (f"**{id}**", f": {text}", "")


def main() -> None:
    sys.stdout.write(page(Path(sys.argv[1]).read_text()))


if __name__ == "__main__":
    main()

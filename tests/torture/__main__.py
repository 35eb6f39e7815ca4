"""`make torture`: every story, or ONLY those whose name has the words; a table, and files below torture-results.

In a User-Mode Linux guest those that need a kernel of their own, elsewhere the others.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.netns.rig import OURS, THEIRS, why_not
from tests.torture.all import STORIES
from tests.torture.arena import Verdict
from tests.torture.story import Story

RESULTS = Path("torture-results")
GUEST = "UML_GUEST"


def show(told: list[tuple[Story, dict[str, Verdict]]], console: Console) -> None:
    table = Table(title="what was seen; NOT: what should have held")
    for column in ("story", "ours", "keepalived"):
        table.add_column(column)
    for each, verdicts in told:
        words = [str(verdicts[program]) if program in verdicts else "-" for program in (OURS, THEIRS)]
        table.add_row(f"{each.name}\n[dim]{each.what}[/dim]", *words)
    console.print(table)


def main() -> int:
    reason = why_not() or ("" if shutil.which(THEIRS) else "Debian's keepalived is not installed")
    if reason:
        print(f"The stories cannot be told here: {reason}.", file=sys.stderr)
        return 1
    only = os.environ.get("ONLY", "")
    programs = os.environ.get("PROGRAMS", f"{OURS} {THEIRS}").split()
    guest = bool(os.environ.get(GUEST))
    chosen = [each for each in STORIES if only in each.name and each.guest == guest]
    if not chosen:
        print(f"No story has '{only}' in its name here: {', '.join(each.name for each in STORIES)}.", file=sys.stderr)
        return 0
    console = Console(width=160) if guest or not sys.stdout.isatty() else Console()
    told: list[tuple[Story, dict[str, Verdict]]] = []
    for each in chosen:
        verdicts: dict[str, Verdict] = {}
        for program in (program for program in each.programs if program in programs):
            started = time.monotonic()
            verdicts[program] = each.run(program)
            took = time.monotonic() - started
            console.print(f"{each.name}: {program}: {verdicts[program]} ({took:.0f} s)", style="dim", markup=False)
        told.append((each, verdicts))
    show(told, console)
    RESULTS.mkdir(exist_ok=True)
    rows = [
        {"story": each.name, "what": each.what, **{program: str(verdict) for program, verdict in verdicts.items()}}
        for each, verdicts in told
    ]
    document = {"when": time.strftime("%FT%TZ", time.gmtime()), "stories": rows}
    (RESULTS / ("guest.json" if guest else "latest.json")).write_text(json.dumps(document, indent=1))
    failed = [each.name for each, verdicts in told if OURS in verdicts and verdicts[OURS].broken]
    console.print(f"{len(told)} stories, ours failed in {len(failed)}: {', '.join(failed) or 'none'}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())

"""`make bench`: every bench, or ONLY one; a table on the terminal and bench-results/latest.json."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench import checks, config, guest, reload, vrrp, vrrp_load
from tests.bench.frame import Row, machine, run
from tests.netns.rig import OURS, THEIRS, why_not

BENCHES = (*config.BENCHES, *vrrp.BENCHES, *vrrp_load.BENCHES, *reload.BENCHES, *checks.BENCHES, *guest.BENCHES)
RESULTS = Path("bench-results")


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def show(rows: list[Row], console: Console) -> None:
    table = Table(title="ours beside Debian's keepalived; ratio below 1 is better")
    for column in ("figure", "unit", "ours", "p99", "worst", "keepalived", "p99", "worst", "ratio"):
        table.add_column(column, justify="left" if column in ("figure", "unit") else "right")
    for row in rows:
        values = [number(read(program)) for program in (OURS, THEIRS) for read in (row.median, row.p99, row.worst)]
        table.add_row(row.name, row.unit, *values, number(row.ratio))
    console.print(table)


def main() -> int:
    reason = why_not() or ("" if shutil.which(THEIRS) else "Debian's keepalived is not installed")
    if reason:
        print(f"The benchmarks cannot run here: {reason}.", file=sys.stderr)
        return 1
    only, quick = os.environ.get("ONLY", ""), bool(os.environ.get("QUICK"))
    chosen = [bench for bench in BENCHES if only in ("", bench.name)]
    if not chosen:
        print(f"No bench is called {only}; there are {', '.join(bench.name for bench in BENCHES)}.", file=sys.stderr)
        return 1
    console = Console(width=140 if not sys.stdout.isatty() else None)
    rows: list[Row] = []
    for bench in chosen:
        sizes = bench.sizes[:2] if quick else bench.sizes
        rows += run(
            bench, runs=2 if quick else bench.runs, sizes=sizes, say=lambda text: console.print(text, style="dim")
        )
    show(rows, console)
    RESULTS.mkdir(exist_ok=True)
    document = {
        "when": time.strftime("%FT%TZ", time.gmtime()),
        "machine": machine(),
        "rows": [r.as_json() for r in rows],
    }
    (RESULTS / "latest.json").write_text(json.dumps(document, indent=1))
    console.print(f"{machine()}\nwritten to {RESULTS / 'latest.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

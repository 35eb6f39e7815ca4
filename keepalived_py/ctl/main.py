"""keepalivedctl: tools for files. `lint FILE` says what is wrong, `plan OLD NEW` what a reload would do."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.console import Console

from keepalived_py.config.diff import Diff, diff_config, diff_real_servers
from keepalived_py.config.load import LoadOptions, LoadResult, load
from keepalived_py.config.model import Config


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `keepalivedctl`; the exit code."""
    parser = argparse.ArgumentParser(prog="keepalivedctl", description="Tools for keepalived configuration files.")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    lint = verbs.add_parser("lint", help="say what is wrong with a file")
    lint.add_argument("file")
    lint.add_argument("--json", action="store_true", help="for machines")
    lint.add_argument("--strict", action="store_true", help="warnings count as failure")
    lint.set_defaults(run=_lint)
    plan = verbs.add_parser("plan", help="say what a reload from one file to another would do")
    plan.add_argument("old")
    plan.add_argument("new")
    plan.set_defaults(run=_plan)
    for verb in (lint, plan):
        verb.add_argument("--config-id", default="", help="what @ID lines are compared with")
    args = parser.parse_args(argv)
    return int(args.run(args))


def _load(file: str, args: argparse.Namespace) -> LoadResult:
    return load(file, LoadOptions(config_id=args.config_id))


def _lint(args: argparse.Namespace) -> int:
    problems = _load(args.file, args).problems
    if args.json:
        json.dump([problem.as_json() for problem in problems], sys.stdout, indent=1)
        print()
    else:
        for problem in problems:
            print(problem.render())
    return problems.exit_status(strict=args.strict)


def _plan(args: argparse.Namespace) -> int:
    loaded = [_load(file, args) for file in (args.old, args.new)]
    for result in loaded:
        if result.config is None:
            for problem in result.problems:
                print(problem.render(), file=sys.stderr)
            return result.problems.exit_status()
    old, new = (result.config for result in loaded)
    assert old is not None
    assert new is not None
    console = Console(highlight=False, soft_wrap=True)
    for line in plan_lines(old, new):
        console.print(line, markup=False)
    return 0


def plan_lines(old: Config, new: Config) -> list[str]:
    """What a reload would do, object by object, and how much it would leave alone."""
    changes = diff_config(old, new)
    lines = ["global_defs change"] if changes.global_defs else []
    lines += _section("vrrp_instance", changes.instances, lambda each: each.name)
    lines += _section("vrrp_sync_group", changes.sync_groups, lambda each: each.name)
    lines += _section("vrrp_script", changes.scripts, lambda each: each.name)
    lines += _section("virtual_server", changes.virtual_servers, lambda each: str(each.key))
    for before, after in changes.virtual_servers.changed:
        reals = diff_real_servers(before, after)
        lines += [f"  {line}" for line in _section("real_server", reals, lambda each: str(each.key))]
    return lines or ["nothing changes"]


def _section(kind: str, diff: Diff[Any], name: Callable[[Any], str]) -> Iterable[str]:
    lines = [f"- {kind} {name(each)}" for each in diff.removed]
    lines += [f"+ {kind} {name(each)}" for each in diff.added]
    for before, after in diff.changed:
        fields = [field for field in before.__slots__ if getattr(before, field) != getattr(after, field)]
        lines.append(f"~ {kind} {name(after)}: {', '.join(fields)}")
    if diff.kept:
        lines.append(f"= {len(diff.kept)} {kind} untouched")
    return lines


if __name__ == "__main__":
    sys.exit(main())

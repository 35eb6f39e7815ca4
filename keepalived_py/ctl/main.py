"""keepalivedctl: tools for files. `lint`: what is wrong; `plan`: what a reload would do; `dump`: what is understood."""

from __future__ import annotations

import argparse
import io
import json
import signal
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console

from keepalived_py.config.dump import dump
from keepalived_py.config.lint_pair import lint_pair
from keepalived_py.config.load import LoadOptions, LoadResult, load
from keepalived_py.config.problems import Problem, Severity
from keepalived_py.config.system import Machine, this_machine

from .plan import plan_lines

SPLIT = 5
"""Exit status when two files would split a virtual router."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `keepalivedctl`; the exit code."""
    if argv is None:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a pager may have seen enough
    parser = argparse.ArgumentParser(prog="keepalivedctl", description="Tools for keepalived configuration files.")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    lint = verbs.add_parser("lint", help="say what is wrong with a file, or with two routers' files together")
    lint.add_argument("file", nargs="?")
    lint.add_argument("--pair", nargs=2, metavar=("FILE", "FILE"), help="compare the files of two routers")
    lint.add_argument("--json", action="store_true", help="for machines")
    lint.add_argument("--strict", action="store_true", help="warnings count as failure")
    lint.add_argument("--elsewhere", action="store_true", help="the file is for another machine than this one")
    lint.set_defaults(run=_lint)
    plan = verbs.add_parser("plan", help="say what a reload from one file to another would do")
    plan.add_argument("old")
    plan.add_argument("new")
    plan.set_defaults(run=_plan)
    shown = verbs.add_parser("dump", help="write a file as it is understood, every default in place")
    shown.add_argument("file")
    shown.set_defaults(run=_dump)
    for verb in (lint, plan, shown):
        verb.add_argument("--config-id", default="", help="what @ID lines are compared with")
    args = parser.parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names in a file need not be UTF-8
    if args.run is _lint and (args.file is None) == (args.pair is None):
        parser.error("lint takes one file, or two behind --pair")
    return int(args.run(args))


def _load(file: str, args: argparse.Namespace, machine: Machine | None = None) -> LoadResult:
    options = LoadOptions(config_id=args.config_id, lint=machine is not None, machine=machine or Machine())
    return load(file, options)


def _print(problems: Iterable[Problem], as_json: bool) -> None:
    if as_json:
        json.dump([problem.as_json() for problem in problems], sys.stdout, indent=1)
        print()
        return
    for problem in problems:
        print(problem.render())


def _lint(args: argparse.Namespace) -> int:
    if args.pair:
        return _lint_pair(args)
    problems = _load(args.file, args, Machine() if args.elsewhere else this_machine()).problems
    _print(problems, args.json)
    return problems.exit_status(strict=args.strict)


def _usable(files: Iterable[str], args: argparse.Namespace) -> list[LoadResult] | int:
    """The files' configurations, or the exit status of the first that has none."""
    loaded = [_load(file, args) for file in files]
    for result in loaded:
        if result.config is None:
            for problem in result.problems:
                print(problem.render(), file=sys.stderr)
            return result.problems.exit_status()
    return loaded


def _lint_pair(args: argparse.Namespace) -> int:
    loaded = _usable(args.pair, args)
    if isinstance(loaded, int):
        return loaded
    found = lint_pair(*loaded)
    _print(found, args.json)
    worst = max((problem.severity for problem in found), default=Severity.NOTE)
    return SPLIT if worst > Severity.LINT or (args.strict and worst is Severity.LINT) else 0


def _plan(args: argparse.Namespace) -> int:
    loaded = _usable((args.old, args.new), args)
    if isinstance(loaded, int):
        return loaded
    old, new = (result.config for result in loaded)
    assert old is not None
    assert new is not None
    console = Console(highlight=False, soft_wrap=True)
    for line in plan_lines(old, new):
        console.print(line, markup=False)
    return 0


def _dump(args: argparse.Namespace) -> int:
    loaded = _usable((args.file,), args)
    if isinstance(loaded, int):
        return loaded
    assert loaded[0].config is not None
    sys.stdout.buffer.write(dump(loaded[0].config).encode("utf-8", "surrogateescape"))
    return 0


if __name__ == "__main__":
    sys.exit(main())

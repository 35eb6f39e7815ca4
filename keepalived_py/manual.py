"""What is written from the table of options: the manual page keepalived-py(8) and the words of the bash completion.

`python -m keepalived_py.manual page PROSE` writes the page: prose with its marks `@@options@@` and `@@genhash@@`
replaced. `python -m keepalived_py.manual completion FILE` writes FILE with the lines between its marks replaced.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from .options import OPTIONS, Arg, Option

BEGIN, END = "    # written by make docs: begin", "    # written by make docs: end"
WIDTH = 110


def page(prose: str, genhash: argparse.ArgumentParser) -> str:
    """Markdown."""
    lines: list[str] = []
    for text in prose.splitlines():
        if text == "@@options@@":
            lines += (line for option in OPTIONS for line in _entry(option))
        elif text == "@@genhash@@":
            lines += _genhash(genhash)
        else:
            lines.append(text)
    return "\n".join(lines) + "\n"


def _entry(option: Option) -> Iterator[str]:
    """A definition list entry, in the way the value is attached."""
    value = f"`{option.value}`"
    short = f"**-{option.short}**" if option.short else ""
    long = f"**--{option.long}**"
    if option.arg is Arg.REQUIRED:
        short, long = short and f"{short} {value}", f"{long}={value}"
    elif option.arg is Arg.OPTIONAL:
        short, long = short and f"{short}[{value}]", f"{long}[={value}]"
    yield ", ".join(filter(None, (short, long)))
    yield f": {option.text}"
    yield ""


def _genhash(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        value = f" `{action.metavar or '|'.join(action.choices or ())}`" if action.nargs != 0 else ""
        yield ", ".join(f"**{name}**" for name in action.option_strings) + value
        yield f": {action.help}" + (" (required)" if action.required else "")
        yield ""


def completion(text: str) -> str:
    """The completion file with the table's options. Raises ValueError when the marks are missing."""
    lines = text.splitlines()
    first, last = lines.index(BEGIN), lines.index(END)
    return "\n".join([*lines[: first + 1], *_lists(), *lines[last:]]) + "\n"


def _lists() -> Iterator[str]:
    yield from _list("plain", (f"--{option.long}" for option in OPTIONS if option.arg is Arg.NONE))
    yield from _list("optional", (f"--{option.long}" for option in OPTIONS if option.arg is Arg.OPTIONAL))
    yield from _list("required", (name for option in OPTIONS if option.arg is Arg.REQUIRED for name in _names(option)))
    yield from _list("files", (name for option in OPTIONS if option.value == "FILE" for name in _names(option)))


def _names(option: Option) -> list[str]:
    return [f"--{option.long}", *([f"-{option.short}"] if option.short else [])]


def _list(name: str, words: Iterable[str]) -> Iterator[str]:
    """A shell variable over as many lines as it needs."""
    line = f'    local {name}="'
    for word in words:
        if len(line) + len(word) > WIDTH:
            yield line.rstrip()
            line = "        "
        line += word + " "
    yield line.rstrip() + '"'


def main() -> None:
    kind, path = sys.argv[1:]
    text = Path(path).read_text()
    if kind == "completion":
        sys.stdout.write(completion(text))
    else:
        from .genhash import parser

        sys.stdout.write(page(text, parser()))


if __name__ == "__main__":
    main()

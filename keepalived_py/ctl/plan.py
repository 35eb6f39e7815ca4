"""What a reload from one configuration to another would do, as lines for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from keepalived_py.config.diff import Diff, diff_config, diff_real_servers, unchangeable
from keepalived_py.config.model import Config, VirtualServer

MAX_SHOWN = 8
"""Parts of one changed list that are named."""


def plan_lines(old: Config, new: Config) -> list[str]:
    """Object by object: - removed, + added, ~ changed in place with what changes, = left alone."""
    refused = [f"! {keyword} cannot change on a reload: it would be refused" for keyword in unchangeable(old, new)]
    if refused:
        return refused
    changes = diff_config(old, new)
    lines = [f"~ global_defs: {text}" for text in changed_fields(old.global_defs, new.global_defs)]
    lines += ["~ SSL"] if changes.ssl else []
    for kind, diff in changes.kinds:
        lines += _section(kind.keyword, diff, kind.name)
    return lines or ["nothing changes"]


def _section(keyword: str, diff: Diff[Any], name: Callable[[Any], str]) -> Iterator[str]:
    yield from (f"- {keyword} {name(each)}" for each in diff.removed)
    yield from (f"+ {keyword} {name(each)}" for each in diff.added)
    for before, after in diff.changed:
        shown = [text for text in changed_fields(before, after) if not text.startswith("real_servers")]
        yield f"~ {keyword} {name(after)}" + (f": {', '.join(shown)}" if shown else "")
        if isinstance(before, VirtualServer):
            reals = diff_real_servers(before, after)
            yield from (f"  {line}" for line in _section("real_server", reals, lambda real: str(real.key)))
    if diff.kept:
        yield f"= {len(diff.kept)} {keyword} untouched"


def changed_fields(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """The fields that differ, each with what it was and what it becomes."""
    for each in fields(before):
        one, other = getattr(before, each.name), getattr(after, each.name)
        name = f"{path}{each.name}"
        if one == other:
            continue
        if isinstance(one, tuple) and isinstance(other, tuple):
            yield f"{name} {_parts(one, other)}"
        elif is_dataclass(one) and type(one) is type(other) and not _has_text(one):
            yield from changed_fields(one, other, f"{name}.")
        else:
            yield f"{name} {_text(one)} -> {_text(other)}"


def _parts(one: tuple[Any, ...], other: tuple[Any, ...]) -> str:
    texts = [f"-{_text(part)}" for part in one if part not in other]
    texts += [f"+{_text(part)}" for part in other if part not in one]
    more = f" and {len(texts) - MAX_SHOWN} more" if len(texts) > MAX_SHOWN else ""
    return (" ".join(texts[:MAX_SHOWN]) + more) or "in another order"


def _has_text(value: Any) -> bool:
    """Whether a class says itself how it is written."""
    return "__str__" in type(value).__dict__


def _text(value: Any) -> str:
    if is_dataclass(value) and not isinstance(value, type) and not _has_text(value):
        name = getattr(value, "name", None) or getattr(value, "path", None) or getattr(value, "address", None)
        return f"{type(value).__name__}({name})" if name else type(value).__name__
    if isinstance(value, bytes):
        return "(secret)"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value) or '""'

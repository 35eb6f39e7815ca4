"""A story: a small program that can fail, told of ours and of Debian's keepalived."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.netns.rig import OURS, THEIRS, Rig
from tests.torture.arena import Arena, Verdict

Tell = Callable[[Arena], None]
STORIES: list[Story] = []


@dataclass(frozen=True, slots=True)
class Story:
    """`quick` ones are told of ours in `make test`; `guest` ones in User-Mode Linux, where the kernel is their own."""

    name: str
    tell: Tell
    routers: int = 2
    interval: float = 0.2
    quick: bool = False
    programs: tuple[str, ...] = (OURS, THEIRS)
    guest: bool = False

    @property
    def what(self) -> str:
        return (self.tell.__doc__ or "").strip().splitlines()[0]

    def run(self, program: str) -> Verdict:
        """Raises nothing that the story could cause: it is in the verdict."""
        with Rig() as rig:
            arena = Arena(rig, program, self.routers, self.interval)
            try:
                self.tell(arena)
            except (AssertionError, RuntimeError, OSError, ValueError) as exc:
                arena.must(False, f"the story ends ({type(exc).__name__}: {str(exc)[:160]})")
            verdict = arena.finish()
            if verdict.broken and program == OURS:
                for name, daemon in arena.daemons.items():
                    print(f"--- {self.name}: {name}\n{daemon.log[-6000:]}")
            return verdict


def story(
    name: str,
    *,
    routers: int = 2,
    interval: float = 0.2,
    quick: bool = False,
    programs: tuple[str, ...] = (OURS, THEIRS),
    guest: bool = False,
) -> Callable[[Tell], Tell]:
    """Adds a story to the table."""

    def add(tell: Tell) -> Tell:
        STORIES.append(Story(name, tell, routers, interval, quick, programs, guest))
        return tell

    return add

"""Configurations: broken in many ways, and changed on one router after the other."""

from __future__ import annotations

import random
import re
import signal
import time
from pathlib import Path

from tests.netns.rig import OURS
from tests.torture.arena import VIP, Arena
from tests.torture.story import story

SAMPLES = Path("conf.d/samples")
WAYS = 300
"""Ways in which a configuration is broken; keepalived gets a tenth: it takes a second or more for each."""
NOISE = (
    "{",
    "}",
    '"',
    "\\",
    "!",
    "#",
    "300",
    "-1",
    "@",
    "$X",
    "include /nowhere",
    "\x00",
    "\xff",
    "vrrp_instance",
    "~SEQ(a,1)",
)


def broken(text: str, choice: random.Random) -> str:
    """Some words are gone, doubled, in another place, or others."""
    words = re.split(r"(\s+)", text)
    for _ in range(choice.randint(1, 4)):
        at = choice.randrange(len(words))
        match choice.randrange(5):
            case 0:
                del words[at]
            case 1:
                words.insert(at, choice.choice(NOISE))
            case 2:
                words[at] = choice.choice(words)
            case 3:
                words[at] = words[at][: len(words[at]) // 2]
            case _:
                del words[at : at + choice.randint(1, 20)]
        words = words or [""]
    return "".join(words)


@story("broken configurations")
def mistakes(arena: Arena) -> None:
    """Behind an instance comes a sample with mistakes by chance, three hundred times: the instance stays as it is."""
    arena.begin()
    daemon, choice = arena.daemons["one"], random.Random(11)
    samples = [path.read_text() for path in sorted(SAMPLES.glob("*.conf"))]
    good, done, verdicts = arena.config("one"), 0, (0, 0)
    for number in range(WAYS if arena.program == OURS else WAYS // 10):
        text = good + "\n" + broken(choice.choice(samples), choice)
        (daemon.directory / "conf").write_bytes(text.encode("utf-8", "surrogateescape"))
        arena.signal("one", signal.SIGHUP)
        if arena.program == OURS:
            done = number + 1
            arena.until(lambda done=done: _reloads(daemon.log) >= done, 20, f"reload {number} ends")  # type: ignore[misc]
        else:
            time.sleep(1.0)
        if arena.verdict.broken:
            arena.say(f"stopped at way {number}")
            break
    if arena.program == OURS:
        verdicts = daemon.log.count("the old configuration stays"), daemon.log.count("Reload complete")
        arena.say(f"{verdicts[0]} refused, {verdicts[1]} taken")
    daemon.rewrite(good)
    arena.signal("one", signal.SIGHUP)
    time.sleep(2.0)
    arena.must(arena.transitions() == 0, "no change of state")


def _reloads(log: str) -> int:
    return log.count("the old configuration stays") + log.count("Reload complete")


@story("rolling change of the addresses", quick=True)
def rolling(arena: Arena) -> None:
    """An address is added and one taken away on one router, then on the other, five times: no change of state."""
    arena.begin()
    wire = arena.lan.capture()
    for number in range(5):
        for name in ("two", "one"):
            text = arena.config(name).replace(f"{VIP}/24", f"{VIP}/24\n        10.0.0.{110 + number}/24")
            arena.daemons[name].rewrite(text)
            arena.signal(name, signal.SIGHUP)
            time.sleep(0.4)
    arena.must(arena.transitions() == 0, "no change of state")
    arena.until(lambda: arena.hosts["one"].has("10.0.0.114"), 3, "the last address is there")
    wire.close()
    arena.say(
        f"{arena.latest_advert(wire):.0f} ms late at most, {len(wire.announcements(VIP))} announcements of the rest"
    )

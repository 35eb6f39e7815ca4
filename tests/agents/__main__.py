"""`make agents`: `python -m tests.agents AGENTS_PYTHON STORY ...`, each with Debian's keepalived and with ours.

Ends with 1 when a statement of a story does not hold with ours, or with neither: then the story is wrong.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.netns.rig import OURS, THEIRS, Host, Rig, why_not

REPOSITORY = Path(__file__).parents[2]
PLACE = "/usr/sbin/keepalived"
PREPARE = f"""
mount --make-rprivate /
mkdir -p /usr/lib/systemd/system
mount -t tmpfs tmpfs /usr/lib/systemd/system
[ -z "$1" ] || mount --bind "$1" {PLACE}
shift
exec "$@"
"""
"""In a namespace for mounts: units that agents write stay here, and the program is where agents look for it."""
LIMIT = 180.0
"""Seconds for one story."""
PLUGS: dict[str, dict[str, tuple[str, ...]]] = {
    "router": {"ha0": ("169.254.192.8/18",), "qg0": ()},
    "amphora": {"eth1": ("10.9.0.1/24", "fd00:9::1/64")},
    "listener": {"eth1": ("10.0.0.2/24",)},
}
"""The interfaces of each story, on switches of their own."""


def play(python: str, story: str, program: str) -> dict[str, bool]:
    """The facts of a story with a program; its output goes to ours where it ends without any."""
    with Rig() as rig:
        host, other = rig.host("one"), rig.host("two")
        for number, (interface, addresses) in enumerate(PLUGS[story].items()):
            lan = rig.switch(f"lan{number}")
            host.plug(lan, interface, *addresses)
            other.plug(lan, interface, *(("10.0.0.99/24", "10.0.0.98/24") if story == "listener" else ()))
        directory = rig.directory / "agent"
        directory.mkdir()
        ours = str(Path(sys.executable).with_name(OURS)) if program == OURS else ""
        words = [python, "-W", "ignore", "-m", f"tests.agents.{story}", host.namespace, str(directory), other.namespace]
        try:
            done = subprocess.run(
                ["unshare", "-m", "sh", "-ec", PREPARE, "sh", ours, *words],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=LIMIT,
                check=False,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY), "HOSTNAME": "agent"},
            )
        finally:
            end_all(host)
        last = (done.stdout.splitlines() or [""])[-1]
        if done.returncode or not last.startswith("{"):
            print(done.stdout, file=sys.stderr)
            return {}
        found: dict[str, bool] = json.loads(last)
        return found


def end_all(host: Host) -> None:
    """What a story that broke off left in the namespace."""
    listed = subprocess.run(["ip", "netns", "pids", host.namespace], capture_output=True, text=True, check=False)
    for pid in listed.stdout.split():
        subprocess.run(["kill", "-KILL", pid], check=False, stderr=subprocess.DEVNULL)


def main() -> int:
    reason = why_not() or ("" if shutil.which(PLACE) else "Debian's keepalived is not installed")
    if reason:
        print(f"The agents cannot run here: {reason}.", file=sys.stderr)
        return 1
    python, *stories = sys.argv[1:]
    broken = 0
    for story in stories:
        seen = {}
        for program in (THEIRS, OURS):
            started = time.monotonic()
            seen[program] = play(python, story, program)
            took = time.monotonic() - started
            print(f"{story}: {program}: {len(seen[program])} statements, {took:.0f} s", flush=True)
        for name in dict.fromkeys([*seen[THEIRS], *seen[OURS]]):
            held = {program: facts.get(name, False) for program, facts in seen.items()}
            broken += not held[OURS]
            print(f"  {'yes' if held[THEIRS] else 'NO ':4} {'yes' if held[OURS] else 'NO ':4} {name}")
        broken += not seen[OURS]
    print(f"(keepalived, ours) {broken or 'none'} broken with ours")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())

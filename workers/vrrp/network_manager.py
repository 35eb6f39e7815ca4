"""NetworkManager is told to leave our interfaces alone, where there is one (vrrp-behaviour.md 13)."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import DEVNULL
from functools import cache

LIMIT = 5.0
"""Seconds that nmcli may take."""
TRIES, PAUSE = 3, 0.5
"""How often, and seconds between: it may not have heard of an interface yet."""


class NetworkManager:
    """One interface at a time; where it fails nothing else does."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._task: asyncio.Task[None] | None = None

    def leave(self, name: str) -> None:
        """Have the interface of that name left alone."""
        command = _command()
        if command is None:
            return
        self._names.append(name)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._tell(command))

    async def _tell(self, command: str) -> None:
        while self._names:
            name = self._names.pop(0)
            for _ in range(TRIES):
                if await _succeeds(command, "device", "set", name, "managed", "no"):
                    break
                await asyncio.sleep(PAUSE)


@cache
def _command() -> str | None:
    """Where nmcli is, if there is one. shutil would find it too, and costs a start 3 ms."""
    places = (os.path.join(directory, "nmcli") for directory in os.get_exec_path())
    return next((place for place in places if os.access(place, os.X_OK)), None)


async def _succeeds(*command: str) -> bool:
    process = None
    try:
        async with asyncio.timeout(LIMIT):
            process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
            return await process.wait() == 0
    except (OSError, TimeoutError):
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()
        return True  # it will not do better the next time

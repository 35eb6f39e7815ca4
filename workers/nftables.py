"""Rule sets for nft(8), which takes a text as a whole or not at all."""

from __future__ import annotations

import asyncio
import logging
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable

from keepalived_py import netns

logger = logging.getLogger(__name__)

LIMIT = 10.0
"""Seconds that nft may take."""
COMMAND = ("nft", "-f", "-")
FAMILIES = {4: "ip", 6: "ip6"}


def _entering(namespace: str) -> tuple[str, ...]:
    """nsenter(1), since the loop starts processes where its own thread is."""
    return "nsenter", f"--net={f'{netns.NAMES}/{namespace}' if namespace else netns.FIRST}"


def _nobody(_: int) -> None:
    """Hears who was started, and does nothing."""


async def load(text: str, without: str, namespace: str | None = None, started: Callable[[int], None] = _nobody) -> bool:
    """Have nft perform `text`; whether it did. `without` says in the log what is missing when it cannot be run,
    `started` hears the number of its process, which is the port of its socket too."""
    command = COMMAND if namespace is None else (*_entering(namespace), *COMMAND)
    process = None
    try:
        async with asyncio.timeout(LIMIT):
            process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=DEVNULL, stderr=PIPE)
            started(process.pid)
            _, said = await process.communicate(text.encode())
    except (OSError, TimeoutError) as exc:
        logger.error("nft cannot be run (%s): %s", exc or "no answer", without)
        return False
    finally:
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        logger.error("nft: %s", said.decode(errors="replace").partition("\n")[0] or process.returncode)
    return process.returncode == 0

"""What becomes of nft when nobody waits for it any more."""

from __future__ import annotations

import asyncio
import os

import pytest

from workers import nftables


def test_it_ends_with_whoever_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule set must not come after the one that takes it away."""
    monkeypatch.setattr(nftables, "COMMAND", ("sleep", "5"))

    async def main() -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        pid: asyncio.Future[int] = loop.create_future()
        load = asyncio.create_task(nftables.load("", "no filter", None, pid.set_result))
        pidfd = os.pidfd_open(await pid)
        loop.add_reader(pidfd, ended.set)
        load.cancel()
        try:
            await asyncio.wait_for(ended.wait(), 2)
            await asyncio.wait((load,))
        finally:
            loop.remove_reader(pidfd)
            os.close(pidfd)

    asyncio.run(main())

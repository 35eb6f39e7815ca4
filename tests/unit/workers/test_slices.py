"""The queue that cuts long work into pieces."""

from __future__ import annotations

import asyncio
from functools import partial

from workers.vrrp.slices import SliceQueue


def test_pieces_run_in_order_and_those_of_one_owner_can_be_dropped() -> None:
    ran: list[str] = []
    busy: list[bool] = []

    async def main() -> None:
        rested = asyncio.Event()

        def told(now: bool) -> None:
            busy.append(now)
            if not now:
                rested.set()

        queue = SliceQueue(told)
        for owner, piece in ("a", "1"), ("a", "2"), ("b", "3"), ("a", "4"), ("c", "5"):
            queue.add(owner, partial(ran.append, owner + piece))
        assert ran == ["a1"]
        queue.cancel("a")
        queue.cancel("nobody")
        queue.add("a", partial(ran.append, "a6"))
        await rested.wait()
        assert busy == [True, False]
        queue.add("b", partial(ran.append, "b7"))

    asyncio.run(main())
    assert ran == ["a1", "b3", "c5", "a6", "b7"]


def test_what_waits_at_the_end_is_done_at_once() -> None:
    ran: list[int] = []

    async def main() -> None:
        queue = SliceQueue(lambda busy: None)
        for number in range(4):
            queue.add(number, partial(ran.append, number))
        queue.cancel(2)
        queue.finish()
        assert ran == [0, 1, 3]

    asyncio.run(main())

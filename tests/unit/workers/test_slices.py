"""The queue that cuts long work into pieces."""

from __future__ import annotations

import asyncio
import socket
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


def test_what_arrives_meanwhile_comes_before_the_next_piece() -> None:
    ran: list[str] = []

    async def main() -> None:
        loop, rested = asyncio.get_running_loop(), asyncio.Event()
        reader, writer = socket.socketpair()
        with reader, writer:
            loop.add_reader(reader, lambda: ran.append(reader.recv(1).decode()))
            queue = SliceQueue(lambda busy: None if busy else rested.set(), budget=0.0)
            for number in range(4):
                queue.add("owner", lambda number=number: (ran.append(str(number)), writer.send(b"abcd"[number:][:1])))
            await rested.wait()
            loop.remove_reader(reader)

    asyncio.run(main())
    assert ran == ["0", "a", "1", "b", "2", "c", "3", "d"]


def test_a_turn_has_a_budget() -> None:
    turns: list[int] = []

    async def main() -> None:
        loop, rested = asyncio.get_running_loop(), asyncio.Event()
        queue = SliceQueue(lambda busy: None if busy else rested.set(), budget=60.0)
        for number in range(4):
            queue.add("owner", partial(turns.append, number))
        loop.call_soon(loop.call_soon, turns.append, -1)
        await rested.wait()

    asyncio.run(main())
    assert turns == [0, 1, 2, 3, -1]

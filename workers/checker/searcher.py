"""Looks for patterns in threads, so that no pattern stalls the worker, whatever it costs."""

from __future__ import annotations

import asyncio
import contextlib
import threading

from keepalived_py.pattern import Pattern, SearchGivenUp

from .probe import CheckNotMade

THREADS = 4


class Searcher:
    """At most THREADS searches at a time; the others wait for their turn."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(THREADS)

    async def search(self, pattern: Pattern, text: bytes, least: int, most: int | None, until: float) -> bool:
        """See `Pattern.search`; `until` on the loop's clock. Raises SearchGivenUp and CheckNotMade.

        A search whose caller does not wait any longer keeps its place until it has noticed the time.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bool] = loop.create_future()

        def tell(found: bool | SearchGivenUp) -> None:
            self._free.release()
            if answer.done():
                return
            if isinstance(found, SearchGivenUp):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        def work() -> None:
            found: bool | SearchGivenUp
            try:
                found = pattern.search(text, least, most, until)
            except SearchGivenUp as exc:
                found = exc
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(tell, found)

        await self._turn(until)
        try:
            # not of an executor: a process that ends does not wait for this one
            threading.Thread(target=work, name="pattern", daemon=True).start()
        except RuntimeError as exc:
            self._free.release()
            raise CheckNotMade(f"thread: {exc}") from exc
        return await answer

    async def _turn(self, until: float) -> None:
        """Wait for a place, but not as long as the whole check may take: not having one is not the server's fault."""
        moment = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout((until - moment) / 2):
                await self._free.acquire()
        except TimeoutError:
            raise CheckNotMade("too many patterns are looked for at once") from None

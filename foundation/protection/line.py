"""Lines: those who wait for their turn, first come, first served."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Line:
    """Those who wait. Whoever leaves stands in nobody's way, also if it was just called and has not heard it yet.

    Args:
        left: called when somebody has left; gets whether it had been called, so that its turn is free again.
    """

    def __init__(self, left: Callable[[bool], None]) -> None:
        self._left = left
        self._waiting: dict[asyncio.Future[None], None] = {}

    def __len__(self) -> int:
        """How many wait, with those who have given up just now."""
        return len(self._waiting)

    def tidy(self) -> int:
        """Forget those who have given up just now, or whose loop is closed; return how many are left."""
        self._waiting = {one: None for one in self._waiting if not _gone(one)}
        return len(self._waiting)

    async def turn(self) -> None:
        """Wait until it is one's turn."""
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[called] = None
        try:
            await called
        except BaseException:
            self._waiting.pop(called, None)
            self._left(called.done() and not called.cancelled())
            raise

    def call(self) -> bool:
        """Call the first one; tell whether there was one."""
        while self._waiting:
            first = next(iter(self._waiting))
            del self._waiting[first]
            if not _gone(first):
                first.set_result(None)
                return True
        return False


def _gone(one: asyncio.Future[None]) -> bool:
    return one.done() or one.get_loop().is_closed()

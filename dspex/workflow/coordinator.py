"""The coordinator of a long work: an actor that begins it again when it has died."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from functools import partial
from typing import Any

from dspex._contexts import adopt, start_in
from dspex._lifetime import on_end
from supervision import Actor


class Coordinator(Actor):
    """Carries out a work. When it dies, its successor begins again, and finds in the journal what is known.

    Args:
        begin: begins the work.
        context: in which it is done.
        result: takes what it returns, or what it has raised.
    """

    def __init__(self, begin: Callable[[], Awaitable[Any]], context: Context, result: asyncio.Future[Any]) -> None:
        self._begin = begin
        self._context = context
        self._result = result

    def init(self) -> None:
        """Begin."""
        self._task = start_in(adopt(self._context), self._work())
        self._guard = on_end(self.ref, self._task.cancel)

    async def _work(self) -> None:
        try:
            found = await self._begin()
        except Exception as error:
            settle = partial(self._result.set_exception, error)
        else:
            settle = partial(self._result.set_result, found)
        # What a dead coordinator has met with is not the result: its successor goes on.
        if self.ref.alive:
            settle()

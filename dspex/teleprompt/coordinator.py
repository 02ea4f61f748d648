"""The coordinator of an optimisation: an actor that begins the search again when it has died."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from dspex._compat import adopt, start_in
from dspex._lifetime import on_end
from dspex.teleprompt.run import Run
from supervision import Actor


class Coordinator(Actor):
    """Carries out a search. When it dies, its successor begins again, and finds in the journal what is known.

    Args:
        begin: begins the search.
        run: in which it is made.
        result: takes the program that is found, or what the search has raised.
    """

    def __init__(self, begin: Callable[[], Awaitable[Any]], run: Run, result: asyncio.Future[Any]) -> None:
        self._begin = begin
        self._run = run
        self._result = result

    def init(self) -> None:
        """Begin."""
        self._run.begin()
        self._task = start_in(adopt(self._run.context), self._search())
        self._guard = on_end(self.ref, self._task.cancel)

    async def _search(self) -> None:
        try:
            found = await self._begin()
        except Exception as error:
            settle = partial(self._result.set_exception, error)
        else:
            settle = partial(self._result.set_result, found)
        # What a dead coordinator has met with is not the result: its successor goes on.
        if self.ref.alive:
            settle()

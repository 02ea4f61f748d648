"""Foreign objects: whatever has an async function to call can be an actor, and so be bridged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from supervision import Actor, Refuse, Request, handle


class Run(Request[Any], frozen=True):
    """Call the object with this, and return what it returns."""

    payload: Any


class ForeignAgent(Actor):
    """An actor around an async function, which gets the payload of each `Run`; what it raises, the caller gets."""

    def __init__(self, function: Callable[[Any], Awaitable[Any]]) -> None:
        self._function = function

    @handle
    async def run(self, request: Run) -> Any:
        """Call the object."""
        try:
            return await self._function(request.payload)
        except Exception as error:
            raise Refuse(error) from error

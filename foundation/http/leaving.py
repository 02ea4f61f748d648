"""Clients that go away: what they have asked for is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any, TypeVar

from starlette.types import Receive

from foundation.http.problems import Problem

T = TypeVar("T")

#: Seconds that work may take before anybody looks whether its client is still there. Most work is done by then.
PATIENCE = 0.05


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Do something for a client, and cancel it when the client goes away.

    Args:
        receive: gives what comes from the client: after the body, nothing but its end.
        work: what is to be done.

    Raises:
        Problem: the client has gone.
    """
    worker = asyncio.current_task()
    assert worker is not None
    loop = asyncio.get_running_loop()
    watch = _Watch(receive, worker)
    timer = loop.call_later(PATIENCE, watch.begin)
    try:
        return await work
    except asyncio.CancelledError:
        if watch.gone and not worker.uncancel():
            raise left() from None
        raise
    finally:
        timer.cancel()
        watch.end()


def left() -> Problem:
    """Return the problem of a client that has gone; nobody reads it, but it is counted."""
    return Problem(HTTPStatus.BAD_REQUEST, "incomplete", "the connection was closed in the middle")


class _Watch:
    """Waits for a client to go away, and then cancels a task."""

    def __init__(self, receive: Receive, worker: asyncio.Task[Any]) -> None:
        self._receive = receive
        self._worker = worker
        self._task: asyncio.Task[None] | None = None
        self.gone = False

    def begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self._worker.cancel()

    def end(self) -> None:
        if self._task is not None and not self.gone:
            self._task.cancel()

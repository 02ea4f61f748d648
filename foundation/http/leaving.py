"""Clients that go away: what they have asked for is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any, TypeVar

from starlette.types import Receive

from foundation.http.overdue import Overdue
from foundation.http.problems import Problem

T = TypeVar("T")

#: Seconds between two looks whether a client is still there. Most work is done before the first.
PATIENCE = 0.1


class Leaving:
    """Does things for clients, and cancels them when their clients go away.

    Uvicorn keeps a note of that, at which all are looked at in turn. Of another server it is learned by a task for each
    client, which waits for what comes from it.
    """

    def __init__(self) -> None:
        self._early: Overdue[_Watch] = Overdue(PATIENCE, _Watch.look)

    async def unless_gone(self, receive: Receive, work: Coroutine[Any, Any, T]) -> T:
        """Do something for a client, and cancel it when the client goes away.

        Args:
            receive: gives what comes from the client: after the body, nothing but its end.
            work: what is to be done.

        Raises:
            Problem: the client has gone.
        """
        worker = asyncio.current_task()
        assert worker is not None
        watch = _Watch(receive, worker, self._early)
        self._early.add(watch)
        try:
            return await work
        except asyncio.CancelledError:
            if watch.gone and not worker.uncancel():
                raise left() from None
            raise
        finally:
            self._early.discard(watch)
            watch.end()


def left() -> Problem:
    """Return the problem of a client that has gone; nobody reads it, but it is counted."""
    return Problem(HTTPStatus.BAD_REQUEST, "incomplete", "the connection was closed in the middle")


class _Watch:
    """Looks whether a client has gone away, and then cancels a task."""

    __slots__ = ("_again", "_receive", "_task", "_worker", "gone")

    def __init__(self, receive: Receive, worker: asyncio.Task[Any], again: Overdue[_Watch]) -> None:
        self._receive = receive
        self._worker = worker
        self._again = again
        self._task: asyncio.Task[None] | None = None
        self.gone = False

    def look(self) -> None:
        """Look once; if the server does not know whether the client is there, wait for what it says."""
        gone = getattr(getattr(self._receive, "__self__", None), "disconnected", None)
        if gone is None:
            self._task = asyncio.get_running_loop().create_task(self._wait())
        elif gone:
            self._leave()
        else:
            self._again.add(self)

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def _leave(self) -> None:
        self.gone = True
        self._worker.cancel()

    def end(self) -> None:
        if self._task is not None and not self.gone:
            self._task.cancel()

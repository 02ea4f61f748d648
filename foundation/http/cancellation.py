"""Cancellation of requests: time-outs, with one loop timer for all of them, and clients that disconnect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from contextvars import Context
from http import HTTPStatus
from typing import Any, Generic, TypeVar

from starlette.types import Receive

from foundation.http.problems import Problem

T = TypeVar("T")

Timed = TypeVar("Timed", bound=Hashable)

#: How often within its limit it is looked for what is late.
CHECKS = 4

#: Seconds between two looks whether a client is still there. Most work is done before the first.
CHECK_AFTER = 0.1


class TimeoutQueue(Generic[Timed]):
    """Calls a function with each thing that has not been discarded within a limit after it was added.

    Adding and discarding cost what it takes to put something into a dict. All are looked at together, at most `CHECKS`
    times within the limit.

    Args:
        limit: seconds; some are told up to a part of it later.
        late: called once with each that is late; it is discarded then.
    """

    def __init__(self, limit: float, late: Callable[[Timed], object]) -> None:
        self._limit = limit
        self._late = late
        #: Since when, oldest first.
        self._since: dict[Timed, float] = {}
        self._armed = False

    def __len__(self) -> int:
        return len(self._since)

    def add(self, one: Timed) -> None:
        """Begin to count."""
        loop = asyncio.get_running_loop()
        self._since[one] = loop.time()
        if not self._armed:
            self._arm(loop, loop.time() + self._limit)

    def discard(self, one: Timed) -> None:
        """It is done; it is fine if it was late."""
        self._since.pop(one, None)

    def _arm(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        self._armed = True
        # In a context of its own: it is nobody's request.
        loop.call_at(when, self._look, loop, context=Context())

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._armed = False
        while self._since:
            one, since = next(iter(self._since.items()))
            now = loop.time()
            if since + self._limit > now:
                self._arm(loop, max(since + self._limit, now + self._limit / CHECKS))
                return
            del self._since[one]
            self._late(one)


class Disconnects:
    """Does work for clients, and cancels it when its client disconnects.

    Uvicorn records disconnects, and one timer checks that record for all requests. With another server, a task for each
    client waits for what comes from it.
    """

    def __init__(self) -> None:
        self._early: TimeoutQueue[_Watch] = TimeoutQueue(CHECK_AFTER, _Watch.look)

    async def cancel_on_disconnect(self, receive: Receive, work: Coroutine[Any, Any, T]) -> T:
        """Do something for a client, and cancel it when the client disconnects.

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
                raise client_disconnected() from None
            raise
        finally:
            self._early.discard(watch)
            watch.end()


def client_disconnected() -> Problem:
    """Return the problem of a client that has gone; nobody reads it, but it is counted."""
    return Problem(HTTPStatus.BAD_REQUEST, "incomplete", "the connection was closed in the middle")


class _Watch:
    """Checks whether a client has disconnected, and then cancels a task."""

    __slots__ = ("_again", "_receive", "_task", "_worker", "gone")

    def __init__(self, receive: Receive, worker: asyncio.Task[Any], again: TimeoutQueue[_Watch]) -> None:
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

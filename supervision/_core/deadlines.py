"""Answers and deadlines: how a call ends, and what becomes of one that gets no answer.

Calls with the default time-out stand in one list, in the order of their deadlines, with one timer for the first of
them: a timer for each would cost more than the call. Others have a timer of their own.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from supervision import errors
from supervision._core.phases import DEAD, answering, current
from supervision.call import DEFAULT_TIMEOUT, Call
from supervision.clock import seconds

if TYPE_CHECKING:
    from supervision._core.cell import Cell
    from supervision._core.timers import TimerQueue
    from supervision.ref import Name
    from supervision.runtime import Runtime


class Deadlines:
    """The part of a `Scheduler` that sees to it that every call ends."""

    __slots__ = ("dead_letters", "loop", "now", "runtime", "timers", "waiting", "watching")

    dead_letters: Counter[str]
    loop: asyncio.AbstractEventLoop
    now: Callable[[], float]
    runtime: Runtime
    timers: TimerQueue
    #: Calls with the default time-out, in the order of their deadlines.
    waiting: dict[Call[Any], None]
    watching: bool

    def reply(self, call: Call[Any], value: Any) -> None:
        """Answer a call; a late answer vanishes."""
        self.waiting.pop(call, None)
        if call.done():
            self.late_reply(call)
        else:
            call.set_result(value)

    def fail(self, call: Call[Any], error: BaseException) -> None:
        """Answer a call with an exception; a late answer vanishes."""
        self.waiting.pop(call, None)
        if call.done():
            self.late_reply(call)
        elif isinstance(error, (StopIteration, StopAsyncIteration)):
            wrapped = RuntimeError(f"a handler answered with {type(error).__name__}")
            wrapped.__cause__ = error
            call.set_exception(wrapped)
        else:
            call.set_exception(error)

    def late_reply(self, call: Call[Any]) -> None:
        """Count an answer whose caller no longer waits."""
        call.target.dead_letter(call.message, "late_reply")

    def abandon(self, call: Call[Any]) -> None:
        """Cancel a call, and forget its deadline."""
        self.waiting.pop(call, None)
        call.cancel()

    def _watch_deadlines(self, first: Call[Any]) -> None:
        """Set the timer for the first deadline of the calls with the default time-out."""
        assert first.deadline is not None
        self.watching = True
        self.timers.after(first.deadline - self.now(), self._expire)

    def _expire(self) -> None:
        self.watching = False
        now = self.now()
        while self.waiting:
            call = next(iter(self.waiting))
            deadline = call.deadline
            assert deadline is not None
            if deadline > now + 1e-9 and not call.done():
                self.watching = True
                self.timers.after(deadline - now, self._expire)
                return
            del self.waiting[call]
            self._time_out(call, DEFAULT_TIMEOUT, now - deadline)

    def _time_out(self, call: Call[Any], limit: float, lag: float) -> None:
        if not call.done():
            late = max(0.0, lag)
            call.set_exception(errors.CallTimeout(call.target, call.message, limit, late, begun=call.begun))

    def prepare_call(self, call: Call[Any], timeout: float | None, caller: Cell | None) -> bool:
        """Set a call's deadline and caller, and watch it. False if its caller is dead and may not call."""
        now = self.now()
        limit = self.set_deadline(call, timeout, now)
        if caller is not None:
            if not self.may_call(call, caller):
                return False
            call.caller = caller
            limit = self.inherit_deadline(call, caller, limit, now)
        self.watch(call, limit)
        return True

    def set_deadline(self, call: Call[Any], timeout: float | None, now: float) -> float | None:
        """Set a call's deadline; return the seconds until then, None for never."""
        if timeout is None:
            call.deadline = None
            return None
        limit = seconds("timeout", timeout)
        call.deadline = now + limit
        return limit

    def may_call(self, call: Call[Any], caller: Cell) -> bool:
        """Whether an actor may call; the call of a killed one fails."""
        if caller.phase == DEAD:
            call.set_exception(errors.Fenced(call.target, call.message))
            return False
        return True

    def inherit_deadline(self, call: Call[Any], caller: Cell, limit: float | None, now: float) -> float | None:
        """Cap the deadline of a nested call by that of the request in hand; return the seconds left."""
        reason = caller.call_in_hand
        if (
            reason is None
            or reason.deadline is None
            or (call.deadline is not None and call.deadline <= reason.deadline)
            or not (caller.running or answering.get() is reason)  # a task of its own is not bound by the request
        ):
            return limit
        limit = max(0.0, reason.deadline - now)
        call.deadline = now + limit
        return limit

    def watch(self, call: Call[Any], limit: float | None) -> None:
        """Let a call time out at its deadline, ``limit`` seconds after it was made; None never."""
        if limit is None:
            return
        if limit != DEFAULT_TIMEOUT:
            self._watch_alone(call, limit)
            return
        if not self.watching:
            self._watch_deadlines(call)
        self.waiting[call] = None

    def watch_late(self, call: Call[Any], limit: float | None) -> None:
        """Like `watch`, after the handler has run: calls with later deadlines may be in the list already."""
        last = next(reversed(self.waiting), None)
        if limit is not None and last is not None and last.deadline > call.deadline:  # type: ignore[operator]
            self._watch_alone(call, limit)
        else:
            self.watch(call, limit)

    def _watch_alone(self, call: Call[Any], limit: float) -> None:
        deadline = call.deadline
        assert deadline is not None
        timer = self.timers.after(deadline - self.now(), lambda: self._time_out(call, limit, self.now() - deadline))
        call.add_done_callback(lambda _: timer.cancel())

    def failed_call(self, name: Name, request: Any, timeout: float | None) -> Call[Any]:
        """Return a failed call: nobody holds the name."""
        if timeout is not None:
            seconds("timeout", timeout)
        self.count_dead_letter("noname")
        call: Call[Any] = Call(loop=self.loop)
        call.message = request
        call.set_exception(errors.NoProcess(name, request, "nobody holds this name"))
        return call

    def call_next_holder(self, last: Cell, name: str, request: Any, timeout: float | None) -> Call[Any]:
        """Return a call that waits for the next holder of a name."""
        call: Call[Any] = Call(loop=self.loop)
        call.message = request
        call.target = last
        call.again = name
        if self.prepare_call(call, timeout, current.get()):
            last.load(call)
            self.runtime.vacancies.keep(call)
        return call

    async def wait(self, future: asyncio.Future[Any], limit: float) -> bool:
        """Wait until a future is done, for ``limit`` seconds of the runtime's time at the most; False if it was not."""
        gate: asyncio.Future[bool] = self.loop.create_future()

        def opened(done: bool) -> None:
            if not gate.done():
                gate.set_result(done)

        if future.done():
            return True
        timer = self.timers.after(limit, lambda: opened(False))
        future.add_done_callback(lambda _: opened(True))
        try:
            return await gate
        finally:
            timer.cancel()

    def count_dead_letter(self, why: str) -> None:
        """Count a message that no handler gets."""
        self.dead_letters[why] += 1

"""Vacant names: their holder has ended, and its supervisor may start the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from supervision._core.phases import STOPPING
from supervision.errors import ActorExited

if TYPE_CHECKING:
    from supervision._core.cell import Cell
    from supervision._core.scheduler import Scheduler
    from supervision.call import Call


class Vacancies:
    """Names whose holder has ended and whose supervisor may still restart it, with the calls that wait for them."""

    def __init__(self) -> None:
        #: By name: the supervisor.
        self.supervisors: dict[str, Cell] = {}
        self._last: dict[str, Cell] = {}
        #: By name: requests that the last holder had not begun, in the order of their arrival.
        self._calls: dict[str, dict[Call[Any], None]] = {}
        #: By name: futures that wait for the next holder, in the order of their arrival.
        self._waiting: dict[str, dict[asyncio.Future[None], None]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.supervisors

    @property
    def waiting(self) -> int:
        """How many futures and requests wait for a holder."""
        return sum(map(len, self._waiting.values())) + sum(map(len, self._calls.values()))

    def open(self, name: str, last: Cell) -> None:
        """Open a vacancy if the supervisor of an ended holder may restart it."""
        supervisor = last.parent
        if supervisor is not None and getattr(supervisor.kind, "is_supervisor", False) and supervisor.phase < STOPPING:
            self.supervisors[name] = supervisor  # type: ignore[assignment]
            self._last[name] = last

    def keep(self, call: Call[Any]) -> bool:
        """Keep a request that no handler has begun for the next holder, within its deadline; tell whether it is kept.

        It is not if it must not be sent again, or if there will be no next holder.
        """
        name = getattr(call, "again", None)
        if name is None or call.begun or name not in self.supervisors:
            return False
        if not call.done():
            self._calls.setdefault(name, {})[call] = None
            call.add_done_callback(lambda _: self._forget(name, call))
        return True

    def _forget(self, name: str, call: Call[Any]) -> None:
        calls = self._calls.get(name)
        if calls is not None:
            calls.pop(call, None)
            if not calls:
                del self._calls[name]

    def taken(self, name: str, holder: Cell) -> None:
        """Close the vacancy: there is a new holder, who gets the kept requests."""
        if name in self.supervisors:
            del self.supervisors[name], self._last[name]
        for call in self._calls.pop(name, ()):
            if not call.done():
                call.target = holder
                holder.take_call(call)
        if self._waiting:
            self._wake(name)

    def close(self, name: str, supervisor: Cell) -> None:
        """This supervisor will not restart the holder: fail the waiting calls."""
        if self.supervisors.get(name) is supervisor:
            del self.supervisors[name], self._last[name]
            for call in self._calls.pop(name, ()):
                reason = call.target.exit_reason
                assert reason is not None
                if not call.done():
                    call.target.sched.fail(call, ActorExited(call.target, call.message, reason, begun=False))
            self._wake(name)

    def _wake(self, name: str) -> None:
        for waiting in self._waiting.get(name, ()):
            if not waiting.done():
                waiting.set_result(None)

    def last(self, name: str) -> Cell | None:
        """Return the last holder of a vacant name; None if the name is not vacant."""
        return self._last.get(name)

    def close_all(self, supervisor: Cell) -> None:
        """Close all vacancies of a supervisor, which has ended or gives up."""
        for name in [name for name, other in self.supervisors.items() if other is supervisor]:
            self.close(name, supervisor)

    async def wait(self, names: Sequence[str], sched: Scheduler, until: float) -> bool:
        """Wait until one of the names has a holder, or will have none; False if the time was up first."""
        waiting: asyncio.Future[None] = sched.loop.create_future()
        for name in names:
            self._waiting.setdefault(name, {})[waiting] = None
        try:
            return await sched.wait(waiting, max(0.0, until - sched.now()))
        finally:
            for name in names:
                del self._waiting[name][waiting]
                if not self._waiting[name]:
                    del self._waiting[name]
